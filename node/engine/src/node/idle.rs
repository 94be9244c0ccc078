//! Streams for packs that stay open between two requests.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use locker_crypto::id::VerifyingKey;
use locker_net::{ConnectionId, Stream};

/// Streams that wait for their next request. A source has at most as many as it had fetches at a time.
#[derive(Default)]
pub(super) struct Idle(Mutex<HashMap<VerifyingKey, Vec<Stream>>>);

impl Idle {
    /// Takes a stream of a connection; those of earlier connections with the same device go.
    pub(super) fn take(&self, device: &VerifyingKey, connection: ConnectionId) -> Option<Stream> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let streams = idle.get_mut(device)?;
        streams.retain(|stream| stream.connection() == connection);
        streams.pop()
    }

    pub(super) fn put(&self, device: VerifyingKey, stream: Stream) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(device).or_default().push(stream);
    }
}
