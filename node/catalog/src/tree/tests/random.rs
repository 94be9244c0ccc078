//! Random histories against the naive model. `LOCKER_HISTORIES` sets how many, `LOCKER_SEED` the first seed; a
//! failure names the seed that repeats it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::super::apply::{Outcome, apply_entry};
use super::super::late;
use super::super::limits::{Limits, REPLAY};
use super::super::model::{Model, ModelNode};
use super::vectors::shuffled;
use super::*;
use crate::name::collision_key;
use crate::name::tests::naive_display;
use crate::operation::Keep;

/// Limits so narrow that histories run into them.
const NARROW: Limits = Limits { nodes: 13, children: 4, depth: 4, versions: 2 };

const NAMES: [&str; 12] =
    ["n", "N", "n (2)", "N (3)", "a.txt", "A.TXT", "a (2).txt", ".rc", "straße", "STRASSE", "CON", "x"];

pub(super) struct Dice(pub(super) ChaCha8Rng);

impl Dice {
    pub(super) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.0.next_u64() % n as u64).unwrap()
    }

    pub(super) fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    pub(super) fn of<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

/// Ids 1 to 5 are folders, the others files; now and then somebody takes one for another.
fn kind_of(n: u8, dice: &mut Dice) -> u64 {
    if dice.percent(3) { dice.below(4) as u64 } else { u64::from(n <= 5) + u64::from(n == 14) * 2 }
}

fn parent(dice: &mut Dice) -> NodeId {
    match dice.below(20) {
        0 => NodeId::TRASH,
        1..=6 => NodeId::ROOT,
        7 => id(6),
        _ => id(1 + dice.below(5) as u8),
    }
}

fn random_op(dice: &mut Dice, known: &[(NodeId, VersionId)]) -> Op {
    let n = 1 + dice.below(14) as u8;
    match dice.below(22) {
        20.. => {
            let file = file(&format!("text {}", dice.below(1_000_000)));
            let (parent, name) = (parent(dice), dice.of(&NAMES).to_owned());
            // Of a version that is there too: ids can be foretold.
            let vid = if known.is_empty() || dice.percent(70) {
                VersionId([dice.below(256) as u8; 16])
            } else {
                dice.of(known).1
            };
            Op::Keep(Keep { node: id(n), parent, name, vid, file, mtime_ms: 7, exec: false })
        }
        0..=8 => place(id(n), parent(dice), dice.of(&NAMES), kind_of(n, dice)),
        9..=13 => {
            // Half of them go to one file, so that it has a story.
            let n = if dice.percent(50) { 6 } else { 6 + dice.below(8) as u8 };
            let mine: Vec<VersionId> =
                known.iter().filter(|(node, _)| *node == id(n)).map(|(_, vid)| *vid).collect();
            let mut bases: Vec<VersionId> = mine.iter().rev().take(dice.below(4)).copied().collect();
            if dice.percent(10) && !known.is_empty() {
                bases.push(dice.of(known).1);
            }
            content(id(n), bases, &format!("text {}", dice.below(1_000_000)))
        }
        14..=17 => trash(if dice.percent(2) { NodeId::ROOT } else { id(n) }),
        _ => {
            let node = if dice.percent(20) { NodeId::ROOT } else { id(n) };
            set(node, dice.of(&["tag", "note"]), dice.of(&["", "1", "2", "3"]))
        }
    }
}

/// Makes the entries of some authors who hear of one another now and then.
fn random_history(dice: &mut Dice) -> Vec<TreeEntry> {
    let authors = 2 + dice.below(4);
    let scopes: Vec<Option<NodeId>> = (0..authors)
        .map(|by| {
            (by > 0 && dice.percent(20))
                .then(|| if dice.percent(10) { NodeId::ROOT } else { id(1 + dice.below(3) as u8) })
        })
        .collect();
    let (share, talk) = (10 + dice.below(50), 20 + dice.below(60));
    let mut heard: Vec<Past> = vec![Past::default(); authors];
    let mut clock: Vec<u64> = (0..authors).map(|_| dice.below(60) as u64).collect();
    let mut entries: Vec<TreeEntry> = Vec::new();
    let mut written: Vec<(EntryOrder, NodeId, VersionId)> = Vec::new();
    for _ in 0..(30 + dice.below(31)) {
        let by = dice.below(authors);
        if dice.percent(talk) {
            let other = dice.below(authors);
            let (past, time) = (heard[other].clone(), clock[other]);
            // Everything the other one knows; or, by another way, only its beginning.
            if other != by && !past.0.is_empty() && dice.percent(share + 30) {
                heard[by].join(&past);
                clock[by] = clock[by].max(time);
            }
        }
        let step = if dice.percent(10) { 200 } else { 12 };
        clock[by] += 1 + dice.below(step) as u64;
        let key = author(by as u8 + 1);
        let seq = heard[by].0.get(&key).copied().unwrap_or(0);
        let order = EntryOrder { hlc: clock[by], author: key, seq };
        let past = heard[by].clone();
        let known: Vec<(NodeId, VersionId)> = written
            .iter()
            .filter(|(order, ..)| past.knows(&order.author, order.seq))
            .map(|(_, node, vid)| (*node, *vid))
            .collect();
        let count = if entries.is_empty() { 8 } else { 1 + dice.below(3) };
        let mut ops = Vec::new();
        for index in 0..count as u16 {
            let op = if entries.is_empty() {
                let n = dice.of(&[1, 2, 3, 4, 5, 6, 7, 8]);
                place(
                    id(n),
                    if dice.percent(50) { NodeId::ROOT } else { parent(dice) },
                    dice.of(&NAMES),
                    u64::from(n <= 5),
                )
            } else {
                random_op(dice, &known)
            };
            if let Op::Content(content) = &op {
                written.push((order, content.node, version_id(&OpOrder { entry: order, index })));
            }
            let verdict = if dice.percent(3) { Err(Refusal::Rights) } else { Ok(()) };
            ops.push(TreeOp { index, op, verdict });
        }
        heard[by].learn(key, seq);
        entries.push(TreeEntry { order, past, scope: scopes[by], ops });
    }
    foresee(&mut entries, &written, dice);
    entries
}

/// Lets some contents name a version of their file as base that their author cannot know, written before or after:
/// ids of versions can be foretold.
fn foresee(entries: &mut [TreeEntry], written: &[(EntryOrder, NodeId, VersionId)], dice: &mut Dice) {
    let contents = entries.iter_mut().flat_map(|entry| &mut entry.ops).filter_map(|op| match &mut op.op {
        Op::Content(content) => Some(content),
        _ => None,
    });
    for content in contents {
        let others: Vec<VersionId> =
            written.iter().filter(|(_, node, _)| *node == content.node).map(|(.., vid)| *vid).collect();
        if dice.percent(15) {
            content.bases.push(dice.of(&others));
            content.bases.sort();
            content.bases.dedup();
        }
    }
}

fn children_in_order(model: &Model, folder: NodeId) -> Vec<(NodeId, &ModelNode)> {
    let mut children: Vec<_> =
        model.nodes.iter().filter(|(_, n)| n.parent == folder).map(|(node, n)| (*node, n)).collect();
    children.sort_by_key(|(_, n)| n.created);
    children
}

/// Compares everything that can be seen with what the model says.
fn check_views(rows: &MemoryRows, entries: &Entries, model: &Model, limits: &Limits, dice: &mut Dice) {
    let mut seen = Counts { nodes: model.nodes.len() as u64, ..Counts::default() };
    for folder in std::iter::once(NodeId::ROOT).chain(model.nodes.keys().copied()) {
        let expected = children_in_order(model, folder);
        let names: Vec<String> = expected.iter().map(|(_, n)| n.name.clone()).collect();
        let shown: BTreeMap<NodeId, String> =
            std::iter::zip(expected.iter().map(|(node, _)| *node), naive_display(&names)).collect();
        let mut listed = BTreeMap::new();
        children(rows, folder, &mut |child| {
            listed.insert(child.id, child.displayed);
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(listed, shown, "children of {folder:?}");
        let mut parts = BTreeMap::new();
        for part in 0..CHILDREN_PARTS {
            children_part(rows, folder, part, &mut |child| {
                assert_eq!(parts.insert(child.id, child.displayed), None);
                ControlFlow::Continue(())
            })
            .unwrap();
        }
        assert_eq!(parts, shown, "children of {folder:?} by parts");
        assert_eq!(count_children(rows, folder).unwrap(), shown.len() as u64);
        for name in &names {
            let same = expected.iter().filter(|(_, n)| n.name == *name).map(|(node, _)| *node);
            let found = named(rows, folder, name).unwrap();
            assert!(found.iter().map(|child| child.id).eq(same), "{name} in {folder:?}");
        }
        for name in NAMES {
            let key = collision_key(name);
            let same = shown.iter().find(|(_, shown)| collision_key(shown) == key).map(|(node, _)| *node);
            let found = alike(rows, folder, name).unwrap();
            assert_eq!(found.map(|found| found.id), same, "{name} in {folder:?}");
        }
        for (node, name) in &shown {
            assert_eq!(child(rows, folder, name).unwrap().map(|found| found.id), Some(*node));
            if model.top(*node).is_none() {
                let path = path_of(rows, *node).unwrap().unwrap();
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                assert_eq!(lookup(rows, &path).unwrap(), Some(*node));
            }
        }
    }
    for (id, n) in model.nodes.iter().filter(|(id, _)| model.top(**id).is_none()) {
        let newest = n.versions.values().max_by_key(|(.., op)| *op);
        seen.files += u64::from(n.kind == 0);
        seen.folders += u64::from(n.kind != 0);
        seen.bytes += newest.map_or(0, |(file, ..)| FileRef::decode(file).unwrap().size());
        assert_eq!(node(rows, *id).unwrap().unwrap().versions.first().map(|v| v.op), newest.map(|v| v.3));
    }
    assert_eq!(counts(rows).unwrap(), seen);
    let live = Counts { nodes: seen.files + seen.folders, ..seen };
    assert_eq!(counts_of(rows, NodeId::ROOT).unwrap(), live);
    let trashed: Vec<(NodeId, NodeId)> =
        trash_list(rows, None, 1_000).unwrap().into_iter().map(|t| (t.node.id, t.from)).collect();
    let mut expected: Vec<_> =
        model.nodes.iter().filter_map(|(id, n)| n.by.map(|by| (by, *id, n.from))).collect();
    expected.sort();
    assert_eq!(trashed, expected.into_iter().rev().map(|(_, id, from)| (id, from)).collect::<Vec<_>>());
    for ((node, key), value) in &model.meta {
        assert_eq!(meta(rows, *node, key).unwrap().unwrap_or_default(), *value);
    }
    check_past(rows, entries, model, limits, dice);
    check_contents(rows, entries, model, limits, dice);
}

/// Which contents count, which do not, and which have ceased to lately.
fn check_contents(rows: &MemoryRows, entries: &Entries, model: &Model, limits: &Limits, dice: &mut Dice) {
    type Vids = BTreeSet<[u8; 16]>;
    let live_in = |model: &Model| -> Vids {
        let live = model.nodes.iter().filter(|(id, _)| model.top(**id).is_none());
        live.flat_map(|(_, node)| node.versions.keys().copied()).collect()
    };
    let live = live_in(model);
    let had: Vids = model.nodes.values().flat_map(|node| node.versions.keys()).copied().collect();
    let had: Vids = had.union(&model.replaced).chain(&model.kept).copied().collect();
    let (mut seen_live, mut seen_past, mut once) = (Vids::new(), Vids::new(), Vids::new());
    walk_versions(rows, &mut |_, version, standing| {
        let seen = if standing == Standing::Live { &mut seen_live } else { &mut seen_past };
        seen.insert(version.vid.0);
        // What is kept may have the id of another one.
        let op = &entries.0[&version.op.entry].ops[usize::from(version.op.index)].op;
        assert!(matches!(op, Op::Keep(_)) || once.insert(version.vid.0), "{version:?} twice");
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(seen_live, live);
    // What is kept may have the id of one that is live.
    let trashed = model.nodes.iter().filter(|(id, _)| model.top(**id).is_some());
    let past: Vids = trashed.flat_map(|(_, node)| node.versions.keys().copied()).collect();
    assert_eq!(seen_past, past.union(&model.replaced).chain(&model.kept).copied().collect());
    let mut walked = Vids::new();
    walk_live(rows, &mut |_, version, _| {
        walked.insert(version.vid.0);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(walked, live);
    let last = entries.0.keys().last().map_or(0, |order| order.hlc);
    let hlc = dice.below(usize::try_from(last).unwrap() + 2) as u64;
    let then = Model::replay(entries.0.values().filter(|e| e.order.hlc <= hlc), limits);
    let mut recent = Vids::new();
    walk_recently_past(rows, (hlc + 1, u64::MAX), &mut |_, version, _| {
        recent.insert(version.vid.0);
        ControlFlow::Continue(())
    })
    .unwrap();
    for vid in live_in(&then).difference(&live) {
        assert!(recent.contains(vid), "a version that counted at {hlc} and does not count now");
    }
    assert!(recent.is_subset(&had));
}

/// The past: any earlier time, every version that ever was, and the story of each node.
fn check_past(rows: &MemoryRows, entries: &Entries, model: &Model, limits: &Limits, dice: &mut Dice) {
    let last = entries.0.keys().last().map_or(0, |order| order.hlc);
    for _ in 0..3 {
        let hlc = dice.below(usize::try_from(last).unwrap() + 2) as u64;
        let then = Model::replay(entries.0.values().filter(|e| e.order.hlc <= hlc), limits);
        let mut there = BTreeSet::new();
        walk_at(rows, hlc, &mut |node| {
            let n = &then.nodes[&node.id];
            assert_eq!((node.parent, &node.name, node.moved), (n.parent, &n.name, n.moved));
            assert_eq!(node.trashed, n.by.map(|by| (n.from, by)));
            let mut vids: Vec<[u8; 16]> = node.versions.iter().map(|v| v.vid.0).collect();
            vids.sort_unstable();
            assert_eq!(vids, n.versions.keys().copied().collect::<Vec<_>>());
            there.insert(node.id);
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(there, then.nodes.keys().copied().collect());
    }
    let refused: BTreeSet<OpOrder> = model.no_effect.iter().map(|(op, _)| *op).collect();
    for entry in entries.0.values() {
        for op in &entry.ops {
            let at = OpOrder { entry: entry.order, index: op.index };
            if refused.contains(&at) {
                continue;
            }
            let (node, vid, file) = match &op.op {
                Op::Content(op) => (op.node, version_id(&at), Some(&op.file)),
                // Another one may have the id.
                Op::Keep(op) => (op.node, op.vid, None),
                _ => continue,
            };
            // Nothing is lost: what took effect is live or was named as a base, and can be had in both cases.
            let is_live = model.nodes[&node].versions.contains_key(&vid.0);
            assert!(is_live || model.replaced.contains(&vid.0) || model.kept.contains(&vid.0));
            let found = version(rows, node, vid).unwrap().unwrap();
            assert!(file.is_none_or(|file| found.file == *file && found.op == at));
            let told = history(rows, node).unwrap();
            let of_it = |event: &&Event| match &event.what {
                Happened::Written { vid: told, .. } => *told == vid,
                Happened::Kept { version } => version.vid == vid,
                _ => false,
            };
            assert!(told.iter().any(|event| of_it(&event) && event.op == at));
        }
    }
}

fn check_state(rows: &MemoryRows, model: &Model) {
    assert_eq!(state_hash(rows).unwrap(), model.state_hash());
    assert_eq!(problems(rows).unwrap(), model.no_effect);
}

/// How many entries were applied late, and how many of those by rewinding.
#[derive(Default)]
struct Tally {
    late: usize,
    rewound: usize,
    refused: BTreeMap<&'static str, usize>,
}

fn run(seed: u64, tally: &mut Tally) {
    let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed));
    let limits = if dice.percent(40) { NARROW } else { REPLAY };
    let history = random_history(&mut dice);
    let whole = Model::replay(&history, &limits);
    for (_, why) in &whole.no_effect {
        *tally.refused.entry(why.code()).or_default() += 1;
    }
    let order = shuffled(&history, &mut dice.0);
    let (mut rows, mut entries) = (MemoryRows::new(), Entries::default());
    let mut at = 0;
    while at < order.len() {
        let many = if dice.percent(10) { 1 + dice.below(6) } else { 1 };
        let batch = &order[at..order.len().min(at + many)];
        at += batch.len();
        if batch.len() == 1 && entries.0.keys().last().is_some_and(|last| *last > batch[0].order) {
            tally.late += 1;
            let mut tried = rows.clone();
            let outcome = apply_entry(&mut tried, &batch[0], &limits, true).unwrap();
            tally.rewound += usize::from(matches!(outcome, Outcome::Rewind));
        }
        entries.0.extend(batch.iter().map(|entry| (entry.order, entry.clone())));
        apply_within(&mut rows, &entries, batch, &limits).unwrap();
        let model = Model::replay(entries.0.values(), &limits);
        check_state(&rows, &model);
        if dice.percent(8) {
            check_views(&rows, &entries, &model, &limits, &mut dice);
        }
    }
    assert_eq!(state_hash(&rows).unwrap(), whole.state_hash());
    check_views(&rows, &entries, &whole, &limits, &mut dice);

    // Something turns out not to count: as if it had never been.
    let gone = dice.of(&history).order;
    entries.0.remove(&gone);
    late::replay_from(&mut rows, &entries, gone, &[], &limits).unwrap();
    let model = Model::replay(entries.0.values(), &limits);
    check_state(&rows, &model);
    check_views(&rows, &entries, &model, &limits, &mut dice);
}

#[expect(clippy::disallowed_methods, reason = "the number of histories comes from whoever runs the tests")]
pub(super) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// T50, T52: rings, concurrent trash, edit and move, scopes, twins and limits, in random orders of arrival: always
/// the tree of the naive replay, after every single entry.
#[test]
fn t50_random_histories_give_the_tree_of_the_naive_replay() {
    let (first, count) = (setting("LOCKER_SEED", 0), setting("LOCKER_HISTORIES", 300));
    let mut tally = Tally::default();
    for seed in first..first + count {
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut own = Tally::default();
            run(seed, &mut own);
            own
        }));
        let own =
            run.unwrap_or_else(|_| panic!("history {seed} failed: LOCKER_SEED={seed} LOCKER_HISTORIES=1"));
        tally.late += own.late;
        tally.rewound += own.rewound;
        own.refused.into_iter().for_each(|(why, n)| *tally.refused.entry(why).or_default() += n);
    }
    if count >= 100 {
        // The histories are as nasty as they are meant to be, and both ways of being late are taken.
        assert!(tally.late > 10 * usize::try_from(count).unwrap(), "{}", tally.late);
        assert!(tally.rewound * 10 < tally.late * 9, "{} of {} rewound", tally.rewound, tally.late);
        for why in ["E_NAME", "E_CANON", "E_NODE", "E_CYCLE", "E_FRESH", "E_SCOPE", "E_LIMIT", "E_RIGHTS"] {
            assert!(tally.refused.get(why).is_some_and(|n| *n >= 10), "{why}: {:?}", tally.refused);
        }
    }
}
