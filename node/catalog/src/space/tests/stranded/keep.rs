//! Goal: what stood on an ended device and was replaced or deleted afterwards is in the history of its file or in the trash,
//! nothing of it comes back that somebody deleted who knew of it, and nothing stays away that nobody deleted.
//! Method: single cases, by hand.

use std::collections::BTreeMap;

use locker_crypto::file_ref::FileRef;
use locker_crypto::id::NodeId;

use super::super::again::{PERSON, World, key, place};
use super::{content, end_it, rescue_all, rescue_all_but_kept, with_a_file};
use crate::operation::{Keep, NodeKind, Op, Trash, version_id};
use crate::order::{EntryOrder, OpOrder};
use crate::tree::{self, Happened, Turn};

/// Two that do it at once, of a file with a chain of contents: it lies in the trash once, with the last one, and the one
/// before is in its history. Taken out of there by one of them meanwhile, it stays out.
#[test]
fn what_several_keep_at_once_is_there_once() {
    for is_restored in [false, true] {
        let (mut world, _, _) = with_a_file();
        let (folder, file) = (NodeId([1; 16]), NodeId([3; 16]));
        let first = world.next_op(2, 1);
        world.write_all(2, vec![place(file, folder, "a", NodeKind::File), content(file, 2, &[])]);
        world.write_all(2, vec![content(file, 3, &[first])]);
        world.write_all(2, vec![Op::Trash(Trash { node: file })]);
        end_it(&mut world);
        for home in [0, 2, 3] {
            assert!(world.rescue(home, false, 1));
            assert!(world.rescue(home, false, 100));
        }
        if is_restored {
            world.write_all(3, vec![place(file, NodeId::ROOT, "back", NodeKind::File)]);
        }
        world.meet_all();
        rescue_all(&mut world);
        let shown = world.shown(0);
        let expected = if is_restored { Some(&vec![3]) } else { None };
        assert_eq!(shown.get("back"), expected, "{shown:?}");
        assert!(!shown.contains_key("folder/a"), "{shown:?}");
        let found = tree::node(&world.homes[0].rows, file).unwrap().unwrap();
        assert_eq!(found.versions.iter().map(|version| version.mtime_ms).collect::<Vec<_>>(), [3]);
        assert_eq!(found.trashed.is_none(), is_restored);
        world.ledger.written.insert(2, file);
        assert!(world.was_held(2));
    }
}

/// Two authors of one file that a third one deleted, each of whom keeps what he wrote while they are apart.
#[test]
fn what_was_deleted_stays_deleted_however_many_keep_it() {
    for first in [2, 3] {
        let (mut world, _, file) = with_a_file();
        let before = world.next_op(2, 0);
        world.write_all(2, vec![content(file, 2, &[])]);
        world.meet(2, 3);
        world.write_all(3, vec![content(file, 3, &[before])]);
        world.meet(2, 3);
        world.write_all(2, vec![Op::Trash(Trash { node: file })]);
        end_it(&mut world);
        for (home, own_only) in [(first, true), (5 - first, true), (2, false), (3, false), (0, false)] {
            world.rescue(home, own_only, 100);
        }
        world.meet_all();
        rescue_all(&mut world);
        assert!(world.shown(0).is_empty(), "{:?}", world.shown(0));
        let found = tree::node(&world.homes[0].rows, file).unwrap().unwrap();
        assert_eq!(found.versions.iter().map(|version| version.mtime_ms).collect::<Vec<_>>(), [3]);
        world.ledger.written.insert(2, file);
        assert!(world.was_held(2));
    }
}

/// Whoever deleted it is ended too, by somebody who had not heard of that: it comes back.
#[test]
fn what_was_kept_comes_back_when_nobody_deleted_it_any_more() {
    let (mut world, _, file) = with_a_file();
    world.write_all(2, vec![content(file, 2, &[])]);
    world.meet(2, 3);
    world.write_all(3, vec![Op::Trash(Trash { node: file })]);
    world.meet(3, 2);
    assert_eq!(world.end(4, key(2)), Some(0));
    world.meet(4, 2);
    assert!(world.rescue(2, true, 100));
    assert!(tree::node(&world.homes[2].rows, file).unwrap().unwrap().trashed.is_some());
    assert_eq!(world.end(0, key(4)), Some(0));
    world.meet_all();
    rescue_all(&mut world);
    let expected = [("folder".to_owned(), vec![]), ("folder/file".to_owned(), vec![2])];
    assert_eq!(world.shown(0), BTreeMap::from(expected));
}

/// Somebody had taken it out of the trash again, into a folder that is there or into one that is not.
#[test]
fn what_was_kept_comes_back_when_somebody_restored_it() {
    for (is_there, is_late) in [(true, false), (false, false), (true, true), (false, true)] {
        let (mut world, folder, file) = with_a_file();
        world.write_all(2, vec![content(file, 2, &[])]);
        world.write_all(2, vec![Op::Trash(Trash { node: file })]);
        world.meet(2, 3);
        let parent = if is_there { NodeId::ROOT } else { folder };
        let restore = vec![place(file, parent, "back", NodeKind::File)];
        if !is_late {
            world.write_all(3, restore.clone());
        }
        assert_eq!(world.end(0, key(2)), Some(0));
        world.meet(0, 2);
        assert!(world.rescue(2, true, 100));
        if is_late {
            world.write_all(3, restore);
        }
        assert!(tree::node(&world.homes[2].rows, file).unwrap().unwrap().trashed.is_some());
        world.meet_all();
        world.meet_all();
        rescue_all(&mut world);
        let path = if is_there { "back" } else { "folder/back" };
        assert_eq!(world.shown(0).get(path), Some(&vec![2]), "{:?}", world.shown(0));
    }
}

/// With the folder in which it was, into which somebody else wrote who had not heard of that: what he wrote is there, in the
/// folder over it, and what was deleted stays in the trash.
#[test]
fn what_was_deleted_with_its_folder_does_not_come_back_with_another_file() {
    let (mut world, folder, file) = with_a_file();
    let other = NodeId([3; 16]);
    world.write_all(1, vec![place(other, folder, "other", NodeKind::File), content(other, 4, &[])]);
    world.meet(1, 2);
    world.meet(1, 3);
    world.write_all(2, vec![content(file, 2, &[])]);
    world.write_all(2, vec![Op::Trash(Trash { node: folder })]);
    world.write_all(3, vec![content(other, 5, &[])]);
    end_it(&mut world);
    rescue_all(&mut world);
    assert_eq!(world.shown(0), BTreeMap::from([("other".to_owned(), vec![5])]));
    let found = tree::node(&world.homes[0].rows, file).unwrap().unwrap();
    assert!(found.trashed.is_some() && found.versions.len() == 1);
}

/// Whoever restores and deletes again what is kept elsewhere meanwhile has deleted it.
#[test]
fn what_is_kept_elsewhere_can_be_deleted_again() {
    let (mut world, _, file) = with_a_file();
    world.write_all(2, vec![content(file, 2, &[])]);
    world.write_all(2, vec![Op::Trash(Trash { node: file })]);
    assert_eq!(world.end(0, key(2)), Some(0));
    world.meet(0, 2);
    world.meet(0, 3);
    assert!(world.rescue(2, false, 100));
    assert!(world.rescue(3, false, 100));
    for home in [2, 3] {
        world.write_all(home, vec![place(file, NodeId::ROOT, "back", NodeKind::File)]);
        world.write_all(home, vec![Op::Trash(Trash { node: file })]);
    }
    world.meet_all();
    rescue_all(&mut world);
    assert!(world.shown(0).is_empty(), "{:?}", world.shown(0));
}

/// A chain of contents whose first one is kept before the others are heard of, which nobody deleted who knew them.
#[test]
fn what_was_replaced_is_not_beside_what_did_it() {
    let (mut world, _, file) = with_a_file();
    let first = world.next_op(2, 0);
    world.write_all(2, vec![content(file, 2, &[])]);
    world.meet(2, 3);
    world.write_all(2, vec![Op::Trash(Trash { node: file })]);
    let second = world.next_op(3, 0);
    world.write_all(3, vec![content(file, 3, &[first])]);
    world.write_all(3, vec![content(file, 4, &[second])]);
    assert_eq!(world.end(0, key(2)), Some(0));
    world.meet(0, 2);
    assert!(world.rescue(2, true, 100));
    world.meet_all();
    rescue_all(&mut world);
    let expected = [("folder".to_owned(), vec![]), ("folder/file".to_owned(), vec![4])];
    assert_eq!(world.shown(0), BTreeMap::from(expected));
    for time in [2, 3] {
        world.ledger.written.insert(time, file);
        assert!(world.was_held(time));
    }
}

/// What could not be written, since there is no room, is not taken for deleted.
#[test]
fn what_somebody_wants_and_cannot_have_yet_is_not_put_into_the_trash() {
    let (mut world, _, file) = with_a_file();
    let first = world.next_op(2, 0);
    world.write_all(2, vec![content(file, 2, &[])]);
    world.write_all(2, vec![content(file, 3, &[first])]);
    end_it(&mut world);
    let last = OpOrder { entry: EntryOrder { seq: first.entry.seq + 1, ..first.entry }, index: 0 };
    let is_last = |at: &OpOrder| (at.entry.author, at.entry.seq) == (last.entry.author, last.entry.seq);
    let turn = Turn { is_due: &|_| true, is_left: &is_last, is_kept: &|_| false, most: 9, since: 0 };
    assert_eq!(world.space(0).rescue(&world.homes[0].rows, &PERSON, &turn).unwrap(), []);
}

/// One who gives something else the id of a version hides it from nobody.
#[test]
fn what_was_kept_under_the_id_of_another_one_stands_for_nothing() {
    let (mut world, _, file) = with_a_file();
    let first = world.next_op(2, 0);
    world.write_all(2, vec![content(file, 2, &[])]);
    world.write_all(2, vec![content(file, 3, &[first])]);
    end_it(&mut world);
    for (vid, mtime_ms) in [
        (version_id(&first), 8),
        (version_id(&OpOrder { entry: EntryOrder { seq: first.entry.seq + 1, ..first.entry }, index: 0 }), 9),
    ] {
        let (parent, name, empty) = (NodeId::ROOT, "forged".to_owned(), FileRef::empty());
        world.write_all(
            3,
            vec![Op::Keep(Keep { node: file, parent, name, vid, file: empty, mtime_ms, exec: false })],
        );
    }
    world.write_all(3, vec![place(file, NodeId::ROOT, "forged", NodeKind::File)]);
    world.meet_all();
    rescue_all(&mut world);
    assert!(world.shown(0)["forged"].contains(&3), "{:?}", world.shown(0));
    world.ledger.written.insert(2, file);
    assert!(world.was_held(2));
    let history = tree::history(&world.homes[0].rows, file).unwrap();
    let kept = history
        .iter()
        .filter(|event| matches!(&event.what, Happened::Kept { version } if version.mtime_ms == 2));
    assert_eq!(kept.count(), 1);
}

/// What was replaced longer ago than anything is kept is nowhere any more.
#[test]
fn what_was_replaced_long_ago_is_not_kept() {
    let (mut world, _, file) = with_a_file();
    let first = world.next_op(2, 0);
    world.write_all(2, vec![content(file, 2, &[])]);
    let replaced = world.next_op(2, 0);
    world.write_all(2, vec![content(file, 3, &[first])]);
    end_it(&mut world);
    rescue_all_but_kept(&mut world);
    let plan = |since| {
        let turn = Turn { is_due: &|_| true, is_left: &|_| false, is_kept: &|_| false, most: 9, since };
        world.space(0).rescue(&world.homes[0].rows, &PERSON, &turn).unwrap()
    };
    let by =
        world.homes[0].held.values().find(|entry| entry.author == key(3) && entry.seq == replaced.entry.seq);
    let hlc = by.unwrap().body.hlc;
    let kept: Vec<_> = plan(hlc).into_iter().flat_map(|(_, ops)| ops).collect();
    assert!(matches!(&kept[..], [Op::Keep(keep)] if keep.mtime_ms == 2), "{kept:?}");
    assert_eq!(plan(hlc + 1), []);
}

/// One who had not heard that it was deleted went on with it: it is there, with all that was written into it.
#[test]
fn what_somebody_deleted_and_another_one_wants_is_there() {
    let (mut world, _, file) = with_a_file();
    world.write_all(2, vec![content(file, 2, &[])]);
    world.meet(2, 3);
    world.write_all(2, vec![Op::Trash(Trash { node: file })]);
    world.write_all(3, vec![content(file, 3, &[])]);
    end_it(&mut world);
    rescue_all(&mut world);
    let expected = [("folder".to_owned(), vec![]), ("folder/file".to_owned(), vec![2, 3])];
    let mut shown = world.shown(0);
    shown.values_mut().for_each(|times| times.sort_unstable());
    assert_eq!(shown, BTreeMap::from(expected));
}

/// Whoever trashed what somebody had seen wanted it gone, with all that was in it: that is to be had from the trash.
#[test]
fn what_was_trashed_afterwards_goes_to_the_trash() {
    let mut world = World::new(0, 3);
    let [folder, file, other] = [1, 2, 3].map(|n| NodeId([n; 16]));
    world.write_all(1, vec![place(folder, NodeId::ROOT, "folder", NodeKind::Folder)]);
    world.meet(1, 2);
    world.write_all(2, vec![place(file, folder, "a", NodeKind::File), content(file, 1, &[])]);
    world.write_all(2, vec![Op::Trash(Trash { node: folder })]);
    world.write_all(2, vec![place(other, NodeId::ROOT, "b", NodeKind::File), content(other, 2, &[])]);
    assert_eq!(world.end(0, key(2)), Some(0));
    world.meet_all();
    assert!(world.rescue(2, true, 100));
    world.meet_all();
    for home in 0..3 {
        assert_eq!(world.shown(home), BTreeMap::from([("b".to_owned(), vec![2])]));
        let trash = tree::trash_list(&world.homes[home].rows, None, 10).unwrap();
        let [trashed] = &trash[..] else { panic!("{trash:?}") };
        let held: Vec<_> = trashed.node.versions.iter().map(|version| version.mtime_ms).collect();
        assert_eq!((trashed.node.id, trashed.node.name.as_str(), held), (file, "a", vec![1]));
        assert!(!world.rescue(home, false, 100), "nothing is left to do");
    }
}
