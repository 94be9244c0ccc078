//! Goal: a replica, which nobody needs to trust, sets nothing here that the person's own devices have not led to. Method: real
//! stores in temporary folders, whose logs are handed over in hostile orders, without a network.

use locker_crypto::epoch::{BOX_LEN, Bundle};
use locker_crypto::id::BoxTag;
use locker_crypto::identity::DeviceKeys;
use locker_crypto::person::{Author, Candidate, Head as PersonHead, Place};
use locker_crypto::secret::EpochSecret;
use locker_crypto::sign::Domain;
use locker_store::keyring::{self, SpaceEpoch};
use locker_sync::pairing::{Enrol, Role};

use super::*;
use crate::join::Given;
use crate::test_mesh::{World, id, names, pass};
use crate::writer::pin;
use crate::{Env, InitOptions, Locker, Secret, Vault};

/// A locker with the keys of its device.
struct Home {
    _folder: tempfile::TempDir,
    locker: Locker,
}

impl Home {
    fn first() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = InitOptions { name: Some("one".into()), vault: Vault::File };
        Locker::create(folder.path(), options, Env::system(), |_| Ok::<_, Error>(())).unwrap();
        Self::open(folder)
    }

    fn open(folder: tempfile::TempDir) -> Self {
        let none = &mut || Err::<Secret, _>(Error::PassphraseNeeded);
        let locker = Locker::open(folder.path(), Env::system(), none).unwrap();
        Self { _folder: folder, locker }
    }

    /// A device that this one brings in.
    fn bring_in(&self, name: &str) -> Self {
        let inner = self.locker.inner();
        let keys = DeviceKeys::random(&mut **inner.env().dice());
        let person = inner.keys().person;
        let grant = inner.enrol(&Enrol::new(Role::Full, name, &person, &keys)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let given = Given::check(person, &keys, &grant).unwrap();
        given.keep(folder.path(), &keys, &Vault::File, inner.env()).unwrap();
        Self::open(folder)
    }

    fn id(&self) -> VerifyingKey {
        self.locker.inner().keys().device_id()
    }

    fn person_items(&self, author: &VerifyingKey) -> Vec<Vec<u8>> {
        let inner = self.locker.inner();
        let items = inner.load_items(inner.person_log(), author, 0, 1 << 20, u64::MAX).unwrap();
        items.into_iter().map(|item| item.bytes).collect()
    }

    /// Takes entries of the person log, and says what became of each at last, and how many wait.
    fn take(&self, from: Asker, entries: &[Vec<u8>]) -> (Vec<Fate>, usize) {
        let inner = self.locker.inner();
        let log = inner.person_log();
        let items = (0..).zip(entries);
        let items = items.map(|(ticket, bytes)| Incoming { ticket, log, bytes: bytes.clone(), from });
        let taken = inner.take_items(items.collect()).unwrap();
        let fates: BTreeMap<u64, Fate> = taken.fates.into_iter().collect();
        (fates.into_values().collect(), taken.late.len())
    }

    fn knows(&self, device: &VerifyingKey) -> bool {
        self.locker.inner().standing().unwrap().active.contains(device)
    }
}

#[test]
fn what_a_replica_brings_waits_for_its_author_in_whatever_order_it_comes() {
    let one = Home::first();
    let two = one.bring_in("two");
    let three = one.bring_in("three");
    let four = three.bring_in("four");
    let by_one = three.person_items(&one.id());
    let by_three = three.person_items(&three.id());
    assert!(!by_three.is_empty());
    assert_eq!(two.take(Asker::Replica, &by_three), (vec![Fate::Waiting; by_three.len()], by_three.len()));
    assert!(!two.knows(&four.id()) && two.person_items(&three.id()).is_empty());
    let backwards: Vec<Vec<u8>> = by_three.iter().chain(&by_one).cloned().collect();
    assert_eq!(two.take(Asker::Replica, &backwards), (vec![Fate::Durable; backwards.len()], 0));
    assert!(two.knows(&three.id()) && two.knows(&four.id()));
}

/// T21: whoever has the person's name can sign entries under it with keys of his own, as many as he likes.
#[test]
fn t21_authors_whom_nobody_brought_in_are_not_kept_for_a_replica() {
    let one = Home::first();
    let two = one.bring_in("two");
    let inner = one.locker.inner();
    let (person, dice) = (inner.keys().person, &mut **inner.env().dice());
    let (stranger, other) = (DeviceKeys::random(dice), DeviceKeys::random(dice));
    let log = person_log(&inner.store().unwrap().read().unwrap(), &person).unwrap();
    let last = log.iter().max_by_key(|entry| entry.seq).unwrap();
    let dep = PersonHead { author: last.author, seq: last.seq, entry: last.id };
    let place = Place::first(last.body.hlc + 1, vec![dep]);
    let author = Author { person, device: &stranger, place };
    let keys = locker_crypto::identity::PersonKeys::new(locker_crypto::secret::PersonKey::random(dice));
    let made = author.add_device(&Candidate::new(&person, &other), "mine", &keys, dice).unwrap();
    assert_eq!(two.take(Asker::Replica, std::slice::from_ref(&made.entry)), (vec![Fate::Waiting], 1));
    let store = two.locker.inner();
    let snapshot = store.store().unwrap().read().unwrap();
    assert_eq!(persons::get(&snapshot, &person, &made.id).unwrap(), None);
}

/// Hands over the logs, and the objects that they name, but no box bundle.
fn pass_without_boxes(from: &Locker, to: &Locker) {
    let (source, target) = (from.inner(), to.inner());
    for (log, heads) in source.standing().unwrap().heads {
        for head in heads {
            let items = source.load_items(log, &head.author, 0, head.seq, u64::MAX).unwrap().into_iter();
            let items = items.map(|item| Incoming { ticket: 0, log, bytes: item.bytes, from: Asker::Device });
            target.take_items(items.collect()).unwrap();
        }
    }
    for ask in target.missing_objects().unwrap() {
        if let Ask::Object(_) = ask {
            let found = source.look_up(&ask, Asker::Device).unwrap();
            found.iter().for_each(|object| drop(target.take_object(object).unwrap()));
        }
    }
}

/// The bundle of another one, with other 32 bytes in every box and signed anew by `author`: what a cheating device
/// can send.
fn cheating(honest: &[u8], keys: &crate::keys::Keys, author: &DeviceKeys) -> Vec<u8> {
    let (epoch, recipient) = (&honest[20..52], keys.person_keys().unwrap().newest().box_keys());
    let info = [b"locker-v1 epoch-box".as_slice(), keys.space.as_bytes(), epoch].concat();
    let mut bytes = honest[..honest.len() - 64].to_vec();
    bytes[52..84].copy_from_slice(author.verifying_key().as_bytes());
    let dice = &mut crate::env::system_dice();
    for sealed in bytes[86..].chunks_exact_mut(BOX_LEN) {
        let other = recipient.public().seal(&info, author.verifying_key().as_bytes(), &[7; 32], dice);
        sealed[BoxTag::LEN..].copy_from_slice(&other);
    }
    let signature = author.signing().sign(Domain::Boxes, blake3::hash(&bytes).as_bytes());
    bytes.extend_from_slice(&signature);
    bytes
}

/// T75: a device that was off while another epoch began asks for its bundle, opens it and reads on. One with another
/// secret in it, by another device of the person, one by nobody, and one of another epoch give it nothing, and do not
/// stand in the way.
#[test]
fn t75_a_device_that_was_off_asks_for_the_bundle_of_an_epoch_and_opens_it() {
    let (world, first) = World::new();
    world.add(&first, "before.txt");
    let [late, cheat, thief] = ["late", "cheat", "thief"].map(|name| world.join(&first, name));
    pass(&first, &late);
    first.revoke_device(&id(&thief)).unwrap();
    world.add(&first, "after.txt");
    pass_without_boxes(&first, &late);

    let inner = late.inner();
    let epochs = inner.unknown_epochs();
    let [epoch] = epochs[..] else { panic!("{epochs:?}") };
    let ask = Ask::Boxes(inner.space_tag(), epoch);
    let asks = || {
        let mut missing = inner.missing_objects().unwrap();
        missing.retain(|ask| matches!(ask, Ask::Boxes(..)));
        missing
    };
    assert_eq!((asks(), names(&late)), (vec![ask], vec!["before.txt".to_owned()]));
    let secret = || {
        let snapshot = inner.store().unwrap().read().unwrap();
        let id = SpaceEpoch { space: inner.space_tag(), epoch };
        keyring::get::<EpochSecret, _>(&snapshot, &id).unwrap()
    };
    let bundles = || {
        let snapshot = inner.store().unwrap().read().unwrap();
        objects::bundles(&snapshot, &inner.space_tag(), &epoch).unwrap().len()
    };

    let honest = first.inner().look_up(&ask, Asker::Device).unwrap().remove(0);
    let keys = inner.keys();
    let by = cheat.inner().keys();
    let dice = &mut crate::env::system_dice();
    let stranger = DeviceKeys::random(dice);
    let puk = keys.person_keys().unwrap().newest().box_keys();
    let other = EpochSecret::new([8; 32]);
    let of_another = Bundle::seal(&keys.space, &other, by.device.signing(), [puk.public()], dice).unwrap();
    let false_one = cheating(&honest, &keys, &by.device);
    let opened = Bundle::decode(&false_one).unwrap().open(&keys.space, &puk);
    assert_eq!(opened.err(), Some(Refusal::Epoch), "it is no cheating bundle");
    let strange = cheating(&honest, &keys, &stranger);
    for (bytes, kept) in [(strange, 0), (false_one, 1), (of_another.encode(), 1)] {
        inner.take_object(&bytes).unwrap();
        assert_eq!((secret().is_none(), bundles()), (true, kept));
        assert_eq!((asks(), names(&late)), (vec![ask], vec!["before.txt".to_owned()]));
    }
    inner.take_object(&honest).unwrap();
    assert!(secret().is_some_and(|secret| secret.id() == epoch));
    assert_eq!((asks(), names(&late)), (vec![], names(&first)));
    assert_eq!(names(&late), ["after.txt", "before.txt"]);
}

/// What one batch of items lets go and pins again is wanted after it: nobody would ask for it again.
#[test]
fn a_pack_that_is_let_go_and_pinned_again_in_one_batch_is_wanted() {
    let (world, first) = World::new();
    world.add(&first, "a.txt");
    let second = world.join(&first, "second");
    let (source, target) = (first.inner(), second.inner());
    let wanted = target.wanted_packs().unwrap();
    let [(hash, _)] = wanted[..] else { panic!("{wanted:?}") };
    for (adds, drops) in [(vec![], vec![hash]), (vec![hash], vec![])] {
        let (store, keys) = (source.store().unwrap(), source.keys());
        store.write(|txn| pin(txn, keys.tag, &keys.device, adds, drops)).unwrap();
    }
    let (log, author) = (source.pin_log(), source.keys().device_id());
    let items = source.load_items(log, &author, 0, 1 << 20, u64::MAX).unwrap();
    let items =
        items.into_iter().map(|item| Incoming { ticket: 0, log, bytes: item.bytes, from: Asker::Device });
    let taken = target.take_items(items.collect()).unwrap();
    assert_eq!(taken.unwanted, []);
    assert!(taken.wanted.iter().any(|(wanted, _)| *wanted == hash), "{:?}", taken.wanted);
}

/// A command that fails does not throw away the entries that wait for others: they are nowhere else here.
#[test]
fn what_waits_goes_on_to_wait_after_a_change_that_failed() {
    let (world, first) = World::new();
    let second = world.join(&first, "second");
    let third = world.join(&first, "third");
    pass(&first, &second);
    world.add(&first, "b.txt");
    pass(&first, &second);
    world.add(&second, "c.txt");
    let (source, target) = (second.inner(), third.inner());
    let (log, author) = (source.entry_log(), source.keys().device_id());
    let items = source.load_items(log, &author, 0, 1 << 20, u64::MAX).unwrap();
    let items =
        items.into_iter().map(|item| Incoming { ticket: 0, log, bytes: item.bytes, from: Asker::Device });
    target.take_items(items.collect()).unwrap();
    let waiting = || target.space().as_ref().map(|space| space.waiting().len());
    assert_eq!(waiting(), Some(1));
    let fails = || Error::Limit("as a test wants it".into());
    assert!(target.commit::<()>(|_| Err(fails())).is_err());
    assert!(target.change_space::<()>(|_, _| Err(fails())).is_err());
    assert_eq!(waiting(), Some(1));
    pass(&first, &third);
    assert_eq!(names(&third), ["b.txt", "c.txt"]);
}

/// Goal: whoever offers the same rubbish again and again does not look like somebody who writes: nothing follows it.
#[test]
fn items_of_which_nothing_is_kept_are_no_news() {
    let one = Home::first();
    let two = one.bring_in("two");
    let (source, target) = (one.locker.inner(), two.locker.inner());
    one.locker.make_folder("folder", false).unwrap();
    let commits = || *target.commits().borrow();
    let (log, author) = (source.entry_log(), one.id());
    let item = source.load_items(log, &author, 1, 1 << 20, u64::MAX).unwrap().remove(0).bytes;
    let take = |bytes: &[u8]| {
        let item = Incoming { ticket: 0, log, bytes: bytes.to_vec(), from: Asker::Replica };
        target.take_items(vec![item]).unwrap().fates[0].1
    };
    let mut turned = item.clone();
    *turned.last_mut().unwrap() ^= 1;
    let before = commits();
    assert!(matches!(take(&turned), Fate::Refused(_)));
    assert_eq!(commits(), before);
    assert!(!matches!(take(&item), Fate::Refused(_)));
    assert_ne!(commits(), before);
}
