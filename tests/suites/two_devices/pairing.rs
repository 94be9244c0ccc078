//! How a device becomes one of a locker, and how not.

use std::time::Duration;

use locker_tests::files::write;
use locker_tests::wait::wait_for;
use locker_tests::{Home, Meeting, Up};
use serde_json::Value;

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

/// The devices that are told as new.
fn told(home: &Home) -> Vec<Value> {
    let notices = home.json(["status"])["notices"].as_array().unwrap().clone();
    assert!(notices.iter().all(|notice| notice["code"] == "device_added"), "{notices:?}");
    notices.into_iter().map(|notice| notice["device"].clone()).collect()
}

/// Goal: nobody who has an unlocked device for a minute adds one unnoticed: each device tells it once it hears of it, that on
/// which it was done too, and the new one does not speak of itself. Method: the third joins while the second is off.
#[test]
fn t28_a_device_that_was_added_is_told_on_every_other_one() {
    let meeting = Meeting::start();
    let (a, b, c) = (Home::new(), Home::empty(), Home::empty());
    let up_a = Up::start(&a, &["--bootstrap", meeting.address()]);
    let second = a.pair_with(&b, &meeting, "second")["device_id"].clone();
    let third = a.pair_with(&c, &meeting, "third")["device_id"].clone();
    assert_eq!(told(&a), [second.clone(), third.clone()]);
    let text = a.ok(["status"]).text();
    assert!(text.contains("notice: The device \"third\" was added on \"bench\" on "), "{text}");
    assert!(text.contains(": locker device revoke "), "{text}");

    let up_b = Up::start(&b, &[]);
    wait_for("the notice on the second", Duration::from_secs(60), || {
        (told(&b) == [third.clone()]).then_some(())
    });
    let up_c = Up::start(&c, &[]);
    c.wait_synced();
    assert!(told(&c).is_empty());

    // Who brought in whom is told for good, everywhere.
    for home in [&a, &b, &c] {
        let devices = home.json(["device", "ls"])["devices"].as_array().unwrap().clone();
        let named = |name: &str| devices.iter().find(|device| device["name"] == name).unwrap();
        let first = &named("bench")["id"];
        assert!(named("bench").get("added_by").is_none());
        for (name, id) in [("second", &second), ("third", &third)] {
            assert_eq!((&named(name)["id"], &named(name)["added_by"]), (id, first), "{devices:?}");
            assert!(named(name)["added"].as_u64().is_some());
        }
    }
    for up in [up_a, up_b, up_c] {
        up.stop().ok();
    }
}
