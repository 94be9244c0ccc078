//! Goal: whatever a reader can meet in the tables is opened, and what is wrong is named. Method: stored blocks are changed
//! by redb itself, behind the back of the store.

use super::*;
use crate::Store;
use crate::test_kit::{Place, begin, bytes, put_pack};

fn flaws(store: &Store) -> (u64, Vec<String>) {
    let (mut read, mut found) = (0, Vec::new());
    store
        .read()
        .unwrap()
        .check_rows(&mut |block| {
            read += block.bytes;
            found.extend(block.flaw);
            ControlFlow::Continue(())
        })
        .unwrap();
    (read, found)
}

fn filled(place: &Place) -> Store {
    let store = begin(&place.home);
    put_pack(&store, 1, 30_000).unwrap();
    store
        .write::<_, StoreError>(|txn| {
            (0..60).for_each(|seed| {
                crate::objects::put(txn, &bytes(seed, 300));
            });
            Ok(())
        })
        .unwrap();
    store
}

/// Changes the blocks of a table.
fn meddle(
    store: &Store,
    table: &str,
    change: impl FnOnce(&mut redb::Table<'_, &'static [u8], &'static [u8]>),
) {
    let txn = store.database.begin_write().unwrap();
    change(&mut txn.open_table(definition(table)).unwrap());
    txn.commit().unwrap();
}

/// Keys and values of the blocks of a table.
fn blocks(store: &Store, table: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let txn = store.database.begin_read().unwrap();
    let table = txn.open_table(definition(table)).unwrap();
    let rows = table.range::<&[u8]>(..).unwrap().map(Result::unwrap);
    rows.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())).collect()
}

#[test]
fn all_blocks_of_a_sound_database_are_read() {
    let place = Place::quick();
    let store = filled(&place);
    let (read, found) = flaws(&store);
    assert_eq!(found, Vec::<String>::new());
    assert!(read > 60 * 300, "{read} bytes were read");
    let mut seen = 0;
    let visit = &mut |_| {
        seen += 1;
        ControlFlow::Break(())
    };
    store.read().unwrap().check_rows(visit).unwrap();
    assert_eq!(seen, 1);
}

#[test]
fn blocks_that_were_changed_moved_or_exchanged_are_named() {
    let place = Place::quick();
    let store = filled(&place);
    let good = blocks(&store, "objects");
    assert!(good.len() >= 4, "{} blocks", good.len());
    let damaged = "rows of the table objects are damaged";
    // A turned bit, an exchange, another key.
    let mut turned = good[1].1.clone();
    turned[30] ^= 1;
    meddle(&store, "objects", |table| drop(table.insert(good[1].0.as_slice(), turned.as_slice()).unwrap()));
    assert_eq!(flaws(&store).1, [damaged]);
    meddle(&store, "objects", |table| {
        table.insert(good[1].0.as_slice(), good[2].1.as_slice()).unwrap();
        table.insert(good[2].0.as_slice(), good[1].1.as_slice()).unwrap();
    });
    assert_eq!(flaws(&store).1, [damaged, damaged]);
    meddle(&store, "objects", |table| {
        table.insert(good[1].0.as_slice(), good[1].1.as_slice()).unwrap();
        table.insert(good[2].0.as_slice(), good[2].1.as_slice()).unwrap();
    });
    assert_eq!(flaws(&store).1, Vec::<String>::new());
    let mut moved = good[3].0.clone();
    moved[31] ^= 1;
    meddle(&store, "objects", |table| drop(table.insert(moved.as_slice(), good[3].1.as_slice()).unwrap()));
    assert_eq!(flaws(&store).1, [damaged]);
}

#[test]
fn rows_that_overlap_those_of_the_next_block_are_named() {
    let place = Place::quick();
    let store = filled(&place);
    let good = blocks(&store, "objects");
    // A block whose rows reach over the beginning of the next one, sealed as ours are.
    let key = store.keys.table_named("objects");
    let rows = [
        (good[0].0.clone(), crate::wiped::Wiped::new(vec![1])),
        (vec![0xff; 32], crate::wiped::Wiped::new(vec![2])),
    ];
    let sealed = key.seal(&[7; 24], &good[0].0, &crate::block::encode(&rows));
    meddle(&store, "objects", |table| drop(table.insert(good[0].0.as_slice(), sealed.as_slice()).unwrap()));
    assert!(flaws(&store).1.iter().any(|flaw| flaw == "rows of the table objects are not in their order"));
}
