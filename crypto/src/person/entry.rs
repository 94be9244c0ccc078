//! The bytes of a person-log entry: header, clear body, signature.
//!
//! | Offset | Length | Field |
//! |---|---|---|
//! | 0 | 4 | `LKP1` |
//! | 4 | 16 | tag of the person |
//! | 20 | 32 | author, a device key |
//! | 52 | 8 | seq |
//! | 60 | 32 | prev, zeros for seq 0 |
//! | 92 | 32 | zeros |
//! | 124 | 4 | body length |
//! | 128 | 24 | zeros |
//! | 152 | .. | body `[1, hlc, deps, ops]` |
//! | .. | 64 | signature under `person` over the entry id |

use crate::Refusal;
use crate::encode::{Reader, Writer};
use crate::id::{EntryId, PersonId, SpaceTag, VerifyingKey};
use crate::identity::person_tag;
use crate::person::Op;
use crate::sign::{self, Domain, SIGNATURE_LEN, Signature, Signing};

/// Length of the header.
pub const HEADER_LEN: usize = 152;
/// Longest body.
const BODY_LEN_MAX: usize = 262_160;
/// Most deps of an entry.
pub const DEPS_MAX: usize = 64;
/// Most operations of an entry.
pub const OPS_MAX: usize = 1_024;

const MAGIC: &[u8; 4] = b"LKP1";
const BODY_VERSION: u64 = 1;

/// The newest entry of one author, as another one saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The author.
    pub author: VerifyingKey,
    /// Number of its entry.
    pub seq: u64,
    /// Id of its entry.
    pub entry: EntryId,
}

/// A signed entry whose body is not read yet: all that a replica needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// Tag of the person.
    pub tag: SpaceTag,
    /// The device that wrote it.
    pub author: VerifyingKey,
    /// Its number in the author's chain.
    pub seq: u64,
    /// The entry before it.
    pub prev: EntryId,
    /// The encoded body.
    pub body: &'a [u8],
    /// BLAKE3 of all before the signature.
    pub id: EntryId,
    /// The author's signature.
    pub signature: Signature,
}

impl<'a> Envelope<'a> {
    /// Reads an entry and checks layout, author key and signature, in this order.
    ///
    /// # Errors
    /// [`Refusal::Canon`], [`Refusal::Version`], [`Refusal::Limit`]; [`Refusal::Key`]; [`Refusal::Sig`].
    pub fn read(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let envelope = Self::split(bytes)?;
        sign::check_key(&envelope.author)?;
        sign::verify(&envelope.author, Domain::Person, envelope.id.as_bytes(), &envelope.signature)?;
        Ok(envelope)
    }

    fn split(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(Refusal::Canon)?;
        if header[..3] != MAGIC[..3] {
            return Err(Refusal::Canon);
        }
        if header[3] != MAGIC[3] {
            return Err(Refusal::Version);
        }
        let len = u32::from_le_bytes(field(header, 124)?);
        let len = usize::try_from(len).map_err(|_| Refusal::Limit)?;
        if len > BODY_LEN_MAX {
            return Err(Refusal::Limit);
        }
        let (body, signature) = rest.split_at_checked(len).ok_or(Refusal::Canon)?;
        let signature = signature.try_into().map_err(|_| Refusal::Canon)?;
        if header[92..124] != [0; 32] || header[128..] != [0; 24] {
            return Err(Refusal::Canon);
        }
        Ok(Self {
            tag: SpaceTag(field(header, 4)?),
            author: VerifyingKey(field(header, 20)?),
            seq: u64::from_le_bytes(field(header, 52)?),
            prev: EntryId(field(header, 60)?),
            body,
            id: EntryId(*blake3::hash(&bytes[..HEADER_LEN + len]).as_bytes()),
            signature,
        })
    }
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// Hybrid logical clock: 48 bits of unix milliseconds, 16 bits of counter.
    pub hlc: u64,
    /// Heads of other authors newly seen.
    pub deps: Vec<Head>,
    /// The operations.
    pub ops: Vec<Op>,
}

impl Body {
    /// Returns the canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.array(4).u64(BODY_VERSION).u64(self.hlc).array(self.deps.len());
        for dep in &self.deps {
            out.array(3).bytes(dep.author.as_ref()).u64(dep.seq).bytes(dep.entry.as_ref());
        }
        out.array(self.ops.len());
        for op in &self.ops {
            op.encode(&mut out);
        }
        out.finish()
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`Refusal::Canon`] if it is not in canonical form, [`Refusal::Version`] for another body version,
    /// [`Refusal::Limit`] above 64 deps or 1,024 operations.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut from = Reader::new(bytes);
        let len = from.array()?;
        if from.u64()? != BODY_VERSION {
            return Err(Refusal::Version);
        }
        if len != 4 {
            return Err(Refusal::Canon);
        }
        let hlc = from.u64()?;
        let deps = list(&mut from, DEPS_MAX, |from| {
            from.array_of(3)?;
            Ok(Head { author: VerifyingKey(from.fixed()?), seq: from.u64()?, entry: EntryId(from.fixed()?) })
        })?;
        let ops = list(&mut from, OPS_MAX, Op::decode)?;
        from.finish()?;
        Ok(Self { hlc, deps, ops })
    }
}

/// An entry of the log of one person, read and checked as far as that needs no other entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: EntryId,
    /// The device that wrote it.
    pub author: VerifyingKey,
    /// Its number in the author's chain.
    pub seq: u64,
    /// The entry before it.
    pub prev: EntryId,
    /// What it says.
    pub body: Body,
    /// The author's signature.
    pub signature: Signature,
}

impl Entry {
    /// Reads an entry of the log of `person` and checks, in this order: layout, author key, signature, tag, body, and
    /// each operation by [`Op::check`]. Chain, clock, and signatures by the current root need the entries before
    /// it: [`crate::person::Roster`] or the catalog.
    ///
    /// # Errors
    /// As [`Envelope::read`]; [`Refusal::Scope`] for another person's entry; [`Refusal::Chain`] for a first entry that
    /// names one before it, or a later one that names none; as [`Body::decode`]; as [`Op::check`].
    pub fn read(person: &PersonId, bytes: &[u8]) -> Result<Self, Refusal> {
        let envelope = Envelope::read(bytes)?;
        if envelope.tag != person_tag(person) {
            return Err(Refusal::Scope);
        }
        if (envelope.seq == 0) != (envelope.prev == EntryId::ZERO) {
            return Err(Refusal::Chain);
        }
        let entry = Self::from_envelope(&envelope)?;
        entry.check_ops(person)?;
        Ok(entry)
    }

    /// Reads the first entry of a log, whose operation names the person.
    ///
    /// # Errors
    /// As [`Entry::read`]; [`Refusal::Chain`] if it does not begin with a genesis.
    pub fn read_genesis(bytes: &[u8]) -> Result<(PersonId, Self), Refusal> {
        let envelope = Envelope::read(bytes)?;
        let entry = Self::from_envelope(&envelope)?;
        let Some(Op::Genesis { person, .. }) = entry.body.ops.first() else {
            return Err(Refusal::Chain);
        };
        let person = *person;
        if envelope.tag != person_tag(&person) {
            return Err(Refusal::Scope);
        }
        if entry.prev != EntryId::ZERO {
            return Err(Refusal::Chain);
        }
        entry.check_ops(&person)?;
        Ok((person, entry))
    }

    /// Returns the entry as a dependency of others.
    pub fn head(&self) -> Head {
        Head { author: self.author, seq: self.seq, entry: self.id }
    }

    pub(super) fn from_envelope(envelope: &Envelope<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            id: envelope.id,
            author: envelope.author,
            seq: envelope.seq,
            prev: envelope.prev,
            body: Body::decode(envelope.body)?,
            signature: envelope.signature,
        })
    }

    pub(super) fn check_ops(&self, person: &PersonId) -> Result<(), Refusal> {
        self.body.ops.iter().try_for_each(|op| op.check(person, &self.author, self.seq))
    }

    /// Returns the bytes of the entry in the log of `person`.
    pub fn to_bytes(&self, person: &PersonId) -> Vec<u8> {
        let mut out = unsigned(person, &self.author, self.seq, &self.prev, &self.body);
        out.extend_from_slice(&self.signature);
        out
    }

    /// Writes and signs an entry; returns its id and bytes.
    pub(super) fn write(
        person: &PersonId,
        device: &Signing,
        seq: u64,
        prev: &EntryId,
        body: &Body,
    ) -> (EntryId, Vec<u8>) {
        let mut out = unsigned(person, &device.verifying_key(), seq, prev, body);
        let id = EntryId(*blake3::hash(&out).as_bytes());
        out.extend_from_slice(&device.sign(Domain::Person, id.as_bytes()));
        (id, out)
    }
}

fn unsigned(person: &PersonId, author: &VerifyingKey, seq: u64, prev: &EntryId, body: &Body) -> Vec<u8> {
    let body = body.encode();
    let len = u32::try_from(body.len()).expect("a body is at most 262,160 bytes long");
    let mut out = Vec::with_capacity(HEADER_LEN + body.len() + SIGNATURE_LEN);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(person_tag(person).as_bytes());
    out.extend_from_slice(author.as_bytes());
    out.extend_from_slice(&seq.to_le_bytes());
    out.extend_from_slice(prev.as_bytes());
    out.extend_from_slice(&[0; 32]);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&[0; 24]);
    out.extend_from_slice(&body);
    out
}

fn field<const N: usize>(header: &[u8; HEADER_LEN], offset: usize) -> Result<[u8; N], Refusal> {
    header[offset..].first_chunk().copied().ok_or(Refusal::Canon)
}

fn list<T>(
    from: &mut Reader<'_>,
    len_max: usize,
    mut read: impl FnMut(&mut Reader<'_>) -> Result<T, Refusal>,
) -> Result<Vec<T>, Refusal> {
    let len = from.array()?;
    if len > len_max {
        return Err(Refusal::Limit);
    }
    (0..len).map(|_| read(from)).collect()
}
