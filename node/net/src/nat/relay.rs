//! The relay's rules (`docs/spec/09-rendezvous.md`, section 6): in mode household those with a session reserve, and few
//! circuits come from strangers; in mode open anybody may, for a little.
//!
//! What passes is ciphertext between the two ends; who may talk to whom is decided by the handshake inside.

use std::collections::{HashSet, VecDeque};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::relay::{Behaviour, Config, Event, RateLimiter, Status};
use libp2p::swarm::behaviour::{ConnectionClosed, DialFailure, ListenFailure};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use crate::config::RelayMode;
use crate::limits::Limits;

/// How long a reservation stands before it has to be renewed.
const RESERVATION_TIME: Duration = Duration::from_secs(3_600);
/// How long a circuit of a stranger that was let in may take to stand.
const OPENING_TIME: Duration = Duration::from_secs(10);
/// Mode open: requests of one transport key at once, and when it may send one more; the same of one address.
const REQUESTS_PER_PEER: (NonZeroU32, Duration) = (nonzero(30), Duration::from_secs(120));
const REQUESTS_PER_SOURCE: (NonZeroU32, Duration) = (nonzero(60), Duration::from_secs(60));

const fn nonzero(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).expect("not 0")
}

/// Who has a session, and how many circuits of others there are. Shared with the rules of the relay behaviour.
#[derive(Clone, Default)]
pub(crate) struct Household(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    sessions: HashSet<PeerId>,
    /// Circuits of strangers that stand, by who began them.
    standing: Vec<PeerId>,
    /// Those that were let in and do not stand yet.
    opening: VecDeque<(PeerId, std::time::Instant)>,
}

impl Household {
    fn with<T>(&self, f: impl FnOnce(&mut Known) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces those with a session.
    pub(crate) fn set_sessions(&self, peers: HashSet<PeerId>) {
        self.with(|known| known.sessions = peers);
    }

    fn is_known(&self, peer: &PeerId) -> bool {
        self.with(|known| known.sessions.contains(peer))
    }

    /// Lets a circuit be opened: by those with a session always.
    fn let_open(&self, peer: PeerId, strangers_max: usize, now: std::time::Instant) -> bool {
        self.with(|known| {
            if known.sessions.contains(&peer) {
                return true;
            }
            known.opening.retain(|(_, at)| now.duration_since(*at) < OPENING_TIME);
            let has_room = known.standing.len() + known.opening.len() < strangers_max;
            if has_room {
                known.opening.push_back((peer, now));
            }
            has_room
        })
    }

    /// A circuit stands.
    pub(crate) fn circuit_stands(&self, from: PeerId) {
        self.with(|known| {
            if let Some(at) = known.opening.iter().position(|(peer, _)| *peer == from) {
                known.opening.remove(at);
                known.standing.push(from);
            }
        });
    }

    /// A circuit was not opened.
    pub(crate) fn circuit_refused(&self, from: PeerId) {
        self.with(|known| {
            if let Some(at) = known.opening.iter().position(|(peer, _)| *peer == from) {
                known.opening.remove(at);
            }
        });
    }

    /// A circuit has ended.
    pub(crate) fn circuit_ended(&self, from: PeerId) {
        self.with(|known| {
            if let Some(at) = known.standing.iter().position(|peer| *peer == from) {
                known.standing.swap_remove(at);
            }
        });
    }
}

/// How the relay behaviour is set.
fn config(mode: RelayMode, limits: &Limits, household: &Household) -> Config {
    let mut config = Config {
        max_reservations: limits.relay_reservations,
        // The behaviour lets in one more than it is told, here and below.
        max_reservations_per_peer: limits.relay_reservations_per_peer.saturating_sub(1),
        reservation_duration: RESERVATION_TIME,
        reservation_rate_limiters: Vec::new(),
        max_circuits: limits.relay_circuits,
        max_circuits_per_peer: limits.relay_circuits_per_peer.saturating_sub(1),
        max_circuit_duration: match mode {
            RelayMode::Household => limits.relay_household_time,
            RelayMode::Open => limits.relay_open_time,
        },
        max_circuit_bytes: match mode {
            // 0 is without end.
            RelayMode::Household => 0,
            RelayMode::Open => limits.relay_open_bytes,
        },
        circuit_src_rate_limiters: Vec::new(),
    };
    match mode {
        RelayMode::Household => {
            let known = household.clone();
            let reserves = move |peer: PeerId, _: &Multiaddr, _| known.is_known(&peer);
            config.reservation_rate_limiters.push(boxed(reserves));
            let (known, strangers_max) = (household.clone(), limits.relay_stranger_circuits);
            let opens = move |peer: PeerId, _: &Multiaddr, now| known.let_open(peer, strangers_max, now);
            config.circuit_src_rate_limiters.push(boxed(opens));
        }
        RelayMode::Open => {
            config = config
                .reservation_rate_per_peer(REQUESTS_PER_PEER.0, REQUESTS_PER_PEER.1)
                .reservation_rate_per_ip(REQUESTS_PER_SOURCE.0, REQUESTS_PER_SOURCE.1)
                .circuit_src_per_peer(REQUESTS_PER_PEER.0, REQUESTS_PER_PEER.1)
                .circuit_src_per_ip(REQUESTS_PER_SOURCE.0, REQUESTS_PER_SOURCE.1);
        }
    }
    config
}

fn boxed<F>(rule: F) -> Box<dyn RateLimiter>
where
    F: FnMut(PeerId, &Multiaddr, std::time::Instant) -> bool + Send + 'static,
{
    Box::new(rule)
}

/// The relay behaviour, which here says nothing to connections that themselves come through a relay.
///
/// The library tells every connection when the relay begins or ends to offer itself, and a connection through a relay, at
/// which it listens to nothing, ends by a panic when it is told: whoever had one when he turned out to be public lost it
/// so, and with it a task that nobody misses.
pub(crate) struct Server {
    inner: Behaviour,
    relayed: HashSet<ConnectionId>,
}

/// Makes the relay behaviour. It offers itself to nobody until it is told to.
pub(crate) fn server(id: PeerId, mode: RelayMode, limits: &Limits, household: &Household) -> Server {
    let mut server =
        Server { inner: Behaviour::new(id, config(mode, limits, household)), relayed: HashSet::new() };
    server.offer(false);
    server
}

impl Server {
    /// Begins or ends to offer this node as a relay.
    pub(crate) fn offer(&mut self, offers: bool) {
        self.inner.set_status(Some(if offers { Status::Enable } else { Status::Disable }));
    }

    fn note(&mut self, id: ConnectionId, is_relayed: bool) {
        if is_relayed {
            self.relayed.insert(id);
        }
    }
}

fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == libp2p::multiaddr::Protocol::P2pCircuit)
}

impl NetworkBehaviour for Server {
    type ConnectionHandler = <Behaviour as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.note(id, is_relayed(local));
        self.inner.handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.note(id, is_relayed(address));
        self.inner.handle_established_outbound_connection(id, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match &event {
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. })
            | FromSwarm::DialFailure(DialFailure { connection_id, .. })
            | FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => {
                self.relayed.remove(connection_id);
            }
            _ => {}
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        self.inner.on_connection_handler_event(peer, id, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        loop {
            match self.inner.poll(cx) {
                Poll::Ready(ToSwarm::NotifyHandler { handler: NotifyHandler::One(id), .. })
                    if self.relayed.contains(&id) => {}
                other => return other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures::StreamExt;
    use futures::future::select_all;
    use libp2p::core::Transport;
    use libp2p::core::transport::{MemoryTransport, OrTransport};
    use libp2p::core::upgrade::Version;
    use libp2p::identity::Keypair;
    use libp2p::swarm::{self, Swarm, SwarmEvent};
    use libp2p::{noise, relay, yamux};

    use super::*;
    use crate::tests::kit::within;

    #[derive(NetworkBehaviour)]
    struct Both {
        server: Server,
        client: relay::client::Behaviour,
    }

    fn both() -> Swarm<Both> {
        let key = Keypair::generate_ed25519();
        let id = key.public().to_peer_id();
        let (circuits, client) = relay::client::new(id);
        let transport = OrTransport::new(circuits, MemoryTransport::default())
            .upgrade(Version::V1)
            .authenticate(noise::Config::new(&key).unwrap())
            .multiplex(yamux::Config::default())
            .boxed();
        let server = server(id, RelayMode::Open, &Limits::default(), &Household::default());
        // Connections are worked on by the swarm itself, so that a panic of one ends the test.
        Swarm::new(transport, Both { server, client }, id, swarm::Config::without_executor())
    }

    /// The next thing that happens at any of them, and at which.
    async fn next(swarms: &mut [Swarm<Both>]) -> (usize, SwarmEvent<BothEvent>) {
        let (event, at, _) = select_all(swarms.iter_mut().map(StreamExt::select_next_some)).await;
        (at, event)
    }

    /// Found by the simulation: who had a connection through a relay when he turned out to be public lost it by a panic.
    #[tokio::test]
    async fn who_becomes_a_relay_keeps_his_connections_through_relays() {
        let mut swarms = [both(), both(), both()];
        let [relay, far, near] = [0, 1, 2];
        let at: Multiaddr = "/memory/7100002".parse().unwrap();
        swarms[relay].listen_on(at.clone()).unwrap();
        swarms[relay].add_external_address(at.clone());
        swarms[relay].behaviour_mut().server.offer(true);
        let through = format!("{at}/p2p/{}/p2p-circuit", swarms[relay].local_peer_id());
        swarms[far].listen_on(through.parse().unwrap()).unwrap();
        within("the relay grants it", async {
            loop {
                let heard = next(&mut swarms).await;
                if let (1, SwarmEvent::Behaviour(BothEvent::Client(_))) = heard {
                    return;
                }
            }
        })
        .await;
        let far_id = *swarms[far].local_peer_id();
        swarms[near].dial(format!("{through}/p2p/{far_id}").parse::<Multiaddr>().unwrap()).unwrap();
        let mut ends = 0;
        within("both ends stand", async {
            while ends < 2 {
                let (_, event) = next(&mut swarms).await;
                if let SwarmEvent::ConnectionEstablished { endpoint, .. } = event
                    && endpoint.is_relayed()
                {
                    ends += 1;
                }
            }
        })
        .await;
        for offers in [true, false, true] {
            swarms[near].behaviour_mut().server.offer(offers);
            swarms[far].behaviour_mut().server.offer(offers);
        }
        // Everybody is told before anything else of these happens.
        swarms[near].disconnect_peer_id(far_id).unwrap();
        within("the near end closes", async {
            loop {
                let (at, event) = next(&mut swarms).await;
                if at == near
                    && matches!(event, SwarmEvent::ConnectionClosed { peer_id, .. } if peer_id == far_id)
                {
                    return;
                }
            }
        })
        .await;
        assert!(swarms[near].behaviour().server.relayed.is_empty());
    }

    #[test]
    fn the_numbers_are_those_of_the_limits() {
        let (limits, household) = (Limits::default(), Household::default());
        let read = |mode| {
            let config = config(mode, &limits, &household);
            let rules = (config.reservation_rate_limiters.len(), config.circuit_src_rate_limiters.len());
            (config.max_reservations, config.max_circuit_duration.as_secs(), config.max_circuit_bytes, rules)
        };
        assert_eq!(read(RelayMode::Household), (128, 12 * 3_600, 0, (1, 1)));
        assert_eq!(read(RelayMode::Open), (128, 120, 128 << 20, (2, 2)));
        let both = [RelayMode::Household, RelayMode::Open].map(|mode| config(mode, &limits, &household));
        for config in both {
            assert_eq!((config.max_reservations_per_peer, config.max_circuits_per_peer), (3, 7));
            assert_eq!(config.max_circuits, 256);
        }
    }

    #[test]
    fn strangers_reserve_nothing_and_open_few_circuits() {
        let household = Household::default();
        let limits = Limits { relay_stranger_circuits: 2, ..Limits::default() };
        let mut config = config(RelayMode::Household, &limits, &household);
        let (own, [x, y, z]) = (PeerId::random(), [(); 3].map(|()| PeerId::random()));
        let address = Multiaddr::empty();
        let now = Instant::now();
        let mut reserves =
            |peer| config.reservation_rate_limiters.iter_mut().all(|rule| rule.try_next(peer, &address, now));
        assert!(!reserves(own));
        household.set_sessions(HashSet::from([own]));
        assert!(reserves(own) && !reserves(x));
        let mut opens = |peer, now| {
            config.circuit_src_rate_limiters.iter_mut().all(|rule| rule.try_next(peer, &address, now))
        };
        assert!(opens(x, now) && opens(y, now) && !opens(z, now));
        // Those with a session are not counted.
        assert!(opens(own, now) && opens(own, now));
        household.circuit_stands(own);
        household.circuit_stands(x);
        household.circuit_refused(y);
        assert!(opens(z, now) && !opens(y, now));
        // One that never comes to stand gives its place back.
        assert!(opens(y, now + OPENING_TIME));
        household.circuit_stands(y);
        assert!(!opens(z, now + OPENING_TIME));
        household.circuit_ended(x);
        assert!(opens(z, now + OPENING_TIME));
    }
}
