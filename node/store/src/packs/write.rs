//! Writing packs in batches: each file synced, then all renamed, then each touched directory synced once
//! (`docs/spec/08-at-rest.md`, "Order of a write", step 1).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use bao_tree::io::outboard::PreOrderMemOutboard;
use locker_crypto::Refusal;
use locker_crypto::id::PackHash;

use super::{GROUP, PackStore, PartialPack, checked_len};
use crate::StoreError;
use crate::direct::DirectWriter;
use crate::failpoints::{self, reach};
use crate::home::{create_file, make_folder, sync_folder};
use crate::limits::BATCH_OPEN_FILES;

/// Packs on their way to the disk. Nothing of it may be named before [`PackBatch::finish`] has returned; dropped
/// before, it leaves nothing.
#[derive(Debug)]
pub struct PackBatch<'s> {
    store: &'s PackStore,
    pending: Vec<WrittenPack>,
    touched: BTreeSet<u8>,
}

/// A pack under a temporary name. Dropped before a batch has given it its own, it leaves nothing.
#[derive(Debug)]
pub struct WrittenPack {
    file: File,
    path: PathBuf,
    hash: PackHash,
    /// Stays where it is when it is dropped.
    is_kept: bool,
}

impl WrittenPack {
    pub(super) fn new(store: &PackStore, bytes: &[u8]) -> Result<Self, StoreError> {
        let outboard = outboard_of(bytes)?;
        Self::write(store, &PackHash(*outboard.root.as_bytes()), bytes, &outboard.data)
    }

    fn write(store: &PackStore, hash: &PackHash, bytes: &[u8], outboard: &[u8]) -> Result<Self, StoreError> {
        let (file, path) = create_temp(store)?;
        let temp = Self { file, path, hash: *hash, is_kept: false };
        let mut out = DirectWriter::new(&temp.file, (bytes.len() + outboard.len()) as u64);
        reach(failpoints::PACK_TEMP_CREATED)
            .and_then(|()| out.write_all(bytes))
            .and_then(|()| out.write_all(outboard))
            .and_then(|()| out.finish())
            .and_then(|()| reach(failpoints::PACK_WRITTEN))
            .map_err(|error| StoreError::io("writing a pack", &temp.path, error))?;
        Ok(temp)
    }

    /// The pack's hash.
    pub fn hash(&self) -> PackHash {
        self.hash
    }
}

impl Drop for WrittenPack {
    fn drop(&mut self) {
        if !self.is_kept {
            // What cannot be removed now goes with the sweep of the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn create_temp(store: &PackStore) -> Result<(File, PathBuf), StoreError> {
    loop {
        let number = store.next_temp.fetch_add(1, Ordering::Relaxed);
        let path = store.tmp.join(format!("{number:x}"));
        match create_file(&path) {
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {}
            other => return Ok((other?, path)),
        }
    }
}

impl<'s> PackBatch<'s> {
    pub(super) fn begin(store: &'s PackStore, expected_bytes: u64) -> Result<Self, StoreError> {
        let batch = Self::without_space(store)?;
        store.reserve.admit(expected_bytes)?;
        Ok(batch)
    }

    /// Begins a batch that writes nothing new.
    pub(super) fn without_space(store: &'s PackStore) -> Result<Self, StoreError> {
        store.health.check()?;
        Ok(Self { store, pending: Vec::new(), touched: BTreeSet::new() })
    }

    /// Writes a pack under a temporary name. Its hash and outboard are computed in one pass.
    ///
    /// A pack that is here already is written again, which heals a damaged file.
    ///
    /// # Errors
    /// [`StoreError::Refused`] with [`Refusal::Hash`] if `hash` is not that of the bytes, with [`Refusal::Limit`] above
    /// 16,777,216 bytes, with [`Refusal::Canon`] for none; [`StoreError::Full`], [`StoreError::Io`]. The batch is then
    /// to be dropped.
    pub fn add(&mut self, hash: &PackHash, bytes: &[u8]) -> Result<(), StoreError> {
        let outboard = outboard_of(bytes)?;
        if outboard.root.as_bytes() != hash.as_bytes() {
            return Err(StoreError::Refused(Refusal::Hash));
        }
        self.write(hash, bytes, &outboard.data)
    }

    /// The same for a pack that was just made here and has no name yet; gives its name.
    ///
    /// # Errors
    /// As [`PackBatch::add`].
    pub fn add_new(&mut self, bytes: &[u8]) -> Result<PackHash, StoreError> {
        let outboard = outboard_of(bytes)?;
        let hash = PackHash(*outboard.root.as_bytes());
        self.write(&hash, bytes, &outboard.data)?;
        Ok(hash)
    }

    /// Takes over a partial pack that is complete.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it is not, or is not what its hash says: the batch goes on without it. Else as
    /// [`PackBatch::add`].
    pub(super) fn adopt(&mut self, partial: &mut PartialPack) -> Result<(), StoreError> {
        let (file, path) = partial.hand_over()?;
        self.take(WrittenPack { file, path, hash: partial.hash(), is_kept: true })
    }

    /// Takes a pack that is written already.
    ///
    /// # Errors
    /// As [`PackBatch::add`].
    pub fn take(&mut self, written: WrittenPack) -> Result<(), StoreError> {
        if self.pending.len() >= BATCH_OPEN_FILES {
            self.settle()?;
        }
        self.pending.push(written);
        Ok(())
    }

    fn write(&mut self, hash: &PackHash, bytes: &[u8], outboard: &[u8]) -> Result<(), StoreError> {
        self.take(WrittenPack::write(self.store, hash, bytes, outboard)?)
    }

    /// Makes the whole batch durable.
    ///
    /// # Errors
    /// [`StoreError::Full`] and [`StoreError::Io`]: a failed sync poisons the store. Packs that already have their name
    /// are removed by the sweep of the next start.
    pub fn finish(mut self) -> Result<(), StoreError> {
        self.settle()?;
        let synced = self.sync_folders();
        self.store.health.or_poison(synced)
    }

    /// Syncs and renames what is pending.
    fn settle(&mut self) -> Result<(), StoreError> {
        self.store.health.check()?;
        for temp in &self.pending {
            let synced = temp.file.sync_all().and_then(|()| reach(failpoints::PACK_SYNCED));
            let synced = synced.map_err(|error| StoreError::io("syncing a pack", &temp.path, error));
            if synced.is_err() {
                // What is in memory may look whole and never come to the disk: a later sync would not say so again.
                for partial in self.pending.iter().filter(|temp| temp.is_kept) {
                    let _ = fs::remove_file(&partial.path);
                }
            }
            self.store.health.or_poison(synced)?;
        }
        for temp in &mut self.pending {
            let first = temp.hash.0[0];
            if self.touched.insert(first) && make_folder(&self.store.shard(first))? {
                self.store.new_folders.store(true, Ordering::Release);
            }
            fs::rename(&temp.path, self.store.path(&temp.hash))
                .and_then(|()| reach(failpoints::PACK_RENAMED))
                .map_err(|error| StoreError::io("renaming a pack", &temp.path, error))?;
            // It has its name: nothing of it is left under the other one.
            temp.is_kept = true;
        }
        self.pending.clear();
        Ok(())
    }

    fn sync_folders(&self) -> Result<(), StoreError> {
        for first in &self.touched {
            sync_folder(&self.store.shard(*first))?;
        }
        // Whoever made a folder: who uses it must not acknowledge before it is durable.
        if self.store.new_folders.load(Ordering::Acquire) {
            sync_folder(&self.store.folder)?;
            self.store.new_folders.store(false, Ordering::Release);
        }
        reach(failpoints::PACK_DIR_SYNCED)
            .map_err(|error| StoreError::io("syncing packs", &self.store.folder, error))
    }
}

/// Computes hash and outboard of a pack in one pass.
fn outboard_of(bytes: &[u8]) -> Result<PreOrderMemOutboard, StoreError> {
    if bytes.is_empty() {
        return Err(StoreError::Refused(Refusal::Canon));
    }
    checked_len(bytes).ok_or(StoreError::Refused(Refusal::Limit))?;
    Ok(PreOrderMemOutboard::create(bytes, GROUP))
}
