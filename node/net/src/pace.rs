//! How fast packs go out and come in, where a person set a limit (`docs/spec/12-sync.md`, "Rates").
//!
//! Only what is copied waits. Entries and questions are small and do not count; proofs, and what somebody reads just now, count and
//! do not wait, so that what is copied waits for them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::blob::GROUP_BYTES;

/// Time that went by unused and may be made up for: a timer wakes late.
const CREDIT: Duration = Duration::from_millis(50);

/// How far something urgent may be before its turn.
const AHEAD: Duration = Duration::from_secs(5);

/// A rate that all streams of one direction share, first come, first served (generic cell rate algorithm, ITU-T I.371).
#[derive(Debug)]
pub struct Pace {
    /// Bytes per second; without limit if `None`.
    rate: Option<u64>,
    /// When all that was let through so far has had its time.
    free: Mutex<Instant>,
}

impl Pace {
    /// The lowest rate in bytes per second: below it, what is shared by many streams would be taken for dead.
    pub const RATE_MIN: u64 = 65_536;

    /// A pace of so many bytes per second, at least [`Self::RATE_MIN`]; none if `None`.
    pub fn new(rate: Option<u64>) -> Self {
        Self { rate: rate.map(|rate| rate.max(Self::RATE_MIN)), free: Mutex::new(Instant::now()) }
    }

    /// Returns how many bytes are let through at a time: up to a quarter of a second's, so that many streams get on side by
    /// side, and at most `most`. Never less than one group.
    pub fn piece(&self, most: u32) -> u32 {
        let quarter = self.rate.map_or(u64::MAX, |rate| rate / 4);
        most.min(u32::try_from(quarter).unwrap_or(u32::MAX)).max(GROUP_BYTES)
    }

    /// Waits until so many bytes may pass, and takes their time. Dropped while it waits, their time is gone.
    pub async fn pass(&self, bytes: u64) {
        if let Some(at) = self.take(bytes, Instant::now()) {
            tokio::time::sleep_until(at).await;
        }
    }

    /// The same for something small and urgent, which may be [`AHEAD`] before its turn: what is copied waits for it, and many of
    /// them keep to the rate as well.
    pub async fn pass_ahead(&self, bytes: u64) {
        if let Some(at) = self.take(bytes, Instant::now()).and_then(|at| at.checked_sub(AHEAD)) {
            tokio::time::sleep_until(at).await;
        }
    }

    /// Takes the time of so many bytes that do not wait: others wait for them.
    pub fn charge(&self, bytes: u64) {
        let _ = self.take(bytes, Instant::now());
    }

    /// Returns whether somebody waits for what was let through before.
    pub fn is_behind(&self) -> bool {
        self.rate.is_some() && *self.free.lock().unwrap_or_else(PoisonError::into_inner) > Instant::now()
    }

    /// Takes the time of so many bytes; gives when it begins.
    fn take(&self, bytes: u64, now: Instant) -> Option<Instant> {
        let rate = self.rate?;
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(CREDIT).unwrap_or(now);
        let begin = (*free).max(earliest);
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate);
        *free = begin + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 4));
        Some(begin)
    }
}

/// The rates of a node.
#[derive(Debug)]
pub(crate) struct Paces {
    pub(crate) upload: Pace,
    pub(crate) download: Pace,
    /// On the local network: none.
    pub(crate) near: Pace,
}

impl Paces {
    pub(crate) fn new(upload: Option<u64>, download: Option<u64>) -> Self {
        Self { upload: Pace::new(upload), download: Pace::new(download), near: Pace::new(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_over_all_who_share_it_and_unused_time_is_lost() {
        let pace = Pace::new(Some(1_000_000));
        let start = *pace.free.lock().unwrap();
        // Ten at once, 100 ms each: one after another.
        for n in 0..10 {
            assert_eq!(pace.take(100_000, start), Some(start + Duration::from_millis(100 * n)));
        }
        assert!(pace.is_behind());
        // Idle for an hour: no more than 50 ms of it are made up for.
        let later = start + Duration::from_secs(3_600);
        let first = pace.take(100_000, later).unwrap();
        assert_eq!(later - first, CREDIT);
        assert_eq!(pace.take(1, later), Some(later + CREDIT));
    }

    #[test]
    fn pieces_are_a_quarter_of_a_second_and_at_least_a_group() {
        assert_eq!(Pace::new(None).piece(262_144), 262_144);
        assert_eq!(Pace::new(Some(10 << 20)).piece(262_144), 262_144);
        assert_eq!(Pace::new(Some(400_000)).piece(262_144), 100_000);
        assert_eq!(Pace::new(Some(1)).piece(262_144), 16_384, "no less than the lowest rate");
        assert_eq!(Pace::new(None).take(u64::MAX, Instant::now()), None);
        assert!(!Pace::new(None).is_behind());
    }

    /// One that is urgent does not wait behind what is copied; a hundred of them, one after another, keep to the rate.
    #[tokio::test(start_paused = true)]
    async fn the_urgent_goes_ahead_and_no_faster() {
        let pace = Pace::new(Some(65_536));
        let start = Instant::now();
        pace.charge(4 * 65_536);
        pace.pass_ahead(65_536).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..100 {
            pace.pass_ahead(65_536).await;
        }
        assert!(start.elapsed() >= Duration::from_secs(4 + 100 - 5), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_passes_waits_for_those_before() {
        let pace = Pace::new(Some(65_536));
        let start = Instant::now();
        tokio::join!(pace.pass(65_536), pace.pass(65_536), pace.pass(1));
        assert!(start.elapsed() >= Duration::from_millis(1_950), "{:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_millis(2_100), "{:?}", start.elapsed());
    }
}
