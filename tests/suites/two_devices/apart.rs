//! A time apart: both devices change what both know, and take in the same. Afterwards both show the same, nothing is
//! doubled, and nothing is lost.

use std::collections::BTreeSet;

use locker_tests::files::write;
use locker_tests::{Home, Up};
use serde_json::Value;

use super::replication::pair;

/// Takes a text in as a file of a folder of the locker.
pub(super) fn put(home: &Home, folder: &str, name: &str, text: &str) {
    let path = home.beside("texts").join(name);
    write(&path, text.as_bytes());
    home.ok(["add".as_ref(), path.as_os_str(), "--to".as_ref(), folder.as_ref()]);
}

/// Everything that `ls` tells but what lies on the device.
fn told(home: &Home) -> Vec<Value> {
    let mut entries = home.list();
    entries.iter_mut().for_each(|entry| entry["local"] = "".into());
    entries
}

fn entry<'e>(entries: &'e [Value], path: &str) -> &'e Value {
    let found = entries.iter().find(|entry| entry["path"] == path);
    found.unwrap_or_else(|| panic!("no {path} in {entries:?}"))
}

/// The hashes of all contents that are shown, with those beside the newest where there are several.
fn contents(home: &Home) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in home.list().iter().filter(|entry| entry["kind"] == "file") {
        found.insert(entry["b3"].as_str().unwrap().to_owned());
        if entry["versions"] != 1 {
            let events = home.json(["history", entry["path"].as_str().unwrap()]);
            let hashes = events["events"].as_array().unwrap().iter().filter_map(|event| event["b3"].as_str());
            found.extend(hashes.map(str::to_owned));
        }
    }
    found
}

fn b3(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_string()
}

/// Goal: two devices that edit, rename, move and delete apart, and take in the same folder and another one of one name,
/// show the same tree once both say that they are level: each folder once, each file once, every content there.
#[test]
fn two_devices_that_were_apart_show_one_tree_without_doubles() {
    let (_meeting, a, b, up_a, up_b) = pair();
    for name in ["edited", "both", "renamed", "moved", "gone-a", "gone-b"] {
        put(&a, "base", &format!("{name}.txt"), &format!("{name} at first"));
    }
    a.ok(["mkdir", "box"]);
    b.wait_for_path("box");
    b.wait_synced();
    up_a.stop().ok();
    up_b.stop().ok();

    put(&a, "base", "edited.txt", "edited by a");
    put(&a, "base", "both.txt", "both by a");
    a.ok(["mv", "base/renamed.txt", "base/new name.txt"]);
    a.ok(["mv", "base/moved.txt", "box"]);
    a.ok(["rm", "base/gone-a.txt"]);
    b.ok(["rm", "base/edited.txt"]);
    put(&b, "base", "both.txt", "both by b");
    put(&b, "base", "renamed.txt", "renamed, edited by b");
    put(&b, "base", "moved.txt", "moved, edited by b");
    b.ok(["rm", "base/gone-b.txt"]);
    let photos = a.beside("Photos");
    for n in 0..300 {
        let folder = ["", "2025", "2026", "2026/summer"][n % 4];
        write(&photos.join(folder).join(format!("{n}.jpg")), format!("picture {n}").as_bytes());
    }
    for (home, by) in [(&a, "a"), (&b, "b")] {
        home.ok(["add".as_ref(), photos.as_os_str()]);
        let notes = home.beside("Notes");
        write(&notes.join(format!("only {by}.txt")), format!("only {by}").as_bytes());
        write(&notes.join("differs.txt"), format!("differs, by {by}").as_bytes());
        write(&notes.join("deep/same.txt"), b"same");
        write(&notes.join("deep").join(format!("also {by}.txt")), format!("also {by}").as_bytes());
        home.ok(["add".as_ref(), notes.as_os_str()]);
    }
    let mut expected: BTreeSet<String> = contents(&a).union(&contents(&b)).cloned().collect();
    for replaced in ["edited", "both", "renamed", "moved", "gone-a", "gone-b"] {
        expected.remove(&b3(&format!("{replaced} at first")));
    }

    let (up_a, up_b) = (Up::start(&a, &[]), Up::start(&b, &[]));
    a.wait_synced();
    b.wait_synced();
    let (hash_a, hash_b) =
        (a.json(["status"])["state_hash"].clone(), b.json(["status"])["state_hash"].clone());
    assert_eq!(hash_a, hash_b, "{:#?}\n{:#?}", a.paths(), b.paths());
    let shown = told(&a);
    assert_eq!(shown, told(&b));

    let below = |folder: &str| {
        let files = shown.iter().filter(|entry| entry["kind"] == "file");
        files.filter(|entry| entry["path"].as_str().unwrap().starts_with(folder)).count()
    };
    assert_eq!(below("Photos/"), 300);
    let names: Vec<&str> = shown.iter().map(|entry| entry["path"].as_str().unwrap()).collect();
    assert!(
        names.iter().all(|name| !name.starts_with("Photos (") && !name.starts_with("Notes (")),
        "{names:?}"
    );
    let notes: Vec<&str> = names.iter().copied().filter(|name| name.starts_with("Notes/")).collect();
    let expected_notes = [
        "Notes/deep",
        "Notes/deep/also a.txt",
        "Notes/deep/also b.txt",
        "Notes/deep/same.txt",
        "Notes/differs (2).txt",
        "Notes/differs.txt",
        "Notes/only a.txt",
        "Notes/only b.txt",
    ];
    assert_eq!(BTreeSet::from_iter(notes), BTreeSet::from(expected_notes));
    let base: Vec<&str> = names.iter().copied().filter(|name| name.starts_with("b")).collect();
    let expected_base =
        ["base", "base/both.txt", "base/edited.txt", "base/new name.txt", "box", "box/moved.txt"];
    assert_eq!(BTreeSet::from_iter(base), BTreeSet::from(expected_base));

    assert_eq!(entry(&shown, "base/both.txt")["versions"], 2);
    assert_eq!(entry(&shown, "base/edited.txt")["b3"], b3("edited by a"));
    assert_eq!(entry(&shown, "base/new name.txt")["b3"], b3("renamed, edited by b"));
    assert_eq!(entry(&shown, "box/moved.txt")["b3"], b3("moved, edited by b"));
    for home in [&a, &b] {
        let there = contents(home);
        let lost: Vec<_> = expected.difference(&there).collect();
        assert!(lost.is_empty(), "{lost:?}");
        assert_eq!(home.json(["verify"])["bad"], 0);
        // The edit beat the delete, and nothing else had no effect.
        let problems = home.json(["status"])["problems"].clone();
        let codes: Vec<&str> =
            problems.as_array().unwrap().iter().map(|problem| problem["code"].as_str().unwrap()).collect();
        assert_eq!(codes, ["E_FRESH"], "{problems}");
    }
    up_a.stop().ok();
    up_b.stop().ok();
}

/// Goal: what is left to fold when the devices are stopped is folded when they run again. Method: both are killed as soon
/// as they know of the pair, most often before the quiet is over.
#[test]
fn a_pair_that_nobody_folded_is_folded_by_whoever_runs() {
    let (_meeting, a, b, up_a, up_b) = pair();
    b.wait_synced();
    up_a.stop().ok();
    up_b.stop().ok();
    for home in [&a, &b] {
        put(home, "papers", "one.txt", "one");
    }
    let (up_a, up_b) = (Up::start(&a, &[]), Up::start(&b, &[]));
    a.wait_equal(&b);
    up_a.kill();
    up_b.kill();
    let (up_a, up_b) = (Up::start(&a, &[]), Up::start(&b, &[]));
    a.wait_synced();
    b.wait_synced();
    assert_eq!(told(&a), told(&b));
    assert_eq!(a.paths(), ["papers", "papers/one.txt"]);
    up_a.stop().ok();
    up_b.stop().ok();
}
