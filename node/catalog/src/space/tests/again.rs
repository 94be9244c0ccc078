//! Goal: of a device with two homes nothing is lost that either of them acknowledged, and all homes end in one state.
//! Method: random histories of a device, one to three copies of its home and another device; a copy that meets somebody
//! who knows better goes on under a new key; what does not count is written again by whoever comes to it, in any order
//! and by several at once. A ledger of what was written, replaced and trashed by whoever had seen it says what must be
//! there at the end.

use std::collections::{BTreeMap, BTreeSet};

use locker_crypto::file_ref::FileRef;
use locker_crypto::id::{EntryId, EpochId, NodeId, PersonId, SpaceId, VerifyingKey};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::history::{NOW_MS, below};
use crate::clock::Now;
use crate::epochs::member_set_hash;
use crate::operation::{Body, Content, EntryRef, Epoch, Grant, MemberKey, Move, NodeKind, Op, Role, Trash};
use crate::rows::MemoryRows;
use crate::space::{OpenedEntry, Outcome, Space, mark};
use crate::tree::{self, Uncounted, again, state_hash};

pub(super) const PERSON: PersonId = PersonId([0xaa; 32]);

/// One home: what lies on its disk, and the key that it has at present.
#[derive(Clone)]
pub(super) struct Home {
    pub(super) own: VerifyingKey,
    pub(super) rows: MemoryRows,
    /// Everything it holds, as it came.
    pub(super) held: BTreeMap<EntryId, OpenedEntry>,
    /// Its last entries under keys that it had before.
    before: Vec<EntryRef>,
}

/// What was acknowledged: every content by its time, and which of them somebody who had seen it replaced or trashed.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) written: BTreeMap<i64, NodeId>,
    pub(super) gone: BTreeSet<i64>,
    /// What somebody put into the trash, with all that was in it then.
    pub(super) trashed: BTreeSet<NodeId>,
}

pub(super) struct World {
    id: SpaceId,
    pub(super) homes: Vec<Home>,
    devices: BTreeSet<VerifyingKey>,
    replaced: BTreeSet<VerifyingKey>,
    pub(super) ledger: Ledger,
    now_ms: u64,
    rebirths: usize,
    pub(super) dice: ChaCha8Rng,
}

pub(super) fn key(n: u8) -> VerifyingKey {
    VerifyingKey([n; 32])
}

impl World {
    /// A device that made the space, and others.
    pub(super) fn new(seed: u64, devices: u8) -> Self {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let owner = BTreeMap::from([(MemberKey(PERSON.0), Role::Manage)]);
        let epoch = Epoch {
            id: EpochId([1; 32]),
            parents: Vec::new(),
            member_set_hash: member_set_hash(&owner),
            backs: Vec::new(),
        };
        let grant = Grant { member: MemberKey(PERSON.0), role: Role::Manage, valid_from: Vec::new() };
        let body =
            Body { hlc: NOW_MS << 16, deps: Vec::new(), ops: vec![Op::Member(grant), Op::Epoch(epoch)] };
        let genesis = entry(&mut dice, key(1), None, body);
        let mut world = Self {
            id: SpaceId(genesis.id.0),
            homes: Vec::new(),
            devices: (1..=devices).map(key).collect(),
            replaced: BTreeSet::new(),
            ledger: Ledger::default(),
            now_ms: NOW_MS,
            rebirths: 0,
            dice,
        };
        for own in (1..=devices).map(key) {
            let rows = MemoryRows::new();
            world.homes.push(Home { own, rows, held: BTreeMap::new(), before: Vec::new() });
            world.take(world.homes.len() - 1, vec![genesis.clone()]);
        }
        world
    }

    pub(super) fn space(&self, home: usize) -> Space {
        Space::open(&self.homes[home].rows, self.id, self.homes[home].own).unwrap()
    }

    /// Hands entries over in this order; those that wait come to be held with what they wait for.
    fn take(&mut self, home: usize, entries: Vec<OpenedEntry>) {
        let mut space = self.space(home);
        let Home { rows, held, .. } = &mut self.homes[home];
        space.set_person(rows, PERSON, &self.devices, self.now_ms).unwrap();
        for entry in entries {
            let outcome = space.accept(rows, entry.clone(), self.now_ms).unwrap().outcome;
            assert!(matches!(outcome, Outcome::Taken | Outcome::Held | Outcome::Waiting(_)), "{outcome:?}");
            held.insert(entry.id, entry);
        }
        assert!(space.waiting().is_empty(), "something waits for ever");
    }

    /// Signs an entry. Says whether all of it has an effect, and takes nothing in if not.
    pub(super) fn write(&mut self, home: usize, ops: Vec<Op>) -> bool {
        self.now_ms += 1 + self.dice.next_u64() % 3;
        let mut space = self.space(home);
        let Home { own, rows, held, .. } = &mut self.homes[home];
        space.set_person(rows, PERSON, &self.devices, self.now_ms).unwrap();
        let deps = space.deps_for_new_entry(rows).unwrap();
        let hlc = space.next_hlc(rows, &deps, Now::Trusted(self.now_ms)).unwrap().unwrap();
        let head = space.own_head(rows).unwrap();
        let entry = entry(&mut self.dice, *own, head, Body { hlc, deps, ops });
        let mut after = rows.clone();
        let (outcome, refused) = space.write(&mut after, entry.clone(), self.now_ms).unwrap();
        let fits = outcome == Outcome::Taken && refused.is_empty();
        if fits {
            *rows = after;
            held.insert(entry.id, entry);
        }
        fits
    }

    /// Whether a home finds out, from what another one holds, that its key is not its own alone.
    fn is_in_doubt(&self, home: usize, other: usize) -> bool {
        let Home { own, held, .. } = &self.homes[home];
        let of_own = |entry: &&OpenedEntry| entry.author == *own;
        let more = self.homes[other].held.values().filter(of_own).any(|entry| !held.contains_key(&entry.id));
        more || self.replaced.contains(own)
    }

    /// Two homes meet. Whoever is in doubt takes a new key, which the other one brings in; then both are equal.
    pub(super) fn meet(&mut self, one: usize, other: usize) {
        for (home, peer) in [(one, other), (other, one)] {
            if self.is_in_doubt(home, peer) {
                let old = self.homes[home].own;
                let new = key(0x80 + u8::try_from(self.rebirths).unwrap());
                self.rebirths += 1;
                self.devices.insert(new);
                self.replaced.insert(old);
                let head = self.space(home).own_head(&self.homes[home].rows).unwrap();
                let Home { own, before, .. } = &mut self.homes[home];
                before.extend(head);
                *own = new;
            }
        }
        for (from, to) in [(one, other), (other, one)] {
            let mut missing: Vec<OpenedEntry> = self.homes[from].held.values().cloned().collect();
            missing.retain(|entry| !self.homes[to].held.contains_key(&entry.id));
            let start = below(&mut self.dice, missing.len().max(1));
            missing.sort_by_key(|entry| (entry.body.hlc, entry.author));
            missing.rotate_left(start);
            if !missing.is_empty() {
                self.take(to, missing);
            }
        }
    }

    /// All live nodes of a home: folder, file, contents.
    pub(super) fn live(&self, home: usize) -> Vec<tree::Node> {
        let rows = &self.homes[home].rows;
        let mut ids = Vec::new();
        tree::walk(rows, NodeId::ROOT, &mut |_, listed| {
            ids.push(listed.id);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
        ids.into_iter().map(|id| tree::node(rows, id).unwrap().unwrap()).collect()
    }

    /// A user does something.
    pub(super) fn act(&mut self, home: usize) {
        let live = self.live(home);
        let pick = |dice: &mut ChaCha8Rng, kind: NodeKind| {
            let of_kind: Vec<&tree::Node> = live.iter().filter(|node| node.kind == kind).collect();
            (!of_kind.is_empty()).then(|| of_kind[below(dice, of_kind.len())].clone())
        };
        let folder = match pick(&mut self.dice, NodeKind::Folder) {
            Some(node) if below(&mut self.dice, 2) == 0 => node.id,
            _ => NodeId::ROOT,
        };
        let what = below(&mut self.dice, 10);
        let kind = if below(&mut self.dice, 3) == 0 { NodeKind::Folder } else { NodeKind::File };
        let file = pick(&mut self.dice, NodeKind::File);
        let any = pick(&mut self.dice, kind);
        match (what, file, any) {
            (0..2, ..) => {
                let node = self.draw();
                self.write(home, vec![place(node, folder, "folder", NodeKind::Folder)]);
            }
            (2..6, ..) => {
                let node = self.draw();
                let content = self.content(node, &[]);
                let time = content.mtime_ms;
                let ops = vec![place(node, folder, "file", NodeKind::File), Op::Content(content)];
                assert!(self.write(home, ops));
                self.ledger.written.insert(time, node);
            }
            (6, Some(file), _) => {
                let bases = file.versions.clone();
                let content = self.content(file.id, &bases);
                let time = content.mtime_ms;
                assert!(self.write(home, vec![Op::Content(content)]));
                self.ledger.written.insert(time, file.id);
                self.ledger.gone.extend(bases.iter().map(|version| version.mtime_ms));
            }
            (7, _, Some(node)) => {
                let name = ["left", "right"][below(&mut self.dice, 2)];
                // Into itself: refused, and nothing happens.
                self.write(home, vec![place(node.id, folder, name, node.kind)]);
            }
            (8, _, Some(node)) => {
                let rows = &self.homes[home].rows;
                let mut seen: Vec<i64> = node.versions.iter().map(|version| version.mtime_ms).collect();
                let mut nodes = vec![node.id];
                tree::walk(rows, node.id, &mut |_, listed| {
                    let below = tree::node(rows, listed.id).unwrap().unwrap();
                    seen.extend(below.versions.iter().map(|version| version.mtime_ms));
                    nodes.push(listed.id);
                    std::ops::ControlFlow::Continue(())
                })
                .unwrap();
                if self.write(home, vec![Op::Trash(Trash { node: node.id })]) {
                    self.ledger.gone.extend(seen);
                    self.ledger.trashed.extend(nodes);
                }
            }
            (9, ..) => {
                let trash = tree::trash_list(&self.homes[home].rows, None, 10).unwrap();
                if !trash.is_empty() {
                    let found = &trash[below(&mut self.dice, trash.len())].node;
                    self.write(home, vec![place(found.id, folder, "back", found.kind)]);
                }
            }
            _ => {}
        }
    }

    pub(super) fn draw(&mut self) -> NodeId {
        let mut bytes = [0; NodeId::LEN];
        self.dice.fill_bytes(&mut bytes);
        NodeId(bytes)
    }

    fn content(&mut self, node: NodeId, bases: &[tree::Version]) -> Content {
        let mut bases: Vec<_> = bases.iter().map(|version| version.vid).collect();
        bases.sort_unstable();
        let mtime_ms = i64::try_from(self.ledger.written.len()).unwrap();
        Content { node, bases, file: FileRef::empty(), mtime_ms, exec: false }
    }

    /// Writes again the first thing that does not count, as the engine does; the own branches only, if so asked.
    fn write_again(&mut self, home: usize, own_only: bool) -> bool {
        let space = self.space(home);
        let rows = &self.homes[home].rows;
        let mut own = BTreeSet::new();
        for tip in &self.homes[home].before {
            own.extend(space.branch(rows, tip).unwrap());
        }
        let mut lost = space.uncounted(rows, &PERSON).unwrap();
        lost.retain(|name| !own_only || own.contains(&name.id));
        let Some(name) = lost.first().copied() else { return false };
        let mut at = Some(0);
        while let Some(from) = at {
            let space = self.space(home);
            let rows = self.homes[home].rows.clone();
            let lost = space.lost(&rows, &name).unwrap();
            let part = again(&rows, &lost, from).unwrap();
            assert!(part.ops.len() <= lost.ops().len() * 2);
            let ops = std::iter::once(mark(&name.id)).chain(part.ops).collect();
            assert!(self.write(home, ops), "what was planned has no effect");
            at = part.next;
        }
        true
    }
}

pub(super) fn place(node: NodeId, parent: NodeId, name: &str, kind: NodeKind) -> Op {
    Op::Move(Move { node, parent, name: name.into(), kind: kind.code() })
}

fn entry(dice: &mut ChaCha8Rng, author: VerifyingKey, head: Option<EntryRef>, body: Body) -> OpenedEntry {
    let mut id = [0; 32];
    dice.fill_bytes(&mut id);
    let (seq, prev) = head.map_or((0, EntryId::ZERO), |head| (head.seq + 1, head.id));
    let epoch = EpochId([1; 32]);
    OpenedEntry { id: EntryId(id), author, seq, prev, epoch, sealed: id.to_vec(), body }
}

/// T93: a device whose key forked enrols anew, and what it said that does not count is written again.
#[test]
fn t93_nothing_is_lost_of_a_device_with_several_homes() {
    let (mut rebirths, mut forks, mut again, mut contents) = (0, 0, 0, 0);
    for seed in 0..super::histories() {
        let mut world = World::new(seed, 2);
        let copies = 1 + below(&mut world.dice, 3);
        for _ in 0..30 {
            let home = below(&mut world.dice, world.homes.len());
            match below(&mut world.dice, 8) {
                0 if world.homes.len() < 2 + copies => {
                    let copy = world.homes[home].clone();
                    world.homes.push(copy);
                }
                1 => {
                    let other = below(&mut world.dice, world.homes.len());
                    if world.homes[home].own != world.homes[other].own {
                        world.meet(home, other);
                    }
                }
                // A home that another one has told of its doubt has another key by now: all that is here is its own.
                2 => _ = world.write_again(home, true),
                _ => world.act(home),
            }
        }
        // All meet until all know all, and whoever comes first writes the rest again.
        for _ in 0..64 {
            let mut busy = false;
            for one in 0..world.homes.len() {
                for other in 0..world.homes.len() {
                    if world.homes[one].own != world.homes[other].own {
                        world.meet(one, other);
                    }
                }
            }
            for home in 0..world.homes.len() {
                let own_only = below(&mut world.dice, 2) == 0;
                while world.write_again(home, own_only) {
                    (busy, again) = (true, again + 1);
                }
            }
            let equal = world.homes.iter().all(|home| home.held.len() == world.homes[0].held.len());
            let keys: BTreeSet<VerifyingKey> = world.homes.iter().map(|home| home.own).collect();
            if !busy && equal && keys.len() == world.homes.len() {
                break;
            }
        }
        let hashes: BTreeSet<[u8; 32]> =
            world.homes.iter().map(|home| state_hash(&home.rows).unwrap()).collect();
        assert_eq!(hashes.len(), 1, "seed {seed}: the homes differ");
        let shown: BTreeSet<(i64, NodeId)> = world
            .live(0)
            .iter()
            .flat_map(|node| node.versions.iter().map(|version| (version.mtime_ms, node.id)))
            .collect();
        for (time, node) in &world.ledger.written {
            let is_there = world.ledger.gone.contains(time) || shown.contains(&(*time, *node));
            assert!(is_there, "seed {seed}: content {time} of {node} is lost");
        }
        rebirths += world.rebirths;
        forks += world.space(0).forked().count();
        contents += world.ledger.written.len();
    }
    assert!(
        rebirths > 150 && forks > 60 && again > 60 && contents > 1_500,
        "{rebirths} rebirths, {forks} forks, {again} written again, {contents} contents"
    );
}
