//! What becomes of each pack: pure decisions on plain figures (`docs/spec/03-content.md`, "Repacking";
//! `docs/spec/08-at-rest.md`, "Keeping").

use std::collections::{BTreeMap, BTreeSet};

use locker_crypto::id::PackHash;
use locker_store::index::{Naming, PackState};

use crate::limits::{NEEDED_FRACTION, SMALL_PACK_BYTES, SMALL_PACKS_MAX};
use crate::report::{Fate, Why};

/// What is known of a pack and what lies in it.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// Its short number here.
    pub(super) number: u32,
    /// Its name.
    pub(super) hash: PackHash,
    /// Its length in bytes.
    pub(super) len: u32,
    /// How it stands with it here.
    pub(super) state: PackState,
    /// The last operation that names it.
    pub(super) naming: Option<Naming>,
    /// Whether this device is the one that may make it anew.
    pub(super) is_mine: bool,
    /// Whether this device pins it.
    pub(super) is_pinned: bool,
    /// Active devices that pin it, this one included. Of one that was let go: 1 also if only others pin it that are no
    /// devices any more.
    pub(super) pins: u32,
    /// Whether a link that lasts gives it.
    pub(super) is_linked: bool,
    /// Whether it is being sent or fetched.
    pub(super) is_in_transfer: bool,
    /// What lies in it.
    pub(super) holds: Holds,
}

/// Bytes of the chunks of a pack, by what becomes of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Holds {
    /// Needed by files, and to be had from this pack.
    pub(super) live: u64,
    /// Kept for its time, and to be had from this pack.
    pub(super) kept: u64,
    /// Needed or kept, and to be had from another pack.
    pub(super) elsewhere: u64,
    /// Not needed any more.
    pub(super) unneeded: u64,
    /// The numbers of these other packs.
    pub(super) homes: BTreeSet<u32>,
    /// Since which day the last of what is kept is not needed.
    pub(super) kept_since: Option<u32>,
}

impl Holds {
    /// Bytes that must be had from this pack.
    pub(super) fn needed(&self) -> u64 {
        self.live + self.kept
    }

    fn all(&self) -> u64 {
        self.needed() + self.elsewhere + self.unneeded
    }
}

/// What becomes of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// A file or a link needs it.
    Live,
    /// It is kept for its time; since which day it is not needed.
    Kept(u32),
    /// Its time is over.
    Over,
}

/// Adds up what lies in each pack.
#[derive(Default)]
pub(super) struct Tally(BTreeMap<u32, Holds>);

impl Tally {
    /// Adds a chunk: its places, each the number of a pack and bytes, the pack it is to be had from, and what becomes of it.
    pub(super) fn add(
        &mut self,
        places: impl IntoIterator<Item = (u32, u64)>,
        home: Option<u32>,
        need: Need,
    ) {
        for (number, bytes) in places {
            let holds = self.0.entry(number).or_default();
            match need {
                Need::Over => holds.unneeded += bytes,
                Need::Live if home == Some(number) => holds.live += bytes,
                Need::Kept(since) if home == Some(number) => {
                    holds.kept += bytes;
                    holds.kept_since = holds.kept_since.max(Some(since));
                }
                Need::Live | Need::Kept(_) => {
                    holds.elsewhere += bytes;
                    holds.homes.extend(home);
                }
            }
        }
    }

    /// Hands the sums to the packs.
    pub(super) fn hand_out(self, packs: &mut BTreeMap<u32, Facts>) {
        for (number, holds) in self.0 {
            if let Some(facts) = packs.get_mut(&number) {
                facts.holds = holds;
            }
        }
    }
}

/// What holds for all packs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Copies that are wanted of everything.
    pub(super) copies_wanted: u32,
    /// Some file's references could not be read, so that anything may be needed.
    pub(super) is_blind: bool,
}

/// Where a chunk with several places is to be had: the number of the pack that an operation named last (of equals the
/// least name), of those that are here or that somebody has. Every device comes to the same, and a pack that was made
/// anew always comes after those that it was made from.
pub(super) fn home<'f>(places: impl IntoIterator<Item = &'f Facts>) -> Option<u32> {
    let rank = |facts: &Facts| {
        let can_be_had = match facts.state {
            PackState::Present { .. } => 2,
            PackState::Wanted | PackState::Lost | PackState::Away if facts.pins > 0 => 2,
            PackState::Released => 1,
            PackState::Wanted | PackState::Lost | PackState::Away | PackState::Deleting => 0,
        };
        (can_be_had, facts.naming.map_or(0, |naming| naming.hlc), std::cmp::Reverse(facts.hash))
    };
    places.into_iter().max_by_key(|facts| rank(facts)).map(|facts| facts.number)
}

/// Decides on every pack.
pub(super) fn decide(packs: &BTreeMap<u32, Facts>, terms: &Terms) -> BTreeMap<u32, (Fate, Why)> {
    let small = packs.values().filter(|facts| is_small(facts)).count();
    let has_many_small = small > SMALL_PACKS_MAX;
    packs.iter().map(|(number, facts)| (*number, one(packs, facts, terms, has_many_small))).collect()
}

fn one(packs: &BTreeMap<u32, Facts>, facts: &Facts, terms: &Terms, has_many_small: bool) -> (Fate, Why) {
    let holds = &facts.holds;
    match facts.state {
        PackState::Deleting => return (Fate::Released, Why::Unneeded),
        PackState::Away if facts.pins > 0 => return (Fate::Kept, Why::OnOthers),
        PackState::Released | PackState::Away if holds.live > 0 => return (Fate::Wanted, Why::InUse),
        PackState::Released if facts.pins > 0 => return (Fate::Kept, Why::OnOthers),
        PackState::Released | PackState::Away => return (Fate::Released, Why::Unneeded),
        PackState::Present { .. } | PackState::Wanted | PackState::Lost => {}
    }
    if terms.is_blind {
        return (Fate::Kept, Why::Unknown);
    }
    if facts.is_linked {
        return (Fate::Kept, Why::Linked);
    }
    if facts.is_in_transfer {
        return (Fate::Kept, Why::InTransfer);
    }
    if holds.needed() == 0 {
        return if holds.elsewhere == 0 {
            (Fate::Released, Why::Unneeded)
        } else if holds.homes.iter().all(|home| has_copies(packs.get(home), facts, terms)) {
            (Fate::Released, Why::StoredTwice)
        } else {
            (Fate::Kept, Why::AwaitsCopies)
        };
    }
    if can_be_made_anew(facts) {
        if is_mostly_unneeded(facts) {
            return (Fate::Repacked, Why::MostlyUnneeded);
        }
        if has_many_small && is_small(facts) {
            return (Fate::Repacked, Why::Small);
        }
    }
    (Fate::Kept, if holds.live > 0 { Why::InUse } else { Why::Recent })
}

/// Whether what lies in `home` too is as safe there as in `pack`: it is durable here, and on as many devices as are
/// wanted or as have it now.
fn has_copies(home: Option<&Facts>, pack: &Facts, terms: &Terms) -> bool {
    home.is_some_and(|home| {
        let is_here = matches!(home.state, PackState::Present { .. }) && home.is_pinned;
        is_here && home.pins >= terms.copies_wanted.min(pack.pins)
    })
}

/// Whether so little of a pack is needed that it is made anew.
pub(super) fn is_mostly_unneeded(facts: &Facts) -> bool {
    facts.holds.needed() * NEEDED_FRACTION < facts.holds.all()
}

fn can_be_made_anew(facts: &Facts) -> bool {
    facts.is_mine
        && !facts.is_linked
        && !facts.is_in_transfer
        && matches!(facts.state, PackState::Present { .. })
}

fn is_small(facts: &Facts) -> bool {
    can_be_made_anew(facts) && facts.len < SMALL_PACK_BYTES && facts.holds.needed() > 0
}

#[cfg(test)]
mod tests;
