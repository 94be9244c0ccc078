//! Operations of a person's own devices that count and have no effect, since what they stood on does not count
//! (`docs/spec/04-spaces.md`, "Stranded").

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use locker_crypto::Refusal;
use locker_crypto::id::{PersonId, VerifyingKey};

use super::Space;
use super::row::EntryRow;
use crate::operation::Op;
use crate::order::{EntryOrder, OpOrder, Past};
use crate::rows::{ReadRows, RowError};
use crate::tree::{self, Stranded, Turn, rescue};

/// Operations that are looked at: the last ones of the person, and as many of ended authors.
const LOOK_MAX: usize = 65_536;
/// Operations without effect among which these are sought.
const SEEK_MAX: usize = 1 << 20;
/// Entries of which it is remembered what their authors knew.
const PASTS_MAX: usize = 256;

impl Space {
    /// Plans what gives stranded operations of a person's devices their effect again, each with what is to be written for
    /// it. Nothing while something is held back: the tree is planned on as all devices see it.
    ///
    /// Cost: one look for each operation that has no effect; nothing without one.
    ///
    /// # Errors
    /// [`RowError`] as the store gives it.
    pub fn rescue(
        &self,
        rows: &dyn ReadRows,
        person: &PersonId,
        turn: &Turn<'_>,
    ) -> Result<Vec<(OpOrder, Vec<Op>)>, RowError> {
        if self.is_apart {
            return Ok(Vec::new());
        }
        let (mut stranded, mut refused, mut seen) = (Vec::new(), Vec::new(), 0);
        tree::problems_back(rows, &mut |at, why| {
            let kept = match why {
                Refusal::Node if self.person_of(&at.entry.author) == Some(*person) => Some(&mut stranded),
                Refusal::Frontier => Some(&mut refused),
                _ => None,
            };
            if let Some(kept) = kept.filter(|kept| kept.len() < LOOK_MAX) {
                kept.push(at);
            }
            seen += 1;
            if seen < SEEK_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        if stranded.is_empty() && refused.is_empty() {
            return Ok(Vec::new());
        }
        let mut ops = self.ops_at(rows, stranded)?;
        ops.retain(|(_, op)| op.is_tree());
        let mut refused = self.ops_at(rows, refused)?;
        refused.retain(|(_, op)| matches!(op, Op::Move(_) | Op::Content(_)));
        let pasts = RefCell::new(BTreeMap::new());
        rescue(rows, &Found { space: self, rows, person: *person, ops, refused, pasts }, turn)
    }

    /// Reads operations, the last one first. Gives them in total order.
    fn ops_at(&self, rows: &dyn ReadRows, places: Vec<OpOrder>) -> Result<Vec<(OpOrder, Op)>, RowError> {
        let mut found = Vec::new();
        let mut entry: Option<EntryRow> = None;
        for at in places.into_iter().rev() {
            if entry.as_ref().is_none_or(|entry| entry.order() != at.entry) {
                entry = self.counting_at(rows, &at.entry)?;
            }
            let ops = entry.as_ref().map_or(&[][..], |entry| entry.body.ops.as_slice());
            found.extend(ops.get(usize::from(at.index)).map(|op| (at, op.clone())));
        }
        Ok(found)
    }
}

struct Found<'a> {
    space: &'a Space,
    rows: &'a dyn ReadRows,
    person: PersonId,
    ops: Vec<(OpOrder, Op)>,
    refused: Vec<(OpOrder, Op)>,
    /// What the authors of entries knew that were asked about.
    pasts: RefCell<BTreeMap<EntryOrder, Past>>,
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
        let mut pasts = self.pasts.borrow_mut();
        if let Some(past) = pasts.get(entry) {
            return Ok(past.knows(&other.author, other.seq));
        }
        let Some(row) = self.space.counting_at(self.rows, entry)? else { return Ok(false) };
        let past = self.space.past(self.rows, &row)?;
        let known = past.knows(&other.author, other.seq);
        if pasts.len() >= PASTS_MAX {
            pasts.clear();
        }
        pasts.insert(*entry, past);
        Ok(known)
    }
}
