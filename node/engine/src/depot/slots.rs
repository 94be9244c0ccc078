//! Under which slots a replica is found (`docs/spec/08-at-rest.md`, "Depot"): that of the newest generation it was given, and
//! for a while the one before, for devices that have not heard of the newer one yet.

use locker_crypto::identity::Slot;
use locker_crypto::secret::RendezvousSecret;
use locker_store::settings::{self, Setting};
use locker_store::{Reads, WriteTxn, keyring};

use crate::Error;
use crate::limits::OLDER_SLOT_S;

/// Setting: when the newest slot was given, unix seconds; absent while there is only the first.
const SINCE: Setting = Setting::engine(9);
/// Generations are below this: there is room for so many beside the number of the slot.
const GENERATION_END: u32 = 1 << 24;

/// The slots of a replica.
pub(crate) struct Slots {
    /// With the generation, ascending.
    given: Vec<(u32, RendezvousSecret)>,
    since_s: u64,
}

impl Slots {
    /// Reads them; a drive has none.
    ///
    /// # Errors
    /// [`Error::Integrity`] if they are damaged; what reading gives.
    pub(crate) fn read<R: Reads>(reads: &R) -> Result<Self, Error> {
        let damaged = || Error::damaged("the slot of this replica", locker_crypto::Refusal::Canon);
        let rows = keyring::all::<RendezvousSecret, _>(reads)?;
        let given = rows.iter().map(|(id, secret)| (id >> 8, secret.clone())).collect();
        let since_s = match settings::get(reads, SINCE)? {
            Some(value) => u64::from_le_bytes(value.try_into().map_err(|_| damaged())?),
            None => 0,
        };
        Ok(Self { given, since_s })
    }

    /// Writes a slot that the owner gave, at a time, and forgets all but the newest before it. Whether it is newer is the
    /// caller's to know.
    ///
    /// # Errors
    /// What the store gives; [`Error::Limit`] beyond 16,777,215 generations.
    pub(crate) fn give(
        txn: &mut WriteTxn<'_>,
        (generation, slot): (u32, Slot),
        secret: &RendezvousSecret,
        now_s: u64,
    ) -> Result<(), Error> {
        if generation >= GENERATION_END {
            return Err(Error::Limit("there are more generations of slots than can be kept".into()));
        }
        let before = keyring::all::<RendezvousSecret, _>(txn)?;
        if let Some((_, older)) = before.split_last() {
            older.iter().for_each(|(id, _)| keyring::delete::<RendezvousSecret>(txn, id));
            settings::put(txn, SINCE, &now_s.to_le_bytes());
        }
        keyring::put(txn, &((generation << 8) | slot.index()), secret);
        Ok(())
    }

    /// The generation of the newest; 0 if there is none.
    pub(crate) fn generation(&self) -> u32 {
        self.given.last().map_or(0, |(generation, _)| *generation)
    }

    /// The secrets under which it is found at a time, the newest first.
    pub(crate) fn doors(&self, now_s: u64) -> Vec<RendezvousSecret> {
        let count = if now_s < self.since_s.saturating_add(OLDER_SLOT_S) { 2 } else { 1 };
        self.given.iter().rev().take(count).map(|(_, secret)| secret.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use locker_store::{Home, Limits, Store};

    use super::*;

    /// T27: under the words of before a replica is found for ninety days after it heard of the new ones, and not on.
    #[test]
    fn t27_the_slot_before_is_heard_for_ninety_days() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::init(folder.path()).unwrap();
        let key = locker_crypto::secret::VaultKey::random(&mut **crate::Env::system().dice());
        let dice = Box::new(crate::env::system_dice());
        let store = Store::create(home, &key, dice, Limits::default(), |_| Ok::<_, Error>(())).unwrap();
        let secret = |n| RendezvousSecret::new([n; 32]);
        let day = 86_400;
        let give = |g, at_s| {
            let slot = Slot::new(3).unwrap();
            store.write(|txn| Slots::give(txn, (g, slot), &secret(u8::try_from(g).unwrap()), at_s)).unwrap();
            Slots::read(&store.read().unwrap()).unwrap()
        };
        assert_eq!(Slots::read(&store.read().unwrap()).unwrap().doors(0).len(), 0);
        let first = give(0, 5);
        assert!((first.generation(), first.doors(5)) == (0, vec![secret(0)]));
        let second = give(1, 10 * day);
        assert_eq!(second.generation(), 1);
        assert!(second.doors(100 * day - 1) == [secret(1), secret(0)]);
        assert!(second.doors(100 * day) == [secret(1)]);
        let third = give(2, 11 * day);
        assert!(third.doors(12 * day) == [secret(2), secret(1)]);
    }
}
