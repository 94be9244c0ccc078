//! The home into which a locker comes back: begun with the person log and the keys that it hands on to the phrase.

use std::collections::BTreeMap;
use std::path::Path;

use locker_catalog::roster::Roster;
use locker_catalog::space::Space;
use locker_crypto::Refusal;
use locker_crypto::id::{ObjectHash, PersonId, SpaceId};
use locker_crypto::identity::{DeviceKeys, PersonKeys, Root};
use locker_crypto::person::Entry;
use locker_store::{Limits, Store, WriteTxn, keyring, objects, persons, settings};

use super::UNFINISHED;
use crate::create::{init_home, make_run_folder};
use crate::keys::{HOME_SPACE, PERSON, one_genesis};
use crate::person_keys::{open_newest, person_keys};
use crate::{Env, Error, Vault, vault};

/// The person log with what it names, checked against the phrase.
pub(super) struct PersonLog {
    person: PersonId,
    entries: Vec<(Entry, Vec<u8>)>,
    objects: Vec<Vec<u8>>,
    roster: Roster,
    keys: PersonKeys,
    home: SpaceId,
}

impl PersonLog {
    /// Checks a log: it is that of this person, the root key that counts is that of the phrase, and its keys open.
    ///
    /// # Errors
    /// [`Error::Integrity`] for a log that is not one; [`Error::PhraseRefused`] for that of another phrase.
    pub(super) fn check(
        root: &Root,
        person: PersonId,
        bytes: Vec<Vec<u8>>,
        found: Vec<Vec<u8>>,
    ) -> Result<Self, Error> {
        let damaged = |why| Error::damaged("the person log that was given", why);
        let mut entries = Vec::with_capacity(bytes.len());
        for bytes in bytes {
            entries.push((Entry::read(&person, &bytes).map_err(damaged)?, bytes));
        }
        let read: Vec<Entry> = entries.iter().map(|(entry, _)| entry.clone()).collect();
        one_genesis(&read).map_err(damaged)?;
        let roster = Roster::read(person, &read);
        if roster.root != root.verifying_key() {
            return Err(Error::PhraseRefused("another phrase has taken the place of this one".into()));
        }
        let home = roster.home.ok_or_else(|| damaged(Refusal::Chain))?;
        let named: BTreeMap<ObjectHash, &Vec<u8>> =
            found.iter().map(|object| (ObjectHash(*blake3::hash(object).as_bytes()), object)).collect();
        let object = |hash: &ObjectHash| Ok(named.get(hash).map(|object| (*object).clone()));
        let opened = open_newest(&person, (&read, &roster), &[root.box_keys()], object)?;
        let (generation, newest) = opened.ok_or_else(|| damaged(Refusal::Key))?;
        let keys = person_keys(&read, generation, &newest).map_err(damaged)?;
        Ok(Self { person, entries, objects: found, roster, keys, home })
    }

    /// Begins the home: one durable commit.
    pub(super) fn keep(&self, home: &Path, kind: &Vault, env: &Env) -> Result<(), Error> {
        let opened = init_home(home)?;
        make_run_folder(home)?;
        let key = vault::create(&opened, kind, env)?;
        let device = DeviceKeys::random(&mut **env.dice());
        let generation = u32::try_from(self.roster.generation).map_err(|_| Error::Refused(Refusal::Limit))?;
        let dice = Box::new(crate::env::system_dice());
        Store::create(opened, &key, dice, Limits::default(), |txn| {
            settings::put(txn, UNFINISHED, &generation.to_le_bytes());
            self.write(txn, &device, env)
        })?;
        Ok(())
    }

    fn write(&self, txn: &mut WriteTxn<'_>, device: &DeviceKeys, env: &Env) -> Result<(), Error> {
        let person = self.person;
        for (entry, bytes) in &self.entries {
            persons::put(txn, &person, &entry.id, bytes);
        }
        for object in &self.objects {
            objects::put(txn, object);
        }
        let tag = locker_crypto::entry::space_tag(&self.home);
        {
            let mut rows = txn.rows_mut(tag);
            let mut space = Space::open(&rows, self.home, device.verifying_key())?;
            space.set_roster(&mut rows, person, &self.roster, env.now_ms())?;
        }
        keyring::put(txn, &(), device.signing_seed());
        keyring::put(txn, &(), device.box_seed());
        for n in 0..=self.keys.generation() {
            if let Some(key) = self.keys.get(n) {
                keyring::put(txn, &n, key);
            }
        }
        settings::put(txn, PERSON, person.as_bytes());
        settings::put(txn, HOME_SPACE, self.home.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use locker_sync::message::v1::LogKind;

    use locker_store::objects;

    use crate::keys::{named_objects, person_log};
    use crate::node::{Asker, Incoming};
    use crate::recover::RecoverFrom;
    use crate::report::StateHash;
    use crate::test_mesh::{World, names, pass};
    use crate::{Locker, Node, NodeOptions};

    /// Hands over the person log without what it names.
    fn pass_bare_log(from: &Locker, to: &Locker) {
        let (source, target) = (from.inner(), to.inner());
        for (log, heads) in source.standing().unwrap().heads {
            for head in heads.iter().filter(|_| log.kind == LogKind::Person) {
                let items = source.load_items(log, &head.author, 0, head.seq, u64::MAX).unwrap();
                let incoming = |bytes| Incoming { ticket: 0, log, bytes, from: Asker::Device };
                target.take_items(items.into_iter().map(|item| incoming(item.bytes)).collect()).unwrap();
            }
        }
    }

    /// A device with a file, and one that was recovered from it and of which it has the log without what that names.
    fn bare() -> (World, Locker, Locker) {
        let (world, first) = World::new();
        world.add(&first, "before.txt");
        drop(first);
        let back = world.recover("first", &world.phrase, "back");
        let first = world.open("first");
        pass_bare_log(&back, &first);
        (world, first, back)
    }

    /// Goal: a device that was ended before it handed on the keys it had begun takes nothing with it. Method: its entry comes
    /// without them to the device from which the words then bring back all there is; it comes back later itself.
    #[test]
    fn keys_that_were_not_handed_on_hold_nothing_up() {
        let (world, first, back) = bare();
        world.add(&first, "since.txt");
        drop(first);
        let again = world.recover("first", &world.phrase, "again");
        assert_eq!(names(&again), ["before.txt", "since.txt"]);
        world.add(&again, "by-again.txt");
        world.add(&back, "by-back.txt");
        for _ in 0..2 {
            pass(&back, &again);
            // As a node does.
            crate::rotate::renew(&again.inner()).unwrap();
            pass(&again, &back);
        }
        pass(&back, &again);
        let state = |locker: &Locker| locker.status(StateHash::Always).unwrap().state_hash;
        assert_eq!(names(&again), ["before.txt", "by-again.txt", "by-back.txt", "since.txt"]);
        assert_eq!((names(&again), state(&again)), (names(&back), state(&back)));
    }

    /// Goal: the same over the network, where whoever recovers says no sooner that he is done than the one he came from holds
    /// the keys with which the words open everything. Method: twice in a row from a node that lacks those of an earlier one.
    #[test]
    fn keys_that_were_not_handed_on_hold_nothing_up_over_the_network() {
        let (world, first, _back) = bare();
        assert!(!first.inner().missing_objects().unwrap().is_empty());
        let listen = vec!["127.0.0.1:0".parse().unwrap()];
        let node = Node::start(&first, NodeOptions { listen, ..NodeOptions::default() }).unwrap();
        let at = node.listen().into_iter().find(|at| at.contains("/tcp/")).unwrap();
        for name in ["again", "once more"] {
            let again = world.recover_from(RecoverFrom::Address(at.clone()), &world.phrase, name);
            assert_eq!(names(&again), ["before.txt"]);
            let (author, inner) = (again.inner().keys().device_id(), first.inner());
            let store = inner.store().unwrap();
            let snapshot = store.read().unwrap();
            let log = person_log(&snapshot, &inner.keys().person).unwrap();
            let of_it: Vec<_> =
                log.iter().filter(|entry| entry.author == author).flat_map(named_objects).collect();
            assert!(!of_it.is_empty());
            assert!(of_it.iter().all(|name| objects::get(&snapshot, name).unwrap().is_some()), "{name}");
        }
    }
}
