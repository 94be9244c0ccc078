//! The outside world as the engine sees it: a clock and dice.
//!
//! Nothing below or beside this file asks the operating system for the time or for randomness, so that a test can
//! hold the clock and replay the dice.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand_core::CryptoRng;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970-01-01 UTC; 0 for a clock before that.
    fn now_ms(&self) -> u64;

    /// Time since some fixed moment; never goes back.
    fn elapsed(&self) -> Duration;
}

/// Where time and randomness come from.
pub struct Env {
    clock: Box<dyn Clock>,
    dice: Mutex<Box<dyn CryptoRng + Send>>,
}

impl Env {
    /// The clock and the random generator of the operating system.
    pub fn system() -> Self {
        Self::new(Box::new(SystemClock { start: Instant::now() }), Box::new(system_dice()))
    }

    /// A world with a given clock and given dice.
    pub fn new(clock: Box<dyn Clock>, dice: Box<dyn CryptoRng + Send>) -> Self {
        Self { clock, dice: Mutex::new(dice) }
    }

    /// Milliseconds since 1970-01-01 UTC.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Time since some fixed moment; never goes back.
    pub fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    /// Borrows the dice for some throws. Hold it briefly: everybody shares them.
    pub fn dice(&self) -> MutexGuard<'_, Box<dyn CryptoRng + Send>> {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The operating system's random generator.
pub(crate) fn system_dice() -> impl CryptoRng + Send {
    rand_core::UnwrapErr(getrandom::SysRng)
}

struct SystemClock {
    start: Instant,
}

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}
