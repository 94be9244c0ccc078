//! From the bytes of a file to sealed chunks: reading, hashing, cutting, sealing. Every method may run on many threads
//! at once.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use crossbeam_channel::{Receiver, Sender, bounded};
use locker_crypto::chunk::{ChunkKind, DedupKeys, chunk_tag};
use locker_crypto::cut::Cutter;
use locker_crypto::file_ref::{ChunkRecord, FileRef};
use locker_crypto::id::{ChunkTag, ContentHash, SpaceTag};
use locker_crypto::pack::SealedChunk;
use locker_store::index::{self, PackState};
use locker_store::{Snapshot, files};

use super::budget::{Budget, Permit};
use super::walk::{SourceFile, Stamp};
use crate::Error;
use crate::keys::Keys;
use crate::limits::{KNOWN_TAGS_AFTER, KNOWN_TAGS_MAX, READ_TRIES, READ_WINDOW, STREAM_SIZE_MIN};
use crate::progress::Meter;
use crate::reader::Reader;

/// A chunk ready for the packs.
pub(super) struct Prepared {
    /// Its record in the file.
    pub(super) record: ChunkRecord,
    /// The sealed bytes; `None` if the space has the chunk already.
    pub(super) sealed: Option<SealedChunk>,
}

/// A file that was read whole.
pub(super) enum Whole {
    /// Its content is in the space already.
    Known(FileRef),
    /// Its chunks.
    New {
        /// Hash of the content.
        hash: ContentHash,
        /// The chunks in order.
        chunks: Vec<Prepared>,
    },
}

/// What comes of a file that is cut as a stream.
pub(super) enum Part {
    /// The next chunk, as soon as a worker has it ready.
    Chunk(Receiver<Result<Prepared, Error>>, Permit),
    /// The end.
    End(ContentHash),
    /// It is what its place in the locker holds already.
    Known(FileRef),
    /// It could not be read to its end.
    Unread(String),
}

/// Why a file was not taken in.
pub(super) enum Unread {
    /// The file itself: it is skipped with this reason.
    Skip(String),
    /// The locker: the import ends.
    Fatal(Error),
}

impl From<Error> for Unread {
    fn from(error: Error) -> Self {
        Unread::Fatal(error)
    }
}

/// Cuts and seals for one space under one dedup secret.
pub(super) struct Sealer {
    cutter: Cutter,
    keys: DedupKeys,
    space: SpaceTag,
    snapshot: RwLock<Arc<Snapshot>>,
    known: KnownTags,
    /// There were other secrets before: what is sealed under them is not recognised by its chunks.
    is_renewed: bool,
}

/// A short look at which chunks the space may have, so that new ones, mostly all of them, cost no look into the
/// database. All tags are read for it, so the first questions of an import are left to the database: there may be no more.
#[derive(Default)]
struct KnownTags {
    asked: AtomicU32,
    read: OnceLock<TagPrefixes>,
}

/// The first eight bytes of each tag; `None` if there are too many to hold.
#[derive(Default)]
struct TagPrefixes(Option<HashSet<u64>>);

impl TagPrefixes {
    fn read(snapshot: &Snapshot, space: &SpaceTag) -> Result<Self, Error> {
        let mut prefixes = HashSet::new();
        let mut fits = true;
        index::scan_tags(snapshot, space, &mut |tag| {
            prefixes.insert(prefix(&tag));
            fits = prefixes.len() < KNOWN_TAGS_MAX;
            if fits { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(Self(fits.then_some(prefixes)))
    }
}

impl KnownTags {
    /// Whether the space, as `snapshot` shows it when this is first read, may have a chunk.
    fn may_have(&self, snapshot: &Snapshot, space: &SpaceTag, tag: &ChunkTag) -> bool {
        if self.asked.fetch_add(1, Ordering::Relaxed) < KNOWN_TAGS_AFTER {
            return true;
        }
        // What cannot be read is asked of the database, which tells why.
        let read = self.read.get_or_init(|| TagPrefixes::read(snapshot, space).unwrap_or_default());
        read.0.as_ref().is_none_or(|prefixes| prefixes.contains(&prefix(tag)))
    }
}

fn prefix(tag: &ChunkTag) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = tag.0;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

impl Sealer {
    /// Takes the present secret of the person and the state in which chunks are looked up.
    ///
    /// # Errors
    /// What reading gives.
    pub(super) fn new(keys: &Keys, space: SpaceTag, snapshot: Snapshot) -> Result<Self, Error> {
        let secret = keys.dedup()?;
        Ok(Self {
            is_renewed: keys.person_keys()?.generation() > 0,
            cutter: Cutter::new(secret),
            keys: DedupKeys::new(secret),
            space,
            known: KnownTags::default(),
            snapshot: RwLock::new(Arc::new(snapshot)),
        })
    }

    /// Whether a chunk can be read in this space already. What this very import has committed may be missed; the
    /// gathering thread knows of it.
    fn has(&self, tag: &ChunkTag) -> Result<bool, Error> {
        Ok(self.may_have(tag) && index::is_here(&*self.snapshot(), &self.space, tag)?)
    }

    /// Whether it is worth a look into the database for a chunk.
    fn may_have(&self, tag: &ChunkTag) -> bool {
        self.known.may_have(&self.snapshot(), &self.space, tag)
    }

    /// Looks chunks up in a newer state from now on.
    pub(super) fn renew(&self, snapshot: Snapshot) {
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }

    /// The keys of own content.
    pub(super) fn keys(&self) -> &DedupKeys {
        &self.keys
    }

    /// The state in which chunks are looked up.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Derives the key of a chunk and seals it, unless the space has it already.
    pub(super) fn prepare(&self, kind: ChunkKind, plain: &[u8]) -> Result<Prepared, Error> {
        let key = self.keys.chunk_key(kind, plain);
        let len = u32::try_from(plain.len()).expect("a chunk has 4 MiB at most");
        let record = ChunkRecord { key: key.clone(), len };
        let stored = self.has(&chunk_tag(&key))?;
        let sealed = if stored { None } else { Some(SealedChunk::seal(key, plain).map_err(Error::Refused)?) };
        Ok(Prepared { record, sealed })
    }

    /// Reads a file that is smaller than [`STREAM_SIZE_MIN`] and seals what is new of it.
    pub(super) fn whole(&self, source: &SourceFile) -> Result<Whole, Unread> {
        let plain = read_unchanged(source)?;
        let hash = ContentHash(*blake3::hash(&plain).as_bytes());
        if plain.is_empty() {
            return Ok(Whole::Known(FileRef::empty()));
        }
        let first = &plain[..self.cutter.next(&plain)];
        // Only what begins like something that is here can be here whole, unless it is sealed under another secret.
        if (self.is_renewed || self.may_have(&chunk_tag(&self.keys.chunk_key(ChunkKind::Data, first))))
            && let Some(known) = self.known(&hash)?
        {
            return Ok(Whole::Known(known));
        }
        let mut chunks = Vec::new();
        let mut rest = plain.as_slice();
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(self.cutter.next(rest));
            chunks.push(self.prepare(ChunkKind::Data, chunk)?);
            rest = after;
        }
        Ok(Whole::New { hash, chunks })
    }

    /// The FileRef of a content whose every chunk is here.
    fn known(&self, hash: &ContentHash) -> Result<Option<FileRef>, Error> {
        let snapshot = self.snapshot();
        let Some(bytes) = files::file_ref(&*snapshot, hash)? else { return Ok(None) };
        let Ok(file) = FileRef::decode(&bytes) else { return Ok(None) };
        if file.content_hash() != *hash || file.level() != 0 {
            return Ok(None);
        }
        for record in file.records() {
            if !self.has(&record.tag())? {
                return Ok(None);
            }
        }
        Ok(Some(file))
    }

    /// Whether a large file is `before`, sealed under an earlier secret, whose every chunk is here. Reads it if it begins like
    /// nothing that the present secret seals; what cannot be read is left to [`Self::stream`], which tells why.
    ///
    /// # Errors
    /// As [`Self::hash_of_new`].
    pub(super) fn is_still(
        &self,
        source: &SourceFile,
        before: &FileRef,
        reader: &Reader<'_>,
        (budget, meter): (&Budget, &Meter<'_>),
    ) -> Result<bool, Error> {
        if !self.is_renewed || before.size() != source.stamp.size {
            return Ok(false);
        }
        if self.hash_of_new(source, budget, meter)? != Some(before.content_hash()) {
            return Ok(false);
        }
        let mut is_here = true;
        let seen = reader.each_record(before, &mut |record, _| {
            is_here = is_here && self.has(&record.tag())?;
            Ok(())
        });
        // What is damaged or away is sealed anew.
        Ok(is_here && seen.is_ok())
    }

    /// Whether a chunk of a file is damaged here and lies in no other pack. What is away or still to come is not.
    pub(super) fn is_damaged(&self, file: &FileRef, reader: &Reader<'_>) -> Result<bool, Error> {
        let snapshot = self.snapshot();
        let mut is_damaged = false;
        let seen = reader.each_record(file, &mut |record, _| {
            let (mut is_lost, mut is_elsewhere) = (false, false);
            for place in index::places(&*snapshot, &self.space, &record.tag())? {
                match index::pack(&*snapshot, &place.pack)?.map(|pack| pack.state) {
                    Some(PackState::Lost) => is_lost = true,
                    Some(_) => is_elsewhere = true,
                    None => {}
                }
            }
            is_damaged |= is_lost && !is_elsewhere;
            Ok(())
        });
        match seen {
            Ok(()) => Ok(is_damaged),
            // The list of its chunks is.
            Err(Error::Integrity { .. }) => Ok(true),
            Err(Error::Network(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The hash of a large file, unless it begins like something that is here, cannot be read, or the import has ended.
    ///
    /// # Errors
    /// [`Error::Stopped`]; what reading the locker gives.
    fn hash_of_new(
        &self,
        source: &SourceFile,
        budget: &Budget,
        meter: &Meter<'_>,
    ) -> Result<Option<ContentHash>, Error> {
        let Ok(mut file) = open_plain(&source.path) else { return Ok(None) };
        let mut hasher = blake3::Hasher::new();
        let mut window = Vec::with_capacity(READ_WINDOW);
        let mut is_first = true;
        loop {
            if budget.take(0).is_none() {
                return Ok(None);
            }
            // Nobody else asks meanwhile: who gathers waits for this.
            meter.go_on()?;
            window.clear();
            match (&mut file).take(READ_WINDOW as u64).read_to_end(&mut window) {
                Ok(0) if !is_first => break,
                Ok(_) => {}
                Err(_) => return Ok(None),
            }
            if std::mem::take(&mut is_first) {
                let first = &window[..self.cutter.next(&window)];
                if self.has(&chunk_tag(&self.keys.chunk_key(ChunkKind::Data, first)))? {
                    return Ok(None);
                }
            }
            hasher.update(&window);
        }
        let is_same = check_stamp(&file, source).is_ok();
        Ok(is_same.then(|| ContentHash(*hasher.finalize().as_bytes())))
    }

    /// Reads a large file from its start to its end; each chunk is sealed by a worker while the reading goes on. Gives
    /// up quietly when nobody takes the parts any more.
    pub(super) fn stream(self: &Arc<Self>, source: &SourceFile, budget: &Budget, parts: &Sender<Part>) {
        let end = match self.stream_parts(source, budget, parts) {
            Ok(Some(hash)) => Part::End(hash),
            Ok(None) => return,
            Err(reason) => Part::Unread(reason),
        };
        // A closed channel means that the import has ended for another reason.
        let _ = parts.send(end);
    }

    fn stream_parts(
        self: &Arc<Self>,
        source: &SourceFile,
        budget: &Budget,
        parts: &Sender<Part>,
    ) -> Result<Option<ContentHash>, String> {
        let failed = |error: io::Error| format!("it cannot be read: {error}");
        let mut file = open_plain(&source.path).map_err(failed)?;
        check_stamp(&file, source)?;
        let mut hasher = blake3::Hasher::new();
        let mut window = Vec::new();
        let mut at_end = false;
        while !at_end {
            // What no chunk was cut from yet goes on in the next window.
            let room = (READ_WINDOW - window.len()) as u64;
            window.reserve_exact(READ_WINDOW - window.len());
            at_end = ((&mut file).take(room).read_to_end(&mut window).map_err(failed)? as u64) < room;
            hasher.update(&window[READ_WINDOW - room as usize..]);
            let read = Arc::new(std::mem::take(&mut window));
            let mut rest = 0..read.len();
            while !rest.is_empty() {
                let ahead = &read[rest.clone()];
                let len =
                    if at_end { Some(self.cutter.next(ahead)) } else { self.cutter.next_if_known(ahead) };
                let Some(len) = len else { break };
                let chunk = rest.start..rest.start + len;
                rest.start = chunk.end;
                let Some(permit) = budget.take(len as u64) else { return Ok(None) };
                let (done, ready) = bounded(1);
                let (sealer, read) = (Arc::clone(self), Arc::clone(&read));
                rayon::spawn(move || {
                    let _ = done.send(sealer.prepare(ChunkKind::Data, &read[chunk]));
                });
                if parts.send(Part::Chunk(ready, permit)).is_err() {
                    return Ok(None);
                }
            }
            window.extend_from_slice(&read[rest]);
        }
        check_stamp(&file, source)?;
        Ok(Some(ContentHash(*hasher.finalize().as_bytes())))
    }
}

fn check_stamp(file: &File, source: &SourceFile) -> Result<(), String> {
    let meta = file.metadata().map_err(|error| format!("it cannot be read: {error}"))?;
    if Stamp::of(&meta) == source.stamp { Ok(()) } else { Err(CHANGED.into()) }
}

const CHANGED: &str = "it was changed while it was read; run the command again";

/// Reads a file whole; again if it changes meanwhile.
fn read_unchanged(source: &SourceFile) -> Result<Vec<u8>, Unread> {
    let failed = |error: io::Error| Unread::Skip(format!("it cannot be read: {error}"));
    for _ in 0..READ_TRIES {
        let file = open_plain(&source.path).map_err(failed)?;
        let before = Stamp::of(&file.metadata().map_err(failed)?);
        if before.size >= STREAM_SIZE_MIN {
            break;
        }
        let mut plain = Vec::with_capacity(usize::try_from(before.size).unwrap_or(0) + 1);
        (&file).take(STREAM_SIZE_MIN).read_to_end(&mut plain).map_err(failed)?;
        let after = Stamp::of(&file.metadata().map_err(failed)?);
        if before == after && before == source.stamp && plain.len() as u64 == after.size {
            return Ok(plain);
        }
    }
    Err(Unread::Skip(CHANGED.into()))
}

/// Opens a plain file, never a link, and never waits for the other end of a pipe that was put in its place.
fn open_plain(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a plain file")) }
}
