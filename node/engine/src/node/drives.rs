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

/// Looks now and then, until the node stops.
pub(super) async fn run(hub: Arc<Hub>) {
    // The count of commits up to which each has everything, as long as it stays plugged in.
    let mut level: HashMap<VerifyingKey, u64> = HashMap::new();
    loop {
        let known = hub.blocking(|inner| drives::known(&inner.store()?.read()?)).await.unwrap_or_default();
        for drive in known {
            if !drives::is_there(&drive.path) {
                level.remove(&drive.id);
                continue;
            }
            let commits = *hub.inner().commits().borrow();
            if level.get(&drive.id) == Some(&commits) {
                continue;
            }
            let path = drive.path.clone();
            // Pulled out, or in use by somebody else: the next look finds it again.
            if hub.blocking(move |inner| drives::update_at(inner, &path, &Silent)).await.is_ok() {
                level.insert(drive.id, commits);
            }
        }
        if hub.until_stop(tokio::time::sleep(LOOK_INTERVAL)).await.is_none() {
            return;
        }
    }
}
