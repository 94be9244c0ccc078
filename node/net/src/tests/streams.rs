//! Connections and streams between two nodes.

use std::net::Ipv6Addr;
use std::time::Duration;

use locker_crypto::rendezvous::Transport;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::kit::{address_of, config, inbound, start, within};
use crate::{Config, DialError, Event, OpenError, Prefer, Protocol, REFUSAL, REFUSAL_DELAY, Side, refuse};

#[tokio::test(flavor = "multi_thread")]
async fn nodes_exchange_streams_over_both_transports_without_expecting_a_key() {
    for (transport, prefer) in [(Transport::Quic, Prefer::Quic), (Transport::Tcp, Prefer::Tcp)] {
        let (a, _a_events) = start(config()).await;
        let (b, mut b_events) = start(config()).await;
        let dialed = within("the dial", a.dial(&[address_of(&b, transport)], prefer)).await.unwrap();
        assert_eq!((dialed.peer, dialed.side), (b.transport_key(), Side::Dialer));
        assert_eq!(dialed.transport, transport);

        for protocol in Protocol::ALL {
            let mut ours = within("the stream", a.open(dialed.id, protocol)).await.unwrap();
            // What is negotiated lazily arrives with the first bytes.
            ours.write_all(b"hello").await.unwrap();
            ours.flush().await.unwrap();
            let (named, connection, mut theirs) = inbound(&mut b_events).await;
            assert_eq!(named, protocol);
            assert_eq!((connection.peer, connection.side), (a.transport_key(), Side::Listener));
            assert_eq!(connection.remote.ip(), address_of(&a, transport).ip);
            assert_eq!(connection.transport, transport);

            let sent: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
            let (mut read, mut write) = tokio::io::split(&mut theirs);
            let echo = async {
                tokio::io::copy(&mut read, &mut write).await.unwrap();
                write.shutdown().await.unwrap();
            };
            let (mut back, mut out) = tokio::io::split(&mut ours);
            let talk = async {
                let write = async {
                    out.write_all(&sent).await.unwrap();
                    out.shutdown().await.unwrap();
                };
                let mut got = Vec::new();
                let (_, read) = tokio::join!(write, back.read_to_end(&mut got));
                read.unwrap();
                got
            };
            let (got, ()) = within("the echo", async { tokio::join!(talk, echo) }).await;
            assert!(got == [&b"hello"[..], &sent].concat());
        }

        // The other way, over the same connection, by key.
        let mut back = within("the way back", b.open_to(&a.transport_key(), Protocol::Sync)).await.unwrap();
        back.write_all(b"x").await.unwrap();
        a.close(dialed.id).await.unwrap();
        within("the news that it is closed", async {
            while !matches!(b_events.next().await, Some(Event::Closed { .. })) {}
        })
        .await;
        assert!(matches!(
            within("a refusal to open", a.open(dialed.id, Protocol::Sync)).await,
            Err(OpenError::NotConnected | OpenError::Closed)
        ));
        a.shutdown().await;
        b.shutdown().await;
        assert!(matches!(a.open(dialed.id, Protocol::Sync).await, Err(OpenError::Gone(_))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_are_opened_at_a_time_and_none_is_lost() {
    const STREAMS: usize = 48;
    for transport in [Transport::Quic, Transport::Tcp] {
        let (a, _a_events) = start(config()).await;
        let (b, mut b_events) = start(config()).await;
        let dialed = within("the dial", a.dial(&[address_of(&b, transport)], Prefer::Quic)).await.unwrap();
        let opening = futures::future::join_all((0..STREAMS).map(|n| {
            let (a, id) = (a.clone(), dialed.id);
            async move {
                let mut stream = a.open(id, Protocol::Blob).await.unwrap();
                stream.write_all(&[n as u8]).await.unwrap();
                stream.flush().await.unwrap();
                stream
            }
        }));
        let accepting = async {
            let mut seen = Vec::new();
            let mut kept = Vec::new();
            while seen.len() < STREAMS {
                let (_, _, mut stream) = inbound(&mut b_events).await;
                seen.push(stream.read_u8().await.unwrap());
                kept.push(stream);
            }
            seen.sort_unstable();
            seen
        };
        let (_ours, seen) = within("all streams", async { tokio::join!(opening, accepting) }).await;
        assert_eq!(seen, (0..STREAMS as u8).collect::<Vec<_>>());
        assert_eq!(b.figures().streams_refused, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_stream_ends_at_the_other_end() {
    for transport in [Transport::Quic, Transport::Tcp] {
        let (a, _a_events) = start(config()).await;
        let (b, mut b_events) = start(config()).await;
        let dialed = within("the dial", a.dial(&[address_of(&b, transport)], Prefer::Quic)).await.unwrap();
        let mut ours = a.open(dialed.id, Protocol::Sync).await.unwrap();
        ours.write_all(&[9, 0, 0, 0, 7, 1]).await.unwrap();
        ours.flush().await.unwrap();
        let (_, _, mut theirs) = inbound(&mut b_events).await;
        drop(ours);
        let read = within("the end", crate::read_frame(&mut theirs, 4_096)).await;
        assert!(matches!(read, Err(crate::FrameError::Io(_))), "{read:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_sixteen_bytes_after_fifty_milliseconds_and_the_end() {
    let (a, _a_events) = start(config()).await;
    let (b, mut b_events) = start(config()).await;
    let dialed = within("the dial", a.dial(&[address_of(&b, Transport::Tcp)], Prefer::Tcp)).await.unwrap();
    let mut ours = a.open(dialed.id, Protocol::Pair).await.unwrap();
    crate::write_frame(&mut ours, 3, b"whatever").await.unwrap();
    let (_, _, mut theirs) = inbound(&mut b_events).await;
    crate::read_frame(&mut theirs, 4_096).await.unwrap();
    let end = Instant::now();
    let refusing = tokio::spawn(refuse(theirs, end));
    let mut got = Vec::new();
    within("the refusal", ours.read_to_end(&mut got)).await.unwrap();
    assert!(end.elapsed() >= REFUSAL_DELAY);
    assert_eq!(got, REFUSAL);
    refusing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn both_transports_have_one_port_on_both_families() {
    let listen = vec![([127, 0, 0, 1], 0).into(), (Ipv6Addr::LOCALHOST, 0).into()];
    let (a, _events) = start(Config { listen, ..config() }).await;
    let addresses = a.listen_addresses();
    let port = addresses[0].port;
    assert!(addresses.iter().all(|one| one.port == port && port != 0));
    for transport in [Transport::Quic, Transport::Tcp] {
        assert!(addresses.iter().any(|one| one.transport == transport && one.ip.is_ipv4()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_dial_says_why() {
    let (a, _events) = start(config()).await;
    let (gone, _) = start(config()).await;
    let nobody = gone.listen_addresses();
    gone.shutdown().await;
    assert_eq!(within("an answer", a.dial(&[], Prefer::Quic)).await, Err(DialError::Unreachable));
    let tcp: Vec<_> = nobody.into_iter().filter(|one| one.transport == Transport::Tcp).collect();
    assert_eq!(within("an answer", a.dial(&tcp, Prefer::Tcp)).await, Err(DialError::Unreachable));
    let own = [address_of(&a, Transport::Tcp)];
    assert_eq!(within("an answer", a.dial(&own, Prefer::Tcp)).await, Err(DialError::Own));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_transport_is_tried_when_the_first_is_silent() {
    let (a, _a_events) = start(config()).await;
    let (b, _b_events) = start(config()).await;
    let mut addresses = vec![address_of(&b, Transport::Quic)];
    // A TCP port that says nothing. TCP comes first, since this is a local network.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut tcp = address_of(&b, Transport::Tcp);
    tcp.port = silent.local_addr().unwrap().port();
    addresses.push(tcp);
    let begun = Instant::now();
    let dialed = within("the dial", a.dial(&addresses, Prefer::Quic)).await.unwrap();
    assert_eq!(dialed.transport, Transport::Quic);
    assert!(begun.elapsed() >= Duration::from_millis(300));
}

#[tokio::test(flavor = "multi_thread")]
async fn t82_every_start_has_a_key_of_its_own() {
    let mut keys = std::collections::BTreeSet::new();
    for _ in 0..30 {
        let (node, _events) = start(config()).await;
        assert!(keys.insert(node.transport_key()));
        node.shutdown().await;
    }
    assert_eq!(keys.len(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_knock_only_so_often_and_those_with_a_session_do_not_count() {
    let mut few = config();
    few.limits.knocking = 3;
    few.limits.knocking_per_source = 3;
    let (b, mut b_events) = start(few).await;
    let mut kept = Vec::new();
    for n in 0..4 {
        let (a, a_events) = start(config()).await;
        let dialed = within("the dial", a.dial(&b.listen_addresses(), Prefer::Tcp)).await.unwrap();
        let mut stream = a.open(dialed.id, Protocol::Sync).await.unwrap();
        // The fourth may be reset before all of it is out.
        let written = async { stream.write_all(b"knock").await.and(stream.flush().await) }.await;
        assert!(written.is_ok() || n == 3);
        if n < 3 {
            let (_, connection, theirs) = inbound(&mut b_events).await;
            kept.push((a, a_events, dialed, stream, connection, theirs));
        } else {
            let mut rest = Vec::new();
            let _ = within("the reset", stream.read_to_end(&mut rest)).await;
            assert!(rest.is_empty());
            assert_eq!(b.figures().streams_refused, 1);
            // One of the three proves who it is; now there is room again.
            b.set_session(kept[0].4.id, true).await.unwrap();
            let mut again = a.open(dialed.id, Protocol::Sync).await.unwrap();
            again.write_all(b"knock").await.unwrap();
            again.flush().await.unwrap();
            let (_, connection, _) = inbound(&mut b_events).await;
            assert_eq!(connection.peer, a.transport_key());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_and_one_source_have_only_so_many_connections() {
    let mut few = config();
    few.limits.connections_per_source = 6;
    let (b, _b_events) = start(few).await;
    let target = [address_of(&b, Transport::Tcp)];
    let (a, mut a_events) = start(config()).await;
    for _ in 0..4 {
        within("the dial", a.dial(&target, Prefer::Tcp)).await.unwrap();
    }
    // The fifth is refused by the dialing node itself.
    assert_eq!(within("an answer", a.dial(&target, Prefer::Tcp)).await, Err(DialError::Limit));
    let (others, mut kept) = (start(config()).await, Vec::new());
    for _ in 0..2 {
        kept.push(within("the dial", others.0.dial(&target, Prefer::Tcp)).await.unwrap());
    }
    super::kit::until("six connections", || b.figures().connections == 6).await;
    let (third, mut third_events) = start(config()).await;
    if let Ok(dialed) = within("an answer", third.dial(&target, Prefer::Tcp)).await {
        // It stood on the dialer's side for a moment.
        within("the news that it is closed", async {
            while !matches!(third_events.next().await, Some(Event::Closed { connection }) if connection == dialed.id) {}
        })
        .await;
    }
    assert_eq!(b.figures().connections, 6);
    drop(a);
    within("the end", async { while a_events.next().await.is_some() {} }).await;
}
