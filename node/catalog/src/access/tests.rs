//! Goal: rights follow from what an author knew, and removals that strike one another end alike everywhere. Method:
//! small spaces of four persons with one or two devices each.

use std::collections::BTreeMap;

use locker_crypto::Refusal;
use locker_crypto::id::{EntryId, NodeId, ObjectHash, PersonId, VerifyingKey};

use super::*;
use crate::operation::{Confirm, Decision, Policy, Revoke, Share, Trash};

/// Devices 10, 11 belong to person 1; 20, 21 to person 2; and so on.
fn device(n: u8) -> VerifyingKey {
    VerifyingKey([n; 32])
}

fn person(n: u8) -> MemberKey {
    MemberKey([n; 32])
}

fn authors() -> Authors {
    let persons =
        (1..=4).flat_map(|p| [(device(p * 10), PersonId([p; 32])), (device(p * 10 + 1), PersonId([p; 32]))]);
    Authors { genesis: Some(device(10)), persons: persons.collect() }
}

fn last(author: u8, seq: u64) -> EntryRef {
    EntryRef { author: device(author), seq, id: EntryId([1; 32]) }
}

fn grant(to: u8, role: Role, valid_from: &[EntryRef]) -> Op {
    let mut valid_from = valid_from.to_vec();
    valid_from.sort_unstable();
    Op::Role(Grant { member: person(to), role, valid_from })
}

fn write() -> Op {
    Op::Trash(Trash { node: NodeId([1; 16]) })
}

/// A space under construction: one operation per entry; clocks and pasts follow from deps.
#[derive(Default)]
struct Space {
    entries: BTreeMap<(u8, u64), (OpOrder, Past, Op)>,
    extra: Vec<AccessOp>,
}

impl Space {
    fn new() -> Self {
        let mut space = Self::default();
        space.write(10, &[], grant(1, Role::Manage, &[]));
        space
    }

    fn write(&mut self, author: u8, deps: &[(u8, u64)], op: Op) -> (u8, u64) {
        let seq = self.entries.keys().filter(|(a, _)| *a == author).count() as u64;
        let (mut past, mut hlc) = (Past::default(), 0);
        for dep in deps.iter().copied().chain((seq > 0).then(|| (author, seq - 1))) {
            let (at, known, _) = &self.entries[&dep];
            past.join(known);
            past.learn(device(dep.0), dep.1);
            hlc = hlc.max(at.entry.hlc);
        }
        let at = OpOrder { entry: EntryOrder { hlc: hlc + 1, author: device(author), seq }, index: 0 };
        self.entries.insert((author, seq), (at, past, op));
        (author, seq)
    }

    fn access(&self) -> Access {
        let own = self
            .entries
            .values()
            .filter_map(|(at, past, op)| Some(AccessOp { at: *at, past: past.clone(), act: Act::of(op)? }));
        Access::resolve(authors(), own.chain(self.extra.iter().cloned()))
    }

    fn judge(&self, entry: (u8, u64)) -> Result<(), Refusal> {
        let (at, past, op) = &self.entries[&entry];
        self.access().judge(*at, past, op)
    }
}

#[test]
fn roles_allow_what_the_table_says() {
    let mut space = Space::new();
    let roles = [(2, Role::Read), (3, Role::Write), (4, Role::Deposit)];
    let known = roles.map(|(to, role)| space.write(10, &[], grant(to, role, &[])));
    let known = known[2];
    let share = Op::Share(Share {
        token: [1; 32],
        link_tag: [0; 16],
        link_sign: device(99),
        link_box: ObjectHash([0; 32]),
        expires: 1,
        sealed: vec![],
    });
    let policy = |node| Op::Policy(Policy { node, copies: 2, keep_days: 30, rules: vec![] });
    let write_ops = [write(), share, policy(NodeId([1; 16]))];
    let manage_ops = [
        grant(4, Role::Write, &[]),
        policy(NodeId::ROOT),
        Op::Revoke(Revoke { target: [9; 32] }),
        Op::RemoveAuthor(last(40, 0)),
        Op::Confirm(Confirm {
            author: device(40),
            first_seq: 0,
            last_seq: 0,
            decision: Decision::Allow,
            root_sig: None,
        }),
    ];
    let mut ran = 0;
    for (author, may_write, may_manage) in
        [(20, false, false), (30, true, false), (40, false, false), (11, true, true)]
    {
        for (ops, allowed) in [(&write_ops[..], may_write), (&manage_ops[..], may_manage)] {
            for op in ops {
                let mut trial = Space { entries: space.entries.clone(), extra: vec![] };
                let entry = trial.write(author, &[known], op.clone());
                // Device 40 removes itself in one of these, which nobody may.
                assert_eq!(trial.judge(entry).is_ok(), allowed, "{author} {op:?}");
                ran += 1;
            }
        }
        let mut trial = Space { entries: space.entries.clone(), extra: vec![] };
        let beat = trial.write(author, &[known], Op::Heartbeat(vec![]));
        assert_eq!(trial.judge(beat), Ok(()));
    }
    assert_eq!(ran, 32);
    assert!(space.access().members().len() == 4);
    assert_eq!(space.access().role_of(&device(31)), Role::Write);
}

/// T21: who is no member, or a reader, or lowered, or removed, changes nothing.
#[test]
fn t21_what_storage_injects_has_no_effect() {
    let mut space = Space::new();
    let stranger = space.write(40, &[(10, 0)], write());
    assert_eq!(space.judge(stranger), Err(Refusal::Rights));
    assert!(!space.access().knows_author(&device(77)));
    assert!(space.access().knows_author(&device(40)));

    let read = space.write(10, &[], grant(2, Role::Read, &[]));
    let by_reader = space.write(20, &[read], write());
    assert_eq!(space.judge(by_reader), Err(Refusal::Rights));

    let may = space.write(10, &[], grant(3, Role::Write, &[]));
    let before = space.write(30, &[may], write());
    let lowered = space.write(10, &[before], grant(3, Role::Read, &[last(30, 0)]));
    let beside = space.write(30, &[], write());
    let other_device = space.write(31, &[may], write());
    let knowing = space.write(30, &[lowered], write());
    assert_eq!(space.judge(before), Ok(()));
    for late in [beside, other_device, knowing] {
        assert_eq!(space.judge(late), Err(Refusal::Rights), "{late:?}");
    }

    let ended = space.write(10, &[], Op::RemoveAuthor(last(11, 0)));
    let first = space.write(11, &[(10, 0)], write());
    let second = space.write(11, &[], write());
    let aware = space.write(11, &[ended], write());
    assert_eq!(space.judge(first), Ok(()));
    assert_eq!(space.judge(second), Err(Refusal::Frontier));
    assert_eq!(space.judge(aware), Err(Refusal::Frontier));
    assert_eq!(space.access().removed_authors(), BTreeMap::from([(device(11), 1)]));
    assert_eq!(space.access().role_of(&device(11)), Role::None);
}

#[test]
fn a_later_grant_restores() {
    let mut space = Space::new();
    let may = space.write(10, &[], grant(2, Role::Write, &[]));
    let none = space.write(10, &[], grant(2, Role::None, &[]));
    let again = space.write(10, &[], grant(2, Role::Write, &[]));
    let unaware = space.write(20, &[may], write());
    let between = space.write(20, &[none], write());
    let after = space.write(20, &[again], write());
    assert_eq!(space.judge(unaware), Err(Refusal::Rights));
    assert_eq!(space.judge(between), Err(Refusal::Rights));
    assert_eq!(space.judge(after), Ok(()));
    assert_eq!(space.access().members()[&person(2)], Role::Write);
}

/// Concurrent grants on one key: a removal beats, else the later in total order.
#[test]
fn concurrent_grants_merge() {
    let mut space = Space::new();
    let two = space.write(10, &[], grant(2, Role::Manage, &[]));
    space.write(10, &[], grant(3, Role::Read, &[]));
    space.write(20, &[two], grant(3, Role::Write, &[]));
    let both = space.write(10, &[(20, 0)], write());
    assert_eq!(space.access().members()[&person(3)], Role::Write);
    let by_three = space.write(30, &[both], write());
    assert_eq!(space.judge(by_three), Ok(()));

    space.write(11, &[(10, 2), (20, 0)], grant(3, Role::None, &[last(30, 0)]));
    space.write(20, &[(10, 2)], grant(3, Role::Manage, &[]));
    space.write(20, &[], Op::Heartbeat(vec![]));
    assert_eq!(space.access().members().get(&person(3)), None);
}

/// Two managers lower one another: both stay lowered; a third is untouched.
#[test]
fn mutual_lowering_stands() {
    let mut space = Space::new();
    space.write(10, &[], grant(2, Role::Manage, &[]));
    let all = space.write(10, &[], grant(3, Role::Manage, &[]));
    let a = space.write(20, &[all], grant(3, Role::None, &[]));
    let b = space.write(30, &[all], grant(2, Role::None, &[]));
    assert_eq!(space.judge(a), Ok(()));
    assert_eq!(space.judge(b), Ok(()));
    let members = space.access().members();
    assert_eq!(members.keys().copied().collect::<Vec<_>>(), [person(1)]);
}

/// A manager that was removed makes a new one above its frontier, who removes everybody: nothing of it counts.
#[test]
fn manager_made_by_a_removed_one_removes_nobody() {
    let mut space = Space::new();
    let two = space.write(10, &[], grant(2, Role::Manage, &[]));
    space.write(10, &[], grant(2, Role::None, &[]));
    let made = space.write(20, &[two], grant(3, Role::Manage, &[]));
    let revenge = space.write(30, &[made], grant(1, Role::None, &[]));
    let end = space.write(30, &[], Op::RemoveAuthor(last(10, 0)));
    for entry in [made, revenge, end] {
        assert_eq!(space.judge(entry), Err(Refusal::Rights), "{entry:?}");
    }
    assert_eq!(space.access().members(), BTreeMap::from([(person(1), Role::Manage)]));
    let later = space.write(10, &[], write());
    assert_eq!(space.judge(later), Ok(()));
}

/// A lowering must let count what its own past holds; a member that was not listed counts below its first entry.
#[test]
fn frontier_below_own_knowledge_is_void() {
    let mut space = Space::new();
    let two = space.write(10, &[], grant(2, Role::Write, &[]));
    let one = space.write(20, &[two], write());
    let seen = space.write(10, &[one], write());
    let unlisted = space.write(10, &[], grant(2, Role::Read, &[]));
    assert_eq!(space.judge(unlisted), Err(Refusal::Frontier));
    let short = space.write(10, &[seen], Op::RemoveAuthor(last(21, 0)));
    assert_eq!(space.judge(short), Ok(()));
    let fits = space.write(10, &[], grant(2, Role::Read, &[last(20, 0)]));
    assert_eq!(space.judge(fits), Ok(()));
    assert_eq!(space.judge(one), Ok(()));
}

/// Of two removals of one author the larger frontier counts.
#[test]
fn larger_frontier_counts() {
    let mut space = Space::new();
    space.write(10, &[], grant(2, Role::Manage, &[]));
    let all = space.write(10, &[], grant(3, Role::Write, &[]));
    let entries: Vec<_> = (0..3).map(|_| space.write(30, &[all], write())).collect();
    space.write(10, &[entries[0]], Op::RemoveAuthor(last(30, 0)));
    space.write(20, &[entries[1]], Op::RemoveAuthor(last(30, 1)));
    let verdicts: Vec<_> = entries.iter().map(|e| space.judge(*e)).collect();
    assert_eq!(verdicts, [Ok(()), Ok(()), Err(Refusal::Frontier)]);
    assert_eq!(space.access().removed_authors(), BTreeMap::from([(device(30), 2)]));
}

/// Any device of a person ends another of that person; none ends itself, and none that of another person.
#[test]
fn devices_of_one_person_end_one_another() {
    let mut space = Space::new();
    let two = space.write(10, &[], grant(2, Role::Write, &[]));
    let own = space.write(20, &[two], Op::RemoveAuthor(last(21, 0)));
    assert_eq!(space.judge(own), Ok(()));
    let foreign = space.write(20, &[], Op::RemoveAuthor(last(10, 9)));
    assert_eq!(space.judge(foreign), Err(Refusal::Rights));
    let itself = space.write(20, &[], Op::RemoveAuthor(last(20, 9)));
    assert_eq!(space.judge(itself), Err(Refusal::Rights));
}

/// The issuer of a token revokes it without managing.
#[test]
fn issuer_revokes() {
    let mut space = Space::new();
    let two = space.write(10, &[], grant(2, Role::Write, &[]));
    let share = Op::Share(Share {
        token: [7; 32],
        link_tag: [0; 16],
        link_sign: device(99),
        link_box: ObjectHash([0; 32]),
        expires: 1,
        sealed: vec![],
    });
    space.write(20, &[two], share);
    let by_issuer = space.write(20, &[], Op::Revoke(Revoke { target: [7; 32] }));
    let other_device = space.write(21, &[(20, 0)], Op::Revoke(Revoke { target: [99; 32] }));
    let other_token = space.write(20, &[], Op::Revoke(Revoke { target: [8; 32] }));
    assert_eq!(space.judge(by_issuer), Ok(()));
    assert_eq!(space.judge(other_device), Ok(()));
    assert_eq!(space.judge(other_token), Err(Refusal::Rights));
}

#[test]
fn changes_name_the_authors_concerned() {
    let mut space = Space::new();
    let two = space.write(10, &[], grant(2, Role::Write, &[]));
    let before = space.access();
    let first = space.write(20, &[two], write());
    space.write(20, &[], write());
    space.write(10, &[first], Op::RemoveAuthor(last(20, 0)));
    let after = space.access();
    assert_eq!(after.changed_since(&before), BTreeMap::from([(device(20), 1)]));
    assert!(after.changed_since(&after).is_empty());
}

/// T53, members: the 256th is accepted, one more is refused before signing; roles of those that are in can change.
#[test]
fn t53_members_of_a_space() {
    let mut space = Space::new();
    let to = |n: usize, role| {
        let mut key = [0xcc; 32];
        key[..8].copy_from_slice(&n.to_be_bytes());
        Grant { member: MemberKey(key), role, valid_from: vec![] }
    };
    for n in 1..MEMBERS_MAX - 1 {
        space.write(10, &[], Op::Member(to(n, Role::Read)));
    }
    assert_eq!(space.access().check_room(&to(MEMBERS_MAX - 1, Role::Read)), Ok(()));
    space.write(10, &[], Op::Member(to(MEMBERS_MAX - 1, Role::Read)));
    let access = space.access();
    assert_eq!(access.members().len(), MEMBERS_MAX);
    assert_eq!(access.check_room(&to(MEMBERS_MAX, Role::Read)), Err(Refusal::Limit));
    assert_eq!(access.check_room(&to(MEMBERS_MAX, Role::None)), Ok(()));
    assert_eq!(access.check_room(&to(1, Role::Write)), Ok(()));
}

/// A lowering without effect lowers nobody, also not for what its target decides afterwards, knowing it.
#[test]
fn void_lowering_is_no_grant_either() {
    let mut space = Space::new();
    let two = space.write(10, &[], grant(2, Role::Manage, &[]));
    let one = space.write(20, &[two], write());
    let void = space.write(10, &[one], grant(2, Role::Read, &[]));
    let adds = space.write(20, &[void], grant(3, Role::Write, &[]));
    assert_eq!(space.judge(void), Err(Refusal::Frontier));
    assert_eq!(space.judge(adds), Ok(()));
    assert_eq!(space.access().members()[&person(2)], Role::Manage);
}

/// One of two that lowered one another decides nothing afterwards, knowing it.
#[test]
fn lowered_in_a_ring_decides_nothing() {
    let mut space = Space::new();
    space.write(10, &[], grant(2, Role::Manage, &[]));
    let all = space.write(10, &[], grant(3, Role::Manage, &[]));
    space.write(20, &[all], grant(3, Role::None, &[]));
    let b = space.write(30, &[all], grant(2, Role::None, &[]));
    let late = space.write(20, &[b], grant(4, Role::Write, &[]));
    let ends = space.write(20, &[], Op::RemoveAuthor(last(10, 9)));
    assert_eq!(space.judge(late), Err(Refusal::Rights));
    assert_eq!(space.judge(ends), Err(Refusal::Rights));
    assert_eq!(space.access().members().len(), 1);
}
