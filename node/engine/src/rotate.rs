//! What follows when devices end: a new key of the person, a new dedup secret and a new epoch, and the end of their entries in
//! the home space (`docs/spec/02-identity.md`, "Removal").

use std::collections::BTreeMap;

use locker_catalog::operation::{EntryRef, Meta, Op};
use locker_catalog::roster::Roster;
use locker_crypto::id::{EntryId, NodeId, VerifyingKey};
use locker_crypto::identity::PersonKeys;
use locker_crypto::person::{self, Author, Entry, Frontier};
use locker_crypto::secret::{DedupSecret, PersonKey, RendezvousMaster};
use locker_store::keyring;

use crate::keys::{not_heard_yet, person_log};
use crate::locker::Inner;
use crate::person_keys::{reach, refuse_unless_newest, root_box, usable_boxes};
use crate::rebirth::Doubt;
use crate::writer::Change;
use crate::{Env, Error};

/// The person's keys with a new one at their end.
pub(crate) fn next_keys(keys: &PersonKeys, env: &Env) -> PersonKeys {
    let mut next = keys.clone();
    next.push(PersonKey::random(&mut **env.dice()));
    next
}

/// How far a device is believed in the person log: all that is here of it.
pub(crate) fn person_frontier(entries: &[Entry], device: &VerifyingKey) -> Frontier {
    let own = entries.iter().filter(|entry| entry.author == *device);
    let last = own.max_by_key(|entry| (entry.seq, entry.id));
    last.map_or(Frontier::NONE, |last| Frontier { seq: last.seq, entry: last.id })
}

/// Whether the key in use is one that others have than it is for.
///
/// # Errors
/// What the store gives.
pub(crate) fn is_due(inner: &Inner) -> Result<bool, Error> {
    let person = inner.keys().person;
    let entries = person_log(&inner.store()?.read()?, &person)?;
    let roster = Roster::read(person, &entries);
    Ok(roster.active.contains(&inner.keys().device_id()) && reach(&person, &entries, &roster).is_overdue())
}

/// Starts a new key of the person, for exactly the devices that are there, as far as their keys are here, if the one in use is another's too
/// ([`reach`]). One durable commit. Says whether it did.
///
/// # Errors
/// [`Error::Network`] if the key in use, or that of a device, has not come yet; else as any change.
pub(crate) fn renew(inner: &Inner) -> Result<bool, Error> {
    let is_new = inner.commit(|change| {
        let keys = inner.keys();
        Doubt::refuse(change.txn())?;
        let entries = person_log(change.txn(), &keys.person)?;
        let roster = Roster::read(keys.person, &entries);
        let reach = reach(&keys.person, &entries, &roster);
        if !reach.is_overdue() || !roster.active.contains(&keys.device_id()) {
            return Ok(false);
        }
        refuse_unless_newest(&keys, &entries, &roster)?;
        let next = next_keys(keys.person_keys()?, inner.env());
        let mut recipients = usable_boxes(change.txn(), &entries, roster.active.iter().copied())?;
        if !reach.is_helped_by(recipients.len(), roster.active.len()) {
            return Err(not_heard_yet());
        }
        recipients.push(root_box(change.txn(), &entries, &roster)?);
        let place = inner.person_place(&entries)?;
        let author = Author { person: keys.person, device: &keys.device, place };
        let made = author.renew_key(&next, &recipients, &mut **inner.env().dice()).map_err(Error::Refused)?;
        let (_, roster) = change.append_person(entries, &made)?;
        change.rotate(inner, &next, None, &roster.removed)?;
        Ok(true)
    })?;
    if is_new {
        inner.reload_keys()?;
    }
    Ok(is_new)
}

impl Change<'_, '_> {
    /// Takes the new key of the person, of which the person log has been told in this change, and begins all that it is for:
    /// an epoch, a dedup secret, and, if they are new too, the rendezvous slots. Ends `removed` where they are now.
    pub(crate) fn rotate(
        &mut self,
        inner: &Inner,
        keys: &PersonKeys,
        master: Option<(u32, &RendezvousMaster)>,
        removed: &BTreeMap<VerifyingKey, u64>,
    ) -> Result<(), Error> {
        let (key, env) = (keys.newest(), inner.env());
        keyring::put(self.txn(), &keys.generation(), key);
        let held = keyring::newest::<DedupSecret, _>(self.txn())?;
        let m = held.map(|(m, _)| m.saturating_add(1)).ok_or_else(not_heard_yet)?;
        let dedup = DedupSecret::random(&mut **env.dice());
        keyring::put(self.txn(), &m, &dedup);
        self.begin_epoch(key)?;
        let value = person::seal_dedup(key, m, &dedup, &mut **env.dice());
        self.push(Op::Meta(Meta { node: NodeId::ROOT, key: person::dedup_meta_key(m), value }))?;
        if let Some((g, master)) = master {
            keyring::put(self.txn(), &g, master);
            let meta = person::master_meta_key(g);
            let value = person::seal_meta(key, &meta, master.expose(), &mut **env.dice());
            self.push(Op::Meta(Meta { node: NodeId::ROOT, key: meta, value }))?;
        }
        self.end_authors(removed)
    }

    /// Ends authors in the home space where they are now, unless they ended there or later already.
    fn end_authors(&mut self, removed: &BTreeMap<VerifyingKey, u64>) -> Result<(), Error> {
        let (heads, ended) = self.ends()?;
        for author in removed.keys() {
            let none = EntryRef { author: *author, seq: 0, id: EntryId::ZERO };
            let last = heads.iter().find(|head| head.author == *author).copied().unwrap_or(none);
            let count = if last.id == EntryId::ZERO { 0 } else { last.seq.saturating_add(1) };
            if ended.get(author).is_none_or(|ended| *ended < count) {
                self.push(Op::RemoveAuthor(last))?;
            }
        }
        Ok(())
    }
}
