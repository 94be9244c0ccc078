//! Links: a third person without a locker opens what a household shares, and no more.

use std::path::{Path, PathBuf};
use std::time::Duration;

use locker_tests::files::{nasty_tree, walk, write, write_big};
use locker_tests::wait::wait_for;
use locker_tests::{Dice, Home, Meeting, Outcome, Tree, Up};
use serde_json::Value;

/// Somebody with a link and a folder, and no locker.
pub(super) struct Stranger<'m> {
    home: Home,
    meeting: &'m Meeting,
}

impl<'m> Stranger<'m> {
    pub(super) fn new(meeting: &'m Meeting) -> Self {
        Self { home: Home::empty(), meeting }
    }

    /// Keeps the text of a link.
    pub(super) fn take(&self, shared: &Value) -> PathBuf {
        let file = self.home.beside(format!("link-{}.txt", shared["id"].as_str().unwrap()));
        write(&file, shared["link"].as_str().unwrap().as_bytes());
        file
    }

    fn open(&self, link: &Path, more: &[&str]) -> Outcome {
        let link = link.to_str().unwrap();
        let mut arguments =
            vec!["open", "--link-file", link, "--bootstrap", self.meeting.address(), "--no-lan"];
        arguments.extend(more);
        self.home.run_json(arguments)
    }

    /// Opens into a new folder and gives it.
    pub(super) fn get(&self, link: &Path, to: &str) -> (PathBuf, Value) {
        let out = self.home.beside(to);
        let told = self.open(link, &["--to", out.to_str().unwrap()]).ok().json();
        assert!(!self.home.path().exists(), "a link leaves nothing in a home");
        (out, told)
    }
}

pub(super) fn share(home: &Home, path: &str, more: &[&str]) -> Value {
    let mut arguments = vec!["share", path];
    arguments.extend(more);
    home.json(arguments)
}

/// Goal: whoever has the text gets what was shared as it stood then, byte by byte; more files than a capsule carries,
/// names of every kind, large and empty files. Nothing is left in a home, and the giver's list counts.
#[test]
fn a_link_gives_what_was_shared_as_it_stood() {
    let mut dice = Dice::of("a_link_gives_what_was_shared_as_it_stood");
    let meeting = Meeting::start();
    let a = Home::new();
    let source = a.beside("source");
    nasty_tree(&source.join("nasty"), &mut dice);
    write_big(&source.join("big.bin"), 40_000_000, &mut dice);
    for n in 0..700 {
        write(&source.join(format!("many/{n:03}.txt")), format!("file {n}").as_bytes());
    }
    write(&source.join("one.txt"), b"the one");
    a.ok(["add".as_ref(), source.as_os_str()]);
    let up = Up::start(&a, &["--bootstrap", meeting.address()]);
    let stranger = Stranger::new(&meeting);
    let whole = stranger.take(&share(&a, "source", &[]));
    let single = stranger.take(&share(&a, "source/one.txt", &["--label", "just one"]));
    // What happens afterwards does not show.
    a.ok(["rm", "source/many"]);
    write(&a.beside("one.txt"), b"another one");
    a.ok(["add".as_ref(), a.beside("one.txt").as_os_str(), "--to".as_ref(), "source".as_ref()]);

    let listed = stranger.open(&whole, &["--list"]).ok().json();
    let (out, told) = stranger.get(&whole, "out");
    assert_eq!(listed["files"], told["files"]);
    let plain =
        |folder: &Path| walk(folder).iter().filter(|path| path.is_file() && !path.is_symlink()).count();
    assert_eq!(told["files"], plain(&out.join("source")) as u64);
    let many = |folder: &Path| Tree::of(&folder.join("many"));
    many(&source).assert_same(&many(&out.join("source")));
    let big = |folder: &Path| locker_tests::tree::hash(&folder.join("big.bin"));
    assert_eq!(big(&out.join("source")), big(&source));
    let hashes = |entries: &Value| -> Vec<(String, String)> {
        let pair = |e: &Value| Some((e["path"].as_str()?.to_owned(), e["b3"].as_str()?.to_owned()));
        entries.as_array().unwrap().iter().filter_map(pair).collect()
    };
    assert!(hashes(&listed["entries"]).iter().any(|(path, _)| path == "source/many/699.txt"));

    let (out, told) = stranger.get(&single, "single");
    assert_eq!((&told["label"], &told["files"]), (&"just one".into(), &1.into()));
    assert_eq!(std::fs::read(out.join("one.txt")).unwrap(), b"the one");
    // A name that is taken is left alone.
    stranger.open(&single, &["--to", out.to_str().unwrap()]).refused(1, "E_EXISTS");
    let shares = a.json(["share", "ls"])["shares"].clone();
    let shares = shares.as_array().unwrap();
    assert_eq!(shares.len(), 2);
    assert_eq!((&shares[0]["path"], &shares[0]["label"]), (&"source/one.txt".into(), &"just one".into()));
    assert!(shares.iter().all(|shared| shared["uses"].as_u64() >= Some(2) && shared["revoked"] == false));
    assert_eq!(a.json(["verify"])["bad"], 0);
    up.stop().ok();
}

/// Goal: every device of the person lists, serves and ends links; a link that ended is refused by whoever heard of it.
#[test]
fn a_link_is_served_and_ended_by_every_device() {
    let meeting = Meeting::start();
    let (a, b) = (Home::new(), Home::empty());
    let up_a = Up::start(&a, &["--bootstrap", meeting.address()]);
    a.pair_with(&b, &meeting, "second");
    let up_b = Up::start(&b, &[]);
    b.wait_synced();
    for n in 0..800 {
        write(&a.beside(format!("folder/{n}.txt")), format!("file {n}").as_bytes());
    }
    a.ok(["add".as_ref(), a.beside("folder").as_os_str()]);
    let shared = share(&a, "folder", &[]);
    let stranger = Stranger::new(&meeting);
    let link = stranger.take(&shared);
    wait_for("the link on the second device", Duration::from_secs(20), || {
        let shares = b.json(["share", "ls"])["shares"].clone();
        shares.as_array().unwrap().iter().any(|known| known["id"] == shared["id"]).then_some(())
    });
    b.wait_synced();
    // A made it and is off: B serves it.
    up_a.stop().ok();
    let (out, _) = stranger.get(&link, "out");
    Tree::of(&a.beside("folder")).assert_same(&Tree::of(&out.join("folder")));
    // B ends it; A, back again, hears of it and refuses with B off.
    b.json(["share", "revoke", &shared["id"].as_str().unwrap()[..8]]);
    stranger.open(&link, &["--list"]).refused(4, "E_LINK");
    let up_a = Up::start(&a, &[]);
    wait_for("the end of the link on the first device", Duration::from_secs(20), || {
        (a.json(["share", "ls"])["shares"][0]["revoked"] == true).then_some(())
    });
    up_b.stop().ok();
    stranger.open(&link, &["--list"]).refused(4, "E_LINK");
    // Nobody is there.
    up_a.stop().ok();
    stranger.open(&link, &["--list"]).refused(6, "E_NETWORK");
}

/// Goal: a link ends with its time, takes its passphrase, and nothing else is taken for one.
#[test]
fn a_link_ends_with_its_time_and_takes_its_passphrase() {
    let meeting = Meeting::start();
    let a = Home::new();
    write(&a.beside("file.txt"), b"content");
    a.ok(["add".as_ref(), a.beside("file.txt").as_os_str()]);
    let up = Up::start(&a, &["--bootstrap", meeting.address()]);
    let stranger = Stranger::new(&meeting);
    let short = share(&a, "file.txt", &["--expires", "1s"]);
    let short_link = stranger.take(&short);
    wait_for("the end of a second", Duration::from_secs(10), || {
        let outcome = stranger.open(&short_link, &["--list"]);
        (outcome.code() == Some(4)).then_some(())
    });
    let words = a.beside("words.txt");
    write(&words, b"right\n");
    let mut closed = a.command(["--json", "--passphrase-file", words.to_str().unwrap(), "share", "file.txt"]);
    let closed =
        stranger.take(&Outcome::of(std::mem::replace(&mut closed, a.command(["status"]))).ok().json());
    stranger.open(&closed, &["--list"]).refused(4, "E_PASSPHRASE");
    let with = |word: &str| {
        let file = stranger.home.beside("word");
        write(&file, word.as_bytes());
        stranger.open(&closed, &["--list", "--passphrase-file", file.to_str().unwrap()])
    };
    with("wrong").refused(4, "E_LINK");
    assert_eq!(with("right").ok().json()["files"], 1);
    up.stop().ok();

    let bad = stranger.home.beside("bad.txt");
    write(&bad, b"locker:l#AQSdHcDVmkXrqHGHQ0NgJ4iQ");
    stranger.open(&bad, &["--list"]).refused(2, "E_USAGE");
    for (arguments, code) in [
        (["share", "no such thing"].as_slice(), 3),
        (&["share", "file.txt", "--expires", "soon"], 2),
        (&["share", "file.txt", "--expires", "11y"], 2),
        (&["share", "revoke", "0123456789abcdef"], 3),
        (&["share", "revoke", "xyz"], 2),
    ] {
        assert_eq!(a.run_json(arguments).code(), Some(code), "{arguments:?}");
    }
}
