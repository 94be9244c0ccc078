//! Leases: packs that this device promised to keep, because another one let its own copy go on the strength of it
//! (`docs/spec/08-at-rest.md`, "Tables").

use std::ops::ControlFlow;

use locker_crypto::id::PackHash;

use crate::StoreError;
use crate::snapshot::Reads;
use crate::tables::LEASES;
use crate::transaction::WriteTxn;

/// Promises to keep a pack for so many seconds from now, or for what an earlier promise says if that is longer.
///
/// # Errors
/// As [`of`].
pub fn grant(txn: &mut WriteTxn<'_>, pack: &PackHash, seconds: u32) -> Result<(), StoreError> {
    let seconds = seconds.max(of(txn, pack)?.unwrap_or(0));
    txn.put(LEASES, pack.as_bytes(), &seconds.to_le_bytes());
    Ok(())
}

/// Ends a promise.
pub fn end(txn: &mut WriteTxn<'_>, pack: &PackHash) {
    txn.delete(LEASES, pack.as_bytes());
}

/// For how long a pack was promised, in seconds from the promise or from the start of the node.
///
/// # Errors
/// As every reading: [`StoreError::Corrupt`], [`StoreError::Io`], [`StoreError::Poisoned`].
pub fn of<R: Reads>(reads: &R, pack: &PackHash) -> Result<Option<u32>, StoreError> {
    reads.view().get(LEASES, pack.as_bytes())?.map(|value| decode(&value)).transpose()
}

/// Every pack that is promised, and for how long.
///
/// # Errors
/// As [`of`].
pub fn all<R: Reads>(reads: &R) -> Result<Vec<(PackHash, u32)>, StoreError> {
    let mut found = Vec::new();
    let mut failure = Ok(());
    reads.view().scan_prefix(LEASES, &[], &mut |key, value| {
        match (PackHash::from_slice(key), decode(value)) {
            (Ok(pack), Ok(seconds)) => found.push((pack, seconds)),
            _ => failure = Err(damaged()),
        }
        ControlFlow::Continue(())
    })?;
    failure.map(|()| found)
}

fn decode(value: &[u8]) -> Result<u32, StoreError> {
    value.try_into().map(u32::from_le_bytes).map_err(|_| damaged())
}

fn damaged() -> StoreError {
    StoreError::corrupt("a lease")
}
