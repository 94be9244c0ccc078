//! The data chunks of a file in order, known as far as its manifests were read.

use std::collections::VecDeque;
use std::ops::Range;

use super::LEVEL_1_RECORDS_MAX;
use super::{ChunkRecord, ChunkSlice, FileRef, INLINE_RECORDS_MAX, Tail, data_sum, manifest_records, record};
use crate::Refusal;

/// Where each byte of a file lies.
///
/// At level 0 it is complete at once. Else the caller opens the manifest chunk that [`FileMap::wanted`] names, gives
/// its plaintext to [`FileMap::feed`], and repeats until nothing is wanted or [`FileMap::covers`] what is read.
/// Memory: 48 bytes per known data chunk.
pub struct FileMap {
    file: FileRef,
    /// Manifest chunks to be opened, next one first.
    pending: VecDeque<ChunkRecord>,
    /// How many levels of manifests are above the pending chunks' content: 2 while M2 is read, then 1.
    level: u8,
    /// What was read of M2 so far.
    upper: Vec<ChunkRecord>,
    records: Vec<ChunkRecord>,
    /// End offset in the file of each known data chunk.
    ends: Vec<u64>,
}

impl FileMap {
    /// Starts with what the FileRef itself tells.
    pub fn new(file: &FileRef) -> Self {
        let mut map = Self {
            file: file.clone(),
            pending: VecDeque::new(),
            level: file.level(),
            upper: Vec::new(),
            records: Vec::new(),
            ends: Vec::new(),
        };
        match file.level() {
            0 => map.append(file.records().to_vec()),
            _ => map.pending = file.records().iter().cloned().collect(),
        }
        map
    }

    /// The manifest chunk to be opened next; `None` once all data chunks are known.
    pub fn wanted(&self) -> Option<&ChunkRecord> {
        self.pending.front()
    }

    /// Takes the plaintext of the wanted manifest chunk and checks what it says.
    ///
    /// # Errors
    /// [`Refusal::Canon`] if nothing is wanted, or the manifest breaks a rule of the canonical form: lengths that no
    /// chunk has, a sum other than the size of the file, a level deeper than needed. The map is then unchanged and the
    /// file unreadable.
    pub fn feed(&mut self, plain: &[u8]) -> Result<(), Refusal> {
        let piece = self.pending.front().ok_or(Refusal::Canon)?;
        if plain.len() != piece.len as usize {
            return Err(Refusal::Canon);
        }
        let records = record::split(plain)?;
        let is_last = self.pending.len() == 1;
        match (self.level, is_last) {
            (2, false) => self.upper.extend(records),
            (2, true) => {
                let pieces = [self.upper.as_slice(), &records].concat();
                let count = manifest_records(&pieces).ok_or(Refusal::Canon)?;
                if count <= LEVEL_1_RECORDS_MAX || !self.file.allows(count) {
                    return Err(Refusal::Canon);
                }
                self.level = 1;
                self.upper = Vec::new();
                self.pending = pieces.into();
                return Ok(());
            }
            _ => self.feed_data(records, if is_last { Tail::Last } else { Tail::More })?,
        }
        self.pending.pop_front();
        Ok(())
    }

    /// Bytes of the file, from its start, whose chunks are known.
    pub fn known_size(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Whether the chunks of all bytes of `range` that lie in the file are known.
    pub fn covers(&self, range: &Range<u64>) -> bool {
        range.end.min(self.file.size()) <= self.known_size()
    }

    /// The known data chunks in order.
    pub fn records(&self) -> &[ChunkRecord] {
        &self.records
    }

    /// The chunks that hold the bytes of `range`, in order, each with the part of it that is asked for. A range that
    /// ends beyond the file is cut at its end. `None` if the manifests read so far do not cover the range: feed more.
    pub fn slices(&self, range: &Range<u64>) -> Option<impl Iterator<Item = ChunkSlice<'_>>> {
        if !self.covers(range) {
            return None;
        }
        let (from, to) = (range.start, range.end.min(self.file.size()));
        let first = self.ends.partition_point(|end| *end <= from);
        let slices = self.records[first..].iter().zip(&self.ends[first..]).map_while(move |(record, end)| {
            let start = end - u64::from(record.len);
            ChunkSlice::new(record, start, from.max(start)..to.min(*end))
        });
        Some(slices)
    }

    fn feed_data(&mut self, records: Vec<ChunkRecord>, tail: Tail) -> Result<(), Refusal> {
        let sum = data_sum(&records, tail).ok_or(Refusal::Canon)?;
        let size = self.known_size() + sum;
        let fits = match tail {
            Tail::Last => size == self.file.size(),
            Tail::More => size < self.file.size(),
        };
        let count = self.records.len() + records.len();
        if !fits || (tail == Tail::Last && count <= INLINE_RECORDS_MAX) {
            return Err(Refusal::Canon);
        }
        self.append(records);
        Ok(())
    }

    fn append(&mut self, records: Vec<ChunkRecord>) {
        let mut end = self.known_size();
        self.ends.extend(records.iter().map(|record| {
            end += u64::from(record.len);
            end
        }));
        self.records.extend(records);
    }
}
