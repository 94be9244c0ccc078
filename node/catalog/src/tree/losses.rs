//! What an entry takes away: files that it put into the trash, contents that it replaced. What the brake counts
//! ([`crate::brake`]).

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use locker_crypto::id::{NodeId, VerifyingKey};

use super::children;
use super::content::walk_live;
use super::nodes;
use super::row::{HISTORY, Undo, Version, intact, key, op_key};
use super::view::counts_of;
use crate::brake::{Losses, WINDOW_MS};
use crate::clock::unix_ms;
use crate::operation::{NodeKind, Op};
use crate::order::{EntryOrder, OpOrder};
use crate::rows::{ReadRows, RowError};

/// Children read at a time.
const PAGE: usize = 1_024;

/// A content: its size and the first half of its hash, which nobody makes meet on purpose.
pub(crate) type Likeness = (u64, u128);

/// A file whose content an operation replaced: the operation, what it had before, what it has by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overwritten {
    /// The operation.
    pub at: OpOrder,
    /// A version that it replaced, the last one of several.
    pub before: Version,
    /// The version that it wrote; `None` if that was replaced by now.
    pub after: Option<Version>,
}

/// Whether an operation may take something away.
pub(crate) fn is_taking(op: &Op) -> bool {
    match op {
        Op::Trash(_) => true,
        Op::Content(content) => !content.bases.is_empty(),
        _ => false,
    }
}

/// Counts what an entry that is applied takes away in this tree, as it stands now.
///
/// Who writes one file again and again replaces one content of others, and then his own: only the first counts. What an
/// entry wrote that `is_undone` is no loss.
pub(crate) fn losses<'o>(
    rows: &dyn ReadRows,
    order: EntryOrder,
    ops: impl IntoIterator<Item = (u16, &'o Op)>,
    is_undone: &dyn Fn(&EntryOrder) -> Result<bool, RowError>,
) -> Result<Losses, RowError> {
    let mut found = Losses::default();
    for (index, op) in ops {
        let at = OpOrder { entry: order, index };
        match op {
            Op::Trash(op) => {
                let row = nodes::read(rows, op.node)?;
                if row.is_some_and(|row| row.place.by == Some(at)) {
                    found.gone += counts_of(rows, op.node)?.files;
                }
            }
            Op::Content(content) if !content.bases.is_empty() => {
                if let Some(before) = replaced(rows, content.node, &at)? {
                    found.replaced += u64::from(!is_undone(&before.op.entry)?);
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Hands out the files that an entry replaced a content of.
pub(crate) fn overwritten<'o>(
    rows: &dyn ReadRows,
    order: EntryOrder,
    ops: impl IntoIterator<Item = (u16, &'o Op)>,
) -> Result<Vec<Overwritten>, RowError> {
    let mut found = Vec::new();
    for (index, op) in ops {
        let at = OpOrder { entry: order, index };
        let Op::Content(content) = op else { continue };
        if let Some(before) = replaced(rows, content.node, &at)? {
            let row = nodes::read(rows, content.node)?;
            let after = row.and_then(|row| row.versions.into_iter().find(|version| version.op == at));
            found.push(Overwritten { at, before, after });
        }
    }
    Ok(found)
}

fn replaced(rows: &dyn ReadRows, node: NodeId, at: &OpOrder) -> Result<Option<Version>, RowError> {
    let Some(undo) = rows.get(HISTORY, &key(&[node.as_ref(), &op_key(at)]))? else { return Ok(None) };
    let removed = intact(Undo::decode(&undo))?.content.map(|content| content.removed).unwrap_or_default();
    let is_old = |version: &Version| is_of_others(&version.op, at.entry.author, unix_ms(at.entry.hlc));
    Ok(removed.into_iter().filter(is_old).max_by_key(|version| version.op))
}

/// Whether an operation is of another device, or older than the window.
fn is_of_others(op: &OpOrder, author: VerifyingKey, now_ms: u64) -> bool {
    op.entry.author != author || unix_ms(op.entry.hlc).saturating_add(WINDOW_MS) <= now_ms
}

/// Visits the contents of all files at and below a node, in the trash or not, until `visit` breaks.
pub(crate) fn likenesses_below(
    rows: &dyn ReadRows,
    top: NodeId,
    visit: &mut dyn FnMut(Likeness) -> ControlFlow<()>,
) -> Result<(), RowError> {
    let mut open = Vec::new();
    match nodes::read(rows, top)? {
        Some(row) if row.kind == NodeKind::Folder => open.push(top),
        Some(row) => {
            if let Some(newest) = row.newest() {
                let _ = visit(likeness(newest));
            }
        }
        None => {}
    }
    while let Some(folder) = open.pop() {
        let mut from = None;
        loop {
            let (page, next) = children::page(rows, folder, from.as_deref(), PAGE)?;
            for child in page {
                if child.kind == NodeKind::Folder {
                    open.push(child.node);
                }
                if let Some(newest) = child.newest
                    && visit((newest.size, half(&newest.hash.0))).is_break()
                {
                    return Ok(());
                }
            }
            from = next;
            if from.is_none() {
                break;
            }
        }
    }
    Ok(())
}

/// Which of some contents a file outside the trash has. Cost: all nodes, twice.
pub(crate) fn live_among(
    rows: &dyn ReadRows,
    wanted: &BTreeSet<Likeness>,
) -> Result<BTreeSet<Likeness>, RowError> {
    let mut found = BTreeSet::new();
    walk_live(rows, &mut |_, version, _| {
        let likeness = likeness(version);
        if wanted.contains(&likeness) {
            found.insert(likeness);
        }
        if found.len() < wanted.len() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(found)
}

fn likeness(version: &Version) -> Likeness {
    (version.file.size(), half(&version.file.content_hash().0))
}

fn half(hash: &[u8; 32]) -> u128 {
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    u128::from_be_bytes(half)
}
