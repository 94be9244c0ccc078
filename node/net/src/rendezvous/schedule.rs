//! When an own record is put (`docs/spec/09-rendezvous.md`, section 4.4). Pure: time and dice come as arguments.
//!
//! The moments of one period say nothing about those of another, of another r, or of another secret. A crawler that sees
//! when records come and go learns from that no more than from their bytes.

use std::time::Duration;

use locker_crypto::rendezvous::{PERIOD_S, period_at};
use rand_core::Rng;
use tokio::time::Instant;

/// The beginning of a period, as a part of the interval: of 8 hours, ten minutes.
const QUIET_SHARE: u32 = 48;
/// First pause after nobody took a record.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// One moment by both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) at: Instant,
    pub(crate) unix_s: u64,
}

/// Record r of a secret. There is one of each day, and never one of tomorrow: who put it today would be seen to be who puts
/// it tomorrow under another transport key (T82). Until today's is put, yesterday's stands.
#[derive(Default, Debug)]
pub(crate) struct Schedule {
    plan: Option<Plan>,
    is_under_way: bool,
    /// Whether the last that was put was taken.
    is_stored: bool,
    /// Times in a row that nobody took it.
    failures: u32,
}

/// The record of one period.
#[derive(Debug)]
struct Plan {
    period: u64,
    end: Instant,
    /// The next moment of the plan.
    planned: Instant,
    /// When it has to be put.
    due: Instant,
}

impl Schedule {
    /// Turns to today's record: one that follows on yesterday's has its first moment in the plan, any other is due at once.
    pub(crate) fn renew(&mut self, now: Moment, interval: Duration, dice: &mut (impl Rng + ?Sized)) {
        let today = period_at(now.unix_s);
        if let Some(plan) = self.plan.as_mut().filter(|plan| plan.period == today) {
            // The clock may have been set.
            plan.end = end_of(today, now);
            return;
        }
        let before = self.plan.take();
        let mut plan = Plan::of(today, now, interval, dice);
        let follows = before.as_ref().is_some_and(|before| before.period + 1 == today);
        // Nothing of it was left to do: it says where this node is, and is not out of date.
        let stands = before.is_some_and(|before| before.due == before.planned && before.due >= before.end);
        if !follows || !stands || !(self.is_stored || self.is_under_way) {
            plan.due = now.at;
        }
        self.is_stored &= follows;
        self.plan = Some(plan);
    }

    /// Returns when there is something to do: a put, or, as the day is over, a new plan.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.plan.as_ref().map(|plan| plan.due.min(plan.end))
    }

    /// Returns the period whose record is to be put now, if it is time. [`Schedule::ended`] has to be told how it went.
    pub(crate) fn take_due(&mut self, now: Instant, interval: Duration, quiet: Duration) -> Option<u64> {
        let plan = self.plan.as_mut().filter(|plan| plan.due <= now)?;
        if self.is_under_way {
            // It comes again when it is through.
            plan.due = now + quiet;
            return None;
        }
        (self.is_under_way, self.is_stored) = (true, false);
        while plan.planned <= now {
            plan.planned += interval.max(Duration::from_millis(1));
        }
        plan.due = plan.planned;
        Some(plan.period)
    }

    /// The record was put, or not: then it is tried again soon, at pauses that double up to `pause_max`. Somebody may be
    /// looking for it just now, as for an invitation.
    pub(crate) fn ended(&mut self, is_stored: bool, now: Instant, pause_max: Duration) {
        (self.is_under_way, self.is_stored) = (false, is_stored);
        if is_stored {
            self.failures = 0;
            return;
        }
        let pause = PAUSE_MIN.saturating_mul(1 << self.failures.min(16)).min(pause_max);
        self.failures += 1;
        self.anew(now + pause);
    }

    /// What the record says is no longer true: it is put again, today's if it was yesterday's.
    pub(crate) fn anew(&mut self, at: Instant) {
        if let Some(plan) = &mut self.plan {
            plan.due = plan.due.min(at);
        }
    }

    /// Returns whether the record is out.
    pub(crate) fn is_stored(&self) -> bool {
        self.is_stored
    }
}

impl Plan {
    /// From a random moment of the first half interval of the period, but not of its beginning, every interval; of a period
    /// that has begun, what is left of such a plan. At the beginning nodes change their transport keys: no record is seen
    /// under those of two days.
    fn of(period: u64, now: Moment, interval: Duration, dice: &mut (impl Rng + ?Sized)) -> Self {
        let share = f64::from(dice.next_u32()) / (f64::from(u32::MAX) + 1.0);
        let into_period = Duration::from_secs(now.unix_s - period * PERIOD_S);
        let beginning = interval / QUIET_SHARE;
        let mut moment = beginning + (interval / 2 - beginning).mul_f64(share);
        if moment < into_period {
            let steps = (into_period - moment).as_millis() / interval.as_millis().max(1) + 1;
            moment += interval.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX));
        }
        let planned = now.at + (moment - into_period.min(moment));
        Self { period, end: end_of(period, now), planned, due: planned }
    }
}

fn end_of(period: u64, now: Moment) -> Instant {
    now.at + Duration::from_secs((period + 1) * PERIOD_S - now.unix_s)
}

#[cfg(test)]
mod tests;
