//! Content and edits on their way from one device to the other.

use locker_tests::files::{nasty_tree, write, write_big};
use locker_tests::wait::wait_for;
use locker_tests::{Dice, Home, Meeting, Tree, Up};

/// Two paired devices, both up.
pub(super) fn pair() -> (Meeting, Home, Home, Up, Up) {
    let meeting = Meeting::start();
    let (a, b) = (Home::new(), Home::empty());
    let up_a = Up::start(&a, &["--bootstrap", meeting.address()]);
    a.pair_with(&b, &meeting, "second");
    let up_b = Up::start(&b, &[]);
    (meeting, a, b, up_a, up_b)
}

/// Goal: everything that one device had comes to the other, byte-equal, and both say that it is safe twice.
#[test]
fn a_new_device_gets_every_file_byte_equal() {
    let mut dice = Dice::of("a_new_device_gets_every_file_byte_equal");
    let meeting = Meeting::start();
    let (a, b) = (Home::new(), Home::empty());
    let source = a.beside("source");
    nasty_tree(&source.join("nasty"), &mut dice);
    write_big(&source.join("big.bin"), 60_000_000, &mut dice);
    a.ok(["add".as_ref(), source.as_os_str()]);
    let up_a = Up::start(&a, &["--bootstrap", meeting.address()]);
    a.pair_with(&b, &meeting, "second");
    // The meeting point is remembered by whoever joined.
    let up_b = Up::start(&b, &[]);
    b.wait_synced();
    a.wait_equal(&b);
    assert!(b.list().iter().all(|entry| entry["local"] == "all"));
    let (from_a, from_b) = (a.beside("out"), b.beside("out"));
    a.ok(["get".as_ref(), "source".as_ref(), "--to".as_ref(), from_a.as_os_str()]);
    b.ok(["get".as_ref(), "source".as_ref(), "--to".as_ref(), from_b.as_os_str()]);
    Tree::of(&from_a).assert_same(&Tree::of(&from_b));
    for home in [&a, &b] {
        assert_eq!(home.json(["verify"])["bad"], 0);
        wait_for("two copies of everything", std::time::Duration::from_secs(20), || {
            let status = home.json(["status"]);
            (status["copies"]["least"] == 2 && status["copies"]["files_at_risk"] == 0).then_some(())
        });
        let devices = home.json(["status"])["devices"].clone();
        assert!(devices.as_array().unwrap().iter().all(|device| device["online"] == true), "{devices}");
    }
    up_a.stop().ok();
    up_b.stop().ok();
}

/// Goal: what is done on one device shows on the other at once, both ways; and after a time apart both come to the same.
#[test]
fn edits_go_both_ways_live_and_after_a_time_apart() {
    let (_meeting, a, b, up_a, up_b) = pair();
    let file = |home: &Home, name: &str, text: &str| {
        let path = home.beside(name);
        write(&path, text.as_bytes());
        home.ok(["add".as_ref(), path.as_os_str()]);
    };
    b.wait_synced();
    file(&a, "from-a.txt", "a");
    b.wait_for_path("from-a.txt");
    file(&b, "from-b.txt", "b");
    a.wait_for_path("from-b.txt");
    b.ok(["mv", "from-a.txt", "moved.txt"]);
    a.wait_for_path("moved.txt");
    a.wait_synced();
    assert_eq!(a.ok(["cat", "from-b.txt"]).out, b"b");
    up_a.stop().ok();
    up_b.stop().ok();
    // Apart, each changes what the other changes too.
    file(&a, "apart-a.txt", "1");
    a.ok(["rm", "from-b.txt"]);
    file(&a, "moved.txt", "by a");
    file(&b, "apart-b.txt", "2");
    file(&b, "moved.txt", "by b");
    b.ok(["mkdir", "new folder"]);
    let (up_a, up_b) = (Up::start(&a, &[]), Up::start(&b, &[]));
    a.wait_synced();
    b.wait_synced();
    a.wait_equal(&b);
    a.wait_synced();
    b.wait_synced();
    let told = |home: &Home| {
        let mut entries = home.list();
        entries.iter_mut().for_each(|entry| entry["local"] = "".into());
        entries
    };
    assert_eq!(told(&a), told(&b));
    assert!(a.paths().contains(&"apart-b.txt".to_owned()) && b.paths().contains(&"apart-a.txt".to_owned()));
    let moved = a.list().into_iter().find(|entry| entry["path"] == "moved.txt").unwrap();
    assert_eq!(moved["versions"], 2, "no version is lost: {moved}");
    up_a.stop().ok();
    up_b.stop().ok();
}

/// Goal: a device that is killed while content comes in ends complete and whole. Method: killed when some packs are
/// there and not all, eight times, then let run.
#[test]
fn a_device_killed_during_replication_ends_complete() {
    let mut dice = Dice::of("a_device_killed_during_replication_ends_complete");
    let (_meeting, a, b, up_a, up_b) = pair();
    b.wait_synced();
    up_b.stop().ok();
    let source = a.beside("source");
    for n in 0..16 {
        write_big(&source.join(format!("{n}.bin")), 12_000_000, &mut dice);
    }
    a.ok(["add".as_ref(), source.as_os_str()]);
    let all = a.packs().len();
    for _ in 0..8 {
        let before = b.packs().len();
        let up = Up::start(&b, &[]);
        wait_for("some more packs", std::time::Duration::from_secs(30), || {
            let now = b.packs().len();
            (now > before || now == all).then_some(())
        });
        up.kill();
    }
    let up_b = Up::start(&b, &[]);
    b.wait_synced();
    let out = b.beside("out");
    b.ok(["get".as_ref(), "source".as_ref(), "--to".as_ref(), out.as_os_str()]);
    Tree::of(&source).assert_same(&Tree::of(&out));
    assert_eq!(b.json(["verify"])["bad"], 0);
    up_a.stop().ok();
    up_b.stop().ok();
}

/// Goal: `wait --copies` ends when all content is on so many devices, and tells what was not in time.
#[test]
fn one_may_wait_until_there_are_enough_copies() {
    let (_meeting, a, b, up_a, up_b) = pair();
    let add = |name: &str| {
        let path = a.beside(name);
        write(&path, &[7; 300_000]);
        a.ok(["add".as_ref(), path.as_os_str()]);
    };
    a.ok(["wait", "--copies", "2", "--timeout", "60"]);
    add("one.bin");
    a.ok(["wait", "--copies", "2", "--timeout", "60"]);
    assert_eq!((&a.json(["status"])["copies"]["least"], b.paths()), (&2.into(), vec!["one.bin".to_owned()]));
    let never = a.run(["wait", "--copies", "3", "--timeout", "0.5"]);
    assert_eq!(never.code(), Some(6));
    assert!(never.err.contains("on 3 devices; the rarest is on 2"), "{}", never.err);
    up_b.stop().ok();
    up_a.stop().ok();
}
