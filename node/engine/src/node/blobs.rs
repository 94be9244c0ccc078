//! Packs over the wire, the serving side: answering what is in scope (`docs/spec/12-sync.md`, "Packs").

use std::sync::Arc;

use locker_net::blob::{self, GET, GetPack, PackSource};
use locker_net::{Connection, FrameError, Stream, read_frame, refuse};
use locker_store::index;
use locker_store::packs::PackReader;
use tokio::time::Instant;

use super::hub::Hub;
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
        // Rights first, from the session alone.
        let scope = hub.scope_of(&connection.peer);
        let allowed =
            request.filter(|get| scope.as_ref().is_some_and(|scope| scope.may_get_pack(&get.space)));
        let Some(get) = allowed else { return refuse(stream, frame_end).await };
        let (space, pack) = (get.space, get.pack);
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
