//! Every row of every table opened, and found where the tree of the table leads (`docs/spec/08-at-rest.md`, "Rows and
//! blocks").
//!
//! The page checksums of redb are another matter ([`crate::Store::check_integrity`]): they need the database alone. What
//! is looked at here is what a reader of this state can meet.

use std::ops::ControlFlow;

use redb::{ReadableTableMetadata, TableHandle};

use super::Snapshot;
use crate::StoreError;
use crate::block::Rows;
use crate::database::definition;
use crate::seal::TableKey;

/// One block of a table that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockChecked {
    /// Its bytes as they are stored.
    pub bytes: u64,
    /// What is wrong with it or its table, in words.
    pub flaw: Option<String>,
}

impl Snapshot {
    /// Opens all rows of all tables. Of each block it is told what is wrong with it, if anything is: it does not open, its
    /// rows are not in their order, or the way that a look-up takes does not lead to it. A visitor that breaks ends the
    /// check.
    ///
    /// Cost: reads and opens the whole state once.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] for a page that cannot be followed: what lies behind it is not looked at;
    /// [`StoreError::Io`], [`StoreError::Poisoned`].
    pub fn check_rows(
        &self,
        visit: &mut dyn FnMut(BlockChecked) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let names: Vec<String> = self.health.guard(|| {
            let tables = self.txn.list_tables().map_err(|error| self.errors.storage(error))?;
            Ok(tables.map(|table| table.name().to_owned()).collect())
        })?;
        for name in names {
            let flow = self.health.guard(|| self.check_table(&name, visit))?;
            if flow.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn check_table(
        &self,
        name: &str,
        visit: &mut dyn FnMut(BlockChecked) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, StoreError> {
        let failed = |error| self.errors.storage(error);
        let table = self.txn.open_table(definition(name)).map_err(|error| self.errors.table(error))?;
        let key = self.keys.table_named(name);
        let flawed = |what: &str| Some(format!("rows of the table {name} {what}"));
        let mut before: Option<Vec<u8>> = None;
        let mut count = 0;
        for block in table.range::<&[u8]>(..).map_err(failed)? {
            let (first, stored) = block.map_err(failed)?;
            let (first, stored) = (first.value(), stored.value());
            count += 1;
            let found = table.range::<&[u8]>(..=first).map_err(failed)?.next_back();
            let is_found = found.transpose().map_err(failed)?.is_some_and(|(key, _)| key.value() == first);
            let last = last_row(&key, first, stored);
            let flaw = match &last {
                None => flawed("are damaged"),
                Some(_) if before.as_ref().is_some_and(|before| before.as_slice() >= first) => {
                    flawed("are not in their order")
                }
                Some(_) if !is_found => flawed("cannot be found"),
                Some(_) => None,
            };
            before = last.or_else(|| Some(first.to_vec()));
            let flow = visit(BlockChecked { bytes: (first.len() + stored.len()) as u64, flaw });
            if flow.is_break() {
                return Ok(flow);
            }
        }
        let told = table.len().map_err(failed)?;
        if told != count {
            return Ok(visit(BlockChecked { bytes: 0, flaw: flawed("are missing") }));
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Opens a block and goes through its rows; gives the key of the last, `None` if anything is wrong.
fn last_row(key: &TableKey, first: &[u8], stored: &[u8]) -> Option<Vec<u8>> {
    let body = crate::wiped::Wiped::new(key.open(first, stored).ok()?);
    let mut rows = Rows::new(&body);
    let mut last: Option<Vec<u8>> = None;
    while let Some((key, _)) = rows.next_row().ok()? {
        let is_in_order = match &last {
            None => key == first,
            Some(last) => last.as_slice() < key,
        };
        if !is_in_order {
            return None;
        }
        last = Some(key.to_vec());
    }
    last
}

#[cfg(test)]
mod tests;
