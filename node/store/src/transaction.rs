//! Changing: a set of rows that becomes durable in one commit, or not at all (`docs/spec/08-at-rest.md`, "Order of a
//! write").
//!
//! Changes lie in memory as plain values until the commit: a row that is written ten times is sealed once, and every
//! table is opened once and filled in the order of its keys. Underneath lies the state before, which nobody else can
//! change while the transaction lives.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::{Bound, ControlFlow};

use locker_catalog::rows::Visit;
use locker_crypto::id::SpaceTag;
use redb::{Durability, WriteTransaction};
use zeroize::Zeroizing;

use crate::StoreError;
use crate::database::definition;
use crate::failpoints::{self, reach};
use crate::rows::SpaceRows;
use crate::seal::Keys;
use crate::snapshot::raw::Raw;
use crate::snapshot::{Direction, Reads, Snapshot};
use crate::store::Store;
use crate::tables::{KEYRING, TableName};

/// A changed row: its new value, or `None` if it is removed.
type Change = Option<Zeroizing<Vec<u8>>>;

/// A transaction. One lives at a time: beginning a second waits for the first, and for ever on one thread. Dropping it
/// changes nothing.
pub struct WriteTxn<'s> {
    store: &'s Store,
    txn: WriteTransaction,
    base: Snapshot,
    changes: BTreeMap<TableName, BTreeMap<Vec<u8>, Change>>,
    pending_bytes: usize,
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
        Ok(Self { store, txn, base, changes: BTreeMap::new(), pending_bytes: 0 })
    }

    /// Returns the catalog's rows of one space, to change.
    pub fn rows_mut(&mut self, space: SpaceTag) -> SpaceRows<&mut Self> {
        SpaceRows::new(self, space)
    }

    /// Bytes of the changes held in memory; a caller that rebuilds a large state commits in parts.
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Makes all changes durable: seals them, writes them in key order, one durable commit. Without changes nothing is
    /// written.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::Io`], [`StoreError::Corrupt`]: nothing may be acknowledged and the store is
    /// poisoned, since it is unknown which of the two states the disk holds; [`StoreError::Poisoned`] if it was before.
    pub fn commit(self) -> Result<(), StoreError> {
        let Self { store, txn, base, changes, pending_bytes } = self;
        store.health.check()?;
        if changes.values().all(BTreeMap::is_empty) {
            return Ok(());
        }
        // The pages of the state before can be freed in this very commit.
        drop(base);
        let rows: usize = changes.values().map(BTreeMap::len).sum();
        // Each row may touch a page of its own, which redb writes anew.
        store.reserve.before_commit((pending_bytes + rows * 2 * 4096 + (1 << 20)) as u64);
        let committed = store.health.guard(|| {
            let failed = |error| StoreError::io("committing", store.home.path(), error);
            reach(failpoints::DB_BEFORE_COMMIT).map_err(failed)?;
            let txn = write(store, txn, changes, rows)?;
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
        self.change(table, key, Some(Zeroizing::new(value.to_vec())));
    }

    pub(crate) fn delete(&mut self, table: TableName, key: &[u8]) {
        self.change(table, key, None);
    }

    fn change(&mut self, table: TableName, key: &[u8], change: Change) {
        let size = |change: &Change| change.as_ref().map_or(0, |value| value.len());
        self.pending_bytes += size(&change);
        match self.changes.entry(table).or_default().entry(key.to_vec()) {
            Entry::Vacant(place) => {
                self.pending_bytes += key.len();
                place.insert(change);
            }
            Entry::Occupied(mut place) => {
                self.pending_bytes -= size(place.get());
                place.insert(change);
            }
        }
    }
}

/// Seals all changes and hands them to redb.
fn write(
    store: &Store,
    mut txn: WriteTransaction,
    changes: BTreeMap<TableName, BTreeMap<Vec<u8>, Change>>,
    rows: usize,
) -> Result<WriteTransaction, StoreError> {
    txn.set_durability(Durability::Immediate).map_err(|_| StoreError::Poisoned)?;
    // Key material is never left to one checksum (rule D6).
    txn.set_two_phase_commit(changes.contains_key(&KEYRING));
    txn.set_quick_repair(store.next_commit_is_quick());
    let mut nonces = vec![0; rows * 24];
    store.roll(&mut nonces);
    let (nonces, _) = nonces.as_chunks::<24>();
    let mut nonces = nonces.iter();
    for (name, rows) in changes {
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

impl Raw for WriteTxn<'_> {
    fn get(&self, table: TableName, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.changes.get(&table).and_then(|rows| rows.get(key)) {
            Some(change) => Ok(change.as_ref().map(|value| value.to_vec())),
            None => self.base.get(table, key),
        }
    }

    fn scan(
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
        let mut below = self.base.walk(table, from, to, direction)?;
        let end = to.map_or(Bound::Unbounded, Bound::Excluded);
        let mut own =
            self.changes.get(&table).map(|rows| rows.range::<[u8], _>((Bound::Included(from), end)));
        let mut next_own = || match (own.as_mut(), direction) {
            (None, _) => None,
            (Some(own), Direction::Ascending) => own.next(),
            (Some(own), Direction::Descending) => own.next_back(),
        };
        let (mut left, mut right) = (below.next().transpose()?, next_own());
        loop {
            let order = match (&left, &right) {
                (None, None) => return Ok(()),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some((key, _)), Some((own, _))) if direction == Direction::Ascending => key.cmp(own),
                (Some((key, _)), Some((own, _))) => (*own).cmp(key),
            };
            let step = match (&left, right) {
                // A row below that is not changed.
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

    fn keys(&self) -> &Keys {
        self.base.keys()
    }
}

impl Reads for WriteTxn<'_> {}
