//! What the suites share.

use std::future::Future;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use locker_crypto::rendezvous::{Address, Transport};
use locker_crypto::secret::SigningSeed;
use locker_crypto::sign::Signing;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use tokio::time::timeout;

use crate::{Clock, Config, Connection, Env, Event, Events, Handle, NodeAddress, Protocol, Role, Stream};

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Waits for something to happen.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("did not happen: {what}"))
}

/// Waits until a condition holds that no event tells of.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    within(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

pub(crate) fn dice() -> ChaCha20Rng {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    ChaCha20Rng::seed_from_u64(NEXT.fetch_add(1, Ordering::Relaxed) + (u64::from(std::process::id()) << 32))
}

pub(crate) fn device(n: u8) -> Signing {
    Signing::from_seed(&SigningSeed::new([n; 32]))
}

/// A home node on loopback, without a local network.
pub(crate) fn config() -> Config {
    let mut config = Config {
        listen: vec![(Ipv4Addr::LOCALHOST, 0).into()],
        lan: None,
        retry_interval: Duration::from_millis(300),
        ..Config::default()
    };
    config.limits.connections_per_source = 256;
    config.limits.connections_per_network = 256;
    config.limits.routing_per_network_and_bucket = 64;
    config.limits.routing_per_network = 64;
    config
}

pub(crate) async fn start(config: Config) -> (Handle, Events) {
    let env = Env { dice: Box::new(dice()), clock: Clock::system() };
    crate::start(config, env).await.unwrap()
}

/// A server of the DHT and its address, with or without its key.
pub(crate) async fn server(with_key: bool) -> (Handle, Events, NodeAddress) {
    let (handle, events) = start(Config { role: Role::Server, ..config() }).await;
    let address = handle.listen_addresses()[0];
    let key = with_key.then(|| handle.transport_key());
    (handle, events, NodeAddress { address, key })
}

pub(crate) fn address_of(node: &Handle, transport: Transport) -> Address {
    node.listen_addresses().into_iter().find(|one| one.transport == transport).unwrap()
}

pub(crate) async fn inbound(events: &mut Events) -> (Protocol, Connection, Stream) {
    within("an inbound stream", async {
        loop {
            match events.next().await {
                Some(Event::Inbound { protocol, connection, stream }) => {
                    return (protocol, connection, stream);
                }
                Some(_) => {}
                None => panic!("the node has stopped"),
            }
        }
    })
    .await
}
