//! Waiting for a condition with a deadline. Nothing in the suites sleeps for a fixed time and hopes.

use std::time::{Duration, Instant};

/// Waits until `condition` gives something; looks again every few milliseconds.
///
/// # Panics
/// When `limit` has passed, with a sentence that says what was missing.
pub fn wait_for<T>(what: &str, limit: Duration, condition: impl FnMut() -> Option<T>) -> T {
    wait_or(limit, condition, || what.to_owned())
}

/// The same where what was missing is told at some length, and asked for only then.
///
/// # Panics
/// When `limit` has passed.
pub fn wait_or<T>(
    limit: Duration,
    mut condition: impl FnMut() -> Option<T>,
    what: impl FnOnce() -> String,
) -> T {
    let start = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(found) = condition() {
            return found;
        }
        if start.elapsed() >= limit {
            panic!("waited {limit:?} in vain for: {}", what());
        }
        std::thread::park_timeout(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}
