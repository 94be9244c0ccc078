//! Tests of `epoch`.

use std::collections::{BTreeMap, BTreeSet};

use curve25519_dalek::montgomery::MontgomeryPoint;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use serde_json::Value;

use super::*;
use crate::id::{BoxTag, SpaceId, VerifyingKey};
use crate::sealed_box::{BoxPublicKey, ENC_LEN, X25519_LEN};
use crate::secret::SigningSeed;
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
    serde_json::from_str(include_str!("../../../docs/spec/vectors/boxes.json")).unwrap()
}

const SPACE: SpaceId = SpaceId([0x51; 32]);

fn author() -> Signing {
    Signing::from_seed(&SigningSeed::new([0xa1; 32]))
}

fn members(count: u8) -> Vec<BoxKeys> {
    (0..count).map(|n| BoxKeys::from_seed(&BoxSeed::new([n; 32]))).collect()
}

fn sealed(secret: &EpochSecret, members: &[BoxKeys]) -> Bundle {
    Bundle::seal(&SPACE, secret, &author(), members.iter().map(BoxKeys::public), &mut dice(1)).unwrap()
}

/// Signs bytes again after a change: what a hostile author can send.
fn signed_again(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() - 64);
    let signature = author().sign(Domain::Boxes, blake3::hash(&bytes).as_bytes());
    bytes.extend_from_slice(&signature);
    bytes
}

#[test]
fn the_epoch_of_the_vectors_is_derived() {
    let v = vectors();
    let case = &v["epoch"];
    let (secret, older) = (EpochSecret::new(array(&case["es"])), EpochSecret::new(array(&case["old_es"])));
    assert_eq!(secret.id(), EpochId(array(&case["epoch_id"])));
    assert_eq!(older.id(), EpochId(array(&case["old_epoch_id"])));
    assert_eq!(secret.log_key().expose(), &array(&case["k_log"]));
    assert_eq!(kdf(Purpose::Inbox, &[secret.expose()]), array(&case["inbox_ikm"]));
    assert_eq!(secret.inbox_keys().public().hash().as_bytes(), &array(&case["inbox_pk_b3"]));
    let back = secret.seal_back(&older);
    assert_eq!(back[..], bytes(&case["back"]));
    assert!(secret.open_back(&older.id(), &back).unwrap() == older);
    assert_eq!(secret.open_back(&secret.id(), &back).err(), Some(Refusal::Tag));
    assert_eq!(secret.check(&older.id()), Err(Refusal::Epoch));
}

#[test]
fn the_bundle_of_the_vectors_opens_for_its_recipients() {
    let v = vectors();
    let case = &v["bundle"];
    let space = SpaceId(array(&v["space_id"]));
    let raw = bytes(&case["bundle"]);
    let bundle = Bundle::decode(&raw).unwrap();
    assert_eq!(bundle.encode(), raw);
    assert_eq!(bundle.len() as u64, case["box_count"].as_u64().unwrap());
    assert_eq!(
        bundle.author(),
        Signing::from_seed(&SigningSeed::new(array(&v["author_seed"]))).verifying_key()
    );
    assert_eq!(bundle.epoch(), EpochId(array(&v["epoch"]["epoch_id"])));
    let mut opened = 0;
    for ikm in case["recipient_ikms"].as_array().unwrap() {
        let keys = BoxKeys::from_seed(&BoxSeed::new(array(ikm)));
        let secret = bundle.open(&space, &keys).unwrap().unwrap();
        assert_eq!(secret.expose(), &array(&case["opens_to"]));
        opened += 1;
    }
    assert_eq!(opened, 2);
    let stranger = BoxKeys::from_seed(&BoxSeed::new([9; 32]));
    assert!(bundle.open(&space, &stranger).unwrap().is_none());
    assert_eq!(bundle.open(&SpaceId([0; 32]), &stranger).err(), Some(Refusal::Scope));
}

#[test]
fn the_number_of_members_shows_in_steps_of_four() {
    let secret = EpochSecret::new([7; 32]);
    for (count, shown) in [(1, 4), (3, 4), (4, 4), (5, 8)] {
        let members = members(count);
        let bundle = Bundle::decode(&sealed(&secret, &members).encode()).unwrap();
        assert_eq!(bundle.len(), shown);
        for keys in &members {
            assert!(bundle.open(&SPACE, keys).unwrap().unwrap() == secret);
        }
    }
    let twice = [members(1), members(1)].concat();
    assert_eq!(sealed(&secret, &twice).len(), 4);
}

#[test]
fn the_number_of_boxes_has_a_limit() {
    let secret = EpochSecret::new([7; 32]);
    let keys: Vec<BoxPublicKey> = (0..=BOXES_MAX)
        .map(|n| {
            let mut seed = [0; 32];
            seed[..8].copy_from_slice(&n.to_le_bytes());
            BoxKeys::from_seed(&BoxSeed::new(seed)).public().clone()
        })
        .collect();
    let seal = |keys: &[BoxPublicKey]| Bundle::seal(&SPACE, &secret, &author(), keys, &mut dice(1));
    let full = seal(&keys[..BOXES_MAX]).unwrap().encode();
    assert_eq!(full.len(), BUNDLE_LEN_MAX);
    assert_eq!(Bundle::decode(&full).unwrap().len(), BOXES_MAX);
    assert_eq!(seal(&keys).err(), Some(Refusal::Limit));
    assert_eq!(seal(&[]).err(), Some(Refusal::Limit));
    let mut over = full;
    over[84..86].copy_from_slice(&260_u16.to_le_bytes());
    assert_eq!(Bundle::decode(&over).err(), Some(Refusal::Limit));
}

#[test]
fn bundles_that_are_not_the_one_form_are_refused() {
    let good = sealed(&EpochSecret::new([7; 32]), &members(2)).encode();
    let refused = |bytes: &[u8]| Bundle::decode(bytes).err().unwrap();
    for cut in [0, 3, 4, 85, 86, good.len() - 65, good.len() - 1] {
        assert_eq!(refused(&good[..cut]), Refusal::Canon, "{cut}");
    }
    assert_eq!(refused(&[good.as_slice(), &[0]].concat()), Refusal::Canon);
    assert_eq!(refused(&[b"LKB2", &good[4..]].concat()), Refusal::Version);
    assert_eq!(refused(&[b"XKB1", &good[4..]].concat()), Refusal::Canon);
    let mut three = good.clone();
    three[84] = 3;
    three.drain(86..86 + BOX_LEN);
    assert_eq!(refused(&signed_again(three)), Refusal::Canon);
    let mut none = good.clone();
    none[84] = 0;
    none.drain(86..86 + 4 * BOX_LEN);
    assert_eq!(refused(&signed_again(none)), Refusal::Canon);
    let mut swapped = good.clone();
    swapped[86..86 + 2 * BOX_LEN].rotate_left(BOX_LEN);
    assert_eq!(refused(&signed_again(swapped)), Refusal::Canon, "not sorted");
    let mut double = good.clone();
    double.copy_within(86..86 + BOX_LEN, 86 + BOX_LEN);
    assert_eq!(refused(&signed_again(double)), Refusal::Canon, "one box twice");
    let mut weak = good.clone();
    weak[52..84].fill(0);
    assert_eq!(refused(&weak), Refusal::Key);
    let mut changed = good.clone();
    changed[4] ^= 1;
    assert_eq!(refused(&changed), Refusal::Sig);
}

/// T75: a minter cannot hand out a secret that the epoch id does not name, so no two members get two of them.
#[test]
fn t75_a_box_with_another_secret_is_refused() {
    let secret = EpochSecret::new([7; 32]);
    let keys = BoxKeys::from_seed(&BoxSeed::new([1; 32]));
    let mut bundle = sealed(&secret, std::slice::from_ref(&keys));
    let (epoch, vk): (_, VerifyingKey) = (bundle.epoch(), bundle.author());
    let info = [b"locker-v1 epoch-box".as_slice(), SPACE.as_bytes(), epoch.as_bytes()].concat();
    let other = keys.public().seal(&info, vk.as_bytes(), &[8; 32], &mut dice(4));
    bundle.replace_sealed(keys.public(), &other);
    assert_eq!(bundle.open(&SPACE, &keys).err(), Some(Refusal::Epoch));
}

/// What is seen of each X25519 part: its two highest bits, of which a key sets no more than the lower one, and
/// whether it is on the curve, as every key is and half of all bytes are.
type Seen = Vec<(u8, bool)>;

fn seen(parts: &[[u8; X25519_LEN]]) -> Seen {
    parts.iter().map(|part| (part[31] >> 6, MontgomeryPoint(*part).to_edwards(0).is_some())).collect()
}

/// How often it is told right which of two kinds a bundle is of: one half of each teaches a table that counts every
/// combination of what is seen, which judges the other half.
fn told(one: &[Seen], other: &[Seen]) -> f64 {
    let half = one.len() / 2;
    let mut table: BTreeMap<&Seen, i64> = BTreeMap::new();
    one[..half].iter().for_each(|seen| *table.entry(seen).or_default() -= 1);
    other[..half].iter().for_each(|seen| *table.entry(seen).or_default() += 1);
    let is_other = |seen: &Seen| table.get(seen).copied().unwrap_or(0) > 0;
    let right = one[half..].iter().filter(|seen| !is_other(seen)).count()
        + other[half..].iter().filter(|seen| is_other(seen)).count();
    right as f64 / (one.len() - half + other.len() - half) as f64
}

/// T75: nobody tells from the X25519 parts of a bundle's boxes how many of them are real. Method: 10,000 bundles,
/// half of them with one real box of four, half with three; right in at most 52 of 100. Fillers of random bytes, the
/// control, are told in more than 85.
#[test]
fn t75_the_number_of_real_boxes_is_not_told_by_their_x25519_parts() {
    let (members, mut dice) = (members(3), dice(75));
    let (mut one, mut three, mut of_bytes) = (Vec::new(), Vec::new(), [Vec::new(), Vec::new()]);
    let (mut all, end) = (BTreeSet::new(), BoxTag::LEN + ENC_LEN);
    for round in 0..10_000 {
        let real = if round % 2 == 0 { 1 } else { 3 };
        let secret = EpochSecret::random(&mut dice);
        let recipients = members[..real].iter().map(BoxKeys::public);
        let bundle = Bundle::seal(&SPACE, &secret, &author(), recipients, &mut dice).unwrap();
        assert_eq!(bundle.len(), 4);
        let bytes = bundle.encode();
        let boxes = bytes[86..86 + 4 * BOX_LEN].chunks_exact(BOX_LEN);
        let parts: Vec<[u8; X25519_LEN]> =
            boxes.map(|sealed| sealed[end - X25519_LEN..end].try_into().unwrap()).collect();
        parts.iter().for_each(|part| assert!(all.insert(*part), "one key for two boxes"));
        let into = if real == 1 { &mut one } else { &mut three };
        into.push(seen(&parts));
        // The same with fillers that are no boxes, among the others in any order.
        let mut careless = parts;
        careless[real..].iter_mut().for_each(|part| dice.fill_bytes(part));
        let turn = dice.next_u32() as usize % 4;
        careless.rotate_left(turn);
        of_bytes[real / 2].push(seen(&careless));
    }
    let share = told(&one, &three);
    assert!(share <= 0.52, "{share}");
    let control = told(&of_bytes[0], &of_bytes[1]);
    assert!(control > 0.85, "{control}");
}

/// T12: every bit of a box and of the way back counts.
#[test]
fn t12_every_flipped_bit_of_an_epoch_box_and_back_is_refused() {
    let (secret, older) = (EpochSecret::new([7; 32]), EpochSecret::new([6; 32]));
    let mut back = secret.seal_back(&older);
    for at in 0..back.len() * 8 {
        back[at / 8] ^= 1 << (at % 8);
        assert_eq!(secret.open_back(&older.id(), &back).err(), Some(Refusal::Tag));
        back[at / 8] ^= 1 << (at % 8);
    }
    let members = members(4);
    let good = sealed(&secret, &members).encode();
    // Without the author's key every change shows in the signature.
    for at in (0..good.len() * 8).step_by(97) {
        let mut changed = good.clone();
        changed[at / 8] ^= 1 << (at % 8);
        assert!(Bundle::decode(&changed).is_err(), "{at}");
    }
    // With it, in the box: whoever's it is cannot open it, or does not find it any more.
    for at in (0..BOX_LEN * 8).step_by(7) {
        let mut changed = good.clone();
        changed[86 + at / 8] ^= 1 << (at % 8);
        let Ok(bundle) = Bundle::decode(&signed_again(changed)) else { continue };
        let answers: Vec<_> = members.iter().map(|keys| bundle.open(&SPACE, keys)).collect();
        let hurt = answers.iter().filter(|answer| !matches!(answer, Ok(Some(_)))).count();
        assert_eq!(hurt, 1, "{at}");
        for answer in answers {
            assert!(matches!(answer, Ok(_) | Err(Refusal::Tag | Refusal::Key)));
        }
    }
}

#[test]
fn bundles_survive_any_change_of_bytes() {
    let good = sealed(&EpochSecret::new([7; 32]), &members(2)).encode();
    let mut dice = dice(5);
    let mut accepted = 0;
    for round in 0..20_000 {
        let mut bytes = good.clone();
        let at = match dice.next_u32() % 2 {
            0 => dice.next_u32() as usize % 90,
            _ => dice.next_u32() as usize % bytes.len(),
        };
        match dice.next_u32() % 8 {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, 0),
            _ => bytes[at] ^= 1 << (dice.next_u32() % 8),
        }
        if round % 8 == 0 && bytes.len() > 64 {
            bytes = signed_again(bytes);
        }
        if let Ok(bundle) = Bundle::decode(&bytes) {
            assert_eq!(bundle.encode(), bytes);
            accepted += 1;
        }
    }
    assert!(accepted > 100, "{accepted}");
}
