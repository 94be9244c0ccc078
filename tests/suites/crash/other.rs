//! Kills during the other commands that write, and disks that fail at a step.

use locker_tests::files::write;
use locker_tests::{Home, Tree};

/// Goal: an organising command is done or not done, never half. Method: a kill at each step of a commit; the listing is
/// then the old or the new one, and the same command leads to the new one.
#[test]
fn killed_while_things_are_moved_and_removed() {
    let whole = Home::new();
    let source = whole.beside("source");
    for name in ["a/one", "a/two", "b/three", "four"] {
        write(&source.join(name), name.as_bytes());
    }
    whole.ok(["add".as_ref(), source.as_os_str()]);
    let commands: [&[&str]; 4] =
        [&["mv", "source/a", "source/b"], &["rm", "source/b"], &["mkdir", "new"], &["rm", "source/four"]];
    let mut kills = 0;
    for command in commands {
        let after = whole.copied();
        after.ok(command);
        let (old, new) = (whole.paths(), after.paths());
        assert_ne!(old, new);
        for point in ["db-before-commit", "db-written", "db-after-commit"] {
            let home = whole.copied();
            let outcome = home.start(command, &format!("{point}=1*return(kill)")).finish();
            assert!(outcome.was_killed(), "{point}: {outcome:?}");
            kills += 1;
            let found = home.paths();
            assert!(found == old || found == new, "{command:?} at {point}: {found:?}");
            if found == old {
                home.ok(command);
                assert_eq!(home.paths(), new);
            }
            assert_eq!(home.json(["verify"])["bad"], 0);
        }
    }
    assert_eq!(kills, 12);
}

/// Goal: a disk that fails or is full at any step of a write gives a clear error; nothing is acknowledged that is not
/// there, and the next `add` goes on. Method: each step fails once, with an I/O error and with "no space left".
#[test]
fn a_disk_that_fails_at_any_step_loses_nothing() {
    let points = [
        "pack-temp-created",
        "pack-written",
        "pack-synced",
        "pack-renamed",
        "pack-dir-synced",
        "db-before-commit",
        "db-written",
        "db-after-commit",
    ];
    for point in points {
        for (how, name) in [("enospc", "E_FULL"), ("eio", "E_")] {
            let home = Home::new();
            let source = home.beside("source");
            for n in 0..3 {
                write(&source.join(format!("{n}.bin")), &vec![n; 4_500_000]);
                write(&source.join(format!("{n}.txt")), &[n; 100]);
            }
            let mut command = home.command(["--json", "-v", "add"]);
            command.arg(&source).env("FAILPOINTS", format!("{point}=1*return({how})"));
            let failed = locker_tests::Outcome::of(command);
            assert_eq!(failed.code(), Some(1), "{point}, {how}: {failed:?}");
            let told = failed.error_name().unwrap();
            assert!(told.starts_with(name), "{point}, {how}: {failed:?}");
            let listed = home.paths();
            for path in failed.saved() {
                assert!(listed.contains(&path), "{point}, {how}: {path} was acknowledged");
            }
            assert_eq!(home.json(["verify"])["bad"], 0, "{point}, {how}");
            home.ok(["add".as_ref(), source.as_os_str()]);
            let out = home.beside("out");
            home.ok(["get".as_ref(), "source".as_ref(), "--to".as_ref(), out.as_os_str()]);
            Tree::of(&source).assert_same(&Tree::of(&out));
        }
    }
}

/// Goal: a copy out that is killed leaves nothing under the name that was asked for.
#[test]
fn a_killed_copy_out_leaves_no_half_file() {
    let home = Home::new();
    let file = home.beside("big.bin");
    locker_tests::files::write_big(&file, 40 << 20, &mut locker_tests::Dice::of("killed get"));
    home.ok(["add".as_ref(), file.as_os_str()]);
    let out = home.beside("out.bin");
    let get = || home.start(["get".as_ref(), "big.bin".as_ref(), "--to".as_ref(), out.as_os_str()], "");
    let start = std::time::Instant::now();
    get().finish().ok();
    let whole = start.elapsed();
    let mut kills = 0;
    for round in 1..12 {
        std::fs::remove_file(&out).unwrap_or_default();
        let moment = whole.mul_f64(f64::from(round) / 12.0);
        let start = std::time::Instant::now();
        let mut running = get();
        while start.elapsed() < moment && running.is_running() {
            std::thread::park_timeout(std::time::Duration::from_micros(500));
        }
        kills += u32::from(running.kill().was_killed());
        if out.exists() {
            assert_eq!(locker_tests::tree::hash(&out), locker_tests::tree::hash(&file));
        }
    }
    assert!(kills > 0, "no kill came in time");
}
