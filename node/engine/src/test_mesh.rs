//! Several devices of one person in one test, whose logs, objects and packs are handed over without a network.

use std::path::{Path, PathBuf};

use locker_crypto::id::VerifyingKey;
use locker_crypto::identity::DeviceKeys;
use locker_sync::pairing::{Enrol, Role};
use locker_sync::session::Fate;

use crate::join::Given;
use crate::node::{Asker, Incoming};
use crate::report::{Added, Silent};
use crate::{
    Env, Error, InitOptions, ListOptions, Locker, NodeOptions, RecoverFrom, RecoverOptions, Secret, Vault,
};

/// Devices of one person, each with a home.
pub(crate) struct World {
    folder: tempfile::TempDir,
    /// The words of the first device.
    pub(crate) phrase: Secret,
}

impl World {
    /// A locker with one device.
    pub(crate) fn new() -> (Self, Locker) {
        let folder = tempfile::tempdir().unwrap();
        let options = InitOptions { name: Some("first".into()), vault: Vault::File };
        let home = folder.path().join("first");
        let created = Locker::create(&home, options, Env::system(), |_| Ok::<_, Error>(())).unwrap();
        let world = Self { folder, phrase: created.phrase };
        let first = world.open("first");
        (world, first)
    }

    /// Where the home of a device, or a file, is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Opens a device that was closed.
    pub(crate) fn open(&self, name: &str) -> Locker {
        let none = &mut || Err::<Secret, _>(Error::PassphraseNeeded);
        Locker::open(&self.path(name), Env::system(), none).unwrap()
    }

    /// Makes a device, brought in by another one.
    pub(crate) fn join(&self, by: &Locker, name: &str) -> Locker {
        let inner = by.inner();
        let keys = DeviceKeys::random(&mut **inner.env().dice());
        let person = inner.keys().person;
        let grant = inner.enrol(&Enrol::new(Role::Full, name, &person, &keys)).unwrap();
        let given = Given::check(person, &keys, &grant).unwrap();
        given.keep(&self.path(name), &keys, &Vault::File, inner.env()).unwrap();
        let joined = self.open(name);
        pass(by, &joined);
        joined
    }

    /// Comes back by words from the home of a device that is closed, the others staying devices.
    pub(crate) fn recover(&self, from: &str, phrase: &Secret, name: &str) -> Locker {
        self.recover_from(RecoverFrom::Folder(self.path(from)), phrase, name)
    }

    /// The same from somewhere else.
    pub(crate) fn recover_from(&self, from: RecoverFrom, phrase: &Secret, name: &str) -> Locker {
        let options = RecoverOptions {
            phrase: Secret::new(phrase.expose().to_owned()),
            name: Some(name.into()),
            vault: Vault::File,
            node: NodeOptions::default(),
            from: vec![from],
            // Packs are not handed over here.
            accept_missing: true,
            names_only: false,
            keep_devices: true,
        };
        let none = &mut || Err::<Secret, _>(Error::PassphraseNeeded);
        Locker::recover(&self.path(name), options, Env::system(), none, &Silent).unwrap();
        self.open(name)
    }

    /// Takes in a file.
    pub(crate) fn add(&self, locker: &Locker, name: &str) {
        self.add_bytes(locker, name, name.repeat(20_000).as_bytes());
    }

    /// Takes in a file of these bytes.
    pub(crate) fn add_bytes(&self, locker: &Locker, name: &str, bytes: &[u8]) -> Added {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        locker.add(&[&path], "", &Silent).unwrap()
    }
}

/// Copies a home that is closed.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    std::fs::DirBuilder::new().mode(0o700).create(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if path.is_dir() {
            copy_folder(&path, &to.join(name));
        } else {
            std::fs::copy(&path, to.join(&name)).unwrap();
            std::fs::set_permissions(to.join(&name), std::fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}

/// Hands over everything that one locker holds, and whatever the other asks for then. Gives what became of the items.
pub(crate) fn pass(from: &Locker, to: &Locker) -> Vec<(VerifyingKey, Fate)> {
    let (source, target) = (from.inner(), to.inner());
    let mut fates = Vec::new();
    for (log, heads) in source.standing().unwrap().heads {
        for head in heads {
            let items = source.load_items(log, &head.author, 0, head.seq, u64::MAX).unwrap();
            let incoming = items
                .into_iter()
                .map(|item| Incoming { ticket: 0, log, bytes: item.bytes, from: Asker::Device })
                .collect();
            let taken = target.take_items(incoming).unwrap();
            fates.extend(taken.fates.into_iter().map(|(_, fate)| (head.author, fate)));
            let mut asks = taken.asks;
            asks.extend(target.missing_objects().unwrap());
            for ask in asks {
                for object in source.look_up(&ask, Asker::Device).unwrap() {
                    target.take_object(&object).unwrap();
                }
            }
        }
    }
    fates
}

/// The paths of everything.
pub(crate) fn names(locker: &Locker) -> Vec<String> {
    let mut names = Vec::new();
    locker
        .list("", ListOptions { recursive: true, ..ListOptions::default() }, &mut |entry| {
            names.push(entry.path);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    names
}

/// The device, hexadecimal.
pub(crate) fn id(locker: &Locker) -> String {
    locker.device_id()
}
