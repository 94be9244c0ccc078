//! The body of an entry: `[1, hlc, deps, ops]`.

use locker_crypto::Refusal;
use locker_crypto::encode::{Reader, Writer};

use super::codec::{decode_refs, encode_frontier};
use super::{EntryRef, Op};

/// Most operations of one entry.
pub const OPS_MAX: usize = 1_024;
/// Most entries of other authors that one entry names.
pub const DEPS_MAX: usize = 64;
/// Longest body in bytes: what fits the largest ciphertext (262,160 B) after tag and length.
pub const BODY_LEN_MAX: usize = 262_160 - 16 - 4;

const VERSION: u64 = 1;

/// What an entry says, once opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// Hybrid logical clock: 48 bits of unix milliseconds, 16 bits of counter.
    pub hlc: u64,
    /// Heads of other authors that the author had newly seen.
    pub deps: Vec<EntryRef>,
    /// The operations, in order.
    pub ops: Vec<Op>,
}

impl Body {
    /// Writes the body.
    ///
    /// # Errors
    /// [`Refusal::Limit`] above [`OPS_MAX`], [`DEPS_MAX`] or [`BODY_LEN_MAX`].
    pub fn encode(&self) -> Result<Vec<u8>, Refusal> {
        if self.ops.len() > OPS_MAX || self.deps.len() > DEPS_MAX {
            return Err(Refusal::Limit);
        }
        let mut w = Writer::new();
        w.array(4).u64(VERSION).u64(self.hlc);
        encode_frontier(&self.deps, &mut w);
        w.array(self.ops.len());
        for op in &self.ops {
            op.encode(&mut w);
        }
        if w.len() > BODY_LEN_MAX { Err(Refusal::Limit) } else { Ok(w.finish()) }
    }

    /// Reads a body. Operations that this version does not understand stay in it ([`Op::decode`]).
    ///
    /// # Errors
    /// [`Refusal::Canon`] for any other form than the one allowed; [`Refusal::Version`] for a later version in
    /// canonical form; [`Refusal::Limit`] over a limit.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.len() > BODY_LEN_MAX {
            return Err(Refusal::Limit);
        }
        let mut whole = Reader::new(bytes);
        whole.item()?;
        whole.finish()?;

        let mut r = Reader::new(bytes);
        let len = r.array()?;
        if len == 0 {
            return Err(Refusal::Canon);
        }
        if r.u64()? != VERSION {
            return Err(Refusal::Version);
        }
        if len != 4 {
            return Err(Refusal::Canon);
        }
        let hlc = r.u64()?;
        let deps = decode_refs(&mut r)?;
        if deps.len() > DEPS_MAX {
            return Err(Refusal::Limit);
        }
        let len = r.array()?;
        if len > OPS_MAX {
            return Err(Refusal::Limit);
        }
        let ops = (0..len).map(|_| Op::decode(&mut r)).collect::<Result<_, _>>()?;
        r.finish()?;
        Ok(Self { hlc, deps, ops })
    }
}
