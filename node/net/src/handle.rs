//! The door to a node: what the engine may ask for. Every method sends one message to the driver and waits for its
//! answer; the queue of messages holds [`COMMANDS_MAX`], and a full queue makes the caller wait.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use locker_crypto::id::VerifyingKey;
use locker_crypto::rendezvous::{Address, Contact, Publishers, Relay, Transport};
use locker_crypto::secret::RendezvousSecret;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::address::is_local;
use crate::config::{Config, Env};
use crate::connection::{Connection, ConnectionId};
use crate::driver::{Command, Driver, Way, Which};
use crate::event::Events;
use crate::limits::{Limits, Tries};
use crate::metrics::{Figures, Shared};
use crate::nat::PortMapping;
use crate::pace::{Pace, Paces};
use crate::protocol::Protocol;
use crate::rendezvous::{Publication, Standing};
use crate::stream::Stream;

/// Messages to the driver that may wait.
pub(crate) const COMMANDS_MAX: usize = 64;
/// Finds of one look-up that may wait for their taker; further ones are dropped, as the DHT is only a hint.
const FOUND_MAX: usize = 64;

/// Starts a node: binds its addresses, begins to join the DHT and to listen on the local network. Returns when the
/// addresses are bound. The node stops by [`Handle::shutdown`] or when all handles are dropped.
///
/// # Errors
/// [`StartError`]; nothing is left running then.
///
/// # Panics
/// Outside a tokio runtime with time and IO.
pub async fn start(config: Config, env: Env) -> Result<(Handle, Events), StartError> {
    Driver::start(config, env).await
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address could not be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The transport key could not be used.
    #[error("the transport key cannot be used")]
    Key,
}

/// The node has stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the node has stopped")]
pub struct Gone;

/// Why nobody was reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// Nobody answered at any of the addresses, or what answered is no node.
    #[error("nobody answers at these addresses")]
    Unreachable,
    /// The only answer was our own.
    #[error("these are our own addresses")]
    Own,
    /// A limit of ours stands against it.
    #[error("too many connections")]
    Limit,
    /// It took too long.
    #[error("nobody answers in time")]
    Timeout,
    /// The node has stopped.
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// Why no stream was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no such connection, or none to this peer.
    #[error("not connected")]
    NotConnected,
    /// The other end does not offer the protocol.
    #[error("the other end does not speak this protocol")]
    Unsupported,
    /// The other end did not answer in time.
    #[error("the other end does not answer")]
    Timeout,
    /// The connection broke.
    #[error("the connection is closed")]
    Closed,
    /// Too many streams are being opened on the connection.
    #[error("too many streams are being opened")]
    Full,
    /// The node has stopped.
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// Which transport is tried first; the other follows after [`Limits::dial_stagger`], and the first to stand is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prefer {
    /// Through NATs. What lies on the local network is tried by TCP first all the same.
    Quic,
    /// On the local network, where it is cheaper per byte.
    Tcp,
}

/// How others reach this node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reached {
    /// Addresses that were probed by others and answer from anywhere. With one, this node serves others as well.
    pub public: Vec<Address>,
    /// Relays at which it has a reservation, while it has no such address of IPv4.
    pub relays: Vec<Relay>,
    /// What the router in front of it passes on.
    pub router: PortMapping,
}

/// A handle to a running node. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    transport_key: VerifyingKey,
    listening: watch::Receiver<Vec<Address>>,
    standing: watch::Receiver<Standing>,
    reached: watch::Receiver<Reached>,
    metrics: Shared,
    limits: Arc<Limits>,
    paces: Arc<Paces>,
    tries: Arc<Mutex<Tries>>,
}

impl Handle {
    pub(crate) fn new(
        commands: mpsc::Sender<Command>,
        transport_key: VerifyingKey,
        listening: watch::Receiver<Vec<Address>>,
        standing: watch::Receiver<Standing>,
        reached: watch::Receiver<Reached>,
        metrics: Shared,
        config: &Config,
    ) -> Self {
        let limits = Arc::new(config.limits.clone());
        let paces = Arc::new(Paces::new(config.upload_limit, config.download_limit));
        let tries = Arc::new(Mutex::new(Tries::new(limits.pairing_failures_per_minute)));
        Self { commands, transport_key, listening, standing, reached, metrics, limits, paces, tries }
    }

    /// Returns the transport key of this node, for the certificate and the transcript of the handshake.
    pub fn transport_key(&self) -> VerifyingKey {
        self.transport_key
    }

    /// Returns the limits with which the node was started.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns how fast packs go out over a stream.
    pub fn upload(&self, stream: &Stream) -> &Pace {
        if stream.is_near() { &self.paces.near } else { &self.paces.upload }
    }

    /// Returns how fast packs come in over a stream.
    pub fn download(&self, stream: &Stream) -> &Pace {
        if stream.is_near() { &self.paces.near } else { &self.paces.download }
    }

    /// Returns a pace without limit.
    pub fn unpaced(&self) -> &Pace {
        &self.paces.near
    }

    /// Returns whether fetching waits because of [`crate::Config::download_limit`]: then silence means nothing.
    pub fn is_held_back(&self) -> bool {
        self.paces.download.is_behind()
    }

    /// Returns the figures of now.
    pub fn figures(&self) -> Figures {
        self.metrics.figures()
    }

    /// Returns the addresses on which the node listens, wildcards resolved to those of the interfaces.
    pub fn listen_addresses(&self) -> Vec<Address> {
        self.listening.borrow().clone()
    }

    /// Returns the addresses that own records name: those known to be reachable first, then where the node listens.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn own_addresses(&self) -> Result<Vec<Address>, Gone> {
        self.ask(Command::OwnAddresses).await
    }

    /// Tells of changes of [`Handle::listen_addresses`].
    pub fn listening(&self) -> watch::Receiver<Vec<Address>> {
        self.listening.clone()
    }

    /// Dials a node at any of its addresses, at most [`Limits::dial_addresses`], **without** expecting a key: the
    /// session decides who it is. Dropping the future closes what was still being tried.
    ///
    /// # Errors
    /// [`DialError`], of the last address that failed.
    pub async fn dial(&self, addresses: &[Address], prefer: Prefer) -> Result<Connection, DialError> {
        self.dial_ways(self.waves(addresses, prefer), None).await
    }

    /// Dials whoever a record tells of, at its addresses and, [`Limits::dial_relay_stagger`] later, through its relays.
    /// Private addresses may be somebody else's here: what answers under another key than the record names is taken only
    /// if nothing better does. Through a relay the way may become a direct one later ([`crate::Event::Direct`]).
    ///
    /// # Errors
    /// [`DialError`], of the last way that failed.
    pub async fn dial_contact(&self, contact: &Contact, prefer: Prefer) -> Result<Connection, DialError> {
        let peer = contact.certificate.transport();
        let mut waves = self.waves(&contact.addresses, prefer);
        let through = contact.relays.iter().map(|relay| Way::Through(*relay, peer)).collect();
        waves.push((self.limits.dial_relay_stagger, through));
        self.dial_ways(waves, Some(peer)).await
    }

    /// The addresses in the order in which they are tried, with how much later than the first.
    fn waves(&self, addresses: &[Address], prefer: Prefer) -> Vec<(Duration, Vec<Way>)> {
        let preferred = |ip| match prefer {
            Prefer::Quic if !is_local(ip) => Transport::Quic,
            Prefer::Quic | Prefer::Tcp => Transport::Tcp,
        };
        let tried = addresses.iter().take(self.limits.dial_addresses).copied();
        let (first, second): (Vec<_>, Vec<_>) = tried.partition(|one| one.transport == preferred(one.ip));
        let ways = |addresses: Vec<Address>| addresses.into_iter().map(Way::Direct).collect();
        vec![(Duration::ZERO, ways(first)), (self.limits.dial_stagger, ways(second))]
    }

    /// Tries wave after wave; a wave that fails whole is not waited for. The first connection that stands is taken, but
    /// one of another than the `expected` only at the end.
    async fn dial_ways(
        &self,
        waves: Vec<(Duration, Vec<Way>)>,
        expected: Option<VerifyingKey>,
    ) -> Result<Connection, DialError> {
        let begun = Instant::now();
        let mut waves: VecDeque<_> = waves.into_iter().filter(|(_, ways)| !ways.is_empty()).collect();
        let mut running = FuturesUnordered::new();
        let mut outcome = Err(DialError::Unreachable);
        loop {
            let next = waves.front().map(|(after, _)| begun + *after);
            if running.is_empty() || next.is_some_and(|at| at <= Instant::now()) {
                let Some((_, ways)) = waves.pop_front() else { return outcome };
                running.extend(ways.into_iter().map(|way| self.dial_one(way)));
                continue;
            }
            tokio::select! {
                Some(ended) = running.next() => match ended {
                    Ok(connection) if expected.is_none_or(|key| key == connection.peer) => {
                        if let Ok(other) = outcome {
                            self.close(other.id).await?;
                        }
                        return Ok(connection);
                    }
                    Ok(other) if outcome.is_err() => outcome = Ok(other),
                    Ok(other) => self.close(other.id).await?,
                    Err(error) if outcome.is_err() => outcome = Err(error),
                    Err(_) => {}
                },
                () = sleep_until(next.unwrap_or(begun)), if next.is_some() => {}
                () = sleep_until(begun + self.limits.dial_time) => {
                    return outcome.or(Err(DialError::Timeout));
                }
            }
        }
    }

    async fn dial_one(&self, way: Way) -> Result<Connection, DialError> {
        self.ask(|reply| Command::Dial { way, reply }).await?
    }

    /// Opens a stream on a connection.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(&self, connection: ConnectionId, protocol: Protocol) -> Result<Stream, OpenError> {
        self.open_on(Which::Connection(connection), protocol).await
    }

    /// Opens a stream to whoever owns a transport key, on the oldest of the connections with it; on one through a relay
    /// only if there is no other.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open_to(&self, peer: &VerifyingKey, protocol: Protocol) -> Result<Stream, OpenError> {
        self.open_on(Which::Peer(*peer), protocol).await
    }

    async fn open_on(&self, which: Which, protocol: Protocol) -> Result<Stream, OpenError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Open { which, protocol, reply }).await?;
        // Without an answer the connection went away meanwhile.
        let opened = answer.await.unwrap_or(Err(OpenError::Closed))?;
        Ok(opened.counted(protocol, &self.metrics))
    }

    /// Closes a connection and its streams.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn close(&self, connection: ConnectionId) -> Result<(), Gone> {
        self.send(Command::Close(connection)).await
    }

    /// Closes a connection without waiting for it: for whoever gives up in the middle of something else.
    pub fn close_later(&self, connection: ConnectionId) {
        let sent = self.commands.try_send(Command::Close(connection));
        // Where no runtime is left, the node ends too.
        if let Err(TrySendError::Full(command)) = sent
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let commands = self.commands.clone();
            runtime.spawn(async move { commands.send(command).await });
        }
    }

    /// Returns the connections that stand, those of the DHT included.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn connections(&self) -> Result<Vec<Connection>, Gone> {
        self.ask(Command::Connections).await
    }

    /// Says that a session stands on a connection (`true`) or has ended: those with one are never closed for room,
    /// and no longer count against what strangers may do.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn set_session(&self, connection: ConnectionId, stands: bool) -> Result<(), Gone> {
        self.send(Command::SetSession(connection, stands)).await
    }

    /// Counts a failed handshake for the source of a connection ([`Limits::failures_per_minute`]).
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn handshake_failed(&self, connection: &Connection) -> Result<(), Gone> {
        self.send(Command::HandshakeFailed(connection.origin())).await
    }

    /// Counts a try to pair for the source of a connection, until [`Handle::pairing_begun`]; returns whether it may be
    /// made ([`Limits::pairing_failures_per_minute`]).
    pub fn may_pair(&self, connection: &Connection) -> bool {
        self.tries().begin(connection.origin().source(), Instant::now())
    }

    /// Says that message 1 of a try to pair passed: it is none that failed.
    pub fn pairing_begun(&self, connection: &Connection) {
        self.tries().passed(&connection.origin().source());
    }

    fn tries(&self) -> MutexGuard<'_, Tries> {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the addresses from which good sessions came before: they pass first when the node is full, and do
    /// not wait after failures.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn set_known_sources(&self, remotes: Vec<IpAddr>) -> Result<(), Gone> {
        self.tries().set_known(remotes.iter().copied());
        self.send(Command::SetKnownSources(remotes)).await
    }

    /// Replaces what this node publishes in the DHT. Records are made of the addresses of the moment: at once for what
    /// was not published before, then every [`Config::publish_interval`] at random moments, and after a change of address. The
    /// progress is in [`Handle::standing`].
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn publish(&self, publications: Vec<Publication>) -> Result<(), Gone> {
        self.send(Command::Publish(publications)).await
    }

    /// Returns how own records stand; the receiver tells of changes.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Returns how others reach this node; the receiver tells of changes.
    pub fn reached(&self) -> watch::Receiver<Reached> {
        self.reached.clone()
    }

    /// Looks for nodes under a secret, in the DHT (all keys of the periods at once) and among the beacons heard
    /// meanwhile. `expected` is the device that must vouch for a record; under the secret of a link or contact it is
    /// `None`. Dropping the [`Find`] ends the look-up.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn find(
        &self,
        secret: &RendezvousSecret,
        publishers: Publishers,
        expected: Option<VerifyingKey>,
    ) -> Result<Find, Gone> {
        let (sender, receiver) = mpsc::channel(FOUND_MAX);
        self.send(Command::Find { secret: secret.clone(), publishers, expected, sender }).await?;
        Ok(Find { receiver })
    }

    /// Replaces the secrets under which this node wants to be found on the local network, and sends a beacon at once.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn set_beacons(&self, secrets: Vec<RendezvousSecret>) -> Result<(), Gone> {
        self.send(Command::SetBeacons(secrets)).await
    }

    /// Replaces the secrets of those whose beacons are told of ([`crate::Event::LanFound`]).
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn lan_watch(&self, secrets: Vec<RendezvousSecret>) -> Result<(), Gone> {
        self.send(Command::LanWatch(secrets)).await
    }

    /// Stops the node: closes all connections and returns when its tasks have ended. A second call does nothing.
    pub async fn shutdown(&self) {
        // Gone already is what is wanted.
        let _ = self.ask(Command::Shutdown).await;
    }

    async fn send(&self, command: Command) -> Result<(), Gone> {
        self.commands.send(command).await.map_err(|_| Gone)
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply)).await?;
        answer.await.map_err(|_| Gone)
    }
}

/// Somebody who may be the one that is looked for. Whoever is dialed still has to prove it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// A valid record of the DHT.
    Record {
        /// What it says.
        contact: Contact,
        /// When it was issued, unix seconds, to the hour; dial the newest first.
        issued: u64,
    },
    /// A beacon on the local network. Its port serves QUIC and TCP.
    Beacon(SocketAddr),
}

/// A running look-up.
pub struct Find {
    receiver: mpsc::Receiver<Found>,
}

impl Find {
    /// Waits for the next candidate; `None` when the DHT has been asked and, if the beacon is on, one interval of it
    /// has passed. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Found> {
        self.receiver.recv().await
    }
}
