//! The new key: drawn and kept here before anybody is asked, brought in by another device, taken in one durable commit.

use std::ops::ControlFlow;

use locker_catalog::roster::Roster;
use locker_catalog::space::Space;
use locker_crypto::Refusal;
use locker_crypto::encode::{Reader, Writer};
use locker_crypto::id::{EntryId, PackHash, VerifyingKey};
use locker_crypto::identity::DeviceKeys;
use locker_crypto::person::{Author, Succession};
use locker_crypto::secret::{BoxSeed, NextBoxSeed, NextSigningSeed, SigningSeed};
use locker_store::index::{self, PackState};
use locker_store::settings::{self, Setting};
use locker_store::{Reads, keyring};
use locker_sync::message::v1::Succeed;

use super::{Doubt, Sign};
use crate::Error;
use crate::keys::{self, Keys, person_log};
use crate::limits::REBIRTHS_MAX;
use crate::locker::Inner;
use crate::person_keys::refuse_unless_held;
use crate::writer::pin;

/// Setting: the keys that this home had before.
const REBIRTHS: Setting = Setting::engine(4);
const VERSION: u64 = 1;

/// One change of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reborn {
    /// The key before.
    pub(crate) old: VerifyingKey,
    /// What had shown that this home needs another one.
    pub(crate) sign: Sign,
    /// When the new one was taken, unix milliseconds.
    pub(crate) at_ms: u64,
    /// The last entry that this home had of the old key, if any.
    pub(crate) head: Option<(u64, EntryId)>,
}

/// Where a device stands on its way to a new key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Rebirth {
    /// It needs none.
    #[default]
    None,
    /// Another device has to bring in the new key; until then it writes nothing, unless it only wrote ahead of time.
    Wanted,
    /// The new key is brought in and is to be taken.
    Granted,
}

/// The keys that this home had before, the newest last.
///
/// # Errors
/// [`Error::Integrity`] if the setting is damaged.
pub(crate) fn rebirths<R: Reads>(reads: &R) -> Result<Vec<Reborn>, Error> {
    let Some(bytes) = settings::get(reads, REBIRTHS)? else { return Ok(Vec::new()) };
    decode(&bytes).map_err(|why| Error::damaged("what is known of this device", why))
}

impl Inner {
    /// Where this device stands.
    pub(crate) fn rebirth<R: Reads>(&self, reads: &R, roster: &Roster) -> Result<Rebirth, Error> {
        if Doubt::read(reads)?.is_none() {
            return Ok(Rebirth::None);
        }
        let next = next_keys(reads)?.map(|keys| keys.verifying_key());
        let is_granted = next.is_some_and(|next| roster.active.contains(&next));
        Ok(if is_granted { Rebirth::Granted } else { Rebirth::Wanted })
    }

    /// What another device is asked for, with keys that are kept before they leave here; `None` if this device has no
    /// need of it.
    pub(crate) fn ask_to_succeed(&self) -> Result<Option<Succeed>, Error> {
        let keys = self.keys();
        self.store()?.write(|txn| {
            if Doubt::read(txn)?.is_none() {
                return Ok(None);
            }
            let next = match next_keys(txn)? {
                Some(next) => next,
                None => {
                    let next = DeviceKeys::random(&mut **self.env().dice());
                    keyring::put(txn, &(), &NextSigningSeed::new(*next.signing_seed().expose()));
                    keyring::put(txn, &(), &NextBoxSeed::new(*next.box_seed().expose()));
                    next
                }
            };
            let devices = keys::devices(txn, &keys.person, keys.person_keys()?, keys.tag)?;
            let own = devices.into_iter().find(|device| device.id == keys.device_id());
            let name = own.map(|device| device.name).unwrap_or_default();
            Ok(Some(Succeed { succession: Succession::new(&keys.person, &keys.device, &next), name }))
        })
    }

    /// Brings in the new key of another device of the person, in one durable commit. Asked for once more, it changes
    /// nothing.
    ///
    /// # Errors
    /// [`Error::Restored`] if this device may not sign either; [`Error::Refused`] if `device`, which asks, is not the
    /// one that is to be replaced, was removed, or did not sign; [`Error::Network`] if the key in use, which the new key is to
    /// be given, has not come yet: to be tried again.
    pub(crate) fn succeed(&self, device: &VerifyingKey, asked: &Succeed) -> Result<(), Error> {
        let Succeed { succession, name } = asked;
        if succession.old != *device {
            return Err(Error::Refused(Refusal::Audience));
        }
        self.change_space(|txn, space| {
            Doubt::refuse(txn)?;
            let keys = self.keys();
            let entries = person_log(txn, &keys.person)?;
            let roster = Roster::read(keys.person, &entries);
            if !roster.admitted().contains(device) {
                return Err(Error::Refused(Refusal::Rights));
            }
            if roster.brought_in.contains(&succession.candidate.device) {
                return Ok(());
            }
            refuse_unless_held(&keys, &entries, &roster)?;
            let place = self.person_place(&entries)?;
            let author = Author { person: keys.person, device: &keys.device, place };
            let made = author
                .replace_device(succession, name, keys.person_keys()?, &mut **self.env().dice())
                .map_err(Error::Refused)?;
            let (_, roster) = self.append_person(txn, space, entries, &made)?;
            if roster.active.contains(&succession.candidate.device) {
                Ok(())
            } else {
                Err(Error::Refused(Refusal::Rights))
            }
        })
    }

    /// Takes the new key, if the person log has it: from this commit on the home is that of the new device. What it holds it
    /// pins under the new name. Says whether it did.
    pub(crate) fn be_reborn(&self) -> Result<bool, Error> {
        let store = self.store()?;
        let mut txn = store.begin_write()?;
        // As in `commit`: whoever writes next waits for the transaction, and then finds the new keys.
        let mut slot = self.space();
        let old = self.keys();
        let roster = Roster::read(old.person, &person_log(&txn, &old.person)?);
        let (Some(doubt), Rebirth::Granted) = (Doubt::read(&txn)?, self.rebirth(&txn, &roster)?) else {
            return Ok(false);
        };
        let Some(next) = next_keys(&txn)? else { return Ok(false) };
        let head = {
            let rows = txn.rows(old.tag);
            Space::open(&rows, old.space, old.device_id())?.own_head(&rows)?
        };
        let mut before = rebirths(&txn)?;
        before.push(Reborn {
            old: old.device_id(),
            sign: doubt.sign,
            at_ms: self.env().now_ms(),
            head: head.map(|head| (head.seq, head.id)),
        });
        let excess = before.len().saturating_sub(REBIRTHS_MAX);
        settings::put(&mut txn, REBIRTHS, &encode(&before[excess..]));
        keyring::put(&mut txn, &(), next.signing_seed());
        keyring::put(&mut txn, &(), next.box_seed());
        keyring::delete::<NextSigningSeed>(&mut txn, &());
        keyring::delete::<NextBoxSeed>(&mut txn, &());
        Doubt::end(&mut txn);
        if doubt.sign == Sign::Ahead {
            // By the clock that was right when this was found, if the one of now is behind it.
            let now_ms = self.env().now_ms().max(doubt.since_ms);
            let mut space = Space::open(&txn.rows(old.tag), old.space, next.verifying_key())?;
            space.put_off_ahead(&mut txn.rows_mut(old.tag), now_ms)?;
        }
        let held = present(&txn)?;
        pin(&mut txn, old.tag, &next, held, Vec::new())?;
        let new =
            Keys::load(&txn)?.ok_or_else(|| Error::damaged("the keyring of this device", Refusal::Key))?;
        txn.commit()?;
        self.set_keys(new);
        *slot = None;
        self.note_commit();
        drop(slot);
        Ok(true)
    }
}

/// The keys that this device is about to take.
pub(super) fn next_keys<R: Reads>(reads: &R) -> Result<Option<DeviceKeys>, Error> {
    let signing = keyring::get::<NextSigningSeed, _>(reads, &())?;
    let boxes = keyring::get::<NextBoxSeed, _>(reads, &())?;
    Ok(signing.zip(boxes).map(|(signing, boxes)| {
        DeviceKeys::from_seeds(SigningSeed::new(*signing.expose()), BoxSeed::new(*boxes.expose()))
    }))
}

/// Every pack that is durable here.
fn present<R: Reads>(reads: &R) -> Result<Vec<PackHash>, Error> {
    let mut present = Vec::new();
    index::scan_packs(reads, &mut |hash, pack| {
        if matches!(pack.state, PackState::Present { .. }) {
            present.push(hash);
        }
        ControlFlow::Continue(())
    })?;
    Ok(present)
}

fn encode(rebirths: &[Reborn]) -> Vec<u8> {
    let mut w = Writer::new();
    w.array(2).u64(VERSION).array(rebirths.len());
    for reborn in rebirths {
        w.array(5).bytes(reborn.old.as_ref()).u64(reborn.sign.code()).u64(reborn.at_ms);
        let (seq, id) = reborn.head.unwrap_or((0, EntryId::ZERO));
        w.u64(seq).bytes(id.as_ref());
    }
    w.finish()
}

fn decode(bytes: &[u8]) -> Result<Vec<Reborn>, Refusal> {
    let mut r = Reader::new(bytes);
    r.array_of(2)?;
    if r.u64()? != VERSION {
        return Err(Refusal::Version);
    }
    let mut rebirths = Vec::new();
    for _ in 0..r.array()? {
        r.array_of(5)?;
        let (old, sign, at_ms) = (VerifyingKey(r.fixed()?), Sign::from_code(r.u64()?)?, r.u64()?);
        let (seq, id) = (r.u64()?, EntryId(r.fixed()?));
        let head = (id != EntryId::ZERO).then_some((seq, id));
        rebirths.push(Reborn { old, sign, at_ms, head });
    }
    r.finish()?;
    Ok(rebirths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_key_are_read_as_they_were_written_and_in_no_other_form() {
        let reborn = |n: u8, head| Reborn { old: VerifyingKey([n; 32]), sign: Sign::Differs, at_ms: 7, head };
        let all = vec![reborn(1, None), reborn(2, Some((0, EntryId([3; 32]))))];
        let bytes = encode(&all);
        assert_eq!(decode(&bytes).unwrap(), all);
        assert_eq!(decode(&encode(&[])).unwrap(), []);
        assert_eq!(decode(&bytes[..bytes.len() - 1]).unwrap_err(), Refusal::Canon);
        assert_eq!(decode(&[&bytes[..], &[0]].concat()).unwrap_err(), Refusal::Canon);
        assert_eq!(decode(&[0x82, 2, 0x80]).unwrap_err(), Refusal::Version);
    }
}
