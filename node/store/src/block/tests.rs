//! Tests of `block`.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::*;

fn decode(block: &[u8]) -> Result<Vec<Row<Vec<u8>>>, Refusal> {
    let (mut rows, mut found) = (Rows::new(block), Vec::new());
    while let Some((key, value)) = rows.next_row()? {
        found.push((key.to_vec(), value.to_vec()));
    }
    Ok(found)
}

fn sample(dice: &mut ChaCha20Rng, count: usize) -> Vec<Row<Vec<u8>>> {
    let mut rows = std::collections::BTreeMap::new();
    for _ in 0..count {
        let mut key = vec![0; dice.next_u32() as usize % 6];
        key.fill_with(|| (dice.next_u32() % 3) as u8);
        rows.insert(key, vec![7; dice.next_u32() as usize % 300]);
    }
    rows.into_iter().collect()
}

#[test]
fn blocks_round_trip_and_share_what_keys_have_in_common() {
    let mut dice = ChaCha20Rng::seed_from_u64(1);
    for round in 0..500 {
        let rows = sample(&mut dice, round % 40);
        assert_eq!(decode(&encode(&rows)).unwrap(), rows);
    }
    let long: Vec<Row<Vec<u8>>> = (0..50_u8).map(|n| ([vec![9; 32], vec![n]].concat(), vec![n])).collect();
    assert_eq!(encode(&long).len(), 3 + 33 + 1 + 49 * (3 + 1 + 1));
    let large = vec![(vec![1], vec![0; 2_000_000])];
    assert_eq!(decode(&encode(&large)).unwrap(), large);
}

#[test]
fn other_forms_of_a_block_are_refused() {
    let refused: &[&[u8]] = &[
        &[0],
        &[0, 1, 0],
        &[0, 1, 1, b'a'],
        // A length that is not in its shortest form; one without an end.
        &[0, 0x81, 0, 0, b'a'],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, b'a'],
        // More in common than there is.
        &[1, 1, 0, b'a'],
        // Equal, descending, and less in common than there is.
        &[0, 1, 0, b'a', 1, 0, 0],
        &[0, 1, 0, b'b', 0, 1, 0, b'a'],
        &[0, 1, 0, b'a', 0, 2, 0, b'a', b'b'],
        &[0, 0, 0, 0, 0, 0],
    ];
    for block in refused {
        assert_eq!(decode(block), Err(Refusal::Canon), "{block:?}");
    }
    assert_eq!(decode(&[0, 0, 0, 0, 1, 0, b'a']).unwrap().len(), 2);
}

#[test]
fn twenty_thousand_changed_blocks_are_refused_or_canonical() {
    let mut dice = ChaCha20Rng::seed_from_u64(2);
    let mut accepted = 0;
    for round in 0..20_000 {
        let mut block = encode(&sample(&mut dice, 1 + round % 5));
        for _ in 0..=dice.next_u32() % 2 {
            let at = dice.next_u32() as usize % block.len().max(1);
            match dice.next_u32() % 3 {
                0 => block.truncate(at),
                1 => block.extend_from_slice(&dice.next_u32().to_le_bytes()),
                _ if block.is_empty() => {}
                _ => block[at] ^= 1 << (dice.next_u32() % 8),
            }
        }
        if let Ok(rows) = decode(&block) {
            assert_eq!(encode(&rows), block);
            accepted += 1;
        }
    }
    assert!(accepted > 100);
}

#[test]
fn blocks_are_cut_to_fit_a_page() {
    let row = |n: u32, len: usize| (n.to_be_bytes().to_vec(), vec![0; len]);
    for (lens, growth) in [
        (vec![90; 39], Growth::Within),
        (vec![90; 40], Growth::Within),
        (vec![90; 400], Growth::Within),
        (vec![90; 400], Growth::AtTheEnd),
        (vec![10_000, 1, 1, 10_000, 1], Growth::Within),
        (vec![], Growth::Within),
    ] {
        let rows: Vec<_> = lens.iter().zip(0..).map(|(len, n)| row(n, *len)).collect();
        let counts = cut(&rows, growth);
        assert_eq!(counts.iter().sum::<usize>(), rows.len());
        let mut at = 0;
        for count in &counts {
            let piece = &rows[at..at + count];
            assert!(*count > 0 && (*count == 1 || encode(piece).len() <= BLOCK_BYTES));
            at += count;
        }
    }
    let rows: Vec<_> = (0..40).map(|n| row(n, 90)).collect();
    assert_eq!(cut(&rows, Growth::Within), [20, 20]);
    assert_eq!(cut(&rows, Growth::AtTheEnd), [39, 1]);
}
