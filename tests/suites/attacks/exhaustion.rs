//! T40: who only wants a node to run out of something, before it knows who he is. Real processes; the strangers come from many
//! networks, which are all this machine's own (127.0.0.0/8).

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use locker_crypto::rendezvous::{Address, Transport};
use locker_net::{Connection, NodeAddress, Prefer, Protocol, REFUSAL};
use locker_tests::wait::wait_for;
use locker_tests::{Home, Meeting, Up};
use rand_core::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::stranger::{NONCE_FRAME, Stranger, dice, runtime, within};

/// Memory by which the node may grow.
const GROWTH_MAX: u64 = 64 << 20;
/// Somebody of the household is served within this time, whatever goes on.
const SERVED: Duration = Duration::from_secs(2);

const HALF_OPEN: usize = 10_000;
const KNOCKS: usize = 10_000;
/// Strangers with four idle connections each, two in each network.
const IDLERS: usize = 128;

fn memory(up: &Up) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", up.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
}

fn address_of(up: &Up, transport: Transport) -> Address {
    let mut addresses = up.listen().iter().map(|text| text.parse::<NodeAddress>().unwrap().address);
    addresses.find(|address| address.transport == transport).unwrap()
}

/// Whether the second device is connected, as the first one sees it.
fn is_met(home: &Home) -> bool {
    let devices = home.json(["device", "ls"])["devices"].clone();
    devices.as_array().unwrap().iter().filter(|device| device["online"] == true).count() > 1
}

/// The connection over which the second device is met.
fn connection_of(home: &Home) -> String {
    let told = home.run_json(["doctor"]).json();
    let checks = told["checks"].as_array().unwrap();
    let device = checks.iter().find(|check| check["name"] == "device").unwrap();
    assert_eq!(device["state"], "ok", "{told:#}");
    device["found"].as_str().unwrap().to_owned()
}

/// Connections that stand and on which nothing is ever said, `HALF_OPEN` in all and some hundred at a time.
async fn half_open(target: SocketAddr, has_begun: Arc<AtomicBool>) {
    const AT_ONCE: usize = 300;
    let mut held: Vec<TcpStream> = Vec::new();
    for wave in 0..HALF_OPEN / AT_ONCE + 1 {
        let connects = (0..AT_ONCE).map(async |n| {
            let [third, fourth] = u16::try_from(wave * AT_ONCE + n).unwrap().to_be_bytes();
            let socket = TcpSocket::new_v4().ok()?;
            socket.bind((Ipv4Addr::new(127, 77, third, fourth), 0).into()).ok()?;
            tokio::time::timeout(Duration::from_secs(1), socket.connect(target)).await.ok()?.ok()
        });
        held = futures::future::join_all(connects).await.into_iter().flatten().collect();
        has_begun.store(true, Ordering::SeqCst);
    }
    drop(held);
}

/// A frame that is too long, or never ends, on a stream of its own; gives what came back until the end.
async fn answer_to(net: &locker_net::Handle, on: &Connection, sent: &[u8], piecewise: bool) -> Vec<u8> {
    let talking = async {
        let mut stream = net.open(on.id, Protocol::Sync).await.unwrap();
        stream.flush().await.unwrap();
        let mut nonce = [0; NONCE_FRAME];
        stream.read_exact(&mut nonce).await.unwrap();
        let (mut reader, mut writer) = tokio::io::split(stream);
        let writing = tokio::spawn({
            let sent = sent.to_vec();
            async move {
                for piece in sent.chunks(if piecewise { 1 } else { usize::MAX }) {
                    if writer.write_all(piece).await.is_err() || writer.flush().await.is_err() {
                        return;
                    }
                    if piecewise {
                        // That is the attack.
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
                std::future::pending::<()>().await;
            }
        });
        let mut back = Vec::new();
        // A reset is an end as well.
        let _ = reader.read_to_end(&mut back).await;
        writing.abort();
        back
    };
    within("the end of a stream", talking).await
}

/// Knocks with secrets that nobody has; gives the answer, or `None` if the stream was reset at once.
async fn knock(net: &locker_net::Handle, on: &Connection) -> Option<Vec<u8>> {
    let knocking = async {
        let mut stream = net.open(on.id, Protocol::Sync).await.ok()?;
        stream.flush().await.ok()?;
        let mut nonce = [0; NONCE_FRAME];
        stream.read_exact(&mut nonce).await.ok()?;
        let mut knock = vec![0; 1_061];
        dice().fill_bytes(&mut knock);
        knock[..5].copy_from_slice(&[0x21, 4, 0, 0, 2]);
        stream.write_all(&knock).await.ok()?;
        stream.flush().await.ok()?;
        let mut back = Vec::new();
        stream.read_to_end(&mut back).await.ok()?;
        Some(back)
    };
    within("the answer to a knock", knocking).await
}

/// Goal: nothing that strangers do without a secret makes the node grow, throws out a device of the household, or keeps one
/// waiting, new connections of it included. Method: a device with a session, and one attack after the other while 512
/// connections from 64 networks stand idle.
#[test]
fn t40_strangers_exhaust_nothing() {
    let meeting = Meeting::start();
    let (a, b) = (Home::new(), Home::empty());
    let up_a = Up::start_at(&a, "127.0.0.1:0", &["--bootstrap", meeting.address()]);
    a.pair_with(&b, &meeting, "second");
    let up_b = Up::start_at(&b, "127.0.0.2:0", &[]);
    b.wait_synced();
    a.wait_equal(&b);
    let (before, connection) = (memory(&up_a), connection_of(&a));
    // Over QUIC a node comes from the very address on which it listens.
    let target = address_of(&up_a, Transport::Quic);
    let runtime = runtime();
    let is_served = |what: &str| {
        let name = what.replace(' ', "-");
        let begun = Instant::now();
        b.ok(["mkdir", &name]);
        a.wait_for_path(&name);
        assert!(begun.elapsed() < SERVED, "{what}: a change took {:?}", begun.elapsed());
        assert_eq!(connection_of(&a), connection, "{what}: the session was lost");
        let grown = memory(&up_a).saturating_sub(before);
        assert!(grown < GROWTH_MAX, "{what}: {grown} bytes more memory");
    };

    // Four connections each, from 64 networks, with nothing said on them.
    let (strangers, idle) = runtime.block_on(async {
        let starts = (0..IDLERS).map(|n| {
            let [_, _, _, n] = u32::try_from(n).unwrap().to_be_bytes();
            Stranger::at((Ipv4Addr::new(127, 50, n / 2, 1 + n % 2), 0).into())
        });
        let strangers = futures::future::join_all(starts).await;
        let mut idle = Vec::new();
        for (n, stranger) in strangers.iter().enumerate() {
            for _ in 0..4 {
                if let Ok(connection) = stranger.net.dial(&[target], Prefer::Quic).await {
                    idle.push((n, connection));
                }
            }
        }
        (strangers, idle)
    });
    // Those of the household have places that strangers do not get.
    assert!((400..=512).contains(&idle.len()), "{} idle connections", idle.len());
    is_served("512 idle connections");

    // Frames that are too long are refused at once, those that do not come, soon.
    let some_of = |range: std::ops::Range<usize>| {
        let mut firsts = idle.clone();
        firsts.dedup_by_key(|(n, _)| *n);
        let of_range = firsts.into_iter().filter(|(n, _)| range.contains(n));
        of_range.map(|(n, connection)| (&strangers[n], connection)).collect::<Vec<_>>()
    };
    let refused = runtime.block_on(async {
        let alive = some_of(IDLERS - 12..IDLERS);
        assert!(alive.len() >= 6, "{} strangers are left", alive.len());
        let too_long = [&4_098_u32.to_le_bytes()[..], &[2; 4_098]].concat();
        let endless = [&u32::MAX.to_le_bytes()[..], &[2; 64]].concat();
        let slow = [&1_057_u32.to_le_bytes()[..], &[2; 60]].concat();
        let tries = alive.iter().enumerate().map(async |(n, (one, on))| match n % 3 {
            0 => answer_to(&one.net, on, &too_long, false).await,
            1 => answer_to(&one.net, on, &endless, false).await,
            _ => answer_to(&one.net, on, &slow, true).await,
        });
        futures::future::join_all(tries).await
    });
    assert!(refused.iter().all(|back| back.is_empty() || back[..] == REFUSAL[..]), "{refused:?}");
    is_served("oversize and slow frames");

    // Knocks with nothing behind them, as many as go.
    let (refused, reset) = (AtomicUsize::new(0), AtomicUsize::new(0));
    runtime.block_on(async {
        let left = AtomicUsize::new(KNOCKS);
        let knockers = some_of(IDLERS - 60..IDLERS - 20).into_iter().map(async |(one, on)| {
            let streams = (0..8).map(async |_| {
                while left
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                    .is_ok()
                {
                    match knock(&one.net, &on).await {
                        Some(back) => {
                            assert_eq!(back, REFUSAL);
                            refused.fetch_add(1, Ordering::SeqCst);
                        }
                        None => _ = reset.fetch_add(1, Ordering::SeqCst),
                    }
                }
            });
            futures::future::join_all(streams).await;
        });
        futures::future::join_all(knockers).await;
    });
    // Of more at once than are waited for, some are reset before anything is said.
    let (refused, reset) = (refused.into_inner(), reset.into_inner());
    assert_eq!(refused + reset, KNOCKS);
    assert!(refused >= KNOCKS / 4, "only {refused} knocks were answered");
    is_served("10,000 knocks");

    // Connections that never say a word; meanwhile the second device comes anew, over a connection of its own.
    let SocketAddr::V4(at) = SocketAddr::new(target.ip, target.port) else { unreachable!() };
    let has_begun = Arc::new(AtomicBool::new(false));
    let flood = runtime.spawn(half_open(at.into(), Arc::clone(&has_begun)));
    wait_for("the flood", Duration::from_secs(20), || has_begun.load(Ordering::SeqCst).then_some(()));
    up_b.stop().ok();
    wait_for("the end of the session", Duration::from_secs(20), || (!is_met(&a)).then_some(()));
    let up_b = Up::start_at(&b, "127.0.0.2:0", &[]);
    let begun = Instant::now();
    wait_for("the second device, in spite of the flood", Duration::from_secs(30), || {
        is_met(&a).then_some(())
    });
    assert!(begun.elapsed() < SERVED, "the second device took {:?} to come in", begun.elapsed());
    assert!(!flood.is_finished(), "the flood was over before it mattered");
    runtime.block_on(flood).unwrap();
    let grown = memory(&up_a).saturating_sub(before);
    assert!(grown < GROWTH_MAX, "half-open connections: {grown} bytes more memory");
    eprintln!(
        "T40: {} idle connections, {refused} knocks answered, {reset} reset, {HALF_OPEN} half open: {} KiB more memory",
        idle.len(),
        grown >> 10
    );
    up_b.stop().ok();
    up_a.stop().ok();
}
