//! One space: which of its entries are held, which of them count, and what they come to
//! (`docs/spec/04-spaces.md`).
//!
//! [`Space`] takes opened entries in any order, keeps them in rows for good, and drives the tree so that it is always
//! what the counting entries give in total order. It opens and seals nothing and reads no clock. Only what depends on
//! membership, and there are few such operations, is kept in memory besides; a space of a million files costs no more
//! memory than an empty one.

mod accept;
mod again;
pub(crate) mod brake;
mod knowledge;
mod read;
mod row;
mod settle;
mod stranded;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use locker_crypto::Refusal;
use locker_crypto::id::{EntryId, EpochId, PersonId, SpaceId, VerifyingKey};

pub use self::again::{LostEntry, mark};
pub use self::read::{OwnState, StandingOp, VisitOp};
use self::settle::Fork;
use crate::access::{Access, Authors};
use crate::epochs::Epochs;
use crate::log::Waiting;
use crate::operation::{Body, Confirm};
use crate::order::EntryOrder;
use crate::rows::{ReadRows, RowError};
use crate::tree::{
    self,
    limits::{self, Limits},
};

/// An entry whose signature and space were checked and whose body was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedEntry {
    /// Its name: the hash of its bytes without the signature.
    pub id: EntryId,
    /// Who signed it.
    pub author: VerifyingKey,
    /// Its number in the author's chain.
    pub seq: u64,
    /// The entry before it; zeros for the first.
    pub prev: EntryId,
    /// The epoch it was sealed under.
    pub epoch: EpochId,
    /// The entry as it travels, signature included. Kept unchanged.
    pub sealed: Vec<u8>,
    /// What it says.
    pub body: Body,
}

impl OpenedEntry {
    /// Its place in the total order.
    pub fn order(&self) -> EntryOrder {
        EntryOrder { hlc: self.body.hlc, author: self.author, seq: self.seq }
    }
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is held, and it counts unless its author is forked ([`Report::forked`]).
    Taken,
    /// It is held and relayed; its clock is too far ahead, and it waits for its time.
    Deferred,
    /// It was held before.
    Held,
    /// It is kept aside in memory until what it lacks is there: `E_GAP`, or `E_CHAIN` when it names another entry
    /// before it than the one that is held.
    Waiting(Refusal),
    /// It can never be taken.
    Refused(Refusal),
}

/// What a call changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What became of the entry.
    pub outcome: Outcome,
    /// All entries that are newly held and not deferred, those included that had waited, in the order they were
    /// taken.
    pub taken: Vec<EntryOrder>,
    /// Authors found forked.
    pub forked: Vec<VerifyingKey>,
    /// The first entry that was judged anew: what was derived from it or a later one is to be derived again.
    pub judged_from: Option<EntryOrder>,
}

/// A space. Rows and this value belong together: when a transaction is given up, the value is to be opened again.
#[derive(Debug)]
pub struct Space {
    id: SpaceId,
    own: VerifyingKey,
    authors: Authors,
    /// The root key of each person that is current, as far as person logs told it.
    roots: BTreeMap<PersonId, VerifyingKey>,
    access: Access,
    epochs: Epochs,
    forks: BTreeMap<VerifyingKey, Fork>,
    waiting: Waiting<OpenedEntry>,
    newer: bool,
    /// Since when losses count here.
    since_ms: Option<u64>,
    /// Whether the shown tree is another than the replayed one.
    is_apart: bool,
    /// What was decided about holds, and by whom.
    confirmed: Vec<(VerifyingKey, Confirm)>,
    /// Those of replay, but for entries that are being written here.
    limits: Limits,
}

impl Space {
    /// Opens a space on its rows, or starts one on none. `own` is the key of this device.
    ///
    /// Cost: reads the operations on membership; after a fork all entries once.
    ///
    /// # Errors
    /// [`RowError`] as the store gives it.
    pub fn open(rows: &dyn ReadRows, id: SpaceId, own: VerifyingKey) -> Result<Self, RowError> {
        let authors = Authors { genesis: row::genesis(rows)?, persons: row::persons(rows)? };
        let mut space = Self {
            id,
            own,
            access: Access::resolve(authors.clone(), []),
            authors,
            roots: row::roots(rows)?,
            epochs: Epochs::default(),
            forks: BTreeMap::new(),
            waiting: Waiting::default(),
            limits: limits::REPLAY,
            newer: row::has_newer(rows)?,
            since_ms: row::since(rows)?,
            is_apart: tree::is_apart(rows)?,
            confirmed: Vec::new(),
        };
        space.settle(rows)?;
        Ok(space)
    }

    /// The name of the space.
    pub fn id(&self) -> SpaceId {
        self.id
    }

    /// The rights as they are resolved now.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The epochs as they are resolved now.
    pub fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// To whom a device belongs, as far as person logs told this space ([`Space::set_person`]).
    pub fn person_of(&self, device: &VerifyingKey) -> Option<PersonId> {
        self.authors.persons.get(device).copied()
    }

    /// Whether an operation of a newer program was seen: the space is shown read-only until the program is updated.
    pub fn is_read_only(&self) -> bool {
        self.newer
    }

    /// Lets wait here what waits in a space that is given up, since a change of it failed: it is nowhere else.
    pub fn adopt_waiting(&mut self, given_up: Self) {
        self.waiting = given_up.waiting;
    }

    /// Entries that wait in memory, and what they lack.
    pub fn waiting(&self) -> &Waiting<OpenedEntry> {
        &self.waiting
    }
}
