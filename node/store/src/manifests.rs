//! Manifest chunks of files whose packs are away: they belong to the index, without which nobody knows what a file needs
//! (`docs/spec/08-at-rest.md`, "Tables").

use std::ops::ControlFlow;

use locker_crypto::id::{ChunkTag, SpaceTag};

use crate::StoreError;
use crate::snapshot::Reads;
use crate::tables::MANIFESTS;
use crate::transaction::WriteTxn;

/// Bytes of a manifest chunk in one row.
const PART: usize = 60_000;

/// Keeps the plain bytes of a manifest chunk.
pub fn put(txn: &mut WriteTxn<'_>, space: &SpaceTag, tag: &ChunkTag, plain: &[u8]) {
    for (number, part) in (0_u16..).zip(plain.chunks(PART)) {
        let key = [prefix(space, tag).as_slice(), &number.to_be_bytes()].concat();
        txn.put(MANIFESTS, &key, part);
    }
}

/// The plain bytes of a manifest chunk, if they are kept here.
///
/// # Errors
/// As every reading: [`StoreError::Corrupt`], [`StoreError::Io`], [`StoreError::Poisoned`].
pub fn get<R: Reads>(reads: &R, space: &SpaceTag, tag: &ChunkTag) -> Result<Option<Vec<u8>>, StoreError> {
    let mut plain: Option<Vec<u8>> = None;
    reads.view().scan_prefix(MANIFESTS, &prefix(space, tag), &mut |_, part| {
        plain.get_or_insert_default().extend_from_slice(part);
        ControlFlow::Continue(())
    })?;
    Ok(plain)
}

fn prefix(space: &SpaceTag, tag: &ChunkTag) -> Vec<u8> {
    [space.as_bytes().as_slice(), tag.as_bytes()].concat()
}
