//! What goes into a depot and what does not, with a person of two devices who writes, and others who would like to.

use locker_crypto::Refusal;
use locker_crypto::capability::{Capability, Grant, Rights, Scope};
use locker_crypto::entry::{self, EntryBody, Place, SealedEntry, space_tag};
use locker_crypto::epoch::Bundle;
use locker_crypto::id::{EntryId, PackHash, PinId, SpaceId, SpaceTag, VerifyingKey};
use locker_crypto::identity::{DeviceKeys, PersonKeys, Root, Slot};
use locker_crypto::person::{self, Author, Candidate, Frontier, Head, Made, Removal};
use locker_crypto::pin::{PinDelta, SignedDelta};
use locker_crypto::secret::{
    DedupSecret, Entropy, EpochSecret, PersonKey, RendezvousMaster, RendezvousSecret, SigningSeed,
};
use locker_store::index::{self, PackState};
use locker_store::{Home, Limits, Store, keyring, persons};
use locker_sync::message::v1::{Ask, LogKind};
use locker_sync::session::Fate;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::*;
use crate::{Env, Vault, vault};

/// A person with two devices, and the home space that the first one began.
struct World {
    dice: ChaCha8Rng,
    root: Root,
    keys: PersonKeys,
    devices: [DeviceKeys; 2],
    log: Vec<Made>,
    epoch: EpochSecret,
    space: SpaceId,
    genesis: SealedEntry,
}

impl World {
    fn new() -> Self {
        let mut dice = ChaCha8Rng::seed_from_u64(6);
        let root = Root::from_entropy(&Entropy::random(&mut dice));
        let keys = PersonKeys::new(PersonKey::random(&mut dice));
        let devices = [DeviceKeys::random(&mut dice), DeviceKeys::random(&mut dice)];
        let first = Author::genesis(&root, &devices[0], keys.newest(), "one", 1 << 16, &mut dice).unwrap();
        let epoch = EpochSecret::random(&mut dice);
        let place = Place { space_tag: SpaceTag::ZERO, seq: 0, prev: EntryId::ZERO, epoch: epoch.id() };
        let genesis = seal(&place, &epoch, &devices[0], &mut dice);
        let space = SpaceId(genesis.id.0);
        let mut world = Self { dice, root, keys, devices, log: vec![first], epoch, space, genesis };
        let home = world.author(0).set_home(world.space);
        world.log.push(home);
        let candidate = Candidate::new(&world.root.person_id(), &world.devices[1]);
        let mut dice = world.dice.clone();
        let added = world.author(0).add_device(&candidate, "two", &world.keys, &mut dice).unwrap();
        world.log.push(added);
        world
    }

    /// Where the first device's next entry of the person log stands.
    fn author(&self, device: usize) -> Author<'_> {
        let seq = self.log.len() as u64;
        let hlc = (seq + 2) << 16;
        let (place, person) = match device {
            0 => {
                let prev = self.log[self.log.len() - 1].id;
                (person::Place { seq, prev, hlc, deps: Vec::new() }, self.root.person_id())
            }
            _ => {
                let author = self.devices[0].verifying_key();
                let dep = Head { author, seq: seq - 1, entry: self.log[self.log.len() - 1].id };
                (person::Place::first(hlc, vec![dep]), self.root.person_id())
            }
        };
        Author { person, device: &self.devices[device], place }
    }

    fn tag(&self) -> SpaceTag {
        space_tag(&self.space)
    }

    /// An entry of a device, after another one.
    fn entry(&mut self, device: usize, seq: u64, prev: EntryId) -> SealedEntry {
        let place = Place { space_tag: self.tag(), seq, prev, epoch: self.epoch.id() };
        seal(&place, &self.epoch, &self.devices[device], &mut self.dice)
    }

    fn delta(&self, device: usize, seq: u64, prev: PinId, adds: &[u8], drops: &[u8]) -> SignedDelta {
        let packs = |list: &[u8]| list.iter().map(|n| pack(*n)).collect();
        let author = self.devices[device].verifying_key();
        let delta =
            PinDelta { space_tag: self.tag(), author, seq, prev, adds: packs(adds), drops: packs(drops) };
        delta.sign(self.devices[device].signing()).unwrap()
    }

    fn token(&mut self, audience: VerifyingKey) -> Capability {
        let grant = Grant {
            audience,
            space_tag: self.tag(),
            rights: Rights::REPLICATE,
            scope: Scope::Space,
            not_before: 0,
            expires: 1 << 40,
            depth: 0,
            quota: None,
            terms: Default::default(),
        };
        Capability::issue(self.devices[0].signing(), grant, &mut self.dice).unwrap()
    }
}

fn seal(place: &Place, epoch: &EpochSecret, device: &DeviceKeys, dice: &mut ChaCha8Rng) -> SealedEntry {
    let body = EntryBody { hlc: (place.seq + 1) << 16, deps: Vec::new(), ops: Vec::new() };
    entry::seal(place, &body, &epoch.log_key(), device.signing(), dice).unwrap()
}

fn pack(n: u8) -> PackHash {
    PackHash([n; 32])
}

/// A depot in a temporary folder.
struct Kept {
    _folder: tempfile::TempDir,
    store: Store,
    depot: Depot,
}

impl Kept {
    /// Begins one with the log as it is, and a quota.
    fn new(world: &mut World, quota: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        let keys = DeviceKeys::random(&mut world.dice);
        let token = world.token(keys.verifying_key());
        let terms = Terms { quota, keep_days: 7, token: Some(token) };
        let charge = Charge::new(world.root.person_id(), world.space, terms, &keys.verifying_key()).unwrap();
        let person_log: Vec<Vec<u8>> = world.log.iter().map(|made| made.entry.clone()).collect();
        let objects: Vec<Vec<u8>> =
            world.log.iter().flat_map(|made| &made.objects).map(|(_, bytes)| bytes.clone()).collect();
        let secret = RendezvousSecret::new([9; 32]);
        let beginning = Beginning {
            charge: &charge,
            keys: &keys,
            slot: Some(((0, Slot::new(3).unwrap()), &secret)),
            person_log: &person_log,
            objects: &objects,
        };
        beginning.keep(&home, &Vault::File, &Env::system()).unwrap();
        let opened = Home::open(&home).unwrap();
        let key = vault::open(&opened, &mut || panic!("no passphrase")).unwrap();
        let dice = Box::new(crate::env::system_dice());
        let limits = Limits { reserve_bytes: 0, low_water_bytes: 0, ..Limits::default() };
        let store = Store::open(opened, &key, dice, limits).unwrap();
        let depot = Depot::load(&store.read().unwrap()).unwrap().unwrap();
        assert_eq!(*depot.charge(), charge);
        Self { _folder: folder, store, depot }
    }

    fn take_all(&self, kind: LogKind, items: &[&[u8]]) -> Vec<Fate> {
        self.store
            .write::<_, Error>(|txn| {
                let mut intake = Intake::begin(&self.depot, txn)?;
                let fates = items.iter().map(|bytes| intake.take(txn, kind, bytes)).collect();
                intake.count();
                fates
            })
            .unwrap()
    }

    fn take(&self, kind: LogKind, bytes: &[u8]) -> Fate {
        self.take_all(kind, &[bytes])[0]
    }

    fn entry(&self, entry: &SealedEntry) -> Fate {
        self.take(LogKind::Entries, &entry.bytes)
    }

    /// The newest number of each author's entries.
    fn heads(&self, kind: LogKind) -> Vec<(VerifyingKey, u64)> {
        let heads = self.depot.heads(&self.store.read().unwrap()).unwrap();
        let of_kind = heads.into_iter().filter(|(log, _)| log.kind == kind);
        of_kind.flat_map(|(_, heads)| heads).map(|head| (head.author, head.seq)).collect()
    }

    /// Keeps the bytes of a pack as a fetch does.
    fn keep_pack(&self, seed: u8, len: usize) -> PackHash {
        let bytes = vec![seed; len];
        let hash = PackHash(*blake3::hash(&bytes).as_bytes());
        self.store.packs().write_all(&[(hash, &bytes)]).unwrap();
        let len = u32::try_from(len).unwrap();
        self.store.write(|txn| self.depot.hold(txn, &hash, len, 5)).unwrap();
        self.depot.count_kept(&[(hash, len)]);
        hash
    }
}

#[test]
fn entries_go_in_and_come_out_as_they_were_and_stay_over_a_restart() {
    let mut world = World::new();
    let kept = Kept::new(&mut world, 0);
    let (one, two) = (world.devices[0].verifying_key(), world.devices[1].verifying_key());
    let genesis = world.genesis.clone();
    let next = world.entry(0, 1, genesis.id);
    let other = world.entry(1, 0, EntryId::ZERO);
    for entry in [&genesis, &next, &other, &next] {
        assert_eq!(kept.entry(entry), Fate::Durable);
    }
    let mut expected = vec![(one, 1), (two, 0)];
    expected.sort_unstable();
    assert_eq!(kept.heads(LogKind::Entries), expected);
    assert_eq!(kept.heads(LogKind::Person), [(one, 2)]);
    let snapshot = kept.store.read().unwrap();
    let depot = Depot::load(&snapshot).unwrap().unwrap();
    let items = |from, to, bytes_max| {
        let items = depot.items(&snapshot, depot.entry_log(), &one, from, to, bytes_max).unwrap();
        items.into_iter().map(|item| item.bytes).collect::<Vec<_>>()
    };
    assert_eq!(items(0, 9, 1 << 20), [genesis.bytes.clone(), next.bytes.clone()]);
    assert_eq!((items(1, 1, 0), items(0, 9, 1).len()), (vec![next.bytes.clone()], 1));
    let log = depot.items(&snapshot, depot.person_log(), &one, 1, 1, 1 << 20).unwrap();
    assert_eq!(log[0].bytes, world.log[1].entry);
    // What it takes to open them for whoever may: asked for by the epoch, found by it.
    assert_eq!(depot.missing(&snapshot).unwrap(), [Ask::Boxes(world.tag(), world.epoch.id())]);
}

#[test]
fn t21_forged_and_spliced_entries_are_refused_and_strangers_wait() {
    let mut world = World::new();
    let kept = Kept::new(&mut world, 0);
    let genesis = world.genesis.clone();
    kept.entry(&genesis);
    let good = world.entry(0, 1, genesis.id);
    let refused = |bytes: &[u8]| match kept.take(LogKind::Entries, bytes) {
        Fate::Refused(why) => why,
        other => panic!("{other:?}"),
    };
    // The author changed, the signature left: T14.
    let mut forged = good.bytes.clone();
    forged[20..52].copy_from_slice(world.devices[1].verifying_key().as_bytes());
    assert_eq!(refused(&forged), Refusal::Sig);
    // Another space, signed by a member of this one.
    let place = Place { space_tag: SpaceTag([7; 16]), seq: 1, prev: genesis.id, epoch: world.epoch.id() };
    let spliced = seal(&place, &world.epoch, &world.devices[0], &mut world.dice);
    assert_eq!(refused(&spliced.bytes), Refusal::Scope);
    // A second genesis makes another space.
    let place = Place { space_tag: SpaceTag::ZERO, seq: 0, prev: EntryId::ZERO, epoch: world.epoch.id() };
    let other = seal(&place, &world.epoch, &world.devices[1], &mut world.dice);
    assert_eq!(refused(&other.bytes), Refusal::Scope);
    // A chain that cannot be.
    let broken = world.entry(0, 2, EntryId::ZERO);
    assert_eq!(refused(&broken.bytes), Refusal::Chain);
    // Cut short, and longer than any entry.
    assert_eq!(refused(&good.bytes[..good.bytes.len() - 1]), Refusal::Canon);
    let mut long = good.bytes.clone();
    long[124..128].copy_from_slice(&(262_160_u32 + 256).to_le_bytes());
    assert_eq!(refused(&long), Refusal::Limit);
    // A key that no log names, and the replica's own: they wait, and are never told to others.
    let stranger = DeviceKeys::random(&mut world.dice);
    let place = Place { space_tag: world.tag(), seq: 0, prev: EntryId::ZERO, epoch: world.epoch.id() };
    let strange = seal(&place, &world.epoch, &stranger, &mut world.dice);
    assert_eq!(kept.entry(&strange), Fate::Waiting);
    assert_eq!(kept.heads(LogKind::Entries).len(), 1);
    // T22: no bit may be turned.
    for bit in 0..good.bytes.len() * 8 {
        let mut turned = good.bytes.clone();
        turned[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(kept.take(LogKind::Entries, &turned), Fate::Durable, "bit {bit}");
    }
    assert_eq!(kept.entry(&good), Fate::Durable);
}

#[test]
fn what_comes_too_early_follows_when_its_turn_comes() {
    let mut world = World::new();
    let all = world.log.clone();
    world.log.truncate(2);
    let kept = Kept::new(&mut world, 0);
    let genesis = world.genesis.clone();
    let next = world.entry(0, 1, genesis.id);
    let other = world.entry(1, 0, EntryId::ZERO);
    let pins = world.delta(1, 0, PinId::ZERO, &[1], &[]);
    assert_eq!(kept.entry(&next), Fate::Waiting);
    assert_eq!(kept.entry(&other), Fate::Waiting, "its device is not in the log yet");
    assert_eq!(kept.take(LogKind::Pins, &pins.bytes), Fate::Waiting);
    assert_eq!(kept.entry(&genesis), Fate::Durable);
    assert_eq!(kept.heads(LogKind::Entries), [(world.devices[0].verifying_key(), 1)]);
    assert_eq!(kept.take(LogKind::Person, &all[2].entry), Fate::Durable);
    assert_eq!(kept.heads(LogKind::Entries).len(), 2);
    assert_eq!(kept.heads(LogKind::Pins), [(world.devices[1].verifying_key(), 0)]);
    let snapshot = kept.store.read().unwrap();
    assert_eq!(kept.depot.wanted(&snapshot).unwrap(), [(pack(1), 0)]);
}

/// T93: one that cannot read does not decide; it keeps the proof, and whoever asks gets both.
#[test]
fn t93_both_branches_of_a_fork_are_kept_and_told() {
    let mut world = World::new();
    let kept = Kept::new(&mut world, 0);
    let genesis = world.genesis.clone();
    let (one, other) = (world.entry(0, 1, genesis.id), world.entry(0, 1, genesis.id));
    let behind = world.entry(0, 2, other.id);
    assert_eq!(kept.entry(&genesis), Fate::Durable);
    for entry in [&one, &other, &behind] {
        assert_eq!(kept.entry(entry), Fate::Durable);
    }
    let (snapshot, author) = (kept.store.read().unwrap(), world.devices[0].verifying_key());
    assert_eq!(kept.depot.forked(&snapshot).unwrap(), [(author, 1)].into());
    let items = kept.depot.items(&snapshot, kept.depot.entry_log(), &author, 1, 2, 1).unwrap();
    assert_eq!(items.iter().map(|item| item.seq).collect::<Vec<_>>(), [1, 1], "side by side");
}

/// Goal: the other branch of an author is asked for down to where it begins, though what was shown of it lies above all that
/// is here. Method: it comes entry by entry as it is asked for, the newest first.
#[test]
fn the_other_branch_is_asked_for_back_to_the_fork() {
    let mut world = World::new();
    let kept = Kept::new(&mut world, 0);
    let branch = |world: &mut World, len: u64| {
        let mut entries = vec![world.genesis.clone()];
        for seq in 1..=len {
            let prev = entries.last().unwrap().id;
            entries.push(world.entry(0, seq, prev));
        }
        entries
    };
    let (here, other) = (branch(&mut world, 3), branch(&mut world, 5));
    let author = world.devices[0].verifying_key();
    here.iter().for_each(|entry| assert_eq!(kept.entry(entry), Fate::Durable));
    assert_eq!(kept.depot.missing_entries(), []);
    // What is shown is number 5: what follows on number 3 here is sent.
    assert_eq!([&other[4], &other[5]].map(|entry| kept.entry(entry)), [Fate::Waiting, Fate::Waiting]);
    for seq in [3, 2] {
        assert!(kept.depot.missing_entries().contains(&(author, seq)), "{seq}");
        assert_eq!(kept.entry(&other[seq as usize]), Fate::Waiting);
    }
    assert!(kept.depot.missing_entries().contains(&(author, 1)));
    assert_eq!(kept.entry(&other[1]), Fate::Durable);
    assert_eq!(kept.depot.missing_entries(), []);
    assert_eq!(kept.heads(LogKind::Entries), [(author, 5)]);
    assert_eq!(kept.depot.forked(&kept.store.read().unwrap()).unwrap(), [(author, 1)].into());
}

/// Goal: what a removed device wrote, be it above its frontier, is kept as full devices keep it, for what others wrote may
/// name it; but it is no device any more for who is let in, and its pins hold nothing.
#[test]
fn a_removed_device_is_kept_and_holds_nothing() {
    let mut world = World::new();
    let kept = Kept::new(&mut world, 0);
    let genesis = world.genesis.clone();
    let first = world.entry(1, 0, EntryId::ZERO);
    let pins = world.delta(1, 0, PinId::ZERO, &[1], &[]);
    kept.take_all(LogKind::Entries, &[&genesis.bytes, &first.bytes]);
    kept.take(LogKind::Pins, &pins.bytes);
    let gone = world.devices[1].verifying_key();
    let mut keys = world.keys.clone();
    keys.push(PersonKey::random(&mut world.dice));
    let removal = Removal { device: gone, frontier: Frontier { seq: 0, entry: EntryId::ZERO } };
    let recipients = [world.root.box_keys().public().clone(), world.devices[0].box_keys().public().clone()];
    let mut dice = world.dice.clone();
    let made = world.author(0).remove_device(removal, &keys, recipients.iter(), &mut dice).unwrap();
    assert_eq!(kept.take(LogKind::Person, &made.entry), Fate::Durable);
    let later = world.entry(1, 1, first.id);
    assert_eq!(kept.entry(&later), Fate::Durable);
    let roster = kept.depot.roster(&kept.store.read().unwrap()).unwrap();
    assert!(!roster.admitted().contains(&gone) && roster.brought_in.contains(&gone));
    // An entry of the person log by a key that nothing brings in waits.
    let stranger = DeviceKeys::random(&mut world.dice);
    let author = Author {
        person: world.root.person_id(),
        device: &stranger,
        place: person::Place::first(9 << 20, vec![]),
    };
    assert_eq!(kept.take(LogKind::Person, &author.set_home(SpaceId([1; 32])).entry), Fate::Waiting);
}

#[test]
fn t93_pins_are_ones_own_and_a_dropped_pack_stays_for_its_days() {
    let mut world = World::new();
    let kept = Kept::new(&mut world, 0);
    let hash = kept.keep_pack(1, 5_000);
    let wanted = || kept.depot.wanted(&kept.store.read().unwrap()).unwrap();
    let pin = |delta: &PinDelta| delta.sign(world.devices[0].signing()).unwrap();
    let author = world.devices[0].verifying_key();
    let first = pin(&PinDelta {
        space_tag: world.tag(),
        author,
        seq: 0,
        prev: PinId::ZERO,
        adds: vec![hash, pack(2)],
        drops: Vec::new(),
    });
    assert_eq!(kept.take(LogKind::Pins, &first.bytes), Fate::Durable);
    assert_eq!(kept.take(LogKind::Pins, &first.bytes), Fate::Durable, "held");
    assert_eq!(wanted(), [(pack(2), 0)]);
    let refused = |delta: &SignedDelta, why| {
        assert_eq!(kept.take(LogKind::Pins, &delta.bytes), Fate::Refused(why));
    };
    // T93: the pin of somebody else.
    refused(&world.delta(1, 0, PinId::ZERO, &[], &[2]), Refusal::Rights);
    refused(&world.delta(0, 1, PinId([9; 32]), &[3], &[]), Refusal::Chain);
    refused(&world.delta(0, 0, PinId::ZERO, &[3], &[]), Refusal::Fork);
    assert_eq!(kept.take(LogKind::Pins, &world.delta(0, 2, PinId([9; 32]), &[3], &[]).bytes), Fate::Waiting);

    let sweep = |today, is_dry| kept.depot.sweep(&kept.store, today, &BTreeSet::new(), is_dry).unwrap();
    assert_eq!(sweep(1, false), Swept { checked: 1, ..Swept::default() });
    let dropped = pin(&PinDelta {
        space_tag: world.tag(),
        author,
        seq: 1,
        prev: first.id,
        adds: Vec::new(),
        drops: vec![hash, pack(2)],
    });
    assert_eq!(kept.take(LogKind::Pins, &dropped.bytes), Fate::Durable);
    assert_eq!(wanted(), []);
    // Day 10 is the first on which it is seen; seven days of running follow, however often it is looked.
    for today in [10, 10, 16] {
        assert_eq!(sweep(today, false), Swept { checked: 1, waiting: 1, ..Swept::default() }, "{today}");
    }
    assert_eq!(sweep(17, true).over, 1, "a dry look tells and does nothing");
    let spared = kept.depot.sweep(&kept.store, 17, &[hash].into(), false).unwrap();
    assert_eq!((spared.over, spared.waiting), (0, 1), "under way to somebody");
    assert!(kept.depot.used() > 0);
    assert_eq!(sweep(17, false), Swept { checked: 1, over: 1, over_bytes: 5_000, waiting: 0 });
    assert_eq!(kept.depot.used(), 0);
    assert_eq!(index::pack(&kept.store.read().unwrap(), &hash).unwrap(), None);
}

#[test]
fn a_pin_that_comes_back_ends_the_days() {
    let mut world = World::new();
    let kept = Kept::new(&mut world, 0);
    let hash = kept.keep_pack(1, 5_000);
    let sweep = |today| kept.depot.sweep(&kept.store, today, &BTreeSet::new(), false).unwrap().over;
    assert_eq!((sweep(1), sweep(7)), (0, 0));
    let author = world.devices[1].verifying_key();
    let delta = PinDelta {
        space_tag: world.tag(),
        author,
        seq: 0,
        prev: PinId::ZERO,
        adds: vec![hash],
        drops: Vec::new(),
    };
    let signed = delta.sign(world.devices[1].signing()).unwrap();
    assert_eq!(kept.take(LogKind::Pins, &signed.bytes), Fate::Durable);
    assert_eq!((sweep(20), sweep(40)), (0, 0));
    let dropped = PinDelta { seq: 1, prev: signed.id, adds: Vec::new(), drops: vec![hash], ..delta };
    let signed = dropped.sign(world.devices[1].signing()).unwrap();
    assert_eq!(kept.take(LogKind::Pins, &signed.bytes), Fate::Durable);
    assert_eq!((sweep(41), sweep(47), sweep(48)), (0, 0, 1));
}

#[test]
fn a_full_quota_refuses_what_is_new_and_evicts_nothing() {
    let mut world = World::new();
    let kept = Kept::new(&mut world, 200_000);
    let first = kept.keep_pack(1, 150_000);
    assert!(!kept.depot.has_room(&pack(2), 100_000));
    assert_eq!(kept.depot.refused(), 1);
    assert!(kept.depot.has_room(&pack(3), 1_000));
    assert!(!kept.depot.has_room(&pack(5), 48_500) && kept.depot.is_refused(&pack(5)), "it was promised");
    kept.depot.forget(&[pack(3), pack(2), pack(5)]);
    assert_eq!(kept.depot.refused(), 0);
    let genesis = world.genesis.clone();
    assert_eq!(kept.entry(&genesis), Fate::Durable, "there is room for it");
    kept.keep_pack(4, 48_700);
    let next = world.entry(0, 1, genesis.id);
    assert_eq!(kept.entry(&next), Fate::Refused(Refusal::Quota));
    let pins = world.delta(0, 0, PinId::ZERO, &[1], &[]);
    assert_eq!(kept.take(LogKind::Pins, &pins.bytes), Fate::Refused(Refusal::Quota));
    // What ends a device is taken all the same.
    let home = world.author(0).set_home(world.space);
    assert_eq!(kept.take(LogKind::Person, &home.entry), Fate::Durable);
    let pack = index::pack(&kept.store.read().unwrap(), &first).unwrap().unwrap();
    assert!(matches!(pack.state, PackState::Present { .. }));
}

/// T75: a bundle of somebody who is no device of the person, or of an epoch that no entry names, is not kept.
#[test]
fn t75_objects_are_those_that_a_log_names_and_bundles_of_devices() {
    let mut world = World::new();
    let kept = Kept::new(&mut world, 0);
    let genesis = world.genesis.clone();
    kept.entry(&genesis);
    let take = |bytes: &[u8]| kept.store.write(|txn| kept.depot.take_object(txn, bytes));
    let (_, named) = &world.log[0].objects[0];
    assert!(take(named).is_ok());
    assert!(matches!(take(b"anything"), Err(Error::Refused(Refusal::Scope))));
    let recipient = world.keys.newest().box_keys();
    let mut bundle = |device: &DeviceKeys, secret: &EpochSecret| {
        Bundle::seal(&world.space, secret, device.signing(), [recipient.public()], &mut world.dice)
            .unwrap()
            .encode()
    };
    let stranger =
        DeviceKeys::from_seeds(SigningSeed::new([1; 32]), locker_crypto::secret::BoxSeed::new([2; 32]));
    let (good, strange, other) = (
        bundle(&world.devices[1], &world.epoch),
        bundle(&stranger, &world.epoch),
        bundle(&world.devices[1], &EpochSecret::new([3; 32])),
    );
    assert!(take(&strange).is_err() && take(&other).is_err());
    assert!(take(&good).is_ok());
    let snapshot = kept.store.read().unwrap();
    let ask = Ask::Boxes(world.tag(), world.epoch.id());
    assert_eq!(kept.depot.object(&snapshot, &ask).unwrap(), [good]);
    assert_eq!(kept.depot.missing(&snapshot).unwrap(), []);
    assert!(persons::all(&snapshot, &world.root.person_id()).unwrap().len() == 3);
}

/// T90: whatever a replica does while all devices of its owner are off, as telling where it is, it does with the
/// secret of its slot and with keys of its own: it was given no key of the person, of a space or of another slot.
/// That slot it keeps.
#[test]
fn t90_a_replica_has_its_slot_and_no_key_of_its_owner() {
    let mut world = World::new();
    let kept = Kept::new(&mut world, 0);
    for entry in [world.genesis.clone(), world.entry(0, 1, world.genesis.id)] {
        assert_eq!(kept.entry(&entry), Fate::Durable);
    }
    let snapshot = kept.store.read().unwrap();
    assert!(keyring::all::<PersonKey, _>(&snapshot).unwrap().is_empty());
    assert!(keyring::all::<DedupSecret, _>(&snapshot).unwrap().is_empty());
    assert!(keyring::all::<EpochSecret, _>(&snapshot).unwrap().is_empty());
    assert!(keyring::all::<RendezvousMaster, _>(&snapshot).unwrap().is_empty());
    let own = keyring::get::<SigningSeed, _>(&snapshot, &()).unwrap().unwrap();
    assert!(world.devices.iter().all(|device| *device.signing_seed() != own));
    let given = RendezvousSecret::new([9; 32]);
    assert!(keyring::all::<RendezvousSecret, _>(&snapshot).unwrap().iter().all(|(_, one)| *one == given));
    let slots = Slots::read(&snapshot).unwrap();
    for day in 0..60 {
        assert!(slots.doors(1_800_000_000 + day * 86_400) == [given.clone()], "day {day}");
    }
}
