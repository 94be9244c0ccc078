//! Which holders of links have a session, and what each of them may fetch.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use locker_crypto::id::{LinkTag, PackHash};
use locker_net::blob::GetPack;
use locker_net::{Connection, ConnectionId};
use locker_sync::limits::BLOB_STREAMS;
use locker_sync::scope::Scope;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{Admitted, Hub};

/// Holders of links with a session at one time.
const GUESTS_MAX: usize = 64;
/// Holders of one link with a session at one time.
const GUESTS_PER_LINK_MAX: usize = 16;
/// Answers to holders of links that are under way at once. Own devices have a number of their own: an answer that is not
/// taken holds a thread, and strangers must not hold them all.
pub(super) const GUEST_ANSWERS: usize = 32;
/// Answers to own devices that are under way at once.
pub(super) const OWN_ANSWERS: usize = 64;
/// Small ones beside them, which do not wait for the large ones.
pub(super) const SMALL_ANSWERS: usize = 32;

/// The session of a link's holder.
pub(super) struct Guest {
    connection: ConnectionId,
    pub(super) link: LinkTag,
    pub(super) end: watch::Sender<bool>,
}

/// What the holder of a link may fetch, and until when.
#[derive(Clone)]
pub(in crate::node) struct Visit {
    link: LinkTag,
    packs: Arc<HashSet<PackHash>>,
    /// Becomes true when the session ends.
    pub(in crate::node) end: watch::Receiver<bool>,
    /// When something was asked last, unix milliseconds.
    active_ms: Arc<AtomicU64>,
}

impl Visit {
    /// When something was asked last, unix milliseconds.
    pub(in crate::node) fn active_ms(&self) -> u64 {
        self.active_ms.load(Ordering::Relaxed)
    }

    /// Something was asked now.
    pub(in crate::node) fn note_active(&self, now_ms: u64) {
        self.active_ms.store(now_ms, Ordering::Relaxed);
    }
}

impl Admitted {
    pub(super) fn new(scope: Scope, visit: Option<Visit>) -> Self {
        let turns = || Arc::new(Semaphore::new(BLOB_STREAMS));
        Self { scope, visit, answers: turns(), small_answers: turns() }
    }
}

/// The right to answer one request: of its session and of the node.
pub(in crate::node) struct Turn {
    _session: OwnedSemaphorePermit,
    _node: OwnedSemaphorePermit,
}

/// Waits for a turn of a session, then for one of the node: whoever has many requests keeps no others waiting.
async fn take_turn(session: &Arc<Semaphore>, node: &Arc<Semaphore>) -> Option<Turn> {
    let session = Arc::clone(session).acquire_owned().await.ok()?;
    let node = Arc::clone(node).acquire_owned().await.ok()?;
    Some(Turn { _session: session, _node: node })
}

impl Hub {
    /// Whether a request is in the scope of a session, as far as can be said without a look into the store.
    pub(in crate::node) fn may_get(&self, admitted: &Admitted, get: &GetPack) -> bool {
        let in_link = admitted.visit.as_ref().is_none_or(|visit| {
            visit.packs.contains(&get.pack) && self.register().is_open(&visit.link, self.now_s())
        });
        in_link && admitted.scope.may_get_pack(&get.space)
    }

    /// Waits for a turn to answer: one of the session, then one of the node. A request too many waits, for a refusal would say
    /// that the pack is not here. Small ones of own devices wait for small ones only. `None` if the node stops.
    pub(in crate::node) async fn turn(&self, admitted: &Admitted, is_small: bool) -> Option<Turn> {
        let (of_session, of_node) = match (is_small, &admitted.visit) {
            (true, _) => (&admitted.small_answers, &self.small_answers),
            (false, Some(_)) => (&admitted.answers, &self.guest_answers),
            (false, None) => (&admitted.answers, &self.own_answers),
        };
        self.until_stop(take_turn(of_session, of_node)).await.flatten()
    }

    /// Lets the holder of a link in, unless too many are here or the link has just ended. One that comes again over
    /// another connection takes the place of his earlier session.
    pub(in crate::node) async fn admit_guest(
        &self,
        connection: &Connection,
        link: LinkTag,
        scope: Scope,
        packs: HashSet<PackHash>,
    ) -> Option<Visit> {
        let (sender, end) = watch::channel(false);
        let now_ms = self.inner.env().now_ms();
        let active_ms = Arc::new(AtomicU64::new(now_ms));
        let visit = Visit { link, packs: Arc::new(packs), end, active_ms };
        {
            let mut state = self.state();
            let is_own = state.sessions.values().any(|session| session.connection.peer == connection.peer);
            let others = || state.guests.iter().filter(|(peer, _)| **peer != connection.peer);
            let of_link = others().filter(|(_, guest)| guest.link == link).count();
            let is_full = others().count() >= GUESTS_MAX || of_link >= GUESTS_PER_LINK_MAX;
            if *self.stopping.borrow() || is_own || is_full || !state.register.is_open(&link, now_ms / 1_000)
            {
                return None;
            }
            let guest = Guest { connection: connection.id, link, end: sender };
            if let Some(earlier) = state.guests.insert(connection.peer, guest) {
                earlier.end.send_replace(true);
            }
            state.scopes.insert(connection.peer, Admitted::new(scope, Some(visit.clone())));
        }
        let _ = self.net.set_session(connection.id, true).await;
        Some(visit)
    }

    /// The session of a link's holder has ended, and with it every connection of his.
    pub(in crate::node) async fn leave_guest(&self, connection: &Connection) {
        let was_last = {
            let mut state = self.state();
            let guest = state.guests.get(&connection.peer);
            let was_last = guest.is_some_and(|guest| guest.connection == connection.id);
            if was_last {
                state.guests.remove(&connection.peer);
                state.scopes.remove(&connection.peer);
            }
            was_last
        };
        let _ = self.net.set_session(connection.id, false).await;
        let _ = self.net.close(connection.id).await;
        if was_last {
            let others = self.net.connections().await.unwrap_or_default();
            for other in others.iter().filter(|other| other.peer == connection.peer) {
                let _ = self.net.close(other.id).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// Goal: no session has all small answers, nor any that are for large ones; what ends is free again.
    #[test]
    fn one_session_has_no_more_than_its_turns() {
        let node = Arc::new(Semaphore::new(SMALL_ANSWERS));
        let [one, other] = [(); 2].map(|()| Admitted::new(Scope::nothing(), None));
        let turn = |of: &Admitted| take_turn(&of.small_answers, &node).now_or_never().flatten();
        let mut held: Vec<_> = (0..BLOB_STREAMS).map(|_| turn(&one).unwrap()).collect();
        assert!(turn(&one).is_none());
        assert_eq!(node.available_permits(), SMALL_ANSWERS - BLOB_STREAMS);
        assert_eq!(one.answers.available_permits(), BLOB_STREAMS);
        assert!(turn(&other).is_some());
        held.pop();
        assert!(turn(&one.clone()).is_some(), "a copy has the turns of its session");
    }
}
