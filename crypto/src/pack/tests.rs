//! Tests of `pack`.

use serde_json::Value;

use super::*;
use crate::Refusal;
use crate::chunk::{SEALED_LEN_MAX, chunk_tag, open, plain_len};
use crate::id::{ChunkTag, PackHash};
use crate::sample::{
    Imported, below, bytes, cases, data, dice, fixed, import, number, outcome, part, survive_mutations,
    vectors,
};
use crate::secret::DedupSecret;

const VECTORS: &str = include_str!("../../../docs/spec/vectors/packs.json");

fn b3(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

fn batch(case: &Value) -> Vec<Vec<u8>> {
    if let Some(files) = case["files"].as_array() {
        return files.iter().map(part).collect();
    }
    let formula = &case["files_formula"];
    assert_eq!(formula["label"], "s{i}");
    let from = number(&formula["i_from"]);
    (from..from + number(&formula["count"]))
        .map(|index| data(&format!("s{index}"), number(&formula["n"])))
        .collect()
}

#[test]
fn batches_match_the_vectors() {
    let v = vectors(VECTORS);
    let cases = cases(&v, "vectors");
    for (index, case) in cases.iter().enumerate() {
        let files = batch(case);
        let made = import(&DedupSecret::new(fixed(&case["D"])), files.iter().map(Vec::as_slice));
        let packs = case["packs"].as_array().unwrap();
        assert_eq!(made.packs.len(), packs.len(), "batch {index}");
        for ((body, op), expected) in made.packs.iter().zip(packs) {
            assert_eq!(op.hash().as_bytes(), &fixed::<32>(&expected["hash"]), "batch {index}");
            assert_eq!(b3(body), fixed(&expected["hash"]));
            assert_eq!(body.len(), number(&expected["len"]));
            assert_eq!(op.locs().len(), number(&expected["n_chunks"]));
            assert_eq!(op.total() as usize, number(&expected["total"]));
            assert_eq!(b3(&body[op.total() as usize..]), fixed(&expected["pad_b3"]));
            let encoded = op.encode();
            assert_eq!(encoded.len(), number(&expected["op_len"]));
            assert_eq!(b3(&encoded), fixed(&expected["op_b3"]));
            if let Some(text) = expected["op"].as_str() {
                assert_eq!(hex::encode(&encoded), text);
            }
            for (loc, expected) in op.locs().iter().zip(expected["locs"].as_array().into_iter().flatten()) {
                assert_eq!(loc.tag.as_bytes(), &fixed::<16>(&expected[0]));
                assert_eq!(loc.offset as usize, number(&expected[1]));
                assert_eq!(loc.sealed_len as usize, number(&expected[2]));
            }
            assert_eq!(PackOp::decode(&encoded).as_ref(), Ok(op));
            op.check_bytes(body).unwrap();
            op.check_padding(body, &made.keys[&op.locs()[0].tag]).unwrap();
        }
        for (file, expected) in made.files.iter().zip(case["filerefs_b3"].as_array().into_iter().flatten()) {
            assert_eq!(b3(&file.encode()), fixed(expected));
        }
        assert_eq!(made.files.len(), files.len());
    }
    assert_eq!(cases.len(), 8);
}

#[test]
fn operations_are_accepted_and_refused_as_in_the_vectors() {
    let v = vectors(VECTORS);
    let cases = cases(&v, "ops");
    for case in cases {
        let bytes = bytes(&case["op"]);
        let result = PackOp::decode(&bytes);
        assert_eq!(outcome(&result), case["expect"].as_str().unwrap(), "{}", case["id"]);
        if let Ok(op) = result {
            assert_eq!(op.encode(), bytes);
        }
    }
    assert_eq!(cases.len(), 14);
}

#[test]
fn padding_lengths_match_the_vectors() {
    let v = vectors(include_str!("../../../docs/spec/vectors/kdf.json"));
    let cases = cases(&v, "padme");
    for case in cases {
        let n = case["n"].as_u64().unwrap();
        assert_eq!(padme(n), case["padme"].as_u64().unwrap(), "{n}");
        if n <= u64::from(PACK_LEN_MAX) {
            assert_eq!(u64::from(padded_len(u32::try_from(n).unwrap())), case["pack_len"].as_u64().unwrap());
        }
    }
    assert_eq!(padded_len(PACK_LEN_MAX), PACK_LEN_MAX);
}

/// An operation over `count` chunks of one byte, right in every field.
fn small_op(count: usize) -> Vec<Loc> {
    (0..count)
        .map(|index| {
            let index = u32::try_from(index).unwrap();
            let mut tag = [0; 16];
            tag[..4].copy_from_slice(&index.to_le_bytes());
            Loc { tag: ChunkTag(tag), offset: 49 * index, sealed_len: 49 }
        })
        .collect()
}

#[test]
fn limits_hold_and_one_more_is_refused() {
    let hash = PackHash([1; 32]);
    let most = small_op(PACK_CHUNKS_MAX);
    assert!(PackOp::new(hash, padded_len(49 * 4096), most).is_ok());
    let more = small_op(PACK_CHUNKS_MAX + 1);
    assert_eq!(PackOp::new(hash, padded_len(49 * 4097), more.clone()), Err(Refusal::Limit));
    let mut w = crate::encode::Writer::new();
    w.array(4).u64(20).bytes(&[1; 32]).u64(padded_len(49 * 4097).into()).array(more.len());
    for loc in &more {
        w.array(3).bytes(loc.tag.as_bytes()).u64(loc.offset.into()).u64(loc.sealed_len.into());
    }
    assert_eq!(PackOp::decode(&w.finish()), Err(Refusal::Limit));
    // Five chunks of the greatest length pass the pack limit although each of them is allowed.
    let great = (0..5u8)
        .map(|i| Loc {
            tag: ChunkTag([i; 16]),
            offset: u32::from(i) * SEALED_LEN_MAX,
            sealed_len: SEALED_LEN_MAX,
        })
        .collect();
    assert_eq!(PackOp::new(hash, PACK_LEN_MAX, great), Err(Refusal::Canon));
}

/// The packer counts claims, not wishes.
#[test]
fn an_unclaimed_or_misshapen_chunk_is_refused() {
    let mut packer = Packer::new();
    packer.start_file(1);
    let chunk = SealedChunk::seal(ChunkKey::new([1; 32]), b"a").unwrap();
    assert_eq!(packer.push(&chunk).err(), Some(Refusal::Canon));
    assert!(packer.claim(chunk.tag));
    assert!(!packer.claim(chunk.tag));
    assert!(packer.push(&chunk).unwrap().is_none());
    let short = SealedChunk { bytes: vec![0; 48], ..chunk };
    assert_eq!(packer.push(&short).err(), Some(Refusal::Canon));
    assert!(packer.end_file().is_none());
    assert_eq!(packer.finish().unwrap().locs().len(), 1);
    assert!(Packer::new().finish().is_none());
}

/// A file of hundreds of megabytes gives its packs as they close; never more than one pack waits.
#[test]
fn a_large_file_streams_through_bounded_memory() {
    let mut packer = Packer::new();
    packer.start_file(60 << 20);
    let mut closed = 0;
    for index in 0..15u8 {
        let chunk = SealedChunk::seal(ChunkKey::new([index; 32]), &vec![index; 4 << 20]).unwrap();
        assert!(packer.claim(chunk.tag));
        if let Some(pack) = packer.push(&chunk).unwrap() {
            assert_eq!(pack.locs().len(), 3);
            assert!(pack.bytes().len() <= PACK_LEN_MAX as usize);
            closed += 1;
        }
    }
    assert_eq!(closed, 4);
    assert_eq!(packer.end_file().unwrap().locs().len(), 3);
    assert!(packer.finish().is_none());
}

/// T1: a pack with one changed bit has another hash.
#[test]
fn t1_a_changed_pack_does_not_match_its_hash() {
    let made = import(&DedupSecret::new([1; 32]), [&data("t1", 5_000)[..]]);
    let (mut body, op) = made.packs.into_iter().next().unwrap();
    op.check_bytes(&body).unwrap();
    for at in (0..body.len()).step_by(101) {
        body[at] ^= 0x10;
        assert_eq!(op.check_bytes(&body), Err(Refusal::Hash));
        body[at] ^= 0x10;
    }
    assert_eq!(op.check_bytes(&body[1..]), Err(Refusal::Hash));
}

/// T7: whole packs show no chunk length: their lengths are padded totals.
/// T8: every pack length is `max(4096, padme(total))`, at most 16 MiB, with at most 12 % and 4 KiB on top; batches
/// of 1 to 4,096 bytes cannot be told apart.
#[test]
fn t8_pack_lengths_are_padded() {
    let mut dice = dice(8);
    for round in 0u8..40 {
        let count = below(&mut dice, 12) + 1;
        let files: Vec<Vec<u8>> =
            (0..count).map(|i| data(&format!("t8 {round} {i}"), below(&mut dice, 300_000))).collect();
        let made = import(&DedupSecret::new([round; 32]), files.iter().map(Vec::as_slice));
        for (body, op) in &made.packs {
            let total = u64::from(op.total());
            assert_eq!(body.len() as u64, padme(total).max(4096));
            assert!(body.len() <= PACK_LEN_MAX as usize);
            assert!(body.len() as u64 <= total + total * 12 / 100 + 4096);
            for loc in op.locs() {
                assert_ne!(Some(u32::try_from(body.len()).unwrap()), plain_len(loc.sealed_len));
            }
        }
    }
    for total in 1..=4096 {
        assert_eq!(padded_len(total), 4096);
    }
    for _ in 0..10_000 {
        let total = u32::try_from(below(&mut dice, PACK_LEN_MAX as usize) + 1).unwrap();
        let padded = padded_len(total);
        assert!(total <= padded && padded <= PACK_LEN_MAX);
        assert!(u64::from(padded) <= (u64::from(total) * 112 / 100).max(4096), "{total}");
    }
}

/// T10: a changed byte in the padding is found; the chunks stay readable.
#[test]
fn t10_junk_in_the_padding_is_found() {
    let file = data("t10", 5_000);
    let Imported { packs, keys, .. } = import(&DedupSecret::new([1; 32]), [&file[..]]);
    let (mut body, op) = packs.into_iter().next().unwrap();
    let loc = op.locs()[0];
    let first = &keys[&loc.tag];
    let last = body.len() - 1;
    for at in [op.total() as usize, last] {
        body[at] ^= 1;
        let hash = PackHash(b3(&body));
        let lying = PackOp::new(hash, op.len(), op.locs().to_vec()).unwrap();
        lying.check_bytes(&body).unwrap();
        assert_eq!(lying.check_padding(&body, first), Err(Refusal::Pad));
        let mut out = Vec::new();
        open(first, plain_len(loc.sealed_len).unwrap(), &body[..loc.sealed_len as usize], &mut out).unwrap();
        assert_eq!(out, file);
        body[at] ^= 1;
    }
    op.check_padding(&body, first).unwrap();
    assert_eq!(op.check_padding(&body, &ChunkKey::new([1; 32])), Err(Refusal::Pad));
    assert_eq!(op.check_padding(&body[..last], first), Err(Refusal::Hash));
}

/// Many longest chunks, with offsets that are right, must not overflow the sum of the lengths.
#[test]
fn a_sum_beyond_32_bits_is_refused() {
    let locs: Vec<Loc> = (0..1_025u32)
        .map(|i| {
            let mut tag = [0; 16];
            tag[..4].copy_from_slice(&i.to_le_bytes());
            Loc { tag: ChunkTag(tag), offset: i.wrapping_mul(SEALED_LEN_MAX), sealed_len: SEALED_LEN_MAX }
        })
        .collect();
    assert_eq!(PackOp::new(PackHash([9; 32]), 5_505_024, locs).unwrap_err(), Refusal::Canon);
}

/// T85: an operation that lies about places or tags leads to bytes that do not open.
#[test]
fn t85_a_lying_operation_ends_at_the_commitment() {
    let files = [data("t85 a", 5_000), data("t85 b", 5_000)];
    let Imported { packs, keys, .. } = import(&DedupSecret::new([1; 32]), files.iter().map(Vec::as_slice));
    let (body, op) = &packs[0];
    let [a, b] = [op.locs()[0], op.locs()[1]];
    assert_eq!(a.sealed_len, b.sealed_len);
    let swapped = vec![Loc { tag: b.tag, ..a }, Loc { tag: a.tag, ..b }];
    let lying = PackOp::new(op.hash(), op.len(), swapped).unwrap();
    for loc in lying.locs() {
        let sealed = &body[loc.offset as usize..(loc.offset + loc.sealed_len) as usize];
        let mut out = Vec::new();
        let result = open(&keys[&loc.tag], plain_len(loc.sealed_len).unwrap(), sealed, &mut out);
        assert_eq!(result, Err(Refusal::Commit));
        assert!(out.is_empty());
    }
    let foreign = chunk_tag(&ChunkKey::new([7; 32]));
    let lying = PackOp::new(op.hash(), op.len(), vec![Loc { tag: foreign, ..a }, b]).unwrap();
    assert!(!keys.contains_key(&lying.locs()[0].tag));
}

#[test]
fn mutated_operations_decode_to_themselves_or_not_at_all() {
    let v = vectors(VECTORS);
    let mut samples: Vec<Vec<u8>> = cases(&v, "ops")
        .iter()
        .filter(|case| case["expect"] == "ok")
        .map(|case| bytes(&case["op"]))
        .collect();
    samples.extend(cases(&v, "vectors").iter().flat_map(|case| {
        case["packs"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|pack| pack["op"].is_string())
            .map(|pack| bytes(&pack["op"]))
    }));
    assert!(samples.len() > 5);
    let decoded = survive_mutations(&samples, |bytes| PackOp::decode(bytes).map(|op| op.encode()));
    assert!(decoded > 100, "{decoded}");
}
