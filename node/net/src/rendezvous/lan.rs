//! The beacon on the local network (`docs/spec/09-rendezvous.md`, section 5): sends the ids of the secrets under which
//! this node wants to be found, and hears those of others. Equal in length always; ids change every ten minutes. Who looks
//! for somebody calls, with a beacon without a port, and whoever is called sends its own at once.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::time::Duration;

use locker_crypto::rendezvous::{LanId, lan_id, lan_window};
use locker_crypto::secret::RendezvousSecret;
use rand_chacha::ChaCha20Rng;
use rand_core::{CryptoRng, Rng, SeedableRng};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::config::{Clock, Interfaces, LanConfig};
use crate::metrics::{self, Shared};

/// Ids in one beacon.
const IDS: usize = 8;
/// Length of a beacon in bytes.
const BEACON_LEN: usize = IDS * 16 + 2;
/// Beacons on their way to the driver; further ones are dropped, the next comes in half a minute.
const HEARD_MAX: usize = 64;
const MINUTE: Duration = Duration::from_secs(60);
/// Addresses that are told of for one id in a minute.
const ADDRESSES_MAX: usize = 4;

/// Calls are answered no more often than this.
const ANSWER_PAUSE: Duration = Duration::from_millis(500);
/// Calls that go out at once at most: as many as a holder of the phrase needs, who looks under every slot of every
/// generation (`docs/spec/09-rendezvous.md`, section 3.1).
const CALLS_MAX: usize = 64;
/// The port of a call: nobody can be dialed there.
const CALL_PORT: u16 = 0;

/// A beacon of somebody who is watched or sought.
pub(crate) struct Heard {
    pub(crate) secret: RendezvousSecret,
    pub(crate) address: SocketAddr,
    /// Whether the engine asked for it, beside look-ups.
    pub(crate) watched: bool,
}

/// What is sent and who is listened for.
#[derive(Clone, Default)]
struct Plan {
    beacons: Vec<RendezvousSecret>,
    watched: Vec<RendezvousSecret>,
    sought: Vec<RendezvousSecret>,
}

/// The beacon of a node; without a task if the local network is switched off.
pub(crate) struct Beacon {
    plan: watch::Sender<Plan>,
    task: Option<JoinHandle<()>>,
}

impl Beacon {
    pub(crate) fn start(
        config: Option<LanConfig>,
        port: u16,
        per_minute: usize,
        clock: Clock,
        dice: &mut dyn CryptoRng,
        metrics: Shared,
    ) -> (Self, mpsc::Receiver<Heard>) {
        let (heard, receiver) = mpsc::channel(HEARD_MAX);
        let (plan, plan_receiver) = watch::channel(Plan::default());
        let task = config.map(|config| {
            let mut seed = [0; 32];
            dice.fill_bytes(&mut seed);
            let actor = Actor {
                port,
                clock,
                metrics,
                heard,
                plan: plan_receiver,
                dice: ChaCha20Rng::from_seed(seed),
                sockets: Vec::new(),
                own: Vec::new(),
                rotation: 0,
                answered: None,
                told: Told::new(per_minute),
                config,
            };
            tokio::spawn(actor.run())
        });
        (Self { plan, task }, receiver)
    }

    pub(crate) fn set_beacons(&self, secrets: Vec<RendezvousSecret>) {
        self.plan.send_modify(|plan| plan.beacons = secrets);
    }

    pub(crate) fn set_watched(&self, secrets: Vec<RendezvousSecret>) {
        self.plan.send_modify(|plan| plan.watched = secrets);
    }

    pub(crate) fn set_sought(&self, secrets: Vec<RendezvousSecret>) {
        self.plan.send_modify(|plan| plan.sought = secrets);
    }

    pub(crate) async fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            // Aborted is what was asked for.
            let _ = task.await;
        }
    }
}

/// One socket: a group on one interface.
struct Group {
    socket: UdpSocket,
    interface: (IpAddr, u32),
    target: SocketAddr,
}

struct Actor {
    config: LanConfig,
    port: u16,
    clock: Clock,
    metrics: Shared,
    heard: mpsc::Sender<Heard>,
    plan: watch::Receiver<Plan>,
    dice: ChaCha20Rng,
    sockets: Vec<Group>,
    /// Our own addresses: what comes from them and names our port is our own beacon.
    own: Vec<IpAddr>,
    rotation: usize,
    /// When a call was answered last.
    answered: Option<Instant>,
    told: Told,
}

impl Actor {
    async fn run(mut self) {
        let mut beat = interval(self.config.interval);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut sent, mut called) = (Vec::new(), Vec::<RendezvousSecret>::new());
        let mut buffer = [0; BEACON_LEN + 1];
        loop {
            tokio::select! {
                changed = self.plan.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let Plan { beacons, sought, .. } = self.plan.borrow_and_update().clone();
                    if beacons != sent {
                        sent = beacons;
                        self.send(None).await;
                    }
                    let new: Vec<_> = sought.iter().filter(|secret| !called.contains(secret)).cloned().collect();
                    self.call(&new).await;
                    called = sought;
                }
                _ = beat.tick() => {
                    self.join_groups();
                    self.send(None).await;
                    let sought = self.plan.borrow().sought.clone();
                    self.call(&sought).await;
                }
                Some((len, from)) = receive(&self.sockets, &mut buffer) => {
                    let caller = self.on_datagram(buffer.get(..len).unwrap_or(&[]), from);
                    if let Some(secret) = caller.filter(|_| self.may_answer()) {
                        self.send(Some(secret)).await;
                    }
                }
            }
        }
    }

    /// Opens a socket on every interface that has none, and closes those of interfaces that are gone.
    fn join_groups(&mut self) {
        let Ok(found) = if_addrs::get_if_addrs() else { return };
        self.own = found.iter().map(if_addrs::Interface::ip).collect();
        let mut wanted: Vec<(IpAddr, u32)> = Vec::new();
        for interface in &found {
            let ip = interface.ip();
            let chosen = match &self.config.interfaces {
                Interfaces::All => !ip.is_loopback(),
                Interfaces::Only(ips) => ips.contains(&ip),
            };
            let index = interface.index.unwrap_or(0);
            // One IPv6 socket per interface is enough; IPv4 groups are joined by address.
            let doubled = ip.is_ipv6() && wanted.iter().any(|(one, at)| one.is_ipv6() && *at == index);
            if chosen && !doubled {
                wanted.push((ip, index));
            }
        }
        self.sockets.retain(|group| wanted.contains(&group.interface));
        for interface in wanted {
            if !self.sockets.iter().any(|group| group.interface == interface) {
                // An interface without multicast is none of ours.
                self.sockets.extend(open_group(&self.config, interface));
            }
        }
    }

    /// Tells where this node is, under `first` in any case and, of more secrets than fit, the next in turn.
    async fn send(&mut self, first: Option<RendezvousSecret>) {
        let mut secrets = self.plan.borrow().beacons.clone();
        if secrets.is_empty() {
            return;
        }
        match first.and_then(|first| secrets.iter().position(|secret| *secret == first)) {
            Some(at) => secrets.rotate_left(at),
            None => self.rotation = turn(&mut secrets, self.rotation),
        }
        self.send_out(&secrets, self.port).await;
    }

    /// Asks those who are sought to send their beacons now; of too many, those that came last.
    async fn call(&mut self, sought: &[RendezvousSecret]) {
        for secrets in sought.rchunks(IDS).take(CALLS_MAX) {
            self.send_out(secrets, CALL_PORT).await;
        }
    }

    async fn send_out(&mut self, secrets: &[RendezvousSecret], port: u16) {
        let beacon = write_beacon(secrets, lan_window(self.clock.now_s()), port, &mut self.dice);
        for group in &self.sockets {
            if group.socket.send_to(&beacon, group.target).await.is_ok() {
                metrics::count(&self.metrics.beacons_sent);
            }
        }
    }

    fn may_answer(&mut self) -> bool {
        let now = Instant::now();
        let is_free = self.answered.is_none_or(|at| now.duration_since(at) >= ANSWER_PAUSE);
        if is_free {
            self.answered = Some(now);
        }
        is_free
    }

    /// Takes a datagram; gives the secret of ours under which somebody called, if it is a call.
    fn on_datagram(&mut self, bytes: &[u8], from: SocketAddr) -> Option<RendezvousSecret> {
        let (ids, port) = read_beacon(bytes)?;
        let window = lan_window(self.clock.now_s());
        let windows = [window.saturating_sub(1), window, window + 1];
        if port == CALL_PORT {
            let plan = self.plan.borrow();
            let is_called = |secret: &&RendezvousSecret| {
                windows.iter().any(|window| ids.contains(&lan_id(secret, *window)))
            };
            return plan.beacons.iter().find(is_called).cloned();
        }
        if port == self.port && self.own.contains(&from.ip()) {
            return None;
        }
        // An IPv6 address of the link means nothing without its interface, which no dial can name.
        if matches!(from.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local()) {
            return None;
        }
        metrics::count(&self.metrics.beacons_heard);
        let address = SocketAddr::new(from.ip().to_canonical(), port);
        let plan = self.plan.borrow().clone();
        let everybody = plan.watched.iter().chain(&plan.sought);
        let mut done: Vec<&RendezvousSecret> = Vec::new();
        for secret in everybody {
            if done.contains(&secret) {
                continue;
            }
            done.push(secret);
            let ours = windows.map(|window| lan_id(secret, window));
            let Some(id) = ids.iter().find(|id| ours.contains(id)) else { continue };
            if self.told.may_tell(*id, address, Instant::now()) {
                let watched = plan.watched.contains(secret);
                // Full means that the driver is behind; the next beacon comes soon.
                let _ = self.heard.try_send(Heard { secret: secret.clone(), address, watched });
            }
        }
        None
    }
}

/// Waits for a datagram on any of the sockets; never comes back if there is none.
async fn receive(sockets: &[Group], buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
    if sockets.is_empty() {
        return std::future::pending().await;
    }
    loop {
        let ready = sockets.iter().map(|group| Box::pin(group.socket.readable()));
        let (_, at, _) = futures::future::select_all(ready).await;
        let group = sockets.get(at)?;
        match group.socket.try_recv_from(buffer) {
            Ok(received) => return Some(received),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Such as an ICMP error for something sent before; the socket lives on.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

fn open_group(config: &LanConfig, interface: (IpAddr, u32)) -> io::Result<Group> {
    let (ip, index) = interface;
    let (domain, bind, target): (_, SocketAddr, SocketAddr) = match ip {
        IpAddr::V4(_) => (
            Domain::IPV4,
            (Ipv4Addr::UNSPECIFIED, config.port).into(),
            SocketAddrV4::new(config.group_v4, config.port).into(),
        ),
        IpAddr::V6(_) => (
            Domain::IPV6,
            (Ipv6Addr::UNSPECIFIED, config.port).into(),
            SocketAddrV6::new(config.group_v6, config.port, 0, index).into(),
        ),
    };
    let socket = Socket::new(domain, Type::DGRAM, None)?;
    // Several nodes of one machine, and other programs, may listen to the group.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if ip.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&bind.into())?;
    let socket = UdpSocket::from_std(socket.into())?;
    let options = SockRef::from(&socket);
    match ip {
        IpAddr::V4(ip) => {
            options.join_multicast_v4(&config.group_v4, &ip)?;
            options.set_multicast_if_v4(&ip)?;
            options.set_multicast_loop_v4(true)?;
            options.set_multicast_ttl_v4(1)?;
        }
        IpAddr::V6(_) => {
            options.join_multicast_v6(&config.group_v6, index)?;
            options.set_multicast_if_v6(index)?;
            options.set_multicast_loop_v6(true)?;
            options.set_multicast_hops_v6(1)?;
        }
    }
    Ok(Group { socket, interface, target })
}

/// Puts those whose turn it is in front; gives the next turn.
fn turn(secrets: &mut [RendezvousSecret], rotation: usize) -> usize {
    let len = secrets.len().max(1);
    secrets.rotate_left(rotation % len);
    (rotation % len + IDS) % len
}

/// Writes a beacon: the ids of the first eight secrets, random ids for the rest, the port.
fn write_beacon(
    secrets: &[RendezvousSecret],
    window: u64,
    port: u16,
    dice: &mut ChaCha20Rng,
) -> [u8; BEACON_LEN] {
    let mut out = [0; BEACON_LEN];
    dice.fill_bytes(&mut out);
    for (slot, secret) in out.chunks_exact_mut(16).zip(secrets.iter().take(IDS)) {
        slot.copy_from_slice(&lan_id(secret, window));
    }
    out[IDS * 16..].copy_from_slice(&port.to_le_bytes());
    out
}

/// Reads a beacon; `None` for another length.
fn read_beacon(bytes: &[u8]) -> Option<([LanId; IDS], u16)> {
    let bytes: &[u8; BEACON_LEN] = bytes.try_into().ok()?;
    let (ids, port) = bytes.split_last_chunk::<2>()?;
    let ids: [LanId; IDS] = ids.as_chunks().0.try_into().ok()?;
    Some((ids, u16::from_le_bytes(*port)))
}

/// Whom was told of, so that nobody makes us dial without end.
struct Told {
    per_minute: usize,
    last: HashMap<LanId, Vec<(SocketAddr, Instant)>>,
    recent: VecDeque<Instant>,
}

impl Told {
    fn new(per_minute: usize) -> Self {
        Self { per_minute, last: HashMap::new(), recent: VecDeque::new() }
    }

    /// Says whether a beacon may be told of: each address of an id once a minute and a few of them, so that a false one
    /// that is quicker does not hide the true one; and so many in all.
    fn may_tell(&mut self, id: LanId, address: SocketAddr, now: Instant) -> bool {
        self.last.retain(|_, told| {
            told.retain(|(_, at)| now.duration_since(*at) < MINUTE);
            !told.is_empty()
        });
        while self.recent.front().is_some_and(|at| now.duration_since(*at) >= MINUTE) {
            self.recent.pop_front();
        }
        if self.recent.len() >= self.per_minute {
            return false;
        }
        let told = self.last.entry(id).or_default();
        if told.len() >= ADDRESSES_MAX || told.iter().any(|(one, _)| *one == address) {
            return false;
        }
        told.push((address, now));
        self.recent.push_back(now);
        true
    }
}

#[cfg(test)]
mod tests;
