//! Goal: what one side has and the other one lacks goes over, whatever branches either has and whoever comes first. Method: sides
//! that are lists; then drives of a device that was put back from a backup and went on.

use std::ops::ControlFlow;

use locker_crypto::id::SpaceTag;

use super::*;
use crate::report::Silent;
use crate::test_mesh::{World, copy_folder, names as shown};
use crate::{Env, Locker, NodeOptions, RecoverFrom, RecoverOptions, Secret, Vault};

type Side = &'static [(u64, &'static str)];

/// Reads a side, one number at a time.
fn read(side: Side) -> impl Fn(u64, u64) -> Result<Vec<Item>, Error> {
    move |from, to| {
        let first = side.iter().map(|(seq, _)| *seq).find(|seq| (from..=to).contains(seq));
        let items = side.iter().filter(|(seq, _)| Some(*seq) == first);
        Ok(items.map(|(seq, name)| Item { seq: *seq, bytes: name.as_bytes().to_vec() }).collect())
    }
}

/// What goes from one side to another.
fn goes(kind: LogKind, giver: Side, taker: Side) -> Vec<String> {
    let log = Log { kind, tag: SpaceTag::ZERO };
    let (last, held) = (giver.last().unwrap().0, taker.last().map(|(seq, _)| *seq));
    let (giver, taker) = (read(giver), read(taker));
    let mut fork = || first_shared(&giver, last);
    let mut gap = Inner::gap(log, last, held, &mut fork, &giver, &taker).unwrap();
    let mut found = Vec::new();
    while let Some(items) = gap.step(&giver, &taker).unwrap() {
        found.extend(items.into_iter().map(|item| String::from_utf8(item.bytes).unwrap()));
    }
    found
}

#[test]
fn all_that_the_other_side_lacks_goes_and_nothing_else() {
    let whole: Side = &[(0, "a0"), (1, "a1"), (2, "a2"), (3, "a3")];
    let begun: Side = &[(0, "a0"), (1, "a1")];
    let other: Side = &[(0, "a0"), (1, "a1"), (2, "b2")];
    let low: Side = &[(0, "a0"), (1, "c1"), (2, "c2")];
    let forked: Side = &[(0, "a0"), (1, "a1"), (2, "a2"), (3, "a3"), (3, "d3")];
    let ended: Side = &[(0, "a0"), (1, "a1"), (1, "e1"), (2, "a2"), (3, "a3")];
    let cases: [(Side, Side, &[&str]); 11] = [
        (whole, &[], &["a0", "a1", "a2", "a3"]),
        (whole, begun, &["a2", "a3"]),
        (begun, whole, &[]),
        (whole, whole, &[]),
        // Another branch, longer or shorter than what is there.
        (whole, other, &["a2", "a3"]),
        (other, whole, &["b2"]),
        // A third one that begins below the fork of who gives.
        (forked, low, &["a1", "a2", "a3", "d3"]),
        (low, forked, &["c1", "c2"]),
        (forked, whole, &["d3"]),
        (whole, forked, &[]),
        // One that ended before what both have.
        (ended, whole, &["e1"]),
    ];
    for (giver, taker, expected) in cases {
        for kind in [LogKind::Entries, LogKind::Person] {
            assert_eq!(goes(kind, giver, taker), expected, "{kind:?} {giver:?} {taker:?}");
        }
    }
    let pierced: Side = &[(0, "a0"), (2, "a2"), (3, "a3")];
    assert_eq!(goes(LogKind::Person, whole, pierced), ["a1"]);
    assert_eq!(goes(LogKind::Pins, whole, begun), ["a2", "a3"]);
    assert_eq!(goes(LogKind::Pins, whole, other), [""; 0]);
}

/// The device `first` wrote something that is on the drive `x`, was put back from a backup, and wrote something else that is on the
/// drive `y`; its home before that is `gone`. The device `second` heard of neither.
fn apart() -> (World, VerifyingKey) {
    let (world, first) = World::new();
    let second = world.join(&first, "second");
    for drive in ["x", "y"] {
        first.init_drive(&world.path(drive), None, &Silent).unwrap();
    }
    let author = first.inner().keys().device_id();
    drop((first, second));
    copy_folder(&world.path("first"), &world.path("backup"));
    let write = |names: &[&str], device: &str, drive: &str| {
        let first = world.open("first");
        names.iter().for_each(|name| world.add(&first, name));
        drop(world.join(&first, device));
        first.update_drives(Some(&world.path(drive)), &Silent).unwrap();
    };
    write(&["a.txt", "b.txt"], "third", "x");
    std::fs::rename(world.path("first"), world.path("gone")).unwrap();
    std::fs::rename(world.path("backup"), world.path("first")).unwrap();
    write(&["c.txt"], "fourth", "y");
    (world, author)
}

/// What a home has of an author.
fn held(locker: &Locker, author: &VerifyingKey) -> BTreeSet<(LogKind, u64, Vec<u8>)> {
    let inner = locker.inner();
    let mut held = BTreeSet::new();
    for log in [inner.person_log(), inner.entry_log()] {
        let items = inner.load_items(log, author, 0, 1 << 20, u64::MAX).unwrap();
        held.extend(items.into_iter().map(|item| (log.kind, item.seq, item.bytes)));
    }
    held
}

/// What both homes of `first` have of it.
fn all(world: &World, author: &VerifyingKey) -> BTreeSet<(LogKind, u64, Vec<u8>)> {
    let [gone, first] = ["gone", "first"].map(|name| held(&world.open(name), author));
    for kind in [LogKind::Person, LogKind::Entries] {
        assert!(gone.difference(&first).any(|(other, ..)| *other == kind), "{kind:?}");
        assert!(first.difference(&gone).any(|(other, ..)| *other == kind), "{kind:?}");
    }
    gone.union(&first).cloned().collect()
}

#[test]
fn both_branches_come_in_whatever_order_the_folders_do() {
    let (world, author) = apart();
    let expected = all(&world, &author);
    copy_folder(&world.path("second"), &world.path("other"));
    for (name, folders) in [("second", ["x", "y"]), ("other", ["y", "x"])] {
        let locker = world.open(name);
        for folder in folders {
            let none = &mut || Err::<Secret, _>(Error::PassphraseNeeded);
            logs(&Folder::open(&world.path(folder), none).unwrap(), &locker.inner()).unwrap();
        }
        assert!(held(&locker, &author) == expected, "{folders:?}");
    }
}

/// Everything comes back, and nothing is said to be missing.
#[test]
fn a_recovery_from_two_folders_has_both_branches_and_their_packs() {
    let (world, author) = apart();
    let expected = all(&world, &author);
    let mut names = Vec::new();
    for (name, folders) in [("back", ["x", "y"]), ("again", ["y", "x"])] {
        let options = RecoverOptions {
            phrase: Secret::new(world.phrase.expose().to_owned()),
            name: Some(name.into()),
            vault: Vault::File,
            node: NodeOptions::default(),
            from: folders.map(|folder| RecoverFrom::Folder(world.path(folder))).to_vec(),
            accept_missing: false,
            names_only: false,
            keep_devices: true,
        };
        let none = &mut || Err::<Secret, _>(Error::PassphraseNeeded);
        Locker::recover(&world.path(name), options, Env::system(), none, &Silent).unwrap();
        let back = world.open(name);
        assert!(held(&back, &author) == expected, "{folders:?}");
        names.push(shown(&back));
        let inner = back.inner();
        let snapshot = inner.store().unwrap().read().unwrap();
        index::scan_packs(&snapshot, &mut |hash, pack| {
            assert!(matches!(pack.state, PackState::Present { .. }), "{folders:?} {hash}");
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    assert_eq!(names[0], names[1]);
}
