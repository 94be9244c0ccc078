//! Once on each day of running, the node gives back the room of what nothing needs any more, without being felt
//! (`docs/spec/08-at-rest.md`, "Keeping").

use std::sync::Arc;
use std::time::Duration;

use super::hub::Hub;
use crate::locker::Inner;

/// The first pass comes so long after the start at least: what was asked of the node comes first.
const FIRST_MIN: Duration = Duration::from_secs(60);
/// It comes up to so much later, at random: the devices of one person do not all begin at once.
const FIRST_SPREAD_MS: u64 = 240_000;
/// How often it is looked whether another day has begun, or what was in the way is over.
const LOOK_INTERVAL: Duration = Duration::from_secs(3_600);

/// Looks every hour, until the node stops.
pub(super) async fn run(hub: Arc<Hub>) {
    let spread_ms = hub.inner().env().dice().next_u64() % FIRST_SPREAD_MS;
    let mut pause = FIRST_MIN + Duration::from_millis(spread_ms);
    while hub.until_stop(tokio::time::sleep(pause)).await.is_some() {
        // What was wrong is told by `status`; the next pass goes on from there.
        let _ = hub.blocking(Inner::gc_of_the_day).await;
        hub.note_swept();
        pause = LOOK_INTERVAL;
    }
}
