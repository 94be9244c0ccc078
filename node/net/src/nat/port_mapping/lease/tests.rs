//! When a router is asked, and what is made of its answers, with a clock that the test holds.

use super::*;

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const SECOND: Duration = Duration::from_secs(1);

fn leases(now: Instant) -> Leases {
    let own = SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, 11), 4_001);
    Leases::new(own, 4_001, [[1; 12], [2; 12]], now)
}

fn grant(ip: Ipv4Addr, lifetime_s: u32, epoch_s: u32) -> Granted {
    Granted { external: SocketAddrV4::new(ip, 5_001), lifetime_s, epoch_s }
}

/// Both are asked for and granted at once.
fn open(now: Instant) -> Leases {
    let mut leases = leases(now);
    for transport in [Transport::Quic, Transport::Tcp] {
        assert_eq!(leases.next(), (transport, now));
        leases.question(transport, now);
        assert_eq!(leases.granted(transport, grant(OUTSIDE, 7_200, 100), 0, now), None);
    }
    leases
}

fn ports(leases: &Leases) -> usize {
    match leases.state() {
        PortMapping::Open(ports) => ports.len(),
        _ => 0,
    }
}

#[test]
fn both_are_asked_for_and_renewed_after_half_of_their_life() {
    let now = Instant::now();
    let mut leases = open(now);
    assert_eq!(ports(&leases), 2);
    // The first is how a restart of the router is noticed.
    let (mut at, mut watched) = (now, 0);
    let renewed = loop {
        let (transport, due) = leases.next();
        let asked = leases.question(transport, due);
        assert_eq!(asked.suggested, SocketAddrV4::new(OUTSIDE, 5_001));
        if transport == Transport::Tcp {
            assert_eq!(asked.nonce, [2; 12]);
            break due;
        }
        assert_eq!((asked.nonce, due - at), ([1; 12], WATCH));
        (at, watched) = (due, watched + 1);
        let epoch_s = 100 + (at - now).as_secs() as u32;
        leases.granted(Transport::Quic, grant(OUTSIDE, 7_200, epoch_s), 0, at);
    };
    assert_eq!((renewed, watched), (now + SECOND * 3_600, 60));
    // At the latest after five eighths, and the first a quarter later.
    leases.granted(Transport::Tcp, grant(OUTSIDE, 7_200, 3_700), 255, renewed);
    assert_eq!(leases.of(Transport::Tcp).due, renewed + SECOND * 4_500);
    leases.granted(Transport::Quic, grant(OUTSIDE, 7_200, 3_700), 255, renewed);
    assert_eq!(leases.next(), (Transport::Quic, renewed + WATCH * 5 / 4));
}

#[test]
fn no_life_is_believed_that_is_longer_than_was_asked_or_makes_us_hurry() {
    let now = Instant::now();
    for (lifetime_s, due_s) in [(u32::MAX, 3_600), (7_200, 3_600), (200, 100), (2, 30)] {
        let mut leases = leases(now);
        leases.granted(Transport::Quic, grant(OUTSIDE, lifetime_s, 0), 0, now);
        leases.granted(Transport::Tcp, grant(OUTSIDE, lifetime_s, 0), 0, now);
        assert_eq!(leases.of(Transport::Tcp).due, now + SECOND * due_s, "{lifetime_s}");
        assert_eq!(leases.next().1, now + WATCH.min(SECOND * due_s), "{lifetime_s}");
        let PortMapping::Open(ports) = leases.state() else { panic!("{:?}", leases.state()) };
        assert!(ports.iter().all(|port| port.lifetime <= SECOND * 7_200));
    }
}

#[test]
fn a_silent_router_is_left_alone_for_long() {
    let now = Instant::now();
    let mut leases = leases(now);
    assert_eq!(leases.state(), PortMapping::Asking);
    leases.question(Transport::Quic, now);
    leases.failed(Transport::Quic, Failure::Silent, now);
    assert_eq!((leases.state(), leases.next().1), (PortMapping::Silent, now + LONG_WAIT));
    // Whatever happens.
    leases.hasten(now);
    assert_eq!(leases.next().1, now + LONG_WAIT);
    assert_eq!(leases.farewells(), []);
}

#[test]
fn a_refusal_is_waited_out_within_bounds() {
    let now = Instant::now();
    for (lifetime_s, wait_s) in [(0, 300), (1_000, 1_000), (u32::MAX, 3_600)] {
        let mut leases = leases(now);
        leases.failed(Transport::Quic, Failure::Refused { code: 2, lifetime_s }, now);
        assert_eq!((leases.state(), leases.next().1), (PortMapping::Refused(2), now + SECOND * wait_s));
    }
}

#[test]
fn one_of_the_two_is_enough() {
    let now = Instant::now();
    let mut leases = leases(now);
    leases.granted(Transport::Quic, grant(OUTSIDE, 7_200, 0), 0, now);
    leases.failed(Transport::Tcp, Failure::Refused { code: 8, lifetime_s: 0 }, now);
    assert_eq!(ports(&leases), 1);
    assert_eq!(leases.of(Transport::Tcp).due, now + REFUSED_WAIT_MIN);
    // The one that stands is looked after, whichever it is.
    let mut other = self::leases(now);
    other.failed(Transport::Quic, Failure::Refused { code: 8, lifetime_s: 0 }, now);
    other.granted(Transport::Tcp, grant(OUTSIDE, 7_200, 0), 0, now);
    assert_eq!(other.next(), (Transport::Tcp, now + WATCH));
    assert_eq!(leases.farewells().len(), 1);
}

#[test]
fn what_stands_is_asked_for_until_its_end_and_then_let_go() {
    let now = Instant::now();
    let mut leases = open(now);
    let (mut at, mut tries) = (leases.next().1, 0);
    while !leases.lapse(at) {
        let (transport, _) = leases.next();
        leases.failed(transport, Failure::Silent, at);
        if tries == 0 {
            // It may be restarting.
            assert_eq!(leases.of(transport).due, at + PAUSE);
        }
        (at, tries) = (leases.next().1, tries + 1);
        assert_eq!(ports(&leases), 2);
    }
    assert_eq!(at, now + SECOND * 7_200);
    assert!((10..40).contains(&tries), "{tries}");
    assert_eq!(leases.state(), PortMapping::Silent);
    // Then once more as at the beginning, and no more for long.
    let (transport, _) = leases.next();
    leases.suggest(50_000);
    assert_eq!(leases.question(transport, at).suggested, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 50_000));
    leases.failed(transport, Failure::Silent, at);
    assert_eq!(leases.next().1, at + LONG_WAIT);
}

#[test]
fn an_address_behind_a_second_router_is_given_back() {
    let now = Instant::now();
    let mut leases = leases(now);
    let inner = Ipv4Addr::new(100, 64, 3, 4);
    let back = leases.granted(Transport::Quic, grant(inner, 7_200, 0), 0, now).unwrap();
    assert_eq!((back.lifetime_s, back.suggested.port(), back.nonce), (0, 0, [1; 12]));
    assert_eq!((leases.state(), leases.next().1), (PortMapping::NotPublic(inner), now + LONG_WAIT));
    assert_eq!(leases.farewells(), []);
    // Also where it was public before.
    let mut leases = open(now);
    leases.granted(Transport::Quic, grant(inner, 7_200, 0), 0, now);
    assert_eq!(leases.state(), PortMapping::NotPublic(inner));
    // That may be a line that is down: it is looked at again and again for an hour, and then as if it had never been.
    let (mut at, mut soon) = (now, 0);
    loop {
        let (transport, due) = leases.next();
        if due - at >= LONG_WAIT {
            break;
        }
        (at, soon) = (due, soon + 1);
        assert_eq!(
            leases.granted(transport, grant(inner, 7_200, 0), 0, at).map(|back| back.lifetime_s),
            Some(0)
        );
        assert!(soon < 100);
    }
    assert!((SECOND * 3_000..SECOND * 4_500).contains(&(at - now)), "{soon} times in {:?}", at - now);
    leases.granted(Transport::Quic, grant(OUTSIDE, 7_200, 0), 0, at);
    assert_eq!(ports(&leases), 1);
}

#[test]
fn a_router_that_has_forgotten_is_asked_for_the_other_one_too() {
    let now = Instant::now();
    let later = now + SECOND * 1_000;
    // The count went on; it went back; it stood still; it ran ahead.
    for (epoch_s, has_forgotten) in [(1_100, false), (1_040, false), (5, true), (100, true), (9_000, true)] {
        let mut leases = open(now);
        assert_eq!(leases.next(), (Transport::Quic, now + WATCH));
        leases.question(Transport::Quic, later);
        leases.granted(Transport::Quic, grant(OUTSIDE, 7_200, epoch_s), 0, later);
        let due = if has_forgotten { later } else { now + SECOND * 3_600 };
        assert_eq!(leases.of(Transport::Tcp).due, due, "{epoch_s}");
    }
}

#[test]
fn a_router_with_another_address_is_asked_for_the_other_one_too() {
    let now = Instant::now();
    let later = now + SECOND * 1_000;
    let mut leases = open(now);
    leases.question(Transport::Quic, later);
    leases.granted(Transport::Quic, grant(Ipv4Addr::new(203, 0, 113, 8), 7_200, 1_100), 0, later);
    assert_eq!(leases.next(), (Transport::Tcp, later));
}

#[test]
fn no_answer_makes_us_ask_without_end() {
    let now = Instant::now();
    let mut leases = open(now);
    let (mut at, mut asked) = (now, 0);
    let addresses = [OUTSIDE, Ipv4Addr::new(203, 0, 113, 8)];
    while at < now + SECOND * 3_600 {
        let (transport, due) = leases.next();
        at = at.max(due);
        leases.question(transport, at);
        // The count goes back, the address is another, and the life is short, each time.
        leases.granted(transport, grant(addresses[asked % 2], 1, 0), 0, at);
        leases.hasten(at);
        asked += 1;
    }
    // Two each half a minute.
    assert!(asked <= 242, "{asked}");
}

#[test]
fn what_stands_is_given_back_at_the_end() {
    let leases = open(Instant::now());
    let farewells = leases.farewells();
    let said: Vec<_> = farewells.iter().map(|one| (one.transport, one.nonce, one.lifetime_s)).collect();
    assert_eq!(said, [(Transport::Quic, [1; 12], 0), (Transport::Tcp, [2; 12], 0)]);
}
