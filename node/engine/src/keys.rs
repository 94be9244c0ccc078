//! The keys of this device while its locker is open.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use locker_catalog::order::EntryOrder;
use locker_catalog::roster::Roster;
use locker_catalog::tree;
use locker_crypto::Refusal;
use locker_crypto::id::{EntryId, EpochId, NodeId, ObjectHash, PersonId, SpaceId, SpaceTag, VerifyingKey};
use locker_crypto::identity::{DeviceKeys, PersonKeys, Slot};
use locker_crypto::person::{self, Entry, Op};
use locker_crypto::secret::{
    BoxSeed, DedupSecret, EpochSecret, LogKey, PersonKey, RendezvousMaster, RendezvousSecret, SigningSeed,
};
use locker_store::keyring::{self, SpaceEpoch};
use locker_store::settings::{self, Setting};
use locker_store::{Reads, persons};

use crate::Error;
use crate::checked;
use crate::depot::{Charge, Slots};
use crate::older_keys::{Moment, OlderKeys};
use crate::person_keys::BESIDE;

/// Setting: whose locker this is.
pub(crate) const PERSON: Setting = Setting::engine(0);
/// Setting: the home space.
pub(crate) const HOME_SPACE: Setting = Setting::engine(1);

/// What a device holds of the person's secrets.
enum Held {
    /// The person's keys, all generations: it reads and writes.
    Keys {
        keys: PersonKeys,
        /// The older generations under which devices still find one another, the newest first.
        older: Vec<u32>,
    },
    /// The slots under which it is found, and nothing else: it stores.
    Slots(Slots),
}

/// Everything that this device needs to read and write the home space, or to store for it.
pub(crate) struct Keys {
    /// The person.
    pub(crate) person: PersonId,
    /// The device's own keys.
    pub(crate) device: DeviceKeys,
    /// What it holds of the person's.
    held: Held,
    /// The dedup secret in use; a device that joined learns it from the home space.
    pub(crate) dedup: OnceLock<DedupSecret>,
    /// The rendezvous slots under which the holder of the phrase finds this device, with their generation.
    pub(crate) master: Option<(u32, RendezvousMaster)>,
    /// The home space.
    pub(crate) space: SpaceId,
    /// Its short name.
    pub(crate) tag: SpaceTag,
}

impl Keys {
    /// Loads the keys; `None` if the locker was never completed.
    ///
    /// # Errors
    /// [`Error::Integrity`] if some are missing or damaged.
    pub(crate) fn load<R: Reads>(reads: &R) -> Result<Option<Self>, Error> {
        let missing = || Error::damaged("the keyring of this device", Refusal::Key);
        let Some(person) = settings::get(reads, PERSON)? else { return Ok(None) };
        let person = PersonId::from_slice(&person).map_err(|_| missing())?;
        let space = settings::get(reads, HOME_SPACE)?.ok_or_else(missing)?;
        let space = SpaceId::from_slice(&space).map_err(|_| missing())?;
        let signing = keyring::get::<SigningSeed, _>(reads, &())?.ok_or_else(missing)?;
        let boxes = keyring::get::<BoxSeed, _>(reads, &())?.ok_or_else(missing)?;
        let held = if Charge::read(reads)?.is_some() {
            Held::Slots(Slots::read(reads)?)
        } else {
            let keys = keyring::all::<PersonKey, _>(reads)?;
            let (generations, beside) = keys.split_at(keys.partition_point(|(n, _)| *n < BESIDE));
            // Copies: what is moved out of a list stays behind in its memory.
            let keys = |numbered: &[(u32, PersonKey)]| numbered.iter().map(|(_, key)| key.clone()).collect();
            let mut held = PersonKeys::from_generations(keys(generations)).map_err(|_| missing())?;
            held.set_beside(keys(beside));
            // A change that is not noted yet is heard from the moment at which the keys are here.
            let older = OlderKeys::read(reads)?.follow(held.generation(), Moment::default());
            Held::Keys { older: older.generations().collect(), keys: held }
        };
        let dedup = keyring::newest::<DedupSecret, _>(reads)?;
        let dedup = dedup.map_or_else(OnceLock::new, |(_, secret)| OnceLock::from(secret));
        Ok(Some(Self {
            person,
            device: DeviceKeys::from_seeds(signing, boxes),
            held,
            dedup,
            master: keyring::newest::<RendezvousMaster, _>(reads)?,
            space,
            tag: locker_crypto::entry::space_tag(&space),
        }))
    }

    /// The slot of the `index`th of the person's active devices.
    pub(crate) fn slot(&self, index: usize) -> Slot {
        let places = Slot::COUNT - Slot::FIRST_DEVICE;
        let place = u32::try_from(index).unwrap_or(0) % places;
        Slot::new(Slot::FIRST_DEVICE + place).expect("it is below the number of slots")
    }

    /// The device's name in logs.
    pub(crate) fn device_id(&self) -> VerifyingKey {
        self.device.verifying_key()
    }

    /// The person's keys.
    ///
    /// # Errors
    /// [`Error::Blind`] on a device that only stores.
    pub(crate) fn person_keys(&self) -> Result<&PersonKeys, Error> {
        match &self.held {
            Held::Keys { keys, .. } => Ok(keys),
            Held::Slots(_) => Err(Error::blind(&self.person)),
        }
    }

    /// The secrets under which the person's other devices find this one, the first in use first: of the newest person
    /// key and those before it that are heard still; of its slots on a device that only stores. `now_s` is unix
    /// seconds.
    pub(crate) fn doors(&self, now_s: u64) -> Vec<RendezvousSecret> {
        match &self.held {
            Held::Keys { .. } => self.doors_of(&self.device_id()),
            Held::Slots(slots) => slots.doors(now_s),
        }
    }

    /// Of which generation the slot is under which a device is found that only stores; 0 on one that reads.
    pub(crate) fn slot_generation(&self) -> u32 {
        match &self.held {
            Held::Keys { .. } => 0,
            Held::Slots(slots) => slots.generation(),
        }
    }

    /// The secrets under which another device of the person that reads is found; none where this one only stores.
    pub(crate) fn doors_of(&self, device: &VerifyingKey) -> Vec<RendezvousSecret> {
        match &self.held {
            Held::Keys { keys, older } => {
                let older = older.iter().filter_map(|generation| keys.get(*generation));
                let heard = std::iter::once(keys.newest()).chain(older);
                heard.map(|key| key.device_rendezvous(device)).collect()
            }
            Held::Slots(_) => Vec::new(),
        }
    }

    /// The dedup secret in use.
    ///
    /// # Errors
    /// [`Error::Network`] if this device joined and has not heard of it yet.
    pub(crate) fn dedup(&self) -> Result<&DedupSecret, Error> {
        self.dedup.get().ok_or_else(not_heard_yet)
    }

    /// The key that seals and opens the log entries of an epoch.
    ///
    /// # Errors
    /// [`Error::Integrity`] if the epoch's secret is not here.
    pub(crate) fn log_key<R: Reads>(&self, reads: &R, epoch: &EpochId) -> Result<LogKey, Error> {
        let id = SpaceEpoch { space: self.tag, epoch: *epoch };
        let secret = keyring::get::<EpochSecret, _>(reads, &id)?
            .ok_or_else(|| Error::damaged("the key of an epoch", Refusal::Epoch))?;
        Ok(secret.log_key())
    }
}

/// This device joined and knows nothing of the home space yet.
pub(crate) fn not_heard_yet() -> Error {
    Error::Network("this device has not yet heard from the other devices of its locker".into())
}

/// The entries of a person log that are here, each checked by itself.
///
/// # Errors
/// [`Error::Integrity`] if one is damaged.
pub(crate) fn person_log<R: Reads>(reads: &R, person: &PersonId) -> Result<Vec<Entry>, Error> {
    persons::all(reads, person)?
        .iter()
        .map(|bytes| checked::read(person, bytes).map_err(|why| Error::damaged("the person log", why)))
        .collect()
}

/// Reads the entries of a person log that was given.
///
/// # Errors
/// As [`Entry::read`], and [`one_genesis`].
pub(crate) fn read_person_log(person: &PersonId, log: &[Vec<u8>]) -> Result<Vec<Entry>, Refusal> {
    let entries = log.iter().map(|bytes| Entry::read(person, bytes)).collect::<Result<Vec<_>, _>>()?;
    one_genesis(&entries)?;
    Ok(entries)
}

/// Holds against entries of a person log that together they have one genesis at most. Whoever has the words that a locker began
/// with can sign another, with a device of his own and any date, and nothing in the entries tells which came first.
///
/// # Errors
/// [`Refusal::Chain`].
pub(crate) fn one_genesis<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Result<(), Refusal> {
    let is_genesis = |entry: &&Entry| entry.body.ops.iter().any(|op| matches!(op, Op::Genesis { .. }));
    let ids: BTreeSet<EntryId> = entries.into_iter().filter(is_genesis).map(|entry| entry.id).collect();
    if ids.len() > 1 { Err(Refusal::Chain) } else { Ok(()) }
}

/// The active devices of a person.
///
/// # Errors
/// [`Error::Integrity`] if the log is damaged.
pub(crate) fn active<R: Reads>(reads: &R, person: &PersonId) -> Result<BTreeSet<VerifyingKey>, Error> {
    Ok(Roster::read(*person, &person_log(reads, person)?).active)
}

/// The beginning of an id, where there is no name.
pub(crate) fn short_id(device: &VerifyingKey) -> String {
    device.as_bytes()[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A device of a person: active, replaced or revoked.
pub(crate) struct Listed {
    /// Its key.
    pub(crate) id: VerifyingKey,
    /// Its name.
    pub(crate) name: String,
    /// The keys that took its place.
    pub(crate) successors: BTreeSet<VerifyingKey>,
    /// Whether it was ended.
    pub(crate) is_revoked: bool,
    /// The entry that brought it in.
    pub(crate) came: Option<EntryOrder>,
}

/// The devices of a person with their names: the active ones, those that were replaced, and those that were revoked.
///
/// # Errors
/// [`Error::Integrity`] if the log is damaged or a name does not open.
pub(crate) fn devices<R: Reads>(
    reads: &R,
    person: &PersonId,
    keys: &PersonKeys,
    home: SpaceTag,
) -> Result<Vec<Listed>, Error> {
    let entries = person_log(reads, person)?;
    let roster = Roster::read(*person, &entries);
    let mut devices: Vec<Listed> = Vec::new();
    for op in entries.iter().flat_map(|entry| &entry.body.ops) {
        if let Op::Genesis { device, .. }
        | Op::AddDevice { device, .. }
        | Op::Recover { device, .. }
        | Op::ReplaceDevice { device, .. } = op
            && roster.brought_in.contains(&device.device)
            && devices.iter().all(|known| known.id != device.device)
        {
            let newer = tree::meta(&reads.rows(home), NodeId::ROOT, &person::name_meta_key(&device.device))?;
            // A newer name that does not open was sealed under a key that is still to come.
            let newer = newer.and_then(|sealed| person::open_name(keys, &device.device, &sealed).ok());
            let first = || person::open_name(keys, &device.device, &device.sealed_name).ok();
            // A device that was revoked is not told the names of those that came later.
            let name = newer.or_else(first).unwrap_or_else(|| short_id(&device.device));
            let is_revoked = roster.removed.contains_key(&device.device);
            let successors = roster.replaced.get(&device.device).cloned().unwrap_or_default();
            let came = roster.arrivals.get(&device.device).map(|at| at.entry);
            devices.push(Listed { id: device.device, name, successors, is_revoked, came });
        }
    }
    Ok(devices)
}

/// A person log as it travels: its entries, and the objects that they name.
pub(crate) type LogAndObjects = (Vec<Vec<u8>>, Vec<Vec<u8>>);

/// The objects that an entry of a person log names.
pub(crate) fn named_objects(entry: &Entry) -> Vec<ObjectHash> {
    let mut named = Vec::new();
    for op in &entry.body.ops {
        match op {
            Op::Genesis { root_box, device, person_box, boxes, .. } => {
                named.extend([*root_box, device.box_key, *person_box]);
                named.extend(boxes);
            }
            Op::AddDevice { device, boxes } | Op::ReplaceDevice { device, boxes, .. } => {
                named.push(device.box_key);
                named.extend(boxes);
            }
            Op::RemoveDevice { person_box, boxes, .. } | Op::RenewKey { person_box, boxes, .. } => {
                named.push(*person_box);
                named.extend(boxes);
            }
            Op::Recover { device, person_box, boxes, .. } => {
                named.extend([device.box_key, *person_box]);
                named.extend(boxes);
            }
            Op::SetRoot { root_box, boxes, .. } => {
                named.push(*root_box);
                named.extend(boxes);
            }
            Op::SetHome { .. } | Op::Unknown(_) => {}
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use locker_crypto::identity::Root;
    use locker_crypto::person::Author;
    use locker_crypto::secret::{Entropy, PersonKey};

    use super::*;
    use crate::env::system_dice;

    /// Whoever has the words that a locker began with signs another genesis, with a device of his own: it is none (T27).
    #[test]
    fn t27_a_person_log_has_one_genesis() {
        let root = Root::from_entropy(&Entropy::new([1; 32]));
        let person = root.person_id();
        let mut dice = system_dice();
        let mut genesis = || {
            let (device, key) = (DeviceKeys::random(&mut dice), PersonKey::random(&mut dice));
            Author::genesis(&root, &device, &key, "laptop", 100, &mut dice).unwrap().entry
        };
        let (first, second) = (genesis(), genesis());
        assert_eq!(read_person_log(&person, &[first.clone(), first.clone()]).unwrap().len(), 2);
        assert_eq!(read_person_log(&person, &[first, second]).unwrap_err(), Refusal::Chain);
    }
}
