//! Tests of `vault`.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use serde_json::Value;

use super::wrap::{HEADER_LEN, open, read_header, seal};
use super::*;
use crate::Refusal;
use crate::id::ContentHash;
use crate::secret::{AeadKey, VaultKey};

fn dice(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../docs/spec/vectors/vault.json")).unwrap()
}

#[test]
fn the_wrap_of_the_vectors_opens_and_is_made_again() {
    let v = vectors();
    let good = bytes(&v["wrap"]);
    let passphrase = v["passphrase"].as_str().unwrap();
    let vault = VaultKey::from_slice(&bytes(&v["VK"])).unwrap();
    assert!(unwrap(passphrase, &good).unwrap() == vault);
    let (cost, salt) = read_header(&good).unwrap();
    let kek = stretch(passphrase, &salt, cost).unwrap();
    assert_eq!(kek.expose()[..], bytes(&v["kek"]));
    let nonce = good[HEADER_LEN..HEADER_LEN + 24].try_into().unwrap();
    assert_eq!(seal(&vault, &kek, cost, &salt, &nonce)[..], good);
    assert_eq!(unwrap("correct horse battery stapler", &good).err(), Some(Refusal::Tag));
}

#[test]
fn the_refused_wraps_of_the_vectors_are_refused() {
    let v = vectors();
    let mut seen = 0;
    for case in v["refused"].as_array().unwrap() {
        let answer = unwrap(v["passphrase"].as_str().unwrap(), &bytes(&case["wrap"])).map(|_| ());
        assert_eq!(answer.unwrap_err().code(), case["expect"].as_str().unwrap(), "{}", case["id"]);
        seen += 1;
    }
    assert_eq!(seen, 11);
}

#[test]
fn the_database_value_of_the_vectors_is_reproduced() {
    let v = vectors();
    let db = &v["db"];
    assert_eq!(db["table"], "entries");
    let table = TableKey::new(&VaultKey::from_slice(&bytes(&v["VK"])).unwrap(), "entries");
    assert_eq!(table.expose()[..], bytes(&db["table_key"]));
    let (key, plain, stored) = (bytes(&db["key"]), bytes(&db["plain"]), bytes(&db["stored"]));
    assert_eq!(table.seal(stored[..24].try_into().unwrap(), &key, &plain), stored);
    assert_eq!(table.open(&key, &stored).unwrap(), plain);
    assert_eq!(stored.len(), plain.len() + VALUE_OVERHEAD);
}

#[test]
fn a_wrap_opens_with_its_passphrase_in_any_unicode_form() {
    let vault = VaultKey::random(&mut dice(1));
    let wrapped = wrap(&vault, "Ba\u{308}r", StretchCost::PHONE, &mut dice(2)).unwrap();
    assert!(unwrap("B\u{e4}r", &wrapped).unwrap() == vault);
    let again = wrap(&vault, "B\u{e4}r", StretchCost::PHONE, &mut dice(3)).unwrap();
    assert_ne!(wrapped[14..], again[14..], "salt and nonce are fresh");
}

#[test]
fn costs_are_bounded_exactly() {
    for (memory, passes, lanes) in [(65_536, 3, 1), (1_048_576, 16, 4)] {
        assert!(StretchCost::new(memory, passes, lanes).is_ok());
    }
    let outside = [
        (65_535, 3, 1),
        (1_048_577, 3, 1),
        (65_536, 2, 1),
        (65_536, 17, 1),
        (65_536, 3, 0),
        (65_536, 3, 5),
        (0, 0, 0),
        (u32::MAX, u32::MAX, u8::MAX),
    ];
    for (memory, passes, lanes) in outside {
        assert_eq!(StretchCost::new(memory, passes, lanes), Err(Refusal::Limit));
    }
    for cost in [StretchCost::COMPUTER, StretchCost::PHONE] {
        assert_eq!(StretchCost::new(cost.memory_kib(), cost.passes(), cost.lanes()), Ok(cost));
    }
}

/// T12: every bit of a wrap counts, those of the header as associated data.
#[test]
fn t12_every_flipped_bit_of_a_vault_wrap_is_refused() {
    let vault = VaultKey::new([5; 32]);
    let kek = AeadKey::new([6; 32]);
    let mut wrapped = seal(&vault, &kek, StretchCost::PHONE, &[7; SALT_LEN], &[8; 24]);
    for at in 0..WRAP_LEN * 8 {
        wrapped[at / 8] ^= 1 << (at % 8);
        assert_eq!(open(&wrapped, &kek).err(), Some(Refusal::Tag), "bit {at}");
        wrapped[at / 8] ^= 1 << (at % 8);
    }
    assert!(open(&wrapped, &kek).unwrap() == vault);
}

#[test]
fn headers_survive_any_change_of_bytes() {
    let good = seal(&VaultKey::new([5; 32]), &AeadKey::new([6; 32]), StretchCost::PHONE, &[7; 16], &[8; 24]);
    let mut dice = dice(9);
    for _ in 0..20_000 {
        let mut changed = good.to_vec();
        for _ in 0..=dice.next_u32() % 3 {
            let at = dice.next_u32() as usize % changed.len().max(1);
            match dice.next_u32() % 4 {
                0 => changed.truncate(at.max(1)),
                1 => changed.insert(at, dice.next_u32().to_le_bytes()[0]),
                _ => changed[at] = dice.next_u32().to_le_bytes()[0],
            }
        }
        if let Ok((cost, salt)) = read_header(&changed) {
            assert_eq!(changed.len(), WRAP_LEN);
            assert_eq!(StretchCost::new(cost.memory_kib(), cost.passes(), cost.lanes()), Ok(cost));
            assert_eq!(changed[14..HEADER_LEN], salt);
        }
    }
    let mut kind = good;
    kind[4] = 2;
    assert_eq!(read_header(&kind).err(), Some(Refusal::Canon));
    assert_eq!(read_header(b"LKX1").err(), Some(Refusal::Canon));
    assert_eq!(read_header(b"LKV9").err(), Some(Refusal::Version));
}

#[test]
fn a_value_opens_in_its_own_row_only() {
    let vault = VaultKey::new([5; 32]);
    let table = TableKey::new(&vault, "nodes");
    let stored = table.seal(&[1; 24], b"row", b"value");
    assert_eq!(table.open(b"row", &stored).unwrap(), b"value");
    assert_eq!(table.open(b"other", &stored), Err(Refusal::Tag));
    assert_eq!(TableKey::new(&vault, "heads").open(b"row", &stored), Err(Refusal::Tag));
    assert_eq!(TableKey::new(&VaultKey::new([6; 32]), "nodes").open(b"row", &stored), Err(Refusal::Tag));
    for at in 0..stored.len() {
        let mut changed = stored.clone();
        changed[at] ^= 1;
        assert_eq!(table.open(b"row", &changed), Err(Refusal::Tag));
        assert_eq!(table.open(b"row", &stored[..at]), Err(Refusal::Tag));
    }
}

#[test]
#[should_panic(expected = "taken or not allowed")]
fn no_table_shares_a_key_with_the_hash_of_names() {
    TableKey::new(&VaultKey::new([5; 32]), "names");
}

#[test]
fn keyed_hashes_depend_on_the_vault() {
    let (one, other) = (VaultKey::new([1; 32]), VaultKey::new([2; 32]));
    assert_eq!(NameHash::new(&one).hash(b"a.txt"), NameHash::new(&one).hash(b"a.txt"));
    assert_ne!(NameHash::new(&one).hash(b"a.txt"), NameHash::new(&one).hash(b"b.txt"));
    assert_ne!(NameHash::new(&one).hash(b"a.txt"), NameHash::new(&other).hash(b"a.txt"));
    let hash = ContentHash([3; 32]);
    assert_ne!(DedupIndexKey::new(&one).row(&hash), DedupIndexKey::new(&other).row(&hash));
    // By the formula of the specification.
    let key = crate::derive::kdf(crate::derive::Purpose::DedupIndex, &[&[1; 32]]);
    assert_eq!(DedupIndexKey::new(&one).row(&hash), *blake3::keyed_hash(&key, &[3; 32]).as_bytes());
    let key = crate::derive::kdf(crate::derive::Purpose::Db, &[&[1; 32], b"names"]);
    assert_eq!(NameHash::new(&one).hash(b"x"), blake3::keyed_hash(&key, b"x").as_bytes()[..16]);
}
