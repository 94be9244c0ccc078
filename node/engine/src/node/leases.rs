//! Promises to other devices end when their time is over, counted while the node runs: after a start the whole time runs
//! again (`docs/spec/12-sync.md`, "Leases").

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use locker_crypto::id::PackHash;
use tokio::time::Instant;

use super::hub::Hub;
use crate::locker::Inner;

/// How often it is looked which are over.
const LOOK_INTERVAL: Duration = Duration::from_secs(600);

/// When each promise ends. All clones are one.
#[derive(Clone, Default)]
pub(super) struct Leases(Arc<Mutex<HashMap<PackHash, Instant>>>);

impl Leases {
    fn note(&self, pack: PackHash, seconds: u32) {
        let end = Instant::now() + Duration::from_secs(seconds.into());
        let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = ends.entry(pack).or_insert(end);
        *known = end.max(*known);
    }

    /// Notes a promise of an earlier run, unless it was made in this process.
    fn resume(&self, pack: PackHash, seconds: u32) {
        let end = Instant::now() + Duration::from_secs(seconds.into());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(pack).or_insert(end);
    }

    /// Takes out those that are over.
    fn take_over(&self) -> Vec<PackHash> {
        let now = Instant::now();
        let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ends.extract_if(|_, end| *end <= now).map(|(pack, _)| pack).collect()
    }
}

/// Ends promises until the node stops.
pub(super) async fn run(hub: Arc<Hub>) {
    for (pack, seconds) in hub.blocking(Inner::leases).await.unwrap_or_default() {
        hub.leases().resume(pack, seconds);
    }
    while hub.until_stop(tokio::time::sleep(LOOK_INTERVAL)).await.is_some() {
        let over = hub.leases().take_over();
        if !over.is_empty() {
            // What stays noted ends with the next run of the node.
            let _ = hub.blocking(move |inner| inner.end_leases(&over)).await;
        }
    }
}

impl Hub {
    /// Notes promises that were made just now.
    pub(super) fn note_leases(&self, packs: &BTreeSet<PackHash>, seconds: u32) {
        packs.iter().for_each(|pack| self.leases().note(*pack, seconds));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T86: a promise ends when the longest time that was given for it is over, by a clock that nobody sets; one that
    /// was made before a start lasts its whole time again, and takes nothing from one that was made since.
    #[test]
    fn t86_a_promise_ends_when_its_longest_time_is_over() {
        let leases = Leases::default();
        let pack = |n| PackHash([n; 32]);
        leases.note(pack(1), 0);
        leases.note(pack(2), 86_400);
        leases.note(pack(2), 0);
        leases.resume(pack(3), 86_400);
        leases.resume(pack(2), 0);
        assert_eq!(leases.take_over(), [pack(1)]);
        assert!(leases.take_over().is_empty(), "it is told once");
        leases.note(pack(1), 86_400);
        assert!(leases.take_over().is_empty());
    }
}
