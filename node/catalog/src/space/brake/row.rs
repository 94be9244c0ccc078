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
/// A held entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeldRow {
    pub(super) is_own: bool,
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
    /// Whether it was looked whether its contents live elsewhere.
    pub(super) is_looked: bool,
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
    Ok(Some(Window {
        tenths: last.tenths_sum.saturating_sub(first.tenths_sum).saturating_add(first.tenths),
        gone: last.gone_sum.saturating_sub(first.gone_sum).saturating_add(first.losses.gone),
    }))
}

/// The entries of the window that ends at one.
pub(super) fn recents(rows: &dyn ReadRows, at: &At) -> Result<Vec<(At, Recent)>, RowError> {
    let (from, to) = range(at);
    let mut found = Vec::new();
    rows.scan(RECENT, &from, to.as_deref(), &mut |key, value| {
        found.push(read_recent(at, key, value));
        ControlFlow::Continue(())
    })?;
    found.into_iter().collect::<Result<_, _>>().map_err(RowError::Corrupt)
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
    let (tenths_sum, gone_sum) = before.map_or((0, 0), |before| (before.tenths_sum, before.gone_sum));
    let tenths = losses.gone.saturating_add(losses.replaced).saturating_mul(FILE_TENTHS);
    let recent = Recent {
        hlc,
        losses,
        tenths,
        tenths_sum: tenths_sum.saturating_add(tenths),
        gone_sum: gone_sum.saturating_add(losses.gone),
        is_looked: false,
    };
    rows.put(RECENT, &own, &recent.encode())?;
    delete_range(rows, &recent_key(&At { ms: 0, seq: 0, ..*at }), &from)
}

/// Sets what an entry counts, and the sums from it on.
pub(super) fn set_tenths(rows: &mut dyn WriteRows, at: &At, new: &Recent) -> Result<(), RowError> {
    let key = recent_key(at);
    let Some(old) = rows.get(RECENT, &key)? else { return Ok(()) };
    let old = Recent::decode(&old).map_err(RowError::Corrupt)?;
    let less = old.tenths.saturating_sub(new.tenths);
    let own = Recent { tenths_sum: old.tenths_sum.saturating_sub(less), ..*new };
    rows.put(RECENT, &key, &own.encode())?;
    if less == 0 {
        return Ok(());
    }
    let mut later = Vec::new();
    let end = after(&key[..33]);
    rows.scan(RECENT, &[&key[..], &[0]].concat(), end.as_deref(), &mut |key, value| {
        later.push((key.to_vec(), Recent::decode(value)));
        ControlFlow::Continue(())
    })?;
    for (key, recent) in later {
        let recent = recent.map_err(RowError::Corrupt)?;
        let tenths_sum = recent.tenths_sum.saturating_sub(less);
        rows.put(RECENT, &key, &Recent { tenths_sum, ..recent }.encode())?;
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
        w.array(8).u64(VERSION).bool(self.is_own).u64(count_code(self.count).into()).u64(self.at_ms);
        w.u64(self.losses.gone).u64(self.losses.replaced).u64(self.tenths).bool(self.is_read);
        w.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut r = Reader::new(bytes);
        begin(&mut r, 8)?;
        let (is_own, count, at_ms) = (r.bool()?, read_count(&mut r)?, r.u64()?);
        let losses = Losses { gone: r.u64()?, replaced: r.u64()? };
        let (tenths, is_read) = (r.u64()?, r.bool()?);
        r.finish()?;
        Ok(Self { is_own, count, at_ms, losses, tenths, is_read })
    }
}

impl Recent {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(8).u64(VERSION).u64(self.hlc).u64(self.losses.gone).u64(self.losses.replaced);
        w.u64(self.tenths).u64(self.tenths_sum).u64(self.gone_sum).bool(self.is_looked);
        w.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut r = Reader::new(bytes);
        begin(&mut r, 8)?;
        let hlc = r.u64()?;
        let losses = Losses { gone: r.u64()?, replaced: r.u64()? };
        let (tenths, tenths_sum, gone_sum, is_looked) = (r.u64()?, r.u64()?, r.u64()?, r.bool()?);
        r.finish()?;
        Ok(Self { hlc, losses, tenths, tenths_sum, gone_sum, is_looked })
    }
}
