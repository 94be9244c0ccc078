//! `doctor`: what works is called so, and what does not is named with its cause.

use locker_tests::files::write;
use locker_tests::{Home, Meeting, Outcome, Up};
use serde_json::Value;

/// The states of the checks, by name.
fn states(told: &Value) -> Vec<(&str, &str)> {
    let checks = told["checks"].as_array().unwrap().iter();
    checks.map(|check| (check["name"].as_str().unwrap(), check["state"].as_str().unwrap())).collect()
}

fn check<'t>(told: &'t Value, name: &str) -> &'t Value {
    told["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap()
}

fn doctor(home: &Home, more: &[&str]) -> Outcome {
    let mut arguments = vec!["doctor"];
    arguments.extend(more);
    home.run_json(arguments)
}

/// Goal: with everything in order all is `ok` and the exit code 0; a device that is off is told with the place where it was
/// last, which either end knows, whoever of the two dialed; a meeting point that is gone, too.
#[test]
fn the_doctor_tells_what_works_and_why_something_does_not() {
    let meeting = Meeting::start();
    let (a, b) = (Home::new(), Home::empty());
    let up_a = Up::start(&a, &["--bootstrap", meeting.address()]);
    let joined = a.pair_with(&b, &meeting, "second");
    let up_b = Up::start(&b, &[]);
    b.wait_synced();
    a.wait_equal(&b);
    let expected = ["clock", "disk", "store", "listen", "lan", "bootstrap", "dht", "relay", "nat", "device"]
        .map(|name| match name {
            "lan" => (name, "off"),
            _ => (name, "ok"),
        });
    for home in [&a, &b] {
        let told = doctor(home, &[]).ok().json();
        assert_eq!(states(&told), expected, "{told:#}");
        assert!(check(&told, "clock")["found"].as_str().unwrap().contains("another device"), "{told:#}");
    }
    // In words, and with a bar that is not there without a terminal.
    let said = a.run(["doctor"]).ok();
    assert!(said.err.is_empty() && said.text().contains("\nok      device"), "{said:?}");

    let at = up_b.listen()[0].split('/').nth(4).unwrap().to_owned();
    up_b.stop().ok();
    let outcome = doctor(&a, &[]);
    assert_eq!(outcome.code(), Some(6), "{outcome:?}");
    let told = outcome.json();
    let device = check(&told, "device");
    assert_eq!((&device["state"], &device["device"]), (&"warning".into(), &joined["device_id"]));
    let cause = device["cause"].as_str().unwrap();
    assert!(cause.contains(&format!("nobody answers at 127.0.0.1:{at}, where it was last")), "{cause}");
    assert!(device["cure"].as_str().unwrap().contains("locker up"), "{told:#}");
    up_a.stop().ok();

    // Nobody is there at all, and no node runs.
    drop(meeting);
    let outcome = doctor(&b, &["--no-lan"]);
    assert_eq!(outcome.code(), Some(6), "{outcome:?}");
    let told = outcome.json();
    let failed: Vec<_> = states(&told).into_iter().filter(|(_, state)| *state == "failed").collect();
    assert_eq!(failed, [("bootstrap", "failed"), ("dht", "failed")], "{told:#}");
}

/// Goal: a locker whose data is damaged gets an answer too, under the exit code of damage.
#[test]
fn the_doctor_looks_at_a_locker_that_cannot_be_opened() {
    let home = Home::new();
    let database = home.path().join("locker.redb");
    let mut bytes = std::fs::read(&database).unwrap();
    bytes.truncate(1_000);
    write(&database, &bytes);
    let outcome = doctor(&home, &["--no-lan"]);
    assert_eq!(outcome.code(), Some(7), "{outcome:?}");
    let told = outcome.json();
    assert_eq!(states(&told), [("store", "failed")]);
    assert!(check(&told, "store")["cure"].is_string(), "{told:#}");
    // A home without a locker is no patient.
    doctor(&Home::empty(), &["--no-lan"]).refused(3, "E_NO_LOCKER");
}
