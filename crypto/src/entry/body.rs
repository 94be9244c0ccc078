//! The body of an entry, `[1, hlc, deps, ops]`, and its padding.

use super::CIPHERTEXT_LEN_MAX;
use crate::Refusal;
use crate::aead::TAG_LEN;
use crate::encode::{Reader, Writer};
use crate::id::{EntryId, VerifyingKey};

/// Most deps of one entry.
pub const DEPS_MAX: usize = 64;
/// Most operations of one entry.
pub const OPS_MAX: usize = 1_024;
/// Most bytes of an encoded body.
pub const BODY_LEN_MAX: usize = CIPHERTEXT_LEN_MAX as usize - TAG_LEN - LEN_LEN;

/// The padded body is a multiple of this many bytes, so that lengths tell little.
pub(super) const PAD_STEP: usize = 256;

const VERSION: u64 = 1;
const LEN_LEN: usize = 4;

/// The head of another author that the writer of an entry had newly seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dep {
    /// The other author.
    pub author: VerifyingKey,
    /// Number of the entry in that author's chain.
    pub seq: u64,
    /// Its name.
    pub id: EntryId,
}

/// What an entry says. Has no `Debug`: operations carry keys of chunks.
#[derive(Clone, PartialEq, Eq)]
pub struct EntryBody {
    /// Hybrid logical clock: 48 bits of unix milliseconds, 16 bits of counter.
    pub hlc: u64,
    /// Heads of other authors newly seen, at most [`DEPS_MAX`].
    pub deps: Vec<Dep>,
    /// The operations in order, at most [`OPS_MAX`], each the canonical bytes of one item. The catalog reads them.
    pub ops: Vec<Vec<u8>>,
}

impl EntryBody {
    /// Returns the canonical bytes.
    ///
    /// # Errors
    /// [`Refusal::Limit`] above a limit, [`Refusal::Canon`] if an operation is not one canonical item: what is
    /// written here must be readable everywhere.
    pub fn encode(&self) -> Result<Vec<u8>, Refusal> {
        let mut w = Writer::new();
        w.array(4).u64(VERSION).u64(self.hlc).array(self.deps.len());
        for dep in &self.deps {
            w.array(3).bytes(dep.author.as_bytes()).u64(dep.seq).bytes(dep.id.as_bytes());
        }
        w.array(self.ops.len());
        self.ops.iter().for_each(|op| {
            w.raw(op);
        });
        let bytes = w.finish();
        if bytes.len() > BODY_LEN_MAX {
            return Err(Refusal::Limit);
        }
        if Self::decode(&bytes)? == *self { Ok(bytes) } else { Err(Refusal::Canon) }
    }

    /// Reads a body; of the operations only that each is one canonical item.
    ///
    /// # Errors
    /// [`Refusal::Canon`] if the bytes are not the one allowed form, [`Refusal::Version`] if a newer program wrote
    /// them, [`Refusal::Limit`] for more than [`DEPS_MAX`] deps or [`OPS_MAX`] operations, or too deep nesting.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut whole = Reader::new(bytes);
        whole.item()?;
        whole.finish()?;

        let mut r = Reader::new(bytes);
        let fields = r.array()?;
        if r.u64()? != VERSION {
            return Err(Refusal::Version);
        }
        if fields != 4 {
            return Err(Refusal::Canon);
        }
        let hlc = r.u64()?;
        let deps = list(&mut r, DEPS_MAX, |r| {
            r.array_of(3)?;
            Ok(Dep { author: VerifyingKey(r.fixed()?), seq: r.u64()?, id: EntryId(r.fixed()?) })
        })?;
        let ops = list(&mut r, OPS_MAX, |r| r.item().map(<[u8]>::to_vec))?;
        Ok(Self { hlc, deps, ops })
    }

    /// Checks that the clock moved on (step 10). `newest` is the greatest clock among the author's entry before this
    /// one and all deps; `None` if there are none.
    ///
    /// # Errors
    /// [`Refusal::Time`] otherwise.
    pub fn check_clock(&self, newest: Option<u64>) -> Result<(), Refusal> {
        if newest.is_none_or(|newest| self.hlc > newest) { Ok(()) } else { Err(Refusal::Time) }
    }
}

fn list<'a, T>(
    r: &mut Reader<'a>,
    most: usize,
    mut read: impl FnMut(&mut Reader<'a>) -> Result<T, Refusal>,
) -> Result<Vec<T>, Refusal> {
    let len = r.array()?;
    if len > most {
        return Err(Refusal::Limit);
    }
    (0..len).map(|_| read(r)).collect()
}

/// Puts `LE32(len)` before the body and zeros after it, up to the next multiple of 256.
pub(super) fn pad(body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let len = u32::try_from(body.len()).map_err(|_| Refusal::Limit)?;
    if body.len() > BODY_LEN_MAX {
        return Err(Refusal::Limit);
    }
    let mut out = Vec::with_capacity(padded_len(body.len()));
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(body);
    out.resize(padded_len(body.len()), 0);
    Ok(out)
}

/// Returns the body inside its padding. [`Refusal::Canon`] if the length does not give this much padding,
/// [`Refusal::Pad`] if a byte of it is not zero.
pub(super) fn unpad(padded: &[u8]) -> Result<&[u8], Refusal> {
    let (len, rest) = padded.split_first_chunk().ok_or(Refusal::Canon)?;
    let len = usize::try_from(u32::from_le_bytes(*len)).map_err(|_| Refusal::Canon)?;
    let (body, zeros) = rest.split_at_checked(len).ok_or(Refusal::Canon)?;
    if padded.len() != padded_len(len) {
        return Err(Refusal::Canon);
    }
    if zeros.iter().all(|byte| *byte == 0) { Ok(body) } else { Err(Refusal::Pad) }
}

fn padded_len(body_len: usize) -> usize {
    (LEN_LEN + body_len).next_multiple_of(PAD_STEP)
}
