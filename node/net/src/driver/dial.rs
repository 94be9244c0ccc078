//! Dialing, connections that stand or go, and opening streams on them.

use std::net::SocketAddr;

use libp2p::PeerId;
use libp2p::core::ConnectedPoint;
use libp2p::swarm;
use libp2p::swarm::dial_opts::DialOpts;
use locker_crypto::rendezvous::Address;
use tokio::sync::oneshot;

use super::{Driver, Link, Which};
use crate::address::{from_multiaddr, key_of, to_multiaddr};
use crate::connection::{Connection, ConnectionId, Side};
use crate::event::Event;
use crate::handle::{DialError, OpenError};
use crate::metrics;
use crate::protocol::Protocol;
use crate::stream::{Opening, Stream};

impl Driver {
    /// Dials whoever is at an address.
    pub(super) fn dial(&mut self, address: &Address, reply: oneshot::Sender<Result<Connection, DialError>>) {
        // TCP from our port to itself would not even be refused by the key.
        if self.listening.borrow().contains(address) {
            let _ = reply.send(Err(DialError::Own));
            return;
        }
        let options = DialOpts::unknown_peer_id().address(to_multiaddr(address)).build();
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => drop(self.dials.insert(id, reply)),
            Err(error) => drop(reply.send(Err(dial_error(&error)))),
        }
    }

    pub(super) fn on_dial_failed(&mut self, id: swarm::ConnectionId, error: &swarm::DialError) {
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
        // The gate lets in nothing else; relayed connections will be told apart here.
        let (Some(peer), Some(node)) = (key_of(&peer_id), from_multiaddr(endpoint.get_remote_address()))
        else {
            self.swarm.close_connection(id);
            return;
        };
        let connection = Connection {
            id: ConnectionId(id),
            peer,
            remote: SocketAddr::new(node.address.ip.to_canonical(), node.address.port),
            transport: node.address.transport,
            side: if endpoint.is_dialer() { Side::Dialer } else { Side::Listener },
        };
        let mut told = false;
        if let Some(reply) = dialed {
            told = reply.send(Ok(connection.clone())).is_ok();
            if !told {
                // Another address was faster, or nobody waits any more.
                self.swarm.close_connection(id);
            }
        }
        self.links.insert(connection.id, Link { connection, peer_id, told });
        metrics::set(&self.metrics.connections, self.links.len());
        if let Some(surplus) = self.swarm.behaviour().gate.admission.surplus() {
            metrics::count(&self.metrics.connections_refused);
            self.swarm.close_connection(surplus.0);
        }
    }

    pub(super) fn on_closed(&mut self, id: ConnectionId) {
        if self.links.remove(&id).is_some_and(|link| link.told) {
            self.outbox.push_back(Event::Closed { connection: id });
        }
        metrics::set(&self.metrics.connections, self.links.len());
    }

    pub(super) fn open(
        &mut self,
        which: Which,
        protocol: Protocol,
        reply: oneshot::Sender<Result<Stream, OpenError>>,
    ) {
        let link = match which {
            Which::Connection(id) => self.links.get(&id),
            Which::Peer(key) => self.links.values().find(|link| link.connection.peer == key),
        };
        let Some(link) = link else {
            let _ = reply.send(Err(OpenError::NotConnected));
            return;
        };
        let (id, peer_id) = (link.connection.id, link.peer_id);
        self.swarm.behaviour_mut().stream.open(peer_id, id.0, Opening { connection: id, protocol, reply });
    }
}

fn dial_error(error: &swarm::DialError) -> DialError {
    match error {
        swarm::DialError::LocalPeerId { .. } => DialError::Own,
        swarm::DialError::Denied { .. } => DialError::Limit,
        _ => DialError::Unreachable,
    }
}
