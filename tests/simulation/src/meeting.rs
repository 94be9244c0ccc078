//! The beginning of a run: the thread, the clock, the network, and meeting points in it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use locker_net::{Clock, Config, Env, NodeAddress, RelayMode, Role, both_transports};
use tokio::runtime::Builder;

use crate::device::{PORT, World, host, limits};
use crate::dice::Dice;
use crate::hooks;
use crate::network::{Host, Network};

/// Hosts from this number on are meeting points.
const FIRST: u16 = 60_000;

/// Makes a world with some meeting points. The runtime stays entered, and lives as long as the process.
///
/// # Panics
/// If the runtime cannot be made, or a meeting point does not start: nothing can be simulated then.
pub fn world(seed: u64, points: u16) -> World {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = Arc::new(runtime.expect("a runtime can be made"));
    // For ever: the clock of everything that is outside of the nodes hangs on it.
    std::mem::forget(Box::leak(Box::new(Arc::clone(&runtime))).enter());
    hooks::begin(seed);
    let network = Network::new(Dice::new(seed, "network"));
    let mut world = World { runtime, network, meeting: Vec::new(), points: Vec::new(), seed };
    for number in FIRST..FIRST + points {
        let ip = host(number);
        let latency = Duration::from_millis(10);
        world.network.set_host(ip, Host { is_on: true, latency, rate: 100_000_000, lies: false });
        let at = SocketAddr::new(ip, PORT);
        let config = Config {
            listen: vec![at],
            role: Role::Server,
            relay: RelayMode::Open,
            lan: None,
            limits: limits(),
            bootstrap: world.meeting.clone(),
            wire: Some(world.network.seen_by(ip)),
            ..Config::default()
        };
        let now_s = || hooks::EPOCH_MS / 1_000 + hooks::elapsed().as_secs();
        let dice = Box::new(Dice::new(seed, &format!("meeting point {number}")).into_rng());
        let started =
            world.runtime.block_on(locker_net::start(config, Env { dice, clock: Clock::new(now_s) }));
        let (handle, mut events) = started.expect("a meeting point starts");
        world.runtime.spawn(async move { while events.next().await.is_some() {} });
        world.points.push(handle);
        world.meeting.extend(both_transports(at).map(|address| NodeAddress { address, key: None }));
    }
    world
}
