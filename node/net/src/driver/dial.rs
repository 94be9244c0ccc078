//! Dialing, connections that stand or go, and opening streams on them.

use std::net::SocketAddr;

use libp2p::PeerId;
use libp2p::core::ConnectedPoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use locker_crypto::id::VerifyingKey;
use locker_crypto::rendezvous::Address;
use tokio::sync::oneshot;

use super::{Driver, Link, Way, Which};
use crate::address::{circuit, from_multiaddr, key_of, peer_id, relay_of, to_multiaddr};
use crate::behaviour::ends;
use crate::connection::{Connection, ConnectionId, Side};
use crate::event::Event;
use crate::handle::{DialError, OpenError};
use crate::metrics;
use crate::protocol::Protocol;
use crate::stream::{Opening, Stream};

impl Driver {
    /// Dials whoever is at an address, or one behind a relay.
    pub(super) fn dial(&mut self, way: Way, reply: oneshot::Sender<Result<Connection, DialError>>) {
        let options = match way {
            // TCP from our port to itself would not even be refused by the key.
            Way::Direct(address) if self.listening.borrow().contains(&address) => {
                let _ = reply.send(Err(DialError::Own));
                return;
            }
            Way::Direct(address) => DialOpts::unknown_peer_id().address(to_multiaddr(&address)).build(),
            Way::Through(relay, peer) => {
                let (Some(address), Some(peer)) = (circuit(&relay, Some(&peer)), peer_id(&peer)) else {
                    let _ = reply.send(Err(DialError::Unreachable));
                    return;
                };
                DialOpts::peer_id(peer).addresses(vec![address]).condition(PeerCondition::Always).build()
            }
        };
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => drop(self.dials.insert(id, reply)),
            Err(error) => drop(reply.send(Err(dial_error(&error)))),
        }
    }

    pub(super) fn on_dial_failed(&mut self, id: swarm::ConnectionId, error: &swarm::DialError) {
        self.nat.entry_dials.remove(&id);
        if let Some(reply) = self.dials.remove(&id) {
            let _ = reply.send(Err(dial_error(error)));
        }
    }

    pub(super) fn on_established(
        &mut self,
        peer_id: PeerId,
        id: swarm::ConnectionId,
        endpoint: &ConnectedPoint,
    ) {
        let dialed = self.dials.remove(&id);
        let (local, remote) = ends(endpoint);
        let relay = local.into_iter().chain([remote]).find_map(relay_of);
        let address = relay.or_else(|| from_multiaddr(remote)).map(|node| node.address);
        // The gate lets in nothing else.
        let (Some(peer), Some(address)) = (key_of(&peer_id), address) else {
            self.swarm.close_connection(id);
            return;
        };
        let connection = Connection {
            id: ConnectionId(id),
            peer,
            remote: SocketAddr::new(address.ip.to_canonical(), address.port),
            transport: address.transport,
            side: if endpoint.is_dialer() { Side::Dialer } else { Side::Listener },
            relay: relay.and_then(|relay| relay.key.or_else(|| self.key_at(&relay.address))),
        };
        if relay.is_some() && connection.relay.is_none() {
            self.swarm.close_connection(id);
            return;
        }
        if self.nat.entry_dials.remove(&id) {
            self.nat.note_entry(peer, address);
        }
        let is_better = !connection.is_relayed()
            && self
                .links
                .values()
                .any(|link| link.told && link.connection.peer == peer && link.connection.is_relayed());
        let mut told = false;
        if let Some(reply) = dialed {
            told = reply.send(Ok(connection.clone())).is_ok();
            if !told && !is_better {
                // Another address was faster, or nobody waits any more.
                self.swarm.close_connection(id);
            }
        }
        if is_better && !told {
            // A direct way beside the one through a relay, punched or late.
            self.outbox.push_back(Event::Direct { connection: connection.clone() });
        }
        let reuses_port = matches!(endpoint, ConnectedPoint::Dialer { port_use: PortUse::Reuse, .. });
        let link = Link { connection, peer_id, told, session: false, reuses_port, relay: None };
        self.links.insert(link.connection.id, link);
        metrics::set(&self.metrics.connections, self.links.len());
        if let Some(surplus) = self.swarm.behaviour().gate.admission.surplus() {
            metrics::count(&self.metrics.connections_refused);
            self.swarm.close_connection(surplus.0);
        }
    }

    /// The transport key of whoever is connected from an address.
    fn key_at(&self, address: &Address) -> Option<VerifyingKey> {
        let remote = SocketAddr::new(address.ip.to_canonical(), address.port);
        let at = |one: &&Connection| {
            !one.is_relayed() && one.remote == remote && one.transport == address.transport
        };
        self.links.values().map(|link| &link.connection).find(at).map(|one| one.peer)
    }

    pub(super) fn on_closed(&mut self, id: ConnectionId, is_broken: bool) {
        let gone = self.links.remove(&id);
        metrics::set(&self.metrics.connections, self.links.len());
        let Some(link) = gone else { return };
        if link.told {
            self.outbox.push_back(Event::Closed { connection: id });
        }
        if link.session && is_broken {
            self.ask_where_seen();
        }
        if link.session || link.relay.is_some() {
            self.review();
        }
    }

    pub(super) fn open(
        &mut self,
        which: Which,
        protocol: Protocol,
        reply: oneshot::Sender<Result<Stream, OpenError>>,
    ) {
        let link = match which {
            Which::Connection(id) => self.links.get(&id),
            // The oldest of the direct ones, else of the relayed ones.
            Which::Peer(key) => {
                let of_peer = self.links.values().filter(|link| link.connection.peer == key);
                of_peer.min_by_key(|link| link.connection.is_relayed())
            }
        };
        let Some(link) = link else {
            let _ = reply.send(Err(OpenError::NotConnected));
            return;
        };
        let (connection, peer_id, is_near) = (link.connection.id, link.peer_id, link.connection.is_near());
        let opening = Opening { connection, is_near, protocol, reply };
        self.swarm.behaviour_mut().stream.open(peer_id, connection.0, opening);
    }
}

fn dial_error(error: &swarm::DialError) -> DialError {
    match error {
        swarm::DialError::LocalPeerId { .. } => DialError::Own,
        swarm::DialError::Denied { .. } => DialError::Limit,
        _ => DialError::Unreachable,
    }
}
