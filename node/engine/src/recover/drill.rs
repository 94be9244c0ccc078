//! `drill`: the recovery rehearsed, with the code of the recovery, in a home that is thrown away and without anything of
//! this device. All is done but one thing: what would make that home a device is handed to nobody.
//!
//! Names are brought back whole. Of the content it is asked who has which pack, and some files, drawn by lot, are fetched
//! and read to their last byte, and of large ones a part.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use locker_catalog::tree::{self as catalog, Standing};
use locker_crypto::file_ref::{ChunkRecord, FileRef};
use locker_crypto::id::{NodeId, PackHash, VerifyingKey};
use locker_store::index::{self, PackState};
use locker_store::{Snapshot, Store};

use super::folder::Folder;
use super::{
    AWAITED_TIME, Heir, LOOK, OTHERS_TIME, STILL_TIME, begin, evidence, open_sources, pour, read_phrase,
};
use crate::limits::{DRILL_FILES, DRILL_PART_BYTES, DRILL_WHOLE_BYTES_MAX, FINDINGS_MAX};
use crate::locker::Inner;
use crate::node::{Hub, Node, NodeOptions};
use crate::reader::Reader;
use crate::report::{Drilled, Observer, Rehearsal, Secret};
use crate::tree::Tree;
use crate::{Env, Error, Locker, RecoverFrom, Vault};

/// Nobody says that he does not have a pack: who has said nothing new for so long has no more.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// How a recovery is rehearsed.
pub struct DrillOptions {
    /// The 24 words.
    pub phrase: Secret,
    /// Who is not to be asked, and where others are ([`Locker::rehearsal`]).
    pub rehearsal: Rehearsal,
    /// Where to look besides.
    pub from: Vec<RecoverFrom>,
    /// How the network is used.
    pub node: NodeOptions,
}

/// A home that is removed in the end.
struct Sandbox(PathBuf);

impl Sandbox {
    /// A folder in which there is nothing, below the home: what was left by a drill that was killed goes. Where the home can only
    /// be read, or that folder is somebody else's, it is one among the temporary files of the system: all in it is sealed with a key that nobody keeps.
    fn new(home: &Path, env: &Env) -> Result<Self, Error> {
        let path = home.join("run").join("drill");
        let emptied = match std::fs::remove_dir_all(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
            _ => std::fs::create_dir_all(&path),
        };
        match emptied {
            Ok(()) => Ok(Self(path)),
            Err(e) if matches!(e.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied) => {
                // A name that nobody could take before.
                let drawn = env.dice().next_u64();
                Ok(Self(std::env::temp_dir().join(format!("locker-drill-{drawn:016x}"))))
            }
            Err(e) => Err(Error::io("cannot empty", path, e)),
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // What is left below the home the next drill removes.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Rehearses the recovery of the locker in `home`.
pub(crate) fn drill(
    home: &Path,
    options: DrillOptions,
    ask: &mut dyn FnMut() -> Result<Secret, Error>,
    observer: &dyn Observer,
) -> Result<Drilled, Error> {
    let start = Instant::now();
    let root = read_phrase(&options.phrase)?;
    let Rehearsal { device_id, root_id, places, folders } = options.rehearsal;
    if root.verifying_key().to_string() != root_id {
        return Err(Error::PhraseRefused("these are not the words of this locker".into()));
    }
    let but = VerifyingKey(hex_key(&device_id)?);
    let known = places.into_iter().map(RecoverFrom::Address);
    let known: Vec<_> =
        known.chain(folders.into_iter().map(RecoverFrom::Folder)).chain(options.from).collect();
    let (places, folders) = open_sources(&root, &known, ask)?;
    let env = Env::system();
    let sandbox = Sandbox::new(home, &env)?;
    // Closed with a key that nobody has when this ends.
    let mut passphrase = [0; 32];
    env.dice().fill_bytes(&mut passphrase);
    let passphrase = Secret::new(passphrase.iter().map(|byte| format!("{byte:02x}")).collect());
    let heir = Arc::new(Heir::new(root, places).rehearsing(but));
    begin(&sandbox.0, &heir, &folders, &Vault::Passphrase(passphrase.clone()), &options.node, &env)?;
    let mut open = || Ok(passphrase.clone());
    let locker = Locker::open_as(&sandbox.0, env, &mut open, Some(Arc::clone(&heir)))?;
    let inner = locker.inner();
    for folder in &folders {
        pour::logs(folder, &inner)?;
    }
    let node = Node::start(&locker, options.node)?;
    let hub = inner.node().ok_or_else(|| Error::Network("the node has stopped".into()))?;
    hear(&inner, &hub, !folders.is_empty())?;
    let mut drilled = Rehearsed { inner: &inner, hub: &hub, folders: &folders, observer }.look()?;
    drilled
        .sources
        .extend(hub.presence().0.iter().map(|vk| name_of(&inner, vk)).collect::<Result<Vec<_>, _>>()?);
    drop(hub);
    // Whoever was asked has gone: this is heard by nobody.
    drop(node);
    drilled.newest_evidence = evidence(&inner)?;
    drilled.awaited = inner.awaited() as u64;
    inner.become_device(heir.root(), "drill", false)?;
    drilled.seconds = start.elapsed().as_secs_f64();
    drilled.sentence = sentence(&drilled);
    Ok(drilled)
}

fn hex_key(text: &str) -> Result<[u8; 32], Error> {
    let byte = |i: usize| u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..32).map(byte).collect();
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| Error::Argument("this is no id of a device".into()))
}

fn name_of(inner: &Inner, device: &VerifyingKey) -> Result<String, Error> {
    let id = device.to_string();
    let known = crate::status::devices(inner)?.into_iter().find(|one| one.id == id);
    Ok(known.map_or(id, |device| device.name))
}

/// Waits until every log is here, and nobody has said for a while that he has more packs.
fn hear(inner: &Inner, hub: &Hub, has_folders: bool) -> Result<(), Error> {
    let (mut seen, mut since, start) = (None, Instant::now(), Instant::now());
    loop {
        let now = hub.gathered();
        let shown = (now.sources, now.is_level, now.awaited, now.wanted, now.without_source);
        if seen != Some(shown) {
            (seen, since) = (Some(shown), Instant::now());
        }
        let has_looked = now.searches > 0 || start.elapsed() >= OTHERS_TIME;
        let has_some = now.sources > 0 || has_folders;
        // What nobody sends for so long is not there.
        let time = if now.awaited == 0 { ANSWER_TIME } else { AWAITED_TIME };
        if has_some && has_looked && now.is_level && inner.has_home()? && since.elapsed() >= time {
            return Ok(());
        }
        if since.elapsed() >= STILL_TIME {
            return Err(Error::Network(
                "nobody who keeps this locker besides this device was reached".into(),
            ));
        }
        hub.runtime().block_on(hub.gathers(LOOK));
    }
}

/// The locker, as others keep it.
struct Rehearsed<'a> {
    inner: &'a Inner,
    hub: &'a Arc<Hub>,
    folders: &'a [Folder],
    observer: &'a dyn Observer,
}

/// A live file, and what of it is read.
struct Live {
    node: NodeId,
    file: FileRef,
    range: Range<u64>,
}

impl Rehearsed<'_> {
    fn look(&self) -> Result<Drilled, Error> {
        let mut drilled = Drilled {
            sources: self.folders.iter().map(|folder| folder.path().display().to_string()).collect(),
            ..Drilled::default()
        };
        let had = self.had()?;
        let (sample, lists) = self.draw(&had)?;
        self.fetch(&lists)?;
        let store = self.inner.store()?;
        let snapshot = store.read()?;
        let walk = Walk::new(self.inner, &store, &snapshot, &had);
        walk.files(&mut drilled)?;
        for Live { node, file, range } in &sample {
            let whole = walk.reader.copy(file, range.clone(), &mut std::io::sink(), "a file", &mut |_| {});
            match whole {
                Ok(()) => {
                    drilled.read += 1;
                    drilled.in_part += u64::from(range.end - range.start < file.size());
                }
                Err(Error::Network(_) | Error::Integrity { .. }) => {
                    if walk.is_covered(file)? {
                        drilled.covered -= 1;
                    }
                    walk.miss(*node, &mut drilled)?;
                }
                Err(error) => return Err(error),
            }
        }
        drilled.missing.sort();
        drilled.missing.dedup();
        Ok(drilled)
    }

    /// The packs that somebody has.
    fn had(&self) -> Result<BTreeSet<PackHash>, Error> {
        let missing = self.hub.without_source();
        let mut had = BTreeSet::new();
        for (hash, _) in self.inner.wanted_packs()? {
            let is_in = |folder: &Folder| folder.holds(&hash);
            let mut is_had = !missing.contains(&hash);
            for folder in self.folders {
                is_had = is_had || is_in(folder)?;
            }
            if is_had {
                had.insert(hash);
            }
        }
        Ok(had)
    }

    /// A number below `end`, or 0.
    fn below(&self, end: u64) -> u64 {
        self.inner.env().dice().next_u64() % end.max(1)
    }

    /// What of a file of this size is read: all, or of a large one a part somewhere.
    fn draw_range(&self, size: u64) -> Range<u64> {
        if size <= DRILL_WHOLE_BYTES_MAX {
            return 0..size;
        }
        let start = self.below(size - DRILL_PART_BYTES + 1);
        start..start + DRILL_PART_BYTES
    }

    /// Draws some files by lot, and tells the packs that they and the lists of large files lie in.
    fn draw(&self, had: &BTreeSet<PackHash>) -> Result<(Vec<Live>, BTreeSet<PackHash>), Error> {
        let store = self.inner.store()?;
        let snapshot = store.read()?;
        let tree = Tree::replayed(&snapshot, self.inner.space_tag());
        let (mut sample, mut seen, mut packs) = (Vec::new(), 0_u64, BTreeSet::new());
        let mut failure = Ok(());
        catalog::walk_versions(tree.rows(), &mut |node, version, standing| {
            if standing != Standing::Live {
                return ControlFlow::Continue(());
            }
            if version.file.level() > 0 {
                failure = packs_of(self.inner, &snapshot, version.file.records(), had, &mut packs);
            }
            seen += 1;
            let file = &version.file;
            let live = || Live { node, file: file.clone(), range: self.draw_range(file.size()) };
            if sample.len() < DRILL_FILES {
                sample.push(live());
            } else {
                let at = usize::try_from(self.below(seen)).unwrap_or(usize::MAX);
                sample.get_mut(at).into_iter().for_each(|place| *place = live());
            }
            if failure.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        failure?;
        // The lists first: only they tell where the parts of a large file are.
        self.fetch(&packs)?;
        let snapshot = store.read()?;
        let reader = Reader::new(self.inner, &store, &snapshot);
        for live in &sample {
            if let Ok(map) = reader.map(&live.file, &live.range) {
                let slices = map.slices(&live.range).into_iter().flatten();
                packs_of(self.inner, &snapshot, slices.map(|slice| slice.record()), had, &mut packs)?;
            }
        }
        Ok((sample, packs))
    }

    /// Fetches packs, those that can be.
    fn fetch(&self, packs: &BTreeSet<PackHash>) -> Result<(), Error> {
        for folder in self.folders {
            pour::packs(folder, self.inner, &|hash| packs.contains(hash), self.observer)?;
        }
        let wanted = self.inner.wanted_packs()?;
        let (needed, others): (Vec<_>, Vec<_>) =
            wanted.into_iter().partition(|(hash, _)| packs.contains(hash));
        let others: Vec<PackHash> = others.into_iter().map(|(hash, _)| hash).collect();
        self.hub.fetch_only(&others);
        self.hub.want(&needed);
        let (mut left, mut since) = (usize::MAX, Instant::now());
        while !needed.is_empty() {
            let now = self.inner.wanted_packs()?.iter().filter(|(hash, _)| packs.contains(hash)).count();
            if now == 0 || since.elapsed() >= STILL_TIME {
                break;
            }
            if now != left {
                (left, since) = (now, Instant::now());
            }
            self.hub.runtime().block_on(self.hub.gathers(LOOK));
        }
        Ok(())
    }
}

/// Adds the packs in which chunks lie, of several the first that somebody has.
fn packs_of<'a>(
    inner: &Inner,
    snapshot: &Snapshot,
    records: impl IntoIterator<Item = &'a ChunkRecord>,
    had: &BTreeSet<PackHash>,
    packs: &mut BTreeSet<PackHash>,
) -> Result<(), Error> {
    for record in records {
        let places = index::places(snapshot, &inner.space_tag(), &record.tag())?;
        packs.extend(places.iter().map(|place| place.pack).find(|pack| had.contains(pack)));
    }
    Ok(())
}

/// A walk over all live files.
struct Walk<'a> {
    inner: &'a Inner,
    snapshot: &'a Snapshot,
    tree: Tree<'a>,
    reader: Reader<'a>,
    had: &'a BTreeSet<PackHash>,
}

impl<'a> Walk<'a> {
    fn new(inner: &'a Inner, store: &'a Store, snapshot: &'a Snapshot, had: &'a BTreeSet<PackHash>) -> Self {
        let tree = Tree::replayed(snapshot, inner.space_tag());
        Self { inner, snapshot, tree, reader: Reader::new(inner, store, snapshot), had }
    }

    /// Counts the live files, and those of which every part is with somebody.
    fn files(&self, drilled: &mut Drilled) -> Result<(), Error> {
        let mut failure = None;
        catalog::walk_versions(self.tree.rows(), &mut |node, version, standing| {
            if standing == Standing::Live {
                drilled.files += 1;
                drilled.bytes += version.file.size();
                match self.is_covered(&version.file) {
                    Ok(true) => drilled.covered += 1,
                    Ok(false) => failure = self.miss(node, drilled).err(),
                    Err(error) => failure = Some(error),
                }
            }
            if failure.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        failure.map_or(Ok(()), Err)
    }

    fn is_covered(&self, file: &FileRef) -> Result<bool, Error> {
        if !self.are_covered(file.records())? {
            return Ok(false);
        }
        match self.reader.map(file, &(0..file.size())) {
            Ok(map) => self.are_covered(map.records()),
            // The list of its parts did not come.
            Err(Error::Network(_) | Error::Integrity { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn are_covered(&self, records: &[ChunkRecord]) -> Result<bool, Error> {
        for record in records {
            let mut is_covered = false;
            for place in index::places(self.snapshot, &self.inner.space_tag(), &record.tag())? {
                let pack = index::pack(self.snapshot, &place.pack)?;
                let is_here = pack.is_some_and(|pack| matches!(pack.state, PackState::Present { .. }));
                is_covered |= is_here || self.had.contains(&place.pack);
            }
            if !is_covered {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Names a file that is not covered.
    fn miss(&self, node: NodeId, drilled: &mut Drilled) -> Result<(), Error> {
        if drilled.missing.len() < FINDINGS_MAX {
            let path = self.tree.path(node)?;
            drilled.missing.push(path.unwrap_or_else(|| "a file in the trash".into()));
        }
        Ok(())
    }
}

fn sentence(drilled: &Drilled) -> String {
    let Drilled { files, covered, read, awaited, sources, .. } = drilled;
    let parts = match drilled.in_part {
        0 => " to the last byte".into(),
        parts if parts == *read => ", a part of each".into(),
        parts => format!(" to the last byte, or of {parts} large ones a part"),
    };
    let from = match sources.len() {
        1 => format!("from {}", sources[0]),
        n => format!("from {n} others"),
    };
    if *awaited > 0 {
        format!(
            "Not everything would come back without this device: changes {from} rest on {awaited} others that are not there, \
             and {} of {files} files come back without them.",
            files.saturating_sub(drilled.missing.len() as u64)
        )
    } else if *files == 0 {
        format!("The words open the locker {from}; there is no file in it.")
    } else if drilled.missing.is_empty() {
        format!(
            "With the words alone and without this device, all {files} files come back {from}; {read} of them, drawn by \
             lot, were read{parts}."
        )
    } else {
        format!(
            "Not everything would come back without this device: of {files} files {} are not whole {from}.",
            files - covered.min(files)
        )
    }
}
