//! Objects beside the log, named by their hash: boxes, keys, capsules (`docs/spec/08-at-rest.md`, "Tables").

use std::ops::ControlFlow;

use locker_crypto::id::{EpochId, ObjectHash, SpaceTag};

use crate::StoreError;
use crate::snapshot::Reads;
use crate::tables::{BUNDLES, OBJECTS};
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

/// Writes a box bundle, so that it is found by its epoch too ([`bundles`]). Returns its name.
pub fn put_bundle(txn: &mut WriteTxn<'_>, space: &SpaceTag, epoch: &EpochId, bytes: &[u8]) -> ObjectHash {
    let hash = put(txn, bytes);
    txn.put(BUNDLES, &[space.as_bytes().as_slice(), epoch.as_bytes(), hash.as_bytes()].concat(), &[]);
    hash
}

/// Returns the names of the box bundles of an epoch that are here.
///
/// # Errors
/// As [`get`].
pub fn bundles<R: Reads>(
    reads: &R,
    space: &SpaceTag,
    epoch: &EpochId,
) -> Result<Vec<ObjectHash>, StoreError> {
    let mut found = Vec::new();
    let prefix = [space.as_bytes().as_slice(), epoch.as_bytes()].concat();
    reads.view().scan_prefix(BUNDLES, &prefix, &mut |key, _| {
        found.extend(key.last_chunk::<32>().map(|hash| ObjectHash(*hash)));
        ControlFlow::Continue(())
    })?;
    Ok(found)
}
