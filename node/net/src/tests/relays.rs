//! Ways through a relay on loopback, where nothing is ever public by itself: the relays here are told that they are.

use std::time::Duration;

use locker_crypto::certificate::Certificate;
use locker_crypto::rendezvous::{Contact, Publishers, Relay};
use locker_crypto::secret::RendezvousSecret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::kit::{config, device, inbound, start, until, within};
use crate::{
    Clock, Config, Connection, DialError, Event, Events, Found, Handle, NodeAddress, OpenError, Prefer,
    Protocol, Publication, RelayMode, Role,
};

/// A relay and its address.
async fn relay(mode: RelayMode) -> (Handle, Events, NodeAddress) {
    let mut config = Config { role: Role::Server, relay: mode, ..config() };
    config.limits.connections_per_source = 256;
    let (handle, events) = start(config).await;
    let address = NodeAddress { address: handle.listen_addresses()[0], key: Some(handle.transport_key()) };
    (handle, events, address)
}

/// A node that knows one meeting point and does not wait long to find out that nobody reaches it.
async fn node(meeting: NodeAddress) -> (Handle, Events) {
    let mut config = Config { bootstrap: vec![meeting], ..config() };
    config.limits.relay_grace = Duration::from_millis(50);
    let (node, events) = start(config).await;
    // A circuit is not begun while the relay is still being dialed.
    until("the meeting point is known", || node.figures().dht_nodes > 0).await;
    (node, events)
}

fn certificate(node: &Handle) -> Certificate {
    Certificate::issue(&device(1), node.transport_key(), Clock::system().now_s() + 3_600)
}

/// What a record says of a node that is reached only through a relay.
fn behind(node: &Handle, relay: NodeAddress) -> Contact {
    let relay = Relay { address: relay.address, transport_key: relay.key.unwrap() };
    Contact { certificate: certificate(node), addresses: Vec::new(), relays: vec![relay] }
}

async fn has_reserved(node: &Handle) {
    let mut reached = node.reached();
    within("a reservation", reached.wait_for(|now| !now.relays.is_empty())).await.unwrap();
}

async fn direct(events: &mut Events) -> Connection {
    within("a direct connection", async {
        loop {
            if let Event::Direct { connection } = events.next().await.unwrap() {
                return connection;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_nobody_reaches_is_found_and_dialed_through_a_relay() {
    let (relay, _relay_events, meeting) = relay(RelayMode::Open).await;
    let (a, mut a_events) = node(meeting).await;
    let (b, mut b_events) = node(meeting).await;
    has_reserved(&a).await;
    let secret = RendezvousSecret::new([1; 32]);
    let publication =
        Publication { secret: secret.clone(), r: Publishers::One.write(0), certificate: certificate(&a) };
    a.publish(vec![publication]).await.unwrap();
    let mut find = b.find(&secret, Publishers::One, None).await.unwrap();
    let contact = within("a record that names the relay", async {
        loop {
            match find.next().await {
                Some(Found::Record { contact, .. }) if !contact.relays.is_empty() => return contact,
                Some(_) => {}
                None => find = b.find(&secret, Publishers::One, None).await.unwrap(),
            }
        }
    })
    .await;
    assert_eq!(contact.relays[0].transport_key, relay.transport_key());

    let through = Contact { addresses: Vec::new(), ..contact.clone() };
    let dialed = within("the dial", b.dial_contact(&through, Prefer::Quic)).await.unwrap();
    assert_eq!((dialed.peer, dialed.relay), (a.transport_key(), Some(relay.transport_key())));
    let mut stream = within("a stream", b.open(dialed.id, Protocol::Sync)).await.unwrap();
    stream.write_all(b"through").await.unwrap();
    stream.flush().await.unwrap();
    let (_, at_a, mut heard) = inbound(&mut a_events).await;
    assert_eq!((at_a.peer, at_a.relay), (b.transport_key(), Some(relay.transport_key())));
    let mut read = [0; 7];
    within("the bytes", heard.read_exact(&mut read)).await.unwrap();
    assert_eq!(&read, b"through");

    // A direct way beside it is told of at both ends, and is where streams go from then on.
    let second = within("the direct dial", b.dial(&a.listen_addresses(), Prefer::Quic)).await.unwrap();
    assert_eq!(second.relay, None);
    assert_eq!(direct(&mut a_events).await.peer, b.transport_key());
    let next = within("a stream", b.open_to(&a.transport_key(), Protocol::Blob)).await.unwrap();
    assert_eq!(next.connection(), second.id);
    drop((find, next, b_events.next()));
}

#[tokio::test(flavor = "multi_thread")]
async fn t87_a_household_relay_serves_only_those_with_a_session() {
    let (relay, mut relay_events, meeting) = relay(RelayMode::Household).await;
    let (a, _a_events) = node(meeting).await;
    let (x, _x_events) = node(meeting).await;
    // Without a session it is refused, and nobody is behind it.
    let refused = within("an answer", x.dial_contact(&behind(&a, meeting), Prefer::Quic)).await;
    assert!(matches!(refused, Err(DialError::Unreachable)), "{refused:?}");
    assert!(a.reached().borrow().relays.is_empty());
    // With one it reserves, and a stranger may knock.
    let connection = within("the dial", a.dial(&[meeting.address], Prefer::Quic)).await.unwrap();
    let mut knock = within("a stream", a.open(connection.id, Protocol::Sync)).await.unwrap();
    knock.write_all(b"knock").await.unwrap();
    knock.flush().await.unwrap();
    let (_, at_relay, _heard) = inbound(&mut relay_events).await;
    relay.set_session(at_relay.id, true).await.unwrap();
    a.set_session(connection.id, true).await.unwrap();
    has_reserved(&a).await;
    let dialed = within("the dial", x.dial_contact(&behind(&a, meeting), Prefer::Quic)).await.unwrap();
    assert!(dialed.is_relayed());
    // Somebody without a reservation is not there.
    let none = within("an answer", a.dial_contact(&behind(&x, meeting), Prefer::Quic)).await;
    assert!(matches!(none, Err(DialError::Unreachable)), "{none:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_relay_ends_a_circuit_at_its_bytes() {
    let mut limited = Config { role: Role::Server, relay: RelayMode::Open, ..config() };
    limited.limits.relay_open_bytes = 65_536;
    let (relay, _events) = start(limited).await;
    let key = Some(relay.transport_key());
    let meeting = NodeAddress { address: relay.listen_addresses()[0], key };
    let (a, mut a_events) = node(meeting).await;
    let (b, _b_events) = node(meeting).await;
    has_reserved(&a).await;
    let dialed = within("the dial", b.dial_contact(&behind(&a, meeting), Prefer::Quic)).await.unwrap();
    let mut stream = within("a stream", b.open(dialed.id, Protocol::Sync)).await.unwrap();
    stream.write_all(&[7; 1_024]).await.unwrap();
    stream.flush().await.unwrap();
    let (_, _, mut heard) = inbound(&mut a_events).await;
    let sent = within("the end of the circuit", async {
        let mut sent = 1_024;
        while stream.write_all(&[7; 1_024]).await.is_ok() && stream.flush().await.is_ok() {
            sent += 1_024;
        }
        sent
    });
    let received = async {
        let (mut received, mut buffer) = (0, [0; 4_096]);
        while let Ok(len) = heard.read(&mut buffer).await {
            if len == 0 {
                break;
            }
            received += len;
        }
        received
    };
    let (sent, received) = tokio::join!(sent, within("the end of the stream", received));
    // What was under way when the connection was cut off need not have come.
    assert!(sent >= 32_768 && (1_024..=65_536).contains(&received), "{sent} {received}");
    let after = within("an answer", b.open(dialed.id, Protocol::Sync)).await;
    assert!(matches!(after, Err(OpenError::NotConnected | OpenError::Closed)), "{after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_at_an_address_is_taken_only_if_nothing_better_comes() {
    let (_relay, _relay_events, meeting) = relay(RelayMode::Open).await;
    let (a, _a_events) = node(meeting).await;
    let (b, _b_events) = node(meeting).await;
    let (other, _other_events) = start(config()).await;
    has_reserved(&a).await;
    let contact = Contact { addresses: other.listen_addresses(), ..behind(&a, meeting) };
    let dialed = within("the dial", b.dial_contact(&contact, Prefer::Quic)).await.unwrap();
    assert_eq!(dialed.peer, a.transport_key());
    let nobody = Contact { relays: Vec::new(), ..contact };
    let dialed = within("the dial", b.dial_contact(&nobody, Prefer::Quic)).await.unwrap();
    assert_eq!(dialed.peer, other.transport_key());
}
