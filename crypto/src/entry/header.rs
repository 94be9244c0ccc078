//! The 152 clear bytes at the start of an entry.

use super::CIPHERTEXT_LEN_MAX;
use super::body::PAD_STEP;
use crate::Refusal;
use crate::aead::{TAG_LEN, XNONCE_LEN, XNonce};
use crate::id::{EntryId, EpochId, SpaceTag, VerifyingKey};
use crate::layout::{strip_magic, take};
use crate::sign::SIGNATURE_LEN;

const MAGIC: &[u8; 4] = b"LKE1";
const CIPHERTEXT_LEN_MIN: u32 = (PAD_STEP + TAG_LEN) as u32;

/// What everybody who stores the entry can read of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// Short name of the space; zeros in its genesis entry.
    pub space_tag: SpaceTag,
    /// Who signed the entry: a device, a link or a guest.
    pub author: VerifyingKey,
    /// Number in the author's chain, from 0 without gaps.
    pub seq: u64,
    /// Id of the entry before it in the author's chain; zeros for seq 0.
    pub prev: EntryId,
    /// Epoch under which the body is sealed.
    pub epoch: EpochId,
    /// Length of the ciphertext in bytes: 16 and a multiple of 256.
    pub ct_len: u32,
    /// Nonce of the body.
    pub nonce: XNonce,
}

impl EntryHeader {
    /// Size in bytes.
    pub const LEN: usize = Self::AD_LEN + XNONCE_LEN;
    /// How much of it is associated data of the body: all but the nonce.
    pub(super) const AD_LEN: usize = 128;

    /// Reads the header at the start of an entry; what follows it is not looked at. Enough to tell whose entry it is
    /// and of which space.
    ///
    /// # Errors
    /// [`Refusal::Version`] for another version; [`Refusal::Limit`] above [`CIPHERTEXT_LEN_MAX`]; [`Refusal::Canon`]
    /// for another magic, fewer bytes, or a ciphertext length that padding does not give.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut rest = strip_magic(bytes, MAGIC)?;
        let header = Self {
            space_tag: SpaceTag(take(&mut rest)?),
            author: VerifyingKey(take(&mut rest)?),
            seq: u64::from_le_bytes(take(&mut rest)?),
            prev: EntryId(take(&mut rest)?),
            epoch: EpochId(take(&mut rest)?),
            ct_len: u32::from_le_bytes(take(&mut rest)?),
            nonce: take(&mut rest)?,
        };
        if header.ct_len > CIPHERTEXT_LEN_MAX {
            return Err(Refusal::Limit);
        }
        let plain_len = header.ct_len.wrapping_sub(TAG_LEN as u32);
        if header.ct_len < CIPHERTEXT_LEN_MIN || !plain_len.is_multiple_of(PAD_STEP as u32) {
            return Err(Refusal::Canon);
        }
        Ok(header)
    }

    /// Returns the bytes.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let mut rest = &mut bytes[..];
        let fields: [&[u8]; 8] = [
            MAGIC,
            self.space_tag.as_bytes(),
            self.author.as_bytes(),
            &self.seq.to_le_bytes(),
            self.prev.as_bytes(),
            self.epoch.as_bytes(),
            &self.ct_len.to_le_bytes(),
            &self.nonce,
        ];
        for field in fields {
            let (place, after) = rest.split_at_mut(field.len());
            place.copy_from_slice(field);
            rest = after;
        }
        bytes
    }

    /// Length in bytes of the whole entry, signature included.
    pub fn entry_len(&self) -> usize {
        Self::LEN + self.ct_len as usize + SIGNATURE_LEN
    }
}
