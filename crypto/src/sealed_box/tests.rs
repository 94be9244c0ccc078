//! Tests of `sealed_box`.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;

fn dice() -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(1)
}

/// Every u-coordinate of low order, with the non-canonical forms (Cremers and Jackson, 2019).
const LOW_ORDER: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

#[test]
fn what_is_sealed_opens_and_nothing_else_does() {
    let keys = BoxKeys::from_seed(&BoxSeed::new([1; 32]));
    let others = BoxKeys::from_seed(&BoxSeed::new([2; 32]));
    let sealed = keys.public().seal(b"info", b"aad", b"plain", &mut dice());
    assert_eq!(sealed.len(), 5 + OVERHEAD);
    assert_eq!(keys.open(b"info", b"aad", &sealed).unwrap(), b"plain");
    assert_eq!(others.open(b"info", b"aad", &sealed), Err(Refusal::Tag));
    assert_eq!(keys.open(b"other", b"aad", &sealed), Err(Refusal::Tag));
    assert_eq!(keys.open(b"info", b"", &sealed), Err(Refusal::Tag));
    let again = keys.public().seal(b"info", b"aad", b"plain", &mut ChaCha20Rng::seed_from_u64(2));
    assert_ne!(sealed[..ENC_LEN], again[..ENC_LEN], "every box has its own encapsulation");
}

#[test]
fn a_public_key_reads_back_and_is_checked_against_its_name() {
    let keys = BoxKeys::from_seed(&BoxSeed::new([1; 32]));
    let bytes = keys.public().as_bytes();
    assert_eq!(BoxPublicKey::from_slice(bytes).unwrap(), *keys.public());
    assert_eq!(BoxPublicKey::from_named(bytes, &keys.public().hash()).unwrap(), *keys.public());
    assert_eq!(BoxPublicKey::from_named(bytes, &ObjectHash::ZERO), Err(Refusal::Hash));
    // An ML-KEM coefficient above the modulus is no key.
    let mut above = *bytes;
    above[..3].fill(0xff);
    assert_eq!(BoxPublicKey::from_slice(&above), Err(Refusal::Key));
}

/// The cases that boxes.json describes in words.
#[test]
fn refused_keys_of_the_vectors() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../../docs/spec/vectors/boxes.json")).unwrap();
    let keys = BoxKeys::from_seed(&BoxSeed::new([1; 32]));
    let sealed = keys.public().seal(b"info", b"aad", b"plain", &mut dice());
    let mut seen = 0;
    for case in vectors["refused_keys"].as_array().unwrap() {
        let answer = match case["what"].as_str().unwrap() {
            "public key whose last 32 bytes are zero" => {
                let mut bytes = *keys.public().as_bytes();
                bytes[PUBLIC_KEY_LEN - 32..].fill(0);
                BoxPublicKey::from_slice(&bytes).map(|_| ())
            }
            "encapsulation whose last 32 bytes are zero" => {
                let mut changed = sealed.clone();
                changed[ENC_LEN - 32..ENC_LEN].fill(0);
                keys.open(b"info", b"aad", &changed).map(|_| ())
            }
            "public key of 32 bytes" => BoxPublicKey::from_slice(&[7; 32]).map(|_| ()),
            "encapsulation of 32 bytes" => keys.open(b"info", b"aad", &sealed[..32]).map(|_| ()),
            "ciphertext with one bit flipped" => {
                let mut changed = sealed.clone();
                changed[ENC_LEN] ^= 1;
                keys.open(b"info", b"aad", &changed).map(|_| ())
            }
            "other info string" => keys.open(b"inf0", b"aad", &sealed).map(|_| ()),
            other => panic!("a case nobody built: {other}"),
        };
        assert_eq!(answer.unwrap_err().code(), case["expect"].as_str().unwrap(), "{}", case["what"]);
        seen += 1;
    }
    assert_eq!(seen, 6);
}

/// T65: no box falls back to a single one of the two mechanisms.
#[test]
fn t65_a_box_without_either_half_is_refused() {
    let keys = BoxKeys::from_seed(&BoxSeed::new([1; 32]));
    let sealed = keys.public().seal(b"info", b"", b"plain", &mut dice());
    let (enc, text) = sealed.split_at(ENC_LEN);
    let built = |enc: &[u8]| [enc, text].concat();
    assert_eq!(keys.open(b"info", b"", &built(&enc[ENC_LEN - 32..])), Err(Refusal::Canon));
    for cut in [0, 1, 32, 1_087, ENC_LEN - 1] {
        assert!(keys.open(b"info", b"", &built(&enc[..cut])).is_err());
    }
    let mut no_lattice = enc.to_vec();
    no_lattice[..ENC_LEN - 32].fill(0);
    assert_eq!(keys.open(b"info", b"", &built(&no_lattice)), Err(Refusal::Tag));
    let mut no_curve = enc.to_vec();
    no_curve[ENC_LEN - 32..].fill(0);
    assert_eq!(keys.open(b"info", b"", &built(&no_curve)), Err(Refusal::Key));
    // A public key of one mechanism alone is no key of ours.
    assert_eq!(BoxPublicKey::from_slice(&keys.public().as_bytes()[..1_184]), Err(Refusal::Canon));
    assert_eq!(BoxPublicKey::from_slice(&keys.public().as_bytes()[1_184..]), Err(Refusal::Canon));
}

/// T65: the one room that may name a KEM names X-Wing alone.
#[test]
fn t65_one_kem_is_named() {
    let source = include_str!("../sealed_box.rs");
    for name in ["X25519HkdfSha256", "MlKem", "DhP256", "DhP384", "DhP521", "X448"] {
        assert!(!source.contains(name), "{name}");
    }
}

/// T70: a point of low order is refused wherever it could come in.
#[test]
fn t70_low_order_points_are_refused_in_keys_and_encapsulations() {
    let keys = BoxKeys::from_seed(&BoxSeed::new([1; 32]));
    let sealed = keys.public().seal(b"info", b"", b"plain", &mut dice());
    for hex_point in LOW_ORDER {
        for high_bit in [0, 0x80] {
            let mut point = hex::decode(hex_point).unwrap();
            point[31] |= high_bit;
            let mut bytes = *keys.public().as_bytes();
            bytes[PUBLIC_KEY_LEN - 32..].copy_from_slice(&point);
            assert_eq!(BoxPublicKey::from_slice(&bytes), Err(Refusal::Key), "{hex_point}");
            let mut changed = sealed.clone();
            changed[ENC_LEN - 32..ENC_LEN].copy_from_slice(&point);
            assert_eq!(keys.open(b"info", b"", &changed), Err(Refusal::Key), "{hex_point}");
        }
    }
}

/// T12 for boxes: every bit counts.
#[test]
fn t12_every_flipped_bit_of_a_box_is_refused() {
    let keys = BoxKeys::from_seed(&BoxSeed::new([1; 32]));
    let mut sealed = keys.public().seal(b"info", b"", &[7; 32], &mut dice());
    for at in 0..sealed.len() {
        for bit in 0..8 {
            // The top bit of an X25519 coordinate is ignored by the curve, but X-Wing hashes the bytes as they came.
            sealed[at] ^= 1 << bit;
            assert!(
                matches!(keys.open(b"info", b"", &sealed), Err(Refusal::Tag | Refusal::Key)),
                "{at}.{bit}"
            );
            sealed[at] ^= 1 << bit;
        }
    }
    assert!(keys.open(b"info", b"", &sealed).is_ok());
}
