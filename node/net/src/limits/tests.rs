//! The defaults read back; each count up to its limit and one more.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use locker_crypto::id::VerifyingKey;
use tokio::time::Instant;

use super::*;
use crate::connection::ConnectionId;

#[test]
fn the_defaults_are_those_of_the_design() {
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let expected = Limits {
        knocking: 64,
        knocking_per_source: 16,
        failures_per_minute: 40,
        failure_wait: minutes(1),
        failure_wait_max: minutes(10),
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
        idle_time: minutes(1),
        memory_bytes: 1 << 30,
        streams_per_connection: 64,
        negotiating_streams: 32,
        inbound_queue: 256,
        frame_bytes: 1 << 16,
        ranges_per_get: 256,
        get_request_bytes: 1 << 14,
        get_bytes: 1 << 19,
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
        relay_household_time: minutes(720),
        relay_open_time: minutes(2),
        relay_open_bytes: 128 << 20,
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
    };
    assert_eq!(Limits::default(), expected);
    assert_eq!(Limits::bootstrap(), Limits { records: 65_536, ..expected.clone() });
    assert_eq!(REFUSAL_DELAY, Duration::from_millis(50));
    assert_eq!(expected.quic_windows(), (10 << 20, 15 << 20));
    assert_eq!(Limits { memory_bytes: (1 << 30) - 1, ..expected.clone() }.quic_windows(), (1 << 20, 2 << 20));
    assert_eq!(expected.memory_refusal_bytes(), (1 << 30) / 5 * 4);
    let lan = crate::LanConfig::default();
    assert_eq!((lan.port, lan.interval), (24_765, Duration::from_secs(30)));
    assert_eq!(lan.group_v4, Ipv4Addr::new(239, 255, 76, 75));
    assert_eq!(lan.group_v6, "ff02::4c4b".parse::<Ipv6Addr>().unwrap());
    let config = crate::Config::default();
    assert_eq!(config.publish_interval, minutes(480));
    assert!(config.bootstrap.is_empty() && config.external.is_empty());
}

#[test]
fn sources_are_prefixes() {
    let of = |text: &str| Source::of(text.parse().unwrap());
    let network = |text: &str| Network::of(text.parse().unwrap());
    assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
    assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    assert_eq!(network("192.0.2.1"), network("192.0.2.2"));
    assert_ne!(network("192.0.2.1"), network("192.0.3.1"));
    assert_eq!(of("2001:db8:1:200::1"), of("2001:db8:1:2ff::2"));
    assert_ne!(of("2001:db8:1:200::1"), of("2001:db8:1:300::1"));
    assert_eq!(network("2001:db8:1:200::1"), network("2001:db8:1:300::1"));
    assert_ne!(network("2001:db8:1::1"), network("2001:db8:2::1"));
}

fn id(n: usize) -> ConnectionId {
    ConnectionId(libp2p::swarm::ConnectionId::new_unchecked(n))
}

fn ip(n: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + u32::try_from(n).unwrap()))
}

fn peer(n: usize) -> VerifyingKey {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&n.to_le_bytes());
    VerifyingKey(key)
}

fn come(admission: &mut Admission, n: usize, from: IpAddr, now: Instant) -> Result<(), Refused> {
    admission.begin_inbound(id(n), from, now)?;
    admission.may_stand(id(n), from, &peer(n))?;
    admission.stands(id(n), from, peer(n), now);
    if let Some(surplus) = admission.surplus() {
        admission.gone(surplus);
        if surplus == id(n) {
            return Err(Refused::Total);
        }
    }
    Ok(())
}

#[test]
fn each_count_holds_at_its_limit() {
    let now = Instant::now();
    let mut admission = Admission::new(Limits::default());
    for n in 0..64 {
        assert_eq!(admission.begin_inbound(id(n), ip(n * 256), now), Ok(()));
        assert_eq!(admission.begin_outbound(id(1_000 + n)), Ok(()));
    }
    assert_eq!(admission.begin_inbound(id(64), ip(64 * 256), now), Err(Refused::Pending));
    assert_eq!(admission.begin_outbound(id(2_000)), Err(Refused::Pending));
    // Those who were here before come in all the same.
    admission.set_known([ip(999)]);
    for n in 0..16 {
        assert_eq!(admission.begin_inbound(id(3_000 + n), ip(999), now), Ok(()));
    }
    assert_eq!(admission.begin_inbound(id(3_016), ip(999), now), Err(Refused::Pending));
    for n in 0..16 {
        admission.forget_pending(id(3_000 + n));
    }
    admission.forget_pending(id(0));
    admission.forget_pending(id(1_000));
    assert_eq!(admission.begin_inbound(id(64), ip(64 * 256), now), Ok(()));
    assert_eq!(admission.begin_outbound(id(2_000)), Ok(()));

    let mut admission = Admission::new(Limits::default());
    for n in 0..32 {
        assert_eq!(come(&mut admission, n, ip(1), now), Ok(()));
    }
    assert_eq!(come(&mut admission, 32, ip(1), now), Err(Refused::Source));
    // All at once counts as well.
    for n in 100..132 {
        assert_eq!(admission.begin_inbound(id(n), ip(2), now), Ok(()));
    }
    assert_eq!(admission.begin_inbound(id(132), ip(2), now), Err(Refused::Source));
    for n in 100..132 {
        admission.forget_pending(id(n));
    }
    for n in 0..96 {
        assert_eq!(come(&mut admission, 200 + n, ip(3 + n), now), Ok(()));
    }
    assert_eq!(come(&mut admission, 400, ip(200), now), Err(Refused::Network));
    assert_eq!(come(&mut admission, 400, ip(300), now), Ok(()));
    admission.gone(id(0));
    assert_eq!(come(&mut admission, 401, ip(200), now), Ok(()));

    for n in 0..4 {
        assert_eq!(admission.may_stand(id(500 + n), ip(700), &peer(9_999)), Ok(()));
        admission.stands(id(500 + n), ip(700), peer(9_999), now);
    }
    assert_eq!(admission.may_stand(id(504), ip(700), &peer(9_999)), Err(Refused::Peer));
}

#[test]
fn a_full_node_closes_the_oldest_stranger_and_never_a_session() {
    let begin = Instant::now();
    let limits = Limits { connections: 10, session_places: 4, ..Limits::default() };
    let mut admission = Admission::new(limits);
    admission.set_known([ip(77 * 256)]);
    for n in 0..6 {
        assert_eq!(come(&mut admission, n, ip(n * 256), begin + Duration::from_secs(n as u64)), Ok(()));
    }
    assert_eq!(admission.surplus(), None);
    admission.set_session(id(0), true);
    // A place that a session takes is none of the strangers'.
    assert_eq!(come(&mut admission, 6, ip(6 * 256), begin + Duration::from_secs(6)), Ok(()));
    admission.stands(id(7), ip(7 * 256), peer(7), begin + Duration::from_secs(7));
    assert_eq!(admission.surplus(), Some(id(1)), "the oldest without session");
    admission.gone(id(1));
    assert_eq!(admission.surplus(), None);
    // A known source is not closed for a stranger, and passes when others cannot.
    assert_eq!(come(&mut admission, 8, ip(77 * 256), begin), Ok(()));
    admission.stands(id(9), ip(9 * 256), peer(9), begin + Duration::from_secs(9));
    assert_ne!(admission.surplus(), Some(id(8)));
    for n in 0..20 {
        admission.set_session(id(n), true);
    }
    assert_eq!(admission.surplus(), None);
}

#[test]
fn only_so_many_knock_and_a_session_or_an_end_makes_room() {
    let now = Instant::now();
    let mut admission = Admission::new(Limits::default());
    // The tokens of the streams that are open.
    let mut open = std::collections::HashMap::new();
    for n in 0..17 {
        assert_eq!(come(&mut admission, n, ip(1), now), Ok(()));
    }
    for n in 0..16 {
        let first = admission.admit_stream(id(n)).unwrap();
        let second = admission.admit_stream(id(n)).unwrap();
        open.insert(n, vec![first, second]);
    }
    assert_eq!(admission.admit_stream(id(16)), Err(Refused::Knocking));
    open.get_mut(&5).unwrap().pop();
    assert_eq!(admission.admit_stream(id(16)), Err(Refused::Knocking), "one of two is still open");
    admission.set_session(id(3), true);
    assert_eq!(admission.admit_stream(id(3)), Ok(None));
    open.insert(16, vec![admission.admit_stream(id(16)).unwrap()]);
    for n in 17..65 {
        assert_eq!(come(&mut admission, n, ip(n * 256), now), Ok(()));
        open.insert(n, vec![admission.admit_stream(id(n)).unwrap()]);
    }
    assert_eq!(come(&mut admission, 65, ip(65 * 256), now), Ok(()));
    assert_eq!(admission.admit_stream(id(65)), Err(Refused::Knocking), "the 65th in all");
    open.remove(&20);
    open.insert(65, vec![admission.admit_stream(id(65)).unwrap()]);
    assert_eq!(
        admission.admit_stream(id(20)),
        Err(Refused::Knocking),
        "it comes again, and there is no room"
    );
    admission.gone(id(21));
    open.insert(20, vec![admission.admit_stream(id(20)).unwrap()]);
    assert_eq!(admission.admit_stream(id(21)), Err(Refused::Knocking), "a connection that is gone");
}

#[test]
fn a_source_that_fails_too_often_waits_and_no_other_does() {
    let begin = Instant::now();
    let at = |s| begin + Duration::from_secs(s);
    let mut admission = Admission::new(Limits::default());
    let fail = |admission: &mut Admission, s| {
        for _ in 0..40 {
            admission.handshake_failed(ip(1), at(s));
        }
    };
    fail(&mut admission, 0);
    assert_eq!(admission.begin_inbound(id(0), ip(1), at(0)), Ok(()));
    admission.handshake_failed(ip(1), at(1));
    assert_eq!(admission.begin_inbound(id(1), ip(1), at(60)), Err(Refused::Waits));
    assert_eq!(admission.begin_inbound(id(2), ip(2), at(60)), Ok(()), "its neighbour");
    assert_eq!(admission.begin_inbound(id(3), ip(1), at(61)), Ok(()));
    // Again: twice as long, up to ten minutes.
    for (round, wait) in [120, 240, 480, 600, 600].into_iter().enumerate() {
        // Soon enough after the last that it is not forgotten.
        let start = 100 + 620 * round as u64;
        fail(&mut admission, start);
        admission.handshake_failed(ip(1), at(start));
        let n = 10 + 2 * round;
        assert_eq!(admission.begin_inbound(id(n), ip(1), at(start + wait - 1)), Err(Refused::Waits));
        assert_eq!(admission.begin_inbound(id(n + 1), ip(1), at(start + wait)), Ok(()));
        admission.forget_pending(id(n + 1));
    }
    fail(&mut admission, 5_000);
    admission.handshake_failed(ip(1), at(5_000));
    admission.set_known([ip(1)]);
    assert_eq!(admission.begin_inbound(id(99), ip(1), at(5_001)), Ok(()), "a source that was good before");
}

/// Goal: five tries to pair that fail are all that a source has in a minute, side by side or one after the other; one
/// that passes costs nothing, and no other source waits.
#[test]
fn a_source_that_does_not_know_the_ticket_is_heard_five_times_a_minute() {
    let begin = Instant::now();
    let at = |s| begin + Duration::from_secs(s);
    let of = |n| Origin::from(ip(n)).source();
    let mut tries = Tries::new(Limits::default().pairing_failures_per_minute);
    for n in 0..5 {
        assert!(tries.begin(of(1), at(n)));
    }
    for s in [4, 59] {
        assert!(!tries.begin(of(1), at(s)));
    }
    assert!(tries.begin(of(2), at(59)), "its neighbour");
    let relayed = Origin { is_relayed: true, ..Origin::from(ip(1)) };
    assert!(tries.begin(relayed.source(), at(59)), "who comes through it as a relay");
    // What was refused did not make it longer.
    assert!(tries.begin(of(1), at(60)));
    for _ in 0..20 {
        tries.passed(&of(1));
        assert!(tries.begin(of(1), at(61)), "tries that passed were counted");
    }
    // One that is under way, and four that failed.
    for _ in 0..4 {
        assert!(tries.begin(of(1), at(61)));
    }
    assert!(!tries.begin(of(1), at(61)));
    // Where a good session came from before, as long as that is remembered; not who comes through it as a relay.
    tries.set_known([ip(1)]);
    for _ in 0..20 {
        assert!(tries.begin(of(1), at(61)));
    }
    for n in 0..5 {
        assert_eq!(tries.begin(relayed.source(), at(62)), n < 4, "{n}");
    }
    tries.set_known([]);
    assert!(!tries.begin(of(1), at(61)));
}

/// Goal: sources without end take no memory without end, and the last ones are remembered.
#[test]
fn tries_of_many_sources_are_forgotten_oldest_first() {
    let begin = Instant::now();
    let of = |n| Origin::from(ip(n)).source();
    let mut tries = Tries::new(1);
    for n in 0..5_000 {
        assert!(tries.begin(of(n), begin + Duration::from_millis(n as u64)));
        assert!(tries.len() <= 4_096);
    }
    let now = begin + Duration::from_secs(6);
    assert!(!tries.begin(of(4_999), now) && !tries.begin(of(5_000 - 4_096), now));
    assert!(tries.begin(of(0), now));
    // Those whose minute is over go at once.
    assert!(tries.begin(of(9_999), begin + Duration::from_secs(70)));
    assert_eq!(tries.len(), 1);
}

/// Goal: no number stands here that nothing holds to. Method: the name of each field occurs in the code beside this room, or
/// in that of the engine, which reads some of them here.
#[test]
fn every_limit_is_used() {
    let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let limits = std::fs::read_to_string(folder.join("limits.rs")).unwrap();
    let (_, fields) = limits.split_once("pub struct Limits {").unwrap();
    let (fields, methods) = fields.split_once("\n}\n").unwrap();
    let names = fields.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(':'));
    let (_, methods) = methods.split_once("impl Limits {").unwrap();
    let mut code = methods.to_owned();
    let mut folders = vec![folder.to_owned(), folder.join("../../engine/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.file_name().unwrap().to_str().unwrap() {
                "tests" | "tests.rs" | "limits.rs" => {}
                _ if path.is_dir() => folders.push(path),
                _ => code.push_str(&std::fs::read_to_string(path).unwrap()),
            }
        }
    }
    let mut count = 0;
    for (name, _) in names {
        count += 1;
        assert!(code.contains(&format!(".{name}")), "{name} is a limit of nothing");
    }
    assert!(count > 30, "{count} limits");
}
