//! The brake in a space: what entries take away is counted as they come, and what is too much is held
//! (`docs/spec/05-tree.md`, "Brake").
//!
//! A hold changes nothing that is stored, told or replayed. It keeps the operations that take away out of the shown tree
//! ([`crate::tree::Shown`]), and the entries out of what this device names. It ends by a `confirm` of another device, or
//! with the words of the person, or when it turns out that what was replaced begins as before.

mod deps;
mod judge;
mod row;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use locker_crypto::id::VerifyingKey;
use locker_crypto::sign::{Domain, Signature, verify};

use self::row::{
    At, HELD, HeldRow, LEVEL, Whose, add, any_held, each_held, forget_recent, gross, held_key, held_row,
    window,
};
use super::Space;
use super::row::{self as space_row, EntryRow};
use super::settle::{ops_of, standing_entries};
use crate::brake::{ALIKE_TENTHS, Count, FILE_TENTHS, Hold, Losses, WINDOW_MS, exceeds};
use crate::clock;
use crate::operation::{Confirm, Decision, Op, Role};
use crate::order::EntryOrder;
use crate::rows::{ReadRows, RowError, WriteRows};
use crate::tree::losses::{is_taking, losses, overwritten};
use crate::tree::shown::{Keeping, ShownMut, join, part};
use crate::tree::{self, Counted, Overwritten, Shown, TreeEntry};

/// Most decisions under a root key of one device that are looked at, the last ones: each costs a signature.
const ROOT_SIGS_MAX: usize = 16;

/// Most authors of whom it is noted when this device had all of them.
const LEVELS_MAX: usize = 512;

/// An entry that was counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weighed {
    /// Its place.
    pub(super) order: EntryOrder,
    /// What it takes away.
    pub(super) losses: Losses,
    /// What that counts.
    pub(super) tenths: u64,
}

/// The counting entries without the operations that are held.
struct Unheld<'a>(&'a Space);

impl Counted for Unheld<'_> {
    fn tree_entry(&self, rows: &dyn ReadRows, order: &EntryOrder) -> Result<Option<TreeEntry>, RowError> {
        let Some(entry) = self.0.counting_at(rows, order)? else { return Ok(None) };
        self.0.shown_view(rows, &entry).map(Some)
    }
}

impl Space {
    /// Whether something is held here, so that this device shows another tree than replay gives.
    pub fn is_apart(&self) -> bool {
        self.is_apart
    }

    /// What is held, by author; what this device wrote itself and others hold is among it.
    ///
    /// # Errors
    /// [`RowError`] as the store gives it, here and below.
    pub fn held_back(&self, rows: &dyn ReadRows) -> Result<Vec<Hold>, RowError> {
        let mut holds: BTreeMap<VerifyingKey, Hold> = BTreeMap::new();
        each_held(rows, &mut |order, row| {
            if row.whose == Whose::Undone {
                return;
            }
            let hold = holds.entry(order.author).or_insert(Hold {
                author: order.author,
                first_seq: order.seq,
                last_seq: order.seq,
                entries: 0,
                losses: Losses::default(),
                since_ms: row.at_ms,
                count: row.count,
                is_own: row.whose == Whose::Others,
            });
            hold.first_seq = hold.first_seq.min(order.seq);
            hold.last_seq = hold.last_seq.max(order.seq);
            hold.entries += 1;
            hold.losses.gone += row.losses.gone;
            hold.losses.replaced += row.losses.replaced;
            hold.since_ms = hold.since_ms.min(row.at_ms);
        })?;
        Ok(holds.into_values().collect())
    }

    /// Whether this device taking away so many files now, beside what it did before, is more than others let through.
    ///
    /// # Errors
    /// As [`Space::held_back`].
    pub fn would_be_held(&self, rows: &dyn ReadRows, files: u64, now_ms: u64) -> Result<bool, RowError> {
        let at = At { count: Count::Clock, author: self.own, ms: now_ms, seq: u64::MAX };
        let (tenths, gone) = window(rows, &at)?.map_or((0, 0), |w| (w.tenths, w.gone));
        let before = tree::counts(rows)?.files.saturating_add(gone);
        Ok(self.has_others() && exceeds(tenths.saturating_add(files.saturating_mul(FILE_TENTHS)), before))
    }

    /// Whether anything is held, here or of this device. Cost: one look.
    ///
    /// # Errors
    /// As [`Space::held_back`].
    pub fn has_held(rows: &dyn ReadRows) -> Result<bool, RowError> {
        any_held(rows)
    }

    /// The files that held entries replaced a content of, and of which it is not known yet how they begin. At
    /// most `most` and those of one entry more, by author.
    ///
    /// # Errors
    /// As [`Space::held_back`].
    pub fn unread(&self, rows: &dyn ReadRows, most: usize) -> Result<Vec<Overwritten>, RowError> {
        let mut orders = Vec::new();
        each_held(rows, &mut |order, row| {
            if row.whose != Whose::Undone && !row.is_read && row.losses.replaced > 0 {
                orders.push(order);
            }
        })?;
        let mut found = Vec::new();
        for order in orders {
            if found.len() >= most {
                break;
            }
            if let Some(entry) = self.counting_at(rows, &order)? {
                let ops = ops_of(&entry).map(|(at, op)| (at.index, op));
                // In the replayed tree: the shown one does not have them.
                found.extend(overwritten(rows, order, ops)?);
            }
        }
        Ok(found)
    }

    /// Notes when this device last had all that an author showed it. Entries of it that are older than that and come later
    /// could have come before.
    ///
    /// # Errors
    /// As [`Space::held_back`].
    pub fn note_level(rows: &mut dyn WriteRows, author: &VerifyingKey, at_ms: u64) -> Result<(), RowError> {
        let mut count = 0;
        rows.scan(LEVEL, &[], None, &mut |_, _| {
            count += 1;
            if count < LEVELS_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        if count < LEVELS_MAX || rows.get(LEVEL, author.as_ref())?.is_some() {
            rows.put(LEVEL, author.as_ref(), &at_ms.to_be_bytes())?;
        }
        Ok(())
    }

    /// Notes when this device began to follow the space; what is older than that is no loss for it.
    pub(super) fn note_since(&mut self, rows: &mut dyn WriteRows, now_ms: u64) -> Result<(), RowError> {
        if self.since_ms.is_none() {
            space_row::put_since(rows, now_ms)?;
            self.since_ms = Some(now_ms);
        }
        Ok(())
    }

    /// Gives entries their effect in the tree, and in the shown one if that is another.
    pub(super) fn apply(&self, rows: &mut dyn WriteRows, entries: &[&EntryRow]) -> Result<(), RowError> {
        let views = entries.iter().map(|entry| self.tree_view(rows, entry)).collect::<Result<Vec<_>, _>>()?;
        if !self.is_apart {
            return tree::apply_within(rows, self, &views, &self.limits);
        }
        // What a writer must not write is judged by what it sees; in the replayed tree all devices judge alike.
        tree::apply_all(&mut Keeping(rows), self, &views)?;
        let views =
            entries.iter().map(|entry| self.shown_view(rows, entry)).collect::<Result<Vec<_>, _>>()?;
        tree::apply_within(&mut ShownMut(rows), &Unheld(self), &views, &self.limits)
    }

    /// Replays the tree from a place on, and the shown one if that is another.
    pub(super) fn rewind(&self, rows: &mut dyn WriteRows, from: EntryOrder) -> Result<(), RowError> {
        if !self.is_apart {
            return tree::rewind(rows, self, from);
        }
        tree::rewind(&mut Keeping(rows), self, from)?;
        tree::rewind(&mut ShownMut(rows), &Unheld(self), from)
    }

    /// Counts what newly applied entries take away, and holds what is too much.
    pub(super) fn brake(
        &mut self,
        rows: &mut dyn WriteRows,
        entries: &[&EntryRow],
        now_ms: u64,
    ) -> Result<(), RowError> {
        for entry in entries {
            if !entry.body.ops.iter().any(is_taking) || self.is_confirmed(&entry.author, entry.seq) {
                continue;
            }
            let is_own = entry.author == self.own;
            if is_own && !self.has_others() {
                continue;
            }
            let times = self.times(rows, entry, now_ms)?;
            if times.is_empty() {
                continue;
            }
            let ops = ops_of(entry).map(|(at, op)| (at.index, op));
            let shown = Shown::choose(&*rows, self.is_apart);
            let found = losses(&shown, entry.order(), ops, &|order| self.is_undone(rows, order))?;
            if found.is_none() {
                continue;
            }
            for (count, ms) in times {
                let at = At { count, author: entry.author, ms, seq: entry.seq };
                add(rows, &at, entry.body.hlc, found)?;
                let over = self.over(rows, &at)?;
                self.hold(rows, (count, now_ms), &over)?;
            }
        }
        Ok(())
    }

    /// Holds entries of one author, in total order.
    pub(super) fn hold(
        &mut self,
        rows: &mut dyn WriteRows,
        (count, at_ms): (Count, u64),
        entries: &[Weighed],
    ) -> Result<(), RowError> {
        let Some(first) = entries.first() else { return Ok(()) };
        let is_own = first.order.author == self.own;
        for Weighed { order, losses, tenths } in entries {
            let (losses, tenths, is_read) = (*losses, *tenths, losses.replaced == 0);
            let whose = if is_own { Whose::Others } else { Whose::Here };
            let row = HeldRow { whose, count, at_ms, losses, tenths, is_read };
            rows.put(HELD, &held_key(order), &row.encode())?;
        }
        if is_own {
            return Ok(());
        }
        if !self.is_apart {
            part(rows)?;
            self.is_apart = true;
        }
        tree::rewind(&mut ShownMut(rows), &Unheld(self), first.order)
    }

    /// By which times an entry counts.
    fn times(
        &self,
        rows: &dyn ReadRows,
        entry: &EntryRow,
        now_ms: u64,
    ) -> Result<Vec<(Count, u64)>, RowError> {
        let clock_ms = clock::unix_ms(entry.body.hlc);
        let mut times = Vec::new();
        if self.since_ms.is_some_and(|since| clock_ms >= since) {
            times.push((Count::Clock, clock_ms));
        }
        if entry.author != self.own && clock_ms.saturating_add(WINDOW_MS) < now_ms {
            let level = rows.get(LEVEL, entry.author.as_ref())?;
            let level = level.and_then(|ms| ms.try_into().ok()).map(u64::from_be_bytes);
            if level.is_some_and(|level| level > clock_ms) {
                times.push((Count::Arrival, now_ms));
            }
        }
        Ok(times)
    }

    /// Notes of the overwrites of a held entry how many of them begin as before.
    ///
    /// # Errors
    /// As [`Space::held_back`].
    pub fn note_alike(rows: &mut dyn WriteRows, order: &EntryOrder, alike: u64) -> Result<(), RowError> {
        let key = held_key(order);
        let Some(bytes) = rows.get(HELD, &key)? else { return Ok(()) };
        let row = HeldRow::decode(&bytes).map_err(RowError::Corrupt)?;
        let less = alike.saturating_mul(FILE_TENTHS - ALIKE_TENTHS);
        let tenths = row.tenths.saturating_sub(less);
        rows.put(HELD, &key, &HeldRow { tenths, is_read: true, ..row }.encode())
    }

    /// Whether a `confirm` that counts has decided about an entry.
    fn is_confirmed(&self, author: &VerifyingKey, seq: u64) -> bool {
        self.confirmed.iter().any(|(_, confirm)| covers(confirm, author, seq))
    }

    /// The decisions that count: of other devices than the one whose entries they are about, or of that one with the words of
    /// its person.
    pub(super) fn resolve_confirmed(
        &self,
        rows: &dyn ReadRows,
        standing: &[EntryRow],
    ) -> Result<Vec<(VerifyingKey, Confirm)>, RowError> {
        let mut confirmed = Vec::new();
        let decides = |entry: &EntryRow| entry.body.ops.iter().any(|op| matches!(op, Op::Confirm(_)));
        if !standing.iter().any(decides) {
            return Ok(confirmed);
        }
        let mut with_words: BTreeMap<VerifyingKey, usize> = BTreeMap::new();
        for op in self.standing_among(rows, standing)?.into_iter().rev() {
            let (Op::Confirm(confirm), Ok(()), by) = (op.op, op.verdict, op.at.entry.author) else {
                continue;
            };
            let counts = if confirm.author != by {
                true
            } else if let Some(root_sig) = &confirm.root_sig {
                let looked_at = with_words.entry(by).or_default();
                *looked_at += 1;
                *looked_at <= ROOT_SIGS_MAX && self.has_words(&confirm, root_sig)
            } else {
                false
            };
            if counts {
                confirmed.push((by, confirm));
            }
        }
        Ok(confirmed)
    }

    /// Whether the person whose device wrote the entries decides about them with the words that are current.
    fn has_words(&self, confirm: &Confirm, root_sig: &Signature) -> bool {
        let root = self.person_of(&confirm.author).and_then(|person| self.roots.get(&person));
        root.is_some_and(|root| {
            verify(root, Domain::Confirm, &confirm.signed_bytes(&self.id), root_sig).is_ok()
        })
    }

    /// Finds anew what was decided, and ends what that is about: a root key is current that was not before.
    pub(super) fn decide_holds(&mut self, rows: &mut dyn WriteRows) -> Result<(), RowError> {
        self.confirmed = self.resolve_confirmed(rows, &standing_entries(rows)?)?;
        self.end_confirmed(rows)
    }

    /// Ends what was decided about.
    pub(super) fn end_confirmed(&mut self, rows: &mut dyn WriteRows) -> Result<(), RowError> {
        if self.confirmed.is_empty() {
            return Ok(());
        }
        let mut freed = Vec::new();
        each_held(rows, &mut |order, _| {
            if self.is_confirmed(&order.author, order.seq) {
                freed.push(order);
            }
        })?;
        let mut last: BTreeMap<VerifyingKey, u64> = BTreeMap::new();
        for order in &freed {
            let seq = last.entry(order.author).or_default();
            *seq = (*seq).max(order.seq);
        }
        for (author, seq) in last {
            forget_recent(rows, &author, seq)?;
        }
        self.free(rows, &freed)?;
        self.count_undoing_again(rows)
    }

    /// Counts again what is held of devices that were seen to undo what another one did: what they replaced is no loss.
    fn count_undoing_again(&mut self, rows: &mut dyn WriteRows) -> Result<(), RowError> {
        let undoes = |author: &VerifyingKey| {
            let is = |(by, confirm): &(VerifyingKey, Confirm)| {
                by == author && confirm.decision == Decision::Restore
            };
            self.confirmed.iter().any(is)
        };
        let mut held = Vec::new();
        each_held(rows, &mut |order, row| {
            if row.whose != Whose::Undone && undoes(&order.author) {
                held.push((order, row));
            }
        })?;
        let mut is_less = false;
        for (order, row) in held {
            let Some(entry) = self.counting_at(rows, &order)? else { continue };
            let ops = ops_of(&entry).map(|(at, op)| (at.index, op));
            // In the replayed tree: the shown one does not have what is held.
            let losses = losses(rows, order, ops, &|order| self.is_undone(rows, order))?;
            let tenths = gross(&losses).min(row.tenths);
            is_less |= tenths < row.tenths;
            rows.put(HELD, &held_key(&order), &HeldRow { losses, tenths, ..row }.encode())?;
        }
        if is_less { self.weigh_again(rows) } else { Ok(()) }
    }

    /// Whether what an entry wrote is undone, or about to be: who replaces it takes nothing away.
    fn is_undone(&self, rows: &dyn ReadRows, order: &EntryOrder) -> Result<bool, RowError> {
        let is = |(_, confirm): &(VerifyingKey, Confirm)| {
            confirm.decision == Decision::Restore && covers(confirm, &order.author, order.seq)
        };
        // What others hold of this device, it may replace itself.
        Ok(self.confirmed.iter().any(is)
            || held_row(rows, order)?.is_some_and(|row| row.whose != Whose::Here))
    }

    /// Ends what is held of an author: this device is about to write what it decided.
    ///
    /// # Errors
    /// As [`Space::held_back`].
    pub fn end_hold(&mut self, rows: &mut dyn WriteRows, author: &VerifyingKey) -> Result<(), RowError> {
        let mut freed = Vec::new();
        each_held(rows, &mut |order, _| {
            if order.author == *author {
                freed.push(order);
            }
        })?;
        if let Some(last) = freed.last() {
            forget_recent(rows, author, last.seq)?;
        }
        self.end(rows, &freed, true)
    }

    /// Takes entries out of what is held.
    pub(super) fn free(&mut self, rows: &mut dyn WriteRows, freed: &[EntryOrder]) -> Result<(), RowError> {
        self.end(rows, freed, false)
    }

    /// Takes entries out of what is held here; with `is_undone`, it stays noted that what they wrote is to be undone.
    fn end(
        &mut self,
        rows: &mut dyn WriteRows,
        freed: &[EntryOrder],
        is_undone: bool,
    ) -> Result<(), RowError> {
        let mut from: Option<EntryOrder> = None;
        for order in freed {
            let key = held_key(order);
            let row = rows.get(HELD, &key)?.map(|bytes| HeldRow::decode(&bytes)).transpose();
            let row = row.map_err(RowError::Corrupt)?;
            if row.is_some_and(|row| row.whose == Whose::Here) {
                from = Some(from.map_or(*order, |from| from.min(*order)));
            }
            match row.filter(|_| is_undone) {
                Some(row) => rows.put(HELD, &key, &HeldRow { whose: Whose::Undone, ..row }.encode())?,
                None => rows.delete(HELD, &key)?,
            }
        }
        let Some(from) = from else { return Ok(()) };
        let mut is_apart = false;
        each_held(rows, &mut |_, row| is_apart |= row.whose == Whose::Here)?;
        if is_apart {
            return tree::rewind(&mut ShownMut(rows), &Unheld(self), from);
        }
        self.is_apart = false;
        join(rows)
    }

    /// The view of an entry that the shown tree has: without what is held of it.
    pub(super) fn shown_view(&self, rows: &dyn ReadRows, entry: &EntryRow) -> Result<TreeEntry, RowError> {
        let mut view = self.tree_view(rows, entry)?;
        if is_held(rows, &entry.order())? {
            view.ops.retain(|op| !is_taking(&op.op));
        }
        Ok(view)
    }

    /// Whether any other device may write here: then others may hold what this one takes away.
    fn has_others(&self) -> bool {
        let devices = self.authors.persons.keys().filter(|device| **device != self.own);
        devices.into_iter().any(|device| self.access.role_of(device) != Role::None)
    }
}

/// Whether a decision is about an entry.
fn covers(confirm: &Confirm, author: &VerifyingKey, seq: u64) -> bool {
    confirm.author == *author && (confirm.first_seq..=confirm.last_seq).contains(&seq)
}

/// Whether the operations of an entry that take away are held here.
fn is_held(rows: &dyn ReadRows, order: &EntryOrder) -> Result<bool, RowError> {
    Ok(held_row(rows, order)?.is_some_and(|row| row.whose == Whose::Here))
}
