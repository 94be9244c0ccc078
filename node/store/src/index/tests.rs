//! Tests of `index`.

use locker_crypto::id::ContentHash;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::*;
use crate::files::FileStat;
use crate::test_kit::{Place, SPACE, begin, hash, tag};

fn samples() -> Vec<Vec<u8>> {
    let spaces = [vec![], vec![SpaceTag([1; 16])], vec![SpaceTag([1; 16]), SpaceTag([2; 16])]];
    let states = [
        PackState::Wanted,
        PackState::Present { verified_at: u64::MAX },
        PackState::Lost,
        PackState::Deleting,
        PackState::Released,
    ];
    let packs = states.iter().zip(spaces.iter().cycle());
    packs
        .map(|(state, spaces)| {
            encode_pack(&Pack { len: 4_096, state: *state, spaces: spaces.clone(), number: 3 })
        })
        .collect()
}

#[test]
fn rows_round_trip_and_other_forms_are_refused() {
    for sample in samples() {
        assert_eq!(encode_pack(&decode_pack(&sample).unwrap()), sample);
        for cut in 0..sample.len() {
            let decoded = decode_pack(&sample[..cut]);
            assert!(decoded.is_none() || (cut >= 17 && (cut - 17) % 16 == 0));
        }
        assert_eq!(decode_pack(&[sample.as_slice(), &[0]].concat()), None);
        let mut unknown = sample.clone();
        unknown[8] = 6;
        assert_eq!(decode_pack(&unknown), None);
    }
    let locs =
        vec![Loc { tag: ChunkTag([1; 16]), sealed_len: 7 }, Loc { tag: ChunkTag([2; 16]), sealed_len: 8 }];
    assert_eq!(decode_locs(&encode_locs(&locs)).unwrap(), locs);
    assert_eq!(decode_locs(&[0; 19]), None);
    let rows = vec![[1, 2, 3], [u32::MAX, 0, 9]];
    assert_eq!(decode_rows(&encode_rows(&rows)).unwrap(), rows);
    for len in [1, 4, 8, 11, 13, 16] {
        assert_eq!(decode_rows(&vec![0; len]), None, "{len}");
    }
}

/// Rows are sealed, so that a changed one never comes this far; a decoder still may not panic.
#[test]
fn twenty_thousand_changed_rows_are_refused_or_canonical() {
    let samples = samples();
    let mut dice = ChaCha20Rng::seed_from_u64(11);
    for round in 0..20_000 {
        let mut row = samples[round % samples.len()].clone();
        for _ in 0..=dice.next_u32() % 3 {
            match dice.next_u32() % 3 {
                0 => row.truncate(dice.next_u32() as usize % (row.len() + 1)),
                1 => row.extend_from_slice(&dice.next_u32().to_le_bytes()),
                _ if row.is_empty() => {}
                _ => {
                    let at = dice.next_u32() as usize % row.len();
                    row[at] ^= 1 << (dice.next_u32() % 8);
                }
            }
        }
        if let Some(pack) = decode_pack(&row) {
            assert_eq!(encode_pack(&pack), row);
        }
        if let Some(locs) = decode_locs(&row) {
            assert_eq!(encode_locs(&locs), row);
        }
        if let Some(rows) = decode_rows(&row) {
            assert_eq!(encode_rows(&rows), row);
        }
    }
}

/// What one small file costs in the tables of the store itself; the catalog's rows come on top.
#[test]
fn the_index_of_a_small_file_stays_small() {
    let place = Place::new();
    let mut store = begin(&place.home);
    let stat = FileStat { dev: 1, inode: 2, size: 3, mtime_ns: 4, ctime_ns: 5 };
    let (batches, files) = (20_u32, 500_u32);
    for batch in 0..batches {
        let numbers = batch * files..(batch + 1) * files;
        let locs: Vec<Loc> = numbers.clone().map(|n| Loc { tag: tag(n), sealed_len: 2_000 }).collect();
        store
            .write::<_, StoreError>(|txn| {
                let new = NewPack { len: 1 << 20, state: PackState::Present { verified_at: 1 }, locs: &locs };
                add_pack(txn, &SPACE, &hash(&batch.to_le_bytes()), &new)?;
                for number in numbers {
                    let content = ContentHash(*blake3::hash(&number.to_le_bytes()).as_bytes());
                    crate::files::put_file_ref(txn, &content, &[1; 80]);
                    crate::files::put_stat(txn, format!("/home/me/{number}").as_bytes(), &stat, &content);
                }
                Ok(())
            })
            .unwrap();
    }
    store.compact().unwrap();
    let len = std::fs::metadata(place.home.join("locker.redb")).unwrap().len();
    let each = len / u64::from(batches * files);
    assert!(each < 500, "{each} bytes for each file");
}
