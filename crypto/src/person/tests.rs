use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use serde_json::Value;

use super::*;
use crate::Refusal;
use crate::derive::{Purpose, kdf};
use crate::id::{EntryId, ObjectHash, PersonId, SpaceId, VerifyingKey};
use crate::identity::{DeviceKeys, PersonKeys, Root, person_tag};
use crate::sealed_box::BoxKeys;
use crate::secret::{BoxSeed, DedupSecret, Entropy, PersonKey, SigningSeed};
use crate::sign::{Domain, Signing};

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
        let root = Root::from_entropy(&Entropy::new([1; 32]));
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

/// T27: the root changes by both roots only, and the old one is none afterwards.
#[test]
fn t27_a_root_change_needs_the_old_root_and_ends_it() {
    let mut alice = Alice::new();
    let new = Root::from_entropy(&Entropy::new([2; 32]));
    let thief = Root::from_entropy(&Entropy::new([3; 32]));
    let set = |old: &Root, new: &Root, generation| {
        alice.author().set_root(old, new, generation, &alice.keys, &mut dice(1))
    };
    let roster = read(&alice.log).unwrap();
    assert_eq!(roster.clone().append(&set(&new, &new, 1).entry), Err(Refusal::Sig), "by the new root only");
    assert_eq!(roster.clone().append(&set(&thief, &new, 1).entry), Err(Refusal::Sig));
    assert_eq!(roster.clone().append(&set(&alice.root, &new, 2).entry), Err(Refusal::Chain));
    let mut unsigned = Entry::read(&alice.person(), &set(&alice.root, &new, 1).entry).unwrap();
    if let Op::SetRoot { new_sig, .. } = &mut unsigned.body.ops[0] {
        new_sig[0] ^= 1;
    }
    assert_eq!(alice.next(unsigned.body.ops[0].clone()), Err(Refusal::Sig), "by the old root only");

    let made = set(&alice.root, &new, 1);
    let objects = alice.push(made);
    let sealed = &objects.last().unwrap().1;
    let author = alice.laptop.verifying_key();
    assert!(
        open_key_box(new.box_keys(), &alice.person(), 0, &author, sealed).unwrap() == *alice.keys.newest()
    );
    let roster = read(&alice.log).unwrap();
    assert_eq!(*roster.root(), new.verifying_key());
    assert_eq!(*roster.person(), alice.person(), "the person keeps its name");
    assert_eq!(roster.generation(), 1);

    let again = alice.author().set_root(&alice.root, &thief, 2, &alice.keys, &mut dice(1));
    assert_eq!(roster.clone().append(&again.entry), Err(Refusal::Rights), "the old root afterwards");
    let third = alice.author().set_root(&new, &thief, 2, &alice.keys, &mut dice(1));
    assert_eq!(roster.clone().append(&third.entry), Ok(()));
}

/// T28: no device comes in without having signed for this person itself.
#[test]
fn t28_a_ghost_device_is_refused() {
    let alice = Alice::new();
    let ghost = DeviceKeys::random(&mut dice(20));
    let other = DeviceKeys::random(&mut dice(21));
    let good = Candidate::new(&alice.person(), &ghost);
    let candidates = [
        Candidate { pop_sig: [0; 64], ..good.clone() },
        Candidate { pop_sig: Candidate::new(&alice.person(), &other).pop_sig, ..good.clone() },
        Candidate { pop_sig: Candidate::new(&PersonId([9; 32]), &ghost).pop_sig, ..good.clone() },
        Candidate { box_key: other.box_keys().public().clone(), ..good.clone() },
        Candidate { device: other.verifying_key(), ..good.clone() },
    ];
    let mut enrolment = match &Entry::read_genesis(&alice.log[0]).unwrap().1.body.ops[0] {
        Op::Genesis { device, .. } => device.clone(),
        _ => panic!(),
    };
    for candidate in &candidates {
        let made = alice.author().add_device(candidate, "ghost", &alice.keys, &mut dice(22));
        assert_eq!(made.err(), Some(Refusal::Pop), "an honest device does not add it");
        enrolment.device = candidate.device;
        enrolment.box_key = candidate.box_key.hash();
        enrolment.pop_sig = candidate.pop_sig;
        let op = Op::AddDevice { device: enrolment.clone(), boxes: Vec::new() };
        assert_eq!(alice.next(op), Err(Refusal::Pop), "and nobody believes one that does");
    }
    let weak = Candidate { device: VerifyingKey([0; 32]), ..good };
    let made = alice.author().add_device(&weak, "ghost", &alice.keys, &mut dice(22));
    assert_eq!(made.err(), Some(Refusal::Key));
}

/// T20: a server cannot slip another person key into a log it passes on.
#[test]
fn t20_a_foreign_person_key_is_refused() {
    let alice = Alice::new();
    let mallory = PersonKey::new([66; 32]);
    let roster = read(&alice.log).unwrap();
    let public = mallory.box_keys().public().clone();
    assert_eq!(roster.person_box(public.as_bytes()).err(), Some(Refusal::Hash), "another object");

    let mut genesis = Entry::read(&alice.person(), &alice.log[0]).unwrap();
    if let Op::Genesis { person_box, .. } = &mut genesis.body.ops[0] {
        *person_box = public.hash();
    }
    assert_eq!(
        read(&[genesis.to_bytes(&alice.person())]).err(),
        Some(Refusal::Sig),
        "another name in the entry"
    );
    let resigned = alice.forge(alice.laptop.signing(), 0, EntryId::ZERO, genesis.body.ops);
    assert_eq!(read(&[resigned]).err(), Some(Refusal::Sig), "even by a device, without the root");

    // A key change by a device that nobody brought in, or a whole log of somebody else.
    let op = Op::RemoveDevice {
        removal: Removal {
            device: alice.laptop.verifying_key(),
            frontier: Frontier { seq: 0, entry: alice.last },
        },
        person_box: public.hash(),
        boxes: Vec::new(),
        back: [0; PUK_BACK_LEN],
    };
    let stranger = Signing::from_seed(&SigningSeed::new([5; 32]));
    let entry = alice.forge(&stranger, 0, EntryId::ZERO, vec![op]);
    assert_eq!(roster.clone().append(&entry), Err(Refusal::Chain));
    let root = Root::from_entropy(&Entropy::new([77; 32]));
    let made = Author::genesis(&root, &alice.laptop, &mallory, "x", 1, &mut dice(1)).unwrap();
    assert_ne!(Roster::begin(&made.entry).unwrap().person(), roster.person());
    assert_eq!(Entry::read(&alice.person(), &made.entry).err(), Some(Refusal::Scope));
    assert_eq!(roster.clone().append(&made.entry), Err(Refusal::Scope));
}

/// T12: every bit of a wrapped key counts.
#[test]
fn t12_every_flipped_bit_of_puk_back_and_puk_box_is_refused() {
    let (newer, older) = (PersonKey::new([1; 32]), PersonKey::new([2; 32]));
    let mut back = seal_back(&newer, &older);
    for at in 0..back.len() * 8 {
        back[at / 8] ^= 1 << (at % 8);
        assert_eq!(open_back(&newer, &back).err(), Some(Refusal::Tag));
        back[at / 8] ^= 1 << (at % 8);
    }
    assert!(open_back(&newer, &back).unwrap() == older);
    let keys = BoxKeys::from_seed(&BoxSeed::new([3; 32]));
    let (person, author) = (PersonId([4; 32]), VerifyingKey([5; 32]));
    let mut sealed = seal_key_box(&person, 0, &author, &newer, keys.public(), &mut dice(1));
    for at in (0..sealed.len() * 8).step_by(3) {
        sealed[at / 8] ^= 1 << (at % 8);
        let answer = open_key_box(&keys, &person, 0, &author, &sealed).err();
        assert!(matches!(answer, Some(Refusal::Tag | Refusal::Key)), "{at}");
        sealed[at / 8] ^= 1 << (at % 8);
    }
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

#[test]
fn layouts_that_are_not_the_one_form_are_refused() {
    let alice = Alice::new();
    let good = &alice.log[0];
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Envelope::read(&bytes).unwrap_err()
    };
    assert_eq!(changed(3, b'2'), Refusal::Version);
    assert_eq!(changed(0, b'X'), Refusal::Canon);
    assert_eq!(changed(92, 1), Refusal::Canon, "epoch");
    assert_eq!(changed(130, 1), Refusal::Canon, "nonce");
    assert_eq!(changed(126, 4), Refusal::Limit, "length 262,145 or more");
    assert_eq!(changed(124, good[124].wrapping_add(1)), Refusal::Canon, "length");
    assert_eq!(changed(HEADER_LEN, 0x85), Refusal::Sig, "body");
    for cut in 0..good.len() {
        assert_eq!(Envelope::read(&good[..cut]).err(), Some(Refusal::Canon));
    }
    assert_eq!(Envelope::read(&[good.as_slice(), &[0]].concat()).err(), Some(Refusal::Canon));
    let mut weak = good.clone();
    weak[20..52].fill(0);
    assert_eq!(Envelope::read(&weak).err(), Some(Refusal::Key));
    assert_eq!(Entry::read(&PersonId([1; 32]), good).err(), Some(Refusal::Scope));
    assert_eq!(&good[4..20], person_tag(&alice.person()).as_bytes());
}

#[test]
fn bodies_that_are_not_the_one_form_are_refused() {
    let refused: &[(&str, Refusal)] = &[
        ("", Refusal::Canon),
        ("840200808000", Refusal::Version),
        ("8202f5", Refusal::Version),
        ("8301008080", Refusal::Canon),
    ];
    for (text, why) in refused {
        let answer = Body::decode(&hex::decode(text).unwrap());
        assert_eq!(answer.err(), Some(*why), "{text}");
    }
}

#[test]
fn limits_of_a_body_are_held_exactly() {
    let head = Head { author: VerifyingKey([1; 32]), seq: 0, entry: EntryId([2; 32]) };
    let op = Op::SetHome { space: SpaceId([1; 32]) };
    let body = |deps, ops| Body { hlc: 1, deps: vec![head; deps], ops: vec![op.clone(); ops] }.encode();
    assert!(Body::decode(&body(DEPS_MAX, OPS_MAX)).is_ok());
    assert_eq!(Body::decode(&body(DEPS_MAX + 1, 0)).err(), Some(Refusal::Limit));
    assert_eq!(Body::decode(&body(0, OPS_MAX + 1)).err(), Some(Refusal::Limit));
}

#[test]
fn an_operation_of_a_newer_program_is_kept_without_effect() {
    let mut alice = Alice::new();
    let op = Op::Unknown(hex::decode("8207f5").unwrap());
    let entry = alice.forge(alice.laptop.signing(), 1, alice.last, vec![op]);
    let parsed = Entry::read(&alice.person(), &entry).unwrap();
    assert_eq!(parsed.to_bytes(&alice.person()), entry);
    alice.log.push(entry);
    let roster = read(&alice.log).unwrap();
    assert!(roster.has_unknown_ops() && roster.is_active(&alice.laptop.verifying_key()));
}

#[test]
fn frontiers_cover_up_to_their_entry() {
    let frontier = Frontier { seq: 2, entry: EntryId([2; 32]) };
    assert_eq!(frontier.count(), 3);
    assert!(frontier.covers(1, &EntryId([9; 32])) && frontier.covers(2, &EntryId([2; 32])));
    assert!(!frontier.covers(2, &EntryId([9; 32])) && !frontier.covers(3, &EntryId([2; 32])));
    assert_eq!(Frontier::NONE.count(), 0);
    assert!(!Frontier::NONE.covers(0, &EntryId([1; 32])));
}

/// One operation of every code, with all fields filled.
fn samples() -> Vec<Body> {
    let mut alice = Alice::new();
    let phone = DeviceKeys::random(&mut dice(5));
    alice.add(&phone);
    let new = Root::from_entropy(&Entropy::new([2; 32]));
    let made = alice.author().set_root(&alice.root, &new, 1, &alice.keys, &mut dice(1));
    alice.push(made);
    let made = alice.author().set_home(SpaceId([8; 32]));
    alice.push(made);
    let mut keys = alice.keys.clone();
    keys.push(PersonKey::new([3; 32]));
    let removal =
        Removal { device: phone.verifying_key(), frontier: Frontier { seq: 300, entry: alice.last } };
    let stays = [alice.laptop.box_keys().public()];
    let made = alice.author().remove_device(removal, &keys, stays, &mut dice(6)).unwrap();
    alice.push(made);
    let recovery = Recovery { generation: 2, name: "n", removals: vec![removal; 2], keys: &keys };
    let place = Place::first(900, vec![alice.head()]);
    let author = Author { person: alice.person(), device: &phone, place };
    let made =
        author.recover(&new, Recovery { removals: Vec::new(), ..recovery }, [], &mut dice(11)).unwrap();
    alice.log.push(made.entry);
    let bodies: Vec<Body> =
        alice.log.iter().map(|entry| Body::decode(Envelope::read(entry).unwrap().body).unwrap()).collect();
    assert_eq!(bodies.len(), 6);
    bodies
}

#[test]
fn bodies_survive_any_change_of_bytes_and_keep_one_form() {
    let samples: Vec<Vec<u8>> = samples().iter().map(Body::encode).collect();
    for sample in &samples {
        assert_eq!(Body::decode(sample).unwrap().encode(), *sample);
    }
    let mut dice = dice(99);
    let mut accepted = 0;
    for round in 0..20_000 {
        let mut bytes = samples[round % samples.len()].clone();
        for _ in 0..=dice.next_u32() % 3 {
            let at = dice.next_u32() as usize % bytes.len();
            match dice.next_u32() % 4 {
                0 => bytes[at] ^= 1 << (dice.next_u32() % 8),
                1 => bytes[at] = dice.next_u32().to_le_bytes()[0],
                2 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, dice.next_u32().to_le_bytes()[0]),
            }
        }
        if let Ok(body) = Body::decode(&bytes) {
            assert_eq!(body.encode(), bytes);
            accepted += 1;
        }
    }
    assert!(accepted > 1_000, "most changes hit a hash or a signature, which any bytes fill: {accepted}");
}

#[test]
fn entries_survive_any_change_of_bytes() {
    let alice = Alice::new();
    let good = &alice.log[0];
    let mut dice = dice(98);
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        let at = dice.next_u32() as usize % bytes.len();
        match dice.next_u32() % 3 {
            0 => bytes[at] ^= 1 << (dice.next_u32() % 8),
            1 => bytes.truncate(at),
            _ => bytes.insert(at, dice.next_u32().to_le_bytes()[0]),
        }
        assert!(bytes == *good || Roster::begin(&bytes).is_err());
    }
    // The signature itself: any change is another signature, and never a second valid one.
    assert_eq!(Signing::from_seed(&SigningSeed::new([1; 32])).sign(Domain::Person, b"m").len(), 64);
}
