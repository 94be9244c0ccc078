//! Epochs of a space: what derives from an epoch secret, the way back to older ones, and the bundle of boxes by which
//! members get it (`docs/spec/04-spaces.md`, "Epochs", "Box bundle").
//!
//! ```text
//! ES ── epoch_id (names it and commits to it), K_log (seals entries), inbox_box (deposits)
//! ```
//! Never here: who is a member, and which epoch is the head; the catalog knows.

mod bundle;

pub use bundle::{BOX_LEN, BOXES_MAX, BUNDLE_LEN_MAX, Bundle, EpochBox};

use zeroize::Zeroizing;

use crate::Refusal;
use crate::aead::{self, NONCE_ZERO, TAG_LEN};
use crate::derive::{Purpose, kdf};
use crate::id::EpochId;
use crate::sealed_box::BoxKeys;
use crate::secret::{AeadKey, BoxSeed, EpochSecret, LogKey};

/// Length of the way back to one parent epoch.
pub const EPOCH_BACK_LEN: usize = EpochSecret::LEN + TAG_LEN;

impl EpochSecret {
    /// Returns the public name of the epoch. It commits to the secret: nobody finds a second secret for it, so a
    /// minter cannot give two members two secrets.
    pub fn id(&self) -> EpochId {
        EpochId(kdf(Purpose::EpochId, &[self.expose()]))
    }

    /// Checks that this is the secret of `epoch`. Whoever receives a secret does this before using it.
    ///
    /// # Errors
    /// [`Refusal::Epoch`] if it is not.
    pub fn check(&self, epoch: &EpochId) -> Result<(), Refusal> {
        if self.id() == *epoch { Ok(()) } else { Err(Refusal::Epoch) }
    }

    /// Derives the key that seals the entries of the epoch.
    pub fn log_key(&self) -> LogKey {
        LogKey::new(kdf(Purpose::Log, &[self.expose()]))
    }

    /// Derives the key pair to which deposits are sealed.
    pub fn inbox_keys(&self) -> BoxKeys {
        BoxKeys::from_seed(&BoxSeed::new(kdf(Purpose::Inbox, &[self.expose()])))
    }

    /// Seals the secret of a parent epoch for those who hold this one.
    ///
    /// ChaCha20-Poly1305 under `KDF("epoch-back", ES, old epoch_id)`, nonce zeros: that key seals this one message in
    /// its life.
    pub fn seal_back(&self, older: &EpochSecret) -> [u8; EPOCH_BACK_LEN] {
        let mut out = [0; EPOCH_BACK_LEN];
        let (text, tag) = out.split_at_mut(EpochSecret::LEN);
        text.copy_from_slice(older.expose());
        tag.copy_from_slice(&aead::seal_in_place(
            self.back_key(&older.id()).expose(),
            &NONCE_ZERO,
            &[],
            text,
        ));
        out
    }

    /// Opens the secret of parent epoch `older`.
    ///
    /// # Errors
    /// [`Refusal::Tag`] if this is not the epoch it was sealed in, or a byte differs; [`Refusal::Epoch`] if what was
    /// sealed is not the secret of `older`.
    pub fn open_back(&self, older: &EpochId, back: &[u8; EPOCH_BACK_LEN]) -> Result<EpochSecret, Refusal> {
        let plain = Zeroizing::new(aead::open(self.back_key(older).expose(), &NONCE_ZERO, &[], back)?);
        let secret = EpochSecret::from_slice(&plain)?;
        secret.check(older)?;
        Ok(secret)
    }

    fn back_key(&self, older: &EpochId) -> AeadKey {
        AeadKey::new(kdf(Purpose::EpochBack, &[self.expose(), older.as_bytes()]))
    }
}

#[cfg(test)]
mod tests;
