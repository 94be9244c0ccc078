//! Packs that nobody pins: they stay for some days of running and go then (`docs/spec/08-at-rest.md`, "Depot").
//!
//! Pins of a device that was removed hold nothing: the remaining devices pin what is needed, and have the same days for it.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use locker_crypto::id::PackHash;
use locker_store::index::{self, Pack, PackState};
use locker_store::packs::file_len;
use locker_store::pins;
use locker_store::{Reads, Store, unneeded};

use super::Depot;
use crate::Error;
use crate::limits::{NEED_ROWS, RELEASE_PACKS};

/// What a look at all packs gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Packs looked at.
    pub(crate) checked: u64,
    /// Packs whose time is over, and their bytes.
    pub(crate) over: u64,
    /// Bytes of them.
    pub(crate) over_bytes: u64,
    /// Packs that nobody pins and whose time is not over.
    pub(crate) waiting: u64,
}

/// What is to be done with the packs of a depot.
#[derive(Default)]
struct Due {
    /// Since when nobody pins a pack.
    notes: Vec<(PackHash, Option<u32>)>,
    /// Packs whose time is over, with their lengths.
    over: Vec<(PackHash, u32)>,
    /// Packs that were let go and are pinned again.
    again: Vec<PackHash>,
}

impl Depot {
    /// Looks at every pack, notes since when nobody pins it, and lets those go whose time is over, unless they are in
    /// `spared`: under way to somebody. `today` counts the days on which this device ran. With `is_dry` nothing is changed.
    ///
    /// # Errors
    /// What the store gives; nothing more goes after an error.
    pub(crate) fn sweep(
        &self,
        store: &Store,
        today: u32,
        spared: &BTreeSet<PackHash>,
        is_dry: bool,
    ) -> Result<Swept, Error> {
        let (swept, due) = self.look(&store.read()?, today, spared)?;
        if is_dry {
            return Ok(swept);
        }
        for group in due.notes.chunks(NEED_ROWS) {
            store.write::<_, Error>(|txn| {
                group.iter().for_each(|(hash, since)| unneeded::note_pack(txn, hash, *since));
                Ok(())
            })?;
        }
        if !due.again.is_empty() {
            store.write::<_, Error>(|txn| {
                Ok(due.again.iter().try_for_each(|hash| index::set_state(txn, hash, PackState::Wanted))?)
            })?;
        }
        for group in due.over.chunks(RELEASE_PACKS) {
            self.let_go(store, group)?;
        }
        Ok(swept)
    }

    fn look<R: Reads>(
        &self,
        reads: &R,
        today: u32,
        spared: &BTreeSet<PackHash>,
    ) -> Result<(Swept, Due), Error> {
        let (mut swept, mut due) = (Swept::default(), Due::default());
        let authors = self.roster(reads)?.admitted();
        for (hash, pack) in rows(reads)? {
            let is_here = matches!(pack.state, PackState::Present { .. } | PackState::Lost);
            let is_held = pins::is_pinned_by(reads, &self.charge.tag, &authors, &hash)?;
            if !is_here {
                // A pin came while its file was being removed.
                due.again.extend((is_held && pack.state == PackState::Released).then_some(hash));
                continue;
            }
            swept.checked += 1;
            let since = unneeded::unpinned_since(reads, &hash)?;
            if is_held {
                due.notes.extend(since.map(|_| (hash, None)));
                continue;
            }
            if since.is_none() {
                due.notes.push((hash, Some(today)));
            }
            let age = today.saturating_sub(since.unwrap_or(today));
            if age >= self.charge.keep_days && !spared.contains(&hash) {
                swept.over += 1;
                swept.over_bytes += file_len(pack.len);
                due.over.push((hash, pack.len));
            } else {
                swept.waiting += 1;
            }
        }
        Ok((swept, due))
    }

    /// Deletes packs that are still held by nobody: a pin may have come meanwhile.
    fn let_go(&self, store: &Store, group: &[(PackHash, u32)]) -> Result<(), Error> {
        let mut gone = Vec::new();
        {
            let snapshot = store.read()?;
            let authors = self.roster(&snapshot)?.admitted();
            for (hash, len) in group {
                if !pins::is_pinned_by(&snapshot, &self.charge.tag, &authors, hash)? {
                    gone.push((*hash, *len));
                }
            }
        }
        let hashes: Vec<PackHash> = gone.iter().map(|(hash, _)| *hash).collect();
        store.delete_packs(&hashes)?;
        self.count_gone(gone.into_iter().map(|(_, len)| len));
        store.write::<_, Error>(|txn| {
            hashes.iter().for_each(|hash| unneeded::note_pack(txn, hash, None));
            Ok(())
        })
    }
}

fn rows<R: Reads>(reads: &R) -> Result<Vec<(PackHash, Pack)>, Error> {
    let mut rows = Vec::new();
    index::scan_packs(reads, &mut |hash, pack| {
        rows.push((hash, pack));
        ControlFlow::Continue(())
    })?;
    Ok(rows)
}
