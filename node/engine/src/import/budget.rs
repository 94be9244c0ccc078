//! Bounds the bytes that are read and sealed ahead of the packs.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// A number of bytes that may be under way. Cloned handles share it.
#[derive(Clone)]
pub(super) struct Budget(Arc<Shared>);

struct Shared {
    left: Mutex<u64>,
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
        Self(Arc::new(Shared { left: Mutex::new(bytes), freed: Condvar::new(), all: bytes }))
    }

    /// Waits until so many bytes are free. Something larger than the whole budget waits for all of it.
    pub(super) fn take(&self, bytes: u64) -> Permit {
        let bytes = bytes.min(self.0.all);
        let mut left = self.0.left.lock().unwrap_or_else(PoisonError::into_inner);
        while *left < bytes {
            left = self.0.freed.wait(left).unwrap_or_else(PoisonError::into_inner);
        }
        *left -= bytes;
        Permit { budget: self.clone(), bytes }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *self.budget.0.left.lock().unwrap_or_else(PoisonError::into_inner) += self.bytes;
        self.budget.0.freed.notify_all();
    }
}
