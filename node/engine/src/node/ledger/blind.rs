//! The same for a device that stores for somebody and cannot read: what a session needs of its depot.

use locker_catalog::roster::Roster;
use locker_crypto::Refusal;
use locker_crypto::id::PackHash;
use locker_store::index::{self, PackState};
use locker_store::packs::PartialPack;
use locker_sync::message::v1::{Ask, LogKind, Room, SlotSecret};
use locker_sync::session::Fate;

use super::packs::keep_unpinned;
use super::{Incoming, LogStanding, Taken, forks};
use crate::Error;
use crate::depot::{Depot, Intake, Slots};
use crate::keys::person_log;
use crate::locker::Inner;
use crate::person_chains::PersonChains;
use crate::rebirth::Rebirth;

impl Inner {
    pub(super) fn blind_standing(&self, depot: &Depot) -> Result<LogStanding, Error> {
        let store = self.store()?;
        let snapshot = store.read()?;
        let log = person_log(&snapshot, &depot.charge().person)?;
        let (roster, person) = (Roster::read(depot.charge().person, &log), PersonChains::of(&log));
        let logs = [depot.person_log(), depot.entry_log()];
        Ok(LogStanding {
            heads: depot.heads(&snapshot)?,
            missing: logs.into_iter().zip([person.missing, depot.missing_entries()]).collect(),
            forked: forks(logs, [person.forked, depot.forked(&snapshot)?]),
            admitted: roster.admitted(),
            root: roster.root,
            active: roster.active,
            rebirth: Rebirth::None,
            register: Default::default(),
            replicas: Default::default(),
            grounds: Default::default(),
        })
    }

    pub(super) fn blind_take_items(&self, depot: &Depot, items: Vec<Incoming>) -> Result<Taken, Error> {
        let store = self.store()?;
        let (mut taken, mut has_named) = (Taken::default(), false);
        let mut txn = store.begin_write()?;
        let mut intake = Intake::begin(depot, &txn)?;
        for item in items {
            let fate = intake.take(&mut txn, item.log.kind, &item.bytes)?;
            has_named |= fate == Fate::Durable && item.log.kind != LogKind::Pins;
            taken.fates.push((item.ticket, fate));
        }
        keep_unpinned(&txn, &depot.charge().tag, &mut intake.unwanted)?;
        txn.commit()?;
        intake.count();
        self.note_commit();
        if has_named {
            taken.asks = depot.missing(&store.read()?)?;
        }
        (taken.wanted, taken.unwanted) = (intake.wanted, intake.unwanted);
        depot.forget(&taken.unwanted);
        Ok(taken)
    }

    /// Makes packs durable that came from own devices of the person.
    pub(super) fn blind_keep_packs(
        &self,
        depot: &Depot,
        packs: &mut [PartialPack],
    ) -> Result<Vec<PackHash>, Error> {
        let store = self.store()?;
        let snapshot = store.read()?;
        let (mut named, mut new) = (Vec::new(), Vec::new());
        for pack in packs {
            let row = index::pack(&snapshot, &pack.hash())?.map(|row| row.state);
            if row.is_some_and(|state| matches!(state, PackState::Wanted | PackState::Lost)) {
                // The file of a lost one is counted still.
                new.extend((row == Some(PackState::Wanted)).then_some((pack.hash(), pack.byte_len())));
                named.push(pack);
            }
        }
        let lens: Vec<(PackHash, u32)> = named.iter().map(|pack| (pack.hash(), pack.byte_len())).collect();
        let mut kept = store.packs().keep_partials(named)?;
        self.leave_damaged(&mut kept)?;
        if kept.is_empty() {
            return Ok(kept);
        }
        let now_s = self.env().now_ms() / 1_000;
        store.write::<_, Error>(|txn| {
            let held = lens.iter().filter(|(hash, _)| kept.contains(hash));
            held.into_iter().try_for_each(|(hash, len)| depot.hold(txn, hash, *len, now_s))
        })?;
        new.retain(|(hash, _)| kept.contains(hash));
        depot.count_kept(&new);
        self.note_commit();
        Ok(kept)
    }

    /// Notes how long a wanted pack is, so that what comes of it outlives a restart.
    pub(crate) fn note_pack_len(&self, hash: &PackHash, len: u32) -> Result<(), Error> {
        let tag = self.space_tag();
        self.store()?.write(|txn| {
            let new = index::NewPack { len, state: PackState::Wanted, locs: &[] };
            Ok(index::add_pack(txn, &tag, hash, &new)?)
        })
    }

    /// What there is to be asked for beside the logs.
    pub(super) fn blind_missing(&self, depot: &Depot) -> Result<Vec<Ask>, Error> {
        depot.missing(&self.store()?.read()?)
    }

    /// How much room there is, where this device stores for somebody.
    pub(crate) fn room(&self) -> Option<Room> {
        let depot = self.depot()?;
        let (used, refused) = (depot.used(), depot.refused());
        let generation = self.keys().slot_generation();
        Some(Room { tag: depot.charge().tag, used, quota: depot.charge().quota, refused, generation })
    }

    /// Takes the slot under which this replica is to be found, if it is of a newer generation than the one it has, and the
    /// person log knows of that one: no device can hide a replica from the phrase. One durable commit.
    ///
    /// # Errors
    /// [`Error::Refused`] for another one; what the store gives.
    pub(crate) fn take_slot(&self, given: &SlotSecret) -> Result<(), Error> {
        let depot = self.depot().ok_or(Error::Refused(Refusal::Rights))?;
        if given.tag != depot.charge().tag {
            return Err(Error::Refused(Refusal::Scope));
        }
        self.store()?.write(|txn| {
            let known = depot.roster(txn)?.generation;
            let held = Slots::read(txn)?.generation();
            if given.generation <= held || u64::from(given.generation) > known {
                return Err(Error::Refused(Refusal::Rights));
            }
            let now_s = self.env().now_ms() / 1_000;
            Slots::give(txn, (given.generation, given.slot), &given.secret, now_s)
        })?;
        self.reload_keys()
    }
}
