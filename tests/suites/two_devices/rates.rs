//! Limits of rate: content takes its time, on either end, and nothing else waits behind it.

use std::time::{Duration, Instant};

use locker_tests::files::{write, write_big};
use locker_tests::{Dice, Home, Meeting, Up};

const BYTES: u64 = 6 << 20;
const RATE: &str = "1M";
/// What 6 MiB take at 1 MiB/s at the least; the first 50 ms may be made up for.
const LEAST: Duration = Duration::from_millis(5_900);

/// Lets `b` fetch what `a` has; gives how long it took until the last byte of content was there.
fn fetched(a: &[&str], b: &[&str], seed: &str) -> (Duration, Duration) {
    let meeting = Meeting::start();
    let (home_a, home_b) = (Home::new(), Home::empty());
    let up_a = Up::start(&home_a, &[&["--bootstrap", meeting.address()], a].concat());
    home_a.pair_with(&home_b, &meeting, "second");
    let up_b = Up::start(&home_b, b);
    home_b.wait_synced();
    let big = home_a.beside("big.bin");
    write_big(&big, BYTES, &mut Dice::of(seed));
    let start = Instant::now();
    home_a.ok(["add".as_ref(), big.as_os_str()]);
    // What a person does meanwhile is seen at once.
    home_b.wait_for_path("big.bin");
    let small = home_a.beside("small.txt");
    write(&small, b"small");
    home_a.ok(["add".as_ref(), small.as_os_str()]);
    home_b.wait_for_path("small.txt");
    let seen = start.elapsed();
    home_b.wait_synced();
    let took = start.elapsed();
    assert_eq!(home_b.ok(["cat", "big.bin"]).out, std::fs::read(&big).unwrap());
    up_a.stop().ok();
    up_b.stop().ok();
    (seen, took)
}

/// Goal: `--upload-limit` holds where content leaves, and what is seen of it does not wait for it.
#[test]
fn what_is_sent_keeps_to_the_limit() {
    let (seen, took) = fetched(&["--upload-limit", RATE], &[], "what_is_sent_keeps_to_the_limit");
    assert!(took >= LEAST, "{took:?}");
    assert!(seen < took, "{seen:?} of {took:?}");
}

/// Goal: `--download-limit` holds where content comes in.
#[test]
fn what_is_fetched_keeps_to_the_limit() {
    let (seen, took) = fetched(&[], &["--download-limit", RATE], "what_is_fetched_keeps_to_the_limit");
    assert!(took >= LEAST, "{took:?}");
    assert!(seen < took, "{seen:?} of {took:?}");
}

/// Goal: whoever fetches in small requests, as one does who has a limit too, gets no more than the sender's limit allows. They may
/// be 5 s ahead of it.
#[test]
fn the_lower_of_two_limits_holds() {
    let (_, took) =
        fetched(&["--upload-limit", "256K"], &["--download-limit", "512K"], "the_lower_of_two_limits_holds");
    // 6 MiB take 24 s at 256 KiB/s, less those 5 s; at 512 KiB/s they would take 12.
    assert!(took >= Duration::from_millis(18_500), "{took:?}");
}

/// Goal: a limit is remembered, and lifted by 0; one that nothing could live by is refused.
#[test]
fn limits_are_remembered_and_lifted() {
    let home = Home::new();
    let config = || std::fs::read_to_string(home.path().join("config.toml")).unwrap();
    Up::start(&home, &["--upload-limit", "2M", "--download-limit", "500K"]).stop().ok();
    assert!(config().contains("upload_limit = 2097152") && config().contains("download_limit = 512000"));
    Up::start(&home, &["--upload-limit", "0"]).stop().ok();
    assert!(config().contains("upload_limit = 0") && config().contains("download_limit = 512000"));
    let refused = home.run(["up", "--upload-limit", "1K"]);
    assert_eq!(refused.code(), Some(2));
    assert!(refused.err.contains("at least 64K"));
}
