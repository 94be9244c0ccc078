//! The beacon between nodes of one machine.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

use locker_crypto::rendezvous::Publishers;
use locker_crypto::secret::RendezvousSecret;

use super::kit::{config, start, within};
use crate::{Config, Event, Events, Found, Interfaces, LanConfig, Prefer, both_transports};

/// Beacons on loopback, on a port of this test's own.
fn lan() -> LanConfig {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    LanConfig {
        port,
        interfaces: Interfaces::Only(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]),
        interval: Duration::from_millis(200),
        ..LanConfig::default()
    }
}

async fn next_found(events: &mut Events) -> (RendezvousSecret, std::net::SocketAddr) {
    within("a beacon", async {
        loop {
            match events.next().await {
                Some(Event::LanFound { secret, address }) => return (secret, address),
                Some(_) => {}
                None => panic!("the node has stopped"),
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_one_network_find_one_another_without_a_dht() {
    let lan = lan();
    let (a, mut a_events) = start(Config { lan: Some(lan.clone()), ..config() }).await;
    let (b, mut b_events) = start(Config { lan: Some(lan.clone()), ..config() }).await;
    let (of_a, of_b) = (RendezvousSecret::new([1; 32]), RendezvousSecret::new([2; 32]));
    // More secrets than fit into one beacon: they rotate.
    let many: Vec<_> = (10..20).map(|n| RendezvousSecret::new([n; 32])).chain([of_a.clone()]).collect();
    a.lan_watch(vec![of_b.clone(), of_a.clone()]).await.unwrap();
    b.lan_watch(vec![RendezvousSecret::new([9; 32]), of_a.clone()]).await.unwrap();
    a.set_beacons(many).await.unwrap();
    b.set_beacons(vec![of_b.clone()]).await.unwrap();

    let (secret, address) = next_found(&mut b_events).await;
    assert!(secret == of_a);
    let dialed = within("the dial", b.dial(&both_transports(address), Prefer::Tcp)).await.unwrap();
    assert_eq!(dialed.peer, a.transport_key());
    // Not itself, although it watches its own secret too.
    let (secret, address) = next_found(&mut a_events).await;
    assert!(secret == of_b);
    let dialed = within("the dial", a.dial(&both_transports(address), Prefer::Tcp)).await.unwrap();
    assert_eq!(dialed.peer, b.transport_key());

    // A look-up hears beacons too, and ends.
    let (c, _c_events) = start(Config { lan: Some(lan), ..config() }).await;
    let mut find = c.find(&of_b, Publishers::One, None).await.unwrap();
    let mut found = Vec::new();
    while let Some(one) = within("the end of the look-up", find.next()).await {
        found.push(one);
    }
    assert_eq!(found, [Found::Beacon(address)]);
}

/// Goal: who looks for somebody need not wait for the next beacon. Method: the interval is longer than the test may take,
/// and both the one that is sought and the one who looks have more secrets than fit into one beacon.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_called_answers_at_once() {
    let lan = LanConfig { interval: Duration::from_secs(3_600), ..lan() };
    let (a, _a_events) = start(Config { lan: Some(lan.clone()), ..config() }).await;
    let many: Vec<_> = (10..30).map(|n| RendezvousSecret::new([n; 32])).collect();
    a.set_beacons(many.clone()).await.unwrap();
    let (b, _b_events) = start(Config { lan: Some(lan), ..config() }).await;
    let mut find = b.find(&many[17], Publishers::One, None).await.unwrap();
    let mut others = Vec::new();
    for n in 100..140 {
        others.push(b.find(&RendezvousSecret::new([n; 32]), Publishers::One, None).await.unwrap());
    }
    let Some(Found::Beacon(address)) = within("the answer", find.next()).await else { panic!("no beacon") };
    let dialed = within("the dial", b.dial(&both_transports(address), Prefer::Tcp)).await.unwrap();
    assert_eq!(dialed.peer, a.transport_key());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_local_network_nothing_is_sent() {
    let (a, _events) = start(config()).await;
    a.set_beacons(vec![RendezvousSecret::new([1; 32])]).await.unwrap();
    a.connections().await.unwrap();
    assert_eq!(a.figures().beacons_sent, 0);
}
