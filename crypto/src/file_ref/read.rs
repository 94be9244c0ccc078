//! From a part of a chunk to the 16-KiB groups of its pack that a reader asks for
//! (`docs/spec/03-content.md`, "Reading bytes").

use std::collections::BTreeMap;
use std::ops::Range;

use super::ChunkRecord;
use crate::Refusal;
use crate::chunk::{COMMITMENT_LEN, SegmentRange};
use crate::pack::Loc;

/// Bytes of a group: the unit in which packs are verified and asked for.
pub const GROUP_LEN: u32 = 16_384;

/// The part of one chunk that a read needs. Has no `Debug`: it leads to a key.
#[derive(Clone, Copy)]
pub struct ChunkSlice<'a> {
    record: &'a ChunkRecord,
    chunk_start: u64,
    bytes: (u32, u32),
    segments: SegmentRange,
}

impl<'a> ChunkSlice<'a> {
    /// `bytes` are offsets in the file; `None` if they do not lie inside the chunk.
    pub(super) fn new(record: &'a ChunkRecord, chunk_start: u64, bytes: Range<u64>) -> Option<Self> {
        let local = |offset: u64| u32::try_from(offset.checked_sub(chunk_start)?).ok();
        let (from, to) = (local(bytes.start)?, local(bytes.end)?);
        let segments = SegmentRange::covering(record.len, from, to)?;
        Some(Self { record, chunk_start, bytes: (from, to), segments })
    }

    /// Key and length of the chunk.
    pub fn record(&self) -> &'a ChunkRecord {
        self.record
    }

    /// Offset of the chunk in the file.
    pub fn chunk_start(&self) -> u64 {
        self.chunk_start
    }

    /// The wanted bytes, as offsets in the plaintext chunk.
    pub fn bytes(&self) -> Range<u32> {
        self.bytes.0..self.bytes.1
    }

    /// The segments that hold the wanted bytes.
    pub fn segments(&self) -> SegmentRange {
        self.segments
    }
}

/// Whether the reader has checked the commitment of a chunk before, and need not fetch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commitment {
    /// Fetch it with the segments.
    Wanted,
    /// It was verified for this key.
    Verified,
}

/// Groups of one pack: disjoint half-open ranges of group numbers, none touching the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupSet {
    /// Start to end.
    ranges: BTreeMap<u32, u32>,
}

impl GroupSet {
    /// Starts empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the groups that cover `bytes` of the pack.
    pub fn add_bytes(&mut self, bytes: Range<u32>) {
        if bytes.is_empty() {
            return;
        }
        let (mut start, mut end) = (bytes.start / GROUP_LEN, bytes.end.div_ceil(GROUP_LEN));
        while let Some((&other_start, &other_end)) = self.ranges.range(..=end).next_back() {
            if other_end < start {
                break;
            }
            start = start.min(other_start);
            end = end.max(other_end);
            self.ranges.remove(&other_start);
        }
        self.ranges.insert(start, end);
    }

    /// Adds what a read of `segments` needs of the chunk at `loc`, and nothing else.
    ///
    /// # Errors
    /// [`Refusal::Canon`] if the chunk at `loc` has another length than the segments belong to: the `pack` operation
    /// lies, or the FileRef does; try another location.
    pub fn add_segments(
        &mut self,
        loc: &Loc,
        segments: &SegmentRange,
        commitment: Commitment,
    ) -> Result<(), Refusal> {
        if crate::chunk::sealed_len(segments.chunk_len()) != Some(loc.sealed_len) {
            return Err(Refusal::Canon);
        }
        if commitment == Commitment::Wanted {
            self.add_bytes(loc.offset..loc.offset + COMMITMENT_LEN as u32);
        }
        let sealed = segments.sealed();
        self.add_bytes(loc.offset + sealed.start..loc.offset + sealed.end);
        Ok(())
    }

    /// The ranges in ascending order.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u32>> {
        self.ranges.iter().map(|(start, end)| *start..*end)
    }
}
