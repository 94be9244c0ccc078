//! Damage on one device, healed from another (`docs/spec/08-at-rest.md`, "Healing").

use std::path::PathBuf;
use std::time::Duration;

use locker_tests::files::{flip, write, write_big};
use locker_tests::wait::wait_for;
use locker_tests::{Dice, Home, Meeting, Tree, Up};
use serde_json::Value;

/// A locker with several packs of different sizes, on so many devices, all of them stopped; and where its content was.
fn devices<const N: usize>(dice: &mut Dice) -> (Meeting, [Home; N], PathBuf) {
    let meeting = Meeting::start();
    let first = Home::new();
    let source = first.beside("source");
    write_big(&source.join("long.bin"), 20_000_000, dice);
    write_big(&source.join("solid.bin"), 5_000_000, dice);
    for n in 0..6 {
        let len = 10_000 + usize::try_from(dice.below(200_000)).unwrap();
        write(&source.join(format!("small {n}.bin")), &dice.bytes(len));
        first.ok(["add".as_ref(), source.as_os_str()]);
    }
    let up = Up::start(&first, &["--bootstrap", meeting.address()]);
    let mut homes = vec![first];
    for n in 1..N {
        let home = Home::empty();
        homes[0].pair_with(&home, &meeting, &format!("device {n}"));
        let other = Up::start(&home, &[]);
        home.wait_synced();
        other.stop().ok();
        homes.push(home);
    }
    up.stop().ok();
    assert!(homes.iter().all(|home| home.packs().len() == homes[0].packs().len()));
    let homes = homes.try_into().unwrap_or_else(|_| panic!("another number"));
    (meeting, homes, source)
}

/// The bytes of all pack files, by their names.
fn packs(home: &Home) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let packs = home.packs().into_iter();
    packs.map(|path| (path.file_name().unwrap().to_owned(), std::fs::read(path).unwrap())).collect()
}

fn is_damaged(home: &Home) -> bool {
    home.json(["status"])["scrub"]["bad"] != 0
}

#[track_caller]
fn assert_whole(home: &Home, source: &std::path::Path) {
    let verified = home.json(["verify"]);
    assert_eq!(
        (&verified["bad"], &verified["complete"]),
        (&Value::from(0), &Value::from(true)),
        "{verified}"
    );
    let out = home.beside("out");
    let _ = std::fs::remove_dir_all(&out);
    home.ok(["get".as_ref(), "source".as_ref(), "--to".as_ref(), out.as_os_str()]);
    Tree::of(source).assert_same(&Tree::of(&out));
}

/// Goal: whatever happened to packs, `verify --repair` brings back each byte of them from another device and changes
/// nothing else. Method: one pack each is cut, emptied, gone, another one, turned in a bit of its content, of its outboard;
/// with the node of the damaged device running, and without.
#[test]
fn verify_repair_brings_every_damaged_pack_back_from_another_device() {
    let mut dice = Dice::of("verify_repair_brings_every_damaged_pack_back_from_another_device");
    let (_meeting, [a, b], source) = devices(&mut dice);
    let up_b = Up::start(&b, &[]);
    let state = a.json(["status"])["state_hash"].clone();
    let good = packs(&a);
    for with_node in [false, true] {
        let paths = a.packs();
        assert!(paths.len() >= 7, "{paths:?}");
        let len = |at: usize| std::fs::metadata(&paths[at]).unwrap().len();
        let cut = |at: usize, to: u64| {
            std::fs::File::options().write(true).open(&paths[at]).unwrap().set_len(to).unwrap();
        };
        cut(0, len(0) / 2);
        cut(1, 0);
        std::fs::remove_file(&paths[2]).unwrap();
        std::fs::write(&paths[3], &good[4].1).unwrap();
        flip(&paths[4], dice.below(len(4) / 2));
        flip(&paths[5], len(5) - 1);
        cut(6, len(6) + 1);
        let up_a = with_node.then(|| Up::start(&a, &[]));
        let repaired = a.json(["verify", "--repair"]);
        assert_eq!(
            (&repaired["bad"], &repaired["repaired"], &repaired["complete"]),
            (&Value::from(7), &Value::from(7), &Value::from(true)),
            "{repaired}"
        );
        assert_eq!(repaired["damaged_files"], Value::from(Vec::<String>::new()));
        assert!(packs(&a) == good, "not every byte is as before");
        assert_whole(&a, &source);
        assert_eq!(a.json(["status"])["state_hash"], state, "healing made a new version");
        if let Some(up) = up_a {
            up.stop().ok();
        }
    }
    up_b.stop().ok();
}

/// Goal: as long as one replica is good everything is healed, and as long as none is that is said in plain words, with
/// the files; when a good one comes, a running node heals by itself. Method: the same group of every pack is damaged on
/// two of three devices; the third stays away at first.
#[test]
fn all_is_healed_when_one_good_replica_comes_and_nothing_is_claimed_before() {
    let mut dice = Dice::of("all_is_healed_when_one_good_replica_comes_and_nothing_is_claimed_before");
    let (_meeting, [a, b, c], source) = devices(&mut dice);
    let good = packs(&a);
    for ((path_a, path_b), (_, bytes)) in a.packs().iter().zip(b.packs()).zip(&good) {
        // Of every pack the first group holds content.
        let group = u64::try_from(bytes.len()).unwrap().min(16_384);
        flip(path_a, dice.below(group.min(4_096)));
        flip(&path_b, dice.below(group.min(4_096)));
    }
    let up_b = Up::start(&b, &[]);
    let told = a.run_json(["verify", "--repair"]);
    assert_eq!(told.code(), Some(7), "{told:?}");
    let verified = told.json();
    assert_eq!(verified["repaired"], 0, "{verified}");
    let problems = verified["problems"].as_array().unwrap();
    let named = problems.iter().filter(|problem| {
        problem["message"].as_str().unwrap().contains("the other device that was reached does not have it")
    });
    assert_eq!(named.count(), good.len(), "{verified}");
    assert!(!verified["damaged_files"].as_array().unwrap().is_empty(), "{verified}");
    // Whoever was asked for what it does not have has noticed that too.
    wait_for("the other device to know of its damage", Duration::from_secs(30), || {
        is_damaged(&b).then_some(())
    });
    let up_a = Up::start(&a, &[]);
    let up_c = Up::start(&c, &[]);
    for home in [&a, &b] {
        wait_for("everything to be healed", Duration::from_secs(150), || {
            home.run_json(["verify"]);
            (!is_damaged(home)).then_some(())
        });
        assert!(packs(home) == good, "not every byte is as before");
        assert_whole(home, &source);
    }
    for up in [up_a, up_b, up_c] {
        up.stop().ok();
    }
}

/// Goal: without anybody there, it is said that nobody was reached; what is right in a damaged pack is given out all the
/// same; and a read of the rest on a running node is enough to have it healed later.
#[test]
fn nobody_there_is_said_and_a_read_is_enough_to_have_it_healed() {
    let mut dice = Dice::of("nobody_there_is_said_and_a_read_is_enough_to_have_it_healed");
    let (_meeting, [a, b], source) = devices(&mut dice);
    let good = packs(&a);
    let big = a.packs().into_iter().max_by_key(|path| std::fs::metadata(path).unwrap().len()).unwrap();
    flip(&big, 5_000_000);
    let told = a.run_json(["verify", "--repair"]);
    assert_eq!(told.code(), Some(7), "{told:?}");
    let verified = told.json();
    assert_eq!(verified["damaged_files"], Value::from(vec!["source/long.bin"]), "{verified}");
    assert!(verified.to_string().contains("no other device was reached that could have it"), "{verified}");
    let long = std::fs::read(source.join("long.bin")).unwrap();
    let parts =
        ["0", "19000000"].map(|at| a.run(["cat", "source/long.bin", "--offset", at, "--length", "900000"]));
    let expected = [&long[..900_000], &long[19_000_000..19_900_000]];
    let good_parts =
        parts.iter().zip(expected).filter(|(part, expected)| part.out == *expected && part.code() == Some(0));
    assert_eq!(good_parts.count(), 2, "{parts:?}");
    let (up_a, up_b) = (Up::start(&a, &[]), Up::start(&b, &[]));
    let healed = |home: &Home| {
        wait_for("a node to heal itself", Duration::from_secs(150), || {
            (packs(home) == good && !is_damaged(home)).then_some(())
        });
        assert_whole(home, &source);
    };
    healed(&a);
    // The other one meets damage when it reads, and gives what the first one has instead.
    let big_b = b.packs().into_iter().find(|path| path.file_name() == big.file_name()).unwrap();
    flip(&big_b, 9_000_000);
    assert!(b.ok(["cat", "source/long.bin"]).out == long, "read from the other device");
    healed(&b);
    up_a.stop().ok();
    up_b.stop().ok();
}
