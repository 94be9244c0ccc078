//! What this device counts of the links it serves (`docs/spec/08-at-rest.md`, "Tables").

use locker_crypto::id::LinkTag;

use crate::StoreError;
use crate::snapshot::Reads;
use crate::tables::LINK_USES;
use crate::transaction::WriteTxn;

/// Returns how often a link was used here.
///
/// # Errors
/// As every reading: [`StoreError::Corrupt`], [`StoreError::Io`], [`StoreError::Poisoned`].
pub fn uses<R: Reads>(reads: &R, link: &LinkTag) -> Result<u64, StoreError> {
    let Some(value) = reads.view().get(LINK_USES, link.as_bytes())? else { return Ok(0) };
    let bytes = value.try_into().map_err(|_| StoreError::corrupt("a count of uses"))?;
    Ok(u64::from_le_bytes(bytes))
}

/// Counts one use.
///
/// # Errors
/// As [`uses`].
pub fn count_use(txn: &mut WriteTxn<'_>, link: &LinkTag) -> Result<(), StoreError> {
    let count = uses(txn, link)?.saturating_add(1);
    txn.put(LINK_USES, link.as_bytes(), &count.to_le_bytes());
    Ok(())
}
