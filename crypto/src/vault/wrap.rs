//! The vault key under a passphrase, `LKV1`, 102 bytes.
//!
//! | Offset | Length | Field |
//! |---|---|---|
//! | 0 | 4 | `LKV1` |
//! | 4 | 1 | kind, 1 |
//! | 5 | 4 | m in KiB |
//! | 9 | 4 | t |
//! | 13 | 1 | p |
//! | 14 | 16 | salt |
//! | 30 | 24 | nonce |
//! | 54 | 48 | XChaCha20-Poly1305 of VK, AD = bytes 0..30 |

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::Refusal;
use crate::aead::{self, TAG_LEN, XNONCE_LEN, XNonce};
use crate::secret::{AeadKey, VaultKey};
use crate::vault::stretch::{SALT_LEN, StretchCost, stretch};

/// Length of a wrap.
pub const WRAP_LEN: usize = HEADER_LEN + XNONCE_LEN + VaultKey::LEN + TAG_LEN;

pub(super) const HEADER_LEN: usize = 30;
const MAGIC: &[u8; 4] = b"LKV1";
const KIND_PASSPHRASE: u8 = 1;

/// Wraps the vault key under a passphrase, with a fresh salt and nonce.
///
/// Takes as long and as much memory as [`stretch`].
///
/// # Errors
/// [`Refusal::Limit`] if the memory is not to be had.
pub fn wrap<R: CryptoRng + ?Sized>(
    vault: &VaultKey,
    passphrase: &str,
    cost: StretchCost,
    dice: &mut R,
) -> Result<[u8; WRAP_LEN], Refusal> {
    let mut salt = [0; SALT_LEN];
    dice.fill_bytes(&mut salt);
    let kek = stretch(passphrase, &salt, cost)?;
    Ok(seal(vault, &kek, cost, &salt, &aead::random_xnonce(dice)))
}

/// Unwraps the vault key.
///
/// Takes as long and as much memory as the wrap asks for, within the bounds of [`StretchCost::new`].
///
/// # Errors
/// [`Refusal::Canon`] for another layout, [`Refusal::Version`] for a newer one, [`Refusal::Limit`] for a cost out of
/// bounds or memory that is not to be had, [`Refusal::Tag`] if the passphrase is another one or a byte differs.
pub fn unwrap(passphrase: &str, bytes: &[u8]) -> Result<VaultKey, Refusal> {
    let (cost, salt) = read_header(bytes)?;
    open(bytes, &stretch(passphrase, &salt, cost)?)
}

pub(super) fn read_header(bytes: &[u8]) -> Result<(StretchCost, [u8; SALT_LEN]), Refusal> {
    let magic = bytes.first_chunk::<4>().ok_or(Refusal::Canon)?;
    if magic[..3] != MAGIC[..3] {
        return Err(Refusal::Canon);
    }
    if magic != MAGIC {
        return Err(Refusal::Version);
    }
    if bytes.len() != WRAP_LEN || bytes[4] != KIND_PASSPHRASE {
        return Err(Refusal::Canon);
    }
    let number = |offset| u32::from_le_bytes(field(bytes, offset));
    Ok((StretchCost::new(number(5), number(9), bytes[13])?, field(bytes, 14)))
}

pub(super) fn seal(
    vault: &VaultKey,
    kek: &AeadKey,
    cost: StretchCost,
    salt: &[u8; SALT_LEN],
    nonce: &XNonce,
) -> [u8; WRAP_LEN] {
    let mut out = [0; WRAP_LEN];
    out[..4].copy_from_slice(MAGIC);
    out[4] = KIND_PASSPHRASE;
    out[5..9].copy_from_slice(&cost.memory_kib().to_le_bytes());
    out[9..13].copy_from_slice(&cost.passes().to_le_bytes());
    out[13] = cost.lanes();
    out[14..HEADER_LEN].copy_from_slice(salt);
    let (header, rest) = out.split_at_mut(HEADER_LEN);
    rest.copy_from_slice(&aead::xseal_prefixed(kek.expose(), nonce, header, vault.expose()));
    out
}

pub(super) fn open(bytes: &[u8], kek: &AeadKey) -> Result<VaultKey, Refusal> {
    let (header, sealed) = bytes.split_at_checked(HEADER_LEN).ok_or(Refusal::Canon)?;
    VaultKey::from_slice(&Zeroizing::new(aead::xopen_prefixed(kek.expose(), header, sealed)?))
}

/// A field of a wrap whose length was checked.
fn field<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[offset + i])
}
