//! What a device keeps for a person without being able to read it: the store of a blind replica and of a cold drive
//! (`docs/spec/08-at-rest.md`, "Depot").
//!
//! | Room | Holds |
//! |---|---|
//! | `begin` | making one |
//! | `charge` | for whom, how much and how long: what the owner gave with the enrolment |
//! | `intake` | items of logs on their way in: checked as far as that needs no key |
//! | `outlet` | how far the logs reach, and their items on the way out |
//! | `objects` | boxes and public keys beside the logs |
//! | `packs` | what is pinned and not here, what there is room for |
//! | `grace` | packs that nobody pins, and when they go |
//! | `slots` | under which slots it is found |
//!
//! A [`Depot`] holds no store: it works on the transaction or snapshot that it is given, so that it serves a node that
//! runs and a drive that was just plugged in alike. Everything here blocks. Never here: a key of the person, and what an
//! entry says.

mod begin;
mod charge;
mod grace;
mod intake;
mod objects;
mod outlet;
mod packs;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use locker_catalog::log::Waiting;
use locker_catalog::roster::Roster;
use locker_crypto::id::{EpochId, PackHash, VerifyingKey};
use locker_crypto::identity::person_tag;
use locker_store::Reads;
use locker_sync::frontier::Log;
use locker_sync::message::v1::LogKind;

pub(crate) use self::begin::Beginning;
pub(crate) use self::charge::{Charge, KEEP_DAYS_DEFAULT, Terms};
pub(crate) use self::grace::Swept;
use self::intake::Early;
pub(crate) use self::intake::Intake;
pub(crate) use self::slots::Slots;
use crate::Error;
use crate::keys::person_log;
use crate::limits::{EARLY_BYTES, EARLY_ITEMS};
use crate::pin_heads::PinHeads;

/// The blind store of one person: what may go into it, and what comes out.
pub(crate) struct Depot {
    charge: Charge,
    /// Bytes of the packs that are here, on the disk.
    pack_bytes: AtomicU64,
    /// Bytes of the entries.
    entry_bytes: AtomicU64,
    pin_heads: PinHeads,
    state: Mutex<State>,
}

struct State {
    /// Items that came before what they need.
    early: Waiting<Early>,
    /// Epochs that entries here were sealed under.
    epochs: BTreeSet<EpochId>,
    /// Packs that are wanted and that there was no room for.
    refused: BTreeSet<PackHash>,
    /// Bytes for which packs that are being fetched have been promised room.
    promised: BTreeMap<PackHash, u64>,
}

impl Depot {
    /// Opens the depot of a store; `None` if the store belongs to a device that reads. Reads the header of every entry and
    /// the row of every pack once.
    ///
    /// # Errors
    /// [`Error::Integrity`] if what it keeps of its charge is damaged; what reading gives.
    pub(crate) fn load<R: Reads>(reads: &R) -> Result<Option<Self>, Error> {
        let Some(charge) = Charge::read(reads)? else { return Ok(None) };
        let (epochs, entry_bytes) = outlet::survey(reads, &charge.tag)?;
        let pack_bytes = AtomicU64::new(packs::bytes_here(reads)?);
        let early = Waiting::bounded(EARLY_ITEMS, EARLY_BYTES);
        let state = Mutex::new(State { early, epochs, refused: BTreeSet::new(), promised: BTreeMap::new() });
        let (entry_bytes, pin_heads) = (AtomicU64::new(entry_bytes), PinHeads::default());
        Ok(Some(Self { charge, pack_bytes, entry_bytes, pin_heads, state }))
    }

    /// For whom it keeps, and how much.
    pub(crate) fn charge(&self) -> &Charge {
        &self.charge
    }

    /// Bytes that count against the quota: packs as they lie on the disk, and entries.
    pub(crate) fn used(&self) -> u64 {
        self.pack_bytes.load(Ordering::Relaxed) + self.entry_bytes.load(Ordering::Relaxed)
    }

    /// How many packs there was no room for.
    pub(crate) fn refused(&self) -> u64 {
        self.state().refused.len() as u64
    }

    /// Who belongs to the person, by the entries of its log that are here.
    pub(crate) fn roster<R: Reads>(&self, reads: &R) -> Result<Roster, Error> {
        Ok(Roster::read(self.charge.person, &person_log(reads, &self.charge.person)?))
    }

    /// The log of the person's devices.
    pub(crate) fn person_log(&self) -> Log {
        Log { kind: LogKind::Person, tag: person_tag(&self.charge.person) }
    }

    /// The entries of the home space.
    pub(crate) fn entry_log(&self) -> Log {
        Log { kind: LogKind::Entries, tag: self.charge.tag }
    }

    /// The pins of the home space.
    pub(crate) fn pin_log(&self) -> Log {
        Log { kind: LogKind::Pins, tag: self.charge.tag }
    }

    /// Author and number of the entries that others wait for: before these an author's other branch may begin, which
    /// nobody sends unasked.
    pub(crate) fn missing_entries(&self) -> Vec<(VerifyingKey, u64)> {
        self.state().early.missing_entries(|early| early.kind == LogKind::Entries)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
