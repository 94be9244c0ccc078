//! The answering end of the socket: serves other commands while this one has the locker open.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use locker_engine::Locker;
use locker_engine::report::{Entry, Observer, Progress};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::frame::{self, Kind};
use crate::execute::{Sink, execute};
use crate::failure::{Exit, Failure};
use crate::request::{PairEvent, Request};

/// Entries gathered into one frame.
const ENTRIES_PER_FRAME: usize = 256;
/// How long a person may compare digits.
const ANSWER_TIME: Duration = Duration::from_secs(150);
/// Bytes of one frame of file content.
const CHUNK: usize = 256 * 1024;

/// Listens until it is stopped. Owns the accepting thread, which owns those of the clients.
pub(crate) struct Server {
    home: PathBuf,
    stopping: Arc<AtomicBool>,
    /// Work that can be stopped is to stop.
    ending: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Server {
    /// Starts to listen in the locker's home.
    pub(crate) fn start(home: &Path, locker: &Locker) -> Result<Self, Failure> {
        let listen = || -> io::Result<UnixListener> {
            let (_folder, address) = super::address(home)?;
            // We hold the lock, so whoever left this socket is gone.
            match std::fs::remove_file(&address) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            UnixListener::bind(&address)
        };
        let listener = listen().map_err(|e| Failure::io("cannot listen on the locker's socket", &e))?;
        let stopping = Arc::new(AtomicBool::new(false));
        let ending = Arc::new(AtomicBool::new(false));
        let thread = {
            let (stopping, ending, locker) = (Arc::clone(&stopping), Arc::clone(&ending), locker.clone());
            std::thread::spawn(move || accept(&listener, &locker, &stopping, &ending))
        };
        Ok(Self { home: home.to_path_buf(), stopping, ending, thread })
    }

    /// Stops what clients asked for and can be stopped in order; they get what was done so far.
    pub(crate) fn end_work(&self) {
        self.ending.store(true, Ordering::SeqCst);
    }

    /// Takes no more clients, lets the running ones finish, and removes the socket.
    pub(crate) fn stop(self) {
        self.stopping.store(true, Ordering::SeqCst);
        if let Ok((_folder, address)) = super::address(&self.home) {
            // Wakes the accepting thread.
            drop(UnixStream::connect(&address));
            // From here a new command waits for the lock instead of for us.
            let _ = std::fs::remove_file(&address);
        }
        let _ = self.thread.join();
    }
}

/// Counts running clients, so that there are never more than [`super::CLIENTS_MAX`].
#[derive(Default)]
struct Places {
    taken: Mutex<usize>,
    freed: Condvar,
}

fn accept(listener: &UnixListener, locker: &Locker, stopping: &AtomicBool, ending: &Arc<AtomicBool>) {
    let places = Arc::new(Places::default());
    let mut clients: Vec<JoinHandle<()>> = Vec::new();
    for stream in listener.incoming() {
        if stopping.load(Ordering::SeqCst) {
            break;
        }
        let Ok(stream) = stream else { continue };
        if !super::is_same_user(&stream) {
            continue;
        }
        clients.retain(|client| !client.is_finished());
        let mut taken = places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken >= super::CLIENTS_MAX {
            taken = places.freed.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken += 1;
        drop(taken);
        let (locker, places, ending) = (locker.clone(), Arc::clone(&places), Arc::clone(ending));
        clients.push(std::thread::spawn(move || {
            serve(stream, &locker, ending);
            *places.taken.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
            places.freed.notify_one();
        }));
    }
    for client in clients {
        let _ = client.join();
    }
}

/// Serves one command. What goes wrong with the stream ends this client and nothing else.
fn serve(mut stream: UnixStream, locker: &Locker, ending: Arc<AtomicBool>) {
    let _ = stream.set_write_timeout(Some(super::WRITE_TIMEOUT));
    let _ = stream.set_read_timeout(Some(super::WRITE_TIMEOUT));
    if frame::write(&mut stream, Kind::Ready, &[]).is_err() {
        return;
    }
    let Ok((Kind::Request, body)) = frame::read(&mut stream) else { return };
    let Ok(request) = frame::parse::<Request>(&body) else { return };
    let remote = Remote { state: Mutex::new(RemoteState { stream, entries: Vec::new() }), ending };
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| execute(locker, request, &remote)))
        .unwrap_or_else(|_| Err(Failure::internal()));
    let mut state = remote.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    let _ = state.flush_entries().and_then(|()| match &result {
        Ok(reply) => frame::write_json(&mut state.stream, Kind::Reply, reply),
        Err(failure) => frame::write_json(&mut state.stream, Kind::Failure, failure),
    });
}

/// A sink at the other end of the socket.
struct Remote {
    state: Mutex<RemoteState>,
    ending: Arc<AtomicBool>,
}

struct RemoteState {
    stream: UnixStream,
    entries: Vec<Entry>,
}

impl RemoteState {
    fn flush_entries(&mut self) -> io::Result<()> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let entries = std::mem::take(&mut self.entries);
        frame::write_json(&mut self.stream, Kind::Entries, &entries)
    }
}

impl Remote {
    fn with<T>(&self, f: impl FnOnce(&mut RemoteState) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Observer for Remote {
    fn progress(&self, progress: Progress) {
        let _ = self.with(|s| frame::write_json(&mut s.stream, Kind::Progress, &progress));
    }

    fn saved(&self, path: &str) {
        let _ = self.with(|s| frame::write_json(&mut s.stream, Kind::Saved, &path));
    }

    /// The other end has closed its side, or is gone.
    fn is_stopped(&self) -> bool {
        self.ending.load(Ordering::SeqCst) || self.with(|s| is_closed(&s.stream))
    }
}

/// Whether nothing more comes from the other end of a stream. Does not wait, and takes nothing off it.
fn is_closed(stream: &UnixStream) -> bool {
    let peeked = recv(stream, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    match peeked {
        Ok((_, len)) => len == 0,
        Err(error) => !matches!(error, Errno::AGAIN | Errno::INTR),
    }
}

impl Sink for Remote {
    fn entry(&self, entry: Entry) -> io::Result<()> {
        self.with(|s| {
            s.entries.push(entry);
            if s.entries.len() >= ENTRIES_PER_FRAME { s.flush_entries() } else { Ok(()) }
        })
    }

    fn pairing(&self, event: PairEvent) -> io::Result<bool> {
        self.with(|s| {
            frame::write_json(&mut s.stream, Kind::Pairing, &event)?;
            if !matches!(event, PairEvent::Confirm { .. }) {
                return Ok(true);
            }
            s.stream.set_read_timeout(Some(ANSWER_TIME))?;
            match frame::read(&mut s.stream)? {
                (Kind::Answer, body) => frame::parse(&body),
                _ => Err(io::ErrorKind::InvalidData.into()),
            }
        })
    }

    fn bytes(&self, bytes: &[u8]) -> io::Result<()> {
        self.with(|s| bytes.chunks(CHUNK).try_for_each(|part| frame::write(&mut s.stream, Kind::Bytes, part)))
    }
}

impl Failure {
    /// Something panicked: damage that a library met, or a fault of ours.
    pub(crate) fn internal() -> Self {
        Failure::new(
            Exit::Integrity,
            "E_INTEGRITY",
            "something in the locker's database is damaged, or this program has a fault",
            "Nothing wrong was given out. Run `locker verify`; run the command again with RUST_BACKTRACE=1 for a trace.",
        )
    }
}
