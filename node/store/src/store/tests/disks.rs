//! Disks that are full or read-only; each test has a small one of its own.

use super::*;

/// A file system of its own for a test that fills or freezes it.
struct Small {
    place: Place,
}

impl Small {
    fn mount(size: &str) -> Option<Self> {
        let place = Place::new();
        fs::create_dir(&place.home).unwrap();
        let options = format!("size={size},mode=0700");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&place.home)
            .output()
            .is_ok_and(|out| out.status.success());
        if !mounted {
            skip("only root can mount the small file system that this test fills");
        }
        mounted.then_some(Self { place })
    }

    fn remount(&self, options: &str) {
        let done = std::process::Command::new("mount")
            .args(["-o", &format!("remount,{options}")])
            .arg(&self.place.home)
            .status();
        assert!(done.unwrap().success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let done = std::process::Command::new("umount").arg("-l").arg(&self.place.home).status();
        assert!(done.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[test]
fn a_full_disk_refuses_what_is_new_and_still_deletes() {
    let Some(small) = Small::mount("48m") else { return };
    let home = small.place.home.join("home");
    let limits = Limits { reserve_bytes: 8 << 20, low_water_bytes: 4 << 20, ..limits() };
    let mut store =
        Store::create(Home::init(&home).unwrap(), &vault(), dice(1), limits, |_| Ok::<_, StoreError>(()))
            .unwrap();
    store.recover().unwrap();
    assert_eq!(fs::metadata(home.join("reserve")).unwrap().len(), 8 << 20);
    let mut kept = Vec::new();
    loop {
        match put_pack(&store, kept.len() as u64, 1 << 20) {
            Ok(name) => kept.push(name),
            Err(StoreError::Full) => break,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(kept.len() > 10, "{}", kept.len());
    assert!(!store.is_poisoned());
    // Somebody else takes what was left.
    let mut rest =
        OpenOptions::new().write(true).create_new(true).open(small.place.home.join("rest")).unwrap();
    while std::io::Write::write_all(&mut rest, &[1; 4096]).is_ok() {}
    assert!(matches!(put_pack(&store, 900, 5_000), Err(StoreError::Full)));
    // The log still commits, and deleting works, out of the reserve.
    store
        .write::<_, StoreError>(|txn| {
            settings::put(txn, Setting::engine(1), &bytes(1, 20_000));
            Ok(())
        })
        .unwrap();
    assert!(!home.join("reserve").exists());
    let (gone, left) = kept.split_at(4);
    store.delete_packs(gone).unwrap();
    assert!(!store.is_poisoned());
    drop(rest);
    fs::remove_file(small.place.home.join("rest")).unwrap();
    drop(store);
    let mut store = Store::open(Home::open(&home).unwrap(), &vault(), dice(2), limits).unwrap();
    assert_eq!(store.recover().unwrap().lost, []);
    assert_eq!(fs::metadata(home.join("reserve")).unwrap().len(), 8 << 20, "the reserve is made again");
    for name in left {
        store.packs().verify(name, 1 << 20).unwrap();
    }
    for name in gone {
        assert!(matches!(store.packs().open(name, 1 << 20), Err(StoreError::Absent { .. })));
    }
}

#[test]
fn a_commit_that_does_not_fit_poisons_and_the_state_before_stands() {
    let Some(small) = Small::mount("12m") else { return };
    let home = small.place.home.join("home");
    let mut store =
        Store::create(Home::init(&home).unwrap(), &vault(), dice(1), limits(), |_| Ok::<_, StoreError>(()))
            .unwrap();
    store.recover().unwrap();
    fill(&store);
    let failed = (0..100_u8).find_map(|round| {
        store
            .write::<_, StoreError>(|txn| {
                settings::put(txn, Setting::engine(2), &[round]);
                objects::put(txn, &bytes(u64::from(round), 1 << 20));
                Ok(())
            })
            .err()
            .map(|error| (round, error))
    });
    let (round, error) = failed.unwrap();
    assert!(matches!(error, StoreError::Full), "{error:?}");
    assert!(store.is_poisoned());
    assert!(matches!(store.begin_write().err(), Some(StoreError::Poisoned)));
    assert!(matches!(store.packs().begin_batch(1).err(), Some(StoreError::Poisoned)));
    small.remount("size=40m");
    store.reopen().unwrap();
    check(&store).unwrap();
    let last = settings::get(&store.read().unwrap(), Setting::engine(2)).unwrap().unwrap();
    assert!(last == [round - 1] || last == [round]);
}

#[test]
fn a_read_only_file_system_is_named() {
    let Some(small) = Small::mount("16m") else { return };
    let home = small.place.home.join("home");
    let store =
        Store::create(Home::init(&home).unwrap(), &vault(), dice(1), limits(), |_| Ok::<_, StoreError>(()))
            .unwrap();
    drop(store);
    small.remount("ro");
    let mut store = Store::open(Home::open(&home).unwrap(), &vault(), dice(2), limits()).unwrap();
    store.recover().unwrap();
    assert!(store.read().is_ok() && store.is_read_only());
    assert!(matches!(store.begin_write().err(), Some(StoreError::ReadOnly)));
    assert!(matches!(store.packs().begin_batch(1).err(), Some(StoreError::ReadOnly)));
    assert!(matches!(store.reopen(), Err(StoreError::ReadOnly)));
    assert!(matches!(Home::open(&home), Err(StoreError::Locked { .. })));
    assert!(matches!(Home::init(&small.place.home.join("new")), Err(StoreError::ReadOnly)));
    small.remount("rw");
    store.reopen().unwrap();
    assert!(!store.is_read_only() && store.begin_write().is_ok());
}
