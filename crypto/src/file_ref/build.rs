//! Building a FileRef while the chunks of a file stream by.

use zeroize::Zeroizing;

use super::ChunkRecord;
use super::{FILE_SIZE_MAX, FileRef, INLINE_RECORDS_MAX, MANIFEST_LEN, Tail, data_sum, record};
use crate::Refusal;
use crate::chunk::{ChunkKind, DedupKeys};
use crate::cut::CHUNK_LEN_MIN;
use crate::id::ContentHash;
use crate::secret::ChunkKey;

/// A piece of a manifest that must be sealed and packed after the data chunks of its file.
pub struct ManifestChunk {
    /// Key of the chunk, of the manifest family.
    pub key: ChunkKey,
    /// The records; wiped when dropped, because they are keys.
    pub plain: Zeroizing<Vec<u8>>,
}

impl ManifestChunk {
    fn new(keys: &DedupKeys, plain: Zeroizing<Vec<u8>>) -> Self {
        Self { key: keys.chunk_key(ChunkKind::Manifest, &plain), plain }
    }

    fn record(&self) -> ChunkRecord {
        ChunkRecord {
            key: self.key.clone(),
            len: u32::try_from(self.plain.len()).expect("a piece has 4 MiB at most"),
        }
    }
}

/// Gathers the records of a file in order and makes its FileRef with the manifests that it needs.
///
/// Memory: one open piece (4 MiB) and the full pieces of level 1 that were not taken yet: 4 MiB for every 116,508
/// chunks, about 113 GiB of file.
pub struct FileRefBuilder<'a> {
    keys: &'a DedupKeys,
    size: u64,
    count: u64,
    last_len: u32,
    open: Zeroizing<Vec<u8>>,
    pieces: Vec<ManifestChunk>,
}

impl<'a> FileRefBuilder<'a> {
    /// Starts a file of own content.
    pub fn new(keys: &'a DedupKeys) -> Self {
        Self { keys, size: 0, count: 0, last_len: 0, open: Zeroizing::new(Vec::new()), pieces: Vec::new() }
    }

    /// Size in bytes of the chunks added so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds the next data chunk.
    ///
    /// # Errors
    /// [`Refusal::Limit`] if the file grows above [`FILE_SIZE_MAX`]; [`Refusal::Canon`] if the length is none of a
    /// chunk, or a chunk shorter than the minimum lies before it. Nothing is added then.
    pub fn push(&mut self, record: &ChunkRecord) -> Result<(), Refusal> {
        if self.count > 0 && (self.last_len as usize) < CHUNK_LEN_MIN {
            return Err(Refusal::Canon);
        }
        let len = data_sum(std::slice::from_ref(record), Tail::Last).ok_or(Refusal::Canon)?;
        if self.size + len > FILE_SIZE_MAX {
            return Err(Refusal::Limit);
        }
        if self.open.len() == MANIFEST_LEN {
            let full = std::mem::replace(&mut self.open, Zeroizing::new(Vec::new()));
            self.pieces.push(ManifestChunk::new(self.keys, full));
        }
        record.write(&mut self.open);
        self.size += len;
        self.count += 1;
        self.last_len = record.len;
        Ok(())
    }

    /// Ends the file: gives its FileRef and the manifest chunks to be sealed, those of level 1 first, then level 2.
    ///
    /// `hash` is BLAKE3 of the whole file.
    ///
    /// # Errors
    /// [`Refusal::Canon`] if there was no chunk and `hash` is not that of nothing.
    pub fn finish(mut self, hash: ContentHash) -> Result<(FileRef, Vec<ManifestChunk>), Refusal> {
        let inline = INLINE_RECORDS_MAX * ChunkRecord::LEN;
        let (level, records) = if self.pieces.is_empty() && self.open.len() <= inline {
            (0, record::split(&self.open)?)
        } else {
            self.pieces.push(ManifestChunk::new(self.keys, self.open));
            let records: Vec<_> = self.pieces.iter().map(ManifestChunk::record).collect();
            if records.len() <= INLINE_RECORDS_MAX {
                (1, records)
            } else {
                // The largest file has 145 pieces of level 1, whose records fill one piece of level 2 by far not.
                let top = ManifestChunk::new(self.keys, Zeroizing::new(record::concat(&records)));
                let records = vec![top.record()];
                self.pieces.push(top);
                (2, records)
            }
        };
        let file = FileRef { size: self.size, hash, level, records };
        file.check()?;
        Ok((file, self.pieces))
    }
}
