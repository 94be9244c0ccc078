//! Writing again what counts and has no effect, since it stood on what does not count: a file in a folder, a content of
//! a file, that a device made which was ended where that was not known yet (`docs/spec/04-spaces.md`, "Stranded").
//!
//! This file plans. Nothing is noted of what was written again: a content names the stranded one among those that it
//! replaces, and a node that is there was placed by a later move. In doubt a thing is kept.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use locker_crypto::id::{NodeId, VerifyingKey, VersionId};

use super::draft::{Draft, each_below, last_meta, recovered_name};
use super::nodes;
use super::row::Row;
use crate::name;
use crate::operation::{Content, Meta, Move, NodeKind, Op, version_id};
use crate::order::{EntryOrder, OpOrder};
use crate::rows::{ReadRows, RowError};

/// Missing folders on the way up from a node that are made again.
const MISSING_MAX: usize = 256;

/// Operations without effect, and who knew which.
pub trait Stranded {
    /// Those of the devices of one person, for want of the node or folder that they name, in total order.
    fn ops(&self) -> &[(OpOrder, Op)];

    /// Moves and contents for which their authors had no right, in total order.
    fn refused(&self) -> &[(OpOrder, Op)];

    /// Whether a device is one of that person.
    fn is_ours(&self, device: &VerifyingKey) -> bool;

    /// Whether the author of `entry` knew another entry, or wrote it; of one entry that is so.
    ///
    /// # Errors
    /// [`RowError`] as the store gives it.
    fn knew(&self, entry: &EntryOrder, other: &EntryOrder) -> Result<bool, RowError>;
}

/// Plans what gives stranded operations their effect, each with what is to be written for it, in this order: those that
/// `is_due` lets through, until `most` operations are planned. What is to be written for one may rest on what is written
/// for those before it. Nothing if all of them have it, or want none any more.
///
/// Cost: one look for each operation without effect.
///
/// # Errors
/// [`RowError`] as the store gives it.
pub fn rescue(
    rows: &dyn ReadRows,
    stranded: &dyn Stranded,
    is_due: &dyn Fn(&OpOrder) -> bool,
    most: usize,
) -> Result<Vec<(OpOrder, Vec<Op>)>, RowError> {
    let mut plan = Plan::new(rows, stranded);
    let mut found = Vec::new();
    let mut take = |plan: &mut Plan<'_>, at: OpOrder, from: usize| {
        let ops = plan.draft.ops[from..].to_vec();
        if !ops.is_empty() {
            found.push((at, ops));
        }
        plan.draft.ops.len() < most
    };
    for (at, op) in stranded.ops().iter().filter(|(at, _)| is_due(at)) {
        let from = plan.draft.ops.len();
        match op {
            Op::Move(op) => plan.place(at, op)?,
            Op::Content(op) => plan.write(at, op)?,
            Op::Meta(op) => plan.meta(at, op)?,
            _ => {}
        }
        if !take(&mut plan, *at, from) {
            return Ok(found);
        }
    }
    for (at, op) in stranded.refused() {
        let from = plan.draft.ops.len();
        let due = match op {
            Op::Move(op) => plan.take_out(at, op.node, is_due)?,
            Op::Content(op) => plan.fill(at, op, is_due)?.or(plan.take_out(at, op.node, is_due)?),
            _ => None,
        };
        if let Some(due) = due
            && !take(&mut plan, due, from)
        {
            break;
        }
    }
    Ok(found)
}

struct Plan<'a> {
    rows: &'a dyn ReadRows,
    stranded: &'a dyn Stranded,
    draft: Draft<'a>,
    /// Moves without effect, by the node, in total order.
    moves: HashMap<NodeId, Vec<(OpOrder, &'a Move)>>,
    /// What was put into the trash and was not there, by whom.
    trashed: HashMap<NodeId, Vec<OpOrder>>,
    /// What stranded contents replaced.
    replaced: BTreeSet<VersionId>,
    /// What refused contents replaced, by whom.
    refused: HashMap<VersionId, Vec<OpOrder>>,
}

impl<'a> Plan<'a> {
    fn new(rows: &'a dyn ReadRows, stranded: &'a dyn Stranded) -> Self {
        let mut plan = Self {
            rows,
            stranded,
            draft: Draft::new(rows),
            moves: HashMap::new(),
            trashed: HashMap::new(),
            replaced: BTreeSet::new(),
            refused: HashMap::new(),
        };
        for (at, op) in stranded.refused() {
            match op {
                Op::Move(op) => plan.moves.entry(op.node).or_default().push((*at, op)),
                Op::Content(op) => {
                    op.bases.iter().for_each(|vid| plan.refused.entry(*vid).or_default().push(*at));
                }
                _ => {}
            }
        }
        for (at, op) in stranded.ops() {
            match op {
                Op::Move(op) => plan.moves.entry(op.node).or_default().push((*at, op)),
                Op::Trash(op) => plan.trashed.entry(op.node).or_default().push(*at),
                Op::Content(op) => plan.replaced.extend(&op.bases),
                _ => {}
            }
        }
        for moves in plan.moves.values_mut() {
            moves.sort_unstable_by_key(|(at, _)| *at);
        }
        plan
    }

    fn place(&mut self, at: &OpOrder, op: &Move) -> Result<(), RowError> {
        let Ok(kind) = NodeKind::from_code(op.kind) else { return Ok(()) };
        if let Some(row) = nodes::read(self.rows, op.node)? {
            let is_over = match row.place.by {
                Some(by) => self.stranded.knew(&by.entry, &at.entry)?,
                None => row.place.moved >= *at,
            };
            if row.kind != kind || is_over {
                return Ok(());
            }
        }
        if self.is_given_up(at, op.node)? || self.is_given_up(at, op.parent)? {
            return Ok(());
        }
        let parent = self.folder_for(at, op.parent, op.node)?;
        self.draft.place(kind, Move { parent, ..op.clone() })
    }

    fn write(&mut self, at: &OpOrder, op: &Content) -> Result<(), RowError> {
        if self.is_given_up(at, op.node)? || self.replaced.contains(&version_id(at)) {
            return Ok(());
        }
        match nodes::read(self.rows, op.node)? {
            Some(row) => {
                if row.kind != NodeKind::File || self.is_replaced(op.node, &row, &version_id(at))? {
                    return Ok(());
                }
                // Whoever trashed it may have seen a name without this content: it is to be had from there.
                if let Some((top, by)) = self.draft.trashed_above(op.node)?
                    && !self.stranded.knew(&by.entry, &at.entry)?
                {
                    self.draft.take_out(op.node, &row, top)?;
                }
            }
            None => match self.draft.made(op.node) {
                Some(NodeKind::File) => {}
                Some(_) => return Ok(()),
                None => self.make(at, op.node)?,
            },
        }
        self.push_content(at, op);
        Ok(())
    }

    /// Writes a content, in the place of the one that has no effect too.
    fn push_content(&mut self, at: &OpOrder, op: &Content) {
        let mut bases = op.bases.clone();
        bases.push(version_id(at));
        bases.sort_unstable();
        bases.dedup();
        self.draft.ops.push(Op::Content(Content { bases, ..op.clone() }));
    }

    /// Makes a file where it was for whoever wrote into it.
    fn make(&mut self, at: &OpOrder, node: NodeId) -> Result<(), RowError> {
        let kind = NodeKind::File;
        let (parent, name) = match self.last_move(at, node, kind)? {
            Some(last) => (self.folder_for(at, last.parent, node)?, last.name.clone()),
            None => (NodeId::ROOT, recovered_name(at)),
        };
        self.draft.place(kind, Move { node, parent, name, kind: kind.code() })
    }

    fn meta(&mut self, at: &OpOrder, op: &Meta) -> Result<(), RowError> {
        let stands = match last_meta(self.rows, op.node, &op.key)? {
            Some((last, value)) => value == op.value || last > *at,
            None => op.value.is_empty(),
        };
        if !stands && self.draft.has(op.node)? {
            self.draft.ops.push(Op::Meta(op.clone()));
        }
        Ok(())
    }

    /// Gives a file the content that it had for whoever moved it, if it has none. Says by which move that is.
    fn fill(
        &mut self,
        at: &OpOrder,
        op: &Content,
        is_due: &dyn Fn(&OpOrder) -> bool,
    ) -> Result<Option<OpOrder>, RowError> {
        let Some(row) = nodes::read(self.rows, op.node)? else { return Ok(None) };
        let moved = row.place.moved;
        let is_bare = row.kind == NodeKind::File && row.versions.is_empty() && row.place.by.is_none();
        if !is_bare || !self.stranded.is_ours(&moved.entry.author) || !is_due(&moved) {
            return Ok(None);
        }
        let vid = version_id(at);
        let others = self.refused.get(&vid).map_or(&[][..], Vec::as_slice);
        let is_over = self.replaced.contains(&vid) || self.knew_any(&moved.entry, others)?;
        if is_over || !self.stranded.knew(&moved.entry, &at.entry)? {
            return Ok(None);
        }
        self.push_content(at, op);
        Ok(Some(moved))
    }

    /// Takes a file out of the trash for whoever wrote into it: for him it was not there, since something that has no
    /// effect had brought it back. Says by which content that is.
    fn take_out(
        &mut self,
        at: &OpOrder,
        node: NodeId,
        is_due: &dyn Fn(&OpOrder) -> bool,
    ) -> Result<Option<OpOrder>, RowError> {
        let Some(row) = nodes::read(self.rows, node)? else { return Ok(None) };
        let Some(by) = row.place.by else { return Ok(None) };
        let stranded = self.stranded;
        let mut found = None;
        each_below(self.rows, node, row, &mut |file, row| {
            for version in &row.versions {
                let (op, entry) = (version.op, &version.op.entry);
                let is_later = op > by && stranded.is_ours(&entry.author) && is_due(&op);
                if is_later && stranded.knew(entry, &by.entry)? && stranded.knew(entry, &at.entry)? {
                    found = Some((file, row.clone(), op));
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let Some((file, row, op)) = found else { return Ok(None) };
        self.draft.take_out(file, &row, node)?;
        Ok(Some(op))
    }

    /// Whether a version was replaced by one that has an effect, or was written again.
    fn is_replaced(&self, node: NodeId, row: &Row, vid: &VersionId) -> Result<bool, RowError> {
        let undos = nodes::undos_after(self.rows, node, &row.created)?;
        Ok(undos.iter().filter_map(|(_, undo)| undo.content.as_ref()).any(|done| done.absent.contains(vid)))
    }

    fn knew_any(&self, entry: &EntryOrder, ops: &[OpOrder]) -> Result<bool, RowError> {
        for op in ops {
            if self.stranded.knew(entry, &op.entry)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Where a node that is missing was for the author of an operation.
    fn last_move(&self, at: &OpOrder, node: NodeId, kind: NodeKind) -> Result<Option<&'a Move>, RowError> {
        for (other, op) in self.moves.get(&node).map_or(&[][..], Vec::as_slice).iter().rev() {
            let fits = other < at && op.kind == kind.code() && name::check(&op.name).is_ok();
            if fits && self.stranded.knew(&at.entry, &other.entry)? {
                return Ok(Some(op));
            }
        }
        Ok(None)
    }

    /// The folders that are missing on the way up from one, the lowest first, as they were for the author of an operation.
    fn missing(&self, at: &OpOrder, folder: NodeId) -> Result<Vec<&'a Move>, RowError> {
        let mut found: Vec<&Move> = Vec::new();
        let mut next = folder;
        while found.len() < MISSING_MAX && !self.draft.has(next)? {
            match self.last_move(at, next, NodeKind::Folder)? {
                Some(op) if found.iter().all(|other| other.node != op.node) => found.push(op),
                _ => break,
            }
            next = found.last().map_or(NodeId::ROOT, |op| op.parent);
        }
        Ok(found)
    }

    /// Whether what is missing, or a folder over it that is, was put into the trash by somebody who knew an operation.
    fn is_given_up(&self, at: &OpOrder, node: NodeId) -> Result<bool, RowError> {
        let mut over = vec![node];
        if !self.draft.has(node)? {
            if let Some(file) = self.last_move(at, node, NodeKind::File)? {
                over.push(file.parent);
            }
            let folder = over.last().copied().unwrap_or(node);
            over.extend(self.missing(at, folder)?.into_iter().map(|op| op.parent));
        }
        for node in over {
            for by in self.trashed.get(&node).map_or(&[][..], Vec::as_slice) {
                if by > at && self.stranded.knew(&by.entry, &at.entry)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Where something goes that is to be in `folder`, which is made again if it is missing.
    fn folder_for(&mut self, at: &OpOrder, folder: NodeId, node: NodeId) -> Result<NodeId, RowError> {
        for op in self.missing(at, folder)?.into_iter().rev() {
            let parent = self.draft.folder_for(op.parent, op.node)?;
            self.draft.place(NodeKind::Folder, Move { parent, ..op.clone() })?;
        }
        self.draft.folder_for(folder, node)
    }
}
