//! Rows of the brake: what is held, and what was counted lately (`docs/spec/08-at-rest.md`, "Database").

use std::ops::ControlFlow;

use locker_crypto::Refusal;
use locker_crypto::encode::{Reader, Writer};
use locker_crypto::id::VerifyingKey;

use crate::brake::{Count, FILE_TENTHS, Losses, WINDOW_MS};
use crate::order::EntryOrder;
use crate::rows::{ReadRows, RowError, Table, WriteRows};
use crate::space::row::after;

/// Author, BE64 hlc, BE64 seq → [`HeldRow`].
pub(super) const HELD: Table = Table("brake_held");
/// Count u8, author, BE64 unix ms, BE64 seq → [`Recent`]: what was counted within the last window of each author.
pub(super) const RECENT: Table = Table("brake_recent");
/// Author → BE64 unix ms: when this device last had all that the author showed it.
pub(super) const LEVEL: Table = Table("brake_level");

pub(super) const VERSION: u64 = 1;
/// Where an entry is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Here: it is of another device.
    Here,
    /// On the others: this device wrote it.
    Others,
    /// Nowhere any more: this device is about to write what was before it.
    Undone,
}

/// A held entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeldRow {
    pub(super) whose: Whose,
    pub(super) count: Count,
    pub(super) at_ms: u64,
    pub(super) losses: Losses,
    /// What it counts.
    pub(super) tenths: u64,
    /// Whether it was looked how what it replaced begins.
    pub(super) is_read: bool,
}

/// An entry that counts, with the sum of all that are noted up to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Recent {
    pub(super) hlc: u64,
    pub(super) losses: Losses,
    pub(super) tenths: u64,
    pub(super) tenths_sum: u64,
    pub(super) gone_sum: u64,
    /// The same without regard to what lives elsewhere; and what of it there was when that was looked at last.
    pub(super) gross_sum: u64,
    pub(super) looked_sum: u64,
}

/// The time and number by which a [`Recent`] is found.
#[derive(Clone, Copy)]
pub(super) struct At {
    pub(super) count: Count,
    pub(super) author: VerifyingKey,
    pub(super) ms: u64,
    pub(super) seq: u64,
}

/// What is counted in the window that ends at one entry.
pub(super) struct Window {
    pub(super) tenths: u64,
    pub(super) gone: u64,
    /// What it would count if nothing lived elsewhere, and how much of that was not looked at.
    pub(super) gross: u64,
    pub(super) unlooked: u64,
}

pub(super) fn window(rows: &dyn ReadRows, at: &At) -> Result<Option<Window>, RowError> {
    let (from, to) = range(at);
    let (mut first, mut last) = (None, None);
    rows.scan(RECENT, &from, to.as_deref(), &mut |_, value| {
        first = Some(Recent::decode(value));
        ControlFlow::Break(())
    })?;
    rows.scan_back(RECENT, &from, to.as_deref(), &mut |_, value| {
        last = Some(Recent::decode(value));
        ControlFlow::Break(())
    })?;
    let (Some(first), Some(last)) = (first, last) else { return Ok(None) };
    let (first, last) = (first.map_err(RowError::Corrupt)?, last.map_err(RowError::Corrupt)?);
    let sum = |last: u64, first: u64, own: u64| last.saturating_sub(first).saturating_add(own);
    let gross = sum(last.gross_sum, first.gross_sum, gross(&first.losses));
    Ok(Some(Window {
        tenths: sum(last.tenths_sum, first.tenths_sum, first.tenths),
        gone: sum(last.gone_sum, first.gone_sum, first.losses.gone),
        gross,
        unlooked: last.gross_sum.saturating_sub(last.looked_sum).min(gross),
    }))
}

/// What so much counts if nothing of it lives elsewhere.
pub(super) fn gross(losses: &Losses) -> u64 {
    losses.gone.saturating_add(losses.replaced).saturating_mul(FILE_TENTHS)
}

/// The entries of the window that ends at one, from the last one on that is held; and whether there is such a one.
pub(super) fn unheld(rows: &dyn ReadRows, at: &At) -> Result<(Vec<(At, Recent)>, bool), RowError> {
    let (from, to) = range(at);
    let (mut found, mut follows_held) = (Vec::new(), Ok(false));
    rows.scan_back(RECENT, &from, to.as_deref(), &mut |key, value| {
        let one = read_recent(at, key, value).map_err(RowError::Corrupt).and_then(|(at, recent)| {
            let order = EntryOrder { hlc: recent.hlc, author: at.author, seq: at.seq };
            Ok((rows.get(HELD, &held_key(&order))?.is_some(), (at, recent)))
        });
        follows_held = one.map(|(is_held, one)| {
            if !is_held {
                found.push(one);
            }
            is_held
        });
        if matches!(follows_held, Ok(false)) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    found.reverse();
    Ok((found, follows_held?))
}

pub(super) fn read_recent(of: &At, key: &[u8], value: &[u8]) -> Result<(At, Recent), Refusal> {
    let (ms, seq) = key.get(33..).and_then(|times| times.split_at_checked(8)).ok_or(Refusal::Canon)?;
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).map_err(|_| Refusal::Canon);
    Ok((At { ms: number(ms)?, seq: number(seq)?, ..*of }, Recent::decode(value)?))
}

/// The keys of the window that ends at one entry.
pub(super) fn range(at: &At) -> (Vec<u8>, Option<Vec<u8>>) {
    let start = At { ms: (at.ms + 1).saturating_sub(WINDOW_MS), seq: 0, ..*at };
    (recent_key(&start), after(&recent_key(at)))
}

/// Notes what an entry takes away, and forgets what is older than its window.
pub(super) fn add(rows: &mut dyn WriteRows, at: &At, hlc: u64, losses: Losses) -> Result<(), RowError> {
    let (from, _) = range(at);
    let own = recent_key(at);
    let mut before = None;
    rows.scan_back(RECENT, &from, Some(&own), &mut |_, value| {
        before = Some(Recent::decode(value));
        ControlFlow::Break(())
    })?;
    let before = before.transpose().map_err(RowError::Corrupt)?;
    let gross = gross(&losses);
    let sum = |of: fn(&Recent) -> u64, own: u64| before.as_ref().map_or(0, of).saturating_add(own);
    let recent = Recent {
        hlc,
        losses,
        tenths: gross,
        tenths_sum: sum(|before| before.tenths_sum, gross),
        gone_sum: sum(|before| before.gone_sum, losses.gone),
        gross_sum: sum(|before| before.gross_sum, gross),
        looked_sum: sum(|before| before.looked_sum, 0),
    };
    rows.put(RECENT, &own, &recent.encode())?;
    delete_range(rows, &recent_key(&At { ms: 0, seq: 0, ..*at }), &from)
}

/// Notes what the last entries of an author count after a look at all of them.
pub(super) fn note_looked(rows: &mut dyn WriteRows, fresh: &mut [(At, Recent)]) -> Result<(), RowError> {
    let looked_sum = fresh.last().map_or(0, |(_, last)| last.gross_sum);
    let mut sum = 0_u64;
    for (at, recent) in fresh {
        // What is before them is of no window any more.
        sum = sum.saturating_add(recent.tenths);
        (recent.tenths_sum, recent.looked_sum) = (sum, looked_sum);
        rows.put(RECENT, &recent_key(at), &recent.encode())?;
    }
    Ok(())
}

/// Counts the entries of an author up to a number no more.
pub(super) fn forget_recent(
    rows: &mut dyn WriteRows,
    author: &VerifyingKey,
    last_seq: u64,
) -> Result<(), RowError> {
    for count in [Count::Clock, Count::Arrival] {
        let of = At { count, author: *author, ms: 0, seq: 0 };
        let start = recent_key(&of);
        let mut old = Vec::new();
        rows.scan(RECENT, &start, after(&start[..33]).as_deref(), &mut |key, value| {
            old.push(read_recent(&of, key, value).map(|(at, _)| at));
            ControlFlow::Continue(())
        })?;
        for at in old {
            let at = at.map_err(RowError::Corrupt)?;
            if at.seq <= last_seq {
                rows.delete(RECENT, &recent_key(&at))?;
            }
        }
    }
    Ok(())
}

pub(super) fn delete_range(rows: &mut dyn WriteRows, from: &[u8], to: &[u8]) -> Result<(), RowError> {
    let mut old = Vec::new();
    rows.scan(RECENT, from, Some(to), &mut |key, _| {
        old.push(key.to_vec());
        ControlFlow::Continue(())
    })?;
    old.iter().try_for_each(|key| rows.delete(RECENT, key))
}

pub(super) fn recent_key(at: &At) -> Vec<u8> {
    let count = [count_code(at.count)];
    [&count[..], at.author.as_ref(), &at.ms.to_be_bytes(), &at.seq.to_be_bytes()].concat()
}

pub(super) fn held_key(order: &EntryOrder) -> Vec<u8> {
    [order.author.as_ref(), &order.hlc.to_be_bytes(), &order.seq.to_be_bytes()].concat()
}

/// What is noted of a held entry.
pub(super) fn held_row(rows: &dyn ReadRows, order: &EntryOrder) -> Result<Option<HeldRow>, RowError> {
    rows.get(HELD, &held_key(order))?
        .map(|bytes| HeldRow::decode(&bytes))
        .transpose()
        .map_err(RowError::Corrupt)
}

/// Whether anything is held, here or by others.
pub(super) fn any_held(rows: &dyn ReadRows) -> Result<bool, RowError> {
    let mut any = false;
    rows.scan(HELD, &[], None, &mut |_, _| {
        any = true;
        ControlFlow::Break(())
    })?;
    Ok(any)
}

pub(super) fn each_held(
    rows: &dyn ReadRows,
    visit: &mut dyn FnMut(EntryOrder, HeldRow),
) -> Result<(), RowError> {
    let mut read = Ok(());
    rows.scan(HELD, &[], None, &mut |key, value| {
        let one = read_held(key, value).map(|(order, row)| visit(order, row));
        read = one;
        if read.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    read.map_err(RowError::Corrupt)
}

pub(super) fn read_held(key: &[u8], value: &[u8]) -> Result<(EntryOrder, HeldRow), Refusal> {
    let (author, rest) = key.split_at_checked(VerifyingKey::LEN).ok_or(Refusal::Canon)?;
    let (hlc, seq) = rest.split_at_checked(8).ok_or(Refusal::Canon)?;
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).map_err(|_| Refusal::Canon);
    let order =
        EntryOrder { author: VerifyingKey::from_slice(author)?, hlc: number(hlc)?, seq: number(seq)? };
    Ok((order, HeldRow::decode(value)?))
}

pub(super) fn count_code(count: Count) -> u8 {
    match count {
        Count::Clock => 0,
        Count::Arrival => 1,
    }
}

pub(super) fn read_count(r: &mut Reader<'_>) -> Result<Count, Refusal> {
    match r.u64()? {
        0 => Ok(Count::Clock),
        1 => Ok(Count::Arrival),
        _ => Err(Refusal::Canon),
    }
}

pub(super) fn begin(r: &mut Reader<'_>, len: usize) -> Result<(), Refusal> {
    r.array_of(len)?;
    if r.u64()? == VERSION { Ok(()) } else { Err(Refusal::Version) }
}

impl HeldRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(8).u64(VERSION).u64(self.whose as u64).u64(count_code(self.count).into()).u64(self.at_ms);
        w.u64(self.losses.gone).u64(self.losses.replaced).u64(self.tenths).bool(self.is_read);
        w.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut r = Reader::new(bytes);
        begin(&mut r, 8)?;
        let whose = match r.u64()? {
            0 => Whose::Here,
            1 => Whose::Others,
            2 => Whose::Undone,
            _ => return Err(Refusal::Canon),
        };
        let (count, at_ms) = (read_count(&mut r)?, r.u64()?);
        let losses = Losses { gone: r.u64()?, replaced: r.u64()? };
        let (tenths, is_read) = (r.u64()?, r.bool()?);
        r.finish()?;
        Ok(Self { whose, count, at_ms, losses, tenths, is_read })
    }
}

impl Recent {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(9).u64(VERSION).u64(self.hlc).u64(self.losses.gone).u64(self.losses.replaced);
        w.u64(self.tenths).u64(self.tenths_sum).u64(self.gone_sum).u64(self.gross_sum).u64(self.looked_sum);
        w.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut r = Reader::new(bytes);
        begin(&mut r, 9)?;
        let hlc = r.u64()?;
        let losses = Losses { gone: r.u64()?, replaced: r.u64()? };
        let (tenths, tenths_sum, gone_sum) = (r.u64()?, r.u64()?, r.u64()?);
        let (gross_sum, looked_sum) = (r.u64()?, r.u64()?);
        r.finish()?;
        Ok(Self { hlc, losses, tenths, tenths_sum, gone_sum, gross_sum, looked_sum })
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_core::{Rng, SeedableRng};

    use super::*;

    fn held() -> HeldRow {
        let losses = Losses { gone: 501, replaced: 7 };
        HeldRow {
            whose: Whose::Others,
            count: Count::Arrival,
            at_ms: 1 << 40,
            losses,
            tenths: 5_080,
            is_read: false,
        }
    }

    fn recent() -> Recent {
        Recent {
            hlc: 1 << 60,
            losses: Losses { gone: 3, replaced: 4 },
            tenths: 70,
            tenths_sum: 700,
            gone_sum: 30,
            gross_sum: 900,
            looked_sum: 0,
        }
    }

    /// Rows are read as they were written; cut, changed, longer or newer ones are refused, and none panics.
    #[test]
    fn rows_of_the_brake_round_trip_or_are_refused() {
        let order = EntryOrder { hlc: 1 << 60, author: VerifyingKey([4; 32]), seq: 9 };
        assert_eq!(read_held(&held_key(&order), &held().encode()).unwrap(), (order, held()));
        let at = At { count: Count::Arrival, author: VerifyingKey([4; 32]), ms: 77, seq: 9 };
        let (found, row) = read_recent(&at, &recent_key(&at), &recent().encode()).unwrap();
        assert_eq!((found.ms, found.seq, row), (77, 9, recent()));
        assert_eq!(read_held(&held_key(&order)[1..], &held().encode()).unwrap_err(), Refusal::Canon);
        assert!(read_recent(&at, &recent_key(&at)[..40], &recent().encode()).is_err());
        for bytes in [held().encode(), recent().encode()] {
            let newer = [&[bytes[0], 2], &bytes[2..]].concat();
            let both = |bytes: &[u8]| (HeldRow::decode(bytes).err(), Recent::decode(bytes).err());
            for bad in [&bytes[1..], &bytes[..bytes.len() - 1], &[&bytes[..], &[0]].concat(), &newer] {
                let (first, second) = both(bad);
                assert!(first.is_some() && second.is_some());
            }
        }
        let mut dice = ChaCha8Rng::seed_from_u64(84);
        for _ in 0..20_000 {
            let mut bytes = if dice.next_u32() % 2 == 0 { held().encode() } else { recent().encode() };
            let at = dice.next_u32() as usize % bytes.len();
            bytes[at] ^= 1 << (dice.next_u32() % 8);
            if let Ok(row) = HeldRow::decode(&bytes) {
                assert_eq!(row.encode(), bytes);
            }
            if let Ok(row) = Recent::decode(&bytes) {
                assert_eq!(row.encode(), bytes);
            }
        }
    }
}
