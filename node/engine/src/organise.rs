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
/// [`Error::Exists`], also for a name that differs in case only from one that is there; [`Error::NotFound`] for a
/// missing parent, [`Error::NotFolder`], [`Error::Name`], [`Error::Limit`].
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
///
/// # Errors
/// As [`make_folder`].
pub(crate) fn ensure_folder(
    change: &mut Change<'_, '_>,
    parts: &[&str],
    parents: bool,
) -> Result<NodeId, Error> {
    let mut folder = NodeId::ROOT;
    for (i, part) in parts.iter().enumerate() {
        let shown = parts[..=i].join("/");
        let is_last = i + 1 == parts.len();
        folder = match change.child(folder, part)? {
            Some(found) if !found.is_folder() => {
                return Err(if is_last && !parents { Error::Exists(shown) } else { Error::NotFolder(shown) });
            }
            Some(found) => found.id,
            None if parents || is_last => {
                let name = checked_name(part)?;
                refuse_taken(change, (folder, &parts[..i]), part, None)?;
                let node = change.new_folder();
                change.push(Op::Move(Move { node, parent: folder, name, kind: NodeKind::Folder.code() }))?;
                node
            }
            None => return Err(Error::NotFound(shown)),
        };
    }
    Ok(folder)
}

/// Refuses a name under which something else is shown in a folder, which lies at a path, or one that differs from that
/// in case only: replay would keep both, and show the later one with a number. `node` is what is to have the name, if
/// it is there.
fn refuse_taken(
    change: &Change<'_, '_>,
    (folder, above): (NodeId, &[&str]),
    name: &str,
    node: Option<NodeId>,
) -> Result<(), Error> {
    match change.alike(folder, name)? {
        Some(taken) if Some(taken.id) != node => {
            Err(Error::Exists(path::join(&above.join("/"), &taken.displayed)))
        }
        _ => Ok(()),
    }
}

/// Moves or renames. Into a folder that exists, under the same name; else to that name.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Exists`] as for [`make_folder`], [`Error::IsRoot`], [`Error::IntoItself`],
/// [`Error::Name`], [`Error::NotFolder`], [`Error::Limit`].
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
        // The path names the folder, or the folder and the new name.
        let above = &to_parts[..to_parts.len() - usize::from(new_name.is_some())];
        refuse_taken(change, (parent, above), new_name.unwrap_or(&moved.displayed), Some(node))?;
        if parent == moved.parent && name == moved.name {
            return Ok(());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Locker;
    use crate::test_mesh::{World, pass};

    /// The name of which it is said that it is there already.
    #[track_caller]
    fn taken(result: Result<(), Error>) -> String {
        match result {
            Err(Error::Exists(name)) => name,
            other => panic!("{other:?}"),
        }
    }

    /// The paths of everything, sorted.
    fn names(locker: &Locker) -> Vec<String> {
        let mut names = crate::test_mesh::names(locker);
        names.sort_unstable();
        names
    }

    fn make(locker: &Locker, folders: &[&str]) {
        folders.iter().for_each(|folder| locker.make_folder(folder, true).unwrap());
    }

    /// Goal: whoever gives a name that differs from another one in case only is told of that, and nothing is made under
    /// a name that he did not give.
    #[test]
    fn a_name_that_differs_in_case_only_is_taken() {
        let (_world, locker) = World::new();
        make(&locker, &["x/straße", "y/Y", "z"]);
        let before = names(&locker);
        for parents in [false, true] {
            assert_eq!(taken(locker.make_folder("X", parents)), "x");
            assert_eq!(taken(locker.make_folder("x/STRASSE", parents)), "x/straße");
        }
        assert_eq!(taken(locker.make_folder("X/new", true)), "x");
        assert!(matches!(locker.make_folder("X/new", false), Err(Error::NotFound(_))));
        assert_eq!(taken(locker.rename("z", "X")), "x");
        assert_eq!(taken(locker.rename("z", "x/Strasse")), "x/straße");
        // Into a folder, under its own name.
        assert_eq!(taken(locker.rename("y/Y", "/")), "y");
        assert_eq!(names(&locker), before);
    }

    /// Goal: the case of a name can be changed, at its place and on the way to another folder.
    #[test]
    fn a_name_is_given_another_case() {
        let (_world, locker) = World::new();
        make(&locker, &["x/in", "y"]);
        locker.rename("x", "X").unwrap();
        assert_eq!(names(&locker), ["X", "X/in", "y"]);
        locker.rename("X/in", "y/IN").unwrap();
        locker.rename("y/IN", "y/In").unwrap();
        locker.rename("y/In", "y/In").unwrap();
        assert_eq!(names(&locker), ["X", "y", "y/In"]);
    }

    /// Goal: two names that were given apart stay, the later one with a number, and each can be given another.
    #[test]
    fn names_that_were_given_apart_are_told_apart() {
        let (world, first) = World::new();
        let second = world.join(&first, "second");
        make(&first, &["x"]);
        make(&second, &["X/in"]);
        pass(&second, &first);
        let shown = names(&first);
        let later = shown.iter().find(|name| name.ends_with("(2)")).unwrap();
        let earlier = if later == "x (2)" { "X" } else { "x" };
        assert!(shown.iter().any(|name| name == earlier), "{shown:?}");
        // Another case of a number's name is taken as well; so is the name itself.
        let swapped = if later == "x (2)" { "X (2)" } else { "x (2)" };
        assert_eq!(taken(first.make_folder(swapped, true)), *later);
        assert_eq!(taken(first.rename(later, &later[..1])), earlier);
        first.make_folder(later, true).unwrap();
        assert_eq!(names(&first), shown);
        first.rename(later, "other").unwrap();
        assert!(names(&first).iter().all(|name| !name.contains("(2)")));
    }
}
