//! Entries of a space as they were signed, on a device that cannot open them (`docs/spec/08-at-rest.md`, "Tables").
//!
//! The caller has checked form, author, signature, space and chain. Several entries with one number are all kept: they are
//! the proof of a fork.

use std::ops::ControlFlow;

use locker_crypto::id::{EntryId, SpaceTag, VerifyingKey};

use crate::StoreError;
use crate::snapshot::{Direction, Reads, after};
use crate::tables::OPAQUE;
use crate::transaction::WriteTxn;

/// Length of a key: space, author, number, id.
const KEY_LEN: usize = SpaceTag::LEN + VerifyingKey::LEN + 8 + EntryId::LEN;

/// An author's entries in one space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chain {
    /// The space.
    pub space: SpaceTag,
    /// Who wrote them.
    pub author: VerifyingKey,
}

impl Chain {
    fn key(&self, rest: &[u8]) -> Vec<u8> {
        [self.space.as_bytes().as_slice(), self.author.as_bytes(), rest].concat()
    }
}

/// Writes an entry.
pub fn put(txn: &mut WriteTxn<'_>, chain: &Chain, seq: u64, id: &EntryId, bytes: &[u8]) {
    let key = chain.key(&[seq.to_be_bytes().as_slice(), id.as_bytes()].concat());
    txn.put(OPAQUE, &key, bytes);
}

/// Returns the ids of an author's entries with one number: several if it is forked there.
///
/// # Errors
/// As every reading: [`StoreError::Corrupt`], [`StoreError::Io`], [`StoreError::Poisoned`].
pub fn at<R: Reads>(reads: &R, chain: &Chain, seq: u64) -> Result<Vec<EntryId>, StoreError> {
    let mut found = Vec::new();
    reads.view().scan_prefix(OPAQUE, &chain.key(&seq.to_be_bytes()), &mut |key, _| {
        found.extend(read(key).map(|(_, _, id)| id));
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Returns the newest entry of an author: the greatest number, and of several the greatest id.
///
/// # Errors
/// As [`at`].
pub fn newest<R: Reads>(reads: &R, chain: &Chain) -> Result<Option<(u64, EntryId)>, StoreError> {
    let prefix = chain.key(&[]);
    let mut found = None;
    reads.view().scan(OPAQUE, &prefix, after(&prefix).as_deref(), Direction::Descending, &mut |key, _| {
        found = read(key).map(|(_, seq, id)| (seq, id));
        ControlFlow::Break(())
    })?;
    Ok(found)
}

/// Sees an entry: its number, its id and its bytes.
pub type Visit<'a> = &'a mut dyn FnMut(u64, &EntryId, &[u8]) -> ControlFlow<()>;

/// Visits an author's entries from a number on, in the order of their numbers.
///
/// # Errors
/// As [`at`]; [`StoreError::Corrupt`] for a row whose key has another length.
pub fn scan<R: Reads>(reads: &R, chain: &Chain, from: u64, visit: Visit<'_>) -> Result<(), StoreError> {
    let (start, prefix) = (chain.key(&from.to_be_bytes()), chain.key(&[]));
    let mut is_damaged = false;
    reads.view().scan(
        OPAQUE,
        &start,
        after(&prefix).as_deref(),
        Direction::Ascending,
        &mut |key, value| match read(key) {
            Some((_, seq, id)) => visit(seq, &id, value),
            None => {
                is_damaged = true;
                ControlFlow::Break(())
            }
        },
    )?;
    if is_damaged { Err(StoreError::corrupt("a row of sealed entries")) } else { Ok(()) }
}

/// Returns everybody who has entries in a space. Costs one look-up for each.
///
/// # Errors
/// As [`at`].
pub fn authors<R: Reads>(reads: &R, space: &SpaceTag) -> Result<Vec<VerifyingKey>, StoreError> {
    let end = after(space.as_bytes());
    let mut from = space.as_bytes().to_vec();
    let mut authors = Vec::new();
    loop {
        let mut next = None;
        reads.view().scan(OPAQUE, &from, end.as_deref(), Direction::Ascending, &mut |key, _| {
            next = read(key).map(|(author, ..)| author);
            ControlFlow::Break(())
        })?;
        let Some(author) = next else { return Ok(authors) };
        authors.push(author);
        match after(&Chain { space: *space, author }.key(&[])) {
            Some(behind) => from = behind,
            None => return Ok(authors),
        }
    }
}

fn read(key: &[u8]) -> Option<(VerifyingKey, u64, EntryId)> {
    let key: &[u8; KEY_LEN] = key.try_into().ok()?;
    let (_, rest) = key.split_first_chunk::<{ SpaceTag::LEN }>()?;
    let (author, rest) = rest.split_first_chunk::<{ VerifyingKey::LEN }>()?;
    let (seq, id) = rest.split_first_chunk::<8>()?;
    Some((VerifyingKey(*author), u64::from_be_bytes(*seq), EntryId(id.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_kit::{Place, SPACE, begin, reopen};

    #[test]
    fn branches_stand_side_by_side_and_authors_apart() {
        let place = Place::new();
        let store = begin(&place.home);
        let chain = |author| Chain { space: SPACE, author: VerifyingKey([author; 32]) };
        let other = Chain { space: SpaceTag([0xff; 16]), author: VerifyingKey([0xff; 32]) };
        let id = |n| EntryId([n; 32]);
        store
            .write(|txn| {
                for (seq, n) in [(0, 1), (1, 2), (1, 3), (256, 4)] {
                    put(txn, &chain(1), seq, &id(n), &[n]);
                }
                put(txn, &chain(0xff), 7, &id(5), &[5]);
                put(txn, &other, 0, &id(6), &[6]);
                Ok::<_, StoreError>(())
            })
            .unwrap();
        drop(store);
        let store = reopen(&place.home).unwrap();
        let snapshot = store.read().unwrap();
        assert_eq!(at(&snapshot, &chain(1), 1).unwrap(), [id(2), id(3)]);
        assert_eq!(at(&snapshot, &chain(1), 2).unwrap(), []);
        assert_eq!(newest(&snapshot, &chain(1)).unwrap(), Some((256, id(4))));
        assert_eq!(newest(&snapshot, &chain(2)).unwrap(), None);
        assert_eq!(newest(&snapshot, &other).unwrap(), Some((0, id(6))));
        assert_eq!(authors(&snapshot, &SPACE).unwrap(), [chain(1).author, chain(0xff).author]);
        assert_eq!(authors(&snapshot, &other.space).unwrap(), [other.author]);
        let mut seen = Vec::new();
        scan(&snapshot, &chain(1), 1, &mut |seq, id, bytes| {
            seen.push((seq, *id, bytes.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(seen, [(1, id(2), vec![2]), (1, id(3), vec![3]), (256, id(4), vec![4])]);
    }
}
