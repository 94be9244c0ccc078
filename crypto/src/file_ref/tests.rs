//! Tests of `file_ref`.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::chunk::{ChunkKind, DedupKeys, Opener, open};
use crate::id::{ChunkTag, PackHash};
use crate::pack::Loc;
use crate::sample::{
    Imported, bytes, cases, data, fixed, import, number, outcome, part, survive_mutations, vectors,
};
use crate::secret::{ChunkKey, DedupSecret};

const VECTORS: &str = include_str!("../../../docs/spec/vectors/fileref.json");

fn secret(case: &Value) -> DedupSecret {
    DedupSecret::new(fixed(&case["D"]))
}

/// Record i of the synthetic lists: `BLAKE3(LE64 i) || LE32 262144`.
fn synthetic(index: u64) -> ChunkRecord {
    ChunkRecord { key: ChunkKey::new(*blake3::hash(&index.to_le_bytes()).as_bytes()), len: 262_144 }
}

fn build_synthetic(keys: &DedupKeys, count: u64) -> (FileRef, Vec<ManifestChunk>) {
    let mut builder = FileRefBuilder::new(keys);
    (0..count).for_each(|index| builder.push(&synthetic(index)).unwrap());
    assert_eq!(builder.size(), count * 262_144);
    builder.finish(ContentHash([0xb3; 32])).unwrap()
}

/// Feeds the manifests of a file until all is known.
fn read_map(file: &FileRef, manifests: &[ManifestChunk]) -> Result<FileMap, Refusal> {
    let by_key: BTreeMap<[u8; 32], &ManifestChunk> =
        manifests.iter().map(|chunk| (*chunk.key.expose(), chunk)).collect();
    let mut map = FileMap::new(file);
    while let Some(wanted) = map.wanted() {
        let plain = &by_key[wanted.key.expose()].plain;
        map.feed(plain)?;
    }
    Ok(map)
}

#[test]
fn built_file_refs_match_the_vectors() {
    let v = vectors(VECTORS);
    let cases = cases(&v, "vectors");
    for case in cases {
        let keys = DedupKeys::new(&secret(case));
        if case["file"].is_object() {
            let file = part(&case["file"]);
            let made = import(&secret(case), [&file[..]]);
            assert_eq!(made.files[0].encode(), bytes(&case["fileref"]));
            assert_eq!(u64::from(made.files[0].level()), case["level"].as_u64().unwrap());
            for chunk in case["manifest_chunks"].as_array().unwrap() {
                assert!(made.keys.values().any(|key| key.expose() == &fixed::<32>(&chunk["ck"])));
            }
            let decoded = FileRef::decode(&bytes(&case["fileref"])).unwrap();
            assert!(decoded == made.files[0]);
            assert_eq!(decoded.check_content(ContentHash(*blake3::hash(&file).as_bytes())), Ok(()));
            continue;
        }
        let count = case["synthetic_records"].as_u64().unwrap();
        let (file, manifests) = build_synthetic(&keys, count);
        assert_eq!(file.encode(), bytes(&case["fileref"]), "{count}");
        assert!(FileRef::decode(&bytes(&case["fileref"])).unwrap() == file);
        assert_eq!(file.size(), case["size"].as_u64().unwrap());
        let expected = case["manifest_chunks"].as_array().unwrap();
        assert_eq!(manifests.len(), expected.len());
        for (chunk, expected) in manifests.iter().zip(expected) {
            assert_eq!(chunk.key.expose(), &fixed::<32>(&expected["ck"]));
            assert_eq!(chunk.plain.len(), number(&expected["len"]));
            assert_eq!(blake3::hash(&chunk.plain).as_bytes(), &fixed::<32>(&expected["plain_b3"]));
        }
        let map = read_map(&file, &manifests).unwrap();
        assert_eq!(map.records().len() as u64, count);
        assert_eq!(map.known_size(), file.size());
        assert!(map.records().last().unwrap() == &synthetic(count - 1));
    }
    assert_eq!(cases.len(), 10);
}

#[test]
fn decoding_accepts_and_refuses_as_in_the_vectors() {
    let v = vectors(VECTORS);
    let cases = cases(&v, "decode");
    for case in cases {
        let bytes = bytes(&case["fileref"]);
        let result = FileRef::decode(&bytes);
        assert_eq!(outcome(&result), case["expect"].as_str().unwrap(), "{}", case["id"]);
        if let Ok(file) = result {
            assert_eq!(file.encode(), bytes);
        }
    }
    assert_eq!(cases.len(), 24);
}

/// Where each chunk of an import lies.
fn locations(made: &Imported) -> BTreeMap<ChunkTag, (PackHash, usize, Loc)> {
    made.packs
        .iter()
        .enumerate()
        .flat_map(|(index, (_, op))| op.locs().iter().map(move |loc| (loc.tag, (op.hash(), index, *loc))))
        .collect()
}

/// The plan of a read: per pack the groups, per chunk the segments; and the bytes, opened from the packs.
#[test]
fn reads_ask_for_the_groups_of_the_vectors_and_nothing_else() {
    let v = vectors(VECTORS);
    let reads = &v["reads"];
    let file = part(&reads["file"]);
    let made = import(&secret(reads), [&file[..]]);
    let packs = cases(reads, "packs");
    assert_eq!(made.packs.len(), packs.len());
    assert_eq!(made.packs[0].1.hash().as_bytes(), &fixed::<32>(&packs[0]["hash"]));
    let located = locations(&made);
    let map = FileMap::new(&made.files[0]);
    let cases = cases(reads, "cases");
    for case in cases {
        let range = case["from"].as_u64().unwrap()..case["to"].as_u64().unwrap();
        let mut asks: BTreeMap<PackHash, GroupSet> = BTreeMap::new();
        let mut plain = Vec::new();
        let slices: Vec<_> = map.slices(&range).unwrap().collect();
        let expected = case["chunks"].as_array().unwrap();
        assert_eq!(slices.len(), expected.len());
        for (slice, expected) in slices.iter().zip(expected) {
            let (hash, index, loc) = &located[&slice.record().tag()];
            let segments = slice.segments();
            assert_eq!(slice.record().tag().as_bytes(), &fixed::<16>(&expected["tag"]));
            assert_eq!(segments.first() as usize, number(&expected["segments"][0]));
            assert_eq!(segments.last() as usize, number(&expected["segments"][1]));
            asks.entry(*hash).or_default().add_segments(loc, &segments, Commitment::Wanted).unwrap();

            let chunk = &made.packs[*index].0[loc.offset as usize..];
            let opener =
                Opener::new(&slice.record().key, slice.record().len, chunk.first_chunk().unwrap()).unwrap();
            let place = segments.sealed();
            let mut out = Vec::new();
            opener.open(&segments, &chunk[place.start as usize..place.end as usize], &mut out).unwrap();
            let skip = segments.plain().start;
            let wanted = slice.bytes();
            plain.extend_from_slice(&out[(wanted.start - skip) as usize..(wanted.end - skip) as usize]);
        }
        let asked: Vec<Value> = asks
            .iter()
            .map(|(hash, groups)| {
                let groups: Vec<_> = groups.ranges().map(|range| [range.start, range.end]).collect();
                serde_json::json!({ "groups": groups, "pack": hash.to_string() })
            })
            .collect();
        assert_eq!(Value::from(asked), case["ask"], "{range:?}");
        assert_eq!(blake3::hash(&plain).as_bytes(), &fixed::<32>(&case["plain_b3"]));
    }
    assert_eq!(cases.len(), 6);
}

#[test]
fn a_verified_commitment_is_not_asked_for_again() {
    let loc = Loc { tag: ChunkTag([0; 16]), offset: 0, sealed_len: 1_048_881 };
    let segments = crate::chunk::SegmentRange::covering(1_048_577, 1_000_000, 1_000_001).unwrap();
    let groups = |commitment| {
        let mut set = GroupSet::new();
        set.add_segments(&loc, &segments, commitment).unwrap();
        set.ranges().collect::<Vec<_>>()
    };
    assert_eq!(groups(Commitment::Wanted).len(), 2);
    assert_eq!(groups(Commitment::Verified), groups(Commitment::Wanted)[1..]);
    let lying = Loc { sealed_len: 1_048_880, ..loc };
    assert_eq!(GroupSet::new().add_segments(&lying, &segments, Commitment::Wanted), Err(Refusal::Canon));
}

#[test]
fn a_range_beyond_the_end_is_cut_there() {
    let made = import(&DedupSecret::new([1; 32]), [&data("end", 3_000_000)[..]]);
    let map = FileMap::new(&made.files[0]);
    let last = map.slices(&(2_999_999..u64::MAX)).unwrap().collect::<Vec<_>>();
    assert_eq!(last.len(), 1);
    assert_eq!(last[0].bytes().len(), 1);
    let none = [3_000_000..4_000_000, 5..5, u64::MAX..u64::MAX];
    assert!(none.iter().all(|range| map.slices(range).unwrap().next().is_none()));
    let empty = FileMap::new(&FileRef::empty());
    assert!(empty.wanted().is_none() && empty.slices(&(0..9)).unwrap().next().is_none());
}

/// A read near the start of a long file needs the first piece of the manifest only.
#[test]
fn a_map_grows_piece_by_piece() {
    let keys = DedupKeys::new(&DedupSecret::new([1; 32]));
    let (file, manifests) = build_synthetic(&keys, 116_509);
    let mut map = FileMap::new(&file);
    assert!(map.slices(&(0..1)).is_none());
    assert!(!map.covers(&(0..1)));
    map.feed(&manifests[0].plain).unwrap();
    assert_eq!(map.slices(&(0..262_145)).unwrap().count(), 2);
    assert!(map.slices(&(file.size() - 1..file.size())).is_none());
    map.feed(&manifests[1].plain).unwrap();
    assert_eq!(map.slices(&(file.size() - 1..file.size())).unwrap().count(), 1);
    assert_eq!(map.feed(&[]), Err(Refusal::Canon));
}

/// A FileRef of level 1 over these records, made by somebody who does not keep the rules.
fn forged(size: u64, records: &[ChunkRecord]) -> (FileRef, Vec<u8>) {
    let plain = record::concat(records);
    let key = DedupKeys::new(&DedupSecret::new([2; 32])).chunk_key(ChunkKind::Manifest, &plain);
    let top = ChunkRecord { key, len: u32::try_from(plain.len()).unwrap() };
    (FileRef { size, hash: ContentHash([1; 32]), level: 1, records: vec![top] }, plain)
}

/// T10, T11: what a manifest says is checked as soon as it is opened; bytes of a file do not pass as a manifest.
#[test]
fn t10_t11_a_false_manifest_is_refused() {
    let good: Vec<ChunkRecord> = (0..9).map(synthetic).collect();
    let size = 9 * 262_144;
    let (file, plain) = forged(size, &good);
    assert_eq!(FileRef::decode(&file.encode()).map(|f| f == file), Ok(true));
    assert_eq!(FileMap::new(&file).feed(&plain), Ok(()));

    let changed = |change: &dyn Fn(&mut Vec<ChunkRecord>), size: u64| {
        let mut records = good.clone();
        change(&mut records);
        let (file, plain) = forged(size, &records);
        let mut map = FileMap::new(&file);
        let result = map.feed(&plain);
        assert_eq!(map.known_size(), if result.is_ok() { size } else { 0 });
        result
    };
    assert_eq!(changed(&|_| {}, size), Ok(()));
    assert_eq!(changed(&|r| r[8].len = 1, size - 262_143), Ok(()));
    type Change<'a> = &'a dyn Fn(&mut Vec<ChunkRecord>);
    let refused: [(Change<'_>, u64); 7] = [
        (&|_| {}, size + 1),
        (&|_| {}, size - 1),
        (&|r| r[3].len = 262_143, size - 1),
        (&|r| r[8].len = 0, size - 262_144),
        (&|r| r[0].len = 4_194_305, size + 4_194_305 - 262_144),
        (&|r| r[0].len = u32::MAX, size),
        (&|r| r.truncate(8), 8 * 262_144), // Level 0 would do.
    ];
    for (index, (change, size)) in refused.iter().enumerate() {
        assert_eq!(changed(change, *size), Err(Refusal::Canon), "{index}");
    }

    // The data of a file in place of its manifest.
    let mut map = FileMap::new(&file);
    assert_eq!(map.feed(&data("t11", plain.len())), Err(Refusal::Canon));
    assert_eq!(map.feed(&plain[..36]), Err(Refusal::Canon));
    assert_eq!(map.feed(&[]), Err(Refusal::Canon));
    assert_eq!(map.feed(&plain), Ok(()));
}

/// T10: content that is not the named one is found after a whole read.
#[test]
fn t10_another_content_hash_is_refused() {
    let made = import(&DedupSecret::new([1; 32]), [&data("t10", 100)[..]]);
    assert_eq!(made.files[0].check_content(ContentHash([0; 32])), Err(Refusal::Hash));
}

/// T11: a file whose content is a valid manifest is plain bytes, with another key than the manifest's.
#[test]
fn t11_a_file_that_looks_like_a_manifest_is_plain_bytes() {
    let secret = DedupSecret::new([1; 32]);
    let keys = DedupKeys::new(&secret);
    let (_, manifests) = build_synthetic(&keys, 9);
    let content = &manifests[0].plain;
    let made = import(&secret, [&content[..]]);
    let record = &made.files[0].records()[0];
    assert_eq!(made.files[0].level(), 0);
    assert!(record.key != manifests[0].key);
    let (pack, op) = &made.packs[0];
    let mut out = Vec::new();
    open(&record.key, record.len, &pack[..op.locs()[0].sealed_len as usize], &mut out).unwrap();
    assert!(out == **content);
}

/// At level 2 the upper manifest is checked as well.
#[test]
fn a_false_upper_manifest_is_refused() {
    let keys = DedupKeys::new(&DedupSecret::new([1; 32]));
    let piece = |len: u32| ChunkRecord { len, ..synthetic(1) };
    let full = u32::try_from(MANIFEST_LEN).unwrap();
    let size = 932_065 * 262_144;
    let feed = |pieces: &[ChunkRecord]| {
        let plain = record::concat(pieces);
        let key = keys.chunk_key(ChunkKind::Manifest, &plain);
        let top = ChunkRecord { key, len: u32::try_from(plain.len()).unwrap() };
        let file = FileRef { size, hash: ContentHash([1; 32]), level: 2, records: vec![top] };
        FileMap::new(&file).feed(&plain)
    };
    let mut pieces = vec![piece(full); 8];
    assert_eq!(feed(&pieces), Err(Refusal::Canon));
    pieces.push(piece(36));
    assert_eq!(feed(&pieces), Ok(()));
    pieces[8].len = 72;
    assert_eq!(feed(&pieces), Err(Refusal::Canon), "more records than the size allows");
    pieces[8].len = 37;
    assert_eq!(feed(&pieces), Err(Refusal::Canon));
    pieces[8].len = 36;
    pieces[0].len = full - 36;
    assert_eq!(feed(&pieces), Err(Refusal::Canon));
}

#[test]
fn the_builder_refuses_what_no_file_has() {
    let keys = DedupKeys::new(&DedupSecret::new([1; 32]));
    let mut builder = FileRefBuilder::new(&keys);
    let short = ChunkRecord { len: 262_143, ..synthetic(0) };
    assert_eq!(builder.push(&ChunkRecord { len: 0, ..synthetic(0) }), Err(Refusal::Canon));
    assert_eq!(builder.push(&ChunkRecord { len: 4_194_305, ..synthetic(0) }), Err(Refusal::Canon));
    builder.push(&short).unwrap();
    assert_eq!(builder.push(&synthetic(1)), Err(Refusal::Canon));
    let (file, manifests) = builder.finish(ContentHash([1; 32])).unwrap();
    assert!(manifests.is_empty() && file.size() == 262_143);
    assert_eq!(FileRefBuilder::new(&keys).finish(ContentHash([1; 32])).err(), Some(Refusal::Canon));

    // 4 TiB are accepted, one byte more is not.
    let mut builder = FileRefBuilder::new(&keys);
    let great = ChunkRecord { len: 4_194_304, ..synthetic(0) };
    (0..1 << 20).for_each(|_| builder.push(&great).unwrap());
    assert_eq!(builder.size(), FILE_SIZE_MAX);
    assert_eq!(builder.push(&ChunkRecord { len: 1, ..synthetic(0) }), Err(Refusal::Limit));
    let (file, manifests) = builder.finish(ContentHash([1; 32])).unwrap();
    assert_eq!((file.level(), manifests.len()), (2, 11));
    assert_eq!(FileRef::decode(&file.encode()).map(|f| f == file), Ok(true));
}

#[test]
fn debug_shows_no_key_and_no_hash() {
    let made = import(&DedupSecret::new([1; 32]), [&b"x"[..]]);
    assert_eq!(format!("{:?}", made.files[0]), "FileRef { size: 1, level: 0, records: 1, .. }");
}

#[test]
fn mutated_file_refs_decode_to_themselves_or_not_at_all() {
    let v = vectors(VECTORS);
    let samples: Vec<Vec<u8>> = cases(&v, "vectors").iter().map(|case| bytes(&case["fileref"])).collect();
    let decoded = survive_mutations(&samples, |bytes| {
        let file = FileRef::decode(bytes)?;
        let mut map = FileMap::new(&file);
        let _ = map.feed(bytes);
        Ok(file.encode())
    });
    assert!(decoded > 100, "{decoded}");
}

proptest! {
    /// The set of groups is that of a plain list of flags.
    #[test]
    fn groups_are_a_set(ranges in proptest::collection::vec((0u32..600_000, 1u32..200_000), 1..12)) {
        let mut set = GroupSet::new();
        let mut flags = [false; 64];
        for (start, len) in ranges {
            set.add_bytes(start..start + len);
            for group in start / GROUP_LEN..(start + len).div_ceil(GROUP_LEN) {
                flags[group as usize] = true;
            }
        }
        let found: Vec<_> = set.ranges().collect();
        prop_assert!(found.windows(2).all(|pair| pair[0].end < pair[1].start));
        for (group, wanted) in (0u32..).zip(flags) {
            prop_assert_eq!(found.iter().any(|range| range.contains(&group)), wanted);
        }
    }
}
