//! Total order and knowledge: where an entry stands among all others, and what its author knew when writing it
//! (`docs/spec/05-tree.md`, "Replay").

use std::collections::BTreeMap;

use locker_crypto::id::VerifyingKey;

/// The place of an entry in the total order: clock, then author, then sequence number.
///
/// The derived order is the order of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryOrder {
    /// Hybrid logical clock: 48 bits of unix milliseconds, 16 bits of counter.
    pub hlc: u64,
    /// Who wrote the entry.
    pub author: VerifyingKey,
    /// Its number in the author's chain, from 0.
    pub seq: u64,
}

impl EntryOrder {
    /// Size of the row key: 8 + 32 + 8 bytes.
    pub const KEY_LEN: usize = 48;

    /// Returns bytes whose lexicographic order is the total order.
    pub fn to_key(&self) -> [u8; Self::KEY_LEN] {
        let mut key = [0; Self::KEY_LEN];
        key[..8].copy_from_slice(&self.hlc.to_be_bytes());
        key[8..40].copy_from_slice(self.author.as_bytes());
        key[40..].copy_from_slice(&self.seq.to_be_bytes());
        key
    }

    /// Reads a row key; `None` if it has another length.
    pub fn from_key(key: &[u8]) -> Option<Self> {
        let key: &[u8; Self::KEY_LEN] = key.try_into().ok()?;
        let (hlc, rest) = key.split_first_chunk::<8>()?;
        let (author, seq) = rest.split_first_chunk::<32>()?;
        Some(Self {
            hlc: u64::from_be_bytes(*hlc),
            author: VerifyingKey(*author),
            seq: u64::from_be_bytes(seq.try_into().ok()?),
        })
    }
}

/// The place of one operation: its entry, then its index there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpOrder {
    /// The entry.
    pub entry: EntryOrder,
    /// Index of the operation in the entry.
    pub index: u16,
}

/// What an entry's author knew: of each author, how many entries (the first `count` ones).
///
/// Covers the counting branch of a forked author only; what does not count has no effect and nobody asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past(pub BTreeMap<VerifyingKey, u64>);

impl Past {
    /// Whether the entry (author, seq) lies in this past.
    pub fn knows(&self, author: &VerifyingKey, seq: u64) -> bool {
        self.0.get(author).is_some_and(|count| seq < *count)
    }

    /// Adds all that `other` knows.
    pub fn join(&mut self, other: &Past) {
        for (author, count) in &other.0 {
            let own = self.0.entry(*author).or_default();
            *own = (*own).max(*count);
        }
    }

    /// Adds the entry (author, seq) and those before it.
    pub fn learn(&mut self, author: VerifyingKey, seq: u64) {
        let own = self.0.entry(author).or_default();
        *own = (*own).max(seq.saturating_add(1));
    }
}
