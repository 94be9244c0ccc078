//! Whether this store may still acknowledge anything: one failed commit or sync ends that for good (rule D5 of
//! `docs/spec/08-at-rest.md`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::StoreError;

/// Shared by everything that belongs to one opened store.
#[derive(Debug, Default)]
pub(crate) struct Health {
    poisoned: AtomicBool,
    /// The disk cannot be written: nothing is begun.
    is_read_only: bool,
}

impl Health {
    /// Of a store that is only read.
    pub(crate) fn read_only() -> Self {
        Self { poisoned: AtomicBool::default(), is_read_only: true }
    }

    /// Whether nothing may be written at all.
    pub(crate) fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// Refuses once poisoned, and where nothing is written.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match (self.is_poisoned(), self.is_read_only) {
            (true, _) => Err(StoreError::Poisoned),
            (false, true) => Err(StoreError::ReadOnly),
            (false, false) => Ok(()),
        }
    }

    /// Ends all acknowledging.
    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Ordering::Release);
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// Runs a step that must not fail half-way: its error poisons.
    pub(crate) fn or_poison<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if result.is_err() {
            self.poison();
        }
        result
    }

    /// Runs a call into redb. A damaged page can make it panic: that becomes [`StoreError::Corrupt`], and since the
    /// inside of the database is then unknown, the handle is poisoned.
    pub(crate) fn guard<T>(&self, call: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(result) => result,
            Err(_) => {
                self.poison();
                Err(StoreError::corrupt("a page of the database"))
            }
        }
    }
}
