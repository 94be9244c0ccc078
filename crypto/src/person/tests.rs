//! Tests of `person`.

mod attacks;
mod forms;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use serde_json::Value;

use super::*;
use crate::Refusal;
use crate::derive::{Purpose, kdf};
use crate::id::{EntryId, ObjectHash, PersonId, SpaceId, VerifyingKey};
use crate::identity::{DeviceKeys, PersonKeys, Root};
use crate::sealed_box::BoxKeys;
use crate::secret::{BoxSeed, DedupSecret, Entropy, PersonKey, SigningSeed};
use crate::sign::Signing;

fn dice(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn array(value: &Value) -> [u8; 32] {
    bytes(value).try_into().unwrap()
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../docs/spec/vectors/person.json")).unwrap()
}

fn log(v: &Value) -> Vec<Vec<u8>> {
    v["log"].as_array().unwrap().iter().map(|entry| bytes(&entry["entry"])).collect()
}

/// Device boxes of the vectors are fixed in this way; real ones are random.
fn vector_device(seed: [u8; 32]) -> DeviceKeys {
    DeviceKeys::from_seeds(SigningSeed::new(seed), BoxSeed::new(kdf(Purpose::RootBox, &[&seed])))
}

fn read(entries: &[Vec<u8>]) -> Result<Roster, Refusal> {
    Roster::read(entries.iter().map(Vec::as_slice))
}

/// A person with one device, its keys, and the log so far.
struct Alice {
    root: Root,
    keys: PersonKeys,
    laptop: DeviceKeys,
    log: Vec<Vec<u8>>,
    last: EntryId,
    seq: u64,
}

impl Alice {
    fn new() -> Self {
        Self::of(1)
    }

    /// Another person for every number.
    fn of(seed: u8) -> Self {
        let root = Root::from_entropy(&Entropy::new([seed; 32]));
        let laptop = DeviceKeys::random(&mut dice(1));
        let key = PersonKey::random(&mut dice(2));
        let made = Author::genesis(&root, &laptop, &key, "laptop", 100, &mut dice(3)).unwrap();
        let log = vec![made.entry];
        Self { root, keys: PersonKeys::new(key), laptop, log, last: made.id, seq: 0 }
    }

    fn person(&self) -> PersonId {
        self.root.person_id()
    }

    fn author(&self) -> Author<'_> {
        let place = Place { seq: self.seq + 1, prev: self.last, hlc: 101 + self.seq, deps: Vec::new() };
        Author { person: self.person(), device: &self.laptop, place }
    }

    fn push(&mut self, made: Made) -> Vec<(ObjectHash, Vec<u8>)> {
        self.log.push(made.entry);
        self.last = made.id;
        self.seq += 1;
        made.objects
    }

    fn head(&self) -> Head {
        Head { author: self.laptop.verifying_key(), seq: self.seq, entry: self.last }
    }

    fn add(&mut self, device: &DeviceKeys) -> Vec<(ObjectHash, Vec<u8>)> {
        let candidate = Candidate::new(&self.person(), device);
        let made = self.author().add_device(&candidate, "phone", &self.keys, &mut dice(4)).unwrap();
        self.push(made)
    }

    /// Signs an entry with any operations: what a broken or hostile program could send.
    fn forge(&self, signer: &Signing, seq: u64, prev: EntryId, ops: Vec<Op>) -> Vec<u8> {
        let body = Body { hlc: 1_000, deps: Vec::new(), ops };
        Entry::write(&self.person(), signer, seq, &prev, &body).1
    }

    fn next(&self, op: Op) -> Result<(), Refusal> {
        let entry = self.forge(self.laptop.signing(), self.seq + 1, self.last, vec![op]);
        read(&self.log).unwrap().append(&entry)
    }
}

#[test]
fn the_log_of_the_vectors_is_read_and_written_again() {
    let v = vectors();
    let entries = log(&v);
    let names = ["genesis", "add_device", "remove_device"];
    for upto in 1..=entries.len() {
        let roster = read(&entries[..upto]).unwrap();
        let mut active: Vec<String> = roster.active().map(|device| hex::encode(device.0)).collect();
        let mut expected: Vec<String> = v["active_after"][names[upto - 1]]
            .as_array()
            .unwrap()
            .iter()
            .map(|device| device.as_str().unwrap().to_owned())
            .collect();
        active.sort();
        expected.sort();
        assert_eq!(active, expected);
    }
    let roster = read(&entries).unwrap();
    let person = *roster.person();
    for (case, entry) in v["log"].as_array().unwrap().iter().zip(&entries) {
        let parsed = Entry::read(&person, entry).unwrap();
        assert_eq!(parsed.id, EntryId(array(&case["entry_id"])));
        assert_eq!(parsed.to_bytes(&person), *entry);
    }
    assert_eq!(entries.len(), 3);

    // The same operations, made by our own code, give the same bytes.
    let root = Root::from_entropy(&Entropy::new(array(&v["entropy"])));
    let seeds: Vec<[u8; 32]> = v["device_seeds"].as_array().unwrap().iter().map(array).collect();
    let laptop = vector_device(seeds[0]);
    let phone = vector_device(seeds[1]);
    let (puk_0, puk_1) = (PersonKey::new(array(&v["puk_0"])), PersonKey::new(array(&v["puk_1"])));
    assert_eq!(seal_back(&puk_1, &puk_0)[..], bytes(&v["puk_back"]));
    let back: [u8; PUK_BACK_LEN] = bytes(&v["puk_back"]).try_into().unwrap();
    assert!(open_back(&puk_1, &back).unwrap() == puk_0);

    let keys = PersonKeys::from_generations(vec![puk_0.clone(), puk_1.clone()]).unwrap();
    let mut found = Vec::new();
    for (entry, device) in entries.iter().zip([&laptop, &phone]) {
        let parsed = Entry::read(&person, entry).unwrap();
        let (Op::Genesis { device: dev, .. } | Op::AddDevice { device: dev, .. }) = &parsed.body.ops[0]
        else {
            panic!("the first two entries bring devices in");
        };
        assert_eq!(dev.pop_sig, Candidate::new(&person, device).pop_sig);
        assert_eq!(dev.box_key, device.box_keys().public().hash());
        let name = open_name(&keys, &dev.device, &dev.sealed_name).unwrap();
        let nonce = dev.sealed_name[..24].try_into().unwrap();
        assert_eq!(seal_name(&puk_0, &nonce, &dev.device, &name).unwrap(), dev.sealed_name);
        found.push(name);
    }
    assert_eq!(Value::from(found), v["names"]);
    assert_eq!(roster.person_box(puk_1.box_keys().public().as_bytes()).unwrap(), *puk_1.box_keys().public());
    assert_eq!(roster.root_box(root.box_keys().public().as_bytes()).unwrap(), *root.box_keys().public());
    assert_eq!(*roster.root(), root.verifying_key());
}

#[test]
fn the_refused_entries_of_the_vectors_are_refused() {
    let v = vectors();
    let entries = log(&v);
    let mut seen = 0;
    for case in v["refused"].as_array().unwrap() {
        let entry = bytes(&case["entry"]);
        let answer = match case["replaces"].as_str() {
            Some("genesis") => Roster::begin(&entry).map(|_| ()),
            _ => Roster::begin(&entries[0]).unwrap().append(&entry),
        };
        assert_eq!(answer.unwrap_err().code(), case["expect"].as_str().unwrap(), "{}", case["id"]);
        seen += 1;
    }
    assert_eq!(seen, 4);
}

#[test]
fn the_key_box_of_the_vectors_opens() {
    let v: Value = serde_json::from_str(include_str!("../../../docs/spec/vectors/boxes.json")).unwrap();
    let case = &v["puk_box"];
    let keys = BoxKeys::from_seed(&BoxSeed::new(array(&case["recipient_ikm"])));
    let (person, author) = (PersonId(array(&case["person_id"])), VerifyingKey(array(&case["author_vk"])));
    let n = u32::try_from(case["n"].as_u64().unwrap()).unwrap();
    let sealed = [bytes(&case["enc"]), bytes(&case["ct"])].concat();
    let open = |n, author: &VerifyingKey, sealed: &[u8]| open_key_box(&keys, &person, n, author, sealed);
    let key = open(n, &author, &sealed).unwrap();
    assert_eq!(key.expose(), &array(&case["opens_to"]));
    assert_eq!(open(n + 1, &author, &sealed).err(), Some(Refusal::Tag));
    assert_eq!(open(n, &VerifyingKey([9; 32]), &sealed).err(), Some(Refusal::Tag));
    assert_eq!(open(n, &author, &sealed[1..]).err(), Some(Refusal::Canon));
    let own = seal_key_box(&person, 3, &author, &key, keys.public(), &mut dice(1));
    assert_eq!(own.len(), KEY_BOX_LEN);
    assert!(open(3, &author, &own).unwrap() == key);
}

#[test]
fn a_genesis_names_all_its_objects_and_seals_the_key_to_root_and_device() {
    let root = Root::from_entropy(&Entropy::new([1; 32]));
    let laptop = DeviceKeys::random(&mut dice(1));
    let key = PersonKey::random(&mut dice(2));
    let made = Author::genesis(&root, &laptop, &key, "laptop", 100, &mut dice(3)).unwrap();
    let roster = Roster::begin(&made.entry).unwrap();
    let person = root.person_id();
    let object = |name: ObjectHash| {
        let (_, bytes) = made.objects.iter().find(|(known, _)| *known == name).unwrap();
        assert_eq!(ObjectHash(*blake3::hash(bytes).as_bytes()), name);
        bytes.as_slice()
    };
    let (_, entry) = Entry::read_genesis(&made.entry).unwrap();
    let Op::Genesis { root_box, device, person_box, boxes, .. } = &entry.body.ops[0] else { panic!() };
    roster.root_box(object(*root_box)).unwrap();
    roster.device_box(&device.device, object(device.box_key)).unwrap();
    roster.person_box(object(*person_box)).unwrap();
    assert_eq!((boxes.len(), made.objects.len()), (2, 5));
    for (keys, name) in [root.box_keys(), laptop.box_keys()].into_iter().zip(boxes) {
        assert!(open_key_box(keys, &person, 0, &laptop.verifying_key(), object(*name)).unwrap() == key);
    }
    assert_eq!(open_name(&PersonKeys::new(key), &device.device, &device.sealed_name).unwrap(), "laptop");
    let long = "x".repeat(DEVICE_NAME_LEN_MAX + 1);
    let key = PersonKey::new([0; 32]);
    let refused = Author::genesis(&root, &laptop, &key, &long, 100, &mut dice(3)).err();
    assert_eq!(refused, Some(Refusal::Limit));
    assert!(Author::genesis(&root, &laptop, &key, &long[1..], 100, &mut dice(3)).is_ok());
}

#[test]
fn a_removal_changes_the_key_for_those_who_stay() {
    let mut alice = Alice::new();
    let phone = DeviceKeys::random(&mut dice(5));
    let objects = alice.add(&phone);
    let joined = alice.laptop.verifying_key();
    let sealed = &objects.last().unwrap().1;
    let key = open_key_box(phone.box_keys(), &alice.person(), 0, &joined, sealed).unwrap();
    assert!(key == *alice.keys.newest());

    let removal = Removal { device: phone.verifying_key(), frontier: Frontier::NONE };
    let stays = [alice.laptop.box_keys().public(), alice.root.box_keys().public()];
    let stale = alice.author().remove_device(removal, &alice.keys, stays, &mut dice(6));
    assert_eq!(stale.err(), Some(Refusal::Key), "without a new key");
    let mut keys = alice.keys.clone();
    keys.push(PersonKey::random(&mut dice(7)));
    let made = alice.author().remove_device(removal, &keys, stays, &mut dice(8)).unwrap();
    alice.keys = keys;
    let objects = alice.push(made);
    let boxes: Vec<_> = objects.iter().filter(|(_, bytes)| bytes.len() == KEY_BOX_LEN).collect();
    assert_eq!(boxes.len(), 2);
    for (_, sealed) in boxes {
        assert!(open_key_box(phone.box_keys(), &alice.person(), 1, &joined, sealed).is_err());
    }
    let roster = read(&alice.log).unwrap();
    assert!(!roster.is_active(&phone.verifying_key()));
    assert_eq!(roster.person_generation(), 1);

    // What the removed device writes above its frontier is refused, and it cannot come back.
    let entry = alice.forge(phone.signing(), 0, EntryId::ZERO, vec![Op::SetHome { space: SpaceId::ZERO }]);
    assert_eq!(roster.clone().append(&entry), Err(Refusal::Frontier));
    alice.add(&phone);
    assert!(!read(&alice.log).unwrap().is_active(&phone.verifying_key()));
}

#[test]
fn a_removal_below_what_stands_in_the_log_is_refused() {
    let mut alice = Alice::new();
    let phone = DeviceKeys::random(&mut dice(5));
    alice.add(&phone);
    let place = Place::first(500, vec![alice.head()]);
    let author = Author { person: alice.person(), device: &phone, place };
    let made = author.set_home(SpaceId([4; 32]));
    let head = made.id;
    alice.log.push(made.entry);
    assert_eq!(read(&alice.log).unwrap().home(), Some(&SpaceId([4; 32])));
    let remove = |frontier| Op::RemoveDevice {
        removal: Removal { device: phone.verifying_key(), frontier },
        person_box: ObjectHash::ZERO,
        boxes: Vec::new(),
        back: [0; PUK_BACK_LEN],
    };
    assert_eq!(alice.next(remove(Frontier::NONE)), Err(Refusal::Frontier));
    assert_eq!(alice.next(remove(Frontier { seq: 0, entry: EntryId([1; 32]) })), Err(Refusal::Frontier));
    assert_eq!(alice.next(remove(Frontier { seq: 0, entry: head })), Ok(()));
}

#[test]
fn the_first_home_counts() {
    let mut alice = Alice::new();
    for space in [SpaceId([1; 32]), SpaceId([2; 32])] {
        let made = alice.author().set_home(space);
        alice.push(made);
    }
    assert_eq!(read(&alice.log).unwrap().home(), Some(&SpaceId([1; 32])));
}

#[test]
fn the_dedup_secret_of_the_home_space_opens_with_the_persons_keys_only() {
    let mut keys = PersonKeys::new(PersonKey::new([1; 32]));
    let secret = DedupSecret::new([7; 32]);
    let stored = seal_dedup(keys.newest(), 3, &secret, &mut dice(1));
    assert_eq!(stored.len(), 72);
    assert_eq!(dedup_meta_key(3), "d/3");
    keys.push(PersonKey::new([2; 32]));
    assert!(open_dedup(&keys, 3, &stored).unwrap() == secret);
    assert_eq!(open_dedup(&keys, 2, &stored).err(), Some(Refusal::Tag));
    assert_eq!(open_dedup(&PersonKeys::new(PersonKey::new([2; 32])), 3, &stored).err(), Some(Refusal::Tag));
    for at in 0..stored.len() {
        let mut changed = stored.clone();
        changed[at] ^= 4;
        assert_eq!(open_dedup(&keys, 3, &changed).err(), Some(Refusal::Tag));
    }
}

/// T95: which key a value was sealed under tells who holds that key: whoever could open what was begun with it.
#[test]
fn t95_a_value_tells_the_generation_of_its_key() {
    let key = |n: u8| PersonKey::new([n; 32]);
    let mut keys = PersonKeys::from_generations(vec![key(1), key(2), key(3)]).unwrap();
    keys.set_beside(vec![key(4)]);
    for n in 0..3 {
        let stored = seal_dedup(keys.get(n).unwrap(), 7, &DedupSecret::new([9; 32]), &mut dice(1));
        assert_eq!(meta_generation(&keys, &dedup_meta_key(7), &stored), Some(n));
        assert_eq!(meta_generation(&keys, &dedup_meta_key(8), &stored), None, "another place");
        let stored = seal_meta(keys.get(n).unwrap(), "r/1", b"slots", &mut dice(2));
        assert_eq!(meta_generation(&keys, "r/1", &stored), Some(n));
    }
    for other in [key(4), key(5)] {
        let stored = seal_meta(&other, "r/1", b"slots", &mut dice(3));
        assert_eq!(meta_generation(&keys, "r/1", &stored), None);
    }
    assert_eq!(meta_generation(&keys, "r/1", b"in clear"), None);
}

#[test]
fn a_recovery_brings_in_a_device_and_starts_a_generation() {
    let mut alice = Alice::new();
    let fresh = DeviceKeys::random(&mut dice(9));
    let mut keys = alice.keys.clone();
    keys.push(PersonKey::random(&mut dice(10)));
    let recover = |generation, root: &Root, removals: Vec<Removal>| {
        let place = Place::first(900, vec![alice.head()]);
        let recovery = Recovery { generation, name: "new", removals, keys: &keys };
        Author { person: alice.person(), device: &fresh, place }.recover(root, recovery, [], &mut dice(11))
    };
    let lost =
        Removal { device: alice.laptop.verifying_key(), frontier: Frontier { seq: 0, entry: alice.last } };
    let made = recover(1, &alice.root, vec![lost]).unwrap();
    let skipped = recover(2, &alice.root, vec![lost]).unwrap();
    let stranger = recover(1, &Root::from_entropy(&Entropy::new([2; 32])), vec![lost]).unwrap();
    let itself = Removal { device: fresh.verifying_key(), frontier: Frontier::NONE };
    assert_eq!(recover(1, &alice.root, vec![itself]).err(), Some(Refusal::Rights));
    let roster = read(&alice.log).unwrap();
    assert_eq!(roster.clone().append(&skipped.entry), Err(Refusal::Chain));
    assert_eq!(roster.clone().append(&stranger.entry), Err(Refusal::Sig));
    alice.log.push(made.entry);
    let roster = read(&alice.log).unwrap();
    assert_eq!(roster.active().collect::<Vec<_>>(), [&fresh.verifying_key()]);
    assert_eq!((roster.generation(), roster.person_generation()), (1, 1));
}

#[test]
fn a_new_key_takes_the_place_of_an_old_one_by_the_word_of_both() {
    let mut alice = Alice::new();
    let (phone, new) = (DeviceKeys::random(&mut dice(5)), DeviceKeys::random(&mut dice(6)));
    alice.add(&phone);
    let person = alice.person();
    let good = Succession::new(&person, &phone, &new);
    let made = |succession: &Succession| {
        alice.author().replace_device(succession, "phone", &alice.keys, &mut dice(7)).map(|made| made.entry)
    };
    let with = |change: &dyn Fn(&mut Succession)| {
        let mut changed = good.clone();
        change(&mut changed);
        made(&changed).err()
    };
    let other = Succession::new(&person, &phone, &DeviceKeys::random(&mut dice(8)));
    assert_eq!(with(&|s| s.old_sig = other.old_sig), Some(Refusal::Sig), "for another key");
    assert_eq!(with(&|s| s.old = new.verifying_key()), Some(Refusal::Rights), "in its own place");
    assert_eq!(with(&|s| s.old = alice.laptop.verifying_key()), Some(Refusal::Rights), "the author's own");
    assert_eq!(with(&|s| s.old = VerifyingKey([2; 32])), Some(Refusal::Key));
    assert_eq!(with(&|s| s.candidate = other.candidate.clone()), Some(Refusal::Sig));
    assert_eq!(with(&|s| s.candidate.pop_sig = other.candidate.pop_sig), Some(Refusal::Pop));
    let stranger = Succession::new(&PersonId([9; 32]), &phone, &new);
    assert_eq!(made(&stranger).err(), Some(Refusal::Pop), "for another person");

    let entry = made(&good).unwrap();
    let read_back = Entry::read(&person, &entry).unwrap();
    assert_eq!(read_back.to_bytes(&person), entry);
    let Op::ReplaceDevice { device, old, boxes, .. } = &read_back.body.ops[0] else {
        panic!("{:?}", read_back.body.ops)
    };
    assert_eq!((device.device, *old, boxes.len()), (new.verifying_key(), phone.verifying_key(), 1));
    // An opener of a link that the old key made, or one whom it brought in, still finds the way.
    let mut roster = read(&alice.log).unwrap();
    roster.append(&entry).unwrap();
    assert!(roster.is_active(&new.verifying_key()) && roster.is_active(&phone.verifying_key()));
}

#[test]
fn a_key_is_renewed_and_leads_back_to_the_one_before() {
    let mut alice = Alice::new();
    let phone = DeviceKeys::random(&mut dice(5));
    alice.add(&phone);
    let old = alice.keys.clone();
    let recipients = [phone.box_keys().public(), alice.root.box_keys().public()];
    assert_eq!(
        alice.author().renew_key(&old, recipients, &mut dice(8)).err(),
        Some(Refusal::Key),
        "no new one"
    );
    let mut keys = old.clone();
    keys.push(PersonKey::random(&mut dice(9)));
    let made = alice.author().renew_key(&keys, recipients, &mut dice(8)).unwrap();
    let (person, author) = (alice.person(), alice.laptop.verifying_key());
    let read_back = Entry::read(&person, &made.entry).unwrap();
    assert_eq!(read_back.to_bytes(&person), made.entry);
    let Op::RenewKey { boxes, back, .. } = &read_back.body.ops[0] else { panic!("{:?}", read_back.body.ops) };
    assert_eq!(boxes.len(), 2);
    let opened = made
        .objects
        .iter()
        .find_map(|(_, sealed)| open_key_box(phone.box_keys(), &person, 1, &author, sealed).ok());
    let opened = opened.unwrap();
    assert!(opened.expose() == keys.newest().expose());
    assert!(open_back(&opened, back).unwrap().expose() == old.newest().expose());
    let mut roster = read(&alice.log).unwrap();
    roster.append(&made.entry).unwrap();
    assert_eq!((roster.person_generation(), roster.active().count()), (1, 2));
}

#[test]
fn entries_at_a_wrong_place_are_refused() {
    let mut alice = Alice::new();
    let phone = DeviceKeys::random(&mut dice(5));
    alice.add(&phone);
    let roster = read(&alice.log).unwrap();
    let home = || vec![Op::SetHome { space: SpaceId([1; 32]) }];
    let laptop = alice.laptop.signing();
    let refused = |entry: &[u8]| roster.clone().append(entry).unwrap_err();
    assert_eq!(refused(&alice.log[1]), Refusal::Chain, "the same entry again");
    assert_eq!(refused(&alice.forge(laptop, 1, alice.last, home())), Refusal::Fork);
    assert_eq!(refused(&alice.forge(laptop, 3, alice.last, home())), Refusal::Gap);
    assert_eq!(refused(&alice.forge(laptop, 2, EntryId([1; 32]), home())), Refusal::Chain);
    assert_eq!(refused(&alice.forge(phone.signing(), 0, EntryId([1; 32]), home())), Refusal::Chain);
    let genesis = Entry::read(&alice.person(), &alice.log[0]).unwrap().body.ops.remove(0);
    assert_eq!(refused(&alice.forge(laptop, 2, alice.last, vec![genesis])), Refusal::Chain);
    assert_eq!(Roster::read([]).err(), Some(Refusal::Chain));
    assert_eq!(read(&alice.log[1..]).err(), Some(Refusal::Chain), "without genesis");

    let at = |hlc, deps| {
        let place = Place { seq: 2, prev: alice.last, hlc, deps };
        let author = Author { person: alice.person(), device: &alice.laptop, place };
        roster.clone().append(&author.set_home(SpaceId([1; 32])).entry)
    };
    assert_eq!(at(101, vec![]), Err(Refusal::Time));
    assert_eq!(at(102, vec![]), Ok(()));
    let unknown = Head { author: phone.verifying_key(), seq: 0, entry: EntryId([1; 32]) };
    assert_eq!(at(102, vec![unknown]), Err(Refusal::Gap));
    let other = Head { entry: EntryId([1; 32]), ..alice.head() };
    assert_eq!(at(102, vec![other]), Err(Refusal::Chain));
    let place = Place::first(101, vec![alice.head()]);
    let behind = Author { person: alice.person(), device: &phone, place }.set_home(SpaceId([1; 32]));
    assert_eq!(refused(&behind.entry), Refusal::Time, "not later than a dep");
    let itself = Op::RemoveDevice {
        removal: Removal { device: alice.laptop.verifying_key(), frontier: Frontier::NONE },
        person_box: ObjectHash::ZERO,
        boxes: Vec::new(),
        back: [0; PUK_BACK_LEN],
    };
    assert_eq!(alice.next(itself), Err(Refusal::Rights));
}
