//! Attack rows on whole spaces.

use std::collections::BTreeSet;

use locker_crypto::Refusal;
use locker_crypto::encode::Reader;
use locker_crypto::file_ref::FileRef;
use locker_crypto::id::{EntryId, NodeId, VerifyingKey};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::history::{History, NOW_MS, deliver, device, empty_space, member, person, shuffled};
use crate::clock::{FUTURE_MAX_MS, Now};
use crate::log::Missing;
use crate::operation::{EntryRef, Grant, Move, Op, Role, Snapshot};
use crate::rows::MemoryRows;
use crate::space::{Outcome, OwnState, Space};
use crate::tree::{problems, state_hash};

const LATER_MS: u64 = NOW_MS + 1_000;

fn create(n: u8) -> Op {
    Op::Move(Move { node: NodeId([n; 16]), parent: NodeId::ROOT, name: format!("n{n}"), kind: 1 })
}

fn grant(to: usize, role: Role, valid_from: Vec<EntryRef>) -> Op {
    Op::Role(Grant { member: member(to), role, valid_from })
}

fn all(history: &History) -> Vec<usize> {
    (0..history.entries.len()).collect()
}

fn hash_of(history: &History) -> [u8; 32] {
    state_hash(&deliver(history, &all(history)).1).unwrap()
}

/// Device 0 owns the space; 2 is a writer, 3 a manager; each wrote one folder and knows the others.
fn three() -> (History, EntryId) {
    let mut history = History::new(4);
    let genesis = history.entries[0].id;
    let grants = vec![grant(2, Role::Write, vec![]), grant(3, Role::Manage, vec![])];
    let grants = history.write(0, Some(genesis), &[], grants);
    let two = history.write(2, None, &[grants], vec![create(2)]);
    let three = history.write(3, None, &[two], vec![create(3)]);
    let known = history.write(0, Some(grants), &[three], vec![create(1)]);
    (history, known)
}

/// T21: a stranger waits; a device of somebody who is no member, a lowered writer and a removed author change
/// nothing, and each refusal is named.
#[test]
fn t21_what_storage_injects_changes_nothing() {
    let (mut history, known) = three();
    let before = hash_of(&history);
    let two = history.head(2).unwrap();
    let lowered = history.write(0, Some(known), &[], vec![grant(2, Role::Read, vec![history.name(&two)])]);
    let end = history.name(&history.head(3).unwrap());
    history.write(0, Some(lowered), &[], vec![Op::RemoveAuthor(end)]);
    let no_member = history.write(1, None, &[known], vec![]);
    history.entries.retain(|entry| entry.id != no_member);
    let by_lowered = history.write(2, Some(two), &[], vec![create(12)]);
    let by_removed = history.write(3, history.head(3), &[lowered], vec![create(13)]);
    for seed in 0..6 {
        let order = shuffled(&history, &mut ChaCha8Rng::seed_from_u64(seed));
        let (space, rows) = deliver(&history, &order);
        assert_eq!(state_hash(&rows).unwrap(), before);
        let refused: Vec<_> = problems(&rows).unwrap();
        let expected = [(by_lowered, Refusal::Rights), (by_removed, Refusal::Frontier)];
        for (id, why) in expected {
            let order = history.entry(&id).order();
            assert!(refused.iter().any(|(at, found)| at.entry == order && *found == why), "{why}");
        }
        assert_eq!(space.problems(&rows, &person(2)).unwrap().len(), 1);
        assert!(space.problems(&rows, &person(0)).unwrap().is_empty());
    }

    let (mut space, mut rows) = deliver(&history, &all(&history));
    let mut stranger = history.entries[2].clone();
    stranger.author = VerifyingKey([0x77; 32]);
    stranger.id = EntryId([0x77; 32]);
    let report = space.accept(&mut rows, stranger.clone(), LATER_MS).unwrap();
    assert_eq!(report.outcome, Outcome::Waiting(Refusal::Gap));
    assert_eq!(space.waiting().missing(), [Missing::Author(stranger.author)]);
    // Once it is known whose device that is, the entry is taken, and has no right.
    let devices = BTreeSet::from([stranger.author]);
    let report = space.set_person(&mut rows, person(9), &devices, LATER_MS).unwrap();
    assert_eq!(report.taken, [stranger.order()]);
    assert!(space.waiting().is_empty());
    assert_eq!(state_hash(&rows).unwrap(), before);
}

/// T73: op 16 is reserved; a published state has no effect.
#[test]
fn t73_published_state_has_no_effect() {
    let (mut history, _) = three();
    let before = hash_of(&history);
    let snapshot = Snapshot { frontier: vec![], state_hash: [9; 32], file: FileRef::empty() };
    history.write(2, history.head(2), &[], vec![Op::Snapshot(snapshot), Op::Cut(vec![])]);
    let (space, rows) = deliver(&history, &all(&history));
    assert_eq!(state_hash(&rows).unwrap(), before);
    assert!(!space.is_read_only());
}

/// T74: an unknown operation is kept and relayed, has no effect, and makes the space read-only; the rest of its entry
/// counts.
#[test]
fn t74_unknown_operation_makes_the_space_read_only() {
    let (mut history, _) = three();
    let before = hash_of(&history);
    let unknown = Op::decode(&mut Reader::new(&[0x82, 0x18, 0x63, 0x41, 0xaa])).unwrap();
    let id = history.write(2, history.head(2), &[], vec![unknown]);
    let (space, rows) = deliver(&history, &all(&history));
    assert!(space.is_read_only());
    assert_eq!(state_hash(&rows).unwrap(), before);
    let mut relayed = Vec::new();
    let entry = history.entry(&id);
    space
        .sealed_from(&rows, &entry.author, entry.seq, &mut |bytes| {
            relayed.push(bytes.to_vec());
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(relayed, std::slice::from_ref(&entry.sealed));
    assert!(Space::open(&rows, space.id(), device(0)).unwrap().is_read_only());
}

/// T93: a second signature at an early number, of the owner or a member whose history others know, changes nothing
/// and is seen by all; one that nobody knew leaves only what both branches share.
#[test]
fn t93_one_extra_signature_erases_nothing() {
    let (base, known) = three();
    let last = base.entry(&known).clone();
    for (forked, prev) in [(2, None), (0, Some(base.entries[0].id)), (3, None)] {
        let mut history = History::new(4);
        history.entries = base.entries.clone();
        history.reach = base.reach.clone();
        // All others have seen everything.
        let by_two = history.write(2, history.head(2), &[last.id], vec![create(22)]);
        let by_three = history.write(3, history.head(3), &[by_two], vec![create(33)]);
        history.write(0, history.head(0), &[by_three], vec![create(11)]);
        let honest = history.head(2).unwrap();
        history.write(3, history.head(3), &[history.head(0).unwrap(), honest], vec![create(34)]);
        history.write(2, history.head(2), &[history.head(3).unwrap()], vec![create(23)]);
        let before = hash_of_others(&history, forked);
        let twin = history.write(forked, prev, &[], vec![create(99), grant(2, Role::None, vec![])]);
        for seed in 0..12 {
            let order = shuffled(&history, &mut ChaCha8Rng::seed_from_u64(seed));
            let (space, rows) = deliver(&history, &order);
            assert_eq!(state_hash(&rows).unwrap(), before, "{forked}");
            assert_eq!(space.forked().map(|(author, _)| author).collect::<Vec<_>>(), [device(forked)]);
            assert!(space.holds(&rows, &history.name(&twin)).unwrap());
            let deps = space.deps_for_new_entry(&rows).unwrap();
            assert!(deps.iter().all(|dep| dep.author != device(forked)));
        }
    }
}

/// The state of what counts when the last entry of a forked author, that nobody knew, does not.
fn hash_of_others(history: &History, forked: usize) -> [u8; 32] {
    let head = history.head(forked).unwrap();
    let is_known = history.reach.values().any(|reach| reach.contains(&head));
    let order: Vec<usize> =
        all(history).into_iter().filter(|i| is_known || history.entries[*i].id != head).collect();
    state_hash(&deliver(history, &order).1).unwrap()
}

/// T93: of a fork that no other author knew only the common part counts; the device sees that it must enrol anew.
#[test]
fn t93_unknown_fork_leaves_the_common_part() {
    let (mut history, _) = three();
    let before = hash_of(&history);
    let head = history.head(2);
    history.write(2, head, &[], vec![create(40)]);
    history.write(2, head, &[], vec![create(41)]);
    for order in [all(&history), all(&history).into_iter().rev().collect()] {
        let (space, rows) = deliver(&history, &order);
        assert_eq!(state_hash(&rows).unwrap(), before);
        let own = Space::open(&rows, space.id(), device(2)).unwrap();
        assert_eq!(own.own_state(&rows, LATER_MS).unwrap(), OwnState::Forked);
        assert_eq!(own.frontier_of(&rows, &device(2)).unwrap().map(|name| name.seq), Some(0));
    }
}

/// T94: a clock far ahead: others keep and relay the entries, and apply them when their time comes; the device itself
/// sees its work at once and learns that it must enrol anew.
#[test]
fn t94_a_clock_far_ahead_defers_and_hides_nothing_from_its_owner() {
    let (mut history, _) = three();
    let before = hash_of(&history);
    let ahead_ms = LATER_MS + 10 * 365 * 86_400_000;
    let mut prev = history.head(2);
    for n in 0..100 {
        prev = Some(history.write_at(2, prev, &[], vec![create(50 + n)], (ahead_ms << 16) + u64::from(n)));
    }
    let take = |own: VerifyingKey| -> (Space, MemoryRows) {
        let (mut space, mut rows) = empty_space(&history, own);
        for entry in &history.entries {
            let outcome = space.accept(&mut rows, entry.clone(), LATER_MS).unwrap().outcome;
            assert!(matches!(outcome, Outcome::Taken | Outcome::Deferred));
        }
        (space, rows)
    };
    let (mut other, mut rows) = take(device(0));
    assert_eq!(state_hash(&rows).unwrap(), before);
    assert_eq!(other.deferred(&rows).unwrap(), 100);
    assert_eq!(other.heads(&rows).unwrap().iter().find(|h| h.author == device(2)).unwrap().seq, 100);
    assert_eq!(other.frontier_of(&rows, &device(2)).unwrap().unwrap().seq, 0);
    assert!(other.deps_for_new_entry(&rows).unwrap().iter().all(|dep| dep.seq < 50));
    assert_eq!(other.own_state(&rows, LATER_MS).unwrap(), OwnState::Fine);

    let (own, own_rows) = take(device(2));
    assert_eq!(own.deferred(&own_rows).unwrap(), 0);
    assert_eq!(own.own_state(&own_rows, LATER_MS).unwrap(), OwnState::Ahead);
    let full = state_hash(&own_rows).unwrap();
    assert_ne!(full, before);

    assert!(other.release_deferred(&mut rows, ahead_ms - FUTURE_MAX_MS - 1).unwrap().taken.is_empty());
    let report = other.release_deferred(&mut rows, ahead_ms - FUTURE_MAX_MS).unwrap();
    assert_eq!(report.taken.len(), 100);
    assert_eq!(state_hash(&rows).unwrap(), full);
    assert_eq!(other.deferred(&rows).unwrap(), 0);
}

/// Chain and clock: what can never be taken is refused by name, what comes too early waits and is taken in its turn.
#[test]
fn chain_cases_of_a_space() {
    let (mut history, _) = three();
    let head = history.head(2).unwrap();
    let next = history.write(2, Some(head), &[], vec![create(5)]);
    let after = history.write(2, Some(next), &[], vec![create(6)]);
    let (mut space, mut rows) = deliver(&history, &(0..history.entries.len() - 2).collect::<Vec<_>>());
    let entry = |id: &EntryId| history.entry(id).clone();

    let mut broken = entry(&next);
    broken.prev = EntryId::ZERO;
    broken.id = EntryId([1; 32]);
    assert_eq!(space.accept(&mut rows, broken, LATER_MS).unwrap().outcome, Outcome::Refused(Refusal::Chain));
    let mut back = entry(&next);
    back.body.hlc = history.entry(&head).body.hlc;
    back.id = EntryId([2; 32]);
    assert_eq!(space.accept(&mut rows, back, LATER_MS).unwrap().outcome, Outcome::Refused(Refusal::Time));
    let mut itself = entry(&next);
    itself.body.deps = vec![EntryRef { seq: 7, ..history.name(&head) }];
    itself.id = EntryId([3; 32]);
    assert_eq!(space.accept(&mut rows, itself, LATER_MS).unwrap().outcome, Outcome::Refused(Refusal::Canon));
    let mut elsewhere = entry(&next);
    elsewhere.prev = EntryId([9; 32]);
    elsewhere.id = EntryId([4; 32]);
    let outcome = space.accept(&mut rows, elsewhere, LATER_MS).unwrap().outcome;
    assert_eq!(outcome, Outcome::Waiting(Refusal::Chain));

    let early = space.accept(&mut rows, entry(&after), LATER_MS).unwrap();
    assert_eq!(early.outcome, Outcome::Waiting(Refusal::Gap));
    assert!(early.taken.is_empty());
    let report = space.accept(&mut rows, entry(&next), LATER_MS).unwrap();
    assert_eq!(report.taken, [entry(&next).order(), entry(&after).order()]);
    assert_eq!(space.accept(&mut rows, entry(&next), LATER_MS).unwrap().outcome, Outcome::Held);
    assert_eq!(space.waiting().len(), 1);
}

/// What a device writes next follows what it has seen: deps without those that others reach, and a greater clock.
#[test]
fn next_entry_follows_what_is_known() {
    let (history, known) = three();
    let (space, rows) = deliver(&history, &all(&history));
    let own = Space::open(&rows, space.id(), device(1)).unwrap();
    let deps = own.deps_for_new_entry(&rows).unwrap();
    assert_eq!(deps, [history.name(&known)]);
    let newest = history.entry(&known).body.hlc;
    assert_eq!(own.next_hlc(&rows, &deps, Now::Doubtful).unwrap(), Ok(newest + 1));
    assert_eq!(own.next_hlc(&rows, &deps, Now::Trusted(NOW_MS + 5)).unwrap(), Ok((NOW_MS + 5) << 16));
    assert_eq!(own.own_role(), Role::Manage);
    assert!(own.is_epoch_due());
    assert_eq!(own.own_head(&rows).unwrap(), None);
    let at_owner = Space::open(&rows, space.id(), device(0)).unwrap();
    assert!(at_owner.deps_for_new_entry(&rows).unwrap().is_empty());
    assert_eq!(at_owner.own_head(&rows).unwrap(), Some(history.name(&known)));
}
