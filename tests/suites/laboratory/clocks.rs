//! Clocks that jump by ten years, forth and back: nothing is lost, nothing changes its order, devices meet.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
const A_LITTLE_AHEAD: Clock = Clock("+6m");

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
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
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

/// Goal: what a device wrote ten years ahead of time it shows itself at once, and all others as soon as it has met
/// two of them under a clock that is right: it goes on under a new key. Under a clock that is six minutes off those
/// of two others it says so, and dates nothing by it. Method: one of three paired devices writes alone under the
/// wrong clock, and is started under the right one.
#[test]
fn t94_who_wrote_ahead_of_time_begins_anew_and_a_clock_that_is_off_dates_nothing() {
    let Some(library) = library("a device that wrote ahead of time") else { return };
    let meeting = Meeting::start();
    let (a, b, c) = (Home::new(), Home::empty(), Home::empty());
    let up_a = Up::start(&a, &["--bootstrap", meeting.address()]);
    a.pair_with(&b, &meeting, "second");
    a.pair_with(&c, &meeting, "third");
    let up_c = Up::start(&c, &[]);
    let start_b = |clock: Clock| {
        let mut command = b.command(["--json", "up", "--listen", ANYWHERE, "--no-lan"]);
        clock.set(&mut command, &library);
        Up::run(command)
    };
    let up_b = start_b(RIGHT);
    c.wait_synced();
    b.wait_synced();
    up_b.stop().ok();

    let (path, bytes) = (b.beside("ahead.bin"), vec![7; 300_000]);
    write(&path, &bytes);
    let mut command = b.command(["--json".as_ref(), "add".as_ref(), path.as_os_str()]);
    AHEAD.set(&mut command, &library);
    Outcome::of(command).ok();
    assert_eq!(b.paths(), ["ahead.bin"], "an own entry was put off");
    let has_trouble = |code: &str| b.json(["status"])["problems"].to_string().contains(code);
    assert!(has_trouble("E_TIME"));
    let own_id = || {
        let devices = b.json(["device", "ls"])["devices"].take();
        let own = devices.as_array().unwrap().iter().find(|device| device["this"] == true);
        own.unwrap()["id"].as_str().unwrap().to_owned()
    };
    let old = own_id();
    let up_b = start_b(RIGHT);
    // It holds its clock against those of others every minute.
    wait_for("a new key", Duration::from_secs(180), || (own_id() != old).then_some(()));
    for home in [&a, &b, &c] {
        wait_for("what was written again", Duration::from_secs(60), || {
            (home.paths() == ["ahead.bin"]).then_some(())
        });
        home.wait_synced();
        assert_eq!(home.ok(["cat", "ahead.bin"]).out, bytes);
    }
    let status = b.json(["status"]);
    assert_eq!((&status["reborn"]["was"], has_trouble("E_TIME")), (&old.into(), false), "{status}");

    up_b.stop().ok();
    let up_b = start_b(A_LITTLE_AHEAD);
    wait_for("a clock that is doubted", Duration::from_secs(60), || has_trouble("E_TIME").then_some(()));
    b.ok(["mkdir", "dated"]);
    let events = b.json(["history", "dated"])["events"].take();
    let dated = Duration::from_millis(events[0]["time"].as_u64().unwrap());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(dated < now + Duration::from_secs(60), "{dated:?}, {now:?}");
    a.wait_for_path("dated");
    for up in [up_a, up_b, up_c] {
        up.stop().ok();
    }
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

/// T86: a device on whose word another one let go keeps its promise to the end by its own count of seconds, started
/// under a clock that is two days fast, and again under one that is right. Method: two devices; the one lets go, and
/// so the other may not.
#[test]
fn t86_a_holder_whose_clock_is_two_days_fast_keeps_its_promise() {
    let Some(library) = library("a holder whose clock is fast") else { return };
    let meeting = Meeting::start();
    let (holder, other) = (Home::new(), Home::empty());
    let path = holder.beside("film.bin");
    write(&path, &Dice::of("a holder whose clock is two days fast").bytes(3_000_000));
    holder.ok(["add".as_ref(), path.as_os_str()]);
    let up_holder = Up::start(&holder, &["--bootstrap", meeting.address()]);
    holder.pair_with(&other, &meeting, "second");
    let up_other = Up::start(&other, &[]);
    other.wait_synced();
    for home in [&holder, &other] {
        wait_for("two copies", Duration::from_secs(20), || {
            (home.json(["status"])["copies"]["least"] == 2).then_some(())
        });
    }
    let freed = other.json(["free", "--copies", "1", "film.bin"]);
    assert_eq!((&freed["files"], &freed["holders"]), (&1.into(), &1.into()), "{freed}");
    up_holder.stop().ok();
    for clock in [Clock("+2d"), RIGHT] {
        let mut command = holder.command(["--json", "up", "--listen", ANYWHERE, "--no-lan"]);
        clock.set(&mut command, &library);
        let up = Up::run(command);
        let refused = holder.run_json(["free", "--copies", "1", "film.bin"]);
        assert_eq!(refused.code(), Some(4), "{refused:?}");
        let reason = refused.json()["kept"][0]["reason"].as_str().unwrap().to_owned();
        assert!(reason.contains("promised"), "{:?}: {reason}", clock.0);
        up.stop().ok();
    }
    assert_eq!(holder.json(["verify"])["bad"], 0);
    up_other.stop().ok();
}
