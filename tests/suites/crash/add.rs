//! T89: kills during `add`. Another device that listens meanwhile: `two_devices::kills`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use locker_tests::files::write;
use locker_tests::{Dice, Home, Outcome, Tree, tree};

/// Kills of one victim at one point.
const KILLS: usize = 10;
/// How long a command may take that has to put right first what a kill left: the quickest of one victim, as the
/// machine may be busy.
const START_MAX: Duration = Duration::from_secs(5);

/// Kills at all ten points together: `LOCKER_KILLS`, else 100.
fn kills_in_all() -> usize {
    std::env::var("LOCKER_KILLS").map_or(100, |number| number.parse().expect("LOCKER_KILLS is a number"))
}

/// A locker that is killed again and again while it takes in a folder that grows.
struct Victim {
    home: Home,
    source: PathBuf,
    dice: Dice,
    /// What the locker has declared safe: path in it, and the BLAKE3 of what lay in the source then.
    acknowledged: BTreeMap<String, String>,
    /// What the changing file held, one after the other.
    contents: Vec<String>,
    rounds: usize,
    /// The quickest start after a kill.
    quickest: Duration,
}

impl Victim {
    fn new(name: &str) -> Self {
        let home = Home::new();
        let source = home.beside("source");
        Self {
            home,
            source,
            dice: Dice::of(name),
            acknowledged: BTreeMap::new(),
            contents: Vec::new(),
            rounds: 0,
            quickest: Duration::MAX,
        }
    }

    /// Puts new files into the source: small ones that share a pack, one that fills a pack, one of several packs, one that
    /// is there already under another name, and a new content for a file that is there.
    fn grow(&mut self) {
        let folder = self.source.join(format!("round-{}", self.rounds));
        self.rounds += 1;
        for n in 0..4 {
            let len = usize::try_from(self.dice.below(60_000)).unwrap();
            write(&folder.join(format!("small-{n}")), &self.dice.bytes(len));
        }
        write(&folder.join("empty"), b"");
        write(&folder.join("solid"), &self.dice.bytes(4_300_000));
        if self.rounds.is_multiple_of(4) {
            write(&folder.join("long"), &self.dice.bytes(18_000_000));
        }
        std::fs::copy(folder.join("small-0"), folder.join("again")).unwrap();
        let changed = self.dice.bytes(3_000);
        self.contents.push(blake3::hash(&changed).to_hex().to_string());
        write(&self.source.join("changing"), &changed);
    }

    /// Starts to take the source in.
    fn add(&self, failpoints: &str) -> locker_tests::program::Running {
        self.home.start(["add".as_ref(), "-v".as_ref(), self.source.as_os_str()], failpoints)
    }

    /// Notes what a killed or finished `add` has declared safe.
    fn note(&mut self, outcome: &Outcome) {
        for path in outcome.saved() {
            let relative = path.strip_prefix("source/").unwrap_or_else(|| panic!("saved {path:?}"));
            let hash = tree::hash(&self.source.join(relative)).to_hex().to_string();
            self.acknowledged.insert(path, hash);
        }
    }

    /// Asserts that everything acknowledged is there and everything that is there is whole, and that the start left
    /// no pack that no row names; notes how quick it was.
    #[track_caller]
    fn check(&mut self, after: &str) {
        let begun = Instant::now();
        self.home.json(["status"]);
        self.quickest = self.quickest.min(begun.elapsed());
        let named = self.home.json(["gc", "--dry-run"])["checked"].clone();
        assert_eq!(named, self.home.packs().len(), "after {after}: packs that a row names, and files");
        let verified = self.home.run_json(["verify"]);
        assert_eq!(verified.code(), Some(0), "after {after}: {verified:?}");
        let listed: BTreeMap<String, String> = self
            .home
            .list()
            .iter()
            .filter_map(|entry| Some((entry["path"].as_str()?.to_owned(), entry["b3"].as_str()?.to_owned())))
            .collect();
        for (path, hash) in &self.acknowledged {
            // The changing file may be newer than what was acknowledged last, never older: a kill before the
            // acknowledgement leaves a content that the next one, before the commit, leaves there.
            let age = |hash: &String| self.contents.iter().position(|content| content == hash);
            let newer = path == "source/changing" && listed.get(path).and_then(age) > age(hash);
            assert!(
                listed.get(path) == Some(hash) || newer,
                "after {after}: {path} was acknowledged as {hash}, now it is {:?}",
                listed.get(path)
            );
        }
        // What was not acknowledged may be there or not; if it is, it is the source's.
        for (path, hash) in listed.iter().filter(|(path, _)| *path != "source/changing") {
            let source = self.source.join(path.strip_prefix("source/").unwrap());
            assert_eq!(tree::hash(&source).to_hex().as_str(), hash, "after {after}: {path}");
        }
    }

    /// Asserts that a start after a kill was quick.
    fn assert_quick(&self, what: &str) {
        let took = self.quickest;
        assert!(took <= START_MAX, "{what}: the quickest start after a kill took {took:?}");
    }

    /// The next `add` goes on to the end, and everything comes out equal.
    fn finish(mut self, what: &str) {
        let last = self.add("").finish().ok();
        self.note(&last);
        self.check(what);
        let out = self.home.beside("out");
        self.home.ok(["get".as_ref(), "source".as_ref(), "--to".as_ref(), out.as_os_str()]);
        Tree::of(&self.source).assert_same(&Tree::of(&out));
        let left = std::fs::read_dir(self.home.path().join("packs/tmp")).unwrap().count();
        assert_eq!(left, 0, "{what}: temporary files are left");
    }
}

/// Kills at one point, ten of each victim: at its first hit, its second and so on.
fn kill_at(point: &str) {
    for victim in 0..kills_in_all().div_ceil(10 * KILLS).max(1) {
        kill_one_at(point, Victim::new(&format!("{point} {victim}")));
    }
}

fn kill_one_at(point: &str, mut victim: Victim) {
    let mut kills = 0;
    for round in 0..KILLS {
        victim.grow();
        // Later hits where there are so many; else the first.
        for skipped in [round % 4, 0] {
            let outcome = victim.add(&format!("{point}={skipped}*off->return(kill)")).finish();
            victim.note(&outcome);
            if outcome.was_killed() {
                kills += 1;
                victim.check(&format!("{point}, hit {}", skipped + 1));
                break;
            }
            assert_eq!(outcome.code(), Some(0), "{point}: {outcome:?}");
            // It came through: there is something new to take in for the next try.
            victim.grow();
        }
    }
    assert_eq!(kills, KILLS, "{point} was not reached: is this binary built with failpoints? (`cargo lab`)");
    victim.assert_quick(point);
    eprintln!("{point}: {kills} kills, {} files acknowledged", victim.acknowledged.len());
    victim.finish(point);
}

macro_rules! kills {
    ($($test:ident: $point:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            kill_at($point);
        })*

        /// Goal: no step that the program names is left out here.
        #[test]
        fn every_step_is_looked_at() {
            let here = [$($point),*];
            let source = std::fs::read_to_string(
                Path::new(env!("CARGO_MANIFEST_DIR")).join("../node/store/src/failpoints.rs"),
            )
            .unwrap();
            let named: Vec<_> = source.lines().filter_map(|line| {
                line.strip_prefix("pub const ")?.split_once("&str = \"")?.1.strip_suffix("\";")
            }).collect();
            assert!(named.len() >= here.len());
            // Steps of other work than `add`: making a locker (`init`), fetching (the suite `two_devices`), and giving back
            // room (`gc`).
            let elsewhere = ["file-", "db-created", "db-told", "partial-", "delete-"];
            for step in named {
                let is_here = here.contains(&step) || elsewhere.iter().any(|other| step.starts_with(other));
                assert!(is_here, "nobody kills at {step}");
            }
        }
    };
}

kills! {
    t89_killed_when_a_temporary_file_exists: "pack-temp-created",
    t89_killed_when_a_pack_is_written: "pack-written",
    t89_killed_when_a_pack_is_synced: "pack-synced",
    t89_killed_when_a_pack_is_renamed: "pack-renamed",
    t89_killed_when_the_folder_is_synced: "pack-dir-synced",
    t89_killed_before_the_commit: "db-before-commit",
    t89_killed_when_rows_are_written: "db-written",
    t89_killed_after_the_commit: "db-after-commit",
    t89_killed_before_the_acknowledgement: "ack-before",
    t89_killed_after_the_acknowledgement: "ack-after",
}

/// Goal: no moment between the named steps is worse. Method: 30 kills from outside at random moments of the time that an
/// `add` of such files takes.
#[test]
fn t89_killed_at_random_moments() {
    let mut victim = Victim::new("random moments");
    victim.grow();
    let start = Instant::now();
    let first = victim.add("").finish().ok();
    let whole = start.elapsed().max(Duration::from_millis(20));
    victim.note(&first);
    let mut kills = 0;
    for round in 0..30 {
        victim.grow();
        let moment = whole.mul_f64(victim.dice.below(1_000) as f64 / 1_000.0);
        let start = Instant::now();
        let mut add = victim.add("");
        while start.elapsed() < moment && add.is_running() {
            std::thread::park_timeout(Duration::from_micros(500));
        }
        let outcome = add.kill();
        kills += usize::from(outcome.was_killed());
        victim.note(&outcome);
        if round % 3 == 0 || outcome.was_killed() {
            victim.check(&format!("{moment:?} of {whole:?}"));
        }
    }
    eprintln!("{kills} kills of 30 hit a running add");
    assert!(kills >= 10, "only {kills} of 30 kills came in time");
    victim.assert_quick("random moments");
    victim.finish("random moments");
}
