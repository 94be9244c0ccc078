//! Which late entries are applied where they lie, and which begin a replay: in a locker with a million files the second
//! costs minutes where the first costs milliseconds.

use super::super::apply::{Outcome, apply_entry};
use super::super::limits::REPLAY;
use super::*;

/// Folder 1 with folder 2, in which file 6 lies; beside it folder 3.
fn base() -> TreeEntry {
    let ops = vec![
        place(id(1), NodeId::ROOT, "a", 1),
        place(id(2), id(1), "b", 1),
        place(id(3), NodeId::ROOT, "c", 1),
        place(id(6), id(2), "x", 0),
        content(id(6), vec![], "x1"),
    ];
    entry(10, 1, 0, &[], ops)
}

/// What it is; what was done later; the late one; whether it is applied in place.
type Case = (&'static str, Vec<Vec<Op>>, Vec<Op>, bool);

/// Goal: what late devices do most is applied in place, and what is applied in place is what a replay gives. Method: each
/// late operation (at 20) against what was done elsewhere before it came (from 30 on); the outcome is looked at, and the
/// state compared with that of the entries in total order.
#[test]
fn names_of_folders_do_not_stand_in_the_way_of_late_entries() {
    let create = |parent| vec![place(id(9), parent, "new", 0), content(id(9), vec![], "new")];
    let (rename, into) = (|| place(id(1), NodeId::ROOT, "z", 1), |parent| place(id(1), parent, "a", 1));
    let cases: [Case; 12] = [
        ("a new file, a folder over it was renamed", vec![vec![rename()]], create(id(2)), true),
        (
            "a new file, its folder was renamed twice",
            vec![vec![rename()], vec![into(NodeId::ROOT)]],
            create(id(1)),
            true,
        ),
        (
            "an edit, a folder over it was renamed",
            vec![vec![rename()]],
            vec![content(id(6), vec![], "x2")],
            true,
        ),
        ("a move into a renamed folder", vec![vec![rename()]], vec![place(id(6), id(1), "x", 0)], true),
        ("a trash below a renamed folder", vec![vec![rename()]], vec![trash(id(6))], true),
        ("a rename, something was made below", vec![vec![place(id(8), id(2), "y", 0)]], vec![rename()], true),
        (
            "a rename, it was renamed again",
            vec![vec![place(id(1), NodeId::ROOT, "y", 1)]],
            vec![rename()],
            false,
        ),
        ("a new file, a folder over it was moved", vec![vec![into(id(3))]], create(id(2)), false),
        (
            "a new file, a folder over it was moved and is back under another name",
            vec![vec![into(id(3))], vec![rename()]],
            create(id(2)),
            false,
        ),
        (
            "a new file, a folder over it was in the trash for a while",
            vec![vec![trash(id(1))], vec![into(NodeId::ROOT)]],
            create(id(2)),
            false,
        ),
        (
            "a new file in a folder that was made later",
            vec![vec![place(id(4), id(1), "d", 1)]],
            create(id(4)),
            false,
        ),
        (
            "a move, something was made below",
            vec![vec![place(id(8), id(2), "y", 0)]],
            vec![into(id(3))],
            false,
        ),
    ];
    for (what, later, late, in_place) in cases {
        let mut entries = vec![base()];
        for (n, ops) in (0..).zip(later) {
            entries.push(entry(30 + n, 1, 1 + n, &[], ops));
        }
        let late = entry(20, 2, 0, &[(1, 0)], late);
        let before = deliver(&entries);
        let outcome = apply_entry(&mut before.clone(), &late, &REPLAY, true).unwrap();
        assert_eq!(matches!(outcome, Outcome::Applied), in_place, "{what}");
        let come = deliver(&[entries.clone(), vec![late.clone()]].concat());
        entries.push(late);
        entries.sort_by_key(|entry| entry.order);
        assert_eq!(state_hash(&come).unwrap(), state_hash(&deliver(&entries)).unwrap(), "{what}");
    }
}
