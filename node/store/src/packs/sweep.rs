//! The sweep at start: temporary files, packs that no row names, partial packs that nobody waits for
//! (`docs/spec/08-at-rest.md`, "Start").

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use locker_crypto::id::PackHash;

use super::{PackStore, file_len};
use crate::StoreError;
use crate::home::{Kind, check_kind, list, remove_file, sync_folder};
use crate::index::{Pack, PackState};

/// What a sweep found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Temporary files removed, and partial ones that nobody waits for.
    pub(crate) temporary: u64,
    /// Packs removed that nothing named.
    pub(crate) unreferenced: u64,
    /// Files that are not ours; they are left where they lie.
    pub(crate) strangers: u64,
}

impl PackStore {
    /// Removes temporary files, the packs that `look_up` does not know or says were let go, and the partial ones that it does not want or
    /// that have another length; packs that it still wants become partial ones. What is lost stays where it is: what is right
    /// in it serves until its replacement has come. Only for the holder of the lock, before
    /// any writing.
    pub(crate) fn sweep(
        &self,
        look_up: &mut dyn FnMut(&PackHash) -> Result<Option<Pack>, StoreError>,
    ) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        for name in list(&self.tmp)? {
            let path = self.tmp.join(name);
            check_kind(&path, Kind::File)?;
            swept.temporary += u64::from(remove_file(&path)?);
        }
        for name in list(&self.folder)? {
            let shard = self.folder.join(&name);
            if shard == self.tmp || shard == self.partial {
                continue;
            }
            let first = name.to_str().and_then(read_hex::<1>);
            match first {
                Some([first]) => self.sweep_shard(&shard, first, look_up, &mut swept)?,
                None => swept.strangers += 1,
            }
        }
        self.sweep_partials(look_up, &mut swept)?;
        Ok(swept)
    }

    fn sweep_partials(
        &self,
        look_up: &mut dyn FnMut(&PackHash) -> Result<Option<Pack>, StoreError>,
        swept: &mut Swept,
    ) -> Result<(), StoreError> {
        for name in list(&self.partial)? {
            let Some(hash) = read_name(&name) else {
                swept.strangers += 1;
                continue;
            };
            let path = self.partial.join(name);
            check_kind(&path, Kind::File)?;
            let found = fs::metadata(&path).map_err(|error| StoreError::io("looking at", &path, error))?;
            let is_awaited = look_up(&hash)?.is_some_and(|pack| {
                matches!(pack.state, PackState::Wanted | PackState::Lost) && found.len() == file_len(pack.len)
            });
            if !is_awaited {
                swept.temporary += u64::from(remove_file(&path)?);
            }
        }
        Ok(())
    }

    fn sweep_shard(
        &self,
        shard: &Path,
        first: u8,
        look_up: &mut dyn FnMut(&PackHash) -> Result<Option<Pack>, StoreError>,
        swept: &mut Swept,
    ) -> Result<(), StoreError> {
        check_kind(shard, Kind::Folder)?;
        let mut removed = 0;
        for name in list(shard)? {
            let Some(hash) = read_name(&name).filter(|hash| hash.0[0] == first) else {
                swept.strangers += 1;
                continue;
            };
            let path = shard.join(&name);
            match look_up(&hash)? {
                None => removed += u64::from(remove_file(&path)?),
                // It was let go, and the process ended before the file was.
                Some(Pack { state: PackState::Away | PackState::Released, .. }) => {
                    removed += u64::from(remove_file(&path)?);
                }
                // It had come, and the process ended before its row said so: the fetch goes on from here.
                Some(pack) if pack.state == PackState::Wanted && !self.partial.join(&name).exists() => {
                    check_kind(&path, Kind::File)?;
                    fs::rename(&path, self.partial.join(&name))
                        .map_err(|error| StoreError::io("moving a pack", &path, error))?;
                }
                Some(_) => {}
            }
        }
        if removed > 0 {
            self.health.or_poison(sync_folder(shard))?;
        }
        swept.unreferenced += removed;
        Ok(())
    }
}

/// Reads the name of a pack's file.
pub(super) fn read_name(name: &OsStr) -> Option<PackHash> {
    name.to_str().and_then(read_hex::<32>).map(PackHash)
}

/// Reads lower-case hexadecimal of exactly `N` bytes.
pub(super) fn read_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
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
