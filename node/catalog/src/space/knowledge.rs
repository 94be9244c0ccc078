//! What an entry reaches: of each author the last entries, so that the branches of a fork can be told apart later.

use std::collections::BTreeMap;

use locker_crypto::Refusal;
use locker_crypto::encode::{Reader, Writer};
use locker_crypto::id::{EntryId, VerifyingKey};

use super::row;
use crate::operation::EntryRef;
use crate::order::Past;
use crate::rows::{ReadRows, RowError};

/// Of each author the last entries that are reached: one, or one per branch that is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Knowledge(pub(super) BTreeMap<VerifyingKey, Vec<(u64, EntryId)>>);

impl Knowledge {
    /// Adds all that another entry reaches, and the entry itself.
    ///
    /// Of an author without fork the last entry implies the others; of a forked one the branches are walked.
    pub(super) fn learn(&mut self, rows: &dyn ReadRows, from: &row::EntryRow) -> Result<(), RowError> {
        for (author, tips) in &from.known.0 {
            for (seq, id) in tips {
                self.add(rows, &EntryRef { author: *author, seq: *seq, id: *id })?;
            }
        }
        self.add(rows, &from.name())
    }

    /// Whether an author's entry with this number or a later one is reached.
    pub(super) fn reaches(&self, author: &VerifyingKey, seq: u64) -> bool {
        self.0.get(author).is_some_and(|tips| tips.iter().any(|(tip, _)| *tip >= seq))
    }

    /// Whether an entry is reached.
    pub(super) fn holds(&self, rows: &dyn ReadRows, name: &EntryRef) -> Result<bool, RowError> {
        for tip in self.0.get(&name.author).into_iter().flatten().filter(|tip| tip.0 >= name.seq) {
            if is_below(rows, &name.author, (name.seq, name.id), *tip)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How many entries of each author are reached, whatever branches they are of.
    pub(super) fn reached(&self) -> Past {
        let mut past = Past::default();
        for (author, tips) in &self.0 {
            tips.iter().for_each(|(seq, _)| past.learn(*author, *seq));
        }
        past
    }

    fn add(&mut self, rows: &dyn ReadRows, name: &EntryRef) -> Result<(), RowError> {
        let tips = self.0.entry(name.author).or_default();
        let new = (name.seq, name.id);
        if tips.contains(&new) {
            return Ok(());
        }
        let mut kept = Vec::with_capacity(1);
        let mut covered = false;
        for tip in std::mem::take(tips) {
            covered |= tip.0 > new.0 && is_below(rows, &name.author, new, tip)?;
            if tip.0 >= new.0 || !is_below(rows, &name.author, tip, new)? {
                kept.push(tip);
            }
        }
        if !covered {
            kept.push(new);
        }
        kept.sort_unstable();
        *tips = kept;
        Ok(())
    }

    pub(super) fn write(&self, w: &mut Writer) {
        w.array(self.0.len());
        for (author, tips) in &self.0 {
            w.array(2).bytes(author.as_ref()).array(tips.len());
            for (seq, id) in tips {
                w.array(2).u64(*seq).bytes(id.as_ref());
            }
        }
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Refusal> {
        let mut known: BTreeMap<VerifyingKey, Vec<(u64, EntryId)>> = BTreeMap::new();
        for _ in 0..r.array()? {
            r.array_of(2)?;
            let author = VerifyingKey(r.fixed()?);
            if known.last_key_value().is_some_and(|(last, _)| *last >= author) {
                return Err(Refusal::Canon);
            }
            let len = r.array()?;
            let tip = |_| {
                r.array_of(2)?;
                Ok((r.u64()?, EntryId(r.fixed()?)))
            };
            known.insert(author, (0..len).map(tip).collect::<Result<_, Refusal>>()?);
        }
        Ok(Self(known))
    }
}

/// Whether the entry `low` of an author is `high` or one before it in the same branch.
fn is_below(
    rows: &dyn ReadRows,
    author: &VerifyingKey,
    low: (u64, EntryId),
    high: (u64, EntryId),
) -> Result<bool, RowError> {
    let fork = rows.get(row::FORKS, author.as_ref())?;
    let first = fork.and_then(|seq| seq.try_into().ok()).map_or(u64::MAX, u64::from_be_bytes);
    if low.0 < first {
        return Ok(true);
    }
    let (mut seq, mut id) = high;
    while seq > low.0 {
        id = row::named(rows, &EntryRef { author: *author, seq, id })?.prev;
        seq -= 1;
    }
    Ok(id == low.1)
}
