//! Which holders of links have a session.

use std::collections::HashSet;
use std::sync::Arc;

use locker_crypto::id::{LinkTag, PackHash};
use locker_net::{Connection, ConnectionId};
use locker_sync::scope::Scope;
use tokio::sync::watch;

use super::{Admitted, Hub, Place};

/// Holders of links with a session at one time.
const GUESTS_MAX: usize = 64;

/// The session of a link's holder.
pub(super) struct Guest {
    connection: ConnectionId,
    pub(super) link: LinkTag,
    pub(super) end: watch::Sender<bool>,
}

impl Hub {
    /// Lets the holder of a link in, unless too many are here or the link has just ended.
    pub(in crate::node) async fn admit_guest(
        &self,
        connection: &Connection,
        link: LinkTag,
        scope: Scope,
        packs: Arc<HashSet<PackHash>>,
    ) -> Option<Place> {
        let (sender, end) = watch::channel(false);
        let now_s = self.now_s();
        {
            let mut state = self.state();
            let is_own = state.sessions.values().any(|session| session.connection.peer == connection.peer);
            let is_full = state.guests.len() >= GUESTS_MAX || state.guests.contains_key(&connection.peer);
            if *self.stopping.borrow() || is_own || is_full || !state.register.is_open(&link, now_s) {
                return None;
            }
            state.scopes.insert(connection.peer, Admitted { scope, packs: Some(packs) });
            state.guests.insert(connection.peer, Guest { connection: connection.id, link, end: sender });
        }
        let _ = self.net.set_session(connection.id, true).await;
        Some(Place { end })
    }

    /// The session of a link's holder has ended.
    pub(in crate::node) async fn leave_guest(&self, connection: &Connection) {
        {
            let mut state = self.state();
            if state.guests.get(&connection.peer).is_some_and(|guest| guest.connection == connection.id) {
                state.guests.remove(&connection.peer);
                state.scopes.remove(&connection.peer);
            }
        }
        let _ = self.net.set_session(connection.id, false).await;
        let _ = self.net.close(connection.id).await;
    }
}
