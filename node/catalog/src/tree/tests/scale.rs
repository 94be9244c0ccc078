//! Late entries among many: a device that was away comes back to a locker of 20,000 files.

use super::*;

const FILES: u64 = 20_000;
/// Of ordinary folders.
const FOLDER_FILES: u64 = 50;
/// The folder with a tenth of all files.
const BIG: u64 = 0;

fn node_of(what: u8, number: u64) -> NodeId {
    let mut bytes = [what; NodeId::LEN];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    NodeId(bytes)
}

fn folder(number: u64) -> NodeId {
    node_of(1, number)
}

fn nth(number: u64) -> NodeId {
    node_of(2, number)
}

fn made(number: u64) -> Vec<Op> {
    let parent = folder(if number.is_multiple_of(10) { BIG } else { 1 + number / FOLDER_FILES });
    vec![
        place(nth(number), parent, &format!("file {number}"), 0),
        content(nth(number), vec![], &format!("{number}")),
    ]
}

/// What one device makes, file by file; at the end it gives the big folder another name.
fn at_home() -> Vec<TreeEntry> {
    let folders =
        (0..=FILES / FOLDER_FILES + 1).map(|n| place(folder(n), NodeId::ROOT, &format!("folder {n}"), 1));
    let mut entries = vec![entry(1, 1, 0, &[], folders.collect())];
    entries.extend((0..FILES).map(|n| entry(10 + 10 * n, 1, 1 + n, &[], made(n))));
    let rename = vec![place(folder(BIG), NodeId::ROOT, "inbox", 1)];
    entries.push(entry(20 + 10 * FILES, 1, 1 + FILES, &[], rename));
    entries
}

/// What the other one did meanwhile, knowing the first half: new files, edits, moves and deletions.
fn away(entries: &[TreeEntry]) -> Vec<TreeEntry> {
    let half = FILES / 2;
    let op = |n: u64| {
        let known = n * 7 % half;
        match n % 5 {
            0 | 1 => {
                let new = node_of(3, n);
                let parent = folder(if n.is_multiple_of(2) { BIG } else { 1 + n % 100 });
                vec![place(new, parent, &format!("late {n}"), 0), content(new, vec![], "late")]
            }
            2 => {
                let bases = vec![vid(&entries[usize::try_from(1 + known).unwrap()], 1)];
                vec![content(nth(known), bases, "edited")]
            }
            3 => vec![place(nth(known), folder(1 + n % 100), &format!("moved {n}"), 0)],
            _ => vec![trash(nth(known))],
        }
    };
    (0..1_000).map(|n| entry(15 + 10 * (half + n), 2, n, &[(1, half)], op(n))).collect()
}

/// Goal: 1,000 late entries, all in one batch and one by one, give the state that replay from empty gives. Method: the
/// same entries in total order, in one go.
#[test]
fn a_thousand_late_entries_among_twenty_thousand_equal_a_replay() {
    let home = at_home();
    let away = away(&home);
    let mut all = [home.clone(), away.clone()].concat();
    all.sort_by_key(|entry| entry.order);
    let counted = Entries(all.iter().map(|entry| (entry.order, entry.clone())).collect());
    let mut replayed = MemoryRows::new();
    apply_all(&mut replayed, &counted, &all).unwrap();
    let expected = state_hash(&replayed).unwrap();

    let mut before = MemoryRows::new();
    apply_all(&mut before, &counted, &home).unwrap();
    assert_ne!(state_hash(&before).unwrap(), expected);
    let mut batch = before.clone();
    apply_all(&mut batch, &counted, &away).unwrap();
    assert_eq!(state_hash(&batch).unwrap(), expected);
    for late in &away {
        apply(&mut before, &counted, late).unwrap();
    }
    assert_eq!(state_hash(&before).unwrap(), expected);
    for rows in [&batch, &before] {
        assert_eq!(counts(rows).unwrap(), counts(&replayed).unwrap());
        assert_eq!(problems(rows).unwrap(), problems(&replayed).unwrap());
        let inside = |rows| count_children(rows, folder(BIG)).unwrap();
        assert_eq!(inside(rows), inside(&replayed));
    }
    assert_eq!(counts(&batch).unwrap().nodes, FILES + 400 + FILES / FOLDER_FILES + 2);
}
