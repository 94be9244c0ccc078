//! T17: a device that comes back with less than it had: another one names it.

use std::time::Duration;

use locker_tests::wait::wait_for;
use locker_tests::{Home, Up};

use super::apart::put;
use super::replication::pair;

fn rollbacks(home: &Home) -> usize {
    let problems = home.json(["status"])["problems"].clone();
    problems.as_array().unwrap().iter().filter(|problem| problem["code"] == "E_ROLLBACK").count()
}

/// Goal: a device whose home was put back from a backup is named by another one that has been started anew since, also
/// after the next start, and is brought up to date. Method: an old copy of the home takes the place of the home.
#[test]
fn t17_a_device_put_back_from_a_backup_is_named_after_restarts_too() {
    let (_meeting, a, b, up_a, up_b) = pair();
    put(&a, "", "early.txt", "early");
    b.wait_for_path("early.txt");
    b.wait_synced();
    up_b.stop().ok();
    let backup = b.copied();
    put(&b, "", "late.txt", "late");
    let up_b = Up::start(&b, &[]);
    a.wait_for_path("late.txt");
    a.wait_synced();
    b.wait_synced();
    up_b.stop().ok();
    assert_eq!(rollbacks(&a), 0);
    up_a.stop().ok();

    let (up_a, up_b) = (Up::start(&a, &[]), Up::start(&backup, &[]));
    wait_for("the warning", Duration::from_secs(30), || (rollbacks(&a) == 1).then_some(()));
    backup.wait_for_path("late.txt");
    up_b.stop().ok();
    up_a.stop().ok();
    assert_eq!(rollbacks(&a), 1);
    assert_eq!(rollbacks(&backup), 0);
}
