//! Nodes with catalogs in memory, and wires between them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;

use locker_catalog::clock::Now;
use locker_catalog::epochs::member_set_hash;
use locker_catalog::log::Missing;
use locker_catalog::operation::{Body, EntryRef, Epoch, Grant, MemberKey, Meta, Move, Op, Role};
use locker_catalog::rows::MemoryRows;
use locker_catalog::space::{OpenedEntry, Outcome, Space};
use locker_catalog::tree::state_hash;
use locker_crypto::entry::{Envelope, Place, seal, space_tag};
use locker_crypto::id::{EntryId, NodeId, PackHash, PersonId, PinId, SpaceId, SpaceTag, VerifyingKey};
use locker_crypto::pin::PinDelta;
use locker_crypto::secret::{EpochSecret, SigningSeed};
use locker_crypto::sign::Signing;
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use super::super::{Action, End, Event, Fate, Item, Notice, Session, Source, Terms};
use crate::frontier::{Log, Warning};
use crate::limits::CREDIT_BYTES;
use crate::message::v1::{Head, LogKind};
use crate::message::{HEAD_LEN, kind};
use crate::scope::Scope;

const PERSON: PersonId = PersonId([0xaa; 32]);

pub(super) fn below(dice: &mut ChaCha8Rng, end: usize) -> usize {
    (dice.next_u64() % end as u64) as usize
}

/// What survives on disk.
#[derive(Clone, Default)]
struct Disk {
    rows: MemoryRows,
    pins: BTreeMap<VerifyingKey, Vec<(PinId, Vec<u8>)>>,
}

struct Node {
    signing: Signing,
    space: Space,
    disk: Disk,
    backup: Option<Disk>,
    /// How far each peer was.
    remembered: BTreeMap<(usize, Log, VerifyingKey), u64>,
    sessions: BTreeMap<usize, Session>,
    rollbacks: usize,
    /// While the store stands still, what waits for it.
    stalled: Option<VecDeque<(usize, Action)>>,
}

/// One direction of a connection.
#[derive(Default)]
struct Wire {
    bytes: VecDeque<u8>,
    entry_bytes: u64,
    credit: u64,
}

pub(super) struct World {
    nodes: Vec<Node>,
    wires: BTreeMap<(usize, usize), Wire>,
    now_ms: u64,
    id: SpaceId,
    secret: EpochSecret,
    entries_sent: BTreeMap<(usize, usize), u64>,
}

impl World {
    pub(super) fn new(nodes: usize, dice: &mut ChaCha8Rng) -> Self {
        let secret = EpochSecret::random(dice);
        let signings: Vec<Signing> =
            (0..nodes).map(|_| Signing::from_seed(&SigningSeed::random(dice))).collect();
        let now_ms = 1_800_000_000_000;
        let owner = BTreeMap::from([(MemberKey(PERSON.0), Role::Manage)]);
        let epoch = Epoch {
            id: secret.id(),
            parents: Vec::new(),
            member_set_hash: member_set_hash(&owner),
            backs: Vec::new(),
        };
        let grant = Grant { member: MemberKey(PERSON.0), role: Role::Manage, valid_from: Vec::new() };
        let body =
            Body { hlc: now_ms << 16, deps: Vec::new(), ops: vec![Op::Member(grant), Op::Epoch(epoch)] };
        let place = Place { space_tag: SpaceTag::ZERO, seq: 0, prev: EntryId::ZERO, epoch: secret.id() };
        let genesis = seal(&place, &body.write(), &secret.log_key(), &signings[0], dice).unwrap();
        let id = SpaceId(genesis.id.0);
        let devices: BTreeSet<VerifyingKey> = signings.iter().map(Signing::verifying_key).collect();
        let mut world = Self {
            nodes: Vec::new(),
            wires: BTreeMap::new(),
            now_ms,
            id,
            secret,
            entries_sent: BTreeMap::new(),
        };
        for signing in signings {
            let mut disk = Disk::default();
            let mut space = Space::open(&disk.rows, id, signing.verifying_key()).unwrap();
            space.set_person(&mut disk.rows, PERSON, &devices, now_ms).unwrap();
            let node = Node {
                signing,
                space,
                disk,
                backup: None,
                remembered: BTreeMap::new(),
                sessions: BTreeMap::new(),
                rollbacks: 0,
                stalled: None,
            };
            world.nodes.push(node);
        }
        // Every node knows the genesis entry: that is how it knows the space.
        for node in 0..nodes {
            world.accept(node, &genesis.bytes);
            world.nodes[node].backup = Some(world.nodes[node].disk.clone());
        }
        world
    }

    fn log(&self, kind: LogKind) -> Log {
        Log { kind, tag: space_tag(&self.id) }
    }

    fn heads(&self, node: usize, kind: LogKind) -> Vec<Head> {
        let Node { space, disk, .. } = &self.nodes[node];
        match kind {
            LogKind::Pins => disk
                .pins
                .iter()
                .map(|(author, chain)| Head {
                    author: *author,
                    seq: chain.len() as u64 - 1,
                    id: chain.last().unwrap().0.0,
                })
                .collect(),
            _ => {
                let heads = space.heads(&disk.rows).unwrap();
                heads.iter().map(|head| Head { author: head.author, seq: head.seq, id: head.id.0 }).collect()
            }
        }
    }

    /// Writes an entry with `values` large meta items, and tells the sessions.
    pub(super) fn write(&mut self, node: usize, values: usize, dice: &mut ChaCha8Rng) {
        let now_ms = self.now_ms;
        let Node { signing, space, disk, .. } = &mut self.nodes[node];
        let head = space.own_head(&disk.rows).unwrap();
        let deps = space.deps_for_new_entry(&disk.rows).unwrap();
        let now = Now::Trusted(now_ms);
        let hlc = space.next_hlc(&disk.rows, &deps, now).unwrap().unwrap();
        let target = NodeId([1 + below(dice, 9) as u8; 16]);
        let name = ["a", "b", "c", "d"][below(dice, 4)].to_owned();
        let mut ops = vec![Op::Move(Move { node: target, parent: NodeId::ROOT, name, kind: 0 })];
        if values > 1 {
            for n in 0..values {
                ops.push(Op::Meta(Meta { node: target, key: format!("k{n}"), value: vec![n as u8; 4_096] }));
            }
        }
        let place = Place {
            space_tag: space_tag(&self.id),
            seq: head.map_or(0, |head| head.seq + 1),
            prev: head.map_or(EntryId::ZERO, |head| head.id),
            epoch: self.secret.id(),
        };
        let body = Body { hlc, deps, ops };
        let sealed = seal(&place, &body.write(), &self.secret.log_key(), signing, dice).unwrap();
        let author = signing.verifying_key();
        let outcome = self.accept(node, &sealed.bytes);
        assert_eq!(outcome.0, Outcome::Taken);
        let head = Head { author, seq: place.seq, id: sealed.id.0 };
        let log = self.log(LogKind::Entries);
        self.tell(node, &Event::Stored { log, head, source: Source::Here });
    }

    /// Pins a pack.
    pub(super) fn pin(&mut self, node: usize, dice: &mut ChaCha8Rng) {
        let Node { signing, disk, .. } = &mut self.nodes[node];
        let author = signing.verifying_key();
        let chain = disk.pins.entry(author).or_default();
        let mut pack = [0; 32];
        dice.fill_bytes(&mut pack);
        let delta = PinDelta {
            space_tag: space_tag(&self.id),
            author,
            seq: chain.len() as u64,
            prev: chain.last().map_or(PinId::ZERO, |last| last.0),
            adds: vec![PackHash(pack)],
            drops: Vec::new(),
        };
        let signed = delta.sign(signing).unwrap();
        chain.push((signed.id, signed.bytes));
        let head = Head { author, seq: delta.seq, id: signed.id.0 };
        let log = self.log(LogKind::Pins);
        self.tell(node, &Event::Stored { log, head, source: Source::Here });
    }

    /// Checks, opens and takes an entry, as the engine does.
    fn accept(&mut self, node: usize, bytes: &[u8]) -> (Outcome, BTreeSet<VerifyingKey>, Vec<VerifyingKey>) {
        let envelope = Envelope::parse(bytes).unwrap();
        envelope.verify().unwrap();
        envelope.check_space(&self.id).unwrap();
        let body = Body::read(envelope.open(Some(&self.secret.log_key())).unwrap()).unwrap();
        let header = *envelope.header();
        let entry = OpenedEntry {
            id: envelope.id(),
            author: header.author,
            seq: header.seq,
            prev: header.prev,
            epoch: header.epoch,
            sealed: bytes.to_vec(),
            body,
        };
        let Node { space, disk, .. } = &mut self.nodes[node];
        let report = space.accept(&mut disk.rows, entry, self.now_ms).unwrap();
        (report.outcome, report.taken.iter().map(|order| order.author).collect(), report.forked)
    }

    pub(super) fn connect(&mut self, a: usize, b: usize) {
        if self.wires.contains_key(&(a, b)) {
            return;
        }
        for (from, to) in [(a, b), (b, a)] {
            self.wires.insert((from, to), Wire { credit: CREDIT_BYTES, ..Wire::default() });
            let remembered = self.nodes[from]
                .remembered
                .iter()
                .filter(|((peer, ..), _)| *peer == to)
                .map(|((_, log, author), seq)| (*log, *author, *seq))
                .collect();
            let terms =
                Terms { peer: Scope::whole([]), own: Scope::whole([]), remembered, ..Terms::default() };
            self.nodes[from].sessions.insert(to, Session::new(terms));
        }
        for (from, to) in [(a, b), (b, a)] {
            for kind in [LogKind::Entries, LogKind::Pins] {
                let event = Event::Held { log: self.log(kind), heads: self.heads(from, kind) };
                self.handle(from, to, event);
            }
            let forked: Vec<_> = self.nodes[from].space.forked().collect();
            for (author, seq) in forked {
                self.handle(from, to, Event::Forked { log: self.log(LogKind::Entries), author, seq });
            }
            let missing = self.missing(from);
            self.handle(from, to, missing);
            self.handle(from, to, Event::Opened);
        }
    }

    /// What the entries of a node wait for.
    fn missing(&self, node: usize) -> Event {
        let items = self.nodes[node].space.waiting().missing_entries(|_| true);
        Event::Missing { log: self.log(LogKind::Entries), items }
    }

    pub(super) fn cut(&mut self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            self.wires.remove(&(from, to));
            self.nodes[from].sessions.remove(&to);
        }
    }

    /// Ends a session in order: what a node says last still comes.
    pub(super) fn close(&mut self, node: usize, peer: usize) {
        self.end_by(node, peer, Event::Close { reason: 0 });
        let said = self.wires.get_mut(&(node, peer)).unwrap().bytes.drain(..).collect();
        self.end_by(peer, node, Event::Received(said));
        self.cut(node, peer);
    }

    fn end_by(&mut self, node: usize, peer: usize, event: Event) {
        let now_ms = self.now_ms;
        let mut actions = self.nodes[node].sessions.get_mut(&peer).unwrap().handle(event, now_ms);
        let end = actions.pop();
        assert!(matches!(end, Some(Action::Ended(End::Closed | End::Bye(_)))), "{end:?}");
        actions.into_iter().for_each(|action| self.act(node, peer, action));
    }

    fn pairs(&self) -> Vec<(usize, usize)> {
        (0..self.nodes.len()).flat_map(|a| (0..a).map(move |b| (b, a))).collect()
    }

    pub(super) fn connect_one(&mut self, dice: &mut ChaCha8Rng) {
        let pairs = self.pairs();
        let (a, b) = pairs[below(dice, pairs.len())];
        self.connect(a, b);
    }

    pub(super) fn cut_one(&mut self, dice: &mut ChaCha8Rng) {
        let pairs = self.pairs();
        let (a, b) = pairs[below(dice, pairs.len())];
        self.cut(a, b);
    }

    /// Delivers some bytes on some wire.
    pub(super) fn deliver_some(&mut self, dice: &mut ChaCha8Rng) {
        let busy: Vec<_> = self.wires.iter().filter(|(_, w)| !w.bytes.is_empty()).map(|(k, _)| *k).collect();
        if busy.is_empty() {
            return self.pass_ms(5);
        }
        let (from, to) = busy[below(dice, busy.len())];
        let most = [7, 300, 5_000, 200_000][below(dice, 4)];
        self.deliver(from, to, 1 + below(dice, most));
    }

    pub(super) fn deliver(&mut self, from: usize, to: usize, most: usize) {
        if self.nodes[to].sessions.get(&from).is_some_and(|session| !session.wants_input()) {
            return;
        }
        let Some(wire) = self.wires.get_mut(&(from, to)) else { return };
        let len = most.min(wire.bytes.len());
        let bytes: Vec<u8> = wire.bytes.drain(..len).collect();
        self.handle(to, from, Event::Received(bytes));
    }

    pub(super) fn pass_ms(&mut self, ms: u64) {
        self.now_ms += ms;
        for node in 0..self.nodes.len() {
            let now_ms = self.now_ms;
            let due: Vec<usize> = self.nodes[node]
                .sessions
                .iter()
                .filter(|(_, session)| session.due_ms() <= now_ms)
                .map(|(peer, _)| *peer)
                .collect();
            for peer in due {
                self.handle(node, peer, Event::Tick);
            }
        }
    }

    /// Tells every session of a node.
    fn tell(&mut self, node: usize, event: &Event) {
        let peers: Vec<usize> = self.nodes[node].sessions.keys().copied().collect();
        for peer in peers {
            self.handle(node, peer, event.clone());
        }
    }

    fn handle(&mut self, node: usize, peer: usize, event: Event) {
        let now_ms = self.now_ms;
        let Some(session) = self.nodes[node].sessions.get_mut(&peer) else { return };
        for action in session.handle(event, now_ms) {
            self.act(node, peer, action);
        }
    }

    fn act(&mut self, node: usize, peer: usize, action: Action) {
        if let Action::Take { .. } = action
            && let Some(stalled) = &mut self.nodes[node].stalled
        {
            stalled.push_back((peer, action));
            return;
        }
        match action {
            Action::Send(bytes) => self.send(node, peer, &bytes),
            Action::Take { ticket, log, author, seq, bytes } => {
                let fate = self.store(node, log, author, seq, &bytes);
                self.handle(node, peer, Event::Taken { ticket, fate });
                if log.kind == LogKind::Entries {
                    let event = self.missing(node);
                    self.tell(node, &event);
                }
            }
            Action::Load { request, log, author, from, to, bytes_max } => {
                let items = self.load(node, log, author, (from, to), bytes_max);
                self.handle(node, peer, Event::Loaded { request, items });
            }
            Action::Remember { log, heads } => {
                for (author, seq) in heads {
                    self.nodes[node].remembered.insert((peer, log, author), seq);
                }
            }
            Action::Notice(Notice::Warning(_, Warning::Rollback { .. })) => self.nodes[node].rollbacks += 1,
            Action::Notice(_) | Action::Acknowledged { .. } => {}
            Action::Ended(end) => panic!("node {node} ended with {peer}: {end:?}"),
            other => panic!("unexpected {other:?}"),
        }
    }

    /// Puts a frame on the wire and checks it against the credit.
    fn send(&mut self, node: usize, peer: usize, bytes: &[u8]) {
        let body_len = (bytes.len() - HEAD_LEN) as u64;
        match bytes[4] {
            kind::ENTRY => {
                *self.entries_sent.entry((node, peer)).or_default() += 1;
                let wire = self.wires.get_mut(&(node, peer)).unwrap();
                wire.entry_bytes += body_len;
                assert!(wire.entry_bytes <= wire.credit, "beyond the credit");
            }
            kind::CREDIT => {
                let granted = locker_crypto::encode::Reader::new(&bytes[HEAD_LEN..]).u64().unwrap();
                self.wires.get_mut(&(peer, node)).unwrap().credit += granted;
            }
            _ => {}
        }
        self.wires.get_mut(&(node, peer)).unwrap().bytes.extend(bytes);
    }

    fn store(&mut self, node: usize, log: Log, author: VerifyingKey, seq: u64, bytes: &[u8]) -> Fate {
        if log.kind == LogKind::Pins {
            let (delta, id) = PinDelta::open(bytes).unwrap();
            let chain = self.nodes[node].disk.pins.entry(author).or_default();
            if seq < chain.len() as u64 {
                return Fate::Durable;
            }
            assert_eq!(seq, chain.len() as u64, "pins come in order");
            assert_eq!(delta.prev, chain.last().map_or(PinId::ZERO, |last| last.0));
            chain.push((id, bytes.to_vec()));
            let head = Head { author, seq, id: id.0 };
            self.tell(node, &Event::Stored { log, head, source: Source::Peer });
            return Fate::Durable;
        }
        let (outcome, taken, forked) = self.accept(node, bytes);
        for head in self.heads(node, LogKind::Entries) {
            if taken.contains(&head.author) {
                self.tell(node, &Event::Stored { log, head, source: Source::Peer });
            }
        }
        for author in forked {
            let first = self.nodes[node].space.forked().find(|(forked, _)| *forked == author);
            let (author, seq) = first.unwrap();
            self.tell(node, &Event::Forked { log, author, seq });
        }
        match outcome {
            Outcome::Taken | Outcome::Held | Outcome::Deferred => Fate::Durable,
            Outcome::Waiting(_) => Fate::Waiting,
            Outcome::Refused(why) => panic!("refused: {why}"),
        }
    }

    fn load(
        &self,
        node: usize,
        log: Log,
        author: VerifyingKey,
        (from, to): (u64, u64),
        bytes_max: u64,
    ) -> Vec<Item> {
        let Disk { rows, pins } = &self.nodes[node].disk;
        let mut items: Vec<Item> = Vec::new();
        let mut len = 0;
        let mut add = |seq: u64, bytes: &[u8]| {
            let is_branch = items.last().is_some_and(|last| last.seq == seq);
            if seq > to || (len >= bytes_max && !is_branch) {
                return ControlFlow::Break(());
            }
            len += bytes.len() as u64;
            items.push(Item { seq, bytes: bytes.to_vec() });
            ControlFlow::Continue(())
        };
        if log.kind == LogKind::Pins {
            let chain = pins.get(&author).map_or(&[][..], Vec::as_slice);
            for (seq, (_, bytes)) in (0..).zip(chain).skip(from as usize) {
                if add(seq, bytes).is_break() {
                    break;
                }
            }
        } else {
            let space = &self.nodes[node].space;
            let mut visit = |bytes: &[u8]| add(Envelope::parse(bytes).unwrap().header().seq, bytes);
            space.sealed_from(rows, &author, from, &mut visit).unwrap();
        }
        items
    }

    /// Keeps a copy of a node's disk.
    pub(super) fn back_up(&mut self, node: usize) {
        self.nodes[node].backup = Some(self.nodes[node].disk.clone());
    }

    /// A node comes back from its backup.
    pub(super) fn restore(&mut self, node: usize) {
        for peer in 0..self.nodes.len() {
            self.cut(node, peer);
        }
        let node = &mut self.nodes[node];
        // Pins have no forks to converge from: they are kept.
        node.disk.rows = node.backup.clone().unwrap().rows;
        node.space = Space::open(&node.disk.rows, self.id, node.signing.verifying_key()).unwrap();
    }

    pub(super) fn stall(&mut self, node: usize) {
        self.nodes[node].stalled = Some(VecDeque::new());
    }

    pub(super) fn release(&mut self, node: usize) {
        for (peer, action) in self.nodes[node].stalled.take().unwrap() {
            self.act(node, peer, action);
        }
    }

    /// Connects all and waits until nothing more is said.
    pub(super) fn settle(&mut self) {
        for (a, b) in self.pairs() {
            self.connect(a, b);
        }
        self.settle_connected();
    }

    pub(super) fn settle_connected(&mut self) {
        for _ in 0..20_000 {
            let busy: Vec<_> =
                self.wires.iter().filter(|(_, w)| !w.bytes.is_empty()).map(|(key, _)| *key).collect();
            let soon = self.now_ms + 1_000;
            let is_due = self.nodes.iter().flat_map(|node| node.sessions.values()).any(|s| s.due_ms() < soon);
            if busy.is_empty() && !is_due {
                return;
            }
            for (from, to) in busy {
                self.deliver(from, to, usize::MAX);
            }
            self.pass_ms(20);
        }
        panic!("the nodes do not come to rest");
    }

    pub(super) fn assert_equal(&self, what: &str) {
        let state = |node: usize| {
            let Node { space, disk, .. } = &self.nodes[node];
            // What waits lacks an entry that nobody holds: its author was restored from a backup and lost it.
            for missing in space.waiting().missing() {
                let Missing::Entry { author, seq, id } = missing else { panic!("{what}: {missing:?}") };
                let name = EntryRef { author, seq, id };
                let is_held = |node: &Node| node.space.holds(&node.disk.rows, &name).unwrap();
                assert!(!self.nodes.iter().any(is_held), "{what}: node {node} waits for {name:?}");
            }
            let mut entries = BTreeSet::new();
            for head in space.heads(&disk.rows).unwrap() {
                let mut visit = |bytes: &[u8]| {
                    entries.insert(*blake3::hash(bytes).as_bytes());
                    ControlFlow::Continue(())
                };
                space.sealed_from(&disk.rows, &head.author, 0, &mut visit).unwrap();
            }
            (entries, state_hash(&disk.rows).unwrap(), disk.pins.clone())
        };
        for node in 1..self.nodes.len() {
            let (ours, theirs) = (state(0), state(node));
            assert_eq!(ours.0.len(), theirs.0.len(), "{what}: entries of node {node}");
            assert!(ours.0 == theirs.0, "{what}: the entries of node {node} are others");
            assert!(ours.2 == theirs.2, "{what}: pins of node {node}");
            assert!(ours.1 == theirs.1, "{what}: the tree of node {node}");
            assert!(
                self.nodes[node].sessions.values().all(Session::is_level),
                "{what}: node {node} is not level"
            );
        }
    }

    pub(super) fn forked(&self) -> usize {
        self.nodes[0].space.forked().count()
    }

    pub(super) fn rollbacks(&self) -> usize {
        self.nodes.iter().map(|node| node.rollbacks).sum()
    }

    pub(super) fn rollbacks_at(&self, node: usize) -> usize {
        self.nodes[node].rollbacks
    }

    /// Bytes of entries that were sent beyond the credit that came back.
    pub(super) fn outstanding(&self, from: usize, to: usize) -> u64 {
        let wire = &self.wires[&(from, to)];
        CREDIT_BYTES - (wire.credit - wire.entry_bytes)
    }

    pub(super) fn entries_sent(&self, from: usize, to: usize) -> u64 {
        self.entries_sent.get(&(from, to)).copied().unwrap_or(0)
    }

    pub(super) fn all_entries_sent(&self) -> u64 {
        self.entries_sent.values().sum()
    }
}

/// How a session ended, if it did.
pub(super) fn end_of(actions: &[Action]) -> Option<End> {
    actions.iter().find_map(|action| match action {
        Action::Ended(end) => Some(*end),
        _ => None,
    })
}
