//! Histories written by simulated devices.

use std::collections::{BTreeMap, BTreeSet};

use locker_crypto::file_ref::FileRef;
use locker_crypto::id::{EntryId, EpochId, NodeId, PersonId, SpaceId, VerifyingKey};
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use crate::operation::{
    Body, Content, EntryRef, Epoch, Grant, MemberKey, Meta, Move, Op, Role, Trash, version_id,
};
use crate::order::OpOrder;
use crate::rows::MemoryRows;
use crate::space::{OpenedEntry, Outcome, Space};

pub(super) const NOW_MS: u64 = 1_800_000_000_000;

/// The n-th device.
pub(super) fn device(n: usize) -> VerifyingKey {
    VerifyingKey([u8::try_from(n + 1).unwrap(); 32])
}

/// The person of the n-th device: devices 0 and 1 belong to one person, the others to one each.
pub(super) fn person(n: usize) -> PersonId {
    PersonId([if n < 2 { 0xa0 } else { 0xa0 + u8::try_from(n).unwrap() }; 32])
}

pub(super) fn member(n: usize) -> MemberKey {
    MemberKey(person(n).0)
}

/// All entries of a space, in an order in which each comes after what it names.
#[derive(Default)]
pub(super) struct History {
    pub(super) entries: Vec<OpenedEntry>,
    /// For each entry the entries it reaches, by index.
    pub(super) reach: BTreeMap<EntryId, BTreeSet<EntryId>>,
    pub(super) devices: usize,
}

impl History {
    /// Starts a space: device 0 writes the genesis entry.
    pub(super) fn new(devices: usize) -> Self {
        let mut history = Self { devices, ..Self::default() };
        let epoch = Epoch { id: EpochId([1; 32]), parents: vec![], member_set_hash: [0; 32], backs: vec![] };
        let genesis = Grant { member: member(0), role: Role::Manage, valid_from: vec![] };
        history.write(0, None, &[], vec![Op::Member(genesis), Op::Epoch(epoch)]);
        history
    }

    pub(super) fn id(&self) -> SpaceId {
        SpaceId(self.entries[0].id.0)
    }

    pub(super) fn entry(&self, id: &EntryId) -> &OpenedEntry {
        self.entries.iter().find(|entry| entry.id == *id).unwrap()
    }

    /// The last entry of a device, in the branch that it wrote last.
    pub(super) fn head(&self, author: usize) -> Option<EntryId> {
        self.entries.iter().rev().find(|entry| entry.author == device(author)).map(|entry| entry.id)
    }

    /// Writes an entry after `prev`, one tick later than all it names.
    pub(super) fn write(
        &mut self,
        author: usize,
        prev: Option<EntryId>,
        deps: &[EntryId],
        ops: Vec<Op>,
    ) -> EntryId {
        let newest = prev.iter().chain(deps).map(|id| self.entry(id).body.hlc).max().unwrap_or(NOW_MS << 16);
        self.write_at(author, prev, deps, ops, newest + 1)
    }

    /// Writes an entry with a clock of its own.
    pub(super) fn write_at(
        &mut self,
        author: usize,
        prev: Option<EntryId>,
        deps: &[EntryId],
        ops: Vec<Op>,
        hlc: u64,
    ) -> EntryId {
        let seq = prev.map_or(0, |prev| self.entry(&prev).seq + 1);
        let deps: Vec<EntryRef> = deps.iter().map(|id| self.name(id)).collect();
        let body = Body { hlc, deps, ops };
        let sealed = [&[self.entries.len() as u8][..], &body.encode().unwrap()].concat();
        let id = EntryId(*blake3::hash(&[&sealed, device(author).as_ref()].concat()).as_bytes());
        let mut reach = BTreeSet::new();
        for other in prev.iter().chain(body.deps.iter().map(|dep| &dep.id)) {
            reach.extend(&self.reach[other]);
            reach.insert(*other);
        }
        self.reach.insert(id, reach);
        self.entries.push(OpenedEntry {
            id,
            author: device(author),
            seq,
            prev: prev.unwrap_or(EntryId::ZERO),
            epoch: EpochId([1; 32]),
            sealed,
            body,
        });
        id
    }

    pub(super) fn name(&self, id: &EntryId) -> EntryRef {
        let entry = self.entry(id);
        EntryRef { author: entry.author, seq: entry.seq, id: *id }
    }

    /// A history of 2 to 5 devices: tree operations, members added, lowered and removed, now and then a fork.
    pub(super) fn random(dice: &mut ChaCha8Rng) -> Self {
        let devices = 2 + below(dice, 4);
        let mut history = Self::new(devices);
        let genesis = history.entries[0].id;
        // Most know the genesis entry and a first round of grants.
        let grants = (2..devices)
            .map(|n| Op::Member(Grant { member: member(n), role: role(dice, 2), valid_from: vec![] }))
            .collect();
        let grants = history.write(0, Some(genesis), &[], grants);
        let forked = (below(dice, 3) == 0).then(|| below(dice, devices));
        for _ in 0..6 + below(dice, 20) {
            let author = below(dice, devices);
            let mut prev = history.head(author);
            if forked == Some(author) && below(dice, 3) == 0 {
                // Goes on after some earlier entry of its own, or anew.
                let own: Vec<EntryId> = history.of(author);
                prev = own.get(below(dice, own.len() + 1)).copied();
                if author == 0 && prev.is_none() {
                    continue;
                }
            }
            let mut deps = history.some_heads(author, dice);
            if prev.is_none() && below(dice, 8) != 0 && !deps.iter().any(|dep| history.reaches(dep, &grants))
            {
                deps.retain(|dep| history.entry(dep).author != device(0));
                if author != 0 {
                    deps.push(grants);
                }
            }
            let known = history.known(prev.iter().chain(&deps));
            let ops = (0..1 + below(dice, 3)).map(|_| history.op(author, &known, dice)).collect();
            history.write(author, prev, &deps, ops);
        }
        history
    }

    fn of(&self, author: usize) -> Vec<EntryId> {
        self.entries.iter().filter(|entry| entry.author == device(author)).map(|entry| entry.id).collect()
    }

    fn reaches(&self, from: &EntryId, to: &EntryId) -> bool {
        from == to || self.reach[from].contains(to)
    }

    /// Heads of some other devices, or of one of their branches.
    fn some_heads(&self, author: usize, dice: &mut ChaCha8Rng) -> Vec<EntryId> {
        let mut deps = Vec::new();
        for other in (0..self.devices).filter(|other| *other != author) {
            let own = self.of(other);
            if !own.is_empty() && below(dice, 2) == 0 {
                let back = below(dice, 3).min(own.len() - 1);
                deps.push(own[own.len() - 1 - back]);
            }
        }
        deps
    }

    fn known<'a>(&self, named: impl Iterator<Item = &'a EntryId>) -> BTreeSet<EntryId> {
        named.flat_map(|id| self.reach[id].iter().chain([id])).copied().collect()
    }

    /// The last entries of an author's device among some, as a frontier; now and then short of one.
    fn frontier(&self, of: usize, known: &BTreeSet<EntryId>, dice: &mut ChaCha8Rng) -> Option<EntryRef> {
        let mut own: Vec<EntryId> = self.of(of).into_iter().filter(|id| known.contains(id)).collect();
        if below(dice, 6) == 0 {
            own.pop();
        }
        own.last().map(|id| self.name(id))
    }

    fn op(&self, author: usize, known: &BTreeSet<EntryId>, dice: &mut ChaCha8Rng) -> Op {
        let node = |dice: &mut ChaCha8Rng| NodeId([1 + below(dice, 5) as u8; 16]);
        let target = below(dice, self.devices);
        match below(dice, 20) {
            0..8 => Op::Move(Move {
                node: node(dice),
                parent: if below(dice, 3) == 0 { NodeId::ROOT } else { node(dice) },
                name: ["a", "b", "c"][below(dice, 3)].into(),
                kind: u64::from(below(dice, 3) != 0),
            }),
            8..12 => Op::Content(Content {
                node: node(dice),
                bases: self.some_version(dice),
                file: FileRef::empty(),
                mtime_ms: below(dice, 5) as i64,
                exec: below(dice, 2) == 0,
            }),
            12..14 => Op::Trash(Trash { node: node(dice) }),
            14 => Op::Meta(Meta { node: node(dice), key: "k".into(), value: vec![below(dice, 9) as u8] }),
            15 if target != author => {
                let none = EntryRef { author: device(target), seq: 0, id: EntryId::ZERO };
                Op::RemoveAuthor(self.frontier(target, known, dice).unwrap_or(none))
            }
            _ => {
                let of = (0..self.devices).filter(|n| person(*n) == person(target));
                let mut valid_from: Vec<EntryRef> =
                    of.filter_map(|n| self.frontier(n, known, dice)).collect();
                valid_from.sort_unstable();
                Op::Role(Grant { member: member(target), role: role(dice, 5), valid_from })
            }
        }
    }

    fn some_version(&self, dice: &mut ChaCha8Rng) -> Vec<locker_crypto::id::VersionId> {
        let entry = &self.entries[below(dice, self.entries.len())];
        let at = OpOrder { entry: entry.order(), index: below(dice, 2) as u16 };
        if below(dice, 2) == 0 { vec![version_id(&at)] } else { vec![] }
    }
}

fn role(dice: &mut ChaCha8Rng, strong: usize) -> Role {
    [Role::Manage, Role::Write, Role::Manage, Role::Read, Role::None][below(dice, strong)]
}

pub(super) fn below(dice: &mut ChaCha8Rng, end: usize) -> usize {
    (dice.next_u64() % end as u64) as usize
}

/// Indices of all entries in random order, some twice.
pub(super) fn shuffled(history: &History, dice: &mut ChaCha8Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..history.entries.len()).collect();
    for _ in 0..below(dice, 4) {
        order.push(below(dice, history.entries.len()));
    }
    for i in (1..order.len()).rev() {
        order.swap(i, below(dice, i + 1));
    }
    order
}

/// A space that knows whose the devices are, and its rows.
pub(super) fn empty_space(history: &History, own: VerifyingKey) -> (Space, MemoryRows) {
    let mut rows = MemoryRows::new();
    let mut space = Space::open(&rows, history.id(), own).unwrap();
    for n in 0..history.devices {
        let devices = (0..history.devices).filter(|d| person(*d) == person(n)).map(device).collect();
        space.set_person(&mut rows, person(n), &devices, NOW_MS).unwrap();
    }
    (space, rows)
}

/// Hands the entries to a fresh space in this order; half way it is closed and opened again, if nothing waits.
pub(super) fn deliver(history: &History, order: &[usize]) -> (Space, MemoryRows) {
    let own = VerifyingKey([0xee; 32]);
    let (mut space, mut rows) = empty_space(history, own);
    for (step, i) in order.iter().enumerate() {
        let report = space.accept(&mut rows, history.entries[*i].clone(), NOW_MS + 1_000).unwrap();
        assert!(!matches!(report.outcome, Outcome::Refused(_) | Outcome::Deferred), "{:?}", report.outcome);
        if step == order.len() / 2 && space.waiting().is_empty() {
            let opened = Space::open(&rows, history.id(), own).unwrap();
            assert_eq!(opened.access(), space.access());
            space = opened;
        }
    }
    (space, rows)
}

/// Hands over the entries while the local clock is far behind for a part of the way: what comes then is deferred, and
/// released at the end.
pub(super) fn deliver_deferred(history: &History, order: &[usize], from: usize) -> (Space, MemoryRows) {
    let (mut space, mut rows) = empty_space(history, VerifyingKey([0xee; 32]));
    let behind_ms = NOW_MS - crate::clock::FUTURE_MAX_MS - 1;
    for (step, i) in order.iter().enumerate() {
        let now_ms = if step < from { NOW_MS } else { behind_ms };
        space.accept(&mut rows, history.entries[*i].clone(), now_ms).unwrap();
    }
    space.release_deferred(&mut rows, NOW_MS).unwrap();
    assert_eq!(space.deferred(&rows).unwrap(), 0);
    (space, rows)
}
