//! Who wanted what: what was given up by whom had seen it, and what somebody went on with.

use locker_crypto::id::NodeId;

use super::Plan;
use crate::operation::NodeKind;
use crate::order::{EntryOrder, OpOrder};
use crate::rows::RowError;
use crate::tree::nodes;

impl Plan<'_> {
    /// Whether somebody who knew an operation on a file that is not there wanted it gone, or a folder that it was in.
    pub(super) fn is_given_up(&self, at: &OpOrder, node: NodeId) -> Result<bool, RowError> {
        if self.is_trashed(at, node)? {
            return Ok(true);
        }
        match self.last_place(at, node, NodeKind::File)? {
            Some(last) => self.is_gone_above(at, last.parent),
            None => Ok(false),
        }
    }

    /// Whether somebody did something to a file that is not there of which nobody knew who gave it up.
    pub(super) fn is_wanted(&self, node: NodeId) -> Result<bool, RowError> {
        for at in self.deeds.get(&node).map_or(&[][..], Vec::as_slice) {
            if !self.is_given_up(at, node)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether all that anybody did to a file was given up by somebody who saw it, and not only the folder that it was to
    /// be in.
    pub(super) fn was_seen_off(&self, node: NodeId) -> Result<bool, RowError> {
        for at in self.deeds.get(&node).map_or(&[][..], Vec::as_slice) {
            let above = match self.last_place(at, node, NodeKind::File)? {
                Some(last) => self.is_trashed_above(at, last.parent)?,
                None => false,
            };
            if !above && !self.is_trashed(at, node)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn knew_any(&self, entry: &EntryOrder, ops: &[OpOrder]) -> Result<bool, RowError> {
        for op in ops {
            if self.stranded.knew(entry, &op.entry)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn is_known_to_any(&self, ops: &[OpOrder], at: &OpOrder) -> Result<bool, RowError> {
        for op in ops {
            if op != at && self.stranded.knew(&op.entry, &at.entry)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether somebody who knew an operation put a node into the trash that was not there, and nobody who knew that
    /// placed it anew.
    pub(super) fn is_trashed(&self, at: &OpOrder, node: NodeId) -> Result<bool, RowError> {
        for by in self.trashed.get(&node).map_or(&[][..], Vec::as_slice) {
            if by > at && self.stranded.knew(&by.entry, &at.entry)? && !self.is_restored(node, by)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn is_restored(&self, node: NodeId, by: &OpOrder) -> Result<bool, RowError> {
        for (at, _) in self.moves.get(&node).map_or(&[][..], Vec::as_slice) {
            if at > by && self.stranded.knew(&at.entry, &by.entry)? {
                return Ok(true);
            }
        }
        match nodes::read(self.rows, node)? {
            // Who writes again has heard of more than he wants to keep.
            Some(row) if row.place.by.is_none() && row.place.moved > *by => {
                Ok(self.stranded.knew(&row.place.moved.entry, &by.entry)?
                    && self.rewriting(node, &row)?.is_none())
            }
            _ => Ok(false),
        }
    }

    /// Whether a folder, or one over it, is in the trash by somebody who knew an operation, or would be.
    pub(super) fn is_gone_above(&self, at: &OpOrder, folder: NodeId) -> Result<bool, RowError> {
        if self.is_trashed_above(at, folder)? {
            return Ok(true);
        }
        let (_, first) = self.missing(at, folder)?;
        match self.draft.trashed_above(first)? {
            Some((_, by)) => self.stranded.knew(&by.entry, &at.entry),
            None => Ok(false),
        }
    }

    /// The same of folders that are missing, and the one over them: whoever trashed them saw what was in them.
    fn is_trashed_above(&self, at: &OpOrder, folder: NodeId) -> Result<bool, RowError> {
        let (missing, first) = self.missing(at, folder)?;
        for node in missing.iter().map(|op| op.node).chain([first]) {
            if self.is_trashed(at, node)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
