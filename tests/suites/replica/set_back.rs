//! T17: a replica that comes back with less than it had.

use std::time::Duration;

use locker_tests::wait::wait_for;
use locker_tests::{Home, Up};

use super::{content, owner_and_replica, put, wait_kept};

fn rollbacks(home: &Home) -> Vec<String> {
    let problems = home.json(["status"])["problems"].clone();
    let problems = problems.as_array().unwrap().iter().filter(|problem| problem["code"] == "E_ROLLBACK");
    problems.map(|problem| problem["message"].as_str().unwrap().to_owned()).collect()
}

/// Goal: a replica that offers less than it did is named, whoever holds it; nothing is lost here, and it is brought up to
/// date. Method: an older copy of its home takes the place of the home.
#[test]
fn t17_a_replica_that_was_set_back_is_named_and_brought_up_to_date() {
    let (meeting, a, up, v, kept) = owner_and_replica(&["--role", "blind"], &[]);
    put(&a, "early.txt", b"early");
    wait_kept(&a, &v);
    kept.stop().ok();
    let older = v.copied();
    put(&a, "late.txt", b"late");
    let kept = Up::start(&v, &["--bootstrap", meeting.address()]);
    wait_kept(&a, &v);
    kept.stop().ok();
    assert!(rollbacks(&a).is_empty());

    let kept = Up::start(&older, &["--bootstrap", meeting.address()]);
    // Who is off is looked for at pauses of up to a minute.
    let told = wait_for("the warning", Duration::from_secs(180), || rollbacks(&a).pop());
    assert!(told.contains("\"shed\""), "{told}");
    assert_eq!(content(&a, "late.txt"), b"late");
    wait_for("the replica to be up to date", Duration::from_secs(60), || {
        (older.packs().len() == v.packs().len()).then_some(())
    });
    kept.stop().ok();
    up.stop().ok();
}
