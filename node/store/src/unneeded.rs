//! What nothing needs any more, and since which day of running (`docs/spec/08-at-rest.md`, "Keeping").
//!
//! The days are counted above; here they are numbers. A chunk has a row only while it has a place.

use std::ops::ControlFlow;

use locker_crypto::id::{ChunkTag, LinkTag, PackHash, SpaceTag};

use crate::StoreError;
use crate::snapshot::{Direction, Reads, after};
use crate::tables::{ENDED_LINKS, UNNEEDED, UNPINNED};
use crate::transaction::WriteTxn;

/// Returns since which day a chunk is not needed; `None` if it is, or nobody has looked yet.
///
/// # Errors
/// As every reading: [`StoreError::Corrupt`], [`StoreError::Io`], [`StoreError::Poisoned`].
pub fn since<R: Reads>(reads: &R, space: &SpaceTag, tag: &ChunkTag) -> Result<Option<u32>, StoreError> {
    reads.view().get(UNNEEDED, &chunk_key(space, tag))?.map(|value| day(&value)).transpose()
}

/// Notes that a chunk is not needed since a day.
pub fn note(txn: &mut WriteTxn<'_>, space: &SpaceTag, tag: &ChunkTag, since: u32) {
    txn.put(UNNEEDED, &chunk_key(space, tag), &since.to_le_bytes());
}

/// Notes that a chunk is needed, or gone.
pub fn forget(txn: &mut WriteTxn<'_>, space: &SpaceTag, tag: &ChunkTag) {
    txn.delete(UNNEEDED, &chunk_key(space, tag));
}

/// Visits the chunks of a space that are not needed, from a tag on, each with its day, in the order of the tags.
///
/// # Errors
/// As [`since`].
pub fn scan<R: Reads>(
    reads: &R,
    space: &SpaceTag,
    from: &ChunkTag,
    visit: &mut dyn FnMut(ChunkTag, u32) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let (start, end) = (chunk_key(space, from), after(space.as_bytes()));
    let mut failure = Ok(());
    reads.view().scan(UNNEEDED, &start, end.as_deref(), Direction::Ascending, &mut |key, value| match (
        key.last_chunk::<16>(),
        day(value),
    ) {
        (Some(tag), Ok(day)) => visit(ChunkTag(*tag), day),
        (_, wrong) => {
            failure = wrong.and(Err(damaged()));
            ControlFlow::Break(())
        }
    })?;
    failure
}

/// Returns since which day a link is over; `None` if it is not, or nobody has looked yet.
///
/// # Errors
/// As [`since`].
pub fn link_over_since<R: Reads>(reads: &R, link: &LinkTag) -> Result<Option<u32>, StoreError> {
    reads.view().get(ENDED_LINKS, link.as_bytes())?.map(|value| day(&value)).transpose()
}

/// Notes since which day a link is over; `None` if it is not.
pub fn note_link(txn: &mut WriteTxn<'_>, link: &LinkTag, over_since: Option<u32>) {
    match over_since {
        Some(day) => txn.put(ENDED_LINKS, link.as_bytes(), &day.to_le_bytes()),
        None => txn.delete(ENDED_LINKS, link.as_bytes()),
    }
}

/// Returns since which day nobody pins a pack; `None` if somebody does, or nobody has looked yet.
///
/// # Errors
/// As [`since`].
pub fn unpinned_since<R: Reads>(reads: &R, pack: &PackHash) -> Result<Option<u32>, StoreError> {
    reads.view().get(UNPINNED, pack.as_bytes())?.map(|value| day(&value)).transpose()
}

/// Notes since which day nobody pins a pack; `None` if somebody does, or it is gone.
pub fn note_pack(txn: &mut WriteTxn<'_>, pack: &PackHash, unpinned_since: Option<u32>) {
    match unpinned_since {
        Some(day) => txn.put(UNPINNED, pack.as_bytes(), &day.to_le_bytes()),
        None => txn.delete(UNPINNED, pack.as_bytes()),
    }
}

fn chunk_key(space: &SpaceTag, tag: &ChunkTag) -> Vec<u8> {
    [space.as_bytes().as_slice(), tag.as_bytes()].concat()
}

fn day(value: &[u8]) -> Result<u32, StoreError> {
    value.try_into().map(u32::from_le_bytes).map_err(|_| damaged())
}

fn damaged() -> StoreError {
    StoreError::corrupt("a row of what is not needed")
}
