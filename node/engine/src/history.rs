//! `history`: what happened to a file or folder.

use locker_catalog::tree::{self as catalog, Happened};
use locker_crypto::id::NodeId;

use crate::kept::{Keeper, Kept};
use crate::locker::Inner;
use crate::report::{Event, Happening};
use crate::tree::{Tree, Version};
use crate::{Error, path};

/// Tells what happened to `target`, oldest first; contents are numbered from 1.
///
/// # Errors
/// [`Error::NotFound`] if it is neither in the locker nor in the trash; [`Error::IsRoot`].
pub(crate) fn history(inner: &Inner, target: &str) -> Result<Vec<Event>, Error> {
    let store = inner.store()?;
    let snapshot = store.read()?;
    let tree = Tree::new(&snapshot, inner.space_tag())?;
    let keeper = Keeper::new(inner, &store, &snapshot);
    let node = find(&tree, target)?;
    let mut events = Vec::new();
    let mut version = 0;
    for event in oldest_first(&tree, node)? {
        let mut told = Event {
            time: locker_catalog::clock::unix_ms(event.op.entry.hlc),
            what: Happening::Created,
            device: event.op.entry.author.to_string(),
            path: None,
            version: None,
            size: None,
            b3: None,
            mtime: None,
            gone: false,
        };
        let mut place = |what, (parent, name): &(NodeId, String)| -> Result<(), Error> {
            told.what = what;
            let above = if *parent == NodeId::TRASH { None } else { tree.path(*parent)? };
            told.path = Some(above.map_or_else(|| format!("…/{name}"), |above| path::join(&above, name)));
            Ok(())
        };
        match event.what {
            Happened::Created { parent, name } => place(Happening::Created, &(parent, name))?,
            Happened::Moved { to, .. } => place(Happening::Moved, &to)?,
            Happened::Restored { to } => place(Happening::Restored, &to)?,
            Happened::Lifted { to, .. } => {
                told.what = Happening::Moved;
                told.path = tree.path(to)?;
            }
            Happened::Trashed { .. } => told.what = Happening::Trashed,
            Happened::Written { .. } | Happened::Kept { .. } => {
                version += 1;
                let is_kept = matches!(event.what, Happened::Kept { .. });
                told.what = if is_kept { Happening::Kept } else { Happening::Written };
                told.version = Some(version);
                let Some(found) = version_of(&tree, node, event.what)? else { continue };
                told.size = Some(found.file.size());
                told.b3 = Some(found.file.content_hash().to_string());
                told.mtime = Some(found.mtime_ms);
                told.gone = keeper.state(&found.file)? == Kept::Gone;
            }
            _ => continue,
        }
        events.push(told);
    }
    Ok(events)
}

/// The contents that a file ever had, oldest first: number n of the list is version n + 1.
pub(crate) fn versions(tree: &Tree<'_>, node: NodeId) -> Result<Vec<Version>, Error> {
    let events = oldest_first(tree, node)?.into_iter();
    events.filter_map(|event| version_of(tree, node, event.what).transpose()).collect()
}

/// Finds something in the locker, else in the trash.
pub(crate) fn find(tree: &Tree<'_>, target: &str) -> Result<NodeId, Error> {
    let parts = path::split(target)?;
    if parts.is_empty() {
        return Err(Error::IsRoot);
    }
    match tree.resolve(target) {
        Err(Error::NotFound(shown)) => match tree.in_trash(&parts)? {
            Some(found) => Ok(found.node.id),
            None => Err(Error::NotFound(shown)),
        },
        other => other,
    }
}

fn oldest_first(tree: &Tree<'_>, node: NodeId) -> Result<Vec<catalog::Event>, Error> {
    let mut events = catalog::history(tree.rows(), node)?;
    events.reverse();
    Ok(events)
}

/// The content that a file got by what happened, if any.
fn version_of(tree: &Tree<'_>, node: NodeId, what: Happened) -> Result<Option<Version>, Error> {
    match what {
        Happened::Kept { version } => Ok(Some(version)),
        Happened::Written { vid, .. } => catalog::version(tree.rows(), node, vid)?
            .map(Some)
            .ok_or_else(|| Error::damaged("a version in the history", locker_crypto::Refusal::Node)),
        _ => Ok(None),
    }
}
