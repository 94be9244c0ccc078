//! Sessions of phrase holders, and what who recovers knows of those he reached.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use locker_crypto::id::{ObjectHash, PackHash, VerifyingKey};
use locker_crypto::secret::RendezvousSecret;
use locker_net::{Connection, ConnectionId};
use locker_sync::frontier::Log;
use locker_sync::message::v1::LogKind;
use locker_sync::scope::Scope;
use tokio::sync::watch;

use super::{Admitted, Hub, Place};
use crate::node::fetches;

/// Phrase holders with a session at one time: there is one, and he may come over two connections.
const HEIRS_MAX: usize = 2;

/// What this node knows of recoveries: of others at it, and of its own.
#[derive(Default)]
pub(super) struct Recovery {
    /// Sessions of phrase holders: the transport key of each, and what ends it.
    pub(super) seats: HashMap<ConnectionId, (VerifyingKey, watch::Sender<bool>)>,
    /// Devices that have stored what this one wrote in the person log.
    told: BTreeSet<VerifyingKey>,
    /// What this device named in the person log, which is to be handed on.
    named: BTreeSet<ObjectHash>,
    /// Devices that gave some of it back when they were asked, and so hold it.
    held: BTreeSet<(VerifyingKey, ObjectHash)>,
    /// Whether packs are fetched.
    has_fetches: bool,
}

/// How a recovery stands on this node.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gathered {
    /// Devices with a session.
    pub(crate) sources: usize,
    /// Whether all of them are level: every entry that they showed came here.
    pub(crate) is_level: bool,
    /// What entries that came wait for: other entries, and secrets of epochs.
    pub(crate) awaited: usize,
    /// Packs that are still to come.
    pub(crate) wanted: usize,
    /// Of these, how many no device that is here says that it has.
    pub(crate) without_source: usize,
    /// Searches for devices that have ended.
    pub(crate) searches: u64,
}

impl Hub {
    /// The root key that counts, by the person log.
    pub(in crate::node) fn root_key(&self) -> VerifyingKey {
        self.state().root.unwrap_or(VerifyingKey(self.inner.keys().person.0))
    }

    /// The secrets of the slots at which the phrase finds this device: one of each generation that is known here.
    pub(in crate::node) fn slot_doors(&self) -> Vec<RendezvousSecret> {
        let keys = self.inner.keys();
        let index = self.roster().iter().position(|vk| *vk == keys.device_id());
        let slot = keys.slot(index.unwrap_or(0));
        keys.master.iter().map(|(_, master)| slot.secret(master)).collect()
    }

    /// Gives a phrase holder a place; `None` if there is none.
    pub(in crate::node) async fn admit_heir(&self, connection: &Connection) -> Option<Place> {
        let (sender, end) = watch::channel(false);
        {
            let mut state = self.state();
            if *self.stopping.borrow() || state.recovery.seats.len() >= HEIRS_MAX {
                return None;
            }
            state.recovery.seats.insert(connection.id, (connection.peer, sender));
            let scope = Scope::reading([self.inner.keys().person]);
            state.scopes.insert(connection.peer, Admitted::new(scope, None));
        }
        let _ = self.net.set_session(connection.id, true).await;
        Some(Place { end })
    }

    /// The session of a phrase holder has ended.
    pub(in crate::node) async fn leave_heir(&self, connection: &Connection) {
        {
            let mut state = self.state();
            state.recovery.seats.remove(&connection.id);
            // He may have come again over another connection.
            if state.recovery.seats.values().all(|(peer, _)| *peer != connection.peer) {
                state.scopes.remove(&connection.peer);
            }
        }
        let _ = self.net.set_session(connection.id, false).await;
        let _ = self.net.close(connection.id).await;
    }

    /// How many holders of the phrase have a session here.
    pub(crate) fn heirs(&self) -> usize {
        self.state().recovery.seats.len()
    }

    /// Whether the owner of a transport key has a session as a device.
    pub(in crate::node) fn has_session_of(&self, transport: &VerifyingKey) -> bool {
        self.state().sessions.values().any(|session| session.connection.peer == *transport)
    }

    /// A search for devices has ended.
    pub(in crate::node) fn note_searched(&self) {
        self.state().searches += 1;
        self.note_presence();
        self.bump();
    }

    /// A device has stored what this one wrote in a log.
    pub(in crate::node) fn note_acked(&self, device: &VerifyingKey, log: Log, heads: &[(VerifyingKey, u64)]) {
        let own = self.inner.keys().device_id();
        if log.kind == LogKind::Person && heads.iter().any(|(author, _)| *author == own) {
            self.state().recovery.told.insert(*device);
            self.bump();
        }
    }

    /// Has those who are here asked whether they hold what this device named in the person log; and asked again, each time.
    pub(crate) fn hand_on(&self, named: &[ObjectHash]) {
        self.state().recovery.named.extend(named);
        self.bump();
    }

    /// What a device is to be asked for, to know that it holds it.
    pub(in crate::node) fn to_confirm(&self, device: &VerifyingKey) -> Vec<ObjectHash> {
        let Recovery { named, held, .. } = &self.state().recovery;
        named.iter().filter(|name| !held.contains(&(*device, **name))).copied().collect()
    }

    /// A device shows an object. Says whether it is one that was to be handed on.
    pub(in crate::node) fn note_shown(&self, device: &VerifyingKey, object: &[u8]) -> bool {
        let name = ObjectHash(*blake3::hash(object).as_bytes());
        let is_named = {
            let recovery = &mut self.state().recovery;
            let is_named = recovery.named.contains(&name);
            if is_named {
                recovery.held.insert((*device, name));
            }
            is_named
        };
        if is_named {
            self.bump();
        }
        is_named
    }

    /// How the recovery on this node stands.
    pub(crate) fn gathered(&self) -> Gathered {
        let awaited = self.inner.awaited();
        let state = self.state();
        let without = state.plan.without_source().filter(|(_, hash)| state.wanted.contains_key(hash)).count();
        Gathered {
            sources: state.sessions.len(),
            is_level: state.sessions.values().all(|session| session.is_level),
            // Of the person log too: a device that was ended by what is missing would be given the new keys.
            awaited: awaited.max(state.missing.values().map(Vec::len).sum()),
            wanted: state.wanted.len(),
            without_source: without,
            searches: state.searches,
        }
    }

    /// The packs that are wanted and that nobody who is here has.
    pub(crate) fn without_source(&self) -> BTreeSet<PackHash> {
        self.state().plan.without_source().map(|(_, hash)| hash).collect()
    }

    /// How far the logs are, and which packs nobody who is here has: while this stays the same, so does what is needed of them.
    pub(crate) fn standstill(&self) -> [u8; 32] {
        let state = self.state();
        let mut hasher = blake3::Hasher::new();
        for (_, pack) in state.plan.without_source() {
            hasher.update(pack.as_bytes());
        }
        for head in state.heads.values().flat_map(|heads| heads.values()) {
            hasher.update(head.author.as_bytes());
            hasher.update(&head.seq.to_le_bytes());
            hasher.update(&head.id);
        }
        *hasher.finalize().as_bytes()
    }

    /// Fetches all that is wanted but these.
    pub(crate) fn fetch_only(self: &Arc<Self>, but: &[PackHash]) {
        self.unwant(but);
        self.begin_fetching();
    }

    /// Begins to fetch packs, once.
    pub(in crate::node) fn begin_fetching(self: &Arc<Self>) {
        if !std::mem::replace(&mut self.state().recovery.has_fetches, true) {
            let _runtime = self.runtime.handle().enter();
            self.spawn(fetches::run(Arc::clone(self)));
        }
    }

    /// The devices that are here.
    pub(crate) fn here(&self) -> BTreeSet<VerifyingKey> {
        self.state().sessions.keys().copied().collect()
    }

    /// Whether these devices have stored what this one wrote in the person log, and hold what it names: who has the log
    /// without it has nothing with which the phrase opens the keys in use.
    pub(crate) fn are_told(&self, devices: &BTreeSet<VerifyingKey>) -> bool {
        let told = devices.iter().all(|device| self.state().recovery.told.contains(device));
        told && devices.iter().all(|device| self.to_confirm(device).is_empty())
    }

    /// Waits until something of [`Hub::gathered`] may have changed, or a while.
    pub(crate) async fn gathers(&self, while_at_most: Duration) {
        let levelled = self.levelled.notified();
        let mut changes = self.changes();
        changes.mark_unchanged();
        tokio::select! {
            () = levelled => {}
            _ = changes.changed() => {}
            () = tokio::time::sleep(while_at_most) => {}
        }
    }
}
