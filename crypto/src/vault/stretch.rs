//! Argon2id (RFC 9106), version 0x13, 32 bytes out: makes guessing a passphrase cost memory.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use unicode_normalization::UnicodeNormalization;
use zeroize::{Zeroize, Zeroizing};

use crate::Refusal;
use crate::secret::AeadKey;

/// Length of the salt.
pub const SALT_LEN: usize = 16;

/// What one guess costs.
///
/// Only allowed costs can be made, so that a file from elsewhere can ask neither for no work at all nor for all
/// memory there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StretchCost {
    memory_kib: u32,
    passes: u32,
    lanes: u8,
}

impl StretchCost {
    /// Written on computers: 256 MiB, 3 passes; about a second.
    pub const COMPUTER: Self = Self { memory_kib: 262_144, passes: 3, lanes: 1 };
    /// Written on phones, and the fixed cost of link passphrases: 64 MiB, 3 passes.
    pub const PHONE: Self = Self { memory_kib: 65_536, passes: 3, lanes: 1 };

    /// Reads a cost: 65,536..=1,048,576 KiB, 3..=16 passes, 1..=4 lanes.
    ///
    /// # Errors
    /// [`Refusal::Limit`] outside these bounds, before any memory is taken.
    pub fn new(memory_kib: u32, passes: u32, lanes: u8) -> Result<Self, Refusal> {
        let allowed = (65_536..=1_048_576).contains(&memory_kib)
            && (3..=16).contains(&passes)
            && (1..=4).contains(&lanes);
        if allowed { Ok(Self { memory_kib, passes, lanes }) } else { Err(Refusal::Limit) }
    }

    /// Returns the memory in KiB.
    pub fn memory_kib(self) -> u32 {
        self.memory_kib
    }

    /// Returns the number of passes over the memory.
    pub fn passes(self) -> u32 {
        self.passes
    }

    /// Returns the number of lanes.
    pub fn lanes(self) -> u8 {
        self.lanes
    }
}

/// Stretches a passphrase, brought to Unicode form NFC, to a key.
///
/// Takes `cost.memory_kib()` of memory and up to some seconds: call it on a thread of its own. The memory is wiped.
///
/// # Errors
/// [`Refusal::Limit`] if the memory is not to be had.
pub fn stretch(passphrase: &str, salt: &[u8; SALT_LEN], cost: StretchCost) -> Result<AeadKey, Refusal> {
    let normal: Zeroizing<String> = Zeroizing::new(nfc(passphrase));
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes.into(), Some(AeadKey::LEN))
        .map_err(|_| Refusal::Limit)?;
    let mut memory = Vec::new();
    memory.try_reserve_exact(params.block_count()).map_err(|_| Refusal::Limit)?;
    memory.resize(params.block_count(), Block::new());
    let mut key = Zeroizing::new([0; AeadKey::LEN]);
    let done = Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into_with_memory(
        normal.as_bytes(),
        salt,
        &mut key[..],
        &mut memory[..],
    );
    memory.iter_mut().for_each(Zeroize::zeroize);
    done.map_err(|_| Refusal::Limit)?;
    Ok(AeadKey::new(*key))
}

/// Reserves room first, so that no half-grown copy of the passphrase stays behind in memory. NFC makes a text at most
/// three times as long (UAX 15).
fn nfc(passphrase: &str) -> String {
    let mut normal = String::with_capacity(passphrase.len().saturating_mul(3));
    normal.extend(passphrase.nfc());
    normal
}
