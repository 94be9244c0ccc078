//! What lies beside the logs: keys and boxes that a log names, and the box bundles of epochs. Asked for here, and looked for
//! when another one asks.

use locker_crypto::epoch::Bundle;
use locker_crypto::secret::EpochSecret;
use locker_store::keyring::{self, SpaceEpoch};
use locker_store::objects;
use locker_sync::message::v1::Ask;

use super::Taken;
use crate::Error;
use crate::keys::{named_objects, person_log};
use crate::locker::Inner;
use crate::share::Register;

/// Who asks for what lies beside the logs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asker {
    /// A device of the person that reads.
    Device,
    /// A replica.
    Replica,
    /// The holder of the phrase, who recovers.
    Heir,
    /// A device or replica from which this home is recovered.
    Source,
}

impl Inner {
    /// What the logs name beside them and is not here.
    pub(crate) fn missing_objects(&self) -> Result<Vec<Ask>, Error> {
        if let Some(depot) = self.depot() {
            return self.blind_missing(depot);
        }
        let store = self.store()?;
        let snapshot = store.read()?;
        let now_s = self.env().now_ms() / 1_000;
        let mut missing = Register::read(self, &snapshot)?.missing_objects(&snapshot, now_s)?;
        for entry in person_log(&snapshot, &self.keys().person)? {
            for hash in named_objects(&entry) {
                if !objects::holds(&snapshot, &hash)? {
                    missing.push(hash);
                }
            }
        }
        let tag = self.space_tag();
        let boxes = self.unknown_epochs().into_iter().map(|epoch| Ask::Boxes(tag, epoch));
        Ok(missing.into_iter().map(Ask::Object).chain(boxes).collect())
    }

    /// Takes in an object that was asked for. Gives what came of it.
    ///
    /// # Errors
    /// [`Error::Refused`] for one that is not wanted here.
    pub(crate) fn take_object(&self, bytes: &[u8]) -> Result<Taken, Error> {
        match self.depot() {
            Some(depot) => {
                self.store()?.write(|txn| depot.take_object(txn, bytes)).map(|()| Taken::default())
            }
            None => self.take_beside(bytes),
        }
    }

    /// Looks for what a device of the person, or the holder of the phrase, asked for beside the logs; or another one: that one
    /// is given what the person log names, and the box bundles of epochs.
    pub(crate) fn look_up(&self, ask: &Ask, asker: Asker) -> Result<Vec<Vec<u8>>, Error> {
        let store = self.store()?;
        let snapshot = store.read()?;
        if let Some(depot) = self.depot() {
            return depot.object(&snapshot, ask);
        }
        Ok(match ask {
            Ask::Object(hash) => {
                let log = person_log(&snapshot, &self.keys().person)?;
                let is_named = || log.iter().flat_map(named_objects).any(|named| named == *hash);
                match matches!(asker, Asker::Device | Asker::Heir) || is_named() {
                    true => objects::get(&snapshot, hash)?.into_iter().collect(),
                    false => Vec::new(),
                }
            }
            Ask::Boxes(tag, epoch) if *tag == self.space_tag() => {
                let id = SpaceEpoch { space: *tag, epoch: *epoch };
                let secret = keyring::get::<EpochSecret, _>(&snapshot, &id)?;
                secret.map(|secret| self.bundle(&secret)).transpose()?.into_iter().collect()
            }
            Ask::Boxes(..) | Ask::Capsule(_) => Vec::new(),
        })
    }

    /// Seals an epoch to this person.
    fn bundle(&self, secret: &EpochSecret) -> Result<Vec<u8>, Error> {
        let keys = self.keys();
        let recipient = keys.person_keys()?.newest().box_keys();
        let dice = &mut **self.env().dice();
        let bundle = Bundle::seal(&keys.space, secret, keys.device.signing(), [recipient.public()], dice);
        Ok(bundle.map_err(Error::Refused)?.encode())
    }
}
