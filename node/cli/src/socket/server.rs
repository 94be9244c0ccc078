//! The answering end of the socket: serves other commands while this one has the locker open.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use locker_engine::Locker;
use locker_engine::report::{Entry, Observer, Progress};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use serde::Serialize;

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
/// A client that stops reading is given up after this time: a player that pauses, or a person who reads a long list.
const PATIENCE: Duration = Duration::from_secs(4 * 3600);
/// The same where work waits that is done for it: it was suspended.
const PATIENCE_AT_WORK: Duration = Duration::from_secs(60);
/// The same once this process is to end, and once its work is to stop.
const PATIENCE_AT_END: Duration = Duration::from_secs(60);
const PATIENCE_AT_STOP: Duration = Duration::from_secs(5);
/// How often it is looked whether the patience is over.
const PATIENCE_LOOK: Duration = Duration::from_secs(1);

/// What clients have to know of the process.
#[derive(Default)]
struct Ends {
    /// No more clients are taken.
    stopping: AtomicBool,
    /// Work that can be stopped is to stop.
    ending: AtomicBool,
}

impl Ends {
    fn patience(&self) -> Duration {
        if self.ending.load(Ordering::SeqCst) {
            PATIENCE_AT_STOP
        } else if self.stopping.load(Ordering::SeqCst) {
            PATIENCE_AT_END
        } else {
            PATIENCE
        }
    }
}

/// The stream of a client, whose writes wait for a reader that pauses.
struct Client {
    stream: UnixStream,
    ends: Arc<Ends>,
    patience: Duration,
    /// It was given up: a frame may have been cut off.
    is_over: bool,
}

impl Read for Client {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Client {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let start = Instant::now();
        while !self.is_over {
            match self.stream.write(bytes) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    self.is_over = start.elapsed() >= self.ends.patience().min(self.patience);
                }
                other => return other,
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Listens until it is stopped. Owns the accepting thread, which owns those of the clients.
pub(crate) struct Server {
    home: PathBuf,
    ends: Arc<Ends>,
    places: Arc<Places>,
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
        let ends = Arc::new(Ends::default());
        let places = Arc::new(Places::default());
        let thread = {
            let (ends, places, locker) = (Arc::clone(&ends), Arc::clone(&places), locker.clone());
            std::thread::spawn(move || accept(&listener, &locker, &places, &ends))
        };
        Ok(Self { home: home.to_path_buf(), ends, places, thread })
    }

    /// Does something while no command is served; those that come meanwhile wait. `None`, and nothing done, if one is.
    pub(crate) fn between_commands<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        (*taken == 0).then(work)
    }

    /// Stops what clients asked for and can be stopped in order; they get what was done so far.
    pub(crate) fn end_work(&self) {
        self.ends.ending.store(true, Ordering::SeqCst);
    }

    /// Takes no more clients, lets the running ones finish, and removes the socket.
    pub(crate) fn stop(self) {
        self.ends.stopping.store(true, Ordering::SeqCst);
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

fn accept(listener: &UnixListener, locker: &Locker, places: &Arc<Places>, ends: &Arc<Ends>) {
    let mut clients: Vec<JoinHandle<()>> = Vec::new();
    for stream in listener.incoming() {
        if ends.stopping.load(Ordering::SeqCst) {
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
        let (locker, places, ends) = (locker.clone(), Arc::clone(places), Arc::clone(ends));
        clients.push(std::thread::spawn(move || {
            serve(Client { stream, ends, patience: PATIENCE, is_over: false }, &locker);
            *places.taken.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
            places.freed.notify_one();
        }));
    }
    for client in clients {
        let _ = client.join();
    }
}

/// Serves one command. What goes wrong with the stream ends this client and nothing else.
fn serve(mut client: Client, locker: &Locker) {
    let _ = client.stream.set_write_timeout(Some(PATIENCE_LOOK));
    let _ = client.stream.set_read_timeout(Some(super::READ_TIMEOUT));
    if frame::write(&mut client, Kind::Ready, &[]).is_err() {
        return;
    }
    let Ok((Kind::Request, body)) = frame::read(&mut client) else { return };
    let Ok(request) = frame::parse::<Request>(&body) else { return };
    let remote = Remote { state: Mutex::new(RemoteState { client, entries: Vec::new() }) };
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| execute(locker, request, &remote)))
        .unwrap_or_else(|_| Err(Failure::internal()));
    let mut state = remote.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    let _ = state.flush_entries().and_then(|()| match &result {
        Ok(reply) => frame::write_json(&mut state.client, Kind::Reply, reply),
        Err(failure) => frame::write_json(&mut state.client, Kind::Failure, failure),
    });
}

/// A sink at the other end of the socket.
struct Remote {
    state: Mutex<RemoteState>,
}

struct RemoteState {
    client: Client,
    entries: Vec<Entry>,
}

impl RemoteState {
    fn flush_entries(&mut self) -> io::Result<()> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let entries = std::mem::take(&mut self.entries);
        frame::write_json(&mut self.client, Kind::Entries, &entries)
    }
}

impl Remote {
    fn with<T>(&self, f: impl FnOnce(&mut RemoteState) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells how work goes. Who does not hear it for a while wants it no longer: see [`Observer::is_stopped`].
    fn tell(&self, kind: Kind, value: &impl Serialize) {
        self.with(|s| {
            s.client.patience = PATIENCE_AT_WORK;
            let _ = frame::write_json(&mut s.client, kind, value);
            s.client.patience = PATIENCE;
        });
    }
}

impl Observer for Remote {
    fn progress(&self, progress: Progress) {
        self.tell(Kind::Progress, &progress);
    }

    fn saved(&self, path: &str) {
        self.tell(Kind::Saved, &path);
    }

    /// The other end has closed its side, or is gone.
    fn is_stopped(&self) -> bool {
        self.with(|s| {
            s.client.is_over || s.client.ends.ending.load(Ordering::SeqCst) || is_closed(&s.client.stream)
        })
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
            frame::write_json(&mut s.client, Kind::Pairing, &event)?;
            if !matches!(event, PairEvent::Confirm { .. }) {
                return Ok(true);
            }
            s.client.stream.set_read_timeout(Some(ANSWER_TIME))?;
            match frame::read(&mut s.client)? {
                (Kind::Answer, body) => frame::parse(&body),
                _ => Err(io::ErrorKind::InvalidData.into()),
            }
        })
    }

    fn bytes(&self, bytes: &[u8]) -> io::Result<()> {
        self.with(|s| bytes.chunks(CHUNK).try_for_each(|part| frame::write(&mut s.client, Kind::Bytes, part)))
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
