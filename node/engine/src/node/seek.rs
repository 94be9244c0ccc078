//! Trying everybody who may be the one that is looked for, all at once: places where it was last, hints, beacons, records.
//! The first who proves to be it is taken, and the others are let go (`docs/spec/09-rendezvous.md`, "Order").
//!
//! Nobody is believed: a source says where to dial, and the handshake who is there. A place at which somebody stalls
//! therefore holds nobody up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{FuturesUnordered, SelectAll, unfold};
use locker_crypto::id::VerifyingKey;
use locker_crypto::rendezvous::Contact;
use locker_net::{Connection, DialError, Find, Found, Handle, Prefer, both_transports};
use tokio::time::Instant;

/// Tries of one search that run at once; further ones wait for one of them to end.
const TRIES_MAX: usize = 16;
/// Places that one search tries at all: records and beacons come from whoever knows the secret, and no more are needed.
const PLACES_MAX: usize = 64;
/// Nodes of which it is remembered how often they were knocked at in vain.
const KNOCKED_MAX: usize = 1_024;
/// For how long, from the first time on: what one search says in it stays far below the failures that a node bears
/// of one source.
const KNOCKED_TIME: Duration = Duration::from_secs(600);

/// Who says where somebody is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// It was there before.
    Known,
    /// The link says so.
    Hint,
    /// A beacon on the local network.
    Beacon,
    /// A record of the DHT.
    Record,
}

/// A place where somebody may be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// How one comes there.
    pub(crate) way: Way,
    /// Who says so.
    pub(crate) source: Source,
}

/// How one comes to a place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// To one address and port, at which both transports are served.
    To(SocketAddr),
    /// As a record says, through relays too.
    As(Contact),
}

impl Place {
    /// A place of one address and port.
    pub(crate) fn at(socket: SocketAddr, source: Source) -> Self {
        Self { way: Way::To(socket), source }
    }

    /// The first of its addresses, to be shown.
    pub(crate) fn shown(&self) -> Option<SocketAddr> {
        match &self.way {
            Way::To(socket) => Some(*socket),
            Way::As(contact) => {
                let first = contact.addresses.first().or(contact.relays.first().map(|relay| &relay.address));
                first.map(|address| SocketAddr::new(address.ip, address.port))
            }
        }
    }

    async fn dial(&self, net: &Handle) -> Result<Connection, DialError> {
        match &self.way {
            Way::To(socket) => net.dial(&both_transports(*socket), self.prefer()).await,
            Way::As(contact) => net.dial_contact(contact, self.prefer()).await,
        }
    }

    fn prefer(&self) -> Prefer {
        match self.source {
            Source::Beacon => Prefer::Tcp,
            Source::Known | Source::Hint | Source::Record => Prefer::Quic,
        }
    }
}

impl From<Found> for Place {
    fn from(found: Found) -> Self {
        match found {
            Found::Record { contact, .. } => Self { way: Way::As(contact), source: Source::Record },
            Found::Beacon(socket) => Self::at(socket, Source::Beacon),
        }
    }
}

/// A connection that is closed unless it is kept.
pub(crate) struct Tentative {
    net: Handle,
    connection: Option<Connection>,
}

impl Tentative {
    /// Takes charge of a connection.
    pub(crate) fn new(net: &Handle, connection: Connection) -> Self {
        Self { net: net.clone(), connection: Some(connection) }
    }

    /// The connection.
    pub(crate) fn get(&self) -> &Connection {
        self.connection.as_ref().expect("it is there until it is kept, which takes this value")
    }

    /// Leaves it open.
    pub(crate) fn keep(mut self) -> Connection {
        self.connection.take().expect("it is there until it is kept, which takes this value")
    }
}

impl Drop for Tentative {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            self.net.close_later(connection.id);
        }
    }
}

/// Why nobody is to be talked to at a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotDialed {
    /// Nobody was reached.
    Nobody(DialError),
    /// The node there is being tried, or was, at another place.
    Same,
}

/// The nodes that one search has met: each is tried once, at however many places it is.
#[derive(Default)]
pub(crate) struct Met(Mutex<BTreeSet<VerifyingKey>>);

impl Met {
    /// Dials a place, unless the node that answers was met.
    pub(crate) async fn dial(&self, net: &Handle, place: &Place) -> Result<Tentative, NotDialed> {
        let connection = place.dial(net).await.map_err(NotDialed::Nobody)?;
        let connection = Tentative::new(net, connection);
        let is_new = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(connection.get().peer);
        if is_new { Ok(connection) } else { Err(NotDialed::Same) }
    }
}

/// How often nodes were knocked at in vain by who goes on searching, by their transport keys: whoever knows none of the
/// secrets counts each knock as a handshake that failed. It may learn one, so it is forgotten after a while.
#[derive(Default)]
pub(crate) struct Knocked(Mutex<BTreeMap<VerifyingKey, InVain>>);

/// Knocks at one node.
struct InVain {
    since: Instant,
    count: usize,
}

impl Knocked {
    /// How often this node did not know what was knocked with.
    pub(crate) fn count(&self, node: &VerifyingKey, now: Instant) -> usize {
        let nodes = self.lock();
        let in_vain = nodes.get(node).filter(|one| now.duration_since(one.since) < KNOCKED_TIME);
        in_vain.map_or(0, |one| one.count)
    }

    /// This node did not know it.
    pub(crate) fn note(&self, node: VerifyingKey, now: Instant) {
        let mut nodes = self.lock();
        // Whoever shows himself under new keys without end is greeted anew, as he would be anyhow.
        if nodes.len() >= KNOCKED_MAX && !nodes.contains_key(&node) {
            nodes.clear();
        }
        let one = nodes.entry(node).or_insert(InVain { since: now, count: 0 });
        if now.duration_since(one.since) >= KNOCKED_TIME {
            *one = InVain { since: now, count: 0 };
        }
        one.count = one.count.saturating_add(1);
    }

    /// This node knows one of the secrets: it may be knocked at as often as it is met.
    pub(crate) fn forget(&self, node: &VerifyingKey) {
        self.lock().remove(node);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<VerifyingKey, InVain>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tries `first`, and every place that `finds` give while they run, at once; gives what the first good try gave. `None` when
/// all have ended, or `failed` breaks it off. Tries that still run then are dropped.
pub(crate) async fn race<T, E, F: Future<Output = Result<T, E>>>(
    first: Vec<Place>,
    finds: Vec<Find>,
    attempt: impl Fn(Place) -> F,
    mut failed: impl FnMut(Place, E) -> ControlFlow<()>,
) -> Option<T> {
    let each = |find| unfold(find, |mut find: Find| async { find.next().await.map(|found| (found, find)) });
    let mut finds: SelectAll<_> = finds.into_iter().map(|find| each(find).boxed()).collect();
    let mut seen: Vec<Way> = Vec::new();
    let mut is_new = |place: &Place| {
        let is_new = !seen.contains(&place.way) && seen.len() < PLACES_MAX;
        if is_new {
            seen.push(place.way.clone());
        }
        is_new
    };
    let mut waiting: VecDeque<Place> = first.into_iter().filter(&mut is_new).collect();
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < TRIES_MAX
            && let Some(place) = waiting.pop_front()
        {
            let trying = attempt(place.clone());
            running.push(async move { (place, trying.await) });
        }
        tokio::select! {
            Some((place, outcome)) = running.next() => match outcome {
                Ok(value) => return Some(value),
                Err(why) => if failed(place, why).is_break() {
                    return None;
                },
            },
            Some(found) = finds.next() => {
                let place = Place::from(found);
                if is_new(&place) {
                    waiting.push_back(place);
                }
            }
            else => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::future::pending;

    use super::*;

    fn place(n: u16) -> Place {
        Place::at(SocketAddr::from(([192, 0, 2, 1], n)), Source::Known)
    }

    fn port(place: &Place) -> u16 {
        place.shown().unwrap().port()
    }

    /// Goal: one that stalls holds nobody up, and one that fails is told of.
    #[tokio::test]
    async fn whoever_is_first_is_taken() {
        let failed = RefCell::new(Vec::new());
        let attempt = |tried: Place| async move {
            match port(&tried) {
                1 => pending().await,
                2 => Err("no"),
                port => Ok(port),
            }
        };
        let note = |place: Place, why| {
            failed.borrow_mut().push((port(&place), why));
            ControlFlow::Continue(())
        };
        let won = race((1..=3).map(place).collect(), Vec::new(), attempt, note).await;
        assert_eq!(won, Some(3));
        assert_eq!(*failed.borrow(), [(2, "no")]);
    }

    /// Goal: it is remembered for each node, for ten minutes, and without end for none.
    #[test]
    fn knocks_in_vain_are_remembered_by_node() {
        let node = |n: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&n.to_le_bytes());
            VerifyingKey(key)
        };
        let (knocked, begin) = (Knocked::default(), Instant::now());
        for _ in 0..3 {
            knocked.note(node(1), begin);
        }
        knocked.note(node(2), begin);
        assert_eq!([0, 1, 2].map(|n| knocked.count(&node(n), begin)), [0, 3, 1]);
        knocked.forget(&node(2));
        assert_eq!([1, 2].map(|n| knocked.count(&node(n), begin)), [3, 0]);
        // Each for itself, from its first knock on.
        let later = begin + KNOCKED_TIME / 2;
        knocked.note(node(1), later);
        knocked.note(node(2), later);
        let over = begin + KNOCKED_TIME;
        let before = over.checked_sub(Duration::from_secs(1)).unwrap();
        assert_eq!([1, 2].map(|n| knocked.count(&node(n), before)), [4, 1]);
        assert_eq!([1, 2].map(|n| knocked.count(&node(n), over)), [0, 1]);
        knocked.note(node(1), over);
        assert_eq!([1, 2].map(|n| knocked.count(&node(n), over)), [1, 1]);
        for n in 3..KNOCKED_MAX + 1 {
            knocked.note(node(n), over);
        }
        knocked.note(node(1), over);
        assert_eq!(knocked.count(&node(1), over), 2, "one that is known needs no room");
        knocked.note(node(0), over);
        assert_eq!([0, 1].map(|n| knocked.count(&node(n), over)), [1, 0]);
    }

    /// Goal: no place twice, no more at once than the limit, and an end when all have failed.
    #[tokio::test]
    async fn tries_are_bounded_and_end() {
        let (now, most, all) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let attempt = |_: Place| async {
            now.set(now.get() + 1);
            most.set(most.get().max(now.get()));
            tokio::task::yield_now().await;
            now.set(now.get() - 1);
            all.set(all.get() + 1);
            Err::<(), ()>(())
        };
        let places = (0..100).chain(0..100).map(place).collect();
        let won = race(places, Vec::new(), attempt, |_, ()| ControlFlow::Continue(())).await;
        assert_eq!((won, most.get(), all.get()), (None, TRIES_MAX, PLACES_MAX));
        let places = (0..100).map(place).collect();
        let broken_off = race(places, Vec::new(), attempt, |_, ()| ControlFlow::Break(())).await;
        assert!(broken_off.is_none() && all.get() < 2 * PLACES_MAX);
    }
}
