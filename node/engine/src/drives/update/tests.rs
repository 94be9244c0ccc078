//! Goal: what lies on a drive alone comes to a device that sees it, and what anybody else wrote onto it does no harm. Method: real
//! stores in temporary folders, and a drive that goes from one device to another, without a network.

use locker_crypto::id::EntryId;
use locker_store::opaque::{self, Chain};
use locker_store::persons;

use super::*;
use crate::Locker;
use crate::report::Silent;
use crate::test_mesh::{World, copy_folder, names, pass};

fn update(locker: &Locker, dir: &Path) {
    locker.update_drives(Some(dir), &Silent).unwrap();
}

fn content(locker: &Locker, name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    locker.read(name, 0, None, &mut out).unwrap();
    out
}

/// Packs that entries name and that are not here.
fn lacking(locker: &Locker) -> usize {
    let (inner, mut count) = (locker.inner(), 0);
    let snapshot = inner.store().unwrap().read().unwrap();
    index::scan_packs(&snapshot, &mut |_, pack| {
        count += usize::from(!matches!(pack.state, PackState::Present { .. }));
        ControlFlow::Continue(())
    })
    .unwrap();
    count
}

/// A device with a file and a drive, and a second one that wrote another file, brought the drive up to date, and is gone.
fn gone() -> (World, Locker, VerifyingKey) {
    let (world, first) = World::new();
    world.add(&first, "a.txt");
    first.init_drive(&world.path("usb"), None, &Silent).unwrap();
    let second = world.join(&first, "second");
    let author = second.inner().keys().device_id();
    world.add(&second, "b.txt");
    update(&second, &world.path("usb"));
    assert_eq!(lacking(&second), 0, "it had no pack of the first one");
    (world, first, author)
}

#[test]
fn what_only_the_drive_has_of_a_device_that_is_gone_comes_here() {
    let (world, first, _) = gone();
    let usb = world.path("usb");
    assert_eq!(names(&first), ["a.txt"]);
    update(&first, &usb);
    assert_eq!(names(&first), ["a.txt", "b.txt"]);
    assert_eq!((content(&first, "b.txt"), lacking(&first)), ("b.txt".repeat(20_000).into_bytes(), 0));
    // A node brings a drive up to date after every commit: where nothing comes there is none.
    let before = *first.inner().commits().borrow();
    update(&first, &usb);
    assert_eq!(*first.inner().commits().borrow(), before);
}

/// What a home wrote that was put back from a backup afterwards comes back once it has another key, whether it wrote something else
/// meanwhile or not.
#[test]
fn what_only_the_drive_has_of_this_home_comes_back_under_its_new_key() {
    for goes_on in [false, true] {
        let (world, first) = World::new();
        let second = world.join(&first, "second");
        let usb = world.path("usb");
        first.init_drive(&usb, None, &Silent).unwrap();
        world.add(&first, "before.txt");
        pass(&first, &second);
        drop(first);
        copy_folder(&world.path("first"), &world.path("backup"));
        let first = world.open("first");
        world.add(&first, "one.txt");
        world.add(&first, "two.txt");
        update(&first, &usb);
        drop(first);
        std::fs::remove_dir_all(world.path("first")).unwrap();
        std::fs::rename(world.path("backup"), world.path("first")).unwrap();

        let first = world.open("first");
        if goes_on {
            world.add(&first, "else.txt");
        }
        assert!(matches!(first.update_drives(Some(&usb), &Silent), Err(Error::Restored)));
        let inner = first.inner();
        let old = inner.keys().device_id();
        let asked = inner.ask_to_succeed().unwrap().unwrap();
        second.inner().succeed(&old, &asked).unwrap();
        pass(&second, &first);
        assert!(inner.be_reborn().unwrap());
        update(&first, &usb);
        let log = inner.entry_log();
        let held = inner.load_items(log, &old, 0, 1 << 20, u64::MAX).unwrap();
        let drive = Drive::open(&inner, &usb).unwrap();
        let there = drive.depot.items(&drive.store.read().unwrap(), log, &old, 0, 1 << 20, u64::MAX).unwrap();
        assert!(held == there, "both have both branches");
        drive.store.close().unwrap();
        assert_eq!(lacking(&first), 0, "{goes_on}");
        if !goes_on {
            assert_eq!(names(&first), ["before.txt", "one.txt", "two.txt"]);
            assert_eq!(content(&first, "two.txt"), "two.txt".repeat(20_000).into_bytes());
        }
    }
}

/// Who had a drive in his hands can write anything onto it, but sign nothing.
#[test]
fn what_nobody_signed_is_neither_taken_nor_believed() {
    let (world, first, second) = gone();
    let (usb, inner) = (world.path("usb"), first.inner());
    let drive = Drive::open(&inner, &usb).unwrap();
    drive
        .store
        .write(|txn| {
            for author in [inner.keys().device_id(), second] {
                let chain = Chain { space: inner.space_tag(), author };
                opaque::put(txn, &chain, 1_000, &EntryId([9; 32]), b"something");
            }
            Ok::<_, Error>(())
        })
        .unwrap();
    drive.store.close().unwrap();
    update(&first, &usb);
    assert_eq!(names(&first), ["a.txt", "b.txt"]);
    // It is in no doubt.
    first.make_folder("folder", false).unwrap();
}

#[test]
fn nothing_is_taken_from_a_drive_that_is_damaged() {
    let (world, first, _) = gone();
    let (usb, inner) = (world.path("usb"), first.inner());
    let drive = Drive::open(&inner, &usb).unwrap();
    let person = inner.keys().person;
    drive
        .store
        .write(|txn| {
            persons::put(txn, &person, &EntryId([9; 32]), b"something");
            Ok::<_, Error>(())
        })
        .unwrap();
    drive.store.close().unwrap();
    let before = *inner.commits().borrow();
    let told = first.update_drives(Some(&usb), &Silent);
    let Err(Error::Integrity { what, .. }) = &told else { panic!("{told:?}") };
    assert!(what.starts_with("the drive in "), "{what}");
    assert_eq!((names(&first), *inner.commits().borrow()), (vec!["a.txt".to_owned()], before));
}
