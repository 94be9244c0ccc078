//! Where the segments of a chunk lie: arithmetic only, no keys (`docs/spec/03-content.md`, "FileRef", reading).

use std::ops::Range;

use super::{COMMITMENT_LEN, SEALED_LEN_MAX, SEGMENT_LEN, SEGMENT_SEALED_LEN};
use crate::aead::TAG_LEN;
use crate::cut::CHUNK_LEN_MAX;

const SEGMENT: u32 = SEGMENT_LEN as u32;
const SEGMENT_SEALED: u32 = SEGMENT_SEALED_LEN as u32;
const COMMITMENT: u32 = COMMITMENT_LEN as u32;
const TAG: u32 = TAG_LEN as u32;

/// Returns the length in bytes of the sealed chunk of `len` plaintext bytes: `32 + len + 16 * ceil(len / 65536)`;
/// `None` unless `1 <= len <= 4,194,304`.
pub const fn sealed_len(len: u32) -> Option<u32> {
    if len == 0 || len > CHUNK_LEN_MAX as u32 {
        return None;
    }
    Some(COMMITMENT + len + TAG * len.div_ceil(SEGMENT))
}

/// Returns the plaintext length of a sealed chunk of `sealed` bytes: the inverse of [`sealed_len`]; `None` if no
/// chunk has this length.
pub const fn plain_len(sealed: u32) -> Option<u32> {
    if sealed <= COMMITMENT + TAG || sealed > SEALED_LEN_MAX {
        return None;
    }
    let body = sealed - COMMITMENT;
    let tags = TAG * body.div_ceil(SEGMENT_SEALED);
    let last = (body - 1) % SEGMENT_SEALED + 1;
    if last <= TAG { None } else { Some(body - tags) }
}

/// Consecutive segments of one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentRange {
    chunk_len: u32,
    first: u32,
    last: u32,
}

impl SegmentRange {
    /// The segments that hold the plaintext bytes `from..to` of a chunk of `chunk_len` bytes; `None` if the range is
    /// empty or leaves the chunk, or no chunk has this length.
    pub const fn covering(chunk_len: u32, from: u32, to: u32) -> Option<Self> {
        if sealed_len(chunk_len).is_none() || from >= to || to > chunk_len {
            return None;
        }
        Some(Self { chunk_len, first: from / SEGMENT, last: (to - 1) / SEGMENT })
    }

    /// Plaintext length of the whole chunk.
    pub const fn chunk_len(&self) -> u32 {
        self.chunk_len
    }

    /// Index of the first segment.
    pub const fn first(&self) -> u32 {
        self.first
    }

    /// Index of the last segment, which belongs to the range.
    pub const fn last(&self) -> u32 {
        self.last
    }

    /// Number of segments of the whole chunk.
    pub const fn count_in_chunk(&self) -> u32 {
        self.chunk_len.div_ceil(SEGMENT)
    }

    /// Bytes of the sealed chunk that hold these segments; the commitment lies before them, at `0..32`.
    pub const fn sealed(&self) -> Range<u32> {
        let start = COMMITMENT + self.first * SEGMENT_SEALED;
        let full = COMMITMENT + (self.last + 1) * SEGMENT_SEALED;
        let whole = COMMITMENT + self.chunk_len + TAG * self.count_in_chunk();
        start..if full < whole { full } else { whole }
    }

    /// Bytes of the plaintext chunk that these segments hold.
    pub const fn plain(&self) -> Range<u32> {
        let full = (self.last + 1) * SEGMENT;
        self.first * SEGMENT..if full < self.chunk_len { full } else { self.chunk_len }
    }
}
