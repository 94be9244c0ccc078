//! What the replicas of this person said last, kept so that it can be told while none is reached
//! (`docs/spec/08-at-rest.md`, "Tables"). A word is no proof.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use locker_crypto::id::{PackHash, SpaceTag, VerifyingKey};

use crate::StoreError;
use crate::pins;
use crate::snapshot::Reads;
use crate::tables::{REPLICA_PACKS, REPLICAS};
use crate::transaction::WriteTxn;

/// What a replica said of its room, and when it was heard last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Unix seconds.
    pub at_s: u64,
    /// Bytes that it keeps.
    pub used: u64,
    /// Bytes that it may keep; 0 for as many as fit.
    pub quota: u64,
    /// Packs that it would keep and has no room for.
    pub refused: u64,
    /// Of which generation its slot is.
    pub generation: u32,
}

/// Notes what a replica said, over what it said before.
pub fn put(txn: &mut WriteTxn<'_>, device: &VerifyingKey, heard: &Heard) {
    let numbers = [heard.at_s, heard.used, heard.quota, heard.refused, heard.generation.into()];
    let value: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    txn.put(REPLICAS, device.as_bytes(), &value);
}

/// Returns what a replica said last.
///
/// # Errors
/// As every reading: [`StoreError::Corrupt`], [`StoreError::Io`], [`StoreError::Poisoned`].
pub fn get<R: Reads>(reads: &R, device: &VerifyingKey) -> Result<Option<Heard>, StoreError> {
    let Some(value) = reads.view().get(REPLICAS, device.as_bytes())? else { return Ok(None) };
    let (numbers, rest) = value.as_chunks::<8>();
    let number = |n: usize| numbers.get(n).map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let generation = u32::try_from(number(4)).ok();
    match (numbers.len(), generation, rest) {
        // The fifth was added later.
        (4 | 5, Some(generation), []) => Ok(Some(Heard {
            at_s: number(0),
            used: number(1),
            quota: number(2),
            refused: number(3),
            generation,
        })),
        _ => Err(StoreError::corrupt("what a replica said")),
    }
}

/// Notes that a replica said at a time, in unix seconds, that it holds packs.
pub fn put_packs(txn: &mut WriteTxn<'_>, device: &VerifyingKey, packs: &[PackHash], at_s: u64) {
    for pack in packs {
        txn.put(
            REPLICA_PACKS,
            &[device.as_bytes().as_slice(), pack.as_bytes()].concat(),
            &at_s.to_le_bytes(),
        );
    }
}

/// Returns when a replica last said that it holds a pack, in unix seconds.
///
/// # Errors
/// As [`get`].
pub fn said<R: Reads>(reads: &R, device: &VerifyingKey, pack: &PackHash) -> Result<Option<u64>, StoreError> {
    let key = [device.as_bytes().as_slice(), pack.as_bytes()].concat();
    reads.view().get(REPLICA_PACKS, &key)?.map(|value| time(&value)).transpose()
}

/// Packs that a replica said it holds and that one of some authors pins in a space: `count` of them, each as likely as any
/// other, or all if there are no more. What nobody pins who counts is on its way out there. `below` draws a number below the
/// one that it is given.
///
/// Cost: reads every pack that the replica told of, and who pins it.
///
/// # Errors
/// As [`get`].
pub fn sample<R: Reads>(
    reads: &R,
    device: &VerifyingKey,
    (space, authors): (&SpaceTag, &BTreeSet<VerifyingKey>),
    count: usize,
    below: &mut dyn FnMut(u64) -> u64,
) -> Result<Vec<PackHash>, StoreError> {
    let is_pinned = |pack: &PackHash| pins::is_pinned_by(reads, space, authors, pack);
    reads.view().sample_packs(REPLICA_PACKS, device.as_bytes(), count, &is_pinned, below)
}

/// Visits the packs that a replica said it holds, ascending, each with the time, in unix seconds.
///
/// # Errors
/// As [`get`].
pub fn scan_packs<R: Reads>(
    reads: &R,
    device: &VerifyingKey,
    visit: &mut dyn FnMut(PackHash, u64) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let mut failure = Ok(());
    reads.view().scan_prefix(REPLICA_PACKS, device.as_bytes(), &mut |key, value| match (
        key.last_chunk::<32>(),
        time(value),
    ) {
        (Some(pack), Ok(at_s)) => visit(PackHash(*pack), at_s),
        (_, wrong) => {
            failure = wrong.and(Err(damaged()));
            ControlFlow::Break(())
        }
    })?;
    failure
}

/// Forgets a replica and all that it said.
///
/// # Errors
/// As [`get`].
pub fn forget(txn: &mut WriteTxn<'_>, device: &VerifyingKey) -> Result<(), StoreError> {
    forget_packs(txn, device)?;
    txn.delete(REPLICAS, device.as_bytes());
    Ok(())
}

/// Forgets which packs a replica said it holds.
///
/// # Errors
/// As [`get`].
pub fn forget_packs(txn: &mut WriteTxn<'_>, device: &VerifyingKey) -> Result<(), StoreError> {
    let mut packs = Vec::new();
    scan_packs(txn, device, &mut |pack, _| {
        packs.push(pack);
        ControlFlow::Continue(())
    })?;
    for pack in packs {
        txn.delete(REPLICA_PACKS, &[device.as_bytes().as_slice(), pack.as_bytes()].concat());
    }
    Ok(())
}

fn time(value: &[u8]) -> Result<u64, StoreError> {
    value.try_into().map(u64::from_le_bytes).map_err(|_| damaged())
}

fn damaged() -> StoreError {
    StoreError::corrupt("what a replica said of a pack")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::test_kit::{Place, begin};

    /// splitmix64 (Steele, Lea, Flood 2014).
    fn dice(mut state: u64) -> impl FnMut(u64) -> u64 {
        move |n| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed ^ (mixed >> 31)) % n
        }
    }

    /// T55: of those that a replica told of, none is asked for less often than another, wherever their hashes lie.
    /// Method: packs in clusters, each drawn 3,000 times on the average; the greatest difference is 5 standard
    /// deviations.
    #[test]
    fn t55_every_pack_is_as_likely_as_any_other() {
        let place = Place::new();
        let store = begin(&place.home);
        let one = VerifyingKey([1; 32]);
        let packs: Vec<PackHash> =
            (0..20_u16).map(|n| PackHash([u8::try_from(n * (n + 1) / 2).unwrap(); 32])).collect();
        store
            .write::<_, StoreError>(|txn| {
                put_packs(txn, &one, &packs, 5);
                Ok(())
            })
            .unwrap();
        let snapshot = store.read().unwrap();
        let kept: BTreeSet<PackHash> = packs.into_iter().collect();
        let mut below = dice(7);
        for count in [1, 4] {
            let mut drawn: BTreeMap<PackHash, i64> = BTreeMap::new();
            let rounds = 3_000 * kept.len() / count;
            for _ in 0..rounds {
                let every = |_: &PackHash| Ok(true);
                let view = snapshot.view();
                let sample =
                    view.sample_packs(REPLICA_PACKS, one.as_bytes(), count, &every, &mut below).unwrap();
                assert_eq!(sample.iter().collect::<BTreeSet<_>>().len(), count);
                sample.into_iter().for_each(|pack| *drawn.entry(pack).or_default() += 1);
            }
            assert!(drawn.keys().eq(kept.iter()));
            assert!(drawn.values().all(|n| (n - 3_000).abs() < 5 * 55), "{drawn:?}");
        }
    }

    /// T55: who lost one pack in a hundred is asked for one of them in at least 99 cases of 100: within 30 days by
    /// one question after the other, 24 a day, and in a single day by 480 at once. Method: 200 holders of 100 packs,
    /// and of 1,000.
    #[test]
    fn t55_a_lost_pack_in_a_hundred_is_asked_for_in_time() {
        for (count, questions, at_once) in [(100_u64, 30 * 24, 1), (1_000, 480, 480)] {
            let place = Place::new();
            let store = begin(&place.home);
            let one = VerifyingKey([1; 32]);
            let pack = |n: u64| PackHash(*blake3::hash(&n.to_le_bytes()).as_bytes());
            let packs: Vec<PackHash> = (0..count).map(pack).collect();
            store
                .write::<_, StoreError>(|txn| {
                    put_packs(txn, &one, &packs, 5);
                    Ok(())
                })
                .unwrap();
            let snapshot = store.read().unwrap();
            let (mut below, mut missed) = (dice(55), 0);
            for _ in 0..200 {
                let mut lost = BTreeSet::new();
                while (lost.len() as u64) < count / 100 {
                    lost.insert(pack(below(count)));
                }
                let is_found = (0..questions / at_once).any(|_| {
                    let every = |_: &PackHash| Ok(true);
                    let view = snapshot.view();
                    let asked = view.sample_packs(REPLICA_PACKS, one.as_bytes(), at_once, &every, &mut below);
                    asked.unwrap().iter().any(|pack| lost.contains(pack))
                });
                missed += u32::from(!is_found);
            }
            assert!(missed <= 2, "{missed} of 200 holders of {count} packs were not found out");
        }
    }

    #[test]
    fn the_last_word_counts_and_goes_with_the_replica() {
        let place = Place::new();
        let store = begin(&place.home);
        let (one, other) = (VerifyingKey([1; 32]), VerifyingKey([2; 32]));
        let pack = |n| PackHash([n; 32]);
        let heard = Heard { at_s: 9, used: 8, quota: 7, refused: 6, generation: 5 };
        store
            .write::<_, StoreError>(|txn| {
                put(txn, &one, &Heard::default());
                put(txn, &one, &heard);
                put_packs(txn, &one, &[pack(1), pack(2)], 5);
                put_packs(txn, &one, &[pack(2)], 6);
                put_packs(txn, &other, &[pack(3)], 7);
                Ok(())
            })
            .unwrap();
        let snapshot = store.read().unwrap();
        assert_eq!(get(&snapshot, &one).unwrap(), Some(heard));
        assert_eq!(said(&snapshot, &one, &pack(2)).unwrap(), Some(6));
        assert_eq!(said(&snapshot, &one, &pack(3)).unwrap(), None);
        let some = |pins: &dyn Fn(&PackHash) -> bool| {
            let keeps = |hash: &PackHash| Ok(pins(hash));
            snapshot.view().sample_packs(REPLICA_PACKS, one.as_bytes(), 3, &keeps, &mut |_| 0).unwrap()
        };
        assert_eq!(some(&|_| true), [pack(1), pack(2)]);
        assert_eq!(some(&|hash| *hash == pack(2)), [pack(2)]);
        // One author pins the second pack: while he counts it is asked for.
        let space = SpaceTag([0; 16]);
        let drawn = |reads: &crate::Snapshot, authors: &[VerifyingKey]| {
            let authors = authors.iter().copied().collect();
            sample(reads, &one, (&space, &authors), 3, &mut |_| 0).unwrap()
        };
        assert_eq!(drawn(&snapshot, &[one, other]), []);
        let scope = pins::PinScope { space, author: other };
        let delta = pins::PinDelta { seq: 0, bytes: b"delta", adds: &[pack(2)], drops: &[] };
        store
            .write::<_, StoreError>(|txn| {
                pins::apply(txn, &scope, &delta);
                Ok(())
            })
            .unwrap();
        let snapshot = store.read().unwrap();
        assert_eq!(drawn(&snapshot, &[one, other]), [pack(2)]);
        assert_eq!(drawn(&snapshot, &[one]), []);
        store.write::<_, StoreError>(|txn| forget_packs(txn, &one)).unwrap();
        let snapshot = store.read().unwrap();
        assert_eq!(get(&snapshot, &one).unwrap(), Some(heard));
        assert_eq!(said(&snapshot, &one, &pack(1)).unwrap(), None);
        store
            .write::<_, StoreError>(|txn| {
                put_packs(txn, &one, &[pack(1)], 8);
                forget(txn, &one)
            })
            .unwrap();
        let snapshot = store.read().unwrap();
        assert_eq!(get(&snapshot, &one).unwrap(), None);
        assert_eq!(said(&snapshot, &one, &pack(1)).unwrap(), None);
        assert_eq!(said(&snapshot, &other, &pack(3)).unwrap(), Some(7));
    }
}
