//! Listing what lies in the pack folders, for who compares it with the rows.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use locker_crypto::id::PackHash;

use super::PackStore;
use super::sweep::{read_hex, read_name};
use crate::StoreError;
use crate::home::list;

/// Something in the pack folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnDisk {
    /// A file under the name of a pack, in its place.
    Pack(PackHash),
    /// Something else.
    Stranger(PathBuf),
}

impl PackStore {
    /// Visits everything in the pack folders, one folder after another; files that are being written or fetched are not
    /// among them.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn scan_files(&self, visit: &mut dyn FnMut(OnDisk) -> ControlFlow<()>) -> Result<(), StoreError> {
        for name in list(&self.folder)? {
            let shard = self.folder.join(&name);
            if shard == self.tmp || shard == self.partial {
                continue;
            }
            let flow = match name.to_str().and_then(read_hex::<1>) {
                Some([first]) if is_folder(&shard) => self.scan_shard(&shard, first, visit)?,
                _ => visit(OnDisk::Stranger(shard)),
            };
            if flow.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn scan_shard(
        &self,
        shard: &Path,
        first: u8,
        visit: &mut dyn FnMut(OnDisk) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, StoreError> {
        for name in list(shard)? {
            let found = match read_name(&name).filter(|hash| hash.0[0] == first) {
                Some(hash) => OnDisk::Pack(hash),
                None => OnDisk::Stranger(shard.join(name)),
            };
            if visit(found).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Whether this is a folder, and no link to one.
fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_dir())
}
