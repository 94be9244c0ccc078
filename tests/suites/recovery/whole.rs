//! The phrase and one surviving copy give everything.

use std::path::{Path, PathBuf};

use locker_tests::files::{nasty_tree, write, write_big};
use locker_tests::{Dice, Home, Meeting, Tree, Up};
use serde_json::Value;

/// A locker with content, and its words in a file.
pub(super) struct Owner {
    pub(super) home: Home,
    pub(super) words: PathBuf,
}

impl Owner {
    /// A locker in which nothing is yet.
    pub(super) fn new() -> Self {
        let home = Home::empty();
        let made = home.json(["init", "--name", "first"]);
        let words = home.beside("words.txt");
        write(&words, made["phrase"].as_str().unwrap().as_bytes());
        Self { home, words }
    }

    /// A locker with a tree of awkward files and one of several packs.
    pub(super) fn with_files(test: &'static str) -> Self {
        let (owner, mut dice) = (Self::new(), Dice::of(test));
        let source = owner.home.beside("source");
        nasty_tree(&source.join("nasty"), &mut dice);
        write_big(&source.join("big.bin"), 40_000_000, &mut dice);
        owner.home.ok(["add".as_ref(), source.as_os_str()]);
        owner
    }

    /// Runs `recover` into a new home.
    pub(super) fn recover(&self, more: &[&str]) -> (Home, locker_tests::Outcome) {
        recover_by(&self.words, more)
    }
}

/// Runs `recover` with the words of a file.
pub(super) fn recover_by(words: &Path, more: &[&str]) -> (Home, locker_tests::Outcome) {
    let home = Home::empty();
    let words = words.to_str().unwrap();
    let mut arguments = vec!["recover", "--phrase-file", words, "--name", "back"];
    arguments.extend(more);
    let outcome = home.run_json(arguments);
    (home, outcome)
}

/// The place of a running node as `host:port`.
pub(super) fn place(up: &Up) -> String {
    let tcp = up.listen().iter().find(|address| address.contains("/tcp/")).unwrap();
    let parts: Vec<&str> = tcp.split('/').collect();
    format!("{}:{}", parts[2], parts[4])
}

/// The content of a locker, written out.
pub(super) fn content(home: &Home, name: &str) -> Tree {
    let out = home.beside(name);
    home.ok(["leave".as_ref(), "--to".as_ref(), out.as_os_str()]);
    for beside in ["README.txt", "metadata.jsonl", "MANIFEST.b3"] {
        std::fs::remove_file(out.join(beside)).unwrap();
    }
    Tree::of(&out)
}

fn hash(home: &Home) -> Value {
    home.json(["status"])["state_hash"].clone()
}

/// Every file as it was, and a device that can go on.
fn assert_whole(back: &Home, owner: &Owner, told: &Value) {
    content(back, "out").assert_same(&content(&owner.home, "out-again"));
    assert_eq!(told["files"], back.json(["status"])["files"]);
    assert_eq!(told["newest_evidence"]["name"], "first");
    assert_eq!(back.json(["verify"])["bad"], 0);
    let devices = back.json(["device", "ls"])["devices"].clone();
    let of = |name: &str| devices.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap().clone();
    assert_eq!(of("first")["revoked"], true, "{devices}");
    assert_eq!(
        (of("back")["this"].clone(), of("back")["id"].clone()),
        (true.into(), told["device_id"].clone())
    );
    let note = back.beside("note.txt");
    write(&note, b"after");
    back.ok(["add".as_ref(), note.as_os_str()]);
    assert_eq!(back.ok(["cat", "note.txt"]).out, b"after");
}

/// T67, with an address and no DHT: names, bytes and versions as they were; the device that was left is one no more.
#[test]
fn t67_by_an_address_without_a_dht() {
    let owner = Owner::with_files("t67_by_an_address_without_a_dht");
    let up = Up::start(&owner.home, &[]);
    let before = hash(&owner.home);
    let (back, outcome) = owner.recover(&["--no-lan", "--from", &place(&up)]);
    let told = outcome.ok().json();
    // The old device heard of it, and lets nobody else go on with its name.
    locker_tests::wait::wait_for("the old device to hear of it", std::time::Duration::from_secs(20), || {
        let devices = owner.home.json(["device", "ls"])["devices"].clone();
        devices.as_array().unwrap().iter().any(|one| one["revoked"] == true).then_some(())
    });
    up.stop().ok();
    assert_eq!(told["bytes"], owner.home.json(["status"])["bytes"]);
    assert_ne!(before, Value::Null);
    assert_whole(&back, &owner, &told);
}

/// Goal: a device from which everything was brought back can do it once more, also if the one that came back is lost then.
/// Method: it runs, and has written nothing since it started, while another one recovers from it; then from its home.
#[test]
fn a_device_can_be_recovered_from_twice() {
    let owner = Owner::with_files("a_device_can_be_recovered_from_twice");
    for more in [&["--names-only"][..], &["--keep-devices"], &[]] {
        let up = Up::start(&owner.home, &[]);
        let at = place(&up);
        let (_lost, outcome) = owner.recover(&[&["--no-lan", "--from", &at], more].concat());
        outcome.ok();
        up.stop().ok();
        let copy = owner.home.copied();
        let (back, outcome) = owner.recover(&["--no-lan", "--from", copy.path().to_str().unwrap()]);
        outcome.ok();
        content(&back, "out").assert_same(&content(&owner.home, "out-again"));
        std::fs::remove_dir_all(owner.home.beside("out-again")).unwrap();
    }
}

/// T67, by the DHT alone: nobody is told where the device is.
#[test]
fn t67_by_the_dht() {
    let owner = Owner::with_files("t67_by_the_dht");
    let meeting = Meeting::start();
    let up = Up::start(&owner.home, &["--bootstrap", meeting.address()]);
    let (back, outcome) = owner.recover(&["--no-lan", "--bootstrap", meeting.address()]);
    let told = outcome.ok().json();
    up.stop().ok();
    assert_whole(&back, &owner, &told);
}

/// T67, from a folder: the copy of a device's home, with no network at all, and nobody told where anything is.
#[test]
fn t67_from_the_copy_of_a_home() {
    let owner = Owner::with_files("t67_from_the_copy_of_a_home");
    let copy = owner.home.copied();
    let folder = copy.path().to_str().unwrap();
    let (back, outcome) = owner.recover(&["--no-lan", "--from", folder]);
    let told = outcome.ok().json();
    assert_whole(&back, &owner, &told);
    // Somebody else's words open nothing of it.
    let stranger = Owner::new();
    let (home, outcome) = recover_by(&stranger.words, &["--no-lan", "--from", folder]);
    outcome.refused(4, "E_DENIED");
    assert!(!home.path().exists());
}

/// Goal: what is lost everywhere holds nobody up. Method: a pack is taken out of the only copy.
#[test]
fn what_is_missing_everywhere_is_told_and_may_be_given_up() {
    let owner = Owner::with_files("what_is_missing_everywhere_is_told_and_may_be_given_up");
    let copy = owner.home.copied();
    std::fs::remove_file(&copy.packs()[0]).unwrap();
    let folder = copy.path().to_str().unwrap();
    let home = Home::empty();
    let words = owner.words.to_str().unwrap();
    let arguments = ["recover", "--phrase-file", words, "--no-lan", "--from", folder];
    let outcome = home.run_json(arguments);
    outcome.refused(6, "E_NETWORK");
    assert!(outcome.err.contains("1 packs are missing"), "{outcome:?}");
    home.run_json(["ls"]).refused(8, "E_RECOVERY");
    let told = home.json(arguments.into_iter().chain(["--accept-missing"]));
    assert_eq!(told["files"], owner.home.json(["status"])["files"]);
    assert!(!home.paths().is_empty());
}

/// T67, what is refused: a slip in the words is named before anything is sent, and another person's words meet a refusal.
/// Nothing is left behind.
#[test]
fn t67_wrong_words_and_those_of_somebody_else() {
    let owner = Owner::new();
    let up = Up::start(&owner.home, &[]);
    let text = std::fs::read_to_string(&owner.words).unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut slip = words.clone();
    slip[7] = "lockre";
    let slipped = owner.home.beside("slip.txt");
    write(&slipped, slip.join(" ").as_bytes());
    let (home, outcome) = recover_by(&slipped, &["--no-lan", "--from", &place(&up)]);
    outcome.refused(2, "E_PHRASE");
    assert!(outcome.err.contains("word 8"), "{outcome:?}");
    assert!(!home.path().exists());
    let stranger = Owner::new();
    let (home, outcome) = recover_by(&stranger.words, &["--no-lan", "--from", &place(&up)]);
    outcome.refused(4, "E_DENIED");
    assert!(!home.path().exists());
    // Nobody there at all is another thing.
    let (_, outcome) = recover_by(&owner.words, &["--no-lan", "--from", "127.0.0.1:9"]);
    outcome.refused(6, "E_NETWORK");
    up.stop().ok();
    // Where a locker is, none is brought back.
    owner
        .home
        .run_json(["recover", "--phrase-file", owner.words.to_str().unwrap(), "--no-lan"])
        .refused(1, "E_EXISTS");
}

/// Goal: what two devices have, each in part, comes back united. Method: the second device has a file that the first one has
/// not heard of, and the first one another.
#[test]
fn two_copies_of_different_age_are_united() {
    let owner = Owner::new();
    let meeting = Meeting::start();
    let second = Home::empty();
    let up = Up::start(&owner.home, &["--bootstrap", meeting.address()]);
    owner.home.pair_with(&second, &meeting, "second");
    let up_second = Up::start(&second, &[]);
    second.wait_synced();
    up.stop().ok();
    let add = |home: &Home, name: &str| {
        write(&home.beside(name), name.repeat(50_000).as_bytes());
        home.ok(["add".as_ref(), home.beside(name).as_os_str()]);
    };
    add(&second, "of-second.txt");
    up_second.stop().ok();
    add(&owner.home, "of-first.txt");
    // Apart: neither knows where the other is.
    let (up, up_second) =
        (Up::start_at(&owner.home, "127.0.0.2:0", &[]), Up::start_at(&second, "127.0.0.3:0", &[]));
    let (back, outcome) = owner.recover(&["--no-lan", "--from", &place(&up), "--from", &place(&up_second)]);
    outcome.ok();
    let paths = back.paths();
    assert!(
        ["of-first.txt", "of-second.txt"].iter().all(|name| paths.iter().any(|path| path == name)),
        "{paths:?}"
    );
    assert_eq!(back.ok(["cat", "of-second.txt"]).out, "of-second.txt".repeat(50_000).as_bytes());
    up.stop().ok();
    up_second.stop().ok();
}

/// Goal: devices that are kept go on, and get the new keys. Method: a file written after the recovery comes to the old device,
/// and one written there to the new.
#[test]
fn devices_that_are_kept_go_on() {
    let owner = Owner::new();
    let meeting = Meeting::start();
    let up = Up::start(&owner.home, &["--bootstrap", meeting.address()]);
    let (back, outcome) = owner.recover(&["--no-lan", "--bootstrap", meeting.address(), "--keep-devices"]);
    outcome.ok();
    let up_back = Up::start(&back, &[]);
    for (from, to, name) in [(&back, &owner.home, "there.txt"), (&owner.home, &back, "and-back.txt")] {
        write(&from.beside(name), name.as_bytes());
        from.ok(["add".as_ref(), from.beside(name).as_os_str()]);
        to.wait_for_path(name);
        to.wait_synced();
        assert_eq!(to.ok(["cat", name]).out, name.as_bytes());
    }
    back.wait_equal(&owner.home);
    up.stop().ok();
    up_back.stop().ok();
}

/// Goal: what was stopped goes on, and a home that is not whole is not used. Method: killed in the middle of the packs.
#[test]
fn a_recovery_that_was_killed_goes_on() {
    let mut dice = Dice::of("a_recovery_that_was_killed_goes_on");
    let owner = Owner::new();
    let source = owner.home.beside("source");
    for n in 0..24 {
        write_big(&source.join(format!("{n}.bin")), 12_000_000, &mut dice);
    }
    owner.home.ok(["add".as_ref(), source.as_os_str()]);
    let up = Up::start(&owner.home, &[]);
    let (home, words, place) = (Home::empty(), owner.words.to_str().unwrap(), place(&up));
    let arguments =
        ["--json", "recover", "--phrase-file", words, "--no-lan", "--from", &place, "--name", "back"];
    let running = home.start(arguments, "");
    locker_tests::wait::wait_for("some packs", std::time::Duration::from_secs(30), || {
        (home.path().join("packs").exists() && !home.packs().is_empty()).then_some(())
    });
    running.kill();
    assert!(home.packs().len() < owner.home.packs().len(), "it was over before it was killed");
    home.run_json(["ls"]).refused(8, "E_RECOVERY");
    let told = home.json(&arguments[1..]);
    up.stop().ok();
    assert_whole(&home, &owner, &told);
}

/// Goal: the sheet has the words, for its owner alone, and needs nothing else; it is never written over something.
#[test]
fn the_sheet_has_the_words_and_needs_nothing_else() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::empty();
    let sheet = home.beside("sheet.html");
    let path = sheet.to_str().unwrap();
    let made = home.json(["init", "--name", "<first & only>", "--sheet", path]);
    let page = std::fs::read_to_string(&sheet).unwrap();
    let words: Vec<&str> = made["phrase"].as_str().unwrap().split(' ').collect();
    let listed: Vec<&str> =
        page.split("<li>").skip(1).filter_map(|part| part.split("</li>").next()).collect();
    assert_eq!(listed[..24], words[..]);
    assert!(page.contains(made["person_id"].as_str().unwrap()) && page.contains("&lt;first &amp; only&gt;"));
    for foreign in ["http:", "https:", "src=", "<script", "<link", "url("] {
        assert!(!page.contains(foreign), "the sheet has {foreign}");
    }
    assert_eq!(std::fs::metadata(&sheet).unwrap().permissions().mode() & 0o777, 0o600);
    let other = Home::empty();
    other.run_json(["init", "--sheet", path]).refused(2, "E_USAGE");
    assert_eq!(std::fs::read_to_string(&sheet).unwrap(), page);
    // Nothing of it stands in the home.
    for word in [words[..3].join(" "), words[21..].join(" ")] {
        for path in locker_tests::files::walk(home.path()).iter().filter(|path| path.is_file()) {
            let bytes = std::fs::read(path).unwrap();
            assert!(!bytes.windows(word.len()).any(|part| part == word.as_bytes()), "{}", path.display());
        }
    }
}
