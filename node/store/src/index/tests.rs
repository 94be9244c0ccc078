use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::*;

fn samples() -> Vec<Vec<u8>> {
    let spaces = [vec![], vec![SpaceTag([1; 16])], vec![SpaceTag([1; 16]), SpaceTag([2; 16])]];
    let states = [
        PackState::Wanted,
        PackState::Present { verified_at: u64::MAX },
        PackState::Lost,
        PackState::Deleting,
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
        unknown[8] = 4;
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
