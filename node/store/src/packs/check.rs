//! Comparing a pack file with its name, group by group from the root down, outboard included
//! (`docs/spec/08-at-rest.md`, "Pack files").
//!
//! Memory: the outboard (at most 64 KiB) and one window of the file, whatever the pack.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bao_tree::ChunkRanges;
use bao_tree::iter::BaoChunk;
use locker_crypto::id::PackHash;

use super::read::{hash_group, hash_pair};
use super::{GROUP_BYTES, PackReader, tree};
use crate::StoreError;

/// Bytes of a file that are read in one go: many groups, so that a disk that has to move its head does so rarely.
const WINDOW_BYTES: u64 = 64 * GROUP_BYTES;

/// Compares everything in a pack file with the hash.
///
/// # Errors
/// [`StoreError::Damaged`] if a byte of pack or outboard differs or cannot be read.
pub(super) fn verify(pack: &PackReader) -> Result<(), StoreError> {
    let held = survey(pack.file(), pack.path(), &pack.hash(), pack.byte_len())?;
    if held.iter().all(|held| *held) { Ok(()) } else { Err(pack.damaged()) }
}

/// Whether the system may remember what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// It may: somebody reads there again soon.
    Kept,
    /// It drops it, so that a pass over all packs does not push out of memory what others use.
    Dropped,
}

/// The same with what is on the disk: what the system remembers of the file is dropped before, so that the disk is asked.
///
/// # Errors
/// As [`verify`].
pub(super) fn verify_on_disk(pack: &PackReader, cache: Cache) -> Result<(), StoreError> {
    forget_cached(pack.file());
    let verified = verify(pack);
    if cache == Cache::Dropped {
        forget_cached(pack.file());
    }
    verified
}

/// Tells which groups of a file are those of the pack, reached from the root over nodes that are right. All of them are
/// exactly if the whole file, outboard included, is right. A group that cannot be read is not held.
///
/// # Errors
/// [`StoreError::Io`] if the outboard cannot be read.
pub(super) fn survey(file: &File, path: &Path, hash: &PackHash, len: u32) -> Result<Vec<bool>, StoreError> {
    let damaged = || StoreError::Damaged { pack: *hash };
    let tree = tree(len);
    let mut outboard = vec![0; usize::try_from(tree.outboard_size()).map_err(|_| damaged())?];
    file.read_exact_at(&mut outboard, u64::from(len))
        .map_err(|error| StoreError::io("reading a pack", path, error))?;
    let (nodes, _) = outboard.as_chunks::<64>();
    let mut held = Vec::with_capacity(group_count(len));
    let mut window = Window::new(file, u64::from(len));
    // The hash that the next item must have; none below a node that is wrong.
    let mut expected = vec![Some(*hash.as_bytes())];
    for item in tree.ranges_pre_order_chunks_iter_ref(&ChunkRanges::all(), 0) {
        let wanted = expected.pop().ok_or_else(damaged)?;
        match item {
            BaoChunk::Parent { node, is_root, .. } => {
                let index = tree.pre_order_offset(node).and_then(|index| usize::try_from(index).ok());
                let pair = index.and_then(|index| nodes.get(index)).ok_or_else(damaged)?;
                let children = wanted.and_then(|wanted| {
                    let (first, second) = (pair.first_chunk::<32>()?, pair.last_chunk::<32>()?);
                    (hash_pair(first, second, is_root) == wanted).then_some((*first, *second))
                });
                expected.push(children.map(|(_, second)| second));
                expected.push(children.map(|(first, _)| first));
            }
            BaoChunk::Leaf { start_chunk, size, is_root, .. } => {
                let at = start_chunk.to_bytes();
                let is_held = wanted.is_some_and(|wanted| {
                    window.group(at, size).is_some_and(|group| hash_group(group, at, is_root) == wanted)
                });
                held.push(is_held);
            }
        }
    }
    if held.len() == group_count(len) { Ok(held) } else { Err(damaged()) }
}

/// How many groups a pack has: at most 1,024.
pub(super) fn group_count(len: u32) -> usize {
    u64::from(len).div_ceil(GROUP_BYTES) as usize
}

/// Reads a file in pieces; where a piece cannot be read, group by group.
struct Window<'f> {
    file: &'f File,
    end: u64,
    at: u64,
    bytes: Vec<u8>,
    /// Up to here a whole piece could not be read.
    broken_until: u64,
}

impl<'f> Window<'f> {
    fn new(file: &'f File, end: u64) -> Self {
        Self { file, end, at: 0, bytes: Vec::new(), broken_until: 0 }
    }

    /// Returns the group at `at`; `None` if it cannot be read.
    fn group(&mut self, at: u64, size: usize) -> Option<&[u8]> {
        let is_here = |window: &Self| {
            let from = usize::try_from(at.checked_sub(window.at)?).ok()?;
            (from + size <= window.bytes.len()).then_some(from)
        };
        if is_here(self).is_none() {
            let piece = WINDOW_BYTES.min(self.end.saturating_sub(at));
            let is_whole = at >= self.broken_until && self.fill(at, usize::try_from(piece).ok()?);
            if !is_whole {
                if at >= self.broken_until {
                    self.broken_until = at + piece;
                }
                if !self.fill(at, size) {
                    return None;
                }
            }
        }
        let from = is_here(self)?;
        self.bytes.get(from..from + size)
    }

    fn fill(&mut self, at: u64, len: usize) -> bool {
        (self.at, self.bytes) = (at, std::mem::take(&mut self.bytes));
        self.bytes.resize(len, 0);
        let is_read = self.file.read_exact_at(&mut self.bytes, at).is_ok();
        if !is_read {
            self.bytes.clear();
        }
        is_read
    }
}

/// Asks the system to drop what it remembers of a file. What is not on the disk yet stays.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn forget_cached(file: &File) {
    // Advice: where it is not taken, the file is read all the same.
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn forget_cached(_: &File) {}
