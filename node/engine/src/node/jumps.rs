//! The clock of the system may jump: a computer without a battery begins in the past until the network sets it right, and one that
//! slept was away. What this node told of itself, certificates and records, was told with the wrong time or has ended
//! meanwhile, and who only listens would not be found before its records are due again, hours later.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::hub::Hub;

/// How often the two clocks are compared.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// How far apart they may come in that time, in seconds.
const JUMP_S: u64 = 120;

/// What the clock of the system showed, by the one that only goes on.
struct Shown {
    at: Instant,
    unix_s: u64,
}

impl Shown {
    /// Whether the clock of the system jumped since the last look.
    fn has_jumped(&mut self, at: Instant, unix_s: u64) -> bool {
        let expected = self.unix_s.saturating_add(at.saturating_duration_since(self.at).as_secs());
        *self = Self { at, unix_s };
        expected.abs_diff(unix_s) > JUMP_S
    }
}

/// Tells anew where this device is after each jump, and else holds its clock against those of others, until the node
/// stops.
pub(super) async fn run(hub: Arc<Hub>) {
    let mut shown = Shown { at: Instant::now(), unix_s: hub.now_s() };
    while hub.until_stop(tokio::time::sleep(LOOK_INTERVAL)).await.is_some() {
        if shown.has_jumped(Instant::now(), hub.now_s()) {
            hub.forget_clocks();
            // Forgotten first, so that all of it goes out at once.
            let _ = hub.net().publish(Vec::new()).await;
            hub.announce().await;
        } else if hub.reads() {
            hub.look_for_ahead().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_are_told_from_a_clock_that_is_slowly_set() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut shown = Shown { at: start, unix_s: 1_000_000 };
        assert!(!shown.has_jumped(at(60), 1_000_060));
        assert!(!shown.has_jumped(at(120), 1_000_230), "110 s in a minute");
        assert!(shown.has_jumped(at(180), 1_800_000_000), "set right");
        assert!(!shown.has_jumped(at(240), 1_800_000_060));
        assert!(shown.has_jumped(at(300), 1_799_000_000), "and back");
        assert!(!shown.has_jumped(at(360), 1_799_000_060));
    }
}
