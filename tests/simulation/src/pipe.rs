//! One direction of a stream between two hosts: bytes arrive later, in order, or not at all.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::{AsyncRead, AsyncWrite};
use tokio::time::{Duration, Instant, Sleep, sleep_until};

use crate::network::Network;

/// Bytes that may be under way.
const WINDOW: usize = 256 << 10;
/// Bytes that go at once.
const PIECE: usize = 64 << 10;

/// One direction.
pub struct Pipe(Mutex<State>);

/// What was written at once, as far as it was not read.
struct Piece {
    due: Instant,
    bytes: Vec<u8>,
    read: usize,
}

struct State {
    from: IpAddr,
    to: IpAddr,
    /// What is under way, and when it arrives; nothing is the end.
    queue: VecDeque<Piece>,
    len: usize,
    last_due: Instant,
    /// Nothing arrives.
    is_held: bool,
    /// Both ends are told that it broke.
    is_reset: bool,
    is_ended: bool,
    /// The last bytes that were written: a mark may lie across two writes.
    tail: Vec<u8>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl State {
    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }
}

impl Pipe {
    /// Nothing is under way.
    pub fn new(from: IpAddr, to: IpAddr) -> Self {
        Self(Mutex::new(State {
            from,
            to,
            queue: VecDeque::new(),
            len: 0,
            last_due: Instant::now(),
            is_held: false,
            is_reset: false,
            is_ended: false,
            tail: Vec::new(),
            reader: None,
            writer: None,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From where to where.
    pub fn ends(&self) -> (IpAddr, IpAddr) {
        let state = self.state();
        (state.from, state.to)
    }

    /// Holds back what is under way, or lets it come.
    pub fn hold(&self, is_held: bool) {
        let mut state = self.state();
        state.is_held = is_held;
        state.wake();
    }

    /// Breaks it.
    pub fn reset(&self) {
        let mut state = self.state();
        state.is_reset = true;
        state.wake();
    }
}

/// One end of a stream.
pub struct End {
    network: Arc<Network>,
    read: Arc<Pipe>,
    write: Arc<Pipe>,
    due: Option<Pin<Box<Sleep>>>,
}

impl End {
    /// An end of these.
    pub fn new(network: Arc<Network>, read: Arc<Pipe>, write: Arc<Pipe>) -> Self {
        Self { network, read, write, due: None }
    }

    fn end(&self) {
        let mut state = self.write.state();
        if !state.is_ended {
            state.is_ended = true;
            let due = state.last_due.max(Instant::now() + Duration::from_millis(1));
            state.queue.push_back(Piece { due, bytes: Vec::new(), read: 0 });
            state.wake();
        }
    }
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = Arc::clone(&self.read);
        let mut state = read.state();
        if state.is_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        state.reader = Some(context.waker().clone());
        if state.is_held {
            return Poll::Pending;
        }
        let Some(piece) = state.queue.front_mut() else { return Poll::Pending };
        if piece.due > Instant::now() {
            let mut sleep = self.due.take().unwrap_or_else(|| Box::pin(sleep_until(piece.due)));
            sleep.as_mut().reset(piece.due);
            if sleep.as_mut().poll(context).is_pending() {
                self.due = Some(sleep);
                return Poll::Pending;
            }
        }
        let left = &piece.bytes[piece.read..];
        let len = left.len().min(into.len());
        into[..len].copy_from_slice(&left[..len]);
        if len < left.len() {
            piece.read += len;
        } else if len > 0 {
            state.queue.pop_front();
        }
        state.len -= len;
        if let Some(writer) = state.writer.take() {
            writer.wake();
        }
        Poll::Ready(Ok(len))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.write.state();
        if state.is_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if state.is_ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if state.len >= WINDOW {
            state.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let len = bytes.len().min(PIECE);
        let mut piece = bytes[..len].to_vec();
        let travel = self.network.take(state.from, state.to, &mut state.tail, &mut piece);
        let due = state.last_due.max(Instant::now() + travel.latency) + travel.sending;
        state.last_due = due;
        state.len += len;
        state.queue.push_back(Piece { due, bytes: piece, read: 0 });
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.end();
        // What still comes is for nobody.
        self.read.reset();
    }
}
