//! Goal: what a device wrote on top of what another one made is not lost when that other one is ended by somebody who had
//! not heard of it.
//! Method: random histories of four devices that end one another; what is stranded is written again by whoever comes to
//! it, by several at once too. Every content whose author was not ended before it, and that nobody who had seen it
//! replaced or trashed, is to be there at the end, and no file that somebody trashed who knew all that was done to it.
//! Single cases beside: folders and names come back, what a file had for whoever moved it, and nothing of what was given
//! up.

mod keep;

use std::collections::{BTreeMap, BTreeSet};

use locker_crypto::Refusal;
use locker_crypto::file_ref::FileRef;
use locker_crypto::id::{EntryId, NodeId, VerifyingKey};

use super::again::{PERSON, World, key, place};
use super::history::{NOW_MS, below};
use crate::operation::{Content, EntryRef, Move, NodeKind, Op, Trash, version_id};
use crate::order::{EntryOrder, OpOrder};
use crate::space::row::named;
use crate::space::{OpenedEntry, OwnState};
use crate::tree::{self, Happened, Turn, state_hash};

impl World {
    fn is_ended(&self, home: usize) -> bool {
        self.space(home).own_state(&self.homes[home].rows, NOW_MS * 2).unwrap() == OwnState::Removed
    }

    /// Ends a device where its entries reach here, unless somebody did. Says how many these are.
    fn end(&mut self, home: usize, device: VerifyingKey) -> Option<u64> {
        if self.space(home).access().removed_authors().contains_key(&device) {
            return None;
        }
        let at = self.space(home).frontier_of(&self.homes[home].rows, &device).unwrap();
        let none = EntryRef { author: device, seq: 0, id: EntryId::ZERO };
        let count = at.as_ref().map_or(0, |at| at.seq + 1);
        self.write(home, vec![Op::RemoveAuthor(at.unwrap_or(none))]).then_some(count)
    }

    /// Writes again what is stranded, as the engine does.
    fn rescue(&mut self, home: usize, own_only: bool, most: usize) -> bool {
        self.rescue_since(home, own_only, most, 0)
    }

    fn rescue_since(&mut self, home: usize, own_only: bool, most: usize, since: u64) -> bool {
        let own = self.homes[home].own;
        let is_due = |at: &OpOrder| !own_only || at.entry.author == own;
        let turn = Turn { is_due: &is_due, is_left: &|_| false, is_kept: &|_| false, most, since };
        let plan = self.space(home).rescue(&self.homes[home].rows, &PERSON, &turn).unwrap();
        let ops: Vec<Op> = plan.into_iter().flat_map(|(_, ops)| ops).collect();
        if ops.is_empty() {
            return false;
        }
        assert!(self.write(home, ops), "what was planned has no effect");
        true
    }

    /// The place in total order, but for the clock, of an operation of the entry that a home writes next.
    fn next_op(&self, home: usize, index: u16) -> OpOrder {
        let author = self.homes[home].own;
        let seq = self.space(home).own_head(&self.homes[home].rows).unwrap().map_or(0, |head| head.seq + 1);
        OpOrder { entry: EntryOrder { hlc: 0, author, seq }, index }
    }

    fn head(&self, home: usize) -> EntryId {
        self.space(home).own_head(&self.homes[home].rows).unwrap().unwrap().id
    }

    /// Whether the author of an entry knew another one.
    fn knew(&self, entry: &OpenedEntry, other: &OpenedEntry) -> bool {
        let (space, rows) = (self.space(0), &self.homes[0].rows);
        let name = EntryRef { author: entry.author, seq: entry.seq, id: entry.id };
        let past = space.past(rows, &named(rows, &name).unwrap()).unwrap();
        entry.id == other.id || past.knows(&other.author, other.seq)
    }

    /// Files that are there although somebody put them into the trash who knew all that anybody ever did to them; what
    /// does not count and what was `again` written apart.
    fn back_from_the_trash(&self, again: &BTreeSet<EntryId>) -> Vec<NodeId> {
        let rows = &self.homes[0].rows;
        let problems: BTreeMap<_, _> = tree::problems(rows).unwrap().into_iter().collect();
        let mut deeds: BTreeMap<NodeId, Vec<(&OpenedEntry, &Op)>> = BTreeMap::new();
        for entry in self.homes[0].held.values().filter(|entry| !again.contains(&entry.id)) {
            for (index, op) in (0..).zip(&entry.body.ops) {
                let why = problems.get(&OpOrder { entry: entry.order(), index });
                let is_void = matches!(why, Some(Refusal::Frontier | Refusal::Fresh));
                match op {
                    Op::Move(Move { node, .. }) | Op::Content(Content { node, .. }) if !is_void => {
                        deeds.entry(*node).or_default().push((entry, op));
                    }
                    Op::Trash(Trash { node }) if !is_void => {
                        deeds.entry(*node).or_default().push((entry, op));
                    }
                    _ => {}
                }
            }
        }
        let live = self.live(0);
        let files = live.iter().filter(|node| node.kind == NodeKind::File).map(|node| node.id);
        let is_back = |node: &NodeId| {
            let of_node = deeds.get(node).map_or(&[][..], Vec::as_slice);
            let mut trashes = of_node.iter().filter(|(_, op)| matches!(op, Op::Trash(_)));
            trashes.any(|(by, _)| of_node.iter().all(|(other, _)| self.knew(by, other)))
        };
        files.filter(is_back).collect()
    }

    /// Whether a content is or was one of a file, in the trash or not.
    fn was_held(&self, time: i64) -> bool {
        let (rows, node) = (&self.homes[0].rows, self.ledger.written[&time]);
        tree::history(rows, node).unwrap().iter().any(|event| match &event.what {
            Happened::Written { vid, .. } => {
                tree::version(rows, node, *vid).unwrap().is_some_and(|version| version.mtime_ms == time)
            }
            Happened::Kept { version } => version.mtime_ms == time,
            _ => false,
        })
    }

    /// Whether a content is one that a file has, in the trash or not.
    fn is_held(&self, time: i64) -> bool {
        let held = tree::node(&self.homes[0].rows, self.ledger.written[&time]).unwrap();
        held.is_some_and(|node| node.versions.iter().any(|version| version.mtime_ms == time))
    }

    /// Whether a content is in the trash, by somebody who trashed the file while the content had no effect.
    fn is_trashed(&self, time: i64) -> bool {
        self.ledger.trashed.contains(&self.ledger.written[&time]) && self.is_held(time)
    }

    fn meet_all(&mut self) {
        for _ in 0..2 {
            for one in 0..self.homes.len() {
                for other in 0..one {
                    self.meet(one, other);
                }
            }
        }
    }

    /// What a home shows: paths with the time of each content.
    fn shown(&self, home: usize) -> BTreeMap<String, Vec<i64>> {
        let rows = &self.homes[home].rows;
        let path = |node: &tree::Node| tree::path_of(rows, node.id).unwrap().unwrap().join("/");
        let times = |node: &tree::Node| node.versions.iter().map(|version| version.mtime_ms).collect();
        self.live(home).iter().map(|node| (path(node), times(node))).collect()
    }

    fn write_all(&mut self, home: usize, ops: Vec<Op>) {
        assert!(self.write(home, ops));
    }
}

fn content(node: NodeId, mtime_ms: i64, bases: &[OpOrder]) -> Op {
    let mut bases: Vec<_> = bases.iter().map(version_id).collect();
    bases.sort_unstable();
    Op::Content(Content { node, bases, file: FileRef::empty(), mtime_ms, exec: false })
}

#[test]
fn nothing_is_lost_that_stood_on_an_ended_device() {
    let (mut ended, mut rescued, mut contents) = (0, 0, 0);
    for seed in 0..super::histories() {
        let mut world = World::new(seed, 4);
        let (mut authors, mut ends, mut again) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        for _ in 0..40 {
            let home = below(&mut world.dice, world.homes.len());
            let other = below(&mut world.dice, world.homes.len());
            if world.is_ended(home) {
                continue;
            }
            match below(&mut world.dice, 10) {
                // Whom somebody ended ends nobody: which of two counts is another test's.
                0 if home != other && !ends.contains_key(&world.homes[home].own) => {
                    let device = world.homes[other].own;
                    if let Some(count) = world.end(home, device) {
                        // Where two end it, what counts in the end did not for the one that knew less.
                        let least = ends.entry(device).or_insert(count);
                        *least = count.min(*least);
                    }
                }
                1..3 if home != other => world.meet(home, other),
                3 => again.extend(world.rescue(home, true, 3).then(|| world.head(home))),
                _ => {
                    world.act(home);
                    let Some((time, _)) = world.ledger.written.last_key_value() else { continue };
                    let head = world.space(home).own_head(&world.homes[home].rows).unwrap();
                    if let (false, Some(head)) = (authors.contains_key(time), head) {
                        authors.insert(*time, (head.author, head.seq));
                    }
                }
            }
        }
        for _ in 0..64 {
            world.meet_all();
            let mut busy = false;
            for home in 0..world.homes.len() {
                let own_only = below(&mut world.dice, 2) == 0;
                while !world.is_ended(home) && world.rescue(home, own_only, 3) {
                    (busy, rescued) = (true, rescued + 1);
                    again.insert(world.head(home));
                }
            }
            let mut left = (0..world.homes.len()).filter(|home| !world.is_ended(*home));
            let is_done = left.all(|home| {
                let turn =
                    Turn { is_due: &|_| true, is_left: &|_| false, is_kept: &|_| false, most: 1, since: 0 };
                world.space(home).rescue(&world.homes[home].rows, &PERSON, &turn).unwrap().is_empty()
            });
            if !busy && is_done {
                break;
            }
        }
        let hashes: BTreeSet<[u8; 32]> =
            world.homes.iter().map(|home| state_hash(&home.rows).unwrap()).collect();
        assert_eq!(hashes.len(), 1, "seed {seed}: the homes differ");
        if (0..world.homes.len()).all(|home| world.is_ended(home)) {
            continue;
        }
        let shown: BTreeSet<i64> = world
            .live(0)
            .iter()
            .flat_map(|node| node.versions.iter().map(|version| version.mtime_ms))
            .collect();
        for (time, (author, seq)) in &authors {
            let counts = ends.get(author).is_none_or(|count| seq < count);
            let is_asked_for = counts && !world.ledger.gone.contains(time);
            assert!(
                !is_asked_for || shown.contains(time) || world.is_trashed(*time),
                "seed {seed}: content {time} is lost"
            );
            assert!(!counts || world.was_held(*time), "seed {seed}: content {time} is in no history");
        }
        assert_eq!(world.back_from_the_trash(&again), [], "seed {seed}: it came back");
        ended += ends.len();
        contents += authors.len();
    }
    assert!(ended > 0 && rescued > 0 && contents > 0, "{ended} {rescued} {contents}");
}

/// Folders that are missing come back with their names, and a content that was replaced to the history.
#[test]
fn a_file_in_a_folder_of_an_ended_device_keeps_its_path() {
    let mut world = World::new(0, 3);
    let [outer, inner, file] = [1, 2, 3].map(|n| NodeId([n; 16]));
    world.write_all(
        1,
        vec![
            place(outer, NodeId::ROOT, "journeys", NodeKind::Folder),
            place(inner, outer, "2026", NodeKind::Folder),
        ],
    );
    world.meet(1, 2);
    let first = world.next_op(2, 1);
    world.write_all(2, vec![place(file, inner, "a.jpg", NodeKind::File), content(file, 1, &[])]);
    world.write_all(2, vec![content(file, 2, &[first])]);
    assert_eq!(world.end(0, key(2)), Some(0));
    world.meet_all();
    assert!(world.shown(0).is_empty());
    assert!(!world.rescue(0, true, 100), "not of this device");
    assert!(world.rescue(2, true, 100));
    world.meet_all();
    let expected = [("journeys", vec![]), ("journeys/2026", vec![]), ("journeys/2026/a.jpg", vec![2])];
    let history = tree::history(&world.homes[0].rows, file).unwrap();
    let kept = history.iter().filter(|event| matches!(event.what, Happened::Kept { .. }));
    assert_eq!(kept.count(), 1);
    for home in 0..3 {
        assert_eq!(world.shown(home), expected.clone().map(|(path, at)| (path.to_owned(), at)).into());
        assert!(!world.rescue(home, false, 100), "nothing is left to do");
    }
    // What is done with it afterwards stands.
    world.write_all(0, vec![Op::Trash(Trash { node: file })]);
    world.meet_all();
    assert!(!world.rescue(2, false, 100));
    assert_eq!(world.shown(2).len(), 2);
}

/// A file that an ended device made is nothing but a name where another one moved it.
#[test]
fn a_file_that_was_moved_keeps_the_content_that_it_had() {
    let mut world = World::new(0, 3);
    let file = NodeId([1; 16]);
    world.write_all(1, vec![place(file, NodeId::ROOT, "new", NodeKind::File), content(file, 1, &[])]);
    world.meet(1, 2);
    world.write_all(1, vec![content(file, 2, &[])]);
    world.write_all(2, vec![place(file, NodeId::ROOT, "moved", NodeKind::File)]);
    assert_eq!(world.end(0, key(2)), Some(0));
    world.meet_all();
    assert_eq!(world.shown(0), BTreeMap::from([("moved".to_owned(), vec![])]));
    assert!(world.rescue(2, true, 100));
    world.meet_all();
    assert_eq!(
        world.shown(0),
        BTreeMap::from([("moved".to_owned(), vec![1])]),
        "what it had when it was moved"
    );
    assert!(!world.rescue(0, false, 100) && !world.rescue(2, false, 100));
}

/// What a device did on the file of an ended one, all of which whoever ended it had not heard of: a world in which device 1
/// made a folder with a file in it, and devices 2 and 3 know that.
fn with_a_file() -> (World, NodeId, NodeId) {
    let mut world = World::new(0, 5);
    let [folder, file] = [1, 2].map(|n| NodeId([n; 16]));
    world.write_all(1, vec![place(folder, NodeId::ROOT, "folder", NodeKind::Folder)]);
    world.write_all(1, vec![place(file, folder, "file", NodeKind::File), content(file, 1, &[])]);
    world.meet(1, 2);
    world.meet(1, 3);
    (world, folder, file)
}

/// Ends device 1, and lets all meet.
fn end_it(world: &mut World) {
    assert_eq!(world.end(0, key(2)), Some(0));
    world.meet_all();
    world.meet_all();
}

fn rescue_all(world: &mut World) {
    while (0..world.homes.len()).any(|home| !world.is_ended(home) && world.rescue(home, true, 1)) {
        world.meet_all();
    }
    assert!(!world.rescue(0, false, 100));
}

/// The same, of what nobody replaced or deleted.
fn rescue_all_but_kept(world: &mut World) {
    while (0..world.homes.len())
        .any(|home| !world.is_ended(home) && world.rescue_since(home, true, 1, u64::MAX))
    {
        world.meet_all();
    }
}

#[test]
fn the_last_move_stands_whoever_is_first_to_write_again() {
    let (mut world, folder, _) = with_a_file();
    let file = NodeId([3; 16]);
    world.write_all(2, vec![place(file, folder, "old", NodeKind::File), content(file, 2, &[])]);
    world.meet(2, 3);
    world.write_all(3, vec![place(file, folder, "new", NodeKind::File)]);
    end_it(&mut world);
    rescue_all(&mut world);
    let expected = [("folder".to_owned(), vec![]), ("folder/new".to_owned(), vec![2])];
    assert_eq!(world.shown(0), BTreeMap::from(expected));
}

/// What the ended device wrote after that is not taken for what others had seen.
#[test]
fn a_moved_file_gets_nothing_that_its_mover_had_not_seen() {
    let (mut world, folder, file) = with_a_file();
    world.write_all(2, vec![place(file, folder, "moved", NodeKind::File)]);
    let head = world.space(1).own_head(&world.homes[1].rows).unwrap().unwrap();
    let hlc = world.homes[1].held[&head.id].body.hlc;
    let first = OpOrder { entry: EntryOrder { hlc, author: key(2), seq: head.seq }, index: 1 };
    world.write_all(1, vec![content(file, 9, &[first])]);
    end_it(&mut world);
    rescue_all(&mut world);
    let expected = [("folder".to_owned(), vec![]), ("folder/moved".to_owned(), vec![1])];
    assert_eq!(world.shown(0), BTreeMap::from(expected));
}

#[test]
fn what_was_trashed_stays_there_with_what_was_written() {
    let (mut world, _, file) = with_a_file();
    world.write_all(2, vec![content(file, 2, &[])]);
    world.write_all(2, vec![place(file, NodeId::ROOT, "moved", NodeKind::File)]);
    world.write_all(2, vec![Op::Trash(Trash { node: file })]);
    end_it(&mut world);
    rescue_all(&mut world);
    assert!(world.shown(0).is_empty());
    let found = tree::node(&world.homes[0].rows, file).unwrap().unwrap();
    assert_eq!(found.versions.iter().map(|version| version.mtime_ms).collect::<Vec<_>>(), [2]);
}

/// A folder that counts was trashed by somebody who had seen what was in it.
#[test]
fn nothing_comes_back_out_of_a_folder_that_was_trashed() {
    let mut world = World::new(0, 4);
    let [photos, file] = [1, 2].map(|n| NodeId([n; 16]));
    world.write_all(0, vec![place(photos, NodeId::ROOT, "photos", NodeKind::Folder)]);
    world.meet_all();
    world.write_all(1, vec![place(file, photos, "a", NodeKind::File), content(file, 1, &[])]);
    world.meet(1, 2);
    world.write_all(2, vec![content(file, 2, &[])]);
    world.meet(2, 3);
    world.write_all(3, vec![Op::Trash(Trash { node: photos })]);
    end_it(&mut world);
    rescue_all(&mut world);
    assert!(world.shown(0).is_empty());
}

#[test]
fn what_was_restored_comes_back_whole() {
    let (mut world, folder, _) = with_a_file();
    let file = NodeId([3; 16]);
    world.write_all(2, vec![place(file, folder, "a", NodeKind::File), content(file, 2, &[])]);
    world.write_all(2, vec![Op::Trash(Trash { node: file })]);
    world.write_all(2, vec![place(file, folder, "a", NodeKind::File)]);
    end_it(&mut world);
    rescue_all(&mut world);
    let expected = [("folder".to_owned(), vec![]), ("folder/a".to_owned(), vec![2])];
    assert_eq!(world.shown(0), BTreeMap::from(expected));
}

/// A file that an ended device took out of a folder in the trash, and one that it brought back with the folder: whoever
/// wrote into them, and gave one another name, finds both.
#[test]
fn what_was_written_into_what_was_brought_back_is_out_of_the_trash() {
    let mut world = World::new(0, 4);
    let [one, other, first, second] = [1, 2, 3, 4].map(|n| NodeId([n; 16]));
    for (folder, name, file) in [(one, "one", first), (other, "other", second)] {
        world.write_all(0, vec![place(folder, NodeId::ROOT, name, NodeKind::Folder)]);
        world.write_all(0, vec![place(file, folder, "file", NodeKind::File), content(file, 1, &[])]);
    }
    world.meet_all();
    world.write_all(3, vec![Op::Trash(Trash { node: one })]);
    world.write_all(3, vec![Op::Trash(Trash { node: other })]);
    world.meet(3, 1);
    world.write_all(1, vec![place(first, NodeId::ROOT, "out", NodeKind::File)]);
    world.write_all(1, vec![place(other, NodeId::ROOT, "back", NodeKind::Folder)]);
    world.meet(1, 2);
    world.write_all(2, vec![content(first, 5, &[])]);
    world.write_all(2, vec![content(second, 6, &[]), place(second, other, "named", NodeKind::File)]);
    end_it(&mut world);
    assert!(world.shown(0).is_empty());
    rescue_all(&mut world);
    let shown = world.shown(0);
    let names: Vec<&String> = shown.keys().collect();
    assert_eq!(names, ["file", "named"]);
    assert!(shown["file"].contains(&5) && shown["named"].contains(&6));
}
