//! Pins: which packs an author wants kept, told in signed deltas that form a chain (`docs/spec/04-spaces.md`,
//! "Pins").
//!
//! Deltas are clear: a blind replica applies them. A pin belongs to its author; nobody drops another's.

use std::collections::BTreeSet;

use crate::Refusal;
use crate::id::{PackHash, PinId, SpaceTag, VerifyingKey};
use crate::layout::{strip_magic, take};
use crate::sign::{Domain, SIGNATURE_LEN, Signature, Signing, verify};

/// Most adds and drops of one delta together.
pub const DELTA_PACKS_MAX: usize = 8_192;

const MAGIC: &[u8; 4] = b"LKG1";
const HEADER_LEN: usize = 100;

/// One step in the pins of an author in a space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinDelta {
    /// Short name of the space.
    pub space_tag: SpaceTag,
    /// Whose pins they are.
    pub author: VerifyingKey,
    /// Number of the delta, per space and author, from 0.
    pub seq: u64,
    /// Id of the delta before it; zeros for seq 0.
    pub prev: PinId,
    /// Packs to pin.
    pub adds: Vec<PackHash>,
    /// Packs whose pin is dropped, after the adds.
    pub drops: Vec<PackHash>,
}

/// A delta as it is stored and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedDelta {
    /// Name of the delta: BLAKE3 of all before the signature.
    pub id: PinId,
    /// All bytes, signature included.
    pub bytes: Vec<u8>,
}

impl PinDelta {
    /// Signs the delta. `author` must be the key that it names.
    ///
    /// # Errors
    /// [`Refusal::Limit`] above [`DELTA_PACKS_MAX`], [`Refusal::Key`] if another key is named.
    pub fn sign(&self, author: &Signing) -> Result<SignedDelta, Refusal> {
        if self.author != author.verifying_key() {
            return Err(Refusal::Key);
        }
        if self.adds.len() + self.drops.len() > DELTA_PACKS_MAX {
            return Err(Refusal::Limit);
        }
        let mut bytes = self.unsigned()?;
        let id = id_of(&bytes);
        bytes.extend_from_slice(&author.sign(Domain::Pins, id.as_bytes()));
        Ok(SignedDelta { id, bytes })
    }

    /// Reads a delta and checks its layout, author key and signature, in this order; gives it with its id.
    ///
    /// # Errors
    /// [`Refusal::Version`] for another version; [`Refusal::Limit`] above [`DELTA_PACKS_MAX`]; [`Refusal::Canon`] if
    /// the layout is another; [`Refusal::Key`] for a weak author key; [`Refusal::Sig`] for a wrong signature.
    pub fn open(bytes: &[u8]) -> Result<(Self, PinId), Refusal> {
        let delta = Self::decode(bytes)?;
        let (signed, signature) = bytes.split_last_chunk::<SIGNATURE_LEN>().ok_or(Refusal::Canon)?;
        let id = id_of(signed);
        verify(&delta.author, Domain::Pins, id.as_bytes(), signature)?;
        Ok((delta, id))
    }

    fn unsigned(&self) -> Result<Vec<u8>, Refusal> {
        let count = |list: &[PackHash]| u32::try_from(list.len()).map_err(|_| Refusal::Limit);
        let packs = self.adds.len() + self.drops.len();
        let mut out = Vec::with_capacity(HEADER_LEN + packs * PackHash::LEN + SIGNATURE_LEN);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(self.space_tag.as_bytes());
        out.extend_from_slice(self.author.as_bytes());
        out.extend_from_slice(&self.seq.to_le_bytes());
        out.extend_from_slice(self.prev.as_bytes());
        out.extend_from_slice(&count(&self.adds)?.to_le_bytes());
        out.extend_from_slice(&count(&self.drops)?.to_le_bytes());
        self.adds.iter().chain(&self.drops).for_each(|hash| out.extend_from_slice(hash.as_bytes()));
        Ok(out)
    }

    fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let rest = &mut strip_magic(bytes, MAGIC)?;
        let space_tag = SpaceTag(take(rest)?);
        let author = VerifyingKey(take(rest)?);
        let seq = u64::from_le_bytes(take(rest)?);
        let prev = PinId(take(rest)?);
        let adds = u64::from(u32::from_le_bytes(take(rest)?));
        let drops = u64::from(u32::from_le_bytes(take(rest)?));
        if adds + drops > DELTA_PACKS_MAX as u64 {
            return Err(Refusal::Limit);
        }
        let delta =
            Self { space_tag, author, seq, prev, adds: hashes(rest, adds)?, drops: hashes(rest, drops)? };
        let _: Signature = take(rest)?;
        if rest.is_empty() { Ok(delta) } else { Err(Refusal::Canon) }
    }
}

/// The pins of one author in one space, after the deltas applied so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PinSet {
    head: Option<PinHead>,
    packs: BTreeSet<PackHash>,
}

/// The last applied delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinHead {
    /// Its number.
    pub seq: u64,
    /// Its name.
    pub id: PinId,
}

impl PinHead {
    /// Checks that `delta`, named `id`, follows the last applied delta of its author, `head`. Whether it does so anew
    /// or is that last delta itself is [`Step`].
    ///
    /// # Errors
    /// [`Refusal::Gap`] if deltas are missing between them, [`Refusal::Fork`] if another delta with this seq was
    /// applied, [`Refusal::Chain`] if `prev` does not fit.
    pub fn check(head: Option<&PinHead>, delta: &PinDelta, id: &PinId) -> Result<Step, Refusal> {
        let (next, prev) = match head {
            Some(head) if delta.seq == head.seq && *id == head.id => return Ok(Step::Held),
            Some(head) if delta.seq <= head.seq => return Err(Refusal::Fork),
            Some(head) => (head.seq + 1, head.id),
            None => (0, PinId::ZERO),
        };
        match delta.seq {
            seq if seq > next => Err(Refusal::Gap),
            _ if delta.prev != prev => Err(Refusal::Chain),
            _ => Ok(Step::New),
        }
    }
}

/// What a delta that fits its chain is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It follows the last one.
    New,
    /// It is the last one, already applied.
    Held,
}

impl PinSet {
    /// Starts with what was stored.
    pub fn new(head: Option<PinHead>, packs: BTreeSet<PackHash>) -> Self {
        Self { head, packs }
    }

    /// The last applied delta.
    pub fn head(&self) -> Option<&PinHead> {
        self.head.as_ref()
    }

    /// The pinned packs.
    pub fn packs(&self) -> &BTreeSet<PackHash> {
        &self.packs
    }

    /// Applies a delta that [`PinDelta::open`] gave: its adds, then its drops. All of it or nothing.
    ///
    /// A delta below the head is taken for a second one with its seq; who still holds the old delta compares ids
    /// first.
    ///
    /// # Errors
    /// As [`PinHead::check`]; [`Refusal::Rights`] if it drops a pack that this author has not pinned.
    pub fn apply(&mut self, delta: &PinDelta, id: PinId) -> Result<Step, Refusal> {
        if PinHead::check(self.head(), delta, &id)? == Step::Held {
            return Ok(Step::Held);
        }
        let adds: BTreeSet<_> = delta.adds.iter().collect();
        if delta.drops.iter().any(|pack| !self.packs.contains(pack) && !adds.contains(pack)) {
            return Err(Refusal::Rights);
        }
        self.packs.extend(&delta.adds);
        for pack in &delta.drops {
            self.packs.remove(pack);
        }
        self.head = Some(PinHead { seq: delta.seq, id });
        Ok(Step::New)
    }
}

fn id_of(signed: &[u8]) -> PinId {
    PinId(*blake3::hash(signed).as_bytes())
}

fn hashes(rest: &mut &[u8], count: u64) -> Result<Vec<PackHash>, Refusal> {
    (0..count).map(|_| take(rest).map(PackHash)).collect()
}

#[cfg(test)]
mod tests;
