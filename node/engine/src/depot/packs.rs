//! Packs of a depot: which are pinned and not here, and whether there is room for one.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use locker_crypto::id::PackHash;
use locker_store::index::{self, NewPack, PackState};
use locker_store::packs::file_len;
use locker_store::{Reads, WriteTxn, pins};

use super::Depot;
use crate::Error;

/// Bytes of the packs that are here, as they lie on the disk.
pub(super) fn bytes_here<R: Reads>(reads: &R) -> Result<u64, Error> {
    let mut bytes = 0;
    index::scan_packs(reads, &mut |_, pack| {
        if matches!(pack.state, PackState::Present { .. } | PackState::Lost) {
            bytes += file_len(pack.len);
        }
        ControlFlow::Continue(())
    })?;
    Ok(bytes)
}

impl Depot {
    /// Every pack that somebody pins and that is not here, with its length; 0 where that is not known. A pack that a
    /// removed device alone pins is among them until its pins lapse: another device may need it.
    ///
    /// # Errors
    /// What reading gives.
    pub(crate) fn wanted<R: Reads>(&self, reads: &R) -> Result<Vec<(PackHash, u32)>, Error> {
        let mut missing = Vec::new();
        index::scan_packs(reads, &mut |hash, pack| {
            if matches!(pack.state, PackState::Wanted | PackState::Lost) {
                missing.push((hash, pack.len));
            }
            ControlFlow::Continue(())
        })?;
        let mut wanted = Vec::new();
        for (hash, len) in missing {
            if pins::is_pinned_by_any(reads, &self.charge.tag, &hash)? {
                wanted.push((hash, len));
            }
        }
        Ok(wanted)
    }

    /// Whether a pack of `len` bytes may be kept beside what is here and what is under way. It is promised its room then,
    /// until it is kept or nobody wants it; what has none is noted.
    pub(crate) fn has_room(&self, hash: &PackHash, len: u32) -> bool {
        let mut state = self.state();
        let others = state.promised.iter().filter(|(other, _)| *other != hash).map(|(_, bytes)| bytes);
        let used = self.used().saturating_add(file_len(len)).saturating_add(others.sum());
        let has_room = self.charge.quota == 0 || used <= self.charge.quota;
        if has_room {
            state.refused.remove(hash);
            state.promised.insert(*hash, file_len(len));
        } else {
            state.refused.insert(*hash);
        }
        has_room
    }

    /// Whether there was no room for a pack.
    pub(crate) fn is_refused(&self, hash: &PackHash) -> bool {
        self.state().refused.contains(hash)
    }

    /// Takes back what was noted of packs that nobody wants.
    pub(crate) fn forget(&self, packs: &[PackHash]) {
        let mut state = self.state();
        for hash in packs {
            state.refused.remove(hash);
            state.promised.remove(hash);
        }
    }

    /// Notes a pack that is durable here now. Its bytes are counted when the commit stands: [`Depot::count_kept`].
    ///
    /// # Errors
    /// What the store gives.
    pub(crate) fn hold(
        &self,
        txn: &mut WriteTxn<'_>,
        hash: &PackHash,
        len: u32,
        now_s: u64,
    ) -> Result<(), Error> {
        let new = NewPack { len, state: PackState::Present { verified_at: now_s }, locs: &[] };
        Ok(index::add_pack(txn, &self.charge.tag, hash, &new)?)
    }

    /// Counts packs whose commit stands and that were not here before, with their lengths.
    pub(crate) fn count_kept(&self, packs: &[(PackHash, u32)]) {
        let bytes: u64 = packs.iter().map(|(_, len)| file_len(*len)).sum();
        let mut state = self.state();
        packs.iter().for_each(|(hash, _)| _ = state.promised.remove(hash));
        self.pack_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts packs that are gone, and lets those be asked for again that there was no room for.
    pub(super) fn count_gone(&self, lens: impl IntoIterator<Item = u32>) {
        let bytes: u64 = lens.into_iter().map(file_len).sum();
        // What is counted was counted before.
        self.pack_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if bytes > 0 {
            self.state().refused.clear();
        }
    }
}
