//! Addresses: between ours ([`Address`], [`Relay`]), the texts that people write down, and multiaddrs; which of our own
//! are worth publishing. Never here: names to be resolved.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use libp2p::multiaddr::Protocol as Part;
use libp2p::{Multiaddr, PeerId};
use locker_crypto::Refusal;
use locker_crypto::id::VerifyingKey;
use locker_crypto::rendezvous::{ADDRESSES_MAX, Address, Relay, Transport};

use crate::limits::Origin;

/// The address of a node and, if it is known, its transport key. Its text is a multiaddr:
/// `/ip4/192.0.2.1/udp/4001/quic-v1/p2p/12D3Koo…`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeAddress {
    /// Where.
    pub address: Address,
    /// Under which key; `None` takes whoever answers.
    pub key: Option<VerifyingKey>,
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = to_multiaddr(&self.address);
        if let Some(peer) = self.key.and_then(|key| peer_id(&key)) {
            text.push(Part::P2p(peer));
        }
        text.fmt(f)
    }
}

impl FromStr for NodeAddress {
    type Err = Refusal;

    /// Reads a multiaddr of QUIC or TCP over an IP address.
    ///
    /// # Errors
    /// [`Refusal::Canon`] for any other text.
    fn from_str(text: &str) -> Result<Self, Refusal> {
        let address = text.parse().map_err(|_| Refusal::Canon)?;
        from_multiaddr(&address).ok_or(Refusal::Canon)
    }
}

/// Returns the two addresses of a node that serves QUIC and TCP on one port, as all do.
pub fn both_transports(socket: SocketAddr) -> [Address; 2] {
    [Transport::Quic, Transport::Tcp].map(|transport| Address {
        transport,
        ip: socket.ip().to_canonical(),
        port: socket.port(),
    })
}

pub(crate) fn to_multiaddr(address: &Address) -> Multiaddr {
    let mut out = Multiaddr::empty();
    out.push(match address.ip {
        IpAddr::V4(ip) => Part::Ip4(ip),
        IpAddr::V6(ip) => Part::Ip6(ip),
    });
    match address.transport {
        Transport::Quic => {
            out.push(Part::Udp(address.port));
            out.push(Part::QuicV1);
        }
        Transport::Tcp => out.push(Part::Tcp(address.port)),
    }
    out
}

/// Returns the address under which a node with a reservation listens at a relay, or, with `peer`, under which it is
/// dialed there. `None` if a key is none.
pub(crate) fn circuit(relay: &Relay, peer: Option<&VerifyingKey>) -> Option<Multiaddr> {
    let mut out = to_multiaddr(&relay.address);
    out.push(Part::P2p(peer_id(&relay.transport_key)?));
    out.push(Part::P2pCircuit);
    if let Some(peer) = peer {
        out.push(Part::P2p(peer_id(peer)?));
    }
    Some(out)
}

/// Reads the relay out of an address that leads through one. The address of a connection that came through a relay which
/// was dialed without expecting a key has none.
pub(crate) fn relay_of(address: &Multiaddr) -> Option<NodeAddress> {
    let mut direct = Multiaddr::empty();
    let mut parts = address.iter();
    for part in parts.by_ref() {
        match part {
            Part::P2pCircuit => return from_multiaddr(&direct),
            // Of a relay that was dialed by its key, the key stands there twice.
            part if direct.iter().last().as_ref() == Some(&part) => {}
            part => direct.push(part),
        }
    }
    None
}

/// Returns where a connection comes from. `local` is our own end of one that the other end began: through a relay, only
/// that names the relay.
pub(crate) fn origin_of(local: Option<&Multiaddr>, remote: &Multiaddr) -> Option<Origin> {
    let relay: Option<NodeAddress> = local.into_iter().chain([remote]).find_map(relay_of);
    match relay {
        Some(node) => Some(Origin { ip: node.address.ip.to_canonical(), is_relayed: true }),
        None => ip_of(remote).map(Origin::from),
    }
}

/// Whether an address may be one that others reach from anywhere: not of this host, of a link or of a private network.
pub(crate) fn may_be_public(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !(is_local(ip) || ip.is_unspecified() || ip.is_multicast() || is_broadcast)
}

/// Reads a direct address; `None` for all that we do not speak.
pub(crate) fn from_multiaddr(address: &Multiaddr) -> Option<NodeAddress> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Part::Ip4(ip) => IpAddr::V4(ip),
        Part::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    let (transport, port) = match (parts.next()?, ip) {
        (Part::Udp(port), _) if parts.next()? == Part::QuicV1 => (Transport::Quic, port),
        (Part::Tcp(port), _) => (Transport::Tcp, port),
        _ => return None,
    };
    let key = match parts.next() {
        None => None,
        Some(Part::P2p(peer)) => Some(key_of(&peer)?),
        Some(_) => return None,
    };
    if parts.next().is_some() {
        return None;
    }
    Some(NodeAddress { address: Address { transport, ip, port }, key })
}

/// Returns the IP address with which a multiaddr begins.
pub(crate) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Part::Ip4(ip) => Some(IpAddr::V4(ip)),
        Part::Ip6(ip) => Some(IpAddr::V6(ip).to_canonical()),
        _ => None,
    }
}

/// Returns the raw ed25519 key inside a PeerId; `None` for a key of another kind.
pub(crate) fn key_of(peer: &PeerId) -> Option<VerifyingKey> {
    let key = libp2p::identity::PublicKey::try_decode_protobuf(peer.as_ref().digest()).ok()?;
    Some(VerifyingKey(key.try_into_ed25519().ok()?.to_bytes()))
}

/// Returns the PeerId of a transport key; `None` if the bytes are no key.
pub(crate) fn peer_id(key: &VerifyingKey) -> Option<PeerId> {
    let key = libp2p::identity::ed25519::PublicKey::try_from_bytes(key.as_bytes()).ok()?;
    Some(libp2p::identity::PublicKey::from(key).to_peer_id())
}

/// Whether an address can only be on this device or its local network: no router passes it on.
pub(crate) fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Chooses what goes into a record: first what is known to be reachable, then what we listen on, public before
/// private, QUIC and TCP of one place together. Loopback only if there is nothing else.
pub(crate) fn publishable(external: &[Address], listening: &[Address]) -> Vec<Address> {
    let rank = |address: &Address| match address.ip {
        ip if ip.is_loopback() => 3,
        ip => u8::from(is_local(ip)),
    };
    // A link-local address means nothing without the interface on which it lies.
    let usable = |address: &&Address| match address.ip {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_unicast_link_local(),
    };
    let mut ours: Vec<Address> = listening.iter().filter(usable).copied().collect();
    if ours.iter().any(|address| !address.ip.is_loopback()) || !external.is_empty() {
        ours.retain(|address| !address.ip.is_loopback());
    }
    ours.sort_by_key(|address| (rank(address), address.ip, address.transport == Transport::Tcp));
    let mut out: Vec<Address> = external.to_vec();
    out.extend(ours);
    let mut chosen = Vec::with_capacity(ADDRESSES_MAX);
    for address in out {
        if !chosen.contains(&address) && chosen.len() < ADDRESSES_MAX {
            chosen.push(address);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(transport: Transport, ip: &str, port: u16) -> Address {
        Address { transport, ip: ip.parse().unwrap(), port }
    }

    #[test]
    fn addresses_are_read_as_they_are_written() {
        let key = locker_crypto::sign::Signing::from_seed(&locker_crypto::secret::SigningSeed::new([7; 32]));
        let key = key.verifying_key();
        assert_eq!(key_of(&peer_id(&key).unwrap()), Some(key));
        for (ip, transport) in [
            ("192.0.2.1", Transport::Quic),
            ("192.0.2.1", Transport::Tcp),
            ("2001:db8::1", Transport::Quic),
            ("2001:db8::1", Transport::Tcp),
        ] {
            for key in [None, Some(key)] {
                let ours = NodeAddress { address: address(transport, ip, 4_001), key };
                assert_eq!(ours.to_string().parse(), Ok(ours), "{ours}");
            }
        }
        for text in [
            "",
            "192.0.2.1:4001",
            "/ip4/192.0.2.1",
            "/ip4/192.0.2.1/udp/4001",
            "/ip4/192.0.2.1/udp/4001/quic",
            "/ip4/192.0.2.1/tcp/4001/ws",
            "/dns4/example.org/tcp/4001",
            "/ip4/192.0.2.1/tcp/4001/p2p-circuit",
        ] {
            assert_eq!(text.parse::<NodeAddress>(), Err(Refusal::Canon), "{text}");
        }
    }

    #[test]
    fn the_way_through_a_relay_names_it() {
        let key = |n| {
            let seed = locker_crypto::secret::SigningSeed::new([n; 32]);
            locker_crypto::sign::Signing::from_seed(&seed).verifying_key()
        };
        let relay = Relay { address: address(Transport::Quic, "203.0.113.9", 9), transport_key: key(1) };
        let node = NodeAddress { address: relay.address, key: Some(relay.transport_key) };
        let listened = circuit(&relay, None).unwrap();
        let dialed = circuit(&relay, Some(&key(2))).unwrap();
        for text in [&listened, &dialed] {
            assert_eq!(relay_of(text), Some(node), "{text}");
            assert_eq!(from_multiaddr(text), None, "{text}");
        }
        let mut by_key = to_multiaddr(&relay.address);
        let part = Part::P2p(peer_id(&key(1)).unwrap());
        [part.clone(), part, Part::P2pCircuit].into_iter().for_each(|part| by_key.push(part));
        assert_eq!(relay_of(&by_key), Some(node));
        let mut by_address = to_multiaddr(&relay.address);
        by_address.push(Part::P2pCircuit);
        assert_eq!(relay_of(&by_address), Some(NodeAddress { key: None, ..node }));
        let behind = Multiaddr::empty().with(Part::P2p(peer_id(&key(2)).unwrap()));
        let relayed = Origin { ip: relay.address.ip, is_relayed: true };
        assert_eq!(origin_of(Some(&listened), &behind), Some(relayed));
        assert_eq!(origin_of(None, &dialed), Some(relayed));
        let direct = to_multiaddr(&relay.address);
        assert_eq!(origin_of(Some(&direct), &direct), Some(Origin::from(relay.address.ip)));
        assert_eq!(origin_of(Some(&direct), &behind), None);
        assert_ne!(relayed.source(), Origin::from(relay.address.ip).source());
        assert_ne!(relayed.network(), Origin::from(relay.address.ip).network());
    }

    #[test]
    fn what_lies_within_a_network_is_not_public() {
        for (text, expected) in [
            ("203.0.113.7", true),
            ("2001:db8::7", true),
            ("192.168.1.2", false),
            ("10.0.0.1", false),
            ("169.254.1.1", false),
            ("127.0.0.1", false),
            ("::ffff:192.168.1.2", false),
            ("fd00::1", false),
            ("fe80::1", false),
            ("239.1.1.1", false),
            ("::", false),
        ] {
            assert_eq!(may_be_public(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn a_record_names_what_others_can_reach() {
        let both =
            |ip: &str| [Transport::Quic, Transport::Tcp].map(|transport| address(transport, ip, 9)).to_vec();
        let listening =
            [both("127.0.0.1"), both("192.168.1.2"), both("fe80::1"), both("2001:db8::5")].concat();
        let expected = [both("2001:db8::5"), both("192.168.1.2")].concat();
        assert_eq!(publishable(&[], &listening), expected);
        assert_eq!(publishable(&[], &both("127.0.0.1")), both("127.0.0.1"));
        let external = both("203.0.113.7");
        assert_eq!(publishable(&external, &both("127.0.0.1")), external);
        let many: Vec<Address> = (0..9).map(|n| address(Transport::Tcp, "203.0.113.7", n)).collect();
        assert_eq!(publishable(&many, &listening), many[..ADDRESSES_MAX]);
    }
}
