//! Bounds the bytes that are read and sealed ahead of the packs.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// A number of bytes that may be under way. Cloned handles share it.
#[derive(Clone)]
pub(super) struct Budget(Arc<Shared>);

struct Shared {
    /// `None` once nothing is taken any more.
    left: Mutex<Option<u64>>,
    freed: Condvar,
    all: u64,
}

/// Bytes that are under way until this is dropped.
pub(super) struct Permit {
    budget: Budget,
    bytes: u64,
}

impl Budget {
    /// Starts with `bytes` free.
    pub(super) fn new(bytes: u64) -> Self {
        Self(Arc::new(Shared { left: Mutex::new(Some(bytes)), freed: Condvar::new(), all: bytes }))
    }

    /// Waits until so many bytes are free. Something larger than the whole budget waits for all of it. `None` once the
    /// budget is closed.
    pub(super) fn take(&self, bytes: u64) -> Option<Permit> {
        let bytes = bytes.min(self.0.all);
        let mut left = self.0.left.lock().unwrap_or_else(PoisonError::into_inner);
        while (*left)? < bytes {
            left = self.0.freed.wait(left).unwrap_or_else(PoisonError::into_inner);
        }
        *left = left.map(|left| left - bytes);
        Some(Permit { budget: self.clone(), bytes })
    }

    /// Ends all waiting. Whoever gives up with things still queued calls this: a queue keeps them, and their bytes, until
    /// its sender has gone as well, and the sender may be waiting for just these bytes.
    pub(super) fn close(&self) {
        *self.0.left.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.0.freed.notify_all();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut left = self.budget.0.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = left.map(|left| left + self.bytes);
        self.budget.0.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_for_bytes_gets_them_or_is_told_of_the_end() {
        let budget = Budget::new(10);
        let held = budget.take(100).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| budget.take(4).map(|permit| permit.bytes));
            drop(held);
            assert_eq!(waiting.join().unwrap(), Some(4));
            let _held = budget.take(7).unwrap();
            let waiting = scope.spawn(|| budget.take(4).is_some());
            budget.close();
            assert!(!waiting.join().unwrap());
        });
        assert!(budget.take(0).is_none());
    }
}
