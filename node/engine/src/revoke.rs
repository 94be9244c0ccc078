//! `device revoke` and `device rename` (`docs/spec/02-identity.md`, "Removal").

pub(crate) mod made;
#[cfg(test)]
mod tests;

use locker_catalog::operation::{Meta, Op};
use locker_catalog::roster::Roster;
use locker_crypto::Refusal;
use locker_crypto::id::{NodeId, VerifyingKey};
use locker_crypto::person::{self, Author, Removal};
use locker_store::Reads;

use self::made::Made;
use crate::Error;
use crate::create::device_name;
use crate::keys::{devices, person_log};
use crate::locker::Inner;
use crate::person_keys::{root_box, usable_boxes};
use crate::rebirth::Doubt;
use crate::report::Device;
use crate::rotate::{next_keys, person_frontier};
use crate::writer::Change;

/// Ends a device or replica, named by its id or the beginning of it; the devices that stay get new keys if one ends. One
/// durable commit.
pub(crate) fn revoke(inner: &Inner, id: &str) -> Result<Device, Error> {
    let begins = |device: &&Device| device.id.starts_with(&id.trim().to_ascii_lowercase());
    let listed = crate::status::devices(inner)?;
    let mut fitting = listed.iter().filter(begins);
    match (fitting.next(), fitting.next()) {
        (Some(one), None) if one.store.is_some() => {
            let removed = crate::replicas::remove(inner, &one.id)?;
            return Ok(Device { revoked: true, online: false, ..removed });
        }
        (Some(_), Some(_)) if !id.trim().is_empty() => return Err(several()),
        _ => {}
    }
    let device = inner.commit(|change| {
        Doubt::refuse(change.txn())?;
        let device = resolve(inner, change.txn(), id)?;
        end(inner, change, device)?;
        Ok(device)
    })?;
    inner.reload_keys()?;
    told(inner, &device)
}

/// Ends a device once more: what ended it does not count (`docs/spec/08-at-rest.md`, "A restored or copied home").
pub(crate) fn revoke_again(inner: &Inner, device: VerifyingKey) -> Result<(), Error> {
    inner.commit(|change| {
        Doubt::refuse(change.txn())?;
        end(inner, change, device)
    })?;
    inner.reload_keys()
}

/// Writes that a device ends, with new keys for those that stay.
fn end(inner: &Inner, change: &mut Change<'_, '_>, device: VerifyingKey) -> Result<(), Error> {
    let keys = inner.keys();
    let entries = person_log(change.txn(), &keys.person)?;
    let roster = Roster::read(keys.person, &entries);
    if device == keys.device_id() {
        return Err(Error::Argument(
            "this is the device at which you are: revoke it from another one, or recover by the phrase elsewhere".into(),
        ));
    }
    let next = next_keys(keys.person_keys()?, inner.env());
    let stay = roster.active.iter().copied().filter(|vk| *vk != device);
    let mut recipients = usable_boxes(change.txn(), &entries, stay)?;
    recipients.push(root_box(change.txn(), &entries, &roster)?);
    let place = inner.person_place(&entries)?;
    let author = Author { person: keys.person, device: &keys.device, place };
    let removal = Removal { device, frontier: person_frontier(&entries, &device) };
    let written = author
        .remove_device(removal, &next, &recipients, &mut **inner.env().dice())
        .map_err(Error::Refused)?;
    let (_, roster) = change.append_person(entries, &written)?;
    if !roster.removed.contains_key(&device) {
        return Err(Error::Refused(Refusal::Rights));
    }
    made::note(change.txn(), Made { by: keys.device_id(), entry: written.id, device })?;
    change.rotate(inner, &next, None, &roster.removed)
}

/// Gives a device, named by its id or the beginning of it, another name.
pub(crate) fn rename(inner: &Inner, id: &str, name: &str) -> Result<Device, Error> {
    let name = device_name(Some(name.to_owned()))?;
    let device = inner.commit(|change| {
        let device = resolve(inner, change.txn(), id)?;
        let keys = inner.keys();
        let nonce = locker_crypto::aead::random_xnonce(&mut **inner.env().dice());
        let value = person::seal_name(keys.person_keys()?.newest(), &nonce, &device, &name)
            .map_err(Error::Refused)?;
        change.push(Op::Meta(Meta { node: NodeId::ROOT, key: person::name_meta_key(&device), value }))?;
        Ok(device)
    })?;
    told(inner, &device)
}

/// The device in use whose id begins so.
fn resolve<R: Reads>(inner: &Inner, reads: &R, id: &str) -> Result<VerifyingKey, Error> {
    let id = id.trim().to_ascii_lowercase();
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Error::Argument("this is no id of a device: `locker device ls` shows them".into()));
    }
    let keys = inner.keys();
    let listed = devices(reads, &keys.person, keys.person_keys()?, keys.tag)?;
    let mut fitting = listed.iter().filter(|device| device.id.to_string().starts_with(&id));
    match (fitting.next(), fitting.next()) {
        (Some(device), None) if device.is_revoked => {
            Err(Error::NoSuch(format!("the device {:?} was revoked already", device.name)))
        }
        (Some(device), None) => Ok(device.id),
        (Some(_), Some(_)) => Err(several()),
        (None, _) => Err(Error::NoSuch("there is no device with this id".into())),
    }
}

fn several() -> Error {
    Error::Argument("several devices have an id that begins so".into())
}

fn told(inner: &Inner, device: &VerifyingKey) -> Result<Device, Error> {
    let (all, id) = (crate::status::devices(inner)?, device.to_string());
    all.into_iter()
        .find(|one| one.id == id)
        .ok_or_else(|| Error::NoSuch("there is no device with this id".into()))
}
