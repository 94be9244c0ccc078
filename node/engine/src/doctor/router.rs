//! What the router in front of this device does for it, in words.

use std::net::SocketAddr;
use std::time::Duration;

use locker_crypto::rendezvous::Transport;
use locker_net::{MappedPort, PortMapping};

/// Says whether the router passes a port on, and why it does not; nothing where there is none to be asked.
pub(super) fn words(router: &PortMapping) -> Option<String> {
    match router {
        PortMapping::NoRouter => None,
        PortMapping::Off => Some(
            "Its router is not asked to pass a port on: that is switched off by `--no-port-mapping`, or by `port_mapping = \
             false` in `config.toml`."
                .into(),
        ),
        PortMapping::Asking => Some("Its router has been asked to pass a port on, and has not answered yet.".into()),
        PortMapping::Silent => Some(
            "Its router passes no port on, as it answers neither PCP nor NAT-PMP: where one of the two can be switched on in \
             it, others come directly."
                .into(),
        ),
        PortMapping::Refused(code) => Some(format!(
            "Its router refuses to pass a port on (result {code}): where it has a setting for PCP or NAT-PMP, this device \
             is to be allowed there."
        )),
        PortMapping::NotPublic(ip) => Some(format!(
            "Its router would pass a port on, but is itself behind another one, as its address outside is {ip}: the outer \
             one, or the provider, has to pass the port on."
        )),
        PortMapping::Open(ports) => open(ports),
    }
}

fn open(ports: &[MappedPort]) -> Option<String> {
    let MappedPort { address, lifetime } = ports.first()?;
    let same = ports.iter().all(|port| (port.address.ip, port.address.port) == (address.ip, address.port));
    let name = |transport| match transport {
        Transport::Quic => "UDP",
        Transport::Tcp => "TCP",
    };
    let names: Vec<&str> = ports.iter().map(|port| name(port.address.transport)).collect();
    let place = |port: &MappedPort| SocketAddr::new(port.address.ip, port.address.port).to_string();
    let places = if same {
        format!("{} at {}", names.join(" and "), place(ports.first()?))
    } else {
        let each = ports.iter().map(|port| format!("{} at {}", name(port.address.transport), place(port)));
        each.collect::<Vec<_>>().join(" and ")
    };
    let time = span(*lifetime);
    Some(format!("Its router passes {places} on to it, for {time} each time it is asked."))
}

/// A time in hours or minutes.
fn span(time: Duration) -> String {
    let minutes = time.as_secs().div_ceil(60);
    match (minutes, minutes % 60) {
        (60, _) => "an hour".into(),
        (0 | 1, _) => "a minute".into(),
        (minutes, 0) => format!("{} hours", minutes / 60),
        (minutes, _) => format!("{minutes} minutes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_named_with_their_place_and_time() {
        let at = |port: u16, lifetime_s| {
            let both = locker_net::both_transports(SocketAddr::from(([203, 0, 113, 7], port)));
            both.map(|address| MappedPort { address, lifetime: Duration::from_secs(lifetime_s) })
        };
        let said = |ports: &[MappedPort]| words(&PortMapping::Open(ports.to_vec())).unwrap();
        let both = at(4_001, 7_200);
        assert_eq!(
            said(&both),
            "Its router passes UDP and TCP at 203.0.113.7:4001 on to it, for 2 hours each time it is asked."
        );
        let other = at(4_002, 3_600);
        assert_eq!(
            said(&[both[0], other[1]]),
            "Its router passes UDP at 203.0.113.7:4001 and TCP at 203.0.113.7:4002 on to it, for 2 hours each time it \
             is asked."
        );
        assert!(said(&other[..1]).contains("passes UDP at 203.0.113.7:4002 on to it, for an hour each"));
        assert!(said(&at(1, 120)).contains("for 2 minutes"));
        assert_eq!(words(&PortMapping::Open(Vec::new())), None);
        assert_eq!(words(&PortMapping::NoRouter), None);
    }
}
