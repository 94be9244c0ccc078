//! The `pack` operation: `[20, hash, len, [[tag, offset, sealed_len]…]]`.

use std::collections::HashSet;
use std::ops::Range;

use super::{PACK_CHUNKS_MAX, PACK_LEN_MAX, fill_padding, padded_len};
use crate::Refusal;
use crate::chunk::{SEALED_LEN_MAX, plain_len};
use crate::encode::{Reader, Writer};
use crate::id::{ChunkTag, PackHash};
use crate::secret::ChunkKey;

/// Where one sealed chunk lies in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loc {
    /// Name of the chunk.
    pub tag: ChunkTag,
    /// Offset of its first byte in the pack.
    pub offset: u32,
    /// Its length in bytes, commitment and tags included.
    pub sealed_len: u32,
}

impl Loc {
    /// Bytes of the pack that hold the chunk.
    pub const fn bytes(&self) -> Range<u32> {
        self.offset..self.offset + self.sealed_len
    }
}

/// What a pack holds, as its author says in the log. The form is checked; whether it is true shows when a chunk is
/// opened ([`Refusal::Commit`]): nothing is served on the strength of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackOp {
    hash: PackHash,
    len: u32,
    locs: Vec<Loc>,
}

impl PackOp {
    /// Code of the operation.
    pub const CODE: u64 = 20;

    /// Puts an operation together and checks its form.
    ///
    /// # Errors
    /// As [`PackOp::decode`].
    pub fn new(hash: PackHash, len: u32, locs: Vec<Loc>) -> Result<Self, Refusal> {
        check_form(len, &locs)?;
        Ok(Self { hash, len, locs })
    }

    /// BLAKE3 of all bytes of the pack.
    pub fn hash(&self) -> PackHash {
        self.hash
    }

    /// Length of the pack in bytes, padding included.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Always false: a pack has at least one chunk.
    pub fn is_empty(&self) -> bool {
        self.locs.is_empty()
    }

    /// The chunks in the order in which they lie; at least one.
    pub fn locs(&self) -> &[Loc] {
        &self.locs
    }

    /// Bytes of sealed chunks, without padding.
    pub fn total(&self) -> u32 {
        self.locs.last().map_or(0, |last| last.bytes().end)
    }

    /// Appends the canonical bytes.
    pub fn write(&self, w: &mut Writer) {
        w.array(4).u64(Self::CODE).bytes(self.hash.as_bytes()).u64(self.len.into());
        w.array(self.locs.len());
        for loc in &self.locs {
            w.array(3).bytes(loc.tag.as_bytes()).u64(loc.offset.into()).u64(loc.sealed_len.into());
        }
    }

    /// Returns the canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        self.write(&mut w);
        w.finish()
    }

    /// Reads the whole operation, code included, and nothing after it.
    ///
    /// # Errors
    /// [`Refusal::Limit`] for more than [`PACK_CHUNKS_MAX`] chunks, a chunk above [`SEALED_LEN_MAX`] or a pack above
    /// [`PACK_LEN_MAX`]; [`Refusal::Canon`] for every other deviation: no chunk, a tag twice, offsets that leave a
    /// gap or overlap, a length that no chunk has, a length that padding does not give.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut r = Reader::new(bytes);
        r.array_of(4)?;
        if r.u64()? != Self::CODE {
            return Err(Refusal::Canon);
        }
        let hash = PackHash(r.fixed()?);
        let len = limited(r.u64()?, PACK_LEN_MAX)?;
        let count = r.array()?;
        if count > PACK_CHUNKS_MAX {
            return Err(Refusal::Limit);
        }
        let mut locs = Vec::new();
        for _ in 0..count {
            r.array_of(3)?;
            let tag = ChunkTag(r.fixed()?);
            let offset = r.u32()?;
            let sealed_len = limited(r.u64()?, SEALED_LEN_MAX)?;
            locs.push(Loc { tag, offset, sealed_len });
        }
        r.finish()?;
        Self::new(hash, len, locs)
    }

    /// Checks that `pack` holds the bytes that the operation names. Reads and hashes all of it.
    ///
    /// # Errors
    /// [`Refusal::Hash`] otherwise.
    pub fn check_bytes(&self, pack: &[u8]) -> Result<(), Refusal> {
        if pack.len() == self.len as usize && blake3::hash(pack) == *self.hash.as_bytes() {
            Ok(())
        } else {
            Err(Refusal::Hash)
        }
    }

    /// Checks the padding of a whole pack, given the key of its first chunk.
    ///
    /// # Errors
    /// [`Refusal::Pad`] if it is not as prescribed: the data stays readable, but the pack must never be made again
    /// or borrowed, and is repacked. [`Refusal::Hash`] if `pack` has another length than the operation says.
    pub fn check_padding(&self, pack: &[u8], first: &ChunkKey) -> Result<(), Refusal> {
        if pack.len() != self.len as usize {
            return Err(Refusal::Hash);
        }
        let found = &pack[self.total() as usize..];
        let mut expected = vec![0; found.len()];
        fill_padding(first, &mut expected);
        if found == expected { Ok(()) } else { Err(Refusal::Pad) }
    }
}

fn limited(value: u64, most: u32) -> Result<u32, Refusal> {
    u32::try_from(value).ok().filter(|value| *value <= most).ok_or(Refusal::Limit)
}

fn check_form(len: u32, locs: &[Loc]) -> Result<(), Refusal> {
    if locs.is_empty() {
        return Err(Refusal::Canon);
    }
    if locs.len() > PACK_CHUNKS_MAX || len > PACK_LEN_MAX {
        return Err(Refusal::Limit);
    }
    let mut tags = HashSet::with_capacity(locs.len());
    let mut end = 0u32;
    for loc in locs {
        if loc.sealed_len > SEALED_LEN_MAX {
            return Err(Refusal::Limit);
        }
        if loc.offset != end || plain_len(loc.sealed_len).is_none() || !tags.insert(loc.tag) {
            return Err(Refusal::Canon);
        }
        end += loc.sealed_len;
        // Before the next one is added, or many longest chunks would overflow the sum.
        if end > PACK_LEN_MAX {
            return Err(Refusal::Canon);
        }
    }
    if len == padded_len(end) { Ok(()) } else { Err(Refusal::Canon) }
}
