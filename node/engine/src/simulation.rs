//! Whole nodes on a runtime, a network and a clock that a program holds (`tests/simulation`): what only such a program
//! needs. Everything else is as ever, on one thread.
//!
//! A method of [`Locker`] that waits for other devices keeps all nodes of the runtime going meanwhile. So it must be
//! called from outside of the runtime.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use locker_catalog::roster::Roster;
use locker_crypto::id::{ChunkTag, NodeId, PackHash, VerifyingKey};
use locker_net::Wire;
use locker_store::index::{self, PackState};
use locker_store::pins::{self, PinScope};
use rand_core::Rng;
use tokio::runtime::Runtime;

use crate::history::versions;
use crate::join::JoinAs;
use crate::kept::{Keeper, Kept};
use crate::keys::person_log;
use crate::locker::Inner;
use crate::reader::Reader;
use crate::report::{Guide, Joined, Paired};
use crate::tree::{Kinded, Tree, Version};
use crate::{Env, Error, JoinOptions, Locker};

/// How much of the trash is looked at in one go.
const TRASH_PAGE: usize = 100;
/// Longest time that something takes that blocks.
const MOMENT_MAX_US: u32 = 4_000;

/// Where the node of a simulation runs.
#[derive(Clone)]
pub struct Simulated {
    /// The thread for everything.
    pub runtime: Arc<Runtime>,
    /// The network as this node sees it.
    pub wire: Arc<dyn Wire>,
}

impl fmt::Debug for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Simulated")
    }
}

/// [`Locker::pair`] on the node that runs, to be awaited beside the other end.
///
/// # Errors
/// As there; [`Error::Network`] if no node runs.
pub async fn pair(locker: &Locker, wanted: JoinAs, guide: &dyn Guide) -> Result<Paired, Error> {
    let hub = locker.reading()?.node().ok_or_else(|| Error::Network("no node runs".into()))?;
    crate::node::invite(&hub, wanted, guide).await
}

/// [`Locker::join`], to be awaited beside the other end.
///
/// # Errors
/// As there.
pub async fn join(home: &Path, options: JoinOptions, guide: &dyn Guide, env: &Env) -> Result<Joined, Error> {
    crate::join::join_by(home, options, guide, env).await
}

/// A content that some file has or had.
#[derive(Clone, Debug)]
pub struct Content {
    /// BLAKE3 of it.
    pub b3: [u8; 32],
    /// Where the file is; `None` in the trash.
    pub path: Option<String>,
    /// Whether it is not kept any more.
    pub is_gone: bool,
}

/// Every content that any file has or had, those in the trash included, as this device knows it.
///
/// # Errors
/// What reading gives.
pub fn contents(locker: &Locker) -> Result<Vec<Content>, Error> {
    let inner = locker.reading()?;
    let store = inner.store()?;
    let snapshot = store.read()?;
    let (tree, keeper) =
        (Tree::replayed(&snapshot, inner.space_tag()), Keeper::new(inner, &store, &snapshot));
    let (mut open, mut found, mut before) = (vec![NodeId::ROOT], Vec::new(), None);
    loop {
        let page = locker_catalog::tree::trash_list(tree.rows(), before.as_ref(), TRASH_PAGE)?;
        let Some(last) = page.last() else { break };
        before = Some(last.by);
        open.extend(page.iter().map(|trashed| trashed.node.id));
    }
    while let Some(node) = open.pop() {
        if node == NodeId::ROOT || tree.node(node)?.is_folder() {
            tree.children(node, &mut |child| {
                open.push(child.id);
                ControlFlow::Continue(())
            })?;
            continue;
        }
        let path = tree.path(node)?;
        for version in versions(&tree, node)? {
            let is_gone = keeper.state(&version.file)? == Kept::Gone;
            found.push(Content { b3: version.file.content_hash().0, path: path.clone(), is_gone });
        }
    }
    Ok(found)
}

/// A live file, and the chunks that it is put together from, those of its manifests too.
#[derive(Clone, Debug)]
pub struct Needed {
    /// Where it is.
    pub path: String,
    /// Of every version that it has now.
    pub chunks: BTreeSet<ChunkTag>,
}

/// What every live file needs, as this device shows them.
///
/// # Errors
/// What reading gives; of a manifest that is neither here nor kept too.
pub fn needs(locker: &Locker) -> Result<Vec<Needed>, Error> {
    let inner = locker.reading()?;
    let store = inner.store()?;
    let snapshot = store.read()?;
    let tree = Tree::new(&snapshot, inner.space_tag())?;
    let reader = Reader::new(inner, &store, &snapshot);
    let (mut found, mut failure) = (Vec::new(), Ok(()));
    let mut add = |node, version: &Version| -> Result<(), Error> {
        let mut chunks = BTreeSet::new();
        reader.each_record(&version.file, &mut |record, _| {
            chunks.insert(record.tag());
            Ok(())
        })?;
        found.push(Needed { path: tree.path(node)?.unwrap_or_default(), chunks });
        Ok(())
    };
    locker_catalog::tree::walk_live(tree.rows(), &mut |node, version, _| {
        failure = add(node, version);
        if failure.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    failure.map(|()| found)
}

/// What a device knows of where things are.
#[derive(Clone, Debug)]
pub struct Known {
    /// The device.
    pub id: VerifyingKey,
    /// In which packs a chunk lies. Nothing for a device that cannot read.
    pub places: BTreeMap<ChunkTag, BTreeSet<PackHash>>,
    /// What each device pins, as far as it is known here.
    pub pins: BTreeMap<VerifyingKey, BTreeSet<PackHash>>,
}

/// What a device knows of where things are.
///
/// # Errors
/// What reading gives.
pub fn known(locker: &Locker) -> Result<Known, Error> {
    let inner = locker.inner();
    let (snapshot, space, person) = (inner.store()?.read()?, inner.space_tag(), inner.keys().person);
    let mut known = Known { id: inner.keys().device_id(), places: BTreeMap::new(), pins: BTreeMap::new() };
    let mut tags = Vec::new();
    index::scan_tags(&snapshot, &space, &mut |tag| {
        tags.push(tag);
        ControlFlow::Continue(())
    })?;
    for tag in tags {
        let places = index::places(&snapshot, &space, &tag)?;
        known.places.insert(tag, places.into_iter().map(|place| place.pack).collect());
    }
    for author in Roster::read(person, &person_log(&snapshot, &person)?).admitted() {
        let pinned = known.pins.entry(author).or_default();
        pins::scan(&snapshot, &PinScope { space, author }, &mut |pack| {
            pinned.insert(pack);
            ControlFlow::Continue(())
        })?;
    }
    Ok(known)
}

/// The packs that a device has.
///
/// # Errors
/// What reading gives.
pub fn packs(locker: &Locker) -> Result<Vec<PackHash>, Error> {
    let mut packs = Vec::new();
    index::scan_packs(&locker.inner().store()?.read()?, &mut |hash, pack| {
        if matches!(pack.state, PackState::Present { .. }) {
            packs.push(hash);
        }
        ControlFlow::Continue(())
    })?;
    Ok(packs)
}

/// Packs that a device does not give, though it says that it keeps them.
static DENIED: Mutex<BTreeMap<VerifyingKey, BTreeSet<PackHash>>> = Mutex::new(BTreeMap::new());

fn denied<T>(look: impl FnOnce(&mut BTreeMap<VerifyingKey, BTreeSet<PackHash>>) -> T) -> T {
    look(&mut DENIED.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Makes a device a liar: from now on it does not give one in so many of the packs that it has, at least one, and says nothing of
/// it. Which is drawn by `below`, which gives a number below the one that it is given. Gives how many it has.
///
/// # Errors
/// What reading gives.
pub fn lie(locker: &Locker, one_in: usize, below: &mut dyn FnMut(usize) -> usize) -> Result<usize, Error> {
    let (inner, mut packs) = (locker.inner(), packs(locker)?);
    let (all, count) = (packs.len(), packs.len().div_ceil(one_in.max(1)));
    let mut lost = BTreeSet::new();
    for _ in 0..count {
        lost.insert(packs.swap_remove(below(packs.len())));
    }
    denied(|denied| denied.insert(inner.keys().device_id(), lost));
    Ok(all)
}

/// What a liar does when it is asked for what it does not have.
pub(crate) enum Lie {
    /// It refuses.
    Denies,
    /// It breaks off, as if the way had been cut.
    Breaks,
}

/// What this device does about a pack; `None` for one that it has. One half of them does the one, the other the other.
pub(crate) fn lie_about(inner: &Inner, pack: &PackHash) -> Option<Lie> {
    let own = inner.keys().device_id();
    let lies = denied(|denied| denied.get(&own).is_some_and(|packs| packs.contains(pack)));
    lies.then(|| if own.0[0] % 2 == 0 { Lie::Denies } else { Lie::Breaks })
}

/// How long something takes that blocks.
pub(crate) fn moment() -> Duration {
    Duration::from_micros(u64::from(crate::env::system_dice().next_u32() % MOMENT_MAX_US))
}
