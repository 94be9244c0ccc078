//! Keeping what the rule of this device asks for, and no more, while the node runs ([`crate::copies`]): looked at after
//! changes, once it is quiet. What cannot go yet is tried again later.

use std::sync::Arc;
use std::time::Duration;

use super::hub::Hub;
use crate::copies;
use crate::report::Silent;

/// How long nothing may change before it is looked.
const QUIET: Duration = Duration::from_secs(2);
/// Pause before another try where something is here against the rule, or could not be read.
const LOOK_AGAIN: Duration = Duration::from_secs(600);
/// The same for the lists of large files, which a device that is here gives.
const LISTS_AGAIN: Duration = Duration::from_secs(10);

/// Looks, until the node stops.
pub(super) async fn run(hub: Arc<Hub>) {
    let mut commits = hub.inner().commits();
    loop {
        commits.borrow_and_update();
        let mut again = None;
        if hub.inner().ruled().is_choosing() {
            let lists = hub.until_stop(hub.blocking(|inner| inner.fetch_manifests())).await;
            let Some(lists) = lists else { return };
            let keeping = Arc::clone(&hub);
            let kept = hub.until_stop(hub.blocking(move |_| copies::keep_to_rule(&keeping, &Silent))).await;
            again = match (lists, kept) {
                (_, None) => return,
                (Ok(false), Some(Ok(freed))) if freed.kept_files == 0 => None,
                (Ok(false), Some(_)) => Some(LOOK_AGAIN),
                (Ok(true) | Err(_), Some(_)) => Some(LISTS_AGAIN),
            };
        }
        let wait = async {
            let later = async {
                match again {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = later => {}
                _ = commits.changed() => tokio::time::sleep(QUIET).await,
            }
        };
        if hub.until_stop(wait).await.is_none() {
            return;
        }
    }
}
