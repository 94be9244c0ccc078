//! Trying whether the disk of a home still keeps what it is given: a small file goes the way of a pack, written, synced,
//! renamed, and is read back.

use std::io::{Read, Write};

use crate::home::{create_file, open_file, remove_file, sync_folder};
use crate::{Store, StoreError};

/// Length of the file in bytes.
const LEN: usize = 64 * 1_024;
/// Beside the packs that are being written; what a crash leaves of it the next start sweeps away like those.
const NAMES: [&str; 2] = ["trial.new", "trial"];

/// What was found of the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskTrial {
    /// Bytes that this user may still write, the reserve not counted.
    pub free: u64,
    /// Bytes that stay free: below them new content is refused.
    pub low_water: u64,
}

impl Store {
    /// Writes 64 KiB durably, reads them back, and removes them. Costs two syncs.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::ReadOnly`], [`StoreError::Io`]; [`StoreError::Corrupt`] if other bytes came
    /// back. The store itself is none the worse.
    pub fn try_disk(&self) -> Result<DiskTrial, StoreError> {
        if self.is_read_only() {
            return Err(StoreError::ReadOnly);
        }
        let [new, kept] = NAMES.map(|name| self.home().packs_tmp().join(name));
        let tried = (|| {
            for left in [&new, &kept] {
                remove_file(left)?;
            }
            let bytes: Vec<u8> = (0..LEN).map(|n| (n % 251) as u8).collect();
            let failed = |what| move |error| StoreError::io(what, &self.home().packs_tmp(), error);
            let mut file = create_file(&new)?;
            file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed("writing a file in"))?;
            std::fs::rename(&new, &kept).map_err(failed("renaming a file in"))?;
            sync_folder(&self.home().packs_tmp())?;
            let mut back = Vec::with_capacity(LEN);
            let mut file = open_file(&kept, std::fs::OpenOptions::new().read(true))?;
            file.read_to_end(&mut back).map_err(failed("reading a file in"))?;
            if back == bytes { Ok(()) } else { Err(StoreError::corrupt("a file that was just written")) }
        })();
        // What cannot be removed now is swept away at the next start.
        for left in [&new, &kept] {
            let _ = remove_file(left);
        }
        tried?;
        Ok(DiskTrial { free: self.reserve.free()?, low_water: self.reserve.low_water() })
    }
}

#[cfg(test)]
mod tests {
    use crate::test_kit::begin;

    #[test]
    fn a_disk_that_works_leaves_nothing_behind() {
        let home = tempfile::tempdir().unwrap();
        let store = begin(&home.path().join("home"));
        std::fs::write(home.path().join("home/packs/tmp/trial"), b"left by a crash").unwrap();
        let tried = store.try_disk().unwrap();
        assert!(tried.free > 0);
        assert_eq!(std::fs::read_dir(home.path().join("home/packs/tmp")).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_is_gone_is_an_error_and_poisons_nothing() {
        let home = tempfile::tempdir().unwrap();
        let store = begin(&home.path().join("home"));
        let tmp = home.path().join("home/packs/tmp");
        std::fs::remove_dir(&tmp).unwrap();
        assert!(store.try_disk().is_err());
        std::fs::create_dir(&tmp).unwrap();
        assert!(store.try_disk().is_ok() && !store.is_poisoned());
    }
}
