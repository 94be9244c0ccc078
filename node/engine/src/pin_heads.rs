//! The newest pin delta of each author of one space, as the store holds it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use locker_crypto::id::{PinId, VerifyingKey};
use locker_crypto::pin::{PinDelta, PinHead};
use locker_store::Reads;
use locker_store::pins::{self, PinScope};

use crate::Error;

/// What was read of each author last, by the hash of all its bytes: these need no second look at their signature, which every
/// commit would take of every author.
#[derive(Default)]
pub(crate) struct PinHeads(Mutex<BTreeMap<VerifyingKey, (blake3::Hash, PinId)>>);

impl PinHeads {
    /// The newest pin delta of an author in a space; nothing if he pinned nothing.
    ///
    /// # Errors
    /// [`Error::Integrity`] if what is stored is damaged; those of reading.
    pub(crate) fn newest<R: Reads>(&self, reads: &R, scope: &PinScope) -> Result<Option<PinHead>, Error> {
        let Some((seq, bytes)) = pins::newest(reads, scope)? else { return Ok(None) };
        Ok(Some(PinHead { seq, id: self.id(scope.author, &bytes)? }))
    }

    fn id(&self, author: VerifyingKey, bytes: &[u8]) -> Result<PinId, Error> {
        let hash = blake3::hash(bytes);
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, id)) = seen.get(&author).filter(|(last, _)| *last == hash) {
            return Ok(*id);
        }
        let (_, id) = PinDelta::open(bytes).map_err(|why| Error::damaged("a pin delta", why))?;
        seen.insert(author, (hash, id));
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use locker_crypto::id::SpaceTag;
    use locker_crypto::secret::SigningSeed;
    use locker_crypto::sign::Signing;

    use super::*;

    #[test]
    fn what_was_seen_once_is_known_and_a_flipped_bit_is_not() {
        let author = Signing::from_seed(&SigningSeed::new([7; 32]));
        let delta = PinDelta {
            space_tag: SpaceTag([1; 16]),
            author: author.verifying_key(),
            seq: 0,
            prev: PinId::ZERO,
            adds: vec![],
            drops: vec![],
        };
        let signed = delta.sign(&author).unwrap();
        let heads = PinHeads::default();
        for _ in 0..2 {
            assert_eq!(heads.id(delta.author, &signed.bytes).unwrap(), signed.id);
            for at in 0..signed.bytes.len() {
                let mut flipped = signed.bytes.clone();
                flipped[at] ^= 1;
                assert!(heads.id(delta.author, &flipped).is_err(), "byte {at}");
            }
        }
    }
}
