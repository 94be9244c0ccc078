//! The sweep at start: temporary files, and packs that no row names (`docs/spec/08-at-rest.md`, "Start").

use std::path::Path;

use locker_crypto::id::PackHash;

use super::PackStore;
use crate::StoreError;
use crate::home::{Kind, check_kind, list, remove_file, sync_folder};

/// What a sweep found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Temporary files removed.
    pub(crate) temporary: u64,
    /// Packs removed that nothing named.
    pub(crate) unreferenced: u64,
    /// Files that are not ours; they are left where they lie.
    pub(crate) strangers: u64,
}

impl PackStore {
    /// Removes temporary files, and the packs for which `is_named` says no. Only for the holder of the lock, before any
    /// writing.
    pub(crate) fn sweep(
        &self,
        is_named: &mut dyn FnMut(&PackHash) -> Result<bool, StoreError>,
    ) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        for name in list(&self.tmp)? {
            let path = self.tmp.join(name);
            check_kind(&path, Kind::File)?;
            swept.temporary += u64::from(remove_file(&path)?);
        }
        for name in list(&self.folder)? {
            let shard = self.folder.join(&name);
            if shard == self.tmp {
                continue;
            }
            let first = name.to_str().and_then(read_hex::<1>);
            match first {
                Some([first]) => self.sweep_shard(&shard, first, is_named, &mut swept)?,
                None => swept.strangers += 1,
            }
        }
        Ok(swept)
    }

    fn sweep_shard(
        &self,
        shard: &Path,
        first: u8,
        is_named: &mut dyn FnMut(&PackHash) -> Result<bool, StoreError>,
        swept: &mut Swept,
    ) -> Result<(), StoreError> {
        check_kind(shard, Kind::Folder)?;
        let mut removed = 0;
        for name in list(shard)? {
            let Some(hash) = name.to_str().and_then(read_hex::<32>).filter(|hash| hash[0] == first) else {
                swept.strangers += 1;
                continue;
            };
            if !is_named(&PackHash(hash))? {
                removed += u64::from(remove_file(&shard.join(name))?);
            }
        }
        if removed > 0 {
            self.health.or_poison(sync_folder(shard))?;
        }
        swept.unreferenced += removed;
        Ok(())
    }
}

/// Reads lower-case hexadecimal of exactly `N` bytes.
fn read_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(out)
}
