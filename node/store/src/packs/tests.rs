//! Tests of `packs`.

use std::fs;

use locker_crypto::Refusal;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::*;
use crate::test_kit::{Place, begin, bytes, hash};

/// Lengths around groups, their doubles, and the largest.
const LENS: &[usize] = &[
    1, 1_023, 1_024, 1_025, 4_096, 16_383, 16_384, 16_385, 32_768, 32_769, 49_152, 65_537, 100_000, 262_144,
    1_000_003, 16_777_216,
];

#[test]
fn packs_of_every_shape_are_read_back_whole_and_in_ranges() {
    let place = Place::new();
    let store = begin(&place.home);
    let mut dice = ChaCha20Rng::seed_from_u64(3);
    for (seed, len) in LENS.iter().enumerate() {
        let content = bytes(seed as u64, *len);
        let name = hash(&content);
        store.packs().write_all(&[(name, &content)]).unwrap();
        let len = u32::try_from(*len).unwrap();
        let groups = u64::from(len).div_ceil(GROUP_BYTES);
        let stored = fs::read(store.packs().path(&name)).unwrap();
        assert_eq!(stored.len() as u64, u64::from(len) + 64 * (groups - 1));
        assert_eq!(stored.len() as u64, file_len(len));
        assert_eq!(stored[..content.len()], content);
        assert_eq!(store.packs().read_whole(&name, len).unwrap(), content);
        store.packs().verify(&name, len).unwrap();
        for round in 0..60 {
            let (mut a, mut b) = (dice.next_u32() % (len + 1), dice.next_u32() % (len + 1));
            if round % 2 == 0 {
                b = (a + b % 40_000).min(len);
            }
            if round == 0 {
                (a, b) = (0, len);
            }
            let (a, b) = (a.min(b), a.max(b));
            let read = store.packs().read_range(&name, len, a..b).unwrap();
            assert_eq!(read, content[a as usize..b as usize], "{len}: {a}..{b}");
        }
        let reader = store.packs().open(&name, len).unwrap();
        assert!(matches!(reader.read_range(0..len + 1), Err(StoreError::Refused(Refusal::Limit))));
    }
}

#[test]
fn packs_that_are_not_what_they_say_are_refused() {
    let place = Place::new();
    let store = begin(&place.home);
    let content = bytes(1, 20_000);
    let refused = |name: &PackHash, bytes: &[u8]| match store.packs().write_all(&[(*name, bytes)]) {
        Err(StoreError::Refused(why)) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&hash(b"other"), &content), Refusal::Hash);
    assert_eq!(refused(&hash(b""), b""), Refusal::Canon);
    let long = vec![0; 16_777_217];
    assert_eq!(refused(&hash(&long), &long), Refusal::Limit);
    assert!(matches!(store.packs().read_whole(&hash(&content), 20_000), Err(StoreError::Absent { .. })));
    assert!(fs::read_dir(place.home.join("packs/tmp")).unwrap().next().is_none());
}

/// Whether any reader gives out the content in spite of a change, or any other error than "damaged" comes.
fn notices(store: &PackStore, name: &PackHash, content: &[u8]) -> bool {
    let len = u32::try_from(content.len()).unwrap();
    let damaged = |result: Result<Vec<u8>, StoreError>| match result {
        Err(StoreError::Damaged { .. }) => true,
        // A reader that did not touch the changed byte is right to go on; but only with the true content.
        Ok(read) => {
            assert_eq!(read, content);
            false
        }
        Err(other) => panic!("{other:?}"),
    };
    let whole = damaged(store.read_whole(name, len));
    let range = damaged(store.read_range(name, len, 0..len));
    let all = matches!(store.verify(name, len), Err(StoreError::Damaged { .. }));
    assert!(all || (!whole && !range));
    all && (whole || range)
}

#[test]
fn t57_every_changed_byte_of_a_pack_file_is_noticed() {
    let place = Place::new();
    let store = begin(&place.home);
    let mut dice = ChaCha20Rng::seed_from_u64(9);
    for (len, every) in [(1_500, true), (40_000, false), (3_000_000, false)] {
        let content = bytes(len as u64, len);
        let name = hash(&content);
        store.packs().write_all(&[(name, &content)]).unwrap();
        let path = store.packs().path(&name);
        let good = fs::read(&path).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        // The whole outboard of the middle one as well.
        let places: Vec<usize> = match every {
            true => (0..good.len()).collect(),
            false => {
                let outboard = if len == 40_000 { len..good.len() } else { 0..0 };
                let count = if len == 40_000 { 500 } else { 1_000 };
                (0..count).map(|_| dice.next_u32() as usize % good.len()).chain(outboard).collect()
            }
        };
        for at in places {
            let bit = 1 << (dice.next_u32() % 8);
            file.write_all_at(&[good[at] ^ bit], at as u64).unwrap();
            if len > 1_000_000 {
                // Large: the range around the byte, and the whole only now and then.
                let (full, a) = (u32::try_from(len).unwrap(), u32::try_from(at.min(len - 1)).unwrap());
                let read = store.packs().read_range(&name, full, a..a + 1);
                assert!(matches!(read, Err(StoreError::Damaged { .. })) || at >= len, "{at}");
                if at >= len || at % 20 == 0 {
                    let checked = store.packs().verify(&name, full);
                    assert!(matches!(checked, Err(StoreError::Damaged { .. })), "{at}");
                }
            } else {
                assert!(notices(store.packs(), &name, &content), "byte {at} of {len}");
            }
            file.write_all_at(&[good[at]], at as u64).unwrap();
        }
        store.packs().verify(&name, u32::try_from(len).unwrap()).unwrap();
    }
}

#[test]
fn t57_short_long_and_swapped_pack_files_are_noticed() {
    let place = Place::new();
    let store = begin(&place.home);
    let contents = [bytes(1, 40_000), bytes(2, 40_000)];
    let names = [hash(&contents[0]), hash(&contents[1])];
    store.packs().write_all(&[(names[0], &contents[0]), (names[1], &contents[1])]).unwrap();
    let path = store.packs().path(&names[0]);
    let good = fs::read(&path).unwrap();
    let damaged = |what: &str| {
        for result in [
            store.packs().read_whole(&names[0], 40_000).map(drop),
            store.packs().read_range(&names[0], 40_000, 0..1).map(drop),
            store.packs().verify(&names[0], 40_000),
        ] {
            assert!(matches!(result, Err(StoreError::Damaged { .. })), "{what}: {result:?}");
        }
    };
    for cut in (0..good.len()).step_by(97).chain([good.len() - 1, good.len() - 64, 40_000]) {
        fs::write(&path, &good[..cut]).unwrap();
        damaged("cut");
    }
    for more in [1, 63, 64, 65] {
        fs::write(&path, [good.as_slice(), &vec![0; more]].concat()).unwrap();
        damaged("longer");
    }
    fs::copy(store.packs().path(&names[1]), &path).unwrap();
    damaged("swapped");
    // Read under another length than its own, a whole file does not pass either.
    fs::write(&path, &good).unwrap();
    assert!(matches!(store.packs().read_whole(&names[0], 39_999), Err(StoreError::Damaged { .. })));
    // Writing it again heals.
    fs::write(&path, &good[..100]).unwrap();
    store.packs().write_all(&[(names[0], &contents[0])]).unwrap();
    store.packs().verify(&names[0], 40_000).unwrap();
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(store.packs().path(&names[1]), &path).unwrap();
    assert!(matches!(store.packs().read_whole(&names[0], 40_000), Err(StoreError::Unsafe { .. })));
}

#[test]
fn a_dropped_batch_leaves_nothing_and_a_large_one_is_whole() {
    let place = Place::new();
    let store = begin(&place.home);
    let contents: Vec<Vec<u8>> = (0..150).map(|seed| bytes(seed, 5_000)).collect();
    let mut batch = store.packs().begin_batch(0).unwrap();
    for content in &contents[..20] {
        batch.add(&hash(content), content).unwrap();
    }
    assert_eq!(fs::read_dir(place.home.join("packs/tmp")).unwrap().count(), 20);
    drop(batch);
    assert_eq!(fs::read_dir(place.home.join("packs/tmp")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(place.home.join("packs")).unwrap().count(), 2);
    let packs: Vec<(PackHash, &[u8])> = contents.iter().map(|c| (hash(c), c.as_slice())).collect();
    store.packs().write_all(&packs).unwrap();
    for (name, content) in &packs {
        assert_eq!(store.packs().read_whole(name, 5_000).unwrap(), *content);
    }
    assert_eq!(fs::read_dir(place.home.join("packs/tmp")).unwrap().count(), 0);
}
