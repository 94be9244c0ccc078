//! Tests of `rows`.

use std::ops::ControlFlow;

use locker_catalog::rows::MemoryRows;
use proptest::prelude::*;

use super::*;
use crate::test_kit::{Place, begin};
use crate::{StoreError, WriteTxn};

const TABLES: [Table; 2] = [Table("nodes"), Table("children")];
const SPACES: [SpaceTag; 3] = [SpaceTag([0; 16]), SpaceTag([0xff; 16]), SpaceTag([7; 16])];

#[derive(Clone, Debug)]
enum Step {
    Put(usize, usize, Vec<u8>, Vec<u8>),
    Delete(usize, usize, Vec<u8>),
    Commit,
    GiveUp,
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    // Few and short, so that they meet; with the bytes that make range ends hard.
    prop::collection::vec(prop::sample::select(vec![0_u8, 1, 0xfe, 0xff]), 0..3)
}

/// Long enough that blocks are cut and joined.
fn value() -> impl Strategy<Value = Vec<u8>> {
    (any::<u8>(), prop_oneof![0..4_usize, 0..2_500_usize]).prop_map(|(byte, len)| vec![byte; len])
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..3_usize, 0..2_usize, key(), value())
            .prop_map(|(space, table, key, value)| Step::Put(space, table, key, value)),
        3 => (0..3_usize, 0..2_usize, key()).prop_map(|(space, table, key)| Step::Delete(space, table, key)),
        2 => Just(Step::Commit),
        1 => Just(Step::GiveUp),
    ]
}

fn listing(
    rows: &impl ReadRows,
    table: Table,
    (from, to): (&[u8], Option<&[u8]>),
    limit: usize,
) -> [Vec<(Vec<u8>, Vec<u8>)>; 2] {
    let mut out = [Vec::new(), Vec::new()];
    for (back, found) in out.iter_mut().enumerate() {
        let visit = &mut |key: &[u8], value: &[u8]| {
            found.push((key.to_vec(), value.to_vec()));
            if found.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        if back == 1 { rows.scan_back(table, from, to, visit) } else { rows.scan(table, from, to, visit) }
            .unwrap();
    }
    out
}

fn agree(model: &MemoryRows, real: &impl ReadRows, ranges: &[(Vec<u8>, Option<Vec<u8>>)]) {
    for table in TABLES {
        for (from, to) in ranges {
            for limit in [usize::MAX, 1, 2] {
                let range = (from.as_slice(), to.as_deref());
                assert_eq!(listing(real, table, range, limit), listing(model, table, range, limit));
            }
            assert_eq!(real.get(table, from).unwrap(), model.get(table, from).unwrap());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// A transaction on top of a database behaves like rows in memory, and so does what it commits.
    #[test]
    fn rows_on_disk_agree_with_rows_in_memory(
        steps in prop::collection::vec(step(), 1..120),
        mut ranges in prop::collection::vec((key(), prop::option::of(key())), 3),
    ) {
        ranges.push((Vec::new(), None));
        let place = Place::quick();
        let store = begin(&place.home);
        let mut committed: [MemoryRows; 3] = Default::default();
        let mut model = committed.clone();
        let mut txn: Option<WriteTxn<'_>> = None;
        for step in steps {
            let mut open = match txn.take() {
                Some(open) => open,
                None => store.begin_write().unwrap(),
            };
            match step {
                Step::Put(space, table, key, value) => {
                    open.rows_mut(SPACES[space]).put(TABLES[table], &key, &value).unwrap();
                    model[space].put(TABLES[table], &key, &value).unwrap();
                    txn = Some(open);
                }
                Step::Delete(space, table, key) => {
                    open.rows_mut(SPACES[space]).delete(TABLES[table], &key).unwrap();
                    model[space].delete(TABLES[table], &key).unwrap();
                    txn = Some(open);
                }
                Step::Commit => {
                    for (space, model) in SPACES.iter().zip(&model) {
                        agree(model, &open.rows(*space), &ranges);
                    }
                    open.commit().unwrap();
                    committed = model.clone();
                }
                Step::GiveUp => model = committed.clone(),
            }
        }
        drop(txn);
        let read = store.read().unwrap();
        for (space, model) in SPACES.iter().zip(&committed) {
            agree(model, &read.rows(*space), &ranges);
        }
    }
}

#[test]
fn keyed_hashes_differ_by_space_and_do_not_change() {
    let place = Place::new();
    let store = begin(&place.home);
    let read = store.read().unwrap();
    let (a, b) = (read.rows(SPACES[0]).keyed(b"name"), read.rows(SPACES[1]).keyed(b"name"));
    assert_ne!(a, b);
    assert_ne!(a, read.rows(SPACES[0]).keyed(b"Name"));
    store
        .write::<_, StoreError>(|txn| {
            assert_eq!(txn.rows_mut(SPACES[0]).keyed(b"name"), a);
            Ok(())
        })
        .unwrap();
}
