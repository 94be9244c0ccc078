//! Putting packs together, from a stream of sealed chunks and with bounded memory.

use std::collections::HashSet;

use super::{Loc, PACK_CHUNKS_MAX, PACK_LEN_MAX, PackOp, SOLID_SIZE_MIN, fill_padding, padded_len};
use crate::Refusal;
use crate::chunk::{chunk_tag, seal};
use crate::id::{ChunkTag, PackHash};
use crate::secret::ChunkKey;

/// Length of a page of memory, and a multiple of every block length of a disk.
const PAGE_LEN: usize = 4_096;

/// A sealed chunk on its way into a pack. Has no `Debug`: it carries its key.
pub struct SealedChunk {
    /// Key of the chunk.
    pub key: ChunkKey,
    /// Public name of the chunk.
    pub tag: ChunkTag,
    /// The sealed bytes.
    pub bytes: Vec<u8>,
}

impl SealedChunk {
    /// Seals `plain` under `key`; this is the work to spread over threads.
    ///
    /// # Errors
    /// As [`seal`].
    pub fn seal(key: ChunkKey, plain: &[u8]) -> Result<Self, Refusal> {
        let mut bytes = Vec::new();
        seal(&key, plain, &mut bytes)?;
        Ok(Self { tag: chunk_tag(&key), key, bytes })
    }
}

/// A closed pack that has no name yet: all its bytes, padding included, and where the chunks lie.
///
/// Who computes the outboard of the pack gets its hash in the same pass, so the hash is not computed here.
pub struct PackBody {
    bytes: PageBytes,
    locs: Vec<Loc>,
}

impl PackBody {
    /// All bytes of the pack. They begin at a page of memory, so that they can go to the disk as they lie.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// The chunks in the order in which they lie.
    pub fn locs(&self) -> &[Loc] {
        &self.locs
    }

    /// Computes the hash of the pack: one BLAKE3 pass over at most 16 MiB.
    pub fn hash(&self) -> PackHash {
        PackHash(*blake3::hash(self.bytes()).as_bytes())
    }

    /// Names the pack and returns the operation to be logged. `hash` must be BLAKE3 of the bytes, from
    /// [`PackBody::hash`] or from the root of an outboard over them.
    pub fn named(self, hash: PackHash) -> PackOp {
        let len = u32::try_from(self.bytes().len()).expect("a pack has at most 16 MiB");
        PackOp::new(hash, len, self.locs).expect("the packer keeps every rule of the form")
    }
}

/// The bytes of a pack that is being filled, from the first byte of a page on. Room for a whole pack is taken at once
/// and never moved; the system gives memory only for what is written.
#[derive(Default)]
struct PageBytes {
    bytes: Vec<u8>,
    /// Where the pack begins.
    start: usize,
}

impl PageBytes {
    fn with_room() -> Self {
        let mut bytes = Vec::<u8>::with_capacity(PAGE_LEN + PACK_LEN_MAX as usize);
        // Some memory is better than none where the system cannot say.
        let start = Some(bytes.as_ptr().align_offset(PAGE_LEN)).filter(|at| *at < PAGE_LEN).unwrap_or(0);
        bytes.resize(start, 0);
        Self { bytes, start }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// Puts the chunks of a batch into packs: files of 4 MiB or more fill packs of their own, smaller files share.
///
/// Order of calls: `start_file`; for each chunk of the file, in the order data, level-1 manifest, level-2 manifest,
/// `claim` and, where that says so, `push` in the order of the claims; `end_file`; after the last file `finish`. Each
/// call may give back one closed pack. Memory: at most two open packs of 16 MiB and 16 bytes per chunk of the batch.
#[derive(Default)]
pub struct Packer {
    shared: OpenPack,
    solid: OpenPack,
    in_solid: bool,
    claimed: HashSet<ChunkTag>,
}

impl Packer {
    /// Starts an empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts the next file. `size` decides where its chunks go; a reader that has 4 MiB of the file before it may
    /// give that number, so that a file which grows while it is read stays where it began.
    pub fn start_file(&mut self, size: u64) {
        self.in_solid = size >= SOLID_SIZE_MIN;
    }

    /// Whether the chunk must be sealed and pushed: false if this batch has it already.
    ///
    /// A chunk that lies in a live pack of the same space is neither claimed nor pushed; the caller looks there
    /// first.
    pub fn claim(&mut self, tag: ChunkTag) -> bool {
        self.claimed.insert(tag)
    }

    /// Adds a claimed chunk of the current file. Gives back the pack that had no room for it, closed.
    ///
    /// # Errors
    /// [`Refusal::Canon`] if the bytes have a length that no sealed chunk has, or the tag was not claimed; nothing
    /// changes then.
    pub fn push(&mut self, chunk: &SealedChunk) -> Result<Option<PackBody>, Refusal> {
        let len = u32::try_from(chunk.bytes.len()).map_err(|_| Refusal::Canon)?;
        if crate::chunk::plain_len(len).is_none() || !self.claimed.contains(&chunk.tag) {
            return Err(Refusal::Canon);
        }
        let open = if self.in_solid { &mut self.solid } else { &mut self.shared };
        let closed = if open.has_room(len) { None } else { open.close() };
        open.add(chunk, len);
        Ok(closed)
    }

    /// Ends the current file; gives back the last pack of a file that fills its own.
    pub fn end_file(&mut self) -> Option<PackBody> {
        self.in_solid = false;
        self.solid.close()
    }

    /// Ends the batch; gives back the pack that the smaller files share.
    pub fn finish(mut self) -> Option<PackBody> {
        self.shared.close()
    }
}

#[derive(Default)]
struct OpenPack {
    bytes: PageBytes,
    locs: Vec<Loc>,
    /// Key of the first chunk, from which the padding derives.
    first: Option<ChunkKey>,
}

impl OpenPack {
    fn has_room(&self, len: u32) -> bool {
        self.bytes.as_slice().len() + len as usize <= PACK_LEN_MAX as usize
            && self.locs.len() < PACK_CHUNKS_MAX
    }

    fn add(&mut self, chunk: &SealedChunk, len: u32) {
        if self.first.is_none() {
            self.first = Some(chunk.key.clone());
            self.bytes = PageBytes::with_room();
        }
        let offset = u32::try_from(self.bytes.as_slice().len()).expect("a pack has at most 16 MiB");
        self.locs.push(Loc { tag: chunk.tag, offset, sealed_len: len });
        self.bytes.bytes.extend_from_slice(&chunk.bytes);
    }

    /// Pads and hands out what was gathered; `None` if that is nothing.
    fn close(&mut self) -> Option<PackBody> {
        let Self { mut bytes, locs, first } = std::mem::take(self);
        let first = first?;
        let total = bytes.as_slice().len();
        let padded = padded_len(u32::try_from(total).expect("a pack has at most 16 MiB"));
        let padding = bytes.bytes.len();
        bytes.bytes.resize(bytes.start + padded as usize, 0);
        fill_padding(&first, &mut bytes.bytes[padding..]);
        Some(PackBody { bytes, locs })
    }
}
