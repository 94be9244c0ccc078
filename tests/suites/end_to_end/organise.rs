//! Taking in again, moving, deleting, restoring, and what the history tells.

use std::fs;

use locker_tests::files::{set_mtime, write, write_big};
use locker_tests::{Dice, Home, Tree};
use serde_json::Value;

/// Goal: the same bytes are stored once, whatever they are called and whenever they come.
#[test]
fn the_same_file_twice_is_stored_once() {
    let mut dice = Dice::of("twice");
    let home = Home::new();
    let source = home.beside("source");
    write_big(&source.join("one.bin"), 9_000_000, &mut dice);
    write(&source.join("small.txt"), &dice.bytes(1_000));
    fs::copy(source.join("one.bin"), source.join("other name.bin")).unwrap();
    let first = home.json(["add".as_ref(), source.as_os_str()]);
    let new = first["new_bytes"].as_u64().unwrap();
    assert!((9_001_000..9_600_000).contains(&new), "{first}");

    // Once more, unchanged: nothing is written, nothing becomes a new version.
    let state = home.json(["status"])["state_hash"].clone();
    let second = home.json(["add".as_ref(), source.as_os_str()]);
    assert_eq!(second["new_bytes"], 0, "{second}");
    assert_eq!(second["files"], 3, "{second}");
    assert_eq!(second["unchanged"], 3, "{second}");
    assert_eq!(home.json(["status"])["state_hash"], state);

    // Under another folder: new entries, the same bytes.
    let elsewhere = home.json(["add".as_ref(), source.as_os_str(), "--to".as_ref(), "Copies/here".as_ref()]);
    assert_eq!(elsewhere["new_bytes"], 0, "{elsewhere}");
    let out = home.beside("out");
    home.ok(["get".as_ref(), "Copies/here/source".as_ref(), "--to".as_ref(), out.as_os_str()]);
    Tree::of(&source).assert_same(&Tree::of(&out));
}

/// Goal: two arguments with the same name are one thing in the locker, as if they had been given one after the other.
/// Method: two folders with a folder and a file of the same name in them, and two files.
#[test]
fn two_folders_of_one_name_become_one() {
    let home = Home::new();
    let (one, two) = (home.beside("one/Music"), home.beside("two/Music"));
    write(&one.join("Bach/air.flac"), b"first");
    write(&two.join("Bach/air.flac"), b"second");
    write(&two.join("Bach/fugue.flac"), b"third");
    home.ok(["add".as_ref(), one.as_os_str(), two.as_os_str()]);
    assert_eq!(home.paths(), ["Music", "Music/Bach", "Music/Bach/air.flac", "Music/Bach/fugue.flac"]);
    assert_eq!(home.ok(["cat", "Music/Bach/air.flac"]).text(), "second");
    assert_eq!(home.list().iter().filter(|entry| entry["conflict"] == true).count(), 0);
    home.ok(["restore", "Music/Bach/air.flac", "--version", "1"]);
    assert_eq!(home.ok(["cat", "Music/Bach/air.flac"]).text(), "first");

    let [a, b] = ["one/list.txt", "two/list.txt"].map(|name| home.beside(name));
    write(&a, b"a");
    write(&b, b"b");
    home.ok(["add".as_ref(), a.as_os_str(), b.as_os_str(), a.as_os_str()]);
    assert!(!home.paths().iter().any(|path| path.contains("(2)")), "{:?}", home.paths());
    assert_eq!(home.ok(["cat", "list.txt"]).text(), "a");
}

/// Goal: a byte put in at the middle of a large file costs the chunks around it, not the file.
#[test]
fn an_insertion_costs_only_what_changed() {
    let mut dice = Dice::of("insertion");
    let home = Home::new();
    let file = home.beside("film.bin");
    let mut content = dice.bytes(48 << 20);
    write(&file, &content);
    home.ok(["add".as_ref(), file.as_os_str()]);
    content.splice((24 << 20)..(24 << 20), dice.bytes(1_024));
    write(&file, &content);
    let added = home.json(["add".as_ref(), file.as_os_str()]);
    let new = added["new_bytes"].as_u64().unwrap();
    assert!((1..=10 << 20).contains(&new), "{added}");
    assert!(home.ok(["cat", "film.bin"]).out == content);
}

/// Goal: `mkdir`, `mv`, `rm`, `restore`, `find`, `ls`, `tree` do what their help says.
#[test]
fn things_are_moved_removed_and_brought_back() {
    let home = Home::new();
    let source = home.beside("Photos");
    for name in ["2025/sea.jpg", "2025/hills.jpg", "2026/Snow.JPG", "list.txt"] {
        write(&source.join(name), name.as_bytes());
    }
    home.ok(["add".as_ref(), source.as_os_str()]);
    assert_eq!(
        home.paths(),
        [
            "Photos",
            "Photos/2025",
            "Photos/2025/hills.jpg",
            "Photos/2025/sea.jpg",
            "Photos/2026",
            "Photos/2026/Snow.JPG",
            "Photos/list.txt"
        ]
    );
    let new_bytes = home.json(["status"])["store_bytes"].clone();
    assert!(new_bytes.as_u64() > Some(0));

    home.ok(["mkdir", "-p", "Archive/old"]);
    home.ok(["mkdir", "-p", "Archive/old"]);
    // Into a folder that exists, and to a new name.
    home.ok(["mv", "Photos/2025", "Archive/old"]);
    home.ok(["mv", "Photos/list.txt", "Archive/contents.txt"]);
    assert_eq!(
        home.paths(),
        [
            "Archive",
            "Archive/contents.txt",
            "Archive/old",
            "Archive/old/2025",
            "Archive/old/2025/hills.jpg",
            "Archive/old/2025/sea.jpg",
            "Photos",
            "Photos/2026",
            "Photos/2026/Snow.JPG"
        ]
    );
    assert_eq!(home.ok(["cat", "Archive/old/2025/sea.jpg"]).text(), "2025/sea.jpg");

    let found = |query: &str| -> Vec<String> {
        let Value::Array(entries) = home.json(["find", query])["entries"].take() else { panic!() };
        let mut paths: Vec<_> = entries.iter().map(|e| e["path"].as_str().unwrap().to_owned()).collect();
        paths.sort();
        paths
    };
    assert_eq!(
        found("*.jpg"),
        ["Archive/old/2025/hills.jpg", "Archive/old/2025/sea.jpg", "Photos/2026/Snow.JPG"]
    );
    assert_eq!(found("snow"), ["Photos/2026/Snow.JPG"]);
    assert_eq!(found("nothing of that name"), [""; 0]);
    let tree = home.ok(["tree", "Archive"]).text();
    assert!(tree.contains("2025/\n") && tree.contains("sea.jpg\n"), "{tree}");
    assert_eq!(home.json(["ls", "Archive/contents.txt"])["entries"][0]["path"], "Archive/contents.txt");

    // A folder goes to the trash and comes back with all that is in it.
    assert_eq!(home.json(["rm", "Archive"])["files"], 3);
    assert_eq!(home.paths(), ["Photos", "Photos/2026", "Photos/2026/Snow.JPG"]);
    home.run_json(["cat", "Archive/contents.txt"]).refused(3, "E_NOT_FOUND");
    home.ok(["restore", "Archive"]);
    assert_eq!(home.ok(["cat", "Archive/old/2025/hills.jpg"]).text(), "2025/hills.jpg");
    assert_eq!(home.paths().len(), 9);
    // One file out of a folder that is in the trash.
    home.ok(["rm", "Archive/contents.txt"]);
    home.ok(["restore", "Archive/contents.txt"]);
    assert_eq!(home.ok(["cat", "Archive/contents.txt"]).text(), "list.txt");
    assert_eq!(home.json(["verify"])["bad"], 0);
}

/// Goal: every version stays, numbered, and comes back by number or by time. Method: three versions, with times that the
/// history itself tells.
#[test]
fn versions_come_back_by_number_and_by_time() {
    let home = Home::new();
    let file = home.beside("notes.txt");
    for (text, time) in
        [("first", 1_000_000_000_000), ("second, longer", 1_000_000_001_000), ("third", 1_000_000_002_000)]
    {
        write(&file, text.as_bytes());
        set_mtime(&file, time);
        home.ok(["add".as_ref(), file.as_os_str()]);
    }
    let events = home.json(["history", "notes.txt"])["events"].as_array().unwrap().clone();
    let written: Vec<_> = events.iter().filter(|event| event["what"] == "written").collect();
    let numbers: Vec<_> = written.iter().map(|event| event["version"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3], "{events:?}");
    assert_eq!(written[1]["size"], 14);
    assert_eq!(written[1]["mtime"], 1_000_000_001_000_u64);
    assert_eq!(written[0]["b3"], blake3::hash(b"first").to_hex().as_str());
    assert!(events.iter().any(|event| event["what"] == "created"), "{events:?}");

    home.ok(["restore", "notes.txt", "--version", "1"]);
    assert_eq!(home.ok(["cat", "notes.txt"]).text(), "first");
    assert_eq!(home.json(["ls", "notes.txt"])["entries"][0]["mtime"], 1_000_000_000_000_u64);
    // To the moment of the second version, by the clock of the history.
    let moment = |ms: &Value| {
        let ms = ms.as_u64().unwrap();
        let (seconds, rest) = (ms / 1_000, ms % 1_000);
        let text = std::process::Command::new("date")
            .args(["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%S"])
            .output();
        format!("{}.{rest:03}Z", String::from_utf8(text.unwrap().stdout).unwrap().trim())
    };
    home.ok(["restore", "notes.txt", "--at", &moment(&written[1]["time"])]);
    assert_eq!(home.ok(["cat", "notes.txt"]).text(), "second, longer");
    // Restoring to what is there is nothing new.
    let version = |home: &Home| home.json(["history", "notes.txt"])["events"].as_array().unwrap().len();
    let before = version(&home);
    assert_eq!(home.json(["restore", "notes.txt", "--at", "now"])["entries"], 0);
    assert_eq!(version(&home), before);
    // In the trash the history is still told.
    home.ok(["rm", "notes.txt"]);
    let told = home.json(["history", "notes.txt"])["events"].as_array().unwrap().clone();
    assert_eq!(told.last().unwrap()["what"], "trashed", "{told:?}");
    home.run_json(["restore", "notes.txt", "--version", "99"]).refused(3, "E_NOT_FOUND");
}

/// Goal: a folder goes back to an earlier moment with everything below it: removed files are there again, newer files
/// are gone from the view (not lost), moved ones are back.
#[test]
fn a_folder_comes_back_as_it_was_at_a_time() {
    let home = Home::new();
    let source = home.beside("Papers");
    for name in ["a.txt", "b.txt", "deep/c.txt"] {
        write(&source.join(name), name.as_bytes());
    }
    home.ok(["add".as_ref(), source.as_os_str()]);
    let before = home.paths();
    let state = |home: &Home| {
        home.list()
            .iter()
            .map(|e| (e["path"].to_string(), e["b3"].to_string()))
            .collect::<std::collections::BTreeSet<_>>()
    };
    let state_before = state(&home);
    let latest = home.json(["history", "Papers/deep/c.txt"])["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["time"].as_u64().unwrap())
        .max()
        .unwrap();
    // The next change must carry a later millisecond.
    locker_tests::wait::wait_for("a later millisecond", std::time::Duration::from_secs(5), || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        (now.as_millis() > u128::from(latest) + 5).then_some(())
    });
    let at = format!("{}.{:03}", latest / 1_000, latest % 1_000 + 2);
    let told = std::process::Command::new("date")
        .args(["-u", "-d", &format!("@{at}"), "+%Y-%m-%dT%H:%M:%S.%3NZ"])
        .output();
    let at = String::from_utf8(told.unwrap().stdout).unwrap().trim().to_owned();

    home.ok(["rm", "Papers/a.txt"]);
    home.ok(["mv", "Papers/b.txt", "Papers/deep/renamed.txt"]);
    write(&source.join("deep/c.txt"), b"changed");
    fs::remove_file(source.join("a.txt")).unwrap();
    fs::remove_file(source.join("b.txt")).unwrap();
    write(&source.join("new.txt"), b"new");
    home.ok(["add".as_ref(), source.as_os_str()]);
    assert_ne!(home.paths(), before);

    home.ok(["restore", "Papers", "--at", &at]);
    assert_eq!(home.paths(), before);
    assert_eq!(state(&home), state_before);
    // What came later is not lost.
    home.ok(["restore", "Papers/new.txt"]);
    assert_eq!(home.ok(["cat", "Papers/new.txt"]).text(), "new");
}

/// Goal: one true sentence, and figures that add up.
#[test]
fn status_tells_the_truth() {
    let mut dice = Dice::of("status");
    let home = Home::new();
    let source = home.beside("source");
    write(&source.join("a/one"), &dice.bytes(100_000));
    write(&source.join("b"), &dice.bytes(23));
    home.ok(["add".as_ref(), source.as_os_str()]);
    let status = home.json(["status"]);
    assert_eq!(status["files"], 2);
    assert_eq!(status["folders"], 2);
    assert_eq!(status["bytes"], 100_023);
    assert_eq!(status["problems"].as_array().unwrap().len(), 0, "{status}");
    let sentence = status["sentence"].as_str().unwrap();
    assert!(sentence.len() > 20 && sentence.ends_with('.'), "{sentence:?}");
    // One device is one copy: the sentence may not say that two are there.
    assert_eq!(status["copies"]["least"], 1, "{status}");
    assert_eq!(status["copies"]["files_at_risk"], 2, "{status}");
    let devices = status["devices"].as_array().unwrap();
    assert_eq!(devices.len(), 1);
    assert_eq!(devices[0]["name"], "bench");
    assert_eq!(devices[0]["this"], true);
    let packs: u64 = home.packs().iter().map(|p| p.metadata().unwrap().len()).sum();
    let told = status["store_bytes"].as_u64().unwrap();
    assert!(told >= packs && packs > 100_000, "{told} told, {packs} in packs");
}
