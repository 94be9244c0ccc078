//! A new key of the person where the one in use was given to others than those who are there: devices that were removed, or
//! joined, at the same time elsewhere (`docs/spec/02-identity.md`, section 3.5).
//!
//! One device does it after a short quiet; the others wait longer, in case that one is not there. Two that do it at once do
//! no harm. Never here: whether it is due, and the change itself ([`crate::rotate`]).

use std::sync::Arc;
use std::time::Duration;

use locker_sync::message::v1::Head;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::hub::Hub;
use crate::rotate::{is_due, renew};

/// How long the log of the person must be quiet before the first device acts.
const QUIET: Duration = Duration::from_secs(2);
/// How long the others wait, and one that does not hear of all that others have.
const OTHERS_WAIT: Duration = Duration::from_secs(60);
/// Pause before another try when it could not be written, or a key is still to come: it doubles with each that fails.
/// So much of it always passes; the rest ends when something was stored.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Longest pause.
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(60);

/// Renews what is due, until the node stops.
pub(super) async fn run(hub: Arc<Hub>) {
    let _ = hub.until_stop(watch(&hub)).await;
}

async fn watch(hub: &Hub) {
    let mut changes = hub.changes();
    // Keys that come beside the logs are told here only.
    let mut commits = hub.inner().commits();
    let mut looked: Option<Vec<Head>> = None;
    let mut pause = LOOK_AGAIN;
    loop {
        changes.borrow_and_update();
        // Before the look: what comes while it is tried is not missed.
        commits.borrow_and_update();
        let heads = hub.person_heads();
        if looked.as_ref() != Some(&heads) {
            let has_failed = match hub.blocking(is_due).await {
                Ok(true) if hub.has_quiet(&heads).await => {
                    commits.borrow_and_update();
                    hub.blocking(renew).await.is_err()
                }
                Ok(true) => continue,
                Ok(false) => false,
                Err(_) => true,
            };
            if has_failed {
                // An import runs, the disk is full, the key in use or that of a device has not come yet.
                sleep(LOOK_AGAIN).await;
                stored(&mut commits, pause.saturating_sub(LOOK_AGAIN)).await;
                pause = (pause * 2).min(LOOK_AGAIN_MAX);
                continue;
            }
            (looked, pause) = (Some(heads), LOOK_AGAIN);
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Waits until something was stored since `commits` was looked at, or a while.
async fn stored(commits: &mut watch::Receiver<u64>, while_at_most: Duration) {
    let _ = timeout(while_at_most, commits.changed()).await;
}

impl Hub {
    /// Waits while the log of the person stays at these heads; false if it goes on before it was quiet for long enough.
    async fn has_quiet(&self, heads: &[Head]) -> bool {
        let start = Instant::now();
        let mut changes = self.changes();
        loop {
            changes.borrow_and_update();
            if self.person_heads() != heads {
                return false;
            }
            let wait = if self.is_level() && self.is_first_present() { QUIET } else { OTHERS_WAIT };
            let end = start + wait;
            if Instant::now() >= end {
                return true;
            }
            let _ = timeout_at(end, changes.changed()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what came while a try was under way, or comes later, ends the pause at once; else it ends by itself.
    #[test]
    fn what_is_stored_ends_the_pause() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (commit, mut commits) = watch::channel(0);
        let day = Duration::from_secs(86_400);
        let deadline = Duration::from_secs(10);
        runtime.block_on(async {
            stored(&mut commits, Duration::ZERO).await;
            assert!(timeout(Duration::ZERO, stored(&mut commits, day)).await.is_err(), "nothing was stored");
            commit.send_modify(|count| *count += 1);
            timeout(deadline, stored(&mut commits, day)).await.expect("it came before the pause");
            let (ended, ()) = tokio::join!(timeout(deadline, stored(&mut commits, day)), async {
                commit.send_modify(|count| *count += 1);
            });
            ended.expect("it came during the pause");
        });
    }
}
