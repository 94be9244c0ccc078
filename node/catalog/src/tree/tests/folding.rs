//! Folding. Goal: what was taken in twice apart becomes one, on every device alike; nothing is lost, nothing stays
//! doubled. Method: small cases by hand; and simulated devices that work apart, hear of one another and fold, whole or
//! in parts, in any order, compared with the naive model. `LOCKER_HISTORIES` sets how many, `LOCKER_SEED` the first.

use std::collections::BTreeSet;

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::super::limits::{REPLAY, WRITER};
use super::super::model::{Model, ModelNode};
use super::super::nodes;
use super::super::row::FOLDERS;
use super::random::{Dice, setting};
use super::*;
use crate::name::collision_key;
use crate::operation::NodeKind;

const ALL: Bounds = Bounds { ops: 1_000, groups: usize::MAX };

/// A device with its own tree.
#[derive(Clone)]
struct Device {
    n: u8,
    seq: u64,
    past: Past,
    entries: Entries,
    rows: MemoryRows,
    nodes: u32,
    /// Its entries that fold.
    folds: Vec<EntryOrder>,
}

impl Device {
    fn new(n: u8) -> Self {
        let (entries, rows) = (Entries::default(), MemoryRows::new());
        Self { n, seq: 0, past: Past::default(), entries, rows, nodes: 0, folds: Vec::new() }
    }

    fn node(&mut self) -> NodeId {
        self.nodes += 1;
        let mut node = [self.n; 16];
        node[..4].copy_from_slice(&self.nodes.to_be_bytes());
        NodeId(node)
    }

    /// Writes an entry; nothing of it may be refused.
    fn write(&mut self, ops: Vec<Op>) -> EntryOrder {
        let hlc = self.entries.0.keys().last().map_or(1, |last| last.hlc + 1);
        let mut new = entry(hlc, self.n, self.seq, &[], ops);
        new.past = self.past.clone();
        let order = new.order;
        self.take(vec![new]);
        self.seq += 1;
        assert_eq!(problems_of(&self.rows, &order).unwrap(), []);
        order
    }

    fn take(&mut self, new: Vec<TreeEntry>) {
        for entry in &new {
            self.past.learn(entry.order.author, entry.order.seq);
            self.entries.0.insert(entry.order, entry.clone());
        }
        apply_within(&mut self.rows, &self.entries, &new, &WRITER).unwrap();
    }

    /// Hears everything that another device knows.
    fn hear(&mut self, other: &Device) {
        let new = other.entries.0.iter().filter(|(order, _)| !self.entries.0.contains_key(*order));
        let new = new.map(|(_, entry)| entry.clone()).collect();
        self.take(new);
    }

    /// One step of folding; whether anything was written.
    fn fold(&mut self, bounds: Bounds) -> bool {
        let plan = fold(&self.rows, &self.entries, bounds).unwrap();
        assert!(plan.ops.len() <= bounds.ops && plan.folded.len() <= bounds.groups, "{plan:?}");
        settle(&mut self.rows, &plan.settled).unwrap();
        let any = !plan.ops.is_empty();
        if any {
            let order = self.write(plan.ops);
            self.folds.push(order);
        }
        any
    }

    fn fold_all(&mut self) {
        let mut steps = 0;
        while self.fold(ALL) {
            steps += 1;
            assert!(steps < 100, "no end");
        }
    }

    fn folder(&mut self, parent: NodeId, name: &str) -> NodeId {
        let node = self.node();
        self.write(vec![place(node, parent, name, 1)]);
        node
    }

    fn file(&mut self, parent: NodeId, name: &str, text: &str) -> NodeId {
        let node = self.node();
        self.write(vec![place(node, parent, name, 0), content(node, vec![], text)]);
        node
    }

    fn model(&self) -> Model {
        Model::replay(self.entries.0.values(), &REPLAY)
    }
}

fn meet(devices: &mut [Device]) {
    for _ in 0..2 {
        for one in 0..devices.len() {
            for other in 0..devices.len() {
                let other = devices[other].clone();
                devices[one].hear(&other);
            }
        }
    }
    let hashes: BTreeSet<_> = devices.iter().map(|device| state_hash(&device.rows).unwrap()).collect();
    assert_eq!(hashes.len(), 1, "one state");
}

/// Two devices that have met, with what `make` made on each apart.
fn apart(mut make: impl FnMut(&mut Device)) -> [Device; 2] {
    let mut devices = [Device::new(1), Device::new(2)];
    devices.iter_mut().for_each(&mut make);
    meet(&mut devices);
    devices
}

/// The keys of the path of each live content, with the content.
fn live(model: &Model) -> BTreeSet<(Vec<String>, Vec<u8>)> {
    let mut found = BTreeSet::new();
    for (id, node) in model.nodes.iter().filter(|(id, _)| model.top(**id).is_none()) {
        let path = path_keys(model, *id);
        found.extend(node.versions.values().map(|(file, ..)| (path.clone(), file.clone())));
    }
    found
}

fn path_keys(model: &Model, mut at: NodeId) -> Vec<String> {
    let mut path = Vec::new();
    while at != NodeId::ROOT {
        let node = &model.nodes[&at];
        path.push(collision_key(&node.name));
        at = node.parent;
    }
    path
}

/// What is left to fold, found by looking at everything.
fn unfolded(device: &Device) -> Vec<(NodeId, NodeId)> {
    let model = device.model();
    let mut groups: BTreeMap<(NodeId, String), Vec<(NodeId, &ModelNode)>> = BTreeMap::new();
    for (id, node) in model.nodes.iter().filter(|(id, _)| model.top(**id).is_none()) {
        groups.entry((node.parent, collision_key(&node.name))).or_default().push((*id, node));
    }
    let apart = |one: &ModelNode, other: &ModelNode| {
        let knows = |later: &ModelNode, earlier: &ModelNode| {
            let entry = &device.entries.0[&later.created.entry];
            let EntryOrder { author, seq, .. } = earlier.created.entry;
            earlier.created.entry == entry.order || entry.past.knows(&author, seq)
        };
        !knows(one, other) && !knows(other, one)
    };
    let same = |one: &ModelNode, other: &ModelNode| {
        let only = |node: &ModelNode| match node.versions.values().collect::<Vec<_>>()[..] {
            [(file, ..)] => Some(file.clone()),
            _ => None,
        };
        one.kind == 0 && only(one).is_some() && only(one) == only(other)
    };
    let mut found = Vec::new();
    for mut members in groups.into_values() {
        members.sort_by_key(|(_, node)| node.created);
        let mut kept: Vec<(NodeId, &ModelNode)> = Vec::new();
        for (id, node) in members.into_iter().filter(|(_, node)| node.kind < 2) {
            let joins = |first: &ModelNode| {
                first.kind == node.kind && apart(first, node) && (node.kind == 1 || same(first, node))
            };
            match kept.iter().find(|(_, first)| joins(first)) {
                Some((first, _)) => found.push((*first, id)),
                None => kept.push((id, node)),
            }
        }
    }
    found
}

#[test]
fn a_folder_taken_in_twice_becomes_one() {
    let mut round = 0;
    let [mut one, mut two] = apart(|device| {
        round += 1;
        let top = device.folder(NodeId::ROOT, if round == 1 { "Photos" } else { "photos" });
        let sub = device.folder(top, "2026");
        device.file(top, "same.jpg", "same");
        device.file(sub, "deep.jpg", "deep");
        device.file(top, "differs.jpg", &format!("by {round}"));
        device.file(sub, &format!("only {round}.jpg"), "alone");
    });
    let before = live(&one.model());
    one.fold_all();
    let expected = [
        "Photos",
        "Photos/2026",
        "Photos/2026/deep.jpg",
        "Photos/2026/only 1.jpg",
        "Photos/2026/only 2.jpg",
        "Photos/differs (2).jpg",
        "Photos/differs.jpg",
        "Photos/same.jpg",
    ];
    assert_eq!(paths(&one.rows), expected);
    assert_eq!(live(&one.model()), before);
    assert_eq!(problems(&one.rows).unwrap(), []);
    // The other one did the same at once, and not to the end.
    two.fold(Bounds { ops: 3, groups: 9 });
    let mut both = [one, two];
    meet(&mut both);
    both[1].fold_all();
    meet(&mut both);
    assert_eq!(paths(&both[0].rows), expected);
    for device in &mut both {
        assert!(!device.fold(ALL) && !has_twins(&device.rows).unwrap());
    }
}

#[test]
fn what_one_device_made_beside_another_thing_on_purpose_stays() {
    let mut devices = [Device::new(1), Device::new(2)];
    devices[0].folder(NodeId::ROOT, "a");
    devices[0].file(NodeId::ROOT, "f", "text");
    meet(&mut devices);
    // The second one knew them.
    devices[1].folder(NodeId::ROOT, "A");
    devices[1].file(NodeId::ROOT, "F", "text");
    // And what differs in kind or content is never one.
    devices[0].folder(NodeId::ROOT, "b");
    devices[1].file(NodeId::ROOT, "b", "text");
    devices[0].file(NodeId::ROOT, "c", "one");
    devices[1].file(NodeId::ROOT, "c", "other");
    meet(&mut devices);
    for device in &mut devices {
        assert!(has_twins(&device.rows).unwrap());
        assert!(!device.fold(ALL));
        assert!(!has_twins(&device.rows).unwrap(), "looked at once");
    }
    assert_eq!(paths(&devices[0].rows), ["A (2)", "F (2)", "a", "b", "b (2)", "c", "c (2)", "f"]);
}

#[test]
fn a_double_whose_content_comes_later_is_found() {
    for first in [0, 1] {
        let mut devices = [Device::new(1), Device::new(2)];
        let nodes = [devices[0].node(), devices[1].node()];
        for at in [0, 1] {
            devices[at].write(vec![place(nodes[at], NodeId::ROOT, "f", 0)]);
        }
        devices[first].write(vec![content(nodes[first], vec![], "text")]);
        meet(&mut devices);
        assert!(!devices[0].fold(ALL));
        devices[1 - first].write(vec![content(nodes[1 - first], vec![], "text")]);
        assert!(devices[1 - first].fold(ALL));
        assert_eq!(paths(&devices[1 - first].rows), ["f"]);
    }
}

#[test]
fn a_double_made_by_an_edit_is_found() {
    for first in [0, 1] {
        let mut made = Vec::new();
        let mut devices = apart(|device| {
            let text = format!("by {}", device.n);
            let node = device.node();
            let order = device.write(vec![place(node, NodeId::ROOT, "f", 0), content(node, vec![], &text)]);
            made.push((node, version_id(&OpOrder { entry: order, index: 1 })));
        });
        assert!(!devices[0].fold(ALL));
        let ((node, vid), text) = (made[first], format!("by {}", 2 - first));
        devices[0].write(vec![content(node, vec![vid], &text)]);
        assert!(devices[0].fold(ALL));
        assert_eq!(paths(&devices[0].rows), ["f"]);
    }
}

#[test]
fn steps_are_bounded_and_go_on_where_the_last_one_ended() {
    let mut devices = apart(|device| {
        let top = device.folder(NodeId::ROOT, "a");
        for n in 0..40 {
            device.file(top, &format!("{}-{n}", device.n), "text");
        }
    });
    let mut steps = 0;
    while devices[0].fold(Bounds { ops: 7, groups: 1 }) {
        steps += 1;
    }
    assert_eq!(steps, 6, "40 moves and a trash");
    assert_eq!(paths(&devices[0].rows).len(), 81);
}

#[test]
fn a_full_folder_takes_no_more_and_loses_nothing() {
    let mut devices = apart(|device| {
        let top = device.folder(NodeId::ROOT, "a");
        for n in 0..3 {
            device.file(top, &format!("{}-{n}", device.n), "text");
        }
    });
    let device = &mut devices[0];
    let first = lookup(&device.rows, &["a"]).unwrap().unwrap();
    let mut sums = nodes::folder(&device.rows, first).unwrap();
    sums.files = WRITER.children - 1;
    device.rows.put(FOLDERS, first.as_ref(), &sums.encode()).unwrap();
    assert!(device.fold(ALL));
    assert!(!device.fold(ALL));
    assert_eq!(paths(&device.rows).iter().filter(|path| path.starts_with("a (2)/")).count(), 2);
}

#[test]
fn what_lies_in_the_trash_is_folded_when_it_comes_back() {
    let mut devices = [Device::new(1), Device::new(2)];
    let top = devices[0].folder(NodeId::ROOT, "top");
    meet(&mut devices);
    for device in &mut devices {
        device.folder(top, "a");
    }
    meet(&mut devices);
    devices[0].write(vec![trash(top)]);
    assert!(!devices[0].fold(ALL));
    devices[0].write(vec![place(top, NodeId::ROOT, "top", 1)]);
    assert!(devices[0].fold(ALL));
    assert_eq!(paths(&devices[0].rows), ["top", "top/a"]);
}

const NAMES: [&str; 5] = ["a", "A", "b", "c", "ä"];

/// What devices did besides folding.
#[derive(Default)]
struct Said {
    /// Contents that a person trashed or replaced: no longer waited for.
    given_up: BTreeSet<Vec<u8>>,
}

fn live_nodes(device: &Device, kind: NodeKind) -> Vec<NodeId> {
    let mut found = Vec::new();
    walk(&device.rows, NodeId::ROOT, &mut |_, listed| {
        found.extend((listed.kind == kind).then_some(listed.id));
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    found.sort();
    found
}

fn contents_below(device: &Device, node: NodeId) -> Vec<Vec<u8>> {
    let model = device.model();
    let below = model.nodes.iter().filter(|(id, _)| {
        let mut at = **id;
        while at != node && at != NodeId::ROOT && at != NodeId::TRASH {
            at = model.nodes[&at].parent;
        }
        at == node
    });
    below.flat_map(|(_, n)| n.versions.values().map(|(file, ..)| file.clone())).collect()
}

/// Something that a person does on one device. `wild`: also what is not making.
fn act(device: &mut Device, dice: &mut Dice, wild: bool, said: &mut Said) {
    let mut folders = live_nodes(device, NodeKind::Folder);
    folders.push(NodeId::ROOT);
    let files = live_nodes(device, NodeKind::File);
    let (parent, name) = (dice.of(&folders), dice.of(&NAMES));
    match dice.below(if wild { 16 } else { 10 }) {
        0..=3 => drop(device.folder(parent, name)),
        4..=9 => {
            // Few contents: doubles are wanted.
            let text = if dice.percent(70) { format!("{name} 1") } else { format!("{}", dice.below(9_999)) };
            device.file(parent, name, &text);
        }
        10 | 11 if !files.is_empty() => {
            let node = dice.of(&files);
            let bases: Vec<VersionId> =
                super::node(&device.rows, node).unwrap().unwrap().versions.iter().map(|v| v.vid).collect();
            let text = format!("edit {}", dice.below(9_999));
            said.given_up.extend(contents_below(device, node));
            device.write(vec![content(node, bases, &text)]);
        }
        12..=14 => {
            let all: Vec<NodeId> =
                files.into_iter().chain(folders.iter().copied().filter(|f| *f != NodeId::ROOT)).collect();
            if all.is_empty() {
                return;
            }
            let node = dice.of(&all);
            let row = nodes::read(&device.rows, node).unwrap().unwrap();
            let above = {
                let (mut chain, mut at) = (vec![parent], parent);
                while at != NodeId::ROOT {
                    at = nodes::read(&device.rows, at).unwrap().unwrap().place.parent;
                    chain.push(at);
                }
                chain
            };
            if !above.contains(&node) {
                device.write(vec![place(node, parent, name, row.kind.code())]);
            }
        }
        _ => {
            let all: Vec<NodeId> =
                files.into_iter().chain(folders.into_iter().filter(|f| *f != NodeId::ROOT)).collect();
            if all.is_empty() {
                return;
            }
            let node = dice.of(&all);
            said.given_up.extend(contents_below(device, node));
            device.write(vec![trash(node)]);
        }
    }
}

/// A step of folding, of any size: nothing may change but what is doubled.
fn fold_some(device: &mut Device, dice: &mut Dice) -> bool {
    let before = live(&device.model());
    let bounds = Bounds {
        ops: if dice.percent(60) { 1 + dice.below(4) } else { 1_000 },
        groups: if dice.percent(50) { 1 } else { 9 },
    };
    let any = device.fold(bounds);
    assert_eq!(live(&device.model()), before, "no content left its path");
    any
}

fn finish(devices: &mut [Device], dice: &mut Dice) {
    meet(devices);
    let mut rounds = 0;
    loop {
        let at = dice.below(devices.len());
        let mut any = false;
        while fold_some(&mut devices[at], dice) {
            any = true;
        }
        if dice.percent(30) {
            let other = dice.below(devices.len());
            any |= fold_some(&mut devices[other], dice);
        }
        meet(devices);
        assert_eq!(state_hash(&devices[0].rows).unwrap(), devices[0].model().state_hash());
        if !any
            && devices.iter().all(|device| fold(&device.rows, &device.entries, ALL).unwrap().ops.is_empty())
        {
            break;
        }
        rounds += 1;
        assert!(rounds < 50, "devices that fold come to an end");
    }
    for device in devices {
        assert_eq!(unfolded(device), [], "everything is found without looking everywhere");
    }
}

/// Devices take things in apart; then they fold, all at once and in parts. The contents at each path are those of the
/// histories without folding.
fn run_apart(seed: u64) {
    let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed));
    let mut devices: Vec<Device> = (1..=2 + dice.below(2) as u8).map(Device::new).collect();
    let mut said = Said::default();
    for _ in 0..10 + dice.below(40) {
        let at = dice.below(devices.len());
        act(&mut devices[at], &mut dice, seed % 2 == 1, &mut said);
        if dice.percent(5) {
            let other = devices[dice.below(devices.len())].clone();
            devices[at].hear(&other);
        }
    }
    meet(&mut devices);
    let expected = live(&devices[0].model());
    for _ in 0..dice.below(30) {
        let at = dice.below(devices.len());
        fold_some(&mut devices[at], &mut dice);
        if dice.percent(20) {
            let other = devices[dice.below(devices.len())].clone();
            devices[at].hear(&other);
            assert_eq!(live(&devices[at].model()), expected);
        }
    }
    finish(&mut devices, &mut dice);
    assert_eq!(live(&devices[0].model()), expected);
}

/// Devices do everything at any time, and fold at any time: what nobody trashed or replaced, and is there without folding,
/// is there at the end. But for this: what a trash does not know it leaves in the folder above, and who trashes that
/// folder takes what he knows in it, also if he saw it elsewhere (section 5 of the page). So what is missing must lie in
/// something that a person trashed.
fn run_wild(seed: u64) {
    let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed));
    let mut devices: Vec<Device> = (1..=2 + dice.below(2) as u8).map(Device::new).collect();
    let mut said = Said::default();
    for _ in 0..20 + dice.below(60) {
        let at = dice.below(devices.len());
        match dice.below(10) {
            0..=5 => act(&mut devices[at], &mut dice, true, &mut said),
            6..=7 => drop(fold_some(&mut devices[at], &mut dice)),
            _ => {
                let other = devices[dice.below(devices.len())].clone();
                devices[at].hear(&other);
            }
        }
    }
    finish(&mut devices, &mut dice);
    let folds: BTreeSet<EntryOrder> = devices.iter().flat_map(|device| device.folds.clone()).collect();
    let entries = &devices[0].entries.0;
    let plain = Model::replay(entries.values().filter(|entry| !folds.contains(&entry.order)), &REPLAY);
    let files = |model: &Model| live(model).into_iter().map(|(_, file)| file).collect::<BTreeSet<_>>();
    let (there, without) = (files(&devices[0].model()), files(&plain));
    let model = devices[0].model();
    for file in without.iter().filter(|file| !there.contains(*file) && !said.given_up.contains(*file)) {
        let holders = model.nodes.iter().filter(|(_, node)| node.versions.values().any(|(f, ..)| f == file));
        for (id, _) in holders {
            let by = model.nodes[&model.top(*id).unwrap()].by.unwrap();
            assert!(!folds.contains(&by.entry), "{id} was lost by folding");
        }
    }
}

fn each_history(run: fn(u64)) {
    let (first, count) = (setting("LOCKER_SEED", 0), setting("LOCKER_HISTORIES", 300));
    for seed in first..first + count {
        let done = std::panic::catch_unwind(|| run(seed));
        assert!(done.is_ok(), "history {seed} failed: LOCKER_SEED={seed} LOCKER_HISTORIES=1");
    }
}

#[test]
fn devices_that_were_apart_and_fold_at_once_keep_every_content_at_its_path() {
    each_history(run_apart);
}

#[test]
fn folding_in_the_midst_of_everything_ends_and_loses_nothing() {
    each_history(run_wild);
}
