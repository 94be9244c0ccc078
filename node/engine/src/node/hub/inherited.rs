//! One network after another in one process: when the one may end, and what it hands over.

use std::collections::HashMap;
use std::sync::PoisonError;

use locker_crypto::id::VerifyingKey;

use super::{Hub, guests};
use crate::node::leases::Leases;

/// What a network takes over from the one before it in the same process.
#[derive(Default)]
pub(in crate::node) struct Inherited {
    pub(super) leases: Leases,
    pub(super) last_seen: HashMap<VerifyingKey, u64>,
}

impl Hub {
    /// For the network that takes the place of this one.
    pub(in crate::node) fn inherit(&self) -> Inherited {
        Inherited { leases: self.leases.clone(), last_seen: self.state().last_seen.clone() }
    }

    /// Whether nobody would notice if the network ended now: nothing is fetched, answered or taken in, and no holder of a link
    /// or of the words, and no invited device, is here.
    pub(in crate::node) fn is_at_rest(&self) -> bool {
        let answers = [
            (&self.own_answers, guests::OWN_ANSWERS),
            (&self.small_answers, guests::SMALL_ANSWERS),
            (&self.guest_answers, guests::GUEST_ANSWERS),
        ];
        let is_visited = {
            let state = self.state();
            !(state.guests.is_empty() && state.recovery.seats.is_empty())
        };
        let invites = self.invitation.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        !is_visited
            && !invites
            && !self.is_busy()
            && answers.iter().all(|(turns, all)| turns.available_permits() == *all)
    }
}
