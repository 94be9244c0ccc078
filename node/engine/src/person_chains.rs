//! The chains of a log of a person: how far each author is, what is missing in between, and who is forked.

use std::collections::{BTreeMap, BTreeSet};

use locker_crypto::id::VerifyingKey;
use locker_crypto::person::Entry;
use locker_sync::message::v1::Head;

/// What the entries that are here come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PersonChains {
    /// The newest entry of each author; of several with one number the one with the greatest id.
    pub(crate) heads: BTreeMap<VerifyingKey, Head>,
    /// Author and number of the entries that others stand on and that are not here, sorted.
    pub(crate) missing: Vec<(VerifyingKey, u64)>,
    /// Authors of whom two entries share a number, with the first such number.
    pub(crate) forked: BTreeMap<VerifyingKey, u64>,
}

impl PersonChains {
    pub(crate) fn of(log: &[Entry]) -> Self {
        let held: BTreeSet<_> = log.iter().map(|entry| (entry.author, entry.seq, entry.id)).collect();
        let (mut chains, mut missing) = (Self::default(), BTreeSet::new());
        let mut last = None;
        for (author, seq, id) in &held {
            if last == Some((author, seq)) {
                chains.forked.entry(*author).or_insert(*seq);
            }
            last = Some((author, seq));
            chains.heads.insert(*author, Head { author: *author, seq: *seq, id: id.0 });
        }
        for entry in log {
            let prev = entry.seq.checked_sub(1).map(|before| (entry.author, before, entry.prev));
            let deps = entry.body.deps.iter().map(|dep| (dep.author, dep.seq, dep.entry));
            let lacking = prev.into_iter().chain(deps).filter(|named| !held.contains(named));
            missing.extend(lacking.map(|(author, seq, _)| (author, seq)));
        }
        chains.missing = missing.into_iter().collect();
        chains
    }
}

#[cfg(test)]
mod tests {
    use locker_crypto::id::EntryId;
    use locker_crypto::person::Body;

    use super::*;

    fn entry(author: u8, seq: u64, id: u8, prev: u8) -> Entry {
        let body = Body { hlc: 1, deps: Vec::new(), ops: Vec::new() };
        let (id, prev) = (EntryId([id; 32]), EntryId([prev; 32]));
        Entry { id, author: VerifyingKey([author; 32]), seq, prev, body, signature: [0; 64] }
    }

    fn key(author: u8) -> VerifyingKey {
        VerifyingKey([author; 32])
    }

    #[test]
    fn heads_gaps_and_forks_are_told_in_whatever_order_it_came() {
        // Of author 1 a whole chain; of 2 two branches from number 1 on, of one of which the middle is missing.
        let log = [
            entry(1, 0, 10, 0),
            entry(1, 1, 11, 10),
            entry(2, 0, 20, 0),
            entry(2, 1, 21, 20),
            entry(2, 1, 31, 20),
            entry(2, 3, 33, 32),
            entry(2, 3, 34, 32),
        ];
        for turn in 0..log.len() {
            let mut log = log.to_vec();
            log.rotate_left(turn);
            let chains = PersonChains::of(&log);
            let heads: Vec<_> =
                chains.heads.values().map(|head| (head.author, head.seq, head.id[0])).collect();
            assert_eq!(heads, [(key(1), 1, 11), (key(2), 3, 34)]);
            assert_eq!(chains.missing, [(key(2), 2)]);
            assert_eq!(chains.forked, [(key(2), 1)].into());
        }
        // What others stand on by name is missing too.
        let mut onward = entry(1, 0, 10, 0);
        onward.body.deps =
            vec![locker_crypto::person::Head { author: key(3), seq: 4, entry: EntryId([9; 32]) }];
        assert_eq!(PersonChains::of(&[onward]).missing, [(key(3), 4)]);
        // Another branch under it: the number is here, the entry is not.
        let chains = PersonChains::of(&[entry(2, 0, 20, 0), entry(2, 1, 22, 21)]);
        assert_eq!((chains.missing, chains.forked), (vec![(key(2), 0)], BTreeMap::new()));
        assert_eq!(PersonChains::of(&[]), PersonChains::default());
    }
}
