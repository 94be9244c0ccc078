//! Chunks out of the packs of a link: which groups are asked for, of whom, and what happens when a node goes away.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use locker_crypto::Refusal;
use locker_crypto::chunk;
use locker_crypto::file_ref::{ChunkRecord, FileMap, FileRef, GroupSet as Wanted};
use locker_crypto::id::{ChunkTag, PackHash, SpaceTag, VerifyingKey};
use locker_crypto::pack::{Loc, PackOp};
use locker_net::blob::{self, FetchError, GROUP_BYTES, GetPack, GroupRanges, GroupSet, GroupSink};
use locker_net::{Protocol, Stream};
use tokio::sync::Mutex;

use super::visit::{Source, Visitor};
use crate::Error;

/// A node that does not send anything for so long is given up.
const STALL_TIME: Duration = Duration::from_secs(30);
/// How often other nodes are looked for without getting on.
const TRIES: u32 = 5;

/// The content of a link.
pub(super) struct Content<'a> {
    visitor: &'a Visitor<'a>,
    space: SpaceTag,
    places: HashMap<ChunkTag, Vec<Place>>,
    current: Mutex<Current>,
    ranges_max: usize,
}

/// Where a chunk lies.
#[derive(Clone, Copy)]
struct Place {
    pack: PackHash,
    len: u32,
    loc: Loc,
}

/// Of whom it is asked now.
struct Current {
    source: Rc<Source>,
    /// Streams to it that wait for their next request.
    idle: Vec<Stream>,
    /// Devices that refused once since something came from them: their session may have ended, and is made anew.
    refused: BTreeSet<VerifyingKey>,
    /// Devices that refused again, or lied.
    bad: BTreeSet<VerifyingKey>,
}

/// Why chunks did not come.
enum Failed {
    /// The connection broke or stalled.
    Broken,
    /// This node does not give them.
    Denied,
    /// This node gives something else than the hash names.
    Wrong,
}

impl<'a> Content<'a> {
    /// Content that lies in `packs`, asked for in the context of `space`.
    pub(super) fn new(
        visitor: &'a Visitor<'a>,
        source: Rc<Source>,
        space: SpaceTag,
        packs: &[PackOp],
    ) -> Self {
        let mut places: HashMap<ChunkTag, Vec<Place>> = HashMap::new();
        for pack in packs {
            for loc in pack.locs() {
                let place = Place { pack: pack.hash(), len: pack.len(), loc: *loc };
                places.entry(loc.tag).or_default().push(place);
            }
        }
        let current = Current { source, idle: Vec::new(), refused: BTreeSet::new(), bad: BTreeSet::new() };
        let ranges_max = visitor.net.limits().ranges_per_get;
        Self { visitor, space, places, current: Mutex::new(current), ranges_max }
    }

    /// Gives the node back that is asked now.
    pub(super) fn into_source(self) -> Rc<Source> {
        self.current.into_inner().source
    }

    /// The chunks of a file in order, those of its manifests fetched and opened.
    ///
    /// # Errors
    /// As [`Content::chunks`].
    pub(super) async fn records(&self, file: &FileRef, what: &str) -> Result<Vec<ChunkRecord>, Error> {
        let mut map = FileMap::new(file);
        while let Some(record) = map.wanted().cloned() {
            let plain = self.chunks(std::slice::from_ref(&record), what).await?;
            for plain in plain {
                map.feed(&plain).map_err(|why| Error::damaged(what, why))?;
            }
        }
        Ok(map.records().to_vec())
    }

    /// Fetches chunks and opens them. Memory: twice what they take sealed. Dropping the future is safe.
    ///
    /// # Errors
    /// [`Error::Integrity`] naming `what` if the link does not say where they lie, names something else there, or every
    /// node gives something else; [`Error::Network`] and [`Error::LinkRefused`] if no node is left to ask.
    pub(super) async fn chunks(&self, wanted: &[ChunkRecord], what: &str) -> Result<Vec<Vec<u8>>, Error> {
        let places = wanted.iter().map(|record| self.place(record)).collect::<Result<Vec<_>, _>>();
        let places = places.map_err(|why| Error::damaged(what, why))?;
        let mut arrived: HashMap<PackHash, Groups> = HashMap::new();
        self.fetch_all(&places, &mut arrived, what).await?;
        let mut chunks = Vec::with_capacity(wanted.len());
        for (record, place) in wanted.iter().zip(places) {
            // The bytes are those of the pack: if they are not the chunk, it is the link that says so.
            let damaged = |why| Error::damaged(what, why);
            let sealed = arrived.get(&place.pack).and_then(|groups| groups.cut(place.loc.bytes()));
            let sealed = sealed.ok_or_else(|| damaged(Refusal::Canon))?;
            let mut plain = Vec::with_capacity(record.len as usize);
            chunk::open(&record.key, record.len, &sealed, &mut plain).map_err(damaged)?;
            chunks.push(plain);
        }
        Ok(chunks)
    }

    /// Where a chunk lies by the link, at the length that its record needs.
    fn place(&self, record: &ChunkRecord) -> Result<Place, Refusal> {
        let len = chunk::sealed_len(record.len).ok_or(Refusal::Canon)?;
        let places = self.places.get(&record.tag()).ok_or(Refusal::Hash)?;
        places.iter().find(|place| place.loc.sealed_len == len).copied().ok_or(Refusal::Canon)
    }

    /// Fetches the groups of these places, of whoever gives them. What came stays when a node goes away.
    async fn fetch_all(
        &self,
        places: &[Place],
        arrived: &mut HashMap<PackHash, Groups>,
        what: &str,
    ) -> Result<(), Error> {
        // What is asked of each pack, so that neighbours come in one answer.
        let mut packs: BTreeMap<PackHash, (u32, Wanted)> = BTreeMap::new();
        for place in places {
            let (_, groups) = packs.entry(place.pack).or_insert_with(|| (place.len, Wanted::new()));
            groups.add_bytes(place.loc.bytes());
        }
        if packs.is_empty() {
            return Ok(());
        }
        let mut is_wrong = false;
        for _ in 0..TRIES {
            let (source, stream) = {
                let mut current = self.current.lock().await;
                (Rc::clone(&current.source), current.idle.pop())
            };
            match self.try_fetch(&source, stream, &packs, arrived).await {
                Ok(stream) => {
                    let mut current = self.current.lock().await;
                    current.refused.remove(&source.device);
                    if Rc::ptr_eq(&current.source, &source) {
                        current.idle.push(stream);
                    }
                    return Ok(());
                }
                Err(failed) => {
                    is_wrong |= matches!(failed, Failed::Wrong);
                    match self.go_on(&source, &failed).await {
                        Err(_) if is_wrong => break,
                        gone_on => gone_on?,
                    }
                }
            }
        }
        Err(match is_wrong {
            true => Error::damaged(what, Refusal::Hash),
            false => {
                Error::Network("the connection to the device that serves this link keeps breaking".into())
            }
        })
    }

    /// Looks for a node to go on with, unless somebody else has found one meanwhile.
    async fn go_on(&self, from: &Rc<Source>, failed: &Failed) -> Result<(), Error> {
        let mut current = self.current.lock().await;
        let is_bad = match failed {
            Failed::Broken => false,
            Failed::Denied => !current.refused.insert(from.device),
            Failed::Wrong => true,
        };
        if is_bad {
            current.bad.insert(from.device);
        }
        if !Rc::ptr_eq(&current.source, from) {
            return Ok(());
        }
        current.idle.clear();
        let _ = self.visitor.net.close(from.connection()).await;
        let next = self.visitor.again(&current.bad).await?;
        current.source = Rc::new(next);
        Ok(())
    }

    async fn try_fetch(
        &self,
        source: &Source,
        stream: Option<Stream>,
        packs: &BTreeMap<PackHash, (u32, Wanted)>,
        arrived: &mut HashMap<PackHash, Groups>,
    ) -> Result<Stream, Failed> {
        let open = self.visitor.net.open(source.connection(), Protocol::Blob);
        let mut stream = match stream {
            Some(stream) => stream,
            None => open.await.map_err(|_| Failed::Broken)?,
        };
        for (pack, (len, groups)) in packs {
            let into = arrived.entry(*pack).or_default();
            let missing = into.missing(groups);
            for ranges in missing.chunks(self.ranges_max) {
                let ranges = GroupRanges::some(ranges.to_vec()).map_err(|_| Failed::Wrong)?;
                let request = GetPack { space: self.space, pack: *pack, ranges };
                let mut held = GroupSet::none(*len);
                let came = Rc::clone(&into.came);
                // What came is looked at first: a reader that was busy elsewhere must not take that for a silence.
                let fetched = tokio::select! {
                    biased;
                    fetched = blob::fetch(&mut stream, &request, &mut held, into) => fetched,
                    () = stalled(&came) => return Err(Failed::Broken),
                };
                fetched.map_err(|error| match error {
                    FetchError::Denied => Failed::Denied,
                    FetchError::Size | FetchError::Hash => Failed::Wrong,
                    _ => Failed::Broken,
                })?;
            }
        }
        Ok(stream)
    }
}

/// Ends when nothing has come for a while.
async fn stalled(came: &Cell<u64>) {
    let mut seen = u64::MAX;
    loop {
        tokio::time::sleep(STALL_TIME).await;
        let now = came.get();
        if now == seen {
            return;
        }
        seen = now;
    }
}

/// Groups of one pack that came.
#[derive(Default)]
struct Groups {
    groups: BTreeMap<u32, Vec<u8>>,
    /// Counts them.
    came: Rc<Cell<u64>>,
}

impl Groups {
    /// Which of these groups have not come yet.
    fn missing(&self, wanted: &Wanted) -> Vec<Range<u32>> {
        let mut missing: Vec<Range<u32>> = Vec::new();
        for group in wanted.ranges().flatten() {
            if self.groups.contains_key(&(group * GROUP_BYTES)) {
                continue;
            }
            match missing.last_mut() {
                Some(last) if last.end == group => last.end += 1,
                _ => missing.push(group..group + 1),
            }
        }
        missing
    }

    /// Bytes of the pack, if all of them came.
    fn cut(&self, bytes: Range<u32>) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut at = bytes.start;
        while at < bytes.end {
            let start = at / GROUP_BYTES * GROUP_BYTES;
            let group = self.groups.get(&start)?;
            let end = bytes.end.min(start + u32::try_from(group.len()).ok()?);
            out.extend_from_slice(group.get((at - start) as usize..(end.checked_sub(start)?) as usize)?);
            if end <= at {
                return None;
            }
            at = end;
        }
        Some(out)
    }
}

impl GroupSink for Groups {
    fn write_node(&mut self, _: u32, _: &[u8; 64]) -> std::io::Result<()> {
        // Nothing of it is kept that would have to be proved again.
        Ok(())
    }

    fn write_group(&mut self, offset: u32, bytes: &[u8]) -> std::io::Result<()> {
        self.groups.insert(offset, bytes.to_vec());
        self.came.set(self.came.get() + 1);
        Ok(())
    }
}
