//! Whether what was counted is too much: of the last ten minutes of one author, and of what is held already.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use locker_crypto::id::VerifyingKey;

use super::Weighed;
use super::row::{At, HeldRow, Recent, Whose, each_held, forget_recent, gross, note_looked, unheld, window};
use crate::brake::{Count, FILE_TENTHS, WINDOW_MS, exceeds};
use crate::clock;
use crate::operation::Op;
use crate::order::EntryOrder;
use crate::rows::{RowError, WriteRows};
use crate::space::Space;
use crate::space::settle::ops_of;
use crate::tree::losses::{Likeness, likenesses_below, live_among};
use crate::tree::{self, Shown};

/// Contents that are looked for elsewhere in the space, at most; what is beyond counts.
const LIKENESSES_MAX: usize = if cfg!(test) { 600 } else { 1 << 18 };

impl Space {
    /// The entries of the window that ends at one, if together they are too much, without those that are held already.
    pub(super) fn over(&self, rows: &mut dyn WriteRows, at: &At) -> Result<Vec<Weighed>, RowError> {
        let Some(window) = window(rows, at)? else { return Ok(Vec::new()) };
        let before = tree::counts(rows)?.files.saturating_add(window.gone);
        // A look at all contents is worth it if there is much that was not looked at.
        let is_look_due = exceeds(window.gross, before) && window.unlooked.saturating_mul(4) >= window.gross;
        if !exceeds(window.tenths, before) && !is_look_due {
            return Ok(Vec::new());
        }
        let (mut fresh, follows_held) = unheld(rows, at)?;
        // All before one that is held was too much with it, and what follows goes with it without a look.
        let mut tenths = window.tenths;
        if !follows_held {
            tenths = self.discount(rows, &mut fresh)?;
        }
        if !exceeds(tenths, before) {
            return Ok(Vec::new());
        }
        // What lives elsewhere is no loss.
        let lost = fresh.into_iter().filter(|(_, recent)| recent.tenths > 0);
        let weighed = |(at, recent): (At, Recent)| {
            let order = EntryOrder { hlc: recent.hlc, author: at.author, seq: at.seq };
            Weighed { order, losses: recent.losses, tenths: recent.tenths }
        };
        Ok(lost.map(weighed).collect())
    }

    /// Looks which trashed files have a content that lives elsewhere, and counts these no more. Gives what all of them count
    /// then. Cost: all nodes, twice.
    fn discount(&self, rows: &mut dyn WriteRows, fresh: &mut [(At, Recent)]) -> Result<u64, RowError> {
        let mut gone: Vec<(usize, Likeness)> = Vec::new();
        for (i, (at, recent)) in fresh.iter().enumerate() {
            let order = EntryOrder { hlc: recent.hlc, author: at.author, seq: at.seq };
            if recent.losses.gone == 0 || gone.len() >= LIKENESSES_MAX {
                continue;
            }
            let Some(entry) = self.counting_at(rows, &order)? else { continue };
            let shown = Shown::choose(&*rows, self.is_apart);
            for (op_at, op) in ops_of(&entry) {
                let Op::Trash(op) = op else { continue };
                if tree::node(&shown, op.node)?
                    .and_then(|node| node.trashed)
                    .is_none_or(|(_, by)| by != op_at)
                {
                    continue;
                }
                likenesses_below(&shown, op.node, &mut |likeness| {
                    gone.push((i, likeness));
                    if gone.len() < LIKENESSES_MAX {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    }
                })?;
            }
        }
        let wanted: BTreeSet<Likeness> = gone.iter().map(|(_, likeness)| *likeness).collect();
        let live = live_among(&Shown::choose(&*rows, self.is_apart), &wanted)?;
        let mut saved: BTreeMap<usize, u64> = BTreeMap::new();
        for (i, likeness) in gone {
            *saved.entry(i).or_default() += u64::from(live.contains(&likeness));
        }
        let mut sum = 0_u64;
        for (i, (_, recent)) in fresh.iter_mut().enumerate() {
            let less = saved.get(&i).copied().unwrap_or(0).saturating_mul(FILE_TENTHS);
            recent.tenths = gross(&recent.losses).saturating_sub(less);
            sum = sum.saturating_add(recent.tenths);
        }
        note_looked(rows, fresh)?;
        Ok(sum)
    }

    /// Looks again whether what is held is too much still, by what was noted of it.
    ///
    /// # Errors
    /// As [`Space::held_back`].
    pub fn weigh_again(&mut self, rows: &mut dyn WriteRows) -> Result<(), RowError> {
        let mut held: BTreeMap<VerifyingKey, Vec<(EntryOrder, HeldRow)>> = BTreeMap::new();
        each_held(rows, &mut |order, row| {
            if row.whose != Whose::Undone {
                held.entry(order.author).or_default().push((order, row));
            }
        })?;
        let files = tree::counts(&Shown::choose(&*rows, self.is_apart))?.files;
        let mut freed = Vec::new();
        for held in held.values() {
            // What this device took away itself it does not show.
            let gone =
                held.iter().filter(|(_, row)| row.whose == Whose::Others).map(|(_, row)| row.losses.gone);
            let still = still_over(held, files.saturating_add(gone.sum()));
            let over = held.iter().zip(still).filter(|(_, still)| !still);
            freed.extend(over.map(|((order, _), _)| *order));
        }
        for order in &freed {
            forget_recent(rows, &order.author, order.seq)?;
        }
        self.free(rows, &freed)
    }
}

/// Which of these entries of one author, in their order, are in some window that is too much.
fn still_over(held: &[(EntryOrder, HeldRow)], files: u64) -> Vec<bool> {
    let ms = |(order, row): &(EntryOrder, HeldRow)| match row.count {
        Count::Clock => clock::unix_ms(order.hlc),
        Count::Arrival => row.at_ms,
    };
    let mut still = vec![false; held.len()];
    let (mut first, mut tenths) = (0, 0_u64);
    for (i, (_, row)) in held.iter().enumerate() {
        tenths += row.tenths;
        while ms(&held[first]).saturating_add(WINDOW_MS) <= ms(&held[i]) {
            tenths -= held[first].1.tenths;
            first += 1;
        }
        if exceeds(tenths, files) {
            still[first..=i].fill(true);
        }
    }
    still
}
