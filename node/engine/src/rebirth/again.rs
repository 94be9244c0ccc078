//! What entries said that do not count, since their author wrote two with one number or wrote them ahead of time, is
//! written again: the same nodes, the same content, under the key of the device that does it
//! (`docs/spec/04-spaces.md`, "Written again"). So is what counts and has no effect, since it stood on what an ended device
//! made ("Stranded"), and, in the log of the person, that a device was ended.

use std::collections::BTreeSet;

use locker_catalog::clock;
use locker_catalog::operation::{EntryRef, Op, Role};
use locker_catalog::order::OpOrder;
use locker_catalog::roster::Roster;
use locker_catalog::space::{OwnState, Space, mark};
use locker_catalog::tree::{self, Turn, Uncounted};
use locker_crypto::id::{EntryId, VerifyingKey};
use locker_store::{Reads, Snapshot};

use super::{Doubt, Sign, rebirths};
use crate::Error;
use crate::keys::person_log;
use crate::limits::KEEP_MS;
use crate::locker::Inner;
use crate::revoke::{made, revoke_again};
use crate::writer::Change;

/// Operations that are written in one change for stranded ones.
const RESCUE_MAX: usize = 512;

/// What is not written again until another node runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// Entries that could not be.
    entries: BTreeSet<EntryId>,
    /// Stranded operations that could not be, or were.
    ops: BTreeSet<OpOrder>,
    /// Those that were kept, since they were replaced or deleted.
    kept: BTreeSet<OpOrder>,
}

impl Left {
    /// Notes what was tried. What was kept may still be written, if nobody has deleted it any more.
    fn tried(&mut self, plan: &[(OpOrder, Vec<Op>)]) {
        for (at, ops) in plan {
            let is_kept = ops.iter().all(|op| matches!(op, Op::Keep(_)));
            if is_kept {
                self.kept.insert(*at)
            } else {
                self.ops.insert(*at)
            };
        }
    }
}

/// Whose turn it is with what is to be written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// This home wrote it under a key that it had before.
    Own,
    /// Another home of that key did, which may be gone.
    Others,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrote {
    /// One entry.
    Entry,
    /// Nothing is left that can be written.
    Nothing,
}

impl Inner {
    /// Looks whether something is to be written again, but what is in `left`, and by whom first.
    pub(crate) fn look_for_uncounted(&self, left: &Left) -> Result<Option<Due>, Error> {
        let store = self.store()?;
        let snapshot = store.read()?;
        let keys = self.keys();
        let removals = self.removals_again(&snapshot)?;
        if removals.iter().any(|(name, _)| !left.entries.contains(name)) && !Doubt::stops(&snapshot)? {
            return Ok(Some(Due::Own));
        }
        let rows = snapshot.rows(keys.tag);
        let space = Space::open(&rows, keys.space, keys.device_id())?;
        if !may_write(&space) || space.own_state(&rows, self.env().now_ms())? != OwnState::Fine {
            return Ok(None);
        }
        let mut lost = self.uncounted(&snapshot, &space)?;
        lost.retain(|name| !left.entries.contains(&name.id));
        if lost.is_empty() {
            // What does not count now may count once it is written again, and something stands on it.
            for due in [Due::Others, Due::Own] {
                if self.plan_rescue(&snapshot, &space, due, left, 1)?.is_empty() {
                    return Ok((due == Due::Own).then_some(Due::Others));
                }
            }
            return Ok(Some(Due::Own));
        }
        let own = self.own_branches(&snapshot, &space)?;
        Ok(Some(if lost.iter().any(|name| own.contains(&name.id)) { Due::Own } else { Due::Others }))
    }

    /// Plans what gives stranded operations their effect: those that this device wrote, or all.
    fn plan_rescue<R: Reads>(
        &self,
        reads: &R,
        space: &Space,
        due: Due,
        left: &Left,
        most: usize,
    ) -> Result<Vec<(OpOrder, Vec<Op>)>, Error> {
        let keys = self.keys();
        let own = keys.device_id();
        let turn = Turn {
            is_due: &|at| due == Due::Others || at.entry.author == own,
            is_left: &|at| left.ops.contains(at),
            is_kept: &|at| left.kept.contains(at),
            most,
            since: clock::first_of(self.env().now_ms().saturating_sub(KEEP_MS)),
        };
        Ok(space.rescue(&reads.rows(keys.tag), &keys.person, &turn)?)
    }

    /// Whether something has no effect that is to be written again: what is to be kept, and where things are, is not
    /// known before.
    pub(crate) fn is_to_write_again<R: Reads>(&self, reads: &R, space: &Space) -> Result<bool, Error> {
        Ok(!self.uncounted(reads, space)?.is_empty() || self.is_stranded(reads, space)?)
    }

    fn is_stranded<R: Reads>(&self, reads: &R, space: &Space) -> Result<bool, Error> {
        let plan = || self.plan_rescue(reads, space, Due::Others, &Left::default(), 1);
        Ok(may_write(space) && !plan()?.is_empty())
    }

    /// Writes stranded operations again; those that were tried join those in `left`.
    fn rescue(&self, due: Due, left: &mut Left) -> Result<Wrote, Error> {
        let mut most = RESCUE_MAX;
        loop {
            let plan = {
                let store = self.store()?;
                let snapshot = store.read()?;
                let keys = self.keys();
                let space = Space::open(&snapshot.rows(keys.tag), keys.space, keys.device_id())?;
                self.plan_rescue(&snapshot, &space, due, left, most)?
            };
            if plan.is_empty() {
                return Ok(Wrote::Nothing);
            }
            let ops = || plan.iter().flat_map(|(_, ops)| ops.iter().cloned());
            match self.commit(|change| ops().try_for_each(|op| change.push(op))) {
                // Once: whatever takes its effect from it again is not answered by entry after entry.
                Ok(()) => {
                    left.tried(&plan);
                    return Ok(Wrote::Entry);
                }
                Err(Error::Refused(_) | Error::Limit(_) | Error::Name { .. } | Error::IntoItself(_)) => {
                    // One of them: alone it holds up no other.
                    if plan.len() == 1 {
                        left.tried(&plan);
                    }
                    most = 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// How many entries do not count and are not written again.
    pub(crate) fn count_uncounted(&self, snapshot: &Snapshot) -> Result<usize, Error> {
        let keys = self.keys();
        let space = Space::open(&snapshot.rows(keys.tag), keys.space, keys.device_id())?;
        Ok(self.uncounted(snapshot, &space)?.len())
    }

    /// Whether something has no effect, since it stands on what does not count.
    pub(crate) fn has_stranded(&self, snapshot: &Snapshot) -> Result<bool, Error> {
        let keys = self.keys();
        let space = Space::open(&snapshot.rows(keys.tag), keys.space, keys.device_id())?;
        self.is_stranded(snapshot, &space)
    }

    /// The entries that do not count and are not written again: of devices with two homes, and what this home wrote ahead
    /// of time under keys that it had before.
    ///
    /// # Errors
    /// What reading gives.
    pub(crate) fn uncounted<R: Reads>(&self, reads: &R, space: &Space) -> Result<Vec<EntryRef>, Error> {
        let keys = self.keys();
        let rows = reads.rows(keys.tag);
        let mut lost = space.uncounted(&rows, &keys.person)?;
        let before = rebirths(reads)?;
        // Nothing was put off when the last key was taken for another reason.
        let count = before.iter().rposition(|reborn| reborn.sign == Sign::Ahead).map_or(0, |last| last + 1);
        for reborn in &before[..count] {
            if let Some((seq, id)) = reborn.head {
                lost.extend(space.put_off(&rows, &EntryRef { author: reborn.old, seq, id })?);
            }
        }
        Ok(lost)
    }

    /// The entries above a fork, or ahead of time, that this home wrote under keys that it had before.
    fn own_branches<R: Reads>(&self, reads: &R, space: &Space) -> Result<BTreeSet<EntryId>, Error> {
        let rows = reads.rows(self.space_tag());
        let mut own = BTreeSet::new();
        for reborn in rebirths(reads)? {
            if let Some((seq, id)) = reborn.head {
                own.extend(space.branch(&rows, &EntryRef { author: reborn.old, seq, id })?);
            }
        }
        Ok(own)
    }

    /// The devices that this home ended under a key that it had before, and that are in use all the same.
    fn removals_again<R: Reads>(&self, reads: &R) -> Result<Vec<(EntryId, VerifyingKey)>, Error> {
        let before: BTreeSet<VerifyingKey> = rebirths(reads)?.iter().map(|reborn| reborn.old).collect();
        if before.is_empty() {
            return Ok(Vec::new());
        }
        let keys = self.keys();
        let entries = person_log(reads, &keys.person)?;
        let roster = Roster::read(keys.person, &entries);
        made::void(reads, &before, &roster)
    }

    /// Ends the first of these devices again, but those whose entry is in `left`.
    fn remove_again(&self, left: &mut Left) -> Result<Wrote, Error> {
        let due = self.removals_again(&self.store()?.read()?)?;
        let Some((name, device)) = due.into_iter().find(|(name, _)| !left.entries.contains(name)) else {
            return Ok(Wrote::Nothing);
        };
        match revoke_again(self, device) {
            Ok(()) => {}
            Err(Error::Refused(_) | Error::Limit(_)) => {
                left.entries.insert(name);
            }
            Err(error) => return Err(error),
        }
        Ok(Wrote::Entry)
    }

    /// Writes the first entry again that is due, but those in `left`; one that cannot be written joins them.
    pub(crate) fn write_again(&self, due: Due, left: &mut Left) -> Result<Wrote, Error> {
        // An import has looked up the folders and files into which it will write.
        let Some(_turn) = self.try_import_turn() else { return Err(Error::Busy { pid: None }) };
        if due == Due::Own && self.remove_again(left)? == Wrote::Entry {
            return Ok(Wrote::Entry);
        }
        let next = {
            let store = self.store()?;
            let snapshot = store.read()?;
            let keys = self.keys();
            let rows = snapshot.rows(keys.tag);
            let space = Space::open(&rows, keys.space, keys.device_id())?;
            let own = match due {
                Due::Own => Some(self.own_branches(&snapshot, &space)?),
                Due::Others => None,
            };
            let mut lost = self.uncounted(&snapshot, &space)?.into_iter();
            let is_due = |name: &EntryRef| own.as_ref().is_none_or(|own| own.contains(&name.id));
            lost.find(|name| is_due(name) && !left.entries.contains(&name.id))
        };
        let Some(name) = next else { return self.rescue(due, left) };
        match self.commit(|change| change.write_again(&name)) {
            Ok(()) => {}
            Err(Error::Refused(_) | Error::Limit(_) | Error::Name { .. } | Error::IntoItself(_)) => {
                left.entries.insert(name.id);
            }
            Err(error) => return Err(error),
        }
        Ok(Wrote::Entry)
    }
}

/// Whether this device may write anything.
fn may_write(space: &Space) -> bool {
    matches!(space.own_role(), Role::Write | Role::Manage) && !space.is_read_only()
}

impl Change<'_, '_> {
    /// Writes what an entry said, and that it is written.
    fn write_again(&mut self, name: &EntryRef) -> Result<(), Error> {
        self.lead_with(mark(&name.id));
        self.push_lead()?;
        let mut at = Some(0);
        while let Some(from) = at {
            let (ops, next) = self.plan_again(name, from)?;
            ops.into_iter().try_for_each(|op| self.push(op))?;
            at = next;
            if at.is_some() {
                self.seal()?;
            }
        }
        // With the last one only: what is not written again yet counts when its time comes.
        if let Some(end) = self.look(|space, rows| space.end_before(rows, name))? {
            self.push(Op::RemoveAuthor(end))?;
        }
        Ok(())
    }

    /// Plans what is to be written, from an operation on, and says where to go on after that.
    fn plan_again(&self, name: &EntryRef, from: usize) -> Result<(Vec<Op>, Option<usize>), Error> {
        self.look(|space, rows| {
            let lost = space.lost(rows, name)?;
            let mut ops = Vec::new();
            if from == 0 {
                let standing = space.standing_ops(rows)?;
                let stands = |op: &Op| standing.iter().any(|other| other.op == *op);
                // Members, epochs and what ends them are not taken over: who may decides anew.
                let beside =
                    |op: &&Op| matches!(op, Op::Pack(_) | Op::Share(_) | Op::Revoke(_) | Op::Policy(_));
                ops.extend(lost.ops().iter().filter(beside).filter(|op| !stands(op)).cloned());
            }
            let again = tree::again(rows, &lost, from)?;
            ops.extend(again.ops);
            Ok((ops, again.next))
        })
    }
}
