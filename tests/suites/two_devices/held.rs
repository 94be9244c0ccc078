//! T84: what one device takes away at once is held on the others until somebody decides.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use locker_tests::files::write;
use locker_tests::wait::wait_for;
use locker_tests::{Home, Meeting, Up};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);

/// The device that takes away, and the one that holds.
struct Two {
    _meeting: Meeting,
    homes: [Home; 2],
    ups: [Option<Up>; 2],
}

impl Two {
    /// Two devices with the files that `fill` put into a folder. The words of the first one lie beside it.
    fn new(fill: impl FnOnce(&Path)) -> Self {
        let meeting = Meeting::start();
        let (p, l) = (Home::empty(), Home::empty());
        let made = p.json(["init", "--name", "bench"]);
        write(&p.beside("words"), made["phrase"].as_str().unwrap().as_bytes());
        let source = p.beside("source");
        fill(&source);
        p.ok(["add".as_ref(), source.as_os_str()]);
        let up_p = Up::start(&p, &["--bootstrap", meeting.address()]);
        p.pair_with(&l, &meeting, "looker-on");
        let up_l = Up::start(&l, &[]);
        l.wait_synced();
        p.wait_equal(&l);
        Self { _meeting: meeting, homes: [p, l], ups: [Some(up_p), Some(up_l)] }
    }

    /// Waits until both have the same entries.
    fn wait_equal(&self) {
        let [p, l] = &self.homes;
        p.wait_equal(l);
    }

    fn stop(self) {
        self.ups.into_iter().flatten().for_each(|up| drop(up.stop().ok()));
    }
}

/// Path, size and hash of every file that is shown.
fn shown(home: &Home) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let files = home.list().into_iter().filter(|entry| entry["kind"] == "file");
    files.map(|entry| (text(&entry["path"]), text(&entry["b3"]))).collect()
}

fn held(home: &Home) -> Vec<Value> {
    let told = home.run_json(["held"]);
    let held = told.json()["held"].as_array().unwrap().clone();
    assert_eq!(told.code(), Some(if held.is_empty() { 0 } else { 5 }), "{told:?}");
    held
}

fn wait_held(home: &Home) -> Value {
    wait_for("something is held", LIMIT, || held(home).into_iter().next())
}

fn wait_free(home: &Home) {
    wait_for("nothing is held", LIMIT, || held(home).is_empty().then_some(()));
}

fn problems(home: &Home) -> Vec<Value> {
    home.json(["status"])["problems"].as_array().unwrap().clone()
}

/// Goal: 500 trashed files are let through, one more holds them all: the other device shows, gives out and keeps everything,
/// says so, over a restart too, and nothing of the log or the tree differs; the author cannot allow it itself; what was edited
/// meanwhile lives after it is allowed elsewhere. Method: folders of 500 and 2,000 files.
#[test]
fn t84_501_removed_files_are_held_until_they_are_allowed() {
    let mut two = Two::new(|source| {
        for number in 0..500 {
            write(&source.join(format!("b/{number}.txt")), format!("text {number}").as_bytes());
        }
        for number in 0..2_000 {
            write(&source.join(format!("a/{number}.txt")), format!("other text {number}").as_bytes());
        }
    });
    let [p, l] = &two.homes;
    let before = shown(l);
    assert_eq!(before.len(), 2_500);

    let quiet = p.ok(["rm", "source/b"]);
    assert!(!quiet.text().contains("at once"), "{quiet:?}");
    two.wait_equal();
    assert_eq!((held(l), held(p), shown(l).len()), (vec![], vec![], 2_000));

    let loud = p.ok(["rm", "source/a/7.txt"]);
    assert!(loud.err.contains("decided on looker-on"), "{loud:?}");
    let hold = wait_held(l);
    two.wait_equal();
    assert_eq!(
        (&hold["removed"], &hold["replaced"], &hold["files"], &hold["this"], &hold["by"]),
        (&501.into(), &0.into(), &2_500.into(), &false.into(), &"clock".into()),
        "{hold}"
    );
    assert_eq!(hold["confirm_on"], serde_json::json!(["looker-on"]));
    assert_eq!(shown(l), before);
    assert_eq!(shown(p).len(), 1_999);
    let replayed = l.json(["ls", "-R", "--replayed"])["entries"].as_array().unwrap().clone();
    assert_eq!(replayed.iter().filter(|entry| entry["kind"] == "file").count(), 1_999);
    let own = wait_held(p);
    assert!(own["this"] == true && own["sentence"].as_str().unwrap().contains("looker-on"), "{own}");

    for home in [l, p] {
        assert!(problems(home).iter().any(|problem| problem["code"] == "E_HELD"), "{:?}", problems(home));
    }
    let status = l.json(["status"]);
    assert!(status["sentence"].as_str().unwrap().starts_with("A decision is needed: "), "{status}");
    assert_eq!(status["files"], 2_500);
    let out = l.beside("out");
    l.ok(["get".as_ref(), "source/b".as_ref(), "--to".as_ref(), out.as_os_str()]);
    assert_eq!(fs::read(out.join("499.txt")).unwrap(), b"text 499");
    let packs = l.packs();
    assert_eq!(l.json(["gc"])["reclaimed_bytes"], 0);
    assert_eq!(l.packs(), packs);
    let refused = l.run_json(["free", "--copies", "1", "source/b"]);
    assert_eq!(refused.code(), Some(4), "{refused:?}");
    assert!(refused.json()["kept"][0]["reason"].as_str().unwrap().contains("locker held"), "{refused:?}");
    p.run_json(["held", "allow"]).refused(4, "E_HELD");

    // An edit, a removal and a new file of its own, over a restart.
    let edit = l.beside("edit");
    write(&edit.join("b/3.txt"), b"edited meanwhile");
    write(&edit.join("b/new.txt"), b"made meanwhile");
    l.ok(["add".as_ref(), edit.join("b").as_os_str(), "--to".as_ref(), "source".as_ref()]);
    l.ok(["rm", "source/b/4.txt"]);
    two.ups[1].take().unwrap().stop();
    two.ups[1] = Some(Up::start(l, &[]));
    two.wait_equal();
    let mut now = shown(l);
    assert_eq!((held(l).len(), now.len()), (1, 2_500));
    let (edited, new) = (now.remove("source/b/3.txt").unwrap(), now.remove("source/b/new.txt").unwrap());
    assert!(edited != before["source/b/3.txt"] && !now.contains_key("source/b/4.txt"));

    let decided = l.json(["held", "allow"]);
    assert_eq!(decided["files"], 501, "{decided}");
    for home in [l, p] {
        wait_free(home);
    }
    two.wait_equal();
    for home in [l, p] {
        let shown = shown(home);
        assert_eq!(shown.len(), 2_001);
        let lives = |b3: &String| shown.values().any(|other| other == b3);
        assert!(lives(&edited) && lives(&new), "what was made meanwhile is gone");
        assert!(problems(home).iter().all(|problem| problem["code"] != "E_HELD"));
    }
    l.run_json(["held", "undo"]).refused(3, "E_NOT_FOUND");
    two.stop();
}

/// Goal: 30 of 100 files that are overwritten with something else are held and come back byte-equal on both devices; tags that
/// are edited, and twins that go, are let through. Method: real files of a hundred bytes and more.
#[test]
fn t84_overwritten_files_come_back_and_edited_tags_pass() {
    let song =
        |number: u32, tag: &str| format!("ID3 and sixteen bytes; {number}: {tag} {}", "la ".repeat(90));
    let two = Two::new(|source| write(&source.join("readme.txt"), b"songs"));
    let [p, l] = &two.homes;
    // What a device wrote itself just now it may write again.
    let songs = l.beside("songs");
    for number in 0..100 {
        write(&songs.join(format!("{number}.mp3")), song(number, "untagged").as_bytes());
    }
    l.ok(["add".as_ref(), songs.as_os_str(), "--to".as_ref(), "source".as_ref()]);
    two.wait_equal();
    let overwrite = |home: &Home, of: std::ops::Range<u32>, text: &dyn Fn(u32) -> String| {
        let folder = home.beside(format!("round-{}-{}", of.start, text(0).len()));
        for number in of {
            write(&folder.join(format!("songs/{number}.mp3")), text(number).as_bytes());
        }
        home.ok(["add".as_ref(), folder.join("songs").as_os_str(), "--to".as_ref(), "source".as_ref()]);
    };
    overwrite(p, 0..30, &|number| song(number, "a tag"));
    two.wait_equal();
    wait_free(l);
    assert_eq!(shown(l), shown(p));

    let before = shown(l);
    overwrite(p, 40..70, &|number| format!("encrypted {number} {}", song(number, "untagged")));
    let hold = wait_held(l);
    assert_eq!((&hold["removed"], hold["replaced"].as_u64().unwrap() >= 30), (&0.into(), true), "{hold}");
    two.wait_equal();
    assert_eq!(shown(l), before);
    assert_ne!(shown(p), before);
    l.wait_synced();
    assert_eq!(held(l).len(), 1, "the beginnings are others");
    let decided = l.json(["held", "undo"]);
    assert!(decided["files"].as_u64().unwrap() >= 30, "{decided}");
    for home in [l, p] {
        wait_free(home);
    }
    two.wait_equal();
    for home in [l, p] {
        assert_eq!(shown(home), before);
        assert_eq!(home.ok(["cat", "source/songs/50.mp3"]).out, song(50, "untagged").as_bytes());
        assert_eq!(home.json(["verify"])["bad"], 0);
    }
    two.stop();
}

/// Goal: whole folders that are brought back are as they were, with what lay in them. Method: 30 files in nested folders, all
/// of them removed; `restore` is not asked.
#[test]
fn t84_removed_folders_come_back_as_they_were() {
    let two = Two::new(|source| {
        for number in 0..30 {
            write(&source.join(format!("{}/{}/{number}.txt", number % 3, number % 2)), b"the same in all");
        }
    });
    let [p, l] = &two.homes;
    let before = shown(l);
    for part in ["source/0/0", "source/0", "source/1", "source"] {
        p.ok(["rm", part]);
    }
    wait_held(l);
    two.wait_equal();
    assert_eq!((shown(l) == before, shown(p).len()), (true, 0));
    l.ok(["held", "undo"]);
    wait_free(p);
    two.wait_equal();
    for home in [l, p] {
        assert_eq!(shown(home), before);
        wait_free(home);
    }
    two.stop();
}

/// Goal: where the other device has nobody before it, the author decides itself with the 24 words, and neither without them nor
/// with others; the others then take part. Method: all of 30 files removed; the words of another locker; those of this one while
/// no node runs, and through one.
#[test]
fn t84_who_has_the_words_decides_on_the_device_itself() {
    for through_a_node in [false, true] {
        let mut two = Two::new(|source| {
            for number in 0..30 {
                write(&source.join(format!("{number}.txt")), format!("text {number}").as_bytes());
            }
        });
        two.homes[0].ok(["rm", "source"]);
        wait_held(&two.homes[1]);
        two.wait_equal();
        wait_held(&two.homes[0]);
        if !through_a_node {
            two.ups[0].take().unwrap().stop();
        }
        let [p, l] = &two.homes;
        let allow = |words: &Path| {
            p.run_json(["held".as_ref(), "allow".as_ref(), "--phrase-file".as_ref(), words.as_os_str()])
        };
        let others = p.beside("others");
        let made = Home::empty().json(["init", "--name", "stranger"]);
        write(&others, made["phrase"].as_str().unwrap().as_bytes());
        p.run_json(["held", "allow"]).refused(4, "E_HELD");
        allow(&others).refused(4, "E_DENIED");
        assert_eq!((held(p).len(), held(l).len(), shown(l).len()), (1, 1, 30));

        let allowed = allow(&p.beside("words"));
        assert_eq!(allowed.code(), Some(0), "{allowed:?}");
        assert_eq!(allowed.json()["files"], 30, "{allowed:?}");
        if !through_a_node {
            two.ups[0] = Some(Up::start(p, &[]));
        }
        for home in [p, l] {
            wait_free(home);
        }
        two.wait_equal();
        assert_eq!((shown(p).len(), shown(l).len()), (0, 0));
        two.stop();
    }
}
