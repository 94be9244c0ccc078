//! One peer after OK: who lacks what, what is sent when, and how much at a time (`docs/spec/12-sync.md`, section 3).
//!
//! [`Session::handle`] takes an [`Event`] and returns [`Action`]s; it does nothing itself. The engine keeps one session
//! for each peer and tells all of them what becomes durable here ([`Event::Stored`]).
//!
//! | When | The session |
//! |---|---|
//! | opened, and every 10 minutes | tells its heads of every log in scope |
//! | the peer's heads come | pulls what it lacks; warns of forks and rollbacks |
//! | something becomes durable | tells so; pushes it if the peer lacks it, at most every 20 ms |
//! | the peer pulls | loads and sends, authors in turn, within the peer's credit |
//! | anything outside the scope | ends, before any look into a store |
//!
//! Never here: whether an entry is valid, and what stands in it.

mod event;
mod incoming;
mod outgoing;
mod receive;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use locker_crypto::Refusal;
use locker_crypto::id::{PackHash, PersonId, SpaceTag, VerifyingKey};
use locker_crypto::identity::person_tag;

use crate::frontier::{Log, View};
use crate::limits::{
    FRONTIER_INTERVAL_MS, PACKS_PER_MESSAGE_MAX, PIN_HEADS_MAX, PUSH_INTERVAL_MS, REQUESTS_MAX,
    SESSION_LIFE_S,
};
use crate::message::v1::{Ask, Frontier, Head, LogKind, Message};
use crate::message::{FrameDecoder, FrameLimits};
use crate::scope::Scope;
use incoming::Incoming;
use outgoing::Outgoing;

pub use event::{Action, End, Event, Fate, Item, Notice, Purpose, Source, Terms};

/// How long what came from others waits before it is passed on, in milliseconds: the peer mostly has it by then and
/// says so.
pub const RELAY_DELAY_MS: u64 = 200;

/// How often one looks whether authors that were too fast may go on, in milliseconds.
const SLOWED_INTERVAL_MS: u64 = 1_000;

/// One peer after OK.
#[derive(Debug)]
pub struct Session {
    peer: Scope,
    own: Scope,
    frames: FrameDecoder,
    views: BTreeMap<Log, View>,
    incoming: Incoming,
    outgoing: Outgoing,
    /// What this node asked for, and how many answers are still to come.
    asked: BTreeMap<Ask, u32>,
    /// What the peer asked for and did not get.
    asked_by_peer: BTreeSet<Ask>,
    /// What others wait for, and whether it was pulled from this peer.
    missing: BTreeMap<Log, BTreeMap<(VerifyingKey, u64), bool>>,
    /// Packs that the peer wants and this node did not have.
    wanted: BTreeSet<(SpaceTag, PackHash)>,
    /// Where this node got further since the last flush.
    advanced: BTreeSet<(Log, VerifyingKey)>,
    /// When an author's new items are pushed.
    pushes: BTreeMap<(Log, VerifyingKey), u64>,
    /// Which pin heads the next frontier begins with.
    pin_turn: usize,
    /// This device, if the peer may know of it.
    device: Option<VerifyingKey>,
    /// Whether the peer asked to go on under a new key.
    succeeded: bool,
    ends_ms: Option<u64>,
    opened_ms: Option<u64>,
    told_ms: u64,
    flushed_ms: u64,
    over: bool,
}

impl Session {
    /// Makes a session that waits for [`Event::Opened`].
    pub fn new(terms: Terms) -> Self {
        let mut views: BTreeMap<Log, View> = BTreeMap::new();
        for (log, author, seq) in terms.remembered {
            views.entry(log).or_default().remember(author, seq);
        }
        let incoming = Incoming::new(terms.peer.is_whole());
        Self {
            peer: terms.peer,
            own: terms.own,
            frames: FrameDecoder::new(FrameLimits::Session),
            views,
            incoming,
            outgoing: Outgoing::default(),
            asked: BTreeMap::new(),
            asked_by_peer: BTreeSet::new(),
            missing: BTreeMap::new(),
            wanted: BTreeSet::new(),
            advanced: BTreeSet::new(),
            pushes: BTreeMap::new(),
            pin_turn: 0,
            device: terms.device,
            succeeded: false,
            ends_ms: terms.ends_ms,
            opened_ms: None,
            told_ms: 0,
            flushed_ms: 0,
            over: false,
        }
    }

    /// Takes an event at time `now_ms`, unix milliseconds, and returns what is to be done. After [`Action::Ended`]
    /// nothing more comes.
    pub fn handle(&mut self, event: Event, now_ms: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.over {
            return actions;
        }
        if self.ends_ms.is_some_and(|ends_ms| now_ms >= ends_ms) {
            self.end(End::Refuse(Refusal::Time), &mut actions);
        } else if let Err(why) = self.take(event, now_ms, &mut actions) {
            self.end(End::Refuse(why), &mut actions);
        }
        actions
    }

    /// Lets an own device read and bring the log of one more person: a new contact, a new member.
    pub fn add_person(&mut self, person: PersonId) {
        for scope in [&mut self.peer, &mut self.own] {
            if scope.is_whole() {
                scope.add_person(person);
            }
        }
        // What was heard of this tag before one knew whose it is.
        let tag = person_tag(&person);
        let mistaken = self.views.remove(&Log { kind: LogKind::Entries, tag });
        if let Some(view) = mistaken {
            self.views.entry(Log { kind: LogKind::Person, tag }).or_insert(view);
        }
    }

    /// Whether the stream may be read. While the store is behind it may not, and the transport slows the peer.
    pub fn wants_input(&self) -> bool {
        self.incoming.has_room()
    }

    /// When [`Event::Tick`] is due next, unix milliseconds.
    pub fn due_ms(&self) -> u64 {
        let exchange = self.told_ms.saturating_add(FRONTIER_INTERVAL_MS);
        let flush = self.flushed_ms.saturating_add(PUSH_INTERVAL_MS);
        let push = self.pushes.values().min().map(|due| flush.max(*due));
        let pending = !self.advanced.is_empty() || self.incoming.has_credit();
        let soon = pending.then_some(flush);
        let slowed = self.incoming.has_slowed().then(|| self.flushed_ms.saturating_add(SLOWED_INTERVAL_MS));
        [push, soon, slowed, self.ends_ms].into_iter().flatten().fold(exchange, u64::min)
    }

    /// Whether the session is over.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// What the peer may ask here.
    pub fn peer_scope(&self) -> &Scope {
        &self.peer
    }

    /// Whether everything that the peer showed is held here, and nothing is awaited. Before it showed anything
    /// that says nothing: [`Session::has_heard`].
    pub fn is_level(&self) -> bool {
        self.incoming.is_idle() && self.views.values().all(View::is_level)
    }

    /// Whether the peer showed how far it is in one log, and all of that is held here.
    pub fn is_level_in(&self, log: &Log) -> bool {
        self.incoming.is_idle() && self.views.get(log).is_some_and(|view| view.is_heard() && view.is_level())
    }

    /// Whether the peer showed how far it is in every log that is held here.
    pub fn has_heard(&self) -> bool {
        self.views.values().filter(|view| view.is_held()).all(View::is_heard)
    }

    fn take(&mut self, event: Event, now_ms: u64, actions: &mut Vec<Action>) -> Result<(), Refusal> {
        match event {
            Event::Opened => {
                self.opened_ms = Some(now_ms);
                self.tell_all(now_ms, actions);
            }
            Event::Received(bytes) => self.receive(&bytes, now_ms, actions)?,
            Event::Held { log, heads } => self.hold(log, &heads, now_ms, actions),
            Event::Stored { log, head, source } => {
                self.note_stored(log, &head, source, now_ms);
                if log.kind != LogKind::Entries {
                    // The entries that came with it are told of next, and go out with it; what came alone is soon due.
                    return Ok(());
                }
            }
            Event::Forked { log, author, seq } => {
                let range = self.views.get(&log).and_then(|view| view.clamp(&author, seq, u64::MAX));
                self.serve(log, author, range);
            }
            Event::Closed { log, author } => self.views.entry(log).or_default().close(author),
            Event::Succeed(succeed) => actions.push(Action::Send(Message::Succeed(succeed).encode())),
            Event::Missing { log, items } => {
                let before = self.missing.remove(&log).unwrap_or_default();
                let was_pulled = |item: &(VerifyingKey, u64)| before.get(item).copied().unwrap_or(false);
                let items: BTreeMap<_, _> = items.into_iter().map(|item| (item, was_pulled(&item))).collect();
                if let Some(view) = self.views.get_mut(&log) {
                    // What the peer showed of this device itself is awaited of it, whatever others have.
                    let own = self.device;
                    let is_found =
                        |item: &&(VerifyingKey, u64)| !items.contains_key(item) && Some(item.0) != own;
                    for (author, seq) in before.keys().filter(is_found) {
                        let mut left = items.range((*author, 0)..=(*author, u64::MAX)).rev();
                        let next = left.find(|(_, was_pulled)| **was_pulled).map(|((_, seq), _)| *seq);
                        view.note_found(author, *seq, next);
                    }
                }
                if !items.is_empty() {
                    self.missing.insert(log, items);
                    self.pull_missing(actions);
                }
            }
            Event::Taken { ticket, fate } => self.note_taken(ticket, fate, actions)?,
            Event::Loaded { request, items } => self.outgoing.take_loaded(request, items),
            Event::Ask(ask) => {
                let has_room = self.asked.contains_key(&ask) || self.asked.len() < REQUESTS_MAX;
                if self.own.may_ask(&ask) && has_room {
                    let count = self.asked.entry(ask).or_default();
                    *count = count.saturating_add(1);
                    actions.push(Action::Send(Message::Ask(ask).encode()));
                }
            }
            Event::Found { ask, objects } => self.take_found(ask, objects)?,
            Event::Deposit(bytes) => {
                self.outgoing.queue_object(bytes);
            }
            Event::Want { tag, packs } => {
                if !self.own.may_swap_packs(&tag) && !self.peer.may_swap_packs(&tag) {
                    return Ok(());
                }
                for packs in sorted_parts(packs) {
                    actions.push(Action::Send(Message::Want(tag, packs).encode()));
                }
            }
            Event::PacksHeld { tag, packs } => {
                let wanted = packs.into_iter().filter(|pack| self.wanted.remove(&(tag, *pack))).collect();
                for packs in sorted_parts(wanted) {
                    actions.push(Action::Send(Message::Have(tag, packs).encode()));
                }
            }
            Event::Room(room) => actions.push(Action::Send(Message::Room(room).encode())),
            Event::Slot(slot) => actions.push(Action::Send(Message::Slot(slot).encode())),
            Event::Tick => {}
            Event::Close { reason } => {
                if self.opened_ms.is_some() {
                    // What became durable here is known to the peer before it hears that this is the end.
                    self.flush(now_ms, actions);
                }
                actions.push(Action::Send(Message::Bye(reason).encode()));
                self.end(End::Closed, actions);
                return Ok(());
            }
        }
        self.advance(now_ms, actions);
        Ok(())
    }

    /// Does what is due by time, and sends what the credit allows.
    fn advance(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        let Some(opened_ms) = self.opened_ms.filter(|_| !self.over) else { return };
        if now_ms.saturating_sub(opened_ms) >= SESSION_LIFE_S * 1_000 {
            return self.end(End::Closed, actions);
        }
        if now_ms.saturating_sub(self.told_ms) >= FRONTIER_INTERVAL_MS {
            self.tell_all(now_ms, actions);
        }
        // A clock that was set back must not silence the session.
        if now_ms < self.flushed_ms || now_ms - self.flushed_ms >= PUSH_INTERVAL_MS {
            self.flush(now_ms, actions);
        }
        let Self { outgoing, views, peer, .. } = self;
        outgoing.pump(views, peer, actions);
    }

    /// Tells what became durable, gives new credit and begins the pushes that are due.
    fn flush(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        self.flushed_ms = now_ms;
        self.incoming.release_slowed(now_ms, actions);
        self.pull_missing(actions);
        let mut acks: BTreeMap<Log, Vec<(VerifyingKey, u64)>> = BTreeMap::new();
        for (log, author) in std::mem::take(&mut self.advanced) {
            // Pins have no acknowledgement of their own, and a node that may not see a log is told nothing of it.
            if log.kind != LogKind::Pins && self.may_tell(&log) {
                let seq = self.views.get_mut(&log).and_then(|view| view.take_ack(&author));
                acks.entry(log).or_default().extend(seq.map(|seq| (author, seq)));
            }
        }
        for (log, heads) in acks {
            for heads in heads.chunks(crate::limits::AUTHORS_MAX) {
                let message = Message::Ack { tag: log.tag, heads: heads.to_vec() };
                actions.push(Action::Send(message.encode()));
            }
        }
        if let Some(bytes) = self.incoming.take_credit() {
            actions.push(Action::Send(Message::Credit(bytes).encode()));
        }
        let due: BTreeSet<_> =
            self.pushes.iter().filter(|(_, due_ms)| **due_ms <= now_ms).map(|(chain, _)| *chain).collect();
        for (log, author) in &due {
            if log.kind == LogKind::Entries {
                // A delta that came with an entry came before it or beside it, and goes on before it.
                self.push(Log { kind: LogKind::Pins, tag: log.tag }, *author);
            }
            self.push(*log, *author);
        }
    }

    /// Queues what is new of an author, if there is anything that was not queued yet.
    fn push(&mut self, log: Log, author: VerifyingKey) {
        if self.pushes.remove(&(log, author)).is_some() {
            let range = self.views.get(&log).and_then(|view| view.push_range(&author));
            self.serve(log, author, range);
        }
    }

    /// Queues a part of a chain for the peer, if it may have it.
    fn serve(&mut self, log: Log, author: VerifyingKey, range: Option<(u64, u64)>) -> bool {
        let Some((from, to)) = range.filter(|_| self.may_tell(&log)) else { return false };
        self.outgoing.serve(log, author, from, to);
        if let Some(view) = self.views.get_mut(&log) {
            view.note_queued(author, to);
        }
        true
    }

    /// Whether the peer may know how far this node is in a log: it may read it, or this node may bring it.
    fn may_tell(&self, log: &Log) -> bool {
        self.peer.may_read(log.kind, &log.tag) || self.own.may_write(log.kind, &log.tag)
    }

    /// Whether the peer may tell how far it is in a log.
    fn may_hear(&self, log: &Log) -> bool {
        self.may_tell(log) || self.peer.may_write(log.kind, &log.tag) || self.own.may_read(log.kind, &log.tag)
    }

    fn tell_all(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        self.told_ms = now_ms;
        // What was pulled in vain is pulled again.
        self.missing.values_mut().flat_map(BTreeMap::values_mut).for_each(|was_pulled| *was_pulled = false);
        let held: BTreeSet<SpaceTag> =
            self.views.iter().filter(|(_, view)| view.is_held()).map(|(log, _)| log.tag).collect();
        // Person logs first: who a device belongs to decides what its entries are worth.
        let (persons, spaces): (Vec<_>, Vec<_>) = held
            .into_iter()
            .partition(|tag| self.views.contains_key(&Log { kind: LogKind::Person, tag: *tag }));
        for tag in persons.into_iter().chain(spaces) {
            self.tell(tag, now_ms, actions);
        }
    }

    /// Sends a frontier of what is held under a tag.
    fn tell(&mut self, tag: SpaceTag, now_ms: u64, actions: &mut Vec<Action>) {
        let person = Log { kind: LogKind::Person, tag };
        let main = match self.views.contains_key(&person) {
            true => person,
            false => Log { kind: LogKind::Entries, tag },
        };
        let pin_log = Log { kind: LogKind::Pins, tag };
        if !self.may_tell(&main) {
            return;
        }
        let heads = |views: &BTreeMap<Log, View>, log: &Log| -> Vec<Head> {
            views
                .get(log)
                .filter(|view| view.is_held())
                .map_or_else(Vec::new, |view| view.own_heads().collect())
        };
        let mut entries = heads(&self.views, &main);
        entries.truncate(crate::limits::AUTHORS_MAX);
        let mut pins = heads(&self.views, &pin_log);
        if pins.len() > PIN_HEADS_MAX {
            let turn = self.pin_turn % pins.len();
            pins.rotate_left(turn);
            pins.truncate(PIN_HEADS_MAX);
            pins.sort_unstable();
            self.pin_turn = turn + PIN_HEADS_MAX;
        }
        for (log, heads) in [(main, &entries), (pin_log, &pins)] {
            if let Some(view) = self.views.get_mut(&log) {
                view.note_told(heads);
            }
        }
        let message = Message::Frontier(Frontier { tag, heads: entries, pins, now_ms });
        actions.push(Action::Send(message.encode()));
    }

    fn hold(&mut self, log: Log, heads: &[Head], now_ms: u64, actions: &mut Vec<Action>) {
        let view = self.views.entry(log).or_default();
        let is_new = !view.is_held();
        view.set_own(heads);
        if self.opened_ms.is_none() {
            return;
        }
        if is_new && log.kind != LogKind::Pins {
            self.tell(log.tag, now_ms, actions);
        }
        self.pull(log, actions);
    }

    fn pull(&mut self, log: Log, actions: &mut Vec<Action>) {
        if !self.own.may_read(log.kind, &log.tag) && !self.peer.may_write(log.kind, &log.tag) {
            return;
        }
        let pulls = self.views.get_mut(&log).map_or_else(Vec::new, |view| view.pulls(log));
        actions.extend(pulls.into_iter().map(|pull| Action::Send(Message::Pull(pull).encode())));
    }

    /// Pulls what others wait for, once, as soon as the peer is known to have it and no pull under way brings it.
    fn pull_missing(&mut self, actions: &mut Vec<Action>) {
        if self.opened_ms.is_none() {
            return;
        }
        for (log, items) in &mut self.missing {
            let Some(view) = self.views.get_mut(log) else { continue };
            for ((author, seq), was_pulled) in items.iter_mut().filter(|(_, was_pulled)| !**was_pulled) {
                if let Some(pull) = view.pull_missing(*log, *author, *seq) {
                    *was_pulled = true;
                    actions.push(Action::Send(Message::Pull(pull).encode()));
                }
            }
        }
    }

    fn note_stored(&mut self, log: Log, head: &Head, source: Source, now_ms: u64) {
        self.views.entry(log).or_default().advance_own(head);
        self.advanced.insert((log, head.author));
        let due_ms = match source {
            Source::Here => now_ms,
            Source::Peer => now_ms.saturating_add(RELAY_DELAY_MS),
        };
        self.pushes.entry((log, head.author)).or_insert(due_ms);
    }

    fn note_taken(&mut self, ticket: u64, fate: Fate, actions: &mut Vec<Action>) -> Result<(), Refusal> {
        let envelope = self.incoming.finish(ticket);
        match (fate, envelope) {
            (Fate::Durable, Some(hash)) => actions.push(Action::Send(Message::Stored(hash).encode())),
            // A depositor is told nothing but yes or no.
            (Fate::Refused(why), Some(_)) => return Err(why),
            (Fate::Refused(why @ (Refusal::Canon | Refusal::Limit | Refusal::Key | Refusal::Sig)), None) => {
                return Err(why);
            }
            _ => {}
        }
        Ok(())
    }

    /// Sends what was found. A stranger who asked for what is not there is refused; a device hears nothing, and gets
    /// it with a later question.
    fn take_found(&mut self, ask: Ask, objects: Vec<Vec<u8>>) -> Result<(), Refusal> {
        if !self.asked_by_peer.remove(&ask) {
            return Ok(());
        }
        if objects.is_empty() && matches!(ask, Ask::Capsule(_)) {
            return Err(Refusal::Scope);
        }
        objects.into_iter().for_each(|bytes| self.outgoing.queue_object(bytes));
        Ok(())
    }

    fn end(&mut self, end: End, actions: &mut Vec<Action>) {
        self.over = true;
        actions.push(Action::Ended(end));
    }
}

/// Sorts packs and cuts them into messages.
fn sorted_parts(mut packs: Vec<PackHash>) -> Vec<Vec<PackHash>> {
    packs.sort_unstable();
    packs.dedup();
    packs.chunks(PACKS_PER_MESSAGE_MAX).map(<[PackHash]>::to_vec).collect()
}
