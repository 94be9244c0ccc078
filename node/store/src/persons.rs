//! Entries of person logs, as they were signed (`docs/spec/08-at-rest.md`, "Tables"). Their order and their worth are
//! decided by the catalog.

use std::ops::ControlFlow;

use locker_crypto::id::{EntryId, PersonId};

use crate::StoreError;
use crate::snapshot::Reads;
use crate::tables::PERSON;
use crate::transaction::WriteTxn;

/// Writes an entry of a person's log.
pub fn put(txn: &mut WriteTxn<'_>, person: &PersonId, entry: &EntryId, bytes: &[u8]) {
    txn.put(PERSON, &[person.as_bytes().as_slice(), entry.as_bytes()].concat(), bytes);
}

/// Returns one entry.
///
/// # Errors
/// As every reading: [`StoreError::Corrupt`], [`StoreError::Io`], [`StoreError::Poisoned`].
pub fn get<R: Reads>(reads: &R, person: &PersonId, entry: &EntryId) -> Result<Option<Vec<u8>>, StoreError> {
    reads.view().get(PERSON, &[person.as_bytes().as_slice(), entry.as_bytes()].concat())
}

/// Returns every entry of a person's log, in the order of the entry ids (which is no order of the log).
///
/// # Errors
/// As [`get`].
pub fn all<R: Reads>(reads: &R, person: &PersonId) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut entries = Vec::new();
    reads.view().scan_prefix(PERSON, person.as_bytes(), &mut |_, value| {
        entries.push(value.to_vec());
        ControlFlow::Continue(())
    })?;
    Ok(entries)
}
