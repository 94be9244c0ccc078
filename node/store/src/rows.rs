//! The catalog's rows of one space: its tables and keys, with the space in front of each key
//! (`docs/spec/08-at-rest.md`, "Tables").

use locker_catalog::rows::{ReadRows, RowError, Table, Visit, WriteRows};
use locker_crypto::id::SpaceTag;

use crate::snapshot::{Direction, Reads, after};
use crate::tables::TableName;
use crate::transaction::WriteTxn;

/// The rows of one space in a [`crate::Snapshot`] or [`WriteTxn`].
pub struct SpaceRows<T> {
    within: T,
    space: SpaceTag,
}

impl<T> SpaceRows<T> {
    pub(crate) fn new(within: T, space: SpaceTag) -> Self {
        Self { within, space }
    }
}

impl<T: Reads> SpaceRows<T> {
    fn key(&self, key: &[u8]) -> Vec<u8> {
        [self.space.as_bytes(), key].concat()
    }

    fn scan_in(
        &self,
        table: Table,
        (from, to): (&[u8], Option<&[u8]>),
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), RowError> {
        let from = self.key(from);
        let to = to.map_or_else(|| after(self.space.as_bytes()), |to| Some(self.key(to)));
        self.within.view().scan(
            TableName::Rows(table.0),
            &from,
            to.as_deref(),
            direction,
            &mut |key, value| visit(&key[SpaceTag::LEN..], value),
        )?;
        Ok(())
    }
}

impl<T: Reads> ReadRows for SpaceRows<T> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, RowError> {
        Ok(self.within.view().get(TableName::Rows(table.0), &self.key(key))?)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), RowError> {
        self.scan_in(table, (from, to), Direction::Ascending, visit)
    }

    fn scan_back(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), RowError> {
        self.scan_in(table, (from, to), Direction::Descending, visit)
    }

    fn keyed(&self, bytes: &[u8]) -> [u8; 16] {
        self.within.view().keys().keyed_row(&self.space, bytes)
    }
}

impl WriteRows for SpaceRows<&mut WriteTxn<'_>> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), RowError> {
        let key = self.key(key);
        self.within.put(TableName::Rows(table.0), &key, value);
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), RowError> {
        let key = self.key(key);
        self.within.delete(TableName::Rows(table.0), &key);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
