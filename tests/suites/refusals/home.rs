//! Refusals about the home as a whole: none there, one there already, busy, newer, closed.

use std::fs::{self, File};
use std::process::Command;

use locker_tests::Outcome;
use locker_tests::files::write;

use crate::bench::Bench;

/// Runs `locker --home HOME ARGUMENTS` as text and as JSON, with `HOME` beside the bench.
fn both(bench: &Bench, home: &str, arguments: &[&str]) -> (Outcome, Outcome) {
    let run = |json: &[&str]| {
        let mut command = bench.home.program().command();
        command.arg("--home").arg(bench.home.beside(home)).args(json).args(arguments);
        Outcome::of(command)
    };
    (run(&[]), run(&["--json"]))
}

#[test]
fn homes() {
    let mut bench = Bench::new();
    let mut refuse = |what: &str, home: &str, arguments: &[&str], exit: i32, name: &str| {
        let (text, json) = both(&bench, home, arguments);
        bench.look(what, exit, name, &text, &json);
    };
    refuse("no locker", "nowhere", &["ls"], 3, "E_NO_LOCKER");
    refuse("no locker to add to", "nowhere", &["add", "/dev/null"], 3, "E_NO_LOCKER");
    refuse("a locker is there", "home", &["init"], 1, "E_EXISTS");
    refuse("a home that is a file", "papers/a.txt", &["ls"], 3, "E_NO_LOCKER");
    refuse("init in a folder with other things", "papers", &["init"], 2, "E_HOME");
    refuse("init where a file is", "papers/a.txt", &["init"], 2, "E_HOME");
    assert!(!bench.home.beside("nowhere").exists(), "a refused command made something");
    assert_eq!(fs::read_dir(bench.home.beside("papers")).unwrap().count(), 2);

    let (copy, newer) = (bench.home.copied(), "newer");
    fs::rename(copy.path(), bench.home.beside(newer)).unwrap();
    write(&bench.home.beside("newer/LOCKER"), b"locker home 99\n");
    let (text, json) = both(&bench, newer, &["ls"]);
    bench.look("a home of a newer program", 1, "E_VERSION", &text, &json);

    // A slip in the configuration is found, not passed over.
    let config = bench.home.path().join("config.toml");
    fs::write(&config, "thraeds = 3\n").unwrap();
    let (text, json) = both(&bench, "home", &["ls"]);
    bench.look("a slip in config.toml", 2, "E_CONFIG", &text, &json);
    fs::remove_file(config).unwrap();

    // Somebody who holds the lock and does not listen.
    let lock = File::options().write(true).open(bench.home.path().join("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let (text, json) = std::thread::scope(|scope| {
        let text = scope.spawn(|| bench.home.run(["ls"]));
        let json = bench.home.run_json(["ls"]);
        (text.join().unwrap(), json)
    });
    drop(lock);
    // The process id may be told or not.
    assert!(text.err.contains("another process has this locker open"), "{text:?}");
    assert_eq!(text.code(), Some(8));
    json.refused(8, "E_BUSY");
    bench.finish("homes");
}

/// Goal: a home that this user may not write is refused with a sentence. As root there is no such home but a read-only
/// file system.
#[test]
fn a_home_that_cannot_be_written() {
    let mut bench = Bench::new();
    let disk = bench.home.beside("disk");
    fs::create_dir(&disk).unwrap();
    let mount = |options: &str| {
        let told =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "locker-test"]).arg(&disk).output();
        told.is_ok_and(|told| told.status.success())
    };
    if !mount("size=300m") {
        assert!(!rustix::process::geteuid().is_root(), "cannot mount a small disk");
        return;
    }
    let unmount = || Command::new("umount").arg("-l").arg(&disk).status();
    both(&bench, "disk/home", &["init"]).0.ok();
    assert!(mount("remount,ro"));
    let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let (text, json) = both(&bench, "disk/home", &["mkdir", "x"]);
        bench.look("a read-only disk", 1, "E_READ_ONLY", &text, &json);
        bench.refuse(&[(
            "get onto a read-only disk",
            &["get", "papers", "--to", "DIR/disk/x"],
            1,
            "E_READ_ONLY",
        )]);
    }));
    unmount().unwrap();
    if let Err(panic) = looked {
        std::panic::resume_unwind(panic);
    }
    bench.finish("read-only");
}
