//! What a peer says: decoded, held against the scope, then turned into actions.

use locker_crypto::Refusal;
use locker_crypto::entry::{Envelope, space_tag};
use locker_crypto::id::{ObjectHash, PersonId, SpaceId, SpaceTag, VerifyingKey};
use locker_crypto::identity::person_tag;
use locker_crypto::person;
use locker_crypto::pin::PinDelta;

use super::{Action, End, Notice, Purpose, Session};
use crate::frontier::Log;
use crate::limits::{PIN_HEADS_MAX, REQUESTS_MAX, WANTED_MAX};
use crate::message::kind;
use crate::message::v1::{Ask, Frontier, LogKind, Message, Pull};

impl Session {
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        now_ms: u64,
        actions: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        self.frames.push(bytes);
        while !self.over {
            let Some(frame) = self.frames.next_frame()? else { break };
            if frame.kind == kind::REFUSED {
                self.end(End::Refused, actions);
                break;
            }
            self.hear(Message::decode(frame)?, now_ms, actions)?;
        }
        Ok(())
    }

    fn hear(&mut self, message: Message, now_ms: u64, actions: &mut Vec<Action>) -> Result<(), Refusal> {
        match message {
            Message::Frontier(frontier) => self.hear_frontier(&frontier, now_ms, actions),
            Message::Pull(pull) => self.hear_pull(&pull, now_ms),
            Message::Entry(bytes) => self.hear_entry(bytes, now_ms, actions),
            Message::Ack { tag, heads } => self.hear_ack(tag, heads, now_ms, actions),
            Message::Credit(bytes) => {
                self.outgoing.add_credit(bytes);
                Ok(())
            }
            Message::Object { hash, bytes } => self.hear_object(hash, bytes, actions),
            Message::Person { person, entries } => self.hear_person(&person, entries, actions),
            Message::Want(tag, packs) => {
                if !self.peer.may_swap_packs(&tag) {
                    return Err(Refusal::Scope);
                }
                for pack in &packs {
                    if self.wanted.len() < WANTED_MAX {
                        self.wanted.insert((tag, *pack));
                    }
                }
                actions.push(Action::LookUpPacks { tag, packs });
                Ok(())
            }
            Message::Have(tag, packs) => {
                if !self.peer.may_swap_packs(&tag) && !self.own.may_swap_packs(&tag) {
                    return Err(Refusal::Scope);
                }
                actions.push(Action::PacksOffered { tag, packs });
                Ok(())
            }
            Message::Pins(bytes) => self.hear_pins(bytes, actions),
            Message::Bye(reason) => {
                self.end(End::Bye(reason), actions);
                Ok(())
            }
            Message::Ask(ask) => self.hear_ask(ask, actions),
            Message::Stored(hash) => {
                actions.push(Action::DepositStored(hash));
                Ok(())
            }
            Message::Room(room) => {
                // A replica says it, and no device that reads.
                if self.peer.is_whole() || !self.peer.may_swap_packs(&room.tag) {
                    return Err(Refusal::Scope);
                }
                actions.push(Action::Room(room));
                Ok(())
            }
            Message::Slot(slot) => {
                // Said to a replica, by a device for which it stores.
                let is_replica = !self.own.is_whole() && self.own.may_swap_packs(&slot.tag);
                if !is_replica || !self.peer.is_whole() {
                    return Err(Refusal::Scope);
                }
                actions.push(Action::Slot(slot));
                Ok(())
            }
            Message::Succeed(succeed) => {
                if !self.peer.is_whole() {
                    return Err(Refusal::Scope);
                }
                // A device has one key after another, never two at a time.
                if std::mem::replace(&mut self.succeeded, true) {
                    return Err(Refusal::Limit);
                }
                actions.push(Action::Succession(succeed));
                Ok(())
            }
        }
    }

    fn hear_frontier(
        &mut self,
        frontier: &Frontier,
        now_ms: u64,
        actions: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        let Frontier { tag, heads, pins, .. } = frontier;
        let is_person = self.peer.person(tag).or(self.own.person(tag)).is_some();
        let kind = if is_person { LogKind::Person } else { LogKind::Entries };
        let main = Log { kind, tag: *tag };
        if !self.may_hear(&main) || (is_person && !pins.is_empty()) {
            return Err(Refusal::Scope);
        }
        let mut parts = vec![(main, heads, true)];
        if !is_person {
            let complete = pins.len() < PIN_HEADS_MAX;
            parts.push((Log { kind: LogKind::Pins, tag: *tag }, pins, complete));
        }
        let ahead_ms = i128::from(frontier.now_ms) - i128::from(now_ms);
        let ahead_ms = i64::try_from(ahead_ms).unwrap_or(if ahead_ms < 0 { i64::MIN } else { i64::MAX });
        actions.push(Action::Notice(Notice::Clock { ahead_ms }));
        for (log, heads, complete) in parts {
            let own = self.device.and_then(|own| heads.iter().find(|head| head.author == own));
            actions.extend(own.map(|head| Action::ShowsOwn { log, head: *head }));
            let view = self.views.entry(log).or_default();
            let warnings = view.hear(heads, complete);
            actions.extend(warnings.into_iter().map(|warning| Action::Notice(Notice::Warning(log, warning))));
            if !heads.is_empty() {
                let heads = heads.iter().map(|head| (head.author, head.seq)).collect();
                actions.push(Action::Remember { log, heads });
            }
            let authors: Vec<VerifyingKey> = view.own_heads().map(|head| head.author).collect();
            for author in authors {
                self.pushes.entry((log, author)).or_insert(now_ms);
            }
            self.pull(log, actions);
        }
        self.pull_missing(actions);
        Ok(())
    }

    fn hear_pull(&mut self, pull: &Pull, now_ms: u64) -> Result<(), Refusal> {
        let log = Log { kind: pull.kind, tag: pull.tag };
        if !self.may_tell(&log) {
            return Err(Refusal::Scope);
        }
        let range = self.views.get(&log).and_then(|view| view.clamp(&pull.author, pull.from, pull.to));
        if self.serve(log, pull.author, range) {
            // What was written since the frontier follows in the same breath.
            self.pushes.entry((log, pull.author)).or_insert(now_ms);
        }
        Ok(())
    }

    fn hear_entry(&mut self, bytes: Vec<u8>, now_ms: u64, actions: &mut Vec<Action>) -> Result<(), Refusal> {
        self.incoming.spend(bytes.len() as u64)?;
        let envelope = Envelope::parse(&bytes)?;
        let tag = match envelope.is_genesis() {
            true => space_tag(&SpaceId(*envelope.id().as_bytes())),
            false => envelope.header().space_tag,
        };
        let (author, seq) = (envelope.header().author, envelope.header().seq);
        let log = Log { kind: LogKind::Entries, tag };
        let was_asked = self.note_item(log, author, seq)?;
        let len = bytes.len() as u64;
        let bytes = match was_asked {
            true => Some(bytes),
            false => self.incoming.may_take(log, author, seq, bytes, now_ms),
        };
        if let Some(bytes) = bytes {
            let ticket = self.incoming.issue(len, len, None);
            actions.push(Action::Take { ticket, log, author, seq, bytes });
        }
        Ok(())
    }

    fn hear_pins(&mut self, bytes: Vec<u8>, actions: &mut Vec<Action>) -> Result<(), Refusal> {
        let (delta, _) = PinDelta::open(&bytes)?;
        let log = Log { kind: LogKind::Pins, tag: delta.space_tag };
        self.note_item(log, delta.author, delta.seq)?;
        let ticket = self.incoming.issue(bytes.len() as u64, 0, None);
        actions.push(Action::Take { ticket, log, author: delta.author, seq: delta.seq, bytes });
        Ok(())
    }

    fn hear_person(
        &mut self,
        person: &PersonId,
        entries: Vec<Vec<u8>>,
        actions: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        let log = Log { kind: LogKind::Person, tag: person_tag(person) };
        for bytes in entries {
            let envelope = person::Envelope::read(&bytes)?;
            if envelope.tag != log.tag {
                return Err(Refusal::Scope);
            }
            let (author, seq) = (envelope.author, envelope.seq);
            self.note_item(log, author, seq)?;
            let ticket = self.incoming.issue(bytes.len() as u64, 0, None);
            actions.push(Action::Take { ticket, log, author, seq, bytes });
        }
        Ok(())
    }

    /// Holds an item against the scope, and notes that the peer has it. Returns whether it was pulled.
    fn note_item(&mut self, log: Log, author: VerifyingKey, seq: u64) -> Result<bool, Refusal> {
        if !self.peer.may_write(log.kind, &log.tag) && !self.own.may_read(log.kind, &log.tag) {
            return Err(Refusal::Scope);
        }
        let view = self.views.entry(log).or_default();
        let was_asked = view.is_asked(&author, seq);
        view.note_arrived(author, seq);
        view.note_acked(author, seq);
        Ok(was_asked)
    }

    fn hear_ack(
        &mut self,
        tag: SpaceTag,
        heads: Vec<(VerifyingKey, u64)>,
        now_ms: u64,
        actions: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        let is_person = self.peer.person(&tag).or(self.own.person(&tag)).is_some();
        let log = Log { kind: if is_person { LogKind::Person } else { LogKind::Entries }, tag };
        if !self.may_hear(&log) {
            return Err(Refusal::Scope);
        }
        let view = self.views.entry(log).or_default();
        heads.iter().for_each(|(author, seq)| view.note_acked(*author, *seq));
        let behind = heads.iter().filter(|(author, _)| view.push_range(author).is_some());
        for (author, _) in behind {
            self.pushes.entry((log, *author)).or_insert(now_ms);
        }
        actions.push(Action::Remember { log, heads: heads.clone() });
        actions.push(Action::Acknowledged { log, heads });
        Ok(())
    }

    fn hear_object(
        &mut self,
        hash: ObjectHash,
        bytes: Vec<u8>,
        actions: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        let len = bytes.len() as u64;
        self.incoming.spend(len)?;
        if *blake3::hash(&bytes).as_bytes() != hash.0 {
            return Err(Refusal::Hash);
        }
        let purpose = if self.settle_ask(Ask::Object(hash)) {
            Purpose::Asked
        } else if self.peer.may_deposit() {
            Purpose::Deposit
        } else {
            return Err(Refusal::Scope);
        };
        let envelope = (purpose == Purpose::Deposit).then_some(hash);
        let ticket = self.incoming.issue(len, len, envelope);
        actions.push(Action::TakeObject { ticket, hash, bytes, purpose });
        Ok(())
    }

    /// Whether an object was asked for: by name, or as a capsule or bundle, whose names nobody knows before.
    fn settle_ask(&mut self, by_name: Ask) -> bool {
        match self.asked.get_mut(&by_name) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) => _ = self.asked.remove(&by_name),
            None => return self.asked.keys().any(|ask| !matches!(ask, Ask::Object(_))),
        }
        true
    }

    fn hear_ask(&mut self, ask: Ask, actions: &mut Vec<Action>) -> Result<(), Refusal> {
        if !self.peer.may_ask(&ask) {
            return Err(Refusal::Scope);
        }
        if self.asked_by_peer.len() >= REQUESTS_MAX {
            return Err(Refusal::Limit);
        }
        if self.asked_by_peer.insert(ask) {
            actions.push(Action::LookUp(ask));
        }
        Ok(())
    }
}
