//! T17: a replica that comes back with less than it had.

use std::time::Duration;

use locker_tests::wait::wait_for;
use locker_tests::{Home, Up};
use serde_json::Value;

use super::{content, owner_and_replica, put, wait_kept};

fn rollbacks(status: &Value) -> Vec<String> {
    let problems = status["problems"].as_array().unwrap().iter();
    let problems = problems.filter(|problem| problem["code"] == "E_ROLLBACK");
    problems.map(|problem| problem["message"].as_str().unwrap().to_owned()).collect()
}

/// Asks for proofs until everything is known to be on two devices that proved it, and gives the status.
fn wait_proved(owner: &Home) -> Value {
    wait_for("the replica to have proved everything", Duration::from_secs(120), || {
        owner.run_json(["audit"]);
        Some(owner.json(["status"])).filter(|status| status["copies"]["proved"] == 2)
    })
}

/// Goal: a replica that offers less than it did is named, whoever holds it; what it proved before counts no more until it
/// proves it anew; nothing is lost here, and it is brought up to date. Method: an older copy of its home takes the place of
/// the home. The warning and the copies are looked at in one answer: a running node asks for a proof by itself, but not
/// before minutes have passed.
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
    let status = wait_proved(&a);
    assert!(status["sentence"].as_str().unwrap().starts_with("Safe"), "{status}");
    kept.stop().ok();
    assert!(rollbacks(&a.json(["status"])).is_empty());

    let kept = Up::start(&older, &["--bootstrap", meeting.address()]);
    // Who is off is looked for at pauses of up to a minute.
    let status = wait_for("the warning", Duration::from_secs(180), || {
        Some(a.json(["status"])).filter(|status| !rollbacks(status).is_empty())
    });
    let told = rollbacks(&status).join("; ");
    assert!(told.contains("\"shed\""), "{told}");
    assert_eq!((&status["copies"]["proved"], &status["copies"]["least"]), (&1.into(), &1.into()), "{status}");
    assert!(!status["sentence"].as_str().unwrap().starts_with("Safe"), "{status}");
    assert_eq!(content(&a, "late.txt"), b"late");
    wait_for("the replica to be up to date", Duration::from_secs(60), || {
        (older.packs().len() == v.packs().len()).then_some(())
    });
    let status = wait_proved(&a);
    assert!(status["sentence"].as_str().unwrap().starts_with("Safe"), "{status}");
    assert_eq!(rollbacks(&status).len(), 1, "it is told for a week: {status}");
    kept.stop().ok();
    up.stop().ok();
}
