//! The pass over all packs, and over all files that lie where packs lie.

use std::ops::ControlFlow;
use std::time::Duration;

use locker_crypto::id::PackHash;
use locker_store::index::{self, Pack, PackState};
use locker_store::packs::{Cache, OnDisk, file_len};
use locker_store::{Reads, Snapshot};
use rayon::prelude::*;

use super::{Check, Run};
use crate::Error;
use crate::care::Found;
use crate::locker::Inner;

/// Packs handed to the workers at once.
const PACKS_AT_ONCE: usize = 64;
/// How often what was found is made durable.
const NOTE_EVERY: Duration = Duration::from_secs(2);
/// Files without a row that are kept in mind.
const UNKNOWN_MAX: usize = 4_096;

/// A pack that is damaged or gone.
pub(super) struct Bad {
    pub(super) hash: PackHash,
    pub(super) len: u32,
    /// What is wrong with it.
    pub(super) why: String,
}

/// How many packs and bytes a pass has before it: what is still to come from others is not stored here, and what an earlier
/// run has checked is not read again unless it was damaged.
pub(super) fn totals<R: Reads>(reads: &R, run: Option<&Run>) -> Result<(u64, u64), Error> {
    let (mut packs, mut bytes) = (0, 0);
    index::scan_packs(reads, &mut |hash, pack| {
        let is_done = run.is_some_and(|run| run.last.is_some_and(|last| hash <= last));
        if is_stored(&pack) && (!is_done || pack.state == PackState::Lost) {
            packs += 1;
            bytes += u64::from(pack.len);
        }
        ControlFlow::Continue(())
    })?;
    Ok((packs, bytes))
}

fn is_stored(pack: &Pack) -> bool {
    matches!(pack.state, PackState::Present { .. } | PackState::Lost)
}

impl Check<'_> {
    /// Looks at every byte of every pack; goes on with `run` if there is one. Gives those that are bad.
    pub(super) fn packs(&mut self, run: Option<Run>) -> Result<Vec<Bad>, Error> {
        let mut bad = Vec::new();
        if let Some(run) = &run {
            self.verified.earlier = run.packs;
            let lost = lost_until(&self.inner.store()?.read()?, run.last)?;
            for group in lost.chunks(PACKS_AT_ONCE) {
                let found = self.look_at(group, &mut bad);
                self.inner.note_found(&found?, |_| {})?;
            }
        }
        let mut run = run.unwrap_or_else(|| Run::begin(self.inner.env().now_ms() / 1_000));
        let mut pending = Vec::new();
        let mut noted = self.inner.env().elapsed();
        while !self.is_over.get() {
            let group = next_packs(self.inner, run.last)?;
            if group.is_empty() {
                break;
            }
            let found = self.look_at(&group, &mut bad)?;
            found.iter().for_each(|(hash, _)| run.advance(*hash));
            pending.extend(found);
            let now = self.inner.env().elapsed();
            if now.saturating_sub(noted) >= NOTE_EVERY {
                self.keep(&mut pending, &run)?;
                noted = now;
            }
        }
        self.keep(&mut pending, &run)?;
        Ok(bad)
    }

    /// Looks at some packs side by side. Gives what was found of those that were looked at before the check was stopped:
    /// the first ones.
    fn look_at(
        &mut self,
        group: &[(PackHash, u32)],
        bad: &mut Vec<Bad>,
    ) -> Result<Vec<(PackHash, Found)>, Error> {
        let results: Vec<Option<Result<Found, Error>>> = group
            .par_iter()
            .map(|(hash, len)| {
                if self.observer.is_stopped() {
                    return None;
                }
                // Its chunks are looked at after all packs.
                let found = self.inner.examine(hash, Cache::Kept);
                self.meter.add(1, u64::from(*len));
                Some(found)
            })
            .collect();
        let mut all = Vec::with_capacity(group.len());
        for ((hash, len), result) in group.iter().zip(results) {
            let Some(found) = result.transpose()? else {
                self.is_over.set(true);
                break;
            };
            self.verified.checked += 1;
            match &found {
                Found::Whole | Found::Healed => self.verified.checked_bytes += file_len(*len),
                Found::Damaged(why) => bad.push(Bad { hash: *hash, len: *len, why: why.clone() }),
                Found::Dropped => {}
            }
            all.push((*hash, found));
        }
        Ok(all)
    }

    /// Makes durable what was found, and how far the pass is. On a disk that is nearly full only damage is worth it.
    fn keep(&self, pending: &mut Vec<(PackHash, Found)>, run: &Run) -> Result<(), Error> {
        let found = std::mem::take(pending);
        let has_damage = found.iter().any(|(_, found)| matches!(found, Found::Damaged(_)));
        if found.is_empty() || (!has_damage && self.inner.store()?.is_short_of_space()) {
            return Ok(());
        }
        self.inner.note_found(&found, |txn| run.save(txn))
    }

    /// Looks for files in the pack folders that no row names.
    pub(super) fn files(&mut self) -> Result<(), Error> {
        let store = self.inner.store()?;
        let (mut unknown, mut strangers) = (Vec::new(), Vec::new());
        let mut failure = None;
        let snapshot = store.read()?;
        store.packs().scan_files(&mut |found| {
            self.verified.checked += 1;
            match found {
                OnDisk::Pack(hash) => match index::pack(&snapshot, &hash) {
                    Ok(None) if unknown.len() < UNKNOWN_MAX => unknown.push(hash),
                    Ok(_) => {}
                    Err(error) => {
                        failure = Some(error);
                        return ControlFlow::Break(());
                    }
                },
                OnDisk::Stranger(path) => strangers.push(path),
            }
            if strangers.len() < UNKNOWN_MAX { self.goes_on() } else { ControlFlow::Break(()) }
        })?;
        if let Some(error) = failure {
            return Err(error.into());
        }
        drop(snapshot);
        // An import names its packs in a commit that comes after they have their files.
        if let Some(_turn) = self.inner.try_import_turn() {
            let snapshot = store.read()?;
            for hash in unknown {
                if index::pack(&snapshot, &hash)?.is_none() {
                    self.note(format!(
                        "the file of pack {hash} is named by nothing; the next start removes it"
                    ));
                }
            }
        }
        for path in strangers {
            self.note(format!("{} does not belong to the locker and is left alone", path.display()));
        }
        Ok(())
    }
}

/// The next packs behind the last one.
fn next_packs(inner: &Inner, last: Option<PackHash>) -> Result<Vec<(PackHash, u32)>, Error> {
    let mut next = Vec::with_capacity(PACKS_AT_ONCE);
    // A state of its own for each group: one that is held for hours would keep the database from using its pages again.
    let snapshot = inner.store()?.read()?;
    index::scan_packs_after(&snapshot, last.as_ref(), &mut |hash, pack| {
        if is_stored(&pack) {
            next.push((hash, pack.len));
        }
        if next.len() < PACKS_AT_ONCE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(next)
}

/// The packs that are lost, up to the last one of an earlier run: it may be that they have come back.
fn lost_until(snapshot: &Snapshot, last: Option<PackHash>) -> Result<Vec<(PackHash, u32)>, Error> {
    let mut lost = Vec::new();
    index::scan_packs(snapshot, &mut |hash, pack| {
        if last.is_none_or(|last| hash > last) {
            return ControlFlow::Break(());
        }
        if pack.state == PackState::Lost {
            lost.push((hash, pack.len));
        }
        ControlFlow::Continue(())
    })?;
    Ok(lost)
}
