//! The 36-byte record `CK || LE32(len)`.

use crate::Refusal;
use crate::chunk::chunk_tag;
use crate::id::ChunkTag;
use crate::secret::ChunkKey;

/// Key and plaintext length of one chunk. Has no `Debug`: it carries a key.
#[derive(Clone, PartialEq, Eq)]
pub struct ChunkRecord {
    /// Key of the chunk.
    pub key: ChunkKey,
    /// Plaintext length in bytes.
    pub len: u32,
}

impl ChunkRecord {
    /// Size of a record in bytes.
    pub const LEN: usize = ChunkKey::LEN + 4;

    /// Returns the public name of the chunk, by which it is located in packs.
    pub fn tag(&self) -> ChunkTag {
        chunk_tag(&self.key)
    }

    /// Appends the 36 bytes.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.key.expose());
        out.extend_from_slice(&self.len.to_le_bytes());
    }
}

/// Puts records one after another.
pub(super) fn concat(records: &[ChunkRecord]) -> Vec<u8> {
    let mut out = Vec::with_capacity(records.len() * ChunkRecord::LEN);
    records.iter().for_each(|record| record.write(&mut out));
    out
}

/// Takes concatenated records apart; [`Refusal::Canon`] if their length is not a multiple of 36.
pub(super) fn split(bytes: &[u8]) -> Result<Vec<ChunkRecord>, Refusal> {
    let (records, rest) = bytes.as_chunks::<{ ChunkRecord::LEN }>();
    if !rest.is_empty() {
        return Err(Refusal::Canon);
    }
    records
        .iter()
        .map(|bytes| {
            let (key, len) = bytes.split_first_chunk().ok_or(Refusal::Canon)?;
            let len = len.try_into().map_err(|_| Refusal::Canon)?;
            Ok(ChunkRecord { key: ChunkKey::new(*key), len: u32::from_le_bytes(len) })
        })
        .collect()
}
