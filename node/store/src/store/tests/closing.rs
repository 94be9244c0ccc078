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
