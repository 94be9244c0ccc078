//! What a replica does not do, and for whom.

use locker_tests::{Home, Meeting, Up};

use super::{enrol, owner_and_replica};

/// Goal: whatever would have to read is refused with one sentence and exit code 4, with a node that runs and without; what
/// concerns the store itself works.
#[test]
fn a_replica_says_that_it_cannot_read() {
    let (_meeting, _a, up, v, kept) = owner_and_replica(&["--role", "blind"], &[]);
    let path = v.beside("file");
    std::fs::write(&path, b"content").unwrap();
    let path = path.to_str().unwrap();
    let commands: [&[&str]; 12] = [
        &["add", path],
        &["ls"],
        &["tree"],
        &["find", "x"],
        &["cat", "x"],
        &["get", "x", "--to", "out"],
        &["mkdir", "x"],
        &["mv", "x", "y"],
        &["rm", "x"],
        &["history", "x"],
        &["share", "x"],
        &["pair"],
    ];
    let look = || {
        for command in commands {
            v.run_json(command).refused(4, "E_BLIND");
        }
        let status = v.json(["status"]);
        assert!(status["sentence"].as_str().unwrap().starts_with("Stores for "), "{status}");
        assert!(status["sentence"].as_str().unwrap().contains("cannot read it"), "{status}");
        assert_eq!(status["devices"][0]["role"], "blind");
        let verified = v.json(["verify"]);
        assert_eq!((&verified["bad"], &verified["complete"]), (&0.into(), &true.into()), "{verified}");
        assert_eq!(v.json(["gc", "--dry-run"])["complete"], true);
    };
    look();
    let checks = v.json(["doctor"])["checks"].clone();
    let failed: Vec<_> =
        checks.as_array().unwrap().iter().filter(|check| check["state"] == "failed").collect();
    assert!(failed.is_empty(), "{failed:?}");
    kept.stop().ok();
    look();
    up.stop().ok();
}

/// Goal: whoever is asked to store decides for himself, and is never given more than he asked for. Method: the role is named
/// on one side or the other.
#[test]
fn either_side_can_say_that_a_device_is_to_store_only() {
    let meeting = Meeting::start();
    let (a, here, there) = (Home::new(), Home::empty(), Home::empty());
    let up = Up::start(&a, &["--bootstrap", meeting.address()]);
    enrol(&a, &here, &meeting, &["--role", "blind"], &[]);
    enrol(&a, &there, &meeting, &[], &["--role", "blind", "--quota", "5G"]);
    let status = a.json(["status"]);
    let devices = status["devices"].as_array().unwrap();
    assert_eq!(devices.iter().filter(|device| device["role"] == "blind").count(), 2, "{status}");
    assert_eq!(devices.iter().filter(|device| device["role"] == "full").count(), 1, "{status}");
    a.run_json(["pair", "--quota", "5G"]).refused(2, "E_USAGE");
    a.run_json(["pair", "--role", "blind", "--quota", "much"]).refused(2, "E_USAGE");
    for replica in [&here, &there] {
        replica.run_json(["ls"]).refused(4, "E_BLIND");
    }
    up.stop().ok();
}
