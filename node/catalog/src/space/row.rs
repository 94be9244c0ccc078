//! Rows of a space: what stands in each table, and its encoding (`docs/spec/08-at-rest.md`, "Database").
//!
//! Every value is one canonical array that begins with the number 1, its version; empty values say all with their
//! key. Sealed entries are kept byte for byte.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use locker_crypto::Refusal;
use locker_crypto::encode::{Reader, Writer};
use locker_crypto::id::{EntryId, EpochId, NodeId, PersonId, VerifyingKey};

use super::knowledge::Knowledge;
use crate::operation::{Body, EntryRef};
use crate::order::EntryOrder;
use crate::rows::{ReadRows, RowError, Table, WriteRows};

/// Author, BE64 seq, entry id → the entry as it travels.
pub(super) const SEALED: Table = Table("space_sealed");
/// Author, BE64 seq, entry id → [`EntryRow`].
pub(super) const ENTRIES: Table = Table("space_entries");
/// Order key, entry id → nothing. All entries that are held.
pub(super) const PLACES: Table = Table("space_places");
/// Order key, entry id → nothing. Entries whose time has not come.
pub(super) const DEFERRED: Table = Table("space_deferred");
/// Order key, entry id → nothing. Entries with an operation that is resolved for the space as a whole.
pub(super) const STANDING: Table = Table("space_standing");
/// Author → the entry with the greatest number that is held.
pub(super) const HEADS: Table = Table("space_heads");
/// Author → BE64 of the least number that two of its entries share.
pub(super) const FORKS: Table = Table("space_forks");
/// Device → the person it belongs to.
pub(super) const PERSONS: Table = Table("space_persons");
/// Person → its root key that is current.
pub(super) const ROOTS: Table = Table("space_roots");
/// Author → the folder it is restricted to.
pub(super) const SCOPES: Table = Table("space_scopes");
/// A word → what it says of the space as a whole.
pub(super) const FACTS: Table = Table("space_facts");

const GENESIS: &[u8] = b"genesis";
const NEWER: &[u8] = b"newer";
const SINCE: &[u8] = b"since";
const VERSION: u64 = 1;

/// A held entry, without its seal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EntryRow {
    pub(super) author: VerifyingKey,
    pub(super) seq: u64,
    pub(super) id: EntryId,
    pub(super) prev: EntryId,
    pub(super) epoch: EpochId,
    pub(super) known: Knowledge,
    pub(super) body: Body,
}

impl EntryRow {
    pub(super) fn order(&self) -> EntryOrder {
        EntryOrder { hlc: self.body.hlc, author: self.author, seq: self.seq }
    }

    pub(super) fn name(&self) -> EntryRef {
        EntryRef { author: self.author, seq: self.seq, id: self.id }
    }

    /// Whether it has an operation that is resolved for the space as a whole.
    pub(super) fn is_standing(&self) -> bool {
        self.body.ops.iter().any(|op| matches!(op.code(), 4..=10 | 18 | 19))
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, RowError> {
        let mut w = Writer::new();
        w.array(5).u64(VERSION).bytes(self.prev.as_ref()).bytes(self.epoch.as_ref());
        self.known.write(&mut w);
        w.bytes(&self.body.encode().map_err(RowError::Corrupt)?);
        Ok(w.finish())
    }

    fn decode(key: &[u8], bytes: &[u8]) -> Result<Self, Refusal> {
        let EntryRef { author, seq, id } = name_of(key)?;
        let mut r = Reader::new(bytes);
        r.array_of(5)?;
        if r.u64()? != VERSION {
            return Err(Refusal::Version);
        }
        let (prev, epoch) = (EntryId(r.fixed()?), EpochId(r.fixed()?));
        let known = Knowledge::read(&mut r)?;
        let body = Body::decode(r.bytes()?)?;
        r.finish()?;
        Ok(Self { author, seq, id, prev, epoch, known, body })
    }
}

/// The key of an entry by its name.
pub(super) fn name_key(name: &EntryRef) -> Vec<u8> {
    [name.author.as_ref(), &name.seq.to_be_bytes(), name.id.as_ref()].concat()
}

/// The key of an entry by its place; two branches of a fork may share the place.
pub(super) fn place_key(order: &EntryOrder, id: &EntryId) -> Vec<u8> {
    [&order.to_key()[..], id.as_ref()].concat()
}

fn name_of(key: &[u8]) -> Result<EntryRef, Refusal> {
    let (author, rest) = key.split_at_checked(32).ok_or(Refusal::Canon)?;
    let (seq, id) = rest.split_at_checked(8).ok_or(Refusal::Canon)?;
    let seq = u64::from_be_bytes(seq.try_into().map_err(|_| Refusal::Canon)?);
    Ok(EntryRef { author: VerifyingKey::from_slice(author)?, seq, id: EntryId::from_slice(id)? })
}

/// Reads the key of a place.
pub(super) fn place_of(key: &[u8]) -> Result<(EntryOrder, EntryRef), RowError> {
    let read = || {
        let (order, id) = key.split_at_checked(EntryOrder::KEY_LEN).ok_or(Refusal::Canon)?;
        let order = EntryOrder::from_key(order).ok_or(Refusal::Canon)?;
        Ok((order, EntryRef { author: order.author, seq: order.seq, id: EntryId::from_slice(id)? }))
    };
    read().map_err(RowError::Corrupt)
}

/// Reads an entry by its name.
pub(super) fn entry(rows: &dyn ReadRows, name: &EntryRef) -> Result<Option<EntryRow>, RowError> {
    let key = name_key(name);
    let read = |value: Vec<u8>| EntryRow::decode(&key, &value).map_err(RowError::Corrupt);
    rows.get(ENTRIES, &key)?.map(read).transpose()
}

/// Reads an entry that a row says is there.
pub(super) fn named(rows: &dyn ReadRows, name: &EntryRef) -> Result<EntryRow, RowError> {
    entry(rows, name)?.ok_or(RowError::Corrupt(Refusal::Chain))
}

/// Names the entries of an author with one number.
pub(super) fn held(rows: &dyn ReadRows, author: &VerifyingKey, seq: u64) -> Result<Vec<EntryId>, RowError> {
    let prefix = author_key(author, seq);
    let names = names_between(rows, &prefix, after(&prefix).as_deref())?;
    Ok(names.into_iter().map(|name| name.id).collect())
}

/// Names the entries of an author from a number on, ascending.
pub(super) fn names_from(
    rows: &dyn ReadRows,
    author: &VerifyingKey,
    seq: u64,
) -> Result<Vec<EntryRef>, RowError> {
    names_between(rows, &author_key(author, seq), after(author.as_ref()).as_deref())
}

/// What the keys of an author's entries with a number begin with.
pub(super) fn author_key(author: &VerifyingKey, seq: u64) -> Vec<u8> {
    [author.as_ref(), &seq.to_be_bytes()].concat()
}

fn names_between(rows: &dyn ReadRows, from: &[u8], to: Option<&[u8]>) -> Result<Vec<EntryRef>, RowError> {
    let mut names = Vec::new();
    rows.scan(ENTRIES, from, to, &mut |key, _| {
        names.push(name_of(key));
        ControlFlow::Continue(())
    })?;
    names.into_iter().collect::<Result<_, _>>().map_err(RowError::Corrupt)
}

/// Names the entries with one place: one, or several branches of a fork.
pub(super) fn at_place(rows: &dyn ReadRows, order: &EntryOrder) -> Result<Vec<EntryRef>, RowError> {
    let prefix = order.to_key();
    Ok(places(rows, PLACES, &prefix, after(&prefix).as_deref())?.into_iter().map(|(_, name)| name).collect())
}

/// Lists a table of places.
pub(super) fn places(
    rows: &dyn ReadRows,
    table: Table,
    from: &[u8],
    to: Option<&[u8]>,
) -> Result<Vec<(EntryOrder, EntryRef)>, RowError> {
    let mut found = Vec::new();
    rows.scan(table, from, to, &mut |key, _| {
        found.push(place_of(key));
        ControlFlow::Continue(())
    })?;
    found.into_iter().collect()
}

/// Whether an entry waits for its time.
pub(super) fn is_deferred(rows: &dyn ReadRows, row: &EntryRow) -> Result<bool, RowError> {
    Ok(rows.get(DEFERRED, &place_key(&row.order(), &row.id))?.is_some())
}

/// The number of the first entry of an author, by the clock, that waits for its time.
pub(super) fn first_deferred(rows: &dyn ReadRows, author: &VerifyingKey) -> Result<Option<u64>, RowError> {
    let mut found = None;
    rows.scan(DEFERRED, &[], None, &mut |key, _| {
        let place = place_of(key);
        if place.as_ref().is_ok_and(|(_, name)| name.author != *author) {
            return ControlFlow::Continue(());
        }
        found = Some(place);
        ControlFlow::Break(())
    })?;
    Ok(found.transpose()?.map(|(_, name)| name.seq))
}

pub(super) fn put_head(rows: &mut dyn WriteRows, head: &EntryRef) -> Result<(), RowError> {
    let mut w = Writer::new();
    w.array(3).u64(VERSION).u64(head.seq).bytes(head.id.as_ref());
    rows.put(HEADS, head.author.as_ref(), &w.finish())
}

pub(super) fn head(rows: &dyn ReadRows, author: &VerifyingKey) -> Result<Option<EntryRef>, RowError> {
    let read = |value: Vec<u8>| decode_head(author, &value).map_err(RowError::Corrupt);
    rows.get(HEADS, author.as_ref())?.map(read).transpose()
}

/// The heads of all authors, ascending by author.
pub(super) fn heads(rows: &dyn ReadRows) -> Result<Vec<EntryRef>, RowError> {
    let mut heads = Vec::new();
    rows.scan(HEADS, &[], None, &mut |key, value| {
        heads.push(VerifyingKey::from_slice(key).and_then(|author| decode_head(&author, value)));
        ControlFlow::Continue(())
    })?;
    heads.into_iter().collect::<Result<_, _>>().map_err(RowError::Corrupt)
}

fn decode_head(author: &VerifyingKey, bytes: &[u8]) -> Result<EntryRef, Refusal> {
    let mut r = Reader::new(bytes);
    r.array_of(3)?;
    if r.u64()? != VERSION {
        return Err(Refusal::Version);
    }
    let head = EntryRef { author: *author, seq: r.u64()?, id: EntryId(r.fixed()?) };
    r.finish()?;
    Ok(head)
}

/// Forked authors, with the least number that two entries share.
pub(super) fn forks(rows: &dyn ReadRows) -> Result<BTreeMap<VerifyingKey, u64>, RowError> {
    let mut forks = Vec::new();
    rows.scan(FORKS, &[], None, &mut |key, value| {
        let seq = value.try_into().map(u64::from_be_bytes).map_err(|_| Refusal::Canon);
        forks.push(VerifyingKey::from_slice(key).and_then(|author| Ok((author, seq?))));
        ControlFlow::Continue(())
    })?;
    forks.into_iter().collect::<Result<_, _>>().map_err(RowError::Corrupt)
}

pub(super) fn persons(rows: &dyn ReadRows) -> Result<BTreeMap<VerifyingKey, PersonId>, RowError> {
    pairs(rows, PERSONS, |key, value| Ok((VerifyingKey::from_slice(key)?, PersonId::from_slice(value)?)))
}

pub(super) fn roots(rows: &dyn ReadRows) -> Result<BTreeMap<PersonId, VerifyingKey>, RowError> {
    pairs(rows, ROOTS, |key, value| Ok((PersonId::from_slice(key)?, VerifyingKey::from_slice(value)?)))
}

/// The rows of a small table.
fn pairs<K: Ord, V>(
    rows: &dyn ReadRows,
    table: Table,
    read: impl Fn(&[u8], &[u8]) -> Result<(K, V), Refusal>,
) -> Result<BTreeMap<K, V>, RowError> {
    let mut found = Vec::new();
    rows.scan(table, &[], None, &mut |key, value| {
        found.push(read(key, value));
        ControlFlow::Continue(())
    })?;
    found.into_iter().collect::<Result<_, _>>().map_err(RowError::Corrupt)
}

pub(super) fn scope(rows: &dyn ReadRows, author: &VerifyingKey) -> Result<Option<NodeId>, RowError> {
    let read = |value: Vec<u8>| NodeId::from_slice(&value).map_err(RowError::Corrupt);
    rows.get(SCOPES, author.as_ref())?.map(read).transpose()
}

pub(super) fn genesis(rows: &dyn ReadRows) -> Result<Option<VerifyingKey>, RowError> {
    let read = |value: Vec<u8>| VerifyingKey::from_slice(&value).map_err(RowError::Corrupt);
    rows.get(FACTS, GENESIS)?.map(read).transpose()
}

pub(super) fn put_genesis(rows: &mut dyn WriteRows, author: &VerifyingKey) -> Result<(), RowError> {
    rows.put(FACTS, GENESIS, author.as_ref())
}

pub(super) fn has_newer(rows: &dyn ReadRows) -> Result<bool, RowError> {
    Ok(rows.get(FACTS, NEWER)?.is_some())
}

pub(super) fn put_newer(rows: &mut dyn WriteRows) -> Result<(), RowError> {
    rows.put(FACTS, NEWER, &[])
}

/// When this device began to follow the space, unix milliseconds.
pub(super) fn since(rows: &dyn ReadRows) -> Result<Option<u64>, RowError> {
    let read =
        |ms: Vec<u8>| ms.try_into().map(u64::from_be_bytes).map_err(|_| RowError::Corrupt(Refusal::Canon));
    rows.get(FACTS, SINCE)?.map(read).transpose()
}

pub(super) fn put_since(rows: &mut dyn WriteRows, ms: u64) -> Result<(), RowError> {
    rows.put(FACTS, SINCE, &ms.to_be_bytes())
}

/// Returns the first key after all that begin with `prefix`; `None` if there is none.
pub(super) fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|b| *b != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_core::{Rng, SeedableRng};

    use super::*;
    use crate::operation::{Meta, Op};

    fn sample() -> EntryRow {
        let name =
            |n: u8| EntryRef { author: VerifyingKey([n; 32]), seq: u64::from(n), id: EntryId([n; 32]) };
        let mut known = Knowledge::default();
        known.0.insert(VerifyingKey([1; 32]), vec![(4, EntryId([1; 32]))]);
        known.0.insert(VerifyingKey([2; 32]), vec![(7, EntryId([2; 32])), (7, EntryId([3; 32]))]);
        let meta = Meta { node: NodeId([1; 16]), key: "k".into(), value: vec![1] };
        EntryRow {
            author: VerifyingKey([1; 32]),
            seq: 5,
            id: EntryId([5; 32]),
            prev: EntryId([1; 32]),
            epoch: EpochId([6; 32]),
            known,
            body: Body { hlc: 1 << 60, deps: vec![name(2)], ops: vec![Op::Meta(meta)] },
        }
    }

    #[test]
    fn entry_rows_round_trip() {
        let row = sample();
        let (key, value) = (name_key(&row.name()), row.encode().unwrap());
        assert_eq!(EntryRow::decode(&key, &value).unwrap(), row);
        for (key, value, why) in [
            (&key[1..], value.clone(), Refusal::Canon),
            (&key[..], value[1..].to_vec(), Refusal::Canon),
            (&key[..], [&value[..], &[0]].concat(), Refusal::Canon),
            (&key[..], [&[0x85, 0x02], &value[2..]].concat(), Refusal::Version),
        ] {
            assert_eq!(EntryRow::decode(key, &value).unwrap_err(), why);
        }
        assert!(place_of(&key).is_err());
        assert_eq!(place_of(&place_key(&row.order(), &row.id)).unwrap(), (row.order(), row.name()));
    }

    /// 20,000 mutations with a fixed seed: never a panic, and what is read is written back to the same bytes.
    #[test]
    fn mutated_entry_rows_are_refused_or_round_trip() {
        let mut dice = ChaCha8Rng::seed_from_u64(93);
        let row = sample();
        let (key, valid) = (name_key(&row.name()), row.encode().unwrap());
        let mut read = 0;
        for _ in 0..20_000 {
            let mut value = valid.clone();
            let at = dice.next_u32() as usize % value.len();
            match dice.next_u32() % 3 {
                0 => value[at] ^= 1 << (dice.next_u32() % 8),
                1 => value.truncate(at),
                _ => value.insert(at, dice.next_u32().to_le_bytes()[0]),
            }
            if let Ok(row) = EntryRow::decode(&key, &value) {
                read += 1;
                assert_eq!(row.encode().unwrap(), value);
            }
        }
        assert!(read > 1_000, "only {read} mutations were read");
    }
}
