//! What a session needs of the store: how far this node is, taking items in, handing items out. Everything here blocks
//! and runs on threads of its own.
//!
//! An item is acknowledged only after its commit; a pack is held only after it is durable and its row says so.

mod beside;
mod blind;
mod change;
mod named;
mod packs;
mod secrets;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::ops::ControlFlow;

use locker_catalog::operation::Body;
use locker_catalog::roster::Roster;
use locker_catalog::space::{OpenedEntry, Outcome, Space};
use locker_crypto::Refusal;
use locker_crypto::entry::Envelope;
use locker_crypto::id::{PackHash, PinId, VerifyingKey};
use locker_crypto::identity::person_tag;
use locker_crypto::person::Entry;
use locker_crypto::pin::{PinDelta, PinHead};
use locker_store::addresses::{self, Met};
use locker_store::pins::{self, PinScope};
use locker_store::{Reads, WriteTxn, objects, persons};
use locker_sync::frontier::Log;
use locker_sync::message::v1::{Ask, Head, LogKind};
use locker_sync::session::{Fate, Item};

pub(crate) use self::beside::Asker;
pub(crate) use self::packs::{Opened, TakenUp, is_held};
pub(crate) use self::secrets::Unopened;
use crate::Error;
use crate::keys::{named_objects, one_genesis, person_log};
use crate::locker::Inner;
use crate::newcomers;
use crate::person_chains::PersonChains;
use crate::rebirth::{Doubt, Rebirth};
use crate::replicas::{self, Grounds, Reachable};
use crate::share::Register;

/// An item that a peer sent.
pub(crate) struct Incoming {
    /// To be named in the answer.
    pub(crate) ticket: u64,
    /// Where it belongs, by its own words.
    pub(crate) log: Log,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// Who sent it.
    pub(crate) from: Asker,
}

/// What became of a batch of items.
#[derive(Default)]
pub(crate) struct Taken {
    /// Of each ticket.
    pub(crate) fates: Vec<(u64, Fate)>,
    /// Packs that are named and pinned now and are not here.
    pub(crate) wanted: Vec<(PackHash, u32)>,
    /// Packs that nobody holds any more.
    pub(crate) unwanted: Vec<PackHash>,
    /// What the new entries name beside the logs and is not here.
    pub(crate) asks: Vec<Ask>,
    /// Entries of the person log and pins whose author may be brought in by what comes next.
    pub(crate) late: Vec<Incoming>,
    /// The log of the person with what came so far, and what it comes to, once that was needed.
    person: Option<(Vec<Entry>, Roster)>,
}

/// How this node stands in its logs.
pub(crate) struct LogStanding {
    /// The newest item of every author.
    pub(crate) heads: Vec<(Log, Vec<Head>)>,
    /// What entries of the person and of the home space stand on that is not here.
    pub(crate) missing: BTreeMap<Log, Vec<(VerifyingKey, u64)>>,
    /// Authors in these two logs of whom two entries share a number, with the first such number.
    pub(crate) forked: BTreeMap<(Log, VerifyingKey), u64>,
    /// The person's active devices.
    pub(crate) active: BTreeSet<VerifyingKey>,
    /// Those, and devices that were replaced and may not know it.
    pub(crate) admitted: BTreeSet<VerifyingKey>,
    /// The root key that counts.
    pub(crate) root: VerifyingKey,
    /// Whether this device needs a new key.
    pub(crate) rebirth: Rebirth,
    /// The person's links.
    pub(crate) register: Register,
    /// The person's replicas that can be reached.
    pub(crate) replicas: BTreeMap<VerifyingKey, Reachable>,
    /// What their tokens are judged by.
    pub(crate) grounds: Grounds,
}

impl Inner {
    /// The log of this person's devices.
    pub(crate) fn person_log(&self) -> Log {
        Log { kind: LogKind::Person, tag: person_tag(&self.keys().person) }
    }

    /// The entries of the home space.
    pub(crate) fn entry_log(&self) -> Log {
        Log { kind: LogKind::Entries, tag: self.space_tag() }
    }

    /// The pins of the home space.
    pub(crate) fn pin_log(&self) -> Log {
        Log { kind: LogKind::Pins, tag: self.space_tag() }
    }

    /// How this node stands in every log that it shares with own devices.
    pub(crate) fn standing(&self) -> Result<LogStanding, Error> {
        if let Some(depot) = self.depot() {
            return self.blind_standing(depot);
        }
        let store = self.store()?;
        let snapshot = store.read()?;
        let keys = self.keys();
        let log = person_log(&snapshot, &keys.person)?;
        let (roster, person) = (Roster::read(keys.person, &log), PersonChains::of(&log));
        let rows = snapshot.rows(keys.tag);
        let space = Space::open(&rows, keys.space, keys.device_id())?;
        let entries: Vec<Head> = space
            .heads(&rows)?
            .into_iter()
            .map(|head| Head { author: head.author, seq: head.seq, id: head.id.0 })
            .collect();
        let mut pins = Vec::new();
        let authors: BTreeSet<VerifyingKey> =
            entries.iter().map(|head| head.author).chain(roster.brought_in.iter().copied()).collect();
        for author in authors {
            let newest = self.pin_heads().newest(&snapshot, &PinScope { space: keys.tag, author })?;
            pins.extend(newest.map(|PinHead { seq, id }| Head { author, seq, id: id.0 }));
        }
        let register = Register::of(self, &snapshot, &space, &roster)?;
        let rebirth = self.rebirth(&snapshot, &roster)?;
        let (replicas, grounds) = replicas::reachable(&snapshot, &keys, &roster)?;
        // What waits is known only to the space that is open for writing.
        let missing = self.space().as_ref().map(|space| space.waiting().missing_entries(|_| true));
        let logs = [self.person_log(), self.entry_log()];
        Ok(LogStanding {
            missing: logs.into_iter().zip([person.missing, missing.unwrap_or_default()]).collect(),
            forked: forks(logs, [person.forked, space.forked().collect()]),
            heads: vec![
                (self.person_log(), person.heads.into_values().collect()),
                (self.entry_log(), entries),
                (self.pin_log(), pins),
            ],
            admitted: roster.admitted(),
            root: roster.root,
            active: roster.active,
            rebirth,
            register,
            replicas,
            grounds,
        })
    }

    /// Takes in entries whose time has come.
    pub(crate) fn release_deferred(&self) -> Result<Taken, Error> {
        let mut taken = Taken::default();
        {
            let store = self.store()?;
            let snapshot = store.read()?;
            let rows = snapshot.rows(self.space_tag());
            let space = Space::open(&rows, self.keys().space, self.keys().device_id())?;
            // What is not due yet may wait for years.
            if !space.has_due(&rows, self.env().now_ms())? {
                return Ok(taken);
            }
        }
        let is_new_key = self.change_space(|txn, space| {
            let now_ms = self.env().now_ms();
            let report = space.release_deferred(&mut txn.rows_mut(self.space_tag()), now_ms)?;
            self.note_taken(txn, space, &report.taken, &mut taken)?;
            // What came while the clock was behind may hold the keys without which nothing is written.
            self.learn_home(txn)
        })?;
        if is_new_key {
            self.reload_keys()?;
        }
        Ok(taken)
    }

    /// Checks and stores items of own devices, in one durable commit.
    ///
    /// # Errors
    /// What the store gives; nothing of the batch is kept then.
    pub(crate) fn take_items(&self, items: Vec<Incoming>) -> Result<Taken, Error> {
        if let Some(depot) = self.depot() {
            return self.blind_take_items(depot, items);
        }
        let levels = self.node().map(|hub| hub.levels_before()).unwrap_or_default();
        let take = |txn: &mut WriteTxn<'_>, space: &mut Space| -> Result<_, Error> {
            let rows = &mut txn.rows_mut(self.space_tag());
            levels.iter().try_for_each(|(device, at_ms)| Space::note_level(rows, device, *at_ms))?;
            let mut taken = Taken::default();
            let mut items = VecDeque::from(items);
            while let Some(item) = items.pop_front() {
                let fate = match item.log.kind {
                    LogKind::Person => self.take_person(txn, space, &item, &mut taken),
                    LogKind::Entries => self.take_entry(txn, space, &item.bytes, &mut taken),
                    LogKind::Pins => self.take_pins(txn, &item, &mut taken),
                };
                let fate = match fate {
                    Ok(fate) => fate,
                    Err(Error::Refused(why)) => Fate::Refused(why),
                    Err(error) => return Err(error),
                };
                taken.fates.push((item.ticket, fate));
                match (item.log.kind, fate) {
                    (LogKind::Person | LogKind::Pins, Fate::Waiting) => taken.late.push(item),
                    // It may have brought in the authors of those.
                    (LogKind::Person, Fate::Durable) => items.extend(taken.late.drain(..)),
                    _ => {}
                }
            }
            packs::keep_unpinned(txn, &self.space_tag(), &mut taken.unwanted)?;
            let is_new_key = self.learn_home(txn)?;
            Ok((taken, is_new_key))
        };
        // A drive that offers what is refused each time must not look like somebody who goes on writing.
        let is_kept = |(_, fate): &(u64, Fate)| !matches!(fate, Fate::Refused(_));
        let is_news = |(taken, is_new_key): &(Taken, bool)| {
            *is_new_key || taken.late.len() < taken.fates.iter().filter(|one| is_kept(one)).count()
        };
        let (taken, is_new_key) = self.change_space_with(take, is_news)?;
        if taken.person.is_some() {
            // Another key may be in use, whose box came before or which was in use here already.
            match self.learn_person_key() {
                // What some device began opens to no key of the person: the items are kept all the same.
                Ok(()) | Err(Error::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        if is_new_key {
            self.reload_keys()?;
        }
        Ok(taken)
    }

    fn take_person(
        &self,
        txn: &mut WriteTxn<'_>,
        space: &mut Space,
        item: &Incoming,
        taken: &mut Taken,
    ) -> Result<Fate, Error> {
        let person = self.keys().person;
        let entry = Entry::read(&person, &item.bytes).map_err(Error::Refused)?;
        if persons::get(txn, &person, &entry.id)?.is_some() {
            return Ok(Fate::Durable);
        }
        // After one that failed it is read anew.
        let (mut log, before) = match taken.person.take() {
            Some(known) => known,
            None => {
                let log = person_log(txn, &person)?;
                let roster = Roster::read(person, &log);
                (log, roster)
            }
        };
        log.push(entry.clone());
        one_genesis(&log).map_err(Error::Refused)?;
        let roster = Roster::read(person, &log);
        // Others could make up any number of authors: only what the log leads to is taken from there.
        if item.from != Asker::Device && !roster.brought_in.contains(&entry.author) {
            log.pop();
            taken.person = Some((log, before));
            return Ok(Fate::Waiting);
        }
        // It is kept all the same: it may have brought in a device.
        let own = self.keys().device_id();
        if entry.author == own {
            self.note_own(txn, self.person_log(), &Head { author: own, seq: entry.seq, id: entry.id.0 })?;
        }
        persons::put(txn, &person, &entry.id, &item.bytes);
        for hash in named_objects(&entry) {
            if objects::get(txn, &hash)?.is_none() {
                taken.asks.push(Ask::Object(hash));
            }
        }
        let now_ms = self.env().now_ms();
        if let Some(by) = roster.replaced.get(&own) {
            Doubt::note_replaced(txn, by, now_ms)?;
        }
        newcomers::note(txn, &own, (&before, &roster), now_ms)?;
        let tag = self.space_tag();
        let report = space.set_roster(&mut txn.rows_mut(tag), person, &roster, now_ms)?;
        self.note_taken(txn, space, &report.taken, taken)?;
        taken.person = Some((log, roster));
        Ok(Fate::Durable)
    }

    fn take_entry(
        &self,
        txn: &mut WriteTxn<'_>,
        space: &mut Space,
        bytes: &[u8],
        taken: &mut Taken,
    ) -> Result<Fate, Error> {
        let keys = self.keys();
        let mut opened = self.open_entry(txn, bytes);
        if opened == Err(Refusal::Epoch) && self.open_epoch(txn, bytes)? {
            opened = self.open_entry(txn, bytes);
        }
        let entry = match opened {
            Ok(entry) => entry,
            // Signed by an author that is known: its epoch is asked for.
            Err(Refusal::Epoch) => {
                let header = *Envelope::parse(bytes).map_err(Error::Refused)?.header();
                if space.access().knows_author(&header.author) {
                    self.keep_unopened(header.epoch, bytes);
                    taken.asks.push(Ask::Boxes(self.space_tag(), header.epoch));
                }
                return Ok(Fate::Waiting);
            }
            Err(why) => return Err(Error::Refused(why)),
        };
        let now_ms = self.env().now_ms();
        if entry.author == keys.device_id() {
            // Nothing that is new here was signed here. It is taken once this home has another key, and in its place
            // among the entries of others.
            let item = Head { author: entry.author, seq: entry.seq, id: entry.id.0 };
            let is_new = self.note_own(txn, self.entry_log(), &item)?;
            return Ok(if is_new { Fate::Waiting } else { Fate::Durable });
        }
        let report = space.accept(&mut txn.rows_mut(keys.tag), entry, now_ms)?;
        self.note_taken(txn, space, &report.taken, taken)?;
        Ok(match report.outcome {
            Outcome::Taken | Outcome::Deferred | Outcome::Held => Fate::Durable,
            Outcome::Waiting(_) => Fate::Waiting,
            Outcome::Refused(why) => Fate::Refused(why),
        })
    }

    /// Checks an entry as far as that needs no other one, and opens it.
    fn open_entry<R: Reads>(&self, reads: &R, bytes: &[u8]) -> Result<OpenedEntry, Refusal> {
        let keys = self.keys();
        let envelope = Envelope::parse(bytes)?;
        envelope.verify()?;
        envelope.check_space(&keys.space)?;
        let header = envelope.header();
        let key = keys.log_key(reads, &header.epoch).map_err(|_| Refusal::Epoch)?;
        let body = Body::read(envelope.open(Some(&key))?)?;
        Ok(OpenedEntry {
            id: envelope.id(),
            author: header.author,
            seq: header.seq,
            prev: header.prev,
            epoch: header.epoch,
            sealed: bytes.to_vec(),
            body,
        })
    }

    /// Looks at an item of this device's own that another one sent. Says whether it is new here, which is noted.
    fn note_own(&self, txn: &mut WriteTxn<'_>, log: Log, item: &Head) -> Result<bool, Error> {
        let sign = self.sign_of(txn, log, item)?;
        if let Some(sign) = sign {
            Doubt::note(txn, sign, self.env().now_ms())?;
        }
        Ok(sign.is_some())
    }

    /// Where another device of the person was reached, the last place first.
    pub(crate) fn known_addresses(&self, device: &VerifyingKey) -> Result<Vec<SocketAddr>, Error> {
        Ok(addresses::of(&self.store()?.read()?, device)?)
    }

    /// Where to look for another device of the person: where it was reached, and under the keys that it had before.
    pub(crate) fn places_of(&self, device: &VerifyingKey) -> Result<Vec<SocketAddr>, Error> {
        let snapshot = self.store()?.read()?;
        let person = self.keys().person;
        let line = Roster::read(person, &person_log(&snapshot, &person)?).line_of(device);
        let places: Result<Vec<_>, _> = line.iter().map(|key| addresses::of(&snapshot, key)).collect();
        Ok(places?.concat())
    }

    /// Notes where another device of the person was reached.
    pub(crate) fn note_address(&self, device: &VerifyingKey, at: SocketAddr, met: Met) -> Result<(), Error> {
        let known = self.known_addresses(device)?;
        if known.first() == Some(&at) || met == Met::Came && known.contains(&at) {
            return Ok(());
        }
        self.store()?.write(|txn| Ok(addresses::note(txn, device, at, met)?))
    }

    fn take_pins(&self, txn: &mut WriteTxn<'_>, item: &Incoming, taken: &mut Taken) -> Result<Fate, Error> {
        let bytes = item.bytes.as_slice();
        let (delta, id) = PinDelta::open(bytes).map_err(Error::Refused)?;
        let scope = PinScope { space: self.space_tag(), author: delta.author };
        if delta.space_tag != scope.space {
            return Err(Error::Refused(Refusal::Scope));
        }
        if item.from != Asker::Device {
            let person = self.keys().person;
            if !Roster::read(person, &person_log(txn, &person)?).brought_in.contains(&delta.author) {
                return Ok(Fate::Waiting);
            }
        }
        if delta.author == self.keys().device_id() {
            let item = Head { author: delta.author, seq: delta.seq, id: id.0 };
            let is_new = self.note_own(txn, self.pin_log(), &item)?;
            return Ok(if is_new { Fate::Waiting } else { Fate::Durable });
        }
        let newest = self.pin_heads().newest(txn, &scope)?;
        let (next, prev) = newest.map_or((0, PinId::ZERO), |head| (head.seq + 1, head.id));
        if delta.seq < next {
            return match pins::delta(txn, &scope, delta.seq)? {
                Some(held) if held == bytes => Ok(Fate::Durable),
                _ => Err(Error::Refused(Refusal::Fork)),
            };
        }
        if delta.seq > next {
            return Ok(Fate::Waiting);
        }
        if delta.prev != prev {
            return Err(Error::Refused(Refusal::Chain));
        }
        for drop in &delta.drops {
            if !pins::is_pinned(txn, &scope, drop)? && !delta.adds.contains(drop) {
                return Err(Error::Refused(Refusal::Rights));
            }
        }
        let stored = pins::PinDelta { seq: delta.seq, bytes, adds: &delta.adds, drops: &delta.drops };
        pins::apply(txn, &scope, &stored);
        for hash in &delta.adds {
            self.want_if_held(txn, hash, taken)?;
        }
        for hash in &delta.drops {
            if !pins::is_pinned_by_any(txn, &scope.space, hash)? {
                taken.unwanted.push(*hash);
            }
        }
        Ok(Fate::Durable)
    }

    /// Loads items of one author from a number on: at least one if any is held, then as many as fit.
    pub(crate) fn load_items(
        &self,
        log: Log,
        author: &VerifyingKey,
        from: u64,
        to: u64,
        bytes_max: u64,
    ) -> Result<Vec<Item>, Error> {
        let store = self.store()?;
        let snapshot = store.read()?;
        if let Some(depot) = self.depot() {
            return depot.items(&snapshot, log, author, from, to, bytes_max);
        }
        let mut items = Vec::new();
        let mut bytes = 0;
        let mut add = |seq: u64, item: Vec<u8>| {
            // All branches of one number go together.
            let is_full = bytes >= bytes_max && items.last().is_some_and(|last: &Item| last.seq != seq);
            if seq > to || is_full {
                return ControlFlow::Break(());
            }
            bytes += item.len() as u64;
            items.push(Item { seq, bytes: item });
            ControlFlow::Continue(())
        };
        match log.kind {
            LogKind::Entries if log.tag == self.space_tag() => {
                let rows = snapshot.rows(log.tag);
                let space = Space::open(&rows, self.keys().space, self.keys().device_id())?;
                space.sealed_from(&rows, author, from, &mut |sealed| match Envelope::parse(sealed) {
                    Ok(envelope) => add(envelope.header().seq, sealed.to_vec()),
                    Err(_) => ControlFlow::Break(()),
                })?;
            }
            LogKind::Pins if log.tag == self.space_tag() => {
                let scope = PinScope { space: log.tag, author: *author };
                for seq in from..=to {
                    let Some(delta) = pins::delta(&snapshot, &scope, seq)? else { break };
                    if add(seq, delta).is_break() {
                        break;
                    }
                }
            }
            LogKind::Person if log == self.person_log() => {
                let mut entries = person_log(&snapshot, &self.keys().person)?;
                entries.retain(|entry| entry.author == *author && entry.seq >= from);
                entries.sort_by_key(|entry| (entry.seq, entry.id));
                for entry in entries {
                    if add(entry.seq, entry.to_bytes(&self.keys().person)).is_break() {
                        break;
                    }
                }
            }
            _ => {}
        }
        Ok(items)
    }
}

/// The forked authors of two logs.
fn forks(logs: [Log; 2], of: [BTreeMap<VerifyingKey, u64>; 2]) -> BTreeMap<(Log, VerifyingKey), u64> {
    let of = logs.into_iter().zip(of);
    of.flat_map(|(log, forked)| forked.into_iter().map(move |(author, seq)| ((log, author), seq))).collect()
}

#[cfg(test)]
mod tests;
