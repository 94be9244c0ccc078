//! Goal: what a device takes away at once is held on the others and changes nothing else. Method: entries of one device come
//! to the space of another one of the same person; what it shows is compared with a replay without what is held.

mod forks;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use locker_crypto::encode::Writer;
use locker_crypto::file_ref::FileRef;
use locker_crypto::id::{EntryId, NodeId, SpaceId, VersionId};
use locker_crypto::secret::SigningSeed;
use locker_crypto::sign::{Domain, Signing};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::histories;
use super::history::{History, NOW_MS, below, device, empty_space, person, shuffled};
use super::naive::naive_state;
use crate::brake::{Count, Losses, WINDOW_MS};
use crate::operation::{Confirm, Content, Decision, Move, Op, Trash, version_id};
use crate::order::{EntryOrder, OpOrder};
use crate::rows::{MemoryRows, ReadRows, RowError};
use crate::space::brake::Weighed;
use crate::space::{Outcome, Space};
use crate::tree::{self, Counted, Shown, TreeEntry, problems, state_hash};

/// The device that takes away, and the one that looks on.
const P: usize = 0;
const L: usize = 1;

struct Nobody;

impl Counted for Nobody {
    fn tree_entry(&self, _: &dyn ReadRows, _: &EntryOrder) -> Result<Option<TreeEntry>, RowError> {
        Ok(None)
    }
}

fn paths(rows: &dyn ReadRows) -> Vec<String> {
    let mut found = Vec::new();
    tree::walk(rows, NodeId::ROOT, &mut |path, listed| {
        found.push(format!("{} {:?}", path.join("/"), listed.newest));
        ControlFlow::Continue(())
    })
    .unwrap();
    found.sort();
    found
}

/// What is shown must be what replay from nothing gives of the counting entries without what is held.
fn check_shown(seed: u64, history: &History, space: &Space, rows: &MemoryRows) {
    let mut entries: Vec<_> = history
        .entries
        .iter()
        .map(|entry| entry.order())
        .filter_map(|order| space.counting_at(rows, &order).unwrap())
        .collect();
    entries.sort_by_key(|entry| entry.order());
    entries.dedup_by_key(|entry| entry.order());
    let mut replayed = MemoryRows::new();
    for entry in &entries {
        let view = space.shown_view(rows, entry).unwrap();
        tree::apply(&mut replayed, &Nobody, &view).unwrap();
    }
    let shown = Shown::new(rows).unwrap();
    assert_eq!(shown.is_apart(), space.is_apart());
    assert_eq!(paths(&shown), paths(&replayed), "seed {seed}: paths");
    assert_eq!(problems(&shown).unwrap(), problems(&replayed).unwrap(), "seed {seed}: problems");
    assert_eq!(tree::counts(&shown).unwrap(), tree::counts(&replayed).unwrap(), "seed {seed}: counts");
    assert_eq!(state_hash(&shown).unwrap(), state_hash(&replayed).unwrap(), "seed {seed}: state");
    let trash = |rows: &dyn ReadRows| tree::trash_list(rows, None, 100).unwrap();
    assert_eq!(trash(&shown), trash(&replayed), "seed {seed}: trash");
}

/// Goal: the shown tree is at every moment replay of the counting entries without what is held, and the replayed tree is
/// none the wiser. Method: random histories with forks and removals in random order; in between, entries are held and freed
/// at random, and the space is opened again.
#[test]
fn the_shown_tree_is_replay_without_what_is_held() {
    let (mut compared, mut ended) = (0, 0);
    for seed in 0..histories() {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let history = History::random(&mut dice);
        let own = device(200);
        let (mut space, mut rows) = empty_space(&history, own);
        let mut held: Vec<EntryOrder> = Vec::new();
        for i in shuffled(&history, &mut dice) {
            space.accept(&mut rows, history.entries[i].clone(), NOW_MS + 1_000).unwrap();
            match below(&mut dice, 4) {
                0 => {
                    let order = history.entries[below(&mut dice, history.entries.len())].order();
                    if space.counting_at(&rows, &order).unwrap().is_some() && !held.contains(&order) {
                        let weighed = Weighed { order, losses: Losses { gone: 1, replaced: 1 }, tenths: 20 };
                        space.hold(&mut rows, (Count::Clock, NOW_MS), &[weighed]).unwrap();
                        held.push(order);
                    }
                }
                1 if !held.is_empty() => {
                    let order = held.swap_remove(below(&mut dice, held.len()));
                    space.free(&mut rows, &[order]).unwrap();
                    ended += usize::from(held.is_empty());
                    assert_eq!(space.is_apart(), !held.is_empty());
                }
                2 if space.waiting().is_empty() => space = Space::open(&rows, history.id(), own).unwrap(),
                _ => {}
            }
            if space.is_apart() && below(&mut dice, 3) == 0 {
                compared += 1;
                check_shown(seed, &history, &space, &rows);
            }
        }
        check_shown(seed, &history, &space, &rows);
        let naive = naive_state(&history);
        assert_eq!(state_hash(&rows).unwrap(), naive.state_hash, "seed {seed}: replayed state");
        assert_eq!(problems(&rows).unwrap(), naive.problems, "seed {seed}: replayed problems");
        space.free(&mut rows, &held).unwrap();
        assert!(!space.is_apart() && tree::differing(&rows, None, 1).unwrap().is_empty());
        check_shown(seed, &history, &space, &rows);
    }
    assert!(compared > 100 && ended > 10, "{compared} compared, {ended} ended");
}

/// A locker with files, seen by `L`.
struct World {
    history: History,
    space: Space,
    rows: MemoryRows,
    /// Hands of the author: its last entry.
    head: EntryId,
    versions: BTreeMap<u32, VersionId>,
    now_ms: u64,
}

fn node(n: u32) -> NodeId {
    let mut id = [7; 16];
    id[..4].copy_from_slice(&n.to_be_bytes());
    NodeId(id)
}

fn file(text: &str) -> FileRef {
    let hash = *blake3::hash(text.as_bytes()).as_bytes();
    let len = u32::try_from(text.len()).unwrap();
    let mut w = Writer::new();
    w.array(5).u64(1).u64(len.into()).bytes(&hash).u64(0).bytes(&[&hash[..], &len.to_le_bytes()].concat());
    FileRef::decode(&w.finish()).unwrap()
}

fn content(node: NodeId, bases: Vec<VersionId>, text: &str) -> Op {
    Op::Content(Content { node, bases, file: file(text), mtime_ms: 0, exec: false })
}

impl World {
    /// `P` took in `count` files in the folder 9,999,999; `text` says what is in each.
    fn new(count: u32, text: impl Fn(u32) -> String) -> Self {
        let mut history = History::new(2);
        let genesis = history.entries[0].id;
        let (mut space, mut rows) = empty_space(&history, device(L));
        space.accept(&mut rows, history.entries[0].clone(), NOW_MS).unwrap();
        let folder = Move { node: node(9_999_999), parent: NodeId::ROOT, name: "all".into(), kind: 1 };
        let head = history.write(P, Some(genesis), &[], vec![Op::Move(folder)]);
        let mut world = Self { history, space, rows, head, versions: BTreeMap::new(), now_ms: NOW_MS };
        world.deliver();
        for first in (0..count).step_by(500) {
            let of = first..count.min(first + 500);
            let ops = of.clone().flat_map(|n| {
                let place = Move { node: node(n), parent: node(9_999_999), name: format!("f{n}"), kind: 0 };
                [Op::Move(place), content(node(n), vec![], &text(n))]
            });
            let order = world.write(ops.collect());
            for (i, n) in (0_u16..).zip(of) {
                world.versions.insert(n, version_id(&OpOrder { entry: order, index: 2 * i + 1 }));
            }
        }
        // The author's files are no news any more.
        world.now_ms += 2 * WINDOW_MS;
        world
    }

    /// `P` writes an entry now, and it comes to `L`.
    fn write(&mut self, ops: Vec<Op>) -> EntryOrder {
        self.write_at(ops, self.now_ms)
    }

    fn write_at(&mut self, ops: Vec<Op>, clock_ms: u64) -> EntryOrder {
        let before = self.history.entry(&self.head).body.hlc;
        self.head = self.history.write_at(P, Some(self.head), &[], ops, (clock_ms << 16).max(before + 1));
        self.deliver();
        self.history.entry(&self.head).order()
    }

    fn deliver(&mut self) {
        let entry = self.history.entries.last().unwrap().clone();
        let report = self.space.accept(&mut self.rows, entry, self.now_ms).unwrap();
        assert_eq!(report.outcome, Outcome::Taken);
    }

    /// `L` writes an entry as its own rules say.
    fn write_own(&mut self, ops: Vec<Op>) -> EntryId {
        let deps = self.space.deps_for_new_entry(&self.rows).unwrap();
        let deps: Vec<EntryId> = deps.iter().map(|dep| dep.id).collect();
        let head = self.history.head(L);
        let before = head.map_or(0, |head| self.history.entry(&head).body.hlc);
        let hlc = (self.now_ms << 16 | 0x7fff).max(before + 1);
        let id = self.history.write_at(L, head, &deps, ops, hlc);
        let entry = self.history.entry(&id).clone();
        let (outcome, refused) = self.space.write(&mut self.rows, entry, self.now_ms).unwrap();
        assert_eq!((outcome, refused), (Outcome::Taken, vec![]));
        id
    }

    fn trash(&mut self, of: impl IntoIterator<Item = u32>) {
        for n in of {
            self.write(vec![Op::Trash(Trash { node: node(n) })]);
        }
    }

    fn confirm(&mut self, decision: Decision) -> Op {
        let hold = self.space.held_back(&self.rows).unwrap().remove(0);
        let (author, first_seq, last_seq) = (hold.author, hold.first_seq, hold.last_seq);
        Op::Confirm(Confirm { author, first_seq, last_seq, decision, root_sig: None })
    }

    fn shown(&self) -> u64 {
        tree::counts(&Shown::new(&self.rows).unwrap()).unwrap().files
    }

    fn replayed(&self) -> u64 {
        tree::counts(&self.rows).unwrap().files
    }

    fn is_shown(&self, name: &str) -> bool {
        tree::lookup(&Shown::new(&self.rows).unwrap(), &["all", name]).unwrap().is_some()
    }

    fn check(&self) {
        check_shown(0, &self.history, &self.space, &self.rows);
    }
}

/// T84: 500 files are let through, the 501st holds all of them; later ones are held too; what comes after ten minutes is
/// not.
#[test]
fn t84_501_trashed_files_are_held_and_500_are_not() {
    let mut world = World::new(3_000, |n| format!("text {n}"));
    world.trash(0..500);
    assert_eq!((world.space.is_apart(), world.shown(), world.replayed()), (false, 2_500, 2_500));
    world.trash(500..501);
    assert_eq!((world.space.is_apart(), world.shown(), world.replayed()), (true, 3_000, 2_499));
    world.trash(501..600);
    world.check();
    assert_eq!((world.shown(), world.replayed()), (3_000, 2_400));
    let hold = world.space.held_back(&world.rows).unwrap().remove(0);
    assert_eq!((hold.entries, hold.losses.gone, hold.is_own), (600, 600, false));
    // Nothing of it ends by itself, and what it did before and after is as it was.
    world.now_ms += WINDOW_MS;
    world.trash(600..700);
    assert_eq!((world.shown(), world.replayed()), (2_900, 2_300));
    world.now_ms += 1_000 * WINDOW_MS;
    world.write(vec![Op::Trash(Trash { node: node(700) })]);
    assert_eq!((world.shown(), world.replayed()), (2_899, 2_299));
    world.check();
    // Whoever holds and whoever does not, the author and one that came later, replays one tree.
    for own in [device(P), device(200)] {
        let (mut space, mut rows) = empty_space(&world.history, own);
        for entry in &world.history.entries {
            space.accept(&mut rows, entry.clone(), world.now_ms).unwrap();
        }
        assert_eq!(state_hash(&rows).unwrap(), state_hash(&world.rows).unwrap());
    }
}

/// T84: a folder counts for all that is in it, in one operation.
#[test]
fn t84_a_trashed_folder_counts_all_that_is_in_it() {
    let mut world = World::new(501, |n| format!("text {n}"));
    world.write(vec![Op::Trash(Trash { node: node(9_999_999) })]);
    assert_eq!((world.shown(), world.replayed()), (501, 0));
    world.check();
}

/// T84: a quarter of few files, at least 20; files whose content lives elsewhere count nothing; files that the author wrote
/// over and over count once.
#[test]
fn t84_a_share_of_few_files() {
    let mut world = World::new(100, |n| format!("text {n}"));
    world.trash(0..25);
    assert!(!world.space.is_apart());
    world.trash(25..26);
    assert_eq!((world.shown(), world.replayed()), (100, 74));

    // 30 of 100 of equal content elsewhere in the space.
    let mut world = World::new(100, |n| format!("text {}", n % 50));
    world.trash(0..30);
    assert_eq!((world.space.is_apart(), world.replayed()), (false, 70));
    // Their twins are the last ones of these contents: none of them is gone from what is shown.
    world.trash(50..80);
    assert_eq!((world.space.is_apart(), world.replayed()), (true, 40));
    let mut contents = BTreeSet::new();
    tree::walk_live(&Shown::new(&world.rows).unwrap(), &mut |_, version, _| {
        contents.insert(version.file.content_hash());
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(contents.len(), 50);
    world.check();

    let mut world = World::new(30, |n| format!("text {n}"));
    for round in 0..40_u32 {
        let base = world.versions[&0];
        let order = world.write(vec![content(node(0), vec![base], &format!("draft {round}"))]);
        world.versions.insert(0, version_id(&OpOrder { entry: order, index: 0 }));
        world.now_ms += 1_000;
    }
    assert!(!world.space.is_apart());
}

/// T84: 30 of 100 files are overwritten: held, until it turns out that they begin as before.
#[test]
fn t84_overwritten_files_are_held_until_they_are_seen_to_begin_as_before() {
    let mut world = World::new(100, |n| format!("text {n}"));
    let ops = (0..30).map(|n| content(node(n), vec![world.versions[&n]], &format!("test {n}")));
    let ops: Vec<Op> = ops.collect();
    let order = world.write(ops);
    assert!(world.space.is_apart());
    let sizes = |world: &World| -> u64 { tree::counts(&Shown::new(&world.rows).unwrap()).unwrap().bytes };
    assert_eq!(sizes(&world), (0..100).map(|n| format!("text {n}").len() as u64).sum::<u64>());
    let unread = world.space.unread(&world.rows, 100).unwrap();
    assert_eq!(unread.len(), 30);
    assert!(unread.iter().all(|one| one.before.file != one.after.as_ref().unwrap().file));
    // Nine of them are otherwise: 21 are tags. 9 + 2.1 files are let through.
    Space::note_alike(&mut world.rows, &order, 21).unwrap();
    assert!(world.space.unread(&world.rows, 100).unwrap().is_empty());
    world.space.weigh_again(&mut world.rows).unwrap();
    assert!(!world.space.is_apart() && world.space.held_back(&world.rows).unwrap().is_empty());
    world.check();

    let mut world = World::new(100, |n| format!("text {n}"));
    let ops = (0..60).map(|n| content(node(n), vec![world.versions[&n]], &format!("test {n}")));
    let ops: Vec<Op> = ops.collect();
    let order = world.write(ops);
    Space::note_alike(&mut world.rows, &order, 30).unwrap();
    world.space.weigh_again(&mut world.rows).unwrap();
    assert!(world.space.is_apart(), "30 files of 100 are not as before");
}

/// Windows of two days.
const ROUNDS: u32 = 288;

/// T84: what comes long after its clock, though the author showed all that it had meanwhile, counts by arrival; after a real
/// absence it counts by the clock.
#[test]
fn t84_entries_that_were_kept_back_count_by_arrival() {
    for is_known in [false, true] {
        let mut world = World::new(ROUNDS * 500 + 5_000, |n| format!("text {n}"));
        let begin = world.now_ms;
        world.now_ms += u64::from(ROUNDS) * WINDOW_MS + 60_000;
        if is_known {
            Space::note_level(&mut world.rows, &device(P), world.now_ms - 3_000).unwrap();
        }
        for round in 0..ROUNDS {
            let ops = (500 * round..500 * (round + 1)).map(|n| Op::Trash(Trash { node: node(n) }));
            let ops = ops.collect();
            world.write_at(ops, begin + u64::from(round) * WINDOW_MS);
        }
        assert_eq!(world.space.is_apart(), is_known);
        let left = if is_known { u64::from(ROUNDS) * 500 + 5_000 } else { 5_000 };
        assert_eq!((world.shown(), world.replayed()), (left, 5_000));
        let counts: Vec<Count> =
            world.space.held_back(&world.rows).unwrap().iter().map(|hold| hold.count).collect();
        assert_eq!(counts, if is_known { vec![Count::Arrival] } else { vec![] });
    }
}

/// T84: a hold ends by the word of another device, never of its own; what this one wrote meanwhile does not name what is
/// held, and lives after it is allowed.
#[test]
fn t84_a_hold_ends_by_the_word_of_another_device() {
    let mut world = World::new(600, |n| format!("text {n}"));
    let known = world.head;
    world.trash(0..501);
    assert_eq!(world.shown(), 600);
    let own = world.confirm(Decision::Allow);
    world.write(vec![own]);
    assert_eq!(world.shown(), 600, "the author confirmed itself");
    let edit = world.write_own(vec![content(node(3), vec![world.versions[&3]], "kept")]);
    let named: Vec<EntryId> = world.history.entry(&edit).body.deps.iter().map(|dep| dep.id).collect();
    assert_eq!(named, [known]);
    // What the author does then on top of what is held is not named either.
    world.write(vec![Op::Move(Move { node: node(7), parent: NodeId::ROOT, name: "g".into(), kind: 0 })]);
    assert!(world.space.deps_for_new_entry(&world.rows).unwrap().is_empty());
    // A file that is held may be trashed here too.
    world.write_own(vec![Op::Trash(Trash { node: node(4) })]);
    assert!(!world.is_shown("f4") && world.is_shown("f5"));
    world.check();
    let allow = world.confirm(Decision::Allow);
    world.write_own(vec![allow]);
    assert!(!world.space.is_apart());
    assert_eq!((world.shown(), world.replayed()), (101, 101));
    assert!(world.is_shown("f3") && !world.is_shown("f5"));
    world.check();
    // What follows is counted anew.
    world.trash(501..510);
    assert!(!world.space.is_apart());
    assert_eq!(world.space.deps_for_new_entry(&world.rows).unwrap().len(), 1);
}

/// What is written to undo a hold is no loss, neither for who writes it, nor for the author, nor for who did not hold.
#[test]
fn what_undoes_a_hold_is_not_held() {
    let mut world = World::new(100, |n| format!("text {n}"));
    let ops = (0..60).map(|n| content(node(n), vec![world.versions[&n]], &format!("code {n}")));
    let order = world.write(ops.collect());
    assert!(world.space.is_apart());
    let confirm = world.confirm(Decision::Restore);
    let written = |n: u16| version_id(&OpOrder { entry: order, index: n });
    let back: Vec<Op> =
        (0..60).map(|n| content(node(n.into()), vec![written(n)], &format!("text {n}"))).collect();
    world.space.end_hold(&mut world.rows, &device(P)).unwrap();
    world.write_own(back);
    assert!(world.space.held_back(&world.rows).unwrap().is_empty());
    world.write_own(vec![confirm]);
    assert!(!world.space.is_apart() && !Space::has_held(&world.rows).unwrap());
    world.check();
    // The author, and a device that came when it had happened, which holds until it hears why.
    let history = &world.history;
    for (own, late_until) in [(device(P), 0), (device(200), history.entries.len() - 2)] {
        let (mut space, mut rows) = empty_space(history, own);
        let mut holds = Vec::new();
        for (i, entry) in history.entries.iter().enumerate() {
            let now_ms = if i < late_until { world.now_ms + 1 } else { world.now_ms };
            let now_ms = if own == device(P) { now_ms.min(NOW_MS + 3 * WINDOW_MS) } else { now_ms };
            space.accept(&mut rows, entry.clone(), now_ms).unwrap();
            holds.push(space.is_apart());
        }
        assert!(!space.is_apart() && space.held_back(&rows).unwrap().is_empty());
        assert_eq!(state_hash(&rows).unwrap(), state_hash(&world.rows).unwrap());
        assert!(own == device(200) || !holds.contains(&true), "the author held the undoing");
    }
}

/// A decision that comes before what it is about holds too; entries before this device was there are no loss for it.
#[test]
fn what_is_decided_or_older_than_this_device_is_not_held() {
    let mut world = World::new(600, |n| format!("text {n}"));
    let last = world.history.entry(&world.head).seq;
    let confirm = Confirm {
        author: device(P),
        first_seq: last + 1,
        last_seq: last + 600,
        decision: Decision::Allow,
        root_sig: None,
    };
    world.write_own(vec![Op::Confirm(confirm)]);
    world.trash(0..600);
    assert_eq!((world.space.is_apart(), world.shown()), (false, 0));

    let mut world = World::new(600, |n| format!("text {n}"));
    world.write_at((0..600).map(|n| Op::Trash(Trash { node: node(n) })).collect(), world.now_ms);
    let history = world.history;
    let (mut space, mut rows) = empty_space(&history, device(L));
    for entry in &history.entries {
        space.accept(&mut rows, entry.clone(), world.now_ms + 3_600_000).unwrap();
    }
    assert!(!space.is_apart());
    assert_eq!(tree::counts(&rows).unwrap().files, 0);
}

/// The device that takes away shows it, and knows that the others hold it until they say otherwise.
#[test]
fn the_author_knows_that_others_hold_what_it_took_away() {
    let mut history = History::new(2);
    let genesis = history.entries[0].id;
    let (mut space, mut rows) = empty_space(&history, device(P));
    space.write(&mut rows, history.entries[0].clone(), NOW_MS).unwrap();
    let ops = (0..60)
        .map(|n| Op::Move(Move { node: node(n), parent: NodeId::ROOT, name: format!("f{n}"), kind: 0 }));
    let files = history.write(P, Some(genesis), &[], ops.collect());
    space.write(&mut rows, history.entry(&files).clone(), NOW_MS).unwrap();
    assert!(space.would_be_held(&rows, 20, NOW_MS).unwrap());
    assert!(!space.would_be_held(&rows, 15, NOW_MS).unwrap());
    let ops = (0..30).map(|n| Op::Trash(Trash { node: node(n) })).collect();
    let trash = history.write(P, Some(files), &[], ops);
    space.write(&mut rows, history.entry(&trash).clone(), NOW_MS).unwrap();
    assert_eq!((space.is_apart(), tree::counts(&rows).unwrap().files), (false, 30));
    let hold = space.held_back(&rows).unwrap().remove(0);
    assert!(hold.is_own && hold.losses.gone == 30);
    let confirm =
        Confirm { author: device(P), first_seq: 0, last_seq: 2, decision: Decision::Allow, root_sig: None };
    let said = history.write(L, None, &[files], vec![Op::Confirm(confirm)]);
    space.accept(&mut rows, history.entry(&said).clone(), NOW_MS).unwrap();
    assert!(space.held_back(&rows).unwrap().is_empty());
}

/// The last hold, allowed by its author under a root key, for a space.
fn with_words(world: &World, root: &Signing, space: SpaceId) -> Op {
    let hold = world.space.held_back(&world.rows).unwrap().remove(0);
    let (author, first_seq, last_seq) = (hold.author, hold.first_seq, hold.last_seq);
    let mut confirm = Confirm { author, first_seq, last_seq, decision: Decision::Allow, root_sig: None };
    confirm.root_sig = Some(root.sign(Domain::Confirm, &confirm.signed_bytes(&space)));
    Op::Confirm(confirm)
}

/// T84: what a device took away it may allow itself with the words of its person, those that are current; never without,
/// nor with others, nor with what was signed for another space.
#[test]
fn t84_the_words_of_the_person_decide_where_the_device_itself_does_not() {
    let root = |n| Signing::from_seed(&SigningSeed::new([n; 32]));
    let (old, new, stranger) = (root(1), root(2), root(3));
    let mut world = World::new(1_000, |n| format!("text {n}"));
    let own = world.history.id();
    world.trash(0..600);
    let said = world.confirm(Decision::Allow);
    world.write(vec![said]);
    assert!(world.space.is_apart(), "its own word is enough");
    let told = with_words(&world, &old, own);
    world.write(vec![told]);
    assert!(world.space.is_apart(), "no root key is known");
    for (root, signed) in [(&stranger, own), (&old, SpaceId([9; 32]))] {
        let told = with_words(&world, root, signed);
        world.write(vec![told]);
    }
    world.space.set_root(&mut world.rows, person(P), new.verifying_key()).unwrap();
    assert!(world.space.is_apart(), "words that were replaced, or of others, decide");
    let told = with_words(&world, &new, own);
    world.write(vec![told]);
    assert_eq!((world.space.is_apart(), world.shown()), (false, world.replayed()));
    world.check();
    // What it takes away next is held again.
    world.now_ms += 2 * WINDOW_MS;
    world.trash(600..900);
    assert!(world.space.is_apart());
    world.check();
}

/// Goal: in which order the root key and the decision come makes no difference. Method: the decision first, then the key.
#[test]
fn a_decision_under_a_root_key_waits_for_the_key() {
    let root = Signing::from_seed(&SigningSeed::new([1; 32]));
    let mut world = World::new(1_000, |n| format!("text {n}"));
    world.trash(0..600);
    let told = with_words(&world, &root, world.history.id());
    world.write(vec![told]);
    assert!(world.space.is_apart());
    world.space.set_root(&mut world.rows, person(P), root.verifying_key()).unwrap();
    assert!(!world.space.is_apart());
    world.check();
    let again = Space::open(&world.rows, world.history.id(), device(L)).unwrap();
    assert!(!again.is_apart());
}

/// Goal: a member cannot make every look at a space check signatures without end. Method: many decisions that are not by the
/// root, before and after one that is: only the last ones are looked at.
#[test]
fn only_the_last_decisions_under_a_root_key_are_looked_at() {
    let root = Signing::from_seed(&SigningSeed::new([1; 32]));
    let stranger = Signing::from_seed(&SigningSeed::new([3; 32]));
    for (after, ends) in [(15, true), (16, false)] {
        let mut world = World::new(1_000, |n| format!("text {n}"));
        world.trash(0..600);
        let (told, own) = (with_words(&world, &root, world.history.id()), world.history.id());
        world.write(vec![told]);
        for _ in 0..after {
            let other = with_words(&world, &stranger, own);
            world.write(vec![other]);
        }
        world.space.set_root(&mut world.rows, person(P), root.verifying_key()).unwrap();
        assert_eq!(!world.space.is_apart(), ends, "{after} after it");
    }
}

/// Goal: another device of the person decides as ever, whatever it says of the words.
#[test]
fn a_root_sig_about_another_device_changes_nothing() {
    let mut world = World::new(1_000, |n| format!("text {n}"));
    world.trash(0..600);
    let Op::Confirm(confirm) = world.confirm(Decision::Allow) else { panic!("no confirm") };
    world.write_own(vec![Op::Confirm(Confirm { root_sig: Some([9; 64]), ..confirm })]);
    assert!(!world.space.is_apart());
    world.check();
}
