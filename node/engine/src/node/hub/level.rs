//! Whether everything known is here, and waiting for it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use locker_catalog::operation::EntryRef;
use locker_crypto::id::VerifyingKey;
use locker_sync::message::v1::Head;
use tokio::time::Instant;

use super::Hub;
use crate::{Error, status};

/// How far what is written of these moments may be behind while entries come, and while none do, in milliseconds.
const NOTE_BUSY_MS: u64 = 60_000;
const NOTE_QUIET_MS: u64 = 600_000;
/// Copies are counted at most so often, by time and by the time that counting takes, and at least so often.
const COUNT_PAUSE_MIN: Duration = Duration::from_millis(100);
const COUNT_SHARE: u32 = 4;
const COUNT_PAUSE: Duration = Duration::from_secs(1);

/// When each device was last known to have nothing that is not here: what the brake counts late entries by.
#[derive(Default)]
pub(super) struct Levels(BTreeMap<VerifyingKey, Level>);

#[derive(Clone, Copy, Default)]
struct Level {
    at_ms: u64,
    written_ms: u64,
}

impl Levels {
    pub(super) fn note(&mut self, device: &VerifyingKey, now_ms: u64) {
        self.0.entry(*device).or_default().at_ms = now_ms;
    }

    /// Takes out what is not written and newer by so much than what is.
    fn take(&mut self, behind_ms: u64) -> Vec<(VerifyingKey, u64)> {
        let due =
            self.0.iter_mut().filter(|(_, level)| level.at_ms > level.written_ms.saturating_add(behind_ms));
        let mut taken = Vec::new();
        for (device, level) in due {
            level.written_ms = level.at_ms;
            taken.push((*device, level.at_ms));
        }
        taken
    }
}

impl Hub {
    /// When devices were last known to have nothing that is not here, as far as it is to be written before entries that
    /// came just now.
    pub(crate) fn levels_before(&self) -> Vec<(VerifyingKey, u64)> {
        self.state().levels.take(NOTE_BUSY_MS)
    }

    /// The same where no entries come, for the next start.
    pub(in crate::node) fn levels_of_quiet(&self) -> Vec<(VerifyingKey, u64)> {
        self.state().levels.take(NOTE_QUIET_MS)
    }

    /// Whether another device is connected and everything that the connected ones have is here.
    pub(in crate::node) fn is_level(&self) -> bool {
        let state = self.state();
        !state.sessions.is_empty() && state.sessions.values().all(|session| session.is_level)
    }

    /// Whether these heads reach as far as any device ever showed that it had them.
    pub(in crate::node) fn has_what_was_shown(&self, heads: &[EntryRef]) -> bool {
        let held = |author: &VerifyingKey| heads.iter().find(|head| head.author == *author);
        let most = self.state().remembered.most(&self.inner.entry_log());
        most.iter().all(|(author, count)| {
            *count == 0 || held(author).is_some_and(|head| head.seq.saturating_add(1) >= *count)
        })
    }

    /// The newest entries of the log of the person, as it was looked at last.
    pub(in crate::node) fn person_heads(&self) -> Vec<Head> {
        let log = self.inner.person_log();
        self.state().heads.get(&log).map_or_else(Vec::new, |heads| heads.values().copied().collect())
    }

    /// Whether this device is, of those that are here now, the one with the smallest key.
    pub(in crate::node) fn is_first_present(&self) -> bool {
        let own = self.inner.keys().device_id();
        let state = self.state();
        state
            .sessions
            .keys()
            .filter(|device| !state.replicas.contains_key(*device))
            .all(|device| own < *device)
    }

    /// Notes the count of commits at which nothing was left to fold.
    pub(in crate::node) fn note_folded(&self, commits: u64) {
        self.folded.store(commits, Ordering::Release);
        self.levelled.notify_waiters();
    }

    /// Notes the count of commits at which nothing was left to be written again.
    pub(in crate::node) fn note_written_again(&self, commits: u64) {
        self.written_again.store(commits, Ordering::Release);
        self.levelled.notify_waiters();
    }

    /// Whether everything known is here: at least one other device is connected, or there is none, all sessions are
    /// level, no pack is wanted, nothing is to be folded or written again, and this device has a key that is its own.
    pub(crate) fn is_synced(&self) -> bool {
        let state = self.state();
        let alone = self.reads() && state.roster.len() <= 1;
        let met = !state.sessions.is_empty() && state.sessions.values().all(|session| session.is_level);
        let commits = *self.inner.commits().borrow();
        let is_folded = self.folded.load(Ordering::Acquire) == commits;
        let is_written = self.written_again.load(Ordering::Acquire) == commits;
        let is_written_out = !self.reads() || (is_folded && is_written);
        (alone || met)
            && self.has_no_named()
            && state.wanted.is_empty()
            && state.succession.is_none()
            && is_written_out
    }

    /// Waits until [`Hub::is_synced`].
    ///
    /// # Errors
    /// [`Error::Network`] when the time is over or the node stops.
    pub(crate) async fn wait_synced(&self, timeout: Option<Duration>) -> Result<(), Error> {
        let mut changes = self.changes();
        let wait = async {
            loop {
                let levelled = self.levelled.notified();
                tokio::pin!(levelled);
                levelled.as_mut().enable();
                if self.is_synced() {
                    return;
                }
                tokio::select! {
                    () = levelled => {}
                    _ = changes.changed() => {}
                }
            }
        };
        tokio::select! {
            ended = self.until_stop(wait) => ended.ok_or_else(stopping),
            () = over(timeout) => {
                let state = self.state();
                let missing = state.wanted.len();
                let why = if state.sessions.is_empty() {
                    "no other device of this locker was reached".into()
                } else {
                    format!("the time was over before everything was here ({missing} packs are missing)")
                };
                Err(Error::Network(why))
            }
        }
    }

    /// Waits until all content is on so many devices, replicas and drives as far as `status` counts them.
    ///
    /// # Errors
    /// [`Error::Network`] when the time is over or the node stops; those of counting.
    pub(crate) async fn wait_copies(&self, copies: u32, timeout: Option<Duration>) -> Result<(), Error> {
        let mut changes = self.changes();
        let least = Cell::new(0);
        let wait = async {
            loop {
                let start = Instant::now();
                let counted = self.blocking(status::least_copies).await?;
                least.set(counted.unwrap_or(1));
                // Without content there is nothing to count; but what there is may not have been heard of yet.
                if least.get() >= copies || counted.is_none() && self.is_synced() {
                    return Ok(());
                }
                // Every pack is looked at for it: not at each of many changes.
                tokio::time::sleep((start.elapsed() * COUNT_SHARE).max(COUNT_PAUSE_MIN)).await;
                // What replicas say is no change of ours.
                let _ = tokio::time::timeout(COUNT_PAUSE, changes.changed()).await;
            }
        };
        tokio::select! {
            // Counted once at least.
            biased;
            ended = self.until_stop(wait) => ended.ok_or_else(stopping)?,
            () = over(timeout) => {
                let least = least.get();
                let why = format!("the time was over before everything was on {copies} devices; the rarest is on {least}");
                Err(Error::Network(why))
            }
        }
    }
}

/// The end of the time that somebody waits; there may be none.
async fn over(timeout: Option<Duration>) {
    match timeout {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

fn stopping() -> Error {
    Error::Network("the node is stopping".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_written_when_they_are_far_enough_behind() {
        let (one, two) = (VerifyingKey([1; 32]), VerifyingKey([2; 32]));
        let mut levels = Levels::default();
        levels.note(&one, 1_000_000);
        levels.note(&two, 2_000_000);
        assert_eq!(levels.take(NOTE_BUSY_MS), [(one, 1_000_000), (two, 2_000_000)]);
        levels.note(&one, 1_000_000 + NOTE_BUSY_MS);
        assert_eq!(levels.take(NOTE_BUSY_MS), []);
        levels.note(&one, 1_000_001 + NOTE_BUSY_MS);
        assert_eq!(levels.take(NOTE_QUIET_MS), []);
        assert_eq!(levels.take(NOTE_BUSY_MS), [(one, 1_000_001 + NOTE_BUSY_MS)]);
    }
}
