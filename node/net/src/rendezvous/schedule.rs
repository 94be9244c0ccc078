//! When an own record is put (`docs/spec/09-rendezvous.md`, section 4.4). Pure: time and dice come as arguments.
//!
//! The moments of one period say nothing about those of another, of another r, or of another secret. A crawler that sees
//! when records come and go learns from that no more than from their bytes.

use std::time::Duration;

use locker_crypto::rendezvous::{PERIOD_S, period_at};
use rand_core::Rng;
use tokio::time::Instant;

/// First pause after nobody took a record.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// One moment by both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) at: Instant,
    pub(crate) unix_s: u64,
}

/// Record r of a secret: today's, and tomorrow's, which is there before its day begins.
#[derive(Default, Debug)]
pub(crate) struct Schedule {
    turns: Vec<Turn>,
}

/// The record in one period.
#[derive(Debug)]
struct Turn {
    period: u64,
    /// When nobody looks for it as today's any more.
    end: Instant,
    /// The next moment of the plan.
    planned: Instant,
    /// When it has to be put; after the last time in its period never.
    due: Option<Instant>,
    /// Whether it has been put, or tried.
    is_begun: bool,
    is_under_way: bool,
    is_stored: bool,
    /// Times in a row that nobody took it.
    failures: u32,
}

impl Schedule {
    /// Makes sure that there is a turn for today, due at once if it is new, and one for tomorrow; forgets all others.
    pub(crate) fn renew(&mut self, now: Moment, interval: Duration, dice: &mut (impl Rng + ?Sized)) {
        let today = period_at(now.unix_s);
        self.turns.retain(|turn| turn.period == today || turn.period == today + 1);
        for period in [today, today + 1] {
            if self.turns.iter().all(|turn| turn.period != period) {
                self.turns.push(Turn::plan(period, now, interval, dice));
            }
        }
    }

    /// Returns when something is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.turns.iter().filter_map(|turn| turn.due).min()
    }

    /// Returns the periods whose record is to be put now. For each, [`Schedule::ended`] has to be told how it went.
    pub(crate) fn take_due(&mut self, now: Instant, interval: Duration, quiet: Duration) -> Vec<u64> {
        let mut periods = Vec::new();
        for turn in self.turns.iter_mut().filter(|turn| turn.due.is_some_and(|due| due <= now)) {
            if turn.is_under_way {
                // It comes again when it is through.
                turn.due = Some(now + quiet);
                continue;
            }
            (turn.is_begun, turn.is_under_way, turn.is_stored) = (true, true, false);
            while turn.planned <= now {
                turn.planned += interval.max(Duration::from_millis(1));
            }
            turn.due = Some(turn.planned).filter(|due| *due < turn.end);
            periods.push(turn.period);
        }
        periods
    }

    /// The record of a period was put, or not: then it is tried again soon, at pauses that double up to `pause_max`. Somebody
    /// may be looking for it just now, as for an invitation.
    pub(crate) fn ended(&mut self, period: u64, is_stored: bool, now: Instant, pause_max: Duration) {
        let Some(turn) = self.turns.iter_mut().find(|turn| turn.period == period) else { return };
        (turn.is_under_way, turn.is_stored) = (false, is_stored);
        if is_stored {
            turn.failures = 0;
            return;
        }
        let pause = PAUSE_MIN.saturating_mul(1 << turn.failures.min(16)).min(pause_max);
        turn.failures += 1;
        turn.due = Some(turn.due.map_or(now + pause, |due| due.min(now + pause)));
    }

    /// What the records say is no longer true: those that are out are put again.
    pub(crate) fn anew(&mut self, at: Instant) {
        for turn in self.turns.iter_mut().filter(|turn| turn.is_begun) {
            turn.due = Some(turn.due.map_or(at, |due| due.min(at)));
        }
    }

    /// Returns how many records should be out, and how many are.
    pub(crate) fn standing(&self) -> (usize, usize) {
        let begun = self.turns.iter().filter(|turn| turn.is_begun || turn.period == self.first());
        let stored = self.turns.iter().filter(|turn| turn.is_stored);
        (begun.count(), stored.count())
    }

    fn first(&self) -> u64 {
        self.turns.iter().map(|turn| turn.period).min().unwrap_or_default()
    }
}

impl Turn {
    /// From a random moment of the half interval before the period begins, every interval; of a period that has begun,
    /// what is left of such a plan, and once at once.
    fn plan(period: u64, now: Moment, interval: Duration, dice: &mut (impl Rng + ?Sized)) -> Self {
        let share = f64::from(dice.next_u32()) / (f64::from(u32::MAX) + 1.0);
        let lead = (interval / 2).mul_f64(1.0 - share);
        let begin_s = period * PERIOD_S;
        let end = now.at + Duration::from_secs((begin_s + PERIOD_S).saturating_sub(now.unix_s));
        let (planned, due) = if now.unix_s < begin_s {
            let ahead = Duration::from_secs(begin_s - now.unix_s);
            let first = now.at + ahead.saturating_sub(lead);
            (first, first)
        } else {
            let past = Duration::from_secs(now.unix_s - begin_s) + lead;
            let steps = u32::try_from(past.as_millis() / interval.as_millis().max(1)).unwrap_or(u32::MAX);
            let next = interval.saturating_mul(steps.saturating_add(1)).saturating_sub(past);
            (now.at + next, now.at)
        };
        Self {
            period,
            end,
            planned,
            due: Some(due),
            is_begun: false,
            is_under_way: false,
            is_stored: false,
            failures: 0,
        }
    }
}

#[cfg(test)]
mod tests;
