//! Letting packs go: their pins, their files, their rows, and what points at them (`docs/spec/08-at-rest.md`, "Order of a
//! deletion").

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::Duration;

use locker_crypto::file_ref::FileRef;
use locker_crypto::id::{ContentHash, PackHash};
use locker_store::packs::file_len;
use locker_store::pins::{self, PinScope};
use locker_store::{Store, failpoints, files, index};

use super::decide::Facts;
use super::{Look, Manners, Pass};
use crate::Error;
use crate::limits::{NEED_ROWS, RELEASE_PACKS};
use crate::locker::{ImportTurn, Inner};

/// Longest that a pass waits for content that others read.
const WAIT: Duration = Duration::from_secs(30);
/// The same when nobody waits for the pass.
const QUIET_WAIT: Duration = Duration::from_secs(2);
/// Longest wait for the database alone.
const ALONE_WAIT: Duration = Duration::from_secs(5);
/// Bytes of rows that go with each chunk, about.
const CHUNK_ROW_BYTES: u64 = 100;
/// The database is made smaller when about 1 / n of it has become free.
const SLACK_FRACTION: u64 = 8;

impl Pass<'_> {
    /// Lets packs go, if the locker is as it was at `state`: what was decided then still holds. No import runs
    /// meanwhile, and nobody relies on content that he looked up.
    pub(super) fn release(
        &mut self,
        store: &Store,
        packs: &[&Facts],
        mut state: u64,
        import: Option<ImportTurn<'_>>,
    ) -> Result<Look, Error> {
        if packs.is_empty() {
            return Ok(Look::Done);
        }
        let inner = self.inner;
        let Some(_import) = import.or_else(|| inner.try_import_turn()) else { return Ok(Look::Busy) };
        let wait = match self.manners {
            Manners::Waits => WAIT,
            Manners::Yields => QUIET_WAIT,
        };
        for group in packs.chunks(RELEASE_PACKS) {
            let Some(_content) = inner.turns().alone(inner.env(), wait) else { return Ok(Look::Busy) };
            let hashes: Vec<PackHash> = group.iter().map(|facts| facts.hash).collect();
            if !inner.unpin(&hashes, state)? {
                return Ok(Look::Changed);
            }
            // No other commit came between, or the next group is refused.
            state = state.wrapping_add(1);
            let failed = |error| Error::io("deleting packs", store.home().path(), error);
            failpoints::reach(failpoints::DELETE_UNPINNED).map_err(failed)?;
            let free = inner.without_holds(store, hashes)?;
            let group: Vec<&Facts> =
                group.iter().copied().filter(|facts| free.contains(&facts.hash)).collect();
            let snapshot = store.read()?;
            for facts in &group {
                self.chunks_gone += index::locs(&snapshot, &facts.hash)?.len() as u64;
            }
            drop(snapshot);
            let free: Vec<PackHash> = free.into_iter().collect();
            store.delete_packs(&free)?;
            if let Some(hub) = inner.node() {
                hub.unwant(&free);
            }
            for facts in &group {
                if matches!(facts.state, index::PackState::Present { .. }) {
                    self.freed_bytes += file_len(facts.len);
                    self.meter.add(0, facts.len.into());
                }
            }
            self.note_done(group);
        }
        Ok(Look::Done)
    }

    /// Forgets the contents of which chunks have gone: what is taken in later is not looked for there.
    pub(super) fn forget_contents(&self) -> Result<(), Error> {
        let store = self.inner.store()?;
        let space = self.inner.space_tag();
        let snapshot = store.read()?;
        let mut gone: BTreeSet<ContentHash> = BTreeSet::new();
        let mut failure = Ok(());
        files::scan_file_refs(&snapshot, &mut |row| {
            let bytes = row.file_ref();
            let Ok(file) = FileRef::decode(bytes) else { return ControlFlow::Continue(()) };
            for record in file.records() {
                match index::has_chunk(&snapshot, &space, &record.tag()) {
                    Ok(true) => {}
                    Ok(false) => {
                        gone.insert(file.content_hash());
                        break;
                    }
                    Err(error) => {
                        failure = Err(error);
                        return ControlFlow::Break(());
                    }
                }
            }
            ControlFlow::Continue(())
        })?;
        failure?;
        let mut stats = Vec::new();
        files::scan_stats(&snapshot, &mut |key, content| {
            if gone.contains(&content) {
                stats.push(key);
            }
            ControlFlow::Continue(())
        })?;
        drop(snapshot);
        let gone: Vec<ContentHash> = gone.into_iter().collect();
        for group in gone.chunks(NEED_ROWS) {
            store.write::<_, Error>(|txn| {
                group.iter().for_each(|content| files::delete_file_ref(txn, content));
                Ok(())
            })?;
        }
        for group in stats.chunks(NEED_ROWS) {
            store.write::<_, Error>(|txn| {
                group.iter().for_each(|key| files::forget_stat(txn, key));
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Makes the database smaller if much of it has become free and nobody is kept from it for that.
    pub(super) fn compact(&self) -> Result<(), Error> {
        if self.manners == Manners::Yields {
            return Ok(());
        }
        let Some(mut guard) = self.inner.exclusive_store(ALONE_WAIT) else { return Ok(()) };
        let Some(store) = guard.as_mut() else { return Ok(()) };
        if self.chunks_gone * CHUNK_ROW_BYTES * SLACK_FRACTION < store.database_bytes()? {
            return Ok(());
        }
        match store.compact() {
            // A snapshot lives: another time.
            Err(locker_store::StoreError::Busy) => Ok(()),
            other => Ok(other?),
        }
    }
}

impl Inner {
    /// Drops this device's pins of packs, if nothing was committed since `state`; says whether.
    fn unpin(&self, packs: &[PackHash], state: u64) -> Result<bool, Error> {
        self.commit(|change| {
            let is_latest = change.state() == state;
            if is_latest {
                packs.iter().try_for_each(|hash| change.unpin(hash))?;
            }
            Ok(is_latest)
        })
    }

    /// The packs that are being sent or fetched, or that this device promised another one to keep.
    pub(super) fn packs_in_use(&self) -> Result<BTreeSet<PackHash>, Error> {
        let mut packs = self.node().map(|hub| hub.packs_in_transfer()).unwrap_or_default();
        packs.extend(self.leases()?.into_iter().map(|(pack, _)| pack));
        Ok(packs)
    }

    /// Those of packs that nothing holds here, in one state of the database: no pin of this device, no transfer (rule
    /// G1). Links were asked in the state at which the pins were dropped.
    fn without_holds(&self, store: &Store, packs: Vec<PackHash>) -> Result<BTreeSet<PackHash>, Error> {
        let in_use = self.packs_in_use()?;
        let snapshot = store.read()?;
        let scope = PinScope { space: self.space_tag(), author: self.keys().device_id() };
        let mut free = BTreeSet::new();
        for hash in packs {
            if !in_use.contains(&hash) && !pins::is_pinned(&snapshot, &scope, &hash)? {
                free.insert(hash);
            }
        }
        Ok(free)
    }

    /// Asks for packs that were let go here.
    pub(crate) fn want_again(&self, packs: &[PackHash]) -> Result<(), Error> {
        if packs.is_empty() {
            return Ok(());
        }
        let wanted = self.store()?.write::<_, Error>(|txn| {
            let mut wanted = Vec::new();
            for hash in packs {
                if let Some(pack) = index::pack(txn, hash)?
                    && matches!(pack.state, index::PackState::Released | index::PackState::Away)
                {
                    index::set_state(txn, hash, index::PackState::Wanted)?;
                    wanted.push((*hash, pack.len));
                }
            }
            Ok(wanted)
        })?;
        if let Some(hub) = self.node() {
            hub.want(&wanted);
        }
        Ok(())
    }
}
