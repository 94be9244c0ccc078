//! Sample bytes, vectors and dice for the tests of this crate; nothing of it is in the library.

use std::collections::HashMap;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use serde_json::Value;

use crate::Refusal;
use crate::chunk::{ChunkKind, DedupKeys};
use crate::cut::Cutter;
use crate::file_ref::{ChunkRecord, FileRef, FileRefBuilder};
use crate::id::{ChunkTag, ContentHash};
use crate::pack::{PackBody, PackOp, Packer, SealedChunk};
use crate::secret::{ChunkKey, DedupSecret};

/// Reads a vector file.
pub(crate) fn vectors(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The cases of a list; a list that is missing or empty fails.
pub(crate) fn cases<'a>(vectors: &'a Value, name: &str) -> &'a [Value] {
    let cases = vectors[name].as_array().unwrap();
    assert!(!cases.is_empty(), "{name}");
    cases
}

pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

pub(crate) fn fixed<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

pub(crate) fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

/// The name that a case expects: `ok` or that of a refusal.
pub(crate) fn outcome<T>(result: &Result<T, Refusal>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(refusal) => refusal.code(),
    }
}

/// The sample bytes of the vectors: extended BLAKE3 of a label.
pub(crate) fn data(label: &str, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(label.as_bytes()).finalize_xof().fill(&mut out);
    out
}

/// `{text}`, `{fill, n}` or `{label, n, from, to, repeat}`.
pub(crate) fn part(value: &Value) -> Vec<u8> {
    if let Some(text) = value["text"].as_str() {
        return text.as_bytes().to_vec();
    }
    let len = number(&value["n"]);
    if let Some(fill) = value["fill"].as_u64() {
        return vec![u8::try_from(fill).unwrap(); len];
    }
    let all = data(value["label"].as_str().unwrap(), len);
    let from = value.get("from").map_or(0, number);
    let to = value.get("to").map_or(len, number);
    all[from..to].repeat(value.get("repeat").map_or(1, number))
}

pub(crate) fn dice(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

pub(crate) fn below(dice: &mut ChaCha8Rng, end: usize) -> usize {
    usize::try_from(dice.next_u64() % (end as u64)).unwrap()
}

/// Changes bytes in one of the ways in which files and peers lie: flips, cuts, doubles, inserts, overwrites.
pub(crate) fn mutate(bytes: &mut Vec<u8>, dice: &mut ChaCha8Rng) {
    for _ in 0..=below(dice, 3) {
        let at = below(dice, bytes.len() + 1);
        let byte = dice.next_u32().to_le_bytes()[0];
        match below(dice, 6) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << (byte % 8),
            2 if at < bytes.len() => bytes[at] = byte,
            3 => bytes.insert(at, byte),
            4 => bytes.truncate(at),
            5 if at < bytes.len() => {
                bytes.remove(at);
            }
            _ => bytes.push(byte),
        }
    }
}

/// Runs 20,000 mutations of the samples through `decode`, which gives the bytes that the decoded value encodes to.
/// Nothing may panic, and what decodes must be the bytes that went in.
pub(crate) fn survive_mutations(
    samples: &[Vec<u8>],
    mut decode: impl FnMut(&[u8]) -> Result<Vec<u8>, Refusal>,
) -> usize {
    let mut dice = dice(0x10cce4);
    let mut decoded = 0;
    for round in 0..20_000 {
        let mut bytes = samples[round % samples.len()].clone();
        mutate(&mut bytes, &mut dice);
        if let Ok(again) = decode(&bytes) {
            assert_eq!(again, bytes, "round {round}");
            decoded += 1;
        }
    }
    decoded
}

/// What an import of a batch makes.
pub(crate) struct Imported {
    pub(crate) files: Vec<FileRef>,
    /// Bytes and operation, in order of closing.
    pub(crate) packs: Vec<(Vec<u8>, PackOp)>,
    pub(crate) keys: HashMap<ChunkTag, ChunkKey>,
}

/// Imports a batch of files into an empty space.
pub(crate) fn import<'a>(secret: &DedupSecret, files: impl IntoIterator<Item = &'a [u8]>) -> Imported {
    let (cutter, keys) = (Cutter::new(secret), DedupKeys::new(secret));
    let mut packer = Packer::new();
    let mut out = Imported { files: Vec::new(), packs: Vec::new(), keys: HashMap::new() };
    for file in files {
        packer.start_file(file.len() as u64);
        let mut builder = FileRefBuilder::new(&keys);
        let mut rest = file;
        while !rest.is_empty() {
            let (plain, after) = rest.split_at(cutter.next(rest));
            let key = keys.chunk_key(ChunkKind::Data, plain);
            builder
                .push(&ChunkRecord { key: key.clone(), len: u32::try_from(plain.len()).unwrap() })
                .unwrap();
            out.add(&mut packer, key, plain);
            rest = after;
        }
        let (file_ref, manifest) = builder.finish(ContentHash(*blake3::hash(file).as_bytes())).unwrap();
        for chunk in manifest {
            out.add(&mut packer, chunk.key, &chunk.plain);
        }
        out.take(packer.end_file());
        out.files.push(file_ref);
    }
    out.take(packer.finish());
    out
}

impl Imported {
    fn add(&mut self, packer: &mut Packer, key: ChunkKey, plain: &[u8]) {
        let chunk = SealedChunk::seal(key, plain).unwrap();
        if packer.claim(chunk.tag) {
            let closed = packer.push(&chunk).unwrap();
            self.take(closed);
            self.keys.insert(chunk.tag, chunk.key);
        }
    }

    fn take(&mut self, body: Option<PackBody>) {
        if let Some(body) = body {
            let hash = body.hash();
            self.packs.push((body.bytes().to_vec(), body.named(hash)));
        }
    }
}
