//! Chunks out of the packs of a link: which groups are asked for, of whom, and what happens when a node goes away.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use locker_crypto::Refusal;
use locker_crypto::chunk;
use locker_crypto::file_ref::{ChunkRecord, FileMap, FileRef, GroupSet as Wanted};
use locker_crypto::id::{ChunkTag, PackHash, SpaceTag, VerifyingKey};
use locker_crypto::pack::{Loc, PackOp};
use locker_net::{Protocol, Stream};
use tokio::sync::Mutex;

use super::visit::{Source, Visitor};
use crate::Error;
use crate::groups::{Asked, Failed, Groups};

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
        for (pack, (len, wanted)) in packs {
            let asked = Asked { space: self.space, pack: *pack, len: *len };
            let into = arrived.entry(*pack).or_default();
            let pace = self.visitor.net.download(&stream);
            asked.fetch(&mut stream, wanted, self.ranges_max, pace, into).await?;
        }
        Ok(stream)
    }
}
