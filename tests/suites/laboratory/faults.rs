//! Operations that fail: every file operation of every step of a script fails once, or from then on, with each of the
//! errors that disks give.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use locker_tests::deeds::{Script, Told};
use locker_tests::enclosure::with_own_mounts;
use locker_tests::faults::{FailingFolder, Fault, How, Kind};
use locker_tests::lab::scratch;
use locker_tests::{Dice, Home, Outcome};
use tempfile::TempDir;

use crate::{disk_server, number};

/// Steps of the script.
const STEPS: usize = 20;
/// Trials of a quick run.
const TRIALS: u64 = 160;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
const EDQUOT: i32 = 122;

/// A folder that fails on order, with one folder in it for each trial.
struct Bench {
    files: FailingFolder,
    /// Goes last: it holds the mount.
    folder: TempDir,
    trials: u64,
}

/// The same folder, as it is and as it is shown.
struct Place {
    own: PathBuf,
    /// The home as it is shown, where operations fail.
    home: Home,
    /// The home as it is.
    plain: Home,
}

impl Bench {
    fn new() -> Result<Self, String> {
        let folder = scratch();
        let (own, shown) = (folder.path().join("own"), folder.path().join("shown"));
        std::fs::create_dir(&own).unwrap();
        let files = FailingFolder::start(disk_server(), &own, &shown)?;
        Ok(Self { files, folder, trials: 0 })
    }

    /// A place that begins as a copy of another one, or empty.
    fn place(&mut self, from: Option<&Path>) -> Place {
        self.trials += 1;
        let name = self.trials.to_string();
        let own = self.folder.path().join("own").join(&name);
        match from {
            Some(from) => {
                let copied = Command::new("cp").args(["-a", "--sparse=always"]).args([from, &own]).status();
                assert!(copied.unwrap().success());
            }
            None => std::fs::create_dir(&own).unwrap(),
        }
        let shown = self.folder.path().join("shown").join(name);
        Place { home: Home::at(shown.join("home")), plain: Home::at(own.join("home")), own }
    }
}

/// What is tried: the command of a step, or what comes after it was killed.
struct Scene {
    name: String,
    /// What lies there before.
    before: PathBuf,
    step: usize,
    /// Whether the step was begun earlier and killed; what is tried then is to look.
    was_killed: bool,
    /// What it had declared safe.
    saved: BTreeSet<String>,
    /// How often each kind of operation is asked for, if none fails.
    counts: BTreeMap<Kind, u64>,
}

impl Scene {
    fn command(&self, script: &Script, home: &Home) -> Command {
        if self.was_killed { home.command(["--json", "ls"]) } else { script.command(home, self.step) }
    }

    /// Every operation of it.
    fn operations(&self) -> impl Iterator<Item = (Kind, u64)> + '_ {
        self.counts.iter().flat_map(|(kind, count)| (1..=*count).map(|n| (*kind, n)))
    }
}

/// Steps of kills after which the way back is tried.
const KILLS: [&str; 4] = ["pack-written", "pack-dir-synced", "db-written", "db-after-commit"];

/// Runs the script and lays down what there was before each step, and after kills.
fn scenes(bench: &mut Bench, script: &Script) -> Vec<Scene> {
    let mut scenes = Vec::new();
    let mut place = bench.place(None);
    for step in 0..script.len() {
        let before = place.own.clone();
        let next = bench.place(Some(&before));
        bench.files.heal();
        script.run(&next.home, step).ok();
        let counts = bench.files.heal().by_kind;
        scenes.push(Scene {
            name: format!("step {step}"),
            before: before.clone(),
            step,
            was_killed: false,
            saved: BTreeSet::new(),
            counts,
        });
        if script.takes_in(step) && step > 0 {
            let point = KILLS[step % KILLS.len()];
            let killed = bench.place(Some(&before));
            let mut command = script.command(&killed.home, step);
            command.env("FAILPOINTS", format!("{point}=return(kill)"));
            let outcome = Outcome::of(command);
            assert!(outcome.was_killed(), "{outcome:?}");
            let then = bench.place(Some(&killed.own));
            bench.files.heal();
            then.home.ok(["--json", "ls"]);
            scenes.push(Scene {
                name: format!("after a kill at {point} in step {step}"),
                before: killed.own,
                step,
                was_killed: true,
                saved: outcome.saved().into_iter().collect(),
                counts: bench.files.heal().by_kind,
            });
        }
        place = next;
    }
    scenes
}

/// Whether a failed command says what is wrong: what the disk said.
fn is_clear(fault: &Fault, outcome: &Outcome) -> bool {
    let (code, name) = (outcome.code(), outcome.error_name().unwrap_or_default());
    let is_said = code.is_some_and(|code| code > 0) && !outcome.err.is_empty();
    is_said
        && match fault.how {
            How::Errno(ENOSPC | EDQUOT) => name == "E_FULL",
            How::Errno(EROFS) => name == "E_READ_ONLY",
            // What cannot be read is as good as damaged, until it can.
            How::Errno(_) if !fault.kind.writes() => name == "E_IO" || name == "E_HASH",
            How::Errno(_) | How::Short => name == "E_IO",
        }
}

/// Lets one operation of a scene fail and looks at what was left. Gives how it ended.
fn fail_once(bench: &mut Bench, script: &Script, scene: &Scene, fault: &Fault) -> String {
    let what = format!("{}, {fault}", scene.name);
    let place = bench.place(Some(&scene.before));
    bench.files.set(fault);
    let outcome = Outcome::of(scene.command(script, &place.home));
    let fired = bench.files.heal().fired;
    let ended = format!("{:?} {}", outcome.code(), outcome.error_name().unwrap_or_default());
    let is_done = outcome.code() == Some(0) && !scene.was_killed;
    let mut saved = scene.saved.clone();
    saved.extend(outcome.saved());
    let told = if is_done {
        Told { done: scene.step + 1, ..Told::default() }
    } else {
        Told { done: scene.step, has_begun: true, saved }
    };
    if outcome.code() != Some(0) {
        assert!(fired > 0 && is_clear(fault, &outcome), "{what}: {outcome:?}");
    }
    script.check(&place.plain, &told, &what);
    if !is_done {
        script.finish(&place.plain, scene.step, &what);
    }
    std::fs::remove_dir_all(&place.own).unwrap();
    format!("{} {ended}", if fired > 0 { "failed" } else { "untouched" })
}

/// Goal: whichever operation on the disk fails, with whichever error: a clear error and no panic, nothing acknowledged that
/// is not there, and the next command works without help. Method: each step of a script, and the first look after a kill,
/// with its n-th operation of each kind failing, for every n that there is; quick runs throw dice for some of them.
#[test]
fn no_operation_that_fails_loses_anything() {
    with_own_mounts(module_path!(), "no_operation_that_fails_loses_anything", || {
        let mut dice = Dice::of("failing operations");
        let mut bench = match Bench::new() {
            Ok(bench) => bench,
            Err(why) => {
                eprintln!("failing operations are SKIPPED: {why}");
                return;
            }
        };
        let source = scratch();
        let script = Script::new(&mut dice, STEPS, source.path());
        let scenes = scenes(&mut bench, &script);
        let all: Vec<_> =
            scenes.iter().flat_map(|scene| scene.operations().map(move |o| (scene, o))).collect();
        let wanted = match std::env::var("LOCKER_FAULTS").as_deref() {
            Ok("all") => all.len() as u64,
            _ => number("LOCKER_FAULTS", TRIALS),
        };
        let mut ends: BTreeMap<String, u64> = BTreeMap::new();
        let mut syncs = BTreeMap::new();
        let mut tried = 0;
        for (scene, (kind, n)) in &all {
            if dice.below(all.len() as u64) >= wanted {
                continue;
            }
            let errors: &[i32] = if kind.writes() { &[EIO, ENOSPC, EROFS, EDQUOT] } else { &[EIO] };
            let how = if *kind == Kind::Write && dice.below(5) == 0 {
                How::Short
            } else {
                How::Errno(errors[usize::try_from(dice.below(errors.len() as u64)).unwrap()])
            };
            let fault = Fault { kind: *kind, n: *n, lasts: dice.below(2) == 0, how };
            let end = fail_once(&mut bench, &script, scene, &fault);
            // A store that may only be read at first is opened again before something is written to it.
            if matches!(kind, Kind::Sync | Kind::SyncFolder) && how != How::Errno(EROFS) {
                // Where a failed sync is followed by a success, it came after the acknowledgement: so do all later ones.
                let is_done = end.contains("Some(0)");
                let syncs: &mut (u64, u64) = syncs.entry((&scene.name, kind)).or_insert((0, u64::MAX));
                if is_done {
                    syncs.1 = syncs.1.min(*n)
                } else {
                    syncs.0 = syncs.0.max(*n)
                }
                assert!(
                    syncs.0 < syncs.1,
                    "{}: {kind} {} failed in vain, {} did not",
                    scene.name,
                    syncs.1,
                    syncs.0
                );
            }
            *ends.entry(format!("{kind} {how:?} {end}")).or_default() += 1;
            tried += 1;
        }
        for (end, count) in &ends {
            eprintln!("{count:6} {end}");
        }
        eprintln!("{tried} of {} operations of {} scenes failed once", all.len(), scenes.len());
        assert!(tried > 0);
    });
}
