//! T53: limits for writers and for replay, and what a flood costs.

use std::cell::Cell;

use super::super::limits::{REPLAY, WRITER};
use super::super::model::Model;
use super::super::nodes;
use super::super::row::{COUNTS, FOLDERS};
use super::*;
use crate::rows::{Table, Visit};

/// Rows that count how often they are written.
#[derive(Default)]
struct CountedRows {
    rows: MemoryRows,
    reads: Cell<usize>,
    writes: usize,
}

impl ReadRows for CountedRows {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, RowError> {
        self.reads.set(self.reads.get() + 1);
        self.rows.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), RowError> {
        self.rows.scan(table, from, to, &mut |key, value| {
            self.reads.set(self.reads.get() + 1);
            visit(key, value)
        })
    }

    fn scan_back(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), RowError> {
        self.rows.scan_back(table, from, to, &mut |key, value| {
            self.reads.set(self.reads.get() + 1);
            visit(key, value)
        })
    }

    fn keyed(&self, bytes: &[u8]) -> [u8; 16] {
        self.rows.keyed(bytes)
    }
}

impl WriteRows for CountedRows {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), RowError> {
        self.writes += 1;
        self.rows.put(table, key, value)
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), RowError> {
        self.writes += 1;
        self.rows.delete(table, key)
    }
}

/// A node id for the n-th file of an author.
fn nth(by: u8, n: u32) -> NodeId {
    let mut node = [by; 16];
    node[4..8].copy_from_slice(&n.to_be_bytes());
    NodeId(node)
}

/// Entries of 250 creates each, all in one folder.
fn import(by: u8, folder: NodeId, files: u32, first_hlc: u64) -> Vec<TreeEntry> {
    (0..files / 250)
        .map(|at| {
            let ops = (at * 250..(at + 1) * 250)
                .map(|n| place(nth(by, n), folder, &format!("file {n}.jpg"), 0))
                .collect();
            entry(first_hlc + u64::from(at) * 10, by, at.into(), &[], ops)
        })
        .collect()
}

fn with_folder(children: u64) -> MemoryRows {
    let mut rows = deliver(&[entry(1, 9, 0, &[], vec![place(id(1), NodeId::ROOT, "a", 1)])]);
    let mut sums = nodes::folder(&rows, id(1)).unwrap();
    (sums.files, sums.peak) = (children, children);
    rows.put(FOLDERS, id(1).as_ref(), &sums.encode()).unwrap();
    rows
}

fn refused_by_writer(rows: &MemoryRows, entry: &TreeEntry) -> Vec<(u16, Refusal)> {
    let mut rows = rows.clone();
    apply_within(&mut rows, &Entries::default(), std::slice::from_ref(entry), &WRITER).unwrap();
    problems_of(&rows, &entry.order).unwrap()
}

fn refused_by_replay(rows: &MemoryRows, entry: &TreeEntry) -> Vec<(u16, Refusal)> {
    apply(&mut rows.clone(), &Entries::default(), entry).unwrap()
}

#[test]
fn t53_children_of_a_folder_are_limited() {
    let two = entry(9, 1, 0, &[], vec![place(id(2), id(1), "x", 0), place(id(3), id(1), "y", 0)]);
    let (most, over) = (WRITER.children, [(1, Refusal::Limit)]);
    assert_eq!(most, 250_000);
    assert_eq!(refused_by_writer(&with_folder(most - 2), &two), []);
    let rows = with_folder(most - 1);
    assert_eq!(refused_by_writer(&rows, &two), over, "child 250,001");
    assert_eq!(paths(&rows), ["a"], "a check writes nothing");
    assert_eq!(refused_by_replay(&rows, &two), []);
    assert_eq!(REPLAY.children, 4_000_000);
    assert_eq!(refused_by_replay(&with_folder(REPLAY.children - 1), &two), over);
    // What stays in its folder, or leaves it, needs no room.
    let full = with_folder(WRITER.children);
    let mut rows = full.clone();
    assert_eq!(
        apply(&mut rows, &Entries::default(), &entry(9, 1, 0, &[], vec![place(id(2), id(1), "x", 0)]))
            .unwrap(),
        []
    );
    let rename = entry(10, 1, 1, &[], vec![place(id(2), id(1), "z", 0), place(id(2), NodeId::ROOT, "z", 0)]);
    assert_eq!(refused_by_writer(&rows, &rename), []);
}

#[test]
fn t53_nodes_of_a_space_are_limited() {
    for (limits, refused) in [
        (WRITER, refused_by_writer as fn(&MemoryRows, &TreeEntry) -> Vec<(u16, Refusal)>),
        (REPLAY, refused_by_replay),
    ] {
        let mut rows = with_folder(0);
        let counts = Counts { nodes: limits.nodes - 1, ..counts(&rows).unwrap() };
        rows.put(COUNTS, &[], &counts.encode()).unwrap();
        let two = entry(9, 1, 0, &[], vec![place(id(2), id(1), "x", 0), place(id(3), id(1), "y", 0)]);
        assert_eq!(refused(&rows, &two), [(1, Refusal::Limit)]);
    }
    assert_eq!((WRITER.nodes, REPLAY.nodes), (5_000_000, 80_000_000));
}

#[test]
fn t53_depth_is_limited_for_what_moves_with_a_folder_too() {
    assert_eq!((WRITER.depth, REPLAY.depth), (256, 512));
    let folder = |n: u32| nth(1, n);
    let chain = (1..=511u32).map(|n| {
        let parent = if n == 1 { NodeId::ROOT } else { folder(n - 1) };
        place(folder(n), parent, "d", 1)
    });
    let rows = deliver(&[entry(5, 1, 0, &[], chain.collect())]);
    let create = |parent| entry(9, 1, 1, &[], vec![place(id(2), parent, "x", 1)]);
    assert_eq!(refused_by_writer(&rows, &create(folder(255))), []);
    assert_eq!(refused_by_writer(&rows, &create(folder(256))), [(0, Refusal::Limit)], "depth 257");
    assert_eq!(refused_by_replay(&rows, &create(folder(511))), []);
    let deep = entry(
        9,
        1,
        1,
        &[],
        vec![
            place(id(2), folder(511), "x", 1),
            place(id(3), id(2), "y", 0),
            place(id(4), NodeId::ROOT, "b", 1),
            place(folder(1), id(4), "d", 1),
            place(folder(2), NodeId::ROOT, "d", 1),
            place(folder(1), id(4), "d", 1),
            place(folder(2), folder(1), "d", 1),
        ],
    );
    let limit = Refusal::Limit;
    assert_eq!(refused_by_replay(&rows, &deep), [(1, limit), (3, limit), (6, limit)]);
}

#[test]
fn t53_versions_of_a_file_are_limited() {
    for (limits, refused) in [
        (WRITER, refused_by_writer as fn(&MemoryRows, &TreeEntry) -> Vec<(u16, Refusal)>),
        (REPLAY, refused_by_replay),
    ] {
        let mut ops = vec![place(id(2), NodeId::ROOT, "x", 0)];
        ops.extend((0..limits.versions - 1).map(|n| content(id(2), vec![], &format!("{n}"))));
        let first = entry(5, 1, 0, &[], ops);
        let rows = deliver(std::slice::from_ref(&first));
        let base = vid(&first, 1);
        let ops = vec![
            content(id(2), vec![], "last"),
            content(id(2), vec![], "one too many"),
            content(id(2), vec![base], "in place of another"),
        ];
        assert_eq!(refused(&rows, &entry(9, 1, 1, &[], ops)), [(1, Refusal::Limit)]);
    }
    assert_eq!((WRITER.versions, REPLAY.versions), (64, 1_024));
}

/// T53: two devices add many files to one folder, one hears of the other late: nothing is lost, nothing is replayed,
/// and a file costs the same at the end as at the beginning.
#[test]
fn t53_two_imports_into_one_folder_are_applied_in_place() {
    let base = entry(1, 9, 0, &[], vec![place(id(1), NodeId::ROOT, "a", 1)]);
    let (long, short) = (import(1, id(1), 8_000, 1_000), import(2, id(1), 3_000, 1_005));
    let mut rows = CountedRows::default();
    apply(&mut rows, &Entries::default(), &base).unwrap();
    let mut costs = Vec::new();
    for entry in long.iter().chain(&short) {
        let before = (rows.writes, rows.reads.get());
        assert_eq!(apply(&mut rows, &Entries::default(), entry).unwrap(), []);
        costs.push((rows.writes - before.0, rows.reads.get() - before.1));
    }
    let (first, last, most) = (costs[1], costs[30], costs.iter().max().unwrap());
    assert!(last.0 <= first.0 + 8 && last.1 <= first.1 + 8, "{first:?}, later {last:?}");
    assert!(first.0 <= 250 * 5, "{first:?}");
    assert!(most.0 <= 250 * 8 && most.1 <= 250 * 24, "{most:?}: a late import replays nothing");
    assert_eq!(counts(&rows.rows).unwrap().files, 11_000);
    let mut all: Vec<TreeEntry> = long;
    all.extend(short);
    all.push(base);
    let mut whole = MemoryRows::new();
    apply_all(&mut whole, &Entries::default(), &all).unwrap();
    assert_eq!(state_hash(&rows.rows).unwrap(), state_hash(&whole).unwrap());
    assert_eq!(paths(&rows.rows), paths(&whole));
}

/// T53: entries with an old clock in a large log. Each costs what its operations cost, whatever came since.
#[test]
fn t53_old_entries_cost_what_their_operations_cost() {
    let base = entry(
        1,
        9,
        0,
        &[],
        vec![
            place(id(1), NodeId::ROOT, "a", 1),
            place(id(2), NodeId::ROOT, "b", 1),
            place(id(3), NodeId::ROOT, "c", 1),
        ],
    );
    let log = import(1, id(1), 10_000, 10_000);
    let mut rows = CountedRows::default();
    let mut counted = Entries::default();
    for entry in std::iter::once(&base).chain(&log) {
        counted.0.insert(entry.order, entry.clone());
        apply(&mut rows, &counted, entry).unwrap();
    }
    for n in 0..500u32 {
        let node = nth(2, n);
        let mut ops = vec![
            place(node, id(2), &format!("{n}"), 0),
            content(node, vec![], "text"),
            set(node, "tag", "x"),
        ];
        match n % 5 {
            0 => ops.push(trash(node)),
            1 => ops.push(place(node, id(3), "moved", 0)),
            2 => ops.push(place(node, id(1), &format!("file {n}.jpg"), 0)),
            _ => {}
        }
        let old = entry(100 + u64::from(n), 2, n.into(), &[(9, 0)], ops);
        let before = rows.writes;
        counted.0.insert(old.order, old.clone());
        assert_eq!(apply(&mut rows, &counted, &old).unwrap(), []);
        // The 100 that are called moved are shown with numbers, which a new first one would shift.
        assert!(rows.writes - before <= 60, "{} writes for entry {n}", rows.writes - before);
    }
    let model = Model::replay(counted.0.values(), &REPLAY);
    assert_eq!(state_hash(&rows.rows).unwrap(), model.state_hash());
}
