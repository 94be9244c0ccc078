//! The behaviours of the swarm and how each is set: what others can ask of this node at the level of the network.
//!
//! Never here: decisions on what arrives.

use std::num::NonZeroUsize;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::identity::Keypair;
use libp2p::kad::{BucketInserts, Caching, Mode, StoreInserts};
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished, DialFailure, ListenFailure};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandlerInEvent, THandlerOutEvent, ToSwarm,
    dummy,
};
use libp2p::{Multiaddr, PeerId, autonat, dcutr, identify, kad, memory_connection_limits, relay};
use locker_crypto::rendezvous::AGE_MAX_S;
use rand_chacha::ChaCha20Rng;
use rand_core::{CryptoRng, SeedableRng};
use tokio::time::Instant;

use crate::address::{key_of, origin_of};
use crate::config::{Clock, Config};
use crate::connection;
use crate::limits::{Admission, Refused};
use crate::nat::{self, Household, Probe, Screened, Word};
use crate::protocol::{AGENT, KAD};
use crate::rendezvous::RecordShelf;
use crate::stream;

/// Nodes that keep a record, and paths of a look-up that share no node.
const REPLICATION: NonZeroUsize = NonZeroUsize::new(20).expect("20 is not 0");
const PATHS: NonZeroUsize = NonZeroUsize::new(3).expect("3 is not 0");
/// How often the routing table is refreshed, which asks every node in it several times, over a connection of its own: with
/// the 5 minutes of the library that is most of what an idle node sends, 50 to 170 MB a day (`docs/laboratory.md`).
const REFRESH_INTERVAL: Duration = Duration::from_secs(4 * 3_600);
const KAD_PACKET_BYTES: usize = 16_384;
const KAD_STREAM_TIME: Duration = Duration::from_secs(10);

/// How often it is looked whether an address waits to be probed.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);

/// All behaviours.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) gate: Gate,
    memory: memory_connection_limits::Behaviour,
    identify: identify::Behaviour,
    pub(crate) kad: kad::Behaviour<RecordShelf>,
    pub(crate) stream: stream::Behaviour,
    /// What this node is for others, while it is public.
    pub(crate) relay: nat::Server,
    pub(crate) probe: Probe,
    /// What others are for it.
    circuits: Screened<relay::client::Behaviour>,
    punch: Screened<dcutr::Behaviour>,
    pub(crate) prober: Screened<autonat::v2::client::Behaviour<ChaCha20Rng>>,
}

impl Behaviour {
    pub(crate) fn new(
        key: &Keypair,
        config: &Config,
        clock: Clock,
        circuits: relay::client::Behaviour,
        household: &Household,
        dice: &mut dyn CryptoRng,
    ) -> Self {
        let id = key.public().to_peer_id();
        let limits = &config.limits;
        let identify = identify::Config::new(AGENT.to_owned(), key.public())
            .with_agent_version(AGENT.to_owned())
            .with_hide_listen_addrs(true)
            .with_push_listen_addr_updates(false)
            .with_cache_size(0);
        let mut dht = kad::Config::new(KAD);
        dht.set_record_filtering(StoreInserts::FilterBoth)
            .set_kbucket_inserts(BucketInserts::Manual)
            .set_caching(Caching::Disabled)
            .disjoint_query_paths(true)
            .set_parallelism(PATHS)
            .set_replication_factor(REPLICATION)
            .set_query_timeout(limits.query_time)
            .set_max_packet_size(KAD_PACKET_BYTES)
            .set_substreams_timeout(KAD_STREAM_TIME)
            .set_periodic_bootstrap_interval(Some(REFRESH_INTERVAL))
            .set_record_ttl(Some(Duration::from_secs(AGE_MAX_S)))
            // Publishers publish again by themselves; nobody else spreads what he keeps.
            .set_replication_interval(None)
            .set_publication_interval(None)
            .set_provider_publication_interval(None)
            .set_provider_record_ttl(None);
        let mut kad = kad::Behaviour::with_config(id, RecordShelf::new(id, limits, clock), dht);
        // Until the node is public: `Driver::review`.
        kad.set_mode(Some(Mode::Client));
        let observed = limits.observed_per_minute;
        let mut rng = || {
            let mut seed = [0; 32];
            dice.fill_bytes(&mut seed);
            ChaCha20Rng::from_seed(seed)
        };
        let prober = autonat::v2::client::Config::default().with_probe_interval(PROBE_INTERVAL);
        Self {
            gate: Gate { admission: Admission::new(limits.clone()) },
            memory: memory_connection_limits::Behaviour::with_max_bytes(limits.memory_refusal_bytes()),
            identify: identify::Behaviour::new(identify),
            kad,
            stream: stream::Behaviour::default(),
            relay: nat::server(id, config.relay, limits, household),
            probe: Probe::new(rng(), limits),
            circuits: Screened::new(circuits, Word::Kept, observed),
            punch: Screened::new(dcutr::Behaviour::new(id), Word::Final, observed),
            prober: Screened::new(autonat::v2::client::Behaviour::new(rng(), prober), Word::Final, observed),
        }
    }
}

/// The addresses of a connection: our own end, if the other one began it, and the other end.
pub(crate) fn ends(endpoint: &ConnectedPoint) -> (Option<&Multiaddr>, &Multiaddr) {
    match endpoint {
        ConnectedPoint::Dialer { address, .. } => (None, address),
        ConnectedPoint::Listener { local_addr, send_back_addr } => (Some(local_addr), send_back_addr),
    }
}

/// Asks [`Admission`] about every connection. Holds nothing open itself.
pub(crate) struct Gate {
    pub(crate) admission: Admission,
}

impl Gate {
    fn stand(
        &mut self,
        id: ConnectionId,
        peer: &PeerId,
        local: Option<&Multiaddr>,
        remote: &Multiaddr,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        let id = connection::ConnectionId(id);
        // Only ed25519 keys are compiled in; another one could not stand in a transcript.
        let (Some(from), Some(key)) = (origin_of(local, remote), key_of(peer)) else {
            self.admission.forget_pending(id);
            return Err(ConnectionDenied::new(Refused::Peer));
        };
        self.admission.may_stand(id, from, &key).map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = std::convert::Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let from = origin_of(Some(local), remote).ok_or_else(|| ConnectionDenied::new(Refused::Source))?;
        self.admission
            .begin_inbound(connection::ConnectionId(id), from, Instant::now())
            .map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Self::ConnectionHandler, ConnectionDenied> {
        self.stand(id, &peer, Some(local), remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        _: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.admission.begin_outbound(connection::ConnectionId(id)).map_err(ConnectionDenied::new)?;
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Self::ConnectionHandler, ConnectionDenied> {
        self.stand(id, &peer, None, address)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                connection_id,
                endpoint,
                peer_id,
                ..
            }) => {
                let (local, remote) = ends(endpoint);
                if let (Some(from), Some(key)) = (origin_of(local, remote), key_of(&peer_id)) {
                    let id = connection::ConnectionId(connection_id);
                    self.admission.stands(id, from, key, Instant::now());
                }
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) => {
                self.admission.gone(connection::ConnectionId(connection_id));
            }
            FromSwarm::DialFailure(DialFailure { connection_id, .. })
            | FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => {
                self.admission.forget_pending(connection::ConnectionId(connection_id));
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}
