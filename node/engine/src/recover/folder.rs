//! A folder that keeps something of a person: a drive, the copy of a replica's home, or the home of a device. It is asked
//! like somebody who is met, without a network.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use locker_catalog::roster::Roster;
use locker_crypto::id::{PackHash, PersonId, VerifyingKey};
use locker_store::index::{self, PackState};
use locker_store::{Home, Limits, Store};
use locker_sync::frontier::Log;
use locker_sync::message::v1::{Ask, Head};
use locker_sync::session::Item;

use crate::depot::Depot;
use crate::keys::{LogAndObjects, named_objects, person_log};
use crate::locker::Inner;
use crate::node::Asker;
use crate::report::Secret;
use crate::{Env, Error, Locker, vault};

/// About how many bytes of items are read in one go.
const ITEMS_BYTES: u64 = 1 << 20;

/// An open folder. Others are kept out of it meanwhile.
pub(crate) struct Folder {
    path: PathBuf,
    kind: Kind,
}

enum Kind {
    /// Of somebody who stores what he cannot read.
    Depot(Box<Store>, Box<Depot>),
    /// Of a device of the person.
    Device(Arc<Inner>),
}

impl Folder {
    /// Opens a folder; `ask` is called for a passphrase if it is the home of a device that is closed with one.
    ///
    /// # Errors
    /// [`Error::NoLocker`] if nothing of the kind is there; [`Error::Busy`] if a process has it open; as
    /// [`Locker::open`].
    pub(crate) fn open(path: &Path, ask: &mut dyn FnMut() -> Result<Secret, Error>) -> Result<Self, Error> {
        if !path.is_dir() {
            return Err(Error::NoLocker(path.to_path_buf()));
        }
        let home = Home::open(path)?;
        let key = vault::open(&home, ask)?;
        let mut store = Store::open(home, &key, Box::new(crate::env::system_dice()), Limits::default())?;
        store.recover()?;
        let depot = Depot::load(&store.read()?)?;
        let kind = match depot {
            Some(depot) => Kind::Depot(Box::new(store), Box::new(depot)),
            None => {
                store.close()?;
                // A passphrase is not asked for twice: the key is at hand.
                Kind::Device(Locker::open_home(Home::open(path)?, Env::system(), &key, None)?.inner())
            }
        };
        Ok(Self { path: path.to_path_buf(), kind })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whose it is.
    pub(crate) fn person(&self) -> PersonId {
        match &self.kind {
            Kind::Depot(_, depot) => depot.charge().person,
            Kind::Device(inner) => inner.keys().person,
        }
    }

    /// The root key that counts, by the person log that is here.
    pub(super) fn root_key(&self) -> Result<VerifyingKey, Error> {
        let person = self.person();
        Ok(Roster::read(person, &self.with_store(|store| person_log(&store.read()?, &person))?).root)
    }

    /// The entries of the person log, and the objects that they name.
    pub(super) fn person_log(&self) -> Result<LogAndObjects, Error> {
        let person = self.person();
        let entries = self.with_store(|store| person_log(&store.read()?, &person))?;
        let mut objects = Vec::new();
        for hash in entries.iter().flat_map(named_objects) {
            objects.extend(self.objects(&Ask::Object(hash))?);
        }
        Ok((entries.iter().map(|entry| entry.to_bytes(&person)).collect(), objects))
    }

    /// The newest item of every author in every log, person log first.
    pub(super) fn heads(&self) -> Result<Vec<(Log, Vec<Head>)>, Error> {
        match &self.kind {
            Kind::Depot(store, depot) => depot.heads(&store.read()?),
            Kind::Device(inner) => Ok(inner.standing()?.heads),
        }
    }

    /// Items of one author, some at a time.
    pub(super) fn items(
        &self,
        log: Log,
        author: &VerifyingKey,
        from: u64,
        to: u64,
    ) -> Result<Vec<Item>, Error> {
        match &self.kind {
            Kind::Depot(store, depot) => depot.items(&store.read()?, log, author, from, to, ITEMS_BYTES),
            Kind::Device(inner) => inner.load_items(log, author, from, to, ITEMS_BYTES),
        }
    }

    /// What lies beside the logs.
    pub(super) fn objects(&self, ask: &Ask) -> Result<Vec<Vec<u8>>, Error> {
        match &self.kind {
            Kind::Depot(store, depot) => depot.object(&store.read()?, ask),
            Kind::Device(inner) => inner.look_up(ask, Asker::Heir),
        }
    }

    /// The bytes of a pack, checked; `None` if it is not here whole.
    pub(super) fn pack(&self, hash: &PackHash, len: u32) -> Result<Option<Vec<u8>>, Error> {
        self.with_store(|store| {
            let held = index::pack(&store.read()?, hash)?
                .is_some_and(|pack| pack.len == len && matches!(pack.state, PackState::Present { .. }));
            if !held {
                return Ok(None);
            }
            let bytes = store.packs().open(hash, len).and_then(|pack| pack.read_whole());
            // Damaged here, it may be whole elsewhere.
            Ok(bytes.ok().filter(|bytes| blake3::hash(bytes).as_bytes() == hash.as_bytes()))
        })
    }

    /// Whether a pack is here: its row says so, and there is a file of its length.
    pub(super) fn holds(&self, hash: &PackHash) -> Result<bool, Error> {
        self.with_store(|store| {
            let pack = index::pack(&store.read()?, hash)?;
            let present = pack.filter(|pack| matches!(pack.state, PackState::Present { .. }));
            Ok(present.is_some_and(|pack| store.packs().open(hash, pack.len).is_ok()))
        })
    }

    fn with_store<T>(&self, look: impl FnOnce(&Store) -> Result<T, Error>) -> Result<T, Error> {
        match &self.kind {
            Kind::Depot(store, _) => look(store),
            Kind::Device(inner) => look(&*inner.store()?),
        }
    }
}
