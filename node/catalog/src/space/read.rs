//! What others and the writer of new entries ask of a space.

use std::cmp::Reverse;
use std::ops::ControlFlow;

use locker_crypto::Refusal;
use locker_crypto::id::{EntryId, PersonId, VerifyingKey};

use super::Space;
use super::knowledge::Knowledge;
use super::row::{self, SEALED};
use super::settle::{Fork, standing_entries};
use crate::clock::{self, Now};
use crate::operation::{EntryRef, Op, Role};
use crate::order::{EntryOrder, OpOrder};
use crate::rows::{ReadRows, RowError};
use crate::tree;

/// Most entries that one entry names; the rest is named by the next.
const DEPS_MAX: usize = locker_crypto::entry::DEPS_MAX;

/// What operations are handed to: place, operation, whether its author may do it; `Break` ends the walk.
pub type VisitOp<'a> = dyn FnMut(OpOrder, &Op, Result<(), Refusal>) -> ControlFlow<()> + 'a;

/// An operation that is resolved for the space as a whole: membership, epochs, shares, revocations, policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingOp {
    /// Its place.
    pub at: OpOrder,
    /// What it says.
    pub op: Op,
    /// Whether its author may say it.
    pub verdict: Result<(), Refusal>,
}

/// Whether this device may go on writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnState {
    /// It may.
    Fine,
    /// Two entries of it share a number: it enrols anew.
    Forked,
    /// It was removed.
    Removed,
    /// Its last entry is more than ten minutes ahead of the clock: it enrols anew.
    Ahead,
}

impl Space {
    /// The last entries that are held of each author, deferred ones included: what a peer is told.
    ///
    /// # Errors
    /// [`RowError`] as the store gives it.
    pub fn heads(&self, rows: &dyn ReadRows) -> Result<Vec<EntryRef>, RowError> {
        row::heads(rows)
    }

    /// The last entries that count of each author, as a frontier of removals and heartbeats.
    ///
    /// # Errors
    /// As [`Space::heads`].
    pub fn frontier(&self, rows: &dyn ReadRows) -> Result<Vec<EntryRef>, RowError> {
        let mut frontier = Vec::new();
        for head in row::heads(rows)? {
            frontier.extend(self.last_counting(rows, &head.author)?.map(|(name, _)| name));
        }
        Ok(frontier)
    }

    /// The last entry of one author that counts; `None` if none does.
    ///
    /// # Errors
    /// As [`Space::heads`].
    pub fn frontier_of(
        &self,
        rows: &dyn ReadRows,
        author: &VerifyingKey,
    ) -> Result<Option<EntryRef>, RowError> {
        Ok(self.last_counting(rows, author)?.map(|(name, _)| name))
    }

    /// Where this device's next entry goes: its number and the entry before it. `None` before its first.
    ///
    /// # Errors
    /// As [`Space::heads`].
    pub fn own_head(&self, rows: &dyn ReadRows) -> Result<Option<EntryRef>, RowError> {
        row::head(rows, &self.own)
    }

    /// Names the heads of other authors that this device's next entry is to name: those it has seen since its last
    /// one, without deferred entries, and without what is held and what knows of it; of a forked author the last one below the fork, which decides nothing and on which
    /// every right may rest. At most 64, the newest first.
    ///
    /// # Errors
    /// As [`Space::heads`].
    pub fn deps_for_new_entry(&self, rows: &dyn ReadRows) -> Result<Vec<EntryRef>, RowError> {
        let known = match row::head(rows, &self.own)? {
            Some(own) => row::named(rows, &own)?.known,
            None => Knowledge::default(),
        };
        let held = self.first_held(rows)?;
        let mut new = Vec::new();
        for head in row::heads(rows)? {
            if head.author == self.own {
                continue;
            }
            let end = match self.forks.get(&head.author) {
                Some(fork) => self.trunk_end(&head.author, fork),
                None => Some(head.seq),
            };
            let last = match held.is_empty() {
                true => self.last_counting_to(rows, &head.author, end)?,
                false => self.last_free(rows, &head.author, end, &held)?,
            };
            if let Some((name, order)) = last
                && !known.reaches(&name.author, name.seq)
            {
                new.push((order, name));
            }
        }
        new.sort_unstable_by_key(|(order, _)| Reverse(*order));
        let mut deps: Vec<EntryRef> = Vec::new();
        let mut reached = Knowledge::default();
        for (_, name) in new {
            // What an entry named already reaches need not be named.
            if deps.len() < DEPS_MAX && !reached.reaches(&name.author, name.seq) {
                reached.learn(rows, &row::named(rows, &name)?)?;
                deps.push(name);
            }
        }
        deps.sort_unstable();
        Ok(deps)
    }

    /// Returns the clock of this device's next entry, given the deps it will name.
    ///
    /// # Errors
    /// As [`Space::heads`]; [`Refusal::Time`] inside if the clock is exhausted ([`clock::next`]).
    pub fn next_hlc(
        &self,
        rows: &dyn ReadRows,
        deps: &[EntryRef],
        now: Now,
    ) -> Result<Result<u64, Refusal>, RowError> {
        let last = match row::head(rows, &self.own)? {
            Some(own) => Some(row::named(rows, &own)?.body.hlc),
            None => None,
        };
        let mut clocks = Vec::with_capacity(deps.len());
        for dep in deps {
            clocks.push(row::named(rows, dep)?.body.hlc);
        }
        Ok(clock::next(last, clocks, now))
    }

    /// Says whether this device may go on writing under its key.
    ///
    /// # Errors
    /// As [`Space::heads`].
    pub fn own_state(&self, rows: &dyn ReadRows, now_ms: u64) -> Result<OwnState, RowError> {
        if self.forks.contains_key(&self.own) {
            return Ok(OwnState::Forked);
        }
        if self.access.removed_authors().contains_key(&self.own) {
            return Ok(OwnState::Removed);
        }
        match row::head(rows, &self.own)? {
            Some(own) if clock::is_ahead(row::named(rows, &own)?.body.hlc, now_ms) => Ok(OwnState::Ahead),
            _ => Ok(OwnState::Fine),
        }
    }

    /// Says whether this device wrote ahead of a time that enough others agree on: it then goes on under another key,
    /// and writes that again. Of a space that itself began ahead of it nothing can be written earlier.
    ///
    /// # Errors
    /// As [`Space::heads`].
    pub fn is_ahead_of(&self, rows: &dyn ReadRows, agreed_ms: u64) -> Result<bool, RowError> {
        Ok(self.own_state(rows, agreed_ms)? == OwnState::Ahead && self.has_begun(rows, agreed_ms)?)
    }

    /// Whether the space had begun at a time.
    pub(super) fn has_begun(&self, rows: &dyn ReadRows, now_ms: u64) -> Result<bool, RowError> {
        let Some(author) = self.authors.genesis else { return Ok(false) };
        let genesis = row::named(rows, &EntryRef { author, seq: 0, id: EntryId(self.id.0) })?;
        Ok(!clock::is_ahead(genesis.body.hlc, now_ms))
    }

    /// The role of this device.
    pub fn own_role(&self) -> Role {
        self.access.role_of(&self.own)
    }

    /// Whether an epoch must be minted before this device writes anything else.
    pub fn is_epoch_due(&self) -> bool {
        self.epochs.is_due(&self.access.members())
    }

    /// Returns the operations that are resolved for the space as a whole, in total order, with their verdicts.
    ///
    /// # Errors
    /// As [`Space::heads`].
    pub fn standing_ops(&self, rows: &dyn ReadRows) -> Result<Vec<StandingOp>, RowError> {
        self.standing_among(rows, &standing_entries(rows)?)
    }

    /// Lists the operations of devices of one person that have no effect, with the reason, in total order.
    ///
    /// # Errors
    /// As [`Space::heads`].
    pub fn problems(
        &self,
        rows: &dyn ReadRows,
        person: &PersonId,
    ) -> Result<Vec<(OpOrder, Refusal)>, RowError> {
        let mut problems = tree::problems(rows)?;
        problems.retain(|(at, _)| self.person_of(&at.entry.author) == Some(*person));
        Ok(problems)
    }

    /// Hands out sealed entries of one author from a number on, in the order of their numbers, branches of forks side
    /// by side, until `visit` breaks.
    ///
    /// # Errors
    /// As [`Space::heads`].
    pub fn sealed_from(
        &self,
        rows: &dyn ReadRows,
        author: &VerifyingKey,
        seq: u64,
        visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), RowError> {
        // Page by page of a long log: nothing behind what is asked for is read.
        rows.scan(
            SEALED,
            &row::author_key(author, seq),
            row::after(author.as_ref()).as_deref(),
            &mut |_, sealed| visit(sealed),
        )
    }

    /// Whether an entry is held.
    ///
    /// # Errors
    /// As [`Space::heads`].
    pub fn holds(&self, rows: &dyn ReadRows, name: &EntryRef) -> Result<bool, RowError> {
        Ok(row::held(rows, &name.author, name.seq)?.contains(&name.id))
    }

    /// Whether an author had another one's entry of this number, or a later one, when it wrote the last entry that is
    /// held of it. Of a forked author that may be one of any branch.
    ///
    /// # Errors
    /// As [`Space::heads`].
    pub fn had(
        &self,
        rows: &dyn ReadRows,
        author: &VerifyingKey,
        (other, seq): (&VerifyingKey, u64),
    ) -> Result<bool, RowError> {
        let Some(head) = row::head(rows, author)? else { return Ok(false) };
        if author == other {
            return Ok(head.seq >= seq);
        }
        Ok(row::named(rows, &head)?.known.reaches(other, seq))
    }

    /// Number of entries that wait for their time.
    ///
    /// # Errors
    /// As [`Space::heads`].
    pub fn deferred(&self, rows: &dyn ReadRows) -> Result<usize, RowError> {
        let mut count = 0;
        rows.scan(row::DEFERRED, &[], None, &mut |_, _| {
            count += 1;
            ControlFlow::Continue(())
        })?;
        Ok(count)
    }

    /// Whether an entry waits whose time has come.
    ///
    /// # Errors
    /// As [`Space::heads`].
    pub fn has_due(&self, rows: &dyn ReadRows, now_ms: u64) -> Result<bool, RowError> {
        let mut first = None;
        rows.scan(row::DEFERRED, &[], None, &mut |key, _| {
            first = Some(row::place_of(key));
            ControlFlow::Break(())
        })?;
        Ok(first.transpose()?.is_some_and(|(order, _)| !clock::is_ahead(order.hlc, now_ms)))
    }

    /// Authors of which two entries share a number, with the first such number.
    pub fn forked(&self) -> impl Iterator<Item = (VerifyingKey, u64)> + '_ {
        self.forks.iter().map(|(author, fork)| (*author, fork.first))
    }

    /// Hands out the operations of all counting entries from `from` on in total order, with their verdicts, until
    /// `visit` breaks. What is derived from operations outside the tree is derived from here.
    ///
    /// # Errors
    /// As [`Space::heads`].
    pub fn ops_from(
        &self,
        rows: &dyn ReadRows,
        from: Option<EntryOrder>,
        visit: &mut VisitOp<'_>,
    ) -> Result<(), RowError> {
        self.each_counting(rows, from, visit)
    }

    /// The last number of a forked author that all know alike: the one below the fork. The genesis entry of a space is
    /// never in doubt.
    fn trunk_end(&self, author: &VerifyingKey, fork: &Fork) -> Option<u64> {
        match fork.first {
            0 => (self.authors.genesis == Some(*author)).then_some(0),
            first => Some(first - 1),
        }
    }

    /// The last entry of an author that counts and is not deferred.
    fn last_counting(
        &self,
        rows: &dyn ReadRows,
        author: &VerifyingKey,
    ) -> Result<Option<(EntryRef, EntryOrder)>, RowError> {
        self.last_counting_to(rows, author, row::head(rows, author)?.map(|head| head.seq))
    }

    /// The last entry of an author that counts and is not deferred, up to a number.
    pub(super) fn last_counting_to(
        &self,
        rows: &dyn ReadRows,
        author: &VerifyingKey,
        mut end: Option<u64>,
    ) -> Result<Option<(EntryRef, EntryOrder)>, RowError> {
        // Of a chain that is not forked the end waits: it need not be read entry by entry, for years perhaps. Where that
        // begins is looked up only if something waits.
        let mut may_jump = !self.forks.contains_key(author);
        while let Some(seq) = end {
            let mut next = seq;
            for id in row::held(rows, author, seq)? {
                let name = EntryRef { author: *author, seq, id };
                if self.is_of_counting_branch(&name) {
                    let entry = row::named(rows, &name)?;
                    if !row::is_deferred(rows, &entry)? {
                        return Ok(Some((name, entry.order())));
                    }
                    if std::mem::take(&mut may_jump) {
                        next = row::first_deferred(rows, author)?.map_or(seq, |first| first.min(seq));
                    }
                }
            }
            end = next.checked_sub(1);
        }
        Ok(None)
    }
}
