//! Packs that are being fetched: each a file laid out like the finished one, whose groups and outboard nodes are
//! written at their place as they come (`docs/spec/08-at-rest.md`, "Partial packs").
//!
//! Which groups are held is never written down: when a partial file is opened, everything in it is compared with the hash
//! again, from the root down. What the hash does not vouch for counts as missing. Never here: where the bytes come from.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use locker_crypto::Refusal;
use locker_crypto::id::PackHash;
use rustix::fs::{FallocateFlags, fallocate};

use super::check::{group_count, survey};
use super::{GROUP_BYTES, PackStore, file_len, name};
use crate::StoreError;
use crate::failpoints::{self, reach};
use crate::health::Health;
use crate::home::{create_file, open_file, remove_file};
use crate::limits::PACK_BYTES_MAX;

/// Bytes of an outboard node: two hashes.
const NODE_BYTES: u64 = 64;
/// Most bytes of neighbouring groups that are written at once.
const RUN_BYTES: usize = 256 << 10;
/// Places at which groups come in turn, as many as there are streams for one pack. A kill costs no more than a run at each.
const GROUP_RUNS_MAX: usize = 4;
/// Places at which nodes come: every answer begins with those above its first group.
const NODE_RUNS_MAX: usize = 64;

/// The partial packs that are open: one writer for each.
#[derive(Debug, Default)]
pub(super) struct OpenPartials(Mutex<BTreeSet<PackHash>>);

/// Holds the place of one pack among [`OpenPartials`].
#[derive(Debug)]
struct Turn {
    open: Arc<OpenPartials>,
    hash: PackHash,
}

impl Turn {
    fn take(open: &Arc<OpenPartials>, hash: &PackHash) -> Result<Self, StoreError> {
        let is_free = open.0.lock().unwrap_or_else(PoisonError::into_inner).insert(*hash);
        if is_free { Ok(Self { open: Arc::clone(open), hash: *hash }) } else { Err(StoreError::Busy) }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.open.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.hash);
    }
}

/// Neighbouring bytes on their way into the file.
#[derive(Debug)]
struct Run {
    at: u64,
    bytes: Vec<u8>,
}

/// What comes in small pieces, at a few places in turn, goes into the file in large ones.
#[derive(Debug, Default)]
struct Runs<const MAX: usize>(Vec<Run>);

impl<const MAX: usize> Runs<MAX> {
    /// Adds bytes to the run that they continue, or begins one; false if there is no room for that.
    fn add(&mut self, at: u64, bytes: &[u8]) -> bool {
        let count = self.0.len();
        match self.0.iter_mut().find(|run| at == run.at + run.bytes.len() as u64) {
            Some(run) if run.bytes.len() + bytes.len() <= RUN_BYTES => run.bytes.extend_from_slice(bytes),
            None if count < MAX => self.0.push(Run { at, bytes: bytes.to_vec() }),
            _ => return false,
        }
        true
    }
}

/// A pack of which some groups are here. Dropped, it leaves its file, which [`PackStore::open_partial`] opens again.
#[derive(Debug)]
pub struct PartialPack {
    file: File,
    path: PathBuf,
    hash: PackHash,
    len: u32,
    held: Vec<bool>,
    /// Groups that are held and not in the file yet.
    groups: Runs<GROUP_RUNS_MAX>,
    /// Nodes that are not in the file yet.
    nodes: Runs<NODE_RUNS_MAX>,
    /// Nothing is written any more: the file is about to get, or has, its final name.
    is_handed_over: bool,
    health: Arc<Health>,
    _turn: Turn,
}

impl PartialPack {
    pub(super) fn open(store: &PackStore, hash: &PackHash, len: u32) -> Result<Self, StoreError> {
        store.health.check()?;
        if len == 0 {
            return Err(StoreError::Refused(Refusal::Canon));
        }
        if u64::from(len) > PACK_BYTES_MAX {
            return Err(StoreError::Refused(Refusal::Limit));
        }
        let turn = Turn::take(&store.open, hash)?;
        let path = store.partial.join(name(hash));
        let (file, held) = match reopen(&path, hash, len)? {
            Some(found) => found,
            None => {
                let file = begin(store, &path, len)?;
                let held = take_over(store, &file, &path, hash, len)?;
                (file, held)
            }
        };
        let health = Arc::clone(&store.health);
        let (groups, nodes) = Default::default();
        Ok(Self {
            file,
            path,
            hash: *hash,
            len,
            held,
            groups,
            nodes,
            is_handed_over: false,
            health,
            _turn: turn,
        })
    }

    /// The pack's hash.
    pub fn hash(&self) -> PackHash {
        self.hash
    }

    /// The pack's length in bytes, the outboard not counted.
    pub fn byte_len(&self) -> u32 {
        self.len
    }

    /// The groups that are here, in rising order.
    pub fn held_groups(&self) -> impl Iterator<Item = u32> + '_ {
        (0..).zip(&self.held).filter_map(|(group, held)| held.then_some(group))
    }

    /// How many groups are not here.
    pub fn missing_groups(&self) -> usize {
        self.held.iter().filter(|held| !**held).count()
    }

    /// Whether every group is here.
    pub fn is_complete(&self) -> bool {
        self.held.iter().all(|held| *held)
    }

    /// Takes a group, or the shorter last one, that starts at `offset` of the pack; it goes into the file with its
    /// neighbours. The caller has compared it with the hash; what is wrong all the same is found before the pack counts as
    /// here.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if no group starts there or it has another length; [`StoreError::Full`],
    /// [`StoreError::Io`]: the groups that could not be written are then not held, and what was held before still is.
    /// [`StoreError::Poisoned`].
    pub fn write_group(&mut self, offset: u32, bytes: &[u8]) -> Result<(), StoreError> {
        let is_group = u64::from(offset).is_multiple_of(GROUP_BYTES)
            && offset < self.len
            && bytes.len() as u64 == GROUP_BYTES.min(u64::from(self.len - offset));
        if !is_group {
            return Err(StoreError::Refused(Refusal::Canon));
        }
        self.check_open()?;
        if !self.groups.add(offset.into(), bytes) {
            self.flush()?;
            self.groups.add(offset.into(), bytes);
        }
        self.set_held(u64::from(offset)..u64::from(offset) + 1, true);
        Ok(())
    }

    /// Takes the two hashes of an inner node at an offset of the outboard. A group whose nodes are not in the file does not
    /// count as held when the file is opened again.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if no node stands there; else as [`PartialPack::write_group`].
    pub fn write_node(&mut self, offset: u32, pair: &[u8; 64]) -> Result<(), StoreError> {
        let outboard_len = file_len(self.len) - u64::from(self.len);
        if !u64::from(offset).is_multiple_of(NODE_BYTES) || u64::from(offset) >= outboard_len {
            return Err(StoreError::Refused(Refusal::Canon));
        }
        self.check_open()?;
        let at = u64::from(self.len) + u64::from(offset);
        if !self.nodes.add(at, pair) {
            self.flush()?;
            self.nodes.add(at, pair);
        }
        Ok(())
    }

    /// Writes what was taken and is not in the file yet. Nothing is synced. Dropping does the same and tells nobody.
    ///
    /// # Errors
    /// As [`PartialPack::write_group`].
    pub fn flush(&mut self) -> Result<(), StoreError> {
        let (nodes, groups) = (std::mem::take(&mut self.nodes), std::mem::take(&mut self.groups));
        let written = nodes.0.iter().chain(&groups.0).try_for_each(|run| self.write_run(run));
        if written.is_err() {
            for run in groups.0 {
                self.set_held(run.at..run.at + run.bytes.len() as u64, false);
            }
        }
        written
    }

    fn write_run(&self, run: &Run) -> Result<(), StoreError> {
        self.check_open()?;
        self.file
            .write_all_at(&run.bytes, run.at)
            .and_then(|()| reach(failpoints::PARTIAL_WRITTEN))
            .map_err(|error| StoreError::io("writing a partial pack", &self.path, error))
    }

    /// Notes whether the groups that begin in a range of bytes are held.
    fn set_held(&mut self, bytes: Range<u64>, is_held: bool) {
        for at in bytes.step_by(GROUP_BYTES as usize) {
            if let Some(held) =
                usize::try_from(at / GROUP_BYTES).ok().and_then(|group| self.held.get_mut(group))
            {
                *held = is_held;
            }
        }
    }

    /// Compares the whole file with the hash, and gives it away for good if everything is there and right.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if not; then it says what is missing, and goes on as before.
    pub(super) fn hand_over(&mut self) -> Result<(File, PathBuf), StoreError> {
        self.health.check()?;
        self.flush()?;
        self.held = survey(&self.file, &self.path, &self.hash, self.len)?;
        if !self.is_complete() {
            return Err(StoreError::Damaged { pack: self.hash });
        }
        let failed = |error| StoreError::io("checking a partial pack", &self.path, error);
        reach(failpoints::PARTIAL_CHECKED).map_err(failed)?;
        let file = self.file.try_clone().map_err(failed)?;
        self.is_handed_over = true;
        Ok((file, self.path.clone()))
    }

    fn check_open(&self) -> Result<(), StoreError> {
        self.health.check()?;
        // A pack file is never changed.
        if self.is_handed_over { Err(StoreError::Refused(Refusal::Canon)) } else { Ok(()) }
    }
}

impl Drop for PartialPack {
    fn drop(&mut self) {
        // What cannot be written is fetched again.
        let _ = self.flush();
    }
}

/// Opens what an earlier fetch left; what cannot be read or has another length is of no use and is removed.
fn reopen(path: &Path, hash: &PackHash, len: u32) -> Result<Option<(File, Vec<bool>)>, StoreError> {
    let file = match open_file(path, OpenOptions::new().read(true).write(true)) {
        Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Ok(None);
        }
        other => other?,
    };
    let found = file.metadata().map_err(|error| StoreError::io("looking at", path, error))?.len();
    if found == file_len(len)
        && let Ok(held) = survey(&file, path, hash, len)
    {
        return Ok(Some((file, held)));
    }
    remove_file(path)?;
    Ok(None)
}

/// Begins a partial file: full length, filled with zeros.
fn begin(store: &PackStore, path: &Path, len: u32) -> Result<File, StoreError> {
    store.reserve.admit(file_len(len))?;
    let file = create_file(path)?;
    // The room is taken now, so that many that are begun do not find out together that there is none.
    fallocate(&file, FallocateFlags::empty(), 0, file_len(len))
        .map_err(std::io::Error::from)
        .or_else(|error| match error.kind() {
            // A file system that cannot promise room.
            std::io::ErrorKind::Unsupported | std::io::ErrorKind::InvalidInput => file.set_len(file_len(len)),
            _ => Err(error),
        })
        .and_then(|()| reach(failpoints::PARTIAL_CREATED))
        .map_err(|error| {
            let _ = remove_file(path);
            StoreError::io("beginning a partial pack", path, error)
        })?;
    Ok(file)
}

/// Copies what is right in the damaged file of the pack, if there is one, so that only the rest is fetched. That file
/// stays as it is: until its replacement has come, what is right in it serves. Tells which groups are held.
fn take_over(
    store: &PackStore,
    to: &File,
    path: &Path,
    hash: &PackHash,
    len: u32,
) -> Result<Vec<bool>, StoreError> {
    let nothing = vec![false; group_count(len)];
    let Ok(old) = store.open(hash, len) else { return Ok(nothing) };
    let mut outboard = vec![0; usize::try_from(file_len(len) - u64::from(len)).unwrap_or(0)];
    let Ok(mut held) = survey(old.file(), old.path(), hash, len) else { return Ok(nothing) };
    if !held.contains(&true) || old.read_outboard(&mut outboard, 0).is_err() {
        return Ok(nothing);
    }
    let failed = |error| StoreError::io("writing a partial pack", path, error);
    to.write_all_at(&outboard, u64::from(len)).map_err(failed)?;
    let mut group = Vec::new();
    for (at, held) in (0..u64::from(len)).step_by(GROUP_BYTES as usize).zip(&mut held) {
        // At most a group.
        group.resize((u64::from(len) - at).min(GROUP_BYTES) as usize, 0);
        *held = *held && old.read_raw(&mut group, at).is_ok();
        if *held {
            to.write_all_at(&group, at).map_err(failed)?;
        }
    }
    Ok(held)
}

#[cfg(test)]
mod tests;
