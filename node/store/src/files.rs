//! What is known of files already cut and sealed: content to FileRef, and path to content, so that an unchanged file
//! is neither read nor sealed again (`docs/spec/03-content.md`, "Dedup index"; `docs/spec/08-at-rest.md`, "Tables").
//!
//! Both are hints that may be forgotten. Neither shows a path or a content hash in its keys.

use std::ops::ControlFlow;

use locker_crypto::id::ContentHash;

use crate::StoreError;
use crate::seal::Keys;
use crate::snapshot::Reads;
use crate::tables::{FILES, STATS};
use crate::transaction::WriteTxn;

/// What the file system says of a file that has not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStat {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub inode: u64,
    /// Size in bytes.
    pub size: u64,
    /// Last change of the content, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Last change of the inode, nanoseconds since 1970.
    pub ctime_ns: i64,
}

impl FileStat {
    const LEN: usize = 40;

    fn to_bytes(self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        let words = [
            self.dev.to_le_bytes(),
            self.inode.to_le_bytes(),
            self.size.to_le_bytes(),
            self.mtime_ns.to_le_bytes(),
            self.ctime_ns.to_le_bytes(),
        ];
        for (place, word) in out.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word);
        }
        out
    }
}

/// Returns the FileRef bytes of a content that was sealed before. The caller checks that a live version still
/// references it in the space at hand, and that the FileRef names this content.
///
/// # Errors
/// As every reading: [`StoreError::Corrupt`], [`StoreError::Io`], [`StoreError::Poisoned`].
pub fn file_ref<R: Reads>(reads: &R, content: &ContentHash) -> Result<Option<Vec<u8>>, StoreError> {
    reads.view().get(FILES, &reads.view().keys().keyed_file(content))
}

/// Remembers the FileRef of a content.
pub fn put_file_ref(txn: &mut WriteTxn<'_>, content: &ContentHash, file_ref: &[u8]) {
    let key = txn.view().keys().keyed_file(content);
    txn.put(FILES, &key, file_ref);
}

/// A content that is remembered.
pub struct Remembered<'a> {
    key: &'a [u8],
    file_ref: &'a [u8],
    keys: &'a Keys,
}

impl Remembered<'_> {
    /// Its FileRef bytes.
    pub fn file_ref(&self) -> &[u8] {
        self.file_ref
    }

    /// Whether the row stands under the key of this content.
    pub fn is_of(&self, content: &ContentHash) -> bool {
        self.key == self.keys.keyed_file(content)
    }
}

/// Visits every content that is remembered. Cost: one pass over these rows.
///
/// # Errors
/// As [`file_ref`].
pub fn scan_file_refs<R: Reads>(
    reads: &R,
    visit: &mut dyn FnMut(&Remembered<'_>) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let keys = reads.view().keys();
    reads.view().scan_prefix(FILES, &[], &mut |key, file_ref| visit(&Remembered { key, file_ref, keys }))
}

/// Forgets a content.
pub fn delete_file_ref(txn: &mut WriteTxn<'_>, content: &ContentHash) {
    let key = txn.view().keys().keyed_file(content);
    txn.delete(FILES, &key);
}

/// Returns the content of the file at an absolute path, if its stat is exactly the one remembered.
///
/// # Errors
/// As [`file_ref`].
pub fn unchanged<R: Reads>(
    reads: &R,
    path: &[u8],
    stat: &FileStat,
) -> Result<Option<ContentHash>, StoreError> {
    let Some(value) = reads.view().get(STATS, &reads.view().keys().keyed_path(path))? else {
        return Ok(None);
    };
    let (known, content) = value
        .split_first_chunk::<{ FileStat::LEN }>()
        .ok_or_else(|| StoreError::corrupt("a row of file stats"))?;
    let content = ContentHash::from_slice(content).map_err(|_| StoreError::corrupt("a row of file stats"))?;
    Ok((*known == stat.to_bytes()).then_some(content))
}

/// Remembers the content of the file at an absolute path. The caller has taken the stat both before and after reading,
/// from the open file, and they were equal.
pub fn put_stat(txn: &mut WriteTxn<'_>, path: &[u8], stat: &FileStat, content: &ContentHash) {
    let key = txn.view().keys().keyed_path(path);
    txn.put(STATS, &key, &[stat.to_bytes().as_slice(), content.as_bytes()].concat());
}

/// Forgets the file at an absolute path.
pub fn delete_stat(txn: &mut WriteTxn<'_>, path: &[u8]) {
    let key = txn.view().keys().keyed_path(path);
    txn.delete(STATS, &key);
}

/// Names a file outside whose content is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatKey(Vec<u8>);

/// Visits every file outside whose content is remembered, with that content.
///
/// # Errors
/// As [`file_ref`].
pub fn scan_stats<R: Reads>(
    reads: &R,
    visit: &mut dyn FnMut(StatKey, ContentHash) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let mut wrong = false;
    reads.view().scan_prefix(
        STATS,
        &[],
        &mut |key, value| match value.last_chunk::<{ ContentHash::LEN }>() {
            Some(content) if value.len() == FileStat::LEN + ContentHash::LEN => {
                visit(StatKey(key.to_vec()), ContentHash(*content))
            }
            _ => {
                wrong = true;
                ControlFlow::Break(())
            }
        },
    )?;
    if wrong { Err(StoreError::corrupt("a row of file stats")) } else { Ok(()) }
}

/// Forgets a file that [`scan_stats`] named.
pub fn forget_stat(txn: &mut WriteTxn<'_>, key: &StatKey) {
    txn.delete(STATS, &key.0);
}
