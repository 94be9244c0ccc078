//! New words in the place of the old ones: the new ones alone bring everything back, the old ones nothing.

use std::time::Duration;

use locker_tests::files::write;
use locker_tests::wait::wait_for;
use locker_tests::{Home, Meeting, Up};
use serde_json::Value;

use super::replica::enrol;
use super::whole::{Owner, content, place, recover_by};

/// T27, on the wire: a device of two changes the words while a replica is off. It is named until it has heard of it; then the new
/// words find it by the DHT, and everything comes back. The old ones are refused as those of nobody. Who was long off is looked for
/// once a minute, and told again after another one what he could not take yet: hence the long waits.
#[test]
fn t27_new_words_alone_bring_everything_back() {
    let owner = Owner::with_files("t27_new_words_alone_bring_everything_back");
    let meeting = Meeting::start();
    let network = ["--bootstrap", meeting.address()];
    let (second, shed) = (Home::empty(), Home::empty());
    let up = Up::start(&owner.home, &network);
    owner.home.pair_with(&second, &meeting, "second");
    enrol(&owner.home, &shed, &meeting);
    let up_second = Up::start(&second, &network);
    // A device that has just joined knows of no key that it could change.
    second.wait_synced();

    let (old, sheet) = (owner.words.to_str().unwrap(), second.beside("sheet.html"));
    let sheet_path = sheet.to_str().unwrap();
    // Somebody else's words change nothing.
    let stranger = Owner::new();
    let before = second.json(["status"])["state_hash"].clone();
    let words = stranger.words.to_str().unwrap();
    second.run_json(["phrase", "change", "--phrase-file", words]).refused(4, "E_DENIED");
    assert_eq!(second.json(["status"])["state_hash"], before);

    let changed = second.run_json(["phrase", "change", "--phrase-file", old, "--sheet", sheet_path]).ok();
    let told = changed.json();
    assert!(changed.err.contains("shed"), "{}", changed.err);
    let new = second.beside("new-words.txt");
    write(&new, told["phrase"].as_str().unwrap().as_bytes());
    assert!(std::fs::read_to_string(&sheet).unwrap().contains("<ol class=\"words\">"));
    let new_words = new.to_str().unwrap();
    // The old ones have had their day, on the other device too as soon as it hears.
    second.run_json(["phrase", "change", "--phrase-file", old]).refused(4, "E_DENIED");
    owner.home.wait_equal(&second);
    owner.home.run_json(["phrase", "change", "--phrase-file", old]).refused(4, "E_DENIED");
    let behind = |home: &Home| {
        let problems = home.json(["status"])["problems"].clone();
        let slot = problems.as_array().unwrap().iter().find(|one| one["code"] == "E_SLOT").cloned();
        slot.map(|one| one["message"].as_str().unwrap().to_owned())
    };
    assert!(behind(&second).is_some_and(|message| message.contains("shed")));

    let kept = Up::start(&shed, &network);
    for home in [&second, &owner.home] {
        wait_for("the replica to have heard of the words", Duration::from_secs(180), || {
            behind(home).is_none().then_some(())
        });
    }
    write(&owner.home.beside("after.txt"), "after".repeat(50_000).as_bytes());
    owner.home.ok(["add".as_ref(), owner.home.beside("after.txt").as_os_str()]);
    second.wait_for_path("after.txt");
    wait_for("the replica to hold everything", Duration::from_secs(180), || {
        (second.json(["status"])["copies"]["least"].as_u64() == Some(3)).then_some(())
    });
    // Rehearsed with the new words; the old ones are not those of this locker.
    let drilled = second.json(["drill", "--phrase-file", new_words, "--no-lan"]);
    assert_eq!(drilled["missing"], Value::Array(Vec::new()), "{drilled}");
    second.run_json(["drill", "--phrase-file", old, "--no-lan"]).refused(4, "E_DENIED");

    let before = content(&owner.home, "before");
    for (up, home) in [(up, &owner.home), (up_second, &second)] {
        drop(up.kill());
        std::fs::remove_dir_all(home.path()).unwrap();
    }
    let by_dht = ["--no-lan", "--bootstrap", meeting.address()];
    let at = place(&kept);
    let by_address = ["--no-lan", "--from", &at];
    for network in [&by_dht, &by_address] {
        let (_, outcome) = recover_by(&owner.words, network);
        outcome.refused(4, "E_DENIED");
    }
    let (back, outcome) = recover_by(&new, &by_dht);
    outcome.ok();
    content(&back, "out").assert_same(&before);
    assert_eq!(back.json(["verify"])["bad"], 0);
    // The recovery began a generation too: the replica hears of it, and is found by the same words again.
    let up = Up::start(&back, &network);
    wait_for("the replica to have heard of the recovery", Duration::from_secs(180), || {
        behind(&back).is_none().then_some(())
    });
    drop(up.kill());
    std::fs::remove_dir_all(back.path()).unwrap();
    let (again, outcome) = recover_by(&new, &by_dht);
    outcome.ok();
    content(&again, "out").assert_same(&before);
    kept.stop().ok();
}

/// Goal: new words that were told and then do not count are one object with the reason, and the old ones still count. Method: the
/// words of a locker can be changed fifteen times.
#[test]
fn words_that_do_not_count_are_told_with_the_reason() {
    let home = Home::empty();
    let made = home.json(["init", "--no-lan"]);
    let words = home.beside("words.txt");
    write(&words, made["phrase"].as_str().unwrap().as_bytes());
    let change = || home.run_json(["phrase", "change", "--phrase-file", words.to_str().unwrap()]);
    for _ in 0..15 {
        let told = change().ok().json();
        write(&words, told["phrase"].as_str().unwrap().as_bytes());
    }
    for _ in 0..2 {
        let refused = change();
        refused.refused(1, "E_LIMIT");
        // No new words are shown that would not count.
        assert!(refused.json().get("phrase").is_none(), "{refused:?}");
        let told = refused.json();
        assert!(
            told["error"]["hint"].as_str().unwrap().contains("The words stay as they are"),
            "{refused:?}"
        );
    }
}
