//! Objects beside the log, named by their hash: boxes, keys, capsules (`docs/spec/08-at-rest.md`, "Tables").

use locker_crypto::id::ObjectHash;

use crate::StoreError;
use crate::snapshot::Reads;
use crate::tables::OBJECTS;
use crate::transaction::WriteTxn;

/// Returns an object. Its bytes were sealed under its name; hashing them again is not needed.
///
/// # Errors
/// As every reading: [`StoreError::Corrupt`], [`StoreError::Io`], [`StoreError::Poisoned`].
pub fn get<R: Reads>(reads: &R, hash: &ObjectHash) -> Result<Option<Vec<u8>>, StoreError> {
    reads.view().get(OBJECTS, hash.as_bytes())
}

/// Whether an object is here.
///
/// # Errors
/// As [`get`].
pub fn holds<R: Reads>(reads: &R, hash: &ObjectHash) -> Result<bool, StoreError> {
    Ok(get(reads, hash)?.is_some())
}

/// Writes an object and returns its name, the BLAKE3 of its bytes.
pub fn put(txn: &mut WriteTxn<'_>, bytes: &[u8]) -> ObjectHash {
    let hash = ObjectHash(*blake3::hash(bytes).as_bytes());
    txn.put(OBJECTS, hash.as_bytes(), bytes);
    hash
}

/// Removes an object.
pub fn delete(txn: &mut WriteTxn<'_>, hash: &ObjectHash) {
    txn.delete(OBJECTS, hash.as_bytes());
}
