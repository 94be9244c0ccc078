//! Vectors, limits and attacks; `random` compares with the naive model, `folding` lets devices fold.

mod folding;
mod in_place;
mod limits;
mod random;
mod scale;
mod vectors;

use std::collections::BTreeMap;

use locker_crypto::Refusal;
use locker_crypto::encode::Writer;
use locker_crypto::file_ref::FileRef;
use locker_crypto::id::{NodeId, VerifyingKey, VersionId};

use super::*;
use crate::operation::{Content, Meta, Move, Trash, version_id};
use crate::order::OpOrder;
use crate::rows::MemoryRows;

/// The entries that count.
#[derive(Clone, Default)]
struct Entries(BTreeMap<EntryOrder, TreeEntry>);

impl Counted for Entries {
    fn tree_entry(&self, _: &dyn ReadRows, order: &EntryOrder) -> Result<Option<TreeEntry>, RowError> {
        Ok(self.0.get(order).cloned())
    }
}

fn id(n: u8) -> NodeId {
    NodeId([n; 16])
}

fn author(n: u8) -> VerifyingKey {
    VerifyingKey([n; 32])
}

/// The FileRef of a short text: one chunk with the hash of the text as its key.
fn file(text: &str) -> FileRef {
    let hash = *blake3::hash(text.as_bytes()).as_bytes();
    let len = u32::try_from(text.len()).unwrap();
    let mut w = Writer::new();
    w.array(5).u64(1).u64(len.into()).bytes(&hash).u64(0).bytes(&[&hash[..], &len.to_le_bytes()].concat());
    FileRef::decode(&w.finish()).unwrap()
}

fn place(node: NodeId, parent: NodeId, name: &str, kind: u64) -> Op {
    Op::Move(Move { node, parent, name: name.to_owned(), kind })
}

fn content(node: NodeId, mut bases: Vec<VersionId>, text: &str) -> Op {
    bases.sort();
    bases.dedup();
    Op::Content(Content { node, bases, file: file(text), mtime_ms: 1_800_000_000_000, exec: false })
}

fn trash(node: NodeId) -> Op {
    Op::Trash(Trash { node })
}

fn set(node: NodeId, key: &str, value: &str) -> Op {
    Op::Meta(Meta { node, key: key.to_owned(), value: value.as_bytes().to_vec() })
}

/// An entry whose operations are all allowed, by an author who knows its own entries and `others`.
fn entry(hlc: u64, by: u8, seq: u64, others: &[(u8, u64)], ops: Vec<Op>) -> TreeEntry {
    let mut past = Past::default();
    if let Some(last) = seq.checked_sub(1) {
        past.learn(author(by), last);
    }
    others.iter().for_each(|(other, seq)| past.learn(author(*other), *seq));
    let ops = std::iter::zip(0.., ops).map(|(index, op)| TreeOp { index, op, verdict: Ok(()) }).collect();
    TreeEntry { order: EntryOrder { hlc, author: author(by), seq }, past, scope: None, ops }
}

fn vid(entry: &TreeEntry, index: u16) -> VersionId {
    version_id(&OpOrder { entry: entry.order, index })
}

/// Hands the entries in one by one.
fn deliver(entries: &[TreeEntry]) -> MemoryRows {
    let (mut rows, mut counted) = (MemoryRows::new(), Entries::default());
    for entry in entries {
        counted.0.insert(entry.order, entry.clone());
        apply(&mut rows, &counted, entry).unwrap();
    }
    rows
}

fn paths(rows: &MemoryRows) -> Vec<String> {
    let mut found = Vec::new();
    walk(rows, NodeId::ROOT, &mut |path, _| {
        found.push(path.join("/"));
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    found.sort();
    found
}

/// T16: what could be a path, a drive or a device to some system is no name, whoever signed it: nothing is there
/// under it, what was there keeps its name, and both are told.
#[test]
fn t16_operations_with_a_refused_name_have_no_effect() {
    for name in ["..", ".", "", "a/b", "a\\b", "C:x", "\0", "CON", "x."] {
        let good = entry(1, 1, 0, &[], vec![place(id(2), NodeId::ROOT, "good", 0)]);
        let made = entry(2, 1, 1, &[], vec![place(id(1), NodeId::ROOT, name, 0)]);
        let renamed = entry(3, 1, 2, &[], vec![place(id(2), NodeId::ROOT, name, 0)]);
        let rows = deliver(&[good, made.clone(), renamed.clone()]);
        assert_eq!(paths(&rows), ["good"], "{name:?}");
        for refused in [made, renamed] {
            assert_eq!(problems_of(&rows, &refused.order).unwrap(), [(0, Refusal::Name)], "{name:?}");
        }
    }
}

/// T52: an edit, a create and a move inside beat a concurrent delete, in whichever order the two arrive.
#[test]
fn t52_what_the_trasher_did_not_know_lives() {
    let base = entry(
        10,
        1,
        0,
        &[],
        vec![
            place(id(1), NodeId::ROOT, "a", 1),
            place(id(2), id(1), "x", 0),
            content(id(2), vec![], "x1"),
            place(id(3), id(1), "known", 0),
        ],
    );
    for hlc in [20, 40] {
        let other = entry(
            30,
            2,
            0,
            &[(1, 0)],
            vec![
                content(id(2), vec![vid(&base, 2)], "x2"),
                place(id(4), id(1), "new", 0),
                content(id(4), vec![], "n"),
            ],
        );
        let gone = entry(hlc, 3, 0, &[(1, 0)], vec![trash(id(1))]);
        let one = deliver(&[base.clone(), other.clone(), gone.clone()]);
        let two = deliver(&[base.clone(), gone, other.clone()]);
        assert_eq!(state_hash(&one).unwrap(), state_hash(&two).unwrap());
        assert_eq!(paths(&one), ["new", "x"]);
        let trashed = trash_list(&one, None, 10).unwrap();
        assert_eq!(trashed.iter().map(|t| t.node.name.as_str()).collect::<Vec<_>>(), ["a"]);
        let old = version(&one, id(2), vid(&base, 2)).unwrap().unwrap();
        assert_eq!(old.file.content_hash().0, *blake3::hash(b"x1").as_bytes());
        assert_eq!(counts(&one).unwrap(), Counts { nodes: 4, files: 2, folders: 0, bytes: 3 });
    }
}

/// T52: of two concurrent edits both are there until a third names them.
#[test]
fn t52_two_edits_are_both_retrievable() {
    let base = entry(10, 1, 0, &[], vec![place(id(2), NodeId::ROOT, "x", 0), content(id(2), vec![], "x1")]);
    let left = entry(20, 1, 1, &[], vec![content(id(2), vec![vid(&base, 1)], "left")]);
    let right = entry(20, 2, 0, &[(1, 0)], vec![content(id(2), vec![vid(&base, 1)], "right")]);
    let rows = deliver(&[base.clone(), right.clone(), left.clone()]);
    let node = node(&rows, id(2)).unwrap().unwrap();
    let live: Vec<VersionId> = node.versions.iter().map(|v| v.vid).collect();
    assert_eq!(live, [vid(&right, 0), vid(&left, 0)]);
    assert!(version(&rows, id(2), vid(&base, 1)).unwrap().is_some());
    let events = history(&rows, id(2)).unwrap();
    let replaced: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.what {
            Happened::Written { replaced, .. } => Some(replaced.len()),
            _ => None,
        })
        .collect();
    assert_eq!(replaced, [0, 1, 0], "the earlier one in total order replaced the base");
}

#[test]
fn history_tells_what_happened() {
    let first = entry(
        10,
        1,
        0,
        &[],
        vec![place(id(1), NodeId::ROOT, "a", 1), place(id(2), id(1), "x", 0), content(id(2), vec![], "1")],
    );
    let second = entry(20, 1, 1, &[], vec![place(id(2), NodeId::ROOT, "y", 0), trash(id(2))]);
    let third = entry(30, 1, 2, &[], vec![place(id(2), id(1), "z", 0)]);
    let rows = deliver(&[first.clone(), second.clone(), third]);
    let told: Vec<Happened> = history(&rows, id(2)).unwrap().into_iter().map(|event| event.what).collect();
    let root = NodeId::ROOT;
    assert_eq!(
        told,
        [
            Happened::Restored { to: (id(1), "z".into()) },
            Happened::Trashed { from: root },
            Happened::Moved { from: (id(1), "x".into()), to: (root, "y".into()) },
            Happened::Written { vid: vid(&first, 2), replaced: vec![] },
            Happened::Created { parent: id(1), name: "x".into() },
        ]
    );
    assert_eq!(node_at(&rows, id(2), 9).unwrap(), None);
    assert_eq!(node_at(&rows, id(2), 10).unwrap().unwrap().name, "x");
    assert_eq!(node_at(&rows, id(2), 29).unwrap().unwrap().trashed.unwrap().0, root);
    assert_eq!(path_of(&rows, id(2)).unwrap().unwrap(), ["a", "z"]);
    assert_eq!(lookup(&rows, &["a", "z"]).unwrap(), Some(id(2)));
    assert_eq!(lookup(&rows, &["a", "Z"]).unwrap(), None);
}

/// A file that is moved late takes its later content along: a trash of its new folder between the two is replayed, so
/// that the past is told right, too.
#[test]
fn a_late_move_carries_later_content_below_its_new_folder() {
    let base = entry(
        1,
        1,
        0,
        &[],
        vec![
            place(id(1), NodeId::ROOT, "a", 1),
            place(id(2), NodeId::ROOT, "b", 1),
            place(id(6), id(1), "x", 0),
            content(id(6), vec![], "x1"),
        ],
    );
    let written = entry(30, 2, 0, &[(1, 0)], vec![content(id(6), vec![vid(&base, 3)], "x2")]);
    let moved = entry(10, 1, 1, &[], vec![place(id(6), id(2), "x", 0)]);
    let gone = entry(20, 1, 2, &[], vec![trash(id(2))]);
    let rows = deliver(&[base, written, moved, gone]);
    assert_eq!(node_at(&rows, id(6), 25).unwrap().unwrap().parent, id(2));
    assert_eq!(node_at(&rows, id(6), 30).unwrap().unwrap().parent, NodeId::ROOT);
}

#[test]
fn meta_items_take_the_last_value_in_total_order() {
    let first = entry(10, 1, 0, &[], vec![place(id(1), NodeId::ROOT, "a", 1), set(id(1), "tag", "one")]);
    let second = entry(30, 1, 1, &[], vec![set(id(1), "tag", "three"), set(NodeId::ROOT, "label", "home")]);
    let late = entry(20, 2, 0, &[(1, 0)], vec![set(id(1), "tag", "two"), set(id(9), "tag", "none")]);
    let rows = deliver(&[first, second, late.clone()]);
    assert_eq!(meta(&rows, id(1), "tag").unwrap().unwrap(), b"three");
    assert_eq!(meta(&rows, NodeId::ROOT, "label").unwrap().unwrap(), b"home");
    assert_eq!(problems_of(&rows, &late.order).unwrap(), [(1, Refusal::Node)]);
    let clear = entry(40, 1, 2, &[], vec![set(id(1), "tag", "")]);
    let mut rows = rows;
    apply(&mut rows, &Entries::default(), &clear).unwrap();
    assert_eq!(meta(&rows, id(1), "tag").unwrap(), None);
    assert!(metas(&rows, id(1)).unwrap().is_empty());
}
