//! A node that has nothing to do gives back the memory that its work took: the pages of the database that were read, above all
//! (`docs/spec/10-limits.md`, section 7).

use std::sync::Arc;
use std::time::Duration;

use super::hub::Hub;
use crate::locker::Inner;

/// How often it is looked whether there is something to give back. A node that has had nothing to do for so long rests.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// Looks into the store in one interval with which a node still rests: its own.
const QUIET_LOOKS: u64 = 10;
/// Its own looks too take memory, little by little: after so many it gives back once more.
const RESTED_LOOKS: u64 = 50;

/// What is to be given back, by the count of looks into the store.
struct Rest {
    looks: u64,
    has_worked: bool,
    /// The count when something was given back last.
    given_back: u64,
}

impl Rest {
    /// Whether to give back now, as the count is at the end of an interval.
    fn is_due(&mut self, looks: u64, has_swept: bool) -> bool {
        let made = looks.saturating_sub(self.looks);
        self.looks = looks;
        let rested = looks.saturating_sub(self.given_back);
        self.has_worked |= has_swept || made > QUIET_LOOKS || rested > RESTED_LOOKS;
        self.has_worked && made <= QUIET_LOOKS
    }

    fn given_back(&mut self) {
        (self.has_worked, self.given_back) = (false, self.looks);
    }
}

/// Looks now and then, until the node stops.
pub(super) async fn run(hub: Arc<Hub>) {
    let looks = hub.inner().looks();
    let mut rest = Rest { looks, has_worked: true, given_back: looks };
    while hub.until_stop(tokio::time::sleep(LOOK_INTERVAL)).await.is_some() {
        let has_swept = hub.take_swept();
        if rest.is_due(hub.inner().looks(), has_swept)
            && !hub.is_busy()
            && let Ok(true) = hub.blocking(|inner| Ok(inner.forget_pages())).await
        {
            rest.given_back();
        }
    }
}

impl Inner {
    /// Gives back the memory of database pages, unless somebody is at work in it. Whether it was done.
    fn forget_pages(&self) -> bool {
        let mut store = self.exclusive_store(Duration::ZERO);
        store.as_deref_mut().and_then(Option::as_mut).is_some_and(|store| store.forget_pages().is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_rests_once_after_each_piece_of_work() {
        let mut rest = Rest { looks: 0, has_worked: true, given_back: 0 };
        assert!(rest.is_due(QUIET_LOOKS, false), "after the start");
        rest.given_back();
        assert!(!rest.is_due(2 * QUIET_LOOKS, false), "nothing was done");
        assert!(!rest.is_due(1_000, false), "it is at work");
        assert!(rest.is_due(1_005, false), "it has been");
        // It could not be done: again the next time.
        assert!(rest.is_due(1_010, false));
        rest.given_back();
        assert!(rest.is_due(1_011, true), "all rows were looked at, in one look");
        rest.given_back();
        // Its own looks, a few a minute.
        let mut dues = (1..=20).filter(|minute| rest.is_due(1_011 + 5 * minute, false));
        assert_eq!(dues.next(), Some(11));
    }
}
