//! Boxes and public keys beside the logs of a depot: what the person log names, and the box bundles of the epochs under
//! which entries are sealed.

use locker_crypto::Refusal;
use locker_crypto::epoch::Bundle;
use locker_crypto::id::ObjectHash;
use locker_store::{Reads, WriteTxn, objects};
use locker_sync::message::v1::Ask;

use super::Depot;
use crate::Error;
use crate::keys::{named_objects, person_log};

impl Depot {
    /// What is to be asked for: named and not here.
    ///
    /// # Errors
    /// [`Error::Integrity`] if the person log is damaged; what reading gives.
    pub(crate) fn missing<R: Reads>(&self, reads: &R) -> Result<Vec<Ask>, Error> {
        let mut missing = Vec::new();
        for hash in person_log(reads, &self.charge.person)?.iter().flat_map(named_objects) {
            if !objects::holds(reads, &hash)? {
                missing.push(Ask::Object(hash));
            }
        }
        let epochs = self.state().epochs.clone();
        for epoch in epochs {
            if objects::bundles(reads, &self.charge.tag, &epoch)?.is_empty() {
                missing.push(Ask::Boxes(self.charge.tag, epoch));
            }
        }
        Ok(missing)
    }

    /// Takes an object in that was asked for.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`Refusal::Scope`] for one that no log names and that is no bundle of a device; what the
    /// store gives.
    pub(crate) fn take_object(&self, txn: &mut WriteTxn<'_>, bytes: &[u8]) -> Result<(), Error> {
        let hash = ObjectHash(*blake3::hash(bytes).as_bytes());
        if person_log(txn, &self.charge.person)?.iter().flat_map(named_objects).any(|named| named == hash) {
            objects::put(txn, bytes);
            return Ok(());
        }
        let bundle = Bundle::decode(bytes).map_err(|_| Error::Refused(Refusal::Scope))?;
        let is_ours = bundle.space_tag() == self.charge.tag
            && self.roster(txn)?.brought_in.contains(&bundle.author())
            && self.state().epochs.contains(&bundle.epoch());
        if !is_ours {
            return Err(Error::Refused(Refusal::Scope));
        }
        objects::put_bundle(txn, &self.charge.tag, &bundle.epoch(), bytes);
        Ok(())
    }

    /// Looks for what was asked.
    ///
    /// # Errors
    /// What reading gives.
    pub(crate) fn object<R: Reads>(&self, reads: &R, ask: &Ask) -> Result<Vec<Vec<u8>>, Error> {
        let names = match ask {
            Ask::Object(hash) => vec![*hash],
            Ask::Boxes(tag, epoch) if *tag == self.charge.tag => objects::bundles(reads, tag, epoch)?,
            Ask::Boxes(..) | Ask::Capsule(_) => Vec::new(),
        };
        let mut found = Vec::new();
        for name in names {
            found.extend(objects::get(reads, &name)?);
        }
        Ok(found)
    }
}
