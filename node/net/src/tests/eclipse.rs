//! T49: somebody puts himself in front of a key of the DHT.

use std::time::Duration;

use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::kad::store::MemoryStore;
use libp2p::kad::{KBucketKey, Mode, StoreInserts};
use libp2p::swarm::{NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, identify, kad, relay};
use locker_crypto::certificate::Certificate;
use locker_crypto::rendezvous::{Period, Publishers, Transport, period_at};
use locker_crypto::secret::{RendezvousSecret, SigningSeed};
use rand_core::Rng;

use super::kit::{address_of, config, device, dice, start, until, within};
use crate::protocol::KAD;
use crate::{Clock, Config, Events, Found, Handle, Limits, NodeAddress, Publication, Role, TransportSeed};

const SYBILS: usize = 200;
/// Honest nodes around each of the other two keys, and anywhere.
const HONEST_NEAR: usize = 8;
const HONEST: usize = 3 * HONEST_NEAR;
/// Hostile nodes that each honest one knows.
const HOSTILE_KNOWN: usize = 8;
/// Nodes that fit into the bucket of a routing table.
const K: usize = 20;
/// Keys that the attacker draws to find those nearest to a key.
const DRAWN: usize = 20_000;
/// Nodes of the whole DHT, of which those around the keys are started: fewer than the attacker draws, so that they are
/// further from their keys than his are from theirs.
const WHOLE: usize = 2_000;

#[derive(NetworkBehaviour)]
struct Parts {
    identify: identify::Behaviour,
    kad: kad::Behaviour<MemoryStore>,
}

/// A node that says yes to every record, keeps none, and knows its accomplices.
struct Sybil {
    swarm: Swarm<Parts>,
    id: PeerId,
    at: Multiaddr,
}

async fn sybil(key: &Keypair) -> Sybil {
    let id = key.public().to_peer_id();
    let mut config = kad::Config::new(KAD);
    // What arrives is acknowledged and thrown away.
    config.set_record_filtering(StoreInserts::FilterBoth);
    let mut kad = kad::Behaviour::with_config(id, MemoryStore::new(id), config);
    kad.set_mode(Some(Mode::Server));
    let identify = identify::Config::new("sybil/1".to_owned(), key.public());
    let behaviour = Parts { identify: identify::Behaviour::new(identify), kad };
    let (circuits, _client) = relay::client::new(id);
    let transport = crate::transport::build(key, &Limits::default(), circuits).unwrap();
    let settings =
        libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(120));
    let mut swarm = Swarm::new(transport, behaviour, id, settings);
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let at = within("the address of a sybil", async {
        loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                return address;
            }
        }
    })
    .await;
    Sybil { swarm, id, at }
}

fn keypair(seed: &[u8; 32]) -> Keypair {
    Keypair::ed25519_from_bytes(*seed).unwrap()
}

/// Of so many drawn seeds, those whose nodes are nearest to a key of the DHT.
fn nearest(target: &[u8], drawn: usize, wanted: usize) -> Vec<[u8; 32]> {
    let target = KBucketKey::from(kad::RecordKey::from(target.to_vec()));
    let mut dice = dice();
    let mut seeds: Vec<_> = (0..drawn)
        .map(|_| {
            let mut seed = [0; 32];
            dice.fill_bytes(&mut seed);
            (KBucketKey::from(keypair(&seed).public().to_peer_id()).distance(&target), seed)
        })
        .collect();
    seeds.sort_by_key(|(distance, _)| *distance);
    seeds.into_iter().take(wanted).map(|(_, seed)| seed).collect()
}

fn now_s() -> u64 {
    Clock::system().now_s()
}

/// Goal: whoever owns the whole neighbourhood of the first of a node's three keys hides nothing but that record. Method: of a
/// DHT of honest servers those are started that lie around the other two keys, and some anywhere; each knows some of 200 nodes
/// that lie nearest to key r = 0 and swallow what they are given; one node publishes, another one, that knows other servers,
/// looks for it. That the attack on r = 0 is a perfect one is made sure of: disjoint paths let a copy slip through now and
/// then, so that record is not even published.
///
/// With honest nodes drawn at random instead, as few as these are, the 20 nearest to *any* key are mostly hostile.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "not settled: look-ups of the nodes nearest to a key end with 4 to 14 of 20 (docs/laboratory.md)"]
async fn t49_sybils_around_one_key_hide_one_record_of_three() {
    let secret = RendezvousSecret::new([49; 32]);
    let period = Period::new(&secret, period_at(now_s()));
    let keys = nearest(&period.dht_key(0), DRAWN, SYBILS);
    let keys: Vec<Keypair> = keys.iter().map(keypair).collect();
    let mut sybils = futures::future::join_all(keys.iter().map(sybil)).await;
    let all: Vec<(PeerId, Multiaddr)> = sybils.iter().map(|one| (one.id, one.at.clone())).collect();
    for one in &mut sybils {
        for (id, at) in all.iter().filter(|(id, _)| *id != one.id) {
            one.swarm.behaviour_mut().kad.add_address(id, at.clone());
        }
    }
    for mut one in sybils {
        tokio::spawn(async move {
            loop {
                one.swarm.select_next_some().await;
            }
        });
    }

    // Here everybody has one address: the shares of networks, which would keep most of these out, are tested elsewhere.
    let roomy = || {
        let mut config = config();
        (config.limits.connections, config.limits.connections_per_source) = (4_096, 4_096);
        (config.limits.connections_per_network, config.limits.pending_outbound) = (4_096, 512);
        (config.limits.pending_inbound, config.limits.routing_per_network_and_bucket) = (512, 512);
        config.limits.routing_per_network = 4_096;
        config
    };
    let mut honest: Vec<(Handle, Events)> = Vec::new();
    let near = |r| nearest(&period.dht_key(r), WHOLE, HONEST_NEAR);
    let seeds = [near(1), near(2), nearest(&[], HONEST_NEAR, HONEST_NEAR)].concat();
    for (n, seed) in seeds.into_iter().enumerate() {
        let known = honest.iter().map(|(node, _)| address(node));
        let hostile = all
            .iter()
            .skip(n * 7 % SYBILS)
            .take(HOSTILE_KNOWN)
            .map(|(_, at)| at.to_string().parse().unwrap());
        let bootstrap = known.chain(hostile).collect();
        let transport = TransportSeed::Kept(SigningSeed::new(seed));
        let node = start(Config { bootstrap, role: Role::Server, transport, ..roomy() }).await;
        honest.push(node);
    }
    // Who knows nobody yet but hostile nodes is no part of a DHT.
    for (n, (node, _)) in honest.iter().enumerate() {
        let known = (n + HOSTILE_KNOWN).min(K) as u64;
        until("the servers to know those before them", || node.figures().dht_nodes >= known).await;
    }
    let through = |at: usize| Config { bootstrap: vec![address(&honest[at].0)], ..roomy() };
    let (hidden, _events) = start(through(HONEST - 1)).await;
    let (seeker, _seeker_events) = start(through(HONEST - 2)).await;

    let certificate = Certificate::issue(&device(1), hidden.transport_key(), now_s() + 86_400);
    let r = Publishers::One.write(0).start + 1..Publishers::One.write(0).end;
    hidden.publish(vec![Publication { secret: secret.clone(), r, certificate }]).await.unwrap();
    let mut standing = hidden.standing();
    within("the records to be taken", standing.wait_for(|now| now.stored == 2)).await.unwrap();
    let kept: Vec<u64> = honest.iter().map(|(node, _)| node.figures().records_kept).collect();
    assert!(kept.iter().filter(|records| **records > 0).count() >= 5, "{kept:?}");

    let own = Some(device(1).verifying_key());
    let mut find = seeker.find(&secret, Publishers::One, own).await.unwrap();
    let Some(Found::Record { contact, .. }) = within("the record", find.next()).await else {
        panic!("nothing")
    };
    assert_eq!(contact.certificate.transport(), hidden.transport_key());
}

/// A server, with its key.
fn address(node: &Handle) -> NodeAddress {
    NodeAddress { address: address_of(node, Transport::Tcp), key: Some(node.transport_key()) }
}
