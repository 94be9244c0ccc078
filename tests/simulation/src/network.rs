//! The network between the hosts: who listens, how far apart two are, what is cut, who lies. Every byte passes here, into
//! the trace and under the eye that looks for plaintext.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use locker_net::{Caller, Line, Wire};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::canary;
use crate::dice::Dice;
use crate::pipe::{End, Pipe};
use crate::trace::{self, note};

/// All hosts and what lies between.
pub struct Network(Mutex<State>);

struct State {
    dice: Dice,
    hosts: BTreeMap<IpAddr, Host>,
    listeners: BTreeMap<SocketAddr, mpsc::UnboundedSender<Caller>>,
    /// Directions in which nothing comes through.
    cut: BTreeSet<(IpAddr, IpAddr)>,
    pipes: Vec<Weak<Pipe>>,
    ports: u16,
    /// Bytes that were carried, and the first that showed plaintext.
    bytes: u64,
    shown: Option<String>,
}

/// A host as the network sees it.
#[derive(Clone, Copy)]
pub struct Host {
    /// Whether it answers at all.
    pub is_on: bool,
    /// One way to the middle of the network.
    pub latency: Duration,
    /// Bytes a second.
    pub rate: u64,
    /// Whether it turns bits in what it says.
    pub lies: bool,
}

/// How long some bytes are under way.
pub struct Travel {
    /// Until the first arrives.
    pub latency: Duration,
    /// From then until the last does.
    pub sending: Duration,
}

impl Network {
    /// Nobody is there.
    pub fn new(dice: Dice) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            dice,
            hosts: BTreeMap::new(),
            listeners: BTreeMap::new(),
            cut: BTreeSet::new(),
            pipes: Vec::new(),
            ports: 20_000,
            bytes: 0,
            shown: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a host, or changes it.
    pub fn set_host(&self, ip: IpAddr, host: Host) {
        self.state().hosts.insert(ip, host);
    }

    /// Changes a host.
    pub fn change(&self, ip: IpAddr, change: impl FnOnce(&mut Host)) {
        if let Some(host) = self.state().hosts.get_mut(&ip) {
            change(host);
        }
    }

    /// The network as a host sees it.
    pub fn seen_by(self: &Arc<Self>, host: IpAddr) -> Arc<dyn Wire> {
        Arc::new(Seen { network: Arc::clone(self), host })
    }

    /// The host is gone from one moment to the next. Others are told by resets, or by nobody.
    pub fn kill(&self, host: IpAddr, is_told: bool) {
        let mut state = self.state();
        if let Some(host) = state.hosts.get_mut(&host) {
            host.is_on = false;
        }
        state.listeners.retain(|at, _| at.ip() != host);
        for pipe in state.pipes_of(host) {
            let (from, _) = pipe.ends();
            // What it had sent arrives, or does not.
            if is_told && from == host {
                pipe.reset();
            }
            pipe.hold(true);
        }
    }

    /// The host is there again; it knows nothing of earlier streams.
    pub fn revive(&self, host: IpAddr) {
        let mut state = self.state();
        state.pipes_of(host).iter().for_each(|pipe| pipe.reset());
        if let Some(host) = state.hosts.get_mut(&host) {
            host.is_on = true;
        }
    }

    /// Lets nothing through from one host to another.
    pub fn cut(&self, from: IpAddr, to: IpAddr) {
        let mut state = self.state();
        state.cut.insert((from, to));
        let pipes = state.pipes_of(from);
        pipes.iter().filter(|pipe| pipe.ends() == (from, to)).for_each(|pipe| pipe.hold(true));
    }

    /// Breaks every stream between two hosts, or of one with itself gone: of all, if there is only one.
    pub fn break_between(&self, one: IpAddr, other: IpAddr) {
        let mut state = self.state();
        let between = |pipe: &&Arc<Pipe>| pipe.ends() == (one, other) || pipe.ends() == (other, one);
        state.pipes_of(one).iter().filter(between).for_each(|pipe| pipe.reset());
    }

    /// Everything comes through again: what was sent meanwhile arrives, or its stream breaks.
    pub fn mend(&self, breaks: bool) {
        let mut state = self.state();
        for (from, to) in std::mem::take(&mut state.cut) {
            for pipe in state.pipes_of(from).into_iter().filter(|pipe| pipe.ends() == (from, to)) {
                if breaks {
                    pipe.reset();
                } else {
                    pipe.hold(false);
                }
            }
        }
    }

    /// How far bytes of a stream have to go; they are looked at, and changed if the host lies.
    pub fn take(&self, from: IpAddr, to: IpAddr, tail: &mut Vec<u8>, bytes: &mut [u8]) -> Travel {
        let mut state = self.state();
        tail.extend_from_slice(bytes);
        if state.shown.is_none() && canary::shows(tail) {
            state.shown = Some(format!("{from} to {to}"));
        }
        let cut = tail.len().saturating_sub(canary::MARK.len() - 1);
        tail.drain(..cut);
        if state.lies(from) && bytes.len() > 100 && state.dice.chance(1, 8) {
            let at = bytes.len() / 2 + state.dice.index(bytes.len() / 2);
            bytes[at] ^= 1 << state.dice.below(8);
        }
        trace::carried(from, to, bytes);
        state.bytes += bytes.len() as u64;
        let latency = state.latency(from, to);
        let rate = state.rate(from).min(state.rate(to));
        Travel { latency, sending: Duration::from_nanos(bytes.len() as u64 * 1_000_000_000 / rate) }
    }

    /// Bytes carried so far, and between whom plaintext was seen first.
    pub fn looked_at(&self) -> (u64, Option<String>) {
        let state = self.state();
        (state.bytes, state.shown.clone())
    }
}

impl State {
    fn pipes_of(&mut self, host: IpAddr) -> Vec<Arc<Pipe>> {
        self.pipes.retain(|pipe| pipe.strong_count() > 0);
        let all = self.pipes.iter().filter_map(Weak::upgrade);
        all.filter(|pipe| pipe.ends().0 == host || pipe.ends().1 == host).collect()
    }

    fn lies(&self, host: IpAddr) -> bool {
        self.hosts.get(&host).is_some_and(|host| host.lies)
    }

    fn is_on(&self, host: IpAddr) -> bool {
        self.hosts.get(&host).is_some_and(|host| host.is_on)
    }

    fn rate(&self, host: IpAddr) -> u64 {
        self.hosts.get(&host).map_or(1_000_000, |host| host.rate)
    }

    fn latency(&mut self, from: IpAddr, to: IpAddr) -> Duration {
        let one = |host| self.hosts.get(host).map_or(Duration::ZERO, |host| host.latency);
        let base = one(&from) + one(&to);
        let jitter = base / 8;
        base + jitter.mul_f64(self.dice.below(1_000) as f64 / 1_000.0)
    }
}

/// The network as one host sees it.
struct Seen {
    network: Arc<Network>,
    host: IpAddr,
}

impl Wire for Seen {
    fn listen(&self, at: SocketAddr) -> io::Result<mpsc::UnboundedReceiver<Caller>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.network.state();
        if at.ip() != self.host || state.listeners.get(&at).is_some_and(|old| !old.is_closed()) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        state.listeners.insert(at, sender);
        Ok(receiver)
    }

    fn dial(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Line>>> {
        let (network, from) = (Arc::clone(&self.network), self.host);
        async move {
            let there = {
                let mut state = network.state();
                state.latency(from, to.ip())
            };
            sleep(there).await;
            let is_heard = {
                let state = network.state();
                // A host without power says nothing, nor does a network that is cut.
                state.is_on(from)
                    && state.is_on(to.ip())
                    && !state.cut.contains(&(from, to.ip()))
                    && !state.cut.contains(&(to.ip(), from))
            };
            note(format_args!("dial {from} to {to}, {}", if is_heard { "heard" } else { "not heard" }));
            if !is_heard {
                return std::future::pending().await;
            }
            sleep(there).await;
            let (out, back) = (Arc::new(Pipe::new(from, to.ip())), Arc::new(Pipe::new(to.ip(), from)));
            let mut state = network.state();
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            if !state.is_on(from) || !state.is_on(to.ip()) {
                return Err(refused());
            }
            // Who dials does it from the port on which it listens, but for a router in between now and then.
            let port = if state.dice.chance(1, 4) {
                state.ports = state.ports.checked_add(1).unwrap_or(20_000);
                state.ports
            } else {
                crate::device::PORT
            };
            let caller = SocketAddr::new(from, port);
            let listener = state.listeners.get(&to).ok_or_else(refused)?;
            let theirs = End::new(Arc::clone(&network), Arc::clone(&out), Arc::clone(&back));
            let sent = listener.send((caller, Box::new(theirs)));
            state.pipes.extend([Arc::downgrade(&out), Arc::downgrade(&back)]);
            for (pipe, way) in [(&out, (from, to.ip())), (&back, (to.ip(), from))] {
                if state.cut.contains(&way) {
                    pipe.hold(true);
                }
            }
            drop(state);
            sent.map_err(|_| refused())?;
            let ours: Box<dyn Line> = Box::new(End::new(network, back, out));
            Ok(ours)
        }
        .boxed()
    }
}
