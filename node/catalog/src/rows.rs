//! Ordered rows: how the catalog keeps its state without knowing where.
//!
//! The catalog decides which rows there are and what stands in them; `locker-store` keeps them in redb, every value
//! sealed under the vault key, and [`MemoryRows`] keeps them in memory for drills and tests. Keys hold random ids,
//! order keys and keyed hashes, never a name (`docs/spec/08-at-rest.md`).

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use locker_crypto::Refusal;

/// Names a table. Every table of the catalog is a constant beside the code that owns its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(pub &'static str);

/// Why a row could not be read or written.
#[derive(Debug)]
#[non_exhaustive]
pub enum RowError {
    /// A stored row is not what was written: damaged, swapped or cut. The caller stops and reports an integrity
    /// failure.
    Corrupt(Refusal),
    /// The database failed; the store handle is not to be trusted any more.
    Storage(Box<dyn std::error::Error + Send + Sync>),
}

impl std::fmt::Display for RowError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RowError::Corrupt(why) => write!(f, "a stored row is damaged: {why}"),
            RowError::Storage(source) => write!(f, "the database failed: {source}"),
        }
    }
}

impl std::error::Error for RowError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RowError::Corrupt(why) => Some(why),
            RowError::Storage(source) => Some(source.as_ref()),
        }
    }
}

/// What a scan hands each row to: key, value; `Break` ends the scan.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// Reads the rows of one space.
pub trait ReadRows {
    /// Returns the value under `key`.
    ///
    /// # Errors
    /// [`RowError`] as the store gives it.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, RowError>;

    /// Visits the rows with `from <= key`, and `key < to` where given, in ascending order of the key bytes.
    ///
    /// # Errors
    /// [`RowError`] as the store gives it; rows visited before it are valid.
    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), RowError>;

    /// The same, in descending order.
    ///
    /// # Errors
    /// As [`ReadRows::scan`].
    fn scan_back(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), RowError>;

    /// Returns a keyed hash of `bytes`, for keys that must not show what they stand for (names).
    fn keyed(&self, bytes: &[u8]) -> [u8; 16];
}

/// Changes the rows of one space, inside one transaction of the store.
pub trait WriteRows: ReadRows {
    /// Writes the value under `key`, over any earlier one.
    ///
    /// # Errors
    /// [`RowError`] as the store gives it; the transaction is then given up.
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), RowError>;

    /// Removes the row, if it is there.
    ///
    /// # Errors
    /// As [`WriteRows::put`].
    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), RowError>;
}

impl<R: ReadRows + ?Sized> ReadRows for &R {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, RowError> {
        (**self).get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), RowError> {
        (**self).scan(table, from, to, visit)
    }

    fn scan_back(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), RowError> {
        (**self).scan_back(table, from, to, visit)
    }

    fn keyed(&self, bytes: &[u8]) -> [u8; 16] {
        (**self).keyed(bytes)
    }
}

/// Rows kept in memory.
#[derive(Clone, Default)]
pub struct MemoryRows {
    tables: BTreeMap<Table, BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl MemoryRows {
    /// Starts without rows.
    pub fn new() -> Self {
        Self::default()
    }

    fn range<'a>(
        &'a self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> impl DoubleEndedIterator<Item = (&'a Vec<u8>, &'a Vec<u8>)> {
        let end = to.map_or(Bound::Unbounded, |to| Bound::Excluded(to.to_vec()));
        let empty = to.is_some_and(|to| to <= from);
        self.tables
            .get(&table)
            .filter(|_| !empty)
            .map(|rows| rows.range((Bound::Included(from.to_vec()), end)))
            .into_iter()
            .flatten()
    }
}

impl ReadRows for MemoryRows {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, RowError> {
        Ok(self.tables.get(&table).and_then(|rows| rows.get(key)).cloned())
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), RowError> {
        for (key, value) in self.range(table, from, to) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn scan_back(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), RowError> {
        for (key, value) in self.range(table, from, to).rev() {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn keyed(&self, bytes: &[u8]) -> [u8; 16] {
        let mut short = [0; 16];
        short.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
        short
    }
}

impl WriteRows for MemoryRows {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), RowError> {
        self.tables.entry(table).or_default().insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), RowError> {
        if let Some(rows) = self.tables.get_mut(&table) {
            rows.remove(key);
        }
        Ok(())
    }
}
