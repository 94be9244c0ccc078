//! Power cuts: a locker works on a disk whose writes are logged; the disk is then looked at as it may be found after a cut
//! at any moment.

use std::fs::File;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use locker_tests::deeds::{Script, Told};
use locker_tests::enclosure::with_own_mounts;
use locker_tests::lab::{FileSystem, Mounted, has_disks, scratch};
use locker_tests::power::{Kept, Log, LoggedDisk};
use locker_tests::{Dice, Home, Outcome};
use tempfile::TempDir;

use crate::{disk_server, number};

/// Room for what is taken in, the reserve and the low-water mark.
const DISK_MIB: u64 = 320;
/// Cuts of one history.
const CUTS: u64 = 48;
/// Steps of one history.
const STEPS: usize = 24;
/// Of so many cuts, one is followed by another cut while the locker comes back.
const AGAIN_EVERY: u64 = 4;

/// A place for disks, and the one mount point where each of them is looked at.
struct Bench {
    folder: TempDir,
    disks: u64,
}

/// A cut, so that it can be made again.
#[derive(Clone, Copy, Debug)]
struct Cut {
    place: usize,
    kept: Kept,
    dice: u64,
}

impl Cut {
    /// Any: half of them just after somebody was told something, where most can be lost.
    fn any(log: &Log, dice: &mut Dice) -> Self {
        let marks = log.marks();
        let place = if marks.is_empty() || dice.below(2) == 0 {
            1 + usize::try_from(dice.below(log.len() as u64)).unwrap()
        } else {
            marks[usize::try_from(dice.below(marks.len() as u64)).unwrap()]
        };
        Self { place, kept: Kept::any(dice), dice: dice.below(u64::MAX) }
    }

    fn make(self, log: &Log, image: &Path) {
        log.cut(self.place, self.kept, &mut Dice::new("cut", self.dice), image);
    }
}

impl Bench {
    fn new() -> Self {
        Self { folder: scratch(), disks: 0 }
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A path that no image had.
    fn new_name(&mut self) -> PathBuf {
        self.disks += 1;
        self.beside(&format!("disk-{}", self.disks))
    }

    fn mount(&self, image: &Path) -> Mounted {
        Mounted::mount(image, &self.beside("mounted"), "defaults").unwrap()
    }

    /// A new disk with a file system.
    fn empty_disk(&mut self, kind: FileSystem) -> Result<PathBuf, String> {
        let base = self.new_name();
        kind.make(&base, DISK_MIB).map(|()| base)
    }

    /// Works on a disk that holds what `base` does, and gives what happened to it.
    fn log(&mut self, base: &Path, work: impl FnOnce(&Path, &LoggedDisk)) -> Log {
        let folder = self.new_name();
        let disk = LoggedDisk::start(disk_server(), base, &folder).unwrap();
        let mounted = self.mount(&disk.disk());
        work(mounted.path(), &disk);
        mounted.unmount();
        disk.finish()
    }

    /// Makes the disk as it is after a cut and looks at it. If what is seen is not good, the disk is kept, as it was found.
    fn look(&mut self, log: &Log, cut: Cut, what: &str, look: impl FnOnce(&Path)) {
        let image = self.new_name();
        cut.make(log, &image);
        let mounted = catch_unwind(AssertUnwindSafe(|| {
            let mounted = self.mount(&image);
            look(mounted.path());
            mounted
        }));
        match mounted {
            Ok(mounted) => mounted.unmount(),
            Err(panic) => {
                let kept = std::env::temp_dir().join(format!("locker-lab-kept-{}", std::process::id()));
                let _ = std::fs::remove_file(&kept);
                cut.make(log, &kept);
                eprintln!("{what}: this disk is kept in {}", kept.display());
                resume_unwind(panic);
            }
        }
        std::fs::remove_file(&image).unwrap();
    }
}

fn locker_on(disk: &Path) -> Home {
    Home::at(disk.join("home"))
}

/// One history, and cuts of it. Gives how many were looked at in all, second ones included.
fn history(kind: FileSystem, name: &str, cuts: u64, dice: &mut Dice) -> Result<u64, String> {
    let mut bench = Bench::new();
    let base = bench.empty_disk(kind)?;
    let script = Script::new(dice, STEPS, &bench.beside("source"));
    let log = bench.log(&base, |disk, logged| {
        let home = locker_on(disk);
        for step in 0..script.len() {
            logged.mark().write_all(Script::begins(step).as_bytes()).unwrap();
            // What is said goes to the log of the disk itself: it stands there where it was said.
            let mut command = script.command(&home, step);
            let status = command.stdout(logged.mark()).stderr(logged.mark()).status().unwrap();
            assert!(status.success(), "step {step}: {status}");
        }
    });
    assert_eq!(Told::read(&log.told(log.len())).done, script.len());
    let (writes, flushes) = log.counts();
    eprintln!("{name}: {STEPS} steps on {}, {writes} writes, {flushes} flushes", kind.name());
    let mut looked = 0;
    for number in 0..cuts {
        let cut = Cut::any(&log, dice);
        let told = Told::read(&log.told(cut.place));
        let what = format!("{name}, cut {number} of {} records: {cut:?}", log.len());
        bench.look(&log, cut, &what, |disk| script.check(&locker_on(disk), &told, &what));
        looked += 1;
        if !number.is_multiple_of(AGAIN_EVERY) {
            continue;
        }
        // The same disk again; this time the power goes while the locker comes back.
        let image = bench.new_name();
        cut.make(&log, &image);
        let again = bench.log(&image, |disk, _| come_back(&locker_on(disk), told.done > 0));
        if again.is_empty() {
            continue;
        }
        let cut = Cut::any(&again, dice);
        let what = format!("{what}, then of {} while it came back: {cut:?}", again.len());
        bench.look(&again, cut, &what, |disk| script.check(&locker_on(disk), &told, &what));
        looked += 1;
        std::fs::remove_file(&image).unwrap();
    }
    Ok(looked)
}

/// What somebody does who switches on again, as far as it adds nothing of its own.
fn come_back(home: &Home, has_locker: bool) {
    if has_locker {
        home.ok(["status"]);
        home.ok(["verify"]);
    } else {
        // There may be none.
        let _: Outcome = home.run(["status"]);
    }
}

/// So many cuts in histories of a file system.
fn cut_all(kind: FileSystem, wanted: u64) {
    if let Err(why) = has_disks() {
        eprintln!("power cuts on {} are SKIPPED: {why}", kind.name());
        return;
    }
    let mut dice = Dice::of(&format!("power cuts on {}", kind.name()));
    let mut looked = 0;
    let mut histories = 0;
    while looked < wanted {
        let name = format!("history {histories}");
        match history(kind, &name, CUTS.min(wanted - looked), &mut dice) {
            Ok(more) => looked += more,
            Err(why) => {
                eprintln!("power cuts on {} are SKIPPED: {why}", kind.name());
                return;
            }
        }
        histories += 1;
    }
    eprintln!("{}: {looked} power cuts in {histories} histories, nothing acknowledged was lost", kind.name());
}

/// Goal: what was acknowledged before the power went is there, byte for byte; nothing is half; work goes on without help.
/// Method: a script of what a person does, on a logged disk; cuts at random places and just after something was said, with
/// a random part of what was not flushed; some of them again while the locker comes back.
#[test]
fn nothing_acknowledged_is_lost_by_power_cuts() {
    with_own_mounts(module_path!(), "nothing_acknowledged_is_lost_by_power_cuts", || {
        cut_all(FileSystem::Ext4, number("LOCKER_CUTS", CUTS));
    });
}

/// Goal: nor on file systems that keep other promises. Method: as above, one cut for five there, in deep runs.
#[test]
fn nothing_acknowledged_is_lost_by_power_cuts_on_other_file_systems() {
    let wanted = number("LOCKER_CUTS", 0) / 5;
    if wanted == 0 {
        eprintln!("only with LOCKER_CUTS");
        return;
    }
    with_own_mounts(
        module_path!(),
        "nothing_acknowledged_is_lost_by_power_cuts_on_other_file_systems",
        || {
            for kind in [FileSystem::Xfs, FileSystem::Btrfs] {
                cut_all(kind, wanted);
            }
        },
    );
}

/// How a program that is none of ours writes a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Care {
    Careless,
    WithoutFolder,
    Careful,
}

/// Goal: this disk forgets what was not synced, and so would show it if we forgot to. Method: a program that writes and
/// renames, with no sync, with one of the file, and with one of the folder too.
#[test]
fn a_program_that_does_not_sync_loses_what_it_acknowledged() {
    with_own_mounts(module_path!(), "a_program_that_does_not_sync_loses_what_it_acknowledged", || {
        if let Err(why) = has_disks() {
            eprintln!("SKIPPED: {why}");
            return;
        }
        let mut dice = Dice::of("careless programs");
        let mut bench = Bench::new();
        let base = bench.empty_disk(FileSystem::Ext4).unwrap();
        let content = |n: u32| blake3::hash(&n.to_le_bytes()).to_hex().repeat(100);
        let mut lost = [Care::Careless, Care::WithoutFolder, Care::Careful].map(|care| {
            let log = bench.log(&base, |disk, logged| {
                for n in 0..40 {
                    let (new, name) = (disk.join("new"), disk.join(n.to_string()));
                    let mut file = File::create(&new).unwrap();
                    file.write_all(content(n).as_bytes()).unwrap();
                    if care != Care::Careless {
                        file.sync_all().unwrap();
                    }
                    std::fs::rename(new, name).unwrap();
                    if care == Care::Careful {
                        File::open(disk).unwrap().sync_all().unwrap();
                    }
                    logged.mark().write_all(format!("{n}\n").as_bytes()).unwrap();
                }
            });
            let mut lost = 0;
            for _ in 0..8 {
                let cut = Cut::any(&log, &mut dice);
                bench.look(&log, cut, "a program of its own", |disk| {
                    let told = log.told(cut.place);
                    let names = told.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
                    let is_lost = |name: &&str| {
                        let found = std::fs::read_to_string(disk.join(name)).unwrap_or_default();
                        found != content(name.parse().unwrap())
                    };
                    lost += names.filter(is_lost).count();
                });
            }
            lost
        });
        eprintln!("lost without a sync, with one of the file, with one of the folder too: {lost:?}");
        assert_eq!(lost[2], 0);
        lost.sort_unstable();
        assert!(lost[1] > 0, "{lost:?}");
    });
}
