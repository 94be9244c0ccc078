//! The swarm's side of the streams: hands wishes to connections and inbound streams to the driver.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::handler::{Handler, Opening};
use crate::protocol::Protocol;

/// An inbound stream.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) connection: ConnectionId,
    pub(crate) protocol: Protocol,
    pub(crate) stream: libp2p::Stream,
}

/// The stream behaviour.
#[derive(Default)]
pub(crate) struct Behaviour {
    queue: VecDeque<ToSwarm<Inbound, Opening>>,
    waker: Option<Waker>,
}

impl Behaviour {
    /// Asks for a stream on a connection; the answer comes over the reply of the wish. If the connection is gone, the
    /// reply is dropped.
    pub(crate) fn open(&mut self, peer_id: PeerId, connection: ConnectionId, opening: Opening) {
        let handler = NotifyHandler::One(connection);
        self.queue.push_back(ToSwarm::NotifyHandler { peer_id, handler, event: opening });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Inbound;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        connection: ConnectionId,
        (protocol, stream): THandlerOutEvent<Self>,
    ) {
        self.queue.push_back(ToSwarm::GenerateEvent(Inbound { connection, protocol, stream }));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Inbound, THandlerInEvent<Self>>> {
        if let Some(event) = self.queue.pop_front() {
            return Poll::Ready(event);
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
