//! Hints: addresses inside a link, and which of them are dialed (`docs/spec/07-links.md`, section 1).
//!
//! A link comes from a stranger, and so a hint must not make the reader's machine knock at doors that the stranger
//! cannot reach himself: services on this machine, the router's or cloud's own, or system ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Refusal;
use crate::layout::take;

/// Most hints of one link.
pub const HINTS_MAX: usize = 3;
/// Length of the longest hint in bytes.
pub(super) const HINT_LEN_MAX: usize = 1 + 16 + 2;

const TAG_V4: u8 = 4;
const TAG_V6: u8 = 6;
const PORT_HTTPS: u16 = 443;
const PORT_SYSTEM_MAX: u16 = 1_023;

/// Addresses under which clouds tell a machine's own secrets and that lie in no reserved range.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16)];
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// Where a node that serves the link may be reached; one port number for QUIC and TCP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hint {
    /// The IP address.
    pub ip: IpAddr,
    /// The port.
    pub port: u16,
}

impl Hint {
    /// Whether a reader may dial the hint although local discovery did not find this address: neither loopback,
    /// link-local, multicast, unspecified, reserved nor cloud metadata, and no system port but 443. Private
    /// networks are dialed: most links are used at home.
    pub fn may_be_dialed(&self) -> bool {
        let port_fits = self.port > PORT_SYSTEM_MAX || self.port == PORT_HTTPS;
        port_fits
            && match self.ip {
                IpAddr::V4(v4) => v4_fits(v4),
                IpAddr::V6(v6) => v6_fits(v6),
            }
    }
}

fn v4_fits(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let reserved = a == 0 // "this network", with the unspecified address
        || a >= 240 // future use, broadcast
        || (a, b, c) == (192, 0, 0) // protocol assignments
        || (a == 198 && (b & 0xfe) == 18); // benchmarks
    !(reserved || ip.is_loopback() || ip.is_link_local() || ip.is_multicast() || METADATA_V4.contains(&ip))
}

/// Outside global unicast (2000::/3) and unique local addresses (fc00::/7) all is reserved, link-local or multicast.
/// Forms that carry an IPv4 address are as good as that one.
fn v6_fits(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    let v4_of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low] => v4_fits(v4_of(high, low)), // mapped
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4_fits(v4_of(high, low)), // NAT64
        [0x2002, high, low, ..] => v4_fits(v4_of(high, low)),            // 6to4
        [0x2001, 0, ..] => false,                                        // Teredo hides an IPv4 address
        [first, ..] => {
            let unicast = first & 0xe000 == 0x2000;
            let local = first & 0xfe00 == 0xfc00;
            (unicast || local) && !METADATA_V6.contains(&ip)
        }
    }
}

/// Writes the count and the hints; the caller has one to three.
pub(super) fn encode(hints: &[Hint], out: &mut Vec<u8>) {
    out.push(u8::try_from(hints.len()).expect("a link has at most three hints"));
    for hint in hints {
        match hint.ip {
            IpAddr::V4(v4) => {
                out.push(TAG_V4);
                out.extend_from_slice(&v4.octets());
            }
            IpAddr::V6(v6) => {
                out.push(TAG_V6);
                out.extend_from_slice(&v6.octets());
            }
        }
        out.extend_from_slice(&hint.port.to_le_bytes());
    }
}

/// Reads the count and the hints, and nothing may follow.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Hint>, Refusal> {
    let (count, mut rest) = bytes.split_first().ok_or(Refusal::Canon)?;
    let count = usize::from(*count);
    if count == 0 {
        return Err(Refusal::Canon);
    }
    if count > HINTS_MAX {
        return Err(Refusal::Limit);
    }
    let mut hints = Vec::with_capacity(count);
    for _ in 0..count {
        let [tag] = take(&mut rest)?;
        let ip = match tag {
            TAG_V4 => IpAddr::V4(Ipv4Addr::from(take::<4>(&mut rest)?)),
            TAG_V6 => IpAddr::V6(Ipv6Addr::from(take::<16>(&mut rest)?)),
            _ => return Err(Refusal::Canon),
        };
        hints.push(Hint { ip, port: u16::from_le_bytes(take(&mut rest)?) });
    }
    if rest.is_empty() { Ok(hints) } else { Err(Refusal::Canon) }
}
