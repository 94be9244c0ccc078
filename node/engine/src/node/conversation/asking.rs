//! What lies beside the logs and is asked for: each thing once, and again what has not come after a pause that doubles. The
//! peer may not have had it yet, or may have been about to take the log that says who may have it.

use std::collections::BTreeSet;
use std::time::Duration;

use locker_sync::message::v1::Ask;
use locker_sync::session::Event;
use tokio::time::Instant;

use super::Talk;
use crate::node::ledger::Asker;

/// First pause before what has not come is asked for again.
const PAUSE_MIN: Duration = Duration::from_secs(2);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What one peer was asked for.
pub(super) struct Asking {
    asked: BTreeSet<Ask>,
    pause: Duration,
    again_at: Option<Instant>,
}

impl Asking {
    /// Nothing was asked for.
    pub(super) fn new() -> Self {
        Self { asked: BTreeSet::new(), pause: PAUSE_MIN, again_at: None }
    }

    /// Notes that these are asked for now, and returns those of them that were not yet.
    pub(super) fn begin(&mut self, asks: Vec<Ask>, now: Instant) -> Vec<Ask> {
        let new: Vec<Ask> = asks.into_iter().filter(|ask| self.asked.insert(*ask)).collect();
        if !new.is_empty() {
            self.again_at.get_or_insert(now + self.pause);
        }
        new
    }

    /// When it is to be looked what has not come.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.again_at
    }

    /// Forgets what was asked for, at the time to look: what is still missing is to be begun again, and then it is waited twice
    /// as long. Says whether it is that time.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.again_at.is_some_and(|at| at <= now);
        if is_due {
            self.again_at = None;
            self.asked.clear();
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        }
        is_due
    }

    /// Nothing is missing.
    pub(super) fn rest(&mut self) {
        *self = Self::new();
    }
}

impl Talk {
    /// Asks for the objects that are named here and missing.
    pub(super) async fn ask_missing(&mut self) {
        let missing = self.hub.blocking(|inner| inner.missing_objects()).await.unwrap_or_default();
        if missing.is_empty() {
            self.asking.rest();
        }
        self.ask(missing);
    }

    /// Asks for what the peer is to hold of what this device named in the person log. Unlike what is missing it is asked for
    /// at each occasion: the peer may have had none of it before.
    pub(super) fn confirm(&mut self) {
        if self.asker == Asker::Source {
            let asks = self.hub.to_confirm(&self.device).into_iter().map(Ask::Object);
            self.queue.extend(asks.map(Event::Ask));
        }
    }

    pub(super) fn ask(&mut self, asks: Vec<Ask>) {
        let new = self.asking.begin(asks, Instant::now());
        self.queue.extend(new.into_iter().map(Event::Ask));
    }
}

#[cfg(test)]
mod tests {
    use locker_crypto::id::ObjectHash;

    use super::*;

    #[test]
    fn what_does_not_come_is_asked_for_again_more_and_more_seldom() {
        let (start, ask) = (Instant::now(), Ask::Object(ObjectHash([1; 32])));
        let (mut asking, mut times) = (Asking::new(), Vec::new());
        assert_eq!(asking.begin(vec![ask], start), [ask]);
        assert_eq!(asking.begin(vec![ask], start), [], "once");
        for second in 1..=300 {
            let now = start + Duration::from_secs(second);
            if asking.is_due(now) {
                times.push(second);
                assert_eq!(asking.begin(vec![ask], now), [ask]);
            }
        }
        assert_eq!(times, [2, 6, 14, 30, 62, 122, 182, 242]);
        // Once it is here, nothing is waited for, and the next thing begins anew.
        asking.rest();
        assert_eq!(asking.again_at(), None);
        assert_eq!(asking.begin(vec![ask], start), [ask]);
        assert_eq!(asking.again_at(), Some(start + PAUSE_MIN));
    }
}
