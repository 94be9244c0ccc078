//! T93: somebody has the key of another device and signs a second entry beside what that one wrote, so that neither
//! counts. No pack of either goes while that is so, nor once it was written again.

use std::collections::BTreeSet;

use super::world::{World, random_bytes};
use crate::Locker;
use crate::limits::KEEP_DAYS;
use crate::rebirth::{Due, Left, Wrote};
use crate::test_mesh::{copy_folder, names, pass};

/// Hands over the packs that a locker wants and another one has. Gives how many these were.
fn give_packs(from: &Locker, to: &Locker) -> usize {
    let (source, target) = (from.inner(), to.inner());
    let here: BTreeSet<_> = source.packs_here().unwrap().into_iter().collect();
    let mut wanted = target.wanted_packs().unwrap();
    wanted.retain(|(hash, _)| here.contains(hash));
    for (hash, len) in &wanted {
        let bytes = source.store().unwrap().packs().read_whole(hash, *len).unwrap();
        target.store().unwrap().packs().write_all(&[(*hash, &bytes)]).unwrap();
        target.commit(|change| change.hold_pack(hash)).unwrap();
    }
    wanted.len()
}

/// Takes in one file, whose pack is of nothing else.
fn add(world: &World, locker: &Locker, name: &str, seed: u64) {
    let path = world.path(name);
    std::fs::write(&path, random_bytes(seed, 60_000)).unwrap();
    locker.add(&[&path], "", &crate::report::Silent).unwrap();
}

/// Writes again what does not count, as the running node does, until nothing is left.
fn write_again(locker: &Locker) -> usize {
    let inner = locker.inner();
    let (mut left, mut count) = (Left::default(), 0);
    while inner.look_for_uncounted(&Left::default()).unwrap() == Some(Due::Others) {
        assert_eq!(inner.write_again(Due::Others, &mut left).unwrap(), Wrote::Entry);
        assert!(left == Left::default(), "something cannot be written");
        count += 1;
    }
    count
}

/// T93: for more than 30 days of running, a pass a day, whichever of the two came first; the pack of what really
/// nobody needs any more, the control, goes in its time once all is written again.
#[test]
fn t93_no_pack_of_any_branch_goes_while_a_fork_is_open() {
    for order in [["honest", "thief"], ["thief", "honest"]] {
        let world = World::new();
        let here = world.locker();
        add(&world, here, "unneeded", 1);
        here.remove("unneeded").unwrap();
        world.join("honest");
        pass(here, &world.open_other("honest"));
        copy_folder(&world.path("honest"), &world.path("thief"));
        for (seed, name) in (2..).zip(["honest", "thief"]) {
            let locker = world.open_other(name);
            add(&world, &locker, &format!("by {name}"), seed);
        }
        let [first, last] = order;
        let (file, other) = (format!("by {first}"), format!("by {last}"));
        {
            let locker = world.open_other(first);
            pass(&locker, here);
            assert_eq!(give_packs(&locker, here), 1);
        }
        assert_eq!(world.read(&file), random_bytes(if first == "honest" { 2 } else { 3 }, 60_000));
        // A second entry with one number: nobody but its author knew either.
        pass(&world.open_other(last), here);
        assert_eq!(names(here), [""; 0]);
        for day in 0..KEEP_DAYS + 5 {
            let told = world.gc();
            assert_eq!((told.reclaimed_bytes, world.pack_files().0), (0, 2), "day {day}: {told:?}");
            world.next_day();
        }
        assert_eq!(write_again(here), 2);
        let mut expected = [file.clone(), other];
        expected.sort();
        assert_eq!(names(here), expected);
        // What nobody needs is noted only now: one that does not see everything begins no days.
        for day in 0..KEEP_DAYS {
            assert_eq!((world.gc().reclaimed_bytes, world.pack_files().0), (0, 2), "day {day}");
            world.next_day();
        }
        assert!(world.gc().reclaimed_bytes > 60_000);
        assert_eq!(world.pack_files().0, 1);
        assert_eq!(world.read(&file), random_bytes(if first == "honest" { 2 } else { 3 }, 60_000));
    }
}
