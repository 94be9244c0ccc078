//! Cutting a file into chunks: FastCDC 2020 with a secret gear table (`docs/spec/03-content.md`, "Cutting a file
//! into chunks").
//!
//! Cut points depend on the content and on D, so they tell nothing about a file to who lacks D. Here is only the
//! decision where the next chunk ends; reading the file is the caller's business.

use fastcdc::v2020::{Normalization, cut_gear, select_masks};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::derive::{Purpose, kdf, xof};
use crate::secret::DedupSecret;

/// Least length of a chunk in bytes; only the last one of a file is shorter.
pub const CHUNK_LEN_MIN: usize = 262_144;
/// Length in bytes around which chunk lengths gather.
pub const CHUNK_LEN_AVERAGE: usize = 1_048_576;
/// Greatest length of a chunk in bytes.
pub const CHUNK_LEN_MAX: usize = 4_194_304;

/// Finds cut points under one dedup secret. Holds 4 KiB of secret tables, wiped when dropped; share it by
/// reference.
pub struct Cutter {
    tables: Box<Tables>,
    mask_s: u64,
    mask_l: u64,
}

#[derive(Zeroize, ZeroizeOnDrop)]
struct Tables {
    gear: [u64; 256],
    gear_ls: [u64; 256],
}

impl Cutter {
    /// Derives the gear tables of `secret`. Make it once per secret, not once per file.
    pub fn new(secret: &DedupSecret) -> Self {
        let mut key = kdf(Purpose::Cdc, &[secret.expose()]);
        let mut bytes = [0; 2048];
        xof(&key, &mut bytes);
        key.zeroize();

        let mut tables = Box::new(Tables { gear: [0; 256], gear_ls: [0; 256] });
        for (index, word) in bytes.as_chunks::<8>().0.iter().enumerate() {
            let value = u64::from_le_bytes(*word);
            tables.gear[index] = value;
            tables.gear_ls[index] = value << 1;
        }
        bytes.zeroize();

        let (mask_s, mask_l) = select_masks(CHUNK_LEN_AVERAGE, Normalization::Level1);
        Self { tables, mask_s, mask_l }
    }

    /// Returns the length in bytes of the chunk that starts at the first byte of `ahead`; 0 for an empty slice.
    ///
    /// `ahead` must hold at least [`CHUNK_LEN_MAX`] bytes, or everything up to the end of the file: a slice cut
    /// short before the end gives a wrong cut point. Reads every byte it skips over but the first 256 KiB.
    pub fn next(&self, ahead: &[u8]) -> usize {
        if ahead.len() <= CHUNK_LEN_MIN {
            return ahead.len();
        }
        let (_, len) = cut_gear(
            ahead,
            CHUNK_LEN_MIN,
            CHUNK_LEN_AVERAGE,
            CHUNK_LEN_MAX,
            self.mask_s,
            self.mask_l,
            self.mask_s << 1,
            self.mask_l << 1,
            &self.tables.gear,
            &self.tables.gear_ls,
        );
        len
    }

    /// Returns the length in bytes of the chunk that starts at the first byte of `ahead`, of a file that goes on behind
    /// it; `None` if more of it is needed to tell. Never `None` for [`CHUNK_LEN_MAX`] bytes or more.
    ///
    /// A cut depends on the bytes up to it alone, so what is found here is what [`Cutter::next`] finds with more ahead.
    pub fn next_if_known(&self, ahead: &[u8]) -> Option<usize> {
        let len = self.next(ahead);
        (len < ahead.len() || len == CHUNK_LEN_MAX).then_some(len)
    }
}

#[cfg(test)]
mod tests;
