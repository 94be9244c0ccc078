//! When which pack is looked at in the background: all of them within 30 days, the one that was looked at longest ago
//! first, and never so fast that anybody feels it (`docs/spec/08-at-rest.md`, "Scrub").
//!
//! Decisions only: rows, the clock and the disk are told. The task is `node/scrub.rs`.

use std::collections::BinaryHeap;
use std::time::Duration;

use locker_crypto::id::PackHash;

/// In how many days a pack is to be looked at again. The promise is 30: what is left is for days on which the node does
/// not run.
const DAYS: usize = 25;
/// From this age on it is not relied on that the node runs day and night.
const PRESSING_DAYS: usize = 15;
/// Hours of a day on which it then is.
const PRESSING_HOURS: u64 = 3;
const DAY_S: u64 = 86_400;
/// Most bytes in a second, on average: less than a hundredth of a core, on the machines that we know.
const RATE_MAX: u64 = 8 << 20;
/// Of the time, a look may take one part in so many: on a slow disk, this is the bound.
const PARTS: u32 = 20;
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(DAY_S);
/// Packs that are chosen in one look at the rows.
const CHOSEN_MAX: usize = 256;

/// A pack that is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due {
    /// When it was looked at last, unix seconds; 0 for what has to be looked at first.
    verified_at: u64,
    /// The pack.
    pub(crate) hash: PackHash,
    /// Its length in bytes.
    pub(crate) len: u32,
}

/// Gathers the rows of all packs: how many bytes are how old, and which packs come first. Memory: some KiB.
pub(crate) struct Look {
    now_s: u64,
    /// Bytes by the age in days; the last one holds all that is older.
    ages: [u64; DAYS + 1],
    oldest: BinaryHeap<Due>,
}

impl Look {
    /// Begins one at `now_s`, unix seconds.
    pub(crate) fn new(now_s: u64) -> Self {
        Self { now_s, ages: [0; DAYS + 1], oldest: BinaryHeap::new() }
    }

    /// Adds a pack that is here and was looked at at `verified_at`.
    pub(crate) fn add(&mut self, hash: PackHash, len: u32, verified_at: u64) {
        // From a clock that was ahead: nobody knows when that was. It comes first, so that it gets a time that can be
        // relied on, and without haste: all of them may be like this.
        let is_ahead = verified_at > self.now_s;
        let days = self.now_s.saturating_sub(verified_at) / DAY_S;
        let days = usize::try_from(days).unwrap_or(DAYS).min(DAYS);
        self.ages[days] = self.ages[days].saturating_add(u64::from(len));
        let verified_at = if is_ahead { 0 } else { verified_at };
        self.oldest.push(Due { verified_at, hash, len });
        if self.oldest.len() > CHOSEN_MAX {
            self.oldest.pop();
        }
    }

    /// What comes first, in its order, and how fast to go.
    pub(crate) fn choose(self) -> (Vec<Due>, Pace) {
        let pace = Pace { bytes_an_hour: bytes_an_hour(&self.ages) };
        (self.oldest.into_sorted_vec(), pace)
    }
}

/// The least rate at which every pack is looked at again before it is [`DAYS`] old: the bytes of at least an age have the
/// time that is left until that age is [`DAYS`].
fn bytes_an_hour(ages: &[u64; DAYS + 1]) -> u64 {
    let (mut bytes, mut most) = (0u64, 0);
    for (days, of_age) in ages.iter().enumerate().rev() {
        bytes = bytes.saturating_add(*of_age);
        let hours = if days < PRESSING_DAYS { 24 } else { PRESSING_HOURS };
        // What is over its time has a day more.
        most = most.max(bytes.div_ceil((DAYS - days).max(1) as u64 * hours));
    }
    most
}

/// How fast to go until the next look at the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    bytes_an_hour: u64,
}

impl Pace {
    /// The pause after a pack of `len` bytes that took `spent` to look at, so that the whole goes at this pace.
    pub(crate) fn pause(&self, len: u32, spent: Duration) -> Duration {
        let a_second = (self.bytes_an_hour as f64 / 3_600.0).min(RATE_MAX as f64);
        // A rate of nothing is an endless pause.
        let by_rate = Duration::try_from_secs_f64(f64::from(len) / a_second).unwrap_or(PAUSE_MAX);
        let by_time = spent.saturating_mul(PARTS - 1);
        by_rate.max(by_time).min(PAUSE_MAX)
    }
}

/// Whether to leave the disk to others for now, who take files in or fetch; but not for ever.
pub(crate) fn gives_way(is_busy: bool, given_way: Duration) -> bool {
    /// Longest time that others come first; then one pack, and again.
    const MOST: Duration = Duration::from_secs(600);
    is_busy && given_way < MOST
}

#[cfg(test)]
mod tests;
