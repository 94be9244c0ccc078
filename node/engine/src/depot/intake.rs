//! Items of logs on their way into a depot (`docs/spec/08-at-rest.md`, "Depot").
//!
//! | Item | Checked |
//! |---|---|
//! | person log | form, signature, person, operations; its author is a device that the log brings in |
//! | entry | form, author key, signature, space, chain; its author is a device that the log brought in |
//! | pins | form, author key, signature, space, chain; only own pins are dropped; author as above |
//!
//! What lacks something that may still come is kept aside, bounded. No frontier is applied: how far the entries of a
//! removed device count is decided by who reads them, and other entries may name them (decision 0013).

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use locker_catalog::log::{ChainPlace, Missing, judge_place};
use locker_catalog::roster::Roster;
use locker_crypto::Refusal;
use locker_crypto::entry::Envelope;
use locker_crypto::id::{EntryId, PackHash, PinId, VerifyingKey};
use locker_crypto::person::Entry;
use locker_crypto::pin::{PinDelta, PinHead, Step};
use locker_store::index::{self, NewPack, PackState};
use locker_store::opaque::{self, Chain};
use locker_store::pins::{self, PinScope};
use locker_store::{WriteTxn, persons, unneeded};
use locker_sync::message::v1::LogKind;
use locker_sync::session::Fate;

use super::Depot;
use crate::Error;
use crate::keys::{one_genesis, person_log};

/// An item that came before what it needs.
pub(super) struct Early {
    pub(super) kind: LogKind,
    bytes: Vec<u8>,
}

/// What becomes of an item.
enum Verdict {
    /// It is in, or was.
    In,
    /// It waits for something, under a name of its own.
    Early(EntryId, Missing),
}

/// A batch of items on its way into one transaction.
pub(crate) struct Intake<'d> {
    depot: &'d Depot,
    roster: Roster,
    /// Bytes of the entries of this batch.
    entry_bytes: u64,
    /// What is new here and others may wait for.
    stored: BTreeSet<EntryId>,
    /// Packs that are pinned now and are not here, with their lengths; 0 where that is not known.
    pub(crate) wanted: Vec<(PackHash, u32)>,
    /// Packs that nobody pins any more.
    pub(crate) unwanted: Vec<PackHash>,
}

impl<'d> Intake<'d> {
    /// Begins a batch.
    ///
    /// # Errors
    /// What reading gives.
    pub(crate) fn begin(depot: &'d Depot, txn: &WriteTxn<'_>) -> Result<Self, Error> {
        let (roster, stored) = (depot.roster(txn)?, BTreeSet::new());
        Ok(Self { depot, roster, entry_bytes: 0, stored, wanted: Vec::new(), unwanted: Vec::new() })
    }

    /// Takes one item in; what waited for it follows.
    ///
    /// # Errors
    /// What the store gives: the transaction is then given up. A refused item is no error but [`Fate::Refused`].
    pub(crate) fn take(
        &mut self,
        txn: &mut WriteTxn<'_>,
        kind: LogKind,
        bytes: &[u8],
    ) -> Result<Fate, Error> {
        let fate = match self.judge(txn, kind, bytes) {
            Ok(Verdict::In) => Fate::Durable,
            Ok(Verdict::Early(id, missing)) => {
                let early = Early { kind, bytes: bytes.to_vec() };
                self.depot.state().early.keep(id, early, bytes.len(), missing);
                Fate::Waiting
            }
            Err(Error::Refused(why)) => Fate::Refused(why),
            Err(error) => return Err(error),
        };
        if fate == Fate::Durable {
            self.take_early(txn)?;
        }
        Ok(fate)
    }

    /// Takes in what waited, until nothing more is ready.
    fn take_early(&mut self, txn: &mut WriteTxn<'_>) -> Result<(), Error> {
        loop {
            let ready = {
                let (roster, stored) = (&self.roster, &self.stored);
                self.depot.state().early.take_ready(|missing| match missing {
                    Missing::Author(author) => roster.brought_in.contains(author),
                    Missing::Entry { id, .. } => stored.contains(id),
                })
            };
            if ready.is_empty() {
                return Ok(());
            }
            for Early { kind, bytes } in ready {
                match self.judge(txn, kind, &bytes) {
                    Ok(Verdict::In) | Err(Error::Refused(_)) => {}
                    Ok(Verdict::Early(id, missing)) => {
                        let len = bytes.len();
                        self.depot.state().early.keep(id, Early { kind, bytes }, len, missing);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }

    fn judge(&mut self, txn: &mut WriteTxn<'_>, kind: LogKind, bytes: &[u8]) -> Result<Verdict, Error> {
        match kind {
            LogKind::Person => self.person(txn, bytes),
            LogKind::Entries => self.entry(txn, bytes),
            LogKind::Pins => self.pins(txn, bytes),
        }
    }

    /// Holds an item against the quota.
    fn check_room(&self, bytes: &[u8]) -> Result<(), Error> {
        let used = self.depot.used().saturating_add(self.entry_bytes).saturating_add(bytes.len() as u64);
        let quota = self.depot.charge.quota;
        if quota > 0 && used > quota { Err(Error::Refused(Refusal::Quota)) } else { Ok(()) }
    }

    /// Counts what was taken, once the transaction stands.
    pub(crate) fn count(&self) {
        self.depot.entry_bytes.fetch_add(self.entry_bytes, Ordering::Relaxed);
    }

    /// An entry of the person log. It is taken whatever the quota: it may end a device.
    fn person(&mut self, txn: &mut WriteTxn<'_>, bytes: &[u8]) -> Result<Verdict, Error> {
        let person = self.depot.charge.person;
        let entry = Entry::read(&person, bytes).map_err(Error::Refused)?;
        if persons::get(txn, &person, &entry.id)?.is_some() {
            return Ok(Verdict::In);
        }
        let (id, author) = (entry.id, entry.author);
        let mut log = person_log(txn, &person)?;
        log.push(entry);
        one_genesis(&log).map_err(Error::Refused)?;
        let roster = Roster::read(person, &log);
        if !roster.brought_in.contains(&author) {
            return Ok(Verdict::Early(id, Missing::Author(author)));
        }
        persons::put(txn, &person, &id, bytes);
        self.roster = roster;
        self.stored.insert(id);
        Ok(Verdict::In)
    }

    /// An entry of the home space, which stays closed.
    fn entry(&mut self, txn: &mut WriteTxn<'_>, bytes: &[u8]) -> Result<Verdict, Error> {
        let envelope = Envelope::parse(bytes).map_err(Error::Refused)?;
        envelope.verify().map_err(Error::Refused)?;
        envelope.check_space(&self.depot.charge.space).map_err(Error::Refused)?;
        let (header, id) = (envelope.header(), envelope.id());
        if !self.is_known(&header.author) {
            return Ok(Verdict::Early(id, Missing::Author(header.author)));
        }
        let chain = Chain { space: self.depot.charge.tag, author: header.author };
        let held = opaque::at(txn, &chain, header.seq)?;
        let before = match header.seq.checked_sub(1) {
            Some(seq) => opaque::at(txn, &chain, seq)?,
            None => Vec::new(),
        };
        match judge_place(header.seq, &id, &header.prev, &held, &before) {
            ChainPlace::Held => Ok(Verdict::In),
            ChainPlace::Broken => Err(Error::Refused(Refusal::Chain)),
            ChainPlace::Gap | ChainPlace::Elsewhere => {
                let (author, seq) = (header.author, header.seq.saturating_sub(1));
                Ok(Verdict::Early(id, Missing::Entry { author, seq, id: header.prev }))
            }
            // Of a fork both branches are kept, as everywhere: which one counts is told by others.
            ChainPlace::Next | ChainPlace::Fork => {
                self.check_room(bytes)?;
                self.entry_bytes += bytes.len() as u64;
                opaque::put(txn, &chain, header.seq, &id, bytes);
                self.depot.state().epochs.insert(header.epoch);
                self.stored.insert(id);
                Ok(Verdict::In)
            }
        }
    }

    fn pins(&mut self, txn: &mut WriteTxn<'_>, bytes: &[u8]) -> Result<Verdict, Error> {
        let (delta, id) = PinDelta::open(bytes).map_err(Error::Refused)?;
        let scope = PinScope { space: self.depot.charge.tag, author: delta.author };
        if delta.space_tag != scope.space {
            return Err(Error::Refused(Refusal::Scope));
        }
        if !self.is_known(&delta.author) {
            return Ok(Verdict::Early(EntryId(id.0), Missing::Author(delta.author)));
        }
        let newest = self.depot.pin_heads.newest(txn, &scope)?;
        if newest.is_some_and(|head| delta.seq < head.seq) {
            return match pins::delta(txn, &scope, delta.seq)? {
                Some(held) if held == bytes => Ok(Verdict::In),
                _ => Err(Error::Refused(Refusal::Fork)),
            };
        }
        match PinHead::check(newest.as_ref(), &delta, &id) {
            Ok(Step::Held) => return Ok(Verdict::In),
            Ok(Step::New) => {}
            Err(Refusal::Gap) => {
                let (author, seq) = (delta.author, delta.seq.saturating_sub(1));
                let missing = Missing::Entry { author, seq, id: EntryId(delta.prev.0) };
                return Ok(Verdict::Early(EntryId(id.0), missing));
            }
            Err(why) => return Err(Error::Refused(why)),
        }
        for drop in &delta.drops {
            if !pins::is_pinned(txn, &scope, drop)? && !delta.adds.contains(drop) {
                return Err(Error::Refused(Refusal::Rights));
            }
        }
        self.check_room(bytes)?;
        self.apply(txn, &scope, &delta, id, bytes)?;
        Ok(Verdict::In)
    }

    fn apply(
        &mut self,
        txn: &mut WriteTxn<'_>,
        scope: &PinScope,
        delta: &PinDelta,
        id: PinId,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let stored = pins::PinDelta { seq: delta.seq, bytes, adds: &delta.adds, drops: &delta.drops };
        pins::apply(txn, scope, &stored);
        self.stored.insert(EntryId(id.0));
        for hash in delta.adds.iter().filter(|hash| !delta.drops.contains(hash)) {
            unneeded::note_pack(txn, hash, None);
            let new = NewPack { len: 0, state: PackState::Wanted, locs: &[] };
            index::add_pack(txn, &scope.space, hash, &new)?;
            if let Some(pack) = index::pack(txn, hash)?
                && matches!(pack.state, PackState::Wanted | PackState::Lost)
            {
                self.wanted.push((*hash, pack.len));
            }
        }
        for hash in &delta.drops {
            if !pins::is_pinned_by_any(txn, &scope.space, hash)? {
                self.unwanted.push(*hash);
            }
        }
        Ok(())
    }

    fn is_known(&self, author: &VerifyingKey) -> bool {
        self.roster.brought_in.contains(author)
    }
}
