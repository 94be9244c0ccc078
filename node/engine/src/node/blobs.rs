//! Packs over the wire: answering what is in scope, fetching what is wanted (`docs/spec/09-rendezvous.md`, "Blobs").

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use locker_crypto::id::PackHash;
use locker_net::blob::{self, GET, GetPack, GroupRanges, GroupSet, GroupSink, PackSource};
use locker_net::{Connection, FrameError, Protocol, Stream, read_frame, refuse};
use locker_store::index;
use locker_store::packs::PackReader;
use locker_sync::plan::{Fetch, Outcome, Plan};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::hub::{Admitted, Hub};
use super::ledger::is_held;
use crate::Error;

/// Packs that were fetched and wait to be made durable.
const KEEP_AHEAD: usize = 4;
/// Bytes of packs that are made durable in one commit.
const KEEP_BYTES: usize = 32 << 20;
/// A fetch that does not get on for so long is given up.
const STALL_TIME: Duration = Duration::from_secs(30);

/// A pack file of the store, as the network reads it.
struct Source(PackReader);

impl PackSource for Source {
    fn byte_len(&self) -> u32 {
        self.0.byte_len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        self.0.read_raw(buffer, offset).map_err(std::io::Error::other)
    }

    fn read_outboard_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        self.0.read_outboard(buffer, offset).map_err(std::io::Error::other)
    }
}

/// Answers the requests on one stream. The gate comes before any look into the store; what is refused is refused in one
/// way and ends the stream.
pub(super) async fn serve(hub: Arc<Hub>, connection: Connection, mut stream: Stream) {
    loop {
        let limits = hub.net().limits();
        let Some(frame) = hub.until_stop(read_frame(&mut stream, limits.frame_bytes)).await else { return };
        let frame_end = Instant::now();
        let request = match frame {
            Ok((GET, body)) => GetPack::decode(&body, limits).ok(),
            Ok(_) => None,
            Err(FrameError::Ended) => return,
            Err(_) => None,
        };
        // Rights first, from the session alone; what a link gives is part of them.
        let admitted = hub.admitted(&connection.peer);
        let may_get = |get: &GetPack| {
            admitted.as_ref().is_some_and(|Admitted { scope, packs }| {
                scope.may_get_pack(&get.space) && packs.as_ref().is_none_or(|packs| packs.contains(&get.pack))
            })
        };
        let Some(get) = request.filter(may_get) else { return refuse(stream, frame_end).await };
        // The packs of a link lie in the home space.
        let is_guest = admitted.is_some_and(|admitted| admitted.packs.is_some());
        let space = if is_guest { hub.inner().space_tag() } else { get.space };
        let pack = get.pack;
        let opened = hub
            .blocking(move |inner| {
                let store = inner.store()?;
                let snapshot = store.read()?;
                if !is_held(&snapshot, &space, &pack)? {
                    return Ok(None);
                }
                let Some(row) = index::pack(&snapshot, &pack)? else { return Ok(None) };
                Ok(Some(Source(store.packs().open(&pack, row.len)?)))
            })
            .await;
        let Ok(Some(source)) = opened else { return refuse(stream, frame_end).await };
        match hub.until_stop(blob::answer(&mut stream, &get.pack, source, &get.ranges)).await {
            Some(Ok(_)) => {}
            Some(Err(blob::AnswerError::Source(_))) => return refuse(stream, frame_end).await,
            Some(Err(_)) | None => return,
        }
    }
}

/// Gathers the groups of one pack in memory, and counts them.
struct Gathered<'a> {
    bytes: Vec<u8>,
    groups: &'a AtomicU64,
}

impl GroupSink for Gathered<'_> {
    fn write_group(&mut self, offset: u32, bytes: &[u8]) -> std::io::Result<()> {
        let start = offset as usize;
        let place = self.bytes.get_mut(start..start + bytes.len());
        place.ok_or(std::io::ErrorKind::InvalidInput)?.copy_from_slice(bytes);
        self.groups.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Fetches what the plan gives out, and makes it durable, until the node stops.
pub(super) async fn run(hub: Arc<Hub>) {
    let mut stopping = hub.stopping();
    let (fetched, keep) = mpsc::channel::<(Fetch, Vec<u8>)>(KEEP_AHEAD);
    hub.spawn(keep_all(Arc::clone(&hub), keep));
    loop {
        while let Some(fetch) = hub.with_plan(Plan::next_fetch) {
            let (task_hub, fetched) = (Arc::clone(&hub), fetched.clone());
            hub.spawn(async move {
                let outcome = match task_hub.until_stop(fetch_watched(&task_hub, &fetch)).await {
                    Some(Ok(bytes)) => match fetched.send((fetch, bytes)).await {
                        Ok(()) => return,
                        Err(_) => Outcome::Broken,
                    },
                    Some(Err(outcome)) => outcome,
                    None => return,
                };
                task_hub.with_plan(|plan| plan.end(&fetch, outcome));
                task_hub.fetches.notify_one();
            });
        }
        tokio::select! {
            () = hub.fetches.notified() => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
    }
}

/// Fetches one pack, unless it does not get on.
async fn fetch_watched(hub: &Hub, fetch: &Fetch) -> Result<Vec<u8>, Outcome> {
    let groups = AtomicU64::new(0);
    let stalled = async {
        let mut seen = u64::MAX;
        loop {
            tokio::time::sleep(STALL_TIME).await;
            let now = groups.load(Ordering::Relaxed);
            if now == seen {
                return;
            }
            seen = now;
        }
    };
    tokio::select! {
        result = fetch_one(hub, fetch, &groups) => result,
        () = stalled => Err(Outcome::Broken),
    }
}

async fn fetch_one(hub: &Hub, fetch: &Fetch, groups: &AtomicU64) -> Result<Vec<u8>, Outcome> {
    let connection = hub.connection_to(&fetch.source).ok_or(Outcome::Broken)?;
    let mut stream = hub.net().open(connection, Protocol::Blob).await.map_err(|_| Outcome::Broken)?;
    let len = u32::try_from(fetch.len).map_err(|_| Outcome::Refused)?;
    let mut held = GroupSet::none(len);
    let request = GetPack { space: fetch.tag, pack: fetch.pack, ranges: GroupRanges::whole() };
    let mut sink = Gathered { bytes: vec![0; len as usize], groups };
    match blob::fetch(&mut stream, &request, &mut held, &mut sink).await {
        Ok(_) => Ok(sink.bytes),
        Err(blob::FetchError::Denied | blob::FetchError::Size | blob::FetchError::Hash) => {
            Err(Outcome::Refused)
        }
        Err(_) => Err(Outcome::Broken),
    }
}

/// Makes fetched packs durable, several in one commit.
async fn keep_all(hub: Arc<Hub>, mut fetched: mpsc::Receiver<(Fetch, Vec<u8>)>) {
    while let Some(Some(first)) = hub.until_stop(fetched.recv()).await {
        let mut batch = vec![first];
        while batch.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() < KEEP_BYTES {
            match fetched.try_recv() {
                Ok(next) => batch.push(next),
                Err(_) => break,
            }
        }
        let (fetches, packs): (Vec<Fetch>, Vec<(PackHash, Vec<u8>)>) =
            batch.into_iter().map(|(fetch, bytes)| (fetch, (fetch.pack, bytes))).unzip();
        let kept: Result<(), Error> = hub.blocking(move |inner| inner.keep_packs(&packs)).await;
        let outcome = if kept.is_ok() { Outcome::Done } else { Outcome::Broken };
        if kept.is_ok() {
            hub.got(&fetches.iter().map(|fetch| fetch.pack).collect::<Vec<_>>());
        }
        hub.with_plan(|plan| fetches.iter().for_each(|fetch| plan.end(fetch, outcome)));
        hub.fetches.notify_one();
    }
}
