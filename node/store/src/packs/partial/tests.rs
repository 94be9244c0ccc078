//! Goal: what came of a pack is never lost and never trusted unseen. Method: packs of every shape are written group by
//! group in random orders, with restarts and damage between, and compared with what the hash says.

use std::fs;
use std::ops::Range;

use bao_tree::io::outboard::PreOrderMemOutboard;
use bao_tree::iter::BaoChunk;
use bao_tree::{ChunkNum, ChunkRanges};
use proptest::prelude::*;

use super::*;
use crate::index::{self, NewPack, PackState};
use crate::packs::{GROUP, OnDisk, tree};
use crate::test_kit::{Place, SPACE, begin, bytes, dice, hash, limits, reopen as reopen_store, vault};
use crate::{Home, Limits, Store};

/// A pack as another device has it.
struct Sample {
    content: Vec<u8>,
    outboard: Vec<u8>,
    hash: PackHash,
    len: u32,
}

impl Sample {
    fn new(seed: u64, len: usize) -> Self {
        let content = bytes(seed, len);
        let outboard = PreOrderMemOutboard::create(&content, GROUP).data;
        let (hash, len) = (hash(&content), u32::try_from(len).unwrap());
        Self { content, outboard, hash, len }
    }

    fn groups(&self) -> u32 {
        u32::try_from(group_count(self.len)).unwrap()
    }

    fn bytes_of(&self, group: u32) -> Range<usize> {
        let start = group as usize * 16_384;
        start..(start + 16_384).min(self.content.len())
    }

    /// Offsets in the outboard of the nodes above a group.
    fn nodes_above(&self, group: u32) -> Vec<usize> {
        let start = ChunkNum(u64::from(group) * 16);
        let chunks = ChunkRanges::from(start..start + 16);
        let tree = tree(self.len);
        tree.ranges_pre_order_chunks_iter_ref(&chunks, 0)
            .filter_map(|item| match item {
                BaoChunk::Parent { node, .. } => Some(tree.pre_order_offset(node).unwrap() as usize * 64),
                BaoChunk::Leaf { .. } => None,
            })
            .collect()
    }

    /// Writes one group as an answer brings it: the nodes above it first.
    fn bring(&self, partial: &mut PartialPack, group: u32) {
        for at in self.nodes_above(group) {
            let pair = self.outboard[at..at + 64].try_into().unwrap();
            partial.write_node(u32::try_from(at).unwrap(), pair).unwrap();
        }
        let range = self.bytes_of(group);
        partial.write_group(u32::try_from(range.start).unwrap(), &self.content[range]).unwrap();
    }

    fn open(&self, store: &Store) -> PartialPack {
        store.packs().open_partial(&self.hash, self.len).unwrap()
    }

    fn file(&self, place: &Place) -> PathBuf {
        place.home.join("packs/partial").join(name(&self.hash))
    }

    fn want(&self, store: &Store, state: PackState) {
        let new = NewPack { len: self.len, state, locs: &[] };
        store.write(|txn| index::add_pack(txn, &SPACE, &self.hash, &new)).unwrap();
        store.write::<_, StoreError>(|txn| index::set_state(txn, &self.hash, state)).unwrap();
    }
}

fn held(partial: &PartialPack) -> Vec<u32> {
    partial.held_groups().collect()
}

fn partial_files(place: &Place) -> usize {
    fs::read_dir(place.home.join("packs/partial")).unwrap().count()
}

#[test]
fn a_pack_that_came_in_groups_is_the_pack() {
    let place = Place::new();
    let store = begin(&place.home);
    let lens = [1, 16_383, 16_384, 16_385, 49_153, 1_000_003, 16_777_216];
    for (seed, len) in (0..).zip(lens) {
        let sample = Sample::new(seed, len);
        let mut partial = sample.open(&store);
        assert_eq!((partial.hash(), partial.byte_len()), (sample.hash, sample.len));
        assert_eq!(held(&partial), []);
        assert_eq!(fs::metadata(sample.file(&place)).unwrap().len(), file_len(sample.len));
        assert!(matches!(store.packs().open(&sample.hash, sample.len), Err(StoreError::Absent { .. })));
        for group in (0..sample.groups()).rev() {
            assert!(!partial.is_complete());
            sample.bring(&mut partial, group);
        }
        assert!(partial.is_complete());
        assert_eq!(store.packs().partials().unwrap(), [sample.hash]);
        assert_eq!(store.packs().keep_partials([&mut partial]).unwrap(), [sample.hash]);
        // What has its name is never written again.
        let again = partial.write_group(0, &sample.content[sample.bytes_of(0)]);
        assert!(matches!(again, Err(StoreError::Refused(Refusal::Canon))));
        drop(partial);
        assert_eq!(store.packs().read_whole(&sample.hash, sample.len).unwrap(), sample.content);
        store.packs().verify(&sample.hash, sample.len).unwrap();
        assert_eq!(partial_files(&place), 0);
    }
}

#[test]
fn several_packs_are_kept_in_one_batch_and_one_that_is_wrong_stops_no_other() {
    let place = Place::new();
    let store = begin(&place.home);
    let samples: Vec<Sample> = (0..70).map(|seed| Sample::new(seed, 40_000)).collect();
    let mut partials: Vec<PartialPack> = samples.iter().map(|sample| sample.open(&store)).collect();
    for (sample, partial) in samples.iter().zip(&mut partials) {
        (0..3).for_each(|group| sample.bring(partial, group));
    }
    // Two change on the disk behind our back: content of the one, a node of the other. A third is not complete.
    partials.iter_mut().for_each(|partial| partial.flush().unwrap());
    for (at, offset) in [(3, 20_000), (5, 40_064)] {
        let file = OpenOptions::new().write(true).open(samples[at].file(&place)).unwrap();
        file.write_all_at(b"changed", offset).unwrap();
    }
    let rest = Sample::new(99, 40_000);
    partials.push(rest.open(&store));
    let kept = store.packs().keep_partials(&mut partials).unwrap();
    assert_eq!(kept.len(), 68);
    for (at, sample) in samples.iter().enumerate() {
        let is_here = store.packs().verify(&sample.hash, sample.len).is_ok();
        assert_eq!((is_here, kept.contains(&sample.hash)), (at != 3 && at != 5, at != 3 && at != 5));
    }
    // They say what is missing, at once and after reopening, and are whole when that has come.
    assert_eq!((held(&partials[3]), held(&partials[5])), (vec![0, 2], vec![2]));
    drop(partials);
    for at in [3, 5] {
        let mut partial = samples[at].open(&store);
        (0..3)
            .filter(|group| !held(&partial).contains(group))
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|group| samples[at].bring(&mut partial, group));
        assert_eq!(store.packs().keep_partials([&mut partial]).unwrap(), [samples[at].hash]);
        store.packs().verify(&samples[at].hash, 40_000).unwrap();
    }
}

#[test]
fn every_changed_byte_of_a_partial_file_is_noticed() {
    let place = Place::quick();
    let store = begin(&place.home);
    let sample = Sample::new(1, 16_384 * 9 + 5);
    let mut partial = sample.open(&store);
    let here = [0, 1, 4, 7, 9];
    here.iter().for_each(|group| sample.bring(&mut partial, *group));
    drop(partial);
    assert_eq!(held(&sample.open(&store)), here);
    let path = sample.file(&place);
    let good = fs::read(&path).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let outboard = sample.content.len()..good.len();
    for at in (0..sample.content.len()).step_by(1_709).chain(outboard.clone()) {
        file.write_all_at(&[good[at] ^ 4], at as u64).unwrap();
        let expected: Vec<u32> = here
            .iter()
            .copied()
            .filter(|group| {
                let node = at.checked_sub(outboard.start).map(|at| at / 64 * 64);
                let is_below = node.is_some_and(|node| sample.nodes_above(*group).contains(&node));
                !is_below && !sample.bytes_of(*group).contains(&at)
            })
            .collect();
        assert_eq!(held(&sample.open(&store)), expected, "byte {at}");
        file.write_all_at(&[good[at]], at as u64).unwrap();
    }
    assert_eq!(held(&sample.open(&store)), here);
    // Another length, or nothing: begun anew.
    for len in [0, 1, good.len() - 1, good.len() + 64] {
        fs::write(&path, vec![7; len]).unwrap();
        assert_eq!(held(&sample.open(&store)), []);
        assert_eq!(fs::metadata(&path).unwrap().len(), good.len() as u64);
    }
    // The file of another pack of that length.
    fs::write(&path, bytes(5, good.len())).unwrap();
    assert_eq!(held(&sample.open(&store)), []);
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(place.home.join("LOCKER"), &path).unwrap();
    let opened = store.packs().open_partial(&sample.hash, sample.len);
    assert!(matches!(opened, Err(StoreError::Unsafe { .. })));
}

#[test]
fn what_does_not_fit_is_refused_and_one_writes_at_a_time() {
    let place = Place::new();
    let store = begin(&place.home);
    let sample = Sample::new(1, 40_000);
    let open = |len| store.packs().open_partial(&sample.hash, len).map(drop);
    assert!(matches!(open(0), Err(StoreError::Refused(Refusal::Canon))));
    assert!(matches!(open(16_777_217), Err(StoreError::Refused(Refusal::Limit))));
    let mut partial = sample.open(&store);
    assert!(matches!(open(40_000), Err(StoreError::Busy)));
    for (offset, len) in [(0, 16_383), (1, 16_384), (32_768, 16_384), (32_768, 0), (49_152, 16_384)] {
        let result = partial.write_group(offset, &vec![0; len]);
        assert!(matches!(result, Err(StoreError::Refused(Refusal::Canon))), "{offset} {len}");
    }
    for offset in [1, 63, 128, u32::MAX - 63] {
        assert!(matches!(partial.write_node(offset, &[0; 64]), Err(StoreError::Refused(Refusal::Canon))));
    }
    assert_eq!(held(&partial), []);
    // A group whose nodes never came does not count after a restart.
    partial.write_group(0, &sample.content[..16_384]).unwrap();
    assert_eq!(held(&partial), [0]);
    drop(partial);
    assert_eq!(held(&sample.open(&store)), []);
    assert_eq!(store.packs().keep_partials([&mut sample.open(&store)]).unwrap(), []);
}

#[test]
fn the_sweep_keeps_what_is_awaited() {
    let place = Place::new();
    let store = begin(&place.home);
    let states = [
        Some(PackState::Wanted),
        Some(PackState::Lost),
        Some(PackState::Present { verified_at: 1 }),
        None,
        Some(PackState::Wanted),
        Some(PackState::Wanted),
    ];
    let samples: Vec<Sample> = (0..6).map(|seed| Sample::new(seed, 50_000)).collect();
    for (sample, state) in samples.iter().zip(states) {
        sample.bring(&mut sample.open(&store), 2);
        if let Some(state) = state {
            sample.want(&store, state);
        }
    }
    // One has another length than its row says; one has got its name, but its row was never told.
    fs::write(samples[4].file(&place), [0; 100]).unwrap();
    let mut whole = samples[5].open(&store);
    (0..4).for_each(|group| samples[5].bring(&mut whole, group));
    store.packs().keep_partials([&mut whole]).unwrap();
    drop(whole);
    fs::write(place.home.join("packs/partial/notes"), b"of somebody").unwrap();
    drop(store.close().unwrap());
    let mut store = reopen_store(&place.home).unwrap();
    let recovery = store.recover().unwrap();
    assert_eq!((recovery.temporary_removed, recovery.strangers), (3, 1));
    assert_eq!((recovery.unreferenced_removed, recovery.lost.len()), (0, 0));
    let mut left = store.packs().partials().unwrap();
    let mut expected = [samples[0].hash, samples[1].hash, samples[5].hash];
    left.sort();
    expected.sort();
    assert_eq!(left, expected);
    assert_eq!(held(&samples[0].open(&store)), [2]);
    let mut whole = samples[5].open(&store);
    assert!(whole.is_complete());
    assert_eq!(store.packs().keep_partials([&mut whole]).unwrap(), [samples[5].hash]);
}

/// Goal: a damaged pack is replaced by what is right in it and the rest fetched; until then both can be read; a crash
/// between leaves it where it is.
#[test]
fn what_is_right_in_a_damaged_pack_is_used_and_need_not_come_again() {
    let place = Place::new();
    let mut store = begin(&place.home);
    let sample = Sample::new(1, 16_384 * 9 + 5);
    store.packs().write_all(&[(sample.hash, &sample.content)]).unwrap();
    sample.want(&store, PackState::Present { verified_at: 1 });
    let path = store.packs().path(&sample.hash);
    let damage = |at: u64| {
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(b"changed", at).unwrap();
    };
    damage(16_384 * 4 + 9);
    damage(16_384 * 7);
    assert!(matches!(store.packs().verify(&sample.hash, sample.len), Err(StoreError::Damaged { .. })));
    sample.want(&store, PackState::Lost);
    // Gone nowhere by a start.
    for _ in 0..2 {
        drop(store);
        store = reopen_store(&place.home).unwrap();
        let recovery = store.recover().unwrap();
        assert_eq!((recovery.temporary_removed, recovery.unreferenced_removed), (0, 0));
    }
    let read = |range: Range<u32>| {
        let remains = store.packs().remains(&sample.hash, sample.len);
        remains.iter().find_map(|reader| reader.read_range(range.clone()).ok())
    };
    let part = |range: Range<u32>| sample.content[range.start as usize..range.end as usize].to_vec();
    assert_eq!(read(0..65_536), Some(part(0..65_536)));
    assert_eq!(read(65_536..65_537), None);
    let mut partial = sample.open(&store);
    assert_eq!(held(&partial), [0, 1, 2, 3, 5, 6, 8, 9]);
    sample.bring(&mut partial, 4);
    partial.flush().unwrap();
    // Either file serves what is right in it.
    assert_eq!(read(65_536..65_537), Some(part(65_536..65_537)));
    assert_eq!(read(147_456..147_461), Some(part(147_456..147_461)));
    assert_eq!(read(16_384 * 7..16_384 * 7 + 1), None);
    sample.bring(&mut partial, 7);
    assert_eq!(store.packs().keep_partials([&mut partial]).unwrap(), [sample.hash]);
    store.packs().verify(&sample.hash, sample.len).unwrap();
    assert_eq!(fs::read(&path).unwrap().len() as u64, file_len(sample.len));
    assert_eq!(partial_files(&place), 0);
}

#[test]
fn an_outboard_is_written_anew_where_the_bytes_are_right() {
    let place = Place::new();
    let store = begin(&place.home);
    let sample = Sample::new(1, 100_000);
    store.packs().write_all(&[(sample.hash, &sample.content)]).unwrap();
    let path = store.packs().path(&sample.hash);
    let good = fs::read(&path).unwrap();
    let cut = good[..good.len() - 1].to_vec();
    let bare = good[..100_000].to_vec();
    let longer = [good.as_slice(), b"more"].concat();
    let mut turned = good.clone();
    turned[100_070] ^= 1;
    for damaged in [cut, bare, longer, turned] {
        fs::write(&path, damaged).unwrap();
        assert!(store.packs().verify(&sample.hash, sample.len).is_err());
        assert!(store.packs().renew_outboard(&sample.hash, sample.len).unwrap());
        assert_eq!(fs::read(&path).unwrap(), good);
    }
    let mut wrong = good.clone();
    wrong[5] ^= 1;
    for damaged in [wrong, good[..99_999].to_vec()] {
        fs::write(&path, &damaged).unwrap();
        assert!(!store.packs().renew_outboard(&sample.hash, sample.len).unwrap());
        assert_eq!(fs::read(&path).unwrap(), damaged);
    }
    fs::remove_file(&path).unwrap();
    assert!(!store.packs().renew_outboard(&sample.hash, sample.len).unwrap());
}

#[test]
fn files_and_strangers_are_told_apart() {
    let place = Place::quick();
    let store = begin(&place.home);
    let sample = Sample::new(1, 20_000);
    store.packs().write_all(&[(sample.hash, &sample.content)]).unwrap();
    Sample::new(2, 20_000).open(&store);
    let shard = store.packs().path(&sample.hash).parent().unwrap().to_owned();
    let packs = place.home.join("packs");
    let other = if shard.ends_with("00") { "01" } else { "00" };
    fs::create_dir(packs.join(other)).unwrap();
    let strangers = [
        shard.join("notes"),
        packs.join(other).join(name(&sample.hash)),
        packs.join("readme"),
        packs.join("zz"),
    ];
    strangers.iter().for_each(|path| fs::write(path, b"of somebody").unwrap());
    let mut found = Vec::new();
    store
        .packs()
        .scan_files(&mut |on_disk| {
            found.push(on_disk);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(found.len(), 5);
    assert!(found.contains(&OnDisk::Pack(sample.hash)));
    assert!(strangers.iter().all(|path| found.contains(&OnDisk::Stranger(path.clone()))), "{found:?}");
}

#[test]
fn a_full_disk_begins_nothing_and_loses_nothing() {
    let place = Place::new();
    let (whole, part, new) = (Sample::new(1, 50_000), Sample::new(2, 50_000), Sample::new(3, 50_000));
    let store = begin(&place.home);
    for (sample, groups) in [(&whole, 4), (&part, 2)] {
        let mut partial = sample.open(&store);
        (0..groups).for_each(|group| sample.bring(&mut partial, group));
    }
    drop(store);
    let full = Limits { low_water_bytes: u64::MAX / 2, ..limits() };
    let store = Store::open(Home::open(&place.home).unwrap(), &vault(), dice(2), full).unwrap();
    assert!(matches!(store.packs().open_partial(&new.hash, new.len), Err(StoreError::Full)));
    assert!(!new.file(&place).exists());
    assert_eq!(held(&part.open(&store)), [0, 1]);
    assert_eq!(store.packs().keep_partials([&mut whole.open(&store)]).unwrap(), [whole.hash]);
    store.packs().verify(&whole.hash, whole.len).unwrap();
    assert!(!store.is_poisoned());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    /// Goal: whatever the order, with restarts and damage at any moment, exactly what is right on the disk counts, and
    /// what is missing can be brought. The model is the file itself: a group is held if its bytes and all nodes above
    /// it are those of the pack.
    #[test]
    fn any_order_with_restarts_and_damage_ends_in_the_pack(
        seed in 0u64..1_000,
        len in 1usize..400_000,
        steps in prop::collection::vec((0u8..10, any::<u32>(), any::<u32>()), 0..60),
    ) {
        let place = Place::quick();
        let store = begin(&place.home);
        let sample = Sample::new(seed, len);
        let mut partial = sample.open(&store);
        for (what, a, b) in steps {
            match what {
                // A request: some groups in rising order.
                0..7 => {
                    let start = a % sample.groups();
                    let end = (start + 1 + b % 8).min(sample.groups());
                    (start..end).for_each(|group| sample.bring(&mut partial, group));
                }
                damage => {
                    drop(partial);
                    if damage == 9 {
                        let file = OpenOptions::new().write(true).open(sample.file(&place)).unwrap();
                        file.write_all_at(&b.to_le_bytes(), u64::from(a) % (file_len(sample.len) - 3).max(1)).unwrap();
                        file.set_len(file_len(sample.len)).unwrap();
                    }
                    let stored = fs::read(sample.file(&place)).unwrap();
                    let (content, outboard) = stored.split_at(len);
                    let model: Vec<u32> = (0..sample.groups())
                        .filter(|group| {
                            let range = sample.bytes_of(*group);
                            content[range.clone()] == sample.content[range]
                                && sample.nodes_above(*group).iter().all(|at| {
                                    outboard[*at..at + 64] == sample.outboard[*at..at + 64]
                                })
                        })
                        .collect();
                    partial = sample.open(&store);
                    prop_assert_eq!(held(&partial), model);
                }
            }
        }
        let here = held(&partial);
        (0..sample.groups()).filter(|group| !here.contains(group)).for_each(|group| sample.bring(&mut partial, group));
        prop_assert!(partial.is_complete());
        prop_assert_eq!(store.packs().keep_partials([&mut partial]).unwrap(), vec![sample.hash]);
        prop_assert_eq!(store.packs().read_whole(&sample.hash, sample.len).unwrap(), sample.content);
        store.packs().verify(&sample.hash, sample.len).unwrap();
    }
}
