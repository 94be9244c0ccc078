//! FileRef: what a version of a file consists of (`docs/spec/03-content.md`, "FileRef").
//!
//! A FileRef names the chunks of a file with their keys, inline or through manifests of one or two levels. Here are its
//! codec, the building of manifests while a file streams by ([`FileRefBuilder`]) and the way back from a byte range to
//! chunks, segments and 16-KiB groups of a pack ([`FileMap`], [`GroupSet`]).

mod build;
mod map;
mod read;
mod record;

use std::fmt;

use crate::Refusal;
use crate::cut::{CHUNK_LEN_MAX, CHUNK_LEN_MIN};
use crate::encode::{Reader, Writer};
use crate::id::ContentHash;

pub use build::{FileRefBuilder, ManifestChunk};
pub use map::FileMap;
pub use read::{ChunkSlice, Commitment, GROUP_LEN, GroupSet};
pub use record::ChunkRecord;

/// Greatest size of a file in bytes: 4 TiB.
pub const FILE_SIZE_MAX: u64 = 1 << 42;
/// Most records in the FileRef itself.
pub const INLINE_RECORDS_MAX: usize = 8;
/// Records in a full piece of a manifest.
pub const MANIFEST_RECORDS: usize = 116_508;
/// Bytes of a full piece of a manifest; the last piece may be shorter.
pub const MANIFEST_LEN: usize = MANIFEST_RECORDS * ChunkRecord::LEN;

/// Format version of a FileRef.
const VERSION: u64 = 1;
/// Most data records that level 1 reaches.
const LEVEL_1_RECORDS_MAX: u64 = (INLINE_RECORDS_MAX * MANIFEST_RECORDS) as u64;

/// The content of one version of a file. Whoever has it can read the content; it is never stored or sent in clear.
#[derive(Clone, PartialEq, Eq)]
pub struct FileRef {
    size: u64,
    hash: ContentHash,
    level: u8,
    records: Vec<ChunkRecord>,
}

impl FileRef {
    /// The FileRef of the empty file.
    pub fn empty() -> Self {
        let hash = ContentHash(*blake3::hash(&[]).as_bytes());
        Self { size: 0, hash, level: 0, records: Vec::new() }
    }

    /// Size of the file in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// BLAKE3 of the whole file, to be checked after a whole read ([`FileRef::check_content`]).
    pub fn content_hash(&self) -> ContentHash {
        self.hash
    }

    /// How many levels of manifests lie between the records and the data: 0, 1 or 2.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// The inline records, at most 8: of data chunks at level 0, else of manifest chunks.
    pub fn records(&self) -> &[ChunkRecord] {
        &self.records
    }

    /// Compares the hash of all bytes that were read with the one named here.
    ///
    /// # Errors
    /// [`Refusal::Hash`] if they differ: the export must not take the file's name.
    pub fn check_content(&self, hash: ContentHash) -> Result<(), Refusal> {
        if hash == self.hash { Ok(()) } else { Err(Refusal::Hash) }
    }

    /// Appends the canonical bytes: one array.
    pub fn write(&self, w: &mut Writer) {
        w.array(5).u64(VERSION).u64(self.size).bytes(self.hash.as_bytes()).u64(self.level.into());
        w.bytes(&record::concat(&self.records));
    }

    /// Returns the canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        self.write(&mut w);
        w.finish()
    }

    /// Reads a FileRef as the next item.
    ///
    /// # Errors
    /// [`Refusal::Version`] if a newer program made it, [`Refusal::Limit`] above [`FILE_SIZE_MAX`],
    /// [`Refusal::Canon`] if any other rule of the canonical form is broken. What can be seen only in a manifest is
    /// checked by [`FileMap::feed`].
    pub fn read(r: &mut Reader<'_>) -> Result<Self, Refusal> {
        r.array_of(5)?;
        if r.u64()? != VERSION {
            return Err(Refusal::Version);
        }
        let size = r.u64()?;
        if size > FILE_SIZE_MAX {
            return Err(Refusal::Limit);
        }
        let hash = ContentHash(r.fixed()?);
        let level = r.u8()?;
        let records = r.bytes()?;
        if records.len() > INLINE_RECORDS_MAX * ChunkRecord::LEN {
            return Err(Refusal::Canon);
        }
        let file = Self { size, hash, level, records: record::split(records)? };
        file.check()?;
        Ok(file)
    }

    /// Reads a FileRef and nothing after it.
    ///
    /// # Errors
    /// As [`FileRef::read`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut r = Reader::new(bytes);
        let file = Self::read(&mut r)?;
        r.finish()?;
        Ok(file)
    }

    /// Rules 3 to 8 of the canonical form, as far as they show without a manifest.
    fn check(&self) -> Result<(), Refusal> {
        if self.size == 0 || self.records.is_empty() {
            return if *self == Self::empty() { Ok(()) } else { Err(Refusal::Canon) };
        }
        let canonical = match self.level {
            0 => {
                data_sum(&self.records, Tail::Last) == Some(self.size)
                    && self.allows(self.records.len() as u64)
            }
            1 => manifest_records(&self.records)
                .is_some_and(|n| n > INLINE_RECORDS_MAX as u64 && n <= LEVEL_1_RECORDS_MAX && self.allows(n)),
            2 => manifest_records(&self.records).is_some_and(|pieces| {
                // The last of these pieces holds between one and MANIFEST_RECORDS data records.
                let most = pieces.saturating_mul(MANIFEST_RECORDS as u64);
                let least = most.saturating_sub(MANIFEST_RECORDS as u64 - 1).max(LEVEL_1_RECORDS_MAX + 1);
                let (fewest, greatest) = self.bounds();
                least.max(fewest) <= most.min(greatest)
            }),
            _ => false,
        };
        if canonical { Ok(()) } else { Err(Refusal::Canon) }
    }

    /// Rule 8 for a known number of data records.
    fn allows(&self, count: u64) -> bool {
        let (fewest, most) = self.bounds();
        (fewest..=most).contains(&count)
    }

    /// Fewest and most data records that a file of this size can have.
    fn bounds(&self) -> (u64, u64) {
        (self.size.div_ceil(CHUNK_LEN_MAX as u64), self.size.div_ceil(CHUNK_LEN_MIN as u64))
    }
}

/// Shows size, level and number of records; keys and the content hash stay hidden.
impl fmt::Debug for FileRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileRef")
            .field("size", &self.size)
            .field("level", &self.level)
            .field("records", &self.records.len())
            .finish_non_exhaustive()
    }
}

/// Whether the last of some records is the last of its whole list, and so may be short.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tail {
    Last,
    More,
}

/// Sum of the lengths of data records; `None` if one breaks rule 5.
fn data_sum(records: &[ChunkRecord], tail: Tail) -> Option<u64> {
    let shortest = |index: usize| {
        if tail == Tail::Last && index + 1 == records.len() { 1 } else { CHUNK_LEN_MIN }
    };
    records.iter().enumerate().try_fold(0u64, |sum, (index, record)| {
        let len = record.len as usize;
        (shortest(index)..=CHUNK_LEN_MAX).contains(&len).then(|| sum + u64::from(record.len))
    })
}

/// Number of records that the manifest of these pieces holds; `None` if a length breaks rule 6.
fn manifest_records(pieces: &[ChunkRecord]) -> Option<u64> {
    let (last, full) = pieces.split_last()?;
    let whole = |len: u32| len as usize == MANIFEST_LEN;
    let fits =
        |len: u32| len > 0 && len as usize <= MANIFEST_LEN && (len as usize).is_multiple_of(ChunkRecord::LEN);
    if !full.iter().all(|piece| whole(piece.len)) || !fits(last.len) {
        return None;
    }
    let bytes: u64 = pieces.iter().map(|piece| u64::from(piece.len)).sum();
    Some(bytes / ChunkRecord::LEN as u64)
}

#[cfg(test)]
mod tests;
