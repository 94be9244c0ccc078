//! Whether this node is public, and at which relays it reserves meanwhile. Plain state: time and what is connected come
//! as arguments, what is to be done goes back as [`Bid`]s.

use std::collections::BTreeMap;
use std::time::Duration;

use locker_crypto::id::VerifyingKey;
use locker_crypto::rendezvous::{Address, Relay};
use tokio::time::Instant;

use crate::config::Role;
use crate::limits::Limits;

/// First wait after a relay refused or was lost; it doubles.
const WAIT_MIN: Duration = Duration::from_secs(2);
/// Longest wait.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// Relays whose refusals are remembered.
const WAITS_MAX: usize = 64;

/// A relay that may be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Candidate {
    pub(crate) relay: Relay,
    /// Somebody with a session; else a configured node.
    pub(crate) is_household: bool,
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bid {
    /// Ask a relay for a reservation.
    Reserve(Relay),
    /// Give the one at this relay back.
    GiveBack(VerifyingKey),
}

struct Held {
    relay: Relay,
    is_granted: bool,
}

/// How this node is reached.
pub(crate) struct Reach {
    role: Role,
    relays_max: usize,
    grace: Duration,
    confirmed: Vec<Address>,
    /// Since when a relay is at hand.
    since: Option<Instant>,
    held: BTreeMap<VerifyingKey, Held>,
    waits: BTreeMap<VerifyingKey, (Instant, Duration)>,
    wake: Option<Instant>,
}

impl Reach {
    pub(crate) fn new(role: Role, limits: &Limits) -> Self {
        Self {
            role,
            relays_max: limits.relays,
            grace: limits.relay_grace,
            confirmed: Vec::new(),
            since: None,
            held: BTreeMap::new(),
            waits: BTreeMap::new(),
            wake: None,
        }
    }

    /// Whether this node serves others: the DHT, as a relay, by probes.
    pub(crate) fn serves(&self) -> bool {
        match self.role {
            Role::Client => false,
            Role::WhenPublic => !self.confirmed.is_empty(),
            Role::Server => true,
        }
    }

    /// The addresses that are confirmed to be reached from anywhere.
    pub(crate) fn confirmed(&self) -> &[Address] {
        &self.confirmed
    }

    /// The relays at which this node has a reservation.
    pub(crate) fn relays(&self) -> Vec<Relay> {
        self.held.values().filter(|held| held.is_granted).map(|held| held.relay).collect()
    }

    /// When [`Reach::bids`] is to be asked again, whatever happens.
    pub(crate) fn wake(&self) -> Option<Instant> {
        self.wake
    }

    /// Notes that others reach an address.
    pub(crate) fn confirm(&mut self, address: Address) {
        if !self.confirmed.contains(&address) {
            self.confirmed.push(address);
        }
    }

    /// Notes that an address is no longer ours.
    pub(crate) fn expire(&mut self, address: &Address) {
        self.confirmed.retain(|one| one != address);
    }

    /// A relay granted what was asked.
    pub(crate) fn granted(&mut self, relay: &VerifyingKey) {
        if let Some(held) = self.held.get_mut(relay) {
            held.is_granted = true;
            self.waits.remove(relay);
        }
    }

    /// A relay refused, or the reservation has ended. One that stood is asked for again at once.
    pub(crate) fn lost(&mut self, relay: &VerifyingKey, now: Instant) {
        let Some(held) = self.held.remove(relay) else { return };
        let wait = match self.waits.get(relay) {
            _ if held.is_granted => Duration::ZERO,
            Some((_, wait)) => (*wait * 2).clamp(WAIT_MIN, WAIT_MAX),
            None => WAIT_MIN,
        };
        if self.waits.len() >= WAITS_MAX {
            let next = self.waits.iter().min_by_key(|(_, (until, _))| *until).map(|(key, _)| *key);
            next.map(|key| self.waits.remove(&key));
        }
        self.waits.insert(*relay, (now + wait, wait));
    }

    /// A session with somebody stands: what he refused before he may grant now.
    pub(crate) fn met(&mut self, peer: &VerifyingKey) {
        self.waits.remove(peer);
    }

    /// Says what is to be done; it is taken for done.
    pub(crate) fn bids(&mut self, candidates: &[Candidate], now: Instant) -> Vec<Bid> {
        self.wake = None;
        // Those of IPv4 alone do not reach an address of IPv6.
        let is_reached = self.confirmed.iter().any(|address| address.ip.is_ipv4());
        if is_reached || self.role != Role::WhenPublic {
            let given_back = self.held.keys().copied().map(Bid::GiveBack).collect();
            self.held.clear();
            return given_back;
        }
        if candidates.is_empty() {
            self.since = None;
            return Vec::new();
        }
        let ready = *self.since.get_or_insert(now) + self.grace;
        if now < ready {
            self.wake = Some(ready);
            return Vec::new();
        }
        let mut order: Vec<&Candidate> = candidates.iter().collect();
        order.sort_by_key(|one| {
            let key = one.relay.transport_key;
            (!one.is_household, !self.held.contains_key(&key), key)
        });
        let mut wanted = Vec::new();
        for candidate in order {
            let key = candidate.relay.transport_key;
            let waits = self.waits.get(&key).filter(|(until, _)| now < *until);
            match waits {
                Some((until, _)) => self.wake = Some(self.wake.map_or(*until, |wake| wake.min(*until))),
                None if wanted.len() < self.relays_max && !wanted.contains(&key) => wanted.push(key),
                None => {}
            }
        }
        let mut bids = Vec::new();
        for candidate in candidates {
            let relay = candidate.relay;
            if wanted.contains(&relay.transport_key) && !self.held.contains_key(&relay.transport_key) {
                self.held.insert(relay.transport_key, Held { relay, is_granted: false });
                bids.push(Bid::Reserve(relay));
            }
        }
        // A better one takes the place of another only when it stands.
        if wanted.iter().all(|key| self.held.get(key).is_some_and(|held| held.is_granted)) {
            let others = || self.held.keys().filter(|key| !wanted.contains(key));
            let given_back: Vec<VerifyingKey> = others().copied().collect();
            given_back.iter().for_each(|key| _ = self.held.remove(key));
            bids.extend(given_back.into_iter().map(Bid::GiveBack));
        }
        bids
    }
}

#[cfg(test)]
mod tests {
    use locker_crypto::rendezvous::Transport;

    use super::*;

    fn address(ip: &str) -> Address {
        Address { transport: Transport::Quic, ip: ip.parse().unwrap(), port: 4_001 }
    }

    fn candidate(n: u8, is_household: bool) -> Candidate {
        let relay = Relay { address: address("203.0.113.1"), transport_key: VerifyingKey([n; 32]) };
        Candidate { relay, is_household }
    }

    fn reach(role: Role) -> Reach {
        Reach::new(role, &Limits::default())
    }

    #[test]
    fn it_reserves_when_it_does_not_turn_out_to_be_public() {
        let mut reach = reach(Role::WhenPublic);
        let (a, b) = (candidate(1, false), candidate(2, false));
        let start = Instant::now();
        assert_eq!(reach.bids(&[a, b], start), []);
        let later = reach.wake().unwrap();
        assert_eq!(later, start + Duration::from_secs(3));
        let c = candidate(3, false);
        assert_eq!(reach.bids(&[a, b, c], later), [Bid::Reserve(a.relay), Bid::Reserve(b.relay)]);
        assert_eq!(reach.relays(), []);
        reach.granted(&a.relay.transport_key);
        assert_eq!(reach.relays(), [a.relay]);
        // The one that refused waits, and another comes in its place.
        reach.lost(&b.relay.transport_key, later);
        assert_eq!(reach.bids(&[a, b, c], later), [Bid::Reserve(c.relay)]);
        reach.granted(&c.relay.transport_key);
        assert!(!reach.serves());
        reach.confirm(address("2001:db8::1"));
        assert!(reach.serves());
        assert_eq!(reach.bids(&[a, b, c], later), []);
        reach.confirm(address("203.0.113.7"));
        let back = reach.bids(&[a, b, c], later);
        assert_eq!(back, [a, c].map(|one| Bid::GiveBack(one.relay.transport_key)));
        assert_eq!(reach.relays(), []);
        reach.expire(&address("203.0.113.7"));
        assert_eq!(reach.bids(&[c], later), [Bid::Reserve(c.relay)]);
    }

    #[test]
    fn a_household_relay_takes_the_place_of_another_once_it_stands() {
        let mut reach = reach(Role::WhenPublic);
        let (a, b, own) = (candidate(1, false), candidate(2, false), candidate(3, true));
        let start = Instant::now();
        reach.bids(&[a, b], start);
        let now = start + Duration::from_secs(3);
        reach.bids(&[a, b], now);
        [a, b].iter().for_each(|one| reach.granted(&one.relay.transport_key));
        assert_eq!(reach.bids(&[a, b, own], now), [Bid::Reserve(own.relay)]);
        assert_eq!(reach.bids(&[a, b, own], now), []);
        reach.granted(&own.relay.transport_key);
        assert_eq!(reach.bids(&[a, b, own], now), [Bid::GiveBack(b.relay.transport_key)]);
        assert_eq!(reach.relays(), [a.relay, own.relay]);
    }

    #[test]
    fn refusals_are_waited_out_and_a_session_ends_the_wait() {
        let mut reach = reach(Role::WhenPublic);
        let own = candidate(1, true);
        let start = Instant::now();
        reach.bids(&[own], start);
        let mut now = start + Duration::from_secs(3);
        for wait in [2, 4, 8] {
            assert_eq!(reach.bids(&[own], now), [Bid::Reserve(own.relay)]);
            reach.lost(&own.relay.transport_key, now);
            assert_eq!(reach.bids(&[own], now), []);
            assert_eq!(reach.wake(), Some(now + Duration::from_secs(wait)));
            now += Duration::from_secs(wait);
        }
        assert_eq!(reach.bids(&[own], now), [Bid::Reserve(own.relay)]);
        reach.lost(&own.relay.transport_key, now);
        reach.met(&own.relay.transport_key);
        assert_eq!(reach.bids(&[own], now), [Bid::Reserve(own.relay)]);
        // One that stood comes again at once.
        reach.granted(&own.relay.transport_key);
        reach.lost(&own.relay.transport_key, now);
        assert_eq!(reach.bids(&[own], now), [Bid::Reserve(own.relay)]);
    }

    #[test]
    fn who_only_visits_or_serves_reserves_nothing() {
        for role in [Role::Client, Role::Server] {
            let mut reach = reach(role);
            let start = Instant::now();
            reach.bids(&[candidate(1, true)], start);
            assert_eq!(reach.bids(&[candidate(1, true)], start + Duration::from_secs(9)), []);
            reach.confirm(address("203.0.113.7"));
            assert_eq!(reach.serves(), role == Role::Server);
        }
    }
}
