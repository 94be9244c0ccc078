//! What the node makes of its place behind a router: roles that follow a confirmed address, reservations at relays,
//! direct ways beside relayed ones.

use std::collections::{BTreeMap, HashMap, HashSet};

use libp2p::core::transport::ListenerId;
use libp2p::kad::Mode;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId, identify, relay, swarm};
use locker_crypto::id::VerifyingKey;
use locker_crypto::rendezvous::{Address, Relay};
use tokio::time::{Duration, Instant};

use super::{Driver, queries};
use crate::address::{circuit, from_multiaddr, key_of, may_be_public, peer_id, to_multiaddr};
use crate::connection::{ConnectionId, Side};
use crate::handle::Reached;
use crate::nat::{Bid, Candidate, PortMapping, Reach};

/// Configured nodes that are remembered as relays.
const ENTRIES_MAX: usize = 64;
/// How often it is asked anew under which address others see this node.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// State of all of this.
pub(super) struct Nat {
    reach: Reach,
    /// Listeners that stand for a reservation, asked for or granted.
    listeners: HashMap<ListenerId, VerifyingKey>,
    /// Dials of configured nodes.
    pub(super) entry_dials: HashSet<swarm::ConnectionId>,
    /// Configured nodes as they answered, and as relays if they are.
    entries: BTreeMap<VerifyingKey, Entry>,
    /// When others were last asked where they see us.
    asked_at: Option<Instant>,
    /// Where the router says that it passes on what comes.
    mapped: Vec<Address>,
    /// The same, when it last passed anything on.
    mapped_last: Vec<Address>,
    serves: bool,
}

/// A configured node.
struct Entry {
    address: Address,
    is_relay: bool,
}

impl Nat {
    pub(super) fn new(reach: Reach) -> Self {
        Self {
            reach,
            listeners: HashMap::new(),
            entry_dials: HashSet::new(),
            entries: BTreeMap::new(),
            asked_at: None,
            mapped: Vec::new(),
            mapped_last: Vec::new(),
            serves: false,
        }
    }

    /// When something is to be done without anything happening.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.reach.wake()
    }

    /// The relays that a record names.
    pub(super) fn relays(&self) -> Vec<Relay> {
        self.reach.relays()
    }

    /// The addresses that others have confirmed.
    pub(super) fn confirmed(&self) -> &[Address] {
        self.reach.confirmed()
    }

    /// An address is known to be public.
    pub(super) fn confirm(&mut self, address: Address) {
        self.reach.confirm(address);
    }

    /// A configured node has answered.
    pub(super) fn note_entry(&mut self, key: VerifyingKey, address: Address) {
        if self.entries.len() < ENTRIES_MAX {
            self.entries.entry(key).or_insert(Entry { address, is_relay: false });
        }
    }
}

impl Driver {
    /// Somebody says which protocols he speaks and where he sees us.
    pub(super) fn on_identify(&mut self, event: identify::Event) {
        let identify::Event::Received { connection_id, info, .. } = event else { return };
        let Some(link) = self.links.get_mut(&ConnectionId(connection_id)) else { return };
        if link.connection.is_relayed() {
            return;
        }
        let remote = &link.connection;
        let offers = info.protocols.contains(&relay::HOP_PROTOCOL_NAME);
        let dialed =
            Address { transport: remote.transport, ip: remote.remote.ip(), port: remote.remote.port() };
        let address = match remote.side {
            Side::Dialer => Some(dialed),
            // Where others reach it, which is not the port from which it came.
            Side::Listener => {
                let told = info.listen_addrs.iter().filter_map(from_multiaddr).map(|node| node.address);
                told.into_iter().find(|address| address.ip.to_canonical() == dialed.ip)
            }
        };
        let transport_key = remote.peer;
        link.relay = address.filter(|_| offers).map(|address| Relay { address, transport_key });
        let is_seen = link.reuses_port && remote.side == Side::Dialer;
        if let Some(entry) = self.nat.entries.get_mut(&transport_key) {
            entry.is_relay = offers;
        }
        if is_seen {
            self.swarm.behaviour_mut().prober.note_seen(info.observed_addr);
        }
        self.review();
    }

    /// An address of ours was probed by others and reached.
    pub(super) fn on_confirmed(&mut self, address: &Multiaddr) {
        if let Some(node) = from_multiaddr(address)
            && (may_be_public(node.address.ip) || self.config.role == crate::Role::Server)
        {
            self.nat.reach.confirm(node.address);
            self.queries.publish_anew(Instant::now());
            self.review();
        }
    }

    /// An address is no longer ours.
    pub(super) fn on_unconfirmed(&mut self, address: &Multiaddr) {
        if let Some(node) = from_multiaddr(address) {
            self.nat.reach.expire(&node.address);
            self.queries.publish_anew(Instant::now());
            self.review();
        }
    }

    /// The router has said something. Where it passes a port on is a candidate like those that others tell of, each time
    /// anew, since too many of theirs may have crowded it out; where it no longer does is not ours.
    pub(super) fn on_port_mapping(&mut self, told: &PortMapping) {
        let mapped: Vec<Address> = match told {
            PortMapping::Open(ports) => ports.iter().map(|port| port.address).collect(),
            _ => Vec::new(),
        };
        let gone = std::mem::replace(&mut self.nat.mapped, mapped.clone());
        self.let_go(gone.into_iter().filter(|address| !mapped.contains(address)).collect());
        let last = &mut self.nat.mapped_last;
        let has_moved = !last.is_empty() && mapped.iter().any(|new| last.iter().all(|old| old.ip != new.ip));
        if !mapped.is_empty() {
            last.clone_from(&mapped);
        }
        if has_moved {
            // Those who probe us do so only where they see us, and on connections from before that is the old address.
            self.dial_seers();
        }
        for address in mapped.iter().filter(|address| !self.nat.confirmed().contains(address)) {
            self.swarm.behaviour_mut().prober.note_seen(to_multiaddr(address));
        }
        self.review();
    }

    /// These are no longer ours, as far as they were, unless they were configured.
    fn let_go(&mut self, addresses: Vec<Address>) {
        let fixed: Vec<Address> = self.config.external.iter().map(|node| node.address).collect();
        let is_ours = |address: &Address| self.nat.confirmed().contains(address) && !fixed.contains(address);
        let stale: Vec<Address> = addresses.into_iter().filter(is_ours).collect();
        for address in &stale {
            self.swarm.remove_external_address(&to_multiaddr(address));
            self.nat.reach.expire(address);
        }
        if !stale.is_empty() {
            self.queries.publish_anew(Instant::now());
        }
    }

    /// What the relay client tells.
    pub(super) fn on_circuits(&mut self, event: &relay::client::Event) {
        if let relay::client::Event::ReservationReqAccepted { relay_peer_id, renewal: false, .. } = event
            && let Some(key) = key_of(relay_peer_id)
        {
            self.nat.reach.granted(&key);
            self.queries.publish_anew(Instant::now());
            self.review();
        }
    }

    /// What the relay that this node is tells.
    pub(super) fn on_relay(&mut self, event: &relay::Event) {
        match event {
            relay::Event::CircuitReqAccepted { src_peer_id, .. } => {
                self.household.circuit_stands(*src_peer_id);
            }
            relay::Event::CircuitReqDenied { src_peer_id, .. } => {
                self.household.circuit_refused(*src_peer_id);
            }
            relay::Event::CircuitClosed { src_peer_id, .. } => self.household.circuit_ended(*src_peer_id),
            _ => {}
        }
    }

    /// A listener has ended; whether it stood for a reservation.
    pub(super) fn on_listener_closed(&mut self, id: ListenerId) {
        if let Some(key) = self.nat.listeners.remove(&id) {
            self.nat.reach.lost(&key, Instant::now());
            self.queries.publish_anew(Instant::now());
            self.review();
        }
    }

    /// Brings roles and reservations in line with what is known now.
    pub(super) fn review(&mut self) {
        let candidates = self.candidates();
        for bid in self.nat.reach.bids(&candidates, Instant::now()) {
            match bid {
                Bid::Reserve(relay) => {
                    let key = relay.transport_key;
                    let listening =
                        circuit(&relay, None).and_then(|address| self.swarm.listen_on(address).ok());
                    match listening {
                        Some(id) => drop(self.nat.listeners.insert(id, key)),
                        None => self.nat.reach.lost(&key, Instant::now()),
                    }
                }
                Bid::GiveBack(key) => {
                    let of_relay = self.nat.listeners.iter().filter(|(_, relay)| **relay == key);
                    let ids: Vec<ListenerId> = of_relay.map(|(id, _)| *id).collect();
                    for id in ids {
                        self.nat.listeners.remove(&id);
                        self.swarm.remove_listener(id);
                    }
                    self.queries.publish_anew(Instant::now());
                }
            }
        }
        let serves = self.nat.reach.serves();
        if serves != self.nat.serves {
            self.nat.serves = serves;
            let behaviour = self.swarm.behaviour_mut();
            behaviour.kad.set_mode(Some(if serves { Mode::Server } else { Mode::Client }));
            behaviour.relay.offer(serves);
            behaviour.probe.set_on(serves);
        }
        let reached = Reached {
            public: self.nat.confirmed().to_vec(),
            relays: self.nat.relays(),
            router: self.port_mapper.state(),
        };
        self.reached.send_if_modified(|old| {
            let is_new = *old != reached;
            *old = reached;
            is_new
        });
    }

    /// The relays that may be asked: those with a session, and configured nodes.
    fn candidates(&self) -> Vec<Candidate> {
        let mut candidates: Vec<Candidate> = Vec::new();
        let mut add = |relay: Relay, is_household| {
            if candidates.iter().all(|known| known.relay.transport_key != relay.transport_key) {
                candidates.push(Candidate { relay, is_household });
            }
        };
        for link in self.links.values().filter(|link| link.session) {
            link.relay.into_iter().for_each(|relay| add(relay, true));
        }
        for (key, entry) in self.nat.entries.iter().filter(|(_, entry)| entry.is_relay) {
            add(Relay { address: entry.address, transport_key: *key }, false);
        }
        candidates
    }

    /// A session stands on a connection, or has ended.
    pub(super) fn set_session(&mut self, id: ConnectionId, stands: bool) {
        self.swarm.behaviour_mut().gate.admission.set_session(id, stands);
        if let Some(link) = self.links.get_mut(&id) {
            link.session = stands;
            if stands {
                self.nat.reach.met(&link.connection.peer);
            }
        }
        let with_session = self.links.values().filter(|link| link.session);
        self.household.set_sessions(with_session.map(|link| link.peer_id).collect());
        self.review();
    }

    /// An interface has lost an address. Connections from there are dead, though it may take long until that shows, and
    /// what others confirmed is no longer true.
    pub(super) fn on_address_gone(&mut self, gone: &Address) {
        let ours = self.listening.borrow();
        if gone.ip.is_loopback() || ours.iter().any(|address| address.ip == gone.ip) {
            return;
        }
        drop(ours);
        let same_kind = |link: &&super::Link| {
            let remote = link.connection.remote.ip();
            !remote.is_loopback() && remote.is_ipv4() == gone.ip.is_ipv4()
        };
        let dead: Vec<ConnectionId> =
            self.links.values().filter(same_kind).map(|link| link.connection.id).collect();
        for id in dead {
            self.swarm.close_connection(id.0);
        }
        self.let_go(self.nat.confirmed().to_vec());
        self.dial_entries(queries::Entry::With443);
        self.review();
    }

    /// A connection broke: perhaps the router's address has changed. Those who see us are asked again, over new
    /// connections, since they tell it only once in a while.
    pub(super) fn ask_where_seen(&mut self) {
        let now = Instant::now();
        let is_early = self.nat.asked_at.is_some_and(|at| now.duration_since(at) < ASK_AGAIN);
        if is_early || self.config.role == crate::Role::Server {
            return;
        }
        self.nat.asked_at = Some(now);
        self.port_mapper.ask_again();
        self.dial_seers();
    }

    /// Makes new connections to those who tell us where they see us.
    fn dial_seers(&mut self) {
        let seers: Vec<(PeerId, Address)> =
            self.nat.entries.iter().filter_map(|(key, entry)| Some((peer_id(key)?, entry.address))).collect();
        for (peer, address) in seers {
            let options = DialOpts::peer_id(peer)
                .addresses(vec![to_multiaddr(&address)])
                .condition(PeerCondition::NotDialing)
                .build();
            // Whoever is not reached now tells nothing.
            let _ = self.swarm.dial(options);
        }
    }
}
