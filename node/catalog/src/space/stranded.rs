//! Operations of a person's own devices that count and have no effect, since what they stood on does not count
//! (`docs/spec/04-spaces.md`, "Stranded").

use std::cell::RefCell;

use locker_crypto::Refusal;
use locker_crypto::id::{PersonId, VerifyingKey};

use super::Space;
use super::row::EntryRow;
use crate::operation::Op;
use crate::order::{EntryOrder, OpOrder, Past};
use crate::rows::{ReadRows, RowError};
use crate::tree::{self, Stranded, rescue};

/// Operations without effect that are looked at: the last ones.
const LOOK_MAX: usize = 65_536;

impl Space {
    /// Plans what gives stranded operations of a person's devices their effect again, each with what is to be written for
    /// it: those that `is_due` lets through, until `most` operations are planned.
    ///
    /// Cost: one look for each operation that has no effect; nothing without one.
    ///
    /// # Errors
    /// [`RowError`] as the store gives it.
    pub fn rescue(
        &self,
        rows: &dyn ReadRows,
        person: &PersonId,
        is_due: &dyn Fn(&OpOrder) -> bool,
        most: usize,
    ) -> Result<Vec<(OpOrder, Vec<Op>)>, RowError> {
        let mut problems = tree::problems(rows)?;
        problems.drain(..problems.len().saturating_sub(LOOK_MAX));
        let mut found = Found {
            space: self,
            rows,
            person: *person,
            ops: Vec::new(),
            refused: Vec::new(),
            past: RefCell::new(None),
        };
        let mut last: Option<EntryRow> = None;
        for (at, why) in problems {
            let is_stranded = why == Refusal::Node && found.is_ours(&at.entry.author);
            if !is_stranded && !matches!(why, Refusal::Rights | Refusal::Frontier) {
                continue;
            }
            if last.as_ref().is_none_or(|entry| entry.order() != at.entry) {
                last = self.counting_at(rows, &at.entry)?;
            }
            let ops = last.as_ref().map_or(&[][..], |entry| entry.body.ops.as_slice());
            match ops.get(usize::from(at.index)) {
                Some(op) if is_stranded => found.ops.push((at, op.clone())),
                Some(op @ (Op::Move(_) | Op::Content(_))) => found.refused.push((at, op.clone())),
                _ => {}
            }
        }
        if found.ops.is_empty() && found.refused.is_empty() {
            return Ok(Vec::new());
        }
        rescue(rows, &found, is_due, most)
    }
}

struct Found<'a> {
    space: &'a Space,
    rows: &'a dyn ReadRows,
    person: PersonId,
    ops: Vec<(OpOrder, Op)>,
    refused: Vec<(OpOrder, Op)>,
    /// The last entry that was asked about, and what its author knew.
    past: RefCell<Option<(EntryOrder, Past)>>,
}

impl Stranded for Found<'_> {
    fn ops(&self) -> &[(OpOrder, Op)] {
        &self.ops
    }

    fn refused(&self) -> &[(OpOrder, Op)] {
        &self.refused
    }

    fn is_ours(&self, device: &VerifyingKey) -> bool {
        self.space.person_of(device) == Some(self.person)
    }

    fn knew(&self, entry: &EntryOrder, other: &EntryOrder) -> Result<bool, RowError> {
        if entry.author == other.author {
            return Ok(other.seq <= entry.seq);
        }
        if let Some((order, past)) = &*self.past.borrow()
            && order == entry
        {
            return Ok(past.knows(&other.author, other.seq));
        }
        let Some(row) = self.space.counting_at(self.rows, entry)? else { return Ok(false) };
        let past = self.space.past(self.rows, &row)?;
        let known = past.knows(&other.author, other.seq);
        *self.past.borrow_mut() = Some((*entry, past));
        Ok(known)
    }
}
