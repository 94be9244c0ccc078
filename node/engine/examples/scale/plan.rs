//! What the generated locker holds: folders and files with names, sizes and made-up chunks, all from one seed. The same
//! number gives the same tree, so that a later run knows every node without having kept any.

use locker_catalog::operation::{Content, Move, NodeKind, Op};
use locker_crypto::chunk::DedupKeys;
use locker_crypto::file_ref::{ChunkRecord, FileRef, FileRefBuilder};
use locker_crypto::id::{ContentHash, NodeId};
use locker_crypto::secret::{ChunkKey, DedupSecret};

use crate::Failure;

/// Name of the folder that holds a tenth of all files.
pub(crate) const BIG: &str = "inbox";
/// Files of an ordinary folder, in the middle.
const FOLDER_FILES: f64 = 60.0;
/// Sub-folders of a folder.
const FAN: u64 = 12;
/// Size of a file in the middle, in bytes; one in forty has a hundred times as much.
const SIZE_MEDIAN: f64 = 96.0 * 1024.0;
/// Longest generated file: a few gigabytes.
const SIZE_MAX: f64 = 4e9;
/// Length of a chunk of a long file.
const CHUNK: u64 = 1 << 20;

const WORDS: [&str; 24] = [
    "invoice",
    "holiday",
    "report",
    "draft",
    "scan",
    "IMG",
    "letter",
    "notes",
    "meeting",
    "contract",
    "photo",
    "backup",
    "Überblick",
    "résumé",
    "song",
    "chapter",
    "budget",
    "plan",
    "receipt",
    "sketch",
    "recording",
    "house",
    "garden",
    "taxes",
];
const ENDINGS: [&str; 8] = ["pdf", "jpg", "txt", "docx", "png", "flac", "mp4", "md"];

/// The plan of a locker with so many files.
pub(crate) struct Plan {
    files: u64,
    keys: DedupKeys,
}

/// A seeded drop of dice for one thing.
struct Drop([u8; 32]);

impl Drop {
    fn of(what: &str, number: u64) -> Self {
        Self(
            *blake3::Hasher::new()
                .update(what.as_bytes())
                .update(&number.to_le_bytes())
                .finalize()
                .as_bytes(),
        )
    }

    fn number(&self, at: usize) -> u64 {
        self.0[8 * at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// Uniform in 0..1, never 0.
    fn unit(&self, at: usize) -> f64 {
        ((self.number(at) >> 11) as f64 + 1.0) / (1_u64 << 53) as f64
    }

    /// Log-normal with a median and a spread.
    fn log_normal(&self, median: f64, sigma: f64) -> f64 {
        let normal = (-2.0 * self.unit(0).ln()).sqrt() * (std::f64::consts::TAU * self.unit(1)).cos();
        median * (sigma * normal).exp()
    }

    fn node(&self) -> NodeId {
        let mut id = [0; NodeId::LEN];
        id.copy_from_slice(&self.0[..NodeId::LEN]);
        NodeId(id)
    }
}

/// The folder with a number; 0 is [`BIG`].
pub(crate) fn folder(number: u64) -> NodeId {
    Drop::of("folder", number).node()
}

/// The file with a number.
pub(crate) fn file(number: u64) -> NodeId {
    Drop::of("file", number).node()
}

/// The name of a folder.
pub(crate) fn folder_name(number: u64) -> String {
    match number {
        0 => BIG.into(),
        n => format!("{} {n}", WORDS[(Drop::of("folder name", n).number(0) % 24) as usize]),
    }
}

/// The folder above; `None` for one below the root.
pub(crate) fn above(folder: u64) -> Option<u64> {
    (folder > FAN).then(|| (folder - 1) / FAN)
}

/// The name of a file: one to eight words and its number.
fn file_name(number: u64) -> String {
    let drop = Drop::of("file name", number);
    let words = drop.log_normal(2.0, 0.5).clamp(1.0, 8.0) as usize;
    let mut name = String::new();
    for i in 0..words {
        name.push_str(WORDS[drop.0[16 + i] as usize % WORDS.len()]);
        name.push(' ');
    }
    format!("{name}{number}.{}", ENDINGS[drop.0[31] as usize % ENDINGS.len()])
}

impl Plan {
    /// Plans so many files.
    pub(crate) fn new(files: u64) -> Self {
        Self { files, keys: DedupKeys::new(&DedupSecret::new([7; 32])) }
    }

    /// How many files lie in the folder [`BIG`].
    pub(crate) fn big(&self) -> u64 {
        self.files / 10
    }

    /// Hands out the operations that make everything, folder after folder, as an import does.
    pub(crate) fn each(&self, visit: &mut dyn FnMut(Op) -> Result<(), Failure>) -> Result<(), Failure> {
        let (mut next, mut number) = (0, 0);
        while next < self.files {
            let parent = above(number).map_or(NodeId::ROOT, folder);
            visit(create(folder(number), parent, folder_name(number), NodeKind::Folder))?;
            let count = match number {
                0 => self.big(),
                n => Drop::of("count", n).log_normal(FOLDER_FILES, 1.0) as u64,
            };
            for _ in 0..count.min(self.files - next) {
                let [create, content] = self.file(next, folder(number))?;
                visit(create)?;
                visit(content)?;
                next += 1;
            }
            number += 1;
        }
        Ok(())
    }

    /// The operations that make one file in a folder.
    pub(crate) fn file(&self, number: u64, parent: NodeId) -> Result<[Op; 2], Failure> {
        let node = file(number);
        let mtime_ms = 1_500_000_000_000 + (Drop::of("time", number).number(0) % 300_000_000_000) as i64;
        let content = Content { node, bases: Vec::new(), file: self.content(number)?, mtime_ms, exec: false };
        Ok([create(node, parent, file_name(number), NodeKind::File), Op::Content(content)])
    }

    /// A FileRef of the form that a file of this size has, with keys of chunks that there are none of.
    pub(crate) fn content(&self, number: u64) -> Result<FileRef, Failure> {
        let drop = Drop::of("content", number);
        let size = drop.log_normal(SIZE_MEDIAN, 2.0).clamp(1.0, SIZE_MAX) as u64;
        let mut builder = FileRefBuilder::new(&self.keys);
        let mut left = size;
        while left > 0 {
            let len = if left < CHUNK + CHUNK / 2 { left } else { CHUNK };
            let key = ChunkKey::new(Drop::of("chunk", number ^ left.rotate_left(32)).0);
            builder.push(&ChunkRecord { key, len: u32::try_from(len)? })?;
            left -= len;
        }
        // The manifests of long files are content too.
        Ok(builder.finish(ContentHash(drop.0))?.0)
    }
}

/// The operation that makes a node.
pub(crate) fn create(node: NodeId, parent: NodeId, name: String, kind: NodeKind) -> Op {
    Op::Move(Move { node, parent, name, kind: kind.code() })
}
