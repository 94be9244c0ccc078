//! Writing again, while the node runs, what does not count since a device was found to have two homes, and what stood on
//! an ended one (`docs/spec/04-spaces.md`, "Written again" and "Stranded"). What is to be written is the engine's to say; here is only when.
//!
//! The home that wrote it goes first. If it does not come, whoever is there does it after a quiet; of several the one with
//! the smallest key.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::hub::Hub;
use crate::rebirth::{Due, Left, Wrote};

/// How long nothing may be written before another home than the one that wrote it does it.
const QUIET: Duration = Duration::from_secs(5);
/// How long those wait that do not have the smallest key.
const OTHERS_WAIT: Duration = Duration::from_secs(60);
/// Pause before another look when not everything is here, or it could not be written.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Writes again what is due, until the node stops.
pub(super) async fn run(hub: Arc<Hub>) {
    let mut commits = hub.inner().commits();
    let mut left = Left::default();
    let mut quiet_since = Instant::now();
    loop {
        let count = *commits.borrow_and_update();
        let tried = left.clone();
        let pause = match hub.blocking(move |inner| inner.look_for_uncounted(&tried)).await {
            Ok(None) => {
                hub.note_written_again(count);
                None
            }
            // What the others know may make it count, and half a branch may still be to come.
            Ok(Some(_)) if !hub.is_level() => Some(LOOK_AGAIN),
            Ok(Some(due)) => {
                let wait = match due {
                    Due::Own => Duration::ZERO,
                    Due::Others if hub.is_first_present() => QUIET,
                    Due::Others => OTHERS_WAIT,
                };
                let remains = wait.saturating_sub(quiet_since.elapsed());
                if remains.is_zero() {
                    let mut tried = std::mem::take(&mut left);
                    let wrote = hub
                        .blocking(move |inner| {
                            let wrote = inner.write_again(due, &mut tried);
                            Ok((wrote, tried))
                        })
                        .await;
                    match wrote {
                        Ok((Ok(Wrote::Entry), tried)) => {
                            left = tried;
                            continue;
                        }
                        Ok((Ok(Wrote::Nothing), tried)) => {
                            left = tried;
                            hub.note_written_again(count);
                            None
                        }
                        // An import runs, the disk is full: later.
                        Ok((Err(_), tried)) => {
                            left = tried;
                            Some(LOOK_AGAIN)
                        }
                        Err(_) => return,
                    }
                } else {
                    Some(remains.min(LOOK_AGAIN))
                }
            }
            // The store is in trouble, or this device has not heard of its keys yet.
            Err(_) => Some(LOOK_AGAIN),
        };
        let pause = async {
            match pause {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        let woken = async {
            tokio::select! {
                () = pause => false,
                changed = commits.changed() => { let _ = changed; true }
            }
        };
        match hub.until_stop(woken).await {
            None => return,
            Some(true) => quiet_since = Instant::now(),
            Some(false) => {}
        }
    }
}
