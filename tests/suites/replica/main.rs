//! Blind replicas as real processes: a device that stores for a person, cannot read, and is there when no other one is.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "test code: a broken surrounding ends the test; figures are told on standard error"
)]

mod copies;
mod kept;
mod meshes;
mod refused;
mod set_back;

use std::time::Duration;

use locker_tests::files::write;
use locker_tests::wait::wait_for;
use locker_tests::{Home, Meeting, Up};
use serde_json::Value;

/// How long content may take to reach a replica.
const KEPT_MAX: Duration = Duration::from_secs(90);

/// Enrols `new` as a replica of `owner`, whose node runs. Gives what the join answers.
fn enrol(owner: &Home, new: &Home, meeting: &Meeting, pair: &[&str], join: &[&str]) -> Value {
    let mut arguments = vec!["--json", "pair", "--assume-yes"];
    arguments.extend(pair);
    let mut pairing = owner.start(arguments, "");
    let ticket = pairing.event("ticket");
    let words = new.beside("words.txt");
    write(&words, ticket["words"].as_str().unwrap().as_bytes());
    let mut arguments = vec!["join", "--ticket-file", words.to_str().unwrap(), "--assume-yes"];
    arguments.extend(["--name", "shed", "--bootstrap", meeting.address(), "--no-lan"]);
    arguments.extend(join);
    let joined = new.json(arguments);
    assert_eq!(pairing.event("confirm")["name"], "shed (stores for you, cannot read)");
    let paired = pairing.event("joined");
    assert_eq!((&paired["device_id"], &paired["role"]), (&joined["device_id"], &"blind".into()));
    assert_eq!(joined["role"], "blind");
    pairing.finish().ok();
    joined
}

/// A meeting point, a person with one device that runs, and a replica that runs.
fn owner_and_replica(pair: &[&str], join: &[&str]) -> (Meeting, Home, Up, Home, Up) {
    let meeting = Meeting::start();
    let (owner, replica) = (Home::new(), Home::empty());
    let up = Up::start(&owner, &["--bootstrap", meeting.address()]);
    enrol(&owner, &replica, &meeting, pair, join);
    let kept = Up::start(&replica, &["--bootstrap", meeting.address()]);
    (meeting, owner, up, replica, kept)
}

/// Takes a file in.
fn put(home: &Home, name: &str, content: &[u8]) {
    let path = home.beside("in").join(name);
    write(&path, content);
    home.ok(["add".as_ref(), path.as_os_str()]);
}

/// What a device knows of the replica.
fn replica_of(owner: &Home) -> Value {
    let status = owner.json(["status"]);
    let mut devices = status["devices"].as_array().unwrap().iter();
    devices.find(|device| device["role"] == "blind").cloned().unwrap_or_default()
}

/// Waits until the replica says that it holds everything, and has all that it knows of.
fn wait_kept(owner: &Home, replica: &Home) {
    wait_for("the replica to hold everything", KEPT_MAX, || {
        (owner.json(["status"])["copies"]["said"] == 1).then_some(())
    });
    // It may have pins of packs that are not there any more; none is in these tests.
    wait_for("nothing to come at the replica", KEPT_MAX, || {
        replica.json(["status"])["transfers"].as_array().unwrap().is_empty().then_some(())
    });
}

/// The content of a file.
fn content(home: &Home, name: &str) -> Vec<u8> {
    home.ok(["cat", name]).out
}
