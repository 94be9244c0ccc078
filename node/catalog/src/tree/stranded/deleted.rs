//! What somebody deleted who knew an operation that has no effect.

use locker_crypto::id::NodeId;

use super::super::nodes;
use super::Plan;
use crate::order::OpOrder;
use crate::rows::RowError;

impl Plan<'_> {
    /// By what somebody who knew an operation deleted a node that is to be in a folder, or one over it.
    pub(super) fn deleted_by(
        &self,
        at: &OpOrder,
        node: NodeId,
        parent: NodeId,
    ) -> Result<Option<OpOrder>, RowError> {
        match self.trashed_by(at, node)? {
            Some(by) => Ok(Some(by)),
            None => self.gone_above_by(at, parent),
        }
    }

    /// By what somebody who knew an operation put a node into the trash that was not there, if nobody who knew that
    /// placed it anew.
    pub(super) fn trashed_by(&self, at: &OpOrder, node: NodeId) -> Result<Option<OpOrder>, RowError> {
        for by in self.trashed.get(&node).map_or(&[][..], Vec::as_slice) {
            if by > at && self.stranded.knew(&by.entry, &at.entry)? && !self.is_restored(node, by)? {
                return Ok(Some(*by));
            }
        }
        Ok(None)
    }

    fn is_restored(&self, node: NodeId, by: &OpOrder) -> Result<bool, RowError> {
        for (at, _) in self.moves.get(&node).map_or(&[][..], Vec::as_slice) {
            if at > by && self.stranded.knew(&at.entry, &by.entry)? {
                return Ok(true);
            }
        }
        match nodes::read(self.rows, node)? {
            Some(row) if row.place.by.is_none() && row.place.moved > *by => {
                self.stranded.knew(&row.place.moved.entry, &by.entry)
            }
            _ => Ok(false),
        }
    }

    /// By what a folder, or one over it, is in the trash, or would be, if its author knew an operation.
    pub(super) fn gone_above_by(&self, at: &OpOrder, folder: NodeId) -> Result<Option<OpOrder>, RowError> {
        let (missing, first) = self.missing(at, folder)?;
        for node in missing.iter().map(|(_, op)| op.node).chain([first]) {
            if let Some(by) = self.trashed_by(at, node)? {
                return Ok(Some(by));
            }
        }
        match self.draft.trashed_above(first)? {
            Some((_, by)) if self.stranded.knew(&by.entry, &at.entry)? => Ok(Some(by)),
            _ => Ok(None),
        }
    }
}
