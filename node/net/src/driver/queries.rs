//! The DHT seen from our side: joining it, publishing own records, looking for others.
//!
//! Work waits in one queue and at most [`crate::Limits::queries`] pieces of it run at a time.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use libp2p::kad::{self, QueryId, QueryResult, Quorum};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId};
use locker_crypto::id::VerifyingKey;
use locker_crypto::rendezvous::{Address, Contact, DhtKey, Period, Publishers, Transport};
use locker_crypto::secret::RendezvousSecret;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Driver;
use crate::address::{ip_of, peer_id, publishable, to_multiaddr};
use crate::handle::Found;
use crate::limits::Network;
use crate::metrics;
use crate::rendezvous::lan::Heard;
use crate::rendezvous::schedule::{Moment, Schedule};
use crate::rendezvous::{Publication, Standing, dht};

/// Look-ups at a time; beyond it the oldest ends.
const LOOKS_MAX: usize = 256;
/// How long a beacon is told to look-ups that begin later, and how many are.
const BEACON_TIME: Duration = Duration::from_secs(60);
const BEACONS_MAX: usize = 64;
/// How long the configured nodes have to answer at their own port before others are tried.
const JOIN_TIME: Duration = Duration::from_secs(2);
/// Addresses often change in groups.
const CHANGE_QUIET: Duration = Duration::from_millis(200);

/// Record r of a publication, and when it is put.
struct Published {
    id: u64,
    publication: Publication,
    r: u8,
    schedule: Schedule,
}

/// On which ways the configured nodes are dialed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entry {
    /// By QUIC, where they serve it: it outlives a change of the router's address, and a reservation with it.
    Quic,
    /// Where they say.
    Any,
    /// Besides, at the port that almost every network lets out.
    With443,
}

/// A look-up.
struct Look {
    secret: RendezvousSecret,
    expected: Option<VerifyingKey>,
    publishers: Publishers,
    sender: mpsc::Sender<Found>,
    seen: Vec<Contact>,
    asked: bool,
    /// Keys that are not answered yet.
    open: usize,
    /// Until when it waits for the DHT to be joined.
    join_until: Instant,
    /// Until when it listens to beacons.
    lan_until: Instant,
}

/// A piece of work for the DHT.
enum Job {
    /// Find the nodes nearest to the key of a record in a period.
    Closest { publication: u64, period: u64 },
    /// The record has been handed to them.
    Put { publication: u64 },
    /// Ask for one key.
    Read { look: u64, period: Box<Period>, key: DhtKey },
}

/// State of all of this.
pub(super) struct Queries {
    publications: Vec<Published>,
    looks: HashMap<u64, Look>,
    waiting: VecDeque<Job>,
    running: HashMap<QueryId, Job>,
    beacons: VecDeque<(RendezvousSecret, SocketAddr, Instant)>,
    next_id: u64,
    joined: bool,
    join_due: Option<Instant>,
    /// On which ways the configured nodes are dialed next.
    join_by: Entry,
    standing: watch::Sender<Standing>,
}

impl Queries {
    pub(super) fn new(standing: watch::Sender<Standing>) -> Self {
        Self {
            publications: Vec::new(),
            looks: HashMap::new(),
            waiting: VecDeque::new(),
            running: HashMap::new(),
            beacons: VecDeque::new(),
            next_id: 0,
            joined: false,
            join_due: None,
            join_by: Entry::Quic,
            standing,
        }
    }

    /// Returns when something is to be done without anything happening.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let publications =
            self.publications.iter().filter(|_| self.joined).filter_map(|one| one.schedule.next_due());
        let looks = self.looks.values().filter_map(|look| {
            if !look.asked {
                Some(look.join_until)
            } else if look.open == 0 {
                Some(look.lan_until)
            } else {
                None
            }
        });
        publications.chain(looks).chain(self.join_due.filter(|_| !self.joined)).min()
    }

    /// The addresses have changed.
    pub(super) fn publish_anew(&mut self, now: Instant) {
        for one in &mut self.publications {
            one.schedule.anew(now + CHANGE_QUIET);
        }
    }

    /// Tells look-ups of a beacon, those that begin later too.
    pub(super) fn on_beacon(&mut self, heard: &Heard) {
        for look in self.looks.values().filter(|look| look.secret == heard.secret) {
            let _ = look.sender.try_send(Found::Beacon(heard.address));
        }
        self.beacons.retain(|(secret, address, _)| *secret != heard.secret || *address != heard.address);
        if self.beacons.len() >= BEACONS_MAX {
            self.beacons.pop_front();
        }
        self.beacons.push_back((heard.secret.clone(), heard.address, Instant::now()));
    }

    fn tell_standing(&self) {
        let stored = self.publications.iter().filter(|one| one.schedule.is_stored()).count();
        let standing = Standing { wanted: self.publications.len(), stored };
        self.standing.send_if_modified(|old| std::mem::replace(old, standing) != standing);
    }

    fn published(&mut self, id: u64) -> Option<&mut Published> {
        self.publications.iter_mut().find(|one| one.id == id)
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

impl Driver {
    /// Dials the configured nodes of the DHT, if none is known yet.
    pub(super) fn join(&mut self) {
        let now = Instant::now();
        self.queries.join_due = None;
        if self.config.bootstrap.is_empty() || self.queries.joined {
            return;
        }
        let by = self.queries.join_by;
        let (next, wait) = match by {
            Entry::Quic => (Entry::Any, self.config.limits.dial_stagger),
            Entry::Any => (Entry::With443, JOIN_TIME.min(self.config.retry_interval)),
            Entry::With443 => (Entry::With443, self.config.retry_interval),
        };
        self.queries.join_by = next;
        self.queries.join_due = Some(now + wait);
        self.dial_entries(by);
    }

    /// Dials the configured nodes to which there is no connection.
    pub(super) fn dial_entries(&mut self, by: Entry) {
        let mut tried: Vec<Address> = Vec::new();
        let all = &self.config.bootstrap;
        for node in all {
            let plain = Address { transport: Transport::Tcp, port: 443, ..node.address };
            let by_quic = Address { transport: Transport::Quic, ..node.address };
            let ways = match by {
                Entry::Quic if by_quic != node.address && all.iter().any(|one| one.address == by_quic) => {
                    vec![]
                }
                Entry::Quic | Entry::Any => vec![node.address],
                Entry::With443 => vec![node.address, plain],
            };
            for address in ways {
                if tried.contains(&address) {
                    continue;
                }
                tried.push(address);
                let to = vec![to_multiaddr(&address)];
                let options = match node.key.as_ref().and_then(peer_id) {
                    Some(peer) => {
                        DialOpts::peer_id(peer).addresses(to).condition(PeerCondition::Disconnected).build()
                    }
                    None => DialOpts::unknown_peer_id().address(to_multiaddr(&address)).build(),
                };
                let id = options.connection_id();
                // It is tried again later, and there is nobody to tell.
                if self.swarm.dial(options).is_ok() {
                    self.nat.entry_dials.insert(id);
                }
            }
        }
    }

    /// What was published before under the same secret and r goes on by its schedule: records that are put together because
    /// of something that happened here are seen to belong together.
    pub(super) fn set_publications(&mut self, publications: Vec<Publication>) {
        let mut before = std::mem::take(&mut self.queries.publications);
        for publication in publications {
            for r in publication.r.clone() {
                let same = |one: &Published| one.r == r && one.publication.secret == publication.secret;
                let old = before.iter().position(same).map(|at| before.swap_remove(at));
                let (id, schedule) = match old {
                    Some(old) => (old.id, old.schedule),
                    None => (self.queries.fresh_id(), Schedule::default()),
                };
                let publication = publication.clone();
                self.queries.publications.push(Published { id, publication, r, schedule });
            }
        }
        self.on_time();
    }

    pub(super) fn begin_find(
        &mut self,
        secret: RendezvousSecret,
        publishers: Publishers,
        expected: Option<VerifyingKey>,
        sender: mpsc::Sender<Found>,
    ) {
        let now = Instant::now();
        let queries = &mut self.queries;
        queries.beacons.retain(|(_, _, at)| now.duration_since(*at) < BEACON_TIME);
        for (_, address, _) in queries.beacons.iter().filter(|(one, _, _)| *one == secret) {
            let _ = sender.try_send(Found::Beacon(*address));
        }
        let join_time = if self.config.bootstrap.is_empty() { Duration::ZERO } else { self.config.join_time };
        let lan_time = self.config.lan.as_ref().map_or(Duration::ZERO, |lan| lan.interval);
        let look = Look {
            secret,
            expected,
            publishers,
            sender,
            seen: Vec::new(),
            asked: false,
            open: 0,
            join_until: now + join_time,
            lan_until: now + lan_time,
        };
        let id = queries.fresh_id();
        if queries.looks.len() >= LOOKS_MAX {
            let oldest = queries.looks.keys().min().copied();
            oldest.map(|oldest| queries.looks.remove(&oldest));
        }
        queries.looks.insert(id, look);
        self.watch_looks();
        self.on_time();
    }

    /// Does what is due and starts what may run.
    pub(super) fn on_time(&mut self) {
        let now = Instant::now();
        if self.queries.join_due.is_some_and(|due| due <= now) {
            self.join();
        }
        if self.nat.wake().is_some_and(|due| due <= now) {
            self.review();
        }
        self.queue_publications(now);
        self.queue_looks(now);
        while self.queries.running.len() < self.config.limits.queries {
            let Some(job) = self.queries.waiting.pop_front() else { break };
            self.run_job(job);
        }
    }

    fn queue_publications(&mut self, now: Instant) {
        let moment = Moment { at: now, unix_s: self.clock.now_s() };
        let interval = self.config.publish_interval;
        for one in &mut self.queries.publications {
            one.schedule.renew(moment, interval, &mut *self.dice);
            if self.queries.joined {
                let period = one.schedule.take_due(now, interval, CHANGE_QUIET);
                let job = period.map(|period| Job::Closest { publication: one.id, period });
                self.queries.waiting.extend(job);
            }
        }
        self.queries.tell_standing();
    }

    fn queue_looks(&mut self, now: Instant) {
        let (joined, unix) = (self.queries.joined, self.clock.now_s());
        let waiting = &mut self.queries.waiting;
        let before = self.queries.looks.len();
        self.queries.looks.retain(|id, look| {
            if !look.asked && (joined || look.join_until <= now) {
                look.asked = true;
                if joined {
                    for (period, key) in dht::keys_to_read(&look.secret, look.publishers, unix) {
                        look.open += 1;
                        waiting.push_back(Job::Read { look: *id, period: Box::new(period), key });
                    }
                }
            }
            let through = look.asked && look.open == 0 && look.lan_until <= now;
            !through && !look.sender.is_closed()
        });
        if self.queries.looks.len() != before {
            let looks = &self.queries.looks;
            self.queries
                .waiting
                .retain(|job| !matches!(job, Job::Read { look, .. } if !looks.contains_key(look)));
            self.watch_looks();
        }
    }

    /// Tells the beacon for whom to listen on behalf of look-ups.
    fn watch_looks(&mut self) {
        let secrets = self.queries.looks.values().map(|look| look.secret.clone()).collect();
        self.lan.set_sought(secrets);
    }

    fn run_job(&mut self, job: Job) {
        let id = match &job {
            Job::Closest { publication, period } => {
                let Some(one) = self.queries.published(*publication) else { return };
                let key = dht::key_of(&one.publication, one.r, *period);
                self.swarm.behaviour_mut().kad.get_closest_peers(key.to_vec())
            }
            Job::Read { key, .. } => {
                self.swarm.behaviour_mut().kad.get_record(kad::RecordKey::from(key.to_vec()))
            }
            // Begun by the answer to `Closest`.
            Job::Put { .. } => return,
        };
        metrics::count(&self.metrics.queries);
        self.queries.running.insert(id, job);
    }

    pub(super) fn on_kad(&mut self, event: kad::Event) {
        match event {
            kad::Event::InboundRequest { request } => self.on_dht_request(request),
            kad::Event::RoutablePeer { peer, address }
            | kad::Event::PendingRoutablePeer { peer, address } => {
                self.route(&peer, address);
            }
            kad::Event::RoutingUpdated { .. } => {}
            kad::Event::OutboundQueryProgressed { id, result, step, .. } => {
                self.on_progress(id, result, step.last);
            }
            _ => {}
        }
    }

    /// Takes a node that we reached by dialing into the routing table, unless its network has its share.
    fn route(&mut self, peer: &PeerId, address: Multiaddr) {
        let Some(network) = ip_of(&address).map(Network::of) else { return };
        let limits = &self.config.limits;
        let kad = &mut self.swarm.behaviour_mut().kad;
        let own = kad.kbucket(*peer).map(|bucket| bucket.range());
        let (mut in_bucket, mut in_all, mut nodes) = (0, 0, 0);
        for bucket in kad.kbuckets() {
            let same_bucket = own.as_ref() == Some(&bucket.range());
            for entry in bucket.iter() {
                nodes += 1;
                let same = |one: &Multiaddr| ip_of(one).map(Network::of) == Some(network);
                if entry.node.key.preimage() != peer && entry.node.value.iter().any(same) {
                    in_all += 1;
                    in_bucket += usize::from(same_bucket);
                }
            }
        }
        if in_bucket < limits.routing_per_network_and_bucket && in_all < limits.routing_per_network {
            kad.add_address(peer, address);
            nodes = kad.kbuckets().map(|bucket| bucket.num_entries()).sum();
        }
        metrics::set(&self.metrics.dht_nodes, nodes);
        if nodes > 0 && !self.queries.joined {
            self.queries.joined = true;
            self.on_time();
        }
    }

    fn on_progress(&mut self, id: QueryId, result: QueryResult, last: bool) {
        let job = if last { self.queries.running.remove(&id) } else { None };
        match (result, job) {
            (QueryResult::GetClosestPeers(result), Some(Job::Closest { publication, period })) => {
                let peers = match result {
                    Ok(found) => found.peers,
                    Err(kad::GetClosestPeersError::Timeout { peers, .. }) => peers,
                };
                let peers: Vec<PeerId> = peers.into_iter().map(|peer| peer.peer_id).collect();
                self.put(publication, period, &peers);
            }
            (QueryResult::PutRecord(result), Some(Job::Put { publication })) => {
                // What was not taken by all may have been taken by some.
                let stored = match result {
                    Ok(_) => true,
                    Err(
                        kad::PutRecordError::QuorumFailed { success, .. }
                        | kad::PutRecordError::Timeout { success, .. },
                    ) => !success.is_empty(),
                };
                self.put_ended(publication, stored);
            }
            (QueryResult::GetRecord(Ok(kad::GetRecordOk::FoundRecord(found))), job) => {
                if let Some(Job::Read { look, .. }) = job {
                    self.read_ended(look);
                }
                self.on_record(id, &found.record);
            }
            (_, Some(Job::Read { look, .. })) => self.read_ended(look),
            (_, Some(Job::Closest { publication, .. } | Job::Put { publication })) => {
                self.put_ended(publication, false);
            }
            (_, None) => {}
        }
        if last {
            self.on_time();
        }
    }

    /// The addresses under which this node wants to be found.
    pub(super) fn own_addresses(&self) -> Vec<Address> {
        publishable(self.nat.confirmed(), &self.listening.borrow())
    }

    fn put(&mut self, publication: u64, period: u64, peers: &[PeerId]) {
        let now = self.clock.now_s();
        let (addresses, relays) = (self.own_addresses(), self.nat.relays());
        let Some(one) = self.queries.published(publication) else { return };
        let reached = (addresses, relays);
        let record = dht::make_record(&one.publication, one.r, period, reached, now, &mut *self.dice);
        match record {
            Ok(record) if !peers.is_empty() => {
                // With less than all, the query ends at the first who says yes, and whoever was still being dialed gets
                // nothing: the first may be one who swallows what he is given.
                let id =
                    self.swarm.behaviour_mut().kad.put_record_to(record, peers.iter().copied(), Quorum::All);
                metrics::count(&self.metrics.queries);
                self.queries.running.insert(id, Job::Put { publication });
            }
            _ => self.put_ended(publication, false),
        }
    }

    fn put_ended(&mut self, publication: u64, stored: bool) {
        let pause_max = self.config.retry_interval;
        let Some(one) = self.queries.published(publication) else { return };
        one.schedule.ended(stored, Instant::now(), pause_max);
        if stored {
            metrics::count(&self.metrics.records_published);
        }
        self.queries.tell_standing();
    }

    fn read_ended(&mut self, look: u64) {
        if let Some(look) = self.queries.looks.get_mut(&look) {
            look.open = look.open.saturating_sub(1);
        }
    }

    /// Checks an answer and hands it on. What does not pass is nobody's record.
    fn on_record(&mut self, id: QueryId, record: &kad::Record) {
        let Some(Job::Read { look, period, key }) = self.queries.running.get(&id) else { return };
        let Some(look) = self.queries.looks.get_mut(look) else { return };
        let now = self.clock.now_s();
        let Ok((contact, issued)) = dht::read_record(period, key, record, look.expected.as_ref(), now) else {
            metrics::count(&self.metrics.records_refused);
            return;
        };
        let own = peer_id(&contact.certificate.transport()).as_ref() == Some(self.swarm.local_peer_id());
        if own || look.seen.contains(&contact) {
            return;
        }
        // A look-up whose taker is slow loses what comes late: the DHT is only a hint.
        if look.sender.try_send(Found::Record { contact: contact.clone(), issued }).is_ok() {
            look.seen.push(contact);
        }
    }
}
