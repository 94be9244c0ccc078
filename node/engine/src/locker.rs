//! The facade: everything a user can do, each method one line into a room.

use std::io::Write;
use std::ops::{ControlFlow, Deref};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError,
};
use std::time::Duration;

use locker_catalog::space::Space;
use locker_crypto::id::SpaceTag;
use locker_crypto::secret::VaultKey;
use locker_store::{Home, Limits, Snapshot, Store};
use tokio::sync::watch;

use crate::care::Suspects;
use crate::config::Config;
use crate::copies::{Freeing, Ruled};
use crate::depot::Depot;
use crate::gc::{Manners, Turns};
use crate::join::JoinOptions;
use crate::keys::Keys;
use crate::listing::ListOptions;
use crate::needs::Noted;
use crate::node::{Hub, NodeOptions, Unopened};
use crate::pin_heads::PinHeads;
use crate::recover::Heir;
use crate::report::{
    Added, Collected, Created, Device, Entry, Event, Got, Guide, Joined, Observer, Removed, Restored, Secret,
    Shared, SharedLink, StateHash, Status, Verified,
};
use crate::share::ShareOptions;
use crate::vault::{self, Vault};
use crate::{Env, Error};

#[cfg(test)]
mod forgotten;
mod mesh;
mod survival;

/// What a new locker is to be.
pub struct InitOptions {
    /// Name of this device; the host's name if absent.
    pub name: Option<String>,
    /// How its keys are closed.
    pub vault: Vault,
}

/// What `verify` is to do.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// Whether what is damaged is healed: how other devices are reached for it, if no node runs.
    pub repair: Option<NodeOptions>,
    /// Whether a run that was stopped is begun anew instead of going on with it.
    pub anew: bool,
}

/// Pause between two tries to have the store alone.
const EXCLUSIVE_PAUSE: Duration = Duration::from_millis(5);

/// Pause between two tries to open a store again that failed.
const TRY_AGAIN_MS: u64 = 200;
/// How often it is looked whether nobody uses such a store.
const TRY_AGAIN_LOOKS: usize = 20;

/// An open locker. Cloned handles share it; the last one dropped closes it and lets the next process in.
///
/// Every method may be called from any thread. Writes are made one after another; reads see the last commit.
#[derive(Clone)]
pub struct Locker(Arc<Inner>);

/// The turn to import: nothing else is imported while it is held.
pub(crate) type ImportTurn<'a> = parking_lot::MutexGuard<'a, ()>;

/// What the rooms share.
pub(crate) struct Inner {
    store: RwLock<Option<Store>>,
    /// Counts looks into the store, whoever caused them.
    looks: AtomicU64,
    /// When a store that failed was last tried again, in milliseconds of the running time.
    tried_again: AtomicU64,
    keys: RwLock<Arc<Keys>>,
    env: Env,
    umask: u32,
    /// The home space between two transactions; `None` when it must be opened again from its rows.
    space: Mutex<Option<Space>>,
    /// Held by the import that runs. Of a kind that goes to whoever waits for it: passes of `gc` one after the other would
    /// else keep an import from its turn.
    importing: parking_lot::Mutex<()>,
    /// Held by who brings a drive up to date.
    driving: Mutex<()>,
    /// Who relies on content, and who lets it go.
    turns: Turns,
    /// Packs that are being let go.
    freeing: Freeing,
    pin_heads: PinHeads,
    noted: Noted,
    /// What this device is to keep.
    ruled: Ruled,
    /// Counts commits, for the node.
    committed: watch::Sender<u64>,
    /// The node that runs on this locker.
    node: Mutex<Option<Arc<Hub>>>,
    /// Packs in which a read met damage.
    suspects: Suspects,
    /// What is kept here for somebody, on a device that cannot read it.
    depot: Option<Depot>,
    /// Entries whose epoch is not known yet.
    unopened: Mutex<Unopened>,
    /// The phrase, while this home recovers by it.
    heir: Option<Arc<Heir>>,
}

impl Locker {
    /// What the rooms share.
    pub(crate) fn inner(&self) -> Arc<Inner> {
        Arc::clone(&self.0)
    }

    /// What the rooms share, for what only a device does that can read.
    pub(crate) fn reading(&self) -> Result<&Arc<Inner>, Error> {
        match &self.0.depot {
            None => Ok(&self.0),
            Some(depot) => Err(Error::blind(&depot.charge().person)),
        }
    }

    /// Makes a new locker in `home` and opens nothing: person, device, home space. Needs no network.
    ///
    /// `tell` shows the words to their owner; all else is durable by then. A home whose making was interrupted, or whose
    /// words could not be told, is begun again: nobody could use it for long.
    ///
    /// # Errors
    /// [`Error::LockerExists`], [`Error::HomeNotEmpty`], [`Error::Name`] for the device's name, [`Error::Full`],
    /// [`Error::Io`]; those of `tell`.
    pub fn create<E: From<Error>>(
        home: &Path,
        options: InitOptions,
        env: Env,
        tell: impl FnOnce(&Created) -> Result<(), E>,
    ) -> Result<Created, E> {
        crate::create::create(home, options, env, tell)
    }

    /// Looks whether a locker can be made in `home`, so that nobody types a passphrase in vain.
    ///
    /// # Errors
    /// [`Error::LockerExists`], [`Error::HomeNotEmpty`].
    pub fn check_new_home(home: &Path) -> Result<(), Error> {
        crate::create::check_new_home(home)
    }

    /// Joins a locker: this device becomes one of whoever made the ticket. Opens nothing; the content comes when the
    /// node runs.
    ///
    /// # Errors
    /// As [`Locker::create`]; [`Error::Argument`] for what is no ticket; [`Error::Network`] if nobody was found under
    /// it; [`Error::Pairing`] if it was broken off or the digits differ. Nothing was changed then.
    pub fn join(home: &Path, options: JoinOptions, guide: &dyn Guide, env: &Env) -> Result<Joined, Error> {
        crate::join::join(home, options, guide, env)
    }

    /// Opens the locker in `home`; `ask` is called for a passphrase if one is needed.
    ///
    /// # Errors
    /// [`Error::NoLocker`]; [`Error::Busy`] if another process has it open; [`Error::PassphraseWrong`] and what `ask`
    /// gives; [`Error::NewerFormat`]; [`Error::Config`]; [`Error::Integrity`].
    pub fn open(
        home: &Path,
        env: Env,
        ask: &mut dyn FnMut() -> Result<Secret, Error>,
    ) -> Result<Self, Error> {
        Self::open_as(home, env, ask, None)
    }

    /// Opens a locker that is whole, or, with the phrase, one that is being recovered.
    pub(crate) fn open_as(
        home: &Path,
        env: Env,
        ask: &mut dyn FnMut() -> Result<Secret, Error>,
        heir: Option<Arc<Heir>>,
    ) -> Result<Self, Error> {
        if !home.is_dir() {
            return Err(Error::NoLocker(home.to_path_buf()));
        }
        let opened = Home::open(home)?;
        let key = vault::open(&opened, ask)?;
        Self::open_home(opened, env, &key, heir)
    }

    /// Opens the locker of a home whose vault key is at hand.
    pub(crate) fn open_home(
        opened: Home,
        env: Env,
        key: &VaultKey,
        heir: Option<Arc<Heir>>,
    ) -> Result<Self, Error> {
        let home = &opened.path().to_path_buf();
        let config = Config::read(home)?;
        let mut store = Store::open(opened, key, Box::new(crate::env::system_dice()), Limits::default())?;
        store.recover()?;
        let (keys, depot, ruled) = {
            let snapshot = store.read()?;
            let keys = Keys::load(&snapshot)?.ok_or_else(|| Error::NoLocker(home.to_path_buf()))?;
            (keys, Depot::load(&snapshot)?, Ruled::load(&snapshot)?)
        };
        match &heir {
            Some(heir) => heir.take_up(&store.read()?, home)?,
            None if crate::recover::is_unfinished(&store.read()?)? => return Err(Error::Unrecovered),
            None => {}
        }
        // Where nothing may be written no day is counted, and it is read all the same.
        if !store.is_read_only() {
            crate::gc::note_today(&store, &env)?;
        }
        start_workers(config.threads);
        let umask = crate::place::current_umask();
        Ok(Self(Arc::new(Inner {
            store: RwLock::new(Some(store)),
            looks: AtomicU64::new(0),
            tried_again: AtomicU64::new(0),
            keys: RwLock::new(Arc::new(keys)),
            env,
            umask,
            space: Mutex::new(None),
            importing: parking_lot::Mutex::new(()),
            driving: Mutex::new(()),
            turns: Turns::default(),
            freeing: Freeing::default(),
            pin_heads: PinHeads::default(),
            noted: Noted::default(),
            ruled,
            committed: watch::channel(0).0,
            node: Mutex::new(None),
            suspects: Suspects::default(),
            depot,
            unopened: Mutex::new(Unopened::default()),
            heir,
        })))
    }

    /// How often the store was looked into since the locker was opened, by whomever. A running node looks once in half
    /// a minute by itself, and when a pack is due to be looked at; what a stranger asks must not add to it.
    pub fn store_looks(&self) -> u64 {
        self.0.looks()
    }

    /// The devices of the person.
    ///
    /// # Errors
    /// What reading gives.
    pub fn devices(&self) -> Result<Vec<Device>, Error> {
        crate::status::devices(&self.0)
    }

    /// The public key of this device, hexadecimal.
    pub fn device_id(&self) -> String {
        self.0.keys().device_id().to_string()
    }

    /// The folder in which this locker lives.
    ///
    /// # Errors
    /// If the locker is closed.
    pub fn home(&self) -> Result<PathBuf, Error> {
        Ok(self.0.store()?.home().path().to_path_buf())
    }

    /// Makes a link that gives a file or folder, as it stands now, to whoever has its text.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Limit`] for more than 65,536 files and folders; [`Error::Argument`] for a life or
    /// label that a link cannot have.
    pub fn share(&self, path: &str, options: &ShareOptions) -> Result<SharedLink, Error> {
        crate::share::share(self.reading()?, path, options)
    }

    /// Every link that any device of the person made, newest first.
    ///
    /// # Errors
    /// What reading gives.
    pub fn shares(&self) -> Result<Vec<Shared>, Error> {
        crate::share::list(self.reading()?)
    }

    /// Ends a link, named by its id or the beginning of it. Devices that hear of it refuse its holder from then on.
    ///
    /// # Errors
    /// [`Error::NoSuch`]; [`Error::Argument`] for what is no id, or names several.
    pub fn revoke_share(&self, id: &str) -> Result<Shared, Error> {
        crate::share::revoke(self.reading()?, id)
    }

    /// Takes files and folders in, below the folder `to`, which is made if it is missing. The originals stay as they
    /// are. Stopped at any moment, the same call goes on where it was: what was told as saved stays.
    ///
    /// # Errors
    /// [`Error::Io`] if one of `paths` cannot be looked at; [`Error::NotFolder`]; [`Error::Full`]; [`Error::Limit`].
    /// Files that cannot be read are not errors but [`Added::skipped`].
    pub fn add(&self, paths: &[&Path], to: &str, observer: &dyn Observer) -> Result<Added, Error> {
        crate::import::add(self.reading()?, paths, to, observer)
    }

    /// Lists a folder in the order of names, with all below it if told to; or one file.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn list(
        &self,
        dir: &str,
        options: ListOptions,
        visit: &mut dyn FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        crate::listing::list(self.reading()?, dir, options, visit)
    }

    /// Lists everything whose name has all words of `query`, or matches its pattern.
    ///
    /// # Errors
    /// [`Error::Argument`] for an empty query.
    pub fn find(&self, query: &str, visit: &mut dyn FnMut(Entry) -> ControlFlow<()>) -> Result<(), Error> {
        crate::listing::find(self.reading()?, query, visit)
    }

    /// Writes bytes of a file to `out`; only what is asked for is read, and each byte is checked before it is written.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::IsFolder`], [`Error::Integrity`], [`Error::Io`] if `out` fails.
    pub fn read(
        &self,
        path: &str,
        offset: u64,
        length: Option<u64>,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        crate::export::read(self.reading()?, path, offset, length, out)
    }

    /// Writes a plain copy of a file or folder to `to`, which appears whole or not at all.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Exists`], [`Error::Integrity`], [`Error::Full`], [`Error::Io`].
    pub fn get(&self, path: &str, to: &Path, observer: &dyn Observer) -> Result<Got, Error> {
        crate::export::get(self.reading()?, path, to, observer)
    }

    /// Writes everything to the folder `to`, which must be missing or empty, as plain files with records beside them:
    /// hashes that `b3sum --check` reads, and a line of JSON for each file and folder (`docs/spec/13-export.md`).
    ///
    /// # Errors
    /// As [`Locker::get`].
    pub fn leave(&self, to: &Path, observer: &dyn Observer) -> Result<Got, Error> {
        crate::export::leave(self.reading()?, to, observer)
    }

    /// Makes a folder; with `parents`, missing ones above it too, and an existing one is fine.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::NotFound`], [`Error::NotFolder`], [`Error::Name`], [`Error::Limit`].
    pub fn make_folder(&self, path: &str, parents: bool) -> Result<(), Error> {
        crate::organise::make_folder(self.reading()?, path, parents)
    }

    /// Moves or renames a file or folder: into `to` if that is a folder, else to that name.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Exists`], [`Error::IsRoot`], [`Error::IntoItself`], [`Error::Name`],
    /// [`Error::Limit`].
    pub fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        crate::organise::rename(self.reading()?, from, to)
    }

    /// Moves a file or folder to the trash.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::IsRoot`].
    pub fn remove(&self, path: &str) -> Result<Removed, Error> {
        crate::organise::remove(self.reading()?, path)
    }

    /// Brings `path` back from the trash; or sets it, and all below it, back to the state at a time; or gives a file
    /// the content of a numbered version.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Exists`] if its old name is taken, [`Error::Argument`] for a version that there
    /// is not.
    pub fn restore(&self, path: &str, at: Option<u64>, version: Option<u32>) -> Result<Restored, Error> {
        crate::restore::restore(self.reading()?, path, at, version)
    }

    /// Tells what happened to a file or folder, oldest first. Things in the trash are found too.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn history(&self, path: &str) -> Result<Vec<Event>, Error> {
        crate::history::history(self.reading()?, path)
    }

    /// Tells how the locker is.
    ///
    /// # Errors
    /// What reading gives.
    pub fn status(&self, hash: StateHash) -> Result<Status, Error> {
        crate::status::status(&self.0, hash)
    }

    /// Checks every stored byte and every reference, and heals what is damaged if it is told to. Stopped by the observer
    /// it says what it found so far, and the next call goes on there.
    ///
    /// # Errors
    /// What reading gives; damage that is found is not an error but a finding, and so is that nobody has what is missing.
    pub fn verify(&self, options: VerifyOptions, observer: &dyn Observer) -> Result<Verified, Error> {
        let VerifyOptions { repair, anew } = options;
        let fetch = repair.map(|options| -> Box<crate::verify::Fetch<'_>> {
            Box::new(move |lost| self.on_node(options, |hub| crate::node::fetch_lost(hub, lost, observer)))
        });
        crate::verify::verify(&self.0, anew, fetch, observer)
    }

    /// Gives the room back of what nothing needs any more and has been kept for its time; with `dry_run`, only tells what
    /// would be done, and why. Waits for imports and copies that run.
    ///
    /// # Errors
    /// What reading and committing give. An error ends the pass; the next one goes on from there.
    pub fn gc(&self, dry_run: bool, observer: &dyn Observer) -> Result<Collected, Error> {
        crate::gc::gc(&self.0, dry_run, Manners::Waits, observer)
    }
}

/// The store, held open for one operation.
pub(crate) struct OpenStore<'a>(RwLockReadGuard<'a, Option<Store>>);

impl Deref for OpenStore<'_> {
    type Target = Store;

    fn deref(&self) -> &Store {
        self.0.as_ref().expect("the store is taken out only when the locker is dropped")
    }
}

impl Inner {
    /// The store, for reading and committing.
    pub(crate) fn store(&self) -> Result<OpenStore<'_>, Error> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let open = || OpenStore(self.store.read().unwrap_or_else(PoisonError::into_inner));
        let store = open();
        if !store.is_poisoned() && !store.is_read_only() {
            return Ok(store);
        }
        drop(store);
        self.try_again();
        Ok(open())
    }

    /// Opens a store again on which a write failed, or which could not be written: the disk may be in order by now. Until
    /// it is, the store stays as it is, which each write is told.
    fn try_again(&self) {
        let now = u64::try_from(self.env.elapsed().as_millis()).unwrap_or(u64::MAX);
        let last = self.tried_again.load(Ordering::Relaxed);
        if now.saturating_sub(last) < TRY_AGAIN_MS && last > 0 {
            return;
        }
        for _ in 0..TRY_AGAIN_LOOKS {
            // An operation that holds the store keeps it: it may be the one that asks.
            let Ok(mut store) = self.store.try_write() else {
                std::thread::park_timeout(EXCLUSIVE_PAUSE);
                continue;
            };
            if let Some(store) = store.as_mut().filter(|s| s.is_poisoned() || s.is_read_only()) {
                self.tried_again.store(now.max(1), Ordering::Relaxed);
                // Its reason is the one that was told before, or is told to the next write.
                let _ = store.reopen();
            }
            return;
        }
    }

    /// The store alone: waits until no operation uses it, but not longer than `limit`. Operations that begin meanwhile
    /// are not held up: one that runs may need the store a second time, and would wait for who waits for it.
    pub(crate) fn exclusive_store(&self, limit: Duration) -> Option<RwLockWriteGuard<'_, Option<Store>>> {
        let start = self.env.elapsed();
        loop {
            match self.store.try_write() {
                Ok(guard) => return Some(guard),
                Err(TryLockError::Poisoned(error)) => return Some(error.into_inner()),
                Err(TryLockError::WouldBlock) if self.env.elapsed().saturating_sub(start) >= limit => {
                    return None;
                }
                Err(TryLockError::WouldBlock) => std::thread::park_timeout(EXCLUSIVE_PAUSE),
            }
        }
    }

    /// Who relies on content, and who lets it go.
    pub(crate) fn turns(&self) -> &Turns {
        &self.turns
    }

    /// Packs that are being let go.
    pub(crate) fn freeing(&self) -> &Freeing {
        &self.freeing
    }

    /// The last commit: its count, and what it left.
    pub(crate) fn committed_state(&self, store: &Store) -> Result<(u64, Snapshot), Error> {
        // Who commits to the space holds it until his commit is counted.
        let _space = self.space();
        Ok((*self.committed.borrow(), store.read()?))
    }

    /// The packs that are to be looked at because a read met damage in them.
    pub(crate) fn suspects(&self) -> &Suspects {
        &self.suspects
    }

    /// The keys of this device, as they are now: a device that was restored or copied takes others.
    pub(crate) fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The device has other keys. To be called by who holds the transaction that wrote them, and the space.
    pub(crate) fn set_keys(&self, keys: Keys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// The home space, for whoever has begun a transaction: taken out, and put back once it is committed.
    pub(crate) fn space(&self) -> MutexGuard<'_, Option<Space>> {
        self.space.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often the store was looked into, by whomever.
    pub(crate) fn looks(&self) -> u64 {
        self.looks.load(Ordering::Relaxed)
    }

    /// The turn to import; waits for the import that runs.
    pub(crate) fn import_turn(&self) -> ImportTurn<'_> {
        self.importing.lock()
    }

    /// The turn to import, if no import runs.
    pub(crate) fn try_import_turn(&self) -> Option<ImportTurn<'_>> {
        self.importing.try_lock()
    }

    /// The turn to import, if it can be had within `wait`.
    pub(crate) fn import_turn_within(&self, wait: Duration) -> Option<ImportTurn<'_>> {
        self.importing.try_lock_for(wait)
    }

    /// Something was committed. To be called while the space is held, so that the count belongs to the state.
    pub(crate) fn note_commit(&self) {
        self.committed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// What is kept here for somebody, if this device cannot read it.
    pub(crate) fn depot(&self) -> Option<&Depot> {
        self.depot.as_ref()
    }

    /// Clock and dice.
    pub(crate) fn env(&self) -> &Env {
        &self.env
    }

    /// The short name of the home space.
    pub(crate) fn space_tag(&self) -> SpaceTag {
        self.keys().tag
    }

    /// The umask under which files are written out.
    pub(crate) fn umask(&self) -> u32 {
        self.umask
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let store = self.store.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // A store that cannot be closed cleanly is looked over at the next start.
        if let Some(store) = store.filter(|s| !s.is_poisoned()) {
            let _ = store.close();
        }
        crate::residue::wipe_stack();
    }
}

/// Starts the worker threads of this process, once.
fn start_workers(threads: usize) {
    let _ = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("work-{i}"))
        .build_global();
}
