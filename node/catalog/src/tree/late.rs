//! Entries that come late, and taking entries back (`docs/spec/05-tree.md`, "Late entries").
//!
//! **In place.** A late entry p may be applied to the present tree if no later operation q read what p writes, and
//! none wrote what p reads. For that each operation leaves marks ([`super::row::Marks`]), also where it was refused:
//!
//! | q reads or writes | mark |
//! |---|---|
//! | existence or place of a node it names | place of that node (a move is its own mark) |
//! | the parents of a node, up to ROOT or TRASH | below, on each of them |
//! | a missing parent or scope | below, on that id |
//! | room in a folder, without finding any | place of that folder |
//!
//! p asks: are the places of its node and of all parents (old and new) settled, that is without a later mark (a parent
//! may have got another name: who goes through it does not look at that); if it
//! trashes a folder or gives it another parent, is also what is below it; if it trashes a file, or lifts one from where
//! a `keep` made it, has the file no later content. A new name is seen by nobody below.
//! If so, these places are now what they were at p, and no q has looked through them. Versions of one file commute but
//! for their bases, which [`super::apply`] corrects; limits are compared with the highest counts there ever were.
//!
//! **Rewind.** Otherwise all entries from p on are undone, operation by operation in reverse order (so that every
//! tree in between is one that replay has been in), and replayed.

use std::ops::ControlFlow;

use locker_crypto::Refusal;

use super::apply::{Outcome, apply_entry, order_key};
use super::limits::Limits;
use super::nodes::Nodes;
use super::row::{HISTORY, META, ORDER, PROBLEMS, Touch, Undo, intact, key, op_key};
use super::{Counted, TreeEntry};
use crate::order::{EntryOrder, OpOrder};
use crate::rows::{ReadRows, RowError, WriteRows};

/// Rows of entries that are undone or replayed between two looks into the table; few in tests, so that these turn
/// pages too.
const PAGE: usize = if cfg!(test) { 5 } else { 128 };

/// Returns the last entry of the tree in total order.
pub(super) fn last(rows: &dyn ReadRows) -> Result<Option<EntryOrder>, RowError> {
    let mut found = None;
    rows.scan_back(ORDER, &[], None, &mut |key, _| {
        found = Some(read_order_key(key));
        ControlFlow::Break(())
    })?;
    Ok(intact(found.transpose())?.map(|(entry, _)| entry))
}

/// Whether the tree has this entry.
pub(super) fn has(rows: &dyn ReadRows, entry: &EntryOrder) -> Result<bool, RowError> {
    Ok(rows.get(ORDER, &order_key(entry, 0))?.is_some())
}

/// Adds entries, in total order, none of which the tree has.
pub(super) fn add(
    rows: &mut dyn WriteRows,
    counted: &dyn Counted,
    entries: &[&TreeEntry],
    limits: &Limits,
) -> Result<(), RowError> {
    let mut end = last(rows)?;
    for (at, entry) in entries.iter().enumerate() {
        let late = end > Some(entry.order);
        if let Outcome::Rewind = apply_entry(rows, entry, limits, late)? {
            return replay_from(rows, counted, entry.order, &entries[at..], limits);
        }
        end = end.max(Some(entry.order));
    }
    Ok(())
}

/// Takes back all entries at or after `from`, then replays those that count, and `more`, which are in total order.
pub(super) fn replay_from(
    rows: &mut dyn WriteRows,
    counted: &dyn Counted,
    from: EntryOrder,
    more: &[&TreeEntry],
    limits: &Limits,
) -> Result<(), RowError> {
    undo_from(rows, &from)?;
    for entry in more {
        rows.put(ORDER, &order_key(&entry.order, 0), &Touch::encode_all(&[]))?;
    }
    let mut start = order_key(&from, 0);
    loop {
        let page = entries_from(rows, &start)?;
        let Some(end) = page.last() else { return Ok(()) };
        start = order_key(end, u32::MAX);
        for order in page {
            let fetched;
            let entry = match more.binary_search_by_key(&order, |entry| entry.order) {
                Ok(at) => Some(more[at]),
                Err(_) => {
                    fetched = counted.tree_entry(rows, &order)?;
                    fetched.as_ref()
                }
            };
            match entry {
                None => rows.delete(ORDER, &order_key(&order, 0))?,
                Some(entry) => {
                    apply_entry(rows, entry, limits, false)?;
                }
            }
        }
    }
}

/// Takes back all entries at or after `from`; of each a row without changes stays in the table.
fn undo_from(rows: &mut dyn WriteRows, from: &EntryOrder) -> Result<(), RowError> {
    let start = order_key(from, 0);
    let mut end: Option<Vec<u8>> = None;
    loop {
        let mut page = Vec::new();
        rows.scan_back(ORDER, &start, end.as_deref(), &mut |key, value| {
            page.push((key.to_vec(), value.to_vec()));
            if page.len() < PAGE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        let Some((first, _)) = page.last() else { break };
        end = Some(first.clone());
        for (key, value) in page {
            let (entry, part) = intact(read_order_key(&key))?;
            let touches = intact(Touch::decode_all(&value))?;
            let mut nodes = Nodes::new(rows);
            for touch in touches.iter().rev() {
                undo(&mut nodes, touch, OpOrder { entry, index: touch.index })?;
            }
            if part == 0 {
                rows.put(ORDER, &key, &Touch::encode_all(&[]))?;
            } else {
                rows.delete(ORDER, &key)?;
            }
        }
    }
    let mut problems = Vec::new();
    rows.scan(PROBLEMS, &from.to_key(), None, &mut |key, _| {
        problems.push(key.to_vec());
        ControlFlow::Continue(())
    })?;
    problems.iter().try_for_each(|key| rows.delete(PROBLEMS, key))
}

/// Takes back one change, the last one there is.
fn undo(nodes: &mut Nodes<'_>, touch: &Touch, op: OpOrder) -> Result<(), RowError> {
    let node = touch.node;
    if let Some(hash) = touch.meta {
        return nodes.rows.delete(META, &key(&[node.as_ref(), &hash, &op_key(&op)]));
    }
    let old = nodes.read_named(node)?;
    let at = key(&[node.as_ref(), &op_key(&op)]);
    let Some(record) = nodes.rows.get(HISTORY, &at)? else {
        let is_create = old.created == op;
        return if is_create {
            nodes.write(node, Some(&old), None)
        } else {
            Err(RowError::Corrupt(Refusal::Node))
        };
    };
    let mut new = old.clone();
    intact(Undo::decode(&record))?.revert(&op, &mut new);
    nodes.rows.delete(HISTORY, &at)?;
    nodes.write(node, Some(&old), Some(&new))
}

fn entries_from(rows: &dyn ReadRows, start: &[u8]) -> Result<Vec<EntryOrder>, RowError> {
    let mut page = Vec::new();
    rows.scan(ORDER, start, None, &mut |key, _| {
        page.push(read_order_key(key).map(|(entry, _)| entry));
        if page.len() < PAGE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    intact(page.into_iter().collect())
}

fn read_order_key(key: &[u8]) -> Result<(EntryOrder, u32), Refusal> {
    let (entry, part) = key.split_at_checked(EntryOrder::KEY_LEN).ok_or(Refusal::Canon)?;
    let part = part.try_into().map_err(|_| Refusal::Canon)?;
    Ok((EntryOrder::from_key(entry).ok_or(Refusal::Canon)?, u32::from_be_bytes(part)))
}
