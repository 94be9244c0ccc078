//! Packs: sealed chunks put together into blobs that look random from the first byte to the last
//! (`docs/spec/03-content.md`, "Packs").
//!
//! [`Packer`] decides what lies in which pack, [`PackOp`] tells the members of a space where each chunk lies. A pack
//! has no header and no directory. Hashing and writing packs happen elsewhere, on threads of their own.

mod build;
mod op;

use crate::derive::{Purpose, kdf, xof};
use crate::secret::ChunkKey;

pub use build::{PackBody, Packer, SealedChunk};
pub use op::{Loc, PackOp};

/// Least length of a pack in bytes.
pub const PACK_LEN_MIN: u32 = 4_096;
/// Greatest length of a pack in bytes, and greatest sum of the sealed chunks in it.
pub const PACK_LEN_MAX: u32 = 16_777_216;
/// Most chunks in one pack.
pub const PACK_CHUNKS_MAX: usize = 4_096;
/// A file of this size in bytes or more fills packs of its own.
pub const SOLID_SIZE_MIN: u64 = 4_194_304;

/// Rounds `n` up so that few lengths remain (Padmé, PURBs 2019): with `E = floor(log2 n)` and
/// `S = floor(log2 E) + 1` the lowest `E - S` bits become zero. Adds at most 12 %.
pub const fn padme(n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let exponent = n.ilog2();
    // For n = 2 and 3 the exponent is 1 and nothing is rounded.
    let kept = exponent.ilog2() + 1;
    let mask = (1u64 << exponent.saturating_sub(kept)) - 1;
    n.saturating_add(mask) & !mask
}

/// Returns the length of a pack with `total` bytes of sealed chunks: `max(4096, padme(total))`. Never above
/// [`PACK_LEN_MAX`] if `total` is not.
pub const fn padded_len(total: u32) -> u32 {
    let padded = padme(total as u64);
    if padded < PACK_LEN_MIN as u64 {
        PACK_LEN_MIN
    } else if padded > u32::MAX as u64 {
        u32::MAX
    } else {
        padded as u32
    }
}

/// Fills `out` with the padding of a pack whose first chunk has this key.
fn fill_padding(first: &ChunkKey, out: &mut [u8]) {
    xof(&kdf(Purpose::PackPad, &[first.expose()]), out);
}

#[cfg(test)]
mod tests;
