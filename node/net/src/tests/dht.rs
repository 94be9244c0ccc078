//! Publishing and finding through one server of the DHT.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use locker_crypto::certificate::Certificate;
use locker_crypto::rendezvous::Publishers;
use locker_crypto::secret::RendezvousSecret;

use super::kit::{config, device, server, start, within};
use crate::{Config, Found, Handle, Prefer, Publication};

fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn publication(
    node: &Handle,
    n: u8,
    secret: &RendezvousSecret,
    publishers: Publishers,
    index: usize,
) -> Publication {
    let certificate = Certificate::issue(&device(n), node.transport_key(), now_s() + 86_400);
    Publication { secret: secret.clone(), r: publishers.write(index), certificate }
}

async fn stands(node: &Handle, records: usize) {
    let mut standing = node.standing();
    within("all records stored", standing.wait_for(|now| now.wanted == records && now.stored == records))
        .await
        .unwrap();
}

async fn all_found(
    node: &Handle,
    secret: &RendezvousSecret,
    publishers: Publishers,
    expected: Option<u8>,
) -> Vec<Found> {
    let expected = expected.map(|n| device(n).verifying_key());
    let mut find = node.find(secret, publishers, expected).await.unwrap();
    let mut all = Vec::new();
    while let Some(found) = within("the end of the look-up", find.next()).await {
        all.push(found);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_know_only_a_server_and_a_secret_find_one_another() {
    for with_key in [true, false] {
        let (_server, _server_events, bootstrap) = server(with_key).await;
        let with_bootstrap = || Config { bootstrap: vec![bootstrap], ..config() };
        let (a, _a_events) = start(with_bootstrap()).await;
        let (b, _b_events) = start(with_bootstrap()).await;
        let (c, _c_events) = start(with_bootstrap()).await;
        let (of_a, link) = (RendezvousSecret::new([1; 32]), RendezvousSecret::new([2; 32]));
        a.publish(vec![
            publication(&a, 1, &of_a, Publishers::One, 0),
            publication(&a, 1, &link, Publishers::Several, 0),
        ])
        .await
        .unwrap();
        b.publish(vec![publication(&b, 2, &link, Publishers::Several, 1)]).await.unwrap();
        stands(&a, 6).await;
        stands(&b, 3).await;

        let found = all_found(&c, &of_a, Publishers::One, Some(1)).await;
        let [Found::Record { contact, issued }] = &found[..] else { panic!("{found:?}") };
        assert_eq!(contact.certificate.transport(), a.transport_key());
        assert_eq!(issued % 3_600, 0);
        assert_eq!(contact.addresses.len(), 2);
        let dialed = within("the dial", c.dial(&contact.addresses, Prefer::Quic)).await.unwrap();
        assert_eq!(dialed.peer, a.transport_key());

        let both = all_found(&c, &link, Publishers::Several, None).await;
        assert_eq!(both.len(), 2, "{both:?}");
        // Another device, another secret: nothing.
        assert_eq!(all_found(&c, &of_a, Publishers::One, Some(2)).await, []);
        assert_eq!(all_found(&c, &RendezvousSecret::new([3; 32]), Publishers::One, None).await, []);
        // Own records are none of its finds.
        assert_eq!(all_found(&b, &link, Publishers::Several, None).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_published_when_the_dht_comes_late() {
    let listen: SocketAddr = {
        let (server, _events, node) = server(false).await;
        server.shutdown().await;
        SocketAddr::new(node.address.ip, node.address.port)
    };
    let bootstrap = crate::both_transports(listen).map(|address| crate::NodeAddress { address, key: None });
    let (a, _a_events) = start(Config { bootstrap: bootstrap.to_vec(), ..config() }).await;
    let secret = RendezvousSecret::new([5; 32]);
    a.publish(vec![publication(&a, 1, &secret, Publishers::One, 0)]).await.unwrap();
    // A look-up does not wait for ever for a DHT that is not there.
    let (lost, _lost_events) =
        start(Config { bootstrap: bootstrap.to_vec(), join_time: Duration::from_millis(50), ..config() })
            .await;
    assert_eq!(all_found(&lost, &secret, Publishers::One, None).await, []);

    let late = Config { listen: vec![listen], role: crate::Role::Server, ..config() };
    let (_server, _events) = start(late).await;
    stands(&a, 3).await;
    let (b, _b_events) = start(Config { bootstrap: bootstrap.to_vec(), ..config() }).await;
    assert_eq!(all_found(&b, &secret, Publishers::One, None).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_dht_says_at_once_that_there_is_nothing() {
    let (a, _events) = start(config()).await;
    assert_eq!(all_found(&a, &RendezvousSecret::new([6; 32]), Publishers::One, None).await, []);
}
