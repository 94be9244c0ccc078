//! The reserve: a file of real blocks that is given up when the disk is full, so that deleting and the log still work
//! (rule D5 of `docs/spec/08-at-rest.md`).

use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::home::{create_file, remove_file};
use crate::{Limits, StoreError};

/// Watches the free space of the file system of one home.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    home: PathBuf,
    limits: Limits,
}

impl Reserve {
    pub(crate) fn new(path: PathBuf, home: &Path, limits: Limits) -> Self {
        Self { path, home: home.to_owned(), limits }
    }

    /// Returns the bytes that this user may still write, the reserve not counted.
    pub(crate) fn free(&self) -> Result<u64, StoreError> {
        let found =
            statvfs(&self.home).map_err(|error| StoreError::io("looking at", &self.home, error.into()))?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// Returns the bytes below which new content is refused.
    pub(crate) fn low_water(&self) -> u64 {
        self.limits.low_water_bytes
    }

    /// Makes the reserve if it is missing and there is room for it above the low-water mark. Never fails: without a
    /// reserve the low-water mark alone stands guard.
    pub(crate) fn keep(&self) {
        let size = self.limits.reserve_bytes;
        let wanted = size.saturating_add(self.limits.low_water_bytes);
        if size == 0 || self.path.symlink_metadata().is_ok() || !self.free().is_ok_and(|free| free > wanted) {
            return;
        }
        let made = create_file(&self.path)
            .is_ok_and(|file| fallocate(&file, FallocateFlags::empty(), 0, size).is_ok());
        if !made {
            self.release();
        }
    }

    /// Gives the reserve up.
    pub(crate) fn release(&self) {
        // If it cannot be removed there is nothing more to give.
        let _ = remove_file(&self.path);
    }

    /// Before a commit of about `bytes`: gives the reserve up if they might not fit without it.
    pub(crate) fn before_commit(&self, bytes: u64) {
        if self.free().is_ok_and(|free| free < bytes) {
            self.release();
        }
    }

    /// Before `bytes` of new content.
    ///
    /// # Errors
    /// [`StoreError::Full`] if less than the low-water mark would stay free.
    pub(crate) fn admit(&self, bytes: u64) -> Result<(), StoreError> {
        if self.free()? < self.limits.low_water_bytes.saturating_add(bytes) {
            return Err(StoreError::Full);
        }
        Ok(())
    }
}
