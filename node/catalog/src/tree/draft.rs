//! Trying an entry before it is signed.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use locker_crypto::Refusal;

use super::TreeEntry;
use super::apply::{Outcome, apply_entry};
use super::limits::WRITER;
use crate::rows::{ReadRows, RowError, Table, Visit, WriteRows};

/// Says which operations of an entry a writer of ours must not write: those that would have no effect, and those
/// that pass the limits for writers ([`WRITER`]), which are narrower than those of replay.
///
/// `entry` is the entry to be written, after all others in total order. Nothing is changed. Cost: that of applying
/// it.
///
/// # Errors
/// [`RowError`] as the store gives it.
pub fn check_writer(rows: &dyn ReadRows, entry: &TreeEntry) -> Result<Vec<(u16, Refusal)>, RowError> {
    match apply_entry(&mut Draft { base: rows, changes: BTreeMap::new() }, entry, &WRITER, false)? {
        Outcome::Applied(refusals) => Ok(refusals),
        Outcome::Rewind => Ok(Vec::new()),
    }
}

/// Rows with changes that are not written.
struct Draft<'a> {
    base: &'a dyn ReadRows,
    /// The new value of each changed row; `None` if it is removed.
    changes: BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>,
}

impl Draft<'_> {
    fn changed(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> impl DoubleEndedIterator<Item = (&[u8], Option<&[u8]>)> {
        let empty = to.is_some_and(|to| to <= from);
        let end = to.map(<[u8]>::to_vec);
        let range = (Bound::Included((table, from.to_vec())), Bound::Unbounded);
        let rest = self.changes.range(range);
        rest.map(|((table, key), value)| (table, key, value))
            .take_while(move |(t, key, _)| {
                !empty && **t == table && end.as_ref().is_none_or(|end| *key < end)
            })
            .map(|(_, key, value)| (key.as_slice(), value.as_deref()))
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// Visits the rows of both in one order; `is_before` tells which of two keys comes first.
    fn merge<'k>(
        changed: impl Iterator<Item = (&'k [u8], Option<&'k [u8]>)>,
        scan_base: impl FnOnce(&mut Visit<'_>) -> Result<(), RowError>,
        is_before: impl Fn(&[u8], &[u8]) -> bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), RowError> {
        let mut changed = changed.peekable();
        let mut ended = false;
        scan_base(&mut |key, value| {
            while let Some((own, new)) = changed.next_if(|(own, _)| is_before(own, key)) {
                if new.is_some_and(|new| visit(own, new).is_break()) {
                    ended = true;
                    return ControlFlow::Break(());
                }
            }
            let flow = match changed.next_if(|(own, _)| *own == key) {
                Some((_, None)) => ControlFlow::Continue(()),
                Some((_, Some(new))) => visit(key, new),
                None => visit(key, value),
            };
            ended = flow.is_break();
            flow
        })?;
        while !ended && let Some((own, new)) = changed.next() {
            ended = new.is_some_and(|new| visit(own, new).is_break());
        }
        Ok(())
    }
}

impl ReadRows for Draft<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, RowError> {
        match self.changes.get(&(table, key.to_vec())) {
            Some(value) => Ok(value.clone()),
            None => self.base.get(table, key),
        }
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), RowError> {
        let base = |visit: &mut Visit<'_>| self.base.scan(table, from, to, visit);
        Self::merge(self.changed(table, from, to), base, |a, b| a < b, visit)
    }

    fn scan_back(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), RowError> {
        let base = |visit: &mut Visit<'_>| self.base.scan_back(table, from, to, visit);
        Self::merge(self.changed(table, from, to).rev(), base, |a, b| a > b, visit)
    }

    fn keyed(&self, bytes: &[u8]) -> [u8; 16] {
        self.base.keyed(bytes)
    }
}

impl WriteRows for Draft<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), RowError> {
        self.changes.insert((table, key.to_vec()), Some(value.to_vec()));
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), RowError> {
        self.changes.insert((table, key.to_vec()), None);
        Ok(())
    }
}
