//! Packs over the wire, the serving side: answering what is in scope (`docs/spec/12-sync.md`, "Packs").

use std::sync::Arc;

use locker_net::blob::{self, GET, GetPack, PackSource};
use locker_net::{Connection, FrameError, Stream, read_frame, refuse};
use locker_store::index;
use locker_store::packs::PackReader;
use tokio::time::Instant;

use super::hub::{Admitted, Hub};
use super::ledger::is_held;

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
