//! Reading: one consistent state of the database, every value opened and thereby checked
//! (`docs/spec/08-at-rest.md`, "Rows").

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::{Bound, ControlFlow};

use std::sync::Arc;

use locker_catalog::rows::Visit;
use locker_crypto::id::SpaceTag;
use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, TableError};

use crate::StoreError;
use crate::database::{Errors, definition};
use crate::health::Health;
use crate::rows::SpaceRows;
use crate::seal::Keys;
use crate::tables::TableName;

type Table = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Ascending,
    Descending,
}

/// The raw reading under every room; only this crate calls it.
pub(crate) mod raw {
    use super::{Direction, Keys, StoreError, TableName, Visit};

    /// Opened rows by table and key.
    pub trait Raw {
        /// Returns the opened value.
        fn get(&self, table: TableName, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
        /// Visits rows with `from <= key < to`.
        fn scan(
            &self,
            table: TableName,
            from: &[u8],
            to: Option<&[u8]>,
            direction: Direction,
            visit: &mut Visit<'_>,
        ) -> Result<(), StoreError>;
        /// The keys below the vault key.
        fn keys(&self) -> &Keys;
    }
}

/// What can be read from: a [`Snapshot`], or a [`crate::WriteTxn`] with its own changes on top.
///
/// Every module of rows takes one. Not for others to implement.
pub trait Reads: raw::Raw {
    /// Returns the catalog's rows of one space, to read.
    fn rows(&self, space: SpaceTag) -> SpaceRows<&Self>
    where
        Self: Sized,
    {
        SpaceRows::new(self, space)
    }
}

/// One state of the database, unmoved by later commits. Holding it keeps the pages of that state from being reused, so
/// it is not kept for long.
pub struct Snapshot {
    txn: ReadTransaction,
    tables: RefCell<HashMap<TableName, Option<Arc<Table>>>>,
    keys: Arc<Keys>,
    health: Arc<Health>,
    errors: Errors,
}

impl Snapshot {
    pub(crate) fn new(
        database: &Database,
        keys: &Arc<Keys>,
        health: &Arc<Health>,
        errors: &Errors,
    ) -> Result<Self, StoreError> {
        let txn = health.guard(|| database.begin_read().map_err(|error| errors.transaction(error)))?;
        Ok(Self {
            txn,
            tables: RefCell::default(),
            keys: keys.clone(),
            health: health.clone(),
            errors: errors.clone(),
        })
    }

    fn table(&self, name: TableName) -> Result<Option<Arc<Table>>, StoreError> {
        if let Some(known) = self.tables.borrow().get(&name) {
            return Ok(known.clone());
        }
        let opened = self.health.guard(|| match self.txn.open_table(definition(&name.text())) {
            Ok(table) => Ok(Some(Arc::new(table))),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(self.errors.table(error)),
        })?;
        self.tables.borrow_mut().insert(name, opened.clone());
        Ok(opened)
    }

    /// Begins to walk a table, for merging with changes.
    pub(crate) fn walk(
        &self,
        table: TableName,
        from: &[u8],
        to: Option<&[u8]>,
        direction: Direction,
    ) -> Result<Walk<'_>, StoreError> {
        let range = match self.table(table)? {
            Some(opened) if to.is_none_or(|to| from < to) => {
                let to = to.map_or(Bound::Unbounded, Bound::Excluded);
                let range = self.health.guard(|| {
                    opened
                        .range::<&[u8]>((Bound::Included(from), to))
                        .map_err(|error| self.errors.storage(error))
                })?;
                Some(range)
            }
            _ => None,
        };
        Ok(Walk { range, table, direction, snapshot: self })
    }

    fn open(&self, table: TableName, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.keys
            .table(table)
            .open(key, stored)
            .map_err(|_| StoreError::corrupt(format!("a row of the table {}", table.text())))
    }
}

impl raw::Raw for Snapshot {
    fn get(&self, table: TableName, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(opened) = self.table(table)? else { return Ok(None) };
        self.health.guard(|| {
            let found = opened.get(key).map_err(|error| self.errors.storage(error))?;
            found.map(|stored| self.open(table, key, stored.value())).transpose()
        })
    }

    fn scan(
        &self,
        table: TableName,
        from: &[u8],
        to: Option<&[u8]>,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        for row in self.walk(table, from, to, direction)? {
            let (key, value) = row?;
            if visit(&key, &value) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    fn keys(&self) -> &Keys {
        &self.keys
    }
}

impl Reads for Snapshot {}

/// Opened rows of a range, one after another.
pub(crate) struct Walk<'a> {
    range: Option<redb::Range<'static, &'static [u8], &'static [u8]>>,
    table: TableName,
    direction: Direction,
    snapshot: &'a Snapshot,
}

impl Iterator for Walk<'_> {
    type Item = Result<(Vec<u8>, Vec<u8>), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let range = self.range.as_mut()?;
        let snapshot = self.snapshot;
        let (table, direction) = (self.table, self.direction);
        let row = snapshot.health.guard(|| {
            let next = match direction {
                Direction::Ascending => range.next(),
                Direction::Descending => range.next_back(),
            };
            let Some(row) = next else { return Ok(None) };
            let (key, stored) = row.map_err(|error| snapshot.errors.storage(error))?;
            let key = key.value();
            Ok(Some((key.to_vec(), snapshot.open(table, key, stored.value())?)))
        });
        if row.is_err() {
            self.range = None;
        }
        row.transpose()
    }
}
