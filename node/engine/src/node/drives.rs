//! Drives that are plugged in are brought up to date by the node that runs (`docs/spec/08-at-rest.md`, "Drives").

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use locker_crypto::id::VerifyingKey;

use super::hub::Hub;
use crate::drives;
use crate::report::Silent;

/// How often it is looked whether one was plugged in.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// At most so many looks pass until one that could not be brought up to date is tried again: ten minutes.
const PASSED_MAX: u32 = 60;

/// A drive that could not be brought up to date, as one that is full or that another process has open.
#[derive(Clone, Copy)]
struct Failed {
    /// Looks that pass until it is tried again.
    left: u32,
    /// How many did the last time.
    passed: u32,
}

/// Looks now and then, until the node stops.
pub(super) async fn run(hub: Arc<Hub>) {
    // The count of commits up to which each has everything, as long as it stays plugged in.
    let mut level: HashMap<VerifyingKey, u64> = HashMap::new();
    let mut failed: HashMap<VerifyingKey, Failed> = HashMap::new();
    loop {
        let there = hub.blocking(drives::plugged_in).await.unwrap_or_default();
        level.retain(|id, _| there.iter().any(|drive| drive.id == *id));
        failed.retain(|id, _| there.iter().any(|drive| drive.id == *id));
        for drive in there {
            let commits = *hub.inner().commits().borrow();
            if level.get(&drive.id) == Some(&commits) {
                continue;
            }
            if let Some(failed) = failed.get_mut(&drive.id).filter(|failed| failed.left > 0) {
                failed.left -= 1;
                continue;
            }
            let path = drive.path.clone();
            // Pulled out, or in use by somebody else: a later look finds it again.
            if hub.blocking(move |inner| drives::update_at(inner, &path, &Silent)).await.is_ok() {
                level.insert(drive.id, commits);
                failed.remove(&drive.id);
            } else {
                let passed = failed.get(&drive.id).map_or(1, |failed| failed.passed * 2).min(PASSED_MAX);
                failed.insert(drive.id, Failed { left: passed, passed });
            }
        }
        if hub.until_stop(tokio::time::sleep(LOOK_INTERVAL)).await.is_none() {
            return;
        }
    }
}
