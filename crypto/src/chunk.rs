//! Chunk keys, sealing and opening (`docs/spec/03-content.md`, "Chunk keys and sealing").
//!
//! A sealed chunk is `COM || C_0 || … || C_{k-1}`: a commitment to the key, then segments of 64 KiB of plaintext,
//! each ChaCha20-Poly1305 under EK with nonce `00 00 00 || BE64(i) || last`. For own content CK is a keyed hash of
//! the plaintext, so a nonce repeats under a key only for the same bytes; the one misuse that breaks this is sealing
//! different plaintexts under one CK. Nothing is compressed, and there is no header and no nonce in the chunk.

mod segment;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::Refusal;
use crate::aead;
use crate::cut::CHUNK_LEN_MAX;
use crate::derive::{Purpose, kdf, kdf16};
use crate::id::ChunkTag;
use crate::secret::{AeadKey, ChunkKey, DedupSecret};

pub use segment::{SegmentRange, plain_len, sealed_len};

/// Plaintext bytes of a segment; the last segment of a chunk may be shorter.
pub const SEGMENT_LEN: usize = 1 << SEGMENT_LOG2;
/// Bytes of a full segment when sealed.
pub const SEGMENT_SEALED_LEN: usize = SEGMENT_LEN + aead::TAG_LEN;
/// Bytes of the key commitment at the start of a sealed chunk.
pub const COMMITMENT_LEN: usize = 32;
/// Most bytes of a sealed chunk.
pub const SEALED_LEN_MAX: u32 = 4_195_360;

const SEGMENT_LOG2: u8 = 16;
const FORMAT_VERSION: u8 = 1;

/// What a chunk holds. The two kinds have keys of different families, so one never passes as the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkKind {
    /// Bytes of a file.
    Data,
    /// Records of further chunks.
    Manifest,
}

/// Derives chunk keys of own content from the dedup secret. Cheap to share between threads by reference.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct DedupKeys {
    data: [u8; 32],
    manifest: [u8; 32],
}

impl DedupKeys {
    /// Derives the keyed-hash keys of `secret`.
    pub fn new(secret: &DedupSecret) -> Self {
        Self {
            data: kdf(Purpose::Dedup, &[secret.expose()]),
            manifest: kdf(Purpose::DedupManifest, &[secret.expose()]),
        }
    }

    /// Returns CK = keyed hash of `0x01 || 0x10 || LE64(len) || plain`: one BLAKE3 pass over the plaintext.
    pub fn chunk_key(&self, kind: ChunkKind, plain: &[u8]) -> ChunkKey {
        self.chunk_key_with(kind, SEGMENT_LOG2, plain)
    }

    /// Every parameter of the encryption is inside CK; another segment size would give another key.
    fn chunk_key_with(&self, kind: ChunkKind, segment_log2: u8, plain: &[u8]) -> ChunkKey {
        let key = match kind {
            ChunkKind::Data => &self.data,
            ChunkKind::Manifest => &self.manifest,
        };
        let mut hasher = blake3::Hasher::new_keyed(key);
        hasher.update(&[FORMAT_VERSION, segment_log2]);
        hasher.update(&(plain.len() as u64).to_le_bytes());
        hasher.update(plain);
        let ck = ChunkKey::new(*hasher.finalize().as_bytes());
        hasher.zeroize();
        ck
    }
}

/// Returns the public name of the chunk with this key.
pub fn chunk_tag(ck: &ChunkKey) -> ChunkTag {
    ChunkTag(kdf16(Purpose::ChunkTag, &[ck.expose()]))
}

/// Appends the sealed chunk of `plain` to `out`: [`sealed_len`] bytes, encrypted in place.
///
/// For own content `ck` must come from [`DedupKeys::chunk_key`] over the same plaintext; for foreign content it must
/// be random and used for this plaintext only. Never use one key for two plaintexts.
///
/// # Errors
/// [`Refusal::Canon`] if `plain` is empty, [`Refusal::Limit`] above [`CHUNK_LEN_MAX`]; `out` is then unchanged.
pub fn seal(ck: &ChunkKey, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    if plain.is_empty() {
        return Err(Refusal::Canon);
    }
    if plain.len() > CHUNK_LEN_MAX {
        return Err(Refusal::Limit);
    }
    let count = plain.len().div_ceil(SEGMENT_LEN);
    out.reserve(COMMITMENT_LEN + plain.len() + aead::TAG_LEN * count);
    out.extend_from_slice(&kdf(Purpose::ChunkCom, &[ck.expose()]));
    let enc = encryption_key(ck);
    for (index, segment) in plain.chunks(SEGMENT_LEN).enumerate() {
        // Copy one segment and encrypt it where it lies: it is still in the cache, and no byte is touched twice in
        // memory.
        let start = out.len();
        out.extend_from_slice(segment);
        let tag =
            aead::seal_in_place(enc.expose(), &nonce(index, index + 1 == count), &[], &mut out[start..]);
        out.extend_from_slice(&tag);
    }
    Ok(())
}

/// Appends the plaintext of a whole sealed chunk to `out`. `len` is the plaintext length that the record names.
///
/// # Errors
/// [`Refusal::Canon`] if `sealed` has not the length of a chunk of `len` bytes; [`Refusal::Commit`] if it was sealed
/// under another key; [`Refusal::Tag`] if a segment was changed, moved or cut. `out` is then unchanged.
pub fn open(ck: &ChunkKey, len: u32, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    let expected = sealed_len(len).ok_or(Refusal::Canon)?;
    if sealed.len() != expected as usize {
        return Err(Refusal::Canon);
    }
    let (commitment, segments) = sealed.split_first_chunk().ok_or(Refusal::Canon)?;
    let opener = Opener::new(ck, len, commitment)?;
    opener.open(&opener.all(), segments, out)
}

/// A chunk whose commitment was checked: the only way to its segments. Wiped when dropped; has no `Debug`.
///
/// A reader that keeps it need not fetch the commitment again.
pub struct Opener {
    enc: AeadKey,
    len: u32,
}

impl Opener {
    /// Compares the commitment in constant time, before anything is decrypted. `len` is the plaintext length.
    ///
    /// # Errors
    /// [`Refusal::Canon`] if no chunk has this length, [`Refusal::Commit`] if the commitment is of another key.
    pub fn new(ck: &ChunkKey, len: u32, commitment: &[u8; COMMITMENT_LEN]) -> Result<Self, Refusal> {
        sealed_len(len).ok_or(Refusal::Canon)?;
        let expected = Zeroizing::new(kdf(Purpose::ChunkCom, &[ck.expose()]));
        if !bool::from(expected.ct_eq(commitment)) {
            return Err(Refusal::Commit);
        }
        Ok(Self { enc: encryption_key(ck), len })
    }

    /// Appends the plaintext of the segments in `range` to `out`. `sealed` holds exactly the bytes
    /// [`SegmentRange::sealed`] of the chunk.
    ///
    /// Each segment leaves only after its tag was found right.
    ///
    /// # Errors
    /// [`Refusal::Canon`] if `range` is of a chunk of another length or `sealed` has another length than the range;
    /// [`Refusal::Tag`] if a segment is not what was sealed there. `out` is then unchanged.
    pub fn open(&self, range: &SegmentRange, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        if range.chunk_len() != self.len || sealed.len() != range.sealed().len() {
            return Err(Refusal::Canon);
        }
        let before = out.len();
        out.reserve(range.plain().len());
        for (index, segment) in (range.first() as usize..).zip(sealed.chunks(SEGMENT_SEALED_LEN)) {
            let last = index + 1 == range.count_in_chunk() as usize;
            if let Err(refusal) = open_segment(&self.enc, &nonce(index, last), segment, out) {
                out.truncate(before);
                return Err(refusal);
            }
        }
        Ok(())
    }

    /// All segments of the chunk.
    fn all(&self) -> SegmentRange {
        SegmentRange::covering(self.len, 0, self.len)
            .expect("the length was checked when the opener was made")
    }
}

/// Appends the plaintext of one segment; on a wrong tag only ciphertext has touched `out`, which the caller cuts off.
fn open_segment(enc: &AeadKey, nonce: &aead::Nonce, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    let (body, tag) = sealed.split_last_chunk().ok_or(Refusal::Canon)?;
    let start = out.len();
    out.extend_from_slice(body);
    aead::open_in_place(enc.expose(), nonce, &[], &mut out[start..], tag)
}

fn encryption_key(ck: &ChunkKey) -> AeadKey {
    AeadKey::new(kdf(Purpose::ChunkEnc, &[ck.expose()]))
}

/// `00 00 00 || BE64(index) || last`.
fn nonce(index: usize, last: bool) -> aead::Nonce {
    let mut bytes = [0; aead::NONCE_LEN];
    bytes[3..11].copy_from_slice(&(index as u64).to_be_bytes());
    bytes[11] = u8::from(last);
    bytes
}

#[cfg(test)]
mod tests;
