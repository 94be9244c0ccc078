//! Kills while room is given back, and giving back beside everything else that writes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use locker_tests::files::write;
use locker_tests::{Dice, Home, Outcome, Up, tree};
use serde_json::Value;

/// One more small pack than are left as they are.
const MANY: usize = 65;

/// Kills in all: `LOCKER_KILLS`, else `default`.
fn kills(default: usize) -> usize {
    std::env::var("LOCKER_KILLS").map_or(default, |number| number.parse().expect("LOCKER_KILLS is a number"))
}

/// Takes many files in one by one, so that each has a pack of its own.
fn scattered(home: &Home, dice: &mut Dice) -> PathBuf {
    let source = home.beside("source");
    let up = Up::start(home, &[]);
    for n in 0..MANY {
        let file = source.join(n.to_string());
        let len = 1_000 + usize::try_from(dice.below(20_000)).unwrap();
        write(&file, &dice.bytes(len));
        home.ok(["add".as_ref(), file.as_os_str()]);
    }
    up.stop().ok();
    assert_eq!(home.packs().len(), MANY);
    source
}

#[track_caller]
fn assert_whole(home: &Home, source: &Path, after: &str) {
    let verified = home.run_json(["verify"]);
    assert_eq!(verified.code(), Some(0), "after {after}: {verified:?}");
    for entry in home.list() {
        let path = source.join(entry["path"].as_str().unwrap());
        assert_eq!(entry["b3"], tree::hash(&path).to_hex().as_str(), "after {after}");
    }
}

/// Goal: a `gc` that is killed at any of its steps loses nothing and leaves nothing behind that the next one does not put
/// right. Method: 65 small packs, and a kill at each step at each of its first hits.
#[test]
fn killed_while_room_is_given_back() {
    let whole = Home::new();
    let source = scattered(&whole, &mut Dice::of("killed while room is given back"));
    let points = [
        "pack-temp-created",
        "pack-written",
        "pack-synced",
        "pack-renamed",
        "pack-dir-synced",
        "db-before-commit",
        "db-written",
        "db-after-commit",
        "delete-unpinned",
        "delete-marked",
        "delete-unlinked",
        "delete-dir-synced",
    ];
    let mut count = 0;
    for point in points {
        let mut hits = 0;
        for skipped in 0..8 {
            let home = whole.copied();
            let what = format!("{point}, hit {}", skipped + 1);
            let outcome = home.start(["gc"], &format!("{point}={skipped}*off->return(kill)")).finish();
            if !outcome.was_killed() {
                assert_eq!(outcome.code(), Some(0), "{what}: {outcome:?}");
                break;
            }
            hits += 1;
            assert_whole(&home, &source, &what);
            let told = home.json(["gc"]);
            assert_eq!(told["complete"], true, "{what}: {told}");
            assert_eq!(home.packs().len(), 1, "{what}");
            assert_whole(&home, &source, &format!("{what}, and another `gc`"));
            // What is taken in again is known.
            home.ok(["add".as_ref(), source.as_os_str()]);
            assert_eq!(home.packs().len(), 1, "{what}");
        }
        assert!(hits > 0, "{point} was not reached: is this binary built with failpoints? (`cargo lab`)");
        count += hits;
    }
    eprintln!("{count} kills");
}

/// Goal: rule G5. A disk that fails at any step of a `gc` gives a clear error; nothing is lost, and the next one goes on.
#[test]
fn a_disk_that_fails_while_room_is_given_back() {
    let whole = Home::new();
    let source = scattered(&whole, &mut Dice::of("a disk that fails while room is given back"));
    for point in ["pack-written", "pack-dir-synced", "delete-unpinned", "delete-marked", "delete-unlinked"] {
        let home = whole.copied();
        let mut command = home.command(["--json", "gc"]);
        command.env("FAILPOINTS", format!("{point}=1*return(eio)"));
        let failed = Outcome::of(command);
        assert_eq!(failed.code(), Some(1), "{point}: {failed:?}");
        assert_whole(&home, &source, point);
        assert_eq!(home.json(["gc"])["complete"], true, "{point}");
        assert_eq!(home.packs().len(), 1, "{point}");
        assert_whole(&home, &source, point);
    }
}

/// What was done to a locker and acknowledged: what is there, and what is in the trash, by path, with its BLAKE3.
#[derive(Default)]
struct Known {
    live: BTreeMap<String, String>,
    trash: BTreeMap<String, String>,
    /// Told to be done, but the answer did not come: it may be the one or the other.
    unsure: BTreeMap<String, String>,
}

/// Goal: `gc` beside `add`, `rm` and `restore` in one running node, which is killed at random: nothing that counts is ever
/// missing, what is in the trash can be brought back, and at rest nothing is stored that is not needed. Method: random
/// commands from two sides; a kill, a new start, a check.
#[test]
fn room_is_given_back_beside_everything_else() {
    let mut dice = Dice::of("room is given back beside everything else");
    let home = Home::new();
    let mut known = Known::default();
    let rounds = kills(6).div_ceil(3).min(200);
    let mut number = 0;
    for round in 0..rounds {
        let up = Up::start(&home, &[]);
        let start = Instant::now();
        let life = Duration::from_millis(600 + dice.below(2_500));
        let killed = std::thread::scope(|scope| {
            let collector = scope.spawn(|| {
                let mut passes = 0;
                while start.elapsed() < life {
                    passes += usize::from(home.run(["gc"]).code() == Some(0));
                }
                passes
            });
            while start.elapsed() < life {
                step(&home, &mut dice, &mut known, &mut number);
            }
            let killed = up.kill();
            eprintln!("round {round}: {} passes", collector.join().unwrap());
            killed
        });
        assert!(killed.was_killed(), "{killed:?}");
        check(&home, &mut known, &format!("round {round}"));
    }
    let told = home.json(["gc"]);
    let bytes = |name: &str| told[name].as_u64().unwrap();
    assert_eq!(told["complete"], true, "{told}");
    let needed = bytes("live_bytes") + bytes("recent_bytes");
    assert!(bytes("garbage_bytes") * 100 <= needed, "{told}");
    // What lies in the trash comes back whole.
    for (path, hash) in std::mem::take(&mut known.trash) {
        home.ok(["restore", &path]);
        known.live.insert(path, hash);
    }
    check(&home, &mut known, "everything is brought back");
}

fn step(home: &Home, dice: &mut Dice, known: &mut Known, number: &mut u64) {
    let some = |map: &BTreeMap<String, String>, dice: &mut Dice| {
        let at = usize::try_from(dice.below(map.len().max(1) as u64)).unwrap();
        map.iter().nth(at).map(|(path, hash)| (path.clone(), hash.clone()))
    };
    match dice.below(6) {
        0..=2 => {
            let path = format!("{number}");
            *number += 1;
            let file = home.beside("files").join(&path);
            // Now and then what was there before under another name.
            let seed = if dice.below(4) == 0 { dice.below(*number) } else { *number };
            let len = 1_000 + usize::try_from(seed % 50_000).unwrap();
            write(&file, &Dice::new("content", seed).bytes(len));
            let hash = tree::hash(&file).to_hex().to_string();
            let done = home.run(["add".as_ref(), file.as_os_str()]).code() == Some(0);
            let place = if done { &mut known.live } else { &mut known.unsure };
            place.insert(path, hash);
        }
        3..=4 => {
            if let Some((path, hash)) = some(&known.live, dice) {
                known.live.remove(&path);
                let done = home.run(["rm", &path]).code() == Some(0);
                let place = if done { &mut known.trash } else { &mut known.unsure };
                place.insert(path, hash);
            }
        }
        _ => {
            if let Some((path, hash)) = some(&known.trash, dice) {
                known.trash.remove(&path);
                let done = home.run(["restore", &path]).code() == Some(0);
                let place = if done { &mut known.live } else { &mut known.unsure };
                place.insert(path, hash);
            }
        }
    }
}

#[track_caller]
fn check(home: &Home, known: &mut Known, after: &str) {
    let verified = home.run_json(["verify"]);
    assert_eq!(verified.code(), Some(0), "after {after}: {verified:?}");
    let listed: BTreeMap<String, String> = home
        .list()
        .iter()
        .map(|entry: &Value| (entry["path"].as_str().unwrap().into(), entry["b3"].as_str().unwrap().into()))
        .collect();
    for (path, hash) in std::mem::take(&mut known.unsure) {
        if listed.get(&path) == Some(&hash) {
            known.live.insert(path, hash);
        } else if home.run(["history", &path]).code() == Some(0) {
            known.trash.insert(path, hash);
        }
    }
    assert_eq!(listed, known.live, "after {after}");
}
