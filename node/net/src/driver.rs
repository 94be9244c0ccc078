//! The actor that owns the swarm. One loop; it only dispatches, each arm is a method here or in a room below.
//!
//! It never waits for the engine: events that the engine has not taken lie in a queue whose growth is bounded by
//! refusing inbound streams. It answers the engine before it looks at what strangers want.

mod dial;
mod inbound;
mod nat;
mod queries;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use libp2p::core::transport::{ListenerId, TransportError};
use libp2p::identity::Keypair;
use libp2p::swarm::{self, Swarm, SwarmEvent};
use locker_crypto::id::VerifyingKey;
use locker_crypto::rendezvous::{Address, Publishers, Relay, Transport};
use locker_crypto::secret::RendezvousSecret;
use rand_core::CryptoRng;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::address::{from_multiaddr, key_of, may_be_public, to_multiaddr};
use crate::behaviour::{Behaviour, BehaviourEvent};
use crate::config::{Clock, Config, Env, Role, TransportSeed};
use crate::connection::{Connection, ConnectionId};
use crate::event::{Event, Events};
use crate::handle::{COMMANDS_MAX, DialError, Found, Handle, OpenError, Reached, StartError};
use crate::limits::Origin;
use crate::metrics::{self, Shared};
use crate::nat::{Household, PortMapper, Reach, SERVER_PORT, Surroundings, place_of_system};
use crate::protocol::Protocol;
use crate::rendezvous::lan::{self, Heard};
use crate::rendezvous::{Publication, Standing};
use crate::stream::Stream;
use crate::transport;

/// Events on their way to the engine, beside the queue of the driver.
const EVENTS_MAX: usize = 16;
/// Times that a free port is looked for, as somebody may take it before we do.
const LISTEN_TRIES: usize = 4;
/// How long the start waits for addresses of the interfaces.
const LISTEN_TIME: Duration = Duration::from_secs(2);

/// How long the end waits for connections to close.
const CLOSE_TIME: Duration = Duration::from_secs(1);
/// How long closed QUIC connections are still answered for.
const LINGER_TIME: Duration = Duration::from_millis(150);

/// What a [`Handle`] asks for.
pub(crate) enum Command {
    Dial {
        way: Way,
        reply: oneshot::Sender<Result<Connection, DialError>>,
    },
    Open {
        which: Which,
        protocol: Protocol,
        reply: oneshot::Sender<Result<Stream, OpenError>>,
    },
    Close(ConnectionId),
    Connections(oneshot::Sender<Vec<Connection>>),
    OwnAddresses(oneshot::Sender<Vec<Address>>),
    SetSession(ConnectionId, bool),
    HandshakeFailed(Origin),
    SetKnownSources(Vec<IpAddr>),
    Publish(Vec<Publication>),
    Find {
        secret: RendezvousSecret,
        publishers: Publishers,
        expected: Option<VerifyingKey>,
        sender: mpsc::Sender<Found>,
    },
    SetBeacons(Vec<RendezvousSecret>),
    LanWatch(Vec<RendezvousSecret>),
    Shutdown(oneshot::Sender<()>),
}

/// How somebody is dialed.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    /// At an address, whoever answers.
    Direct(Address),
    /// Through a relay, which takes a key to know whom.
    Through(Relay, VerifyingKey),
}

/// On which connection a stream is wanted.
#[derive(Clone, Copy)]
pub(crate) enum Which {
    Connection(ConnectionId),
    Peer(VerifyingKey),
}

/// A connection that stands.
struct Link {
    connection: Connection,
    peer_id: libp2p::PeerId,
    /// Whether the engine knows it, and so wants to hear that it is gone.
    told: bool,
    /// Whether a session stands on it.
    session: bool,
    /// Whether we dialed it from the port on which we listen, so that the other end sees our listening address.
    reuses_port: bool,
    /// How others reach the other end as a relay, if it is one.
    relay: Option<Relay>,
}

/// The actor.
pub(crate) struct Driver {
    swarm: Swarm<Behaviour>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    outbox: VecDeque<Event>,
    links: BTreeMap<ConnectionId, Link>,
    dials: HashMap<swarm::ConnectionId, oneshot::Sender<Result<Connection, DialError>>>,
    queries: queries::Queries,
    nat: nat::Nat,
    port_mapper: PortMapper,
    household: Household,
    reached: watch::Sender<Reached>,
    lan: lan::Beacon,
    heard: mpsc::Receiver<Heard>,
    listening: watch::Sender<Vec<Address>>,
    config: Arc<Config>,
    metrics: Shared,
    clock: Clock,
    dice: Box<dyn CryptoRng + Send>,
}

impl Driver {
    pub(crate) async fn start(config: Config, mut env: Env) -> Result<(Handle, Events), StartError> {
        let key = transport_key(&config.transport, &mut *env.dice)?;
        let peer_id = key.public().to_peer_id();
        let (circuits, circuit_client) = libp2p::relay::client::new(peer_id);
        let transport = transport::build(
            &key,
            &config.limits,
            circuits,
            #[cfg(feature = "simulation")]
            config.wire.clone(),
        );
        let transport = transport.map_err(|_| StartError::Key)?;
        let household = Household::default();
        let (clock, dice) = (env.clock.clone(), &mut *env.dice);
        let behaviour = Behaviour::new(&key, &config, clock, circuit_client, &household, dice);
        let transport_key = key_of(&peer_id).ok_or(StartError::Key)?;
        let settings = swarm::Config::with_tokio_executor()
            .with_idle_connection_timeout(config.limits.idle_time)
            .with_max_negotiating_inbound_streams(config.limits.negotiating_streams);
        let mut swarm = Swarm::new(transport, behaviour, peer_id, settings);
        for address in &config.external {
            swarm.add_external_address(to_multiaddr(&address.address));
        }
        let listening = listen(&mut swarm, &config.listen).await?;
        if config.tcp_443 {
            listen_443(&mut swarm, &config.listen);
        }

        let config = Arc::new(config);
        let metrics = Shared::default();
        let (commands, command_receiver) = mpsc::channel(COMMANDS_MAX);
        let (events, event_receiver) = mpsc::channel(EVENTS_MAX);
        let (listening, listening_receiver) = watch::channel(listening);
        let (standing, standing_receiver) = watch::channel(Standing::default());
        let (reached, reached_receiver) = watch::channel(Reached::default());
        let port = listening.borrow().first().map_or(0, |address| address.port);
        let (lan, heard) = lan::Beacon::start(
            config.lan.clone(),
            port,
            config.limits.beacons_per_minute,
            env.clock.clone(),
            &mut *env.dice,
            Arc::clone(&metrics),
        );
        let port_mapper = port_mapper(&config, listening_receiver.clone(), &mut *env.dice);
        let handle = Handle::new(
            commands,
            transport_key,
            listening_receiver,
            standing_receiver,
            reached_receiver,
            Arc::clone(&metrics),
            &config,
        );
        let driver = Self {
            swarm,
            commands: command_receiver,
            events,
            outbox: VecDeque::new(),
            links: BTreeMap::new(),
            dials: HashMap::new(),
            queries: queries::Queries::new(standing),
            nat: nat::Nat::new(Reach::new(config.role, &config.limits)),
            port_mapper,
            household,
            reached,
            lan,
            heard,
            listening,
            config,
            metrics,
            clock: env.clock,
            dice: env.dice,
        };
        tokio::spawn(driver.run());
        Ok((handle, Events { receiver: event_receiver }))
    }

    async fn run(mut self) {
        for node in &self.config.external {
            // The swarm was told before it ran.
            self.nat.confirm(node.address);
        }
        self.take_listening_for_public();
        self.review();
        self.join();
        let events = self.events.clone();
        let stopped = loop {
            let wake = self.queries.next_wake().into_iter().chain(self.nat.wake()).min();
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    None => break None,
                    Some(Command::Shutdown(reply)) => break Some(reply),
                    Some(command) => self.obey(command),
                },
                permit = events.reserve(), if !self.outbox.is_empty() => {
                    match (permit, self.outbox.pop_front()) {
                        (Ok(permit), Some(event)) => permit.send(event),
                        // Nobody listens any more; the handles decide when the node ends.
                        _ => self.outbox.clear(),
                    }
                }
                Some(heard) = self.heard.recv() => self.on_heard(heard),
                told = self.port_mapper.changed() => self.on_port_mapping(&told),
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => self.on_time(),
                event = self.swarm.select_next_some() => self.on_swarm(event),
            }
        };
        self.lan.stop().await;
        self.close_all().await;
        self.port_mapper.stop().await;
        // Whoever asks from now on is told that the node is gone.
        drop((self, events));
        if let Some(reply) = stopped {
            let _ = reply.send(());
        }
    }

    /// Closes the connections, so that the other ends need not wait until they notice. Who is slow is left behind.
    async fn close_all(&mut self) {
        let quic = self.links.values().any(|link| link.connection.transport == Transport::Quic);
        for id in self.links.keys() {
            self.swarm.close_connection(id.0);
        }
        let deadline = Instant::now() + CLOSE_TIME;
        while self.swarm.connected_peers().next().is_some() {
            if timeout_at(deadline, self.swarm.select_next_some()).await.is_err() {
                break;
            }
        }
        // The packet that closes a QUIC connection may be lost; it is sent again to whoever still speaks.
        let linger = Instant::now() + LINGER_TIME;
        while quic && timeout_at(linger, self.swarm.select_next_some()).await.is_ok() {}
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Dial { way, reply } => self.dial(way, reply),
            Command::Open { which, protocol, reply } => self.open(which, protocol, reply),
            Command::Close(id) => drop(self.swarm.close_connection(id.0)),
            Command::Connections(reply) => {
                let _ = reply.send(self.links.values().map(|link| link.connection.clone()).collect());
            }
            Command::OwnAddresses(reply) => drop(reply.send(self.own_addresses())),
            Command::SetSession(id, stands) => self.set_session(id, stands),
            Command::HandshakeFailed(from) => {
                self.swarm.behaviour_mut().gate.admission.handshake_failed(from, Instant::now());
            }
            Command::SetKnownSources(ips) => self.swarm.behaviour_mut().gate.admission.set_known(ips),
            Command::Publish(publications) => self.set_publications(publications),
            Command::Find { secret, publishers, expected, sender } => {
                self.begin_find(secret, publishers, expected, sender);
            }
            Command::SetBeacons(secrets) => self.lan.set_beacons(secrets),
            Command::LanWatch(secrets) => self.lan.set_watched(secrets),
            // Taken by the loop.
            Command::Shutdown(_) => {}
        }
    }

    fn on_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Stream(inbound)) => self.on_inbound(inbound),
            SwarmEvent::Behaviour(BehaviourEvent::Kad(event)) => self.on_kad(event),
            SwarmEvent::Behaviour(BehaviourEvent::Identify(event)) => self.on_identify(event),
            SwarmEvent::Behaviour(BehaviourEvent::Circuits(event)) => self.on_circuits(&event),
            SwarmEvent::Behaviour(BehaviourEvent::Relay(event)) => self.on_relay(&event),
            SwarmEvent::Behaviour(_) => {}
            SwarmEvent::ExternalAddrConfirmed { address } => self.on_confirmed(&address),
            SwarmEvent::ExternalAddrExpired { address } => self.on_unconfirmed(&address),
            SwarmEvent::ListenerClosed { listener_id, .. } => self.on_listener_closed(listener_id),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_established(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { connection_id, cause, .. } => {
                self.on_closed(ConnectionId(connection_id), cause.is_some());
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                self.on_dial_failed(connection_id, &error);
            }
            SwarmEvent::IncomingConnectionError { error: swarm::ListenError::Denied { .. }, .. } => {
                metrics::count(&self.metrics.connections_refused);
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                if let Some(found) = from_multiaddr(&address) {
                    self.change_listening(|all| all.push(found.address));
                }
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                if let Some(found) = from_multiaddr(&address) {
                    self.change_listening(|all| all.retain(|one| *one != found.address));
                    self.on_address_gone(&found.address);
                }
            }
            _ => {}
        }
    }

    fn change_listening(&mut self, change: impl FnOnce(&mut Vec<Address>)) {
        self.listening.send_modify(change);
        let addresses = self.listening.borrow().clone();
        // An older change that still waits says nothing any more.
        self.outbox.retain(|event| !matches!(event, Event::Listening { .. }));
        self.outbox.push_back(Event::Listening { addresses });
        self.take_listening_for_public();
        self.queries.publish_anew(Instant::now());
    }

    /// A node that serves from the start has nobody to ask whether it is public: it says where it listens, or, if none of
    /// that can be public, all the same.
    fn take_listening_for_public(&mut self) {
        if self.config.role != Role::Server {
            return;
        }
        let all = self.listening.borrow().clone();
        let public: Vec<Address> = all.iter().filter(|one| may_be_public(one.ip)).copied().collect();
        for address in if public.is_empty() { all } else { public } {
            self.swarm.add_external_address(to_multiaddr(&address));
        }
    }

    fn on_heard(&mut self, heard: Heard) {
        self.queries.on_beacon(&heard);
        if heard.watched && self.outbox.len() < self.config.limits.inbound_queue {
            self.outbox.push_back(Event::LanFound { secret: heard.secret, address: heard.address });
        }
    }
}

/// What asks the router: nothing for those who only visit or are public anyway.
fn port_mapper(
    config: &Config,
    listening: watch::Receiver<Vec<Address>>,
    dice: &mut dyn CryptoRng,
) -> PortMapper {
    #[cfg(feature = "simulation")]
    let is_real = config.wire.is_none();
    #[cfg(not(feature = "simulation"))]
    let is_real = true;
    if !(config.port_mapping && config.role == Role::WhenPublic && is_real) {
        return PortMapper::off();
    }
    PortMapper::start(Surroundings { place: place_of_system, server_port: SERVER_PORT, listening }, dice)
}

fn transport_key(seed: &TransportSeed, dice: &mut dyn CryptoRng) -> Result<Keypair, StartError> {
    let mut bytes = [0; 32];
    match seed {
        TransportSeed::Fresh => dice.fill_bytes(&mut bytes),
        TransportSeed::Kept(seed) => bytes = *seed.expose(),
    }
    // Wipes the bytes.
    Keypair::ed25519_from_bytes(&mut bytes).map_err(|_| StartError::Key)
}

/// Listens with both transports on every address. Returns what the interfaces gave.
async fn listen(swarm: &mut Swarm<Behaviour>, wanted: &[SocketAddr]) -> Result<Vec<Address>, StartError> {
    let failed = |address: SocketAddr| move |source| StartError::Listen { address, source };
    let mut tries = LISTEN_TRIES;
    let listeners = loop {
        let first = wanted.first().copied().unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
        let chosen = transport::choose_port(wanted).map_err(failed(first))?;
        match listen_on(swarm, &chosen) {
            Ok(listeners) => break listeners,
            Err(_) if tries > 1 && chosen != wanted => tries -= 1,
            Err((address, source)) => return Err(failed(address)(source)),
        }
    };
    let mut waiting: Vec<ListenerId> = listeners;
    let mut found = Vec::new();
    let deadline = Instant::now() + LISTEN_TIME;
    while !waiting.is_empty() {
        match timeout_at(deadline, swarm.select_next_some()).await {
            Ok(SwarmEvent::NewListenAddr { listener_id, address }) => {
                waiting.retain(|id| *id != listener_id);
                found.extend(from_multiaddr(&address).map(|node| node.address));
            }
            Ok(_) => {}
            // An interface may come up later.
            Err(_) => break,
        }
    }
    Ok(found)
}

/// Listens on TCP port 443 besides, wherever the node listens on all addresses. Where that is not allowed, or somebody
/// else does, it is left.
fn listen_443(swarm: &mut Swarm<Behaviour>, wanted: &[SocketAddr]) {
    for socket in wanted.iter().filter(|socket| socket.ip().is_unspecified() && socket.port() != 443) {
        let address = Address { transport: Transport::Tcp, ip: socket.ip(), port: 443 };
        let _ = swarm.listen_on(to_multiaddr(&address));
    }
}

/// What the system says of a place where a transport could not listen: what the transports wrap around it hides that.
fn said(socket: SocketAddr, error: TransportError<std::io::Error>) -> std::io::Error {
    let bound = UdpSocket::bind(socket).and_then(|_| TcpListener::bind(socket));
    match (bound, error) {
        (Err(said), _) | (Ok(_), TransportError::Other(said)) => said,
        (Ok(_), other) => std::io::Error::other(other),
    }
}

fn listen_on(
    swarm: &mut Swarm<Behaviour>,
    chosen: &[SocketAddr],
) -> Result<Vec<ListenerId>, (SocketAddr, std::io::Error)> {
    let mut listeners = Vec::new();
    for socket in chosen {
        for transport in [Transport::Quic, Transport::Tcp] {
            let address = Address { transport, ip: socket.ip(), port: socket.port() };
            match swarm.listen_on(to_multiaddr(&address)) {
                Ok(id) => listeners.push(id),
                // A kernel without IPv6.
                Err(_) if socket.is_ipv6() && socket.ip().is_unspecified() && !listeners.is_empty() => {}
                Err(error) => {
                    for id in listeners {
                        swarm.remove_listener(id);
                    }
                    return Err((*socket, said(*socket, error)));
                }
            }
        }
    }
    Ok(listeners)
}
