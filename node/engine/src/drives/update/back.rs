//! From a drive to this device: what others wrote onto it, or this home under a key that it had before, and nobody who is left
//! has heard of. A drive can be written by anybody who had it in his hands: its items are taken as what a replica sends, and a pack
//! only if its bytes have its hash. What the own key signed is not taken: if it is not here, that is doubt.

use std::collections::BTreeSet;

use locker_catalog::roster::Roster;
use locker_crypto::id::{PackHash, VerifyingKey};
use locker_store::index::{self, PackState};
use locker_sync::frontier::Log;
use locker_sync::message::v1::{Ask, Head};

use super::Drive;
use crate::Error;
use crate::keys::person_log;
use crate::report::{Observer, Progress};

/// About how many bytes of items are taken in one commit.
const TAKE_BYTES: u64 = 1 << 20;

impl Drive<'_> {
    /// Takes over the items of others, and what they name beside the logs.
    ///
    /// # Errors
    /// [`Error::Integrity`] if some of it is damaged: nothing is taken then; those of committing.
    pub(super) fn take_logs(&self) -> Result<(), Error> {
        let drive = self.store.read()?;
        let items = |log: Log, author: &VerifyingKey, from: u64, to: u64| {
            let items = self.depot.items(&drive, log, author, from, to, TAKE_BYTES);
            items.map_err(|error| self.named(error))
        };
        let objects = |ask: &Ask| self.depot.object(&drive, ask).map_err(|error| self.named(error));
        let mut pour = self.inner.pour(self.heads_of_others()?, &items, &objects);
        pour.read_through()?;
        pour.logs()
    }

    /// Takes over the packs that are to come here and that the drive has.
    ///
    /// # Errors
    /// [`Error::Full`] if there is no room for them here; those of reading and committing.
    pub(super) fn take_packs(&self, observer: &dyn Observer) -> Result<(), Error> {
        let drive = self.store.read()?;
        let items = |log: Log, author: &VerifyingKey, from: u64, to: u64| {
            let items = self.depot.items(&drive, log, author, from, to, TAKE_BYTES);
            items.map_err(|error| self.named(error))
        };
        let objects = |ask: &Ask| self.depot.object(&drive, ask).map_err(|error| self.named(error));
        let mut there = BTreeSet::new();
        let mut wanted = self.inner.pour(self.heads_of_others()?, &items, &objects).packs()?;
        for (hash, len) in &wanted {
            let row = index::pack(&drive, hash).map_err(|error| self.named(error.into()))?;
            if row.is_some_and(|row| row.len == *len && matches!(row.state, PackState::Present { .. })) {
                there.insert(*hash);
            }
        }
        wanted.retain(|(hash, _)| there.contains(hash));
        if observer.is_stopped() {
            return Ok(());
        }
        let total: u64 = wanted.iter().map(|(_, len)| u64::from(*len)).sum();
        let read = |hash: &PackHash, len: u32| -> Result<Option<Vec<u8>>, Error> {
            // Damaged there, it may be whole elsewhere.
            let pack = self.store.packs().open(hash, len).and_then(|pack| pack.read_whole());
            Ok(pack.ok().filter(|pack| blake3::hash(pack).as_bytes() == hash.as_bytes()))
        };
        let mut done = 0;
        self.inner.pour_packs(wanted, &read, &mut |bytes| {
            done += bytes;
            observer.progress(Progress { bytes: done, bytes_total: Some(total), ..Progress::default() });
            !observer.is_stopped()
        })
    }

    /// The newest items there of all but this device whom a log of the person brings in, that one there or the one here.
    fn heads_of_others(&self) -> Result<Vec<(Log, Vec<Head>)>, Error> {
        let (own, mut all) = (self.inner.keys().device_id(), self.heads()?);
        let there = self.depot.roster(&self.store.read()?).map_err(|error| self.named(error))?;
        let here = self.inner.store()?.read()?;
        let keys = self.inner.keys();
        let here = Roster::read(keys.person, &person_log(&here, &keys.person)?);
        let is_known =
            |author: &VerifyingKey| there.brought_in.contains(author) || here.brought_in.contains(author);
        all.iter_mut()
            .for_each(|(_, heads)| heads.retain(|head| head.author != own && is_known(&head.author)));
        Ok(all)
    }
}
