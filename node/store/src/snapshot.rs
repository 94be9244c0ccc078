//! Reading: one consistent state of the database, every value opened and thereby checked
//! (`docs/spec/08-at-rest.md`, "Rows").

mod check;

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::check::BlockChecked;
use crate::wiped::Wiped;
use locker_catalog::rows::Visit;
use locker_crypto::id::{PackHash, SpaceTag};
use redb::{ReadOnlyTable, ReadTransaction, TableError};

use crate::StoreError;
use crate::block::Rows;
use crate::database::{Errors, Opened, definition};
use crate::health::Health;
use crate::rows::SpaceRows;
use crate::seal::Keys;
use crate::tables::TableName;
use crate::transaction::Changes;

type Table = ReadOnlyTable<&'static [u8], &'static [u8]>;
/// The opened rows of a block.
type Body = Arc<Wiped>;

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Ascending,
    Descending,
}

/// What can be read from: a [`Snapshot`], or a [`crate::WriteTxn`] with its own changes on top. Every module of rows
/// takes one.
pub trait Reads {
    /// Gives the rows, as this crate reads them.
    fn view(&self) -> View<'_>;

    /// Returns the catalog's rows of one space, to read.
    fn rows(&self, space: SpaceTag) -> SpaceRows<&Self>
    where
        Self: Sized,
    {
        SpaceRows::new(self, space)
    }
}

impl<T: Reads + ?Sized> Reads for &T {
    fn view(&self) -> View<'_> {
        (**self).view()
    }
}

impl<T: Reads + ?Sized> Reads for &mut T {
    fn view(&self) -> View<'_> {
        (**self).view()
    }
}

/// One state of the database, unmoved by later commits. Holding it keeps the pages of that state from being reused, so
/// it is not kept for long.
pub struct Snapshot {
    txn: ReadTransaction,
    tables: Mutex<HashMap<TableName, Option<Arc<Table>>>>,
    /// The last block read of each table: its key and its opened rows.
    last: Mutex<HashMap<TableName, (Vec<u8>, Body)>>,
    keys: Arc<Keys>,
    health: Arc<Health>,
    errors: Errors,
}

impl Snapshot {
    pub(crate) fn new(database: &Opened, keys: &Arc<Keys>, health: &Arc<Health>) -> Result<Self, StoreError> {
        let errors = database.errors();
        let txn = health.guard(|| database.begin_read().map_err(|error| errors.transaction(error)))?;
        Ok(Self {
            txn,
            tables: Mutex::default(),
            last: Mutex::default(),
            keys: keys.clone(),
            health: health.clone(),
            errors: errors.clone(),
        })
    }

    fn tables(&self) -> MutexGuard<'_, HashMap<TableName, Option<Arc<Table>>>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn table(&self, name: TableName) -> Result<Option<Arc<Table>>, StoreError> {
        if let Some(known) = self.tables().get(&name) {
            return Ok(known.clone());
        }
        let opened = self.health.guard(|| match self.txn.open_table(definition(&name.text())) {
            Ok(table) => Ok(Some(Arc::new(table))),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(self.errors.table(error)),
        })?;
        self.tables().insert(name, opened.clone());
        Ok(opened)
    }

    fn get(&self, table: TableName, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(opened) = self.table(table)? else { return Ok(None) };
        self.health.guard(|| {
            let mut blocks = opened.range::<&[u8]>(..=key).map_err(|error| self.errors.storage(error))?;
            let Some(block) = blocks.next_back() else { return Ok(None) };
            let (first, stored) = block.map_err(|error| self.errors.storage(error))?;
            let body = self.body(table, first.value(), stored.value())?;
            let mut rows = Rows::new(&body);
            while let Some((found, value)) = rows.next_row().map_err(|_| damaged(table))? {
                match found.cmp(key) {
                    Ordering::Less => {}
                    Ordering::Equal => return Ok(Some(value.to_vec())),
                    Ordering::Greater => break,
                }
            }
            Ok(None)
        })
    }

    /// Opens a block, or returns it if it was the last one of its table: neighbours are often asked for together.
    fn body(&self, table: TableName, first: &[u8], stored: &[u8]) -> Result<Body, StoreError> {
        let last = || self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, body)) = last().get(&table)
            && known == first
        {
            return Ok(body.clone());
        }
        let body = Arc::new(open_block(&self.keys, table, first, stored)?);
        last().insert(table, (first.to_vec(), body.clone()));
        Ok(body)
    }

    fn walk<'a>(
        &'a self,
        table: TableName,
        from: &'a [u8],
        to: Option<&'a [u8]>,
        direction: Direction,
    ) -> Result<Walk<'a>, StoreError> {
        let blocks = match self.table(table)? {
            Some(opened) if to.is_none_or(|to| from < to) => Some(self.health.guard(|| {
                let failed = |error| self.errors.storage(error);
                // The block before may reach into the range.
                let start = match opened.range::<&[u8]>(..=from).map_err(failed)?.next_back() {
                    Some(block) => block.map_err(failed)?.0.value().to_vec(),
                    None => from.to_vec(),
                };
                let to = to.map_or(Bound::Unbounded, Bound::Excluded);
                opened.range::<&[u8]>((Bound::Included(start.as_slice()), to)).map_err(failed)
            })?),
            _ => None,
        };
        Ok(Walk { blocks, is_first: true, rows: VecDeque::new(), table, from, to, direction, snapshot: self })
    }
}

/// Opens a block. Its rows are wiped with it.
pub(crate) fn open_block(
    keys: &Keys,
    table: TableName,
    first: &[u8],
    stored: &[u8],
) -> Result<Wiped, StoreError> {
    keys.table(table).open(first, stored).map(Wiped::new).map_err(|_| damaged(table))
}

/// Names a row that does not open or is not in the one form.
pub(crate) fn damaged(table: TableName) -> StoreError {
    StoreError::corrupt(format!("rows of the table {}", table.text()))
}

impl Reads for Snapshot {
    fn view(&self) -> View<'_> {
        View { base: self, changes: None }
    }
}

/// Opened rows by table and key: those of a snapshot, under the changes of a transaction if there is one.
#[derive(Clone, Copy)]
pub struct View<'a> {
    base: &'a Snapshot,
    changes: Option<&'a Changes>,
}

impl<'a> View<'a> {
    pub(crate) fn changed(base: &'a Snapshot, changes: &'a Changes) -> Self {
        Self { base, changes: Some(changes) }
    }

    /// Returns a value.
    pub(crate) fn get(&self, table: TableName, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.changes.and_then(|changes| changes.get(table, key)) {
            Some(change) => Ok(change.as_ref().map(|value| value.to_vec())),
            None => self.base.get(table, key),
        }
    }

    /// Visits the rows with `from <= key`, and `key < to` where given.
    pub(crate) fn scan(
        &self,
        table: TableName,
        from: &[u8],
        to: Option<&[u8]>,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let mut own = self.changes.and_then(|changes| changes.range(table, from, to));
        let is_changed = own.as_ref().is_some_and(|own| own.clone().next().is_some());
        let mut below = self.base.walk(table, from, to, direction)?;
        if !is_changed && direction == Direction::Ascending {
            return below.each(visit);
        }
        let mut next_own = || match (own.as_mut(), direction) {
            (None, _) => None,
            (Some(own), Direction::Ascending) => own.next(),
            (Some(own), Direction::Descending) => own.next_back(),
        };
        let (mut left, mut right) = (below.next().transpose()?, next_own());
        loop {
            // Which row comes first; equal if a row below was changed.
            let order = match (&left, right) {
                (None, None) => return Ok(()),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((key, _)), Some((own, _))) if direction == Direction::Ascending => key.cmp(own),
                (Some((key, _)), Some((own, _))) => own.cmp(key),
            };
            let step = match (&left, right) {
                (Some((key, value)), _) if order.is_lt() => visit(key, value),
                (_, Some((key, Some(value)))) => visit(key, value),
                _ => ControlFlow::Continue(()),
            };
            if step.is_break() {
                return Ok(());
            }
            if order.is_le() {
                left = below.next().transpose()?;
            }
            if order.is_ge() {
                right = next_own();
            }
        }
    }

    /// Visits every row whose key begins with `prefix`, ascending.
    pub(crate) fn scan_prefix(
        &self,
        table: TableName,
        prefix: &[u8],
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        self.scan(table, prefix, after(prefix).as_deref(), Direction::Ascending, visit)
    }

    /// Packs at the ends of keys that begin with `prefix`, of those that `keeps` lets pass: `count` of them, each as likely as
    /// any other, or all if there are no more; in no particular order. `below` draws a number below the one that it is given.
    ///
    /// Cost: reads every key of the prefix once, and asks `keeps` of each (reservoir sampling, Vitter 1985, algorithm R).
    pub(crate) fn sample_packs(
        &self,
        table: TableName,
        prefix: &[u8],
        count: usize,
        keeps: &dyn Fn(&PackHash) -> Result<bool, StoreError>,
        below: &mut dyn FnMut(u64) -> u64,
    ) -> Result<Vec<PackHash>, StoreError> {
        let (mut sample, mut seen, mut failure) = (Vec::new(), 0_u64, Ok(()));
        self.scan_prefix(table, prefix, &mut |key, _| {
            if let Some(pack) = key.last_chunk::<32>().map(|pack| PackHash(*pack)) {
                match keeps(&pack) {
                    Ok(true) => {}
                    Ok(false) => return ControlFlow::Continue(()),
                    Err(error) => {
                        failure = Err(error);
                        return ControlFlow::Break(());
                    }
                }
                seen += 1;
                if sample.len() < count {
                    sample.push(pack);
                } else if let Some(place) =
                    usize::try_from(below(seen)).ok().and_then(|at| sample.get_mut(at))
                {
                    *place = pack;
                }
            }
            ControlFlow::Continue(())
        })?;
        failure.map(|()| sample)
    }

    /// The keys below the vault key.
    pub(crate) fn keys(&self) -> &'a Keys {
        &self.base.keys
    }
}

/// Returns the least bytes above everything that begins with `prefix`.
pub(crate) fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = prefix.to_vec();
    while let Some(last) = bytes.pop() {
        if last < 0xff {
            bytes.push(last + 1);
            return Some(bytes);
        }
    }
    None
}

/// Opened rows of a range, one after another.
struct Walk<'a> {
    blocks: Option<redb::Range<'static, &'static [u8], &'static [u8]>>,
    /// No block was taken yet. The first one is kept in mind: most walks end in it, and begin there again.
    is_first: bool,
    rows: VecDeque<(Vec<u8>, Vec<u8>)>,
    table: TableName,
    from: &'a [u8],
    to: Option<&'a [u8]>,
    direction: Direction,
    snapshot: &'a Snapshot,
}

impl Walk<'_> {
    /// Opens the next block; `None` after the last.
    fn next_block(&mut self) -> Result<Option<Body>, StoreError> {
        let Some(blocks) = self.blocks.as_mut() else { return Ok(None) };
        let (snapshot, table) = (self.snapshot, self.table);
        let is_first = std::mem::take(&mut self.is_first);
        snapshot.health.guard(|| {
            let next = match self.direction {
                Direction::Ascending => blocks.next(),
                Direction::Descending => blocks.next_back(),
            };
            let Some(block) = next else { return Ok(None) };
            let (first, stored) = block.map_err(|error| snapshot.errors.storage(error))?;
            if is_first {
                return snapshot.body(table, first.value(), stored.value()).map(Some);
            }
            open_block(&snapshot.keys, table, first.value(), stored.value()).map(Arc::new).map(Some)
        })
    }

    /// Visits all rows of the range where they lie, ascending.
    fn each(mut self, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        while let Some(body) = self.next_block()? {
            let mut rows = Rows::new(&body);
            while let Some((key, value)) = rows.next_row().map_err(|_| damaged(self.table))? {
                if self.to.is_some_and(|to| key >= to) {
                    return Ok(());
                }
                if key >= self.from && visit(key, value).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Takes the rows of the next block that lie in the range; `false` after the last block.
    fn fill(&mut self) -> Result<bool, StoreError> {
        let Some(body) = self.next_block()? else { return Ok(false) };
        let table = self.table;
        let mut rows = Rows::new(&body);
        while let Some((key, value)) = rows.next_row().map_err(|_| damaged(table))? {
            if key >= self.from && self.to.is_none_or(|to| key < to) {
                self.rows.push_back((key.to_vec(), value.to_vec()));
            }
        }
        Ok(true)
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<(Vec<u8>, Vec<u8>), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.rows.is_empty() {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.blocks = None;
                    return Some(Err(error));
                }
            }
        }
        match self.direction {
            Direction::Ascending => self.rows.pop_front().map(Ok),
            Direction::Descending => self.rows.pop_back().map(Ok),
        }
    }
}
