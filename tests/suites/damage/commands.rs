//! Damage in the database, met by every kind of command.

use std::ffi::OsString;

use locker_tests::files::{flip, write};
use locker_tests::{Dice, Home};
use serde_json::Value;

use crate::whole::len;

/// What a command may answer over a damaged database.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    out: Vec<u8>,
}

/// What is the same at each run of a command: not how long it took.
fn told(out: &[u8]) -> Told {
    let Ok(mut value) = serde_json::from_slice::<Value>(out) else { return Told { out: out.to_vec() } };
    if let Some(object) = value.as_object_mut() {
        for changing in ["seconds", "devices", "store_bytes", "scrub", "checked_bytes"] {
            object.remove(changing);
        }
    }
    Told { out: value.to_string().into_bytes() }
}

/// Goal: over a damaged database each command does what it does over a good one, or refuses with exit code 7; none tells
/// something else, whatever page is hit. Method: bits all over a small database are turned, in a fresh copy each; every
/// command that reads is compared with its answer over the good one; those that write must leave a locker that reads the
/// same or refuses.
#[test]
fn every_command_works_right_or_refuses_over_turned_bits_in_the_database() {
    let mut dice = Dice::of("every_command_works_right_or_refuses_over_turned_bits_in_the_database");
    let home = Home::new();
    let source = home.beside("source");
    for n in 0..60 {
        let len = usize::try_from(dice.below(3_000)).unwrap();
        write(&source.join(format!("folder {}/file {n}.txt", n % 7)), &dice.bytes(len));
    }
    home.ok(["add".as_ref(), source.as_os_str()]);
    home.ok(["mv", "source/folder 0", "moved"]);
    home.ok(["rm", "source/folder 1"]);
    home.ok(["mkdir", "empty"]);
    home.json(["share", "moved"]);
    let new = home.beside("new.txt");
    write(&new, b"something new");
    let words = |line: &str| line.split('|').map(OsString::from).collect::<Vec<OsString>>();
    let reading: Vec<Vec<OsString>> = [
        "ls|-R",
        "ls|moved",
        "tree",
        "find|file 1*",
        "cat|moved/file 0.txt",
        "history|source/folder 2/file 2.txt",
        "status",
        "share|ls",
        "device|ls",
        "verify",
    ]
    .map(words)
    .into();
    let mut writing: Vec<Vec<OsString>> =
        ["mkdir|made", "mv|moved|again", "rm|source/folder 3", "restore|source/folder 1"].map(words).into();
    writing.push(vec!["add".into(), new.clone().into_os_string()]);
    let good: Vec<Told> =
        reading.iter().map(|command| told(&home.copied().run_json(command).ok().out)).collect();
    let (mut right, mut refused) = (0, 0);
    let size = len(&home.path().join("locker.redb"));
    for round in 0..120 {
        // The head of the file, then all over it.
        let place = if round < 24 { round * 13 } else { dice.below(size) };
        let copy = home.copied();
        flip(&copy.path().join("locker.redb"), place);
        let mut is_refused = false;
        let at = usize::try_from(round).unwrap();
        // One that writes in the middle of those that read: what it makes of the damage is met by the others.
        let written = &writing[at % writing.len()];
        let before = [at % good.len(), (at + 3) % good.len()];
        for index in before {
            let outcome = copy.run_json(&reading[index]);
            match outcome.code() {
                Some(0) => {
                    assert_eq!(told(&outcome.out), good[index], "byte {place} of {size}: {outcome:?}");
                    right += 1;
                }
                Some(7) => is_refused = true,
                _ => panic!("byte {place} of {size}: {outcome:?}"),
            }
            assert_ne!(outcome.error_name().as_deref(), Some("E_INTERNAL"), "byte {place}: {outcome:?}");
        }
        let outcome = copy.run_json(written);
        assert!(matches!(outcome.code(), Some(0 | 7)), "byte {place} of {size}: {outcome:?}");
        is_refused |= outcome.code() == Some(7);
        let read = copy.run(["cat", "source/folder 2/file 2.txt"]);
        match read.code() {
            Some(0) => assert_eq!(read.out, std::fs::read(source.join("folder 2/file 2.txt")).unwrap()),
            Some(7) => is_refused = true,
            _ => panic!("byte {place} of {size}: {read:?}"),
        }
        refused += u64::from(is_refused);
    }
    eprintln!("{right} answers were right, {refused} of 120 turned bits were noticed");
    assert!(refused >= 20 && right >= 20, "{refused} noticed, {right} right");
}
