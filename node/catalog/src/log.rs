//! Chains of entries and what waits for its place in them (`docs/spec/04-spaces.md`, "Chain cases").
//!
//! [`judge_place`] says where an entry stands against those that are held; [`Waiting`] keeps what came too early, in
//! memory and bounded. What is held for good is in rows ([`crate::space`]).

use std::collections::BTreeMap;

use locker_crypto::id::{EntryId, VerifyingKey};

/// Most entries that wait.
pub const WAITING_MAX: usize = 4_096;
/// Most bytes of entries that wait.
pub const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Where an entry stands in the chain of its author.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainPlace {
    /// It follows an entry that is held, or is a first one, and nothing else has its number.
    Next,
    /// It follows an entry that is held, and another entry with its number is held: a fork.
    Fork,
    /// This very entry is held.
    Held,
    /// The entry before it is not held. `E_GAP`.
    Gap,
    /// It follows the known head by number, but names another entry before it. `E_CHAIN`, unless the author is forked
    /// and the other branch is still to come; so it waits like a gap.
    Elsewhere,
    /// It can follow nothing: a first entry with an entry before it, or a later one without. `E_CHAIN`.
    Broken,
}

/// Says where an entry stands.
///
/// `held` are the ids of this author's entries with the number `seq`, `before` those with the number before it.
pub fn judge_place(
    seq: u64,
    id: &EntryId,
    prev: &EntryId,
    held: &[EntryId],
    before: &[EntryId],
) -> ChainPlace {
    if held.contains(id) {
        return ChainPlace::Held;
    }
    if (seq == 0) != (*prev == EntryId::ZERO) {
        return ChainPlace::Broken;
    }
    if seq > 0 && !before.contains(prev) {
        return if before.is_empty() { ChainPlace::Gap } else { ChainPlace::Elsewhere };
    }
    if held.is_empty() { ChainPlace::Next } else { ChainPlace::Fork }
}

/// What an entry waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    /// An entry before it, or one that it names in deps.
    Entry {
        /// Whose.
        author: VerifyingKey,
        /// Its number.
        seq: u64,
        /// Its name.
        id: EntryId,
    },
    /// To know whose key its author's is: a person log or a `member` operation.
    Author(VerifyingKey),
}

/// Entries that came too early. When it is full, the oldest go; they are asked for again when their turn comes.
#[derive(Debug)]
pub struct Waiting<T> {
    entries: BTreeMap<EntryId, Waiter<T>>,
    arrivals: BTreeMap<u64, EntryId>,
    bytes: usize,
    count_max: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Waiter<T> {
    entry: T,
    missing: Missing,
    arrival: u64,
    len: usize,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self::bounded(WAITING_MAX, WAITING_BYTES_MAX)
    }
}

impl<T> Waiting<T> {
    /// Starts empty, with other bounds than the default ones.
    pub fn bounded(count_max: usize, bytes_max: usize) -> Self {
        Self { entries: BTreeMap::new(), arrivals: BTreeMap::new(), bytes: 0, count_max, bytes_max }
    }

    /// Keeps an entry of `len` bytes aside. One that waits already stays where it is, with its new reason.
    pub fn keep(&mut self, id: EntryId, entry: T, len: usize, missing: Missing) {
        if let Some(waiter) = self.entries.get_mut(&id) {
            waiter.missing = missing;
            return;
        }
        let arrival = self.arrivals.last_key_value().map_or(0, |(last, _)| last + 1);
        self.arrivals.insert(arrival, id);
        self.entries.insert(id, Waiter { entry, missing, arrival, len });
        self.bytes += len;
        while self.entries.len() > self.count_max || self.bytes > self.bytes_max {
            let Some((_, oldest)) = self.arrivals.pop_first() else { break };
            self.remove(&oldest);
        }
    }

    /// Takes out all that wait for something that `is_there` now.
    pub fn take_ready(&mut self, is_there: impl Fn(&Missing) -> bool) -> Vec<T> {
        let ready = self.entries.iter().filter(|(_, waiter)| is_there(&waiter.missing));
        let ids: Vec<EntryId> = ready.map(|(id, _)| *id).collect();
        ids.iter().filter_map(|id| self.remove(id)).collect()
    }

    /// What the waiting entries lack, to be asked for; each once.
    pub fn missing(&self) -> Vec<Missing> {
        let mut missing: Vec<Missing> = self.entries.values().map(|waiter| waiter.missing).collect();
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    /// Author and number of the entries that those wait for which are meant, to be asked for; each once, and none that waits here
    /// itself.
    pub fn missing_entries(&self, is_meant: impl Fn(&T) -> bool) -> Vec<(VerifyingKey, u64)> {
        let mut missing: Vec<(VerifyingKey, u64)> = (self.entries.values())
            .filter(|waiter| is_meant(&waiter.entry))
            .filter_map(|waiter| match waiter.missing {
                Missing::Entry { author, seq, id } if !self.entries.contains_key(&id) => Some((author, seq)),
                Missing::Entry { .. } | Missing::Author(_) => None,
            })
            .collect();
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    /// Number of entries that wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn remove(&mut self, id: &EntryId) -> Option<T> {
        let waiter = self.entries.remove(id)?;
        self.arrivals.remove(&waiter.arrival);
        self.bytes -= waiter.len;
        Some(waiter.entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> EntryId {
        EntryId([n; 32])
    }

    #[test]
    fn every_chain_case() {
        let (held, before) = ([id(5)], [id(4)]);
        let cases = [
            (0, 1, EntryId::ZERO, &[][..], &[][..], ChainPlace::Next),
            (0, 1, id(9), &[], &[], ChainPlace::Broken),
            (3, 5, EntryId::ZERO, &[], &before, ChainPlace::Broken),
            (3, 5, id(4), &[], &before, ChainPlace::Next),
            (3, 5, id(4), &held, &before, ChainPlace::Held),
            (3, 6, id(4), &held, &before, ChainPlace::Fork),
            (0, 6, EntryId::ZERO, &held, &[], ChainPlace::Fork),
            (3, 6, id(7), &[], &before, ChainPlace::Elsewhere),
            (3, 6, id(7), &[], &[], ChainPlace::Gap),
        ];
        for (seq, n, prev, held, before, expected) in cases {
            assert_eq!(judge_place(seq, &id(n), &prev, held, before), expected, "{seq} {n}");
        }
    }

    #[test]
    fn oldest_go_when_it_is_full() {
        let author = |n| Missing::Author(VerifyingKey([n; 32]));
        let mut waiting = Waiting::bounded(3, 100);
        for n in 1..=4 {
            waiting.keep(id(n), n, 10, author(n));
        }
        assert_eq!(waiting.len(), 3);
        waiting.keep(id(5), 5, 85, author(5));
        assert_eq!(waiting.missing(), [author(4), author(5)]);
        // A repeated arrival does not push others out.
        waiting.keep(id(4), 4, 10, author(9));
        assert_eq!(waiting.len(), 2);
        assert_eq!(waiting.take_ready(|missing| *missing == author(9)), [4]);
        assert_eq!(waiting.take_ready(|_| true), [5]);
        assert!(waiting.is_empty() && waiting.bytes == 0 && waiting.arrivals.is_empty());
        // One that is too large for the buffer is not kept at all.
        waiting.keep(id(1), 1, 101, author(1));
        assert!(waiting.is_empty());
    }

    #[test]
    fn entries_that_are_missing_are_asked_for_once_and_by_number() {
        let (author, seq) = (VerifyingKey([1; 32]), 7);
        let mut waiting = Waiting::default();
        for n in 1..=3 {
            waiting.keep(id(n), n, 1, Missing::Entry { author, seq, id: id(100 + n) });
        }
        waiting.keep(id(4), 4, 1, Missing::Entry { author, seq: 5, id: id(104) });
        waiting.keep(id(5), 5, 1, Missing::Author(author));
        assert_eq!(waiting.missing_entries(|_| true), [(author, 5), (author, 7)]);
        assert_eq!(waiting.missing_entries(|n| *n < 4), [(author, 7)]);
        assert_eq!(waiting.missing_entries(|n| *n == 5), []);
        waiting.keep(id(104), 6, 1, Missing::Entry { author, seq: 4, id: id(105) });
        assert_eq!(waiting.missing_entries(|_| true), [(author, 4), (author, 7)]);
    }

    #[test]
    fn limits_are_those_of_the_table() {
        let mut waiting = Waiting::default();
        for n in 0..=WAITING_MAX {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            waiting.keep(EntryId(bytes), n, 1, Missing::Author(VerifyingKey([0; 32])));
        }
        assert_eq!(waiting.len(), WAITING_MAX);
        assert_eq!((WAITING_MAX, WAITING_BYTES_MAX), (4_096, 67_108_864));
    }
}
