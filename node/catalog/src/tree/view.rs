//! Looking at the tree: listings, paths, the trash, meta items and operations without effect.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use locker_crypto::Refusal;
use locker_crypto::id::NodeId;
use unicode_normalization::UnicodeNormalization;

use super::row::{
    Child, Counts, META, Newest, PROBLEMS, Row, TRASHED, Version, after, decode_meta, intact, key,
    op_from_key,
};
use super::{children as index, nodes};
use crate::name::numbered;
use crate::operation::NodeKind;
use crate::order::{EntryOrder, OpOrder};
use crate::rows::{ReadRows, RowError};

/// A node with all that is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// The folder it is in; TRASH if it was put into the trash itself.
    pub parent: NodeId,
    /// The name that its author gave it.
    pub name: String,
    /// The name it is shown under.
    pub displayed: String,
    /// File, folder or mount.
    pub kind: NodeKind,
    /// The operation that made it.
    pub created: OpOrder,
    /// Its last move or renaming.
    pub moved: OpOrder,
    /// If it was put into the trash itself: the folder before and the operation.
    pub trashed: Option<(NodeId, OpOrder)>,
    /// Its live versions, the newest first. More than one: a conflict to decide.
    pub versions: Vec<Version>,
}

impl Node {
    pub(super) fn of(id: NodeId, row: Row, displayed: String) -> Self {
        let Row { place, kind, created, mut versions } = row;
        versions.sort_by_key(|v| std::cmp::Reverse(v.op));
        let trashed = place.by.map(|by| (place.from, by));
        let (parent, name, moved) = (place.parent, place.name, place.moved);
        Self { id, parent, name, displayed, kind, created, moved, trashed, versions }
    }
}

/// A child as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The node.
    pub id: NodeId,
    /// The name it is shown under.
    pub displayed: String,
    /// File, folder or mount.
    pub kind: NodeKind,
    /// The newest version of a file, if it has one.
    pub newest: Option<Newest>,
    /// Number of live versions; above 1 there is something to decide.
    pub versions: usize,
}

impl From<Child> for Listed {
    fn from(child: Child) -> Self {
        let Child { node, number, name, kind, newest, versions } = child;
        let displayed = if number == 0 { name } else { numbered(&name, number) };
        Self { id: node, displayed, kind, newest, versions }
    }
}

/// Something that was put into the trash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trashed {
    /// The node, with its name.
    pub node: Node,
    /// The folder it was in.
    pub from: NodeId,
    /// The operation that put it there.
    pub by: OpOrder,
}

/// Returns a node, in the trash or not. ROOT and TRASH are no nodes.
///
/// # Errors
/// [`RowError`] as the store gives it, here and below.
pub fn node(rows: &dyn ReadRows, id: NodeId) -> Result<Option<Node>, RowError> {
    let Some(row) = nodes::read(rows, id)? else { return Ok(None) };
    let displayed = shown_name(rows, &row)?;
    Ok(Some(Node::of(id, row, displayed)))
}

fn shown_name(rows: &dyn ReadRows, row: &Row) -> Result<String, RowError> {
    if row.place.by.is_some() { Ok(row.place.name.clone()) } else { index::displayed(rows, row) }
}

/// Visits the children of a folder, in a stable order without meaning; sort them by name once all are there.
///
/// # Errors
/// As [`node`].
pub fn children(
    rows: &dyn ReadRows,
    folder: NodeId,
    visit: &mut dyn FnMut(Listed) -> ControlFlow<()>,
) -> Result<(), RowError> {
    index::each(rows, folder, &mut |child| visit(child.into()))
}

/// Visits one of [`CHILDREN_PARTS`] parts of the children of a folder, about equally large, so that several threads can
/// read a large one.
///
/// # Errors
/// As [`node`].
pub fn children_part(
    rows: &(impl ReadRows + ?Sized),
    folder: NodeId,
    part: u8,
    visit: &mut dyn FnMut(Listed) -> ControlFlow<()>,
) -> Result<(), RowError> {
    index::each_part(rows, folder, part, &mut |child| visit(child.into()))
}

/// How many children a folder has. Cost: one row.
///
/// # Errors
/// As [`node`].
pub fn count_children(rows: &dyn ReadRows, folder: NodeId) -> Result<u64, RowError> {
    Ok(nodes::folder(rows, folder)?.children())
}

/// Returns the children of a folder whose own name is exactly this one, whatever they are shown under, in the order of
/// their creation.
///
/// # Errors
/// As [`node`].
pub fn named(rows: &dyn ReadRows, folder: NodeId, name: &str) -> Result<Vec<Listed>, RowError> {
    let mut found = Vec::new();
    index::each_of_group(rows, folder, name, &mut |child| {
        if child.name == name {
            found.push(child.into());
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Finds the child that is shown under exactly this name (in any normal form).
///
/// # Errors
/// As [`node`].
pub fn child(rows: &dyn ReadRows, folder: NodeId, name: &str) -> Result<Option<Listed>, RowError> {
    Ok(alike(rows, folder, name)?.filter(|listed| listed.displayed.chars().eq(name.nfc())))
}

/// Finds the child whose shown name is this one, or differs from it in case only (in full: has its collision key).
/// Beside it another one of this name would be shown with a number.
///
/// # Errors
/// As [`node`].
pub fn alike(rows: &dyn ReadRows, folder: NodeId, name: &str) -> Result<Option<Listed>, RowError> {
    Ok(index::find(rows, folder, name)?.map(Listed::from))
}

/// Follows shown names from ROOT down; no names lead to ROOT.
///
/// # Errors
/// As [`node`].
pub fn lookup(rows: &dyn ReadRows, path: &[&str]) -> Result<Option<NodeId>, RowError> {
    let mut at = NodeId::ROOT;
    for name in path {
        match child(rows, at, name)? {
            Some(listed) => at = listed.id,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

/// Returns the shown names from ROOT down to a node; `None` if it does not exist or lies in the trash.
///
/// # Errors
/// As [`node`].
pub fn path_of(rows: &dyn ReadRows, id: NodeId) -> Result<Option<Vec<String>>, RowError> {
    let (mut path, mut at) = (Vec::new(), id);
    while at != NodeId::ROOT {
        let Some(row) = nodes::read(rows, at)?.filter(|row| row.place.by.is_none()) else { return Ok(None) };
        path.push(shown_name(rows, &row)?);
        if path.len() > nodes::CHAIN_MAX {
            return Err(RowError::Corrupt(Refusal::Cycle));
        }
        at = row.place.parent;
    }
    path.reverse();
    Ok(Some(path))
}

/// Visits everything below a folder, each folder before what is in it: path from that folder, and what a listing
/// shows.
///
/// # Errors
/// As [`node`].
pub fn walk(
    rows: &dyn ReadRows,
    folder: NodeId,
    visit: &mut dyn FnMut(&[String], &Listed) -> ControlFlow<()>,
) -> Result<(), RowError> {
    let mut open: Vec<(NodeId, Vec<String>)> = vec![(folder, Vec::new())];
    let mut goes_on = true;
    while let Some((folder, mut path)) = open.pop().filter(|_| goes_on) {
        children(rows, folder, &mut |listed| {
            path.push(listed.displayed.clone());
            let step = visit(&path, &listed);
            goes_on = step.is_continue();
            if listed.kind == NodeKind::Folder {
                open.push((listed.id, path.clone()));
            }
            path.pop();
            step
        })?;
    }
    Ok(())
}

/// Returns what was put into the trash before the operation `before`, the latest first, at most `limit` of it.
///
/// # Errors
/// As [`node`].
pub fn trash_list(
    rows: &dyn ReadRows,
    before: Option<&OpOrder>,
    limit: usize,
) -> Result<Vec<Trashed>, RowError> {
    let end = before.map(super::row::op_key);
    let mut found = Vec::new();
    rows.scan_back(TRASHED, &[], end.as_ref().map(|end| &end[..]), &mut |key, _| {
        found.push(trashed_key(key));
        if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    let found: Vec<(OpOrder, NodeId)> = intact(found.into_iter().collect())?;
    let read = |(by, id)| {
        let node = node(rows, id)?.ok_or(RowError::Corrupt(Refusal::Node))?;
        let from = node.trashed.map_or(NodeId::ROOT, |(from, _)| from);
        Ok(Trashed { node, from, by })
    };
    found.into_iter().take(limit).map(read).collect()
}

pub(super) fn trashed_key(key: &[u8]) -> Result<(OpOrder, NodeId), Refusal> {
    let at = key.len().checked_sub(NodeId::LEN).ok_or(Refusal::Canon)?;
    Ok((op_from_key(&key[..at])?, NodeId::from_slice(&key[at..])?))
}

/// Returns the value of a meta item; ROOT's are those of the space.
///
/// # Errors
/// As [`node`].
pub fn meta(rows: &dyn ReadRows, node: NodeId, item: &str) -> Result<Option<Vec<u8>>, RowError> {
    let prefix = key(&[node.as_ref(), &rows.keyed(item.as_bytes())]);
    let mut found = None;
    rows.scan_back(META, &prefix, after(&prefix).as_deref(), &mut |_, value| {
        found = Some(decode_meta(value));
        ControlFlow::Break(())
    })?;
    let value = found.map(intact).transpose()?.map(|(_, value)| value);
    Ok(value.filter(|value| !value.is_empty()))
}

/// Returns all meta items of a node by key.
///
/// # Errors
/// As [`node`].
pub fn metas(rows: &dyn ReadRows, node: NodeId) -> Result<BTreeMap<String, Vec<u8>>, RowError> {
    let mut found = Vec::new();
    rows.scan(META, node.as_ref(), after(node.as_ref()).as_deref(), &mut |_, value| {
        found.push(decode_meta(value));
        ControlFlow::Continue(())
    })?;
    let mut items: BTreeMap<_, _> = intact(found.into_iter().collect())?;
    items.retain(|_, value: &mut Vec<u8>| !value.is_empty());
    Ok(items)
}

/// Returns how much there is.
///
/// # Errors
/// As [`node`].
pub fn counts(rows: &dyn ReadRows) -> Result<Counts, RowError> {
    nodes::counts(rows)
}

/// Sums over one node and all below it, in the trash or not: what a trash of it would take. Of ROOT: all that is not
/// in the trash. Cost: its folders; one row each, and the listings of those that have sub-folders.
///
/// # Errors
/// As [`node`].
pub fn counts_of(rows: &dyn ReadRows, id: NodeId) -> Result<Counts, RowError> {
    let (own, below) = match nodes::read(rows, id)? {
        Some(row) if row.kind == NodeKind::Folder => (nodes::own_sum(&row), nodes::sum_below(rows, id)?),
        Some(row) => (nodes::own_sum(&row), nodes::Sum::default()),
        None if id == NodeId::ROOT => (nodes::Sum::default(), nodes::sum_below(rows, id)?),
        None => Default::default(),
    };
    let nodes::Sum { files, folders, bytes } = own.plus(below);
    Ok(Counts { nodes: files.saturating_add(folders), files, folders, bytes })
}

/// Returns the operations of one entry that have no effect, with the reason.
///
/// # Errors
/// As [`node`].
pub fn problems_of(rows: &dyn ReadRows, entry: &EntryOrder) -> Result<Vec<(u16, Refusal)>, RowError> {
    let from = entry.to_key();
    let found = problems_between(rows, &from, after(&from).as_deref())?;
    Ok(found.into_iter().map(|(op, why)| (op.index, why)).collect())
}

/// Returns all operations that have no effect, in total order, with the reason.
///
/// # Errors
/// As [`node`].
pub fn problems(rows: &dyn ReadRows) -> Result<Vec<(OpOrder, Refusal)>, RowError> {
    problems_between(rows, &[], None)
}

/// Visits the operations that have no effect, with the reason, the last one in total order first, until `visit` breaks.
///
/// # Errors
/// As [`node`].
pub(crate) fn problems_back(
    rows: &dyn ReadRows,
    visit: &mut dyn FnMut(OpOrder, Refusal) -> ControlFlow<()>,
) -> Result<(), RowError> {
    let mut failed = None;
    rows.scan_back(PROBLEMS, &[], None, &mut |key, value| match op_from_key(key)
        .and_then(|op| Ok((op, refusal_named(value)?)))
    {
        Ok((op, why)) => visit(op, why),
        Err(why) => {
            failed = Some(why);
            ControlFlow::Break(())
        }
    })?;
    intact(failed.map_or(Ok(()), Err))
}

fn problems_between(
    rows: &dyn ReadRows,
    from: &[u8],
    to: Option<&[u8]>,
) -> Result<Vec<(OpOrder, Refusal)>, RowError> {
    let mut found = Vec::new();
    rows.scan(PROBLEMS, from, to, &mut |key, value| {
        found.push(op_from_key(key).and_then(|op| Ok((op, refusal_named(value)?))));
        ControlFlow::Continue(())
    })?;
    intact(found.into_iter().collect())
}

/// Reads the stored name of a refusal.
fn refusal_named(code: &[u8]) -> Result<Refusal, Refusal> {
    ALL_REFUSALS.into_iter().find(|refusal| refusal.code().as_bytes() == code).ok_or(Refusal::Canon)
}

const ALL_REFUSALS: [Refusal; 28] = [
    Refusal::Canon,
    Refusal::Limit,
    Refusal::Version,
    Refusal::Hash,
    Refusal::Commit,
    Refusal::Tag,
    Refusal::Pad,
    Refusal::Sig,
    Refusal::Key,
    Refusal::Chain,
    Refusal::Time,
    Refusal::Scope,
    Refusal::Rights,
    Refusal::Depth,
    Refusal::Revoked,
    Refusal::Unregistered,
    Refusal::Epoch,
    Refusal::Fork,
    Refusal::Rollback,
    Refusal::Gap,
    Refusal::Name,
    Refusal::Cycle,
    Refusal::Node,
    Refusal::Fresh,
    Refusal::Frontier,
    Refusal::Quota,
    Refusal::Audience,
    Refusal::Pop,
];
