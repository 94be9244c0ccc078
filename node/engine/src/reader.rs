//! Bytes out of the packs: locating, opening, checking (`docs/spec/03-content.md`, "Reading a range").
//!
//! Whatever leaves here has passed its commitment and tags. Of several places of one chunk the first good one serves; of a
//! damaged pack, what is right in it. A pack in which damage is met is told to whoever looks after the packs.

use std::collections::HashMap;
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::bounded;
use locker_crypto::Refusal;
use locker_crypto::chunk::{COMMITMENT_LEN, Opener, SegmentRange};
use locker_crypto::file_ref::{ChunkRecord, FileMap, FileRef};
use locker_crypto::id::{PackHash, SpaceTag};
use locker_store::index::{self, PackState, Place};
use locker_store::packs::PackReader;
use locker_store::{Snapshot, Store, StoreError, manifests};
use rayon::prelude::*;

use crate::Error;
use crate::care::is_shortage;
use crate::limits::{EXPORT_AHEAD_BYTES, OPEN_PACKS};
use crate::locker::Inner;
use crate::node::Hub;
use crate::progress::Meter;

/// Bytes that are opened before the first of them is given out.
const FIRST_GROUP_BYTES: usize = 1 << 20;

/// Reads content of one space in one state of the database.
pub(crate) struct Reader<'a> {
    inner: &'a Inner,
    store: &'a Store,
    snapshot: &'a Snapshot,
    space: SpaceTag,
    /// Whether what is not here is read from other devices.
    asks_others: bool,
    /// Whether that is still wanted.
    meter: Option<&'a Meter<'a>>,
    /// Packs that were read from: neighbours are mostly asked for together.
    open: Mutex<HashMap<PackHash, Arc<PackReader>>>,
}

/// A part of a chunk to be read.
struct Wanted<'m> {
    record: &'m ChunkRecord,
    bytes: Range<u32>,
    segments: SegmentRange,
}

impl<'a> Reader<'a> {
    /// Reads content of the home space from `store`, looking chunks up in `snapshot`.
    pub(crate) fn new(inner: &'a Inner, store: &'a Store, snapshot: &'a Snapshot) -> Self {
        let space = inner.space_tag();
        Self { inner, store, snapshot, space, asks_others: false, meter: None, open: Mutex::default() }
    }

    /// Reads what is not here from other devices, as far as a node runs. What comes is not kept.
    pub(crate) fn asking_others(self) -> Self {
        Self { asks_others: true, ..self }
    }

    /// Waits for other devices only while the work may go on; then it gives [`Error::Stopped`].
    pub(crate) fn while_wanted(self, meter: &'a Meter<'a>) -> Self {
        Self { meter: Some(meter), ..self }
    }

    /// Writes the bytes of `range` to `out`; a range beyond the end is cut there. A read of the whole file is checked
    /// against its hash too. Memory: 32 MiB.
    ///
    /// # Errors
    /// [`Error::Integrity`] naming `what` if any byte is damaged or missing; what was written before is right.
    /// [`Error::Io`] if `out` fails.
    pub(crate) fn copy(
        &self,
        file: &FileRef,
        range: Range<u64>,
        out: &mut dyn Write,
        what: &str,
        done: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        let damaged = |why| Error::damaged(what, why);
        let range = range.start..range.end.min(file.size());
        if range.is_empty() {
            return Ok(());
        }
        let map = self.map(file, &range).map_err(|e| name(e, what))?;
        let wanted: Vec<Wanted<'_>> = map
            .slices(&range)
            .ok_or_else(|| damaged(Refusal::Canon))?
            .map(|slice| Wanted { record: slice.record(), bytes: slice.bytes(), segments: slice.segments() })
            .collect();
        let whole = range.start == 0 && range.end == file.size();
        let mut hasher = whole.then(blake3::Hasher::new);
        let mut write = |opened: Vec<Vec<u8>>| {
            for bytes in opened {
                if let Some(hasher) = &mut hasher {
                    hasher.update(&bytes);
                }
                out.write_all(&bytes).map_err(|e| Error::io("cannot write", Path::new("the output"), e))?;
                done(bytes.len() as u64);
            }
            Ok(())
        };
        let mut groups = groups(&wanted);
        let (first, second) = (groups.next(), groups.next());
        let is_long = second.is_some();
        let mut groups = first.into_iter().chain(second).chain(groups);
        if is_long && rayon::current_thread_index().is_none() {
            // The next group is opened while one is written. Not on a worker: one that waits for others does nothing, and
            // when all wait nobody opens.
            let (opened, ready) = bounded(0);
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    for group in groups {
                        let result = self.open_all(group, what);
                        let failed = result.is_err();
                        // Who writes has given up, and tells why.
                        if opened.send(result).is_err() || failed {
                            return;
                        }
                    }
                });
                ready.into_iter().try_for_each(|opened| write(opened?))
            })?;
        } else {
            groups.try_for_each(|group| self.open_all(group, what).and_then(&mut write))?;
        }
        match hasher {
            Some(hasher) => file.check_content((*hasher.finalize().as_bytes()).into()).map_err(damaged),
            None => Ok(()),
        }
    }

    /// Opens chunks side by side.
    fn open_all(&self, group: &[Wanted<'_>], what: &str) -> Result<Vec<Vec<u8>>, Error> {
        let opened: Result<_, Error> = match group {
            [only] => self.open(only).map(|bytes| vec![bytes]),
            _ => group.par_iter().map(|wanted| self.open(wanted)).collect(),
        };
        opened.map_err(|error| name(error, what))
    }

    /// Learns where the bytes of `range` lie, opening as many manifest chunks as needed.
    pub(crate) fn map(&self, file: &FileRef, range: &Range<u64>) -> Result<FileMap, Error> {
        let mut map = FileMap::new(file);
        while !map.covers(range) {
            let Some(record) = map.wanted() else {
                return Err(Error::damaged("a manifest", Refusal::Canon));
            };
            let plain = self.open_whole(record)?;
            map.feed(&plain).map_err(|why| Error::damaged("a manifest", why))?;
        }
        Ok(map)
    }

    /// Visits the record of every chunk of a file, and says whether it is one of its manifests, which are opened.
    ///
    /// # Errors
    /// Those of opening a manifest, and of `visit`.
    pub(crate) fn each_record(
        &self,
        file: &FileRef,
        visit: &mut dyn FnMut(&ChunkRecord, bool) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut map = FileMap::new(file);
        while let Some(record) = map.wanted() {
            visit(record, true)?;
            let plain = self.open_whole(record)?;
            map.feed(&plain).map_err(|why| Error::damaged("a manifest", why))?;
        }
        map.records().iter().try_for_each(|record| visit(record, false))
    }

    /// Opens a chunk whole. That of a manifest whose pack is away is kept in the database.
    pub(crate) fn open_whole(&self, record: &ChunkRecord) -> Result<Vec<u8>, Error> {
        if let Some(kept) = manifests::get(self.snapshot, &self.space, &record.tag())? {
            return Ok(kept);
        }
        let segments = SegmentRange::covering(record.len, 0, record.len)
            .ok_or_else(|| Error::damaged("a chunk record", Refusal::Canon))?;
        self.open(&Wanted { record, bytes: 0..record.len, segments })
    }

    fn open(&self, wanted: &Wanted<'_>) -> Result<Vec<u8>, Error> {
        let mut failure = Error::damaged("a chunk that is not here", Refusal::Hash);
        let places = index::places(self.snapshot, &self.space, &wanted.record.tag())?;
        for place in &places {
            let state = index::pack(self.snapshot, &place.pack)?.map(|pack| pack.state);
            if matches!(state, Some(PackState::Wanted | PackState::Released | PackState::Away)) {
                failure = Error::Network(
                    "this content is on another device and has not come here yet; while `locker up` runs it is read from there"
                        .into(),
                );
                continue;
            }
            match self.open_at(wanted, place) {
                Ok(plain) => return Ok(plain),
                Err(error @ Error::Integrity { .. }) => failure = error,
                Err(error) => return Err(error),
            }
        }
        let node = if self.asks_others { self.inner.node() } else { None };
        let Some(node) = node else { return Err(failure) };
        for place in &places {
            match self.open_away(&node, wanted, place) {
                Ok(plain) => return Ok(plain),
                // That what is here is damaged says more than that nobody else has it.
                Err(Error::Network(_)) if matches!(failure, Error::Integrity { .. }) => {}
                Err(error @ (Error::Integrity { .. } | Error::Network(_))) => failure = error,
                Err(error) => return Err(error),
            }
        }
        Err(failure)
    }

    /// Reads a chunk out of a pack on another device.
    fn open_away(&self, node: &Hub, wanted: &Wanted<'_>, place: &Place) -> Result<Vec<u8>, Error> {
        let damaged = || Error::damaged("a chunk", Refusal::Canon);
        let pack = index::pack(self.snapshot, &place.pack)?.ok_or_else(damaged)?;
        let [head, segments] = sealed_parts(wanted, place).ok_or_else(damaged)?;
        let groups = node.fetch_away(&place.pack, pack.len, &[head.clone(), segments.clone()], self.meter)?;
        let (head, sealed) =
            (groups.cut(head).ok_or_else(damaged)?, groups.cut(segments).ok_or_else(damaged)?);
        open(wanted, &head, Some(&sealed))
    }

    fn open_at(&self, wanted: &Wanted<'_>, place: &Place) -> Result<Vec<u8>, Error> {
        let gone = || Error::damaged("a chunk", Refusal::Hash);
        let pack = index::pack(self.snapshot, &place.pack)?.ok_or_else(gone)?;
        match pack.state {
            PackState::Present { .. } => {
                let read = self.pack(&place.pack, pack.len).and_then(|file| read(&file, wanted, place));
                match read {
                    Ok((head, sealed)) => open(wanted, &head, sealed.as_deref()),
                    Err(StoreError::Refused(why)) => Err(Error::damaged("a chunk", why)),
                    Err(error) if is_shortage(&error) => Err(error.into()),
                    Err(_) => {
                        self.inner.suspect(&place.pack);
                        Err(gone())
                    }
                }
            }
            // What is right in it serves until another device has sent the rest.
            PackState::Lost => {
                let remains = self.store.packs().remains(&place.pack, pack.len);
                let read = remains.iter().find_map(|file| read(file, wanted, place).ok());
                let (head, sealed) = read.ok_or_else(gone)?;
                open(wanted, &head, sealed.as_deref())
            }
            PackState::Wanted | PackState::Released | PackState::Away | PackState::Deleting => Err(gone()),
        }
    }

    /// Opens a pack that is present, or gives one that is open.
    fn pack(&self, hash: &PackHash, len: u32) -> Result<Arc<PackReader>, StoreError> {
        let open = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = open().get(hash) {
            return Ok(Arc::clone(known));
        }
        let reader = Arc::new(self.store.packs().open(hash, len)?);
        let mut open = open();
        if open.len() >= OPEN_PACKS {
            open.clear();
        }
        open.insert(*hash, Arc::clone(&reader));
        Ok(reader)
    }
}

/// Reads the commitment of a chunk and the segments that are wanted, verified against the hash of the pack. Where the
/// segments lie right behind the commitment they come with it, and nothing comes separately.
fn read(
    file: &PackReader,
    wanted: &Wanted<'_>,
    place: &Place,
) -> Result<(Vec<u8>, Option<Vec<u8>>), StoreError> {
    let [head, segments] = sealed_parts(wanted, place).ok_or(StoreError::Refused(Refusal::Canon))?;
    // The commitment lies just before the first segment: one read serves both where both are wanted.
    if head.end == segments.start {
        Ok((file.read_range(head.start..segments.end)?, None))
    } else {
        Ok((file.read_range(head)?, Some(file.read_range(segments)?)))
    }
}

/// Where the commitment of a chunk and the segments that are wanted lie in the pack; nothing if not within the chunk.
fn sealed_parts(wanted: &Wanted<'_>, place: &Place) -> Option<[Range<u32>; 2]> {
    let part = |range: Range<u32>| {
        let start = place.offset.checked_add(range.start)?;
        let end = place.offset.checked_add(range.end)?;
        (range.end <= place.sealed_len).then_some(start..end)
    };
    Some([part(0..COMMITMENT_LEN as u32)?, part(wanted.segments.sealed())?])
}

/// Opens segments, which stand behind the commitment or by themselves, and cuts out the bytes that are wanted.
fn open(wanted: &Wanted<'_>, head: &[u8], sealed: Option<&[u8]>) -> Result<Vec<u8>, Error> {
    let damaged = |why| Error::damaged("a chunk", why);
    let Wanted { record, bytes, segments } = wanted;
    let (commitment, behind) = head.split_first_chunk().ok_or_else(|| damaged(Refusal::Canon))?;
    let opener = Opener::new(&record.key, record.len, commitment).map_err(damaged)?;
    let mut plain = Vec::new();
    opener.open(segments, sealed.unwrap_or(behind), &mut plain).map_err(damaged)?;
    let start = segments.plain().start;
    let (from, to) = ((bytes.start - start) as usize, (bytes.end - start) as usize);
    if from == 0 && to == plain.len() {
        return Ok(plain);
    }
    plain.get(from..to).map(<[u8]>::to_vec).ok_or_else(|| damaged(Refusal::Canon))
}

/// Cuts the work into groups that are opened side by side within bounded memory. The first are small, so that whoever waits
/// has something soon.
fn groups<'w, 'm>(wanted: &'w [Wanted<'m>]) -> impl Iterator<Item = &'w [Wanted<'m>]> {
    let (mut rest, mut most) = (wanted, FIRST_GROUP_BYTES);
    std::iter::from_fn(move || {
        let mut sum = 0;
        let fitting = rest.iter().take_while(|w| {
            sum += w.segments.plain().len();
            sum <= most
        });
        let count = fitting.count().max(1).min(rest.len());
        let (group, after) = rest.split_at(count);
        rest = after;
        most = (most * 4).min(EXPORT_AHEAD_BYTES / 2);
        (!group.is_empty()).then_some(group)
    })
}

/// Says whose content is damaged.
fn name(error: Error, what: &str) -> Error {
    match error {
        Error::Integrity { why, .. } => Error::damaged(what, why),
        other => other,
    }
}
