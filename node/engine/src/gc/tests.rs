//! A locker over many days: what goes, what stays, and what is said of it.

mod world;

use locker_store::Snapshot;

use self::world::World;
use crate::Error;
use crate::limits::KEEP_DAYS;
use crate::report::{Fate, Why};

/// Goal: what is in the trash, and what was replaced, can be had for 30 days of running and goes then; what is told of it
/// is true before and after.
#[test]
fn trash_and_old_versions_are_kept_for_their_days() {
    let mut world = World::new();
    world.write("a.txt", b"first");
    world.write("b.txt", b"stays");
    world.write("c.txt", b"goes to the trash");
    world.add();
    world.write("a.txt", b"second");
    world.add();
    world.locker().remove("in/c.txt").unwrap();
    for day in 0..KEEP_DAYS {
        let told = world.gc();
        assert_eq!(told.reclaimed_bytes, 0, "day {day}: {told:?}");
        assert!(told.complete);
        world.assert_whole();
        world.next_day();
    }
    assert_eq!(world.read_version("in/a.txt", 1), b"first");
    world.locker().restore("in/a.txt", None, Some(2)).unwrap();
    world.locker().restore("in/c.txt", None, None).unwrap();
    assert_eq!(world.read("in/c.txt"), b"goes to the trash");
    // It was there in between: its days begin anew.
    world.locker().remove("in/c.txt").unwrap();
    world.gc();
    world.locker().restore("in/c.txt", None, None).unwrap();
    world.locker().remove("in/c.txt").unwrap();
    for _ in 0..=KEEP_DAYS {
        world.next_day();
        world.gc();
    }
    assert!(matches!(world.locker().restore("in/c.txt", None, None), Err(Error::Gone(_))));
    assert!(matches!(world.locker().restore("in/a.txt", None, Some(1)), Err(Error::Gone(_))));
    let history = world.locker().history("in/a.txt").unwrap();
    let gone: Vec<bool> = history.iter().filter(|e| e.version.is_some()).map(|e| e.gone).collect();
    assert!(gone[0] && !gone[gone.len() - 1], "{history:?}");
    assert_eq!(world.read("in/a.txt"), b"second");
    assert_eq!(world.read("in/b.txt"), b"stays");
    world.assert_whole();
    let told = world.gc();
    assert_eq!((told.garbage_bytes, told.reclaimed_bytes), (0, 0), "{told:?}");
}
