//! Getting back packs that are lost here, for somebody who waits for it (`docs/spec/08-at-rest.md`, "Healing").
//!
//! They are fetched like all that is wanted. Here is only how long it is worth waiting: nobody says that he does *not* have
//! a pack.

use std::time::Duration;

use locker_crypto::id::PackHash;

use super::hub::Hub;
use crate::Error;
use crate::report::{Observer, Progress};

/// How long a device that is here may take to say that it has a pack.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// How long devices that are not here yet are waited for.
const MEET_TIME: Duration = Duration::from_secs(20);
/// How long something that is being sent may stand still.
const STALL_TIME: Duration = Duration::from_secs(60);
/// How often it is looked how far it is.
const LOOK: Duration = Duration::from_millis(100);

/// How the fetching of lost packs ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// All of them are here again.
    All,
    /// This person has no other device.
    Alone,
    /// Other devices were not reached.
    NobodyReached,
    /// So many were reached, and none of them has what is still missing.
    NotHad(usize),
    /// Nobody waited any more.
    Stopped,
}

impl Fetched {
    /// Why a pack did not come, as the end of a sentence.
    pub(crate) fn sentence(self) -> String {
        match self {
            Fetched::All => "it did not stay whole".into(),
            Fetched::Alone => "there is no other device that could have it".into(),
            Fetched::NobodyReached => "no other device was reached that could have it".into(),
            Fetched::NotHad(1) => "the other device that was reached does not have it".into(),
            Fetched::NotHad(n) => format!("none of the {n} other devices that were reached has it"),
            Fetched::Stopped => "it was stopped before that could be fetched".into(),
        }
    }
}

/// What can be seen of the fetching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Packs still missing.
    pub(super) left: usize,
    /// Bytes of packs that came.
    pub(super) received: u64,
    /// Other devices that are here.
    pub(super) present: usize,
    /// Other devices that are not.
    pub(super) absent: usize,
    /// Whether somebody is known to have some of what is missing.
    pub(super) has_source: bool,
}

/// Waits as long as something may still come.
#[derive(Debug)]
struct Patience {
    seen: Option<Seen>,
    since: Duration,
}

impl Patience {
    fn new() -> Self {
        Self { seen: None, since: Duration::ZERO }
    }

    /// Whether to go on waiting, as things are at `now`.
    fn lasts(&mut self, seen: Seen, now: Duration) -> bool {
        if self.seen != Some(seen) {
            (self.seen, self.since) = (Some(seen), now);
        }
        if seen.left == 0 || seen.present + seen.absent == 0 {
            return false;
        }
        let limit = match seen {
            Seen { has_source: true, .. } => STALL_TIME,
            Seen { absent: 0, .. } => ANSWER_TIME,
            _ => MEET_TIME,
        };
        now.saturating_sub(self.since) < limit
    }
}

/// Fetches lost packs from whoever has them, until all are here or nobody seems to have the others.
///
/// # Errors
/// [`Error::Network`] if the node stops.
pub(super) async fn fetch(
    hub: &Hub,
    packs: &[(PackHash, u32)],
    observer: &dyn Observer,
) -> Result<Fetched, Error> {
    hub.want(packs);
    let lost: Vec<PackHash> = packs.iter().map(|(hash, _)| *hash).collect();
    let bytes: u64 = packs.iter().map(|(_, len)| u64::from(*len)).sum();
    let env = hub.inner().env();
    let (start, begun_with) = (env.elapsed(), hub.traffic().pack_bytes_received);
    let mut patience = Patience::new();
    loop {
        let seen = hub.seen_of(&lost);
        observer.progress(Progress {
            files: (lost.len() - seen.left) as u64,
            files_total: Some(lost.len() as u64),
            bytes: (seen.received - begun_with).min(bytes),
            bytes_total: Some(bytes),
        });
        if observer.is_stopped() {
            return Ok(Fetched::Stopped);
        }
        if !patience.lasts(seen, env.elapsed().saturating_sub(start)) {
            return Ok(match seen {
                Seen { left: 0, .. } => Fetched::All,
                Seen { present: 0, absent: 0, .. } => Fetched::Alone,
                Seen { present: 0, .. } => Fetched::NobodyReached,
                Seen { present, .. } => Fetched::NotHad(present),
            });
        }
        if hub.until_stop(tokio::time::sleep(LOOK)).await.is_none() {
            return Err(Error::Network("the node is stopping".into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: Seen = Seen { left: 2, received: 0, present: 1, absent: 0, has_source: false };

    /// For how many seconds one waits while nothing changes.
    fn patience(seen: Seen) -> u64 {
        let mut patience = Patience::new();
        (0..).find(|second| !patience.lasts(seen, Duration::from_secs(*second))).unwrap()
    }

    #[test]
    fn one_waits_as_long_as_something_may_come() {
        assert_eq!(patience(SEEN), ANSWER_TIME.as_secs());
        assert_eq!(patience(Seen { present: 0, absent: 1, ..SEEN }), MEET_TIME.as_secs());
        assert_eq!(patience(Seen { absent: 1, ..SEEN }), MEET_TIME.as_secs());
        assert_eq!(patience(Seen { has_source: true, ..SEEN }), STALL_TIME.as_secs());
        assert_eq!(patience(Seen { left: 0, has_source: true, ..SEEN }), 0);
        assert_eq!(patience(Seen { present: 0, ..SEEN }), 0);
    }

    #[test]
    fn whatever_comes_or_whoever_comes_begins_the_wait_anew() {
        let mut patience = Patience::new();
        let mut now = Duration::ZERO;
        let mut seen = Seen { present: 0, absent: 2, ..SEEN };
        for change in 0..4 {
            assert!(patience.lasts(seen, now));
            now += MEET_TIME - Duration::from_secs(1);
            assert!(patience.lasts(seen, now));
            match change {
                0 => (seen.present, seen.absent) = (1, 1),
                1 => seen.received += 1,
                _ => seen.left = 1,
            }
            now += Duration::from_secs(if change < 3 { 2 } else { 0 });
        }
        assert!(!patience.lasts(seen, now + MEET_TIME));
    }
}
