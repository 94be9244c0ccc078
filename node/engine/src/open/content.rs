//! Chunks out of the packs of a link: which groups are asked for, of whom, and what happens when a node goes away.

use std::collections::{BTreeMap, BTreeSet, HashMap};
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
use tokio::time::timeout;

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
    /// Devices that refused or lied.
    bad: BTreeSet<VerifyingKey>,
}

/// Why chunks did not come.
enum Failed {
    /// The connection broke or stalled.
    Broken,
    /// This node does not give them, or gives something else.
    Bad(Refusal),
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
        let current = Current { source, idle: Vec::new(), bad: BTreeSet::new() };
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
    /// [`Error::Integrity`] naming `what` if the link does not say where they lie, or every node gives something else;
    /// [`Error::Network`] and [`Error::LinkRefused`] if no node is left to ask.
    pub(super) async fn chunks(&self, wanted: &[ChunkRecord], what: &str) -> Result<Vec<Vec<u8>>, Error> {
        let mut wrong = None;
        for _ in 0..TRIES {
            let (source, stream) = {
                let mut current = self.current.lock().await;
                (Rc::clone(&current.source), current.idle.pop())
            };
            let failed = match self.try_chunks(&source, stream, wanted).await {
                Ok((chunks, stream)) => {
                    let mut current = self.current.lock().await;
                    if Rc::ptr_eq(&current.source, &source) {
                        current.idle.push(stream);
                    }
                    return Ok(chunks);
                }
                Err(failed) => failed,
            };
            if let Failed::Bad(why) = failed {
                wrong = Some(why);
            }
            self.go_on(&source, matches!(failed, Failed::Bad(_))).await?;
        }
        Err(match wrong {
            Some(why) => Error::damaged(what, why),
            None => {
                Error::Network("the connection to the device that serves this link keeps breaking".into())
            }
        })
    }

    /// Looks for a node to go on with, unless somebody else has found one meanwhile.
    async fn go_on(&self, failed: &Rc<Source>, is_bad: bool) -> Result<(), Error> {
        let mut current = self.current.lock().await;
        if is_bad {
            current.bad.insert(failed.device);
        }
        if !Rc::ptr_eq(&current.source, failed) {
            return Ok(());
        }
        current.idle.clear();
        let _ = self.visitor.net.close(failed.connection.id).await;
        let next = self.visitor.again(&current.bad).await?;
        current.source = Rc::new(next);
        Ok(())
    }

    async fn try_chunks(
        &self,
        source: &Source,
        stream: Option<Stream>,
        wanted: &[ChunkRecord],
    ) -> Result<(Vec<Vec<u8>>, Stream), Failed> {
        let mut stream = match stream {
            Some(stream) => stream,
            None => self
                .visitor
                .net
                .open(source.connection.id, Protocol::Blob)
                .await
                .map_err(|_| Failed::Broken)?,
        };
        // What is asked of each pack, so that neighbours come in one answer.
        let mut packs: BTreeMap<PackHash, (u32, Wanted)> = BTreeMap::new();
        let mut places = Vec::with_capacity(wanted.len());
        for record in wanted {
            let place =
                *self.places.get(&record.tag()).and_then(|p| p.first()).ok_or(Failed::Bad(Refusal::Hash))?;
            let (_, groups) = packs.entry(place.pack).or_insert_with(|| (place.len, Wanted::new()));
            groups.add_bytes(place.loc.bytes());
            places.push(place);
        }
        let mut arrived: HashMap<PackHash, Groups> = HashMap::new();
        for (pack, (len, groups)) in packs {
            let ranges: Vec<_> = groups.ranges().collect();
            let into = arrived.entry(pack).or_default();
            for ranges in ranges.chunks(self.ranges_max) {
                let ranges = GroupRanges::some(ranges.to_vec()).map_err(Failed::Bad)?;
                let request = GetPack { space: self.space, pack, ranges };
                let mut held = GroupSet::none(len);
                let fetched = timeout(STALL_TIME, blob::fetch(&mut stream, &request, &mut held, into)).await;
                match fetched.map_err(|_| Failed::Broken)? {
                    Ok(_) => {}
                    Err(FetchError::Denied) => return Err(Failed::Bad(Refusal::Rights)),
                    Err(FetchError::Size | FetchError::Hash) => return Err(Failed::Bad(Refusal::Hash)),
                    Err(_) => return Err(Failed::Broken),
                }
            }
        }
        let mut chunks = Vec::with_capacity(wanted.len());
        for (record, place) in wanted.iter().zip(places) {
            let sealed = arrived.get(&place.pack).and_then(|groups| groups.cut(place.loc.bytes()));
            let sealed = sealed.ok_or(Failed::Broken)?;
            let mut plain = Vec::with_capacity(record.len as usize);
            chunk::open(&record.key, record.len, &sealed, &mut plain).map_err(Failed::Bad)?;
            chunks.push(plain);
        }
        Ok((chunks, stream))
    }
}

/// Groups of one pack that came.
#[derive(Default)]
struct Groups(BTreeMap<u32, Vec<u8>>);

impl Groups {
    /// Bytes of the pack, if all of them came.
    fn cut(&self, bytes: std::ops::Range<u32>) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut at = bytes.start;
        while at < bytes.end {
            let start = at / GROUP_BYTES * GROUP_BYTES;
            let group = self.0.get(&start)?;
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
        self.0.insert(offset, bytes.to_vec());
        Ok(())
    }
}
