//! A new key of the person where the one in use was given to others than those who are there: devices that were removed, or
//! joined, at the same time elsewhere (`docs/spec/02-identity.md`, section 3.5).
//!
//! One device does it after a short quiet; the others wait longer, in case that one is not there. Two that do it at once do
//! no harm. Never here: whether it is due, and the change itself ([`crate::rotate`]).

use std::sync::Arc;
use std::time::Duration;

use locker_sync::message::v1::Head;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::hub::Hub;
use crate::rotate::{is_due, renew};

/// How long the log of the person must be quiet before the first device acts.
const QUIET: Duration = Duration::from_secs(2);
/// How long the others wait, and one that does not hear of all that others have.
const OTHERS_WAIT: Duration = Duration::from_secs(60);
/// Pause before another try when it could not be written, or a key is still to come: it doubles with each that fails.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Longest pause.
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(60);

/// Renews what is due, until the node stops.
pub(super) async fn run(hub: Arc<Hub>) {
    let _ = hub.until_stop(watch(&hub)).await;
}

async fn watch(hub: &Hub) {
    let mut changes = hub.changes();
    let mut looked: Option<Vec<Head>> = None;
    let mut pause = LOOK_AGAIN;
    loop {
        changes.borrow_and_update();
        let heads = hub.person_heads();
        if looked.as_ref() != Some(&heads) {
            let has_failed = match hub.blocking(is_due).await {
                Ok(true) if hub.has_quiet(&heads).await => hub.blocking(renew).await.is_err(),
                Ok(true) => continue,
                Ok(false) => false,
                Err(_) => true,
            };
            if has_failed {
                // An import runs, the disk is full, the key in use or that of a device has not come yet.
                sleep_until(Instant::now() + pause).await;
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
