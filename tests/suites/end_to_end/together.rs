//! Two commands at once: the second reaches the process that has the locker open.

use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use locker_tests::files::write;
use locker_tests::wait::wait_for;
use locker_tests::{Home, Up};

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

/// Goal: commands of which nobody waits for the answer any more hold no place from others. Method: as many as a node serves at
/// once wait for what never comes, and are killed; each has a thread in the node until then.
#[test]
fn commands_that_were_killed_hold_no_place() {
    const CLIENTS_MAX: usize = 64;
    let home = Home::new();
    write(&home.beside("file"), &[7; 70_000]);
    home.ok(["add".as_ref(), home.beside("file").as_os_str()]);
    let up = Up::start(&home, &[]);
    // Those of clients have no name of their own, as others have that come and go.
    let is_plain = |task: std::io::Result<std::fs::DirEntry>| {
        task.and_then(|task| std::fs::read_to_string(task.path().join("comm")))
            .is_ok_and(|name| name.trim() == "locker")
    };
    let threads = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", up.pid())).unwrap();
        tasks.map(is_plain).filter(|is| *is).count()
    };
    let before = threads();
    let waits: Vec<_> =
        (0..CLIENTS_MAX).map(|_| home.start(["wait", "--copies", "9", "--timeout", "600"], "")).collect();
    wait_for("every place to be taken", Duration::from_secs(60), || {
        (threads() >= before + CLIENTS_MAX).then_some(())
    });
    for wait in waits {
        assert!(wait.kill().was_killed());
    }
    assert_eq!(home.paths(), ["file"]);
    up.stop().ok();
}

/// Goal: a reader of a listing that has had enough is no failure. Method: one line of a long listing is read and the pipe closed,
/// of a command alone and of one that a node serves.
#[test]
fn a_listing_whose_reader_goes_away_is_no_failure() {
    let home = Home::new();
    let source = home.beside("source");
    for n in 0..3_000 {
        write(&source.join(format!("{n} {}", "long ".repeat(20))), b"");
    }
    home.ok(["add".as_ref(), source.as_os_str()]);
    let check = || {
        for arguments in [&["ls", "-R"][..], &["tree"], &["find", "long"], &["--json", "ls", "-R"]] {
            let mut command = home.command(arguments);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut running = command.spawn().unwrap();
            let mut out = running.stdout.take().unwrap();
            out.read_exact(&mut [0; 100]).unwrap();
            drop(out);
            let ended = running.wait_with_output().unwrap();
            let told = String::from_utf8_lossy(&ended.stderr).into_owned();
            assert!(ended.status.success() && !told.contains("cannot"), "{arguments:?}: {told}");
        }
    };
    check();
    let up = Up::start(&home, &[]);
    check();
    up.stop().ok();
}

/// Goal: a node that cannot start says why, and leaves what is remembered as it was. Method: its port is taken; and a second node
/// in the same home.
#[test]
fn a_node_that_cannot_start_changes_nothing() {
    let (home, other) = (Home::new(), Home::new());
    let up = Up::start(&home, &[]);
    let taken = up.listen().iter().find(|address| address.contains("/tcp/")).unwrap();
    let port = taken.split('/').nth(4).unwrap();
    let at = format!("127.0.0.1:{port}");
    other.run_json(["up", "--no-lan", "--listen", &at, "--upload-limit", "1M"]).refused(8, "E_LISTEN");
    let config = || std::fs::read_to_string(home.path().join("config.toml")).unwrap_or_default();
    let before = config();
    home.run_json(["up", "--bootstrap", "192.0.2.1:4001"]).refused(8, "E_BUSY");
    assert_eq!(config(), before);
    assert!(!other.path().join("config.toml").exists());
    up.stop().ok();
}
