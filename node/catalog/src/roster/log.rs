//! From verified entries of a person log to operations with pasts: chains, forks, and who signed as root.

use std::collections::{BTreeMap, BTreeSet};

use locker_crypto::id::{EntryId, PersonId, VerifyingKey};
use locker_crypto::person::{Entry, Op, Removal};

use super::{Act, Cutoff, PersonOp, Roster};
use crate::fork::{Anchors, Branches, Link};
use crate::order::{EntryOrder, OpOrder, Past};

impl Roster {
    /// Resolves the log of `person` from its entries, in any order. Each must have passed [`Entry::read`]. Entries
    /// that come too early, or whose clock does not increase, are left out until what they name is there.
    ///
    /// Cost: grows with the square of the number of entries; a person log has a handful for each device.
    pub fn read<'a>(person: PersonId, entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let entries: Vec<&Entry> = entries.into_iter().collect();
        let log = Log::new(entries.iter().copied());
        let counting = log.counting(person);
        let uncounted = entries.iter().map(|entry| entry.id).filter(|id| !counting.contains(id)).collect();
        let ops = log.ops(person, |id| counting.contains(id), |id| counting.contains(id));
        Self { uncounted, ..Self::resolve(person, ops) }
    }
}

/// The entries of a person log that stand on others that are all there, as these do. What does not counts for nothing, and
/// neither does what names it.
///
/// Cost: as [`Roster::read`].
pub fn connected(entries: &[Entry]) -> Vec<&Entry> {
    Log::new(entries).entries.into_values().collect()
}

/// The entries of a person log that the author of one knew when he wrote it, that one included; none if it or something that it
/// names is not there.
///
/// Cost: as [`Roster::read`].
pub fn known_to<'a>(entries: &'a [Entry], id: &EntryId) -> Vec<&'a Entry> {
    let log = Log::new(entries);
    let reach = log.reach.get(id);
    let is_known = |other: &EntryId| reach.is_some_and(|reach| other == id || reach.contains(other));
    log.entries.iter().filter(|(other, _)| is_known(other)).map(|(_, entry)| *entry).collect()
}

/// Entries whose chain is whole, with what they reach.
struct Log<'a> {
    entries: BTreeMap<EntryId, &'a Entry>,
    reach: BTreeMap<EntryId, BTreeSet<EntryId>>,
    /// Forked authors, with the least number that two entries share.
    forks: BTreeMap<VerifyingKey, u64>,
}

impl<'a> Log<'a> {
    fn new(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut sorted: Vec<&Entry> = entries.into_iter().collect();
        sorted.sort_unstable_by_key(|entry| (order(entry), entry.id));
        let mut log = Self { entries: BTreeMap::new(), reach: BTreeMap::new(), forks: BTreeMap::new() };
        // Whatever an entry names has a lesser clock, so it comes before it here.
        for entry in sorted {
            if let Some(reach) = log.reach_of(entry) {
                log.entries.insert(entry.id, entry);
                log.reach.insert(entry.id, reach);
            }
        }
        log.find_forks();
        log
    }

    /// What an entry reaches; `None` if something of it is missing, does not fit or is not earlier.
    fn reach_of(&self, entry: &Entry) -> Option<BTreeSet<EntryId>> {
        let prev = (entry.seq > 0).then(|| (entry.author, entry.seq - 1, entry.prev));
        let deps = entry.body.deps.iter().map(|dep| (dep.author, dep.seq, dep.entry));
        let mut reach = BTreeSet::new();
        for (author, seq, id) in prev.into_iter().chain(deps) {
            let named = self.entries.get(&id)?;
            if named.author != author || named.seq != seq || named.body.hlc >= entry.body.hlc {
                return None;
            }
            reach.extend(self.reach.get(&id)?);
            reach.insert(id);
        }
        Some(reach)
    }

    fn find_forks(&mut self) {
        let mut held: BTreeMap<(VerifyingKey, u64), usize> = BTreeMap::new();
        for entry in self.entries.values() {
            *held.entry((entry.author, entry.seq)).or_default() += 1;
        }
        for ((author, seq), _) in held.into_iter().filter(|(_, count)| *count > 1) {
            self.forks.entry(author).or_insert(seq);
        }
    }

    fn is_below_forks(&self, entry: &Entry) -> bool {
        self.forks.get(&entry.author).is_none_or(|first| entry.seq < *first)
    }

    /// The entries that count: of a forked author those of the branch for which the least anchor decides
    /// ([`crate::fork`]).
    fn counting(&self, person: PersonId) -> BTreeSet<EntryId> {
        let below = self.entries.values().filter(|entry| self.is_below_forks(entry));
        let mut counting: BTreeSet<EntryId> = below.map(|entry| entry.id).collect();
        for (author, first) in &self.forks {
            let own = || self.entries.values().filter(|entry| entry.author == *author);
            let above = own().filter(|entry| entry.seq >= *first);
            let links = above.map(|entry| Link { seq: entry.seq, id: entry.id, prev: entry.prev });
            let trunk = own().find(|entry| entry.seq + 1 == *first).map_or(EntryId::ZERO, |entry| entry.id);
            let anchors = self.anchors(person, author, *first);
            counting.extend(Branches::new(trunk, links).counting(&anchors, None).into_values());
        }
        counting
    }

    fn anchors(&self, person: PersonId, author: &VerifyingKey, first: u64) -> Anchors {
        let mut anchors = Anchors::new();
        for (id, entry) in &self.entries {
            let reached = self.reach.get(id).into_iter().flatten().filter_map(|id| self.entries.get(id));
            let held = reached.filter(|other| other.author == *author && other.seq >= first);
            let held: Vec<(u64, EntryId)> = held.map(|other| (other.seq, other.id)).collect();
            let can_vouch = entry.author != *author && self.is_below_forks(entry);
            if !held.is_empty() && can_vouch && self.may_vouch(person, entry) {
                let least = anchors.entry(held).or_insert_with(|| order(entry));
                *least = (*least).min(order(entry));
            }
        }
        anchors
    }

    /// Whether the author of an entry is a device there, by what the entry reaches and what lies below all forks.
    fn may_vouch(&self, person: PersonId, entry: &Entry) -> bool {
        let reach = self.reach.get(&entry.id);
        let inside = |id: &EntryId| {
            reach.is_some_and(|reach| reach.contains(id))
                || self.entries.get(id).is_some_and(|other| self.is_below_forks(other))
        };
        let roster = Roster::resolve(person, self.ops(person, inside, |_| true));
        roster.brought_in.contains(&entry.author)
            && roster.removed.get(&entry.author).is_none_or(|count| entry.seq < *count)
    }

    /// The operations of some entries, with what their authors knew of some.
    fn ops(
        &self,
        person: PersonId,
        inside: impl Fn(&EntryId) -> bool,
        known: impl Fn(&EntryId) -> bool,
    ) -> Vec<PersonOp> {
        let roots = self.roots(person);
        let mut ops = Vec::new();
        for entry in self.entries.values().filter(|entry| inside(&entry.id)) {
            let mut past = Past::default();
            for other in self.reach.get(&entry.id).into_iter().flatten().filter(|id| known(id)) {
                if let Some(other) = self.entries.get(other) {
                    past.learn(other.author, other.seq);
                }
            }
            for (index, op) in (0..).zip(&entry.body.ops) {
                let at = OpOrder { entry: order(entry), index };
                ops.push(PersonOp { at, past: past.clone(), act: act(op, &person, &entry.author, &roots) });
            }
        }
        ops
    }

    /// All keys that ever were or wanted to be the root.
    fn roots(&self, person: PersonId) -> Vec<VerifyingKey> {
        let new = self.entries.values().flat_map(|entry| &entry.body.ops).filter_map(|op| match op {
            Op::SetRoot { root, .. } => Some(*root),
            _ => None,
        });
        std::iter::once(VerifyingKey(person.0)).chain(new).collect()
    }
}

fn order(entry: &Entry) -> EntryOrder {
    EntryOrder { hlc: entry.body.hlc, author: entry.author, seq: entry.seq }
}

fn act(op: &Op, person: &PersonId, author: &VerifyingKey, roots: &[VerifyingKey]) -> Act {
    let signer = || roots.iter().find(|root| op.check_root(root, person, author).is_ok()).copied();
    match op {
        Op::Genesis { .. } => Act::Genesis,
        Op::AddDevice { device, .. } => Act::Add(device.device),
        Op::ReplaceDevice { device, old, .. } => Act::Replace { old: *old, new: device.device },
        Op::RemoveDevice { removal, .. } => Act::Remove(cutoff(removal)),
        Op::Recover { generation, removals, .. } => Act::Recover {
            root: signer(),
            generation: u64::from(*generation),
            removals: removals.iter().map(cutoff).collect(),
        },
        Op::SetRoot { root, generation, .. } => {
            Act::SetRoot { old: signer(), new: *root, generation: u64::from(*generation) }
        }
        Op::SetHome { space } => Act::SetHome(*space),
        Op::RenewKey { .. } | Op::Unknown(_) => Act::Say,
    }
}

fn cutoff(removal: &Removal) -> Cutoff {
    Cutoff { device: removal.device, count: removal.frontier.count() }
}
