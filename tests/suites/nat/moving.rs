//! A device that changes its place while it moves something.

use std::time::Duration;

use locker_tests::internet::Router;
use locker_tests::wait::wait_for;

use super::{BYTES, MEET_TIME, Pair, can_run};

/// Goal: when a router gets another address in the middle of a transfer, the transfer goes on by itself, and hardly
/// anything is sent twice. Method: a slow line; the address changes when a third has come.
#[test]
fn a_transfer_goes_on_under_another_address() {
    if !can_run() {
        return;
    }
    let name = "a_transfer_goes_on_under_another_address";
    let pair = Pair::join_slowly(name, &[Router::Cone, Router::Cone], BYTES, "12mbit");
    let received = || pair.b.json(["status"])["traffic"]["pack_bytes_received"].as_u64().unwrap();
    wait_for("a third of the file", MEET_TIME, || (received() > BYTES / 3).then_some(()));
    let before = received();
    assert!(before < BYTES, "all of it had come before the change: {before}");
    pair.sites[0].move_away();
    pair.wait_moved();
    let all = received();
    eprintln!("address change after {before} bytes: {all} bytes for {BYTES}");
    assert!(all < BYTES + BYTES / 10, "{all}");
    wait_for("a session", Duration::from_secs(30), || Pair::path(&pair.b));
    pair.stop();
}
