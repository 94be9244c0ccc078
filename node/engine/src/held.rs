//! `held`: what another device took away at once, and this one does not show as taken until somebody decides
//! (`docs/spec/05-tree.md`, "Brake").
//!
//! What is held is counted in the catalog. Here are the words for it, and the two decisions: to let it be so, or to bring
//! back what was there before.

mod undo;

use locker_catalog::brake::{Count, Hold};
use locker_catalog::operation::{Confirm, Decision, Op};
use locker_catalog::roster::Roster;
use locker_catalog::space::Space;
use locker_catalog::tree::{self as catalog, Shown};
use locker_crypto::id::VerifyingKey;
use locker_crypto::identity::Root;
use locker_crypto::sign::Domain;
use locker_store::{Reads, Snapshot};

use crate::Error;
use crate::locker::Inner;
use crate::report::{Decided, Held, HeldBy, Problem, Secret};
use crate::writer::Change;

/// What waits for a decision, here or on the other devices.
///
/// # Errors
/// What reading gives.
pub(crate) fn list(inner: &Inner) -> Result<Vec<Held>, Error> {
    let store = inner.store()?;
    told(inner, &store.read()?)
}

/// Lets what a device took away be so, here and on the others. With one hold, `device` need not be named. With the words,
/// that may be this device.
///
/// # Errors
/// [`Error::NoSuch`] if nothing of it is held; [`Error::Argument`] if several devices are meant; [`Error::OwnHold`] for
/// what this device took away itself, without the words; [`Error::Phrase`] for what are no words, [`Error::PhraseRefused`] for
/// others; what committing gives.
pub(crate) fn allow(inner: &Inner, device: Option<&str>, words: Option<&Secret>) -> Result<Decided, Error> {
    let root = words.map(|words| crate::phrase::check(inner, words)).transpose()?;
    match (choose(inner, device, root.is_some()), &root) {
        // What the others hold of this device is not always known here.
        (Err(Error::NoSuch(_)), Some(root)) if device.is_none() => allow_so_far(inner, root),
        (held, root) => allow_hold(inner, &held?, root.as_ref()),
    }
}

fn allow_hold(inner: &Inner, held: &Held, root: Option<&Root>) -> Result<Decided, Error> {
    let hold = inner.commit(|change| {
        let hold = still_held(change.look(|space, rows| space.held_back(rows))?, held)?;
        let allowed = confirm(&hold, Decision::Allow);
        // What an earlier key of this device took away is that of another device: this one decides by itself.
        let allowed = match root.filter(|_| hold.author == inner.keys().device_id()) {
            Some(root) => with_words(inner, change, root, allowed)?,
            None => allowed,
        };
        change.push(Op::Confirm(allowed))?;
        Ok(hold)
    })?;
    Ok(decided(held, &hold))
}

/// Allows all that this device took away up to now.
fn allow_so_far(inner: &Inner, root: &Root) -> Result<Decided, Error> {
    let own = inner.keys().device_id();
    let listed = crate::status::devices(inner)?.into_iter().find(|one| one.this);
    inner.commit(|change| {
        let (heads, _) = change.ends()?;
        let last_seq = heads.iter().find(|head| head.author == own).map_or(0, |head| head.seq);
        let all = Confirm { author: own, first_seq: 0, last_seq, decision: Decision::Allow, root_sig: None };
        let allowed = with_words(inner, change, root, all)?;
        change.push(Op::Confirm(allowed))
    })?;
    let name = listed.map_or_else(|| crate::keys::short_id(&own), |one| one.name);
    Ok(Decided { device: own.to_string(), name, files: 0 })
}

/// A decision about what this device took away, under the root key. The space hears which key that is: one that was opened by
/// an earlier version has not been told.
fn with_words(
    inner: &Inner,
    change: &mut Change<'_, '_>,
    root: &Root,
    allowed: Confirm,
) -> Result<Confirm, Error> {
    let keys = inner.keys();
    let roster = Roster::read(keys.person, &crate::keys::person_log(change.txn(), &keys.person)?);
    if roster.root != root.verifying_key() {
        return Err(crate::phrase::other_words());
    }
    change.note_root(roster.root)?;
    let signed = allowed.signed_bytes(&keys.space);
    Ok(Confirm { root_sig: Some(root.signing().sign(Domain::Confirm, &signed)), ..allowed })
}

/// Brings back what a device took away: writes what it takes for the tree to be as this device shows it.
///
/// # Errors
/// As [`allow`] without words.
pub(crate) fn undo(inner: &Inner, device: Option<&str>) -> Result<Decided, Error> {
    let held = choose(inner, device, false)?;
    // What is brought back must still be here when it is committed that it counts again.
    let _content = inner.turns().rely();
    let hold = inner.commit(|change| {
        let hold = still_held(change.look(|space, rows| space.held_back(rows))?, &held)?;
        undo::bring_back(inner, change, &hold)?;
        Ok(hold)
    })?;
    Ok(decided(&held, &hold))
}

/// Whether moving so many files to the trash now is more than the other devices let through, and which these are.
///
/// # Errors
/// What reading gives.
pub(crate) fn holders_of(inner: &Inner, path: &str) -> Result<Vec<String>, Error> {
    let files = crate::organise::count(inner, path)?;
    let store = inner.store()?;
    let snapshot = store.read()?;
    let (keys, rows) = (inner.keys(), snapshot.rows(inner.space_tag()));
    let space = Space::open(&rows, keys.space, keys.device_id())?;
    if !space.would_be_held(&rows, files, inner.env().now_ms())? {
        return Ok(Vec::new());
    }
    deciders(inner, &snapshot, &keys.device_id())
}

/// What is held, as problems of `status`, and as a sentence before the others.
pub(crate) fn problems(inner: &Inner, snapshot: &Snapshot) -> Result<(Vec<Problem>, Option<String>), Error> {
    let held = told(inner, snapshot)?;
    let problem = |held: &Held| Problem { code: "E_HELD".into(), message: held.sentence.clone() };
    let waits = held.iter().find(|held| !held.this);
    let sentence = waits.map(|held| format!("A decision is needed: {} See `locker held`.", held.sentence));
    Ok((held.iter().map(problem).collect(), sentence))
}

fn told(inner: &Inner, snapshot: &Snapshot) -> Result<Vec<Held>, Error> {
    let (keys, rows) = (inner.keys(), snapshot.rows(inner.space_tag()));
    let space = Space::open(&rows, keys.space, keys.device_id())?;
    let holds = space.held_back(&rows)?;
    if holds.is_empty() {
        return Ok(Vec::new());
    }
    let devices = crate::keys::devices(snapshot, &keys.person, keys.person_keys()?, keys.tag)?;
    let shown = catalog::counts(&Shown::choose(&rows, space.is_apart()))?.files;
    let mut told = Vec::new();
    for hold in holds {
        let confirm_on = deciders(inner, snapshot, &hold.author)?;
        // Nobody else is left who could hold what this device did.
        if hold.is_own && confirm_on.is_empty() {
            continue;
        }
        let listed = devices.iter().find(|device| device.id == hold.author);
        let name = listed.map_or_else(|| crate::keys::short_id(&hold.author), |device| device.name.clone());
        let before = if hold.is_own { shown + hold.losses.gone } else { shown };
        told.push(one(&hold, name, before, confirm_on));
    }
    Ok(told)
}

fn one(hold: &Hold, name: String, files: u64, confirm_on: Vec<String>) -> Held {
    let (removed, replaced) = (hold.losses.gone, hold.losses.replaced);
    let percent = (removed + replaced).saturating_mul(100) / files.max(1);
    let what = match (removed, replaced) {
        (removed, 0) => format!("remove {}", count(removed)),
        (0, replaced) => format!("replace the content of {}", count(replaced)),
        (removed, replaced) => format!("remove {} and replace the content of {replaced}", count(removed)),
    };
    let sentence = if hold.is_own {
        format!(
            "this device wants to {what} ({percent} %): the others hold it until that is decided on {}, or here with the 24 words.",
            confirm_on.join(" or ")
        )
    } else {
        format!("the device {name:?} wants to {what} ({percent} %): allow it, or bring them back.")
    };
    Held {
        device: hold.author.to_string(),
        name,
        this: hold.is_own,
        removed,
        replaced,
        files,
        since: hold.since_ms,
        by: match hold.count {
            Count::Clock => HeldBy::Clock,
            Count::Arrival => HeldBy::Arrival,
        },
        confirm_on,
        sentence,
    }
}

fn count(files: u64) -> String {
    if files == 1 { "1 file".into() } else { format!("{files} files") }
}

/// The names of the devices that can decide about what one wrote.
fn deciders(inner: &Inner, snapshot: &Snapshot, author: &VerifyingKey) -> Result<Vec<String>, Error> {
    let keys = inner.keys();
    let active = crate::keys::active(snapshot, &keys.person)?;
    let devices = crate::keys::devices(snapshot, &keys.person, keys.person_keys()?, keys.tag)?;
    let others = devices.into_iter().filter(|one| one.id != *author && active.contains(&one.id));
    Ok(others.map(|one| one.name).collect())
}

/// The hold that is meant: without a name, of another device, or with the words of this one, if there is such a hold.
fn choose(inner: &Inner, device: Option<&str>, has_words: bool) -> Result<Held, Error> {
    let mut held = list(inner)?;
    let nothing = || Error::NoSuch("nothing is held that a decision here could end".into());
    if let Some(device) = device {
        held.retain(|one| one.device.starts_with(device) || one.name == device);
    } else if has_words || held.iter().any(|one| !one.this) {
        // The words are for this device, and nobody else's deed is allowed by the way.
        held.retain(|one| one.this == has_words);
    }
    let first = held.pop().ok_or_else(nothing)?;
    if !held.is_empty() {
        return Err(Error::Argument(
            "several devices took something away: name one, as `locker held` shows it".into(),
        ));
    }
    // Under another key than this device has now, it is as if another one had done it.
    let is_own = first.device == inner.keys().device_id().to_string();
    if is_own && !has_words { Err(Error::OwnHold(first.confirm_on)) } else { Ok(first) }
}

fn still_held(holds: Vec<Hold>, held: &Held) -> Result<Hold, Error> {
    let mut holds = holds.into_iter();
    holds
        .find(|hold| hold.author.to_string() == held.device)
        .ok_or_else(|| Error::NoSuch("it was decided meanwhile".into()))
}

fn decided(held: &Held, hold: &Hold) -> Decided {
    Decided {
        device: held.device.clone(),
        name: held.name.clone(),
        files: hold.losses.gone + hold.losses.replaced,
    }
}

fn confirm(hold: &Hold, decision: Decision) -> Confirm {
    let Hold { author, first_seq, last_seq, .. } = *hold;
    Confirm { author, first_seq, last_seq, decision, root_sig: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_mesh::{World, id, pass};

    /// T84: words given without a name are for this device alone: what another one took away is not allowed by the way, and all
    /// that this one did is, though nothing is known here to be held.
    #[test]
    fn t84_the_words_are_for_this_device_and_no_other() {
        let (world, first) = World::new();
        let second = world.join(&first, "second");
        for n in 0..30 {
            world.add(&first, &format!("{n}.txt"));
        }
        pass(&first, &second);
        for n in 0..30 {
            first.remove(&format!("{n}.txt")).unwrap();
        }
        pass(&first, &second);
        assert_eq!(second.held().unwrap().len(), 1);
        let (stranger, _) = World::new();
        assert!(matches!(second.allow_held(None, Some(&stranger.phrase)), Err(Error::PhraseRefused(_))));
        let allowed = second.allow_held(None, Some(&world.phrase)).unwrap();
        assert_eq!((&allowed.device, allowed.files), (&id(&second), 0));
        let held = second.held().unwrap();
        assert_eq!((held.len(), &held[0].device), (1, &id(&first)), "another device's deed was allowed");
        // Named, it is.
        assert_eq!(second.allow_held(Some(&id(&first)), Some(&world.phrase)).unwrap().files, 30);
        assert!(second.held().unwrap().is_empty());
    }
}
