//! One device: its home, its clock, its place in the network, and, while it runs, the real locker and the real node.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use locker_engine::report::{Guide, TicketShown};
use locker_engine::simulation::Simulated;
use locker_engine::{
    Clock, Env, Error, InitOptions, JoinAs, JoinOptions, Locker, Node, NodeOptions, Secret, Vault,
};
use locker_net::{Handle, Limits, NodeAddress};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::dice::Dice;
use crate::disk::{self, Disk};
use crate::network::Network;
use crate::trace::note;
use crate::{hooks, unsynced};

/// On which port everybody listens.
pub const PORT: u16 = 4_001;
/// What is dated further ahead of their clocks than this, others show later.
const AHEAD_MAX_MS: u64 = 10 * 60 * 1_000;

/// What all devices of a run share.
pub struct World {
    /// The thread.
    pub runtime: Arc<Runtime>,
    /// What lies between them.
    pub network: Arc<Network>,
    /// Meeting points.
    pub meeting: Vec<NodeAddress>,
    /// The nodes of these.
    pub points: Vec<Handle>,
    /// The seed of the run.
    pub seed: u64,
}

impl World {
    /// How many connections each meeting point has, and with how many nodes.
    pub fn load(&self) -> Vec<(usize, usize)> {
        let count = |point: &Handle| {
            let connections = self.runtime.block_on(point.connections()).unwrap_or_default();
            let nodes: BTreeSet<_> = connections.iter().map(|one| one.peer).collect();
            (connections.len(), nodes.len())
        };
        self.points.iter().map(count).collect()
    }

    /// Lets time pass.
    pub fn wait(&self, time: Duration) {
        self.runtime.block_on(tokio::time::sleep(time));
    }
}

/// The address of the host of a number, each in a network of its own.
pub fn host(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(20 + high, low, 0, 1))
}

/// The limits of a node, but for its memory: that is of the process, and here one process is all nodes.
pub fn limits() -> Limits {
    Limits { memory_bytes: 1 << 40, ..Limits::default() }
}

/// The right time, in unix milliseconds.
fn right_ms() -> u64 {
    hooks::EPOCH_MS + u64::try_from(hooks::elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A clock that may be wrong.
#[derive(Clone, Default)]
pub struct Skewed(Arc<AtomicI64>);

impl Clock for Skewed {
    fn now_ms(&self) -> u64 {
        right_ms().saturating_add_signed(self.0.load(Ordering::Relaxed))
    }

    fn elapsed(&self) -> Duration {
        hooks::elapsed()
    }
}

/// One device.
pub struct Device {
    /// Its number, from 0.
    pub number: u16,
    /// Where it is.
    pub ip: IpAddr,
    /// Whether it stores and cannot read.
    pub is_blind: bool,
    /// Whether it was ended by another one.
    pub is_revoked: bool,
    /// Whether its home was put back from a backup.
    pub is_set_back: bool,
    /// The words that it showed when it made the locker.
    pub words: Option<Secret>,
    home: PathBuf,
    /// How often it was started from a copy.
    lives: u32,
    starts: u64,
    clock: Skewed,
    /// The latest time that its clock showed before it was set, in unix milliseconds.
    dated_ms: u64,
    keys: BTreeSet<String>,
    locker: Option<Locker>,
    node: Option<Node>,
}

impl Device {
    /// A device that was not started yet.
    pub fn new(number: u16, base: &Path, is_blind: bool) -> Self {
        let home = base.join(format!("device-{number}-0"));
        let clock = Skewed::default();
        let ip = host(number + 1);
        Self {
            number,
            ip,
            is_blind,
            is_revoked: false,
            is_set_back: false,
            words: None,
            home,
            lives: 0,
            starts: 0,
            clock,
            dated_ms: 0,
            keys: BTreeSet::new(),
            locker: None,
            node: None,
        }
    }

    /// Its locker, while it runs.
    pub fn locker(&self) -> Option<&Locker> {
        self.locker.as_ref()
    }

    /// Whether it reads and belongs to the person.
    pub fn is_reader(&self) -> bool {
        !self.is_blind && !self.is_revoked
    }

    /// Its locker, while it runs, if it reads and belongs to the person.
    pub fn reader(&self) -> Option<&Locker> {
        self.locker().filter(|_| self.is_reader())
    }

    /// Every key that it had so far, as it was noted, in hexadecimal.
    pub fn keys(&self) -> &BTreeSet<String> {
        &self.keys
    }

    /// Notes the key that it has now.
    pub fn note_key(&mut self) {
        self.keys.extend(self.locker.as_ref().map(Locker::device_id));
    }

    /// Its home.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Sets its clock wrong, or right.
    pub fn set_clock(&mut self, ahead_ms: i64) {
        self.dated_ms = self.dated_ms.max(self.clock.now_ms());
        self.clock.0.store(ahead_ms, Ordering::Relaxed);
    }

    /// Whether what it writes now may lie too far ahead for others to show it: its clock is ahead, or was, and what it
    /// writes is never dated before what it wrote.
    pub fn is_ahead(&self) -> bool {
        self.dated_ms.max(self.clock.now_ms()) > right_ms().saturating_add(AHEAD_MAX_MS)
    }

    fn env(&self, world: &World) -> Env {
        let dice = Dice::new(world.seed, &format!("device {} start {}", self.number, self.starts));
        Env::new(Box::new(self.clock.clone()), Box::new(dice.into_rng()))
    }

    fn options(&self, world: &World) -> NodeOptions {
        NodeOptions {
            listen: vec![SocketAddr::new(self.ip, PORT)],
            bootstrap: world.meeting.clone(),
            limits: Some(limits()),
            simulated: Some(Simulated {
                runtime: Arc::clone(&world.runtime),
                wire: world.network.seen_by(self.ip),
            }),
            ..NodeOptions::default()
        }
    }

    /// Makes the locker.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn create(&mut self, world: &World) -> Result<(), Error> {
        hooks::next_deed();
        let options = InitOptions { name: Some(self.name()), vault: Vault::File };
        let env = self.env(world);
        Locker::create(&self.home, options, env, |created| {
            self.words = Some(created.phrase.clone());
            Ok::<(), Error>(())
        })?;
        Ok(())
    }

    /// What the others call it.
    pub fn name(&self) -> String {
        format!("device {}", self.number)
    }

    /// Joins the locker of another device.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn join(&mut self, world: &World, other: &Device) -> Result<(), Error> {
        hooks::next_deed();
        let wanted = if self.is_blind { JoinAs::Blind { quota: 0 } } else { JoinAs::Full };
        let Some(locker) = other.locker() else { return Err(Error::Network("not on".into())) };
        let (sender, ticket) = oneshot::channel();
        let guide = Inviting(Mutex::new(Some(sender)));
        let env = self.env(world);
        let joining = async {
            let ticket = ticket.await.map_err(|_| Error::Network("there was no ticket".into()))?;
            let options = JoinOptions {
                wanted,
                ticket,
                name: Some(self.name()),
                vault: Vault::File,
                node: self.options(world),
            };
            locker_engine::simulation::join(&self.home, options, &Agreeing, &env).await
        };
        let inviting = locker_engine::simulation::pair(locker, wanted, &guide);
        let both = async { futures::future::join(inviting, joining).await };
        let (paired, joined) = world.runtime.block_on(both);
        paired?;
        joined?;
        Ok(())
    }

    /// Starts it.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn start(&mut self, world: &World) -> Result<(), Error> {
        hooks::next_deed();
        self.starts += 1;
        world.network.revive(self.ip);
        note(format_args!("start {}", self.number));
        let locker = Locker::open(&self.home, self.env(world), &mut || Err(Error::PassphraseNeeded))?;
        let node = Node::start(&locker, self.options(world))?;
        (self.locker, self.node) = (Some(locker), Some(node));
        self.note_key();
        Ok(())
    }

    /// Asks it; while it is off, a copy of its home.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn ask<T>(
        &self,
        world: &World,
        place: &Disk,
        ask: impl FnOnce(&Locker) -> Result<T, Error>,
    ) -> Result<T, Error> {
        match self.locker() {
            Some(locker) => ask(locker),
            None => self.ask_home(world, place, &self.home, ask),
        }
    }

    /// Asks a copy of a home that it has or had, without a node.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn ask_home<T>(
        &self,
        world: &World,
        place: &Disk,
        home: &Path,
        ask: impl FnOnce(&Locker) -> Result<T, Error>,
    ) -> Result<T, Error> {
        hooks::next_deed();
        let copy = place.path("looked at");
        disk::copy(home, &copy);
        let opened = Locker::open(&copy, self.env(world), &mut || Err(Error::PassphraseNeeded));
        let told = opened.and_then(|locker| ask(&locker));
        _ = std::fs::remove_dir_all(&copy);
        told
    }

    /// Ends it in order.
    pub fn stop(&mut self) {
        hooks::next_deed();
        self.note_key();
        note(format_args!("stop {}", self.number));
        self.node = None;
        self.locker = None;
    }

    /// Where its home will lie after a crash.
    pub fn next_home(&self) -> PathBuf {
        self.home.with_file_name(format!("device-{}-{}", self.number, self.lives + 1))
    }

    /// It is gone. What it left was copied to [`Device::next_home`], from which it starts again; what it still does is
    /// without effect.
    pub fn bury(&mut self) {
        hooks::next_deed();
        self.note_key();
        note(format_args!("gone {}", self.number));
        self.node = None;
        self.locker = None;
        let next = self.next_home();
        _ = std::fs::remove_dir_all(&self.home);
        unsynced::forget(&self.home);
        self.lives += 1;
        self.home = next;
    }

    /// It is off, and its home is what it was when it was copied to `copy`.
    pub fn set_back(&mut self, world: &World, copy: &Path, is_told: bool) {
        world.network.kill(self.ip, is_told);
        disk::copy(copy, &self.next_home());
        self.bury();
        self.is_set_back = true;
    }

    /// What the power takes of it, if it is that which fails.
    pub fn power(&self, world: &World) -> Dice {
        Dice::new(world.seed, &format!("power of {} in life {}", self.number, self.lives))
    }

    /// It is gone at this moment.
    pub fn crash(&mut self, world: &World, is_told: bool, power: Option<Dice>) {
        world.network.kill(self.ip, is_told);
        let next = self.next_home();
        disk::copy(&self.home, &next);
        if let Some(mut dice) = power {
            unsynced::cut(&self.home, &next, &mut dice);
        }
        self.bury();
    }
}

struct Inviting(Mutex<Option<oneshot::Sender<locker_engine::Secret>>>);

impl Guide for Inviting {
    fn ticket(&self, ticket: &TicketShown) -> std::io::Result<()> {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            _ = sender.send(ticket.ticket.clone());
        }
        Ok(())
    }

    fn confirm(&self, _: &str, _: Option<&str>) -> std::io::Result<bool> {
        Ok(true)
    }
}

struct Agreeing;

impl Guide for Agreeing {
    fn confirm(&self, _: &str, _: Option<&str>) -> std::io::Result<bool> {
        Ok(true)
    }
}
