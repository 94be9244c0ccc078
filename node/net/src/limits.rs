//! Every number that bounds what others can make this node do (design: limits). All are fields, so that tests on
//! loopback, where every node has one address, can set them; a test reads the defaults back.

mod admission;
mod tries;

pub(crate) use admission::{Admission, Refused, count, subtract};
pub(crate) use tries::Tries;

use std::net::IpAddr;
use std::time::Duration;

/// How long after the end of a refused frame the refusal goes out. Not a field: it is the same for all nodes, so that
/// it tells none from another.
pub const REFUSAL_DELAY: Duration = Duration::from_millis(50);

const MIB: u64 = 1_048_576;

/// The limits of one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Connections with an open stream of ours but without session, in all. Default 64.
    pub knocking: usize,
    /// The same of one source, /32 or /56. Default 16.
    pub knocking_per_source: usize,
    /// Failed handshakes of one source in a minute, after which its new connections wait. Default 40.
    pub failures_per_minute: u32,
    /// How long they wait at first; doubles with each further time. Default 60 s.
    pub failure_wait: Duration,
    /// The longest wait. Default 10 minutes.
    pub failure_wait_max: Duration,
    /// Tries to pair of one source in a minute that do not pass message 1; further ones are refused unheard. Default 5.
    pub pairing_failures_per_minute: u32,

    /// Established connections in all. Default 512.
    pub connections: usize,
    /// The same of one source, /32 or /56. Default 32.
    pub connections_per_source: usize,
    /// The same of one network, /24 or /48. Default 128.
    pub connections_per_network: usize,
    /// How many of the connections only known sources may take. Default 64.
    pub session_places: usize,
    /// Connections with one transport key. Default 4.
    pub connections_per_peer: usize,
    /// Inbound connections under negotiation. Default 64.
    pub pending_inbound: usize,
    /// Further ones that only known sources may have under negotiation. Default 16.
    pub pending_known: usize,
    /// Outbound connections under negotiation. Default 64.
    pub pending_outbound: usize,
    /// Time to negotiate a connection. Default 10 s.
    pub negotiation_time: Duration,
    /// How long a connection without streams is kept. Default 60 s.
    pub idle_time: Duration,
    /// Memory of the process in bytes. New connections are refused above 80 % of it; below 1 GiB the QUIC windows
    /// shrink ([`Limits::quic_windows`]). Default 1 GiB.
    pub memory_bytes: u64,
    /// Streams of one connection at a time, with either transport. Default 64.
    pub streams_per_connection: usize,
    /// Inbound streams of one connection under negotiation. Default 32.
    pub negotiating_streams: usize,

    /// Events that wait for the engine before inbound streams are reset. Default 256.
    pub inbound_queue: usize,
    /// Longest frame after the session stands, except those of sync that carry objects. Default 65,536.
    pub frame_bytes: u32,
    /// Ranges in one request for a pack. Default 256.
    pub ranges_per_get: usize,
    /// Bytes of the request inside the frame that asks for a pack. Default 16,384.
    pub get_request_bytes: usize,
    /// Bytes of a pack that this node asks for in one request: what is sent again after a break is less than that for
    /// each stream. Default 512 KiB.
    pub get_bytes: u32,

    /// DHT records kept; beyond it the farthest by XOR goes. Default 8,192; 65,536 with [`Limits::bootstrap`].
    pub records: usize,
    /// Records of one source, /32 or /56. Default 256.
    pub records_per_source: usize,
    /// Records of one network, /24 or /48. Default 1,024.
    pub records_per_network: usize,
    /// Nodes of one network in one bucket of the routing table. Default 2.
    pub routing_per_network_and_bucket: usize,
    /// Nodes of one network in the whole routing table. Default 8.
    pub routing_per_network: usize,
    /// DHT queries of ours at a time; others wait. Default 16.
    pub queries: usize,
    /// Time for one DHT query. Default 30 s.
    pub query_time: Duration,

    /// Reservations that others may have at this relay. Default 128.
    pub relay_reservations: usize,
    /// The same of one transport key. Default 4.
    pub relay_reservations_per_peer: usize,
    /// Circuits through this relay at a time. Default 256.
    pub relay_circuits: usize,
    /// The same from one transport key. Default 8.
    pub relay_circuits_per_peer: usize,
    /// Mode household: circuits at a time from those without a session. Default 16.
    pub relay_stranger_circuits: usize,
    /// Mode household: how long a circuit lasts; its bytes are not counted. Default 12 h.
    pub relay_household_time: Duration,
    /// Mode open: how long a circuit lasts. Default 2 minutes.
    pub relay_open_time: Duration,
    /// Mode open: bytes through a circuit, each way. Default 128 MiB.
    pub relay_open_bytes: u64,
    /// Relays at which this node reserves. Default 2, which is what a record has room for.
    pub relays: usize,
    /// How long it is waited, with a relay at hand, whether this node turns out to be public. Default 3 s.
    pub relay_grace: Duration,
    /// Addresses of others that are probed on their behalf, in a minute. Default 64.
    pub probes_per_minute: usize,
    /// The same of one source. Default 8.
    pub probes_per_source: usize,
    /// Own addresses that others say they see, in a minute; further ones are not looked at. Default 32.
    pub observed_per_minute: usize,

    /// Addresses that one call of dial tries. Default 16.
    pub dial_addresses: usize,
    /// How much later the other transport is tried. Default 300 ms.
    pub dial_stagger: Duration,
    /// How much later a way through a relay is tried. Default 500 ms.
    pub dial_relay_stagger: Duration,
    /// Time for one call of dial. Default 15 s.
    pub dial_time: Duration,
    /// Beacons that are told of, in a minute; one per id. Default 16.
    pub beacons_per_minute: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            knocking: 64,
            knocking_per_source: 16,
            failures_per_minute: 40,
            failure_wait: Duration::from_secs(60),
            failure_wait_max: Duration::from_secs(600),
            pairing_failures_per_minute: 5,
            connections: 512,
            connections_per_source: 32,
            connections_per_network: 128,
            session_places: 64,
            connections_per_peer: 4,
            pending_inbound: 64,
            pending_known: 16,
            pending_outbound: 64,
            negotiation_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(60),
            memory_bytes: 1_024 * MIB,
            streams_per_connection: 64,
            negotiating_streams: 32,
            inbound_queue: 256,
            frame_bytes: 65_536,
            ranges_per_get: 256,
            get_request_bytes: 16_384,
            get_bytes: 524_288,
            records: 8_192,
            records_per_source: 256,
            records_per_network: 1_024,
            routing_per_network_and_bucket: 2,
            routing_per_network: 8,
            queries: 16,
            query_time: Duration::from_secs(30),
            relay_reservations: 128,
            relay_reservations_per_peer: 4,
            relay_circuits: 256,
            relay_circuits_per_peer: 8,
            relay_stranger_circuits: 16,
            relay_household_time: Duration::from_secs(12 * 3_600),
            relay_open_time: Duration::from_secs(120),
            relay_open_bytes: 128 * MIB,
            relays: 2,
            relay_grace: Duration::from_secs(3),
            probes_per_minute: 64,
            probes_per_source: 8,
            observed_per_minute: 32,
            dial_addresses: 16,
            dial_stagger: Duration::from_millis(300),
            dial_relay_stagger: Duration::from_millis(500),
            dial_time: Duration::from_secs(15),
            beacons_per_minute: 16,
        }
    }
}

impl Limits {
    /// Returns the limits of a node that is there for the DHT of others.
    pub fn bootstrap() -> Self {
        Self { records: 65_536, ..Self::default() }
    }

    /// Returns the QUIC receive windows in bytes, of a stream and of a connection: 10 and 15 MiB, or 1 and 2 MiB for
    /// a node that has less than 1 GiB of memory.
    pub fn quic_windows(&self) -> (u32, u32) {
        if self.memory_bytes < 1_024 * MIB { (1_048_576, 2_097_152) } else { (10_485_760, 15_728_640) }
    }

    /// Returns the memory of the process in bytes above which new connections are refused.
    pub fn memory_refusal_bytes(&self) -> usize {
        usize::try_from(self.memory_bytes / 5 * 4).unwrap_or(usize::MAX)
    }
}

/// Where somebody comes from, as far as limits per source tell: a /32 of IPv4 or a /56 of IPv6; behind a relay, that of
/// the relay, as a place of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Source {
    prefix: [u8; 7],
    is_relayed: bool,
}

/// The network around a source: a /24 of IPv4 or a /48 of IPv6.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Network {
    prefix: [u8; 6],
    is_relayed: bool,
}

/// The address that a connection shows: that of the other end, or of the relay between.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Origin {
    pub(crate) ip: IpAddr,
    pub(crate) is_relayed: bool,
}

impl From<IpAddr> for Origin {
    /// Somebody who comes directly.
    fn from(ip: IpAddr) -> Self {
        Self { ip, is_relayed: false }
    }
}

impl Origin {
    pub(crate) fn source(self) -> Source {
        Source { is_relayed: self.is_relayed, ..Source::of(self.ip) }
    }

    pub(crate) fn network(self) -> Network {
        Network { is_relayed: self.is_relayed, ..Network::of(self.ip) }
    }
}

impl Source {
    /// Returns the source of an address. An IPv4 address inside IPv6 counts as what it is.
    pub fn of(ip: IpAddr) -> Self {
        let prefix = match ip.to_canonical() {
            // IPv6 prefixes in use begin with 2 or f; 0 keeps the families apart.
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                [0, 0, 4, a, b, c, d]
            }
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, g, ..] = v6.octets();
                [a, b, c, d, e, f, g]
            }
        };
        Self { prefix, is_relayed: false }
    }
}

impl Network {
    /// Returns the network of an address.
    pub(crate) fn of(ip: IpAddr) -> Self {
        let prefix = match ip.to_canonical() {
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                [0, 0, 4, a, b, c]
            }
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, ..] = v6.octets();
                [a, b, c, d, e, f]
            }
        };
        Self { prefix, is_relayed: false }
    }
}

#[cfg(test)]
mod tests;
