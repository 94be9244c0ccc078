//! Each byte of a small pack, and many of larger ones, one after another.
//!
//! Many packs are damaged at once, each at a place of its own, so that one `verify` judges them all.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use locker_tests::files::{flip, write};
use locker_tests::{Dice, Home, Up};
use serde_json::Value;

use crate::whole::len;

/// A home with so many packs, each with one file of about `bytes` in it.
fn with_packs(count: usize, bytes: u64, dice: &mut Dice) -> Home {
    let home = Home::new();
    // Each `add` makes its own pack; a running node answers them quickly.
    let up = Up::start(&home, &[]);
    for n in 0..count {
        let file = home.beside(format!("source/{n:03}.bin"));
        write(&file, &dice.bytes(usize::try_from(bytes).unwrap()));
        home.ok(["add".as_ref(), file.as_os_str()]);
    }
    up.stop().ok();
    assert_eq!(home.packs().len(), count);
    home
}

/// The packs that `verify` names.
#[track_caller]
fn named(home: &Home) -> BTreeSet<String> {
    let outcome = home.run_json(["verify"]);
    let verified = outcome.json();
    let problems = verified["problems"].as_array().unwrap().iter();
    let named: BTreeSet<String> = problems
        .filter_map(|problem| problem["message"].as_str()?.strip_prefix("pack ")?.split(' ').next())
        .map(str::to_owned)
        .collect();
    assert_eq!(verified["complete"], Value::from(true), "{outcome:?}");
    assert_eq!(outcome.code(), Some(if named.is_empty() { 0 } else { 7 }), "{outcome:?}");
    named
}

fn names(packs: &[PathBuf]) -> BTreeSet<String> {
    packs.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

/// No file of a damaged home is given out wrong.
fn assert_nothing_wrong_comes_out(home: &Home, file: usize) {
    let name = format!("{file:03}.bin");
    let read = home.run(["cat", &name]);
    let original = std::fs::read(home.beside(format!("source/{name}"))).unwrap();
    match read.code() {
        Some(0) => assert!(read.out == original, "{name} came out wrong"),
        Some(7) => assert!(original.starts_with(&read.out) && read.out.len() < original.len(), "{read:?}"),
        _ => panic!("{read:?}"),
    }
}

/// Goal: every byte of a small pack counts, its outboard included. Method: 220 packs of two groups; in each round every
/// one is turned at another byte, until every place has been turned.
#[test]
fn each_byte_of_a_small_pack_and_its_outboard_is_noticed() {
    let mut dice = Dice::of("each_byte_of_a_small_pack_and_its_outboard_is_noticed");
    let home = with_packs(220, 20_000, &mut dice);
    let (packs, all) = (home.packs(), names(&home.packs()));
    let size = len(&packs[0]);
    assert!(packs.iter().all(|path| len(path) == size) && size == 20_480 + 64, "{size}");
    let mut places = 0..size;
    let mut rounds = 0;
    while !places.is_empty() {
        let turned: Vec<(&PathBuf, u64)> = packs.iter().zip(places.by_ref()).collect();
        turned.iter().for_each(|(path, place)| flip(path, *place));
        let expected: BTreeSet<String> =
            names(&turned.iter().map(|(path, _)| (*path).clone()).collect::<Vec<_>>());
        assert_eq!(named(&home), expected, "round {rounds}, up to byte {}", places.start);
        assert_nothing_wrong_comes_out(&home, usize::try_from(dice.below(220)).unwrap());
        turned.iter().for_each(|(path, place)| flip(path, *place));
        rounds += 1;
    }
    assert_eq!(named(&home), BTreeSet::new(), "turned back, everything is whole");
    eprintln!("{size} bytes in {rounds} rounds over {} packs", all.len());
}

/// Goal: the same for larger packs: 1,000 random bytes, lengths and exchanges. Method: 40 packs of many groups, in rounds.
#[test]
fn random_bytes_lengths_and_exchanges_of_larger_packs_are_noticed() {
    let mut dice = Dice::of("random_bytes_lengths_and_exchanges_of_larger_packs_are_noticed");
    let home = with_packs(40, 700_000, &mut dice);
    let (packs, all) = (home.packs(), names(&home.packs()));
    let good: Vec<Vec<u8>> = packs.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let restore = |path: &Path, bytes: &[u8]| std::fs::write(path, bytes).unwrap();
    for _ in 0..25 {
        for path in &packs {
            flip(path, dice.below(len(path)));
        }
        assert_eq!(named(&home), all);
        assert_nothing_wrong_comes_out(&home, usize::try_from(dice.below(40)).unwrap());
        packs.iter().zip(&good).for_each(|(path, bytes)| restore(path, bytes));
    }
    for _ in 0..5 {
        for (path, bytes) in packs.iter().zip(&good) {
            let size = dice.below(bytes.len() as u64 + 5_000);
            let size = if size == bytes.len() as u64 { size - 1 } else { size };
            std::fs::File::options().write(true).open(path).unwrap().set_len(size).unwrap();
        }
        assert_eq!(named(&home), all);
        packs.iter().zip(&good).for_each(|(path, bytes)| restore(path, bytes));
    }
    for _ in 0..5 {
        // A whole pack, or one group, in the place of another.
        let by = 1 + usize::try_from(dice.below(39)).unwrap();
        for (at, path) in packs.iter().enumerate() {
            let other = &good[(at + by) % packs.len()];
            if at % 2 == 0 {
                restore(path, other);
            } else {
                let group = usize::try_from(dice.below(40)).unwrap() * 16_384;
                let file = std::fs::File::options().write(true).open(path).unwrap();
                file.write_all_at(&other[group..group + 16_384], group as u64).unwrap();
            }
        }
        assert_eq!(named(&home), all);
        assert_nothing_wrong_comes_out(&home, usize::try_from(dice.below(40)).unwrap());
        packs.iter().zip(&good).for_each(|(path, bytes)| restore(path, bytes));
    }
    assert_eq!(named(&home), BTreeSet::new());
}
