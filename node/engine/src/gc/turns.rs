//! Who may do what while content goes: turns and what the last pass said.

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};
use std::time::Duration;

use crate::Env;

/// Pause between two tries to have content alone.
const PAUSE: Duration = Duration::from_millis(5);

/// Held by an open locker.
#[derive(Default)]
pub(crate) struct Turns {
    /// Held by the pass that runs.
    pass: Mutex<()>,
    /// Held for reading by whoever has looked content up and relies on it, until he has read it or committed what names
    /// it; alone by a pass while it lets packs go.
    content: RwLock<()>,
    /// Why the last pass ended early.
    trouble: Mutex<Option<String>>,
}

impl Turns {
    /// The turn to collect; waits for the pass that runs.
    pub(super) fn pass(&self) -> MutexGuard<'_, ()> {
        self.pass.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what can be looked up now from being let go, for as long as the guard lives.
    pub(crate) fn rely(&self) -> RwLockReadGuard<'_, ()> {
        self.content.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Content alone: waits until nobody relies on any, at most `wait`. Those who begin meanwhile are not held up.
    pub(crate) fn alone(&self, env: &Env, wait: Duration) -> Option<RwLockWriteGuard<'_, ()>> {
        let start = env.elapsed();
        let is_late = || env.elapsed().saturating_sub(start) >= wait;
        loop {
            match self.content.try_write() {
                Ok(guard) => return Some(guard),
                Err(TryLockError::Poisoned(error)) => return Some(error.into_inner()),
                Err(TryLockError::WouldBlock) if is_late() => return None,
                Err(TryLockError::WouldBlock) => std::thread::park_timeout(PAUSE),
            }
        }
    }

    /// Notes why a pass ended early; `None` if it did not.
    pub(super) fn note(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// Why the last pass of this process ended early.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
