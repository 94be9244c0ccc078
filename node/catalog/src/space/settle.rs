//! What counts: forks, rights and epochs, resolved from all that is held.
//!
//! Rights depend on which branches count, and which branches count depends on who had a right to be an anchor. The
//! circle is cut here: an anchor's right is judged by what it reaches itself, with the branches it holds, and by what
//! lies below all forks. So who knows a branch vouches for it even if the branch is what made it a member, and who was
//! removed before the fork vouches for nothing.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use locker_crypto::id::{EntryId, VerifyingKey};

use super::row::{self, DEFERRED, EntryRow, PLACES, STANDING};
use super::{Space, StandingOp, VisitOp};
use crate::access::{Access, AccessOp, Act, Authors};
use crate::epochs::Epochs;
use crate::fork::{Anchors, Branches, Link};
use crate::operation::{EntryRef, Op};
use crate::order::{EntryOrder, OpOrder, Past};
use crate::rows::{ReadRows, RowError};
use crate::tree::{Counted, TreeEntry, TreeOp};

/// Entries read between two looks into a table.
const PAGE: usize = 256;

/// A forked author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fork {
    /// The least number that two entries share.
    pub(super) first: u64,
    /// The entries from there on that count, by number.
    pub(super) counting: BTreeMap<u64, EntryId>,
    /// What others hold of the author.
    pub(super) anchors: Anchors,
}

impl Space {
    /// Resolves everything from the rows.
    pub(super) fn settle(&mut self, rows: &dyn ReadRows) -> Result<(), RowError> {
        let standing = standing_entries(rows)?;
        self.forks = self.decide_forks(rows, &standing)?;
        self.access = self.resolve_access(rows, &standing)?;
        self.epochs = self.resolve_epochs(rows, &standing)?;
        self.confirmed = self.resolve_confirmed(rows, &standing)?;
        Ok(())
    }

    fn resolve_access(&self, rows: &dyn ReadRows, standing: &[EntryRow]) -> Result<Access, RowError> {
        let mut ops = Vec::new();
        for entry in standing.iter().filter(|entry| self.is_of_counting_branch(&entry.name())) {
            let past = self.past(rows, entry)?;
            ops.extend(access_ops(entry, &past));
        }
        Ok(Access::resolve(self.authors.clone(), ops))
    }

    fn resolve_epochs(&self, rows: &dyn ReadRows, standing: &[EntryRow]) -> Result<Epochs, RowError> {
        let mut epochs = Vec::new();
        for op in self.standing_among(rows, standing)? {
            if let (Op::Epoch(epoch), Ok(())) = (op.op, op.verdict) {
                epochs.push(epoch);
            }
        }
        Ok(Epochs::new(epochs))
    }

    /// The operations that are resolved for the space as a whole and count, in total order, with their verdicts.
    pub(super) fn standing_among(
        &self,
        rows: &dyn ReadRows,
        standing: &[EntryRow],
    ) -> Result<Vec<StandingOp>, RowError> {
        let mut found = Vec::new();
        for entry in standing.iter().filter(|entry| self.is_of_counting_branch(&entry.name())) {
            let past = self.past(rows, entry)?;
            for (at, op) in ops_of(entry).filter(|(_, op)| matches!(op.code(), 4..=10 | 18 | 19)) {
                found.push(StandingOp { at, op: op.clone(), verdict: self.access.judge(at, &past, op) });
            }
        }
        Ok(found)
    }

    /// Finds which branches count.
    fn decide_forks(
        &self,
        rows: &dyn ReadRows,
        standing: &[EntryRow],
    ) -> Result<BTreeMap<VerifyingKey, Fork>, RowError> {
        let firsts = row::forks(rows)?;
        let unknown = |first| Fork { first, counting: BTreeMap::new(), anchors: Anchors::new() };
        let mut forks: BTreeMap<VerifyingKey, Fork> =
            firsts.into_iter().map(|(author, first)| (author, unknown(first))).collect();
        if forks.is_empty() {
            return Ok(forks);
        }
        let mut worlds = Worlds::new(&self.authors, &forks, standing);
        let mut from = Vec::new();
        loop {
            let page = page(rows, &from)?;
            let Some((order, name)) = page.last() else { break };
            from = row::place_key(order, &name.id);
            from.push(0);
            for (_, name) in &page {
                let entry = row::named(rows, name)?;
                let new = unseen_anchors(&forks, &entry);
                if !new.is_empty() && worlds.lets_vouch(rows, &entry)? {
                    for (author, tips) in new {
                        if let Some(fork) = forks.get_mut(&author) {
                            fork.anchors.insert(tips, entry.order());
                        }
                    }
                }
            }
        }
        for (author, fork) in &mut forks {
            let genesis =
                (self.authors.genesis == Some(*author) && fork.first == 0).then_some(EntryId(self.id.0));
            fork.counting = branches(rows, author, fork.first)?.counting(&fork.anchors, genesis);
        }
        Ok(forks)
    }

    /// Whether an entry is the least anchor for what it holds of a forked author.
    pub(super) fn is_new_anchor(&self, rows: &dyn ReadRows, entry: &EntryRow) -> Result<bool, RowError> {
        if unseen_anchors(&self.forks, entry).is_empty() {
            return Ok(false);
        }
        let standing = standing_entries(rows)?;
        Worlds::new(&self.authors, &self.forks, &standing).lets_vouch(rows, entry)
    }

    /// Whether an entry is of a branch that counts; its time may still be to come.
    pub(super) fn is_of_counting_branch(&self, name: &EntryRef) -> bool {
        self.forks
            .get(&name.author)
            .is_none_or(|fork| name.seq < fork.first || fork.counting.get(&name.seq) == Some(&name.id))
    }

    /// What the author of an entry knew, in entries that count.
    pub(super) fn past(&self, rows: &dyn ReadRows, entry: &EntryRow) -> Result<Past, RowError> {
        let mut past = Past::default();
        for (author, tips) in &entry.known.0 {
            let mut count = 0;
            for tip in tips {
                count = count.max(self.counting_below(rows, author, *tip)?);
            }
            if count > 0 {
                past.learn(*author, count - 1);
            }
        }
        Ok(past)
    }

    /// How many counting entries of an author a tip reaches.
    fn counting_below(
        &self,
        rows: &dyn ReadRows,
        author: &VerifyingKey,
        tip: (u64, EntryId),
    ) -> Result<u64, RowError> {
        let Some(fork) = self.forks.get(author).filter(|fork| tip.0 >= fork.first) else {
            return Ok(tip.0 + 1);
        };
        let (mut seq, mut id) = tip;
        while fork.counting.get(&seq) != Some(&id) {
            if seq == fork.first {
                return Ok(seq);
            }
            id = row::named(rows, &EntryRef { author: *author, seq, id })?.prev;
            seq -= 1;
        }
        Ok(seq + 1)
    }

    /// Hands out the operations of counting entries in total order, with their verdicts.
    pub(super) fn each_counting(
        &self,
        rows: &dyn ReadRows,
        from: Option<EntryOrder>,
        visit: &mut VisitOp<'_>,
    ) -> Result<(), RowError> {
        let mut from = from.map_or_else(Vec::new, |order| order.to_key().to_vec());
        loop {
            let page = page(rows, &from)?;
            let Some((order, name)) = page.last() else { return Ok(()) };
            from = row::place_key(order, &name.id);
            from.push(0);
            for (_, name) in page.iter().filter(|(_, name)| self.is_of_counting_branch(name)) {
                let entry = row::named(rows, name)?;
                if row::is_deferred(rows, &entry)? {
                    continue;
                }
                let past = self.past(rows, &entry)?;
                for (at, op) in ops_of(&entry) {
                    if visit(at, op, self.access.judge(at, &past, op)).is_break() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// The entry with this place that counts and whose time has come.
    pub(super) fn counting_at(
        &self,
        rows: &dyn ReadRows,
        order: &EntryOrder,
    ) -> Result<Option<EntryRow>, RowError> {
        for name in row::at_place(rows, order)? {
            if self.is_of_counting_branch(&name) {
                let entry = row::named(rows, &name)?;
                if !row::is_deferred(rows, &entry)? {
                    return Ok(Some(entry));
                }
            }
        }
        Ok(None)
    }

    /// Makes the tree's view of an entry that counts.
    pub(super) fn tree_view(&self, rows: &dyn ReadRows, entry: &EntryRow) -> Result<TreeEntry, RowError> {
        let past = self.past(rows, entry)?;
        let mut ops = Vec::new();
        for (at, op) in ops_of(entry) {
            let verdict = self.access.judge(at, &past, op);
            // Refused operations of any kind go along, so that one list names all that had no effect.
            if op.is_tree() || verdict.is_err() {
                ops.push(TreeOp { index: at.index, op: op.clone(), verdict });
            }
        }
        Ok(TreeEntry { order: entry.order(), past, scope: row::scope(rows, &entry.author)?, ops })
    }
}

/// Rights as they were for single entries: by what each reaches and by what lies below all forks.
struct Worlds<'a> {
    authors: &'a Authors,
    standing: &'a [EntryRow],
    /// Whether a standing entry lies below all forks.
    trunk: Vec<bool>,
    forks: BTreeMap<VerifyingKey, u64>,
    /// By the standing entries in it.
    resolved: BTreeMap<Vec<bool>, Access>,
}

impl<'a> Worlds<'a> {
    fn new(authors: &'a Authors, forks: &BTreeMap<VerifyingKey, Fork>, standing: &'a [EntryRow]) -> Self {
        let forks: BTreeMap<VerifyingKey, u64> =
            forks.iter().map(|(author, fork)| (*author, fork.first)).collect();
        let below = |entry: &EntryRow| forks.get(&entry.author).is_none_or(|first| entry.seq < *first);
        let trunk = standing.iter().map(below).collect();
        Self { authors, standing, trunk, forks, resolved: BTreeMap::new() }
    }

    /// Whether an entry may be an anchor: of a member, below a fork of its own author, its time come.
    fn lets_vouch(&mut self, rows: &dyn ReadRows, entry: &EntryRow) -> Result<bool, RowError> {
        let above_own_fork = self.forks.get(&entry.author).is_some_and(|first| entry.seq >= *first);
        if above_own_fork || row::is_deferred(rows, entry)? {
            return Ok(false);
        }
        let mut inside = self.trunk.clone();
        for (inside, other) in inside.iter_mut().zip(self.standing) {
            *inside |= entry.known.holds(rows, &other.name())?;
        }
        let access = self.resolved.entry(inside).or_insert_with_key(|inside| {
            let world = self.standing.iter().zip(inside).filter(|(_, inside)| **inside);
            let ops = world.flat_map(|(entry, _)| access_ops(entry, &entry.known.reached()));
            Access::resolve(self.authors.clone(), ops)
        });
        Ok(access.judge_entry(entry.order(), &entry.known.reached()).is_ok())
    }
}

/// What an entry holds of forked authors that no earlier anchor held.
fn unseen_anchors(
    forks: &BTreeMap<VerifyingKey, Fork>,
    entry: &EntryRow,
) -> Vec<(VerifyingKey, Vec<(u64, EntryId)>)> {
    let held = |(author, fork): (&VerifyingKey, &Fork)| {
        let tips = entry.known.0.get(author)?.iter().filter(|(seq, _)| *seq >= fork.first);
        let tips: Vec<(u64, EntryId)> = tips.copied().collect();
        let unseen = fork.anchors.get(&tips).is_none_or(|least| entry.order() < *least);
        (*author != entry.author && !tips.is_empty() && unseen).then_some((*author, tips))
    };
    forks.iter().filter_map(held).collect()
}

/// The operations of an entry that membership depends on.
fn access_ops(entry: &EntryRow, past: &Past) -> Vec<AccessOp> {
    let op = |(at, op)| Act::of(op).map(|act| AccessOp { at, past: past.clone(), act });
    ops_of(entry).filter_map(op).collect()
}

impl Counted for Space {
    fn tree_entry(&self, rows: &dyn ReadRows, order: &EntryOrder) -> Result<Option<TreeEntry>, RowError> {
        let Some(entry) = self.counting_at(rows, order)? else { return Ok(None) };
        self.tree_view(rows, &entry).map(Some)
    }

    fn past(&self, rows: &dyn ReadRows, order: &EntryOrder) -> Result<Option<Past>, RowError> {
        let Some(entry) = self.counting_at(rows, order)? else { return Ok(None) };
        Space::past(self, rows, &entry).map(Some)
    }
}

/// The operations of an entry with their places.
pub(super) fn ops_of(entry: &EntryRow) -> impl Iterator<Item = (OpOrder, &Op)> {
    let order = entry.order();
    (0..=u16::MAX).zip(&entry.body.ops).map(move |(index, op)| (OpOrder { entry: order, index }, op))
}

/// Entries with operations that are resolved for the space as a whole, in total order, without deferred ones.
pub(super) fn standing_entries(rows: &dyn ReadRows) -> Result<Vec<EntryRow>, RowError> {
    let mut found = Vec::new();
    for (order, name) in row::places(rows, STANDING, &[], None)? {
        if rows.get(DEFERRED, &row::place_key(&order, &name.id))?.is_none() {
            found.push(row::named(rows, &name)?);
        }
    }
    Ok(found)
}

fn page(rows: &dyn ReadRows, from: &[u8]) -> Result<Vec<(EntryOrder, EntryRef)>, RowError> {
    let mut found = Vec::new();
    rows.scan(PLACES, from, None, &mut |key, _| {
        found.push(row::place_of(key));
        if found.len() < PAGE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    found.into_iter().collect()
}

fn branches(rows: &dyn ReadRows, author: &VerifyingKey, first: u64) -> Result<Branches, RowError> {
    let mut links = Vec::new();
    for name in row::names_from(rows, author, first)? {
        let entry = row::named(rows, &name)?;
        if !row::is_deferred(rows, &entry)? {
            links.push(Link { seq: entry.seq, id: entry.id, prev: entry.prev });
        }
    }
    let trunk = match first.checked_sub(1) {
        Some(before) => row::held(rows, author, before)?.first().copied().unwrap_or(EntryId::ZERO),
        None => EntryId::ZERO,
    };
    Ok(Branches::new(trunk, links))
}
