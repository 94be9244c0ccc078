//! X, who knows nothing and asks: a node of the same make on the wire, without a locker behind it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use locker_crypto::rendezvous::Address;
use locker_net::{
    Clock, Config, Connection, ConnectionId, Env, Event, Handle, Prefer, Protocol, Stream, read_frame,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::world::limits;

/// Whatever is waited for happens within this time.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// Bytes of a NONCE frame, the only thing that a node says before it is asked.
pub(crate) const NONCE_FRAME: usize = 37;

/// Waits for something to happen.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("did not happen: {what}"))
}

/// Dice that nobody else in this run has.
pub(crate) fn dice() -> ChaCha20Rng {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    ChaCha20Rng::seed_from_u64(NEXT.fetch_add(1, Ordering::Relaxed) + (u64::from(std::process::id()) << 32))
}

/// A runtime for the test's own side.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A stranger's node.
pub(crate) struct Stranger {
    pub(crate) net: Handle,
    inbound: mpsc::UnboundedReceiver<(Protocol, Connection, Stream)>,
}

impl Stranger {
    /// Starts one on a free port of loopback.
    pub(crate) async fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap()).await
    }

    /// Starts one at an address, as soon as it is free.
    pub(crate) async fn at(listen: SocketAddr) -> Self {
        let start = || async {
            let config = Config { listen: vec![listen], lan: None, limits: limits(), ..Config::default() };
            let env = Env { dice: Box::new(dice()), clock: Clock::system() };
            locker_net::start(config, env).await
        };
        let begun = Instant::now();
        let (net, mut events) = loop {
            match start().await {
                Ok(started) => break started,
                Err(error) => assert!(begun.elapsed() < DEADLINE, "{error}"),
            }
            tokio::task::yield_now().await;
        };
        let (tell, inbound) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if let Event::Inbound { protocol, connection, stream } = event {
                    let _ = tell.send((protocol, connection, stream));
                }
            }
        });
        Self { net, inbound }
    }

    /// Dials somebody.
    pub(crate) async fn dial(&self, addresses: &[Address], prefer: Prefer) -> Connection {
        within("the dial", self.net.dial(addresses, prefer)).await.unwrap()
    }

    /// Waits until somebody opens a stream here.
    pub(crate) async fn inbound(&mut self) -> (Protocol, Connection, Stream) {
        within("an inbound stream", self.inbound.recv()).await.unwrap()
    }
}

/// What was answered, and how long it took from the end of the question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) took: Duration,
}

/// Asks on a stream of its own and reads to the end.
pub(crate) async fn ask(net: &Handle, on: ConnectionId, protocol: Protocol, question: &[u8]) -> Answer {
    let asking = async {
        let mut stream = net.open(on, protocol).await.unwrap();
        if protocol == Protocol::Sync {
            stream.flush().await.unwrap();
            let mut nonce = [0; NONCE_FRAME];
            stream.read_exact(&mut nonce).await.unwrap();
            assert_eq!(nonce[..5], [33, 0, 0, 0, 1], "a stranger is told a nonce and nothing else");
        }
        stream.write_all(question).await.unwrap();
        stream.flush().await.unwrap();
        let asked = Instant::now();
        let mut bytes = vec![0; 16];
        let len = stream.read(&mut bytes).await.unwrap();
        let took = asked.elapsed();
        bytes.truncate(len);
        stream.read_to_end(&mut bytes).await.unwrap();
        Answer { bytes, took }
    };
    within("the end of an answer", asking).await
}

/// Reads one frame of a handshake.
pub(crate) async fn frame(stream: &mut Stream) -> (u8, Vec<u8>) {
    within("a frame", read_frame(stream, 4_096)).await.unwrap()
}
