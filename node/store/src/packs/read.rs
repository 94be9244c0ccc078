//! Reading packs, every group compared with the hash before a byte of it is given out
//! (`docs/spec/08-at-rest.md`, "Pack files").

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use bao_tree::io::round_up_to_chunks;
use bao_tree::iter::BaoChunk;
use bao_tree::{ByteRanges, TreeNode};
use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use locker_crypto::Refusal;
use locker_crypto::id::PackHash;

use super::{GROUP_BYTES, tree};
use crate::StoreError;

/// Bytes of a read from which on the outboard is read in one go: its nodes one by one cost a call each.
const OUTBOARD_WHOLE_FROM: usize = 128 << 10;
/// Smaller reads of one reader after which it is read in one go too: who reads on in small pieces pays one call a piece.
const OUTBOARD_WHOLE_AFTER: u32 = 4;

/// A pack file that has the right length. Keeps the outboard once it was read whole, 64 KiB at most.
#[derive(Debug)]
pub struct PackReader {
    file: File,
    path: PathBuf,
    hash: PackHash,
    len: u32,
    small_reads: AtomicU32,
    /// As it lies in the file, unverified.
    outboard: OnceLock<Vec<u8>>,
}

impl PackReader {
    pub(super) fn new(file: File, path: PathBuf, hash: PackHash, len: u32) -> Self {
        Self { file, path, hash, len, small_reads: AtomicU32::new(0), outboard: OnceLock::new() }
    }

    /// The pack's hash.
    pub fn hash(&self) -> PackHash {
        self.hash
    }

    /// The pack's length in bytes, the outboard not counted.
    pub fn byte_len(&self) -> u32 {
        self.len
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads `[start, end)`, verified against the outboard: only the groups of 16 KiB that it touches, and the nodes
    /// above them.
    ///
    /// # Errors
    /// [`StoreError::Refused`] with [`Refusal::Limit`] for a range outside the pack; [`StoreError::Damaged`] if a group
    /// or node does not match; [`StoreError::Io`].
    pub fn read_range(&self, range: Range<u32>) -> Result<Vec<u8>, StoreError> {
        if range.start > range.end || range.end > self.len {
            return Err(StoreError::Refused(Refusal::Limit));
        }
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let (start, end) = (u64::from(range.start), u64::from(range.end));
        // Whole groups: a part of one cannot be compared with anything.
        let groups =
            start / GROUP_BYTES * GROUP_BYTES..end.next_multiple_of(GROUP_BYTES).min(self.len.into());
        let chunks = round_up_to_chunks(&ByteRanges::from(groups.clone()));
        let mut bytes = vec![0; usize::try_from(groups.end - groups.start).unwrap_or(0)];
        self.read_at(&mut bytes, groups.start)?;
        let outboard = self.outboard_for(bytes.len())?;
        let mut expected = vec![*self.hash.as_bytes()];
        for item in tree(self.len).ranges_pre_order_chunks_iter_ref(&chunks, 0) {
            let wanted = expected.pop().ok_or_else(|| self.damaged())?;
            match item {
                BaoChunk::Parent { node, is_root, left, right, .. } => {
                    let (first, second) = self.pair(node, outboard)?;
                    if hash_pair(&first, &second, is_root) != wanted {
                        return Err(self.damaged());
                    }
                    if right {
                        expected.push(second);
                    }
                    if left {
                        expected.push(first);
                    }
                }
                BaoChunk::Leaf { start_chunk, size, is_root, .. } => {
                    let at = start_chunk.to_bytes();
                    let group =
                        usize::try_from(at - groups.start).ok().and_then(|from| bytes.get(from..from + size));
                    if hash_group(group.ok_or_else(|| self.damaged())?, at, is_root) != wanted {
                        return Err(self.damaged());
                    }
                }
            }
        }
        let before = range.start as usize % GROUP_BYTES as usize;
        bytes.truncate(before + range.len());
        bytes.drain(..before);
        Ok(bytes)
    }

    /// The whole outboard where most of it is needed anyway or will be; else nothing.
    fn outboard_for(&self, bytes: usize) -> Result<&[u8], StoreError> {
        if let Some(outboard) = self.outboard.get() {
            return Ok(outboard);
        }
        if bytes < OUTBOARD_WHOLE_FROM
            && self.small_reads.fetch_add(1, Ordering::Relaxed) < OUTBOARD_WHOLE_AFTER
        {
            return Ok(&[]);
        }
        let mut outboard = vec![0; usize::try_from(tree(self.len).outboard_size()).unwrap_or(0)];
        self.read_outboard(&mut outboard, 0)?;
        Ok(self.outboard.get_or_init(|| outboard))
    }

    /// Reads the whole pack, verified. The outboard is not looked at.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], [`StoreError::Io`].
    pub fn read_whole(&self) -> Result<Vec<u8>, StoreError> {
        let mut bytes = vec![0; self.len as usize];
        self.read_at(&mut bytes, 0)?;
        if blake3::hash(&bytes).as_bytes() != self.hash.as_bytes() {
            return Err(self.damaged());
        }
        Ok(bytes)
    }

    /// Fills a buffer from the pack's bytes at an offset, unverified: for who verifies against the outboard himself.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] beyond the end; [`StoreError::Io`].
    pub fn read_raw(&self, buffer: &mut [u8], at: u64) -> Result<(), StoreError> {
        self.read_at(buffer, at)
    }

    /// Fills a buffer from the outboard, pre-order without size prefix, at an offset.
    ///
    /// # Errors
    /// As [`PackReader::read_raw`].
    pub fn read_outboard(&self, buffer: &mut [u8], at: u64) -> Result<(), StoreError> {
        self.read_at(buffer, u64::from(self.len).saturating_add(at))
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], at: u64) -> Result<(), StoreError> {
        self.file.read_exact_at(buffer, at).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged(),
            _ => StoreError::io("reading a pack", &self.path, error),
        })
    }

    pub(super) fn damaged(&self) -> StoreError {
        StoreError::Damaged { pack: self.hash }
    }

    /// Gives the two hashes of an inner node, out of the outboard if it was read.
    fn pair(&self, node: TreeNode, outboard: &[u8]) -> Result<(ChainingValue, ChainingValue), StoreError> {
        let index = tree(self.len).pre_order_offset(node).ok_or_else(|| self.damaged())?;
        let mut pair = [0; 64];
        let known = usize::try_from(64 * index).ok().and_then(|at| outboard.get(at..)?.first_chunk::<64>());
        match known {
            Some(known) => pair = *known,
            None => self.read_outboard(&mut pair, 64 * index)?,
        }
        let (first, second) = pair.split_at(32);
        let half = |half: &[u8]| half.try_into().map_err(|_| self.damaged());
        Ok((half(first)?, half(second)?))
    }
}

/// Hash of an inner node.
pub(super) fn hash_pair(first: &ChainingValue, second: &ChainingValue, is_root: bool) -> [u8; 32] {
    if is_root {
        return *merge_subtrees_root(first, second, Mode::Hash).as_bytes();
    }
    merge_subtrees_non_root(first, second, Mode::Hash)
}

/// Hash of a group that stands at an offset of the pack.
pub(super) fn hash_group(bytes: &[u8], at: u64, is_root: bool) -> [u8; 32] {
    if is_root {
        return *blake3::hash(bytes).as_bytes();
    }
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(at);
    hasher.update(bytes);
    hasher.finalize_non_root()
}
