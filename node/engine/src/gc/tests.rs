//! A locker over many days: what goes, what stays, and what is said of it.

mod beside;
mod forks;
mod world;

use std::collections::BTreeSet;

use locker_crypto::id::VerifyingKey;

use self::world::{DAY_MS, World, random_bytes};
use crate::limits::{KEEP_DAYS, LEASE_S, SMALL_PACKS_MAX};
use crate::report::{Collected, Fate, Why};
use crate::{Error, ShareOptions};

fn count(told: &Collected, fate: Fate, why: Why) -> u64 {
    told.groups.iter().filter(|g| (g.fate, g.why) == (fate, why)).map(|g| g.packs).sum()
}

/// Goal: what is in the trash, and what was replaced, can be had for 30 days of running and goes then; what is told of it
/// is true before and after.
#[test]
fn trash_and_old_versions_are_kept_for_their_days() {
    let world = World::new();
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

/// Goal: G3. Whatever the clock does, nothing goes before this device has run on 30 days.
#[test]
fn no_jump_of_the_clock_makes_anything_old() {
    const TEN_YEARS: u64 = 3_653 * DAY_MS;
    let mut world = World::new();
    world.write("a.txt", b"kept");
    world.add();
    world.locker().remove("in/a.txt").unwrap();
    world.gc();
    for turn in [TEN_YEARS as i64, -(TEN_YEARS as i64), -(TEN_YEARS as i64), TEN_YEARS as i64] {
        for _ in 0..20 {
            world.turn_clock(|now| now.checked_add_signed(turn).unwrap());
            world.open();
            assert_eq!(world.gc().reclaimed_bytes, 0);
            world.turn_clock(|now| now.checked_add_signed(-turn).unwrap());
            assert_eq!(world.gc().reclaimed_bytes, 0);
        }
    }
    world.locker().restore("in/a.txt", None, None).unwrap();
    assert_eq!(world.read("in/a.txt"), b"kept");
}

/// Goal: a clock that is behind what the log says, as after a repair, does not lose what was removed under the right one.
#[test]
fn what_was_removed_lately_by_the_log_is_kept_too() {
    let world = World::new();
    world.write("a.txt", b"kept");
    world.add();
    world.locker().remove("in/a.txt").unwrap();
    world.gc();
    world.turn_clock(|now| now - 10 * DAY_MS);
    // 35 days of running, of which the last is 25 days after the removal by the log.
    for _ in 0..35 {
        world.next_day();
        assert_eq!(world.gc().reclaimed_bytes, 0);
    }
    world.locker().restore("in/a.txt", None, None).unwrap();
    assert_eq!(world.read("in/a.txt"), b"kept");
}

/// T86: what was promised to another device is kept to the end, though nothing else needs it, by a clock that is two
/// days fast, and by a device that restarts; then it goes.
#[test]
fn t86_a_promise_is_kept_by_a_fast_clock_and_over_a_restart() {
    let mut world = World::new();
    world.write("a.txt", &random_bytes(86, 50_000));
    world.add();
    let packs: BTreeSet<_> = world.locker().inner().packs_here().unwrap().into_iter().collect();
    let granted = world.locker().inner().grant_leases(&packs, LEASE_S, &VerifyingKey([9; 32])).unwrap();
    assert!(granted == packs && packs.len() == 1);
    world.locker().remove("in/a.txt").unwrap();
    world.turn_clock(|now| now + 2 * DAY_MS);
    for day in 0..KEEP_DAYS + 3 {
        let told = world.gc();
        assert_eq!(told.reclaimed_bytes, 0, "day {day}: {told:?}");
        if day % 10 == 5 {
            world.open();
        }
        world.next_day();
    }
    assert_eq!(world.pack_files().0, 1);
    world.locker().inner().end_leases(&packs.into_iter().collect::<Vec<_>>()).unwrap();
    assert!(world.gc().reclaimed_bytes > 50_000);
    assert_eq!(world.pack_files().0, 0);
}

/// Goal: many small packs become few, and nothing but their number changes.
#[test]
fn many_small_packs_become_one() {
    let world = World::new();
    for n in 0..=SMALL_PACKS_MAX {
        world.write(&format!("{n}"), &random_bytes(n as u64, 3_000));
        world.add();
    }
    let (before, _) = world.pack_files();
    assert_eq!(before, SMALL_PACKS_MAX + 1);
    let dry = world.dry();
    assert_eq!(count(&dry, Fate::Repacked, Why::Small), before as u64);
    assert_eq!(world.pack_files().0, before, "a dry run changes nothing");
    let told = world.gc();
    assert_eq!(count(&told, Fate::Repacked, Why::Small), before as u64);
    assert_eq!((told.written, told.complete), (1, true));
    assert_eq!(world.pack_files().0, 1);
    for n in 0..=SMALL_PACKS_MAX {
        assert_eq!(world.read(&format!("in/{n}")), random_bytes(n as u64, 3_000));
    }
    world.assert_whole();
    // What is known of the files still leads to what is here.
    world.add_path(&world.source(), "again");
    assert_eq!(world.pack_files().0, 1);
    assert_eq!(world.gc().groups.len(), 1);
}

/// Goal: of a pack that is hardly needed what is needed is copied; a link keeps its packs as they are until it ends.
#[test]
fn hardly_needed_packs_are_made_anew_but_not_those_of_links() {
    let world = World::new();
    for n in 0..8 {
        world.write(&format!("{n}"), &random_bytes(n, 200_000));
    }
    world.add();
    let share = ShareOptions { expires_s: 2 * KEEP_DAYS as u64 * 86_400, label: None, passphrase: None };
    let link = world.locker().share("in/0", &share).unwrap();
    for n in 1..8 {
        world.locker().remove(&format!("in/{n}")).unwrap();
    }
    for _ in 0..=KEEP_DAYS {
        let told = world.gc();
        assert_eq!(count(&told, Fate::Kept, Why::Linked), 1, "{told:?}");
        assert_eq!(world.pack_files().0, 1);
        world.next_day();
    }
    world.locker().revoke_share(&link.id).unwrap();
    // What only the link needed has its days too.
    for _ in 0..KEEP_DAYS {
        assert_eq!(world.gc().reclaimed_bytes, 0);
        world.next_day();
    }
    let dry = world.dry();
    assert_eq!(count(&dry, Fate::Repacked, Why::MostlyUnneeded), 1, "{dry:?}");
    let told = world.gc();
    assert_eq!(told.written, 1);
    assert!(told.reclaimed_bytes > 1_000_000, "{told:?}");
    assert_eq!(world.read("in/0"), random_bytes(0, 200_000));
    assert!(matches!(world.locker().restore("in/1", None, None), Err(Error::Gone(_))));
    world.assert_whole();
    // What went can be taken in again.
    world.add();
    assert_eq!(world.read("in/1"), random_bytes(1, 200_000));
    world.assert_whole();
}

/// Goal: a long file, whose chunks stand in manifests of their own, goes as a whole, and is not taken for damaged.
#[test]
fn long_files_go_whole() {
    let world = World::new();
    world.write("long", &random_bytes(7, 13 << 20));
    world.write("short", b"stays");
    world.add();
    let bytes = world.pack_files().1;
    world.gc();
    world.locker().remove("in/long").unwrap();
    for _ in 0..=KEEP_DAYS {
        world.gc();
        world.assert_whole();
        world.next_day();
    }
    world.gc();
    let (files, left) = world.pack_files();
    assert!(files == 1 && left < bytes / 100, "{files} packs, {left} of {bytes} bytes");
    assert!(matches!(world.locker().restore("in/long", None, None), Err(Error::Gone(_))));
    world.assert_whole();
}

/// Goal: what an import was stopped in leaves packs that nothing names; they are kept for whoever goes on, and then go.
#[test]
fn a_pass_sees_what_was_reused_meanwhile() {
    let world = World::new();
    world.write("a", &random_bytes(1, 50_000));
    world.add();
    world.locker().remove("in").unwrap();
    for _ in 0..=KEEP_DAYS {
        world.gc();
        world.next_day();
    }
    // On the very day on which it would go it is taken in again: the chunk that is here is used.
    world.add();
    let told = world.gc();
    assert_eq!((told.reclaimed_bytes, told.recent_bytes), (0, 0), "{told:?}");
    assert_eq!(world.read("in/a"), random_bytes(1, 50_000));
    world.assert_whole();
}
