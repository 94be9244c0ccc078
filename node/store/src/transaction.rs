//! Changing: a set of rows that becomes durable in one commit, or not at all (`docs/spec/08-at-rest.md`, "Order of a
//! write").
//!
//! Changes lie in memory as plain values until the commit: a row that is written ten times is sealed once, every table is
//! opened once, and every block that changes is written once, in the order of the keys. Underneath lies the state before, which nobody else can
//! change while the transaction lives.

use std::collections::BTreeMap;
use std::collections::btree_map::{self, Entry};
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::wiped::Wiped;
use locker_crypto::id::SpaceTag;
use redb::{Durability, ReadableTable, WriteTransaction};

use crate::StoreError;
use crate::block::{BLOCK_BYTES, Growth, Row, Rows, cut, encode};
use crate::database::definition;
use crate::failpoints::{self, reach};
use crate::rows::SpaceRows;
use crate::snapshot::{Reads, Snapshot, View, damaged, open_block};
use crate::store::Store;
use crate::tables::{KEYRING, TableName};

/// A changed row: its new value, or `None` if it is removed.
pub(crate) type Change = Option<Wiped>;

/// Rows that differ from the state underneath. Their plain values are wiped when dropped.
#[derive(Default)]
pub(crate) struct Changes {
    tables: BTreeMap<TableName, BTreeMap<Vec<u8>, Change>>,
    rows: usize,
    bytes: usize,
}

impl Changes {
    /// Returns the change of a row, if it was changed.
    pub(crate) fn get(&self, table: TableName, key: &[u8]) -> Option<&Change> {
        self.tables.get(&table)?.get(key)
    }

    /// Returns the changes of a range that is not reversed, ascending.
    pub(crate) fn range<'a>(
        &'a self,
        table: TableName,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Option<btree_map::Range<'a, Vec<u8>, Change>> {
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        Some(self.tables.get(&table)?.range::<[u8], _>((Bound::Included(from), to)))
    }

    fn set(&mut self, table: TableName, key: &[u8], change: Change) {
        let size = |change: &Change| change.as_ref().map_or(0, |value| value.len());
        self.bytes += size(&change);
        match self.tables.entry(table).or_default().entry(key.to_vec()) {
            Entry::Vacant(place) => {
                self.rows += 1;
                self.bytes += key.len();
                place.insert(change);
            }
            Entry::Occupied(mut place) => {
                self.bytes -= size(place.get());
                place.insert(change);
            }
        }
    }
}

/// A transaction. One lives at a time: beginning a second waits for the first, and for ever on one thread. Dropping it
/// changes nothing.
pub struct WriteTxn<'s> {
    store: &'s Store,
    txn: Begun,
    base: Snapshot,
    changes: Changes,
}

/// A transaction of redb that gives up quietly: over damaged pages even that can panic.
struct Begun(Option<WriteTransaction>);

impl Drop for Begun {
    fn drop(&mut self) {
        let txn = self.0.take();
        // Nothing was written, so nothing is lost if giving up fails.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(txn)));
    }
}

impl<'s> WriteTxn<'s> {
    pub(crate) fn begin(store: &'s Store) -> Result<Self, StoreError> {
        store.health.check()?;
        let txn = store.health.guard(|| {
            store.database.begin_write().map_err(|error| store.database.errors().transaction(error))
        })?;
        // Somebody may have failed while we waited.
        store.health.check()?;
        let base = store.read()?;
        Ok(Self { store, txn: Begun(Some(txn)), base, changes: Changes::default() })
    }

    /// Returns the catalog's rows of one space, to change.
    pub fn rows_mut(&mut self, space: SpaceTag) -> SpaceRows<&mut Self> {
        SpaceRows::new(self, space)
    }

    /// Bytes of the changes held in memory; a caller that rebuilds a large state commits in parts.
    pub fn pending_bytes(&self) -> usize {
        self.changes.bytes
    }

    /// Makes all changes durable: seals them, writes them in key order, one durable commit. Without changes nothing is
    /// written.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::Io`], [`StoreError::Corrupt`]: nothing may be acknowledged and the store is
    /// poisoned, since it is unknown which of the two states the disk holds; [`StoreError::Poisoned`] if it was before.
    pub fn commit(self) -> Result<(), StoreError> {
        let Self { store, mut txn, base, changes } = self;
        store.health.check()?;
        if changes.rows == 0 {
            return Ok(());
        }
        // The pages of the state before can be freed in this very commit.
        drop(base);
        // Each row may touch a page of its own, which redb writes anew.
        store.reserve.before_commit((changes.bytes + changes.rows * 2 * 4096 + (1 << 20)) as u64);
        let committed = store.health.guard(|| {
            let failed = |error| StoreError::io("committing", store.home.path(), error);
            reach(failpoints::DB_BEFORE_COMMIT).map_err(failed)?;
            let txn = write(store, txn.0.take().ok_or(StoreError::Poisoned)?, changes)?;
            reach(failpoints::DB_WRITTEN).map_err(failed)?;
            txn.commit().map_err(|error| store.database.errors().commit(error))?;
            reach(failpoints::DB_AFTER_COMMIT).map_err(failed)
        });
        if matches!(committed, Err(StoreError::Full)) {
            store.reserve.release();
        }
        store.health.or_poison(committed)?;
        store.reserve.keep();
        Ok(())
    }

    pub(crate) fn put(&mut self, table: TableName, key: &[u8], value: &[u8]) {
        self.changes.set(table, key, Some(Wiped::new(value.to_vec())));
    }

    pub(crate) fn delete(&mut self, table: TableName, key: &[u8]) {
        self.changes.set(table, key, None);
    }
}

/// Seals all changes and hands them to redb.
fn write(store: &Store, mut txn: WriteTransaction, changes: Changes) -> Result<WriteTransaction, StoreError> {
    txn.set_durability(Durability::Immediate).map_err(|_| StoreError::Poisoned)?;
    // Key material is never left to one checksum (rule D6).
    txn.set_two_phase_commit(changes.tables.contains_key(&KEYRING));
    txn.set_quick_repair(store.next_commit_is_quick());
    for (name, rows) in changes.tables {
        let text = name.text();
        let table =
            txn.open_table(definition(&text)).map_err(|error| store.database.errors().table(error))?;
        Rewrite { store, name, table }.apply(rows)?;
    }
    Ok(txn)
}

/// One table whose changed blocks are written anew.
struct Rewrite<'t> {
    store: &'t Store,
    name: TableName,
    table: redb::Table<'t, &'static [u8], &'static [u8]>,
}

impl Rewrite<'_> {
    fn apply(&mut self, changes: BTreeMap<Vec<u8>, Change>) -> Result<(), StoreError> {
        let mut changes = changes.into_iter().peekable();
        while let Some((key, _)) = changes.peek() {
            let mut block = self.block_for(key)?;
            let (mut gone, mut rows) = (Vec::new(), BTreeMap::new());
            let (mut growth, mut shrunk) = (Growth::AtTheEnd, false);
            loop {
                let next = match block.take() {
                    Some(first) => {
                        self.read_rows(&first, &mut rows)?;
                        let next = self.block_after(&first)?;
                        gone.push(first);
                        next
                    }
                    None => None,
                };
                let end = rows.last_key_value().map(|(key, _)| key.clone());
                let belongs = |key: &Vec<u8>| next.as_ref().is_none_or(|(next, _)| key < next);
                while let Some((key, change)) = changes.next_if(|(key, _)| belongs(key)) {
                    if end.as_ref().is_some_and(|end| key < *end) {
                        growth = Growth::Within;
                    }
                    match change {
                        Some(value) => drop(rows.insert(key, value)),
                        None => shrunk |= rows.remove(&key).is_some(),
                    }
                }
                let bytes: usize = rows.iter().map(|(key, value)| key.len() + value.len()).sum();
                match next {
                    // What has become small takes in its neighbour.
                    Some((next, len)) if shrunk && bytes + len < BLOCK_BYTES / 2 => block = Some(next),
                    _ => break,
                }
            }
            self.write_rows(gone, &rows.into_iter().collect::<Vec<_>>(), growth)?;
        }
        Ok(())
    }

    /// Returns the key of the block in which a row has its place: the last that begins at or before it, else the first.
    fn block_for(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let failed = |error| self.store.database.errors().storage(error);
        let block = match self.table.range::<&[u8]>(..=key).map_err(failed)?.next_back() {
            Some(block) => Some(block),
            None => self.table.range::<&[u8]>(..).map_err(failed)?.next(),
        };
        block.map(|block| Ok(block.map_err(failed)?.0.value().to_vec())).transpose()
    }

    /// Returns the key and the sealed length of the block behind that of `first`.
    fn block_after(&self, first: &[u8]) -> Result<Option<(Vec<u8>, usize)>, StoreError> {
        let failed = |error| self.store.database.errors().storage(error);
        let behind = (Bound::Excluded(first), Bound::Unbounded);
        let block = self.table.range::<&[u8]>(behind).map_err(failed)?.next();
        block
            .map(|block| {
                let (key, stored) = block.map_err(failed)?;
                Ok((key.value().to_vec(), stored.value().len()))
            })
            .transpose()
    }

    /// Opens a block and adds its rows.
    fn read_rows(&self, first: &[u8], to: &mut BTreeMap<Vec<u8>, Wiped>) -> Result<(), StoreError> {
        let stored = self.table.get(first).map_err(|error| self.store.database.errors().storage(error))?;
        let stored = stored.ok_or_else(|| damaged(self.name))?;
        let body = open_block(&self.store.keys, self.name, first, stored.value())?;
        let mut rows = Rows::new(&body);
        while let Some((key, value)) = rows.next_row().map_err(|_| damaged(self.name))? {
            to.insert(key.to_vec(), Wiped::new(value.to_vec()));
        }
        Ok(())
    }

    /// Replaces the blocks of the keys `gone` by blocks of `rows`.
    fn write_rows(
        &mut self,
        mut gone: Vec<Vec<u8>>,
        rows: &[Row<Wiped>],
        growth: Growth,
    ) -> Result<(), StoreError> {
        let key = self.store.keys.table(self.name);
        let mut rest = rows;
        for count in cut(rows, growth) {
            let (piece, behind) = rest.split_at(count);
            rest = behind;
            let first = piece[0].0.as_slice();
            gone.retain(|gone| gone != first);
            let mut nonce = [0; 24];
            self.store.roll(&mut nonce);
            let sealed = key.seal(&nonce, first, &Wiped::new(encode(piece)));
            self.table
                .insert(first, sealed.as_slice())
                .map_err(|error| self.store.database.errors().storage(error))?;
        }
        for first in gone {
            self.table
                .remove(first.as_slice())
                .map_err(|error| self.store.database.errors().storage(error))?;
        }
        Ok(())
    }
}

impl Reads for WriteTxn<'_> {
    fn view(&self) -> View<'_> {
        View::changed(&self.base, &self.changes)
    }
}
