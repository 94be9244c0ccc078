//! The past of a node: what happened to it, and what it was at a time.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use locker_crypto::id::{ContentHash, NodeId, VersionId};

use super::again::Written;
use super::nodes;
use super::row::{Place, Row, Version};
use super::view::Node;
use crate::operation::version_id;
use crate::order::{EntryOrder, OpOrder};
use crate::rows::{ReadRows, RowError};

/// One thing that happened to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The operation that did it.
    pub op: OpOrder,
    /// What it did here.
    pub what: Happened,
}

/// What an operation did to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Happened {
    /// The node was made.
    Created {
        /// The folder it was made in.
        parent: NodeId,
        /// Its name there.
        name: String,
    },
    /// It got another folder, another name or both.
    Moved {
        /// Folder and name before.
        from: (NodeId, String),
        /// Folder and name after.
        to: (NodeId, String),
    },
    /// It was kept when a folder above it went into the trash, since it held what the other device did not know.
    Lifted {
        /// The folder it was in.
        from: NodeId,
        /// The folder it is in since.
        to: NodeId,
    },
    /// It got a version.
    Written {
        /// The new version.
        vid: VersionId,
        /// The versions that it replaced.
        replaced: Vec<VersionId>,
    },
    /// It got a version that was replaced before.
    Kept {
        /// The version; another one may have its id.
        version: Version,
    },
    /// It was put into the trash itself.
    Trashed {
        /// The folder it was in.
        from: NodeId,
    },
    /// It came back out of the trash.
    Restored {
        /// Folder and name since.
        to: (NodeId, String),
    },
}

/// Returns all that happened to a node, the latest first; empty if there is no such node. Cost: its operations.
///
/// # Errors
/// [`RowError`] as the store gives it.
pub fn history(rows: &dyn ReadRows, node: NodeId) -> Result<Vec<Event>, RowError> {
    let Some(mut row) = nodes::read(rows, node)? else { return Ok(Vec::new()) };
    let mut events = Vec::new();
    for (op, undo) in nodes::undos_after(rows, node, &row.created)? {
        let after = row.place.clone();
        let replaced = undo.content.as_ref().map(|content| content.removed.iter().map(|v| v.vid).collect());
        let moved = undo.place.is_some();
        let kept = undo.kept.clone();
        undo.revert(&op, &mut row);
        if moved {
            events.push(Event { op, what: placed(&op, &row.place, after) });
        }
        if let Some(replaced) = replaced {
            let vid = version_id(&op);
            events.push(Event { op, what: Happened::Written { vid, replaced } });
        }
        events.extend(kept.map(|version| Event { op, what: Happened::Kept { version } }));
    }
    let (op, Place { parent, name, from, by, .. }) = (row.created, row.place);
    // One that was made in the trash was there with its content.
    let parent = if by.is_some() { from } else { parent };
    events.extend(by.map(|_| Event { op, what: Happened::Trashed { from } }));
    let first = row.versions.iter().map(|v| Happened::Written { vid: v.vid, replaced: Vec::new() });
    events.extend(first.map(|what| Event { op, what }));
    events.push(Event { op, what: Happened::Created { parent, name } });
    // Several may have kept one.
    let mut known: HashSet<_> = row.versions.iter().map(same).collect();
    events.reverse();
    events.retain(|event| match &event.what {
        Happened::Kept { version } => known.insert(same(version)),
        _ => true,
    });
    events.reverse();
    Ok(events)
}

/// What is equal of one version that several operations kept.
fn same(version: &Version) -> (VersionId, ContentHash, i64, bool) {
    (version.vid, version.file.content_hash(), version.mtime_ms, version.exec)
}

/// Says what an operation did that changed the place.
fn placed(op: &OpOrder, before: &Place, after: Place) -> Happened {
    if after.by.is_some() {
        Happened::Trashed { from: before.parent }
    } else if before.by.is_some() {
        Happened::Restored { to: (after.parent, after.name) }
    } else if after.moved == *op {
        Happened::Moved { from: (before.parent, before.name.clone()), to: (after.parent, after.name) }
    } else {
        Happened::Lifted { from: before.parent, to: after.parent }
    }
}

/// Finds a version of a file, live or replaced. Cost: the operations on the file.
///
/// # Errors
/// [`RowError`] as the store gives it.
pub fn version(rows: &dyn ReadRows, node: NodeId, vid: VersionId) -> Result<Option<Version>, RowError> {
    let Some(row) = nodes::read(rows, node)? else { return Ok(None) };
    if let Some(live) = row.versions.iter().find(|v| v.vid == vid) {
        return Ok(Some(live.clone()));
    }
    // What was kept under the id of another one does not hide that.
    let (mut kept, undos) = (None, nodes::undos_after(rows, node, &row.created)?);
    for (_, undo) in undos {
        let removed = undo.content.into_iter().flat_map(|content| content.removed);
        if let Some(found) = removed.into_iter().find(|v| v.vid == vid) {
            return Ok(Some(found));
        }
        kept = kept.or(undo.kept.filter(|v| v.vid == vid));
    }
    Ok(kept)
}

/// What contents a file has and had.
pub(super) struct Contents {
    /// The versions that each operation replaced and that were not there.
    pub(super) absent: HashMap<OpOrder, Vec<VersionId>>,
    /// The first operation that replaced a version which was not there.
    pub(super) replaced_by: HashMap<VersionId, OpOrder>,
    /// All of them, and whether they are live, or a content replaced them.
    versions: HashMap<(i64, ContentHash), Vec<(Version, bool)>>,
}

impl Contents {
    /// Reads them. Cost: the operations on the file.
    ///
    /// # Errors
    /// [`RowError`] as the store gives it.
    pub(super) fn read(rows: &dyn ReadRows, node: NodeId, row: Row) -> Result<Self, RowError> {
        let mut found =
            Self { absent: HashMap::new(), replaced_by: HashMap::new(), versions: HashMap::new() };
        for (op, undo) in nodes::undos_after(rows, node, &row.created)? {
            let content = undo.content.unwrap_or_default();
            // The latest one comes first.
            found.replaced_by.extend(content.absent.iter().map(|vid| (*vid, op)));
            if !content.absent.is_empty() {
                found.absent.insert(op, content.absent);
            }
            content.removed.into_iter().for_each(|version| found.add(version, true));
            undo.kept.into_iter().for_each(|version| found.add(version, false));
        }
        row.versions.into_iter().for_each(|version| found.add(version, true));
        Ok(found)
    }

    fn add(&mut self, version: Version, was_live: bool) {
        let alike = (version.mtime_ms, version.file.content_hash());
        self.versions.entry(alike).or_default().push((version, was_live));
    }

    /// Whether a version that is live, or that a content replaced, has this id and this content.
    pub(super) fn was_live(&self, vid: &VersionId, content: &Written) -> bool {
        self.of(content).any(|(version, was_live)| *was_live && version.vid == *vid)
    }

    /// Whether the file has a version with this id and this content, or had it.
    pub(super) fn has(&self, vid: &VersionId, content: &Written) -> bool {
        self.of(content).any(|(version, _)| version.vid == *vid)
    }

    /// Whether the file has a content, or had it.
    pub(super) fn had(&self, content: &Written) -> bool {
        self.of(content).next().is_some()
    }

    fn of(&self, content: &Written) -> impl Iterator<Item = &(Version, bool)> {
        let alike = self.versions.get(&(content.mtime_ms, content.file.content_hash()));
        alike.into_iter().flatten().filter(|(version, _)| content.is_in(version))
    }
}

/// Returns the node as it was after all entries with a clock of at most `hlc`; `None` if it did not exist.
///
/// The name it was shown under then is not known; `displayed` is its own. Cost: its operations since.
///
/// # Errors
/// [`RowError`] as the store gives it.
pub fn node_at(rows: &dyn ReadRows, node: NodeId, hlc: u64) -> Result<Option<Node>, RowError> {
    Ok(row_at(rows, node, hlc)?.map(|row| {
        let displayed = row.place.name.clone();
        Node::of(node, row, displayed)
    }))
}

fn row_at(rows: &dyn ReadRows, node: NodeId, hlc: u64) -> Result<Option<Row>, RowError> {
    let end = last_at(hlc);
    let Some(mut row) = nodes::read(rows, node)?.filter(|row| row.created <= end) else { return Ok(None) };
    for (op, undo) in nodes::undos_after(rows, node, &end)? {
        undo.revert(&op, &mut row);
    }
    Ok(Some(row))
}

/// Returns the last place in total order with this clock.
fn last_at(hlc: u64) -> OpOrder {
    let author = [0xff; 32].into();
    OpOrder { entry: EntryOrder { hlc, author, seq: u64::MAX }, index: u16::MAX }
}

/// Visits every node that existed after all entries with a clock of at most `hlc`, as it was then, by id: what
/// `restore --at` compares with the present. Cost: all nodes, and the operations since.
///
/// # Errors
/// [`RowError`] as the store gives it.
pub fn walk_at(
    rows: &dyn ReadRows,
    hlc: u64,
    visit: &mut dyn FnMut(Node) -> ControlFlow<()>,
) -> Result<(), RowError> {
    let mut start = Vec::new();
    loop {
        let page = nodes::ids_from(rows, &start)?;
        let Some(last) = page.last() else { return Ok(()) };
        start = [&last.0[..], &[0]].concat();
        for id in page {
            if let Some(node) = node_at(rows, id, hlc)?
                && visit(node).is_break()
            {
                return Ok(());
            }
        }
    }
}
