//! `free`: letting go here what enough other devices were proved to hold just now and promise to keep; and `pin`, which
//! gets it back (`docs/spec/08-at-rest.md`, "Letting go").
//!
//! Only whole packs go, and only those that nothing else needs which stays here. What the file lists of its parts (its
//! manifest) stays in the database. A crash on the way leaves a pack here, or let go; never fewer copies than
//! were proved.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use locker_catalog::operation::NodeKind;
use locker_catalog::tree as catalog;
use locker_crypto::file_ref::ChunkRecord;
use locker_crypto::id::{ChunkTag, NodeId, PackHash, VerifyingKey};
use locker_store::index::{self, PackState};
use locker_store::packs::file_len;
use locker_store::pins::PinScope;
use locker_store::{Snapshot, WriteTxn, manifests};

use super::Challenge;
use crate::Error;
use crate::limits::{FINDINGS_MAX, LEASE_S, RELEASE_PACKS};
use crate::locker::Inner;
use crate::node::Hub;
use crate::progress::Meter;
use crate::reader::Reader;
use crate::report::{Freed, Observer, Pinned, Unfreed};
use crate::share::extent;
use crate::status::COPIES_WANTED;
use crate::tree::Tree;

/// Nodes that are looked at in one go.
const NODES_PER_LOOK: usize = 1_024;
/// Longest wait for content that others read.
const WAIT: Duration = Duration::from_secs(30);

/// A file that is to be let go.
struct Wanted {
    node: NodeId,
    size: u64,
    packs: BTreeSet<PackHash>,
}

/// What a look at the locker gave.
#[derive(Default)]
struct Plan {
    files: Vec<Wanted>,
    /// What may go, with the question that its holders are asked.
    packs: BTreeMap<PackHash, Challenge>,
    /// What stays, and why.
    kept: BTreeMap<PackHash, Why>,
    /// Manifest chunks in what may go.
    manifests: Vec<ChunkRecord>,
}

/// Why a pack stays.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Something else that stays lies in it.
    Shared,
    /// Another device took it away, and that is not decided yet.
    Held,
    /// A link gives it.
    Linked,
    /// It is being sent or fetched.
    InTransfer,
    /// This device promised to keep it, or lets it go already.
    Promised,
    /// So many other devices were proved to hold it.
    Copies(usize),
    /// The locker changed meanwhile.
    Changed,
}

impl Why {
    fn sentence(self, copies: usize) -> String {
        match self {
            Self::Shared => "it lies together with other files that stay here".into(),
            Self::Held => "another device took it away, and `locker held` is to be decided first".into(),
            Self::Linked => "a link gives it from here".into(),
            Self::InTransfer => "it is being sent or fetched".into(),
            Self::Promised => "this device promised another one to keep it for a day".into(),
            Self::Copies(0) => {
                format!("no other device that reads and is here proved that it holds it; {copies} are wanted")
            }
            Self::Copies(1) => format!("only one other device proved that it holds it; {copies} are wanted"),
            Self::Copies(n) => {
                format!("only {n} other devices proved that they hold it; {copies} are wanted")
            }
            Self::Changed => "the locker was changed meanwhile".into(),
        }
    }
}

/// Lets the content of `path` go here, as far as `copies` other devices prove that they hold it and promise to keep it.
///
/// # Errors
/// [`Error::NotFound`]; what reading and committing give. What was let go by then stays so.
pub(crate) fn free(
    hub: &Arc<Hub>,
    path: &str,
    copies: usize,
    observer: &dyn Observer,
) -> Result<Freed, Error> {
    let inner = hub.inner();
    if inner.ruled().is_choosing() {
        // Else it would come back.
        inner.set_pinned(path, false)?;
    }
    let files = {
        let store = inner.store()?;
        let snapshot = store.read()?;
        let tree = Tree::new(&snapshot, inner.space_tag())?;
        files_below(&tree, tree.resolve(path)?)?
    };
    free_files(hub, files, copies, observer)
}

/// Gets what the rule of this device asks for, and lets go what it does not, as far as other devices prove that they hold
/// it.
///
/// # Errors
/// What reading and committing give.
pub(crate) fn keep_to_rule(hub: &Arc<Hub>, observer: &dyn Observer) -> Result<Freed, Error> {
    let inner = hub.inner();
    let excess: Vec<NodeId> = inner.want_by_rule()?.into_iter().collect();
    let freed = match excess.is_empty() {
        true => Freed::default(),
        false => free_files(hub, excess, COPIES_WANTED as usize, observer)?,
    };
    inner.ruled().note(&freed);
    Ok(freed)
}

fn free_files(
    hub: &Arc<Hub>,
    files: Vec<NodeId>,
    copies: usize,
    observer: &dyn Observer,
) -> Result<Freed, Error> {
    let inner = hub.inner();
    let mut plan = look(inner, hub, files)?;
    let claim = inner.claim(plan.packs.keys().copied().collect())?;
    plan.drop_unless(|pack| claim.packs.contains(pack), Why::Promised);
    let asked = plan.packs.len() as u64;
    let bytes = plan.packs.values().map(|asked| u64::from(asked.len)).sum();
    let meter = Meter::new(observer, inner.env(), Some((plan.files.len() as u64, bytes)));
    let done = |bytes| meter.add(0, bytes);
    // Nobody is waited for where there is nothing to ask.
    let vouched = match plan.packs.is_empty() {
        true => BTreeMap::new(),
        false => hub.wait_for(hub.vouch(&plan.packs, copies, LEASE_S, &done))?,
    };
    let mut proofs = 0;
    let mut holders: BTreeSet<VerifyingKey> = BTreeSet::new();
    for devices in vouched.values() {
        proofs += devices.len() as u64;
        holders.extend(devices);
    }
    for pack in plan.packs.keys().copied().collect::<Vec<_>>() {
        let count = vouched.get(&pack).map_or(0, BTreeSet::len);
        if count < copies {
            plan.keep(pack, Why::Copies(count));
        }
    }
    let freed_bytes = let_go(inner, &mut plan)?;
    report(
        inner,
        plan,
        copies,
        Freed { freed_bytes, asked, proofs, holders: holders.len() as u64, ..Freed::default() },
    )
}

impl Plan {
    fn keep(&mut self, pack: PackHash, why: Why) {
        if self.packs.remove(&pack).is_some() {
            self.kept.insert(pack, why);
        }
    }

    fn drop_unless(&mut self, may_go: impl Fn(&PackHash) -> bool, why: Why) {
        let stays: Vec<PackHash> = self.packs.keys().copied().filter(|pack| !may_go(pack)).collect();
        stays.into_iter().for_each(|pack| self.keep(pack, why));
    }
}

/// Looks which packs some files need, and which of these nothing else needs that stays.
fn look(inner: &Inner, hub: &Hub, files: Vec<NodeId>) -> Result<Plan, Error> {
    let store = inner.store()?;
    let snapshot = store.read()?;
    let tree = Tree::new(&snapshot, inner.space_tag())?;
    let reader = Reader::new(inner, &store, &snapshot);
    let mut plan = Plan::default();
    let mut nodes = HashSet::new();
    let mut chunks: BTreeMap<ChunkTag, BTreeSet<PackHash>> = BTreeMap::new();
    for node in files {
        let versions = tree.node(node)?.versions;
        nodes.insert(node);
        let size = versions.iter().map(|version| version.file.size()).sum();
        let mut packs = BTreeSet::new();
        for version in &versions {
            reader.each_record(&version.file, &mut |record, is_manifest| {
                for place in index::places(&snapshot, &inner.space_tag(), &record.tag())? {
                    let Some(row) = index::pack(&snapshot, &place.pack)? else { continue };
                    if !matches!(row.state, PackState::Present { .. }) {
                        continue;
                    }
                    packs.insert(place.pack);
                    if plan.packs.contains_key(&place.pack) || plan.kept.contains_key(&place.pack) {
                        continue;
                    }
                    let locs = index::locs(&snapshot, &place.pack)?;
                    let asked = Challenge::draw(place.pack, row.len, &locs, &mut **inner.env().dice());
                    let Some(asked) = asked else { continue };
                    plan.packs.insert(place.pack, asked);
                    for loc in locs {
                        chunks.entry(loc.tag).or_default().insert(place.pack);
                    }
                }
                if is_manifest {
                    plan.manifests.push(record.clone());
                }
                Ok(())
            })?;
        }
        plan.files.push(Wanted { node, size, packs });
    }
    let mut shared = BTreeSet::new();
    let held = held_back(&tree, &reader, &chunks)?;
    plan.drop_unless(|pack| !held.contains(pack), Why::Held);
    let mut failure = Ok(());
    catalog::walk_live(tree.rows(), &mut |node, version, _| {
        if nodes.contains(&node) {
            return ControlFlow::Continue(());
        }
        let found = reader.each_record(&version.file, &mut |record, _| {
            shared.extend(chunks.get(&record.tag()).into_iter().flatten().copied());
            Ok(())
        });
        match found {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Err(error);
                ControlFlow::Break(())
            }
        }
    })?;
    failure?;
    plan.drop_unless(|pack| !shared.contains(pack), Why::Shared);
    let linked = linked(inner, hub, &snapshot)?;
    plan.drop_unless(|pack| !linked.contains(pack), Why::Linked);
    let moving = hub.packs_in_transfer();
    plan.drop_unless(|pack| !moving.contains(pack), Why::InTransfer);
    Ok(plan)
}

/// The packs with content of files that are shown here otherwise than all entries give them: of both forms.
fn held_back(
    tree: &Tree<'_>,
    reader: &Reader<'_>,
    chunks: &BTreeMap<ChunkTag, BTreeSet<PackHash>>,
) -> Result<BTreeSet<PackHash>, Error> {
    let mut held = BTreeSet::new();
    let mut last = None;
    loop {
        let page = catalog::differing(tree.rows(), last, NODES_PER_LOOK)?;
        for id in &page {
            for node in [catalog::node(tree.rows(), *id)?, tree.replayed_node(*id)?].into_iter().flatten() {
                for version in &node.versions {
                    reader.each_record(&version.file, &mut |record, _| {
                        held.extend(chunks.get(&record.tag()).into_iter().flatten().copied());
                        Ok(())
                    })?;
                }
            }
        }
        last = page.last().copied();
        if page.len() < NODES_PER_LOOK {
            return Ok(held);
        }
    }
}

/// The packs that links give which are not revoked.
fn linked(inner: &Inner, hub: &Hub, snapshot: &Snapshot) -> Result<BTreeSet<PackHash>, Error> {
    let mut linked = BTreeSet::new();
    for door in hub.register().doors().iter().filter(|door| !door.is_revoked) {
        linked.extend(extent(snapshot, inner, door)?.into_iter().flat_map(|extent| extent.packs));
    }
    Ok(linked)
}

/// The files at and below a node.
fn files_below(tree: &Tree<'_>, top: NodeId) -> Result<Vec<NodeId>, Error> {
    let mut ids = Vec::new();
    if top != NodeId::ROOT && tree.node(top)?.kind == NodeKind::File {
        ids.push(top);
    } else {
        catalog::walk(tree.rows(), top, &mut |_, listed| {
            if listed.kind == NodeKind::File {
                ids.push(listed.id);
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok(ids)
}

/// Lets go what is left of a plan. Gives the bytes on the disk that were freed.
fn let_go(inner: &Inner, plan: &mut Plan) -> Result<u64, Error> {
    if plan.packs.is_empty() {
        return Ok(0);
    }
    keep_manifests(inner, plan)?;
    let store = inner.store()?;
    let mut freed = 0;
    let packs: Vec<(PackHash, u32)> = plan.packs.iter().map(|(pack, asked)| (*pack, asked.len)).collect();
    for group in packs.chunks(RELEASE_PACKS) {
        let Some(_content) = inner.turns().alone(inner.env(), WAIT) else {
            group.iter().for_each(|(pack, _)| plan.keep(*pack, Why::Changed));
            continue;
        };
        let mut gone = Vec::new();
        inner.commit(|change| {
            for (pack, len) in group {
                let row = index::pack(change.txn(), pack)?;
                if row.is_some_and(|row| matches!(row.state, PackState::Present { .. })) {
                    change.unpin(pack)?;
                    gone.push((*pack, *len));
                }
            }
            Ok(())
        })?;
        let hashes: Vec<PackHash> = gone.iter().map(|(pack, _)| *pack).collect();
        // They stay known, also where the holders' pins are still on their way.
        let own = PinScope { space: inner.space_tag(), author: inner.keys().device_id() };
        let went: BTreeSet<PackHash> = store.let_packs_go(&own, &hashes)?.into_iter().collect();
        gone.retain(|(pack, _)| went.contains(pack));
        freed += gone.iter().map(|(_, len)| file_len(*len)).sum::<u64>();
        for (pack, _) in group.iter().filter(|known| !gone.contains(known)) {
            plan.keep(*pack, Why::Changed);
        }
    }
    inner.note_commit();
    Ok(freed)
}

/// Writes the manifest chunks that lie in what goes into the database.
fn keep_manifests(inner: &Inner, plan: &Plan) -> Result<(), Error> {
    let store = inner.store()?;
    let snapshot = store.read()?;
    let reader = Reader::new(inner, &store, &snapshot);
    for record in &plan.manifests {
        let plain = reader.open_whole(record)?;
        store.write::<_, Error>(|txn: &mut WriteTxn<'_>| {
            manifests::put(txn, &inner.space_tag(), &record.tag(), &plain);
            Ok(())
        })?;
    }
    Ok(())
}

fn report(inner: &Inner, plan: Plan, copies: usize, mut freed: Freed) -> Result<Freed, Error> {
    let store = inner.store()?;
    let snapshot = store.read()?;
    let tree = Tree::new(&snapshot, inner.space_tag())?;
    for file in &plan.files {
        let why = file.packs.iter().find_map(|pack| plan.kept.get(pack));
        let Some(why) = why else {
            freed.files += 1;
            freed.bytes += file.size;
            continue;
        };
        freed.kept_files += 1;
        freed.kept_bytes += file.size;
        if freed.kept.len() < FINDINGS_MAX {
            let path = tree.path(file.node)?.unwrap_or_default();
            freed.kept.push(Unfreed { path, reason: why.sentence(copies) });
        }
    }
    Ok(freed)
}

/// Gets the content of `path` back that was let go here, and keeps it whatever the rule of this device is: it is fetched
/// while the node runs.
///
/// # Errors
/// [`Error::NotFound`]; what reading and committing give.
pub(crate) fn pin(inner: &Inner, path: &str) -> Result<Pinned, Error> {
    inner.set_pinned(path, true)?;
    let mut away: BTreeMap<PackHash, u32> = BTreeMap::new();
    let mut pinned = Pinned::default();
    {
        let store = inner.store()?;
        let snapshot = store.read()?;
        let tree = Tree::new(&snapshot, inner.space_tag())?;
        let reader = Reader::new(inner, &store, &snapshot).asking_others();
        let top = tree.resolve(path)?;
        for file in files_below(&tree, top)? {
            pinned.files += 1;
            for version in &tree.node(file)?.versions {
                let read = reader.each_record(&version.file, &mut |record, _| {
                    for place in index::places(&snapshot, &inner.space_tag(), &record.tag())? {
                        let row = index::pack(&snapshot, &place.pack)?;
                        if let Some(row) = row
                            && matches!(row.state, PackState::Away | PackState::Released)
                        {
                            away.insert(place.pack, row.len);
                        }
                    }
                    Ok(())
                });
                match read {
                    // What it consists of is asked for when another device is here.
                    Ok(()) | Err(Error::Network(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    pinned.wanted_bytes = away.values().map(|len| u64::from(*len)).sum();
    inner.want_again(&away.into_keys().collect::<Vec<_>>())?;
    Ok(pinned)
}
