//! Sessions begin and end.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use locker_crypto::id::VerifyingKey;
use locker_net::{Connection, ConnectionId};
use locker_sync::scope::Scope;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::{Admitted, Hub, Place, State};
use crate::node::conversation;
use crate::node::knock::KnockError;
use crate::node::seek::Tentative;

/// How long what is under way on a connection may take once the session has moved to another one.
const MOVE_TIME: Duration = Duration::from_secs(10);
/// How often it is tried to move a session: there is no other occasion for as long as the relay lets it stand.
const MOVES: u32 = 3;
/// Addresses of own devices that are remembered.
const SOURCES_MAX: usize = 64;
/// Two connections with one device, of which either end dialed one at the same time, come within this time.
const CROSSING_TIME: Duration = Duration::from_secs(10);

/// A session that stands.
pub(super) struct Session {
    pub(super) connection: Connection,
    /// Whether this end dialed and showed who it is; else the other one did.
    pub(super) we_greeted: bool,
    /// The connection of the session in whose place it came, if what is under way there may still end.
    after: Option<ConnectionId>,
    since: Instant,
    pub(super) is_level: bool,
    /// How far the clock of the device is ahead of ours, in milliseconds.
    pub(super) ahead_ms: Option<i64>,
    pub(super) end: watch::Sender<bool>,
}

impl Session {
    fn new(connection: Connection, we_greeted: bool, end: watch::Sender<bool>) -> Self {
        Self {
            connection,
            we_greeted,
            after: None,
            since: Instant::now(),
            is_level: false,
            ahead_ms: None,
            end,
        }
    }
}

/// Two sessions with one device (`docs/spec/12-sync.md`, "Two sessions with one device").
struct Two {
    /// For how long the old one has stood.
    age: Duration,
    is_old_relayed: bool,
    is_new_relayed: bool,
    /// Whether the lesser device dialed the old one, and the new one.
    is_old_preferred: bool,
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
            // Both were dialed by one device: it has lost the old one.
            _ if self.is_old_preferred == self.is_new_preferred => true,
            // They crossed.
            _ => self.is_new_preferred,
        }
    }

    /// Whether what is under way on the old one, if the new one takes its place, may still come to its end.
    fn lets_end(&self) -> bool {
        self.age <= CROSSING_TIME || self.is_old_relayed && !self.is_new_relayed
    }
}

impl State {
    /// Whether a device is one of the person, or a replica.
    fn is_ours(&self, device: &VerifyingKey) -> bool {
        self.admitted.contains(device) || self.replicas.contains_key(device)
    }
}

impl Hub {
    /// Lets a session in, unless the device was ended meanwhile: a search for it may have begun before. Of two with one device both ends keep the one on the direct way, of two alike the one that the
    /// lesser device dialed, of two that one device dialed the later; `None` if it is not this one.
    pub(in crate::node) async fn admit(
        &self,
        device: VerifyingKey,
        connection: &Connection,
        scope: Scope,
        we_dialed: bool,
    ) -> Option<Place> {
        let own = self.inner.keys().device_id();
        let is_preferred = |we_dialed: bool| we_dialed == (own < device);
        let (sender, end) = watch::channel(false);
        let mut session = Session::new(connection.clone(), we_dialed, sender);
        let mut dead = None;
        let known = {
            let mut state = self.state();
            // Who recovers does not know yet who belongs to the person.
            let is_ours = self.inner.heir().is_some() || state.is_ours(&device);
            if *self.stopping.borrow() || !is_ours {
                return None;
            }
            if let Some(old) = state.sessions.get(&device) {
                // A device that was started anew has another transport key: the old session is dead, whatever we
                // still believe of it.
                let two = Two {
                    age: old.since.elapsed(),
                    is_old_relayed: old.connection.is_relayed(),
                    is_new_relayed: connection.is_relayed(),
                    is_old_preferred: is_preferred(old.we_greeted),
                    is_new_preferred: is_preferred(we_dialed),
                };
                let takes_over = two.keeps_new() && old.connection.id != connection.id;
                if !takes_over && old.connection.peer == connection.peer {
                    return None;
                }
                old.end.send_replace(true);
                let is_dead = old.connection.peer != connection.peer;
                dead = is_dead.then_some(old.connection.id);
                session.after = (!is_dead && two.lets_end()).then_some(old.connection.id);
            }
            state.scopes.insert(connection.peer, Admitted::new(scope, None));
            state.sessions.insert(device, session);
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

    /// Lets a session in, as [`Hub::admit`]. One for which we dialed, and in whose place another one stands, is kept in
    /// reserve for a while: the other end has it until the one that stands comes up there, which may fail. `None` if it
    /// came to nothing.
    pub(in crate::node) async fn settle(
        &self,
        device: VerifyingKey,
        connection: &Connection,
        scope: Scope,
        we_dialed: bool,
    ) -> Option<Place> {
        let place = self.admit(device, connection, scope.clone(), we_dialed).await;
        // Whoever dialed decides when the connection goes.
        if place.is_some() || !we_dialed || self.connection_to(&device) == Some(connection.id) {
            return place;
        }
        let has_gone = self.until_stop(timeout(MOVE_TIME, self.has_gone(&device))).await;
        if let Some(Ok(())) = has_gone
            && let Some(place) = self.admit(device, connection, scope, we_dialed).await
        {
            return Some(place);
        }
        let _ = self.net.close(connection.id).await;
        None
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
            let current = state.sessions.get(device);
            has_moved = current.is_some_and(|current| current.after == Some(connection.id));
            if current.is_some_and(|current| current.connection.id == connection.id)
                && let Some(session) = state.sessions.remove(device)
            {
                state.strays.remove(device);
                state.plan.lose(device);
                match session.since.elapsed() <= CROSSING_TIME {
                    true => state.soon_lost.insert(*device),
                    false => state.soon_lost.remove(device),
                };
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
            let _ = self.until_stop(timeout(MOVE_TIME, self.has_gone(device))).await;
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
        for (_, session) in state.sessions.iter().filter(|(device, _)| !state.is_ours(device)) {
            session.end.send_replace(true);
        }
        let State { guests, register, scopes, recovery, root, served_root, .. } = &mut *state;
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
        let keeps_new = |age, is_old_relayed, is_new_relayed, is_new_preferred: bool| {
            let is_old_preferred = !is_new_preferred;
            Two { age, is_old_relayed, is_new_relayed, is_old_preferred, is_new_preferred }.keeps_new()
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

    /// What an end has once a session comes up; of each is told whether the lesser device dialed it.
    fn with(kept: Option<bool>, is_new_preferred: bool) -> Option<bool> {
        let keeps_new = kept.is_none_or(|is_old_preferred| {
            let (age, is_old_relayed, is_new_relayed) = (Duration::ZERO, false, false);
            Two { age, is_old_relayed, is_new_relayed, is_old_preferred, is_new_preferred }.keeps_new()
        });
        if keeps_new { Some(is_new_preferred) } else { kept }
    }

    /// Goal: whatever comes first at either end, two that dialed each other have the same session in the end. Method:
    /// both dials come up, first where it was dialed to, then where from; every order of these four steps.
    #[test]
    fn two_that_dial_each_other_agree_in_every_order() {
        // Where it comes up, and whether the lesser device dialed it.
        let [lesser, greater] = [0_usize, 1];
        let (its_own, its_peers) = ([(greater, true), (lesser, true)], [(lesser, false), (greater, false)]);
        let mut orders = 0;
        for places in 0_u32..16 {
            // Of four steps, those of the dial of the lesser device.
            if places.count_ones() != 2 {
                continue;
            }
            let (mut own, mut peers) = (its_own.into_iter(), its_peers.into_iter());
            let mut kept = [None, None];
            for step in 0..4 {
                let next = if places & (1 << step) != 0 { own.next() } else { peers.next() };
                let (end, is_preferred) = next.unwrap();
                kept[end] = with(kept[end], is_preferred);
            }
            assert_eq!(kept, [Some(true), Some(true)], "{places:04b}");
            orders += 1;
        }
        assert_eq!(orders, 6);
        // Who dials again has lost what it had, whichever device it is.
        assert_eq!([with(Some(true), true), with(Some(false), false)], [Some(true), Some(false)]);
    }

    #[test]
    fn what_is_under_way_ends_where_nothing_died() {
        let lets_end = |age, is_old_relayed, is_new_relayed| {
            let (is_old_preferred, is_new_preferred) = (false, true);
            Two { age, is_old_relayed, is_new_relayed, is_old_preferred, is_new_preferred }.lets_end()
        };
        assert!(lets_end(Duration::ZERO, false, false) && lets_end(CROSSING_TIME * 2, true, false));
        assert!(!lets_end(CROSSING_TIME * 2, false, false) && !lets_end(CROSSING_TIME * 2, false, true));
    }
}
