//! The recovery rehearsed: it says what would come back without this device, and changes nothing.

use locker_tests::files::{write, write_big};
use locker_tests::{Dice, Home, Meeting, Up};
use serde_json::Value;

use super::whole::Owner;

/// A locker on two devices that are up and equal.
fn pair(test: &'static str) -> (Owner, Home, Meeting, [Up; 2]) {
    let (owner, mut dice) = (Owner::new(), Dice::of(test));
    let meeting = Meeting::start();
    // The first is so large that only a part of it is read.
    for (name, len) in [("one.bin", 200_000_000), ("two.bin", 20_000_000)] {
        let path = owner.home.beside(name);
        write_big(&path, len, &mut dice);
        owner.home.ok(["add".as_ref(), path.as_os_str()]);
    }
    write(&owner.home.beside("small.txt"), b"small");
    owner.home.ok(["add".as_ref(), owner.home.beside("small.txt").as_os_str()]);
    let up = Up::start(&owner.home, &["--bootstrap", meeting.address()]);
    let second = Home::empty();
    owner.home.pair_with(&second, &meeting, "second");
    let up_second = Up::start(&second, &[]);
    second.wait_synced();
    (owner, second, meeting, [up, up_second])
}

fn devices(home: &Home) -> Value {
    home.json(["device", "ls"])["devices"].clone()
}

/// Goal: a healthy locker is told to be so, from the other device alone, and nothing is written down anywhere.
#[test]
fn a_healthy_locker_is_told_to_be_so() {
    let (owner, second, _meeting, ups) = pair("a_healthy_locker_is_told_to_be_so");
    let (before, hash) = (devices(&second), second.json(["status"])["state_hash"].clone());
    let words = owner.words.to_str().unwrap();
    let sent = || second.json(["status"])["traffic"]["pack_bytes_sent"].as_u64().unwrap();
    let sent_before = sent();
    let told = owner.home.json(["drill", "--phrase-file", words, "--no-lan"]);
    let sent = sent() - sent_before;
    // What is read lies in packs of 16 MiB, beside other things.
    assert!((20_000_000..100_000_000).contains(&sent), "{sent} bytes, of 220 million");
    assert_eq!((told["files"].clone(), told["covered"].clone()), (3.into(), 3.into()), "{told}");
    assert_eq!(
        (told["missing"].clone(), told["sources"].clone()),
        (Value::Array(vec![]), serde_json::json!(["second"]))
    );
    assert_eq!((told["read"].clone(), told["in_part"].clone()), (3.into(), 1.into()));
    assert!(told["sentence"].as_str().unwrap().contains("all 3 files come back"), "{told}");
    assert!(!owner.home.path().join("run/drill").exists());
    assert_eq!(devices(&second).as_array().unwrap().len(), before.as_array().unwrap().len());
    assert_eq!(second.json(["status"])["state_hash"], hash);
    // The words of somebody else are not those of this locker.
    let stranger = Owner::new();
    let words = stranger.words.to_str().unwrap();
    owner.home.run_json(["drill", "--phrase-file", words, "--no-lan"]).refused(4, "E_DENIED");
    ups.into_iter().for_each(|up| _ = up.stop().ok());
}

/// Goal: what is on this device alone is named, and the program says so by its exit code; with nobody else there is another.
#[test]
fn files_that_would_not_come_back_are_named() {
    let (owner, second, _meeting, [up, up_second]) = pair("files_that_would_not_come_back_are_named");
    up_second.stop().ok();
    let mut dice = Dice::of("new");
    let path = second.beside("only-here.bin");
    write_big(&path, 18_000_000, &mut dice);
    // The names come over, and the content does not: it is gone before anybody fetched it.
    second.ok(["add".as_ref(), path.as_os_str()]);
    let packs: Vec<_> = second.packs();
    let known = owner.home.packs();
    let new = packs.iter().filter(|pack| known.iter().all(|other| other.file_name() != pack.file_name()));
    new.for_each(|pack| std::fs::remove_file(pack).unwrap());
    assert_eq!(second.run(["verify"]).code(), Some(7));
    let up_second = Up::start(&second, &[]);
    owner.home.wait_for_path("only-here.bin");
    let words = owner.words.to_str().unwrap();
    let outcome = owner.home.run_json(["drill", "--phrase-file", words, "--no-lan"]);
    assert_eq!(outcome.code(), Some(7), "{outcome:?}");
    let told = outcome.json();
    assert_eq!(told["missing"], serde_json::json!(["only-here.bin"]), "{told}");
    assert_eq!((told["files"].clone(), told["covered"].clone()), (4.into(), 3.into()));
    up_second.stop().ok();
    owner.home.run_json(["drill", "--phrase-file", words, "--no-lan"]).refused(6, "E_NETWORK");
    up.stop().ok();
}
