//! `mkdir`, `mv` and `rm`.

use locker_catalog::name;
use locker_catalog::operation::{Meta, Move, NodeKind, Op, Trash};
use locker_crypto::id::NodeId;

use crate::locker::Inner;
use crate::report::Removed;
use crate::tree::{Kinded, ORIGINAL_NAME, Tree};
use crate::writer::Change;
use crate::{Error, path};

/// Makes a folder; with `parents`, missing ones above it too, and an existing one is fine.
///
/// # Errors
/// [`Error::Exists`], [`Error::NotFound`] for a missing parent, [`Error::NotFolder`], [`Error::Name`],
/// [`Error::Limit`].
pub(crate) fn make_folder(inner: &Inner, folder: &str, parents: bool) -> Result<(), Error> {
    let parts = path::split(folder)?;
    if parts.is_empty() && !parents {
        return Err(Error::Exists("/".into()));
    }
    inner.commit(|change| {
        let before = change.op_count();
        ensure_folder(change, &parts, parents)?;
        if change.op_count() == before && !parents { Err(Error::Exists(parts.join("/"))) } else { Ok(()) }
    })
}

/// Finds a folder, making what is missing of it: everything with `parents`, else only the last part.
pub(crate) fn ensure_folder(
    change: &mut Change<'_, '_>,
    parts: &[&str],
    parents: bool,
) -> Result<NodeId, Error> {
    let mut folder = NodeId::ROOT;
    for (i, part) in parts.iter().enumerate() {
        let shown = parts[..=i].join("/");
        folder = match change.child(folder, part)? {
            Some(found) if !found.is_folder() => {
                let is_last = i + 1 == parts.len();
                return Err(if is_last && !parents { Error::Exists(shown) } else { Error::NotFolder(shown) });
            }
            Some(found) => found.id,
            None if parents || i + 1 == parts.len() => {
                let name = checked_name(part)?;
                let node = change.new_folder();
                change.push(Op::Move(Move { node, parent: folder, name, kind: NodeKind::Folder.code() }))?;
                node
            }
            None => return Err(Error::NotFound(shown)),
        };
    }
    Ok(folder)
}

/// Moves or renames. Into a folder that exists, under the same name; else to that name.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Exists`], [`Error::IsRoot`], [`Error::IntoItself`], [`Error::Name`],
/// [`Error::NotFolder`], [`Error::Limit`].
pub(crate) fn rename(inner: &Inner, from: &str, to: &str) -> Result<(), Error> {
    let (from_parts, to_parts) = (path::split(from)?, path::split(to)?);
    if from_parts.is_empty() {
        return Err(Error::IsRoot);
    }
    let wants_folder = to_parts.is_empty() || to.ends_with('/');
    inner.commit(|change| {
        let node = change.resolve(&from_parts)?;
        let moved = change.node(node)?;
        let (parent, new_name) = match change.find(&to_parts)? {
            Some(NodeId::ROOT) => (NodeId::ROOT, None),
            Some(found) if found == node => {
                // Nothing to do, or only the case or form of the name changes.
                (moved.parent, to_parts.last().copied())
            }
            Some(found) if change.node(found)?.is_folder() => (found, None),
            Some(_) => return Err(Error::Exists(to_parts.join("/"))),
            None if wants_folder => return Err(Error::NotFound(to_parts.join("/"))),
            None => {
                let (last, above) = to_parts.split_last().ok_or(Error::IsRoot)?;
                let parent = change.resolve(above)?;
                if parent != NodeId::ROOT && !change.node(parent)?.is_folder() {
                    return Err(Error::NotFolder(above.join("/")));
                }
                (parent, Some(*last))
            }
        };
        if change.is_within(parent, node)? {
            return Err(Error::IntoItself(from_parts.join("/")));
        }
        let name = new_name.map_or_else(|| Ok(moved.name.clone()), checked_name)?;
        if parent == moved.parent && name == moved.name {
            return Ok(());
        }
        if new_name.is_none()
            && let Some(taken) = change.child(parent, &moved.displayed)?
            && taken.id != node
        {
            return Err(Error::Exists(path::join(&to_parts.join("/"), &moved.displayed)));
        }
        let renamed = name != moved.name;
        change.push(Op::Move(Move { node, parent, name, kind: moved.kind.code() }))?;
        if renamed && change.has_meta(node, ORIGINAL_NAME)? {
            change.push(Op::Meta(Meta { node, key: ORIGINAL_NAME.into(), value: Vec::new() }))?;
        }
        Ok(())
    })
}

/// Moves to the trash.
///
/// # Errors
/// [`Error::NotFound`], [`Error::IsRoot`].
pub(crate) fn remove(inner: &Inner, target: &str) -> Result<Removed, Error> {
    let parts = path::split(target)?;
    let files = count(inner, target)?;
    inner.commit(|change| {
        let node = change.resolve(&parts)?;
        change.push(Op::Trash(Trash { node }))
    })?;
    Ok(Removed { files })
}

/// How many files would go to the trash with something.
///
/// # Errors
/// As [`remove`].
pub(crate) fn count(inner: &Inner, target: &str) -> Result<u64, Error> {
    if path::split(target)?.is_empty() {
        return Err(Error::IsRoot);
    }
    let store = inner.store()?;
    let snapshot = store.read()?;
    let tree = Tree::new(&snapshot, inner.space_tag())?;
    Ok(tree.count_below(tree.resolve(target)?)?.0)
}

/// Brings a name to the form of the model and checks it.
pub(crate) fn checked_name(typed: &str) -> Result<String, Error> {
    let name = name::normalize(typed);
    match name::check(&name) {
        Ok(()) => Ok(name),
        Err(_) => Err(Error::Name { name: typed.to_owned() }),
    }
}
