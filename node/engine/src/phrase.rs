//! New words in the place of the old ones (`docs/spec/02-identity.md`, "A new phrase").

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use locker_catalog::operation::{Meta, Op};
use locker_catalog::roster::Roster;
use locker_crypto::Refusal;
use locker_crypto::id::NodeId;
use locker_crypto::identity::Root;
use locker_crypto::person::{self, Author, Entry};
use locker_crypto::phrase::Phrase;
use locker_crypto::secret::RendezvousMaster;
use locker_store::{Reads, StoreError, keyring};

use crate::Error;
use crate::keys::person_log;
use crate::locker::Inner;
use crate::node::Hub;
use crate::person_keys::{refuse_unless_newest, root_box, usable_boxes};
use crate::rebirth::Doubt;
use crate::recover::{GENERATIONS, read_phrase};
use crate::report::{Created, Secret};
use crate::rotate::next_keys;

/// How long replicas may take to be reached and told.
const TELL_TIME: Duration = Duration::from_secs(10);
/// How often it is looked whether they were.
const LOOK: Duration = Duration::from_millis(200);

/// Draws 24 new words for who shows the old ones. They are nobody's until they take the place of those.
///
/// # Errors
/// [`Error::Phrase`] for what are no words; [`Error::PhraseRefused`] for others; and what would stand in the way of
/// changing them: [`Error::Network`] on a device that has not heard from the others yet, [`Error::Restored`],
/// [`Error::Limit`], [`Error::ReadOnly`].
pub(crate) fn draft(inner: &Inner, old: &Secret) -> Result<Created, Error> {
    let root = read_phrase(old)?;
    let keys = inner.keys();
    {
        let store = inner.store()?;
        ready(inner, &store.read()?, &root)?;
        if store.is_read_only() {
            return Err(StoreError::ReadOnly.into());
        }
    }
    keys.dedup()?;
    let phrase = Phrase::generate(&mut **inner.env().dice());
    let device_id = keys.device_id().to_string();
    let own = crate::status::devices(inner)?.into_iter().find(|device| device.id == device_id);
    Ok(Created {
        phrase: Secret::new(phrase.expose().to_owned()),
        person_id: keys.person.to_string(),
        device_id,
        name: own.map(|device| device.name).unwrap_or_default(),
    })
}

/// The root keys of the words, if they are those of this locker now.
///
/// # Errors
/// [`Error::Phrase`] for what are no words; [`Error::PhraseRefused`] for others; what reading gives.
pub(crate) fn check(inner: &Inner, words: &Secret) -> Result<Root, Error> {
    let root = read_phrase(words)?;
    let person = inner.keys().person;
    let roster = Roster::read(person, &person_log(&inner.store()?.read()?, &person)?);
    if roster.root == root.verifying_key() { Ok(root) } else { Err(other_words()) }
}

pub(crate) fn other_words() -> Error {
    Error::PhraseRefused(
        "these are not the words of this locker, or others have taken their place already".into(),
    )
}

/// The entries of the log of the person, what they come to, and the next generation of slots, if nothing stands in the
/// way of changing the words.
///
/// # Errors
/// As [`draft`]; what reading gives.
fn ready<R: Reads>(inner: &Inner, reads: &R, old: &Root) -> Result<(Vec<Entry>, Roster, u32), Error> {
    let keys = inner.keys();
    let entries = person_log(reads, &keys.person)?;
    let roster = Roster::read(keys.person, &entries);
    if roster.root != old.verifying_key() {
        return Err(other_words());
    }
    Doubt::refuse(reads)?;
    refuse_unless_newest(&keys, &entries, &roster)?;
    let generation = u32::try_from(roster.generation).ok().and_then(|g| g.checked_add(1));
    // Beyond, who recovers would not look.
    let generation = generation.filter(|g| *g < GENERATIONS).ok_or_else(|| {
        Error::Limit("the words of a locker can be changed, and it be recovered, 15 times together".into())
    })?;
    // What else is read and dated on the way. The box of the new root is made there; the present one's is not needed.
    inner.person_place(&entries)?;
    usable_boxes(reads, &entries, roster.active.iter().copied())?;
    keyring::all::<RendezvousMaster, _>(reads)?;
    Ok((entries, roster, generation))
}

/// Puts new words in the place of the old ones, in one durable commit: the new root, a key of the person that the old words
/// open nothing of, with all that begins with it, and the next generation of slots.
///
/// # Errors
/// As [`draft`]; else as any change.
pub(crate) fn change(inner: &Inner, old: &Secret, new: &Secret) -> Result<(), Error> {
    let (old, new) = (check(inner, old)?, read_phrase(new)?);
    inner.commit(|change| {
        let keys = inner.keys();
        let (entries, _, generation) = ready(inner, change.txn(), &old)?;
        let author = |place| Author { person: keys.person, device: &keys.device, place };

        let place = inner.person_place(&entries)?;
        let dice = || inner.env().dice();
        let made = author(place).set_root(&old, &new, generation, keys.person_keys()?, &mut **dice());
        let (entries, roster) = change.append_person(entries, &made)?;
        if roster.root != new.verifying_key() {
            return Err(Error::Refused(Refusal::Rights));
        }
        // The key so far is in a box that the old words open.
        let next = next_keys(keys.person_keys()?, inner.env());
        let mut recipients = usable_boxes(change.txn(), &entries, roster.active.iter().copied())?;
        recipients.push(root_box(change.txn(), &entries, &roster)?);
        let place = inner.person_place(&entries)?;
        let made = author(place).renew_key(&next, &recipients, &mut **dice()).map_err(Error::Refused)?;
        let (_, roster) = change.append_person(entries, &made)?;

        let before = keyring::all::<RendezvousMaster, _>(change.txn())?;
        change.rotate(
            inner,
            &next,
            Some((generation, &new.rendezvous_master(generation))),
            &roster.removed,
        )?;
        // The new words give none of the slots before: who recovers by them finds there those that have not heard of it.
        for (g, master) in &before {
            let key = person::master_meta_key(*g);
            let value = person::seal_meta(next.newest(), &key, master.expose(), &mut **dice());
            change.push(Op::Meta(Meta { node: NodeId::ROOT, key, value }))?;
        }
        Ok(())
    })?;
    // It stands. If the keys cannot be read now, the next start does.
    let _ = inner.reload_keys();
    Ok(())
}

/// The names of the replicas that are not found by the present words: they were not reached since those were changed, or since
/// a recovery.
///
/// # Errors
/// What reading gives.
pub(crate) fn behind(inner: &Inner) -> Result<BTreeSet<String>, Error> {
    let snapshot = inner.store()?.read()?;
    let (told, generation) = (inner.told_replicas(&snapshot)?, inner.words_generation(&snapshot)?);
    Ok(told.into_iter().filter(|told| told.is_behind(generation)).map(|told| told.replica.name).collect())
}

/// Waits until the replicas that are reached have taken their new slots, ten seconds at most.
///
/// # Errors
/// [`Error::Network`] if the node stops.
pub(crate) fn tell(hub: &Arc<Hub>) -> Result<(), Error> {
    let deadline = Instant::now() + TELL_TIME;
    hub.wait_for(async {
        while Instant::now() < deadline && hub.blocking(behind).await.is_ok_and(|names| !names.is_empty()) {
            hub.gathers(LOOK).await;
        }
    })
}

#[cfg(test)]
mod tests;
