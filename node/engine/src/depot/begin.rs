//! Beginning a depot in a folder: one durable commit with all that its owner gave.

use std::path::Path;

use locker_crypto::Refusal;
use locker_crypto::identity::{DeviceKeys, Slot};
use locker_crypto::person::Entry;
use locker_crypto::secret::RendezvousSecret;
use locker_store::{Limits, Store, WriteTxn, keyring, objects, persons};

use super::{Charge, Slots};
use crate::create::init_home;
use crate::keys::named_objects;
use crate::{Env, Error, Vault, vault};

/// What a depot begins with.
pub(crate) struct Beginning<'a> {
    /// For whom it keeps.
    pub(crate) charge: &'a Charge,
    /// The keys of the device that keeps it.
    pub(crate) keys: &'a DeviceKeys,
    /// Under which slot of which generation it is found, and the secret of it; a drive is found under none.
    pub(crate) slot: Option<((u32, Slot), &'a RendezvousSecret)>,
    /// The person log, each entry as it was signed.
    pub(crate) person_log: &'a [Vec<u8>],
    /// Objects, of which those are kept that the log names.
    pub(crate) objects: &'a [Vec<u8>],
}

impl Beginning<'_> {
    /// Makes the home. Until this has returned there is none.
    ///
    /// # Errors
    /// [`Error::LockerExists`], [`Error::HomeNotEmpty`]; [`Error::Refused`] for a log that is not the person's; what the
    /// store gives.
    pub(crate) fn keep(&self, path: &Path, vault: &Vault, env: &Env) -> Result<(), Error> {
        let person = self.charge.person;
        let read = |bytes: &Vec<u8>| Entry::read(&person, bytes);
        let log: Vec<Entry> =
            self.person_log.iter().map(read).collect::<Result<_, Refusal>>().map_err(Error::Refused)?;
        let opened = init_home(path)?;
        let vault_key = vault::create(&opened, vault, env)?;
        let dice = Box::new(crate::env::system_dice());
        Store::create(opened, &vault_key, dice, Limits::default(), |txn| self.write(txn, &log))?;
        Ok(())
    }

    fn write(&self, txn: &mut WriteTxn<'_>, log: &[Entry]) -> Result<(), Error> {
        self.charge.write(txn);
        keyring::put(txn, &(), self.keys.signing_seed());
        keyring::put(txn, &(), self.keys.box_seed());
        if let Some((slot, secret)) = self.slot {
            Slots::give(txn, slot, secret, 0)?;
        }
        for (entry, bytes) in log.iter().zip(self.person_log) {
            persons::put(txn, &self.charge.person, &entry.id, bytes);
        }
        let named: Vec<_> = log.iter().flat_map(named_objects).collect();
        for object in self.objects {
            if named.iter().any(|hash| hash.0 == *blake3::hash(object).as_bytes()) {
                objects::put(txn, object);
            }
        }
        Ok(())
    }
}
