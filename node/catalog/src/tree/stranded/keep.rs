//! Stranded contents that were replaced or deleted: they join the history of their file, which is made in the trash if it
//! is not there.

use std::collections::BTreeMap;

use locker_crypto::id::NodeId;

use super::super::again::Written;
use super::super::draft::recovered_name;
use super::super::nodes;
use super::{Plan, is_node};
use crate::operation::{Content, Keep, NodeKind, Op, version_id};
use crate::order::OpOrder;
use crate::rows::RowError;

impl<'a> Plan<'a> {
    /// Keeps what was replaced or deleted, once all else of the plan is done: whoever wants a file makes it.
    pub(super) fn keep(&mut self) -> Result<(), RowError> {
        let mut contents: BTreeMap<NodeId, Vec<(OpOrder, &'a Content)>> = BTreeMap::new();
        for (at, op) in self.stranded.ops() {
            if let Op::Content(op) = op
                && is_node(op.node)
            {
                contents.entry(op.node).or_default().push((*at, op));
            }
        }
        for (node, contents) in contents {
            if !self.keep_of(node, &contents)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Keeps contents of one file. Says whether there is room for more.
    fn keep_of(&mut self, node: NodeId, contents: &[(OpOrder, &Content)]) -> Result<bool, RowError> {
        let row = nodes::read(self.rows, node)?;
        let is_made = row.is_some() || self.draft.made(node).is_some();
        let kind = match row.filter(|row| !row.is_as_kept()) {
            Some(row) => Some(row.kind),
            None => self.draft.made(node),
        };
        if kind.is_some_and(|kind| kind != NodeKind::File)
            || (kind.is_none() && self.is_wanted(node, contents)?)
        {
            return Ok(true);
        }
        // The last one first: a file that is made with it has it when it is taken out of the trash.
        for (at, op) in contents.iter().rev() {
            if !self.is_to_keep(at, op, kind.is_some())? {
                continue;
            }
            if self.turn.takes(at) && !(self.turn.is_kept)(at) {
                self.keep_one(at, op)?;
                if !self.take(*at) {
                    return Ok(false);
                }
            } else if !is_made {
                break;
            }
        }
        Ok(true)
    }

    /// Whether a file that is not there is to be made outside the trash by one of these contents, or by a move, in whatever
    /// turn.
    fn is_wanted(&self, node: NodeId, contents: &[(OpOrder, &Content)]) -> Result<bool, RowError> {
        if let Some((at, op)) = self.moves.get(&node).and_then(|moves| moves.last())
            && self.deleted_by(at, node, op.parent)?.is_none()
        {
            return Ok(true);
        }
        for (at, _) in contents {
            if self.replaced_by(at, node)?.is_none() && self.file_deleted_by(at, node)?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a content was replaced lately, or deleted with its file, and that has not got it.
    fn is_to_keep(&self, at: &OpOrder, op: &Content, is_there: bool) -> Result<bool, RowError> {
        let is_written = self.written.get(&op.node).is_some_and(|vids| vids.contains(&version_id(at)));
        if is_written {
            return Ok(false);
        }
        let by = match self.replaced_by(at, op.node)? {
            Some(by) => Some(by),
            // It is written where the file is.
            None if is_there => None,
            None => self.file_deleted_by(at, op.node)?,
        };
        let is_late = by.is_some_and(|by| by.entry.hlc >= self.turn.since);
        if !is_late {
            return Ok(false);
        }
        match nodes::read(self.rows, op.node)? {
            Some(row) => Ok(!self.contents_of(op.node, &row)?.had(&Written::of(op))),
            None => Ok(true),
        }
    }

    fn keep_one(&mut self, at: &OpOrder, op: &Content) -> Result<(), RowError> {
        let Content { node, file, mtime_ms, exec, .. } = op.clone();
        let last = self.last_place(at, node, NodeKind::File)?;
        // As near to where it was as there are folders.
        let parent = match last {
            Some((_, last)) => self.missing(at, last.parent)?.1,
            None => NodeId::ROOT,
        };
        let name = last.map_or_else(|| recovered_name(at), |(_, last)| last.name.clone());
        let vid = version_id(at);
        self.draft.ops.push(Op::Keep(Keep { node, parent, name, vid, file, mtime_ms, exec }));
        Ok(())
    }

    /// The first operation that replaced a content, stranded or not.
    fn replaced_by(&self, at: &OpOrder, node: NodeId) -> Result<Option<OpOrder>, RowError> {
        let vid = version_id(at);
        for by in self.replaced.get(&(node, vid)).map_or(&[][..], Vec::as_slice) {
            if by != at && self.stranded.knew(&by.entry, &at.entry)? {
                return Ok(Some(*by));
            }
        }
        match nodes::read(self.rows, node)? {
            Some(row) => Ok(self.contents_of(node, &row)?.replaced_by.get(&vid).copied()),
            None => Ok(None),
        }
    }

    /// By what a file was deleted for whoever wrote a content of it.
    fn file_deleted_by(&self, at: &OpOrder, node: NodeId) -> Result<Option<OpOrder>, RowError> {
        let last = self.last_place(at, node, NodeKind::File)?;
        self.deleted_by(at, node, last.map_or(NodeId::ROOT, |(_, last)| last.parent))
    }
}
