//! Who belongs to a person: resolution of the person log (`docs/spec/02-identity.md`, "Person log", "Membership").
//!
//! Given all operations of a person log with what their authors knew, [`Roster::resolve`] says which have effect,
//! which devices are active, where removed ones end, and what the root key and the home space are. It checks no
//! signature: what comes here was verified entry by entry. The result depends on the set of operations alone.

mod contest;
mod log;
mod roots;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use contest::People;
use locker_crypto::Refusal;
use locker_crypto::id::{EntryId, PersonId, SpaceId, VerifyingKey};
pub use log::{connected, known_to};
use roots::Roots;

use crate::order::{OpOrder, Past};
use crate::strike::{Fate, resolve};

/// One operation of a person log, with its place and what its author knew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonOp {
    /// Its place in the total order.
    pub at: OpOrder,
    /// All entries that its entry reaches; earlier operations of the same entry are known too.
    pub past: Past,
    /// What it does.
    pub act: Act,
}

impl PersonOp {
    /// The device that it brings in, if it has effect.
    const fn brings_in(&self) -> Option<VerifyingKey> {
        match self.act {
            Act::Genesis | Act::Recover { .. } => Some(self.at.entry.author),
            Act::Add(device) | Act::Replace { new: device, .. } => Some(device),
            Act::Remove(_) | Act::SetRoot { .. } | Act::SetHome(_) | Act::Say => None,
        }
    }
}

/// What an operation of a person log does, as far as membership goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// The root key makes the person, with the author as its first device.
    Genesis,
    /// The author adds a device.
    Add(VerifyingKey),
    /// The author adds a device that goes on, under a new key, where an old key ends by its own signature.
    Replace {
        /// The key that is not to be used any more.
        old: VerifyingKey,
        /// The new key.
        new: VerifyingKey,
    },
    /// The author ends a device.
    Remove(Cutoff),
    /// The root key brings in the author and ends others.
    Recover {
        /// The root key that signed it, if any that this log knows did.
        root: Option<VerifyingKey>,
        /// The generation of recovery it starts.
        generation: u64,
        /// Devices that end.
        removals: Vec<Cutoff>,
    },
    /// A new root key takes over.
    SetRoot {
        /// The root key that gives way, if any that this log knows signed.
        old: Option<VerifyingKey>,
        /// The key that is current from here on.
        new: VerifyingKey,
        /// The generation of recovery it starts.
        generation: u64,
    },
    /// Names the home space.
    SetHome(SpaceId),
    /// Anything else a device may say.
    Say,
}

/// Where a device ends: how many of its entries, from the first on, still count.
///
/// The frontier of the format, `(seq, entry_id)` of the last entry that counts, is `seq + 1` here; `(0, zeros)`, for
/// a device of which no entry was ever accepted, is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cutoff {
    /// The device.
    pub device: VerifyingKey,
    /// Number of entries that count.
    pub count: u64,
}

impl Cutoff {
    /// Reads a frontier of the format.
    pub fn new(device: VerifyingKey, seq: u64, last: EntryId) -> Self {
        let none = seq == 0 && last == EntryId::ZERO;
        Self { device, count: if none { 0 } else { seq.saturating_add(1) } }
    }
}

/// What a person log amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    /// Devices that write, and that keys are sealed to.
    pub active: BTreeSet<VerifyingKey>,
    /// Keys that were replaced and not removed, each with those that took its place: several where a home was copied.
    /// What they wrote stands, and so does what they still write before they hear of it.
    pub replaced: BTreeMap<VerifyingKey, BTreeSet<VerifyingKey>>,
    /// Devices that an operation with effect brought in, removed ones included.
    pub brought_in: BTreeSet<VerifyingKey>,
    /// The operation that brought in each of these: of several with effect the first in the total order.
    pub arrivals: BTreeMap<VerifyingKey, OpOrder>,
    /// Removed devices, and how many entries of each still count.
    pub removed: BTreeMap<VerifyingKey, u64>,
    /// Operations without effect, and why.
    pub void: BTreeMap<OpOrder, Refusal>,
    /// Entries none of whose operations counts: of a branch that does not, or with something missing on which they stand.
    pub uncounted: BTreeSet<EntryId>,
    /// The root key that is current.
    pub root: VerifyingKey,
    /// Generation of recovery slots.
    pub generation: u64,
    /// The home space, once one is set.
    pub home: Option<SpaceId>,
}

impl Roster {
    /// Resolves the operations of the log of `person`, in any order; one listed twice counts once.
    ///
    /// Cost: grows with the cube of the number of removals and linearly with all others.
    pub fn resolve(person: PersonId, ops: impl IntoIterator<Item = PersonOp>) -> Self {
        let ops: BTreeMap<OpOrder, PersonOp> = ops.into_iter().map(|op| (op.at, op)).collect();
        let ops: Vec<PersonOp> = ops.into_values().collect();
        let Roots { current: root, generation, mut void } = Roots::follow(person, &ops);

        let people = People::new(&ops, &void);
        let fates = resolve(&people, people.first_fates());
        people.name_void(&fates, &mut void);

        let removed = people.cutoffs(&fates);
        let mut arrivals: BTreeMap<VerifyingKey, OpOrder> = BTreeMap::new();
        let mut replaced: BTreeMap<VerifyingKey, BTreeSet<VerifyingKey>> = BTreeMap::new();
        let mut home = None;
        for op in ops.iter().filter(|op| !void.contains_key(&op.at)) {
            if let Some(device) = op.brings_in() {
                arrivals.entry(device).or_insert(op.at);
            }
            match &op.act {
                Act::Replace { old, new } => _ = replaced.entry(*old).or_default().insert(*new),
                Act::SetHome(space) => home = home.or(Some(*space)),
                _ => {}
            }
        }
        let brought_in: BTreeSet<VerifyingKey> = arrivals.keys().copied().collect();
        replaced.retain(|old, _| brought_in.contains(old) && !removed.contains_key(old));
        let is_active =
            |device: &&VerifyingKey| !removed.contains_key(device) && !replaced.contains_key(device);
        let active = brought_in.iter().filter(is_active).copied().collect();
        let uncounted = BTreeSet::new();
        Self { active, replaced, brought_in, arrivals, removed, void, uncounted, root, generation, home }
    }

    /// A key, and those in whose place it came, the newest first.
    pub fn line_of(&self, key: &VerifyingKey) -> Vec<VerifyingKey> {
        let (mut line, mut at) = (vec![*key], 0);
        while let Some(new) = line.get(at).copied() {
            let before = self.replaced.iter().filter(|(_, by)| by.contains(&new)).map(|(old, _)| *old);
            let before: Vec<VerifyingKey> = before.filter(|old| !line.contains(old)).collect();
            line.extend(before);
            at += 1;
        }
        line
    }

    /// Devices whose word counts: the active ones, and replaced ones that may not know of it yet.
    pub fn admitted(&self) -> BTreeSet<VerifyingKey> {
        self.active.iter().chain(self.replaced.keys()).copied().collect()
    }
}

/// The fate of a removal before any strike is looked at.
const fn first_fate(by_root: bool, void: bool) -> Fate {
    match (void, by_root) {
        (true, _) => Fate::Void,
        (false, true) => Fate::Stands,
        (false, false) => Fate::Open,
    }
}
