//! Where a node stands: the default gateway of IPv4, and its own private address on the same link. The table of the system
//! is read, nobody is asked. On a system without such a table there is no place, and so no router is asked.

use std::net::{IpAddr, Ipv4Addr};

/// A node behind a router.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// The default gateway.
    pub(crate) gateway: Ipv4Addr,
    /// Our own address on its link.
    pub(crate) own: Ipv4Addr,
}

/// A gateway and the interface that leads to it.
#[derive(PartialEq, Eq, Debug)]
struct Route {
    interface: String,
    gateway: Ipv4Addr,
    metric: u32,
}

/// Where the system says we are now.
pub(crate) fn place_of_system() -> Option<Place> {
    let route = default_route(&routes_of_system()?)?;
    let found = if_addrs::get_if_addrs().ok()?;
    let of_route = found.into_iter().filter(|interface| interface.name == route.interface);
    let own = of_route.filter_map(|interface| match interface.addr {
        if_addrs::IfAddr::V4(address) => Some((address.ip, address.netmask)),
        if_addrs::IfAddr::V6(_) => None,
    });
    choose(route.gateway, own)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn routes_of_system() -> Option<String> {
    use std::io::Read;

    /// The default routes come first; what lies beyond is of no interest.
    const TABLE_BYTES_MAX: u64 = 65_536;
    let mut text = String::new();
    let table = std::fs::File::open("/proc/net/route").ok()?;
    table.take(TABLE_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn routes_of_system() -> Option<String> {
    None
}

/// Reads the default route that counts out of the kernel's table: the one of the least metric that leads to a gateway.
fn default_route(table: &str) -> Option<Route> {
    const UP_AND_BY_GATEWAY: u32 = 1 | 2;
    const REJECTED: u32 = 0x200;
    let read = |line: &str| {
        let mut fields = line.split_whitespace();
        let interface = fields.next()?.to_owned();
        let mut hex = || u32::from_str_radix(fields.next()?, 16).ok();
        let (target, gateway, flags) = (hex()?, hex()?, hex()?);
        let metric = fields.nth(2)?.parse().ok()?;
        let mask = u32::from_str_radix(fields.next()?, 16).ok()?;
        let leads_out = target == 0 && mask == 0 && gateway != 0;
        let is_taken = flags & UP_AND_BY_GATEWAY == UP_AND_BY_GATEWAY && flags & REJECTED == 0;
        // The bytes of an address stand there as a number of the machine.
        let gateway =
            Ipv4Addr::from(if cfg!(target_endian = "big") { gateway } else { gateway.swap_bytes() });
        (leads_out && is_taken).then_some(Route { interface, gateway, metric })
    };
    table.lines().skip(1).filter_map(read).min_by_key(|route| route.metric)
}

/// Chooses our own address, private and on the gateway's link.
fn choose(gateway: Ipv4Addr, own: impl Iterator<Item = (Ipv4Addr, Ipv4Addr)>) -> Option<Place> {
    let on_link = |(ip, mask): &(Ipv4Addr, Ipv4Addr)| ip & mask == gateway & mask && !mask.is_unspecified();
    let mut fitting =
        own.filter(on_link).filter(|(ip, _)| *ip != gateway && (ip.is_private() || is_shared(*ip)));
    fitting.next().map(|(own, _)| Place { gateway, own })
}

/// Whether an address is of the network that providers share among their customers (RFC 6598).
fn is_shared(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    a == 100 && b & 0xc0 == 64
}

/// Whether others may reach a router at an address that it calls its own outside. Behind a second router it is none.
pub(super) fn is_public(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let is_reserved = a == 0 || a >= 240 || (a, b, c) == (192, 0, 0) || (a == 198 && b & 0xfe == 18);
    crate::address::may_be_public(IpAddr::V4(ip)) && !is_shared(ip) && !is_reserved
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
        wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
        eth0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
        tun0\t00000000\t00000000\t0001\t0\t0\t50\t00000000\t0\t0\t0\n\
        eth0\t0002A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n\
        eth1\t00000000\t0103A8C0\t0203\t0\t0\t1\t00000000\t0\t0\t0\n";

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn the_default_route_of_the_least_metric_counts() {
        let route = default_route(TABLE).unwrap();
        assert_eq!(route, Route { interface: "eth0".into(), gateway: ip("192.168.2.1"), metric: 100 });
    }

    #[test]
    fn no_table_panics() {
        assert_eq!(default_route(""), None);
        for cut in 0..TABLE.len() {
            let _ = default_route(&TABLE[..cut]);
            let _ = default_route(&TABLE[cut..]);
        }
        assert_eq!(default_route("x\neth0 0 zz 3 0 0 1 0\n\u{e9} \u{e9}\n"), None);
    }

    #[test]
    fn our_own_address_is_private_and_on_the_link_of_the_gateway() {
        let gateway = ip("192.168.1.1");
        let of = |own: &[(&str, &str)]| {
            choose(gateway, own.iter().map(|(address, mask)| (ip(address), ip(mask)))).map(|place| place.own)
        };
        let wide = "255.255.255.0";
        assert_eq!(of(&[("10.0.0.2", wide), ("192.168.1.7", wide)]), Some(ip("192.168.1.7")));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("192.168.1.1", wide)]), None);
        assert_eq!(of(&[("10.0.0.2", "0.0.0.0")]), None);
        let own = (ip("203.0.113.2"), ip(wide));
        assert_eq!(choose(ip("203.0.113.1"), [own].into_iter()), None);
        let own = (ip("100.64.0.2"), ip(wide));
        assert!(choose(ip("100.64.0.1"), [own].into_iter()).is_some());
    }

    #[test]
    fn an_address_behind_a_second_router_is_not_public() {
        for (text, expected) in [
            ("203.0.113.7", true),
            ("100.63.255.255", true),
            ("100.64.0.1", false),
            ("100.127.255.255", false),
            ("100.128.0.0", true),
            ("192.168.0.2", false),
            ("10.0.0.2", false),
            ("172.16.0.2", false),
            ("169.254.0.2", false),
            ("127.0.0.1", false),
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("192.0.0.2", false),
            ("198.19.0.1", false),
            ("224.0.0.1", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
        ] {
            assert_eq!(is_public(ip(text)), expected, "{text}");
        }
    }
}
