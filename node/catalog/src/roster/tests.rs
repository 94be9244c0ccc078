//! Goal: the roster follows from the set of operations alone. Method: every case of `members.json` in shuffled
//! deliveries, root keys and home spaces on small logs, and the attack rows T23, T25 and T27.

use std::collections::{BTreeMap, BTreeSet};

use locker_crypto::Refusal;
use locker_crypto::id::{EntryId, ObjectHash, PersonId, SpaceId, VerifyingKey};
use locker_crypto::person::{Body, Enrolment, Entry, Head, Op};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use serde_json::Value;

use super::*;
use crate::order::EntryOrder;

fn key(n: u64) -> VerifyingKey {
    let mut bytes = [0x11; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    VerifyingKey(bytes)
}

const PERSON: PersonId = PersonId([0xaa; 32]);
const ROOT: VerifyingKey = VerifyingKey([0xaa; 32]);

/// A log under construction: clocks and pasts follow from deps.
#[derive(Default)]
struct Log {
    ops: Vec<PersonOp>,
    pasts: BTreeMap<(u64, u64), (u64, Past)>,
}

impl Log {
    fn write(&mut self, author: u64, deps: &[(u64, u64)], act: Act) -> OpOrder {
        let seq = self.pasts.keys().filter(|(a, _)| *a == author).count() as u64;
        let (mut past, mut hlc) = (Past::default(), 0);
        for dep in deps.iter().copied().chain((seq > 0).then(|| (author, seq - 1))) {
            let (dep_hlc, known) = &self.pasts[&dep];
            past.join(known);
            past.learn(key(dep.0), dep.1);
            hlc = hlc.max(*dep_hlc);
        }
        hlc += 1;
        let at = OpOrder { entry: EntryOrder { hlc, author: key(author), seq }, index: 0 };
        self.ops.push(PersonOp { at, past: past.clone(), act });
        self.pasts.insert((author, seq), (hlc, past));
        at
    }

    fn resolve(&self) -> Roster {
        let roster = Roster::resolve(PERSON, self.ops.clone());
        let mut dice = ChaCha8Rng::seed_from_u64(7);
        let mut ops = self.ops.clone();
        for _ in 0..8 {
            for i in (1..ops.len()).rev() {
                ops.swap(i, dice.next_u64() as usize % (i + 1));
            }
            ops.push(ops[0].clone());
            assert_eq!(Roster::resolve(PERSON, ops.clone()), roster);
            ops.pop();
        }
        roster
    }
}

fn cut(device: u64, count: u64) -> Cutoff {
    Cutoff { device: key(device), count }
}

fn remove(device: u64, count: u64) -> Act {
    Act::Remove(cut(device, count))
}

fn recover(removals: Vec<Cutoff>) -> Act {
    Act::Recover { root: Some(ROOT), generation: 1, removals }
}

fn keys(devices: &[u64]) -> BTreeSet<VerifyingKey> {
    devices.iter().map(|n| key(*n)).collect()
}

/// The root keys of the vectors; genesis begins with 0.
fn root(n: u64) -> VerifyingKey {
    VerifyingKey([0xaa + u8::try_from(n).unwrap() * 0x11; 32])
}

fn act_of(op: &Value) -> Act {
    let number = |at: usize| op[at].as_u64().unwrap();
    match op[0].as_str().unwrap() {
        "genesis" => Act::Genesis,
        "add" => Act::Add(key(number(1))),
        "remove" => remove(number(1), number(2) + 1),
        "recover" => {
            let pair = |r: &Value| cut(r[0].as_u64().unwrap(), r[1].as_u64().unwrap() + 1);
            recover(op[1].as_array().unwrap().iter().map(pair).collect())
        }
        "set_root" => Act::SetRoot { old: Some(root(number(1))), new: root(number(2)), generation: 1 },
        "write" => Act::Say,
        other => panic!("unknown act {other}"),
    }
}

#[test]
fn members_of_the_vectors() {
    let text = include_str!("../../../../docs/spec/vectors/members.json");
    let file: Value = serde_json::from_str(text).unwrap();
    let cases = file["vectors"].as_array().unwrap();
    for case in cases {
        let id = case["id"].as_str().unwrap();
        let mut log = Log::default();
        for entry in case["entries"].as_array().unwrap() {
            let pair = |d: &Value| (d[0].as_u64().unwrap(), d[1].as_u64().unwrap());
            let deps: Vec<_> = entry["deps"].as_array().unwrap().iter().map(pair).collect();
            let at = log.write(entry["author"].as_u64().unwrap(), &deps, act_of(&entry["op"]));
            assert_eq!(at.entry.seq, entry["seq"].as_u64().unwrap());
        }
        let roster = log.resolve();
        let active: Vec<u64> =
            case["expect"]["active"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
        assert_eq!(roster.active, keys(&active), "{id}");
        assert_eq!(roster.root, root(case["expect"]["root"].as_u64().unwrap_or(0)), "{id}");
        let void: BTreeSet<_> = roster.void.keys().map(|at| (at.entry.author, at.entry.seq)).collect();
        let expected: BTreeSet<_> = case["expect"]["void"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| (key(v[0].as_u64().unwrap()), v[1].as_u64().unwrap()))
            .collect();
        assert_eq!(void, expected, "{id}");
    }
    assert_eq!(cases.len(), 19);
}

/// Devices 0 (genesis), 1 and 2, who all know one another.
fn three() -> Log {
    let mut log = Log::default();
    log.write(0, &[], Act::Genesis);
    log.write(0, &[], Act::Add(key(1)));
    log.write(0, &[], Act::Add(key(2)));
    log.write(1, &[(0, 2)], Act::Say);
    log.write(2, &[(0, 2)], Act::Say);
    log
}

/// T25: the removed device adds a fresh one before, after or beside its removal; above the frontier it never counts.
#[test]
fn t25_removed_device_adds_a_fresh_one() {
    // Beside: neither knows the other.
    let mut beside = three();
    beside.write(0, &[(1, 0)], remove(1, 1));
    beside.write(1, &[], Act::Add(key(3)));
    beside.write(3, &[(1, 1)], remove(0, 3));
    // After: it has seen its removal.
    let mut after = three();
    after.write(0, &[(1, 0)], remove(1, 1));
    after.write(1, &[(0, 3)], Act::Add(key(3)));
    after.write(3, &[(1, 1)], Act::Say);
    for log in [beside, after] {
        let roster = log.resolve();
        assert_eq!(roster.active, keys(&[0, 2]));
        assert_eq!(roster.brought_in, keys(&[0, 1, 2]));
        assert_eq!(roster.removed, BTreeMap::from([(key(1), 1)]));
    }
    // Before, and known to the remover: the device it added stands until it is removed itself.
    let mut before = three();
    before.write(1, &[], Act::Add(key(3)));
    before.write(0, &[(1, 1)], remove(1, 2));
    assert_eq!(before.resolve().active, keys(&[0, 2, 3]));
}

/// T25 with two thieves: a device that both brought in removes nobody once both are removed.
#[test]
fn t25_fresh_device_of_two_removed_ones() {
    let mut log = Log::default();
    log.write(0, &[], Act::Genesis);
    log.write(0, &[], Act::Add(key(1)));
    log.write(0, &[], Act::Add(key(2)));
    log.write(0, &[], remove(1, 0));
    log.write(0, &[], remove(2, 0));
    log.write(1, &[(0, 2)], Act::Add(key(3)));
    log.write(2, &[(0, 2)], Act::Add(key(3)));
    log.write(3, &[(1, 0), (2, 0)], remove(0, 3));
    let roster = log.resolve();
    assert_eq!(roster.active, keys(&[0]));
    assert_eq!(roster.void.len(), 3);
}

/// A thief who adds an existing device once more cannot take it along when he is removed.
#[test]
fn added_again_by_a_removed_device() {
    let mut log = three();
    log.write(1, &[], Act::Add(key(2)));
    log.write(2, &[(1, 1)], Act::Say);
    log.write(0, &[(1, 0)], remove(1, 1));
    let roster = log.resolve();
    assert_eq!(roster.active, keys(&[0, 2]));
    assert_eq!(roster.void.len(), 1);
}

fn replace(old: u64, new: u64) -> Act {
    Act::Replace { old: key(old), new: key(new) }
}

/// A replaced key is not active and loses nothing: what it wrote counts, and what it writes on; a removal ends it.
#[test]
fn a_replaced_device_gives_its_place_to_others_and_keeps_its_word() {
    let mut log = three();
    log.write(0, &[(1, 0)], replace(1, 3));
    let roster = log.resolve();
    assert_eq!(roster.active, keys(&[0, 2, 3]));
    assert_eq!(roster.replaced, BTreeMap::from([(key(1), keys(&[3]))]));
    assert_eq!(roster.admitted(), keys(&[0, 1, 2, 3]));
    // The other home of that key has not heard of it, brings somebody in, and is replaced itself.
    log.write(1, &[], Act::Add(key(5)));
    log.write(2, &[(1, 1)], replace(1, 4));
    let roster = log.resolve();
    assert_eq!(roster.active, keys(&[0, 2, 3, 4, 5]));
    assert_eq!(roster.replaced, BTreeMap::from([(key(1), keys(&[3, 4]))]));
    assert_eq!(roster.line_of(&key(4)), [key(4), key(1)]);
    assert_eq!(roster.line_of(&key(1)), [key(1)]);
    assert!(roster.void.is_empty());
    // Whoever knew of both new devices and removes the key alone leaves them there.
    log.write(0, &[(2, 1), (1, 1)], remove(1, 2));
    let roster = log.resolve();
    assert_eq!(roster.active, keys(&[0, 2, 3, 4, 5]));
    assert_eq!((roster.replaced.len(), roster.removed.len()), (0, 1));
}

/// T25 for new keys: a removed device that has another one give it a new key, before, beside or after its removal, does
/// not come back by it, and the new key removes nobody.
#[test]
fn t25_removed_device_takes_a_new_key() {
    for known in [false, true] {
        let mut log = three();
        let removal = log.write(0, &[(1, 0)], remove(1, 1));
        let deps: &[(u64, u64)] = if known { &[(0, 3)] } else { &[] };
        let given = log.write(2, deps, replace(1, 3));
        let struck = log.write(3, &[(2, 1)], remove(0, 4));
        let roster = log.resolve();
        assert_eq!(roster.active, keys(&[0, 2]), "{known}");
        assert_eq!(roster.removed, BTreeMap::from([(key(1), 1)]));
        assert_eq!(roster.void.keys().copied().collect::<Vec<_>>(), [given, struck]);
        assert!(!roster.void.contains_key(&removal));
    }
    // A remover who knew of the new key had the choice; so it stands, also beside another removal that knew nothing.
    let mut log = three();
    log.write(2, &[], replace(1, 3));
    log.write(0, &[(2, 1), (1, 0)], remove(1, 1));
    assert_eq!(log.resolve().active, keys(&[0, 2, 3]));
    log.write(2, &[], remove(1, 1));
    assert_eq!(log.resolve().active, keys(&[0, 2, 3]));
}

/// T23, roster part: a removed device counts up to its frontier and no further, whatever clock it writes.
#[test]
fn t23_removed_device_counts_to_its_frontier() {
    let mut log = three();
    log.write(0, &[(1, 0)], remove(1, 1));
    let late = log.write(1, &[], Act::SetHome(SpaceId([1; 32])));
    let roster = log.resolve();
    assert_eq!(roster.void, BTreeMap::from([(late, Refusal::Frontier)]));
    assert_eq!(roster.home, None);
}

/// A device that never wrote is cut off before its first entry.
#[test]
fn frontier_of_a_silent_device() {
    assert_eq!(Cutoff::new(key(1), 0, EntryId::ZERO).count, 0);
    assert_eq!(Cutoff::new(key(1), 0, EntryId([1; 32])).count, 1);
    assert_eq!(Cutoff::new(key(1), u64::MAX, EntryId([1; 32])).count, u64::MAX);
    let mut log = Log::default();
    log.write(0, &[], Act::Genesis);
    log.write(0, &[], Act::Add(key(1)));
    log.write(0, &[], remove(1, 0));
    log.write(1, &[(0, 1)], Act::Add(key(2)));
    assert_eq!(log.resolve().active, keys(&[0]));
}

/// T27: a device operation beside a recovery is void, and so is what it supports.
#[test]
fn t27_device_op_beside_a_recovery_is_void() {
    let mut log = three();
    log.write(4, &[(0, 2), (1, 0), (2, 0)], recover(vec![cut(1, 1)]));
    log.write(1, &[], remove(0, 3));
    log.write(2, &[], Act::Add(key(3)));
    log.write(3, &[(2, 1)], Act::Add(key(5)));
    let roster = log.resolve();
    assert_eq!(roster.active, keys(&[0, 2, 4]));
    assert_eq!(roster.void.len(), 3);
    assert_eq!(roster.generation, 1);
}

/// T27: after a change of root the old root key has no say; and nobody but the current one changes it.
#[test]
fn t27_old_root_has_no_say_afterwards() {
    let (new, other) = (root(1), root(2));
    let mut log = three();
    log.write(0, &[], Act::SetRoot { old: Some(ROOT), new, generation: 1 });
    let late = log.write(4, &[(0, 3)], recover(vec![cut(0, 4)]));
    let wrong = log.write(0, &[], Act::SetRoot { old: Some(ROOT), new: other, generation: 9 });
    let unsigned = log.write(0, &[], Act::SetRoot { old: None, new: other, generation: 9 });
    let roster = log.resolve();
    assert_eq!((roster.root, roster.generation), (new, 1));
    let void = [(late, Refusal::Rights), (wrong, Refusal::Rights), (unsigned, Refusal::Sig)];
    assert_eq!(roster.void, BTreeMap::from(void));
    assert_eq!(roster.active, keys(&[0, 1, 2]));

    log.write(5, &[(0, 4)], Act::Recover { root: Some(new), generation: 2, removals: vec![cut(1, 1)] });
    let roster = log.resolve();
    assert_eq!(roster.active, keys(&[0, 2, 5]));
    assert_eq!(roster.generation, 2);
}

/// T27: who has the old words and dates what he signs before the change, as if he had not heard of it, gets nothing.
#[test]
fn t27_a_recovery_beside_a_change_of_root_is_void_whatever_its_clock_says() {
    let (new, other) = (root(1), root(2));
    let change = |old, new| Act::SetRoot { old: Some(old), new, generation: 1 };
    for date in [1, 100] {
        let mut log = three();
        let dated = |log: &mut Log, author: u64, deps: &[(u64, u64)], act: Act| {
            let at = log.write(author, deps, act);
            let op = log.ops.last_mut().unwrap();
            op.at.entry.hlc = at.entry.hlc * date;
            op.at
        };
        // The thief knows of nothing, and is early or late.
        log.write(2, &[(1, 0)], Act::Say);
        let changed = log.write(2, &[], change(ROOT, new));
        let thief = dated(&mut log, 4, &[], recover(vec![cut(0, 3), cut(1, 1), cut(2, 1)]));
        // By the device that he brought in so, and by one that nobody brought in.
        let own = dated(&mut log, 4, &[], change(ROOT, other));
        let nobody = dated(&mut log, 6, &[], change(ROOT, other));
        let added = dated(&mut log, 4, &[], Act::Add(key(5)));
        let roster = log.resolve();
        assert_eq!((roster.root, roster.active), (new, keys(&[0, 1, 2])), "dated {date}");
        let void = [thief, own, nobody, added].map(|at| (at, Refusal::Rights));
        assert_eq!(roster.void, BTreeMap::from(void));
        assert!(!roster.void.contains_key(&changed));
    }
    // What was recovered before, and known, stays.
    let mut log = three();
    log.write(4, &[(1, 0), (2, 0)], recover(vec![cut(0, 3)]));
    log.write(4, &[], change(ROOT, new));
    let roster = log.resolve();
    assert_eq!((roster.root, roster.active, roster.void.len()), (new, keys(&[1, 2, 4]), 0));
    // Two that recover and change the words, and do not hear of one another: the first in total order counts.
    let mut log = three();
    let first = log.write(4, &[], recover(vec![]));
    log.write(4, &[], change(ROOT, new));
    log.write(5, &[(2, 0)], recover(vec![]));
    log.write(5, &[], change(ROOT, other));
    let roster = log.resolve();
    assert_eq!(
        (roster.root, roster.active.contains(&key(4)), roster.active.contains(&key(5))),
        (new, true, false)
    );
    assert!(!roster.void.contains_key(&first));
}

/// The first home space in total order counts for ever; one set by a void operation never did.
#[test]
fn first_home_counts() {
    let mut log = three();
    log.write(3, &[(0, 2)], Act::SetHome(SpaceId([9; 32])));
    log.write(1, &[(3, 0)], Act::SetHome(SpaceId([1; 32])));
    log.write(2, &[(1, 1)], Act::SetHome(SpaceId([2; 32])));
    assert_eq!(log.resolve().home, Some(SpaceId([1; 32])));
}

/// Random logs of five devices: every order of delivery gives one roster, and removals of a device never add one.
#[test]
fn random_logs_resolve_alike() {
    let mut dice = ChaCha8Rng::seed_from_u64(25);
    for _ in 0..400 {
        let mut log = three();
        for _ in 0..12 {
            let author = dice.next_u64() % 6;
            let known: Vec<(u64, u64)> = log.pasts.keys().copied().collect();
            let deps: Vec<_> =
                (0..dice.next_u64() % 3).map(|_| known[dice.next_u64() as usize % known.len()]).collect();
            let target = dice.next_u64() % 6;
            let roots = [ROOT, root(1), root(2)];
            let mut root = || roots[dice.next_u64() as usize % roots.len()];
            let change = Act::SetRoot { old: Some(root()), new: root(), generation: 1 };
            let act = match dice.next_u64() % 9 {
                0..3 => remove(target, dice.next_u64() % 4),
                3..6 => Act::Add(key(target)),
                6 => Act::Say,
                7 => change,
                _ if log.pasts.contains_key(&(author, 0)) => Act::SetHome(SpaceId([1; 32])),
                _ => recover(vec![cut(target, dice.next_u64() % 3)]),
            };
            let deps: Vec<_> = deps.into_iter().filter(|(a, _)| *a != author).collect();
            log.write(author, &deps, act);
        }
        let roster = log.resolve();
        assert!(roster.active.is_subset(&roster.brought_in));
    }
}

/// The log of `person.json`, as bytes, in every order of delivery and at each length.
#[test]
fn log_of_the_vectors() {
    let text = include_str!("../../../../docs/spec/vectors/person.json");
    let file: Value = serde_json::from_str(text).unwrap();
    let bytes = |value: &Value| hex::decode(value.as_str().unwrap()).unwrap();
    let log = file["log"].as_array().unwrap();
    let (person, genesis) = Entry::read_genesis(&bytes(&log[0]["entry"])).unwrap();
    let mut entries = vec![genesis];
    entries.extend(log[1..].iter().map(|item| Entry::read(&person, &bytes(&item["entry"])).unwrap()));
    for (len, op) in [(1, "genesis"), (2, "add_device"), (3, "remove_device")] {
        assert_eq!(log[len - 1]["op"].as_str().unwrap(), op);
        let names = file["active_after"][op].as_array().unwrap();
        let active: BTreeSet<_> =
            names.iter().map(|name| VerifyingKey::from_slice(&bytes(name)).unwrap()).collect();
        let mut order: Vec<&Entry> = entries[..len].iter().collect();
        for turn in 0..len {
            order.rotate_left(turn);
            let roster = Roster::read(person, order.iter().copied());
            assert_eq!(roster.active, active, "{op}");
            assert!(roster.void.is_empty());
        }
    }
    assert_eq!(entries.len(), 3);
    // Without the first entry nothing has support.
    assert!(Roster::read(person, &entries[1..]).active.is_empty());
}

/// A second entry at one number of a device that others know changes nothing (T93, person log).
#[test]
fn t93_fork_in_a_person_log() {
    let person = PersonId([7; 32]);
    let entry =
        |author: u64, seq: u64, prev: &[u8; 32], hlc: u64, deps: Vec<Head>, space: Option<u8>, n: u8| Entry {
            id: EntryId([n; 32]),
            author: key(author),
            seq,
            prev: EntryId(*prev),
            body: Body {
                hlc,
                deps,
                ops: match space {
                    Some(space) => vec![Op::SetHome { space: SpaceId([space; 32]) }],
                    None => vec![genesis_op(person, key(author))],
                },
            },
            signature: [0; 64],
        };
    let genesis = entry(0, 0, &[0; 32], 1, vec![], None, 1);
    let home = entry(0, 1, &[1; 32], 2, vec![], Some(1), 2);
    let second = entry(1, 0, &[0; 32], 3, vec![home.head()], None, 3);
    let twin = entry(0, 1, &[1; 32], 2, vec![], Some(9), 4);
    let longer = entry(0, 2, &[4; 32], 3, vec![], Some(9), 5);

    let before = Roster::read(person, [&genesis, &home, &second]);
    assert_eq!(before.home, Some(SpaceId([1; 32])));
    let uncounted = |entries: &[&Entry]| entries.iter().map(|entry| entry.id).collect();
    let expected = Roster { uncounted: uncounted(&[&twin, &longer]), ..before };
    let all = [&longer, &twin, &second, &home, &genesis];
    for turn in 0..all.len() {
        let mut order = all;
        order.rotate_left(turn);
        assert_eq!(Roster::read(person, order), expected);
    }
    // Known to nobody, neither branch counts.
    let alone = Roster::read(person, [&genesis, &home, &twin]);
    assert_eq!((alone.home, alone.uncounted), (None, uncounted(&[&home, &twin])));
    // Neither does what stands on one that is not there.
    assert_eq!(Roster::read(person, [&genesis, &longer]).uncounted, uncounted(&[&longer]));
}

fn genesis_op(person: PersonId, device: VerifyingKey) -> Op {
    let device =
        Enrolment { device, box_key: ObjectHash([0; 32]), pop_sig: [0; 64], sealed_name: vec![0; 40] };
    let hash = ObjectHash([0; 32]);
    Op::Genesis { person, root_box: hash, device, person_box: hash, boxes: vec![], root_sig: [0; 64] }
}
