//! Waiting for a condition with a deadline. Nothing in the suites sleeps for a fixed time and hopes.

use std::time::{Duration, Instant};

/// Waits until `condition` gives something; looks again every few milliseconds.
///
/// # Panics
/// When `limit` has passed, with a sentence that says what was missing.
pub fn wait_for<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} in vain for: {what}");
        std::thread::park_timeout(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}
