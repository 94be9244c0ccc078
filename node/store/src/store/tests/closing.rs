//! What closing leaves behind.

use super::*;

/// Goal: pages that were replaced while much was written do not stay for ever. Method: many commits over random keys, as
/// an import makes them; then closing.
#[test]
fn a_database_that_has_grown_by_much_is_smaller_after_closing() {
    let place = Place::new();
    let store = begin(&place.home);
    fill(&store);
    for commit in 0..40_u64 {
        store
            .write::<_, StoreError>(|txn| {
                for n in 0..2_000_u64 {
                    let content = ContentHash(*blake3::hash(&(commit * 2_000 + n).to_le_bytes()).as_bytes());
                    files::put_file_ref(txn, &content, &[7; 100]);
                }
                Ok(())
            })
            .unwrap();
    }
    let before = store.database_bytes().unwrap();
    drop(store.close().unwrap());
    let store = reopen(&place.home).unwrap();
    let after = store.database_bytes().unwrap();
    assert!(after < before, "{before} bytes, {after} after closing");
    check(&store).unwrap();
}

/// Goal: giving back the memory of pages changes nothing that is stored, ends nothing that runs, and what follows is as
/// durable as before.
#[test]
fn pages_are_forgotten_only_when_nobody_reads() {
    let place = Place::new();
    let mut store = begin(&place.home);
    fill(&store);
    let snapshot = store.read().unwrap();
    assert!(matches!(store.forget_pages(), Err(StoreError::Busy)));
    assert_eq!(settings::get(&snapshot, Setting::engine(1)).unwrap().unwrap(), b"a setting");
    drop(snapshot);
    for round in 0..3 {
        store.forget_pages().unwrap();
        check(&store).unwrap();
        store
            .write::<_, StoreError>(|txn| {
                settings::put_number(txn, Setting::engine(2), round);
                Ok(())
            })
            .unwrap();
    }
    // Not closed in order: what was committed stands.
    drop(store);
    let store = reopen(&place.home).unwrap();
    check(&store).unwrap();
    assert_eq!(settings::number(&store.read().unwrap(), Setting::engine(2)).unwrap(), Some(2));
    // Where the file is gone nothing is made in its place.
    let mut store = store;
    fs::rename(place.home.join("locker.redb"), place.home.join("away")).unwrap();
    assert!(store.forget_pages().is_err() && store.is_poisoned());
    fs::rename(place.home.join("away"), place.home.join("locker.redb")).unwrap();
    store.reopen().unwrap();
    check(&store).unwrap();
}
