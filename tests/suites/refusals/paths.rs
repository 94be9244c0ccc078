//! Refusals about things in the locker and on the disk beside it.

use std::os::unix::fs::symlink;

use locker_tests::files::write;

use crate::bench::Bench;

#[test]
fn things_in_the_locker() {
    let mut bench = Bench::new();
    bench.refuse(&[
        ("cat of nothing", &["cat", "holiday.txt"], 3, "E_NOT_FOUND"),
        ("cat of something in the trash", &["cat", "gone.txt"], 3, "E_NOT_FOUND"),
        ("cat of a folder", &["cat", "papers"], 2, "E_IS_FOLDER"),
        ("cat of everything", &["cat", "/"], 2, "E_IS_FOLDER"),
        ("cat through a file", &["cat", "papers/a.txt/b"], 3, "E_NOT_FOUND"),
        ("ls of nothing", &["ls", "papers/holiday"], 3, "E_NOT_FOUND"),
        ("ls -R of nothing", &["ls", "-R", "holiday"], 3, "E_NOT_FOUND"),
        ("tree of nothing", &["tree", "holiday"], 3, "E_NOT_FOUND"),
        ("get of nothing", &["get", "holiday", "--to", "DIR/new"], 3, "E_NOT_FOUND"),
        ("history of nothing", &["history", "holiday"], 3, "E_NOT_FOUND"),
        ("rm of nothing", &["rm", "holiday"], 3, "E_NOT_FOUND"),
        ("rm of everything", &["rm", "/"], 2, "E_NODE"),
        ("mv of nothing", &["mv", "holiday", "new"], 3, "E_NOT_FOUND"),
        ("mv of everything", &["mv", "/", "papers/new"], 2, "E_NODE"),
        ("mv to a folder that is not there", &["mv", "papers/a.txt", "missing/new"], 3, "E_NOT_FOUND"),
        ("mv onto another file", &["mv", "papers/a.txt", "papers/sub/b.txt"], 1, "E_EXISTS"),
        ("mv to a folder's name in another case", &["mv", "papers/a.txt", "papers/SUB"], 1, "E_EXISTS"),
        ("mv into a file", &["mv", "papers/sub", "papers/a.txt/sub"], 2, "E_NOT_FOLDER"),
        ("mv into itself", &["mv", "papers", "papers/sub"], 2, "E_CYCLE"),
        ("mv below itself", &["mv", "papers", "papers/sub/new"], 2, "E_CYCLE"),
        ("mv to a name that cannot be", &["mv", "papers/a.txt", "papers/CON"], 2, "E_NAME"),
        ("mkdir of what is there", &["mkdir", "papers"], 1, "E_EXISTS"),
        ("mkdir of a file's name", &["mkdir", "papers/a.txt"], 1, "E_EXISTS"),
        ("mkdir of a name in another case", &["mkdir", "Papers"], 1, "E_EXISTS"),
        ("mkdir -p below a name in another case", &["mkdir", "-p", "papers/Sub/new"], 1, "E_EXISTS"),
        ("mkdir -p over a file", &["mkdir", "-p", "papers/a.txt"], 2, "E_NOT_FOLDER"),
        ("mkdir -p through a file", &["mkdir", "-p", "papers/a.txt/sub"], 2, "E_NOT_FOLDER"),
        ("mkdir below nothing", &["mkdir", "missing/new"], 3, "E_NOT_FOUND"),
        ("mkdir of everything", &["mkdir", "/"], 1, "E_EXISTS"),
        ("restore of nothing", &["restore", "holiday"], 3, "E_NOT_FOUND"),
        ("restore of what is not in the trash", &["restore", "papers/a.txt"], 3, "E_NOT_FOUND"),
        (
            "restore of a version that is not",
            &["restore", "papers/a.txt", "--version", "2"],
            3,
            "E_NOT_FOUND",
        ),
        ("restore of version 0", &["restore", "papers/a.txt", "--version", "0"], 3, "E_NOT_FOUND"),
        ("restore of a folder by version", &["restore", "papers", "--version", "1"], 2, "E_IS_FOLDER"),
        (
            "restore to a time before anything",
            &["restore", "papers/a.txt", "--at", "2001-01-01"],
            3,
            "E_NOT_FOUND",
        ),
        ("add below a file", &["add", "DIR/papers/a.txt", "--to", "papers/a.txt"], 2, "E_NOT_FOLDER"),
        ("add to a name in another case", &["add", "DIR/papers/a.txt", "--to", "PAPERS"], 1, "E_EXISTS"),
        ("add to a name that cannot be", &["add", "DIR/papers/a.txt", "--to", "LPT1"], 2, "E_NAME"),
    ]);
    bench.finish("locker");
}

/// Goal: names that some system would misread cannot be made here (T16), each with its sentence.
#[test]
fn t16_names_that_cannot_be() {
    let mut bench = Bench::new();
    let long = "n".repeat(256);
    let names = [
        "a\\b",
        "CON",
        "nul.txt",
        "com1",
        "ends in a dot.",
        "ends in a space ",
        "C:",
        "new\nline",
        "tab\t",
        "\u{202e}gpj.exe",
        &long,
    ];
    for name in names {
        bench.refuse(&[(&format!("mkdir {name:?}"), &["mkdir", name], 2, "E_NAME")]);
    }
    bench.refuse(&[
        ("mkdir of the place itself", &["mkdir", "."], 1, "E_EXISTS"),
        ("mkdir of nothing", &["mkdir", ""], 1, "E_EXISTS"),
        ("mkdir upwards", &["mkdir", ".."], 2, "E_USAGE"),
        ("mkdir up and down", &["mkdir", "papers/../x"], 2, "E_USAGE"),
    ]);
    bench.finish("names");
}

#[test]
fn things_on_the_disk() {
    let mut bench = Bench::new();
    write(&bench.home.beside("taken"), b"");
    symlink("nowhere", bench.home.beside("dangling")).unwrap();
    bench.refuse(&[
        ("add of nothing", &["add", "DIR/holiday"], 3, "E_NOT_FOUND"),
        ("add of nothing beside something", &["add", "DIR/papers", "DIR/holiday"], 3, "E_NOT_FOUND"),
        ("get over a file", &["get", "papers/a.txt", "--to", "DIR/taken"], 1, "E_EXISTS"),
        ("get of a folder over a file", &["get", "papers", "--to", "DIR/taken"], 1, "E_EXISTS"),
        ("get below nothing", &["get", "papers", "--to", "DIR/missing/new"], 1, "E_IO"),
        ("get below a file", &["get", "papers", "--to", "DIR/taken/x"], 1, "E_IO"),
        ("get over a dangling link", &["get", "papers", "--to", "DIR/dangling"], 1, "E_EXISTS"),
        ("get of the whole into its own home", &["get", "/", "--to", "DIR/home/x"], 2, "E_USAGE"),
        ("get into the kernel's files", &["get", "papers", "--to", "/proc/x"], 1, "E_IO"),
    ]);
    bench.finish("disk");
}
