//! Tests of `chunk`.

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::sample::{bytes, cases, data, fixed, import, number, part, vectors};

const VECTORS: &str = include_str!("../../../docs/spec/vectors/chunks.json");

fn b3(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

fn sealed(ck: &ChunkKey, plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    seal(ck, plain, &mut out).unwrap();
    out
}

fn opened(ck: &ChunkKey, len: usize, sealed: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut out = b"before".to_vec();
    let result = open(ck, u32::try_from(len).unwrap(), sealed, &mut out);
    assert_eq!(&out[..6], b"before");
    match result {
        Ok(()) => Ok(out.split_off(6)),
        Err(refusal) => {
            assert_eq!(out.len(), 6, "no plaintext leaves with a refusal");
            Err(refusal)
        }
    }
}

#[test]
fn keys_and_sealed_bytes_match_the_vectors() {
    let v = vectors(VECTORS);
    let cases = cases(&v, "vectors");
    for case in cases {
        let plain = part(&case["plain"]);
        let kind = case["kind"].as_str().unwrap();
        let ck = match kind {
            "foreign" => ChunkKey::new(fixed(&case["ck"])),
            _ => {
                let keys = DedupKeys::new(&DedupSecret::new(fixed(&case["D"])));
                keys.chunk_key(if kind == "own" { ChunkKind::Data } else { ChunkKind::Manifest }, &plain)
            }
        };
        assert_eq!(ck.expose(), &fixed::<32>(&case["ck"]));
        assert_eq!(encryption_key(&ck).expose(), &fixed::<32>(&case["ek"]));
        assert_eq!(chunk_tag(&ck).as_bytes(), &fixed::<16>(&case["tag"]));
        let sealed = sealed(&ck, &plain);
        assert_eq!(sealed[..32], fixed::<32>(&case["com"]));
        assert_eq!(sealed.len(), number(&case["sealed_len"]));
        assert_eq!(b3(&sealed), fixed(&case["sealed_b3"]));
        if case["sealed"] != Value::Null {
            assert_eq!(sealed, bytes(&case["sealed"]));
        }
        assert_eq!(plain.len(), number(&case["len"]));
        assert!(opened(&ck, plain.len(), &sealed).unwrap() == plain);
    }
    assert_eq!(cases.len(), 12);
}

#[test]
fn tampering_is_refused_as_in_the_vectors() {
    let v = vectors(VECTORS);
    let tamper = &v["tamper"];
    let plain = part(&tamper["plain"]);
    let keys = DedupKeys::new(&DedupSecret::new(fixed(&tamper["D"])));
    let good = sealed(&keys.chunk_key(ChunkKind::Data, &plain), &plain);
    let cases = cases(tamper, "cases");
    for case in cases {
        let mut bad = good.clone();
        let ck = ChunkKey::new(fixed(&case["ck"]));
        match (&case["change"]["xor1_at"], case["change"].as_str()) {
            (at @ Value::Number(_), _) => bad[number(at)] ^= 1,
            (_, Some("segments 0 and 1 swapped")) => {
                let (first, rest) = bad[COMMITMENT_LEN..].split_at_mut(SEGMENT_SEALED_LEN);
                first.swap_with_slice(&mut rest[..SEGMENT_SEALED_LEN]);
            }
            (_, Some("segment 0 in place of segment 1")) => {
                bad.copy_within(
                    COMMITMENT_LEN..COMMITMENT_LEN + SEGMENT_SEALED_LEN,
                    COMMITMENT_LEN + SEGMENT_SEALED_LEN,
                );
            }
            (_, Some("last segment dropped, len 131072")) => {
                bad.truncate(COMMITMENT_LEN + 2 * SEGMENT_SEALED_LEN)
            }
            (_, Some("last byte dropped")) => bad.truncate(good.len() - 1),
            (_, Some("other key")) => {}
            (_, Some("other key with its commitment")) => {
                bad[..COMMITMENT_LEN].copy_from_slice(&kdf(Purpose::ChunkCom, &[ck.expose()]));
            }
            other => panic!("unknown change {other:?}"),
        }
        let refusal = opened(&ck, number(&case["len"]), &bad).unwrap_err();
        assert_eq!(refusal.code(), case["expect"].as_str().unwrap(), "{}", case["change"]);
        if case["change"] != "other key" {
            assert_eq!(b3(&bad), fixed(&case["result_b3"]), "{}", case["change"]);
        }
    }
    assert_eq!(cases.len(), 12);
}

/// T1: no bit of a sealed chunk of three segments can be turned unseen, and no plaintext of the segment leaves.
/// All bits of the commitment and of the tags, and one bit of every 61st byte between them.
#[test]
fn t1_every_turned_bit_is_refused() {
    let plain = data("t1", 2 * SEGMENT_LEN + 17);
    let ck = DedupKeys::new(&DedupSecret::new([1; 32])).chunk_key(ChunkKind::Data, &plain);
    let mut bytes = sealed(&ck, &plain);
    let in_tag = |at: usize| {
        let place = at.saturating_sub(COMMITMENT_LEN) % SEGMENT_SEALED_LEN;
        place >= SEGMENT_LEN || at >= COMMITMENT_LEN + 2 * SEGMENT_SEALED_LEN
    };
    let mut turned = 0;
    for at in 0..bytes.len() {
        let whole = at < COMMITMENT_LEN || in_tag(at);
        for bit in (0..8).filter(|bit| whole || at % 61 == 0 && at / 61 % 8 == *bit) {
            bytes[at] ^= 1 << bit;
            let expected = if at < COMMITMENT_LEN { Refusal::Commit } else { Refusal::Tag };
            assert_eq!(opened(&ck, plain.len(), &bytes), Err(expected), "byte {at}, bit {bit}");
            bytes[at] ^= 1 << bit;
            turned += 1;
        }
    }
    assert!(turned > 2_500, "{turned}");
    assert!(opened(&ck, plain.len(), &bytes).unwrap() == plain);
}

/// T3: one ciphertext that the bare cipher opens under two keys. The commitment lets it open under one only.
#[test]
fn t3_a_two_key_ciphertext_opens_under_one_key() {
    let v = vectors(VECTORS);
    let salamander = &v["salamander"];
    let bytes = bytes(&salamander["sealed"]);
    assert_eq!(b3(&bytes), fixed(&salamander["sealed_b3"]));
    let keys = [ChunkKey::new(fixed(&salamander["ck_1"])), ChunkKey::new(fixed(&salamander["ck_2"]))];

    let bare = |ck: &ChunkKey| {
        let (body, tag) = bytes[COMMITMENT_LEN..].split_last_chunk::<16>().unwrap();
        let mut out = body.to_vec();
        ChaCha20Poly1305::new(encryption_key(ck).expose().into())
            .decrypt_inout_detached(&nonce(0, true).into(), &[], out.as_mut_slice().into(), &(*tag).into())
            .unwrap();
        b3(&out)
    };
    assert_eq!(bare(&keys[0]), fixed(&salamander["plain_1_b3"]));
    assert_eq!(bare(&keys[1]), fixed(&salamander["plain_2_b3"]));

    let len = bytes.len() - COMMITMENT_LEN - 16;
    assert_eq!(b3(&opened(&keys[0], len, &bytes).unwrap()), fixed(&salamander["plain_1_b3"]));
    assert_eq!(len, 4096);
    assert_eq!(opened(&keys[1], len, &bytes), Err(Refusal::Commit));
}

/// T4: one file in two lockers has no common tag, chunk or pack; twice in one locker it has one pack. Who lacks D
/// derives nothing that matches from the file.
#[test]
fn t4_the_same_file_in_two_lockers_has_nothing_in_common() {
    let file = data("t4", 10 << 20);
    let (ada, bob) = (DedupSecret::new([0xad; 32]), DedupSecret::new([0xb0; 32]));
    let twice = import(&ada, [&file[..], &file[..]]);
    let once = import(&ada, [&file[..]]);
    let other = import(&bob, [&file[..]]);
    let none = import(&DedupSecret::new([0; 32]), [&file[..]]);
    assert!(twice.files[0] == twice.files[1]);
    assert_eq!(twice.packs, once.packs);
    for stranger in [&other, &none] {
        assert!(stranger.keys.keys().all(|tag| !once.keys.contains_key(tag)));
        for (bytes, op) in &stranger.packs {
            assert!(once.packs.iter().all(|(_, ours)| ours.hash() != op.hash()));
            assert!(once.packs.iter().all(|(ours, _)| ours[..64] != bytes[..64]));
        }
    }
    for loc in once.packs[0].1.locs() {
        let chunk = &once.packs[0].0[loc.offset as usize..][..64];
        assert!(other.packs.iter().all(|(bytes, _)| !bytes.windows(64).any(|window| window == chunk)));
    }
}

/// T6: every parameter of the encryption is inside the key, so another segment size never meets the same nonce.
#[test]
fn t6_another_segment_size_gives_another_key() {
    let keys = DedupKeys::new(&DedupSecret::new([6; 32]));
    let plain = data("t6", 100_000);
    let usual = keys.chunk_key_with(ChunkKind::Data, 0x10, &plain);
    assert!(usual == keys.chunk_key(ChunkKind::Data, &plain));
    assert!(usual != keys.chunk_key_with(ChunkKind::Data, 0x11, &plain));
    // Segments of one chunk never share a nonce.
    let nonces: std::collections::HashSet<_> =
        (0..64).flat_map(|index| [nonce(index, false), nonce(index, true)]).collect();
    assert_eq!(nonces.len(), 128);
}

/// T11: a manifest and a file with the same bytes have different keys and names.
#[test]
fn t11_data_and_manifest_have_different_keys() {
    let keys = DedupKeys::new(&DedupSecret::new([11; 32]));
    let plain = data("t11", 360);
    let (file, manifest) =
        (keys.chunk_key(ChunkKind::Data, &plain), keys.chunk_key(ChunkKind::Manifest, &plain));
    assert!(file != manifest);
    assert_ne!(chunk_tag(&file), chunk_tag(&manifest));
    assert_eq!(opened(&manifest, plain.len(), &sealed(&file, &plain)), Err(Refusal::Commit));
}

/// T81: nothing is compressed, so inputs of one length give chunks of one length.
#[test]
fn t81_lengths_do_not_depend_on_content() {
    for len in [1, 1_000, 65_536, 262_144] {
        let ck = ChunkKey::new([8; 32]);
        let zeros = sealed(&ck, &vec![0; len]);
        let random = sealed(&ChunkKey::new([9; 32]), &data("t81", len));
        assert_eq!(zeros.len(), random.len());
        let secret = DedupSecret::new([81; 32]);
        let packs = [vec![0; len], data("t81", len)].map(|file| import(&secret, [&file[..]]).packs);
        assert_eq!(packs[0].len(), packs[1].len());
        assert_eq!(packs[0][0].0.len(), packs[1][0].0.len());
        assert_eq!(packs[0][0].1.encode().len(), packs[1][0].1.encode().len());
    }
}

/// Keys, cutters and openers are used from many threads at once.
#[test]
fn keys_are_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<DedupKeys>();
    shared::<Opener>();
    shared::<crate::cut::Cutter>();
    shared::<crate::pack::SealedChunk>();
}

#[test]
fn length_limits_hold() {
    let ck = ChunkKey::new([1; 32]);
    let mut out = vec![1];
    assert_eq!(seal(&ck, &[], &mut out), Err(Refusal::Canon));
    assert_eq!(seal(&ck, &vec![0; CHUNK_LEN_MAX + 1], &mut out), Err(Refusal::Limit));
    assert_eq!(out, [1]);
    assert_eq!(sealed(&ck, &vec![0; CHUNK_LEN_MAX]).len(), SEALED_LEN_MAX as usize);
    assert_eq!(sealed_len(CHUNK_LEN_MAX as u32), Some(SEALED_LEN_MAX));
    assert_eq!(sealed_len(CHUNK_LEN_MAX as u32 + 1), None);
    assert_eq!(sealed_len(0), None);
    assert_eq!(plain_len(SEALED_LEN_MAX + 1), None);
    assert_eq!(plain_len(48), None);
    assert_eq!(plain_len(49), Some(1));
    assert_eq!(plain_len(u32::MAX), None);
    assert_eq!(opened(&ck, 0, &[0; 48]), Err(Refusal::Canon));
    assert_eq!(opened(&ck, CHUNK_LEN_MAX + 1, &[0; 48]), Err(Refusal::Canon));
}

/// T10: a record that names one byte less or more than the chunk has is refused before anything is opened.
#[test]
fn t10_a_false_length_is_refused() {
    let ck = ChunkKey::new([1; 32]);
    let plain = data("t10", 70_000);
    let bytes = sealed(&ck, &plain);
    for len in [69_999, 70_001, 65_536] {
        assert_eq!(opened(&ck, len, &bytes), Err(Refusal::Canon));
    }
}

#[test]
fn an_opener_refuses_ranges_of_another_chunk() {
    let ck = ChunkKey::new([1; 32]);
    let plain = data("opener", 200_000);
    let bytes = sealed(&ck, &plain);
    let opener = Opener::new(&ck, 200_000, bytes.first_chunk().unwrap()).unwrap();
    let other = SegmentRange::covering(200_001, 0, 10).unwrap();
    let mut out = Vec::new();
    assert_eq!(opener.open(&other, &bytes[32..32 + SEGMENT_SEALED_LEN], &mut out), Err(Refusal::Canon));
    let range = SegmentRange::covering(200_000, 0, 10).unwrap();
    assert_eq!(opener.open(&range, &bytes[32..31 + SEGMENT_SEALED_LEN], &mut out), Err(Refusal::Canon));
    // The segments of another place under the right lengths.
    let moved = &bytes[32 + SEGMENT_SEALED_LEN..32 + 2 * SEGMENT_SEALED_LEN];
    assert_eq!(opener.open(&range, moved, &mut out), Err(Refusal::Tag));
    assert!(out.is_empty());
    assert!(Opener::new(&ck, 200_000, &[0; 32]).err() == Some(Refusal::Commit));
    assert!(SegmentRange::covering(200_000, 5, 5).is_none());
    assert!(SegmentRange::covering(200_000, 6, 5).is_none());
    assert!(SegmentRange::covering(200_000, 0, 200_001).is_none());
}

proptest! {
    #[test]
    fn sealed_length_has_an_inverse(len in 1u32..=4_194_304) {
        prop_assert_eq!(plain_len(sealed_len(len).unwrap()), Some(len));
    }

    #[test]
    fn plain_length_has_an_inverse(sealed in any::<u32>(), small in 0u32..5_000_000) {
        for sealed in [sealed, small] {
            if let Some(len) = plain_len(sealed) {
                prop_assert_eq!(sealed_len(len), Some(sealed));
            }
        }
    }

    #[test]
    fn any_range_opens_to_its_bytes(len in 1usize..300_000, a in any::<u32>(), b in any::<u32>()) {
        let plain = data("range", len);
        let ck = ChunkKey::new([5; 32]);
        let bytes = sealed(&ck, &plain);
        let len = u32::try_from(len).unwrap();
        let (from, to) = ((a % len).min(b % len), (a % len).max(b % len) + 1);
        let range = SegmentRange::covering(len, from, to).unwrap();
        let opener = Opener::new(&ck, len, bytes.first_chunk().unwrap()).unwrap();
        let place = range.sealed();
        let mut out = Vec::new();
        opener.open(&range, &bytes[place.start as usize..place.end as usize], &mut out).unwrap();
        let got = range.plain();
        prop_assert!(got.start <= from && to <= got.end);
        prop_assert!(from - got.start < 65_536 && got.end - to < 65_536);
        prop_assert!(out == plain[got.start as usize..got.end as usize]);
    }
}
