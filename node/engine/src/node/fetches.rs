//! Packs over the wire, the fetching side: what the plan gives out goes group by group into a partial file of the store,
//! and becomes a pack when all of it is there (`docs/spec/12-sync.md`, "Packs"; `docs/spec/08-at-rest.md`, "Partial
//! packs").
//!
//! What came before a break or a kill is not sent again, up to one request for each stream. Never here: who is asked for
//! what ([`Plan`]).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::try_join_all;
use locker_net::blob::{self, FetchError, GROUP_BYTES, GetPack, GroupSet, GroupSink};
use locker_net::{ConnectionId, Protocol, Stream};
use locker_store::packs::PartialPack;
use locker_sync::limits::BLOB_STREAMS;
use locker_sync::plan::{Fetch, Outcome, Plan};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::hub::Hub;
use super::idle::Idle;
use super::ledger::{Opened, TakenUp};

/// Packs that were fetched and wait to be made durable.
const KEEP_AHEAD: usize = 4;
/// Streams over which one pack comes from a device that is far away, if it has no more to send.
const LANES_MAX: usize = 4;
/// A device of which the first group comes later than this is far away: one request after another would leave the way to it
/// empty while each is on it. On a short way they would only make more of what is lost by a kill.
const FAR: Duration = Duration::from_millis(40);
/// Bytes of packs that are made durable in one commit.
const KEEP_BYTES: u64 = 32 << 20;
/// A fetch that does not get on for so long is given up.
const STALL_TIME: Duration = Duration::from_secs(30);
/// When nothing of any pack comes for so long while one is awaited, its connection is taken for dead: over TCP, a way that
/// is no more shows only after a quarter of an hour.
const SILENCE_TIME: Duration = Duration::from_secs(12);
/// How often it is looked for that.
const SILENCE_LOOK: Duration = Duration::from_secs(1);
/// Pause of a fetch whose partial file could not be opened.
const TROUBLE_TIME: Duration = Duration::from_secs(10);
/// From this length on, that of a pack is worth a commit of its own.
const NOTED_LEN_MIN: u32 = 1 << 20;
/// How soon a pack is looked at again that another fetch, which is about to end, has open.
const BUSY_TIME: Duration = Duration::from_millis(50);

/// What comes of one pack, over one stream or several.
struct Coming {
    partial: PartialPack,
    /// What is here or asked for.
    asked: GroupSet,
}

/// Whether the fetching of one pack gets on.
#[derive(Default)]
struct Progress {
    /// Groups that came, and requests that had their turn.
    steps: AtomicU64,
    /// Requests that wait for their turn.
    waiting: AtomicU32,
}

/// Writes what comes of one pack into its partial file, and counts the groups.
struct Sink<'a> {
    coming: &'a Mutex<Coming>,
    steps: &'a AtomicU64,
    /// When the first group came.
    first: Option<Instant>,
}

impl GroupSink for Sink<'_> {
    fn write_node(&mut self, offset: u32, pair: &[u8; 64]) -> std::io::Result<()> {
        lock(self.coming).partial.write_node(offset, pair).map_err(std::io::Error::other)
    }

    fn write_group(&mut self, offset: u32, bytes: &[u8]) -> std::io::Result<()> {
        lock(self.coming).partial.write_group(offset, bytes).map_err(std::io::Error::other)?;
        self.steps.fetch_add(1, Ordering::Relaxed);
        self.first.get_or_insert_with(Instant::now);
        Ok(())
    }
}

/// Fetches what the plan gives out, and makes it durable, until the node stops.
pub(super) async fn run(hub: Arc<Hub>) {
    let mut stopping = hub.stopping();
    let (fetched, keep) = mpsc::channel::<(Fetch, PartialPack)>(KEEP_AHEAD);
    hub.spawn(keep_all(Arc::clone(&hub), keep));
    take_up(&hub).await;
    let idle = Arc::new(Idle::default());
    loop {
        while let Some(fetch) = hub.with_plan(Plan::next_fetch) {
            let (task_hub, fetched, idle) = (Arc::clone(&hub), fetched.clone(), Arc::clone(&idle));
            hub.spawn(async move {
                let outcome = match task_hub.until_stop(fetch_watched(&task_hub, &idle, &fetch)).await {
                    Some(Ok(Some(partial))) => match fetched.send((fetch, partial)).await {
                        Ok(()) => return,
                        Err(_) => Outcome::Broken,
                    },
                    Some(Ok(None)) => {
                        task_hub.got(&[fetch.pack]);
                        Outcome::Done
                    }
                    Some(Err(outcome)) => outcome,
                    None => return,
                };
                task_hub.with_plan(|plan| plan.end(&fetch, outcome));
                if task_hub.inner().depot().is_some_and(|depot| depot.is_refused(&fetch.pack)) {
                    // It is asked for again when there is room.
                    task_hub.unwant(&[fetch.pack]);
                }
                task_hub.fetches.notify_one();
            });
        }
        tokio::select! {
            () = hub.fetches.notified() => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
    }
}

/// Takes up what was under way before a restart: complete packs are kept without asking anybody, others come first.
async fn take_up(hub: &Hub) {
    let found = hub.blocking(|inner| inner.take_up_partials()).await;
    // What is wrong with the store shows when a pack is fetched.
    let TakenUp { kept, begun } = found.unwrap_or_default();
    hub.with_plan(|plan| {
        kept.iter().for_each(|pack| plan.forget(pack));
        begun.iter().for_each(|pack| plan.note_begun(pack));
    });
    if !kept.is_empty() {
        hub.got(&kept);
    }
}

/// Returns when nothing of any pack has come for a while.
async fn silence(hub: &Hub) {
    let (mut seen, mut at) = (hub.traffic().pack_bytes_received, Instant::now());
    while at.elapsed() < SILENCE_TIME {
        tokio::time::sleep(SILENCE_LOOK).await;
        let now = hub.traffic().pack_bytes_received;
        if now != seen || hub.net().is_held_back() {
            (seen, at) = (now, Instant::now());
        }
    }
}

/// Fetches one pack, unless it does not get on; gives nothing if it is here already.
async fn fetch_watched(hub: &Hub, idle: &Idle, fetch: &Fetch) -> Result<Option<PartialPack>, Outcome> {
    let progress = Progress::default();
    let connection = hub.connection_to(&fetch.source);
    let stalled = async {
        let mut seen = u64::MAX;
        loop {
            tokio::time::sleep(STALL_TIME).await;
            let now = progress.steps.load(Ordering::Relaxed);
            if now == seen && progress.waiting.load(Ordering::Relaxed) == 0 {
                return;
            }
            seen = now;
        }
    };
    tokio::select! {
        result = fetch_one(hub, idle, fetch, &progress) => result,
        () = stalled => Err(Outcome::Broken),
        () = silence(hub) => {
            // The device is looked for again, and met where it is now.
            if let Some(connection) = connection {
                hub.give_up(&fetch.source, connection);
            }
            Err(Outcome::Broken)
        }
    }
}

async fn fetch_one(
    hub: &Hub,
    idle: &Idle,
    fetch: &Fetch,
    progress: &Progress,
) -> Result<Option<PartialPack>, Outcome> {
    let mut fetch = *fetch;
    if fetch.len == 0 {
        fetch.len = learn_length(hub, idle, &fetch).await?.into();
    }
    let fetch = &fetch;
    let Some(partial) = open(hub, fetch).await? else { return Ok(None) };
    if partial.is_complete() {
        return Ok(Some(partial));
    }
    let mut asked = GroupSet::none(partial.byte_len());
    partial.held_groups().for_each(|group| asked.insert(group));
    let connection = hub.connection_to(&fetch.source).ok_or(Outcome::Broken)?;
    let coming = Mutex::new(Coming { partial, asked });
    let source = Source { hub, idle, fetch, connection };
    let mut lanes = vec![idle.lane(fetch.source)];
    source.fetch(&coming, progress, 1).await?;
    let left = lock(&coming).partial.missing_groups().div_ceil(source.groups_max());
    while idle.is_far(&fetch.source) && lanes.len() < LANES_MAX.min(left) {
        let Some(lane) = idle.spare_lane(fetch.source, BLOB_STREAMS) else { break };
        lanes.push(lane);
    }
    try_join_all(lanes.iter().map(|_| source.fetch(&coming, progress, usize::MAX))).await?;
    let Coming { partial, .. } = coming.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Some(partial))
}

/// One pack, and from whom it comes.
struct Source<'a> {
    hub: &'a Hub,
    idle: &'a Idle,
    fetch: &'a Fetch,
    connection: ConnectionId,
}

impl Source<'_> {
    /// Groups that are asked for at a time, where no rate is set.
    fn groups_max(&self) -> usize {
        (self.hub.net().limits().get_bytes / GROUP_BYTES) as usize
    }

    async fn open(&self) -> Result<Stream, Outcome> {
        self.hub.net().open(self.connection, Protocol::Blob).await.map_err(|_| Outcome::Broken)
    }

    /// Fetches over one stream what nobody asked for yet, in at most so many requests.
    async fn fetch(
        &self,
        coming: &Mutex<Coming>,
        progress: &Progress,
        requests: usize,
    ) -> Result<(), Outcome> {
        let Fetch { source, tag, pack, .. } = *self.fetch;
        let (ranges_max, len) = (self.hub.net().limits().ranges_per_get, lock(coming).asked.byte_len());
        let (mut stream, mut was_idle) = match self.idle.take(&source, self.connection) {
            Some(stream) => (stream, true),
            None => (self.open().await?, false),
        };
        let pace = self.hub.net().download(&stream);
        let groups_max = (pace.piece(self.hub.net().limits().get_bytes) / GROUP_BYTES) as usize;
        let next = || {
            let Coming { asked, .. } = &mut *lock(coming);
            let ranges = asked.missing(ranges_max, groups_max)?;
            let count = ranges.groups(len).map(|group| asked.insert(group)).count();
            Some((ranges, count as u64 * u64::from(GROUP_BYTES)))
        };
        for (ranges, bytes) in std::iter::from_fn(next).take(requests) {
            progress.waiting.fetch_add(1, Ordering::Relaxed);
            pace.pass(bytes).await;
            progress.waiting.fetch_sub(1, Ordering::Relaxed);
            progress.steps.fetch_add(1, Ordering::Relaxed);
            let request = GetPack { space: tag, pack, ranges };
            loop {
                let start = Instant::now();
                let (mut held, mut sink) =
                    (GroupSet::none(len), Sink { coming, steps: &progress.steps, first: None });
                match blob::fetch(&mut stream, &request, &mut held, &mut sink).await {
                    Ok(_) => {
                        let delay = sink.first.map_or(Duration::ZERO, |first| first - start);
                        self.idle.note_far(source, delay > FAR);
                        break;
                    }
                    // The other end may have given up a stream that waited here; that says nothing about the pack.
                    Err(FetchError::Stream(_)) if was_idle => {
                        (stream, was_idle) = (self.open().await?, false)
                    }
                    Err(FetchError::Denied | FetchError::Size | FetchError::Hash) => {
                        return Err(Outcome::Refused);
                    }
                    Err(_) => return Err(Outcome::Broken),
                }
            }
            was_idle = false;
        }
        self.idle.put(source, stream);
        Ok(())
    }
}

/// Asks how long a pack is of which only the name is known. That of a long one is noted, so that what comes of it outlives a
/// restart.
async fn learn_length(hub: &Hub, idle: &Idle, fetch: &Fetch) -> Result<u32, Outcome> {
    let pack = fetch.pack;
    let connection = hub.connection_to(&fetch.source).ok_or(Outcome::Broken)?;
    let (mut stream, was_idle) = match idle.take(&fetch.source, connection) {
        Some(stream) => (stream, true),
        None => (hub.net().open(connection, Protocol::Blob).await.map_err(|_| Outcome::Broken)?, false),
    };
    let mut learned = blob::fetch_length(&mut stream, fetch.tag, pack).await;
    if was_idle && matches!(learned, Err(FetchError::Stream(_))) {
        stream = hub.net().open(connection, Protocol::Blob).await.map_err(|_| Outcome::Broken)?;
        learned = blob::fetch_length(&mut stream, fetch.tag, pack).await;
    }
    let len = learned.map_err(|error| match error {
        FetchError::Denied | FetchError::Size | FetchError::Hash => Outcome::Refused,
        _ => Outcome::Broken,
    })?;
    idle.put(fetch.source, stream);
    if len >= NOTED_LEN_MIN {
        // What cannot be noted is fetched all the same.
        let _ = hub.blocking(move |inner| inner.note_pack_len(&pack, len)).await;
    }
    Ok(len)
}

/// Opens the partial file of a pack, once an earlier fetch of it has let go of it.
async fn open(hub: &Hub, fetch: &Fetch) -> Result<Option<PartialPack>, Outcome> {
    let (pack, len) = (fetch.pack, u32::try_from(fetch.len).map_err(|_| Outcome::Refused)?);
    loop {
        match hub.blocking(move |inner| inner.open_partial(&pack, len)).await {
            Ok(Opened::Partial(partial)) => return Ok(Some(*partial)),
            Ok(Opened::Here) => return Ok(None),
            Ok(Opened::NoRoom) => return Err(Outcome::Refused),
            Ok(Opened::Busy) => tokio::time::sleep(BUSY_TIME).await,
            // The disk is full, or in trouble: tried again later, and not at once with all others.
            Err(_) => {
                tokio::time::sleep(TROUBLE_TIME).await;
                return Err(Outcome::Broken);
            }
        }
    }
}

/// Makes fetched packs durable, several in one commit.
async fn keep_all(hub: Arc<Hub>, mut fetched: mpsc::Receiver<(Fetch, PartialPack)>) {
    while let Some(Some(first)) = hub.until_stop(fetched.recv()).await {
        let mut batch = vec![first];
        while batch.iter().map(|(fetch, _)| fetch.len).sum::<u64>() < KEEP_BYTES {
            match fetched.try_recv() {
                Ok(next) => batch.push(next),
                Err(_) => break,
            }
        }
        let (fetches, mut packs): (Vec<Fetch>, Vec<PartialPack>) = batch.into_iter().unzip();
        // Nothing is lost by a failure: the files stay, and are looked at again by the next fetch.
        let kept = hub.blocking(move |inner| inner.keep_packs(&mut packs)).await.unwrap_or_default();
        if !kept.is_empty() {
            hub.got(&kept);
        }
        hub.with_plan(|plan| {
            for fetch in &fetches {
                let outcome = if kept.contains(&fetch.pack) { Outcome::Done } else { Outcome::Broken };
                plan.end(fetch, outcome);
            }
        });
        hub.fetches.notify_one();
    }
}

fn lock(coming: &Mutex<Coming>) -> MutexGuard<'_, Coming> {
    coming.lock().unwrap_or_else(PoisonError::into_inner)
}
