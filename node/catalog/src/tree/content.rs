//! Which contents files refer to: what a check of all content and the collecting of garbage go through.
//!
//! Live is a version that a file outside the trash has. Everything else is past: versions that were replaced, and
//! all that lies in the trash.

use std::collections::HashSet;
use std::ops::ControlFlow;

use locker_crypto::Refusal;
use locker_crypto::id::NodeId;

use super::row::{NODES, ORDER, Row, TRASHED, Touch, Version, intact};
use super::view::trashed_key;
use super::{children, nodes};
use crate::operation::NodeKind;
use crate::rows::{ReadRows, RowError};

/// Children read at a time.
const PAGE: usize = 1_024;

/// Whether a version counts now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A file outside the trash has it.
    Live,
    /// It was replaced, or its file lies in the trash.
    Past,
}

/// Hears of a version: the file, the version, whether it counts.
pub type VisitVersion<'a> = dyn FnMut(NodeId, &Version, Standing) -> ControlFlow<()> + 'a;

/// Visits every content that any file has or had, the trash included, by node. Cost: all nodes and all operations on
/// them; memory: 16 bytes for each folder, and one node.
///
/// # Errors
/// [`RowError`] as the store gives it, here and below.
pub fn walk_versions(rows: &dyn ReadRows, visit: &mut VisitVersion<'_>) -> Result<(), RowError> {
    let live = LiveFolders::read(rows)?;
    each_node(rows, &mut |id, row| {
        let standing = live.standing(&row);
        let undos = nodes::undos_after(rows, id, &row.created)?;
        let replaced = undos.into_iter().flat_map(|(_, undo)| undo.past());
        let now = row.versions.into_iter().map(|version| (version, standing));
        for (version, standing) in now.chain(replaced.map(|version| (version, Standing::Past))) {
            if visit(id, &version, standing).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    })
}

/// Visits every live version, by node. Cost: all nodes, twice; memory as [`walk_versions`].
///
/// # Errors
/// As [`walk_versions`].
pub fn walk_live(rows: &dyn ReadRows, visit: &mut VisitVersion<'_>) -> Result<(), RowError> {
    let live = LiveFolders::read(rows)?;
    each_node(rows, &mut |id, row| {
        if live.standing(&row) == Standing::Live {
            for version in &row.versions {
                if visit(id, version, Standing::Live).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    })
}

/// Visits at least every version that came to be past by an operation with a clock of at least `since` and at most `to`;
/// others may be among them. Cost: the operations since, all that they put into the trash, and, of what they touched,
/// the operations on it.
///
/// # Errors
/// As [`walk_versions`].
pub fn walk_recently_past(
    rows: &dyn ReadRows,
    (since, to): (u64, u64),
    visit: &mut VisitVersion<'_>,
) -> Result<(), RowError> {
    let mut reached = HashSet::new();
    let (from, end) = (since.to_be_bytes(), to.checked_add(1).map(u64::to_be_bytes));
    let end = end.as_ref().map(|end| &end[..]);
    let mut trashed = Vec::new();
    rows.scan(TRASHED, &from, end, &mut |key, _| {
        trashed.push(trashed_key(key).map(|(_, node)| node));
        ControlFlow::Continue(())
    })?;
    let mut open: Vec<NodeId> = intact(trashed.into_iter().collect())?;
    while let Some(id) = open.pop() {
        let mut from = None;
        while from.is_some() || reached.insert(id) {
            let (page, next) = children::page(rows, id, from.as_deref(), PAGE)?;
            open.extend(page.iter().map(|child| child.node));
            from = next;
            if from.is_none() {
                break;
            }
        }
    }
    let mut touched = Vec::new();
    rows.scan(ORDER, &from, end, &mut |_, value| {
        touched.push(Touch::decode_all(value));
        ControlFlow::Continue(())
    })?;
    for touches in touched {
        reached.extend(intact(touches)?.into_iter().map(|touch| touch.node));
    }
    for id in reached {
        let Some(row) = nodes::read(rows, id)? else { continue };
        if row.kind != NodeKind::File {
            continue;
        }
        let undos = nodes::undos_after(rows, id, &row.created)?;
        let replaced = undos.into_iter().filter(|(op, _)| (since..=to).contains(&op.entry.hlc));
        let replaced = replaced.flat_map(|(_, undo)| undo.past());
        for version in row.versions.into_iter().chain(replaced) {
            if visit(id, &version, Standing::Past).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Visits every node with its row, by id.
fn each_node(
    rows: &dyn ReadRows,
    visit: &mut dyn FnMut(NodeId, Row) -> Result<ControlFlow<()>, RowError>,
) -> Result<(), RowError> {
    let mut failure = Ok(());
    rows.scan(NODES, &[], None, &mut |key, value| {
        let read =
            || -> Result<(NodeId, Row), Refusal> { Ok((NodeId::from_slice(key)?, Row::decode(value)?)) };
        let step = intact(read()).and_then(|(id, row)| visit(id, row));
        step.unwrap_or_else(|error| {
            failure = Err(error);
            ControlFlow::Break(())
        })
    })?;
    failure
}

/// The folders that are not in the trash.
struct LiveFolders(HashSet<NodeId>);

impl LiveFolders {
    fn read(rows: &dyn ReadRows) -> Result<Self, RowError> {
        let mut folders = Vec::new();
        each_node(rows, &mut |id, row| {
            if row.kind == NodeKind::Folder {
                folders.push((row.place.parent, id));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        folders.sort_unstable();
        let mut live = HashSet::from([NodeId::ROOT]);
        let mut open = vec![NodeId::ROOT];
        while let Some(parent) = open.pop() {
            let start = folders.partition_point(|(above, _)| *above < parent);
            for (_, id) in folders[start..].iter().take_while(|(above, _)| *above == parent) {
                if live.insert(*id) {
                    open.push(*id);
                }
            }
        }
        Ok(Self(live))
    }

    fn standing(&self, row: &Row) -> Standing {
        if self.0.contains(&row.place.parent) { Standing::Live } else { Standing::Past }
    }
}
