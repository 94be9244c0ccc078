//! A `verify` that the person stops.

use std::time::{Duration, Instant};

use locker_tests::files::write_big;
use locker_tests::program::Running;
use locker_tests::wait::wait_for;
use locker_tests::{Dice, Home, Outcome, Up};
use rustix::process::Signal;
use serde_json::Value;

/// Starts a `verify` and interrupts it after a moment; later ones, until one was met in the middle of its work.
fn interrupted(home: &Home) -> Outcome {
    let mut moment = Duration::from_millis(20);
    for _ in 0..60 {
        let verify: Running = home.start(["--json", "verify", "--all"], "");
        let start = Instant::now();
        wait_for("a moment of work", Duration::from_secs(5), || (start.elapsed() >= moment).then_some(()));
        verify.signal(Signal::INT);
        let outcome = verify.finish();
        match outcome.code() {
            // It had not begun to listen, or was done.
            None => moment += Duration::from_millis(10),
            Some(0) => moment = moment.saturating_sub(Duration::from_millis(3)),
            _ if outcome.json()["complete"] == false => return outcome,
            _ => panic!("{outcome:?}"),
        }
    }
    panic!("no `verify` was met in the middle of its work");
}

/// Goal: Ctrl-C ends a `verify` in order, says what was checked, and the next one goes on to the end; alone and through a
/// running node.
#[test]
fn an_interrupted_verify_says_how_far_it_came_and_the_next_goes_on() {
    let mut dice = Dice::of("an_interrupted_verify_says_how_far_it_came_and_the_next_goes_on");
    let home = Home::new();
    let file = home.beside("big.bin");
    write_big(&file, 700_000_000, &mut dice);
    home.ok(["add".as_ref(), file.as_os_str()]);
    let whole = home.json(["verify"]);
    assert_eq!((&whole["complete"], &whole["bad"]), (&Value::from(true), &Value::from(0)));
    for with_node in [false, true] {
        let up = with_node.then(|| Up::start(&home, &[]));
        let stopped = interrupted(&home);
        assert_eq!(stopped.code(), Some(1), "{stopped:?}");
        let told = stopped.json();
        assert_eq!((&told["bad"], &told["earlier"]), (&Value::from(0), &Value::from(0)), "{told}");
        assert!(told["checked"].as_u64() < whole["checked"].as_u64(), "{told}");
        let rest = home.json(["verify"]);
        assert_eq!((&rest["complete"], &rest["bad"]), (&Value::from(true), &Value::from(0)), "{rest}");
        // Over, it is over.
        assert_eq!(home.json(["verify"])["earlier"], 0);
        if let Some(up) = up {
            up.stop().ok();
        }
    }
}

/// Goal: a node that is told to end ends within its five seconds, whatever `verify` is under way at it.
#[test]
fn a_verify_does_not_keep_a_node_from_ending() {
    let mut dice = Dice::of("a_verify_does_not_keep_a_node_from_ending");
    let home = Home::new();
    let file = home.beside("big.bin");
    write_big(&file, 300_000_000, &mut dice);
    home.ok(["add".as_ref(), file.as_os_str()]);
    let up = Up::start(&home, &[]);
    let verify = home.start(["--json", "verify"], "");
    let start = Instant::now();
    up.stop().ok();
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    // Done, stopped, or begun anew by itself once the node was gone.
    let outcome = verify.finish();
    assert!(matches!(outcome.code(), Some(0 | 1)), "{outcome:?}");
    assert_eq!(home.json(["verify"])["bad"], 0);
}
