//! Tests of `the tree against its vectors`.

use std::collections::BTreeSet;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use serde_json::Value;

use super::super::row::{Child, Folder, Marks, Row, Touch, Undo};
use super::super::{children as index_of, nodes, row};
use super::*;
use crate::operation::{Keep, NodeKind};

fn node_id(text: &Value) -> NodeId {
    NodeId(hex::decode(text.as_str().unwrap()).unwrap().try_into().unwrap())
}

fn op(item: &Value) -> Op {
    let node = node_id(&item[1]);
    match item[0].as_u64().unwrap() {
        1 => place(node, node_id(&item[2]), item[3].as_str().unwrap(), item[4].as_u64().unwrap()),
        2 => {
            let bases = item[2].as_array().unwrap().iter().map(|vid| VersionId(node_id(vid).0)).collect();
            Op::Content(Content {
                node,
                bases,
                file: file(item[3].as_str().unwrap()),
                mtime_ms: item[4].as_i64().unwrap(),
                exec: item[5].as_bool().unwrap(),
            })
        }
        3 => trash(node),
        22 => Op::Keep(Keep {
            node,
            parent: node_id(&item[2]),
            name: item[3].as_str().unwrap().into(),
            vid: VersionId(node_id(&item[4]).0),
            file: file(item[5].as_str().unwrap()),
            mtime_ms: item[6].as_i64().unwrap(),
            exec: item[7].as_bool().unwrap(),
        }),
        other => panic!("op {other}"),
    }
}

fn index(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

/// Reads the entries of a case, each after those it rests on.
fn entries(case: &Value) -> Vec<TreeEntry> {
    let authors: Vec<VerifyingKey> = case["authors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| VerifyingKey(hex::decode(key.as_str().unwrap()).unwrap().try_into().unwrap()))
        .collect();
    let mut listed: Vec<&Value> = case["entries"].as_array().unwrap().iter().collect();
    listed.sort_by_key(|e| e["hlc"].as_u64());
    let mut done: BTreeMap<(usize, u64), Past> = BTreeMap::new();
    let mut entries = Vec::new();
    for listed in listed {
        let (by, seq) = (index(&listed["author"]), listed["seq"].as_u64().unwrap());
        let mut past = Past::default();
        let own = seq.checked_sub(1).map(|seq| (by, seq));
        let deps = listed["deps"].as_array().unwrap().iter();
        for dep in deps.map(|dep| (index(&dep[0]), dep[1].as_u64().unwrap())).chain(own) {
            past.join(&done[&dep]);
            past.learn(authors[dep.0], dep.1);
        }
        done.insert((by, seq), past.clone());
        let scope = case["scope"].get(by).filter(|scope| !scope.is_null()).map(node_id);
        let order = EntryOrder { hlc: listed["hlc"].as_u64().unwrap(), author: authors[by], seq };
        let ops = std::iter::zip(0.., listed["ops"].as_array().unwrap())
            .map(|(index, item)| TreeOp { index, op: op(item), verdict: Ok(()) })
            .collect();
        entries.push(TreeEntry { order, past, scope, ops });
    }
    entries
}

/// Shuffles, but keeps each entry after those in its past.
pub(super) fn shuffled(entries: &[TreeEntry], dice: &mut ChaCha8Rng) -> Vec<TreeEntry> {
    let mut waiting: Vec<TreeEntry> = entries.to_vec();
    let mut given: BTreeSet<(VerifyingKey, u64)> = BTreeSet::new();
    let here: BTreeSet<_> = entries.iter().map(|e| (e.order.author, e.order.seq)).collect();
    let mut order = Vec::new();
    while !waiting.is_empty() {
        let ready: Vec<usize> = (0..waiting.len())
            .filter(|at| {
                let past = &waiting[*at].past;
                here.iter().all(|(author, seq)| !past.knows(author, *seq) || given.contains(&(*author, *seq)))
            })
            .collect();
        let pick = ready[usize::try_from(dice.next_u64() % ready.len() as u64).unwrap()];
        let entry = waiting.remove(pick);
        given.insert((entry.order.author, entry.order.seq));
        order.push(entry);
    }
    order
}

fn check_expected(case: &Value, rows: &MemoryRows, entries: &[TreeEntry]) {
    let (name, expect) = (&case["id"], &case["expect"]);
    assert_eq!(hex::encode(state_hash(rows).unwrap()), expect["state_hash"].as_str().unwrap(), "{name}");

    let mut listing = BTreeMap::new();
    walk(rows, NodeId::ROOT, &mut |path, listed| {
        let slash = if listed.kind == NodeKind::Folder { "/" } else { "" };
        let versions = node(rows, listed.id).unwrap().unwrap().versions;
        assert_eq!(versions.len(), listed.versions);
        let hashes: Vec<_> = versions.iter().map(|v| v.file.content_hash().0).collect();
        listing.insert(format!("/{}{slash}", path.join("/")), hashes);
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    let expected: BTreeMap<String, Vec<[u8; 32]>> = expect["listing"]
        .as_array()
        .unwrap()
        .iter()
        .map(|shown| {
            let texts = shown["versions"].as_array().map_or(&[][..], Vec::as_slice);
            let hashes = texts.iter().map(|text| *blake3::hash(text.as_str().unwrap().as_bytes()).as_bytes());
            (shown["path"].as_str().unwrap().to_owned(), hashes.collect())
        })
        .collect();
    assert_eq!(listing, expected, "{name}");

    let mut trashed: Vec<String> =
        trash_list(rows, None, 1_000).unwrap().into_iter().map(|t| t.node.name).collect();
    let mut expected: Vec<&str> =
        expect["trash"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    trashed.sort();
    expected.sort_unstable();
    assert_eq!(trashed, expected, "{name}");

    let authors = case["authors"].as_array().unwrap();
    let no_effect: BTreeSet<String> = problems(rows)
        .unwrap()
        .into_iter()
        .map(|(op, why)| {
            let key = hex::encode(op.entry.author.0);
            let by = authors.iter().position(|a| a.as_str() == Some(&key)).unwrap();
            format!("[{by},{},{},\"{}\"]", op.entry.seq, op.index, why.code())
        })
        .collect();
    let expected: BTreeSet<String> =
        expect["no_effect"].as_array().unwrap().iter().map(Value::to_string).collect();
    assert_eq!(no_effect, expected, "{name}");
    let deferred = case["entries"].as_array().unwrap().len() - entries.len();
    assert_eq!(deferred, index(&expect["deferred"]), "{name}");
}

/// Every case of the vectors in several orders of arrival, one by one and at once.
#[test]
fn histories_of_the_vectors_give_the_expected_trees() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../../../docs/spec/vectors/tree.json")).unwrap();
    let cases = vectors["vectors"].as_array().unwrap();
    assert!(cases.len() >= 26, "{}", cases.len());
    let mut dice = ChaCha8Rng::seed_from_u64(7);
    for case in cases {
        // Entries that are more than 10 minutes ahead wait; whoever hands entries in sees to that.
        let latest = (case["now_ms"].as_u64().unwrap() + 600_000) << 16;
        let mut entries = entries(case);
        entries.retain(|entry| entry.order.hlc <= latest);
        for _ in 0..12 {
            let order = shuffled(&entries, &mut dice);
            check_expected(case, &deliver(&order), &entries);
            let mut rows = MemoryRows::new();
            apply_all(&mut rows, &Entries::default(), &order).unwrap();
            check_expected(case, &rows, &entries);
        }
    }
}

/// Names are shown as the vectors say whatever the order in which the twins come.
#[test]
fn twins_are_shown_as_in_the_vectors() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../../../docs/spec/vectors/names.json")).unwrap();
    let cases = vectors["display"].as_array().unwrap();
    assert!(cases.len() >= 5);
    let mut dice = ChaCha8Rng::seed_from_u64(8);
    for case in cases {
        let names = case["in_creation_order"].as_array().unwrap();
        let creates: Vec<TreeEntry> = std::iter::zip(1u8.., names)
            .map(|(n, name)| {
                entry(n.into(), n, 0, &[], vec![place(id(n), NodeId::ROOT, name.as_str().unwrap(), 0)])
            })
            .collect();
        for _ in 0..20 {
            let rows = deliver(&shuffled(&creates, &mut dice));
            let shown: Vec<String> = std::iter::zip(1u8.., names)
                .map(|(n, _)| node(&rows, id(n)).unwrap().unwrap().displayed)
                .collect();
            let expected: Vec<&str> =
                case["displayed"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
            assert_eq!(shown, expected);
        }
    }
}

/// Rows that were damaged are refused, and what is read is what would be written.
#[test]
fn mutated_rows_never_panic() {
    let base = entry(
        10,
        1,
        0,
        &[],
        vec![place(id(1), NodeId::ROOT, "a", 1), place(id(2), id(1), "x", 0), content(id(2), vec![], "1")],
    );
    let next = entry(20, 2, 0, &[(1, 0)], vec![content(id(2), vec![vid(&base, 2)], "2"), trash(id(1))]);
    let rows = deliver(&[base, next]);
    let row = rows.get(row::NODES, id(2).as_ref()).unwrap().unwrap();
    let undo = {
        let (op, undo) = nodes::undos_after(
            &rows,
            id(2),
            &OpOrder { entry: EntryOrder { hlc: 0, author: author(0), seq: 0 }, index: 0 },
        )
        .unwrap()
        .remove(0);
        assert_eq!(op.entry.hlc, 20);
        undo.encode()
    };
    let child = index_of::page(&rows, id(1), None, 9).unwrap().0.remove(0).encode();
    let folder = nodes::folder(&rows, id(1)).unwrap().encode();
    let marks = rows.get(row::MARKS, id(1).as_ref()).unwrap().unwrap();
    let counts = rows.get(row::COUNTS, &[]).unwrap().unwrap();
    let again = |kind: usize, bytes: &[u8]| -> Result<Vec<u8>, Refusal> {
        match kind {
            0 => Row::decode(bytes).map(|row| row.encode()),
            1 => Undo::decode(bytes).map(|undo| undo.encode()),
            2 => Child::decode(bytes).map(|child| child.encode()),
            3 => Folder::decode(bytes).map(|folder| folder.encode()),
            4 => Marks::decode(bytes).map(|marks| marks.encode()),
            5 => Counts::decode(bytes).map(|counts| counts.encode()),
            _ => Touch::decode_all(bytes).map(|touches| Touch::encode_all(&touches)),
        }
    };
    let touch = Touch { index: 3, node: id(4), meta: Some([5; 16]) };
    let touches = Touch::encode_all(&[touch, Touch { meta: None, ..touch }]);
    let samples = [row, undo, child, folder, marks, counts, touches];
    let mut dice = ChaCha8Rng::seed_from_u64(9);
    for (kind, sample) in samples.iter().enumerate() {
        assert_eq!(again(kind, sample).unwrap(), *sample);
        assert!(again(kind, &sample[..sample.len() - 1]).is_err());
        assert!(again(kind, &[&sample[..], &[0]].concat()).is_err());
        for _ in 0..20_000 {
            let mut bytes = sample.clone();
            for _ in 0..=dice.next_u64() % 3 {
                let at = usize::try_from(dice.next_u64() % bytes.len() as u64).unwrap();
                match dice.next_u64() % 4 {
                    0 => bytes[at] ^= 1 << (dice.next_u64() % 8),
                    1 => bytes[at] = dice.next_u64().to_le_bytes()[0],
                    2 if bytes.len() > 1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, dice.next_u64().to_le_bytes()[0]),
                }
            }
            if let Ok(written) = again(kind, &bytes) {
                assert_eq!(written, bytes);
            }
        }
    }
}
