//! What a device keeps of the content by its rule, and what it reads from others.

use std::fs;
use std::time::Duration;

use locker_tests::files::{write, write_big};
use locker_tests::wait::wait_for;
use locker_tests::{Dice, Home, Meeting, Up};

const BIG: u64 = 20_000_000;
const LIMIT: Duration = Duration::from_secs(30);

fn kept(home: &Home) -> u64 {
    home.packs().iter().map(|pack| fs::metadata(pack).unwrap().len()).sum()
}

/// How much of a file is here; nothing is said of one that is not known yet.
fn local(home: &Home, path: &str) -> String {
    let entry = home.list().into_iter().find(|entry| entry["path"] == path);
    entry.map_or_else(String::new, |entry| entry["local"].as_str().unwrap().to_owned())
}

fn wait_local(home: &Home, path: &str, what: &str) {
    wait_for(&format!("{path}: {what}"), LIMIT, || (local(home, path) == what).then_some(()));
}

/// Goal: a new device under the rule `none` has all names and no content, and reads by ranges; what is pinned comes and stays;
/// what is not asked for any more goes only when two others prove that they hold it, and is said to be too much until then.
/// Method: a device that keeps everything, one that keeps nothing, and a third one that comes later.
#[test]
fn a_device_keeps_what_its_rule_asks_for() {
    let mut dice = Dice::of("a_device_keeps_what_its_rule_asks_for");
    let meeting = Meeting::start();
    let (a, b, c) = (Home::new(), Home::empty(), Home::empty());
    let source = a.beside("source");
    write_big(&source.join("a/big.bin"), BIG, &mut dice);
    write_big(&source.join("b/big.bin"), BIG, &mut dice);
    write(&source.join("b/small.txt"), &dice.bytes(70_000));
    a.ok(["add".as_ref(), source.as_os_str()]);
    let up_a = Up::start(&a, &["--bootstrap", meeting.address()]);
    a.pair_with(&b, &meeting, "reader");
    assert_eq!(b.json(["rule", "set", "none"])["rule"], "none");
    let up_b = Up::start(&b, &[]);
    b.wait_synced();
    a.wait_equal(&b);
    assert_eq!((kept(&b), local(&b, "source/a/big.bin")), (0, "none".to_owned()));
    let big = fs::read(source.join("a/big.bin")).unwrap();
    let part = b.ok(["cat", "source/a/big.bin", "--offset", "15000000", "--length", "100000"]).out;
    assert!(part == big[15_000_000..15_100_000]);
    assert!(b.ok(["cat", "source/a/big.bin"]).out == big);
    assert_eq!(kept(&b), 0);

    b.ok(["pin", "source/b"]);
    wait_local(&b, "source/b/big.bin", "all");
    assert_eq!(b.json(["rule", "ls"])["pinned"], serde_json::json!(["source/b"]));
    assert_eq!(
        (local(&b, "source/b/small.txt"), local(&b, "source/a/big.bin")),
        ("all".into(), "none".into())
    );
    // What comes anew is kept by the same rule.
    let more = a.beside("more");
    write(&more.join("b/new.txt"), &dice.bytes(70_000));
    write(&more.join("a/new.txt"), &dice.bytes(70_000));
    a.ok(["add".as_ref(), more.join("b").as_os_str(), "--to".as_ref(), "source".as_ref()]);
    wait_local(&b, "source/b/new.txt", "all");
    a.ok(["add".as_ref(), more.join("a").as_os_str(), "--to".as_ref(), "source".as_ref()]);
    b.wait_for_path("source/a/new.txt");
    assert_eq!(local(&b, "source/a/new.txt"), "none");

    let exceeded = b.json(["unpin", "source/b"]);
    assert_eq!((&exceeded["pinned"], &exceeded["freed"]["files"]), (&serde_json::json!([]), &0.into()));
    assert_eq!(local(&b, "source/b/big.bin"), "all");
    let problems = b.json(["status"])["problems"].clone();
    let is_told = |problem: &serde_json::Value| {
        problem["code"] == "E_RULE" && problem["message"].as_str().unwrap().contains("only one other device")
    };
    assert!(problems.as_array().unwrap().iter().any(is_told), "{problems}");

    a.pair_with(&c, &meeting, "third");
    let up_c = Up::start(&c, &[]);
    c.wait_synced();
    wait_for("the rule is kept", LIMIT, || {
        b.json(["rule", "set", "pinned"]);
        (kept(&b) == 0).then_some(())
    });
    assert_eq!(b.json(["verify"])["bad"], 0);
    assert!(b.json(["rule", "ls"])["excess"].is_null());

    b.json(["rule", "set", "all"]);
    b.wait_synced();
    assert_eq!(local(&b, "source/a/big.bin"), "all");
    assert_eq!(b.json(["verify"])["bad"], 0);
    [up_a, up_b, up_c].into_iter().for_each(|up| drop(up.stop().ok()));
}
