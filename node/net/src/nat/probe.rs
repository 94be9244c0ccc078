//! The server of address probes (AutoNAT v2): dials whoever asks back at the address that he names, so that he knows
//! whether others reach it.
//!
//! It is there only while this node is public itself. It dials no host but the one that asks, at another port at most,
//! and only so many a minute: nobody aims it at others.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use either::Either;
use libp2p::autonat::v2::server;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};
use rand_chacha::ChaCha20Rng;
use tokio::time::Instant;

use crate::address::{from_multiaddr, ip_of};
use crate::limits::{Limits, Source};

const MINUTE: Duration = Duration::from_secs(60);

/// Why a probe is not made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum NoProbe {
    #[error("the address is not where the asker is")]
    Elsewhere,
    #[error("too many probes")]
    TooMany,
}

/// Which probes are made.
#[derive(Default)]
struct Rule {
    /// Where peers are connected from.
    from: HashMap<ConnectionId, (PeerId, IpAddr)>,
    /// Probes of the last minute.
    made: VecDeque<(Instant, Source)>,
}

impl Rule {
    fn may_probe(
        &mut self,
        peer: &PeerId,
        address: &Multiaddr,
        limits: &Limits,
        now: Instant,
    ) -> Result<(), NoProbe> {
        let ip = from_multiaddr(address).map(|node| node.address.ip.to_canonical());
        let ip = ip.filter(|ip| self.from.values().any(|known| known == &(*peer, *ip)));
        let source = Source::of(ip.ok_or(NoProbe::Elsewhere)?);
        while self.made.front().is_some_and(|(at, _)| now.duration_since(*at) >= MINUTE) {
            self.made.pop_front();
        }
        let of_source = self.made.iter().filter(|(_, known)| *known == source).count();
        if self.made.len() >= limits.probes_per_minute || of_source >= limits.probes_per_source {
            return Err(NoProbe::TooMany);
        }
        self.made.push_back((now, source));
        Ok(())
    }
}

/// The behaviour.
pub(crate) struct Probe {
    inner: server::Behaviour<ChaCha20Rng>,
    is_on: bool,
    limits: Limits,
    rule: Rule,
    /// Dials of the behaviour inside that have not begun.
    dials: Vec<ConnectionId>,
}

impl Probe {
    pub(crate) fn new(rng: ChaCha20Rng, limits: &Limits) -> Self {
        Self {
            inner: server::Behaviour::new(rng),
            is_on: false,
            limits: limits.clone(),
            rule: Rule::default(),
            dials: Vec::new(),
        }
    }

    /// Offers probes on new connections, or no longer.
    pub(crate) fn set_on(&mut self, is_on: bool) {
        self.is_on = is_on;
    }
}

impl NetworkBehaviour for Probe {
    type ConnectionHandler = THandler<server::Behaviour<ChaCha20Rng>>;
    type ToSwarm = server::Event;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        // Through a relay there is no address to dial back to.
        if self.is_on && ip_of(remote).is_some() {
            return self.inner.handle_established_inbound_connection(id, peer, local, remote);
        }
        Ok(Either::Left(Either::Right(dummy::ConnectionHandler)))
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        if let Some(at) = self.dials.iter().position(|dial| *dial == id) {
            self.dials.swap_remove(at);
            let peer = peer.ok_or_else(|| ConnectionDenied::new(NoProbe::Elsewhere))?;
            let now = Instant::now();
            for address in addresses {
                self.rule.may_probe(&peer, address, &self.limits, now).map_err(ConnectionDenied::new)?;
            }
        }
        Ok(Vec::new())
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
        match &event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            }) => {
                if let (false, Some(ip)) = (endpoint.is_relayed(), ip_of(endpoint.get_remote_address())) {
                    self.rule.from.insert(*connection_id, (*peer_id, ip));
                }
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) => {
                self.rule.from.remove(connection_id);
            }
            _ => {}
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        self.inner.on_connection_handler_event(peer, id, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        let polled = self.inner.poll(cx);
        if let Poll::Ready(ToSwarm::Dial { opts }) = &polled {
            self.dials.push(opts.connection_id());
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_goes_back_to_the_asker_alone_and_not_too_often() {
        let limits = Limits { probes_per_minute: 3, probes_per_source: 2, ..Limits::default() };
        let (one, two) = (PeerId::random(), PeerId::random());
        let mut rule = Rule::default();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        rule.from.insert(ConnectionId::new_unchecked(1), (one, ip("203.0.113.1")));
        rule.from.insert(ConnectionId::new_unchecked(2), (two, ip("203.0.113.2")));
        let now = Instant::now();
        let mut may = |peer: &PeerId, text: &str, now| {
            rule.may_probe(peer, &text.parse::<Multiaddr>().unwrap(), &limits, now)
        };
        for elsewhere in ["/ip4/203.0.113.2/tcp/80", "/ip4/192.168.0.1/tcp/80", "/dns4/example.org/tcp/80"] {
            assert_eq!(may(&one, elsewhere, now), Err(NoProbe::Elsewhere), "{elsewhere}");
        }
        let own = "/ip4/203.0.113.1/udp/4001/quic-v1";
        assert_eq!([may(&one, own, now), may(&one, own, now)], [Ok(()), Ok(())]);
        assert_eq!(may(&one, own, now), Err(NoProbe::TooMany));
        let other = "/ip4/203.0.113.2/tcp/4001";
        assert_eq!(may(&two, other, now), Ok(()));
        assert_eq!(may(&two, other, now), Err(NoProbe::TooMany));
        assert_eq!(may(&one, own, now + MINUTE), Ok(()));
    }
}
