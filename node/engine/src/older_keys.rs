//! Older keys of the person under which devices still find one another, so that one that was off while the key was
//! changed comes back (`docs/spec/09-rendezvous.md`, "Older keys").
//!
//! Each is heard for a time after another one followed it, and for as long as an active device is not known to hold a
//! later one. A device that was removed is none of these: it keeps no key alive.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use locker_catalog::operation::Op;
use locker_catalog::rows::ReadRows;
use locker_catalog::space::Space;
use locker_crypto::Refusal;
use locker_crypto::encode::{Reader, Writer};
use locker_crypto::id::VerifyingKey;
use locker_crypto::identity::PersonKeys;
use locker_crypto::person;
use locker_store::settings::{self, Setting};
use locker_store::{Reads, Snapshot};

use crate::Error;
use crate::gc::note_today;
use crate::keys::{Keys, active};
use crate::limits::{OLDER_KEY_DAYS, OLDER_KEYS_MAX};
use crate::locker::Inner;

/// Setting: the newest generation that was seen in use, and those before it that are heard.
const SETTING: Setting = Setting::engine(11);
const VERSION: u64 = 1;
const DAY_S: u64 = 86_400;

/// A moment, as this device counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Unix seconds.
    at_s: u64,
    /// Days on which it ran so far.
    days: u32,
}

/// A generation that another one followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Older {
    generation: u32,
    /// When that was seen here.
    since: Moment,
}

impl Older {
    /// Whether its time is over: by the days of running, and by the clock. One that was behind when that was seen ends
    /// nothing early; one that was ahead then says nothing.
    fn is_over(&self, now: Moment) -> bool {
        let was_ahead = now.at_s < self.since.at_s;
        let by_clock = now.at_s >= self.since.at_s.saturating_add(u64::from(OLDER_KEY_DAYS) * DAY_S);
        now.days >= self.since.days.saturating_add(OLDER_KEY_DAYS) && (by_clock || was_ahead)
    }
}

/// Which older generations of the person's keys are heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OlderKeys {
    /// The newest one that was seen in use.
    newest: u32,
    /// Of those before it, ascending.
    heard: Vec<Older>,
}

impl OlderKeys {
    /// What is noted. A home that has noted nothing has seen no change yet: it joined, was recovered, or is of a former
    /// version.
    ///
    /// # Errors
    /// [`Error::Integrity`] if it is damaged; what reading gives.
    pub(crate) fn read<R: Reads>(reads: &R) -> Result<Self, Error> {
        let Some(bytes) = settings::get(reads, SETTING)? else { return Ok(Self::default()) };
        decode(&bytes).map_err(|why| Error::damaged("what is noted of older keys", why))
    }

    /// The same once the generation in use is seen, at a moment: all that it follows are heard from then on.
    ///
    /// It can be one less than before, where a key that was started elsewhere at the same time took the place of what
    /// was in use here.
    pub(crate) fn follow(mut self, newest: u32, now: Moment) -> Self {
        self.heard.retain(|older| older.generation < newest);
        let first = self.newest.max(newest.saturating_sub(OLDER_KEYS_MAX));
        self.heard.extend((first..newest).map(|generation| Older { generation, since: now }));
        let excess = self.heard.len().saturating_sub(OLDER_KEYS_MAX as usize);
        self.heard.drain(..excess);
        self.newest = newest;
        self
    }

    /// The same without those whose time is over and that nobody needs any more: every other active device is known to
    /// hold `least`, or a later one.
    fn let_go(mut self, least: u32, now: Moment) -> Self {
        self.heard.retain(|older| older.generation >= least || !older.is_over(now));
        self
    }

    /// The generations that are heard, the newest first.
    pub(crate) fn generations(&self) -> impl Iterator<Item = u32> + '_ {
        self.heard.iter().rev().map(|older| older.generation)
    }

    fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(3).u64(VERSION).u64(self.newest.into()).array(self.heard.len());
        for Older { generation, since } in &self.heard {
            w.array(3).u64((*generation).into()).u64(since.at_s).u64(since.days.into());
        }
        w.finish()
    }
}

fn decode(bytes: &[u8]) -> Result<OlderKeys, Refusal> {
    let mut r = Reader::new(bytes);
    r.array_of(3)?;
    if r.u64()? != VERSION {
        return Err(Refusal::Version);
    }
    let (newest, mut heard) = (r.u32()?, Vec::<Older>::new());
    for _ in 0..r.array()? {
        r.array_of(3)?;
        let (generation, since) = (r.u32()?, Moment { at_s: r.u64()?, days: r.u32()? });
        if generation >= newest || heard.last().is_some_and(|last| last.generation >= generation) {
            return Err(Refusal::Canon);
        }
        heard.push(Older { generation, since });
    }
    r.finish()?;
    Ok(OlderKeys { newest, heard })
}

impl Inner {
    /// Notes a change of the person's key that was seen since this was called last, and lets go of older ones that need
    /// be heard no longer.
    ///
    /// # Errors
    /// What the store gives.
    pub(crate) fn tend_older_keys(&self) -> Result<(), Error> {
        // The first key follows none, a device that stores holds none, and who recovers by the phrase is found by
        // nobody.
        let keys = self.keys();
        let has_older = keys.person_keys().is_ok_and(|keys| keys.generation() > 0);
        if !has_older || self.heir().is_some() {
            return Ok(());
        }
        let days = note_today(&*self.store()?, self.env())?;
        self.tend_older_keys_at(Moment { at_s: self.env().now_ms() / 1_000, days })
    }

    fn tend_older_keys_at(&self, now: Moment) -> Result<(), Error> {
        let keys = self.keys();
        let newest = keys.person_keys()?.generation();
        let store = self.store()?;
        let tended = {
            let snapshot = store.read()?;
            let noted = OlderKeys::read(&snapshot)?;
            let mut tended = noted.clone().follow(newest, now);
            if tended.heard.iter().any(|older| older.is_over(now)) {
                tended = tended.let_go(self.least_held(&snapshot, &keys)?, now);
            }
            Some(tended).filter(|tended| *tended != noted)
        };
        let Some(tended) = tended else { return Ok(()) };
        store.write(|txn| {
            settings::put(txn, SETTING, &tended.encode());
            Ok::<_, Error>(())
        })?;
        drop(store);
        self.reload_keys()
    }

    /// The generation that every other active device holds at least, as far as is known here: the one in use if there
    /// is none.
    ///
    /// A device holds a key, or a later one, if it has an entry that begins an epoch for that key, which it could not
    /// open else. It has what it said itself that it has, and what the last entry that is held of it knew of.
    fn least_held(&self, snapshot: &Snapshot, keys: &Keys) -> Result<u32, Error> {
        let person_keys = keys.person_keys()?;
        let rows = snapshot.rows(keys.tag);
        let space = Space::open(&rows, keys.space, keys.device_id())?;
        let beginnings = beginnings(&rows, &space, person_keys)?;
        let said = self.entries_had(snapshot)?;
        let mut least = person_keys.generation();
        for device in active(snapshot, &keys.person)?.into_iter().filter(|vk| *vk != keys.device_id()) {
            let mut held = 0;
            for Beginning { generation, author, seq } in &beginnings {
                if said.get(&(device, *author)).is_some_and(|count| count > seq)
                    || space.had(&rows, &device, (author, *seq))?
                {
                    held = held.max(*generation);
                }
            }
            least = least.min(held);
        }
        Ok(least)
    }
}

/// An entry of the home space that begins an epoch for those who hold a key of the person.
struct Beginning {
    /// The generation of that key.
    generation: u32,
    author: VerifyingKey,
    seq: u64,
}

/// Where epochs begin for generations of the person's keys. With each stands what is sealed under its key (02, section
/// 3.3), which tells the generation.
fn beginnings(rows: &dyn ReadRows, space: &Space, keys: &PersonKeys) -> Result<Vec<Beginning>, Error> {
    let forked: BTreeMap<VerifyingKey, u64> = space.forked().collect();
    let mut found = Vec::new();
    for standing in space.standing_ops(rows)? {
        let begins = standing.at.entry;
        // Of an author with two entries of one number nobody is known to have this one.
        let is_one = forked.get(&begins.author).is_none_or(|first| begins.seq < *first);
        if !matches!(standing.op, Op::Epoch(_)) || standing.verdict.is_err() || !is_one {
            continue;
        }
        space.ops_from(rows, Some(begins), &mut |at, op, _| {
            if at.entry != begins {
                return ControlFlow::Break(());
            }
            if let Op::Meta(meta) = op
                && let Some(generation) = person::meta_generation(keys, &meta.key, &meta.value)
            {
                found.push(Beginning { generation, author: begins.author, seq: begins.seq });
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
