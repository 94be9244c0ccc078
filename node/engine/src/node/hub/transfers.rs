//! Which packs are under way: what is sent or fetched is not let go.

use std::collections::BTreeSet;

use locker_crypto::id::PackHash;

use super::Hub;
use crate::node::lost::Seen;

/// A pack that is being sent, for as long as this lives.
pub(in crate::node) struct Sending<'h> {
    hub: &'h Hub,
    pack: PackHash,
}

impl Hub {
    /// Notes that a pack is being sent.
    pub(in crate::node) fn sending(&self, pack: PackHash) -> Sending<'_> {
        *self.state().sending.entry(pack).or_default() += 1;
        Sending { hub: self, pack }
    }

    /// The packs that are being sent or fetched now.
    pub(crate) fn packs_in_transfer(&self) -> BTreeSet<PackHash> {
        let state = self.state();
        state.sending.keys().copied().chain(state.plan.under_way()).collect()
    }

    /// What can be seen of the fetching of some packs.
    pub(in crate::node) fn seen_of(&self, packs: &[PackHash]) -> Seen {
        let state = self.state();
        let left: BTreeSet<&PackHash> =
            packs.iter().filter(|hash| state.wanted.contains_key(*hash)).collect();
        let sourceless = state.plan.without_source().filter(|(_, hash)| left.contains(hash)).count();
        let others = state.roster.len().saturating_sub(1);
        Seen {
            left: left.len(),
            received: self.traffic().pack_bytes_received,
            present: state.sessions.len(),
            absent: others.saturating_sub(state.sessions.len()),
            has_source: sourceless < left.len(),
        }
    }

    /// Notes that packs which were lost are found to be whole: nobody needs to send them.
    pub(crate) fn came_back(&self, packs: &[PackHash]) {
        if packs.is_empty() {
            return;
        }
        self.with_plan(|plan| packs.iter().for_each(|hash| plan.forget(hash)));
        self.got(packs);
    }

    /// Wants packs no longer: nobody holds them any more, or nothing needs them here.
    pub(crate) fn unwant(&self, packs: &[PackHash]) {
        if packs.is_empty() {
            return;
        }
        let mut state = self.state();
        for hash in packs {
            state.plan.forget(hash);
            state.wanted.remove(hash);
        }
        drop(state);
        self.bump();
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        let mut state = self.hub.state();
        if let Some(count) = state.sending.get_mut(&self.pack) {
            *count -= 1;
            if *count == 0 {
                state.sending.remove(&self.pack);
            }
        }
    }
}
