//! The thread on which the packs of an answer are read, while what was read is being sent. Of a simulation, which has one
//! thread, the same thread, before anything is sent.

use std::io;

use bytes::Bytes;
use tokio::sync::mpsc;

/// How many pieces may wait to be sent.
#[cfg(not(feature = "simulation"))]
const PIECES_MAX: usize = 2;
#[cfg(feature = "simulation")]
const PIECES_MAX: usize = 1_024;

/// A queue of pieces on their way to the stream.
pub(super) fn queue() -> (Pieces, mpsc::Receiver<Bytes>) {
    let (pieces, ready) = mpsc::channel(PIECES_MAX);
    (Pieces(pieces), ready)
}

/// Where the reading thread puts what is to be sent.
pub(super) struct Pieces(mpsc::Sender<Bytes>);

impl Pieces {
    /// Hands a piece on; waits while the stream is behind.
    ///
    /// # Errors
    /// If nobody takes it any more.
    pub(super) fn put(&self, piece: Bytes) -> io::Result<()> {
        #[cfg(not(feature = "simulation"))]
        let put = self.0.blocking_send(piece).is_ok();
        #[cfg(feature = "simulation")]
        let put = self.0.try_send(piece).is_ok();
        if put { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }
}

/// Begins to read.
#[cfg(not(feature = "simulation"))]
pub(super) fn begin(
    read: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> impl Future<Output = io::Result<()>> {
    let reading = tokio::task::spawn_blocking(read);
    async { reading.await.map_err(io::Error::other)? }
}

/// Reads all.
#[cfg(feature = "simulation")]
pub(super) fn begin(
    read: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> impl Future<Output = io::Result<()>> {
    std::future::ready(read())
}
