//! Who is missing, who is looked for, and how the last search for each device went.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use locker_catalog::operation::EntryRef;
use locker_crypto::id::{EntryId, VerifyingKey};
use locker_crypto::secret::RendezvousSecret;
use tokio::sync::watch;

use super::{Hub, State};
use crate::node::dialer::{Miss, Trail};
use crate::node::seek::Source;
use crate::replicas::{Grounds, Reachable};

impl Hub {
    /// Other active devices and replicas: those that this one looks for.
    pub(in crate::node) fn others(&self) -> BTreeSet<VerifyingKey> {
        if !self.reads() {
            return BTreeSet::new();
        }
        let own = self.inner.keys().device_id();
        let state = self.state();
        state.roster.iter().chain(state.replicas.keys()).filter(|vk| **vk != own).copied().collect()
    }

    /// Those of them without a session.
    pub(in crate::node) fn unreached(&self) -> BTreeSet<VerifyingKey> {
        let mut others = self.others();
        others.retain(|device| !self.state().sessions.contains_key(device));
        others
    }

    /// Whether a device is a replica of this person.
    pub(in crate::node) fn is_replica(&self, device: &VerifyingKey) -> bool {
        self.state().replicas.contains_key(device)
    }

    /// Notes a replica that was found under a slot, until its session ends: what is known of the home space may not name it
    /// yet.
    pub(in crate::node) fn note_stray(&self, device: VerifyingKey, secret: RendezvousSecret) {
        let mut state = self.state();
        let stray = Reachable { slot: None, secrets: vec![secret] };
        state.strays.insert(device, stray.clone());
        state.replicas.entry(device).or_insert(stray);
    }

    /// Whether all of the home space is here that any device ever showed.
    pub(in crate::node) fn knows_home(&self) -> bool {
        let log = self.inner().entry_log();
        let heads: Vec<EntryRef> = {
            let state = self.state();
            let known = state.heads.get(&log).into_iter().flat_map(BTreeMap::values);
            known.map(|head| EntryRef { author: head.author, seq: head.seq, id: EntryId(head.id) }).collect()
        };
        !heads.is_empty() && self.has_what_was_shown(&heads)
    }

    /// What the tokens of replicas are judged by.
    pub(in crate::node) fn grounds(&self) -> Arc<Grounds> {
        Arc::clone(&self.state().grounds)
    }

    /// Tells that devices came or went, that one is to be looked for, or that a search ended.
    pub(crate) fn presence_changes(&self) -> watch::Receiver<u64> {
        self.presence.subscribe()
    }

    /// Something changed of what [`Hub::presence_changes`] tells.
    pub(in crate::node) fn note_presence(&self) {
        self.presence.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Waits until a session with a device stands.
    pub(in crate::node) async fn has_come(&self, device: &VerifyingKey) {
        let mut changes = self.presence_changes();
        while !self.state().sessions.contains_key(device) {
            // The sender lives in this hub.
            let _ = changes.changed().await;
        }
    }

    /// Waits until no session with a device stands.
    pub(in crate::node) async fn has_gone(&self, device: &VerifyingKey) {
        let mut changes = self.presence_changes();
        while self.state().sessions.contains_key(device) {
            let _ = changes.changed().await;
        }
    }

    /// Whether a session with a device stands for which this end greeted it.
    pub(in crate::node) fn has_greeted(&self, device: &VerifyingKey) -> bool {
        self.state().sessions.get(device).is_some_and(|session| session.we_greeted)
    }

    /// Whether the last session with a device ended soon after it had begun; told once.
    pub(in crate::node) fn take_soon_lost(&self, device: &VerifyingKey) -> bool {
        self.state().soon_lost.remove(device)
    }

    /// Has devices looked for now, whatever pause they are in.
    pub(crate) fn seek_at_once(&self, devices: impl IntoIterator<Item = VerifyingKey>) {
        self.state().sought.extend(devices);
        self.note_presence();
    }

    /// Takes those who are to be looked for at once.
    pub(in crate::node) fn take_sought(&self) -> BTreeSet<VerifyingKey> {
        std::mem::take(&mut self.state().sought)
    }

    /// A search for a device begins; gives its number.
    pub(in crate::node) fn begin_trail(&self, device: VerifyingKey) -> u64 {
        let mut state = self.state();
        let State { searches, trails, roster, replicas, .. } = &mut *state;
        *searches += 1;
        trails.retain(|known, _| roster.contains(known) || replicas.contains_key(known));
        trails.insert(device, Trail::new(*searches));
        *searches
    }

    /// How it stands with a place at which a device is tried.
    pub(in crate::node) fn note_tried(
        &self,
        device: &VerifyingKey,
        number: u64,
        source: Source,
        at: SocketAddr,
        miss: Option<Miss>,
    ) {
        if let Some(trail) = self.state().trails.get_mut(device).filter(|trail| trail.number == number) {
            trail.note(source, at, miss);
        }
    }

    /// A search has ended.
    pub(in crate::node) fn end_trail(&self, device: &VerifyingKey, number: u64) {
        if let Some(trail) = self.state().trails.get_mut(device).filter(|trail| trail.number == number) {
            trail.is_over = true;
        }
        self.note_presence();
    }

    /// How the last search for a device went.
    pub(crate) fn trail(&self, device: &VerifyingKey) -> Option<Trail> {
        self.state().trails.get(device).cloned()
    }

    /// The number of the last search that began.
    pub(crate) fn searches(&self) -> u64 {
        self.state().searches
    }
}
