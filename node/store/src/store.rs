//! The opened store: database and packs of one home, and what needs both (`docs/spec/08-at-rest.md`, "Start", "Order of
//! a deletion").

use std::fs;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use locker_crypto::id::PackHash;
use locker_crypto::secret::VaultKey;

use crate::database::{self, Opened};
use crate::failpoints::{self, reach};
use crate::health::Health;
use crate::home::{Home, remove_file};
use crate::index::{self, PackState};
use crate::limits::{COMPACT_BYTES_MAX, COMPACT_GROWTH_BYTES, QUICK_REPAIR_BYTES, QUICK_REPAIR_EVERY};
use crate::pins::{self, PinScope};
use crate::reserve::Reserve;
use crate::seal::Keys;
use crate::settings::{self, Setting};
use crate::tables::FORMAT;
use crate::{Limits, PackStore, Snapshot, StoreError, WriteTxn};

/// Where nonces come from.
pub type Dice = Box<dyn rand_core::CryptoRng + Send>;

/// The database and the packs of one home, opened with its vault key. May be used from several threads; one writes at a
/// time.
pub struct Store {
    pub(crate) database: Opened,
    pub(crate) keys: Arc<Keys>,
    pub(crate) health: Arc<Health>,
    pub(crate) reserve: Arc<Reserve>,
    /// Last: whatever lies in it is closed before the lock is let go.
    pub(crate) home: Home,
    packs: PackStore,
    dice: Mutex<Dice>,
    limits: Limits,
    commits: AtomicU64,
    /// Length of the database file when it was opened.
    opened_bytes: u64,
}

/// What start-up found and put right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Whether the last closing was clean.
    pub was_clean: bool,
    /// Temporary files removed, and partial ones of packs that are not awaited.
    pub temporary_removed: u64,
    /// Packs removed that nothing named: their write never came to a commit.
    pub unreferenced_removed: u64,
    /// Files in the pack folders that are not ours, left alone.
    pub strangers: u64,
    /// Deletions finished.
    pub deletions_finished: u64,
    /// Packs that are gone or damaged, now marked lost.
    pub lost: Vec<PackHash>,
}

impl Store {
    /// Makes the database of a home that has none, with what `first` writes in it, and opens it. Until this has
    /// returned the home counts as not begun: there is no state in which a home has a database without its first rows.
    ///
    /// # Errors
    /// [`StoreError::NotEmpty`] if there is a database: it is never made anew over an old one; that of `first`; else as
    /// [`Store::open`].
    pub fn create<E: From<StoreError>>(
        home: Home,
        vault: &VaultKey,
        dice: Dice,
        limits: Limits,
        first: impl FnOnce(&mut WriteTxn<'_>) -> Result<(), E>,
    ) -> Result<Self, E> {
        let (home, dice) = Self::prepare(home, vault, dice, limits, first)?;
        Ok(Self::open(home, vault, dice, limits)?)
    }

    /// The first half of [`Store::create`]: everything is durable, and the home may still be begun again as if nothing
    /// were there. [`Home::adopt_database`] or [`Store::open`] ends this. In between somebody can be told what can be told
    /// only once.
    ///
    /// # Errors
    /// As [`Store::create`].
    pub fn prepare<E: From<StoreError>>(
        home: Home,
        vault: &VaultKey,
        dice: Dice,
        limits: Limits,
        first: impl FnOnce(&mut WriteTxn<'_>) -> Result<(), E>,
    ) -> Result<(Home, Dice), E> {
        if home.has_database() {
            return Err(StoreError::NotEmpty { path: home.path().to_owned() }.into());
        }
        let new = home.new_database();
        remove_file(&new)?;
        let created = database::create(&new, limits.cache_bytes)?;
        let store = Self::assemble(created, home, vault, dice, limits);
        store.write::<_, E>(|txn| {
            settings::put_number(txn, Setting::FORMAT, FORMAT);
            settings::put_number(txn, Setting::CLEAN, 1);
            first(txn)
        })?;
        let Self { database, home, dice, .. } = store;
        drop(database);
        home.complete_database()?;
        Ok((home, dice.into_inner().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Opens the database of a home. [`Store::recover`] comes next, before anything else.
    ///
    /// Where the file system may not be written the store is only read: whatever would change it is
    /// [`StoreError::ReadOnly`].
    ///
    /// Cost: a database up to 64 MiB is read once to verify its checksums; one that was not closed is repaired.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the database is missing, damaged, or sealed under another vault key;
    /// [`StoreError::NewerFormat`], [`StoreError::Busy`], [`StoreError::Unsafe`], [`StoreError::Io`].
    pub fn open(home: Home, vault: &VaultKey, dice: Dice, limits: Limits) -> Result<Self, StoreError> {
        home.adopt_database()?;
        let (opened, health) = match database::open(&home.database(), &limits) {
            Err(StoreError::ReadOnly) => {
                (database::open_to_read(&home.database(), &limits)?, Health::read_only())
            }
            other => (other?, Health::default()),
        };
        let mut store = Self::assemble(opened, home, vault, dice, limits);
        store.take_health(health);
        match settings::number(&store.read()?, Setting::FORMAT)? {
            Some(FORMAT) => {}
            Some(found) if found > FORMAT => {
                return Err(StoreError::NewerFormat { found, known: FORMAT });
            }
            _ => return Err(StoreError::corrupt("the database has no format number")),
        }
        store.reserve.keep();
        Ok(store)
    }

    fn assemble(database: Opened, home: Home, vault: &VaultKey, dice: Dice, limits: Limits) -> Self {
        let health = Arc::new(Health::default());
        let reserve = Arc::new(Reserve::new(home.reserve(), home.path(), limits));
        let opened_bytes = fs::metadata(home.database()).map_or(0, |found| found.len());
        Self {
            database,
            opened_bytes,
            keys: Arc::new(Keys::new(vault)),
            packs: PackStore::new(&home, health.clone(), reserve.clone()),
            health,
            reserve,
            home,
            dice: Mutex::new(dice),
            limits,
            commits: AtomicU64::new(0),
        }
    }

    /// The home.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Size of the database file in bytes.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn database_bytes(&self) -> Result<u64, StoreError> {
        let path = self.home.database();
        let meta = fs::metadata(&path).map_err(|error| StoreError::io("looking at", &path, error))?;
        Ok(meta.len())
    }

    /// The pack files.
    pub fn packs(&self) -> &PackStore {
        &self.packs
    }

    /// Whether the disk is so full that new content is refused. What can wait is better not written then.
    pub fn is_short_of_space(&self) -> bool {
        self.reserve.admit(0).is_err()
    }

    /// Whether a write has failed, so that nothing is acknowledged any more.
    pub fn is_poisoned(&self) -> bool {
        self.health.is_poisoned()
    }

    /// Whether nothing of it may be written: the file system cannot, or could not be written when the store was opened.
    pub fn is_read_only(&self) -> bool {
        self.health.is_read_only()
    }

    /// Opens a store again that was poisoned or may only be read, and puts right what is to be: from then on it
    /// acknowledges as before. Snapshots must not be alive. If it cannot be written, it can still be read.
    ///
    /// # Errors
    /// As [`Store::open`] and [`Store::recover`]: it is then as it was, and this may be tried again.
    pub fn reopen(&mut self) -> Result<Recovery, StoreError> {
        let path = self.home.database();
        if !self.is_read_only() {
            self.database.shut();
        }
        match database::open(&path, &self.limits) {
            Ok(opened) => {
                self.database = opened;
                self.take_health(Health::default());
                self.recover()
            }
            Err(error) => {
                if !self.is_read_only() {
                    self.take_health(Health::read_only());
                    if !matches!(error, StoreError::ReadOnly) {
                        self.health.poison();
                    }
                    self.database = database::open_to_read(&path, &self.limits)?;
                }
                Err(error)
            }
        }
    }

    /// Gives back the memory in which pages of the database are kept, by closing the database and opening it again. Costs
    /// some milliseconds; what is asked for next comes from the disk.
    ///
    /// # Errors
    /// [`StoreError::Busy`] while a snapshot lives; as every write where nothing may be written. Any other error leaves the
    /// store poisoned, for [`Store::reopen`].
    pub fn forget_pages(&mut self) -> Result<(), StoreError> {
        self.health.check()?;
        // Each snapshot holds the keys, and so does nobody else.
        if Arc::strong_count(&self.keys) > 1 {
            return Err(StoreError::Busy);
        }
        self.database.shut();
        // Every page was ours a moment ago: none is read for its checksum, or all would be back in memory.
        let limits = Limits { checked_on_open_bytes: 0, ..self.limits };
        let opened = database::open(&self.home.database(), &limits);
        self.database = self.health.or_poison(opened)?;
        Ok(())
    }

    fn take_health(&mut self, health: Health) {
        self.health = Arc::new(health);
        self.packs = PackStore::new(&self.home, self.health.clone(), self.reserve.clone());
    }

    /// Takes a snapshot of the last commit.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], [`StoreError::Io`], [`StoreError::Poisoned`].
    pub fn read(&self) -> Result<Snapshot, StoreError> {
        Snapshot::new(&self.database, &self.keys, &self.health)
    }

    /// Begins a transaction; waits while another one lives.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`]; else as [`Store::read`].
    pub fn begin_write(&self) -> Result<WriteTxn<'_>, StoreError> {
        WriteTxn::begin(self)
    }

    /// Runs `change` in a transaction and commits it durably; an error of `change` gives it up.
    ///
    /// # Errors
    /// That of `change`; else as [`WriteTxn::commit`].
    pub fn write<T, E: From<StoreError>>(
        &self,
        change: impl FnOnce(&mut WriteTxn<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut txn = self.begin_write()?;
        let result = change(&mut txn)?;
        txn.commit()?;
        Ok(result)
    }

    /// Puts right what a crash may have left: finishes deletions, checks the packs written since the last clean closing,
    /// removes temporary files, packs that nothing names and partial ones that nobody waits for, and marks the store as
    /// open.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if rows are missing or do not open: then nothing is removed. Else as reading and writing.
    pub fn recover(&mut self) -> Result<Recovery, StoreError> {
        let snapshot = self.read()?;
        let mut recovery = Recovery {
            was_clean: settings::number(&snapshot, Setting::CLEAN)? == Some(1),
            ..Recovery::default()
        };
        let (mut deleting, mut rows) = (Vec::new(), 0);
        index::scan_packs(&snapshot, &mut |hash, pack| {
            rows += 1;
            if pack.state == PackState::Deleting {
                deleting.push(hash);
            }
            ControlFlow::Continue(())
        })?;
        if rows != index::pack_count(&snapshot)? {
            return Err(StoreError::corrupt("rows of packs are missing"));
        }
        if self.is_read_only() {
            return Ok(recovery);
        }
        recovery.deletions_finished = deleting.len() as u64;
        self.finish_deletion(&deleting)?;
        for hash in if recovery.was_clean { Vec::new() } else { index::recent(&snapshot)? } {
            let Some(pack) = index::pack(&snapshot, &hash)? else { continue };
            if !matches!(pack.state, PackState::Present { .. }) {
                continue;
            }
            match self.packs.verify_quickly(&hash, pack.len) {
                Ok(()) => {}
                Err(StoreError::Absent { .. } | StoreError::Damaged { .. }) => recovery.lost.push(hash),
                Err(error) => return Err(error),
            }
        }
        let swept = self.packs.sweep(&mut |hash| index::pack(&snapshot, hash))?;
        recovery.temporary_removed = swept.temporary;
        recovery.unreferenced_removed = swept.unreferenced;
        recovery.strangers = swept.strangers;
        drop(snapshot);
        self.write::<_, StoreError>(|txn| {
            for hash in &recovery.lost {
                index::set_state(txn, hash, PackState::Lost)?;
            }
            index::forget_recent(txn)?;
            settings::put_number(txn, Setting::CLEAN, 0);
            Ok(())
        })?;
        Ok(recovery)
    }

    /// Deletes packs from this disk: a commit that says so, the files, a commit that forgets them, or, of those that
    /// another device pins, that they were let go. A crash between is put right by [`Store::recover`]. The caller has made
    /// sure that no pin of this device, no transfer and no lease names them.
    ///
    /// # Errors
    /// As [`WriteTxn::commit`]; [`StoreError::Io`] if a file cannot be removed: the next start tries again.
    pub fn delete_packs(&self, packs: &[PackHash]) -> Result<(), StoreError> {
        self.write::<_, StoreError>(|txn| packs.iter().try_for_each(|hash| index::mark_deleting(txn, hash)))?;
        reach(failpoints::DELETE_MARKED)
            .map_err(|error| StoreError::io("deleting packs", self.home.path(), error))?;
        self.finish_deletion(packs)
    }

    /// Lets the files of packs go that are needed and lie elsewhere: a commit that says so ([`PackState::Away`]), then the files.
    /// Whoever pins them, they stay known with their chunks. Files that a crash left are removed by [`Store::recover`]. What is not
    /// present, or what this device, `own`, pins again, is passed over. The caller has made sure that no transfer and no lease
    /// names them, and that others hold them. Gives those that went.
    ///
    /// # Errors
    /// As [`Store::delete_packs`].
    pub fn let_packs_go(&self, own: &PinScope, packs: &[PackHash]) -> Result<Vec<PackHash>, StoreError> {
        let gone = self.write::<_, StoreError>(|txn| {
            let mut gone = Vec::new();
            for hash in packs {
                let is_here = index::pack(txn, hash)?
                    .is_some_and(|pack| matches!(pack.state, PackState::Present { .. }));
                if is_here && !pins::is_pinned(txn, own, hash)? {
                    index::mark_away(txn, hash)?;
                    gone.push(*hash);
                }
            }
            Ok(gone)
        })?;
        reach(failpoints::DELETE_MARKED)
            .map_err(|error| StoreError::io("letting packs go", self.home.path(), error))?;
        self.packs.remove(&gone)?;
        Ok(gone)
    }

    fn finish_deletion(&self, packs: &[PackHash]) -> Result<(), StoreError> {
        if packs.is_empty() {
            return Ok(());
        }
        self.packs.remove(packs)?;
        self.write(|txn| packs.iter().try_for_each(|hash| index::finish_deleting(txn, hash)))
    }

    /// Verifies the checksums of all pages of the database and, if needed, repairs what follows from them. Whether
    /// anything had to be repaired is the result. Reads the whole file.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if it cannot be trusted; [`StoreError::Busy`] while a snapshot lives.
    pub fn check_integrity(&mut self) -> Result<bool, StoreError> {
        let Self { database, health, .. } = self;
        let errors = database.errors().clone();
        let database = database.get_mut()?;
        let sound = health.guard(|| database.check_integrity().map_err(|error| errors.database(error)))?;
        Ok(!sound)
    }

    /// Gives pages that are free back to the file system. Rewrites much of the file.
    ///
    /// # Errors
    /// [`StoreError::Busy`] while a snapshot lives; [`StoreError::Full`], [`StoreError::Io`], [`StoreError::Corrupt`].
    pub fn compact(&mut self) -> Result<(), StoreError> {
        self.health.check()?;
        let Self { database, health, .. } = self;
        let errors = database.errors().clone();
        let database = database.get_mut()?;
        health.guard(|| match database.compact() {
            Ok(_) => Ok(()),
            Err(redb::CompactionError::Storage(error)) => Err(errors.storage(error)),
            Err(_) => Err(StoreError::Busy),
        })
    }

    /// Whether much was written since the opening: then a good part of the file is pages that were replaced. Of a very
    /// large one that would take longer than a closing may.
    fn is_worth_compacting(&self) -> bool {
        let grown = |bytes: u64| bytes >= self.opened_bytes.saturating_mul(5) / 4 + COMPACT_GROWTH_BYTES;
        self.database_bytes().is_ok_and(|bytes| grown(bytes) && bytes <= COMPACT_BYTES_MAX)
    }

    /// Closes the store with a mark that all is well, and returns the home, still locked. A database that has grown by much
    /// since it was opened is compacted first.
    ///
    /// Dropping a store instead is safe; the next start then checks the packs written since.
    ///
    /// # Errors
    /// As [`WriteTxn::commit`].
    pub fn close(mut self) -> Result<Home, StoreError> {
        if self.is_read_only() {
            return Ok(self.home);
        }
        if self.is_worth_compacting() {
            // Where that fails the file stays as large as it is.
            let _ = self.compact();
        }
        self.write::<_, StoreError>(|txn| {
            index::forget_recent(txn)?;
            settings::put_number(txn, Setting::CLEAN, 1);
            Ok(())
        })?;
        let Self { database, home, health, .. } = self;
        let errors = database.errors().clone();
        health.guard(|| database.close().map_err(|error| errors.database(error)))?;
        Ok(home)
    }

    /// Fills with random bytes.
    pub(crate) fn roll(&self, out: &mut [u8]) {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(out);
    }

    /// Whether the next commit also saves what makes reopening after a crash quick.
    pub(crate) fn next_commit_is_quick(&self) -> bool {
        let number = self.commits.fetch_add(1, Ordering::Relaxed) + 1;
        number.is_multiple_of(QUICK_REPAIR_EVERY)
            || fs::metadata(self.home.database()).is_ok_and(|found| found.len() >= QUICK_REPAIR_BYTES)
    }
}

#[cfg(test)]
mod tests;
