//! Beacons as bytes, and who is told of.

use super::*;

fn secret(n: u8) -> RendezvousSecret {
    RendezvousSecret::new([n; 32])
}

#[test]
fn t48_beacons_are_of_one_length_and_repeat_nothing() {
    let mut dice = ChaCha20Rng::from_seed([1; 32]);
    let secrets: Vec<_> = (0..3).map(secret).collect();
    let mut seen = std::collections::BTreeSet::new();
    let mut ids_seen = std::collections::BTreeSet::new();
    // 24 hours: every window has other ids.
    for window in 0..144 {
        let beacon = write_beacon(&secrets, window, 4_711, &mut dice);
        assert_eq!(beacon.len(), 130);
        assert!(seen.insert(beacon));
        let (ids, port) = read_beacon(&beacon).unwrap();
        assert_eq!(port, 4_711);
        for (id, secret) in ids.iter().zip(&secrets) {
            assert_eq!(*id, lan_id(secret, window));
        }
        for id in ids {
            assert!(ids_seen.insert(id));
        }
    }
    for len in [0, 1, 129] {
        assert_eq!(read_beacon(&[0; 131][..len]), None);
    }
    assert_eq!(read_beacon(&[0; 131]), None);
}

#[test]
fn more_secrets_than_fit_take_turns() {
    let mut dice = ChaCha20Rng::from_seed([2; 32]);
    let secrets: Vec<_> = (0..19).map(secret).collect();
    let mut rotation = 0;
    let mut told = std::collections::BTreeSet::new();
    for _ in 0..19usize.div_ceil(IDS) {
        let mut in_turn = secrets.clone();
        rotation = turn(&mut in_turn, rotation);
        let (ids, _) = read_beacon(&write_beacon(&in_turn, 7, 1, &mut dice)).unwrap();
        told.extend(ids);
    }
    assert!(secrets.iter().all(|secret| told.contains(&lan_id(secret, 7))));
}

#[tokio::test(start_paused = true)]
async fn a_beacon_is_told_of_once_a_minute_and_sixteen_in_all() {
    let mut told = Told::new(16);
    let (here, there): (SocketAddr, SocketAddr) =
        ("192.0.2.1:9".parse().unwrap(), "192.0.2.2:9".parse().unwrap());
    let begin = Instant::now();
    let after = |s| begin + Duration::from_secs(s);
    assert!(told.may_tell([1; 16], here, begin));
    assert!(!told.may_tell([1; 16], here, after(59)));
    // A false one that is quicker does not hide the true one; but there are not many.
    assert!(told.may_tell([1; 16], there, after(59)));
    let more = |n: u16| SocketAddr::new(there.ip(), n);
    assert!(told.may_tell([1; 16], more(1), after(59)) && told.may_tell([1; 16], more(2), after(59)));
    assert!(!told.may_tell([1; 16], more(3), after(59)), "the fifth address of one id");
    assert!(told.may_tell([1; 16], here, after(61)));
    for n in 2..14 {
        assert!(told.may_tell([n; 16], here, after(62)));
    }
    assert!(!told.may_tell([14; 16], here, after(62)), "the seventeenth of the minute");
    assert!(told.may_tell([14; 16], here, after(124)));
}

/// Goal: who replays a beacon makes nobody dial, once its ids have passed. Method: one beacon, heard at later and later times.
#[tokio::test]
async fn t48_a_beacon_replayed_after_twenty_minutes_is_ignored() {
    let time = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(600_000));
    let clock = {
        let time = std::sync::Arc::clone(&time);
        Clock::new(move || time.load(std::sync::atomic::Ordering::Relaxed))
    };
    let (heard, mut receiver) = mpsc::channel(HEARD_MAX);
    let plan = Plan { watched: vec![secret(7)], ..Plan::default() };
    let mut actor = Actor {
        config: LanConfig::default(),
        port: 1,
        clock,
        metrics: Shared::default(),
        heard,
        plan: watch::channel(plan).1,
        dice: ChaCha20Rng::from_seed([3; 32]),
        sockets: Vec::new(),
        own: Vec::new(),
        rotation: 0,
        answered: None,
        told: Told::new(16),
    };
    let beacon = write_beacon(&[secret(7)], lan_window(600_000), 4_711, &mut ChaCha20Rng::from_seed([4; 32]));
    // Another address each time: no pause of the listener's is what is seen here.
    for (n, later, is_heard) in
        [(1, 0, true), (2, 600, true), (3, 1_199, true), (4, 1_200, false), (5, 90_000, false)]
    {
        time.store(600_000 + later, std::sync::atomic::Ordering::Relaxed);
        let from = SocketAddr::from(([192, 0, 2, n], 24_765));
        assert!(actor.on_datagram(&beacon, from).is_none());
        assert_eq!(receiver.try_recv().is_ok(), is_heard, "{later} s later");
    }
}
