//! What shows that another home has, or had, the key of this device: an item signed with it that is not here. It is
//! written down before anything else happens, and from then on nothing is signed with that key. Or that the key wrote
//! ahead of time: then it goes on until there is a new one.

use std::collections::BTreeSet;

use locker_catalog::operation::EntryRef;
use locker_catalog::space::Space;
use locker_crypto::Refusal;
use locker_crypto::encode::{Reader, Writer};
use locker_crypto::id::{EntryId, VerifyingKey};
use locker_crypto::pin::PinDelta;
use locker_store::pins::{self, PinScope};
use locker_store::settings::{self, Setting};
use locker_store::{Reads, WriteTxn};
use locker_sync::frontier::Log;
use locker_sync::message::v1::{Head, LogKind};

use super::succession::next_keys;
use crate::Error;
use crate::keys::person_log;
use crate::locker::Inner;

/// Setting: why this device writes nothing.
const DOUBT: Setting = Setting::engine(3);
const VERSION: u64 = 1;

/// What showed that the key is not this home's alone, or why this home needs another one all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// Others hold more of this device than it does itself: the home is an older copy.
    Behind,
    /// Others hold something else under a number that this device has used too: two homes wrote.
    Differs,
    /// The other home has found out, and has another key by now.
    Replaced,
    /// The last entry lies ahead of the clock and of those of others ([`super::ahead`]).
    Ahead,
}

impl Sign {
    pub(super) const fn code(self) -> u64 {
        match self {
            Self::Behind => 1,
            Self::Differs => 2,
            Self::Replaced => 3,
            Self::Ahead => 4,
        }
    }

    pub(super) const fn from_code(code: u64) -> Result<Self, Refusal> {
        match code {
            1 => Ok(Self::Behind),
            2 => Ok(Self::Differs),
            3 => Ok(Self::Replaced),
            4 => Ok(Self::Ahead),
            _ => Err(Refusal::Canon),
        }
    }

    /// Whether nothing may be signed any more. What is written ahead of time is written again, whoever waits for it.
    pub(crate) const fn stops(self) -> bool {
        !matches!(self, Self::Ahead)
    }
}

/// Why this device writes nothing, or needs another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Doubt {
    /// What showed it first.
    pub(crate) sign: Sign,
    /// When, unix milliseconds.
    pub(crate) since_ms: u64,
}

impl Doubt {
    /// Reads why this device needs another key; `None` if it does not.
    ///
    /// # Errors
    /// [`Error::Integrity`] if the setting is damaged.
    pub(crate) fn read<R: Reads>(reads: &R) -> Result<Option<Self>, Error> {
        let Some(bytes) = settings::get(reads, DOUBT)? else { return Ok(None) };
        Self::decode(&bytes).map(Some).map_err(|why| Error::damaged("what is known of this device", why))
    }

    /// Whether nothing may be signed while there is doubt.
    ///
    /// # Errors
    /// As [`Doubt::read`].
    pub(crate) fn stops<R: Reads>(reads: &R) -> Result<bool, Error> {
        Ok(Self::read(reads)?.is_some_and(|doubt| doubt.sign.stops()))
    }

    /// Refuses what would be signed while there is doubt.
    ///
    /// # Errors
    /// [`Error::Restored`].
    pub(crate) fn refuse<R: Reads>(reads: &R) -> Result<(), Error> {
        if Self::stops(reads)? { Err(Error::Restored) } else { Ok(()) }
    }

    /// Writes doubt down. What was found first stays; but that there is another home weighs more than the clock.
    pub(crate) fn note(txn: &mut WriteTxn<'_>, sign: Sign, now_ms: u64) -> Result<(), Error> {
        let is_first = match Self::read(txn)? {
            None => true,
            Some(before) => !before.sign.stops() && sign.stops(),
        };
        if is_first {
            settings::put(txn, DOUBT, &Self { sign, since_ms: now_ms }.encode());
        }
        Ok(())
    }

    /// Writes down that the person log names others in place of this device. The key that this home asked for shows no
    /// other home, if it is known already why it asked.
    pub(crate) fn note_replaced(
        txn: &mut WriteTxn<'_>,
        by: &BTreeSet<VerifyingKey>,
        now_ms: u64,
    ) -> Result<(), Error> {
        let next = next_keys(txn)?.map(|keys| keys.verifying_key());
        let is_asked = by.iter().all(|key| Some(*key) == next);
        if is_asked && Self::read(txn)?.is_some() {
            return Ok(());
        }
        Self::note(txn, Sign::Replaced, now_ms)
    }

    /// The device has a new key, or needs none any more.
    pub(super) fn end(txn: &mut WriteTxn<'_>) {
        settings::delete(txn, DOUBT);
    }

    fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(3).u64(VERSION).u64(self.sign.code()).u64(self.since_ms);
        w.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut r = Reader::new(bytes);
        r.array_of(3)?;
        if r.u64()? != VERSION {
            return Err(Refusal::Version);
        }
        let doubt = Self { sign: Sign::from_code(r.u64()?)?, since_ms: r.u64()? };
        r.finish()?;
        Ok(doubt)
    }
}

impl Inner {
    /// Refuses long work whose end would have to be signed, before it begins.
    ///
    /// # Errors
    /// [`Error::Restored`].
    pub(crate) fn may_sign(&self) -> Result<(), Error> {
        Doubt::refuse(&self.store()?.read()?)
    }

    /// Holds what another device shows of this one against what is here, and writes doubt down if it does not fit.
    pub(crate) fn check_own(&self, log: Log, shown: &Head) -> Result<(), Error> {
        let sign = {
            let store = self.store()?;
            let snapshot = store.read()?;
            self.sign_of(&snapshot, log, shown)?
        };
        match sign {
            Some(sign) => self.note_doubt(sign),
            None => Ok(()),
        }
    }

    /// Whether what another device shows of this one is not here.
    ///
    /// # Errors
    /// What reading gives.
    pub(crate) fn is_strange(&self, log: Log, shown: &Head) -> Result<bool, Error> {
        Ok(self.sign_of(&self.store()?.read()?, log, shown)?.is_some())
    }

    /// Writes doubt down, and wakes who waits for it.
    pub(crate) fn note_doubt(&self, sign: Sign) -> Result<(), Error> {
        let now_ms = self.env().now_ms();
        self.store()?.write(|txn| Doubt::note(txn, sign, now_ms))?;
        self.note_commit();
        Ok(())
    }

    /// Writes down that two entries of this device share a number, unless it signs nothing any more. Says whether it
    /// did.
    ///
    /// # Errors
    /// What reading and writing give.
    pub(crate) fn note_own_fork(&self) -> Result<bool, Error> {
        let is_new = !Doubt::stops(&self.store()?.read()?)?;
        if is_new {
            self.note_doubt(Sign::Differs)?;
        }
        Ok(is_new)
    }

    /// What an item of this device's own says of it that another device has; nothing if the item is here.
    pub(crate) fn sign_of<R: Reads>(&self, reads: &R, log: Log, item: &Head) -> Result<Option<Sign>, Error> {
        let keys = self.keys();
        let (is_here, newest) = match log.kind {
            LogKind::Entries if log.tag == keys.tag => {
                let rows = reads.rows(keys.tag);
                let space = Space::open(&rows, keys.space, keys.device_id())?;
                let name = EntryRef { author: item.author, seq: item.seq, id: EntryId(item.id) };
                (space.holds(&rows, &name)?, space.own_head(&rows)?.map(|head| head.seq))
            }
            LogKind::Pins if log.tag == keys.tag => {
                let scope = PinScope { space: keys.tag, author: item.author };
                let is_here = match pins::delta(reads, &scope, item.seq)? {
                    Some(bytes) => {
                        PinDelta::open(&bytes).map_err(|why| Error::damaged("a pin delta", why))?.1.0
                            == item.id
                    }
                    None => false,
                };
                (is_here, pins::newest(reads, &scope)?.map(|(seq, _)| seq))
            }
            LogKind::Person if log == self.person_log() => {
                let log = person_log(reads, &keys.person)?;
                let own = || log.iter().filter(|entry| entry.author == item.author);
                (own().any(|entry| entry.id.0 == item.id), own().map(|entry| entry.seq).max())
            }
            _ => return Ok(None),
        };
        let is_more = newest.is_none_or(|newest| newest < item.seq);
        Ok((!is_here).then_some(if is_more { Sign::Behind } else { Sign::Differs }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubt_is_read_as_it_was_written_and_in_no_other_form() {
        for sign in [Sign::Behind, Sign::Differs, Sign::Replaced, Sign::Ahead] {
            let doubt = Doubt { sign, since_ms: 1_800_000_000_000 };
            let bytes = doubt.encode();
            assert_eq!(Doubt::decode(&bytes).unwrap(), doubt);
            assert_eq!(Doubt::decode(&bytes[..bytes.len() - 1]).unwrap_err(), Refusal::Canon);
            assert_eq!(Doubt::decode(&[&bytes[..], &[0]].concat()).unwrap_err(), Refusal::Canon);
        }
        assert_eq!(Doubt::decode(&[0x83, 2, 1, 0]).unwrap_err(), Refusal::Version);
        assert_eq!(Doubt::decode(&[0x83, 1, 5, 0]).unwrap_err(), Refusal::Canon);
    }
}
