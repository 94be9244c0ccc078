//! Sessions begin and end.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use locker_crypto::id::VerifyingKey;
use locker_net::{Connection, ConnectionId};
use locker_sync::scope::Scope;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Admitted, Hub, Place, Session, State};
use crate::node::conversation;
use crate::node::knock::KnockError;
use crate::node::seek::Tentative;

/// How long what is under way through a relay may take once the session has moved to a direct connection.
const MOVE_TIME: Duration = Duration::from_secs(10);
/// How often it is tried to move a session: there is no other occasion for as long as the relay lets it stand.
const MOVES: u32 = 3;
/// Addresses of own devices that are remembered.
const SOURCES_MAX: usize = 64;
/// Two connections with one device, of which either end dialed one at the same time, come within this time.
const CROSSING_TIME: Duration = Duration::from_secs(10);

impl Session {
    fn new(connection: Connection, end: watch::Sender<bool>) -> Self {
        Self { connection, since: Instant::now(), is_level: false, ahead_ms: None, end }
    }
}

/// Two sessions with one device.
struct Two {
    /// For how long the old one has stood.
    age: Duration,
    is_old_relayed: bool,
    is_new_relayed: bool,
    /// Whether the lesser device dialed the new one.
    is_new_preferred: bool,
}

impl Two {
    /// Whether the new one is kept. Nobody dials a device with which he has a session: where one has stood for a while, the
    /// other end has lost it, asleep or in another network, and its death has only not shown here yet.
    fn keeps_new(&self) -> bool {
        match (self.is_old_relayed, self.is_new_relayed) {
            _ if self.age > CROSSING_TIME => true,
            (true, false) => true,
            (false, true) => false,
            _ => self.is_new_preferred,
        }
    }
}

impl Hub {
    /// Lets a session in. Of two with one device both ends keep the one on the direct way, of two alike the one that the
    /// lesser device dialed; `None` if it is not this one.
    pub(in crate::node) async fn admit(
        &self,
        device: VerifyingKey,
        connection: &Connection,
        scope: Scope,
        we_dialed: bool,
    ) -> Option<Place> {
        let own = self.inner.keys().device_id();
        let is_preferred = we_dialed == (own < device);
        let (sender, end) = watch::channel(false);
        let mut dead = None;
        let known = {
            let mut state = self.state();
            if *self.stopping.borrow() {
                return None;
            }
            if let Some(old) = state.sessions.get(&device) {
                // A device that was started anew has another transport key: the old session is dead, whatever we
                // still believe of it.
                let two = Two {
                    age: old.since.elapsed(),
                    is_old_relayed: old.connection.is_relayed(),
                    is_new_relayed: connection.is_relayed(),
                    is_new_preferred: is_preferred,
                };
                let takes_over = two.keeps_new() && old.connection.id != connection.id;
                if !takes_over && old.connection.peer == connection.peer {
                    return None;
                }
                old.end.send_replace(true);
                dead = (old.connection.peer != connection.peer).then_some(old.connection.id);
            }
            state.scopes.insert(connection.peer, Admitted::new(scope, None));
            state.sessions.insert(device, Session::new(connection.clone(), sender));
            state.plan.meet(device);
            // Through a relay anybody comes from its address.
            if !connection.is_relayed() {
                let source = connection.remote.ip();
                state.sources.retain(|known| *known != source);
                state.sources.push_front(source);
                state.sources.truncate(SOURCES_MAX);
            }
            state.sources.iter().copied().collect()
        };
        self.note_presence();
        // The node may be stopping; then there is nobody to tell.
        let _ = self.net.set_session(connection.id, true).await;
        let _ = self.net.set_known_sources(known).await;
        if let Some(dead) = dead {
            // It would take a place of this source until its silence is noticed.
            let _ = self.net.close(dead).await;
        }
        Some(Place { end })
    }

    /// Lets those in first who come from where own devices were last.
    pub(super) async fn expect_known(&self) {
        let known = self.roster().into_iter().chain(self.others()).collect::<BTreeSet<_>>();
        let known = self.blocking(move |inner| {
            known.iter().map(|device| inner.known_addresses(device)).collect::<Result<Vec<_>, _>>()
        });
        // Without them strangers come no sooner.
        let known = known.await.unwrap_or_default().into_iter().flatten().map(|at| at.ip());
        let sources = {
            let mut state = self.state();
            state.sources.extend(known.take(SOURCES_MAX));
            state.sources.iter().copied().collect()
        };
        let _ = self.net.set_known_sources(sources).await;
    }

    /// Notes how far the clock of a device is ahead of ours.
    pub(in crate::node) fn note_clock(&self, device: &VerifyingKey, ahead_ms: i64) {
        if let Some(session) = self.state().sessions.get_mut(device) {
            session.ahead_ms = Some(ahead_ms);
        }
    }

    /// How far the clocks of devices that are here are ahead of ours, in milliseconds.
    pub(crate) fn clocks(&self) -> Vec<i64> {
        self.state().sessions.values().filter_map(|session| session.ahead_ms).collect()
    }

    /// The devices that have a session, `first` those named, and of either those on a direct way.
    pub(in crate::node) fn within_reach(
        &self,
        first: &BTreeSet<VerifyingKey>,
    ) -> Vec<(VerifyingKey, ConnectionId)> {
        let state = self.state();
        let mut found: Vec<_> =
            state.sessions.iter().map(|(device, one)| (*device, &one.connection)).collect();
        found.sort_by_key(|(device, one)| (!first.contains(device), one.is_relayed(), *device));
        found.into_iter().map(|(device, one)| (device, one.id)).collect()
    }

    /// The device that has a session from a transport key.
    pub(in crate::node) fn device_at(&self, peer: &VerifyingKey) -> Option<VerifyingKey> {
        let state = self.state();
        state.sessions.iter().find(|(_, session)| session.connection.peer == *peer).map(|(device, _)| *device)
    }

    /// The connection over which a device has a session.
    pub(crate) fn session_with(&self, device: &VerifyingKey) -> Option<Connection> {
        self.state().sessions.get(device).map(|session| session.connection.clone())
    }

    /// Notes whether a session has everything that its peer showed.
    pub(in crate::node) fn set_level(&self, device: &VerifyingKey, connection: ConnectionId, is_level: bool) {
        let mut state = self.state();
        let Some(session) = state.sessions.get_mut(device) else { return };
        if session.connection.id != connection {
            return;
        }
        let has_changed = session.is_level != is_level;
        session.is_level = is_level;
        if is_level {
            let now_ms = self.inner.env().now_ms();
            state.levels.note(device, now_ms);
        }
        if has_changed {
            drop(state);
            self.levelled.notify_waiters();
        }
    }

    /// Moves the session with the owner of a transport key, if it goes through a relay, to a direct connection, if one
    /// stands. The lesser of the two devices does it, so that they do not cross.
    pub(in crate::node) fn improve(
        self: Arc<Self>,
        peer: VerifyingKey,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        // A session may lead to a better one: without the box this future would hold itself.
        Box::pin(self.move_to_direct(peer))
    }

    async fn move_to_direct(self: Arc<Self>, peer: VerifyingKey) {
        let own = self.inner.keys().device_id();
        let connections = self.net.connections().await.unwrap_or_default();
        let direct = connections.into_iter().find(|one| one.peer == peer && !one.is_relayed());
        let Some(direct) = direct else { return };
        let device = {
            let mut state = self.state();
            let is_of_peer =
                |session: &Session| session.connection.peer == peer && session.connection.is_relayed();
            let found = state.sessions.iter().find(|(_, session)| is_of_peer(session));
            // A replica never greets, so it is for this end to do.
            let is_ours = |device: &VerifyingKey| own < *device || state.replicas.contains_key(device);
            let device = found.map(|(device, _)| *device).filter(|device| is_ours(device) && self.reads());
            // Twice on one connection they would end one another.
            device.filter(|device| state.moving.insert(*device))
        };
        let Some(device) = device else { return };
        // If it fails, the session that stands goes on.
        let direct = Tentative::new(&self.net, direct);
        let mut greeting = None;
        for _ in 0..MOVES {
            greeting = self.until_stop(conversation::greet_once(&self, direct.get(), device)).await;
            if !matches!(greeting, Some(Err(KnockError::Broken(_)))) {
                break;
            }
        }
        if let Some(Ok(greeting)) = greeting {
            conversation::hold(&self, greeting.over(direct)).await;
        }
        self.state().moving.remove(&device);
    }

    /// Ends the session with a device over a connection that seems dead. To close that one alone would wait for what can no
    /// longer be sent.
    pub(in crate::node) fn give_up(&self, device: &VerifyingKey, connection: ConnectionId) {
        let state = self.state();
        if let Some(session) = state.sessions.get(device).filter(|one| one.connection.id == connection) {
            session.end.send_replace(true);
        }
    }

    /// A session has ended.
    pub(in crate::node) async fn leave(&self, device: &VerifyingKey, connection: &Connection) {
        let has_moved;
        {
            let now = self.inner.env().now_ms();
            let mut state = self.state();
            state.last_seen.insert(*device, now);
            if let Some((_, asked_at)) = &mut state.succession {
                // Whoever was asked may not have heard it: the next one is asked at once.
                *asked_at = None;
            }
            let current = state.sessions.get(device).map(|session| &session.connection);
            has_moved = connection.is_relayed()
                && current.is_some_and(|current| {
                    current.peer == connection.peer && current.id != connection.id && !current.is_relayed()
                });
            if current.is_some_and(|current| current.id == connection.id) {
                state.sessions.remove(device);
                state.strays.remove(device);
                state.plan.lose(device);
            }
            if !state.sessions.values().any(|session| session.connection.peer == connection.peer) {
                state.scopes.remove(&connection.peer);
            }
        }
        self.note_presence();
        self.bump();
        let _ = self.net.set_session(connection.id, false).await;
        if has_moved {
            // What is under way there need not be asked for again.
            let _ = self.until_stop(tokio::time::sleep(MOVE_TIME)).await;
        }
        let _ = self.net.close(connection.id).await;
        self.fetches.notify_one();
    }

    /// Ends the sessions of devices that are no longer devices of the person, of holders of links that have ended, and of holders
    /// of words whose place others have taken.
    pub(super) fn turn_out(&self) {
        if self.inner.heir().is_some() {
            // Those that have just been ended are to hear of it.
            return;
        }
        let now_s = self.now_s();
        let mut state = self.state();
        let State {
            sessions, guests, admitted, replicas, register, scopes, recovery, root, served_root, ..
        } = &mut *state;
        let is_ours = |device: &VerifyingKey| admitted.contains(device) || replicas.contains_key(device);
        for (_, session) in sessions.iter().filter(|(device, _)| !is_ours(device)) {
            session.end.send_replace(true);
        }
        if std::mem::replace(served_root, *root) != *root {
            recovery.seats.values().for_each(|(_, seat)| _ = seat.send_replace(true));
        }
        for (transport, guest) in guests.iter().filter(|(_, guest)| !register.is_open(&guest.link, now_s)) {
            // At once, before its session has said goodbye.
            scopes.remove(transport);
            guest.end.send_replace(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_sessions_both_ends_keep_one_and_a_dead_one_gives_way() {
        let keeps_new = |age, is_old_relayed, is_new_relayed, is_new_preferred| {
            Two { age, is_old_relayed, is_new_relayed, is_new_preferred }.keeps_new()
        };
        let now = Duration::ZERO;
        // They cross: what one end prefers, the other one does not.
        assert!(keeps_new(now, false, false, true) && !keeps_new(now, false, false, false));
        assert!(keeps_new(now, true, true, true) && !keeps_new(now, true, true, false));
        for is_preferred in [true, false] {
            assert!(keeps_new(now, true, false, is_preferred) && !keeps_new(now, false, true, is_preferred));
            for relayed in [(false, false), (false, true), (true, false), (true, true)] {
                assert!(keeps_new(CROSSING_TIME * 2, relayed.0, relayed.1, is_preferred));
            }
        }
    }
}
