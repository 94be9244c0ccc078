//! Goal: nobody lets go on the strength of a promise that is not kept (T86). Method: a real store in a temporary
//! folder; who is asked for a promise, who lets go, in whatever order, and over restarts.

use super::*;
use crate::Locker;
use crate::test_mesh::World;

const ASKER: VerifyingKey = VerifyingKey([9; 32]);

fn packs(locker: &Locker) -> BTreeSet<PackHash> {
    locker.inner().packs_here().unwrap().into_iter().collect()
}

fn grant(locker: &Locker, packs: &BTreeSet<PackHash>, seconds: u32) -> BTreeSet<PackHash> {
    locker.inner().grant_leases(packs, seconds, &ASKER).unwrap()
}

/// How many of these a device could begin to let go now.
fn claimable(locker: &Locker, packs: &BTreeSet<PackHash>) -> usize {
    locker.inner().claim(packs.clone()).unwrap().packs.len()
}

/// T86: of two devices that would let go on the word of each other neither gets a word: what is being let go is
/// promised to nobody, and let go once at a time; what is promised is not let go.
#[test]
fn t86_what_is_let_go_is_not_promised_nor_the_other_way_round() {
    let (world, first) = World::new();
    world.add(&first, "one.txt");
    world.add(&first, "two.txt");
    let (all, inner) = (packs(&first), first.inner());
    assert_eq!(all.len(), 2);
    let one = BTreeSet::from([*all.first().unwrap()]);
    let rest: BTreeSet<PackHash> = all.difference(&one).copied().collect();

    let claim = inner.claim(one.clone()).unwrap();
    assert_eq!(claim.packs, one);
    assert_eq!(grant(&first, &all, 60), rest, "what it is about to let go");
    assert_eq!(claimable(&first, &all), 0, "twice, or what was promised just now");
    drop(claim);
    // Given up, it may be promised; from then on it stays.
    assert_eq!(claimable(&first, &all), 1);
    assert_eq!(grant(&first, &all, 60), all);
    assert_eq!(claimable(&first, &all), 0);
}

/// T86: a device that restarts keeps what it promised for the whole time again, the longest that it said; once that
/// is over it lets go.
#[test]
fn t86_a_promise_outlives_a_restart_and_ends_when_it_is_over() {
    let (world, first) = World::new();
    world.add(&first, "one.txt");
    let all = packs(&first);
    let expected: Vec<(PackHash, u32)> = all.iter().map(|pack| (*pack, 86_400)).collect();
    assert_eq!(grant(&first, &all, 86_400), all);
    assert_eq!(grant(&first, &all, 60), all, "a shorter one beside it");
    drop(first);
    for _ in 0..2 {
        let locker = world.open("first");
        assert_eq!(locker.inner().leases().unwrap(), expected);
        assert_eq!(claimable(&locker, &all), 0);
    }
    let first = world.open("first");
    first.inner().end_leases(&all.iter().copied().collect::<Vec<_>>()).unwrap();
    assert_eq!(claimable(&first, &all), all.len());
    drop(first);
    assert_eq!(world.open("first").inner().leases().unwrap(), []);
}

/// T86: nothing is promised that is not here, or that this device does not pin.
#[test]
fn t86_only_what_is_here_and_pinned_is_promised() {
    let (world, first) = World::new();
    world.add(&first, "one.txt");
    let second = world.join(&first, "second");
    let all = packs(&first);
    // It knows of them, and they have not come.
    assert!(grant(&second, &all, 60).is_empty());
    assert!(grant(&first, &[PackHash([7; 32])].into(), 60).is_empty());
    let unpinned = first.inner().commit(|change| all.iter().try_for_each(|pack| change.unpin(pack)));
    unpinned.unwrap();
    assert!(grant(&first, &all, 60).is_empty());
    assert_eq!(first.inner().leases().unwrap(), []);
}
