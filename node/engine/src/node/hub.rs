//! The middle of a node: who is connected, what is held, what is wanted. Sessions, fetches and the dialer meet here.

mod announce;
mod guests;
mod heirs;
mod inherited;
mod level;
mod look;
mod search;
mod sessions;
mod transfers;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use locker_crypto::id::{PackHash, VerifyingKey};
use locker_net::{
    Config, ConnectionId, Env as NetEnv, Event as NetEvent, Events, Handle, NodeAddress, Protocol,
};
use locker_sync::frontier::Log;
use locker_sync::message::v1::{Head, LogKind, Succeed};
use locker_sync::plan::{Bounds, Plan};
use locker_sync::scope::Scope;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::guests::Guest;
pub(super) use self::guests::Visit;
pub(crate) use self::heirs::Gathered;
pub(in crate::node) use self::inherited::Inherited;
use self::sessions::Session;
use super::away::Away;
use super::dialer::Trail;
use super::invite::Invitation;
use super::leases::Leases;
use super::remembered::Remembered;
use super::threads::{self, Waits};
use super::{
    again, audit, begins, blobs, conversation, dialer, drives, folding, heir, invite, jumps, keeping, leases,
    remembered, renewal, resting, ruling, scrub, slots,
};
use crate::Error;
use crate::locker::Inner;
use crate::replicas::{Grounds, Reachable};
use crate::report::{Traffic, Way};
use crate::share::Register;

/// How often it is looked whether the time of deferred entries has come.
const DEFERRED_INTERVAL: Duration = Duration::from_secs(30);

/// The shared middle of a node.
pub(crate) struct Hub {
    inner: Arc<Inner>,
    runtime: Waits,
    net: Handle,
    /// The meeting points with which the node was started, and whether it looks around on the local network.
    bootstrap: Vec<NodeAddress>,
    has_lan: bool,
    state: Mutex<State>,
    /// Counts changes of `heads` and `wanted`, for the sessions.
    changed: watch::Sender<u64>,
    /// Counts comings and goings of devices, and searches, for the dialer.
    presence: watch::Sender<u64>,
    /// Set once, to end everything.
    stopping: watch::Sender<bool>,
    /// A session became level, or is no longer.
    levelled: Notify,
    /// Something for the fetches to do.
    pub(super) fetches: Notify,
    tasks: Mutex<JoinSet<()>>,
    /// The count of commits at which nothing was left to fold.
    folded: AtomicU64,
    /// The count of commits at which nothing was left to be written again.
    written_again: AtomicU64,
    /// Packs to want that no batch told of, until the next look.
    named: Mutex<Vec<(PackHash, u32)>>,
    /// Held by the look at the store that is under way: an older one is not written over a newer one.
    looking: tokio::sync::Mutex<()>,
    /// Much of the database was read in one go since the node rested last.
    swept: AtomicBool,
    /// The invitation that runs.
    invitation: Mutex<Option<Arc<Invitation>>>,
    /// Reading what is on other devices only.
    away: Away,
    /// What this device promised to others.
    leases: Leases,
    /// Answers under way to own devices, and to holders of links.
    own_answers: Arc<Semaphore>,
    /// The same for small requests of own devices.
    small_answers: Arc<Semaphore>,
    guest_answers: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    /// How far this node is in every log, and whether its newest item was written here.
    heads: BTreeMap<Log, BTreeMap<VerifyingKey, Head>>,
    sessions: HashMap<VerifyingKey, Session>,
    /// Devices whose session is being moved to a direct connection.
    moving: BTreeSet<VerifyingKey>,
    /// What the owner of a transport key may ask for.
    scopes: HashMap<VerifyingKey, Admitted>,
    /// Addresses from which own devices came, the newest first: they pass first where strangers have to wait.
    sources: VecDeque<IpAddr>,
    /// Holders of links with a session, by their transport keys.
    guests: HashMap<VerifyingKey, Guest>,
    /// Phrase holders that are here, or how far this one is.
    recovery: heirs::Recovery,
    /// The links of the person.
    register: Arc<Register>,
    plan: Plan,
    /// Packs that are being sent, and to how many.
    sending: HashMap<PackHash, usize>,
    /// What is wanted, each with the number of its wish: one that was given up and wished again is asked for anew.
    wanted: BTreeMap<PackHash, u64>,
    wishes: u64,
    /// The root key that counts.
    root: Option<VerifyingKey>,
    /// The one whose holders were let in last.
    served_root: Option<VerifyingKey>,
    roster: BTreeSet<VerifyingKey>,
    /// Those that are let in: the roster, and devices that were replaced and may not know it.
    admitted: BTreeSet<VerifyingKey>,
    /// The replicas of the person that can be reached, and what their tokens are judged by.
    replicas: BTreeMap<VerifyingKey, Reachable>,
    grounds: Arc<Grounds>,
    /// Replicas that were found and do not stand in what is known of the home space.
    strays: BTreeMap<VerifyingKey, Reachable>,
    /// What this device asks for that needs a new key, and when somebody was asked last.
    succession: Option<(Succeed, Option<Instant>)>,
    last_seen: HashMap<VerifyingKey, u64>,
    /// Devices whose last session ended soon after it had begun.
    soon_lost: BTreeSet<VerifyingKey>,
    /// Devices that are to be looked for at once.
    sought: BTreeSet<VerifyingKey>,
    /// How the last search for each device went, and how many there were.
    trails: HashMap<VerifyingKey, Trail>,
    searches: u64,
    /// What entries stand on that is not here.
    missing: BTreeMap<Log, Vec<(VerifyingKey, u64)>>,
    /// Authors that are forked, and from which number on.
    forked: BTreeMap<(Log, VerifyingKey), u64>,
    /// Packs that came to be here while the node ran, in that order: what sessions tell those who wanted them.
    arrived: Vec<PackHash>,
    /// How far each device once was.
    remembered: Remembered,
    levels: level::Levels,
}

/// What a session tells its peer, as it stands now.
pub(super) struct Knowledge {
    /// How far this node is in every log.
    pub(super) heads: BTreeMap<Log, BTreeMap<VerifyingKey, Head>>,
    /// The packs that are wanted, each with the number of its wish.
    pub(super) wanted: BTreeMap<PackHash, u64>,
    /// What entries stand on that is not here.
    pub(super) missing: BTreeMap<Log, Vec<(VerifyingKey, u64)>>,
    /// Who is forked.
    pub(super) forked: BTreeMap<(Log, VerifyingKey), u64>,
    /// Authors of whose pins nothing more is awaited: they were replaced, or are forked.
    pub(super) ended: BTreeSet<VerifyingKey>,
    /// Packs that arrived since the given count.
    pub(super) arrived: Vec<PackHash>,
    /// The count to give next time.
    pub(super) arrived_count: usize,
}

/// What the owner of a transport key may ask for.
#[derive(Clone)]
pub(super) struct Admitted {
    /// What a session gave it.
    pub(super) scope: Scope,
    /// For the holder of a link: what it gives.
    pub(super) visit: Option<Visit>,
    /// Answers that the session may have under way.
    answers: Arc<Semaphore>,
    /// Small ones beside them.
    small_answers: Arc<Semaphore>,
}

/// What a session is given when it is let in.
pub(super) struct Place {
    /// Becomes true when the session is to end.
    pub(super) end: watch::Receiver<bool>,
}

impl Hub {
    /// Starts everything.
    pub(in crate::node) async fn start(
        inner: Arc<Inner>,
        config: Config,
        runtime: Waits,
        inherited: Inherited,
    ) -> Result<Arc<Self>, Error> {
        let env = NetEnv { dice: Box::new(crate::env::system_dice()), clock: net_clock(&inner) };
        let (bootstrap, has_lan) = (config.bootstrap.clone(), config.lan.is_some());
        let (net, events) = locker_net::start(config, env).await?;
        let plan = Plan::new(Bounds::default(), &inner.keys().device_id());
        let hub = Arc::new(Self {
            inner,
            runtime,
            net,
            bootstrap,
            has_lan,
            state: Mutex::new(State { plan, last_seen: inherited.last_seen, ..State::default() }),
            changed: watch::channel(0).0,
            presence: watch::channel(0).0,
            stopping: watch::channel(false).0,
            levelled: Notify::new(),
            fetches: Notify::new(),
            tasks: Mutex::new(JoinSet::new()),
            folded: AtomicU64::new(u64::MAX),
            written_again: AtomicU64::new(u64::MAX),
            named: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
            swept: AtomicBool::new(false),
            invitation: Mutex::new(None),
            away: Away::default(),
            leases: inherited.leases,
            own_answers: Arc::new(Semaphore::new(guests::OWN_ANSWERS)),
            small_answers: Arc::new(Semaphore::new(guests::SMALL_ANSWERS)),
            guest_answers: Arc::new(Semaphore::new(guests::GUEST_ANSWERS)),
        });
        let marks = hub.blocking(Inner::load_remembered).await?;
        hub.with_remembered(|known| *known = marks);
        hub.blocking(Inner::learn_secrets).await?;
        // From before the first look: what is committed between that and the task that follows is not missed.
        let commits = hub.inner.commits();
        hub.look().await?;
        hub.expect_known().await;
        hub.want_all().await?;
        hub.announce().await;
        hub.spawn(Arc::clone(&hub).listen_to(events));
        hub.spawn(Arc::clone(&hub).watch_commits(commits));
        if hub.reads() {
            hub.spawn(Arc::clone(&hub).let_in_deferred());
        }
        if hub.inner.heir().is_none_or(|heir| !heir.is_rehearsal()) {
            hub.begin_fetching();
        }
        if hub.inner.heir().is_some() {
            // No device yet: it writes nothing and is found by nobody.
            hub.spawn(heir::run(Arc::clone(&hub)));
            return Ok(hub);
        }
        if hub.reads() {
            hub.spawn(folding::run(Arc::clone(&hub)));
            hub.spawn(again::run(Arc::clone(&hub)));
            hub.spawn(renewal::run(Arc::clone(&hub)));
            hub.spawn(begins::run(Arc::clone(&hub)));
            hub.spawn(ruling::run(Arc::clone(&hub)));
            // A device that stores is looked for, and looks for nobody.
            hub.spawn(dialer::run(Arc::clone(&hub)));
            hub.spawn(slots::run(Arc::clone(&hub)));
            hub.spawn(audit::run(Arc::clone(&hub)));
            hub.spawn(drives::run(Arc::clone(&hub)));
        }
        hub.spawn(jumps::run(Arc::clone(&hub)));
        hub.spawn(keeping::run(Arc::clone(&hub)));
        hub.spawn(leases::run(Arc::clone(&hub)));
        hub.spawn(remembered::run(Arc::clone(&hub)));
        hub.spawn(scrub::run(Arc::clone(&hub)));
        hub.spawn(resting::run(Arc::clone(&hub)));
        Ok(hub)
    }

    /// Ends everything, in order.
    pub(crate) async fn stop(&self) {
        self.stopping.send_replace(true);
        {
            let state = self.state();
            let guests = state.guests.values().map(|guest| &guest.end);
            let others = guests.chain(state.recovery.seats.values().map(|(_, end)| end));
            for end in state.sessions.values().map(|session| &session.end).chain(others) {
                end.send_replace(true);
            }
        }
        // Tasks that end may start others, which end at once.
        loop {
            let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
            if tasks.is_empty() {
                break;
            }
            while tasks.join_next().await.is_some() {}
        }
        self.net.shutdown().await;
    }

    /// The locker.
    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Whether this device reads what it holds; else it stores it for somebody.
    pub(super) fn reads(&self) -> bool {
        self.inner.depot().is_none()
    }

    /// The threads of the node, for who waits on it from outside.
    pub(crate) fn runtime(&self) -> &Waits {
        &self.runtime
    }

    /// The network.
    pub(crate) fn net(&self) -> &Handle {
        &self.net
    }

    /// The meeting points with which the node was started.
    pub(crate) fn bootstrap(&self) -> &[NodeAddress] {
        &self.bootstrap
    }

    /// Whether the node looks around on the local network.
    pub(crate) fn has_lan(&self) -> bool {
        self.has_lan
    }

    /// What reading from other devices needs.
    pub(super) fn away(&self) -> &Away {
        &self.away
    }

    /// What this device promised to others.
    pub(super) fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Addresses on which the node listens.
    pub(crate) fn listen(&self) -> Vec<String> {
        let addresses = self.net.listen_addresses().into_iter();
        addresses.map(|address| NodeAddress { address, key: None }.to_string()).collect()
    }

    /// Becomes true when everything is to end.
    pub(super) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Whether everything is to end.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Runs `work` on a thread that may block.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = Arc::clone(&self.inner);
        let done = threads::blocking(move || work(&inner)).await;
        done.unwrap_or_else(|| Err(Error::Network("the node is stopping".into())))
    }

    /// Runs a task of the node. It must end when the node is stopping: [`Hub::until_stop`].
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Waits for something, but no longer than the node runs: `None` once it is stopping.
    pub(super) async fn until_stop<T>(&self, task: impl Future<Output = T>) -> Option<T> {
        let mut stopping = self.stopping();
        tokio::select! {
            value = task => Some(value),
            _ = stopping.wait_for(|stop| *stop) => None,
        }
    }

    /// Waits for something on the threads of the node, for somebody outside of them.
    ///
    /// # Errors
    /// [`Error::Network`] if the node stops meanwhile.
    pub(crate) fn wait_for<T>(&self, task: impl Future<Output = T>) -> Result<T, Error> {
        let done = self.runtime.block_on(self.until_stop(task));
        done.ok_or_else(|| Error::Network("the node is stopping".into()))
    }

    /// Begins an invitation, unless one runs.
    pub(super) fn set_invitation(&self, invitation: &Arc<Invitation>) -> bool {
        let mut place = self.invitation.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = place.is_none();
        if is_free {
            *place = Some(Arc::clone(invitation));
        }
        is_free
    }

    /// Ends an invitation.
    pub(super) fn end_invitation(&self, invitation: &Arc<Invitation>) {
        let mut place = self.invitation.lock().unwrap_or_else(PoisonError::into_inner);
        place.take_if(|running| Arc::ptr_eq(running, invitation));
    }

    /// The invitation that runs.
    pub(super) fn invitation(&self) -> Option<Arc<Invitation>> {
        self.invitation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Much of the database was read in one go.
    pub(super) fn note_swept(&self) {
        self.swept.store(true, Ordering::Release);
    }

    /// Whether much of the database was read in one go since this was asked last.
    pub(super) fn take_swept(&self) -> bool {
        self.swept.swap(false, Ordering::AcqRel)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unix seconds.
    pub(super) fn now_s(&self) -> u64 {
        self.inner.env().now_ms() / 1_000
    }

    /// The person's active devices, this one included.
    pub(super) fn roster(&self) -> BTreeSet<VerifyingKey> {
        self.state().roster.clone()
    }

    /// The devices that are let in: the active ones, and those that were replaced and may not know it.
    pub(super) fn admitted_devices(&self) -> BTreeSet<VerifyingKey> {
        self.state().admitted.clone()
    }

    /// Wants every pack that the logs name and that is not here.
    pub(super) async fn want_all(&self) -> Result<(), Error> {
        let wanted = self.blocking(Inner::wanted_packs).await?;
        self.want(&wanted);
        Ok(())
    }

    /// Has packs wanted that the transaction under way names, after the next commit. If this one is given up, the entries that
    /// name them are taken in soon all the same.
    pub(crate) fn want_soon(&self, packs: Vec<(PackHash, u32)>) {
        self.named.lock().unwrap_or_else(PoisonError::into_inner).extend(packs);
    }

    /// Wants what waited for that.
    pub(super) fn want_named(&self) {
        let named = std::mem::take(&mut *self.named.lock().unwrap_or_else(PoisonError::into_inner));
        if !named.is_empty() {
            self.want(&named);
            self.levelled.notify_waiters();
        }
    }

    /// Whether nothing waits for that.
    pub(super) fn has_no_named(&self) -> bool {
        self.named.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Wants packs.
    pub(crate) fn want(&self, packs: &[(PackHash, u32)]) {
        if packs.is_empty() {
            return;
        }
        let tag = self.inner.space_tag();
        let mut state = self.state();
        for (hash, len) in packs {
            state.plan.want(tag, *hash, u64::from(*len));
            state.wishes += 1;
            let wish = state.wishes;
            state.wanted.entry(*hash).or_insert(wish);
        }
        drop(state);
        self.bump();
    }

    /// Notes that packs are here now.
    pub(super) fn got(&self, packs: &[PackHash]) {
        let mut state = self.state();
        for hash in packs {
            state.wanted.remove(hash);
        }
        state.arrived.extend_from_slice(packs);
        drop(state);
        self.bump();
    }

    pub(super) fn bump(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Tells of changes of heads and wanted packs.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What a session tells its peer; `arrived_count` is that of the last time.
    pub(super) fn knowledge(&self, arrived_count: usize) -> Knowledge {
        let state = self.state();
        let forked = state.forked.keys().filter(|(log, _)| log.kind == LogKind::Entries);
        let ended = state.admitted.difference(&state.roster).chain(forked.map(|(_, author)| author));
        Knowledge {
            heads: state.heads.clone(),
            wanted: state.wanted.clone(),
            missing: state.missing.clone(),
            forked: state.forked.clone(),
            ended: ended.copied().collect(),
            arrived: state.arrived.get(arrived_count..).unwrap_or_default().to_vec(),
            arrived_count: state.arrived.len(),
        }
    }

    /// Works on what is remembered of other devices.
    pub(super) fn with_remembered<T>(&self, f: impl FnOnce(&mut Remembered) -> T) -> T {
        f(&mut self.state().remembered)
    }

    /// Works on the plan.
    pub(super) fn with_plan<T>(&self, f: impl FnOnce(&mut Plan) -> T) -> T {
        f(&mut self.state().plan)
    }

    /// Whether packs are being fetched.
    pub(super) fn is_fetching(&self) -> bool {
        self.state().plan.bytes_in_flight() > 0
    }

    /// Which devices are connected now, and when others were last.
    pub(crate) fn presence(&self) -> (BTreeSet<VerifyingKey>, HashMap<VerifyingKey, u64>) {
        let state = self.state();
        (state.sessions.keys().copied().collect(), state.last_seen.clone())
    }

    /// How the devices are reached that are connected now.
    pub(crate) fn ways(&self) -> HashMap<VerifyingKey, Way> {
        let way =
            |session: &Session| if session.connection.is_relayed() { Way::Relayed } else { Way::Direct };
        self.state().sessions.iter().map(|(device, session)| (*device, way(session))).collect()
    }

    /// Bytes moved for packs since the node started.
    pub(crate) fn traffic(&self) -> Traffic {
        let figures = self.net.figures();
        Traffic { pack_bytes_sent: figures.pack_bytes_sent, pack_bytes_received: figures.pack_bytes_received }
    }

    /// What the owner of a transport key may ask for.
    pub(super) fn admitted(&self, transport: &VerifyingKey) -> Option<Admitted> {
        self.state().scopes.get(transport).cloned()
    }

    /// The links of the person, as the log lists them now.
    pub(crate) fn register(&self) -> Arc<Register> {
        Arc::clone(&self.state().register)
    }

    /// The connection over which a device is reached.
    pub(super) fn connection_to(&self, device: &VerifyingKey) -> Option<ConnectionId> {
        self.state().sessions.get(device).map(|session| session.connection.id)
    }

    /// Takes in entries whose time has come.
    async fn let_in_deferred(self: Arc<Self>) {
        while self.until_stop(tokio::time::sleep(DEFERRED_INTERVAL)).await.is_some() {
            if let Ok(taken) = self.blocking(Inner::release_deferred).await {
                self.want(&taken.wanted);
                self.unwant(&taken.unwanted);
            }
        }
    }

    /// Hears the network. Without one nobody reaches this node: it ends, and whoever started it is told.
    async fn listen_to(self: Arc<Self>, mut events: Events) {
        while let Some(Some(event)) = self.until_stop(events.next()).await {
            match event {
                NetEvent::Inbound { protocol, connection, stream } => {
                    let hub = Arc::clone(&self);
                    match protocol {
                        Protocol::Sync => self.spawn(conversation::serve(hub, connection, stream)),
                        Protocol::Blob => self.spawn(blobs::serve(hub, connection, stream)),
                        Protocol::Pair => self.spawn(invite::serve(hub, connection, stream)),
                    }
                }
                NetEvent::LanFound { secret, .. } => dialer::beacon(&self, &secret),
                NetEvent::Direct { connection } => {
                    let hub = Arc::clone(&self);
                    self.spawn(hub.improve(connection.peer));
                }
                NetEvent::Listening { .. } | NetEvent::Closed { .. } => {}
            }
        }
        self.stopping.send_replace(true);
    }
}

fn net_clock(inner: &Arc<Inner>) -> locker_net::Clock {
    let inner = Arc::downgrade(inner);
    locker_net::Clock::new(move || inner.upgrade().map_or(0, |inner| inner.env().now_ms() / 1_000))
}
