//! Tests of `cut`.

use std::collections::HashSet;

use super::*;
use crate::chunk::{ChunkKind, DedupKeys};
use crate::sample::{bytes, cases, data, fixed, number, part, vectors};

const VECTORS: &str = include_str!("../../../docs/spec/vectors/cdc.json");

fn cut_all(cutter: &Cutter, mut rest: &[u8]) -> Vec<usize> {
    let mut lens = Vec::new();
    while !rest.is_empty() {
        let len = cutter.next(rest);
        lens.push(len);
        rest = &rest[len..];
    }
    lens
}

/// The definition of the specification, byte by byte.
fn next_by_definition(gear: &[u64; 256], masks: (u64, u64), ahead: &[u8]) -> usize {
    let end = ahead.len().min(CHUNK_LEN_MAX);
    if end <= CHUNK_LEN_MIN {
        return end;
    }
    let mut hash = 0u64;
    for index in CHUNK_LEN_MIN..end & !1 {
        hash = (hash << 1).wrapping_add(gear[usize::from(ahead[index])]);
        let mask = if index < CHUNK_LEN_AVERAGE { masks.0 } else { masks.1 };
        if hash & mask == 0 {
            return index;
        }
    }
    end
}

#[test]
fn gear_and_masks_match_the_vectors() {
    let v = vectors(VECTORS);
    let cutter = Cutter::new(&DedupSecret::new(fixed(&v["gear"]["D"])));
    let table: Vec<u8> = cutter.tables.gear.iter().flat_map(|word| word.to_le_bytes()).collect();
    assert_eq!(blake3::hash(&table).as_bytes(), &fixed::<32>(&v["gear"]["table_b3"]));
    assert_eq!(cutter.tables.gear[0].to_be_bytes(), fixed(&v["gear"]["first"]));
    assert_eq!(cutter.tables.gear[255].to_be_bytes(), fixed(&v["gear"]["last"]));
    assert_eq!(cutter.mask_s.to_be_bytes(), fixed(&v["mask_s"]));
    assert_eq!(cutter.mask_l.to_be_bytes(), fixed(&v["mask_l"]));
    assert_eq!(CHUNK_LEN_MIN, number(&v["min"]));
    assert_eq!(CHUNK_LEN_AVERAGE, number(&v["avg"]));
    assert_eq!(CHUNK_LEN_MAX, number(&v["max"]));
}

#[test]
fn cut_points_match_the_vectors() {
    let v = vectors(VECTORS);
    let cases = cases(&v, "vectors");
    for (index, case) in cases.iter().enumerate() {
        let secret = DedupSecret::new(fixed(&case["D"]));
        let file: Vec<u8> = case["input"].as_array().unwrap().iter().flat_map(part).collect();
        let lens: Vec<usize> = case["lens"].as_array().unwrap().iter().map(number).collect();
        assert_eq!(cut_all(&Cutter::new(&secret), &file), lens, "case {index}");
        let first = DedupKeys::new(&secret).chunk_key(ChunkKind::Data, &file[..lens[0]]);
        assert_eq!(first.expose()[..], bytes(&case["ck0"])[..], "case {index}");
    }
    assert_eq!(cases.len(), 12);
}

#[test]
fn cut_points_are_those_of_the_definition_at_every_length_class() {
    let cutter = Cutter::new(&DedupSecret::new([3; 32]));
    let gear: &[u64; 256] = &cutter.tables.gear;
    let file = data("definition", 9_000_001);
    let masks = (cutter.mask_s, cutter.mask_l);
    for end in
        [0, 1, 262_143, 262_144, 262_145, 262_146, 1_048_577, 4_194_303, 4_194_304, 4_194_305, 9_000_001]
    {
        let mut rest = &file[..end];
        while !rest.is_empty() {
            let len = cutter.next(rest);
            assert_eq!(len, next_by_definition(gear, masks, rest), "{end}");
            // With less ahead the same is found, or nothing.
            for ahead in [1, len / 2, len - 1, len, len + 1, len + 2, 3 * len] {
                let known = cutter.next_if_known(&rest[..ahead.min(rest.len())]);
                assert!(known.is_none_or(|known| known == len), "{known:?} instead of {len} with {ahead}");
                assert!(
                    known.is_some() || ahead.min(rest.len()) <= len + 2,
                    "{len} is not found with {ahead}"
                );
            }
            rest = &rest[len..];
        }
    }
    // A long run of one byte has no cut point of its own and is cut at the maximum, whatever follows.
    assert_eq!(cutter.next(&vec![7; CHUNK_LEN_MAX + 1]), CHUNK_LEN_MAX);
    assert_eq!(cutter.next(&[]), 0);
}

/// T7: the cut points of one file under different secrets are pairwise different, so that chunk lengths fit no file
/// that an outsider knows.
#[test]
fn t7_cut_points_differ_under_every_secret() {
    let file = data("t7", 6 << 20);
    let seen: HashSet<Vec<usize>> =
        (0u8..100).map(|index| cut_all(&Cutter::new(&DedupSecret::new([index; 32])), &file)).collect();
    assert_eq!(seen.len(), 100);
}

/// An insertion moves the cut points near it and no others: what lies before and after keeps its chunks.
#[test]
fn an_insertion_changes_few_chunks() {
    let cutter = Cutter::new(&DedupSecret::new([1; 32]));
    let before = data("insert", 12 << 20);
    let mut after = before.clone();
    after.splice(5_000_000..5_000_000, *b"a few more bytes");
    let chunks = |file: &[u8]| {
        let mut at = 0;
        cut_all(&cutter, file)
            .into_iter()
            .map(|len| {
                at += len;
                *blake3::hash(&file[at - len..at]).as_bytes()
            })
            .collect::<HashSet<_>>()
    };
    let (old, new) = (chunks(&before), chunks(&after));
    assert!(new.difference(&old).count() <= 2, "{} of {} are new", new.difference(&old).count(), new.len());
}
