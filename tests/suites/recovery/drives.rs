//! A disk in a drawer: filled, brought up to date, pulled out; and everything back from it.

use std::path::Path;
use std::time::Duration;

use locker_tests::files::{copy_tree, walk, write};
use locker_tests::wait::wait_for;
use locker_tests::{Home, Up};
use serde_json::Value;

use super::whole::{Owner, content};

fn add(home: &Home, name: &str, bytes: &[u8]) {
    write(&home.beside(name), bytes);
    home.ok(["add".as_ref(), home.beside(name).as_os_str()]);
}

fn drive(home: &Home, name: &str) -> Value {
    let devices = home.json(["device", "ls"])["devices"].clone();
    devices.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap_or(&Value::Null).clone()
}

/// T67, from a drive: with the words and the folder alone everything comes back, without a network; the folder says nothing of
/// what is in it.
#[test]
fn t67_from_a_drive() {
    let owner = Owner::with_files("t67_from_a_drive");
    add(&owner.home, "a-name-that-is-searched-for.txt", b"a text that is searched for as well");
    let folder = owner.home.beside("usb");
    let dir = folder.to_str().unwrap();
    let told = owner.home.json(["drive", "init", dir, "--name", "drawer"]);
    let told = &told["drives"][0];
    assert_eq!((told["name"].clone(), told["missing"].clone()), ("drawer".into(), 0.into()), "{told}");
    assert!(told["new_bytes"].as_u64().unwrap() > 40_000_000, "{told}");
    let listed = drive(&owner.home, "drawer");
    assert_eq!((listed["role"].clone(), listed["id"].clone()), ("blind".into(), told["id"].clone()));
    assert!(listed["last_seen"].as_u64().unwrap() > 0);
    for marked in ["a-name-that-is-searched-for", "a text that is searched for"] {
        assert!(!holds(&folder, marked.as_bytes()), "{marked:?} is in the folder");
    }
    let (back, outcome) = owner.recover(&["--no-lan", "--from", dir]);
    outcome.ok();
    content(&back, "out").assert_same(&content(&owner.home, "out-again"));
    assert_eq!(back.json(["verify"])["bad"], 0);
}

/// Whether bytes stand in any file below a folder.
fn holds(folder: &Path, bytes: &[u8]) -> bool {
    walk(folder)
        .iter()
        .filter(|path| path.is_file())
        .any(|path| std::fs::read(path).unwrap().windows(bytes.len()).any(|window| window == bytes))
}

/// Goal: a running device brings a drive up to date whenever it is there; two drives are independent, and what is pulled out is
/// whole as of then. Method: a drive is moved away, which is what pulling it out looks like, and put back.
#[test]
fn drives_are_brought_up_to_date_when_they_are_there() {
    let owner = Owner::new();
    let home = &owner.home;
    add(home, "one.txt", &[1; 50_000]);
    let up = Up::start(home, &[]);
    let (first, second) = (home.beside("first"), home.beside("second"));
    for dir in [&first, &second] {
        home.ok(["drive".as_ref(), "init".as_ref(), dir.as_os_str()]);
    }
    assert_ne!(drive(home, "first")["id"], drive(home, "second")["id"]);
    // The second one lies in the drawer when another file comes.
    let drawer = home.beside("drawer");
    std::fs::rename(&second, &drawer).unwrap();
    add(home, "two.txt", &[2; 50_000]);
    let packs = |dir: &Path| walk(&dir.join("packs")).iter().filter(|path| path.is_file()).count();
    let before = packs(&drawer);
    wait_for("the first drive to get the file", Duration::from_secs(40), || {
        (packs(&first) > before).then_some(())
    });
    assert_eq!(packs(&drawer), before);
    std::fs::rename(&drawer, &second).unwrap();
    wait_for("the second drive to get it too", Duration::from_secs(40), || {
        (packs(&second) > before).then_some(())
    });
    up.stop().ok();
    let told = home.json(["drive", "update"]);
    assert_eq!(told["drives"].as_array().unwrap().len(), 2);
    assert!(
        told["drives"].as_array().unwrap().iter().all(|one| one["missing"] == 0 && one["new_bytes"] == 0),
        "{told}"
    );
    // Not every folder is a drive, and not every drive is ours.
    let stranger = Owner::new();
    stranger.home.run_json(["drive".as_ref(), "update".as_ref(), first.as_os_str()]).refused(2, "E_USAGE");
    home.run_json(["drive".as_ref(), "init".as_ref(), first.as_os_str()]).refused(1, "E_EXISTS");
    stranger.home.run_json(["drive", "update"]).refused(3, "E_NOT_FOUND");
    let words = owner.words.to_str().unwrap();
    let (first, second) = (first.to_str().unwrap(), second.to_str().unwrap());
    // Known, plugged in, and named besides: opened once.
    let again = format!("{first}/");
    let told = home.json(["drill", "--phrase-file", words, "--no-lan", "--from", first, "--from", &again]);
    assert_eq!((told["covered"].clone(), told["sources"].as_array().unwrap().len()), (2.into(), 2), "{told}");
    // From the older of two and the newer: the union.
    let back = Home::empty();
    back.json(["recover", "--phrase-file", words, "--no-lan", "--from", second, "--from", first]);
    assert_eq!(back.ok(["cat", "two.txt"]).out, [2; 50_000]);
    let told = back.json(["drill", "--phrase-file", words, "--no-lan", "--from", first]);
    assert_eq!(told["covered"], 2, "{told}");
}

/// Goal: a home that was put back from a backup is found out by the drive, which stays as it is: of two branches of one device none
/// counts for who has the drive alone. Method: the home is copied, goes on, and is put back.
#[test]
fn a_restored_home_does_not_spoil_the_drive() {
    let owner = Owner::new();
    let home = &owner.home;
    add(home, "one.txt", &[1; 50_000]);
    let (folder, backup) = (home.beside("usb"), home.beside("backup"));
    let dir = folder.to_str().unwrap();
    home.ok(["drive", "init", dir]);
    copy_tree(home.path(), &backup, &|path| path.ends_with("locker.sock"));
    add(home, "two.txt", &[2; 50_000]);
    assert_eq!(home.json(["drive", "update"])["drives"][0]["missing"], 0);

    std::fs::remove_dir_all(home.path()).unwrap();
    std::fs::rename(&backup, home.path()).unwrap();
    add(home, "three.txt", &[3; 50_000]);
    home.run_json(["drive", "update"]).refused(8, "E_ROLLBACK");
    // It has found out, and writes no more; what was written stays readable.
    home.run_json(["mkdir", "folder"]).refused(8, "E_ROLLBACK");
    assert_eq!(home.ok(["cat", "three.txt"]).out, [3; 50_000]);
    let (back, outcome) = owner.recover(&["--no-lan", "--from", dir]);
    outcome.ok();
    assert_eq!(back.paths(), ["one.txt", "two.txt"]);
    assert_eq!(back.ok(["cat", "two.txt"]).out, [2; 50_000]);
}

/// Goal: a drive that was removed counts again when it is brought up to date by its folder, and until then is left alone.
#[test]
fn a_removed_drive_comes_back_by_its_folder_alone() {
    let owner = Owner::new();
    let home = &owner.home;
    add(home, "one.txt", &[1; 50_000]);
    let folder = home.beside("usb");
    let dir = folder.to_str().unwrap();
    let id = home.json(["drive", "init", dir, "--name", "usb"])["drives"][0]["id"].clone();
    home.ok(["device", "revoke", id.as_str().unwrap(), "--yes"]);
    assert_eq!(drive(home, "usb"), Value::Null);
    home.run_json(["drive", "update"]).refused(3, "E_NOT_FOUND");
    assert_eq!(home.json(["drive", "update", dir])["drives"][0]["missing"], 0);
    assert_eq!(drive(home, "usb")["id"], id);
}
