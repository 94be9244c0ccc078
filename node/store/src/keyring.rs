//! Secrets kept on this device, each kind under its own key (`docs/spec/08-at-rest.md`, "Keyring").
//!
//! The type of a secret names its kind, so that one cannot be written where another is read. Never here: the 24 words
//! and the vault key.

use std::ops::ControlFlow;

use locker_crypto::Refusal;
use locker_crypto::id::{EpochId, SpaceTag};
use locker_crypto::secret::{
    BoxSeed, DedupSecret, EpochSecret, NextBoxSeed, NextSigningSeed, PersonKey, RendezvousMaster,
    RendezvousSecret, SigningSeed,
};
use zeroize::Zeroizing;

use crate::StoreError;
use crate::snapshot::Reads;
use crate::tables::KEYRING;
use crate::transaction::WriteTxn;

mod sealed {
    /// Only this file says what is kept.
    #[allow(unnameable_types, reason = "that it cannot be named is its purpose")]
    pub trait Sealed {}
}

/// A secret that the keyring keeps.
pub trait Kept: Sized + sealed::Sealed {
    /// What tells two secrets of this kind apart.
    type Id: KeyringId;
    /// First byte of the row key.
    const KIND: u8;
    /// Takes the bytes over.
    ///
    /// # Errors
    /// [`Refusal::Canon`] if there are not 32.
    fn from_stored(bytes: &[u8]) -> Result<Self, Refusal>;
    /// Gives the bytes, to be sealed.
    fn expose_stored(&self) -> &[u8; 32];
}

/// What follows the kind in a row key.
pub trait KeyringId: Sized + sealed::Sealed {
    /// Returns the bytes of the key.
    fn to_key(&self) -> Vec<u8>;
    /// Reads them; `None` if they have another length.
    fn from_key(key: &[u8]) -> Option<Self>;
}

macro_rules! kept {
    ($($secret:ident, $id:ty, $kind:literal, $what:literal;)*) => {$(
        impl sealed::Sealed for $secret {}

        #[doc = $what]
        impl Kept for $secret {
            type Id = $id;
            const KIND: u8 = $kind;

            fn from_stored(bytes: &[u8]) -> Result<Self, Refusal> {
                Self::from_slice(bytes)
            }

            fn expose_stored(&self) -> &[u8; 32] {
                self.expose()
            }
        }
    )*};
}

kept! {
    SigningSeed, (), 1, "The device's signing key; there is one.";
    BoxSeed, (), 2, "The device's box key; there is one.";
    PersonKey, u32, 3, "`PUK[n]`, by n.";
    DedupSecret, u32, 4, "`D[m]`, by m.";
    EpochSecret, SpaceEpoch, 5, "ES, by space and epoch.";
    RendezvousMaster, u32, 6, "`rdv_master[g]`, by g.";
    NextSigningSeed, (), 7, "The signing key that a device is about to take; there is at most one.";
    NextBoxSeed, (), 8, "The box key that goes with it.";
    RendezvousSecret, u32, 9, "`rdv_replica[j]` of a replica, by generation times 256 plus j; at most two.";
}

/// Names the secret of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpaceEpoch {
    /// The space.
    pub space: SpaceTag,
    /// The epoch.
    pub epoch: EpochId,
}

impl sealed::Sealed for () {}
impl KeyringId for () {
    fn to_key(&self) -> Vec<u8> {
        Vec::new()
    }

    fn from_key(key: &[u8]) -> Option<Self> {
        key.is_empty().then_some(())
    }
}

impl sealed::Sealed for u32 {}
impl KeyringId for u32 {
    fn to_key(&self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }

    fn from_key(key: &[u8]) -> Option<Self> {
        key.try_into().ok().map(u32::from_be_bytes)
    }
}

impl sealed::Sealed for SpaceEpoch {}
impl KeyringId for SpaceEpoch {
    fn to_key(&self) -> Vec<u8> {
        [self.space.as_bytes().as_slice(), self.epoch.as_bytes()].concat()
    }

    fn from_key(key: &[u8]) -> Option<Self> {
        let (space, epoch) = key.split_first_chunk::<16>()?;
        Some(Self { space: SpaceTag(*space), epoch: EpochId(epoch.try_into().ok()?) })
    }
}

/// Returns a secret: `get::<PersonKey, _>(&snapshot, &3)`.
///
/// # Errors
/// As every reading; [`StoreError::Corrupt`] also if the row is not 32 bytes.
pub fn get<K: Kept, R: Reads>(reads: &R, id: &K::Id) -> Result<Option<K>, StoreError> {
    reads.view().get(KEYRING, &key::<K>(id))?.map(|value| open(&Zeroizing::new(value))).transpose()
}

/// Writes a secret; the commit is then in two phases.
pub fn put<K: Kept>(txn: &mut WriteTxn<'_>, id: &K::Id, secret: &K) {
    txn.put(KEYRING, &key::<K>(id), secret.expose_stored());
}

/// Forgets a secret. Bytes of earlier commits stay sealed in freed pages until these are reused.
pub fn delete<K: Kept>(txn: &mut WriteTxn<'_>, id: &K::Id) {
    txn.delete(KEYRING, &key::<K>(id));
}

/// Returns all secrets of one kind in the order of their ids.
///
/// # Errors
/// As [`get`].
pub fn all<K: Kept, R: Reads>(reads: &R) -> Result<Vec<(K::Id, K)>, StoreError> {
    let mut count = 0;
    reads.view().scan_prefix(KEYRING, &[K::KIND], &mut |_, _| {
        count += 1;
        ControlFlow::Continue(())
    })?;
    // A list that grows leaves copies of what is in it behind.
    let mut found = Vec::with_capacity(count);
    let mut wrong = None;
    reads.view().scan_prefix(KEYRING, &[K::KIND], &mut |key, value| {
        match K::Id::from_key(&key[1..]).ok_or_else(damaged).and_then(|id| Ok((id, open(value)?))) {
            Ok(secret) => found.push(secret),
            Err(error) => {
                wrong = Some(error);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })?;
    wrong.map_or(Ok(found), Err)
}

/// Returns the secret of one kind with the greatest id, with that.
///
/// # Errors
/// As [`get`].
pub fn newest<K: Kept + Clone, R: Reads>(reads: &R) -> Result<Option<(K::Id, K)>, StoreError>
where
    K::Id: Clone,
{
    // A copy: what is moved out of a list stays behind in its memory.
    Ok(all(reads)?.last().cloned())
}

fn key<K: Kept>(id: &K::Id) -> Vec<u8> {
    [&[K::KIND], id.to_key().as_slice()].concat()
}

fn open<K: Kept>(value: &[u8]) -> Result<K, StoreError> {
    K::from_stored(value).map_err(|_| damaged())
}

fn damaged() -> StoreError {
    StoreError::corrupt("a row of the keyring")
}
