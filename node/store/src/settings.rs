//! Small values by number: what this device remembers about itself (`docs/spec/08-at-rest.md`, "Tables").

use crate::StoreError;
use crate::snapshot::Reads;
use crate::tables::SETTINGS;
use crate::transaction::WriteTxn;

/// Names a setting. The store's own lie below 0x0100 and cannot be named from outside; the engine's begin there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Setting(u16);

impl Setting {
    pub(crate) const FORMAT: Self = Self(0);
    pub(crate) const NEXT_PACK: Self = Self(1);
    pub(crate) const PACK_COUNT: Self = Self(2);
    pub(crate) const CLEAN: Self = Self(3);

    /// Names the engine's setting `number`.
    pub const fn engine(number: u8) -> Self {
        Self(0x0100 + number as u16)
    }
}

/// Returns a setting.
///
/// # Errors
/// As every reading: [`StoreError::Corrupt`], [`StoreError::Io`], [`StoreError::Poisoned`].
pub fn get<R: Reads>(reads: &R, setting: Setting) -> Result<Option<Vec<u8>>, StoreError> {
    reads.view().get(SETTINGS, &setting.0.to_be_bytes())
}

/// Writes a setting.
pub fn put(txn: &mut WriteTxn<'_>, setting: Setting, value: &[u8]) {
    txn.put(SETTINGS, &setting.0.to_be_bytes(), value);
}

/// Removes a setting.
pub fn delete(txn: &mut WriteTxn<'_>, setting: Setting) {
    txn.delete(SETTINGS, &setting.0.to_be_bytes());
}

/// Reads a number of the store's own.
pub(crate) fn number<R: Reads>(reads: &R, setting: Setting) -> Result<Option<u64>, StoreError> {
    get(reads, setting)?
        .map(|value| {
            let bytes = value.try_into().map_err(|_| StoreError::corrupt("a setting"))?;
            Ok(u64::from_le_bytes(bytes))
        })
        .transpose()
}

/// Writes a number of the store's own.
pub(crate) fn put_number(txn: &mut WriteTxn<'_>, setting: Setting, value: u64) {
    put(txn, setting, &value.to_le_bytes());
}
