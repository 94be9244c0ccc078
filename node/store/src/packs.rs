//! The pack store: immutable files, each named by its hash and followed by its outboard (`docs/spec/08-at-rest.md`,
//! "Pack files").
//!
//! File = pack || BLAKE3 outboard over groups of 16 KiB in pre-order without size prefix, 64 bytes per inner node;
//! length = len + 64 * (ceil(len / 16384) - 1). A pack is durable before any row names it, and a row stops naming it
//! before it goes. Every byte that is read here was compared with the hash first. Never here: keys, or what is inside.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use bao_tree::{BaoTree, BlockSize};
use locker_crypto::id::PackHash;

use crate::StoreError;
use crate::health::Health;
use crate::home::{Home, list, open_file, remove_file, sync_folder};
use crate::limits::PACK_BYTES_MAX;
use crate::reserve::Reserve;

mod check;
mod list;
mod partial;
mod read;
mod sweep;
#[cfg(test)]
mod tests;
mod write;

pub use check::Cache;
pub use list::OnDisk;
use partial::OpenPartials;
pub use partial::PartialPack;
pub use read::PackReader;
pub use write::{PackBatch, WrittenPack};

/// Groups of 16 KiB: sixteen BLAKE3 chunks.
const GROUP: BlockSize = BlockSize::from_chunk_log(4);
/// Bytes in a group.
pub const GROUP_BYTES: u64 = 16_384;

/// The packs of one home. May be used from several threads.
#[derive(Debug)]
pub struct PackStore {
    folder: PathBuf,
    tmp: PathBuf,
    partial: PathBuf,
    /// Partial packs that are open.
    open: Arc<OpenPartials>,
    health: Arc<Health>,
    reserve: Arc<Reserve>,
    next_temp: AtomicU64,
    /// Some folder of packs was made and is not durable yet; at the start nobody knows.
    new_folders: AtomicBool,
}

impl PackStore {
    pub(crate) fn new(home: &Home, health: Arc<Health>, reserve: Arc<Reserve>) -> Self {
        Self {
            folder: home.packs(),
            tmp: home.packs_tmp(),
            partial: home.packs_partial(),
            open: Arc::default(),
            health,
            reserve,
            next_temp: AtomicU64::new(0),
            new_folders: AtomicBool::new(true),
        }
    }

    /// Begins to write packs. `expected_bytes` is what the caller means to write in all.
    ///
    /// # Errors
    /// [`StoreError::Full`] if less than the low-water mark would stay free; [`StoreError::Poisoned`].
    pub fn begin_batch(&self, expected_bytes: u64) -> Result<PackBatch<'_>, StoreError> {
        PackBatch::begin(self, expected_bytes)
    }

    /// Writes a pack that was just made here under a temporary name, for a batch to take ([`PackBatch::take`]). Several
    /// threads may write at once. Hash and outboard are computed in one pass.
    ///
    /// # Errors
    /// As [`PackStore::begin_batch`] and [`PackBatch::add`].
    pub fn write_new(&self, bytes: &[u8]) -> Result<WrittenPack, StoreError> {
        self.health.check()?;
        self.reserve.admit(bytes.len() as u64)?;
        WrittenPack::new(self, bytes)
    }

    /// Writes packs; when it returns they are durable, and may be named in the next transaction.
    ///
    /// # Errors
    /// As [`PackStore::begin_batch`], [`PackBatch::add`] and [`PackBatch::finish`].
    pub fn write_all(&self, packs: &[(PackHash, &[u8])]) -> Result<(), StoreError> {
        let mut batch = self.begin_batch(packs.iter().map(|(_, bytes)| bytes.len() as u64).sum())?;
        for (hash, bytes) in packs {
            batch.add(hash, bytes)?;
        }
        batch.finish()
    }

    /// Opens the partial file of a pack that is being fetched, or begins one. Of an old one only what the hash vouches
    /// for counts as held: it is read once, with a buffer of a group and one of the outboard.
    ///
    /// # Errors
    /// [`StoreError::Busy`] while the same one is open; [`StoreError::Refused`] for a length that no pack has;
    /// [`StoreError::Full`] if less than the low-water mark would stay free; [`StoreError::Unsafe`],
    /// [`StoreError::Poisoned`], [`StoreError::Io`].
    pub fn open_partial(&self, hash: &PackHash, len: u32) -> Result<PartialPack, StoreError> {
        PartialPack::open(self, hash, len)
    }

    /// Lists the packs that have a partial file.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn partials(&self) -> Result<Vec<PackHash>, StoreError> {
        let names = list(&self.partial)?;
        Ok(names.iter().filter_map(|name| sweep::read_name(name)).collect())
    }

    /// Makes complete partial packs into packs: each is compared with its hash as a whole, then all are synced, then
    /// renamed, then each touched folder is synced once. Returns those that are durable now and may be named in the next
    /// transaction. The others are not what was written to them: opened anew, they say what is missing.
    ///
    /// Takes no new space, so a full disk does not stop it. On an error the files stay as they are, under their old or
    /// their final names.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`]; [`StoreError::Io`]: a failed sync poisons the store.
    pub fn keep_partials<'p>(
        &self,
        partials: impl IntoIterator<Item = &'p mut PartialPack>,
    ) -> Result<Vec<PackHash>, StoreError> {
        let mut batch = PackBatch::without_space(self)?;
        let mut kept = Vec::new();
        for partial in partials {
            match batch.adopt(partial) {
                Ok(()) => kept.push(partial.hash()),
                Err(StoreError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if !kept.is_empty() {
            batch.finish()?;
        }
        Ok(kept)
    }

    /// Opens a pack file and compares its length with that of the pack.
    ///
    /// # Errors
    /// [`StoreError::Absent`], [`StoreError::Damaged`] for another length, [`StoreError::Unsafe`], [`StoreError::Io`].
    pub fn open(&self, hash: &PackHash, len: u32) -> Result<PackReader, StoreError> {
        open_at(self.path(hash), hash, len)
    }

    /// Opens whatever is here of a pack that is lost: what has come of it again, and its damaged file. Every read is
    /// compared with the hash, so what is right in them can be used.
    pub fn remains(&self, hash: &PackHash, len: u32) -> Vec<PackReader> {
        let paths = [self.partial.join(name(hash)), self.path(hash)];
        paths.into_iter().filter_map(|path| open_at(path, hash, len).ok()).collect()
    }

    /// Reads `[start, end)` of a pack, verified. Reads the groups of 16 KiB that it touches and their nodes, no more.
    ///
    /// # Errors
    /// As [`PackStore::open`] and [`PackReader::read_range`].
    pub fn read_range(
        &self,
        hash: &PackHash,
        len: u32,
        range: std::ops::Range<u32>,
    ) -> Result<Vec<u8>, StoreError> {
        self.open(hash, len)?.read_range(range)
    }

    /// Reads a whole pack, verified.
    ///
    /// # Errors
    /// As [`PackStore::open`] and [`PackReader::read_whole`].
    pub fn read_whole(&self, hash: &PackHash, len: u32) -> Result<Vec<u8>, StoreError> {
        self.open(hash, len)?.read_whole()
    }

    /// Hashes everything again and compares the outboard too, as it is on the disk: what the system remembers of the file
    /// is dropped before.
    ///
    /// # Errors
    /// As [`PackStore::open`]; [`StoreError::Damaged`] if a byte of pack or outboard differs or cannot be read.
    pub fn verify(&self, hash: &PackHash, len: u32) -> Result<(), StoreError> {
        self.verify_with(hash, len, Cache::Kept)
    }

    /// The same, saying whether the system may remember what was read.
    ///
    /// # Errors
    /// As [`PackStore::verify`].
    pub fn verify_with(&self, hash: &PackHash, len: u32, cache: Cache) -> Result<(), StoreError> {
        check::verify_on_disk(&self.open(hash, len)?, cache)
    }

    /// The same with what the system may remember of the file: for who looks after a crash of this program.
    pub(crate) fn verify_quickly(&self, hash: &PackHash, len: u32) -> Result<(), StoreError> {
        check::verify(&self.open(hash, len)?)
    }

    /// Writes a pack file anew if the bytes of the pack in it are right and only the outboard, or what stands behind it,
    /// is not. Whether it did; then the pack is durable and was verified through a fresh handle. Memory: the pack.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::Poisoned`], [`StoreError::Io`].
    pub fn renew_outboard(&self, hash: &PackHash, len: u32) -> Result<bool, StoreError> {
        let Ok(file) = open_file(&self.path(hash), OpenOptions::new().read(true)) else { return Ok(false) };
        let mut bytes = vec![0; len as usize];
        if file.read_exact_at(&mut bytes, 0).is_err() || blake3::hash(&bytes).as_bytes() != hash.as_bytes() {
            return Ok(false);
        }
        self.write_all(&[(*hash, &bytes)])?;
        Ok(self.verify(hash, len).is_ok())
    }

    /// Removes pack files and makes that durable, the middle of a deletion ([`crate::Store::delete_packs`]).
    pub(crate) fn remove(&self, packs: &[PackHash]) -> Result<(), StoreError> {
        self.health.check()?;
        let mut touched = BTreeSet::new();
        for hash in packs {
            if remove_file(&self.path(hash))? {
                touched.insert(hash.0[0]);
            }
        }
        let failed = |error| StoreError::io("removing packs in", &self.folder, error);
        crate::failpoints::reach(crate::failpoints::DELETE_UNLINKED).map_err(failed)?;
        for first in touched {
            self.health.or_poison(sync_folder(&self.shard(first)))?;
        }
        crate::failpoints::reach(crate::failpoints::DELETE_DIR_SYNCED).map_err(failed)
    }

    fn shard(&self, first: u8) -> PathBuf {
        self.folder.join(format!("{first:02x}"))
    }

    fn path(&self, hash: &PackHash) -> PathBuf {
        self.shard(hash.0[0]).join(name(hash))
    }
}

/// Opens the file of a pack that lies at a path.
fn open_at(path: PathBuf, hash: &PackHash, len: u32) -> Result<PackReader, StoreError> {
    let file = match open_file(&path, OpenOptions::new().read(true)) {
        Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Err(StoreError::Absent { pack: *hash });
        }
        other => other?,
    };
    let found = file.metadata().map_err(|error| StoreError::io("looking at", &path, error))?.len();
    if found != file_len(len) {
        return Err(StoreError::Damaged { pack: *hash });
    }
    Ok(PackReader::new(file, path, *hash, len))
}

/// Returns the name of a pack's file.
fn name(hash: &PackHash) -> String {
    let mut name = String::with_capacity(64);
    for byte in hash.as_bytes() {
        // Writing into a string cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}

/// Returns the length of the file of a pack of `len` bytes.
pub fn file_len(len: u32) -> u64 {
    u64::from(len) + tree(len).outboard_size()
}

fn tree(len: u32) -> BaoTree {
    BaoTree::new(u64::from(len), GROUP)
}

/// Returns the length of a pack, if it may be one.
fn checked_len(bytes: &[u8]) -> Option<u32> {
    u32::try_from(bytes.len()).ok().filter(|len| *len > 0 && u64::from(*len) <= PACK_BYTES_MAX)
}
