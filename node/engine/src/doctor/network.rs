//! Whether this node is found as other devices would find it, by the probe.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use locker_crypto::rendezvous::{Address, Publishers, Transport};
use locker_net::{Find, Found, Handle, NodeAddress, PortMapping, Prefer, Reached, Standing};
use tokio::time::timeout;

use super::router;
use crate::Error;
use crate::node::Hub;
use crate::report::Check;

pub(super) const LISTEN: &str = "listen";
const LAN: &str = "lan";
const BOOTSTRAP: &str = "bootstrap";
const DHT: &str = "dht";
const NAT: &str = "nat";
const RELAY: &str = "relay";

/// How long one address is dialed.
const DIAL_TIME: Duration = Duration::from_secs(5);
/// How long an answer on the local network is waited for; it comes at once.
const LAN_TIME: Duration = Duration::from_secs(3);
/// How long it is waited for others to say how they reach this node.
const REACHED_TIME: Duration = Duration::from_secs(8);
/// How long the router's first answer is waited for; one that answers does it at once.
const ROUTER_TIME: Duration = Duration::from_secs(3);
/// How long a record of this node is waited for, and how long it is looked for.
const DHT_TIME: Duration = Duration::from_secs(8);

const GIVE_POINT: &str = "Give a meeting point with `--bootstrap ADDR` (anybody can run `locker-bootstrap`) if devices are to \
                          meet from different networks.";

/// Whether the node answers where it listens.
pub(super) async fn listen(hub: &Hub, probe: &Handle) -> Check {
    let addresses = hub.net().listen_addresses();
    let own = hub.net().transport_key();
    let answers = async |transport: Transport| {
        let of_kind = addresses.iter().filter(|address| address.transport == transport);
        // The most public one: who dials it comes through the same filters as others of this machine.
        let Some(address) = of_kind.min_by_key(|address| address.ip.is_loopback()) else { return false };
        let dialed = timeout(DIAL_TIME, probe.dial(&[*address], Prefer::Quic)).await;
        let Ok(Ok(connection)) = dialed else { return false };
        probe.close_later(connection.id);
        connection.peer == own
    };
    let (udp, tcp) = tokio::join!(answers(Transport::Quic), answers(Transport::Tcp));
    judge_listen(&addresses, udp, tcp)
}

fn judge_listen(addresses: &[Address], udp: bool, tcp: bool) -> Check {
    let places: BTreeSet<SocketAddr> = addresses.iter().map(|a| SocketAddr::new(a.ip, a.port)).collect();
    let shown = places.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let filter = "A packet filter on this machine keeps it from itself, and so from others.";
    match (places.is_empty(), udp, tcp) {
        (true, ..) => Check::failed(
            LISTEN,
            "This node listens nowhere.",
            "No interface of this machine has an address.",
            "Connect the machine to a network.",
        ),
        (_, true, true) => Check::ok(LISTEN, format!("This node answers over UDP and TCP at {shown}.")),
        (_, false, true) => Check::warning(
            LISTEN,
            format!("This node answers over TCP only at {shown}."),
            filter,
            "Let UDP through to the program, or to the port given with `up --listen`.",
        ),
        (_, true, false) => Check::warning(
            LISTEN,
            format!("This node answers over UDP only at {shown}."),
            filter,
            "Let TCP through to the program, or to the port given with `up --listen`.",
        ),
        (_, false, false) => Check::failed(
            LISTEN,
            format!("Nobody answers at {shown}, where this node listens."),
            filter,
            "Let UDP and TCP through to the program, or to the port given with `up --listen`.",
        ),
    }
}

/// Whether the node is found on the local network.
pub(super) async fn lan(hub: &Hub, probe: &Handle) -> Check {
    if !hub.has_lan() {
        return judge_lan(Lan::Off);
    }
    let Some(door) = hub.own_door() else { return judge_lan(Lan::Off) };
    let Ok(mut find) = probe.find(&door, Publishers::One, None).await else {
        return judge_lan(Lan::Deaf);
    };
    let heard = async {
        loop {
            match find.next().await {
                Some(Found::Beacon(_)) => return true,
                Some(Found::Record { .. }) => {}
                None => return false,
            }
        }
    };
    let is_heard = timeout(LAN_TIME, heard).await.unwrap_or(false);
    judge_lan(match (is_heard, probe.figures().beacons_sent) {
        (true, _) => Lan::Heard,
        (false, 0) => Lan::NoInterface,
        (false, _) => Lan::Deaf,
    })
}

/// How the local network is.
enum Lan {
    Off,
    NoInterface,
    Heard,
    Deaf,
}

fn judge_lan(lan: Lan) -> Check {
    match lan {
        Lan::Off => Check::off(
            LAN,
            "Devices are not looked for on the local network.",
            "Start without `--no-lan`, and with no `lan = false` in `config.toml`, to have them found.",
        ),
        Lan::Heard => Check::ok(LAN, "A call on the local network is answered by this node."),
        Lan::NoInterface => Check::warning(
            LAN,
            "There is no local network to look around in.",
            "This machine has no interface, beside its own, over which a group can be reached.",
            "Connect it to a network; in a container, give it the network of its host.",
        ),
        Lan::Deaf => Check::failed(
            LAN,
            "A call on the local network was not answered by this node.",
            "A packet filter drops multicast to UDP port 24765.",
            "Let UDP port 24765 in from the local network.",
        ),
    }
}

/// What is said of the meeting points where no node can be started that visits them.
pub(super) fn unvisited(error: &Error) -> Check {
    Check::failed(
        BOOTSTRAP,
        "The meeting points were not visited.",
        error.to_string(),
        "Look at what the system says, put it right and run `locker doctor` again.",
    )
}

/// Whether the meeting points answer.
pub(super) async fn bootstrap(points: &[NodeAddress], probe: &Handle) -> Check {
    let mut places: Vec<(SocketAddr, Vec<NodeAddress>)> = Vec::new();
    for point in points {
        let at = SocketAddr::new(point.address.ip, point.address.port);
        match places.iter_mut().find(|(known, _)| *known == at) {
            Some((_, same)) => same.push(*point),
            None => places.push((at, vec![*point])),
        }
    }
    let tries = places.into_iter().map(async |(at, points)| (at, try_point(&points, probe).await));
    judge_bootstrap(&futures::future::join_all(tries).await)
}

/// What a meeting point did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Point {
    Answers,
    Silent,
    Other,
}

async fn try_point(points: &[NodeAddress], probe: &Handle) -> Point {
    let addresses: Vec<Address> = points.iter().map(|point| point.address).collect();
    match timeout(DIAL_TIME, probe.dial(&addresses, Prefer::Quic)).await {
        Ok(Ok(connection))
            if points.iter().all(|point| point.key.is_none_or(|key| key == connection.peer)) =>
        {
            Point::Answers
        }
        Ok(Ok(connection)) => {
            probe.close_later(connection.id);
            Point::Other
        }
        Ok(Err(_)) | Err(_) => Point::Silent,
    }
}

fn judge_bootstrap(points: &[(SocketAddr, Point)]) -> Check {
    let bad: Vec<String> = points
        .iter()
        .filter(|(_, point)| *point != Point::Answers)
        .map(|(at, point)| match point {
            Point::Other => format!("{at} (another node than was named)"),
            _ => at.to_string(),
        })
        .collect();
    let shown = bad.join(", ");
    let cause = "It is off, it has another address or key by now, or a firewall lies between.";
    let cure =
        "See that `locker-bootstrap` runs there, and give its present address with `--bootstrap ADDR`.";
    match (points.len(), bad.len()) {
        (0, _) => Check::off(
            BOOTSTRAP,
            "No meeting point is named: devices meet on the local network and where they were last.",
            GIVE_POINT,
        ),
        (1, 0) => Check::ok(BOOTSTRAP, "The meeting point answers."),
        (n, 0) => Check::ok(BOOTSTRAP, format!("All {n} meeting points answer.")),
        (n, bad) if bad < n => Check::warning(
            BOOTSTRAP,
            format!("{bad} of {n} meeting points do not answer: {shown}."),
            cause,
            cure,
        ),
        _ => Check::failed(BOOTSTRAP, format!("No meeting point answers: {shown}."), cause, cure),
    }
}

/// Whether this node stands in the DHT, so that whoever knows its secret finds it.
pub(super) async fn dht(hub: &Hub, has_points: bool, probe: &Handle) -> Check {
    let Some(door) = hub.own_door().filter(|_| has_points) else { return judge_dht(None) };
    let net = hub.net();
    let mut standing = net.standing();
    let stands = |standing: &Standing| standing.stored > 0;
    let is_stored = matches!(timeout(DHT_TIME, standing.wait_for(stands)).await, Ok(Ok(_)));
    let nodes = net.figures().dht_nodes;
    let own = Some(hub.inner().keys().device_id());
    let is_found = match probe.find(&door, Publishers::One, own).await {
        Ok(mut find) if is_stored => timeout(DHT_TIME, is_found(&mut find, net)).await.unwrap_or(false),
        _ => false,
    };
    judge_dht(Some(Dht { nodes, is_stored, is_found }))
}

async fn is_found(find: &mut Find, net: &Handle) -> bool {
    while let Some(found) = find.next().await {
        // An older record, from before a start, names another key.
        if matches!(&found, Found::Record { contact, .. } if contact.certificate.transport() == net.transport_key())
        {
            return true;
        }
    }
    false
}

/// How this node stands in the DHT.
struct Dht {
    nodes: u64,
    is_stored: bool,
    is_found: bool,
}

fn judge_dht(dht: Option<Dht>) -> Check {
    let nodes = |n: u64| if n == 1 { "one node".into() } else { format!("{n} nodes") };
    match dht {
        None => Check::off(DHT, "The DHT is not used: there is no meeting point to begin with.", GIVE_POINT),
        Some(Dht { nodes: 0, .. }) => Check::failed(
            DHT,
            "The DHT is not reached.",
            "No meeting point answers as a node of it.",
            "See the check of the meeting points; devices of one network meet without them.",
        ),
        Some(Dht { is_stored: false, nodes: n, .. }) => Check::failed(
            DHT,
            format!("{} of the DHT are known, and none has taken the record of this node.", nodes(n)),
            "They refuse it, for which a clock that is wrong by hours is enough, or are too busy.",
            "See the check of the clock, or name another meeting point with `--bootstrap ADDR`.",
        ),
        Some(Dht { is_found: false, .. }) => Check::warning(
            DHT,
            "The record of this node was taken and not found again.",
            "Nodes of the DHT went away, or some of them do not tell what they were given.",
            "Name more meeting points with `--bootstrap ADDR`; where they were last, devices meet all the same.",
        ),
        Some(Dht { nodes: n, .. }) => Check::ok(
            DHT,
            format!("The record of this node is found in the DHT, of which it knows {}.", nodes(n)),
        ),
    }
}

/// Whether others come in from outside, and how.
pub(super) async fn reach(hub: &Hub, has_points: bool) -> [Check; 2] {
    let mut reached = hub.net().reached();
    if has_points {
        let is_told = |reached: &Reached| !reached.public.is_empty() || !reached.relays.is_empty();
        // Who hears nothing by then is told as not reached.
        let _ = timeout(REACHED_TIME, reached.wait_for(is_told)).await;
    } else {
        let _ = timeout(ROUTER_TIME, reached.wait_for(|now| now.router != PortMapping::Asking)).await;
        return judge_reach(None, &reached.borrow().router);
    }
    let reached = reached.borrow().clone();
    judge_reach(Some(&reached), &reached.router)
}

fn judge_reach(reached: Option<&Reached>, router: &PortMapping) -> [Check; 2] {
    let router = router::words(router);
    let with_router =
        |found: String| [Some(found), router.clone()].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let at = |address: &Address| SocketAddr::new(address.ip, address.port).to_string();
    let Some(Reached { public, relays, .. }) = reached else {
        return [
            Check::off(
                NAT,
                with_router("Nobody outside was asked whether this device is reached from there.".into()),
                GIVE_POINT,
            ),
            Check::off(RELAY, "No relay is looked for: there is no meeting point to begin with.", GIVE_POINT),
        ];
    };
    match (public.first(), relays.first()) {
        (Some(address), relay) => [
            Check::ok(
                NAT,
                with_router(format!("This device is reached from anywhere, at {}.", at(address))),
            ),
            match relay {
                None => Check::ok(RELAY, "No relay is needed."),
                Some(relay) => Check::ok(
                    RELAY,
                    format!("Others come in through the relay at {} too.", at(&relay.address)),
                ),
            },
        ],
        (None, Some(relay)) => [
            Check::ok(
                NAT,
                with_router(
                    "This device is behind a router or firewall: others come through a relay, and directly where the \
                     router lets them."
                        .into(),
                ),
            ),
            Check::ok(RELAY, format!("The relay at {} passes others on to this device.", at(&relay.address))),
        ],
        (None, None) => [
            Check::warning(
                NAT,
                "This device is not reached from outside its network.",
                with_router("A router or firewall in front of it lets nobody in.".into()),
                "Pass a port on to it and name that port with `up --listen`; or see the check of the relay.",
            ),
            Check::warning(
                RELAY,
                "No relay passes others on to this device.",
                "None of the nodes that it knows is a relay with a free place.",
                "Run `locker up` on a device of yours that is reached from anywhere, or name a meeting point with \
                 `--bootstrap ADDR`.",
            ),
        ],
    }
}

#[cfg(test)]
mod tests {
    use locker_crypto::id::VerifyingKey;
    use locker_crypto::rendezvous::Relay;

    use super::*;
    use crate::report::CheckState::{Failed, Off, Ok as Fine, Warning};

    fn whole(check: Check, expected: crate::report::CheckState) {
        assert_eq!(check.state, expected, "{check:?}");
        assert_eq!(check.cause.is_some(), matches!(expected, Warning | Failed), "{check:?}");
        assert_eq!(check.cure.is_some(), expected != Fine, "{check:?}");
    }

    #[test]
    fn each_finding_has_its_cause_and_cure() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let addresses = locker_net::both_transports(at("192.0.2.1:9"));
        whole(judge_listen(&addresses, true, true), Fine);
        whole(judge_listen(&addresses, false, true), Warning);
        whole(judge_listen(&addresses, true, false), Warning);
        whole(judge_listen(&addresses, false, false), Failed);
        whole(judge_listen(&[], false, false), Failed);
        whole(judge_lan(Lan::Off), Off);
        whole(judge_lan(Lan::Heard), Fine);
        whole(judge_lan(Lan::NoInterface), Warning);
        whole(judge_lan(Lan::Deaf), Failed);
        let (one, two) = (at("192.0.2.1:9"), at("192.0.2.2:9"));
        whole(judge_bootstrap(&[]), Off);
        whole(judge_bootstrap(&[(one, Point::Answers), (two, Point::Answers)]), Fine);
        whole(judge_bootstrap(&[(one, Point::Answers), (two, Point::Silent)]), Warning);
        let none = judge_bootstrap(&[(one, Point::Other), (two, Point::Silent)]);
        assert!(none.found.contains("192.0.2.1:9 (another node") && none.found.contains("192.0.2.2:9"));
        whole(none, Failed);
        let relays = vec![Relay { address: addresses[0], transport_key: VerifyingKey([1; 32]) }];
        let reach = |public: &[Address], relays: &[Relay]| {
            let reached = Reached { public: public.to_vec(), relays: relays.to_vec(), ..Reached::default() };
            judge_reach(Some(&reached), &PortMapping::Silent)
        };
        judge_reach(None, &PortMapping::NoRouter).into_iter().for_each(|check| whole(check, Off));
        let [nat, _] = judge_reach(None, &PortMapping::Refused(2));
        assert!(nat.found.contains("from there. Its router refuses to pass a port on (result 2)"), "{nat:?}");
        reach(&[], &[]).into_iter().for_each(|check| whole(check, Warning));
        for (public, relays) in [(&addresses[..], &[][..]), (&[], &relays), (&addresses, &relays)] {
            reach(public, relays).into_iter().for_each(|check| whole(check, Fine));
        }
        let dht = |nodes, is_stored, is_found| judge_dht(Some(Dht { nodes, is_stored, is_found }));
        whole(judge_dht(None), Off);
        whole(dht(0, false, false), Failed);
        whole(dht(3, false, false), Failed);
        whole(dht(3, true, false), Warning);
        whole(dht(3, true, true), Fine);
    }
}
