//! Secrets that come with the logs: the person's key in use by its box, epochs by their bundles, dedup secrets and
//! rendezvous masters by the home space (`docs/spec/02-identity.md`, "Removal"). Entries of an epoch that is not known yet
//! wait here in memory.

use std::collections::{BTreeMap, BTreeSet};

use locker_catalog::roster::Roster;
use locker_catalog::tree;
use locker_crypto::Refusal;
use locker_crypto::entry::Envelope;
use locker_crypto::epoch::Bundle;
use locker_crypto::id::{EpochId, NodeId, ObjectHash, SpaceTag};
use locker_crypto::identity::PersonKeys;
use locker_crypto::person;
use locker_crypto::secret::{DedupSecret, EpochSecret, PersonKey, RendezvousMaster};
use locker_store::keyring::{self, SpaceEpoch};
use locker_store::{Reads, WriteTxn, objects};
use locker_sync::message::v1::Ask;
use zeroize::Zeroizing;

use super::{Asker, Incoming, Taken};
use crate::Error;
use crate::keys::{Keys, person_log};
use crate::limits::{BUNDLES_PER_EPOCH_MAX, UNOPENED_BYTES_MAX};
use crate::locker::Inner;
use crate::person_keys::{BESIDE, in_use, open_beside, open_in_use, person_keys};
use crate::recover::GENERATIONS;

/// Entries of epochs whose secrets are still to come. What finds no room is pulled again later.
#[derive(Default)]
pub(crate) struct Unopened {
    entries: BTreeMap<EpochId, Vec<Vec<u8>>>,
    bytes: usize,
}

impl Unopened {
    fn keep(&mut self, epoch: EpochId, bytes: &[u8]) {
        if self.bytes + bytes.len() <= UNOPENED_BYTES_MAX {
            self.bytes += bytes.len();
            self.entries.entry(epoch).or_default().push(bytes.to_vec());
        }
    }

    fn take(&mut self, epoch: &EpochId) -> Vec<Vec<u8>> {
        let taken = self.entries.remove(epoch).unwrap_or_default();
        self.bytes -= taken.iter().map(Vec::len).sum::<usize>();
        taken
    }
}

impl Inner {
    /// Keeps an entry until the secret of its epoch is here.
    pub(super) fn keep_unopened(&self, epoch: EpochId, bytes: &[u8]) {
        self.unopened().keep(epoch, bytes);
    }

    /// Epochs of which entries wait.
    pub(crate) fn unknown_epochs(&self) -> Vec<EpochId> {
        self.unopened().entries.keys().copied().collect()
    }

    /// What entries that came wait for: other entries, and secrets of epochs.
    pub(crate) fn awaited(&self) -> usize {
        let entries = self.space().as_ref().map_or(0, |space| space.waiting().missing().len());
        entries + self.unknown_epochs().len()
    }

    /// Takes in an object beside the logs, and what it leads to: a person's key, the secret of an epoch, and the entries that
    /// waited for it. What nothing names is passed over: whoever is asked for boxes could send anything.
    ///
    /// # Errors
    /// What the store gives.
    pub(super) fn take_beside(&self, bytes: &[u8]) -> Result<Taken, Error> {
        let Ok(bundle) = Bundle::decode(bytes) else {
            let name = ObjectHash(*blake3::hash(bytes).as_bytes());
            if !self.missing_objects()?.contains(&Ask::Object(name)) {
                return Ok(Taken::default());
            }
            self.store()?.write(|txn| Ok::<_, Error>(objects::put(txn, bytes)))?;
            if bytes.len() == person::KEY_BOX_LEN {
                self.learn_person_key()?;
            }
            return self.take_opened();
        };
        let (tag, person) = (self.space_tag(), self.keys().person);
        let roster = Roster::read(person, &person_log(&self.store()?.read()?, &person)?);
        if bundle.space_tag() == tag && roster.brought_in.contains(&bundle.author()) {
            let epoch = bundle.epoch();
            self.store()?.write(|txn| {
                if objects::bundles(txn, &tag, &epoch)?.len() < BUNDLES_PER_EPOCH_MAX {
                    objects::put_bundle(txn, &tag, &epoch, bytes);
                }
                self.open_bundle(txn, &bundle).map(|_| ())
            })?;
        }
        self.take_opened()
    }

    /// Opens what can be opened of what is here already: a process may have ended between a log and its keys.
    ///
    /// # Errors
    /// What the store gives.
    pub(crate) fn learn_secrets(&self) -> Result<(), Error> {
        if self.depot().is_some() {
            return Ok(());
        }
        self.learn_person_key()?;
        let is_new = self.store()?.write(|txn| self.learn_home(txn))?;
        if is_new { self.reload_keys() } else { Ok(()) }
    }

    /// Learns the person's key in use from its box, and those before it, if the log names one that is not here; and keys that
    /// were started beside them.
    pub(super) fn learn_person_key(&self) -> Result<(), Error> {
        let keys = self.keys();
        let store = self.store()?;
        let (learnt, beside) = {
            let snapshot = store.read()?;
            let entries = person_log(&snapshot, &keys.person)?;
            let roster = Roster::read(keys.person, &entries);
            let heir = self.heir();
            let openers: Vec<_> =
                [Some(keys.device.box_keys()), heir.as_ref().map(|heir| heir.root().box_keys())]
                    .into_iter()
                    .flatten()
                    .collect();
            let object = |name: &ObjectHash| Ok(objects::get(&snapshot, name)?);
            let log = (&entries[..], &roster);
            let held = keys.person_keys()?;
            let name = |key: &PersonKey| key.box_keys().public().hash();
            let newest = name(held.newest());
            let learnt = match in_use(&entries, &roster).filter(|used| *used != newest) {
                None => None,
                Some(_) => match open_in_use(&keys.person, log, &openers, object)? {
                    Some((n, key)) => Some(person_keys(&entries, n, &key).map_err(Error::Refused)?),
                    None => None,
                },
            };
            let of_held = held.newest_first();
            let of_learnt = learnt.iter().flat_map(PersonKeys::newest_first);
            let names: BTreeSet<ObjectHash> = of_held.chain(of_learnt).map(name).collect();
            let mut beside = open_beside(&keys.person, log, &names, &openers, object)?;
            if let Some(learnt) = &learnt {
                // What was in use here, and is not what the others hold for it.
                let of_learnt: BTreeSet<ObjectHash> = learnt.newest_first().map(name).collect();
                let was_in_use = (0..=held.generation()).filter_map(|n| held.get(n));
                beside.extend(was_in_use.filter(|key| !of_learnt.contains(&name(key))).cloned());
            }
            (learnt, beside)
        };
        if learnt.is_none() && beside.is_empty() {
            return Ok(());
        }
        let missing = || Error::damaged("the keys of the person", Refusal::Key);
        store.write(|txn| {
            let held: Vec<u32> = keyring::all::<PersonKey, _>(txn)?.into_iter().map(|(n, _)| n).collect();
            if let Some(learnt) = &learnt {
                for n in held.iter().filter(|n| (learnt.generation() + 1..BESIDE).contains(*n)) {
                    keyring::delete::<PersonKey>(txn, n);
                }
                for n in 0..=learnt.generation() {
                    keyring::put(txn, &n, learnt.get(n).ok_or_else(missing)?);
                }
            }
            let next =
                held.into_iter().max().filter(|n| *n >= BESIDE).map_or(BESIDE, |n| n.saturating_add(1));
            for (n, key) in (next..).zip(&beside) {
                keyring::put(txn, &n, key);
            }
            Ok::<_, Error>(())
        })?;
        drop(store);
        self.reload_keys()?;
        let waiting = self.unknown_epochs();
        self.store()?.write(|txn| waiting.iter().try_for_each(|epoch| self.open_held(txn, epoch).map(|_| ())))
    }

    /// Learns the secret of the epoch of an entry, if a bundle that is here opens. Says whether it did.
    pub(super) fn open_epoch(&self, txn: &mut WriteTxn<'_>, entry: &[u8]) -> Result<bool, Error> {
        let epoch = Envelope::parse(entry).map_err(Error::Refused)?.header().epoch;
        self.open_held(txn, &epoch)
    }

    fn open_held(&self, txn: &mut WriteTxn<'_>, epoch: &EpochId) -> Result<bool, Error> {
        for bytes in bundles_of(txn, &self.space_tag(), epoch)? {
            if let Ok(bundle) = Bundle::decode(&bytes)
                && self.open_bundle(txn, &bundle)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Learns the secret of an epoch, if one of the person's keys opens it. Says whether it is known now.
    fn open_bundle(&self, txn: &mut WriteTxn<'_>, bundle: &Bundle) -> Result<bool, Error> {
        let keys = self.keys();
        let id = SpaceEpoch { space: keys.tag, epoch: bundle.epoch() };
        if keyring::get::<EpochSecret, _>(txn, &id)?.is_some() {
            return Ok(true);
        }
        for key in keys.person_keys()?.newest_first() {
            // Whoever sealed another secret in it cheats; another bundle may not.
            if let Ok(Some(secret)) = bundle.open(&keys.space, &key.box_keys()) {
                keyring::put(txn, &id, &secret);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes the entries that waited for epochs that are known now.
    fn take_opened(&self) -> Result<Taken, Error> {
        let mut items = Vec::new();
        for epoch in self.unknown_epochs() {
            let id = SpaceEpoch { space: self.space_tag(), epoch };
            if keyring::get::<EpochSecret, _>(&self.store()?.read()?, &id)?.is_some() {
                let log = self.entry_log();
                let waited = self.unopened().take(&epoch);
                items.extend(waited.into_iter().map(|bytes| Incoming {
                    ticket: 0,
                    log,
                    bytes,
                    from: Asker::Device,
                }));
            }
        }
        if items.is_empty() {
            return Ok(Taken::default());
        }
        let taken = self.take_items(items)?;
        // Nobody waits for an answer: the session had it when they were kept.
        Ok(Taken { fates: Vec::new(), ..taken })
    }

    /// Takes newer dedup secrets and rendezvous masters from the home space. Says whether there were any.
    pub(super) fn learn_home(&self, txn: &mut WriteTxn<'_>) -> Result<bool, Error> {
        let keys = self.keys();
        let mut is_new = false;
        let held = keyring::newest::<DedupSecret, _>(txn)?;
        // Of one number two may have been started at the same time: what the space names counts.
        let next = match &held {
            Some((m, _)) => Some(*m),
            None => first_dedup(txn, &keys)?,
        };
        if let Some(mut m) = next {
            // What does not open was sealed under a key that is still to come, or for others only: a later one may open.
            while let Some(sealed) = home_item(txn, &keys, &person::dedup_meta_key(m))? {
                if let Ok(secret) = person::open_dedup(keys.person_keys()?, m, &sealed)
                    && held.as_ref().is_none_or(|(n, held)| (*n, held) != (m, &secret))
                {
                    keyring::put(txn, &m, &secret);
                    is_new = true;
                }
                m = m.saturating_add(1);
            }
        }
        // No more than the person log tells of, so that nobody hides devices under slots of his own; those that are missing in
        // between too, under which replicas are found that were not reached for long.
        let roster = Roster::read(keys.person, &person_log(txn, &keys.person)?);
        let newest = u32::try_from(roster.generation).unwrap_or(u32::MAX);
        let held = keyring::all::<RendezvousMaster, _>(txn)?;
        for g in newest.saturating_sub(GENERATIONS)..=newest {
            if held.iter().any(|(known, _)| *known == g) {
                continue;
            }
            let Some(sealed) = home_item(txn, &keys, &person::master_meta_key(g))? else { continue };
            if let Ok(master) = person::open_meta(keys.person_keys()?, &person::master_meta_key(g), &sealed)
                && let Ok(master) = RendezvousMaster::from_slice(&Zeroizing::new(master))
            {
                keyring::put::<RendezvousMaster>(txn, &g, &master);
                is_new = true;
            }
        }
        Ok(is_new)
    }

    /// Reads the keys anew from what is committed.
    pub(crate) fn reload_keys(&self) -> Result<(), Error> {
        let store = self.store()?;
        // Who takes other keys for this device holds the space meanwhile.
        let _space = self.space();
        if let Some(keys) = Keys::load(&store.read()?)? {
            self.set_keys(keys);
        }
        Ok(())
    }
}

/// The box bundles of an epoch.
pub(super) fn bundles_of<R: Reads>(
    reads: &R,
    space: &SpaceTag,
    epoch: &EpochId,
) -> Result<Vec<Vec<u8>>, Error> {
    let mut found = Vec::new();
    for name in objects::bundles(reads, space, epoch)? {
        found.extend(objects::get(reads, &name)?);
    }
    Ok(found)
}

fn home_item<R: Reads>(reads: &R, keys: &Keys, item: &str) -> Result<Option<Vec<u8>>, Error> {
    Ok(tree::meta(&reads.rows(keys.tag), NodeId::ROOT, item)?)
}

/// The least generation of the dedup secret that is in the home space and opens: those before it may not be there.
fn first_dedup<R: Reads>(reads: &R, keys: &Keys) -> Result<Option<u32>, Error> {
    let metas = tree::metas(&reads.rows(keys.tag), NodeId::ROOT)?;
    let numbered: BTreeSet<u32> = metas
        .keys()
        .filter_map(|key| {
            let m: u32 = key.strip_prefix("d/")?.parse().ok()?;
            (person::dedup_meta_key(m) == *key).then_some(m)
        })
        .collect();
    Ok(numbered.first().copied())
}
