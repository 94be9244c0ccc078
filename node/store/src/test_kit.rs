//! What the tests of this crate share: a home in a temporary folder, seeded dice, sample packs.

use std::io::Write;
use std::path::{Path, PathBuf};

use locker_crypto::id::{ChunkTag, PackHash, SpaceTag};
use locker_crypto::secret::VaultKey;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::index::{Loc, NewPack, PackState};
use crate::{Dice, Home, Limits, Store, StoreError};

pub(crate) const SPACE: SpaceTag = SpaceTag([7; 16]);

pub(crate) fn limits() -> Limits {
    Limits { reserve_bytes: 0, low_water_bytes: 0, ..Limits::default() }
}

pub(crate) fn vault() -> VaultKey {
    VaultKey::new([0x55; 32])
}

pub(crate) fn dice(seed: u64) -> Dice {
    Box::new(ChaCha20Rng::seed_from_u64(seed))
}

pub(crate) fn begin(path: &Path) -> Store {
    Store::create(Home::init(path).unwrap(), &vault(), dice(1), limits(), |_| Ok::<_, StoreError>(()))
        .unwrap()
}

pub(crate) fn reopen(path: &Path) -> Result<Store, StoreError> {
    Store::open(Home::open(path)?, &vault(), dice(2), limits())
}

/// A temporary folder with a store in its `home`.
pub(crate) struct Place {
    _folder: tempfile::TempDir,
    pub(crate) home: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::within(tempfile::tempdir().unwrap())
    }

    /// The same in memory, where there is such a folder: for tests that open a home many hundred times.
    pub(crate) fn quick() -> Self {
        Self::within(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap())
    }

    fn within(folder: tempfile::TempDir) -> Self {
        let home = folder.path().join("home");
        Self { _folder: folder, home }
    }
}

pub(crate) fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    ChaCha20Rng::seed_from_u64(seed).fill_bytes(&mut out);
    out
}

pub(crate) fn hash(bytes: &[u8]) -> PackHash {
    PackHash(*blake3::hash(bytes).as_bytes())
}

pub(crate) fn tag(number: u32) -> ChunkTag {
    ChunkTag(blake3::hash(&number.to_le_bytes()).as_bytes()[..16].try_into().unwrap())
}

/// Writes a pack as the engine does: file first, then one commit.
pub(crate) fn put_pack(store: &Store, seed: u64, len: usize) -> Result<PackHash, StoreError> {
    let content = bytes(seed, len);
    let name = hash(&content);
    store.packs().write_all(&[(name, &content)])?;
    let half = u32::try_from(len / 2).unwrap();
    let number = u32::try_from(seed).unwrap() * 2;
    let locs = [Loc { tag: tag(number), sealed_len: half }, Loc { tag: tag(number + 1), sealed_len: half }];
    store.write(|txn| {
        let state = PackState::Present { verified_at: 5 };
        let len = u32::try_from(len).unwrap();
        crate::index::add_pack(txn, &SPACE, &name, &NewPack { len, state, locs: &locs })
    })?;
    Ok(name)
}

/// Fetches a pack as the engine does: a row that wants it, its groups into a partial file, the file, one commit.
#[cfg(feature = "failpoints")]
pub(crate) fn fetch_pack(store: &Store, seed: u64, len: usize) -> Result<PackHash, StoreError> {
    let content = bytes(seed, len);
    let (name, byte_len) = (hash(&content), u32::try_from(len).unwrap());
    let new = NewPack { len: byte_len, state: PackState::Wanted, locs: &[] };
    store.write(|txn| crate::index::add_pack(txn, &SPACE, &name, &new))?;
    let mut partial = store.packs().open_partial(&name, byte_len)?;
    let outboard =
        bao_tree::io::outboard::PreOrderMemOutboard::create(&content, bao_tree::BlockSize::from_chunk_log(4))
            .data;
    for (at, pair) in (0..).step_by(64).zip(outboard.as_chunks::<64>().0) {
        partial.write_node(at, pair)?;
    }
    for (at, group) in (0..).step_by(16_384).zip(content.chunks(16_384)) {
        partial.write_group(at, group)?;
    }
    assert_eq!(store.packs().keep_partials([&mut partial])?, [name]);
    store.write(|txn| crate::index::set_state(txn, &name, PackState::Present { verified_at: 5 }))?;
    Ok(name)
}

/// Says why a test does not run here.
pub(crate) fn skip(why: &str) {
    writeln!(std::io::stderr(), "skipped: {why}").unwrap();
}

/// Runs one test of this binary in a process of its own.
pub(crate) fn child(test: &str, environment: &[(&str, &str)]) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).envs(environment.iter().copied());
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    command
}
