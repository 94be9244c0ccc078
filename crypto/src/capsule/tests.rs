//! Tests of `capsule`.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use serde_json::Value;

use super::*;
use crate::capability::{Grant, Rights, Scope, Terms};
use crate::derive::{Purpose, kdf, kdf16};
use crate::id::PersonId;
use crate::identity::{DeviceKeys, Root};
use crate::person::Author;
use crate::secret::{BoxSeed, Entropy, PersonKey, SigningSeed};

fn dice(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../docs/spec/vectors/boxes.json")).unwrap()
}

/// The keys of a link, from its secret S.
struct End {
    tag: LinkTag,
    signing: Signing,
    boxes: BoxKeys,
}

impl End {
    fn from_secret(secret: [u8; 32]) -> Self {
        let derive = |purpose| kdf(purpose, &[&secret]);
        Self {
            tag: LinkTag(kdf16(Purpose::LinkTag, &[&secret])),
            signing: Signing::from_seed(&SigningSeed::new(derive(Purpose::LinkSign))),
            boxes: BoxKeys::from_seed(&BoxSeed::new(derive(Purpose::LinkBox))),
        }
    }

    fn end(&self) -> LinkEnd<'_> {
        LinkEnd { tag: self.tag, key: self.signing.verifying_key(), boxes: &self.boxes }
    }
}

fn opener(owner: OwnerFp) -> Opener<'static> {
    static NONE: BTreeSet<[u8; 32]> = BTreeSet::new();
    Opener { owner, now: 1_800_000_000, revoked: &NONE, heartbeat_age_s: None }
}

#[test]
fn the_capsules_of_the_vectors_are_opened_or_refused() {
    let v = vectors();
    let group = &v["capsule"];
    let link = End::from_secret(array(&group["link_S"]));
    let owner = OwnerFp(array(&group["owner_fp"]));
    assert_eq!(group["now"].as_u64().unwrap(), opener(owner).now);
    let mut seen = 0;
    for case in group["cases"].as_array().unwrap() {
        let raw = bytes(&case["capsule"]);
        let answer = Capsule::open(&raw, &link.end(), &opener(owner));
        match case["expect"].as_str().unwrap() {
            "ok" => {
                let (capsule, roster) = answer.map_err(Refusal::code).unwrap();
                assert_eq!(capsule.label, group["label"].as_str().unwrap());
                assert_eq!(capsule.space, SpaceId(array(&v["space_id"])));
                let (Gift::LiveRead(secret) | Gift::LiveWrite(secret)) = &capsule.gift else { panic!() };
                assert_eq!(secret.expose(), &array(&group["secret"]));
                assert!(roster.is_active(&capsule.token.issuer()));
                let plain = unseal(&raw, &link.end()).unwrap();
                assert_eq!(capsule.encode(), plain[..plain.len() - SIGNATURE_LEN]);
            }
            name => assert_eq!(answer.err().unwrap().code(), name, "{}", case["id"]),
        }
        seen += 1;
    }
    assert_eq!(seen, 2);
    let other = &group["other_owner_fp"];
    assert_eq!(other["capsule"], "ok", "the capsule of the case of this name");
    let owner = OwnerFp(array(&other["owner_fp"]));
    let raw = bytes(&group["cases"][0]["capsule"]);
    let answer = Capsule::open(&raw, &link.end(), &opener(owner)).err().unwrap();
    assert_eq!(answer.code(), other["expect"].as_str().unwrap());
}

#[test]
fn the_snapshot_of_the_vectors_opens() {
    let v = vectors();
    let case = &v["snapshot"];
    let link = End::from_secret(array(&case["link_S"]));
    let owner = OwnerFp(array(&v["capsule"]["owner_fp"]));
    let (capsule, _) = Capsule::open(&bytes(&case["capsule"]), &link.end(), &opener(owner)).ok().unwrap();
    assert_eq!(case["expect"], "ok");
    assert_eq!(case["kind"], 4);
    assert_eq!(capsule.gift.kind(), Kind::Snapshot);
    assert_eq!(capsule.space, SpaceId(array(&case["snap_id"])));
    assert_eq!(capsule.token.space_tag().as_bytes(), &array(&case["space_tag"]));
    let Gift::Manifest(manifest) = &capsule.gift else { panic!() };
    assert_eq!(*manifest, bytes(&case["manifest"]));
    let mut from = Reader::new(manifest);
    from.array_of(3).unwrap();
    assert_eq!(from.u64().unwrap(), 1);
    from.item().unwrap();
    let packs = pack_list::read(&mut from).unwrap();
    assert_eq!(packs[0].hash().as_bytes(), &array(&case["pack_hash"]));
    let mut again = Writer::new();
    pack_list::write(&packs, &mut again);
    assert!(manifest.ends_with(&again.finish()));
}

/// A giver with one device, and a link of his.
struct Scene {
    device: DeviceKeys,
    person: PersonId,
    path: Vec<Vec<u8>>,
    link: End,
}

const SPACE: SpaceId = SpaceId([0x51; 32]);

impl Scene {
    fn new() -> Self {
        let root = Root::from_entropy(&Entropy::new([1; 32]));
        let device = DeviceKeys::random(&mut dice(1));
        let key = PersonKey::new([2; 32]);
        let made = Author::genesis(&root, &device, &key, "laptop", 1, &mut dice(2)).unwrap();
        let link = End::from_secret([3; 32]);
        Self { device, person: root.person_id(), path: vec![made.entry], link }
    }

    fn capsule(&self, gift: Gift) -> Capsule {
        self.capsule_for(self.device.signing(), self.link.signing.verifying_key(), gift)
    }

    fn capsule_for(&self, issuer: &Signing, audience: VerifyingKey, gift: Gift) -> Capsule {
        let grant = Grant {
            audience,
            space_tag: space_tag(&SPACE),
            rights: Rights::READ,
            scope: Scope::Space,
            not_before: 1_799_999_000,
            expires: 1_800_001_000,
            depth: 0,
            quota: None,
            terms: Terms { registered: false, fresh: false },
        };
        let token = Capability::issue(issuer, grant, &mut dice(3)).unwrap();
        Capsule { token, space: SPACE, path: self.path.clone(), gift, label: "trip".to_owned() }
    }

    fn seal(&self, capsule: &Capsule) -> Vec<u8> {
        self.seal_by(capsule, self.device.signing())
    }

    fn seal_by(&self, capsule: &Capsule, issuer: &Signing) -> Vec<u8> {
        capsule.seal(issuer, &self.link.tag, self.link.boxes.public(), &mut dice(4)).unwrap()
    }

    fn open(&self, raw: &[u8]) -> Result<Capsule, Refusal> {
        Capsule::open(raw, &self.link.end(), &opener(owner_fp(&self.person))).map(|(capsule, _)| capsule)
    }
}

#[test]
fn every_kind_of_gift_comes_out_as_it_went_in() {
    let scene = Scene::new();
    let packs = {
        let v = vectors();
        let manifest = bytes(&v["snapshot"]["manifest"]);
        let mut from = Reader::new(&manifest);
        from.array_of(3).unwrap();
        from.u64().unwrap();
        from.item().unwrap();
        pack_list::read(&mut from).unwrap()
    };
    let file = FileRef::decode(&bytes(&vectors()["deposit"]["fileref"])).unwrap();
    let gifts = [
        Gift::LiveRead(EpochSecret::new([7; 32])),
        Gift::LiveWrite(EpochSecret::new([8; 32])),
        Gift::Deposit(EpochSecret::new([9; 32]).inbox_keys().public().clone()),
        Gift::Manifest(vec![0x83, 1, 0x80, 0x80]),
        Gift::ManifestFile { file, packs },
    ];
    for gift in gifts {
        let capsule = scene.capsule(gift);
        assert!(scene.open(&scene.seal(&capsule)).unwrap() == capsule);
    }
}

#[test]
fn limits_of_a_capsule_are_held_exactly() {
    let scene = Scene::new();
    let seal = |capsule: &Capsule| {
        capsule.seal(scene.device.signing(), &scene.link.tag, scene.link.boxes.public(), &mut dice(4))
    };
    let mut capsule = scene.capsule(Gift::LiveRead(EpochSecret::new([7; 32])));
    capsule.label = "x".repeat(LABEL_LEN_MAX);
    assert!(scene.open(&seal(&capsule).unwrap()).is_ok());
    capsule.label.push('x');
    assert_eq!(seal(&capsule).err(), Some(Refusal::Limit));
    assert_eq!(Capsule::decode(&capsule.encode()).err(), Some(Refusal::Limit));

    let manifest = |len: usize| {
        let mut out = Writer::new();
        out.bytes(&vec![0; len - 3]);
        assert_eq!(out.len(), len);
        scene.capsule(Gift::Manifest(out.finish()))
    };
    assert!(scene.open(&seal(&manifest(MANIFEST_LEN_MAX)).unwrap()).is_ok());
    assert_eq!(seal(&manifest(MANIFEST_LEN_MAX + 1)).err(), Some(Refusal::Limit));
    let over = manifest(MANIFEST_LEN_MAX + 1).encode();
    assert_eq!(Capsule::decode(&over).err(), Some(Refusal::Limit));
    assert_eq!(seal(&scene.capsule(Gift::Manifest(vec![0x81]))).err(), Some(Refusal::Canon));

    let mut capsule = scene.capsule(Gift::LiveRead(EpochSecret::new([7; 32])));
    let rest = CAPSULE_LEN_MAX - scene.seal(&capsule).len();
    capsule.path.push(vec![0; rest - 3]);
    assert_eq!(scene.seal(&capsule).len(), CAPSULE_LEN_MAX);
    assert_eq!(scene.open(&scene.seal(&capsule)).err(), Some(Refusal::Chain));
    capsule.path[1].push(0);
    assert_eq!(seal(&capsule).err(), Some(Refusal::Limit));
    assert_eq!(
        scene.open(&[b"LKS1".as_slice(), &vec![0; CAPSULE_LEN_MAX]].concat()).err(),
        Some(Refusal::Limit)
    );
}

#[test]
fn a_capsule_by_anybody_else_is_refused() {
    let scene = Scene::new();
    let gift = || Gift::LiveRead(EpochSecret::new([7; 32]));
    let stranger = Signing::from_seed(&SigningSeed::new([5; 32]));
    let link_key = scene.link.signing.verifying_key();

    let foreign = scene.capsule_for(&stranger, link_key, gift());
    assert_eq!(scene.open(&scene.seal_by(&foreign, &stranger)).err(), Some(Refusal::Rights));
    let mine = scene.capsule(gift());
    let by_other = mine.seal(&stranger, &scene.link.tag, scene.link.boxes.public(), &mut dice(4));
    assert_eq!(by_other.err(), Some(Refusal::Key));
    let elsewhere = scene.capsule_for(scene.device.signing(), stranger.verifying_key(), gift());
    assert_eq!(scene.open(&scene.seal(&elsewhere)).err(), Some(Refusal::Audience));
    let other_space = Capsule { space: SpaceId([0x52; 32]), ..mine.clone() };
    assert_eq!(scene.open(&scene.seal(&other_space)).err(), Some(Refusal::Scope));
    let no_path = Capsule { path: Vec::new(), ..mine.clone() };
    assert_eq!(scene.open(&scene.seal(&no_path)).err(), Some(Refusal::Chain));
    let mut broken = mine.clone();
    broken.path[0][30] ^= 1;
    assert_eq!(scene.open(&scene.seal(&broken)).err(), Some(Refusal::Chain));

    let raw = scene.seal(&mine);
    let mut late = opener(owner_fp(&scene.person));
    late.now = 1_800_001_000;
    assert_eq!(Capsule::open(&raw, &scene.link.end(), &late).err(), Some(Refusal::Time));
    let revoked = BTreeSet::from([*mine.token.id().as_bytes()]);
    let told = Opener { revoked: &revoked, ..opener(owner_fp(&scene.person)) };
    assert_eq!(Capsule::open(&raw, &scene.link.end(), &told).err(), Some(Refusal::Revoked));
}

/// Seals signed bytes to a link, whoever signed them.
fn seal_plain(plain: &[u8], tag: &LinkTag, link_box: &BoxPublicKey) -> Vec<u8> {
    let sealed = link_box.seal(&info(tag), &[], plain, &mut dice(5));
    let (enc, text) = sealed.split_at(ENC_LEN);
    let len = u32::try_from(text.len()).unwrap().to_le_bytes();
    [MAGIC.as_slice(), tag.as_bytes(), enc, &len, text].concat()
}

/// T33: whoever stands between cannot put another person, another space or another inbox key into a capsule; not even
/// with all public keys and, in the last cases, as a holder of the link. What is refused gives no inbox key, so there is
/// nothing to seal an upload to.
#[test]
fn t33_a_substituted_capsule_is_refused() {
    let scene = Scene::new();
    let inbox = |n: u8| EpochSecret::new([n; 32]).inbox_keys().public().clone();
    let honest = scene.capsule(Gift::Deposit(inbox(9)));
    let raw = scene.seal(&honest);
    assert!(scene.open(&raw).is_ok());

    // Mallory makes a whole capsule of his own, as a person with a device, for this very link.
    let root = Root::from_entropy(&Entropy::new([66; 32]));
    let device = DeviceKeys::random(&mut dice(66));
    let made =
        Author::genesis(&root, &device, &PersonKey::new([66; 32]), "gateway", 1, &mut dice(67)).unwrap();
    let link = End::from_secret([3; 32]);
    let mallory = Scene { device, person: root.person_id(), path: vec![made.entry], link };
    let his = mallory.capsule(Gift::Deposit(inbox(66)));
    let forged = mallory.seal(&his);
    let as_himself = Capsule::open(&forged, &scene.link.end(), &opener(owner_fp(&mallory.person)));
    assert!(as_himself.is_ok(), "well made, and refused only for whose it is");
    assert_eq!(scene.open(&forged).err(), Some(Refusal::Chain), "another person");
    let under_her_path = Capsule { path: scene.path.clone(), ..his };
    assert_eq!(
        scene.open(&mallory.seal(&under_her_path)).err(),
        Some(Refusal::Rights),
        "her path, his token"
    );

    // Who can open it (a fellow holder) and seal it again, but not sign.
    let plain = unseal(&raw, &scene.link.end()).unwrap();
    let resealed = |from: &[u8], to: &[u8]| {
        let mut changed = plain.clone();
        let at = changed.windows(from.len()).position(|part| part == from).unwrap();
        changed[at..at + to.len()].copy_from_slice(to);
        scene.open(&seal_plain(&changed, &scene.link.tag, scene.link.boxes.public())).err()
    };
    assert_eq!(resealed(b"trip", b"trip"), None, "the control");
    assert_eq!(resealed(&SPACE.0, &[0x52; 32]), Some(Refusal::Sig), "another space");
    assert_eq!(resealed(inbox(9).as_bytes(), inbox(66).as_bytes()), Some(Refusal::Sig), "another inbox key");
    // A capsule of hers for another space, put in the place of this one: it is for another link.
    let other_link = Scene { link: End::from_secret([4; 32]), ..Scene::new() };
    let other = other_link.seal(&other_link.capsule(Gift::Deposit(inbox(8))));
    assert_eq!(scene.open(&other).err(), Some(Refusal::Canon), "a capsule of another link");
    let mut renamed = other;
    renamed[4..20].copy_from_slice(&raw[4..20]);
    assert_eq!(scene.open(&renamed).err(), Some(Refusal::Tag), "under this link's tag");
}

/// T70: an inbox key of low order is refused when the capsule is read, before anything is sealed to it.
#[test]
fn t70_a_low_order_inbox_key_in_a_capsule_is_refused() {
    let scene = Scene::new();
    let inbox = EpochSecret::new([9; 32]).inbox_keys().public().clone();
    let good = scene.capsule(Gift::Deposit(inbox.clone())).encode();
    let at = good.windows(inbox.as_bytes().len()).position(|part| part == inbox.as_bytes()).unwrap();
    let mut low = good;
    low[at + 1_184..at + 1_216].fill(0);
    assert_eq!(Capsule::decode(&low).err(), Some(Refusal::Key));
}

#[test]
fn layouts_that_are_not_the_one_form_are_refused() {
    let scene = Scene::new();
    let good = scene.seal(&scene.capsule(Gift::LiveRead(EpochSecret::new([7; 32]))));
    let changed = |at: usize| {
        let mut raw = good.clone();
        raw[at] ^= 1;
        scene.open(&raw).err().unwrap()
    };
    assert_eq!(changed(0), Refusal::Canon);
    assert_eq!(changed(3), Refusal::Version);
    assert_eq!(changed(4), Refusal::Canon, "another link");
    assert_eq!(changed(20), Refusal::Tag, "encapsulation");
    assert_eq!(changed(1_140), Refusal::Canon, "length");
    assert_eq!(changed(HEADER_LEN), Refusal::Tag);
    for cut in (0..good.len()).step_by(11) {
        assert_eq!(scene.open(&good[..cut]).err(), Some(Refusal::Canon), "{cut}");
    }
    assert_eq!(scene.open(&[good.as_slice(), &[0]].concat()).err(), Some(Refusal::Canon));
    let mut low = good.clone();
    low[1_108..1_140].fill(0);
    assert_eq!(scene.open(&low).err(), Some(Refusal::Key));
    for (text, why) in [("", Refusal::Canon), ("8702", Refusal::Version), ("8601", Refusal::Canon)] {
        assert_eq!(Capsule::decode(&hex::decode(text).unwrap()).err(), Some(why), "{text}");
    }
}

#[test]
fn bodies_survive_any_change_of_bytes_and_keep_one_form() {
    let scene = Scene::new();
    let samples = [
        scene.capsule(Gift::LiveRead(EpochSecret::new([7; 32]))).encode(),
        scene.capsule(Gift::Deposit(scene.link.boxes.public().clone())).encode(),
        scene.capsule(Gift::Manifest(bytes(&vectors()["snapshot"]["manifest"]))).encode(),
    ];
    let mut dice = dice(6);
    let mut accepted = 0;
    for round in 0..20_000 {
        let mut raw = samples[round % samples.len()].clone();
        for _ in 0..=dice.next_u32() % 3 {
            let at = dice.next_u32() as usize % raw.len();
            match dice.next_u32() % 8 {
                0 => raw.truncate(at.max(1)),
                1 => raw.insert(at, dice.next_u32().to_le_bytes()[0]),
                _ => raw[at] = dice.next_u32().to_le_bytes()[0],
            }
        }
        if let Ok(capsule) = Capsule::decode(&raw) {
            assert_eq!(capsule.encode(), raw);
            accepted += 1;
        }
    }
    assert!(accepted > 1_000, "{accepted}");
}
