//! How far each other device once was in each log, so that one that went back is found out after a restart too
//! (`docs/spec/08-at-rest.md`, "Tables"; `docs/spec/12-sync.md`).

use std::ops::ControlFlow;

use locker_crypto::id::{SpaceTag, VerifyingKey};

use crate::StoreError;
use crate::snapshot::Reads;
use crate::tables::REMEMBERED;
use crate::transaction::WriteTxn;

/// Length of a key: device, kind, tag, author.
const KEY_LEN: usize = VerifyingKey::LEN + 1 + SpaceTag::LEN + VerifyingKey::LEN;

/// What is remembered: one author's chain in one log, as one device had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chain {
    /// The device.
    pub device: VerifyingKey,
    /// The kind of the log, as the engine numbers it.
    pub kind: u8,
    /// The space or person of the log.
    pub tag: SpaceTag,
    /// The author.
    pub author: VerifyingKey,
}

/// How far the device was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Number of items that it had.
    pub count: u64,
    /// When it was found to have fewer than before, in unix seconds; 0 if it never was.
    pub went_back_at: u64,
}

impl Chain {
    fn key(&self) -> Vec<u8> {
        [self.device.as_bytes().as_slice(), &[self.kind], self.tag.as_bytes(), self.author.as_bytes()]
            .concat()
    }

    fn read(key: &[u8]) -> Option<Self> {
        let key: &[u8; KEY_LEN] = key.try_into().ok()?;
        let (device, rest) = key.split_first_chunk()?;
        let ([kind], rest) = rest.split_first_chunk()?;
        let (tag, author) = rest.split_first_chunk()?;
        Some(Self {
            device: VerifyingKey(*device),
            kind: *kind,
            tag: SpaceTag(*tag),
            author: VerifyingKey(author.try_into().ok()?),
        })
    }
}

/// Remembers a mark, over an earlier one.
pub fn put(txn: &mut WriteTxn<'_>, chain: &Chain, mark: &Mark) {
    txn.put(REMEMBERED, &chain.key(), &[mark.count.to_le_bytes(), mark.went_back_at.to_le_bytes()].concat());
}

/// Forgets a mark.
pub fn delete(txn: &mut WriteTxn<'_>, chain: &Chain) {
    txn.delete(REMEMBERED, &chain.key());
}

/// Returns every mark, by device.
///
/// # Errors
/// As every reading: [`StoreError::Corrupt`], [`StoreError::Io`], [`StoreError::Poisoned`].
pub fn all<R: Reads>(reads: &R) -> Result<Vec<(Chain, Mark)>, StoreError> {
    let mut marks = Vec::new();
    reads.view().scan_prefix(REMEMBERED, &[], &mut |key, value| {
        marks.push(read(key, value));
        ControlFlow::Continue(())
    })?;
    marks
        .into_iter()
        .collect::<Option<_>>()
        .ok_or_else(|| StoreError::corrupt("what is known of other devices"))
}

fn read(key: &[u8], value: &[u8]) -> Option<(Chain, Mark)> {
    let (count, went_back_at) = value.split_first_chunk()?;
    let went_back_at = u64::from_le_bytes(went_back_at.try_into().ok()?);
    Some((Chain::read(key)?, Mark { count: u64::from_le_bytes(*count), went_back_at }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_kit::{Place, begin, reopen};

    #[test]
    fn marks_outlive_the_process() {
        let chain = |device, kind| Chain {
            device: VerifyingKey([device; 32]),
            kind,
            tag: SpaceTag([3; 16]),
            author: VerifyingKey([4; 32]),
        };
        let place = Place::new();
        let store = begin(&place.home);
        let mark = Mark { count: 7, went_back_at: 1_800_000_000 };
        store
            .write(|txn| {
                put(txn, &chain(2, 0), &Mark::default());
                put(txn, &chain(1, 2), &Mark::default());
                put(txn, &chain(1, 2), &mark);
                put(txn, &chain(1, 1), &mark);
                delete(txn, &chain(1, 1));
                Ok::<_, StoreError>(())
            })
            .unwrap();
        drop(store);
        let store = reopen(&place.home).unwrap();
        let all = all(&store.read().unwrap()).unwrap();
        assert_eq!(all, [(chain(1, 2), mark), (chain(2, 0), Mark::default())]);
        assert_eq!(read(&[0; KEY_LEN], &[0; 15]), None);
        assert_eq!(read(&[0; KEY_LEN - 1], &[0; 16]), None);
    }
}
