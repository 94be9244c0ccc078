//! Two commands at once: the second reaches the process that has the locker open.

use std::time::Duration;

use locker_tests::Home;
use locker_tests::files::write;
use locker_tests::wait::wait_for;

/// Goal: while a long `add` runs, other commands work and see what is safe already. Method: a failpoint holds the `add`
/// back just after it acknowledged its first files; the listing is then asked for.
#[test]
fn a_command_reaches_a_running_add() {
    let home = Home::new();
    let source = home.beside("source");
    write(&source.join("first.bin"), &vec![7; 5_000_000]);
    home.ok(["add".as_ref(), source.as_os_str()]);
    for n in 0..3 {
        write(&source.join(format!("later/{n}.bin")), &vec![n; 5_000_000]);
    }
    let mut add = home.start(["add".as_ref(), source.as_os_str()], "ack-after=1*sleep(1500)->off");
    let is_open = || home.path().join("run/locker.sock").exists().then_some(());
    wait_for("the socket of the running add", Duration::from_secs(20), is_open);
    assert!(add.is_running());
    let listed = home.paths();
    assert!(listed.contains(&"source/first.bin".to_owned()), "{listed:?}");
    assert_eq!(home.ok(["cat", "source/first.bin", "--offset", "4999990"]).out, [7; 10]);
    home.ok(["mkdir", "made while it runs"]);
    assert!(
        add.is_running(),
        "the add was not held back: is this binary built with failpoints? (`cargo lab`)"
    );
    let added = add.finish().ok();
    assert!(added.text().contains("files"), "{added:?}");
    let listed = home.paths();
    assert!(listed.contains(&"made while it runs".to_owned()), "{listed:?}");
    assert!(listed.contains(&"source/later/2.bin".to_owned()), "{listed:?}");
    assert_eq!(home.json(["verify"])["bad"], 0);
}

/// Goal: many commands at once, none of them is refused and none is lost. Method: 24 processes start together.
#[test]
fn many_commands_at_once_all_succeed() {
    let home = Home::new();
    let started: Vec<_> = (0..24)
        .map(|n| {
            let file = home.beside(format!("file-{n}"));
            write(&file, format!("content {n}").as_bytes());
            match n % 3 {
                0 => home.start(["mkdir".to_owned(), format!("folder-{n}")], ""),
                1 => home.start(["add".as_ref(), file.as_os_str()], ""),
                _ => home.start(["ls", "-R"], ""),
            }
        })
        .collect();
    for command in started {
        command.finish().ok();
    }
    assert_eq!(home.paths().len(), 16);
    assert_eq!(home.json(["verify"])["bad"], 0);
}

/// Goal: two processes that take in the same folder at once take it in once. Method: three start together.
#[test]
fn one_folder_taken_in_by_several_at_once_is_there_once() {
    let mut dice = locker_tests::Dice::of("at once");
    let home = Home::new();
    let source = home.beside("source");
    for n in 0..100 {
        write(&source.join(format!("folder-{}/file-{n}", n % 7)), &dice.bytes(20_000));
    }
    let started: Vec<_> = (0..3).map(|_| home.start(["add".as_ref(), source.as_os_str()], "")).collect();
    for add in started {
        add.finish().ok();
    }
    assert_eq!(home.paths().len(), 108);
    let stored: u64 = home.packs().iter().map(|pack| pack.metadata().unwrap().len()).sum();
    assert!(stored < 3_000_000, "{stored} bytes are stored");
    assert_eq!(home.json(["verify"])["bad"], 0);
}

/// Goal: what is left of a killed process (its lock file, its socket) does not stop the next one.
#[test]
fn a_killed_process_leaves_nothing_in_the_way() {
    let home = Home::new();
    let file = home.beside("file.bin");
    write(&file, &vec![1; 3_000_000]);
    let add = home.start(["add".as_ref(), file.as_os_str()], "ack-before=pause");
    let is_open = || home.path().join("run/locker.sock").exists().then_some(());
    wait_for("the socket of the running add", Duration::from_secs(20), is_open);
    assert!(add.kill().was_killed());
    home.ok(["ls"]);
    home.ok(["add".as_ref(), file.as_os_str()]);
    assert_eq!(home.paths(), ["file.bin"]);
}
