//! Whether every row of the pack index leads to what it says, in both directions (`docs/spec/08-at-rest.md`, "Tables").
//!
//! | Row | Leads to |
//! |---|---|
//! | `packs` | its number, its spaces, and each of its chunks in each of them |
//! | `pack-locs`, `pack-numbers`, `pack-recent`, `scopes` | the pack, which knows of them |
//! | `chunks` | packs that are known; and there are no more places than the packs have chunks |
//!
//! Nothing is held in memory: what would take a set is told by counting, and looked at one by one only if the counts
//! differ.

use std::ops::ControlFlow;

use locker_crypto::id::{PackHash, SpaceTag};

use super::{Loc, Pack, chunk_key, decode_locs, decode_pack, decode_rows, locs, pack, pack_count, scope_key};
use crate::StoreError;
use crate::settings::{self, Setting};
use crate::snapshot::{Direction, Reads};
use crate::tables::{CHUNKS, PACK_LOCS, PACK_NUMBERS, PACK_RECENT, PACKS, SCOPES, TableName};

/// Looks at every row and tells of each what is wrong with it, in words, if anything is. A visitor that breaks ends the
/// check.
///
/// Cost: one pass over the tables of the index, and some look-ups for each row.
///
/// # Errors
/// [`StoreError::Corrupt`] for a row that does not open; [`StoreError::Io`], [`StoreError::Poisoned`].
pub fn check<R: Reads>(
    reads: &R,
    visit: &mut dyn FnMut(Option<String>) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let mut check = Check { reads, visit, flaws: 0, is_over: false };
    let expected = check.packs()?;
    check.of_packs()?;
    check.scopes()?;
    let found = check.chunks()?;
    if !check.is_over && found != expected && check.stray_places()? == 0 && check.flaws == 0 {
        let _ = check.tell(Some("the places of chunks are not those of the packs".into()));
    }
    Ok(())
}

struct Check<'a, R> {
    reads: &'a R,
    visit: &'a mut dyn FnMut(Option<String>) -> ControlFlow<()>,
    flaws: u64,
    is_over: bool,
}

impl<R: Reads> Check<'_, R> {
    fn tell(&mut self, flaw: Option<String>) -> ControlFlow<()> {
        self.flaws += u64::from(flaw.is_some());
        let flow = if self.is_over { ControlFlow::Break(()) } else { (self.visit)(flaw) };
        self.is_over = flow.is_break();
        flow
    }

    /// Visits the rows of a table; `look` gives what is wrong with one.
    fn rows(
        &mut self,
        table: TableName,
        mut look: impl FnMut(&R, &[u8], &[u8]) -> Result<Option<String>, StoreError>,
    ) -> Result<(), StoreError> {
        if self.is_over {
            return Ok(());
        }
        let reads = self.reads;
        let mut failure = None;
        reads.view().scan(table, &[], None, Direction::Ascending, &mut |key, value| match look(
            reads, key, value,
        ) {
            Ok(flaw) => self.tell(flaw),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        })?;
        failure.map_or(Ok(()), Err)
    }

    /// Looks at the packs; gives how many places their chunks must have.
    fn packs(&mut self) -> Result<u64, StoreError> {
        let (mut count, mut places) = (0, 0);
        self.rows(PACKS, |reads, key, value| {
            count += 1;
            let (Ok(hash), Some(known)) = (PackHash::from_slice(key), decode_pack(value)) else {
                return Ok(Some("a row of packs has an unknown form".into()));
            };
            let locs = locs(reads, &hash)?;
            places += locs.len() as u64 * known.spaces.len() as u64;
            look_at_pack(reads, &hash, &known, &locs)
        })?;
        if !self.is_over && count != pack_count(self.reads)? {
            let _ = self.tell(Some("rows of packs are missing".into()));
        }
        Ok(places)
    }

    /// Looks at the rows that belong to one pack each.
    fn of_packs(&mut self) -> Result<(), StoreError> {
        for (table, what) in [(PACK_LOCS, "the chunks"), (PACK_RECENT, "the newness")] {
            self.rows(table, |reads, key, value| {
                if table == PACK_LOCS && decode_locs(value).is_none_or(|locs| locs.is_empty()) {
                    return Ok(Some("a row of the chunks of a pack has an unknown form".into()));
                }
                let is_known = match PackHash::from_slice(key) {
                    Ok(hash) => pack(reads, &hash)?.is_some(),
                    Err(_) => false,
                };
                Ok((!is_known).then(|| format!("{what} of a pack that is not known is noted")))
            })?;
        }
        let next = settings::number(self.reads, Setting::NEXT_PACK)?.unwrap_or(0);
        self.rows(PACK_NUMBERS, |reads, key, value| {
            let number = <[u8; 4]>::try_from(key).map(u32::from_be_bytes).ok();
            let known = match PackHash::from_slice(value) {
                Ok(hash) => pack(reads, &hash)?,
                Err(_) => None,
            };
            let fits = known.is_some_and(|pack| Some(pack.number) == number);
            let is_given = number.is_some_and(|number| u64::from(number) < next);
            Ok((!fits || !is_given).then(|| "a number stands for a pack that does not have it".into()))
        })
    }

    fn scopes(&mut self) -> Result<(), StoreError> {
        self.rows(SCOPES, |reads, key, _| {
            let Some((space, hash)) = key.split_first_chunk::<16>() else {
                return Ok(Some("a row of the packs of a space has an unknown form".into()));
            };
            let known = match PackHash::from_slice(hash) {
                Ok(hash) => pack(reads, &hash)?,
                Err(_) => None,
            };
            let fits = known.is_some_and(|pack| pack.spaces.contains(&SpaceTag(*space)));
            Ok((!fits).then(|| "a space lists a pack that does not belong to it".into()))
        })
    }

    /// Looks at the places of chunks; gives how many there are.
    fn chunks(&mut self) -> Result<u64, StoreError> {
        let mut count = 0;
        self.rows(CHUNKS, |reads, key, value| {
            let rows = match decode_rows(value) {
                Some(rows) if key.len() == 32 && !rows.is_empty() => rows,
                _ => return Ok(Some("a row of the places of a chunk has an unknown form".into())),
            };
            count += rows.len() as u64;
            for [number, ..] in rows {
                if reads.view().get(PACK_NUMBERS, &number.to_be_bytes())?.is_none() {
                    return Ok(Some(format!(
                        "a chunk is said to lie in pack number {number}, which there is not"
                    )));
                }
            }
            Ok(None)
        })?;
        Ok(count)
    }

    /// Names the places where no pack has that chunk; gives how many there are.
    fn stray_places(&mut self) -> Result<u64, StoreError> {
        let mut strays = 0;
        self.rows(CHUNKS, |reads, key, value| {
            let (Some((space, tag)), Some(rows)) = (key.split_first_chunk::<16>(), decode_rows(value)) else {
                return Ok(None);
            };
            for [number, offset, sealed_len] in rows {
                let Some(hash) = reads.view().get(PACK_NUMBERS, &number.to_be_bytes())? else { continue };
                let Ok(hash) = PackHash::from_slice(&hash) else { continue };
                let is_in_space = pack(reads, &hash)?.is_some_and(|p| p.spaces.contains(&SpaceTag(*space)));
                let lies_there = offsets(&locs(reads, &hash)?).any(|(at, loc)| {
                    at == offset && loc.sealed_len == sealed_len && loc.tag.as_bytes() == tag
                });
                if !is_in_space || !lies_there {
                    strays += 1;
                    return Ok(Some(format!("a chunk is said to lie in pack {hash}, where it does not")));
                }
            }
            Ok(None)
        })?;
        Ok(strays)
    }
}

/// Looks from a pack at its number, its spaces and its chunks.
fn look_at_pack<R: Reads>(
    reads: &R,
    hash: &PackHash,
    known: &Pack,
    locs: &[Loc],
) -> Result<Option<String>, StoreError> {
    let number = reads.view().get(PACK_NUMBERS, &known.number.to_be_bytes())?;
    if number.as_deref() != Some(hash.as_bytes().as_slice()) {
        return Ok(Some(format!("pack {hash} does not have the number under which its chunks are found")));
    }
    if locs.iter().map(|loc| u64::from(loc.sealed_len)).sum::<u64>() > u64::from(known.len) {
        return Ok(Some(format!("pack {hash} is shorter than its chunks")));
    }
    for space in &known.spaces {
        if reads.view().get(SCOPES, &scope_key(space, hash))?.is_none() {
            return Ok(Some(format!("pack {hash} is not among those of its space")));
        }
        for (offset, loc) in offsets(locs) {
            let found = reads.view().get(CHUNKS, &chunk_key(space, &loc.tag))?;
            let place = [known.number, offset, loc.sealed_len];
            if !found.as_deref().and_then(decode_rows).is_some_and(|rows| rows.contains(&place)) {
                return Ok(Some(format!("a chunk of pack {hash} is not found under its tag")));
            }
        }
    }
    Ok(None)
}

/// The chunks of a pack with their offsets. Their sum was compared with the length of the pack, or does not matter.
fn offsets(locs: &[Loc]) -> impl Iterator<Item = (u32, &Loc)> {
    locs.iter().scan(0u32, |next, loc| {
        let at = *next;
        *next = next.wrapping_add(loc.sealed_len);
        Some((at, loc))
    })
}

#[cfg(test)]
mod tests;
