//! Changing: a set of rows that becomes durable in one commit, or not at all (`docs/spec/08-at-rest.md`, "Order of a
//! write").
//!
//! Changes lie in memory as plain values until the commit: a row that is written ten times is sealed once, and every
//! table is opened once and filled in the order of its keys. Underneath lies the state before, which nobody else can
//! change while the transaction lives.

use std::collections::BTreeMap;
use std::collections::btree_map::{self, Entry};
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};

use locker_crypto::id::SpaceTag;
use redb::{Durability, WriteTransaction};
use zeroize::Zeroizing;

use crate::StoreError;
use crate::database::definition;
use crate::failpoints::{self, reach};
use crate::rows::SpaceRows;
use crate::snapshot::{Reads, Snapshot, View};
use crate::store::Store;
use crate::tables::{KEYRING, TableName};

/// A changed row: its new value, or `None` if it is removed.
pub(crate) type Change = Option<Zeroizing<Vec<u8>>>;

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
        let txn = store
            .health
            .guard(|| store.database.begin_write().map_err(|error| store.errors.transaction(error)))?;
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
            txn.commit().map_err(|error| store.errors.commit(error))?;
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
        self.changes.set(table, key, Some(Zeroizing::new(value.to_vec())));
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
    let mut nonces = vec![0; changes.rows * 24];
    store.roll(&mut nonces);
    let (nonces, _) = nonces.as_chunks::<24>();
    let mut nonces = nonces.iter();
    for (name, rows) in changes.tables {
        let key = store.keys.table(name);
        let text = name.text();
        let mut table = txn.open_table(definition(&text)).map_err(|error| store.errors.table(error))?;
        for (row, change) in rows {
            match change {
                Some(plain) => {
                    let nonce = nonces.next().ok_or(StoreError::Poisoned)?;
                    let sealed = key.seal(nonce, &row, &plain);
                    table.insert(row.as_slice(), sealed.as_slice()).map(drop)
                }
                None => table.remove(row.as_slice()).map(drop),
            }
            .map_err(|error| store.errors.storage(error))?;
        }
    }
    Ok(txn)
}

impl Reads for WriteTxn<'_> {
    fn view(&self) -> View<'_> {
        View::changed(&self.base, &self.changes)
    }
}
