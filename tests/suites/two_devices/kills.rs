//! A device that is killed again and again while content comes in: nothing that came is sent a second time, up to what
//! was on its way at the moment of the kill.

use std::time::Duration;

use locker_tests::files::write_big;
use locker_tests::wait::wait_for;
use locker_tests::{Dice, Home, Meeting, Tree, Up};

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
