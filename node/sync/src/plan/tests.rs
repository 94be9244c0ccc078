//! Goal: the plan fetches everything once, within its bounds, whatever fails. Method: a small model of sources that
//! break, refuse and go, with random histories.

use std::collections::BTreeSet;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::*;

const TAG: SpaceTag = SpaceTag([1; 16]);
const MIB: u64 = 1 << 20;

fn pack(n: usize) -> PackHash {
    PackHash(*blake3::hash(&n.to_be_bytes()).as_bytes())
}

fn source(n: usize) -> Source {
    VerifyingKey([n as u8 + 1; 32])
}

fn below(dice: &mut ChaCha8Rng, end: usize) -> usize {
    (dice.next_u64() % end as u64) as usize
}

#[test]
fn bounds_hold_and_sources_take_turns() {
    let mut plan = Plan::new(Bounds::default(), &source(99));
    for n in 0..100 {
        plan.want(TAG, pack(n), 16 * MIB);
    }
    for s in 0..3 {
        plan.offer(source(s), (0..100).map(pack));
    }
    let mut fetches = Vec::new();
    while let Some(fetch) = plan.next_fetch() {
        fetches.push(fetch);
    }
    // 64 MiB of the node, 32 MiB of a session: two, one, one.
    assert_eq!(plan.bytes_in_flight(), NODE_FLIGHT_BYTES);
    let of = |s: usize| fetches.iter().filter(|fetch| fetch.source == source(s)).count();
    assert_eq!((of(0), of(1), of(2)), (2, 1, 1));
    let packs: BTreeSet<_> = fetches.iter().map(|fetch| fetch.pack).collect();
    assert_eq!(packs.len(), 4, "no pack twice");
    // One source alone stays within its session, with small packs within its streams.
    let mut plan = Plan::new(Bounds::default(), &source(99));
    for n in 0..100 {
        plan.want(TAG, pack(n), 16 * MIB);
    }
    plan.offer(source(0), (0..100).map(pack));
    assert_eq!(std::iter::from_fn(|| plan.next_fetch()).count(), 2);
    let mut plan = Plan::new(Bounds::default(), &source(99));
    for n in 0..100 {
        plan.want(TAG, pack(n), 4_096);
    }
    plan.offer(source(0), (0..100).map(pack));
    assert_eq!(std::iter::from_fn(|| plan.next_fetch()).count(), BLOB_STREAMS);
}

#[test]
fn a_broken_fetch_goes_on_first_and_a_refused_one_elsewhere() {
    let mut plan = Plan::new(Bounds::default(), &source(99));
    for n in 0..3 {
        plan.want(TAG, pack(n), MIB);
    }
    plan.offer(source(0), (0..3).map(pack));
    let first = plan.next_fetch().unwrap();
    plan.end(&first, Outcome::Broken);
    assert_eq!(plan.next_fetch(), Some(first), "what was begun is finished first");
    plan.end(&first, Outcome::Refused);
    let others = std::iter::from_fn(|| plan.next_fetch()).map(|fetch| fetch.pack);
    let all: BTreeSet<PackHash> = others.chain([first.pack]).collect();
    assert_eq!(all, (0..3).map(pack).collect());
    assert_eq!(plan.without_source().collect::<Vec<_>>(), [(TAG, first.pack)]);
    plan.offer(source(1), [first.pack]);
    let again = plan.next_fetch().unwrap();
    assert_eq!((again.source, again.pack), (source(1), first.pack));
    // Three breaks in a row, and the source rests until it offers the pack anew.
    let mut plan = Plan::new(Bounds::default(), &source(99));
    plan.want(TAG, pack(0), MIB);
    plan.offer(source(0), [pack(0)]);
    for _ in 0..FAILURES_MAX {
        let fetch = plan.next_fetch().unwrap();
        plan.end(&fetch, Outcome::Broken);
    }
    assert_eq!(plan.next_fetch(), None);
    plan.offer(source(0), [pack(0)]);
    assert!(plan.next_fetch().is_some());
}

/// Goal: what was begun before a restart is finished first, whether that is known before or after the offer.
#[test]
fn packs_that_are_begun_come_first() {
    for is_known_before in [true, false] {
        let mut plan = Plan::new(Bounds::default(), &source(99));
        (0..10).for_each(|n| plan.want(TAG, pack(n), 16 * MIB));
        let begun = |plan: &mut Plan| [7, 4, 99].iter().for_each(|n| plan.note_begun(&pack(*n)));
        if is_known_before {
            begun(&mut plan);
        }
        plan.offer(source(0), (0..10).map(pack));
        if !is_known_before {
            begun(&mut plan);
        }
        let first: BTreeSet<_> = std::iter::from_fn(|| plan.next_fetch()).map(|fetch| fetch.pack).collect();
        assert_eq!(first, [pack(4), pack(7)].into());
        // And so is what another source was sending when it went.
        plan.lose(&source(0));
        plan.offer(source(1), (0..10).map(pack));
        let again: BTreeSet<_> = std::iter::from_fn(|| plan.next_fetch()).map(|fetch| fetch.pack).collect();
        assert_eq!(again, first);
    }
}

#[test]
fn everything_comes_once_whatever_fails() {
    for seed in 0..300 {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let packs = 1 + below(&mut dice, 60);
        let bounds = Bounds { node_bytes: 40 * MIB, session_bytes: 24 * MIB, session_streams: 3 };
        let mut plan = Plan::new(bounds, &source(99));
        for n in 0..packs {
            plan.want(TAG, pack(n), (1 + below(&mut dice, 16) as u64) * MIB);
        }
        let mut present = [false; 3];
        let mut under_way: Vec<Fetch> = Vec::new();
        let mut done = BTreeSet::new();
        for step in 0..20_000 {
            if done.len() == packs {
                break;
            }
            let s = below(&mut dice, 3);
            match below(&mut dice, 20) {
                0 if present[s] && step < 5_000 => {
                    plan.lose(&source(s));
                    present[s] = false;
                    under_way.retain(|fetch| fetch.source != source(s));
                }
                1 => {
                    // Source 2 has every pack, the others some.
                    plan.offer(source(s), (0..packs).filter(|n| s == 2 || n % (s + 2) == 0).map(pack));
                    present[s] = true;
                }
                2..6 if !under_way.is_empty() => {
                    let fetch = under_way.swap_remove(below(&mut dice, under_way.len()));
                    let outcome = match below(&mut dice, 10) {
                        0 => Outcome::Refused,
                        1..4 => Outcome::Broken,
                        _ => Outcome::Done,
                    };
                    if outcome == Outcome::Done {
                        assert!(done.insert(fetch.pack), "seed {seed}: twice");
                    }
                    plan.end(&fetch, outcome);
                }
                _ => {
                    if let Some(fetch) = plan.next_fetch() {
                        assert!(!done.contains(&fetch.pack) && present[usize::from(fetch.source.0[0]) - 1]);
                        assert!(
                            under_way.iter().all(|other| other.pack != fetch.pack),
                            "seed {seed}: in flight"
                        );
                        under_way.push(fetch);
                    }
                }
            }
            let bytes: u64 = under_way.iter().map(|fetch| fetch.len).sum();
            assert_eq!(plan.bytes_in_flight(), bytes, "seed {seed}");
            assert!(bytes <= bounds.node_bytes);
            for s in 0..3 {
                let own = under_way.iter().filter(|fetch| fetch.source == source(s));
                assert!(own.clone().map(|fetch| fetch.len).sum::<u64>() <= bounds.session_bytes);
                assert!(own.count() <= bounds.session_streams);
            }
        }
        assert_eq!((done.len(), plan.wanted()), (packs, 0), "seed {seed}");
    }
}

/// Goal: two devices that fetch the same from one slow source share what each has, so that it sends little more than one copy.
/// Method: each pack takes the slow source one step, whomever it is for; between the two a pack takes no time.
#[test]
fn those_who_fetch_the_same_share_it() {
    const PACKS: usize = 64;
    let slow = source(0);
    let mut plans: Vec<(Source, Plan)> = [1, 2]
        .map(|n| {
            let mut plan = Plan::new(Bounds::default(), &source(n));
            (0..PACKS).for_each(|n| plan.want(TAG, pack(n), 16 * MIB));
            plan.offer(slow, (0..PACKS).map(pack));
            plan.meet(source(3 - n));
            (source(n), plan)
        })
        .into();
    let (mut sent, mut asked): (usize, VecDeque<(usize, Fetch)>) = Default::default();
    while plans.iter().any(|(_, plan)| plan.wanted() > 0) {
        for (n, (_, plan)) in plans.iter_mut().enumerate() {
            while let Some(fetch) = plan.next_fetch() {
                // What the other one has comes before anything else.
                if fetch.source == slow { asked.push_back((n, fetch)) } else { asked.push_front((n, fetch)) }
            }
        }
        let (n, fetch) = asked.pop_front().unwrap();
        sent += usize::from(fetch.source == slow);
        plans[n].1.end(&fetch, Outcome::Done);
        let (own, other) = (plans[n].0, 1 - n);
        plans[other].1.offer(own, [fetch.pack]);
    }
    assert!(sent * 10 <= PACKS * 11, "{sent} of {PACKS}");
}
