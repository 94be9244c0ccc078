//! Who may connect: counts per source and network, places for those with a session, waits after failed handshakes.
//!
//! Whoever comes through a relay counts for that relay, under the limits of one source and one network, but apart from
//! what comes from the relay's own address: strangers who fill or anger that place shut out neither the relay nor
//! anybody who comes directly.
//!
//! Plain state: time and addresses come as arguments; the swarm is asked elsewhere.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use locker_crypto::id::VerifyingKey;
use tokio::time::Instant;

use super::{Limits, Network, Origin, Source};
use crate::connection::ConnectionId;

/// Sources whose failures are remembered; beyond it the longest quiet are forgotten.
const FAILING_SOURCES_MAX: usize = 4_096;
const MINUTE: Duration = Duration::from_secs(60);

/// Why a connection or stream was not let in. Only for our own figures.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("too many connections under negotiation")]
    Pending,
    #[error("too many connections")]
    Total,
    #[error("too many connections of one source")]
    Source,
    #[error("too many connections of one network")]
    Network,
    #[error("too many connections with one transport key")]
    Peer,
    #[error("the source has to wait after failed handshakes")]
    Waits,
    #[error("too many connections without session")]
    Knocking,
}

struct Admitted {
    from: Origin,
    peer: VerifyingKey,
    since: Instant,
    session: bool,
    /// Shared with the streams of ours that the other end has opened; alone here, none of them is open any more.
    knocking: Option<Arc<()>>,
}

struct Failing {
    /// Since when `count` counts.
    since: Instant,
    count: u32,
    /// How long the last wait was; doubles.
    wait: Duration,
    until: Option<Instant>,
    last: Instant,
}

/// What is counted about connections.
pub(crate) struct Admission {
    limits: Limits,
    pending_in: HashMap<ConnectionId, Origin>,
    pending_out: HashSet<ConnectionId>,
    admitted: HashMap<ConnectionId, Admitted>,
    per_source: HashMap<Source, usize>,
    per_network: HashMap<Network, usize>,
    per_peer: HashMap<VerifyingKey, usize>,
    knocking: usize,
    knocking_per_source: HashMap<Source, usize>,
    failing: HashMap<Source, Failing>,
    known: HashSet<Source>,
}

impl Admission {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            pending_in: HashMap::new(),
            pending_out: HashSet::new(),
            admitted: HashMap::new(),
            per_source: HashMap::new(),
            per_network: HashMap::new(),
            per_peer: HashMap::new(),
            knocking: 0,
            knocking_per_source: HashMap::new(),
            failing: HashMap::new(),
            known: HashSet::new(),
        }
    }

    /// Replaces the sources from which good sessions came before: they do not wait, and may take the kept places.
    pub(crate) fn set_known(&mut self, ips: impl IntoIterator<Item = IpAddr>) {
        self.known = ips.into_iter().map(Source::of).collect();
    }

    /// Lets an inbound connection begin to negotiate.
    pub(crate) fn begin_inbound(
        &mut self,
        id: ConnectionId,
        from: impl Into<Origin>,
        now: Instant,
    ) -> Result<(), Refused> {
        let from = from.into();
        let source = from.source();
        let known = self.known.contains(&source);
        let places = self.limits.pending_inbound + if known { self.limits.pending_known } else { 0 };
        if self.pending_in.len() >= places {
            return Err(Refused::Pending);
        }
        let waits = self.failing.get(&source).and_then(|failing| failing.until).is_some_and(|t| now < t);
        if waits && !known {
            return Err(Refused::Waits);
        }
        // Those under negotiation count for their source: else the limit could be passed by coming all at once.
        let pending = self.pending_in.values().filter(|from| from.source() == source).count();
        if count(&self.per_source, &source) + pending >= self.limits.connections_per_source {
            return Err(Refused::Source);
        }
        if count(&self.per_network, &from.network()) >= self.limits.connections_per_network {
            return Err(Refused::Network);
        }
        self.pending_in.insert(id, from);
        Ok(())
    }

    /// Lets an outbound connection begin to negotiate.
    pub(crate) fn begin_outbound(&mut self, id: ConnectionId) -> Result<(), Refused> {
        if self.pending_out.len() >= self.limits.pending_outbound {
            return Err(Refused::Pending);
        }
        self.pending_out.insert(id);
        Ok(())
    }

    /// The negotiation failed.
    pub(crate) fn forget_pending(&mut self, id: ConnectionId) {
        self.pending_in.remove(&id);
        self.pending_out.remove(&id);
    }

    /// Says whether a connection that has been negotiated with this transport key may stand.
    pub(crate) fn may_stand(
        &mut self,
        id: ConnectionId,
        from: impl Into<Origin>,
        peer: &VerifyingKey,
    ) -> Result<(), Refused> {
        let from = from.into();
        let inbound = self.pending_in.remove(&id).is_some();
        self.pending_out.remove(&id);
        if count(&self.per_peer, peer) >= self.limits.connections_per_peer {
            return Err(Refused::Peer);
        }
        if !inbound {
            // Our own dials are bounded by what we want; they may still push out a stranger.
            return Ok(());
        }
        let source = from.source();
        if count(&self.per_source, &source) >= self.limits.connections_per_source {
            return Err(Refused::Source);
        }
        if count(&self.per_network, &from.network()) >= self.limits.connections_per_network {
            return Err(Refused::Network);
        }
        let places = self.limits.connections.saturating_sub(if self.known.contains(&source) {
            0
        } else {
            self.limits.session_places
        });
        // At the limit a stranger comes in only in the place of another stranger (`surplus`).
        let with_session = self.admitted.values().filter(|one| one.session).count();
        if with_session >= places { Err(Refused::Total) } else { Ok(()) }
    }

    /// Counts a connection that stands.
    pub(crate) fn stands(
        &mut self,
        id: ConnectionId,
        from: impl Into<Origin>,
        peer: VerifyingKey,
        now: Instant,
    ) {
        let from = from.into();
        *self.per_source.entry(from.source()).or_default() += 1;
        *self.per_network.entry(from.network()).or_default() += 1;
        *self.per_peer.entry(peer).or_default() += 1;
        self.admitted.insert(id, Admitted { from, peer, since: now, session: false, knocking: None });
    }

    /// Returns the connection to close because there are too many: the oldest without session, never one with one.
    pub(crate) fn surplus(&self) -> Option<ConnectionId> {
        let strangers = || self.admitted.iter().filter(|(_, one)| !one.session);
        let sessions = self.admitted.len() - strangers().count();
        let kept = self.limits.session_places.saturating_sub(sessions);
        let places = self.limits.connections.saturating_sub(kept);
        if self.admitted.len() <= places {
            return None;
        }
        let unknown = strangers().filter(|(_, one)| !self.known.contains(&one.from.source()));
        let oldest = unknown.min_by_key(|(id, one)| (one.since, **id)).map(|(id, _)| *id);
        if oldest.is_some() || self.admitted.len() <= self.limits.connections {
            return oldest;
        }
        strangers().min_by_key(|(id, one)| (one.since, **id)).map(|(id, _)| *id)
    }

    /// A connection is gone.
    pub(crate) fn gone(&mut self, id: ConnectionId) {
        let Some(one) = self.admitted.remove(&id) else { return };
        subtract(&mut self.per_source, one.from.source());
        subtract(&mut self.per_network, one.from.network());
        subtract(&mut self.per_peer, one.peer);
        if one.knocking.is_some() {
            self.knocking -= 1;
            subtract(&mut self.knocking_per_source, one.from.source());
        }
    }

    /// Lets the other end of a connection open a stream of ours. With a session always; without one only so many
    /// connections at a time. The token, if there is one, lives as long as the stream.
    pub(crate) fn admit_stream(&mut self, id: ConnectionId) -> Result<Option<Arc<()>>, Refused> {
        let one = self.admitted.get(&id).ok_or(Refused::Knocking)?;
        if one.session {
            return Ok(None);
        }
        if let Some(token) = &one.knocking {
            return Ok(Some(Arc::clone(token)));
        }
        let source = one.from.source();
        self.forget_ended_knocks();
        let of_source = count(&self.knocking_per_source, &source);
        if self.knocking >= self.limits.knocking || of_source >= self.limits.knocking_per_source {
            return Err(Refused::Knocking);
        }
        let token = Arc::new(());
        if let Some(one) = self.admitted.get_mut(&id) {
            one.knocking = Some(Arc::clone(&token));
            self.knocking += 1;
            *self.knocking_per_source.entry(source).or_default() += 1;
        }
        Ok(Some(token))
    }

    /// Connections whose streams have all ended knock no more.
    fn forget_ended_knocks(&mut self) {
        for one in self.admitted.values_mut() {
            if one.knocking.as_ref().is_some_and(|token| Arc::strong_count(token) == 1) {
                one.knocking = None;
                self.knocking -= 1;
                subtract(&mut self.knocking_per_source, one.from.source());
            }
        }
    }

    /// A session stands on a connection, or has ended.
    pub(crate) fn set_session(&mut self, id: ConnectionId, session: bool) {
        let Some(one) = self.admitted.get_mut(&id) else { return };
        one.session = session;
        if session && one.knocking.take().is_some() {
            self.knocking -= 1;
            subtract(&mut self.knocking_per_source, one.from.source());
        }
    }

    /// Counts a failed handshake of a source.
    pub(crate) fn handshake_failed(&mut self, from: impl Into<Origin>, now: Instant) {
        if self.failing.len() >= FAILING_SOURCES_MAX {
            let oldest = self.failing.iter().min_by_key(|(_, one)| one.last).map(|(source, _)| *source);
            oldest.map(|source| self.failing.remove(&source));
        }
        let one = self.failing.entry(from.into().source()).or_insert(Failing {
            since: now,
            count: 0,
            wait: Duration::ZERO,
            until: None,
            last: now,
        });
        if now.duration_since(one.last) > self.limits.failure_wait_max + MINUTE {
            one.wait = Duration::ZERO;
        }
        if now.duration_since(one.since) >= MINUTE {
            (one.since, one.count) = (now, 0);
        }
        one.last = now;
        one.count += 1;
        if one.count > self.limits.failures_per_minute {
            let doubled = one.wait.checked_mul(2).unwrap_or(self.limits.failure_wait_max);
            one.wait = doubled.clamp(self.limits.failure_wait, self.limits.failure_wait_max);
            one.until = now.checked_add(one.wait);
            (one.since, one.count) = (now, 0);
        }
    }
}

/// How many of something are counted.
pub(crate) fn count<K: Eq + Hash>(counts: &HashMap<K, usize>, key: &K) -> usize {
    counts.get(key).copied().unwrap_or(0)
}

/// Counts one less; what is counted no more is forgotten.
pub(crate) fn subtract<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}
