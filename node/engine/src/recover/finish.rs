//! The moment at which a recovery becomes one: the root brings in this device and ends the others, new keys begin.

use std::ops::ControlFlow;

use locker_catalog::operation::Body;
use locker_catalog::roster::Roster;
use locker_catalog::space::Space;
use locker_crypto::Refusal;
use locker_crypto::entry::Envelope;
use locker_crypto::id::{ObjectHash, VerifyingKey};
use locker_crypto::identity::Root;
use locker_crypto::person::{Author, Recovery, Removal};
use locker_crypto::secret::RendezvousMaster;
use locker_store::index::{self, PackState};
use locker_store::{Reads, keyring, settings};

use super::UNFINISHED;
use crate::Error;
use crate::keys::person_log;
use crate::locker::Inner;
use crate::person_keys::usable_boxes;
use crate::rotate::{next_keys, person_frontier};

impl Inner {
    /// Whether the home space is here, as far as it takes to write in it.
    pub(super) fn has_home(&self) -> Result<bool, Error> {
        Ok(self.keys().dedup.get().is_some())
    }

    /// Bytes of packs that are here, and of all that are here or to come.
    pub(super) fn pack_bytes(&self) -> Result<(u64, u64), Error> {
        let (mut here, mut all) = (0, 0);
        index::scan_packs(&self.store()?.read()?, &mut |_, pack| {
            let len = u64::from(pack.len);
            match pack.state {
                PackState::Present { .. } => (here, all) = (here + len, all + len),
                PackState::Wanted | PackState::Lost => all += len,
                PackState::Away | PackState::Released | PackState::Deleting => {}
            }
            ControlFlow::Continue(())
        })?;
        Ok((here, all))
    }

    /// Makes this home a device: in one durable commit the root brings it in and, unless they are kept, ends the others;
    /// the keys that follow are begun. Gives the names of what the log names of them, which are to be handed on with it.
    ///
    /// # Errors
    /// [`Error::Refused`] if the log does not take it; [`Error::Integrity`].
    pub(super) fn become_device(
        &self,
        root: &Root,
        name: &str,
        keeps_devices: bool,
    ) -> Result<Vec<ObjectHash>, Error> {
        let named = self.commit(|change| {
            let keys = self.keys();
            let entries = person_log(change.txn(), &keys.person)?;
            let roster = Roster::read(keys.person, &entries);
            if roster.root != root.verifying_key() {
                return Err(Error::Refused(Refusal::Rights));
            }
            let ended = if keeps_devices { Default::default() } else { roster.admitted() };
            let removals =
                ended.iter().map(|vk| Removal { device: *vk, frontier: person_frontier(&entries, vk) });
            let kept = roster.active.iter().copied().filter(|vk| !ended.contains(vk));
            let recipients = usable_boxes(change.txn(), &entries, kept)?;
            let next = next_keys(keys.person_keys()?, self.env());
            let generation = u32::try_from(roster.generation).ok().and_then(|g| g.checked_add(1));
            let generation = generation.ok_or(Error::Refused(Refusal::Limit))?;
            let recovery = Recovery { generation, name, removals: removals.collect(), keys: &next };
            let place = self.person_place(&entries)?;
            let author = Author { person: keys.person, device: &keys.device, place };
            let made = author
                .recover(root, recovery, &recipients, &mut **self.env().dice())
                .map_err(Error::Refused)?;
            let (_, roster) = change.append_person(entries, &made)?;
            if !roster.active.contains(&keys.device_id()) {
                return Err(Error::Refused(Refusal::Rights));
            }
            let master = root.rendezvous_master(generation);
            change.rotate(self, &next, Some((generation, &master)), &roster.removed)?;
            for g in 0..generation {
                // Replicas that have not heard of it are found under the slots that they were given: those of other words
                // stand in the home space.
                if keyring::get::<RendezvousMaster, _>(change.txn(), &g)?.is_none() {
                    keyring::put(change.txn(), &g, &root.rendezvous_master(g));
                }
            }
            settings::delete(change.txn(), UNFINISHED);
            Ok(made.objects.iter().map(|(name, _)| *name).collect())
        })?;
        self.reload_keys()?;
        Ok(named)
    }

    /// When another device signed something in the home space last, in unix milliseconds, and which.
    pub(super) fn newest_by_others(&self) -> Result<Option<(u64, VerifyingKey)>, Error> {
        let (store, keys) = (self.store()?, self.keys());
        let snapshot = store.read()?;
        let rows = snapshot.rows(keys.tag);
        let space = Space::open(&rows, keys.space, keys.device_id())?;
        let mut newest = None;
        for head in space.heads(&rows)?.into_iter().filter(|head| head.author != keys.device_id()) {
            space.sealed_from(&rows, &head.author, head.seq, &mut |sealed| {
                let opened = Envelope::parse(sealed).and_then(|envelope| {
                    let key =
                        keys.log_key(&snapshot, &envelope.header().epoch).map_err(|_| Refusal::Epoch)?;
                    Body::read(envelope.open(Some(&key))?)
                });
                if let Ok(body) = opened {
                    newest = newest.max(Some((body.hlc >> 16, head.author)));
                }
                ControlFlow::Break(())
            })?;
        }
        Ok(newest)
    }
}
