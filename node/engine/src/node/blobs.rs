//! Packs over the wire, the serving side: answering what is in scope (`docs/spec/12-sync.md`, "Packs").

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use locker_crypto::id::PackHash;
use locker_net::blob::{self, GET, GROUP_BYTES, GetPack, HOLD, HoldPacks, PACK_LEN_MAX, PackSource};
use locker_net::{Connection, FrameError, Stream, read_frame, refuse};
use locker_store::index;
use locker_store::packs::PackReader;
use tokio::time::{Instant, timeout};

use super::hub::{Hub, Visit};
use super::ledger::is_held;
#[cfg(feature = "simulation")]
use crate::simulation::Lie;

/// Groups of a small request.
const SMALL_GROUPS: usize = 8;
/// Time in which the holder of a link takes a group of what he asked for, else the answer is given up.
const HOLDER_PATIENCE: Duration = Duration::from_secs(30);
/// The same of an own device, which may be far away behind a thin line: over TCP it takes 128 KiB at a time.
const OWN_PATIENCE: Duration = Duration::from_secs(120);
/// Time for the whole of a small answer: nobody waits longer for one, and who does not take it keeps others waiting.
const SMALL_TIME: Duration = Duration::from_secs(30);

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
            Ok((HOLD, body)) => {
                let granted = promise(&hub, &connection, &body).await;
                let Some(granted) = granted else { return refuse(stream, frame_end).await };
                if blob::grant(&mut stream, &granted).await.is_err() {
                    return;
                }
                continue;
            }
            Ok((GET, body)) => GetPack::decode(&body, limits).ok(),
            Ok(_) => None,
            Err(FrameError::Ended) => return,
            Err(_) => None,
        };
        // Rights first, from the session alone; what a link gives is part of them.
        let (Some(get), Some(admitted)) = (request, hub.admitted(&connection.peer)) else {
            return refuse(stream, frame_end).await;
        };
        if !hub.may_get(&admitted, &get) {
            return refuse(stream, frame_end).await;
        }
        // A node that stops says nothing: a refusal would mean that the pack is not here.
        let small = small(&get).filter(|_| admitted.visit.is_none());
        let Some(_turn) = hub.turn(&admitted, small.is_some()).await else { return };
        // The packs of a link lie in the home space.
        let space = if admitted.visit.is_some() { hub.inner().space_tag() } else { get.space };
        let pack = get.pack;
        #[cfg(feature = "simulation")]
        match crate::simulation::lie_about(hub.inner(), &pack) {
            Some(Lie::Denies) => return refuse(stream, frame_end).await,
            Some(Lie::Breaks) => return,
            None => {}
        }
        let _sending = hub.sending(pack);
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
        let mut pace = hub.net().upload(&stream);
        if let Some(bytes) = small {
            if hub.until_stop(pace.pass_ahead(bytes)).await.is_none() {
                return;
            }
            pace = hub.net().unpaced();
        }
        let patience = if admitted.visit.is_some() { HOLDER_PATIENCE } else { OWN_PATIENCE };
        let answering = blob::answer(&mut stream, &get.pack, source, &get.ranges, pace, patience);
        let time = if small.is_some() { SMALL_TIME } else { Duration::MAX };
        let answering = timeout(time, answering);
        match hub.until_stop(while_visited(&hub, admitted.visit.as_ref(), answering)).await.flatten() {
            Some(Ok(Ok(_))) => {}
            Some(Ok(Err(blob::AnswerError::Source(error)))) => {
                note_damage(&hub, &pack, &error);
                return refuse(stream, frame_end).await;
            }
            Some(Ok(Err(blob::AnswerError::Broken(error)))) => return note_damage(&hub, &pack, &error),
            Some(Ok(Err(_)) | Err(_)) | None => return,
        }
    }
}

/// The bytes of a request that is as small as those for proofs: between own devices it goes before what is copied.
fn small(get: &GetPack) -> Option<u64> {
    let groups = get.ranges.groups(PACK_LEN_MAX).take(SMALL_GROUPS + 1).count();
    (groups <= SMALL_GROUPS).then(|| groups as u64 * u64::from(GROUP_BYTES))
}

/// Promises an own device to keep packs; nothing for anybody else.
async fn promise(hub: &Hub, connection: &Connection, body: &[u8]) -> Option<BTreeSet<PackHash>> {
    let request = HoldPacks::decode(body).ok()?;
    let admitted = hub.admitted(&connection.peer)?;
    if admitted.visit.is_some() || !admitted.scope.is_whole() || request.space != hub.inner().space_tag() {
        return None;
    }
    let asker = hub.device_at(&connection.peer)?;
    let _turn = hub.turn(&admitted, true).await?;
    let HoldPacks { packs, seconds, .. } = request;
    let granted = hub.blocking(move |inner| inner.grant_leases(&packs, seconds, &asker)).await.ok()?;
    hub.note_leases(&granted, seconds);
    Some(granted)
}

/// Has a pack looked at whose bytes were not what its name says, or could not be read. What a peer does wrong leads to
/// other errors.
fn note_damage(hub: &Hub, pack: &PackHash, error: &std::io::Error) {
    use std::io::ErrorKind;
    if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::Other) {
        hub.inner().suspect(pack);
    }
}

/// Answers, but no longer than a link is open.
async fn while_visited<T>(hub: &Hub, visit: Option<&Visit>, answering: impl Future<Output = T>) -> Option<T> {
    let Some(visit) = visit else { return Some(answering.await) };
    visit.note_active(hub.inner().env().now_ms());
    let mut end = visit.end.clone();
    let answer = tokio::select! {
        answer = answering => Some(answer),
        _ = end.wait_for(|end| *end) => None,
    };
    visit.note_active(hub.inner().env().now_ms());
    answer
}
