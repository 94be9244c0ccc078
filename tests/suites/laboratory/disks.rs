//! Disks that are full, read-only or out of order for a while: refused with a clear error, nothing lost, and everything
//! works again by itself once the disk does, in a node that runs too.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use locker_tests::enclosure::with_own_mounts;
use locker_tests::faults::{FailingFolder, Fault, How, Kind};
use locker_tests::files::{write, write_big};
use locker_tests::lab::{FileSystem, Mounted, has_disks, scratch};
use locker_tests::wait::wait_for;
use locker_tests::{Dice, Home, Outcome, Up, tree};

use crate::disk_server;

/// Runs a test with a disk of ext4 of so many MiB.
fn on_a_disk(name: &str, mebibytes: u64, test: impl FnOnce(&Path, &Path, Mounted)) {
    with_own_mounts(module_path!(), name, || {
        if let Err(why) = has_disks() {
            eprintln!("{name} is SKIPPED: {why}");
            return;
        }
        let folder = scratch();
        let image = folder.path().join("image");
        FileSystem::Ext4.make(&image, mebibytes).unwrap();
        let mounted = Mounted::mount(&image, &folder.path().join("disk"), "defaults").unwrap();
        test(folder.path(), &image, mounted);
    });
}

/// Fills a disk to the last byte.
fn fill(disk: &Path) {
    let filler = format!("of={}", disk.join("filler").display());
    for block in ["bs=64K", "bs=512"] {
        let mut more = Command::new("dd");
        more.args(["if=/dev/zero", block, "oflag=append", "conv=notrunc"]).arg(&filler);
        assert!(!more.output().unwrap().status.success(), "the disk is not full");
    }
}

/// Asserts that files are there, byte for byte; `paths` are those in the locker and below `source`.
#[track_caller]
fn assert_whole(home: &Home, source: &Path, paths: &[String]) {
    for path in paths {
        let read = home.ok(["cat", path]).out;
        let file = source.parent().unwrap().join(path);
        assert_eq!(blake3::hash(&read), tree::hash(&file), "{path}");
    }
}

/// Goal: on a full disk a running node refuses new content with a clear error and loses nothing; the trash takes and gives;
/// with room again it works on, without being started again. Method: ext4 of 400 MiB, filled by the locker and then by
/// somebody else to the last byte.
#[test]
fn a_running_node_on_a_full_disk_works_on() {
    on_a_disk("a_running_node_on_a_full_disk_works_on", 400, |folder, _, disk| {
        let mut dice = Dice::of("full disk of a node");
        let home = Home::at(disk.path().join("home"));
        let source = folder.join("source");
        let mut lay = |numbers: std::ops::Range<u32>| {
            numbers.for_each(|n| write_big(&source.join(format!("{n:02}")), 2_000_000, &mut dice));
        };
        lay(0..40);
        let others = disk.path().join("others");
        std::fs::write(&others, vec![1; 130_000_000]).unwrap();
        home.json(["init"]);
        let node = Up::start(&home, &[]);
        let add =
            |home: &Home| home.run(["--json".as_ref(), "-v".as_ref(), "add".as_ref(), source.as_os_str()]);
        let mut saved = add(&home).ok().saved();
        assert_eq!(saved.len(), 40);
        lay(40..100);
        let refused = add(&home);
        refused.refused(1, "E_FULL");
        saved.extend(refused.saved());
        assert!(saved.len() < 100, "{refused:?}");
        fill(disk.path());
        add(&home).refused(1, "E_FULL");
        assert_whole(&home, &source, &saved);
        for path in &saved[..3] {
            home.ok(["rm", path]);
        }
        home.ok(["restore", &saved[0]]);
        home.ok(["mkdir", "made on a full disk"]);
        assert_eq!(home.json(["verify"])["bad"], 0);
        // The same by commands on their own.
        node.stop().ok();
        home.ok(["rm", &saved[0]]);
        home.ok(["restore", &saved[1]]);
        assert_whole(&home, &source, &saved[3..]);
        let node = Up::start(&home, &[]);
        add(&home).refused(1, "E_FULL");

        std::fs::remove_file(disk.path().join("filler")).unwrap();
        std::fs::remove_file(others).unwrap();
        home.ok(["restore", &saved[0]]);
        home.ok(["restore", &saved[2]]);
        assert_eq!(add(&home).ok().json()["files"], 100);
        node.kill();
        assert!(home.paths().contains(&"made on a full disk".to_owned()));
        assert_eq!(home.json(["verify"])["bad"], 0);
        let all: Vec<String> = (0..100).map(|n| format!("source/{n:02}")).collect();
        assert_whole(&home, &source, &all);
    });
}

/// Goal: a disk that may not be written is read all the same, and every change is refused with a clear error; when it may
/// be written again everything works. Method: remounted while nobody works, and mounted so from the start.
#[test]
fn a_read_only_disk_is_read_and_not_written() {
    on_a_disk("a_read_only_disk_is_read_and_not_written", 192, |folder, image, disk| {
        let mut dice = Dice::of("read-only disk");
        let home = Home::at(disk.path().join("home"));
        let source = folder.join("source");
        for n in 0..5 {
            write(&source.join(n.to_string()), &dice.bytes(300_000));
        }
        home.json(["init"]);
        home.ok(["add".as_ref(), source.as_os_str()]);
        home.ok(["rm", "source/4"]);
        let paths = home.paths();
        let look = |how: &str| {
            assert_eq!(home.paths(), paths, "{how}");
            assert_eq!(home.json(["verify"])["bad"], 0, "{how}");
            home.ok(["status"]);
            home.ok(["history", "source/4"]);
            assert_whole(&home, &source, &paths[1..]);
            for command in [
                vec!["add", source.to_str().unwrap()],
                vec!["mkdir", "new"],
                vec!["mv", "source/1", "moved"],
                vec!["rm", "source/1"],
                vec!["restore", "source/4"],
            ] {
                home.run_json(command).refused(1, "E_READ_ONLY");
            }
            // Told as what it is, beside what can be looked at without a node.
            let outcome = home.run_json(["doctor", "--no-lan"]);
            assert_eq!(outcome.code(), Some(1), "{how}: {outcome:?}");
            let told = outcome.json();
            let checks = told["checks"].as_array().unwrap().iter();
            let failed = checks.filter(|one| one["state"] == "failed");
            let failed: Vec<_> = failed.map(|one| one["name"].as_str().unwrap()).collect();
            assert_eq!(failed, ["disk", "listen"], "{how}: {told:#}");
        };
        disk.remount("ro");
        look("remounted");
        disk.remount("rw");
        home.ok(["mkdir", "after"]);
        home.ok(["rm", "after"]);
        disk.unmount();
        let disk = Mounted::mount(image, &folder.join("disk"), "ro").unwrap();
        look("from the start");
        disk.unmount();
        let _disk = Mounted::mount(image, &folder.join("disk"), "defaults").unwrap();
        home.ok(["restore", "source/4"]);
        assert_eq!(home.json(["verify"])["bad"], 0);
    });
}

/// Goal: the recovery is rehearsed on a device whose disk can only be read too, as it is before it fails for good; what
/// is thrown away lies elsewhere then, and nothing of it is left. Method: a drive on another disk is all that others
/// have; `TMPDIR` is a folder of the test's own.
#[test]
fn the_recovery_is_rehearsed_on_a_read_only_disk() {
    on_a_disk("the_recovery_is_rehearsed_on_a_read_only_disk", 192, |folder, image, disk| {
        let mut dice = Dice::of("rehearsal on a read-only disk");
        let home = Home::at(disk.path().join("home"));
        let (source, drive, temporary) = (folder.join("source"), folder.join("drive"), folder.join("tmp"));
        for n in 0..3 {
            write(&source.join(n.to_string()), &dice.bytes(300_000));
        }
        std::fs::create_dir(&temporary).unwrap();
        let words = folder.join("words.txt");
        write(&words, home.json(["init"])["phrase"].as_str().unwrap().as_bytes());
        home.ok(["add".as_ref(), source.as_os_str()]);
        home.ok(["drive".as_ref(), "init".as_ref(), drive.as_os_str()]);
        let drill = |words: &Path| {
            let mut command = home.command(["--json", "drill", "--no-lan", "--phrase-file"]);
            command.arg(words).env("TMPDIR", &temporary);
            let outcome = Outcome::of(command);
            let left: Vec<_> = std::fs::read_dir(&temporary).unwrap().collect();
            assert!(left.is_empty(), "{left:?}: {outcome:?}");
            outcome
        };
        let look = |how: &str| {
            let told = drill(&words).ok().json();
            let counts = ["files", "covered", "read"].map(|name| told[name].as_u64().unwrap());
            assert_eq!(counts, [3, 3, 3], "{how}: {told:#}");
            assert!(told["missing"].as_array().unwrap().is_empty(), "{how}: {told:#}");
            assert!(told["sentence"].as_str().unwrap().contains("all 3 files come back"), "{how}: {told:#}");
        };
        disk.remount("ro");
        look("remounted");
        // The words of somebody else are refused as ever.
        let (stranger, others) = (Home::empty(), folder.join("others.txt"));
        write(&others, stranger.json(["init"])["phrase"].as_str().unwrap().as_bytes());
        drill(&others).refused(4, "E_DENIED");
        disk.unmount();
        let disk = Mounted::mount(image, &folder.join("disk"), "ro").unwrap();
        look("from the start");
        // Nothing has changed on either side.
        disk.unmount();
        let _disk = Mounted::mount(image, &folder.join("disk"), "defaults").unwrap();
        home.ok(["mkdir", "after"]);
        assert_eq!(home.json(["verify"])["bad"], 0);
        assert!(!home.path().join("run/drill").exists());
        assert_eq!(home.json(["device", "ls"])["devices"].as_array().unwrap().len(), 2);
    });
}

/// Goal: a node whose disk is out of order for a while says so, acknowledges nothing, goes on reading, and works on once
/// the disk does. Method: every sync, then every write fails for a while, with each error.
#[test]
fn a_running_node_works_on_when_its_disk_does() {
    with_own_mounts(module_path!(), "a_running_node_works_on_when_its_disk_does", || {
        let folder = scratch();
        let (own, shown) = (folder.path().join("own"), folder.path().join("shown"));
        std::fs::create_dir(&own).unwrap();
        let mut files = match FailingFolder::start(disk_server(), &own, &shown) {
            Ok(files) => files,
            Err(why) => return eprintln!("a failing disk of a node is SKIPPED: {why}"),
        };
        let home = Home::at(shown.join("home"));
        let source = folder.path().join("source");
        write(&source.join("first"), b"was here before");
        home.json(["init"]);
        let node = Up::start(&home, &[]);
        home.ok(["add".as_ref(), source.as_os_str()]);
        let mut made = vec!["source".to_owned(), "source/first".to_owned()];
        for (round, (kind, how, name)) in [
            (Kind::Sync, How::Errno(5), "E_IO"),
            (Kind::Write, How::Errno(28), "E_FULL"),
            (Kind::Write, How::Errno(30), "E_READ_ONLY"),
            (Kind::Write, How::Errno(5), "E_IO"),
        ]
        .into_iter()
        .enumerate()
        {
            files.set(&Fault { kind, n: 1, lasts: true, how });
            let during = format!("during {round}");
            home.run_json(["mkdir", &during]).refused(1, name);
            // Again: the first failure does not make the second one look like something else.
            let again = home.run_json(["mkdir", &during]);
            assert_eq!(again.code(), Some(1), "{again:?}");
            assert_eq!(home.ok(["cat", "source/first"]).out, b"was here before", "{kind} {how:?}");
            assert!(files.heal().fired > 0);
            let after = format!("after {round}");
            // By itself, and soon.
            wait_for("the node to write again", Duration::from_secs(10), || {
                let made = home.run_json(["mkdir", &after]);
                (made.code() == Some(0)).then_some(())
            });
            let fresh = source.join(&after);
            write(&fresh, after.as_bytes());
            home.ok(["add".as_ref(), fresh.as_os_str(), "--to".as_ref(), after.as_ref()]);
            made.extend([after.clone(), format!("{after}/{after}")]);
            let mut found = home.paths();
            found.retain(|path| !path.starts_with("during"));
            made.sort();
            assert_eq!(found, made, "{kind} {how:?}");
            assert_eq!(home.json(["verify"])["bad"], 0);
        }
        node.kill();
        assert_eq!(home.json(["verify"])["bad"], 0);
        let found = home.paths();
        assert!(made.iter().all(|path| found.contains(path)), "{found:?}");
    });
}
