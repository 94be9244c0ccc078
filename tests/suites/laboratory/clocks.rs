//! Clocks that jump by ten years, forth and back: nothing is lost, nothing changes its order, devices meet.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use locker_tests::deeds::{Script, Told};
use locker_tests::files::{flip, walk, write};
use locker_tests::wait::wait_for;
use locker_tests::{Dice, Home, Meeting, Outcome, Up};

/// Steps of the script, and how many are done under one clock.
const STEPS: usize = 24;
const UNDER_ONE_CLOCK: usize = 4;

/// Any free port.
const ANYWHERE: &str = "127.0.0.1:0";

/// A clock that is wrong by so much; right if it is empty.
#[derive(Clone, Copy)]
struct Clock(&'static str);

const RIGHT: Clock = Clock("");
const AHEAD: Clock = Clock("+10y");
const BEHIND: Clock = Clock("-10y");

impl Clock {
    /// Puts a command under this clock. Files keep the times that they have, and time passes as fast as it does.
    fn set(self, command: &mut Command, library: &Path) {
        if !self.0.is_empty() {
            command.env("LD_PRELOAD", library).env("FAKETIME", self.0);
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("NO_FAKE_STAT", "1");
        }
    }
}

/// The library that tells a program another time.
fn library(name: &str) -> Option<PathBuf> {
    let found = std::fs::read_dir("/usr/lib").into_iter().flatten().find_map(|folder| {
        let path = folder.ok()?.path().join("faketime/libfaketimeMT.so.1");
        path.is_file().then_some(path)
    });
    if found.is_none() {
        eprintln!("{name} is SKIPPED: there is no libfaketime here");
    }
    found
}

/// Goal: whatever the clock does, each step leads where it leads, what was done before stays, and contents keep their
/// order. Method: a script under clocks that are right, ten years ahead, right, ten years behind.
#[test]
fn a_clock_that_jumps_loses_nothing() {
    let Some(library) = library("a clock that jumps") else { return };
    let mut dice = Dice::of("a clock that jumps");
    let home = Home::empty();
    let script = Script::new(&mut dice, STEPS, &home.beside("source"));
    let clocks = [RIGHT, AHEAD, RIGHT, BEHIND, AHEAD, BEHIND];
    for step in 0..script.len() {
        let clock = clocks[step / UNDER_ONE_CLOCK % clocks.len()];
        let mut command = script.command(&home, step);
        clock.set(&mut command, &library);
        Outcome::of(command).ok();
        let what = format!("step {step} at {:?}", clock.0);
        let told = Told { done: step + 1, ..Told::default() };
        script.look(&home, &told, &what);
        script.check_order(&home, step + 1, &what);
        // Once it was ahead, the device says so under every clock that is not.
        let mut command = home.command(["--json", "status"]);
        clock.set(&mut command, &library);
        let problems = Outcome::of(command).ok().json()["problems"].to_string();
        let is_ahead = step >= UNDER_ONE_CLOCK && clock.0 != AHEAD.0;
        assert_eq!(problems.contains("E_TIME"), is_ahead, "{what}: {problems}");
    }
    script.check(&home, &Told { done: script.len(), ..Told::default() }, "all clocks");
    // The clock did jump, or all this tells nothing.
    let mut command = home.command(["--json", "mkdir", "at the end"]);
    AHEAD.set(&mut command, &library);
    Outcome::of(command).ok();
    let events = home.json(["history", "at the end"])["events"].take();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let told = Duration::from_millis(events[0]["time"].as_u64().unwrap());
    assert!(told > now + Duration::from_secs(9 * 365 * 86_400), "{told:?}, {now:?}");
}

/// Goal: what a device did while its clock was wrong by ten years, and what others did meanwhile, is not lost: they meet
/// when it is right again. Method: one of two paired devices is started under each clock, both take in files, then its
/// clock is right. What it dated ahead waits on the other device until the time comes there as well.
#[test]
fn devices_meet_when_a_clock_that_was_wrong_is_right() {
    let Some(library) = library("devices whose clocks differ") else { return };
    let meeting = Meeting::start();
    let (a, b) = (Home::new(), Home::empty());
    let up_a = Up::start(&a, &["--bootstrap", meeting.address()]);
    a.pair_with(&b, &meeting, "second");
    // Where the other one remembers it: the meeting point has the right time, and believes no announcement from another.
    let place = up_a.listen().iter().find_map(|address| address.strip_prefix("/ip4/127.0.0.1/tcp/"));
    let place = format!("127.0.0.1:{}", place.unwrap());
    let start = |home: &Home, listen: &str, clock: Clock| {
        let mut command = home.command(["--json", "up", "--listen", listen, "--no-lan"]);
        clock.set(&mut command, &library);
        Up::run(command)
    };
    let mut up_b = start(&b, ANYWHERE, RIGHT);
    b.wait_synced();
    let take_in = |home: &Home, name: &str| {
        let path = home.beside(name);
        write(&path, name.as_bytes());
        home.ok(["add".as_ref(), path.as_os_str()]);
    };
    for clock in [BEHIND, AHEAD] {
        up_b.stop().ok();
        up_b = start(&b, ANYWHERE, clock);
        let (from_a, from_b) = (format!("from a {}", clock.0), format!("from b {}", clock.0));
        take_in(&a, &from_a);
        take_in(&b, &from_b);
        assert!(b.paths().contains(&from_b), "an own entry was put off");
        up_b.stop().ok();
        up_b = start(&b, ANYWHERE, RIGHT);
        b.wait_for_path(&from_a);
        if clock.0 == BEHIND.0 {
            a.wait_for_path(&from_b);
        }
    }
    let paths = b.paths();
    assert_eq!(paths.len(), 4, "{paths:?}");
    b.ok(["wait", "--synced", "--timeout", "60"]);
    for (home, up) in [(&a, up_a), (&b, up_b)] {
        up.stop().ok();
        let mut command = home.command(["--json", "verify"]);
        AHEAD.set(&mut command, &library);
        assert_eq!(Outcome::of(command).ok().json()["bad"], 0);
    }
    // Its time comes: it is shown, and then its content is fetched.
    let (up_a, up_b) = (start(&a, &place, AHEAD), start(&b, ANYWHERE, AHEAD));
    wait_for("what came from the future", Duration::from_secs(30), || (a.paths() == paths).then_some(()));
    a.wait_synced();
    assert_eq!(a.ok(["cat", "from b +10y"]).out, b"from b +10y");
    up_a.stop().ok();
    up_b.stop().ok();
}

/// Goal: what a drive has lost is found when it was not read for long, and comes anew. Method: a file of a pack is damaged; the
/// drive is brought up to date at once, and a month later.
#[test]
fn what_a_drive_lost_comes_anew_after_a_month() {
    let Some(library) = library("a month") else { return };
    let home = Home::new();
    write(&home.beside("one.txt"), &[1; 50_000]);
    home.ok(["add".as_ref(), home.beside("one.txt").as_os_str()]);
    let folder = home.beside("usb");
    home.ok(["drive".as_ref(), "init".as_ref(), folder.as_os_str()]);
    let is_pack =
        |path: &PathBuf| std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() > 40_000);
    let pack = walk(&folder.join("packs")).into_iter().find(is_pack).unwrap();
    let whole = std::fs::read(&pack).unwrap();
    flip(&pack, 20_000);
    let update = |clock: Clock| {
        let mut command = home.command(["--json", "drive", "update"]);
        clock.set(&mut command, &library);
        let told = Outcome::of(command).ok().json()["drives"][0].clone();
        (told["missing"].as_u64().unwrap(), told["new_bytes"].as_u64().unwrap())
    };
    assert_eq!(update(RIGHT), (0, 0), "read a moment ago");
    let (missing, new_bytes) = update(Clock("+30d"));
    assert!(missing == 0 && new_bytes > 40_000, "{missing} {new_bytes}");
    assert_eq!(std::fs::read(&pack).unwrap(), whole);
}
