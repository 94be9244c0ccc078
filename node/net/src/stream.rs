//! Streams between nodes, and the behaviour that opens and accepts them.
//!
//! Several streams of one connection are negotiated at a time, and an inbound stream waits in the queue of the node
//! until the engine takes it. Never here: what is said on a stream.

mod behaviour;
mod handler;

pub(crate) use behaviour::{Behaviour, Inbound};
pub(crate) use handler::Opening;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};

use crate::connection::{Connection, ConnectionId};
use crate::metrics::{self, Shared};
use crate::protocol::Protocol;

/// A stream to another node: both directions. `shutdown` ends the own direction; dropping gives up both: TCP tells the
/// other end by a reset, QUIC by refusing what still comes, so a reader there sees an error or an end in the middle of
/// a frame, never a whole frame that was not sent.
pub struct Stream {
    inner: Compat<libp2p::Stream>,
    connection: ConnectionId,
    /// Whether the other end is on the local network.
    is_near: bool,
    /// Where its bytes are counted, if it carries packs.
    packs: Option<Shared>,
    /// While it lives, the stream counts against what strangers may open.
    _knock: Option<Arc<()>>,
}

impl Stream {
    /// Takes over a stream that this node opened.
    pub(crate) fn opened(inner: libp2p::Stream, (connection, is_near): (ConnectionId, bool)) -> Self {
        Self { inner: inner.compat(), connection, is_near, packs: None, _knock: None }
    }

    /// Takes over a stream that the other end opened.
    pub(crate) fn accepted(inner: libp2p::Stream, connection: &Connection, knock: Option<Arc<()>>) -> Self {
        let (connection, is_near) = (connection.id, connection.is_near());
        Self { inner: inner.compat(), connection, is_near, packs: None, _knock: knock }
    }

    /// Counts its bytes from now on, if it is for packs.
    pub(crate) fn counted(mut self, protocol: Protocol, metrics: &Shared) -> Self {
        self.packs = (protocol == Protocol::Blob).then(|| Shared::clone(metrics));
        self
    }

    /// Returns whether the other end is on the local network, where no limits of rate hold.
    pub(crate) fn is_near(&self) -> bool {
        self.is_near
    }

    /// Returns the connection that carries the stream.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.inner).poll_read(cx, buf));
        if let Some(metrics) = &self.packs {
            metrics::add(&metrics.pack_bytes_received, buf.filled().len().saturating_sub(before));
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, buf));
        if let (Some(metrics), Ok(len)) = (&self.packs, &written) {
            metrics::add(&metrics.pack_bytes_sent, *len);
        }
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
