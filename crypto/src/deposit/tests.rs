//! Tests of `deposit`.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use serde_json::Value;

use super::*;
use crate::derive::{Purpose, kdf, kdf16};
use crate::secret::{EpochSecret, SigningSeed};

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

/// The link and inbox of the vectors, and the envelope in them.
struct Scene {
    space: SpaceId,
    tag: LinkTag,
    link: Signing,
    inbox: BoxKeys,
    raw: Vec<u8>,
}

impl Scene {
    fn new() -> Self {
        let v = vectors();
        let secret: [u8; 32] = array(&v["deposit"]["link_S"]);
        Self {
            space: SpaceId(array(&v["space_id"])),
            tag: LinkTag(kdf16(Purpose::LinkTag, &[&secret])),
            link: Signing::from_seed(&SigningSeed::new(kdf(Purpose::LinkSign, &[&secret]))),
            inbox: EpochSecret::new(array(&v["epoch"]["es"])).inbox_keys(),
            raw: bytes(&v["deposit"]["envelope"]),
        }
    }

    fn open(&self, raw: &[u8]) -> Result<Deposit, Refusal> {
        Deposit::open(raw, &self.space, &self.tag, &self.link.verifying_key(), &self.inbox)
    }

    fn seal(&self, deposit: &Deposit) -> Result<Vec<u8>, Refusal> {
        deposit.seal(&self.space, &self.tag, &self.link, self.inbox.public(), &mut dice(1))
    }

    /// Seals any plain text and signs it: what a hostile depositor can send.
    fn forge(&self, plain: &[u8]) -> Vec<u8> {
        let sealed = self.inbox.public().seal(&info(&self.space, &self.tag), &[], plain, &mut dice(2));
        let (enc, text) = sealed.split_at(ENC_LEN);
        let len = u32::try_from(text.len()).unwrap().to_le_bytes();
        self.signed([MAGIC.as_slice(), self.tag.as_bytes(), enc, &len, text].concat())
    }

    fn signed(&self, mut raw: Vec<u8>) -> Vec<u8> {
        let signature = self.link.sign(Domain::Deposit, blake3::hash(&raw).as_bytes());
        raw.extend_from_slice(&signature);
        raw
    }
}

#[test]
fn the_envelope_of_the_vectors_opens() {
    let v = vectors();
    let case = &v["deposit"];
    let scene = Scene::new();
    let deposit = scene.open(&scene.raw).map_err(Refusal::code).unwrap();
    assert_eq!(deposit.name, case["name"].as_str().unwrap());
    assert_eq!(deposit.note, case["note"].as_str().unwrap());
    assert_eq!(deposit.time, case["time"].as_u64().unwrap());
    assert_eq!(deposit.file.encode(), bytes(&case["fileref"]));
    assert_eq!(deposit.packs.len(), 1);
    assert_eq!(deposit.packs[0].hash().as_bytes(), &array(&case["pack_hash"]));
    let own = scene.seal(&deposit).unwrap();
    assert_eq!(own.len(), scene.raw.len());
    assert!(scene.open(&own).unwrap() == deposit);
}

#[test]
fn envelopes_that_are_not_the_one_form_are_refused() {
    let scene = Scene::new();
    let good = &scene.raw;
    let refused = |raw: &[u8]| scene.open(raw).err().unwrap();
    let changed = |at: usize| {
        let mut raw = good.clone();
        raw[at] ^= 1;
        refused(&raw)
    };
    assert_eq!(changed(0), Refusal::Canon);
    assert_eq!(changed(3), Refusal::Version);
    assert_eq!(changed(4), Refusal::Canon, "another link");
    assert_eq!(changed(20), Refusal::Sig);
    assert_eq!(changed(1_140), Refusal::Canon);
    assert_eq!(changed(good.len() - 1), Refusal::Sig);
    for cut in 0..good.len() {
        assert_eq!(refused(&good[..cut]), Refusal::Canon, "{cut}");
    }
    assert_eq!(refused(&[good.as_slice(), &[0]].concat()), Refusal::Canon);
    let mut damaged = good[..good.len() - SIGNATURE_LEN].to_vec();
    damaged[HEADER_LEN] ^= 1;
    assert_eq!(refused(&scene.signed(damaged)), Refusal::Tag);
    let mut low = good[..good.len() - SIGNATURE_LEN].to_vec();
    low[1_108..1_140].fill(0);
    assert_eq!(refused(&scene.signed(low)), Refusal::Key);
    let elsewhere = Scene { space: SpaceId([0; 32]), ..Scene::new() };
    assert_eq!(elsewhere.open(good).err(), Some(Refusal::Tag), "another space");
    let long = [MAGIC.as_slice(), &vec![0; ENVELOPE_LEN_MAX]].concat();
    assert_eq!(refused(&long), Refusal::Limit);
}

#[test]
fn padding_has_one_form() {
    let scene = Scene::new();
    let deposit = scene.open(&scene.raw).unwrap();
    let plain = pad(&deposit.encode()).unwrap();
    assert_eq!(unpad(&plain).unwrap(), deposit.encode());
    let refused = |plain: &[u8]| scene.open(&scene.forge(plain)).err().unwrap();
    assert_eq!(refused(&plain[..plain.len() - 1]), Refusal::Canon, "the length shows it");
    assert_eq!(refused(&[plain.as_slice(), &[0; PAD_STEP]].concat()), Refusal::Pad);
    let mut dirty = plain.clone();
    *dirty.last_mut().unwrap() = 1;
    assert_eq!(refused(&dirty), Refusal::Pad);
    let mut long = plain.clone();
    long[2] = 1;
    assert_eq!(refused(&long), Refusal::Pad);
    let mut version = plain;
    version[5] = 2;
    assert_eq!(refused(&version), Refusal::Version);
}

#[test]
fn limits_of_a_deposit_are_held_exactly() {
    let scene = Scene::new();
    let mut deposit = scene.open(&scene.raw).unwrap();
    deposit.name = "n".repeat(NAME_LEN_MAX);
    deposit.note = "n".repeat(NOTE_LEN_MAX);
    assert!(scene.open(&scene.seal(&deposit).unwrap()).is_ok());
    let long_name = Deposit { name: "n".repeat(NAME_LEN_MAX + 1), ..deposit.clone() };
    let long_note = Deposit { note: "n".repeat(NOTE_LEN_MAX + 1), ..deposit };
    for over in [long_name, long_note] {
        assert_eq!(scene.seal(&over).err(), Some(Refusal::Limit));
        let raw = scene.forge(&pad(&over.encode()).unwrap());
        assert_eq!(scene.open(&raw).err(), Some(Refusal::Limit));
    }
}

#[test]
fn bodies_survive_any_change_of_bytes_and_keep_one_form() {
    let scene = Scene::new();
    let sample = scene.open(&scene.raw).unwrap().encode();
    let mut dice = dice(3);
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut raw = sample.clone();
        for _ in 0..=dice.next_u32() % 3 {
            let at = dice.next_u32() as usize % raw.len();
            match dice.next_u32() % 8 {
                0 => raw.truncate(at.max(1)),
                1 => raw.insert(at, dice.next_u32().to_le_bytes()[0]),
                _ => raw[at] = dice.next_u32().to_le_bytes()[0],
            }
        }
        if let Ok(deposit) = Deposit::decode(&raw) {
            assert_eq!(deposit.encode(), raw);
            accepted += 1;
        }
    }
    assert!(accepted > 1_000, "{accepted}");
}
