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
        let up = Up::start_at(&b, &format!("127.0.{}.1:0", kill + 1), &[]);
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
