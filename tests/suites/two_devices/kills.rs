//! A device that is killed again and again while content comes in: nothing that came is sent a second time, up to
//! what was on its way at the moment of the kill. And one that is killed while it takes content in itself and others
//! listen.

use std::time::{Duration, Instant};

use locker_tests::files::{write, write_big};
use locker_tests::wait::wait_for;
use locker_tests::{Dice, Home, Meeting, Tree, Up};
use serde_json::Value;

use super::replication::pair;

/// Kills in one run: `LOCKER_KILLS`, else 10; at most 50.
fn kills() -> u64 {
    let number =
        std::env::var("LOCKER_KILLS").map_or(10, |text| text.parse().expect("LOCKER_KILLS is a number"));
    u64::min(number, 50)
}

/// Bytes of content for each kill: 50 kills go over 2 GiB.
const BYTES_PER_KILL: u64 = 40 << 20;

/// Bytes that a running device handed to the wire for packs.
fn sent(home: &Home) -> u64 {
    home.json(["status"])["traffic"]["pack_bytes_sent"].as_u64().unwrap()
}

/// Goal: a device that is killed many times during replication ends complete, whole and byte-equal, and at most 5 % of
/// the bytes are sent twice. Method: B is killed with SIGKILL at moments spread evenly over the transfer, told by what A
/// has handed to the wire; A runs all the time and counts.
#[test]
fn kills_during_replication_cost_at_most_a_twentieth() {
    let mut dice = Dice::of("kills_during_replication_cost_at_most_a_twentieth");
    let meeting = Meeting::start();
    let (a, b) = (Home::new(), Home::empty());
    let up_a = Up::start(&a, &["--bootstrap", meeting.address()]);
    a.pair_with(&b, &meeting, "second");
    let up_b = Up::start(&b, &[]);
    b.wait_synced();
    up_b.stop().ok();
    let (source, kills) = (a.beside("source"), kills());
    for n in 0..kills {
        write_big(&source.join(format!("{n}.bin")), BYTES_PER_KILL, &mut dice);
    }
    let before = sent(&a);
    a.ok(["add".as_ref(), source.as_os_str()]);
    let total: u64 = a.packs().iter().map(|pack| pack.metadata().unwrap().len()).sum();
    let mut killed_on_the_way = 0;
    for kill in 0..kills {
        // Somewhere in this kill's share of the transfer.
        let moment = before + total * kill / (kills + 1) + dice.below(total / (kills + 1));
        let up = Up::start(&b, &[]);
        wait_for("some more bytes on the wire", Duration::from_secs(60), || {
            let now = sent(&a);
            (now > moment || now >= before + total).then_some(())
        });
        up.kill();
        killed_on_the_way += u64::from(b.packs().len() < a.packs().len());
    }
    assert!(killed_on_the_way >= kills - kills / 10, "{killed_on_the_way} of {kills} kills came in time");
    let up_b = Up::start(&b, &[]);
    b.wait_synced();
    a.wait_equal(&b);
    let moved = sent(&a) - before;
    let twice = moved.saturating_sub(total);
    let share = twice as f64 * 100.0 / total as f64;
    eprintln!("{kills} kills over {total} bytes: {twice} sent twice, {share:.2} %");
    assert!(moved >= total && twice * 20 <= total, "{twice} of {total} bytes were sent twice ({share:.2} %)");
    let received = b.json(["status"])["traffic"]["pack_bytes_received"].as_u64().unwrap();
    assert!(received <= moved, "{received} came of {moved}");
    let out = b.beside("out");
    b.ok(["get".as_ref(), "source".as_ref(), "--to".as_ref(), out.as_os_str()]);
    Tree::of(&source).assert_same(&Tree::of(&out));
    assert_eq!(b.json(["verify"])["bad"], 0);
    assert_eq!(std::fs::read_dir(b.path().join("packs/partial")).unwrap().count(), 0);
    up_a.stop().ok();
    up_b.stop().ok();
}

/// Goal: a kill at any step of a fetch leaves nothing half-done, and what had come whole is adopted without asking anybody.
/// Method: B is killed at each step in turn while a new file comes in; where all of it had come by then, B is
/// started again with nobody there to ask.
#[test]
fn a_kill_at_any_step_of_a_fetch_loses_nothing() {
    let mut dice = Dice::of("a_kill_at_any_step_of_a_fetch_loses_nothing");
    let meeting = Meeting::start();
    let (a, b) = (Home::new(), Home::empty());
    let mut up_a = Up::start(&a, &["--bootstrap", meeting.address()]);
    a.pair_with(&b, &meeting, "second");
    let up_b = Up::start(&b, &[]);
    b.wait_synced();
    up_b.stop().ok();
    let partials = || std::fs::read_dir(b.path().join("packs/partial")).unwrap().count();
    // Whether all of the pack is here at that step.
    let points = [
        ("partial-created", false),
        ("partial-written", false),
        ("partial-checked", true),
        ("pack-synced", true),
        ("pack-renamed", true),
        ("pack-dir-synced", true),
    ];
    for (point, is_whole) in points {
        let file = a.beside(format!("{point}.bin"));
        write_big(&file, 3_000_000, &mut dice);
        a.ok(["add".as_ref(), file.as_os_str()]);
        let up = ["up", "--listen", "127.0.0.1:0", "--no-lan"];
        let killed = b.start(up, &format!("{point}=return(kill)")).finish();
        assert!(killed.was_killed(), "{point}: {killed:?}");
        if is_whole {
            up_a.stop().ok();
            let up_b = Up::start(&b, &[]);
            wait_for(&format!("the pack to be adopted after {point}"), Duration::from_secs(20), || {
                (partials() == 0 && b.packs().len() == a.packs().len()).then_some(())
            });
            // Pins come before entries: the pack may have been here before the name of the file was.
            up_a = Up::start(&a, &[]);
            wait_for("the file", Duration::from_secs(20), || {
                let read = b.run(["cat", &format!("{point}.bin")]);
                (read.code() == Some(0) && read.out == std::fs::read(&file).unwrap()).then_some(())
            });
            up_b.stop().ok();
        } else {
            let up_b = Up::start(&b, &[]);
            b.wait_synced();
            up_b.stop().ok();
        }
    }
    let up_b = Up::start(&b, &[]);
    b.wait_synced();
    a.wait_equal(&b);
    assert_eq!((b.packs().len(), partials()), (a.packs().len(), 0));
    for (point, _) in points {
        let file = format!("{point}.bin");
        assert_eq!(b.ok(["cat", &file]).out, std::fs::read(a.beside(&file)).unwrap());
    }
    assert_eq!(b.json(["verify"])["bad"], 0);
    up_a.stop().ok();
    up_b.stop().ok();
}

/// The codes of what a device warns of.
fn problems(home: &Home) -> Vec<String> {
    let problems = home.json(["status"])["problems"].as_array().unwrap().clone();
    problems.iter().map(|problem| problem["code"].as_str().unwrap().to_owned()).collect()
}

/// T89: a device is killed in the middle of imports while another one listens. What was not committed was told to
/// nobody: no number is used again for something else, so neither finds a fork, or less than it was told, and the
/// device goes on under its own key. What it acknowledged is on both. Method: it is killed at steps of the write, and
/// at random moments.
#[test]
fn t89_a_kill_during_imports_told_nobody_what_was_not_committed() {
    let mut dice = Dice::of("t89_a_kill_during_imports_told_nobody_what_was_not_committed");
    let (_meeting, a, b, up_a, up_b) = pair();
    b.wait_synced();
    up_a.stop().ok();
    let own = |home: &Home| {
        let devices = home.json(["device", "ls"])["devices"].as_array().unwrap().clone();
        devices.into_iter().find(|device| device["this"] == true).unwrap()["id"].clone()
    };
    let (id, mut saved) = (own(&a), Vec::new());
    // How many hits are let by: a start commits too. No step: at a random moment.
    let points = [
        ("pack-written", 0),
        ("pack-dir-synced", 1),
        ("db-before-commit", 30),
        ("db-written", 33),
        ("db-after-commit", 36),
        ("ack-before", 2),
        ("", 0),
        ("", 0),
    ];
    for (round, (point, hits)) in (0_u8..).zip(points) {
        let what = if point.is_empty() { "a random moment" } else { point };
        // Each start has an address of its own, as the connections of a killed node stand for a while.
        let place = |n: u8| format!("127.0.0.{}:0", 2 + 2 * round + n);
        let steps =
            if point.is_empty() { String::new() } else { format!("{point}={hits}*off->return(kill)") };
        let mut up = a.start(["--json", "up", "--listen", &place(0), "--no-lan"], &steps);
        up.event("ready");
        let source = a.beside(format!("round-{round}"));
        for n in 0..120 {
            let len = 1_000 + usize::try_from(dice.below(40_000)).unwrap();
            write(&source.join(format!("{n}.bin")), &dice.bytes(len));
        }
        if point.is_empty() {
            let mut adding = a.start(["add".as_ref(), "-v".as_ref(), source.as_os_str()], "");
            let (start, moment) = (Instant::now(), Duration::from_millis(20 + dice.below(400)));
            while start.elapsed() < moment && adding.is_running() {
                std::thread::park_timeout(Duration::from_micros(500));
            }
            assert!(up.kill().was_killed());
            saved.extend(adding.finish().saved());
        } else {
            // One after the other: each is an entry, and the other device hears of each at once.
            let mut left = 0..120;
            while up.is_running() {
                let n = left.next().unwrap_or_else(|| panic!("{point} is not reached"));
                let file = source.join(format!("{n}.bin"));
                let to = format!("round-{round}-{n}");
                a.run(["mkdir", &to]);
                let added = a.run(["add".as_ref(), file.as_os_str(), "--to".as_ref(), to.as_ref()]);
                if added.code() == Some(0) {
                    saved.push(format!("{to}/{n}.bin"));
                }
            }
            assert!(up.finish().was_killed(), "{what}");
        }
        let up = Up::start_at(&a, &place(1), &[]);
        a.wait_equal(&b);
        for home in [&a, &b] {
            let problems = problems(home);
            let is_told = |code: &str| problems.iter().any(|told| told == code);
            assert!(!is_told("E_FORK") && !is_told("E_ROLLBACK"), "after {what}: {problems:?}");
            let paths = home.paths();
            for path in &saved {
                assert!(paths.contains(path), "after {what}: {path} was acknowledged");
            }
        }
        assert_eq!((own(&a), &a.json(["status"])["reborn"]), (id.clone(), &Value::Null), "after {what}");
        up.stop().ok();
    }
    assert!(saved.len() > 20, "only {} files were acknowledged", saved.len());
    let up_a = Up::start_at(&a, "127.0.0.40:0", &[]);
    b.wait_synced();
    for home in [&a, &b] {
        assert_eq!(home.json(["verify"])["bad"], 0);
    }
    up_a.stop().ok();
    up_b.stop().ok();
}
