//! A disk that is full. Needs the right to mount; told and left out where that is missing.

use std::path::Path;
use std::process::Command;

use locker_tests::files::write_big;
use locker_tests::lab::Mounted;
use locker_tests::{Dice, Home, Outcome, Program, tree};

/// A small file system in memory, if this user may have one.
fn small_disk(at: &Path, mebibytes: u64) -> Option<Mounted> {
    match Mounted::in_memory(at, mebibytes) {
        Ok(disk) => Some(disk),
        Err(why) => {
            assert!(!rustix::process::geteuid().is_root(), "{why}");
            eprintln!("left out: only root may mount a small disk");
            None
        }
    }
}

/// Goal: a full disk is a clear error; what was acknowledged before is there; deleting still works; with more space the
/// same command goes on. Method: a locker on a file system of 160 MiB takes in 200 MB.
#[test]
fn a_full_disk_is_told_and_nothing_acknowledged_is_lost() {
    let mut dice = Dice::of("full disk");
    let outside = Home::empty();
    let Some(disk) = small_disk(&outside.beside("disk"), 160) else { return };
    let home = disk.path().join("home");
    let source = outside.beside("source");
    for n in 0..40 {
        write_big(&source.join(format!("{n:02}.bin")), 5_000_000, &mut dice);
    }
    let program = Program::find();
    let run = |arguments: &[&str]| {
        let mut command = program.command();
        command.arg("--home").arg(&home).arg("--json").args(arguments);
        Outcome::of(command)
    };
    run(&["init"]).ok();
    let source_text = source.to_str().unwrap();
    let full = run(&["-v", "add", source_text]);
    full.refused(1, "E_FULL");
    let saved = full.saved();
    assert!(saved.len() >= 5 && saved.len() < 40, "{full:?}");
    let check = |paths: &[String]| {
        for path in paths {
            let mut command = program.command();
            command.arg("--home").arg(&home).args(["cat", path]);
            let read = Outcome::of(command).ok().out;
            let file = source.parent().unwrap().join(path);
            assert_eq!(blake3::hash(&read), tree::hash(&file), "{path}");
        }
    };
    check(&saved);
    assert_eq!(run(&["verify"]).ok().json()["bad"], 0);

    // Others fill the disk to the last byte: what is there can be read and removed.
    let filler = disk.path().join("filler");
    let fill =
        Command::new("dd").args(["if=/dev/zero", "bs=64K"]).arg(format!("of={}", filler.display())).output();
    assert!(!fill.unwrap().status.success(), "the disk is not full");
    run(&["-v", "add", source_text]).refused(1, "E_FULL");
    check(&saved[..3]);
    for path in &saved[..3] {
        run(&["rm", path]).ok();
    }
    run(&["ls", "-R"]).ok();
    assert_eq!(run(&["verify"]).ok().json()["bad"], 0);

    // With space again, the same command goes on to the end.
    std::fs::remove_file(filler).unwrap();
    disk.remount("size=600m");
    let added = run(&["-v", "add", source_text]).ok();
    assert_eq!(added.json()["files"], 40, "{added:?}");
    let all: Vec<String> = (0..40).map(|n| format!("source/{n:02}.bin")).collect();
    check(&all);
    assert_eq!(run(&["verify"]).ok().json()["bad"], 0);
}

/// Goal: a copy out onto a full disk is told, and leaves nothing behind.
#[test]
fn a_copy_out_onto_a_full_disk_leaves_nothing() {
    let mut dice = Dice::of("full target");
    let home = Home::new();
    let Some(disk) = small_disk(&home.beside("disk"), 4) else { return };
    let file = home.beside("big.bin");
    write_big(&file, 20_000_000, &mut dice);
    home.ok(["add".as_ref(), file.as_os_str()]);
    let out = disk.path().join("out.bin");
    home.run_json(["get".as_ref(), "big.bin".as_ref(), "--to".as_ref(), out.as_os_str()])
        .refused(1, "E_FULL");
    assert_eq!(std::fs::read_dir(disk.path()).unwrap().count(), 0);
}
