//! Attack rows on whole spaces.

use std::collections::{BTreeMap, BTreeSet};

use locker_crypto::Refusal;
use locker_crypto::encode::Reader;
use locker_crypto::file_ref::FileRef;
use locker_crypto::id::{EntryId, EpochId, NodeId, VerifyingKey};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::history::{History, NOW_MS, deliver, device, empty_space, member, person, shuffled};
use crate::clock::{FUTURE_MAX_MS, Now};
use crate::epochs::member_set_hash;
use crate::log::Missing;
use crate::operation::{EntryRef, Epoch, Grant, MemberKey, Move, Op, Role, Snapshot, Trash};
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

/// An epoch after another one, for these members.
fn epoch(id: u8, parent: u8, members: &BTreeMap<MemberKey, Role>) -> Op {
    Op::Epoch(Epoch {
        id: EpochId([id; 32]),
        parents: vec![EpochId([parent; 32])],
        member_set_hash: member_set_hash(members),
        backs: vec![None],
    })
}

/// T75: an epoch begun by a reader is none. One that is for members who are not those of now is not to be written
/// under, whoever began it and however deep it is: another one is due first.
#[test]
fn t75_an_epoch_of_a_reader_or_for_other_members_is_not_written_under() {
    let (mut history, known) = three();
    let two = history.head(2).unwrap();
    let of_two =
        |role| BTreeMap::from([(member(0), Role::Manage), (member(2), role), (member(3), Role::Manage)]);
    let (before, now) = (of_two(Role::Write), of_two(Role::Read));
    let lowered = history.write(0, Some(known), &[], vec![grant(2, Role::Read, vec![history.name(&two)])]);
    let by_reader = history.write(2, Some(two), &[lowered], vec![epoch(7, 1, &now)]);
    let head = |history: &History| {
        let (space, rows) = deliver(history, &all(history));
        assert_eq!(space.access().members(), now);
        (space.epochs().head().unwrap().id, space.is_epoch_due(), problems(&rows).unwrap())
    };
    let (id, is_due, refused) = head(&history);
    assert_eq!((id, is_due), (EpochId([1; 32]), true));
    let at = history.entry(&by_reader).order();
    assert!(refused.iter().any(|(op, why)| op.entry == at && *why == Refusal::Rights), "{refused:?}");
    // By who may, for those who are members now; then for those who were; then right again.
    for (id, parent, members, expected) in [(5, 1, &now, false), (4, 5, &before, true), (6, 4, &now, false)] {
        history.write(3, history.head(3), &[lowered], vec![epoch(id, parent, members)]);
        let (_, is_due, _) = head(&history);
        assert_eq!(is_due, expected, "{id}");
    }
    assert_eq!(head(&history).0, EpochId([6; 32]));
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

/// T93: the same for a device that was removed. Whoever has its key signs a second first entry, or one beside the
/// last that counts, removes everybody by it and goes on: what it wrote up to its frontier stays, and so does its
/// removal.
#[test]
fn t93_a_second_entry_of_a_removed_device_erases_nothing() {
    let (mut base, known) = three();
    let first = base.head(3).unwrap();
    let last = base.write(3, Some(first), &[known], vec![create(30)]);
    let removed = base.write(0, Some(known), &[last], vec![Op::RemoveAuthor(base.name(&last))]);
    base.write(2, base.head(2), &[removed], vec![create(20)]);
    let before = hash_of(&base);
    for prev in [None, Some(first)] {
        let mut history = History::new(4);
        history.entries = base.entries.clone();
        history.reach = base.reach.clone();
        let ops = vec![create(99), grant(2, Role::None, vec![]), grant(0, Role::None, vec![])];
        let twin = history.write(3, prev, &[], ops);
        let trash = Op::Trash(Trash { node: NodeId([2; 16]) });
        history.write(3, Some(twin), &[removed], vec![trash]);
        for seed in 0..12 {
            let order = shuffled(&history, &mut ChaCha8Rng::seed_from_u64(seed));
            let (space, rows) = deliver(&history, &order);
            assert_eq!(state_hash(&rows).unwrap(), before, "{prev:?}");
            let seq = u64::from(prev.is_some());
            assert_eq!(space.forked().collect::<Vec<_>>(), [(device(3), seq)], "it is not told");
            assert!(space.holds(&rows, &history.name(&twin)).unwrap(), "the proof is not kept");
            assert_eq!(space.access().removed_authors(), BTreeMap::from([(device(3), 2)]));
            let deps = space.deps_for_new_entry(&rows).unwrap();
            assert!(deps.iter().all(|dep| dep.author != device(3)));
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
    for n in 0..1_000 {
        let node = NodeId((u128::from(n) + (1 << 64)).to_be_bytes());
        let op = Op::Move(Move { node, parent: NodeId::ROOT, name: format!("ahead {n}"), kind: 1 });
        prev = Some(history.write_at(2, prev, &[], vec![op], (ahead_ms << 16) + n));
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
    assert_eq!(other.deferred(&rows).unwrap(), 1_000);
    assert_eq!(other.heads(&rows).unwrap().iter().find(|h| h.author == device(2)).unwrap().seq, 1_000);
    let mut relayed = 0;
    let mut count = |_: &[u8]| {
        relayed += 1;
        std::ops::ControlFlow::Continue(())
    };
    other.sealed_from(&rows, &device(2), 1, &mut count).unwrap();
    assert_eq!(relayed, 1_000);
    assert_eq!(other.frontier_of(&rows, &device(2)).unwrap().unwrap().seq, 0);
    assert!(other.deps_for_new_entry(&rows).unwrap().iter().all(|dep| dep.seq < 50));
    assert_eq!(other.own_state(&rows, LATER_MS).unwrap(), OwnState::Fine);

    let (own, own_rows) = take(device(2));
    assert_eq!(own.deferred(&own_rows).unwrap(), 0);
    assert_eq!(own.own_state(&own_rows, LATER_MS).unwrap(), OwnState::Ahead);
    let full = state_hash(&own_rows).unwrap();
    assert_ne!(full, before);

    let early_ms = ahead_ms - FUTURE_MAX_MS - 1;
    assert!(!other.has_due(&rows, early_ms).unwrap() && other.has_due(&rows, early_ms + 1).unwrap());
    assert!(other.release_deferred(&mut rows, early_ms).unwrap().taken.is_empty());
    let report = other.release_deferred(&mut rows, early_ms + 1).unwrap();
    assert_eq!(report.taken.len(), 1_000);
    assert_eq!(state_hash(&rows).unwrap(), full);
    assert_eq!(other.deferred(&rows).unwrap(), 0);
    assert!(!other.has_due(&rows, u64::MAX).unwrap());
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
