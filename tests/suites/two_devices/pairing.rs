//! How a device becomes one of a locker, and how not.

use locker_tests::files::write;
use locker_tests::{Home, Meeting, Up};

/// Goal: the new device is in both rosters, knows the person, and its home is as durable and private as a made one.
#[test]
fn a_device_joins_with_the_words_and_is_listed_on_both() {
    let meeting = Meeting::start();
    let (old, new) = (Home::new(), Home::empty());
    let up = Up::start(&old, &["--bootstrap", meeting.address()]);
    let joined = old.pair_with(&new, &meeting, "second");
    let status = old.json(["status"]);
    assert_eq!(joined["person_id"], status["person_id"]);
    for home in [&old, &new] {
        let devices = home.json(["device", "ls"]);
        let mut names: Vec<&str> =
            devices["devices"].as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, ["bench", "second"]);
    }
    // Before anything came, the new device can be used for nothing that needs the others, and says so.
    write(&new.beside("early.txt"), b"early");
    let early = new.beside("early.txt");
    new.run_json(["add".as_ref(), early.as_os_str()]).refused(6, "E_NETWORK");
    assert_eq!(new.json(["verify"])["bad"], 0);
    up.stop().ok();
    // A joined home is a locker: it is not joined again.
    new.run_json(["join", "--ticket-file", new.beside("words.txt").to_str().unwrap()]).refused(1, "E_EXISTS");
}

/// Goal: a try that failed leaves the invitation to the next one; the third ends it, and makes room for another
/// invitation. Method: new devices on which nobody confirms the digits.
#[test]
fn an_invitation_outlives_two_failed_tries() {
    let meeting = Meeting::start();
    let (old, new) = (Home::new(), Home::empty());
    let up = Up::start(&old, &["--bootstrap", meeting.address()]);
    let words = new.beside("words.txt");
    let invite = || {
        let mut pair = old.start(["--json", "pair", "--assume-yes"], "");
        write(&words, pair.event("ticket")["words"].as_str().unwrap().as_bytes());
        pair
    };
    let join = |more: &[&str]| {
        let (file, at) = (words.to_str().unwrap(), meeting.address());
        new.run_json([&["join", "--ticket-file", file, "--bootstrap", at, "--no-lan"], more].concat())
    };
    let pair = invite();
    for _ in 0..3 {
        join(&[]).refused(4, "E_PAIRING");
    }
    assert_eq!(pair.finish().code(), Some(4));
    let mut pair = invite();
    for _ in 0..2 {
        join(&[]).refused(4, "E_PAIRING");
    }
    let joined = join(&["--assume-yes"]).ok().json();
    assert_eq!(pair.event("joined")["device_id"], joined["device_id"]);
    pair.finish().ok();
    up.stop().ok();
}

/// Goal: without the right words nothing is found or made; a ticket is for one device.
#[test]
fn wrong_and_spent_tickets_make_no_locker() {
    let meeting = Meeting::start();
    let (old, new, third) = (Home::new(), Home::empty(), Home::empty());
    let up = Up::start(&old, &["--bootstrap", meeting.address()]);
    let no_words = third.beside("no-words.txt");
    write(&no_words, b"these are no words of any list at all");
    let join = |home: &Home, file: &std::path::Path| {
        let (file, at) = (file.to_str().unwrap(), meeting.address());
        home.run_json(["join", "--ticket-file", file, "--bootstrap", at, "--no-lan", "--assume-yes"])
    };
    join(&third, &no_words).refused(2, "E_USAGE");
    old.pair_with(&new, &meeting, "second");
    let spent = join(&third, &new.beside("words.txt"));
    spent.refused(6, "E_NETWORK");
    assert!(!third.path().join("LOCKER").exists(), "{spent:?}");
    up.stop().ok();
}
