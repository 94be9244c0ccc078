//! A behaviour whose talk about our own addresses is screened.
//!
//! Anybody tells us under which address he sees us, and several behaviours turn that into addresses of ours. Here it is
//! sorted out: what cannot be a public address is not heard, nor more of them than some a minute; and only a probe makes
//! an address ours.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::NewExternalAddrCandidate;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use crate::address::{from_multiaddr, may_be_public};

const MINUTE: Duration = Duration::from_secs(60);
/// Candidates that are heard while the node runs: behaviours below forget none.
const HEARD_MAX: usize = 4_096;

/// What becomes of an address that a behaviour calls ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Word {
    /// It is taken for ours.
    Final,
    /// Nothing: an address through a relay is told in records alone.
    Kept,
}

/// A behaviour behind the screen.
pub(crate) struct Screened<B> {
    pub(crate) inner: B,
    word: Word,
    per_minute: usize,
    heard: VecDeque<Instant>,
    heard_in_all: usize,
    /// Addresses at which we are seen, on their way to all behaviours.
    seen: VecDeque<Multiaddr>,
    waker: Option<Waker>,
}

impl<B> Screened<B> {
    pub(crate) fn new(inner: B, word: Word, per_minute: usize) -> Self {
        let (heard, seen) = (VecDeque::new(), VecDeque::new());
        Self { inner, word, per_minute, heard, heard_in_all: 0, seen, waker: None }
    }

    /// Somebody whom we dialed from the port on which we listen sees us there. The identify behaviour takes such an
    /// address for one of a passing port when a router has changed the port.
    pub(crate) fn note_seen(&mut self, address: Multiaddr) {
        if self.seen.len() < self.per_minute {
            self.seen.push_back(address);
            self.waker.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Whether a candidate is passed on.
    fn hears(&mut self, address: &Multiaddr, now: Instant) -> bool {
        if !from_multiaddr(address).is_some_and(|node| may_be_public(node.address.ip)) {
            return false;
        }
        while self.heard.front().is_some_and(|at| now.duration_since(*at) >= MINUTE) {
            self.heard.pop_front();
        }
        if self.heard.len() >= self.per_minute || self.heard_in_all >= HEARD_MAX {
            return false;
        }
        self.heard.push_back(now);
        self.heard_in_all += 1;
        true
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Screened<B> {
    type ConnectionHandler = B::ConnectionHandler;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner.handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.inner.handle_pending_outbound_connection(id, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_outbound_connection(id, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::NewExternalAddrCandidate(NewExternalAddrCandidate { addr }) = &event
            && !self.hears(addr, Instant::now())
        {
            return;
        }
        // The relay client forgets a reservation when its listener ends, and ends itself, and all with it, when the relay's
        // answer to one that was asked for before comes after that: a matter of chance, and of the relay's will. What is
        // not forgotten until the connection ends harms nobody; without a listener nothing is renewed more than once.
        if self.word == Word::Kept && matches!(event, FromSwarm::ListenerClosed(_)) {
            return;
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        self.inner.on_connection_handler_event(peer, id, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(address) = self.seen.pop_front() {
            return Poll::Ready(ToSwarm::NewExternalAddrCandidate(address));
        }
        loop {
            match (self.inner.poll(cx), self.word) {
                (
                    Poll::Ready(ToSwarm::ExternalAddrConfirmed(_) | ToSwarm::ExternalAddrExpired(_)),
                    Word::Kept,
                ) => {}
                (Poll::Pending, _) => {
                    self.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                (ready, _) => return ready,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use libp2p::core::Transport;
    use libp2p::core::transport::{MemoryTransport, OrTransport};
    use libp2p::core::upgrade::Version;
    use libp2p::identity::Keypair;
    use libp2p::swarm::{Config, Swarm, SwarmEvent, dummy};
    use libp2p::{noise, relay, yamux};

    use super::*;
    use crate::tests::kit::within;

    fn swarm<B: NetworkBehaviour>(
        make: impl FnOnce(PeerId, relay::client::Behaviour) -> B,
    ) -> (Swarm<B>, PeerId) {
        let key = Keypair::generate_ed25519();
        let id = key.public().to_peer_id();
        let (circuits, client) = relay::client::new(id);
        let transport = OrTransport::new(circuits, MemoryTransport::default())
            .upgrade(Version::V1)
            .authenticate(noise::Config::new(&key).unwrap())
            .multiplex(yamux::Config::default())
            .boxed();
        (Swarm::new(transport, make(id, client), id, Config::with_tokio_executor()), id)
    }

    /// Found by the simulation: the library ends the whole swarm by a panic here.
    #[tokio::test]
    async fn a_reservation_that_is_granted_after_it_was_given_up_harms_nobody() {
        let (mut server, server_id) = swarm(|id, _| relay::Behaviour::new(id, relay::Config::default()));
        let (mut client, _) = swarm(|_, client| Screened::new(client, Word::Kept, 9));
        let at: Multiaddr = "/memory/7100001".parse().unwrap();
        server.listen_on(at.clone()).unwrap();
        server.add_external_address(at.clone());
        server.behaviour_mut().set_status(Some(relay::Status::Enable));
        let listener =
            client.listen_on(format!("{at}/p2p/{server_id}/p2p-circuit").parse().unwrap()).unwrap();
        within("the relay is reached", async {
            loop {
                tokio::select! {
                    _ = server.select_next_some() => {}
                    event = client.select_next_some() => {
                        if matches!(event, SwarmEvent::ConnectionEstablished { .. }) {
                            return;
                        }
                    }
                }
            }
        })
        .await;
        // Only the task of the connection goes on here, so that its word waits.
        let granted =
            |event| matches!(event, SwarmEvent::Behaviour(relay::Event::ReservationReqAccepted { .. }));
        within("the relay grants it", async { while !granted(server.select_next_some().await) {} }).await;
        assert!(client.remove_listener(listener));
        let heard = |event| {
            matches!(event, SwarmEvent::Behaviour(relay::client::Event::ReservationReqAccepted { .. }))
        };
        within("it is heard", async { while !heard(client.select_next_some().await) {} }).await;
    }

    #[test]
    fn only_what_may_be_ours_is_heard_and_not_too_much() {
        let mut screened = Screened::new(dummy::Behaviour, Word::Final, 2);
        let now = Instant::now();
        let mut hears = |text: &str, now: Instant| screened.hears(&text.parse::<Multiaddr>().unwrap(), now);
        for junk in [
            "/ip4/192.168.1.2/tcp/4001",
            "/ip4/203.0.113.1/tcp/80/ws",
            "/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN",
            "/dns4/example.org/tcp/4001",
        ] {
            assert!(!hears(junk, now), "{junk}");
        }
        let good = "/ip4/203.0.113.1/udp/4001/quic-v1";
        assert!(hears(good, now) && hears(good, now));
        assert!(!hears(good, now + MINUTE / 2));
        assert!(hears(good, now + MINUTE));
    }
}
