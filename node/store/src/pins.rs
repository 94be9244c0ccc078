//! Pins: which packs an author holds on to, and the signed deltas that say so (`docs/spec/08-at-rest.md`, "Tables").
//!
//! The caller has checked signature, chain and author; here a delta and its effect become one change.

use std::ops::ControlFlow;

use locker_crypto::id::{PackHash, SpaceTag, VerifyingKey};

use crate::StoreError;
use crate::snapshot::{Direction, Reads, after};
use crate::tables::{PIN_DELTAS, PINS};
use crate::transaction::WriteTxn;

/// Names an author's pins in one space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PinScope {
    /// The space.
    pub space: SpaceTag,
    /// Who pins.
    pub author: VerifyingKey,
}

impl PinScope {
    fn key(&self, rest: &[u8]) -> Vec<u8> {
        [self.space.as_bytes(), self.author.as_bytes().as_slice(), rest].concat()
    }
}

/// A verified delta.
#[derive(Clone, Copy, Debug)]
pub struct PinDelta<'a> {
    /// Its number in the author's chain.
    pub seq: u64,
    /// The signed `LKG1` bytes.
    pub bytes: &'a [u8],
    /// What it pins.
    pub adds: &'a [PackHash],
    /// What it lets go.
    pub drops: &'a [PackHash],
}

/// Writes a delta and brings the author's standing pins up to date.
pub fn apply(txn: &mut WriteTxn<'_>, scope: &PinScope, delta: &PinDelta<'_>) {
    txn.put(PIN_DELTAS, &scope.key(&delta.seq.to_be_bytes()), delta.bytes);
    for pack in delta.adds {
        txn.put(PINS, &scope.key(pack.as_bytes()), &[]);
    }
    for pack in delta.drops {
        txn.delete(PINS, &scope.key(pack.as_bytes()));
    }
}

/// Returns the author's newest delta: its number and bytes.
///
/// # Errors
/// As every reading: [`StoreError::Corrupt`], [`StoreError::Io`], [`StoreError::Poisoned`].
pub fn newest<R: Reads>(reads: &R, scope: &PinScope) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
    let prefix = scope.key(&[]);
    let mut found = None;
    reads.view().scan(
        PIN_DELTAS,
        &prefix,
        after(&prefix).as_deref(),
        Direction::Descending,
        &mut |key, value| {
            let seq = key.last_chunk::<8>().map(|seq| u64::from_be_bytes(*seq));
            found = seq.map(|seq| (seq, value.to_vec()));
            ControlFlow::Break(())
        },
    )?;
    Ok(found)
}

/// Returns one delta.
///
/// # Errors
/// As [`newest`].
pub fn delta<R: Reads>(reads: &R, scope: &PinScope, seq: u64) -> Result<Option<Vec<u8>>, StoreError> {
    reads.view().get(PIN_DELTAS, &scope.key(&seq.to_be_bytes()))
}

/// Whether the author pins the pack.
///
/// # Errors
/// As [`newest`].
pub fn is_pinned<R: Reads>(reads: &R, scope: &PinScope, pack: &PackHash) -> Result<bool, StoreError> {
    Ok(reads.view().get(PINS, &scope.key(pack.as_bytes()))?.is_some())
}

/// Visits the packs that the author pins, ascending.
///
/// # Errors
/// As [`newest`].
pub fn scan<R: Reads>(
    reads: &R,
    scope: &PinScope,
    visit: &mut dyn FnMut(PackHash) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    reads.view().scan_prefix(PINS, &scope.key(&[]), &mut |key, _| match key.last_chunk::<32>() {
        Some(pack) => visit(PackHash(*pack)),
        None => ControlFlow::Continue(()),
    })
}

/// Packs that the author pins: `count` of them, each as likely as any other, or all if there are no more. `below` draws a
/// number below the one that it is given.
///
/// Cost: reads every pin of the author.
///
/// # Errors
/// As [`newest`].
pub fn sample<R: Reads>(
    reads: &R,
    scope: &PinScope,
    count: usize,
    below: &mut dyn FnMut(u64) -> u64,
) -> Result<Vec<PackHash>, StoreError> {
    reads.view().sample_packs(PINS, &scope.key(&[]), count, &|_| Ok(true), below)
}

/// Whether one of some authors pins the pack in this space: where the pins of those who were removed do not count.
///
/// Cost: one look-up for each author, until one pins it.
///
/// # Errors
/// As [`newest`].
pub fn is_pinned_by<'a, R: Reads>(
    reads: &R,
    space: &SpaceTag,
    authors: impl IntoIterator<Item = &'a VerifyingKey>,
    pack: &PackHash,
) -> Result<bool, StoreError> {
    for author in authors {
        if is_pinned(reads, &PinScope { space: *space, author: *author }, pack)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether anybody pins the pack in this space, removed or not.
///
/// Cost: one look-up for each author who pins anything there.
///
/// # Errors
/// As [`newest`].
pub fn is_pinned_by_any<R: Reads>(reads: &R, space: &SpaceTag, pack: &PackHash) -> Result<bool, StoreError> {
    let end = after(space.as_bytes());
    let mut from = space.as_bytes().to_vec();
    loop {
        let mut author = None;
        reads.view().scan(PINS, &from, end.as_deref(), Direction::Ascending, &mut |key, _| {
            author = key.get(16..48).and_then(|key| VerifyingKey::from_slice(key).ok());
            ControlFlow::Break(())
        })?;
        let Some(author) = author else { return Ok(false) };
        let scope = PinScope { space: *space, author };
        if is_pinned(reads, &scope, pack)? {
            return Ok(true);
        }
        match after(&scope.key(&[])) {
            Some(next) => from = next,
            None => return Ok(false),
        }
    }
}
