//! Goal: the sentence never counts what is missing here as if nobody missed it. Method: rows of packs and pins as devices
//! leave them, in a locker in a temporary folder, looked at with devices in every standing.

use locker_crypto::id::{ChunkTag, PackHash};
use locker_store::WriteTxn;
use locker_store::index::{Loc, Naming, NewPack};

use super::*;
use crate::report::Silent;
use crate::test_mesh::World;
use crate::{Env, InitOptions, Locker, Secret, Vault};

const PACK: PackHash = PackHash([7; 32]);
const LEN: u32 = 4_096;
const NOW_S: u64 = 1_800_000_000;
const LONG_AGO_S: u64 = NOW_S - 31 * 86_400;

/// What one wanted pack comes to that a device pins, or nobody, under what is known of that device.
fn wanted(is_pinned: bool, standing: Option<Standing>, named_s: u64) -> Packs {
    let folder = tempfile::tempdir().unwrap();
    let options = InitOptions { name: None, vault: Vault::File };
    Locker::create(folder.path(), options, Env::system(), |_| Ok::<_, Error>(())).unwrap();
    let none = &mut || Err::<Secret, _>(Error::PassphraseNeeded);
    let locker = Locker::open(folder.path(), Env::system(), none).unwrap();
    let (inner, author) = (locker.inner(), VerifyingKey([9; 32]));
    let (space, store) = (inner.space_tag(), inner.store().unwrap());
    store
        .write::<_, Error>(|txn: &mut WriteTxn<'_>| {
            let locs = [Loc { tag: ChunkTag([5; 16]), sealed_len: LEN }];
            let new = NewPack { len: LEN, state: PackState::Wanted, locs: &locs };
            index::add_pack(txn, &space, &PACK, &new)?;
            index::note_naming(txn, &space, &PACK, &Naming { hlc: (named_s * 1_000) << 16, author })?;
            if is_pinned {
                let delta = pins::PinDelta { seq: 0, bytes: &[], adds: &[PACK], drops: &[] };
                pins::apply(txn, &PinScope { space, author }, &delta);
            }
            Ok(())
        })
        .unwrap();
    let snapshot = store.read().unwrap();
    let pack = index::pack(&snapshot, &PACK).unwrap().unwrap();
    let others: Vec<Other> =
        standing.map(|standing| Other { device: author, standing, word: Word::Pin }).into_iter().collect();
    let mut packs = Packs { least: u32::MAX, proved: u32::MAX, said: u32::MAX, ..Packs::default() };
    let needs = Needs::new(&inner, &store, &snapshot, false);
    packs.add((&snapshot, &needs), (&space, NOW_S), &others, (&PACK, &pack)).unwrap();
    packs
}

/// A device that failed wrote a file, and nobody else has got it: found by the walker of the simulation, as "Safe: all
/// here".
#[test]
fn what_only_a_failed_set_back_or_removed_device_has_is_waited_for_and_no_copy_of_it_counts() {
    for standing in [Some(Standing::Failed), Some(Standing::SetBack), None] {
        let packs = wanted(true, standing, LONG_AGO_S);
        assert_eq!((packs.wanted, packs.wanted_bytes, packs.least, packs.proved), (1, LEN.into(), 0, 0));
        let sentence = sentence(3, 9, &packs, Some(0));
        assert!(sentence.contains("still to come") && !sentence.contains("Safe"), "{sentence}");
    }
    let packs = wanted(true, Some(Standing::Proved), LONG_AGO_S);
    assert_eq!((packs.wanted, packs.least, packs.proved), (1, 1, 1));
}

#[test]
fn what_every_device_has_let_go_is_not_waited_for() {
    for standing in [Some(Standing::Proved), Some(Standing::Failed), None] {
        let packs = wanted(false, standing, LONG_AGO_S);
        assert_eq!((packs.wanted, packs.least), (0, u32::MAX));
    }
}

/// Entries may be here before the pins that came with them: also found by the walker.
#[test]
fn what_was_named_lately_and_nobody_pins_yet_is_waited_for() {
    let packs = wanted(false, None, NOW_S - 60);
    assert_eq!((packs.wanted, packs.least), (1, 0));
}

/// Goal: what comes back out of the trash counts again at once, though it was noted that nothing needs it: found by the walker,
/// as "Safe" of a file of which there was one copy. Method: a device that holds one of two copies; the other one says that it let
/// the file go while it was in the trash.
#[test]
fn what_came_back_out_of_the_trash_counts_at_once() {
    let (world, locker) = World::new();
    for name in ["stays", "comes back"] {
        world.add(&locker, name);
    }
    let inner = locker.inner();
    let least = || least_copies(&locker.inner()).unwrap();
    assert_eq!(least(), Some(1));
    let store = inner.store().unwrap();
    // The other device holds one of them.
    let author = world.join(&locker, "second").inner().keys().device_id();
    let stays = {
        let snapshot = store.read().unwrap();
        let tree = Tree::new(&snapshot, inner.space_tag()).unwrap();
        let version = tree.node(tree.resolve("stays").unwrap()).unwrap().versions[0].clone();
        let tag = version.file.records()[0].tag();
        index::places(&snapshot, &inner.space_tag(), &tag).unwrap()[0].pack
    };
    store
        .write::<_, Error>(|txn| {
            let delta = pins::PinDelta { seq: 0, bytes: &[], adds: &[stays], drops: &[] };
            pins::apply(txn, &PinScope { space: inner.space_tag(), author }, &delta);
            Ok(())
        })
        .unwrap();
    assert_eq!(least(), Some(1));
    drop(store);
    locker.remove("comes back").unwrap();
    locker.gc(false, &Silent).unwrap();
    assert_eq!(least(), Some(2), "what lies in the trash and is noted does not count");
    world.add(&locker, "small change");
    locker.remove("small change").unwrap();
    locker.restore("comes back", None, None).unwrap();
    assert_eq!(least(), Some(1));
    // So does a process that begins anew.
    drop(inner);
    drop(locker);
    assert_eq!(least_copies(&world.open("first").inner()).unwrap(), Some(1));
}
