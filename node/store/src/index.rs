//! Where chunks lie: packs, their chunks, the spaces they belong to (`docs/spec/08-at-rest.md`, "Tables").
//!
//! A chunk's row names its packs by a short local number, so that it stays near 100 bytes. What is referenced and what
//! may go is decided above; here every change keeps the tables in step with one another.

mod check;

use std::ops::ControlFlow;

pub use self::check::check;
use locker_crypto::Refusal;
use locker_crypto::id::{ChunkTag, PackHash, SpaceTag, VerifyingKey};

use crate::limits::{PACK_BYTES_MAX, PACK_CHUNKS_MAX};
use crate::settings::{self, Setting};
use crate::snapshot::{Direction, Reads, after};
use crate::tables::{CHUNKS, NAMINGS, PACK_LOCS, PACK_NUMBERS, PACK_RECENT, PACKS, SCOPES};
use crate::transaction::WriteTxn;
use crate::{StoreError, pins, unneeded};

/// How it stands with a pack here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackState {
    /// Named by an operation, not here.
    Wanted,
    /// Durable here.
    Present {
        /// When all its bytes were last compared with its hash, unix seconds.
        verified_at: u64,
    },
    /// Was present; its file is gone or damaged.
    Lost,
    /// Its file is being removed.
    Deleting,
    /// Let go here on purpose, while another device still pins it: it can be had again.
    Released,
    /// Needed, and let go here on purpose: other devices were proved to hold it. It is read from there.
    Away,
}

/// A chunk in a pack. Its offset is the sum of the lengths before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loc {
    /// The chunk.
    pub tag: ChunkTag,
    /// Its sealed length in bytes.
    pub sealed_len: u32,
}

/// Where a chunk lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The pack.
    pub pack: PackHash,
    /// First byte in the pack.
    pub offset: u32,
    /// Sealed length in bytes.
    pub sealed_len: u32,
}

/// The last operation that names a pack in a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Naming {
    /// Its clock.
    pub hlc: u64,
    /// Who wrote it.
    pub author: VerifyingKey,
}

/// A place of a chunk, by the number of the pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// [`Pack::number`].
    pub number: u32,
    /// Sealed length in bytes.
    pub sealed_len: u32,
}

/// What is known of a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pack {
    /// Length in bytes.
    pub len: u32,
    /// How it stands with it here.
    pub state: PackState,
    /// The spaces that have it.
    pub spaces: Vec<SpaceTag>,
    number: u32,
}

impl Pack {
    /// The short number under which chunks name it here. Numbers are never given twice.
    pub fn number(&self) -> u32 {
        self.number
    }
}

/// Adds a pack to a space, or a space to a pack that is known; its chunks can then be found there.
///
/// `locs` are the chunks in order, empty where they are not known (a replica without keys). A pack that is known keeps
/// its chunks and, unless it comes as present or was let go, its state. A length of 0 stands for one that is not known
/// yet: a pin names a pack and not its length.
///
/// # Errors
/// [`StoreError::Refused`] with [`Refusal::Limit`] above 16,777,216 bytes or 4,096 chunks, with [`Refusal::Canon`] if the
/// chunks do not fit into the pack or it has another length than known; else as every reading.
pub fn add_pack(
    txn: &mut WriteTxn<'_>,
    space: &SpaceTag,
    hash: &PackHash,
    new: &NewPack<'_>,
) -> Result<(), StoreError> {
    if u64::from(new.len) > PACK_BYTES_MAX || new.locs.len() > PACK_CHUNKS_MAX {
        return Err(StoreError::Refused(Refusal::Limit));
    }
    if new.locs.iter().map(|loc| u64::from(loc.sealed_len)).sum::<u64>() > u64::from(new.len) {
        return Err(StoreError::Refused(Refusal::Canon));
    }
    let (mut pack, locs) = match pack(txn, hash)? {
        Some(known) if known.len != new.len && known.len != 0 && new.len != 0 => {
            return Err(StoreError::Refused(Refusal::Canon));
        }
        Some(mut known) => {
            known.len = known.len.max(new.len);
            let mut locs = locs(txn, hash)?;
            if locs.is_empty() && !new.locs.is_empty() {
                locs = new.locs.to_vec();
                txn.put(PACK_LOCS, hash.as_bytes(), &encode_locs(&locs));
                // The spaces that had it without knowing its chunks learn them too.
                for space in &known.spaces {
                    add_places(txn, space, known.number, &locs)?;
                }
            }
            (known, locs)
        }
        None => {
            let number = take_number(txn)?;
            count(txn, 1)?;
            txn.put(PACK_NUMBERS, &number.to_be_bytes(), hash.as_bytes());
            if !new.locs.is_empty() {
                txn.put(PACK_LOCS, hash.as_bytes(), &encode_locs(new.locs));
            }
            (Pack { len: new.len, state: new.state, spaces: Vec::new(), number }, new.locs.to_vec())
        }
    };
    if matches!(new.state, PackState::Present { .. }) {
        pack.state = new.state;
        txn.put(PACK_RECENT, hash.as_bytes(), &[]);
    } else if pack.state == PackState::Released {
        pack.state = new.state;
    }
    if !pack.spaces.contains(space) {
        pack.spaces.push(*space);
        txn.put(SCOPES, &scope_key(space, hash), &[]);
        add_places(txn, space, pack.number, &locs)?;
    }
    txn.put(PACKS, hash.as_bytes(), &encode_pack(&pack));
    Ok(())
}

/// A pack to be added.
#[derive(Clone, Copy, Debug)]
pub struct NewPack<'a> {
    /// Length in bytes.
    pub len: u32,
    /// How it stands with it here.
    pub state: PackState,
    /// Its chunks in order; empty where not known.
    pub locs: &'a [Loc],
}

/// Changes how it stands with a known pack; an unknown one is left alone.
///
/// # Errors
/// As every reading.
pub fn set_state(txn: &mut WriteTxn<'_>, hash: &PackHash, state: PackState) -> Result<(), StoreError> {
    if let Some(mut pack) = pack(txn, hash)? {
        pack.state = state;
        txn.put(PACKS, hash.as_bytes(), &encode_pack(&pack));
        if matches!(state, PackState::Present { .. }) {
            txn.put(PACK_RECENT, hash.as_bytes(), &[]);
        }
    }
    Ok(())
}

/// What a look at all bytes of a pack gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// They are those of the pack, at this time, unix seconds.
    Whole(u64),
    /// They are not, or not all there.
    Damaged,
}

/// Notes what a look at the bytes of a pack gave, if it is present or lost; whether that is new: it was lost or has come
/// back. A pack that meanwhile is something else is left alone.
///
/// # Errors
/// As every reading.
pub fn note_checked(txn: &mut WriteTxn<'_>, hash: &PackHash, checked: Checked) -> Result<bool, StoreError> {
    let Some(mut pack) = pack(txn, hash)? else { return Ok(false) };
    let was_here = match pack.state {
        PackState::Present { .. } => true,
        PackState::Lost => false,
        PackState::Wanted | PackState::Released | PackState::Away | PackState::Deleting => return Ok(false),
    };
    pack.state = match checked {
        Checked::Whole(verified_at) => PackState::Present { verified_at },
        Checked::Damaged => PackState::Lost,
    };
    txn.put(PACKS, hash.as_bytes(), &encode_pack(&pack));
    Ok(was_here != matches!(checked, Checked::Whole(_)))
}

/// Returns what is known of a pack.
///
/// # Errors
/// As every reading: [`StoreError::Corrupt`], [`StoreError::Io`], [`StoreError::Poisoned`].
pub fn pack<R: Reads>(reads: &R, hash: &PackHash) -> Result<Option<Pack>, StoreError> {
    reads.view().get(PACKS, hash.as_bytes())?.map(|value| decode_pack(&value).ok_or_else(damaged)).transpose()
}

/// Returns the chunks of a pack in order; empty if they are not known.
///
/// # Errors
/// As [`pack`].
pub fn locs<R: Reads>(reads: &R, hash: &PackHash) -> Result<Vec<Loc>, StoreError> {
    match reads.view().get(PACK_LOCS, hash.as_bytes())? {
        Some(value) => decode_locs(&value).ok_or_else(damaged),
        None => Ok(Vec::new()),
    }
}

/// Returns every known place of a chunk in a space, whatever the state of its pack.
///
/// # Errors
/// As [`pack`].
pub fn places<R: Reads>(reads: &R, space: &SpaceTag, tag: &ChunkTag) -> Result<Vec<Place>, StoreError> {
    let Some(value) = reads.view().get(CHUNKS, &chunk_key(space, tag))? else { return Ok(Vec::new()) };
    decode_rows(&value)
        .ok_or_else(damaged)?
        .into_iter()
        .map(|[number, offset, sealed_len]| {
            let hash = reads.view().get(PACK_NUMBERS, &number.to_be_bytes())?.ok_or_else(damaged)?;
            Ok(Place { pack: PackHash::from_slice(&hash).map_err(|_| damaged())?, offset, sealed_len })
        })
        .collect()
}

/// Whether a chunk has a known place in a space. Cheaper than [`places`].
///
/// # Errors
/// As [`pack`].
pub fn has_chunk<R: Reads>(reads: &R, space: &SpaceTag, tag: &ChunkTag) -> Result<bool, StoreError> {
    Ok(reads.view().get(CHUNKS, &chunk_key(space, tag))?.is_some())
}

/// Whether a chunk can be read here: some pack that has it is present.
///
/// # Errors
/// As [`pack`].
pub fn is_here<R: Reads>(reads: &R, space: &SpaceTag, tag: &ChunkTag) -> Result<bool, StoreError> {
    for place in places(reads, space, tag)? {
        if pack(reads, &place.pack)?.is_some_and(|pack| matches!(pack.state, PackState::Present { .. })) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Visits the tags of all chunks that are located in a space, in their order. Cost: one pass over these rows.
///
/// # Errors
/// As [`pack`].
pub fn scan_tags<R: Reads>(
    reads: &R,
    space: &SpaceTag,
    visit: &mut dyn FnMut(ChunkTag) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    reads.view().scan_prefix(CHUNKS, space.as_bytes(), &mut |key, _| match key.last_chunk::<16>() {
        Some(tag) => visit(ChunkTag(*tag)),
        None => ControlFlow::Continue(()),
    })
}

/// Visits every pack, in the order of the hashes.
///
/// # Errors
/// As [`pack`].
pub fn scan_packs<R: Reads>(
    reads: &R,
    visit: &mut dyn FnMut(PackHash, Pack) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    scan_packs_after(reads, None, visit)
}

/// Visits the packs behind a given one, in the order of the hashes.
///
/// # Errors
/// As [`pack`].
pub fn scan_packs_after<R: Reads>(
    reads: &R,
    after: Option<&PackHash>,
    visit: &mut dyn FnMut(PackHash, Pack) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    // The least key that is greater.
    let from = after.map_or_else(Vec::new, |hash| [hash.as_bytes().as_slice(), &[0]].concat());
    let mut wrong = false;
    reads.view().scan(PACKS, &from, None, Direction::Ascending, &mut |key, value| match (
        PackHash::from_slice(key),
        decode_pack(value),
    ) {
        (Ok(hash), Some(pack)) => visit(hash, pack),
        _ => {
            wrong = true;
            ControlFlow::Break(())
        }
    })?;
    if wrong { Err(damaged()) } else { Ok(()) }
}

/// Visits the packs of a space, in the order of the hashes.
///
/// # Errors
/// As [`pack`].
pub fn scan_space<R: Reads>(
    reads: &R,
    space: &SpaceTag,
    visit: &mut dyn FnMut(PackHash) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    reads.view().scan_prefix(SCOPES, space.as_bytes(), &mut |key, _| match key.last_chunk::<32>() {
        Some(hash) => visit(PackHash(*hash)),
        None => ControlFlow::Continue(()),
    })
}

/// Returns how many packs are known.
///
/// # Errors
/// As [`pack`].
pub fn pack_count<R: Reads>(reads: &R) -> Result<u64, StoreError> {
    Ok(settings::number(reads, Setting::PACK_COUNT)?.unwrap_or(0))
}

/// Notes who names a pack in a space; of several operations the one with the greatest clock counts (of equals, the
/// greatest author).
///
/// # Errors
/// As [`pack`].
pub fn note_naming(
    txn: &mut WriteTxn<'_>,
    space: &SpaceTag,
    hash: &PackHash,
    new: &Naming,
) -> Result<(), StoreError> {
    if naming(txn, space, hash)?.is_none_or(|known| known < *new) {
        let value = [new.hlc.to_le_bytes().as_slice(), new.author.as_bytes()].concat();
        txn.put(NAMINGS, &scope_key(space, hash), &value);
    }
    Ok(())
}

/// Returns the last operation that names a pack in a space; `None` if that was before such was noted.
///
/// # Errors
/// As [`pack`].
pub fn naming<R: Reads>(reads: &R, space: &SpaceTag, hash: &PackHash) -> Result<Option<Naming>, StoreError> {
    let Some(value) = reads.view().get(NAMINGS, &scope_key(space, hash))? else { return Ok(None) };
    let (hlc, author) = value.split_first_chunk::<8>().ok_or_else(damaged)?;
    let author = VerifyingKey::from_slice(author).map_err(|_| damaged())?;
    Ok(Some(Naming { hlc: u64::from_le_bytes(*hlc), author }))
}

/// Visits the chunks of a space from a tag on, each with all its places, in the order of the tags.
///
/// # Errors
/// As [`pack`].
pub fn scan_chunks<R: Reads>(
    reads: &R,
    space: &SpaceTag,
    from: &ChunkTag,
    visit: &mut dyn FnMut(ChunkTag, &[Spot]) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let end = after(space.as_bytes());
    let mut wrong = false;
    let mut spots = Vec::new();
    let start = chunk_key(space, from);
    reads.view().scan(CHUNKS, &start, end.as_deref(), Direction::Ascending, &mut |key, value| match (
        key.last_chunk::<16>(),
        decode_rows(value),
    ) {
        (Some(tag), Some(rows)) => {
            spots.clear();
            spots.extend(
                rows.iter().map(|[number, _, sealed_len]| Spot { number: *number, sealed_len: *sealed_len }),
            );
            visit(ChunkTag(*tag), &spots)
        }
        _ => {
            wrong = true;
            ControlFlow::Break(())
        }
    })?;
    if wrong { Err(damaged()) } else { Ok(()) }
}

/// Takes a pack out of a space: its chunks are not found there any more. The pack itself stays known.
///
/// # Errors
/// As [`pack`].
pub fn remove_from_space(
    txn: &mut WriteTxn<'_>,
    space: &SpaceTag,
    hash: &PackHash,
) -> Result<(), StoreError> {
    let Some(mut pack) = pack(txn, hash)? else { return Ok(()) };
    if !pack.spaces.contains(space) {
        return Ok(());
    }
    for loc in locs(txn, hash)? {
        let key = chunk_key(space, &loc.tag);
        let Some(value) = txn.view().get(CHUNKS, &key)? else { continue };
        let mut rows = decode_rows(&value).ok_or_else(damaged)?;
        rows.retain(|[number, ..]| *number != pack.number);
        if rows.is_empty() {
            txn.delete(CHUNKS, &key);
            // What is not there any more is not waited for either.
            unneeded::forget(txn, space, &loc.tag);
        } else {
            txn.put(CHUNKS, &key, &encode_rows(&rows));
        }
    }
    pack.spaces.retain(|known| known != space);
    txn.delete(SCOPES, &scope_key(space, hash));
    txn.delete(NAMINGS, &scope_key(space, hash));
    txn.put(PACKS, hash.as_bytes(), &encode_pack(&pack));
    Ok(())
}

/// First half of a deletion: the state says that the file goes.
pub(crate) fn mark_deleting(txn: &mut WriteTxn<'_>, hash: &PackHash) -> Result<(), StoreError> {
    set_state(txn, hash, PackState::Deleting)
}

/// The file of a pack that is needed goes, for others hold it.
pub(crate) fn mark_away(txn: &mut WriteTxn<'_>, hash: &PackHash) -> Result<(), StoreError> {
    txn.delete(PACK_RECENT, hash.as_bytes());
    set_state(txn, hash, PackState::Away)
}

/// Second half: the file is gone. A pack that somebody still pins stays known, and is not wanted; another one is
/// forgotten with its chunks.
pub(crate) fn finish_deleting(txn: &mut WriteTxn<'_>, hash: &PackHash) -> Result<(), StoreError> {
    let Some(known) = pack(txn, hash)? else { return Ok(()) };
    for space in &known.spaces {
        if pins::is_pinned_by_any(txn, space, hash)? {
            txn.delete(PACK_RECENT, hash.as_bytes());
            return set_state(txn, hash, PackState::Released);
        }
    }
    for space in &known.spaces {
        remove_from_space(txn, space, hash)?;
    }
    txn.delete(PACK_NUMBERS, &known.number.to_be_bytes());
    txn.delete(PACK_LOCS, hash.as_bytes());
    txn.delete(PACK_RECENT, hash.as_bytes());
    txn.delete(PACKS, hash.as_bytes());
    count(txn, -1)
}

/// Returns the packs written since the last clean closing.
pub(crate) fn recent<R: Reads>(reads: &R) -> Result<Vec<PackHash>, StoreError> {
    let mut found = Vec::new();
    reads.view().scan_prefix(PACK_RECENT, &[], &mut |key, _| {
        found.extend(PackHash::from_slice(key));
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Marks the packs written until now as part of a clean state.
pub(crate) fn forget_recent(txn: &mut WriteTxn<'_>) -> Result<(), StoreError> {
    for hash in recent(txn)? {
        txn.delete(PACK_RECENT, hash.as_bytes());
    }
    Ok(())
}

fn take_number(txn: &mut WriteTxn<'_>) -> Result<u32, StoreError> {
    let next = settings::number(txn, Setting::NEXT_PACK)?.unwrap_or(0);
    settings::put_number(txn, Setting::NEXT_PACK, next + 1);
    u32::try_from(next).map_err(|_| StoreError::Refused(Refusal::Limit))
}

fn count(txn: &mut WriteTxn<'_>, change: i64) -> Result<(), StoreError> {
    let new = pack_count(txn)?.checked_add_signed(change).ok_or_else(damaged)?;
    settings::put_number(txn, Setting::PACK_COUNT, new);
    Ok(())
}

fn add_places(txn: &mut WriteTxn<'_>, space: &SpaceTag, number: u32, locs: &[Loc]) -> Result<(), StoreError> {
    let mut offset = 0;
    for loc in locs {
        let key = chunk_key(space, &loc.tag);
        let mut rows = match txn.view().get(CHUNKS, &key)? {
            Some(value) => decode_rows(&value).ok_or_else(damaged)?,
            None => Vec::new(),
        };
        rows.push([number, offset, loc.sealed_len]);
        txn.put(CHUNKS, &key, &encode_rows(&rows));
        offset += loc.sealed_len;
    }
    Ok(())
}

fn chunk_key(space: &SpaceTag, tag: &ChunkTag) -> Vec<u8> {
    [space.as_bytes().as_slice(), tag.as_bytes()].concat()
}

fn scope_key(space: &SpaceTag, hash: &PackHash) -> Vec<u8> {
    [space.as_bytes().as_slice(), hash.as_bytes()].concat()
}

fn damaged() -> StoreError {
    StoreError::corrupt("a row of the pack index")
}

fn encode_pack(pack: &Pack) -> Vec<u8> {
    let (state, verified_at) = match pack.state {
        PackState::Wanted => (0, 0),
        PackState::Present { verified_at } => (1, verified_at),
        PackState::Lost => (2, 0),
        PackState::Deleting => (3, 0),
        PackState::Released => (4, 0),
        PackState::Away => (5, 0),
    };
    let mut out = Vec::with_capacity(17 + 16 * pack.spaces.len());
    out.extend_from_slice(&pack.number.to_le_bytes());
    out.extend_from_slice(&pack.len.to_le_bytes());
    out.push(state);
    out.extend_from_slice(&u64::to_le_bytes(verified_at));
    for space in &pack.spaces {
        out.extend_from_slice(space.as_bytes());
    }
    out
}

fn decode_pack(value: &[u8]) -> Option<Pack> {
    let (number, rest) = value.split_first_chunk::<4>()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (state, rest) = rest.split_first()?;
    let (verified_at, rest) = rest.split_first_chunk::<8>()?;
    let verified_at = u64::from_le_bytes(*verified_at);
    let state = match (state, verified_at) {
        (0, 0) => PackState::Wanted,
        (1, _) => PackState::Present { verified_at },
        (2, 0) => PackState::Lost,
        (3, 0) => PackState::Deleting,
        (4, 0) => PackState::Released,
        (5, 0) => PackState::Away,
        _ => return None,
    };
    let (spaces, left) = rest.as_chunks::<16>();
    left.is_empty().then(|| Pack {
        len: u32::from_le_bytes(*len),
        state,
        spaces: spaces.iter().copied().map(SpaceTag).collect(),
        number: u32::from_le_bytes(*number),
    })
}

fn encode_locs(locs: &[Loc]) -> Vec<u8> {
    locs.iter()
        .flat_map(|loc| loc.tag.as_bytes().iter().copied().chain(loc.sealed_len.to_le_bytes()))
        .collect()
}

fn decode_locs(value: &[u8]) -> Option<Vec<Loc>> {
    let (rows, left) = value.as_chunks::<20>();
    let read = |row: &[u8; 20]| {
        let (tag, len) = row.split_first_chunk::<16>()?;
        Some(Loc { tag: ChunkTag(*tag), sealed_len: u32::from_le_bytes(len.try_into().ok()?) })
    };
    if left.is_empty() { rows.iter().map(read).collect() } else { None }
}

fn encode_rows(rows: &[[u32; 3]]) -> Vec<u8> {
    rows.iter().flatten().flat_map(|number| number.to_le_bytes()).collect()
}

fn decode_rows(value: &[u8]) -> Option<Vec<[u32; 3]>> {
    let (words, left) = value.as_chunks::<4>();
    let (rows, rest) = words.as_chunks::<3>();
    (left.is_empty() && rest.is_empty()).then(|| rows.iter().map(|row| row.map(u32::from_le_bytes)).collect())
}

#[cfg(test)]
mod tests;
