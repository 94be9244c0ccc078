//! A disk whose power can be cut: what was written to it, flushed and acknowledged, in order, and the disk as it may have
//! been found after any of these moments.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::Dice;
use crate::lab::Server;

/// Bytes that a disk writes whole or not at all.
const PIECE: usize = 4_096;
/// Kind 1, offset or length 8, both little-endian; length 8.
const HEAD: usize = 17;

/// An entry of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// The disk took these bytes. They may lie in its memory.
    Write {
        /// Where they belong.
        offset: u64,
        /// What was written.
        bytes: &'a [u8],
    },
    /// What the disk took before lies on it for good.
    Flush,
    /// Somebody was told something.
    Mark(&'a [u8]),
}

impl<'a> Record<'a> {
    /// As it stands in the log.
    pub fn to_bytes(self) -> Vec<u8> {
        let (kind, offset, bytes) = match self {
            Self::Write { offset, bytes } => (0, offset, bytes),
            Self::Flush => (1, 0, &[][..]),
            Self::Mark(bytes) => (2, 0, bytes),
        };
        let mut record = Vec::with_capacity(HEAD + bytes.len());
        record.push(kind);
        record.extend(offset.to_le_bytes());
        record.extend((bytes.len() as u64).to_le_bytes());
        record.extend(bytes);
        record
    }

    /// Reads the first record, and gives what follows it. `None` if there is no whole one.
    fn read(log: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (head, rest) = log.split_at_checked(HEAD)?;
        let number = |range: Range<usize>| Some(u64::from_le_bytes(head[range].try_into().ok()?));
        let (bytes, rest) = rest.split_at_checked(usize::try_from(number(9..17)?).ok()?)?;
        let record = match head[0] {
            0 => Self::Write { offset: number(1..9)?, bytes },
            1 => Self::Flush,
            2 => Self::Mark(bytes),
            _ => return None,
        };
        Some((record, rest))
    }
}

/// What a disk without a reliable memory keeps of the writes after the last flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// None of them.
    None,
    /// All of them.
    All,
    /// Any half of the writes.
    Writes,
    /// Any half of their pieces: writes are torn.
    Pieces,
}

impl Kept {
    /// Any of these.
    pub fn any(dice: &mut Dice) -> Self {
        // The two that mix old and new are where a fault shows.
        [Self::None, Self::All, Self::Writes, Self::Writes, Self::Pieces, Self::Pieces]
            [usize::try_from(dice.below(6)).unwrap()]
    }
}

/// A disk that runs: a file over an image, and its log.
pub struct LoggedDisk {
    server: Server,
    base: PathBuf,
    mount: PathBuf,
    log: PathBuf,
}

impl LoggedDisk {
    /// Starts a disk that holds what `base` does; `base` stays as it is. Everything of the disk lies in `folder`, which is
    /// new. `program` is the binary `locker-lab-disks`.
    ///
    /// # Errors
    /// If the system does not allow it, with what it said.
    pub fn start(program: &Path, base: &Path, folder: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(folder).unwrap();
        let (image, log, mount) = (folder.join("image"), folder.join("log"), folder.join("disk"));
        std::fs::create_dir(&mount).unwrap();
        copy_sparse(base, &image);
        let server =
            Server::start(program, &["logged".as_ref(), image.as_os_str(), log.as_os_str()], &mount)?;
        Ok(Self { server, base: base.to_owned(), mount, log })
    }

    /// The disk itself.
    pub fn disk(&self) -> PathBuf {
        self.mount.join("disk")
    }

    /// Opens the file into which everything goes that somebody is told.
    pub fn mark(&self) -> File {
        File::options().write(true).open(self.mount.join("mark")).unwrap()
    }

    /// Ends it. Nothing may be mounted from it any more.
    pub fn finish(self) -> Log {
        drop(self.server);
        let bytes = std::fs::read(&self.log).unwrap();
        std::fs::remove_file(&self.log).unwrap();
        let _ = std::fs::remove_file(self.log.with_file_name("image"));
        Log::new(self.base, bytes)
    }
}

/// What happened to a disk.
pub struct Log {
    base: PathBuf,
    bytes: Vec<u8>,
    /// Where each record begins.
    starts: Vec<usize>,
}

impl Log {
    fn new(base: PathBuf, bytes: Vec<u8>) -> Self {
        let mut starts = Vec::new();
        let mut rest = &bytes[..];
        while let Some((_, after)) = Record::read(rest) {
            starts.push(bytes.len() - rest.len());
            rest = after;
        }
        assert!(rest.is_empty(), "the log of the disk is cut");
        Self { base, bytes, starts }
    }

    /// How many records it has.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    fn records(&self, range: Range<usize>) -> impl Iterator<Item = Record<'_>> {
        self.starts[range].iter().map(|start| Record::read(&self.bytes[*start..]).unwrap().0)
    }

    /// Writes and flushes, all in all.
    pub fn counts(&self) -> (usize, usize) {
        let count = |wanted: fn(&Record<'_>) -> bool| self.records(0..self.len()).filter(wanted).count();
        (count(|r| matches!(r, Record::Write { .. })), count(|r| matches!(r, Record::Flush)))
    }

    /// The places after each record that is a mark.
    pub fn marks(&self) -> Vec<usize> {
        let records = self.records(0..self.len()).enumerate();
        records.filter(|(_, r)| matches!(r, Record::Mark(_))).map(|(place, _)| place + 1).collect()
    }

    /// What somebody was told before a place.
    pub fn told(&self, place: usize) -> String {
        let marks = self.records(0..place).filter_map(|record| match record {
            Record::Mark(bytes) => Some(bytes),
            _ => None,
        });
        String::from_utf8_lossy(&marks.flatten().copied().collect::<Vec<u8>>()).into_owned()
    }

    /// Makes the image of the disk as it may be found when its power was cut at a place: with all that was flushed, and
    /// with what it kept of the rest.
    pub fn cut(&self, place: usize, kept: Kept, dice: &mut Dice, image: &Path) {
        copy_sparse(&self.base, image);
        let file = File::options().write(true).open(image).unwrap();
        let flush = self.records(0..place).enumerate().filter(|(_, r)| matches!(r, Record::Flush)).last();
        let durable = flush.map_or(0, |(at, _)| at);
        for (at, record) in self.records(0..place).enumerate() {
            let Record::Write { offset, bytes } = record else { continue };
            let is_durable = at < durable;
            if is_durable || kept == Kept::All || (kept == Kept::Writes && dice.below(2) == 0) {
                file.write_all_at(bytes, offset).unwrap();
            } else if kept == Kept::Pieces {
                for (index, piece) in bytes.chunks(PIECE).enumerate() {
                    if dice.below(2) == 0 {
                        file.write_all_at(piece, offset + (index * PIECE) as u64).unwrap();
                    }
                }
            }
        }
    }
}

/// Copies an image, without the parts in which nothing was written.
fn copy_sparse(from: &Path, to: &Path) {
    let told = std::process::Command::new("cp").args(["--sparse=always", "--"]).args([from, to]).output();
    let told = told.unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(records: &[Record<'_>]) -> (tempfile::TempDir, Log) {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("base");
        std::fs::write(&base, vec![0; 4 * PIECE]).unwrap();
        let bytes = records.iter().flat_map(|record| record.to_bytes()).collect();
        (folder, Log::new(base, bytes))
    }

    /// Goal: what was flushed is on the disk whatever it keeps; of the rest, what the choice says.
    #[test]
    fn what_was_flushed_is_there_and_the_rest_as_it_was_kept() {
        let (first, second) = (vec![1; PIECE], vec![2; 2 * PIECE]);
        let (folder, log) = log(&[
            Record::Write { offset: 0, bytes: &first },
            Record::Mark(b"too "),
            Record::Flush,
            Record::Mark(b"early"),
            Record::Write { offset: PIECE as u64, bytes: &second },
            Record::Mark(b", said"),
            Record::Write { offset: 0, bytes: &second[..PIECE] },
        ]);
        assert_eq!((log.len(), log.counts(), log.marks()), (7, (3, 1), vec![2, 4, 6]));
        assert_eq!([0, 2, 4, 7].map(|place| log.told(place)), ["", "too ", "too early", "too early, said"]);
        let mut dice = Dice::new("cut", 1);
        let mut number = 0;
        let mut found = |place, kept| {
            number += 1;
            let image = folder.path().join(number.to_string());
            log.cut(place, kept, &mut dice, &image);
            let bytes = std::fs::read(image).unwrap();
            bytes.chunks(PIECE).map(|piece| piece[0]).collect::<Vec<_>>()
        };
        assert_eq!(found(2, Kept::None), [0, 0, 0, 0]);
        assert_eq!(found(2, Kept::All), [1, 0, 0, 0]);
        assert_eq!(found(7, Kept::None), [1, 0, 0, 0]);
        assert_eq!(found(6, Kept::All), [1, 2, 2, 0]);
        assert_eq!(found(7, Kept::All), [2, 2, 2, 0]);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let state = found(5, Kept::Writes);
            assert!(state == [1, 0, 0, 0] || state == [1, 2, 2, 0], "{state:?}");
            seen.insert(found(5, Kept::Pieces));
        }
        assert_eq!(seen.len(), 4, "{seen:?}");
    }
}
