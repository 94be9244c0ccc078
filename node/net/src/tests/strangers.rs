//! What somebody without any secret can do to a node, and learn of it: a swarm of his own, with the stock behaviours.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::kad::store::MemoryStore;
use libp2p::kad::{Mode, QueryResult, Quorum, Record, RecordKey};
use libp2p::swarm::{NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{StreamProtocol, identify, kad};
use locker_crypto::certificate::Certificate;
use locker_crypto::rendezvous::{Contact, Period, seal_record};
use locker_crypto::secret::RendezvousSecret;

use super::kit::{config, device, dice, server, start, until, within};
use crate::address::{peer_id, to_multiaddr};
use crate::protocol::KAD;
use crate::{Clock, Config, Handle, Limits, Protocol};

#[derive(NetworkBehaviour)]
struct Stranger {
    identify: identify::Behaviour,
    kad: kad::Behaviour<MemoryStore>,
}

fn stranger() -> Swarm<Stranger> {
    stranger_speaking(KAD)
}

/// A stranger who says what he has to say of records under this name.
fn stranger_speaking(name: StreamProtocol) -> Swarm<Stranger> {
    let key = Keypair::generate_ed25519();
    let id = key.public().to_peer_id();
    let mut kad = kad::Behaviour::with_config(id, MemoryStore::new(id), kad::Config::new(name));
    kad.set_mode(Some(Mode::Client));
    let identify = identify::Config::new("stranger/1".to_owned(), key.public());
    let behaviour = Stranger { identify: identify::Behaviour::new(identify), kad };
    let (circuits, _) = libp2p::relay::client::new(id);
    let transport = crate::transport::build(&key, &Limits::default(), circuits).unwrap();
    let settings =
        libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(60));
    Swarm::new(transport, behaviour, id, settings)
}

/// Connects a stranger to a node; returns what identify tells him.
async fn look_at(stranger: &mut Swarm<Stranger>, node: &Handle) -> identify::Info {
    let address = to_multiaddr(&node.listen_addresses()[0]);
    let peer = peer_id(&node.transport_key()).unwrap();
    stranger.behaviour_mut().kad.add_address(&peer, address.clone());
    // Adding may already have begun a dial.
    let _ = stranger.dial(address);
    within("identify", async {
        loop {
            if let SwarmEvent::Behaviour(StrangerEvent::Identify(identify::Event::Received {
                info,
                peer_id,
                ..
            })) = stranger.select_next_some().await
                && peer_id == peer
            {
                return info;
            }
        }
    })
    .await
}

async fn result_of(stranger: &mut Swarm<Stranger>, query: kad::QueryId) -> QueryResult {
    within("the end of a query", async {
        loop {
            if let SwarmEvent::Behaviour(StrangerEvent::Kad(kad::Event::OutboundQueryProgressed {
                id,
                result,
                step,
                ..
            })) = stranger.select_next_some().await
                && id == query
                && step.last
            {
                return result;
            }
        }
    })
    .await
}

/// Keeps a stranger going until a condition holds.
async fn go_on_until(stranger: &mut Swarm<Stranger>, what: &str, condition: impl Fn() -> bool) {
    tokio::select! {
        () = until(what, condition) => {}
        () = async { loop { stranger.select_next_some().await; } } => {}
    }
}

fn valid_record() -> Record {
    let now = Clock::system().now_s();
    let secret = RendezvousSecret::new([7; 32]);
    let certificate = Certificate::issue(&device(1), device(2).verifying_key(), now + 60);
    let contact = Contact { certificate, addresses: Vec::new(), relays: Vec::new() };
    let period = Period::new(&secret, locker_crypto::rendezvous::period_at(now));
    let value = seal_record(&period, 0, &contact, now, &mut dice()).unwrap();
    Record::new(period.dht_key(0).to_vec(), value.to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn t42_t46_a_server_keeps_rendezvous_records_and_nothing_else() {
    let (server, _events, _) = server(true).await;
    let peer = peer_id(&server.transport_key()).unwrap();
    let mut stranger = stranger();
    look_at(&mut stranger, &server).await;
    let good = valid_record();
    let mut signature = good.clone();
    signature.value[639] ^= 1;
    let mut short = good.clone();
    short.value.pop();
    let mut published = good.clone();
    published.publisher = Some(libp2p::PeerId::random());
    let file = Record::new(RecordKey::from(b"a file of mine".to_vec()), vec![1; 4_000]);
    let junk = [signature, short, published, file];
    for (n, record) in junk.iter().enumerate() {
        let put =
            stranger.behaviour_mut().kad.put_record_to(record.clone(), vec![peer].into_iter(), Quorum::One);
        result_of(&mut stranger, put).await;
        go_on_until(&mut stranger, "the refusal", || server.figures().records_refused == n as u64 + 1).await;
        let get = stranger.behaviour_mut().kad.get_record(record.key.clone());
        let got = result_of(&mut stranger, get).await;
        assert!(matches!(got, QueryResult::GetRecord(Err(_))), "{got:?}");
    }
    assert_eq!(server.figures().records_kept, 0);

    let put = stranger.behaviour_mut().kad.put_record_to(good, vec![peer].into_iter(), Quorum::One);
    result_of(&mut stranger, put).await;
    go_on_until(&mut stranger, "the record", || server.figures().records_kept == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t45_provider_records_are_refused_and_nobody_asks_for_them() {
    let (server, _events, bootstrap) = server(true).await;
    let (_home, _home_events) = start(Config { bootstrap: vec![bootstrap], ..config() }).await;
    let mut stranger = stranger();
    look_at(&mut stranger, &server).await;
    let key = RecordKey::from(vec![9; 32]);
    let providing = stranger.behaviour_mut().kad.start_providing(key.clone()).unwrap();
    result_of(&mut stranger, providing).await;
    go_on_until(&mut stranger, "the refusal", || server.figures().providers_refused >= 1).await;
    stranger.behaviour_mut().kad.stop_providing(&key);
    let asking = stranger.behaviour_mut().kad.get_providers(key);
    let found = result_of(&mut stranger, asking).await;
    let QueryResult::GetProviders(Ok(kad::GetProvidersOk::FinishedWithNoAdditionalRecord { .. })) = found
    else {
        panic!("{found:?}")
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn t46_home_nodes_are_in_nobodys_routing_table() {
    let (server, _events, bootstrap) = server(true).await;
    let mut homes = Vec::new();
    for _ in 0..3 {
        homes.push(start(Config { bootstrap: vec![bootstrap], ..config() }).await);
    }
    for (home, _) in &homes {
        until("the home node to join", || home.figures().dht_nodes == 1).await;
    }
    let mut stranger = stranger();
    look_at(&mut stranger, &server).await;
    for n in 0..8 {
        let asking = stranger.behaviour_mut().kad.get_closest_peers(vec![n; 37]);
        let QueryResult::GetClosestPeers(Ok(found)) = result_of(&mut stranger, asking).await else {
            panic!("no answer")
        };
        let found: Vec<_> = found.peers.into_iter().map(|peer| peer.peer_id).collect();
        assert_eq!(found, [peer_id(&server.transport_key()).unwrap()]);
    }
    assert_eq!(server.figures().dht_nodes, 0);
}

/// A home node does not speak the DHT to others: whoever asks it to keep a record, a good one too, is not heard.
#[tokio::test(flavor = "multi_thread")]
async fn t46_a_home_node_keeps_nothing_for_others() {
    let (_server, _events, bootstrap) = server(true).await;
    let (home, _home_events) = start(Config { bootstrap: vec![bootstrap], ..config() }).await;
    let peer = peer_id(&home.transport_key()).unwrap();
    let mut stranger = stranger();
    look_at(&mut stranger, &home).await;
    for record in [valid_record(), Record::new(b"a file of mine".to_vec(), vec![1; 640])] {
        let put = stranger.behaviour_mut().kad.put_record_to(record, vec![peer].into_iter(), Quorum::One);
        let put = result_of(&mut stranger, put).await;
        assert!(matches!(put, QueryResult::PutRecord(Err(_))), "{put:?}");
    }
    let figures = home.figures();
    assert_eq!((figures.records_kept, figures.records_refused), (0, 0));
}

/// T74: an older or a newer protocol is not spoken, nor a part of its name; the ones that there are, are.
#[tokio::test(flavor = "multi_thread")]
async fn t74_other_versions_of_a_protocol_are_not_spoken() {
    let (home, mut events) = start(config()).await;
    let peer = peer_id(&home.transport_key()).unwrap();
    let others =
        ["/locker/sync/0", "/locker/sync/2", "/locker/blob/0", "/locker/pair/0", "/locker/sync", "/locker"];
    let ours = Protocol::ALL.map(|protocol| (protocol.name(), true));
    for (name, is_spoken) in others.map(|name| (name, false)).into_iter().chain(ours) {
        let before = home.figures().streams_in;
        let mut stranger = stranger_speaking(StreamProtocol::new(name));
        look_at(&mut stranger, &home).await;
        let put =
            stranger.behaviour_mut().kad.put_record_to(valid_record(), vec![peer].into_iter(), Quorum::One);
        let asking = result_of(&mut stranger, put);
        if is_spoken {
            // What comes next is no word of ours; that it came is enough.
            tokio::select! {
                _ = asking => panic!("{name}: no stream was opened"),
                (protocol, _, _) = super::kit::inbound(&mut events) => assert_eq!(protocol.name(), name),
            }
        } else {
            asking.await;
            assert_eq!(home.figures().streams_in, before, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t47_identify_tells_constants() {
    let ours = Protocol::ALL.map(Protocol::name);
    let of_all = [
        "/ipfs/id/1.0.0",
        "/ipfs/id/push/1.0.0",
        "/libp2p/autonat/2/dial-back",
        "/libp2p/circuit/relay/0.2.0/stop",
    ];
    let of_public = ["/locker/kad/1", "/libp2p/autonat/2/dial-request", "/libp2p/circuit/relay/0.2.0/hop"];
    let client: BTreeSet<&str> = ours.into_iter().chain(of_all).collect();
    let serving: BTreeSet<&str> = client.iter().copied().chain(of_public).collect();
    let (server, _server_events, bootstrap) = server(true).await;
    let (home, _home_events) = start(Config { bootstrap: vec![bootstrap], ..config() }).await;
    let external = "/ip4/203.0.113.7/udp/4001/quic-v1".parse().unwrap();
    let (public, _public_events) = start(Config { external: vec![external], ..config() }).await;
    for (node, protocols, addresses) in [
        (&home, &client, vec![]),
        (&server, &serving, server.listen_addresses().iter().map(to_multiaddr).collect()),
        (&public, &serving, vec![external.to_string().parse().unwrap()]),
    ] {
        let info = look_at(&mut stranger(), node).await;
        assert_eq!(info.agent_version, "locker/1");
        assert_eq!(info.protocol_version, "locker/1");
        let told: BTreeSet<_> = info.listen_addrs.iter().cloned().collect();
        assert_eq!(told, addresses.into_iter().collect::<BTreeSet<libp2p::Multiaddr>>());
        let told: BTreeSet<&str> = info.protocols.iter().map(AsRef::as_ref).collect();
        assert_eq!(&told, protocols);
        assert!(info.signed_peer_record.is_none());
    }
}
