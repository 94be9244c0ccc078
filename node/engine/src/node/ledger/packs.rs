//! Packs and what is known of them: which are held, which are wanted, and how one that came becomes durable.

use std::ops::ControlFlow;

use locker_crypto::id::{PackHash, SpaceTag};
use locker_store::index::{self, PackState};
use locker_store::packs::PartialPack;
use locker_store::{Reads, Snapshot, StoreError, pins};

use crate::Error;
use crate::care::Found;
use crate::locker::Inner;

/// Complete partial packs that are kept in one commit at the start.
const KEEP_PARTIALS: usize = 16;

/// A pack that is to be fetched, looked at.
pub(crate) enum Opened {
    /// It is durable here.
    Here,
    /// Another fetch of it has not ended yet.
    Busy,
    /// There is no room for it: a quota is full.
    NoRoom,
    /// What of it is here.
    Partial(Box<PartialPack>),
}

/// What a fetch before a restart left.
#[derive(Default)]
pub(crate) struct TakenUp {
    /// Complete packs, durable now.
    pub(crate) kept: Vec<PackHash>,
    /// Packs of which something is here.
    pub(crate) begun: Vec<PackHash>,
}

/// Of packs that somebody let go, keeps those that nobody pins at the end of a batch: what comes later in it may pin them again.
pub(super) fn keep_unpinned<R: Reads>(
    reads: &R,
    space: &SpaceTag,
    packs: &mut Vec<PackHash>,
) -> Result<(), Error> {
    let mut kept = Vec::with_capacity(packs.len());
    for hash in packs.drain(..) {
        if !pins::is_pinned_by_any(reads, space, &hash)? {
            kept.push(hash);
        }
    }
    *packs = kept;
    Ok(())
}

impl Inner {
    /// Which of these packs are durable here, for the space.
    pub(crate) fn held_packs(&self, tag: &SpaceTag, packs: &[PackHash]) -> Result<Vec<PackHash>, Error> {
        let store = self.store()?;
        let snapshot = store.read()?;
        let mut held = Vec::new();
        for hash in packs {
            if is_held(&snapshot, tag, hash)? {
                held.push(*hash);
            }
        }
        Ok(held)
    }

    /// The packs of the home space that are durable here.
    pub(crate) fn packs_here(&self) -> Result<Vec<PackHash>, Error> {
        let (mut here, tag) = (Vec::new(), self.space_tag());
        index::scan_packs(&self.store()?.read()?, &mut |hash, pack| {
            if matches!(pack.state, PackState::Present { .. }) && pack.spaces.contains(&tag) {
                here.push(hash);
            }
            ControlFlow::Continue(())
        })?;
        Ok(here)
    }

    /// Every pack that the logs name, that some device says it holds, and that is not here.
    pub(crate) fn wanted_packs(&self) -> Result<Vec<(PackHash, u32)>, Error> {
        let store = self.store()?;
        let snapshot = store.read()?;
        if let Some(depot) = self.depot() {
            return depot.wanted(&snapshot);
        }
        let mut missing = Vec::new();
        index::scan_packs(&snapshot, &mut |hash, pack| {
            if matches!(pack.state, PackState::Wanted | PackState::Lost) {
                missing.push((hash, pack.len));
            }
            ControlFlow::Continue(())
        })?;
        let mut wanted = Vec::new();
        for (hash, len) in missing {
            if pins::is_pinned_by_any(&snapshot, &self.space_tag(), &hash)? {
                wanted.push((hash, len));
            }
        }
        Ok(wanted)
    }

    /// Opens the partial file of a pack that is to be fetched.
    pub(crate) fn open_partial(&self, hash: &PackHash, len: u32) -> Result<Opened, Error> {
        let store = self.store()?;
        match index::pack(&store.read()?, hash)?.map(|pack| pack.state) {
            Some(PackState::Present { .. }) => return Ok(Opened::Here),
            // It may need nobody: brought back by hand, kept by a process that ended before its row said so, or wrong in
            // its outboard only.
            Some(PackState::Lost) => {
                let found = self.heal_here(hash)?;
                if matches!(found, Found::Whole | Found::Healed) {
                    self.note_found(&[(*hash, found)], |_| {})?;
                    return Ok(Opened::Here);
                }
            }
            _ => {}
        }
        if self.depot().is_some_and(|depot| !depot.has_room(hash, len)) {
            return Ok(Opened::NoRoom);
        }
        match store.packs().open_partial(hash, len) {
            Ok(partial) => {
                // It may have come to be here while its turn was waited for.
                let is_here = index::pack(&store.read()?, hash)?
                    .is_some_and(|pack| matches!(pack.state, PackState::Present { .. }));
                if is_here { Ok(Opened::Here) } else { Ok(Opened::Partial(Box::new(partial))) }
            }
            Err(StoreError::Busy) => Ok(Opened::Busy),
            Err(error) => Err(error.into()),
        }
    }

    /// Looks at what a fetch before a restart left: keeps what is complete, and tells what is begun.
    pub(crate) fn take_up_partials(&self) -> Result<TakenUp, Error> {
        let (mut found, mut complete) = (TakenUp::default(), Vec::new());
        let (partials, snapshot) = {
            let store = self.store()?;
            (store.packs().partials()?, store.read()?)
        };
        for hash in partials {
            let Some(pack) = index::pack(&snapshot, &hash)? else { continue };
            // One that cannot be opened now is looked at again when it is fetched.
            if let Ok(Opened::Partial(partial)) = self.open_partial(&hash, pack.len) {
                match partial.is_complete() {
                    true => complete.push(*partial),
                    false => found.begun.push(hash),
                }
            }
            if complete.len() == KEEP_PARTIALS {
                found.kept.extend(self.keep_packs(&mut complete).unwrap_or_default());
                complete.clear();
            }
        }
        found.kept.extend(self.keep_packs(&mut complete).unwrap_or_default());
        Ok(found)
    }

    /// Makes packs that came from own devices durable, and pins them. Returns those that are; another one is not what
    /// was written to its file.
    pub(crate) fn keep_packs(&self, packs: &mut [PartialPack]) -> Result<Vec<PackHash>, Error> {
        if let Some(depot) = self.depot() {
            return self.blind_keep_packs(depot, packs);
        }
        let _content = self.turns().rely();
        let mut kept = {
            let store = self.store()?;
            let snapshot = store.read()?;
            let mut named = Vec::new();
            for pack in packs {
                // What was let go meanwhile is not kept after all.
                let row = index::pack(&snapshot, &pack.hash())?;
                if row.is_some_and(|row| !matches!(row.state, PackState::Released | PackState::Deleting)) {
                    named.push(pack);
                }
            }
            store.packs().keep_partials(named)?
        };
        self.leave_damaged(&mut kept)?;
        if !kept.is_empty() {
            self.commit(|change| kept.iter().try_for_each(|hash| change.hold_pack(hash)))?;
        }
        Ok(kept)
    }

    /// Takes out what replaced a damaged file and, read through a fresh handle, is damaged again: the disk is not to be
    /// trusted with it.
    pub(super) fn leave_damaged(&self, kept: &mut Vec<PackHash>) -> Result<(), Error> {
        let store = self.store()?;
        let snapshot = store.read()?;
        let mut failure = None;
        kept.retain(|hash| match index::pack(&snapshot, hash) {
            Ok(Some(pack)) if pack.state == PackState::Lost => store.packs().verify(hash, pack.len).is_ok(),
            Ok(_) => true,
            Err(error) => {
                failure = Some(error);
                false
            }
        });
        failure.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Whether a pack of a space is durable here.
pub(crate) fn is_held(snapshot: &Snapshot, tag: &SpaceTag, hash: &PackHash) -> Result<bool, Error> {
    Ok(index::pack(snapshot, hash)?
        .is_some_and(|pack| pack.spaces.contains(tag) && matches!(pack.state, PackState::Present { .. })))
}
