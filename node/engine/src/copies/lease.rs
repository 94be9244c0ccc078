//! What this device promises to others: packs that it keeps for a time, since somebody lets his copy go on the strength of
//! it. A device that lets go itself promises nothing meanwhile, so that two never rely on one another.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use locker_catalog::roster::Roster;
use locker_crypto::id::{PackHash, VerifyingKey};
use locker_store::index::{self, PackState};
use locker_store::pins;
use locker_store::{WriteTxn, leases};

use crate::Error;
use crate::keys::person_log;
use crate::locker::Inner;

/// Packs that are being let go. Held by an open locker.
#[derive(Default)]
pub(crate) struct Freeing(Mutex<BTreeSet<PackHash>>);

impl Freeing {
    fn packs(&self) -> MutexGuard<'_, BTreeSet<PackHash>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Packs that are being let go, until this is dropped.
pub(super) struct Claim<'a> {
    inner: &'a Inner,
    /// These.
    pub(super) packs: BTreeSet<PackHash>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut freeing = self.inner.freeing().packs();
        self.packs.iter().for_each(|pack| _ = freeing.remove(pack));
    }
}

impl Inner {
    /// Promises `asker` to keep packs for so many seconds: those that are durable here, pinned by this device or, on one that
    /// stores for others, by another one than `asker`, which is about to take its pin back, and that are not being let go.
    /// Durable when it returns.
    pub(crate) fn grant_leases(
        &self,
        packs: &BTreeSet<PackHash>,
        seconds: u32,
        asker: &VerifyingKey,
    ) -> Result<BTreeSet<PackHash>, Error> {
        let _content = self.turns().rely();
        let freeing = self.freeing().packs();
        let (space, person) = (self.space_tag(), self.keys().person);
        self.store()?.write(|txn: &mut WriteTxn<'_>| {
            let keepers: Vec<VerifyingKey> = match self.depot() {
                Some(_) => {
                    let admitted = Roster::read(person, &person_log(txn, &person)?).admitted();
                    admitted.into_iter().filter(|device| device != asker).collect()
                }
                None => vec![self.keys().device_id()],
            };
            let mut granted = BTreeSet::new();
            for pack in packs.difference(&freeing) {
                let row = index::pack(txn, pack)?;
                let is_here = row.is_some_and(|row| matches!(row.state, PackState::Present { .. }));
                if is_here && pins::is_pinned_by(txn, &space, &keepers, pack)? {
                    leases::grant(txn, pack, seconds)?;
                    granted.insert(*pack);
                }
            }
            Ok(granted)
        })
    }

    /// Claims packs that are to be let go: those of them that nobody was promised and nobody else lets go.
    pub(super) fn claim(&self, packs: BTreeSet<PackHash>) -> Result<Claim<'_>, Error> {
        let mut freeing = self.freeing().packs();
        let snapshot = self.store()?.read()?;
        let promised: BTreeSet<PackHash> =
            leases::all(&snapshot)?.into_iter().map(|(pack, _)| pack).collect();
        let packs = packs.into_iter().filter(|pack| !promised.contains(pack) && freeing.insert(*pack));
        Ok(Claim { inner: self, packs: packs.collect() })
    }

    /// Every promise, and for how many seconds it was made.
    pub(crate) fn leases(&self) -> Result<Vec<(PackHash, u32)>, Error> {
        Ok(leases::all(&self.store()?.read()?)?)
    }

    /// Ends promises.
    pub(crate) fn end_leases(&self, packs: &[PackHash]) -> Result<(), Error> {
        self.store()?.write(|txn: &mut WriteTxn<'_>| {
            packs.iter().for_each(|pack| leases::end(txn, pack));
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
