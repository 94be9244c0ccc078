//! A person log read in one given order, from genesis on: who is active at its end.
//!
//! This is the reading of somebody who was handed a log as a line and has nothing else: the opener of a capsule, and
//! the tests of the format. Every entry must fit at its place. A device of the person, which sees concurrent
//! entries come in any order, resolves them in `locker-catalog` instead; both agree on a log without concurrency.

use std::collections::BTreeMap;

use crate::Refusal;
use crate::id::{EntryId, ObjectHash, PersonId, SpaceId, VerifyingKey};
use crate::identity::person_tag;
use crate::person::{Entry, Envelope, Frontier, Op, Removal};
use crate::sealed_box::BoxPublicKey;

/// Who a person is, after the entries read so far.
#[derive(Clone, Debug)]
pub struct Roster {
    person: PersonId,
    /// Every root key in turn; the last one counts.
    roots: Vec<VerifyingKey>,
    root_box: ObjectHash,
    generation: u32,
    person_box: ObjectHash,
    person_generation: u32,
    devices: BTreeMap<VerifyingKey, Device>,
    removed: BTreeMap<VerifyingKey, Frontier>,
    home: Option<SpaceId>,
    has_unknown_ops: bool,
}

/// A device that was brought in, active or not.
#[derive(Clone, Debug)]
struct Device {
    box_key: ObjectHash,
    /// Its entries so far: id and clock, by number.
    entries: Vec<(EntryId, u64)>,
}

impl Roster {
    /// Reads a whole log.
    ///
    /// # Errors
    /// [`Refusal::Chain`] if there is no entry; then as [`Roster::begin`] and [`Roster::append`], for the first entry
    /// that does not fit.
    pub fn read<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, Refusal> {
        let mut entries = entries.into_iter();
        let mut roster = Self::begin(entries.next().ok_or(Refusal::Chain)?)?;
        entries.try_for_each(|bytes| roster.append(bytes))?;
        Ok(roster)
    }

    /// Reads the genesis entry. Whose it is, the caller compares: [`Roster::person`], or the root key for a holder of
    /// the phrase.
    ///
    /// # Errors
    /// As [`Entry::read_genesis`], and as [`Roster::append`] for further operations in it.
    pub fn begin(bytes: &[u8]) -> Result<Self, Refusal> {
        let (person, entry) = Entry::read_genesis(bytes)?;
        let Some((Op::Genesis { root_box, device, person_box, .. }, rest)) = entry.body.ops.split_first()
        else {
            return Err(Refusal::Chain);
        };
        let mut roster = Self {
            person,
            roots: vec![VerifyingKey(person.0)],
            root_box: *root_box,
            generation: 0,
            person_box: *person_box,
            person_generation: 0,
            devices: BTreeMap::new(),
            removed: BTreeMap::new(),
            home: None,
            has_unknown_ops: false,
        };
        if !entry.body.deps.is_empty() {
            return Err(Refusal::Chain);
        }
        roster.bring_in(device.device, device.box_key);
        rest.iter().try_for_each(|op| roster.apply(&entry.author, op))?;
        roster.record(&entry);
        Ok(roster)
    }

    /// Reads the next entry. On a refusal the roster stands as before.
    ///
    /// Copies the roster for that: made for logs that fit a capsule, not for very long ones.
    ///
    /// # Errors
    /// In this order: layout, author key and signature as [`Envelope::read`]; [`Refusal::Scope`] for another
    /// person's entry; [`Refusal::Chain`] if its author was never brought in or `prev` does not fit,
    /// [`Refusal::Gap`] or [`Refusal::Fork`] if its number is not the next one; the body; [`Refusal::Gap`] for a dep
    /// that is not there; [`Refusal::Time`] if the clock does not increase; [`Refusal::Frontier`] if its author was
    /// removed before it; the operations as [`Op::check`]; [`Refusal::Sig`] for a root signature by nobody,
    /// [`Refusal::Rights`] for one by a root that is no longer current, [`Refusal::Chain`] for a generation that is
    /// not the next, [`Refusal::Frontier`] for a removal below entries that stand here.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let envelope = Envelope::read(bytes)?;
        if envelope.tag != person_tag(&self.person) {
            return Err(Refusal::Scope);
        }
        let entry = match self.devices.get(&envelope.author) {
            Some(device) => {
                device.check_next(&envelope)?;
                Entry::from_envelope(&envelope)?
            }
            None => Self::read_newcomer(&envelope)?,
        };
        self.check_clock(&entry)?;
        if self.removed.get(&entry.author).is_some_and(|frontier| !frontier.covers(entry.seq, &entry.id)) {
            return Err(Refusal::Frontier);
        }
        entry.check_ops(&self.person)?;

        let mut next = self.clone();
        entry.body.ops.iter().enumerate().try_for_each(|(index, op)| match op {
            Op::Genesis { .. } => Err(Refusal::Chain),
            Op::Recover { .. } if index > 0 => Err(Refusal::Chain),
            _ => next.apply(&entry.author, op),
        })?;
        next.record(&entry);
        *self = next;
        Ok(())
    }

    /// Returns whose log this is.
    pub fn person(&self) -> &PersonId {
        &self.person
    }

    /// Returns the root key that counts. A holder of the phrase accepts the log if and only if it is his.
    pub fn root(&self) -> &VerifyingKey {
        self.roots.last().expect("genesis brought the first root key")
    }

    /// Returns the generation of the rendezvous slots.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Returns the index n of the PUK in use.
    pub fn person_generation(&self) -> u32 {
        self.person_generation
    }

    /// Returns the home space, once it was named.
    pub fn home(&self) -> Option<&SpaceId> {
        self.home.as_ref()
    }

    /// Whether an entry holds operations of a newer program, which have no effect here.
    pub fn has_unknown_ops(&self) -> bool {
        self.has_unknown_ops
    }

    /// Gives the active devices, by key.
    pub fn active(&self) -> impl Iterator<Item = &VerifyingKey> {
        self.devices.keys().filter(|device| !self.removed.contains_key(device))
    }

    /// Whether `device` is active.
    pub fn is_active(&self, device: &VerifyingKey) -> bool {
        self.devices.contains_key(device) && !self.removed.contains_key(device)
    }

    /// Reads the public key of the PUK in use from the object that the log names.
    ///
    /// # Errors
    /// [`Refusal::Hash`] for another key than the log names; then as [`BoxPublicKey::from_slice`].
    pub fn person_box(&self, object: &[u8]) -> Result<BoxPublicKey, Refusal> {
        BoxPublicKey::from_named(object, &self.person_box)
    }

    /// Reads the public key of the root box from the object that the log names.
    ///
    /// # Errors
    /// As [`Roster::person_box`].
    pub fn root_box(&self, object: &[u8]) -> Result<BoxPublicKey, Refusal> {
        BoxPublicKey::from_named(object, &self.root_box)
    }

    /// Reads the box public key of an active device from the object that the log names.
    ///
    /// # Errors
    /// [`Refusal::Rights`] if the device is not active; as [`Roster::person_box`].
    pub fn device_box(&self, device: &VerifyingKey, object: &[u8]) -> Result<BoxPublicKey, Refusal> {
        let known = self.devices.get(device).filter(|_| self.is_active(device)).ok_or(Refusal::Rights)?;
        BoxPublicKey::from_named(object, &known.box_key)
    }

    fn read_newcomer(envelope: &Envelope<'_>) -> Result<Entry, Refusal> {
        if envelope.seq != 0 || envelope.prev != EntryId::ZERO {
            return Err(Refusal::Chain);
        }
        let entry = Entry::from_envelope(envelope)?;
        if matches!(entry.body.ops.first(), Some(Op::Recover { .. })) {
            Ok(entry)
        } else {
            Err(Refusal::Chain)
        }
    }

    fn check_clock(&self, entry: &Entry) -> Result<(), Refusal> {
        let own = self.devices.get(&entry.author).and_then(|device| device.entries.last());
        let mut latest = own.map_or(0, |(_, hlc)| *hlc);
        for dep in &entry.body.deps {
            let index = usize::try_from(dep.seq).map_err(|_| Refusal::Gap)?;
            let known = self.devices.get(&dep.author).and_then(|device| device.entries.get(index));
            let (id, hlc) = known.ok_or(Refusal::Gap)?;
            if *id != dep.entry {
                return Err(Refusal::Chain);
            }
            latest = latest.max(*hlc);
        }
        let first = own.is_none() && entry.body.deps.is_empty();
        if first || entry.body.hlc > latest { Ok(()) } else { Err(Refusal::Time) }
    }

    fn apply(&mut self, author: &VerifyingKey, op: &Op) -> Result<(), Refusal> {
        self.check_root(author, op)?;
        match op {
            Op::Genesis { .. } => return Err(Refusal::Chain),
            // The old key is not used any more, but what it wrote stands, and so may whoever it brought in.
            Op::AddDevice { device, .. } | Op::ReplaceDevice { device, .. } => {
                self.bring_in(device.device, device.box_key);
            }
            Op::RemoveDevice { removal, person_box, .. } => {
                self.remove(removal)?;
                self.next_person_key(person_box)?;
            }
            Op::Recover { generation, device, removals, person_box, .. } => {
                self.next_generation(*generation)?;
                removals.iter().try_for_each(|removal| self.remove(removal))?;
                self.bring_in(device.device, device.box_key);
                self.next_person_key(person_box)?;
            }
            Op::SetRoot { root, root_box, generation, .. } => {
                self.next_generation(*generation)?;
                self.roots.push(*root);
                self.root_box = *root_box;
            }
            Op::SetHome { space } => {
                self.home.get_or_insert(*space);
            }
            Op::RenewKey { person_box, .. } => self.next_person_key(person_box)?,
            Op::Unknown(_) => self.has_unknown_ops = true,
        }
        Ok(())
    }

    fn check_root(&self, author: &VerifyingKey, op: &Op) -> Result<(), Refusal> {
        let (current, earlier) = self.roots.split_last().ok_or(Refusal::Chain)?;
        let check = |root| op.check_root(root, &self.person, author);
        check(current)
            .map_err(|why| if earlier.iter().any(|root| check(root).is_ok()) { Refusal::Rights } else { why })
    }

    fn bring_in(&mut self, device: VerifyingKey, box_key: ObjectHash) {
        self.devices.entry(device).or_insert(Device { box_key, entries: Vec::new() });
    }

    fn remove(&mut self, removal: &Removal) -> Result<(), Refusal> {
        let held = self.devices.get(&removal.device).and_then(|device| {
            let last = u64::try_from(device.entries.len()).ok()?.checked_sub(1)?;
            Some((last, device.entries.last()?.0))
        });
        if held.is_some_and(|(seq, id)| !removal.frontier.covers(seq, &id)) {
            return Err(Refusal::Frontier);
        }
        let counts = self.removed.entry(removal.device).or_insert(removal.frontier);
        if removal.frontier.count() > counts.count() {
            *counts = removal.frontier;
        }
        Ok(())
    }

    fn next_generation(&mut self, generation: u32) -> Result<(), Refusal> {
        if self.generation.checked_add(1) != Some(generation) {
            return Err(Refusal::Chain);
        }
        self.generation = generation;
        Ok(())
    }

    fn next_person_key(&mut self, person_box: &ObjectHash) -> Result<(), Refusal> {
        self.person_generation = self.person_generation.checked_add(1).ok_or(Refusal::Limit)?;
        self.person_box = *person_box;
        Ok(())
    }

    fn record(&mut self, entry: &Entry) {
        if let Some(device) = self.devices.get_mut(&entry.author) {
            device.entries.push((entry.id, entry.body.hlc));
        }
    }
}

impl Device {
    fn check_next(&self, envelope: &Envelope<'_>) -> Result<(), Refusal> {
        let next = u64::try_from(self.entries.len()).map_err(|_| Refusal::Limit)?;
        if envelope.seq > next {
            return Err(Refusal::Gap);
        }
        if envelope.seq < next {
            let held = self.entries.iter().any(|(id, _)| *id == envelope.id);
            return Err(if held { Refusal::Chain } else { Refusal::Fork });
        }
        let prev = self.entries.last().map_or(EntryId::ZERO, |(id, _)| *id);
        if envelope.prev == prev { Ok(()) } else { Err(Refusal::Chain) }
    }
}
