//! A locker under a clock that the test holds.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use locker_crypto::identity::DeviceKeys;
use locker_sync::pairing::{Enrol, Role};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::env::{Clock, Env, system_dice};
use crate::join::Given;
use crate::report::{Collected, Silent};
use crate::{Error, InitOptions, Locker, Vault, VerifyOptions};

pub(super) const DAY_MS: u64 = 86_400_000;
/// Some morning in 2026.
const START_MS: u64 = 20_500 * DAY_MS + 8 * 3_600_000;

/// Bytes that a number names.
pub(super) fn random_bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

#[derive(Clone)]
pub(super) struct Held {
    now_ms: Arc<AtomicU64>,
    start: Instant,
}

impl Clock for Held {
    fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// One device, its clock, and a folder that it takes in as `in`.
pub(super) struct World {
    clock: Held,
    folder: tempfile::TempDir,
    locker: Option<Locker>,
}

impl World {
    pub(super) fn new() -> Self {
        let clock = Held { now_ms: Arc::new(AtomicU64::new(START_MS)), start: Instant::now() };
        let folder = tempfile::tempdir().unwrap();
        let options = InitOptions { name: Some("here".into()), vault: Vault::File };
        let mut world = Self { clock, folder, locker: None };
        Locker::create(&world.home(), options, world.env(), |_| Ok::<_, Error>(())).unwrap();
        std::fs::create_dir(world.source()).unwrap();
        world.open();
        world
    }

    fn env(&self) -> Env {
        Env::new(Box::new(self.clock.clone()), Box::new(system_dice()))
    }

    pub(super) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub(super) fn source(&self) -> PathBuf {
        self.folder.path().join("in")
    }

    /// Opens the locker, after closing it if it is open.
    pub(super) fn open(&mut self) {
        self.locker = None;
        self.locker = Some(self.open_other("home"));
    }

    /// Where the home of another device is.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Opens the home of another device, under the same clock.
    pub(super) fn open_other(&self, name: &str) -> Locker {
        let none = &mut || Err(Error::PassphraseNeeded);
        Locker::open(&self.path(name), self.env(), none).unwrap()
    }

    /// Makes the home of another device, which this one brings in.
    pub(super) fn join(&self, name: &str) {
        let inner = self.locker().inner();
        let keys = DeviceKeys::random(&mut **inner.env().dice());
        let person = inner.keys().person;
        let grant = inner.enrol(&Enrol::new(Role::Full, name, &person, &keys)).unwrap();
        let given = Given::check(person, &keys, &grant).unwrap();
        given.keep(&self.path(name), &keys, &Vault::File, inner.env()).unwrap();
    }

    pub(super) fn locker(&self) -> &Locker {
        self.locker.as_ref().unwrap()
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.source().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Takes the folder in.
    pub(super) fn add(&self) {
        self.add_path(&self.source(), "");
    }

    pub(super) fn add_path(&self, path: &Path, to: &str) {
        let added = self.locker().add(&[path], to, &Silent).unwrap();
        assert!(added.skipped.is_empty(), "{added:?}");
    }

    pub(super) fn gc(&self) -> Collected {
        self.locker().gc(false, &Silent).unwrap()
    }

    pub(super) fn dry(&self) -> Collected {
        self.locker().gc(true, &Silent).unwrap()
    }

    pub(super) fn next_day(&self) {
        self.turn_clock(|now| now + DAY_MS);
    }

    pub(super) fn turn_clock(&self, to: impl Fn(u64) -> u64) {
        self.clock.now_ms.store(to(self.clock.now_ms()), Ordering::SeqCst);
    }

    pub(super) fn read(&self, path: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.locker().read(path, 0, None, &mut bytes).unwrap();
        bytes
    }

    /// Reads what a file once was, by bringing it back.
    pub(super) fn read_version(&self, path: &str, version: u32) -> Vec<u8> {
        self.locker().restore(path, None, Some(version)).unwrap();
        self.read(path)
    }

    #[track_caller]
    pub(super) fn assert_whole(&self) {
        let verified = self.locker().verify(VerifyOptions::default(), &Silent).unwrap();
        assert_eq!(verified.bad, 0, "{verified:?}");
    }

    /// Pack files on the disk, and their bytes.
    pub(super) fn pack_files(&self) -> (usize, u64) {
        let (mut files, mut bytes) = (0, 0);
        for shard in std::fs::read_dir(self.home().join("packs")).unwrap() {
            let shard = shard.unwrap();
            if shard.file_name().len() != 2 {
                continue;
            }
            for pack in std::fs::read_dir(shard.path()).unwrap() {
                files += 1;
                bytes += pack.unwrap().metadata().unwrap().len();
            }
        }
        (files, bytes)
    }
}
