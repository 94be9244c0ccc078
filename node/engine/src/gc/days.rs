//! The days on which this device ran (`docs/spec/08-at-rest.md`, "Keeping"): what ages are counted in, so that no jump of
//! the clock makes anything old.
//!
//! A day counts once, in whatever order days come by: a clock that goes ten years ahead and back adds one day, not ten
//! years, and one that goes to and fro adds nothing.

use locker_crypto::Refusal;
use locker_store::settings::{self, Setting};
use locker_store::{Reads, Store, WriteTxn};

use crate::limits::DAYS_REMEMBERED;
use crate::{Env, Error};

const SETTING: Setting = Setting::engine(2);
const DAY_MS: u64 = 86_400_000;

/// How many days this device ran, and which were the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RunDays {
    /// How many.
    pub(super) count: u32,
    /// The count at the last pass of the running node; 0 before the first.
    pub(super) passed: u32,
    /// The days counted last, as days since 1970, the last one last.
    last: Vec<u32>,
}

impl RunDays {
    pub(super) fn read<R: Reads>(reads: &R) -> Result<Self, Error> {
        let Some(value) = settings::get(reads, SETTING)? else { return Ok(Self::default()) };
        Self::decode(&value).ok_or_else(|| Error::damaged("the count of days", Refusal::Canon))
    }

    pub(super) fn write(&self, txn: &mut WriteTxn<'_>) {
        settings::put(txn, SETTING, &self.encode());
    }

    /// Counts the day of a time, unless it was counted; says whether it was new.
    pub(super) fn note(&mut self, now_ms: u64) -> bool {
        let today = u32::try_from(now_ms / DAY_MS).unwrap_or(u32::MAX);
        if self.last.contains(&today) {
            return false;
        }
        self.count = self.count.saturating_add(1);
        self.last.push(today);
        let over = self.last.len().saturating_sub(DAYS_REMEMBERED);
        self.last.drain(..over);
        true
    }

    fn encode(&self) -> Vec<u8> {
        [self.count, self.passed].iter().chain(&self.last).flat_map(|n| n.to_le_bytes()).collect()
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let (numbers, []) = value.as_chunks::<4>() else { return None };
        let mut numbers = numbers.iter().map(|n| u32::from_le_bytes(*n));
        let (count, passed) = (numbers.next()?, numbers.next()?);
        Some(Self { count, passed, last: numbers.collect() })
    }
}

/// Counts today; gives the count. Writes once a day.
///
/// # Errors
/// What reading and committing give.
pub(crate) fn note_today(store: &Store, env: &Env) -> Result<u32, Error> {
    let mut days = RunDays::read(&store.read()?)?;
    if days.note(env.now_ms()) {
        store.write::<_, Error>(|txn| {
            days.write(txn);
            Ok(())
        })?;
    }
    Ok(days.count)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN_YEARS: u64 = 3_652;

    fn noted(days: impl IntoIterator<Item = u64>) -> u32 {
        let mut record = RunDays::default();
        for day in days {
            record.note(day * DAY_MS + 5);
            record = RunDays::decode(&record.encode()).unwrap();
        }
        record.count
    }

    #[test]
    fn each_day_counts_once() {
        assert_eq!(noted([]), 0);
        assert_eq!(noted([20_000, 20_000, 20_001, 20_001, 20_004]), 3);
        let mut record = RunDays::default();
        assert!(record.note(DAY_MS - 1) && record.note(DAY_MS) && !record.note(2 * DAY_MS - 1));
    }

    /// Goal: G3. A clock that jumps, however often, makes at most one day of each place that it comes to.
    #[test]
    fn jumps_of_the_clock_do_not_make_days() {
        assert_eq!(noted([20_000, 20_000 + TEN_YEARS]), 2);
        assert_eq!(noted([20_000, 20_000 - TEN_YEARS]), 2);
        let to_and_fro = (0..1_000).map(|n| 20_000 + (n % 2) * TEN_YEARS);
        assert_eq!(noted(to_and_fro), 2);
        // A computer without a battery for its clock begins each day in 1970.
        assert_eq!(noted((0..40).flat_map(|n| [0, 20_000 + n])), 41);
        assert_eq!(noted([u64::MAX / DAY_MS - 1, u64::MAX / DAY_MS - 2]), 1);
    }

    #[test]
    fn what_is_damaged_is_refused() {
        for wrong in [&[][..], &[0; 4], &[0; 9], &[0; 11]] {
            assert_eq!(RunDays::decode(wrong), None);
        }
        assert_eq!(RunDays::decode(&[0; 8]), Some(RunDays::default()));
    }
}
