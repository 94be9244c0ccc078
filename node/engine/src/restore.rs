//! `restore`: out of the trash, back to a version, back to a time. Nothing is lost: what is there now stays in the
//! history.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::ControlFlow;

use locker_catalog::operation::{Content, Move, Op, Trash};
use locker_catalog::tree as catalog;
use locker_crypto::file_ref::FileRef;
use locker_crypto::id::{NodeId, PackHash};

use crate::history::{find, versions};
use crate::kept::{Keeper, Kept};
use crate::limits::KEEP_DAYS;
use crate::locker::Inner;
use crate::report::Restored;
use crate::tree::{Kinded, Node, Tree, Version};
use crate::{Error, path};

/// Brings `target` back; see [`crate::Locker::restore`].
pub(crate) fn restore(
    inner: &Inner,
    target: &str,
    at: Option<u64>,
    version: Option<u32>,
) -> Result<Restored, Error> {
    // What is looked up must still be here when it is committed that it counts again.
    let _content = inner.turns().rely();
    let (ops, elsewhere) = {
        let store = inner.store()?;
        let snapshot = store.read()?;
        let tree = Tree::new(&snapshot, inner.space_tag())?;
        let ops = match (at, version) {
            (Some(at), _) => to_time(&tree, target, at)?,
            (None, Some(version)) => to_version(&tree, target, version)?,
            (None, None) => from_trash(&tree, target)?,
        };
        let keeper = Keeper::new(inner, &store, &snapshot);
        let elsewhere = check_kept(&tree, &keeper, &ops)?;
        (ops, elsewhere)
    };
    let mut touched = BTreeSet::new();
    for op in &ops {
        match op {
            Op::Move(Move { node, .. }) | Op::Content(Content { node, .. }) | Op::Trash(Trash { node }) => {
                touched.insert(*node);
            }
            _ => {}
        }
    }
    inner.commit(|change| ops.into_iter().try_for_each(|op| change.push(op)))?;
    inner.want_again(&elsewhere)?;
    Ok(Restored { entries: touched.len() as u64 })
}

/// Checks that the content of everything that these operations bring back is kept; gives the packs of it that were let
/// go here and that other devices hold.
fn check_kept(tree: &Tree<'_>, keeper: &Keeper<'_>, ops: &[Op]) -> Result<Vec<PackHash>, Error> {
    let mut elsewhere = BTreeSet::new();
    let mut check = |file: &FileRef, name: &str| -> Result<(), Error> {
        match keeper.state(file)? {
            Kept::Here => Ok(()),
            Kept::Elsewhere(packs) => {
                elsewhere.extend(packs);
                Ok(())
            }
            Kept::Gone => Err(Error::Gone(format!(
                "the content of {name} is not kept any more: what is in the trash, or was replaced, goes after \
                 {KEEP_DAYS} days on which this device runs"
            ))),
        }
    };
    let mut moved = Vec::new();
    let mut seen = HashSet::new();
    for op in ops {
        match op {
            Op::Content(content) => {
                check(&content.file, &tree.node(content.node)?.name)?;
                // What it had before does not come back.
                seen.insert(content.node);
            }
            Op::Move(op) => moved.push(op.node),
            _ => {}
        }
    }
    // Whatever comes with what is moved.
    while let Some(id) = moved.pop() {
        if !seen.insert(id) {
            continue;
        }
        let node = tree.node(id)?;
        if node.is_folder() {
            tree.children(id, &mut |child| {
                moved.push(child.id);
                ControlFlow::Continue(())
            })?;
        }
        node.versions.iter().try_for_each(|version| check(&version.file, &node.name))?;
    }
    Ok(elsewhere.into_iter().collect())
}

/// Out of the trash to where it was.
fn from_trash(tree: &Tree<'_>, target: &str) -> Result<Vec<Op>, Error> {
    let parts = path::split(target)?;
    let Some((name, above)) = parts.split_last() else { return Err(Error::IsRoot) };
    let Some(found) = tree.in_trash(&parts)? else {
        // Something inside a folder that went into the trash as a whole?
        for end in (1..parts.len()).rev() {
            if tree.in_trash(&parts[..end])?.is_some() {
                let folder = parts[..end].join("/");
                return Err(Error::Argument(format!(
                    "{} lies in {folder}, which is in the trash as a whole: restore {folder}",
                    parts.join("/")
                )));
            }
        }
        return Err(Error::NoSuch(format!("there is no {} in the trash", parts.join("/"))));
    };
    let folder = catalog::lookup(tree.rows(), above)?.unwrap_or(NodeId::ROOT);
    if catalog::child(tree.rows(), folder, name)?.is_some() {
        return Err(Error::Exists(parts.join("/")));
    }
    let Node { id, name, kind, .. } = found.node;
    Ok(vec![Op::Move(Move { node: id, parent: found.from, name, kind: kind.code() })])
}

/// The content of a numbered version, as a new version.
fn to_version(tree: &Tree<'_>, target: &str, number: u32) -> Result<Vec<Op>, Error> {
    let id = find(tree, target)?;
    let node = tree.node(id)?;
    if node.is_folder() {
        return Err(Error::IsFolder(target.to_owned()));
    }
    let all = versions(tree, id)?;
    let index = usize::try_from(number).ok().and_then(|n| n.checked_sub(1));
    let wanted = index.and_then(|i| all.get(i)).ok_or_else(|| {
        Error::NoSuch(format!("there is no version {number} of {target}, which has had {}", all.len()))
    })?;
    if node.trashed.is_some() {
        return Err(Error::Argument(format!("{target} is in the trash: restore it first")));
    }
    Ok(content_op(&node, wanted).into_iter().collect())
}

/// The operation that gives `node` the content of `wanted`, unless that is what it has.
fn content_op(node: &Node, wanted: &Version) -> Option<Op> {
    let same = |v: &Version| v.file == wanted.file && v.mtime_ms == wanted.mtime_ms && v.exec == wanted.exec;
    if let [only] = node.versions.as_slice()
        && same(only)
    {
        return None;
    }
    let mut bases: Vec<_> = node.versions.iter().map(|v| v.vid).collect();
    bases.sort_unstable();
    Some(Op::Content(Content {
        node: node.id,
        bases,
        file: wanted.file.clone(),
        mtime_ms: wanted.mtime_ms,
        exec: wanted.exec,
    }))
}

/// The state of a time: what was at and below `target` then is there again as it was; what has come since goes into
/// the trash.
fn to_time(tree: &Tree<'_>, target: &str, at_ms: u64) -> Result<Vec<Op>, Error> {
    let parts = path::split(target)?;
    let hlc = (at_ms << 16) | 0xffff;
    let then = Then::read(tree, hlc)?;
    let now_here = catalog::lookup(tree.rows(), &parts)?;
    let top = match then.resolve(&parts) {
        Some(top) => top,
        None => now_here
            .filter(|id| *id == NodeId::ROOT || then.nodes.contains_key(id))
            .ok_or_else(|| Error::NoSuch(format!("there was no {} at that time", parts.join("/"))))?,
    };
    let wanted = then.below(top);
    let mut ops = Vec::new();
    // Parents come first in `wanted`, so that a folder is back before what lies in it.
    for id in &wanted {
        let before = &then.nodes[id];
        let now = tree.node(*id)?;
        let name_taken = || -> Result<bool, Error> {
            Ok(catalog::child(tree.rows(), before.parent, &before.name)?.is_some_and(|c| c.id != *id))
        };
        if now.parent != before.parent || now.name != before.name {
            if *id == top && now.trashed.is_some() && name_taken()? {
                return Err(Error::Exists(parts.join("/")));
            }
            ops.push(Op::Move(Move {
                node: *id,
                parent: before.parent,
                name: before.name.clone(),
                kind: before.kind.code(),
            }));
        }
        match before.versions.as_slice() {
            [] => {}
            versions if same_versions(versions, &now.versions) => {}
            [newest, ..] => ops.extend(content_op(&now, newest)),
        }
    }
    // What has come since: the topmost of it goes into the trash.
    if let Some(here) = now_here.filter(|id| *id == NodeId::ROOT || wanted.contains(id)) {
        let kept: BTreeSet<NodeId> = wanted.iter().copied().collect();
        newcomers(tree, here, &kept, &mut ops)?;
    }
    Ok(ops)
}

fn same_versions(then: &[Version], now: &[Version]) -> bool {
    let ids = |versions: &[Version]| versions.iter().map(|v| v.vid).collect::<BTreeSet<_>>();
    ids(then) == ids(now)
}

fn newcomers(
    tree: &Tree<'_>,
    folder: NodeId,
    kept: &BTreeSet<NodeId>,
    ops: &mut Vec<Op>,
) -> Result<(), Error> {
    if folder != NodeId::ROOT && !tree.node(folder)?.is_folder() {
        return Ok(());
    }
    for child in tree.sorted_children(folder)? {
        if !kept.contains(&child.id) {
            ops.push(Op::Trash(Trash { node: child.id }));
        } else if child.is_folder() {
            newcomers(tree, child.id, kept, ops)?;
        }
    }
    Ok(())
}

/// All nodes as they were at a time, outside the trash.
struct Then {
    nodes: BTreeMap<NodeId, Node>,
    children: BTreeMap<NodeId, Vec<NodeId>>,
}

impl Then {
    fn read(tree: &Tree<'_>, hlc: u64) -> Result<Self, Error> {
        let mut nodes = BTreeMap::new();
        let mut children: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        catalog::walk_at(tree.rows(), hlc, &mut |node| {
            if node.parent != NodeId::TRASH {
                children.entry(node.parent).or_default().push(node.id);
                nodes.insert(node.id, node);
            }
            ControlFlow::Continue(())
        })?;
        Ok(Self { nodes, children })
    }

    /// Follows own names; of twins the one made first.
    fn resolve(&self, parts: &[&str]) -> Option<NodeId> {
        parts.iter().try_fold(NodeId::ROOT, |folder, part| {
            let key = locker_catalog::name::collision_key(part);
            self.children
                .get(&folder)?
                .iter()
                .filter_map(|id| self.nodes.get(id))
                .filter(|node| locker_catalog::name::collision_key(&node.name) == key)
                .min_by_key(|node| node.created)
                .map(|node| node.id)
        })
    }

    /// A node and all below it, parents first; without ROOT itself.
    fn below(&self, top: NodeId) -> Vec<NodeId> {
        let mut found = Vec::new();
        let mut open = vec![top];
        while let Some(id) = open.pop() {
            if id != NodeId::ROOT {
                found.push(id);
            }
            open.extend(self.children.get(&id).into_iter().flatten());
        }
        found
    }
}
