//! T94: a device that wrote ahead of time, and then begins anew under another key.

use std::cell::Cell;

use locker_crypto::file_ref::FileRef;
use locker_crypto::id::{EntryId, NodeId};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::history::{History, NOW_MS, deliver, device, empty_space, member, shuffled};
use crate::clock::{FUTURE_MAX_MS, Now};
use crate::operation::{Content, EntryRef, Grant, Move, NodeKind, Op, Role, Trash, version_id};
use crate::order::OpOrder;
use crate::rows::{MemoryRows, ReadRows, RowError, Table, Visit};
use crate::space::row::DEFERRED;
use crate::space::{Outcome, OwnState, Space, mark};
use crate::tree::{again, node, state_hash};

const LATER_MS: u64 = NOW_MS + 1_000;
const AHEAD_MS: u64 = LATER_MS + 10 * 365 * 86_400_000;
/// A clock at which the space had not begun.
const BEHIND_MS: u64 = NOW_MS - FUTURE_MAX_MS - 1;

fn create(n: u8) -> Op {
    Op::Move(Move { node: NodeId([n; 16]), parent: NodeId::ROOT, name: format!("n{n}"), kind: 1 })
}

/// Device 0 made the space and made one folder in its time, then two ahead of it, of which it trashed one. Device 1 is
/// of the same person: the key that comes after. Device 2 is a writer. Gives the last entry in time, and the last.
fn written_ahead() -> (History, EntryId, EntryId) {
    let mut history = History::new(3);
    let genesis = history.entries[0].id;
    let grant = Op::Role(Grant { member: member(2), role: Role::Write, valid_from: vec![] });
    let granted = history.write(0, Some(genesis), &[], vec![grant]);
    let by_two = history.write(2, None, &[granted], vec![create(2)]);
    let known = history.write(0, Some(granted), &[by_two], vec![create(1)]);
    let trash = Op::Trash(Trash { node: NodeId([51; 16]) });
    let mut last = known;
    for (n, op) in (0..).zip([create(50), create(51), trash]) {
        last = history.write_at(0, Some(last), &[], vec![op], (AHEAD_MS << 16) + n);
    }
    (history, known, last)
}

/// What the device itself has of all that.
fn taken(history: &History) -> (Space, MemoryRows) {
    let (mut own, mut rows) = empty_space(history, device(0));
    for entry in &history.entries {
        assert_eq!(own.accept(&mut rows, entry.clone(), LATER_MS).unwrap().outcome, Outcome::Taken);
    }
    (own, rows)
}

/// Writes an entry again, as the engine does. Gives where its author ends, if it does with this one.
fn rewrite(
    history: &mut History,
    (reborn, rows): (&mut Space, &mut MemoryRows),
    name: &EntryRef,
    now_ms: u64,
) -> Option<EntryRef> {
    let plan = again(&*rows, &reborn.lost(&*rows, name).unwrap(), 0).unwrap();
    assert!(!plan.ops.is_empty() && plan.next.is_none());
    let end = reborn.end_before(&*rows, name).unwrap();
    let ops = [mark(&name.id)].into_iter().chain(plan.ops).chain(end.map(Op::RemoveAuthor)).collect();
    let deps = reborn.deps_for_new_entry(&*rows).unwrap();
    let hlc = reborn.next_hlc(&*rows, &deps, Now::Trusted(now_ms)).unwrap().unwrap();
    let deps: Vec<EntryId> = deps.iter().map(|dep| dep.id).collect();
    let id = history.write_at(1, history.head(1), &deps, ops, hlc);
    let (outcome, refused) = reborn.write(rows, history.entry(&id).clone(), now_ms).unwrap();
    assert_eq!((outcome, refused), (Outcome::Taken, vec![]));
    end
}

/// What follows is not taken without what was deferred before it: the tree would lack what the log says is known.
#[test]
fn t94_an_entry_takes_those_before_it_out_of_their_wait() {
    let mut history = History::new(2);
    let genesis = history.entries[0].id;
    let folder = history.write(0, Some(genesis), &[], vec![create(1)]);
    let trashed = history.write(0, Some(folder), &[], vec![Op::Trash(Trash { node: NodeId([1; 16]) })]);
    let last = history.write(0, Some(trashed), &[], vec![create(2)]);
    let (mut space, mut rows) = empty_space(&history, device(1));
    for id in [genesis, folder, trashed] {
        let report = space.accept(&mut rows, history.entry(&id).clone(), BEHIND_MS).unwrap();
        assert_eq!(report.outcome, Outcome::Deferred);
    }
    // The clock is right again, and nobody has looked what waits.
    let report = space.accept(&mut rows, history.entry(&last).clone(), LATER_MS).unwrap();
    assert_eq!((report.outcome, report.taken.len()), (Outcome::Taken, 4));
    assert_eq!(space.deferred(&rows).unwrap(), 0);
    let all: Vec<usize> = (0..history.entries.len()).collect();
    assert_eq!(state_hash(&rows).unwrap(), state_hash(&deliver(&history, &all).1).unwrap());
}

#[test]
fn t94_only_what_lies_ahead_of_the_time_of_a_space_is_put_off() {
    let (history, known, _) = written_ahead();
    let (own, mut rows) = taken(&history);
    let is_ahead = [LATER_MS, AHEAD_MS, BEHIND_MS].map(|ms| own.is_ahead_of(&rows, ms).unwrap());
    assert_eq!(is_ahead, [true, false, false]);
    let full = state_hash(&rows).unwrap();
    let mut reborn = Space::open(&rows, history.id(), device(1)).unwrap();
    for ms in [BEHIND_MS, AHEAD_MS] {
        assert_eq!(reborn.put_off_ahead(&mut rows, ms).unwrap(), 0);
    }
    assert_eq!(state_hash(&rows).unwrap(), full);
    // Nor does a device put off what it writes itself.
    let mut own = Space::open(&rows, history.id(), device(0)).unwrap();
    assert_eq!(own.put_off_ahead(&mut rows, LATER_MS).unwrap(), 0);

    for expected in [3, 0] {
        assert_eq!(reborn.put_off_ahead(&mut rows, LATER_MS).unwrap(), expected);
        let in_time: Vec<usize> =
            (0..history.entries.len()).filter(|i| history.entries[*i].body.hlc >> 16 < AHEAD_MS).collect();
        assert_eq!(state_hash(&rows).unwrap(), state_hash(&deliver(&history, &in_time).1).unwrap());
    }
    assert_eq!(reborn.own_state(&rows, LATER_MS).unwrap(), OwnState::Fine);
    assert_eq!(reborn.deps_for_new_entry(&rows).unwrap(), [history.name(&known)]);
    assert_eq!(reborn.frontier_of(&rows, &device(0)).unwrap(), Some(history.name(&known)));
    // What was put off is all there when its time comes.
    assert_eq!(reborn.release_deferred(&mut rows, AHEAD_MS).unwrap().taken.len(), 3);
    assert_eq!(state_hash(&rows).unwrap(), full);
}

/// Under another key the device puts off what it wrote ahead of time, as all others do, writes it again and ends
/// the key before that. So it counts at once, for all and in every order, and nothing changes when its time comes.
#[test]
fn t94_what_was_written_ahead_is_written_again_under_another_key() {
    let (mut history, known, last) = written_ahead();
    let tip = history.name(&last);
    let (_, mut rows) = taken(&history);
    let mut reborn = Space::open(&rows, history.id(), device(1)).unwrap();
    assert_eq!(reborn.put_off_ahead(&mut rows, LATER_MS).unwrap(), 3);
    let put_off = reborn.put_off(&rows, &tip).unwrap();
    assert_eq!(put_off.len(), 3);
    for name in &put_off {
        let end = rewrite(&mut history, (&mut reborn, &mut rows), name, LATER_MS);
        assert_eq!(end, (name == &put_off[2]).then(|| history.name(&known)));
        assert_eq!(history.entries.last().unwrap().body.hlc >> 16, LATER_MS);
    }
    assert_eq!(reborn.put_off(&rows, &tip).unwrap(), []);
    let is_trashed = [1, 50, 51].map(|n| node(&rows, NodeId([n; 16])).unwrap().unwrap().trashed.is_some());
    assert_eq!(is_trashed, [false, false, true]);

    let after = state_hash(&rows).unwrap();
    for seed in 0..12 {
        let (mut other, mut rows) = empty_space(&history, device(2));
        for i in shuffled(&history, &mut ChaCha8Rng::seed_from_u64(seed)) {
            let outcome = other.accept(&mut rows, history.entries[i].clone(), LATER_MS).unwrap().outcome;
            assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
        }
        assert!(other.waiting().is_empty());
        assert_eq!(state_hash(&rows).unwrap(), after);
        assert_eq!(other.release_deferred(&mut rows, AHEAD_MS).unwrap().taken.len(), 3);
        assert_eq!(state_hash(&rows).unwrap(), after);
    }
    assert_eq!(reborn.release_deferred(&mut rows, AHEAD_MS).unwrap().taken.len(), 3);
    assert_eq!(state_hash(&rows).unwrap(), after);
}

/// What waits counts if its time comes before all of it is written again; what was written again before counts too, as
/// one with it. The key ends with the last one, before what still waits then: nothing is lost, and nothing is there
/// twice.
#[test]
fn t94_what_is_not_written_again_before_its_time_comes_counts_then() {
    const HOUR_MS: u64 = 3_600_000;
    const ALL_MS: u64 = AHEAD_MS + 2 * HOUR_MS;
    let file = NodeId([60; 16]);
    let content = |bases, mtime_ms| {
        Op::Content(Content { node: file, bases, file: FileRef::empty(), mtime_ms, exec: false })
    };
    let kind = NodeKind::File.code();
    let place = Op::Move(Move { node: file, parent: NodeId::ROOT, name: "file".into(), kind });
    let mut history = History::new(3);
    let genesis = history.entries[0].id;
    let first = history.write_at(0, Some(genesis), &[], vec![place, content(vec![], 1)], AHEAD_MS << 16);
    let version = version_id(&OpOrder { entry: history.entry(&first).order(), index: 1 });
    let second = vec![content(vec![version], 2)];
    let second = history.write_at(0, Some(first), &[], second, (AHEAD_MS + HOUR_MS) << 16);
    let third = history.write_at(0, Some(second), &[], vec![create(50)], ALL_MS << 16);
    let [first, second, third] = [first, second, third].map(|id| history.name(&id));
    let versions = |rows: &MemoryRows| {
        let file = node(rows, file).unwrap().unwrap();
        let mut times: Vec<i64> = file.versions.iter().map(|version| version.mtime_ms).collect();
        times.sort_unstable();
        times
    };
    let (_, mut rows) = taken(&history);
    let mut reborn = Space::open(&rows, history.id(), device(1)).unwrap();
    assert_eq!(reborn.put_off_ahead(&mut rows, LATER_MS).unwrap(), 3);
    assert_eq!(rewrite(&mut history, (&mut reborn, &mut rows), &first, LATER_MS), None);
    assert_eq!(reborn.put_off(&rows, &third).unwrap(), [second, third]);

    // The time of all comes: nothing is left to be written again. What was replaced meanwhile stands beside that.
    let mut late = rows.clone();
    let mut all = Space::open(&late, history.id(), device(1)).unwrap();
    assert_eq!(all.release_deferred(&mut late, ALL_MS).unwrap().taken.len(), 3);
    assert_eq!(all.put_off(&late, &third).unwrap(), []);
    assert_eq!(versions(&late), [1, 2]);
    assert!(node(&late, NodeId([50; 16])).unwrap().is_some());

    // The time of the first one only: what is written again then replaces both.
    assert_eq!(reborn.release_deferred(&mut rows, AHEAD_MS).unwrap().taken.len(), 1);
    assert_eq!(versions(&rows), [1, 1]);
    assert_eq!(reborn.put_off(&rows, &third).unwrap(), [second, third]);
    assert_eq!(rewrite(&mut history, (&mut reborn, &mut rows), &second, AHEAD_MS), None);
    assert_eq!(versions(&rows), [2]);
    assert_eq!(rewrite(&mut history, (&mut reborn, &mut rows), &third, AHEAD_MS), Some(first));
    assert_eq!(reborn.put_off(&rows, &third).unwrap(), []);
    let after = state_hash(&rows).unwrap();
    assert_eq!(reborn.release_deferred(&mut rows, ALL_MS).unwrap().taken.len(), 2);
    assert_eq!((versions(&rows), state_hash(&rows).unwrap()), (vec![2], after));
    assert!(node(&rows, NodeId([50; 16])).unwrap().is_some());
    for (seed, now_ms) in (0..8).zip([AHEAD_MS, ALL_MS].into_iter().cycle()) {
        let (mut other, mut rows) = empty_space(&history, device(2));
        for i in shuffled(&history, &mut ChaCha8Rng::seed_from_u64(seed)) {
            let outcome = other.accept(&mut rows, history.entries[i].clone(), now_ms).unwrap().outcome;
            assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
        }
        assert_eq!(state_hash(&rows).unwrap(), after, "seed {seed}");
    }
}

/// Rows of which it is counted how often what waits is looked through.
struct CountedRows<'a> {
    rows: &'a MemoryRows,
    scans: Cell<usize>,
}

impl ReadRows for CountedRows<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, RowError> {
        self.rows.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), RowError> {
        self.scans.set(self.scans.get() + usize::from(table == DEFERRED));
        self.rows.scan(table, from, to, visit)
    }

    fn scan_back(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), RowError> {
        self.rows.scan_back(table, from, to, visit)
    }

    fn keyed(&self, bytes: &[u8]) -> [u8; 16] {
        self.rows.keyed(bytes)
    }
}

/// What waits is looked through for those authors only of which something waits.
#[test]
fn t94_what_waits_costs_nothing_for_those_who_wrote_none_of_it() {
    let (history, ..) = written_ahead();
    let (_, mut rows) = taken(&history);
    let mut reborn = Space::open(&rows, history.id(), device(1)).unwrap();
    for (put_off, expected) in [(false, 0), (true, 1)] {
        if put_off {
            assert_eq!(reborn.put_off_ahead(&mut rows, LATER_MS).unwrap(), 3);
        }
        let counted = CountedRows { rows: &rows, scans: Cell::new(0) };
        assert_eq!(reborn.frontier(&counted).unwrap().len(), 2);
        assert_eq!(counted.scans.get(), expected);
    }
}
