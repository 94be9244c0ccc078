//! A household over a long time: three full devices, a box that cannot read, and a disk in a drawer; random deeds while devices
//! come and go and fail, one that is stolen, and one that removes nearly everything at once.
//!
//! What is told as done is remembered in a model of one page ([`model`]); in the end every device and everything that comes
//! back from the disk alone is compared with it. Whenever `status` says that all is safe, somebody else counts the copies
//! ([`walker`]). `LOCKER_DEEDS` chooses another length, `LOCKER_SEED` another run.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "test code: a broken surrounding ends the test")]

mod model;
mod walker;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use locker_tests::files::write;
use locker_tests::wait::{wait_for, wait_or};
use locker_tests::{Dice, Home, Meeting, Tree, Up};
use model::{Model, State};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(90);
/// Files that go at once: more than anybody may remove without being asked.
const MANY: usize = 620;

/// One that takes part.
struct Member {
    name: &'static str,
    home: Home,
    /// The network of its own on loopback in which its addresses lie: a node that starts often needs another one each time.
    net: u8,
    starts: u8,
    up: Option<Up>,
}

impl Member {
    fn new(name: &'static str, home: Home, net: u8) -> Self {
        Self { name, home, net, starts: 0, up: None }
    }

    fn start(&mut self, meeting: &Meeting) {
        if self.up.is_none() {
            self.starts = self.starts.wrapping_add(1);
            let listen = format!("127.7.{}.{}:0", self.net, self.starts.max(1));
            self.up = Some(Up::start_at(&self.home, &listen, &["--bootstrap", meeting.address()]));
        }
    }

    fn stop(&mut self) {
        if let Some(up) = self.up.take() {
            up.stop().ok();
        }
    }

    fn kill(&mut self) {
        if let Some(up) = self.up.take() {
            up.kill();
        }
    }
}

/// The drive, which is in its place or in the drawer.
struct Drive {
    place: PathBuf,
    drawer: PathBuf,
}

impl Drive {
    fn is_in(&self) -> bool {
        self.place.exists()
    }

    /// Puts it in or pulls it out, at whatever moment.
    fn swap(&self) {
        let (from, to) = if self.is_in() { (&self.place, &self.drawer) } else { (&self.drawer, &self.place) };
        std::fs::rename(from, to).unwrap();
    }
}

struct Household {
    meeting: Meeting,
    /// Anna, Ben, and Cleo, whose device is stolen.
    members: Vec<Member>,
    replica: Member,
    drive: Drive,
    words: PathBuf,
    model: Model,
    dice: Dice,
    safe: usize,
}

impl Household {
    fn begin(dice: Dice) -> Self {
        let meeting = Meeting::start();
        let anna = Home::empty();
        let made = anna.json(["init", "--name", "anna"]);
        let words = anna.beside("words.txt");
        write(&words, made["phrase"].as_str().unwrap().as_bytes());
        let mut model = Model::default();
        let archive = anna.beside("archive");
        for n in 0..MANY {
            let text = format!("page {n} of the archive");
            write(&archive.join(format!("{n:03}.txt")), text.as_bytes());
            model.add(&format!("archive/{n:03}.txt"), text.as_bytes(), 0);
        }
        anna.ok(["add".as_ref(), archive.as_os_str()]);
        for folder in ["desk", "shelf", "box"] {
            anna.ok(["mkdir", folder]);
        }
        let mut first = Member::new("anna", anna, 1);
        first.start(&meeting);
        let mut members = vec![first];
        for (net, name) in [(2, "ben"), (3, "cleo")] {
            let home = Home::empty();
            members[0].home.pair_with(&home, &meeting, name);
            let mut member = Member::new(name, home, net);
            member.start(&meeting);
            members.push(member);
        }
        let shed = Home::empty();
        let mut pairing = members[0].home.start(["--json", "pair", "--assume-yes", "--role", "blind"], "");
        let ticket = shed.beside("ticket.txt");
        write(&ticket, pairing.event("ticket")["words"].as_str().unwrap().as_bytes());
        let ticket = ticket.to_str().unwrap();
        let network = ["--bootstrap", meeting.address(), "--no-lan"];
        let join = ["join", "--ticket-file", ticket, "--name", "shed", "--assume-yes"];
        shed.json(join.into_iter().chain(network));
        pairing.finish().ok();
        let mut replica = Member::new("shed", shed, 4);
        replica.start(&meeting);
        let place = members[0].home.beside("usb");
        members[0].home.ok(["drive".as_ref(), "init".as_ref(), place.as_os_str()]);
        let drive = Drive { drawer: members[0].home.beside("drawer"), place };
        let made = Self { meeting, members, replica, drive, words, model, dice, safe: 0 };
        made.all_equal(&[0, 1, 2]);
        made
    }

    /// Waits until these have the same state.
    fn all_equal(&self, who: &[usize]) {
        let state = |home: &Home| home.json(["status"])["state_hash"].as_str().unwrap().to_owned();
        for one in who {
            self.members[*one].home.ok(["wait", "--synced", "--timeout", "90"]);
        }
        wait_for("the same state everywhere", LIMIT, || {
            let first = state(&self.members[who[0]].home);
            who.iter().all(|one| state(&self.members[*one].home) == first).then_some(())
        });
    }

    fn gather(&mut self, who: &[usize]) {
        self.replica.start(&self.meeting);
        for one in who {
            self.members[*one].start(&self.meeting);
        }
        self.all_equal(who);
    }

    /// One deed of one of those who are there.
    fn deed(&mut self, who: &[usize], number: usize) {
        let at = who[self.dice.below(who.len() as u64) as usize];
        match self.dice.below(100) {
            0..36 => self.write_new(at, number),
            36..48 => self.write_over(at),
            48..58 => self.rename(at),
            58..66 => self.remove(at),
            66..74 => drop(self.look_at_status(at)),
            74..77 => drop(self.members[at].home.ok(["gc"])),
            77..80 => self.free(at),
            80..83 => self.drive.swap(),
            83..88 => match self.replica.up {
                Some(_) if self.dice.below(2) == 0 => self.replica.kill(),
                Some(_) => self.replica.stop(),
                None => self.replica.start(&self.meeting),
            },
            _ => match self.members[at].up {
                Some(_) if self.dice.below(2) == 0 => self.members[at].kill(),
                Some(_) => self.members[at].stop(),
                None => self.members[at].start(&self.meeting),
            },
        }
    }

    /// Takes a file in at a path of the locker, and remembers that.
    fn put(&mut self, at: usize, path: &str) {
        let len = 1 + self.dice.below(400) as usize;
        let text = self.dice.word(12).repeat(len);
        let home = &self.members[at].home;
        let (folder, name) = path.rsplit_once('/').unwrap();
        write(&home.beside(name), text.as_bytes());
        home.ok(["add".as_ref(), home.beside(name).as_os_str(), "--to".as_ref(), folder.as_ref()]);
        self.model.add(path, text.as_bytes(), at);
    }

    fn write_new(&mut self, at: usize, number: usize) {
        let folder = ["desk", "shelf", "box"][self.dice.below(3) as usize];
        if self.has_folder(at, folder) {
            self.put(at, &format!("{folder}/{}-{number}.txt", self.members[at].name));
        }
    }

    /// A device that has just joined may not know a folder yet.
    fn has_folder(&self, at: usize, folder: &str) -> bool {
        self.members[at].home.run(["ls", folder]).code() == Some(0)
    }

    fn own_file(&mut self, at: usize) -> Option<String> {
        let own = self.model.files_of(at);
        if own.is_empty() {
            return None;
        }
        Some(own[self.dice.below(own.len() as u64) as usize].clone())
    }

    fn write_over(&mut self, at: usize) {
        if let Some(path) = self.own_file(at) {
            self.put(at, &path);
        }
    }

    fn rename(&mut self, at: usize) {
        let Some(path) = self.own_file(at) else { return };
        let (folder, name) = path.rsplit_once('/').unwrap();
        let other = ["desk", "shelf", "box"].into_iter().find(|other| *other != folder).unwrap();
        let new = format!("{other}/{name}");
        self.members[at].home.ok(["mv", &path, &new]);
        self.model.rename(&path, &new);
    }

    fn remove(&mut self, at: usize) {
        if let Some(path) = self.own_file(at) {
            self.members[at].home.ok(["rm", &path]);
            self.model.remove(&path);
        }
    }

    /// Lets content go, which is refused where not enough others prove that they have it.
    fn free(&mut self, at: usize) {
        if let Some(path) = self.own_file(at) {
            let told = self.members[at].home.run(["free", &path]);
            assert!(matches!(told.code(), Some(0 | 4 | 6)), "{told:?}");
        }
    }

    /// Holds what a device says of the copies against the disks; gives the sentence.
    fn look_at_status(&mut self, at: usize) -> String {
        let member = &self.members[at];
        let status = member.home.json(["status"]);
        let devices = status["devices"].as_array().unwrap();
        let is_ended = |name| devices.iter().any(|one| one["name"] == name && one["revoked"] == true);
        let there = self.members.iter().filter(|member| !is_ended(member.name));
        let full: Vec<&Home> = there.map(|member| &member.home).collect();
        let blind = [
            self.replica.home.path(),
            if self.drive.is_in() { &self.drive.place } else { &self.drive.drawer },
        ];
        self.safe += usize::from(walker::is_true(&member.home, &status, &full, &blind));
        status["sentence"].as_str().unwrap().to_owned()
    }
}

/// How many deeds: `LOCKER_DEEDS`, else few.
fn deeds() -> usize {
    std::env::var("LOCKER_DEEDS").ok().map_or(120, |text| text.parse().unwrap())
}

/// Goal: whatever a household goes through, nothing that was told as done is lost, everybody ends with the same, a mass
/// deletion waits for a decision, and a stolen device reads nothing that is written after its end.
#[test]
fn a_household_loses_nothing() {
    let deeds = deeds();
    let mut house = Household::begin(Dice::of("a_household_loses_nothing"));
    for number in 0..deeds / 2 {
        house.deed(&[0, 1, 2], number);
    }

    // Cleo's device is stolen. What the others have seen of it stays.
    house.gather(&[0, 1, 2]);
    house.members[2].kill();
    let thief = house.members[0].home.json(["device", "ls"])["devices"].as_array().unwrap().clone();
    let thief = thief.iter().find(|one| one["name"] == "cleo").unwrap()["id"].as_str().unwrap().to_owned();
    house.members[0].home.ok(["device", "revoke", &thief, "--yes"]);
    house.all_equal(&[0, 1]);
    let secret_from = house.model.count();
    for number in deeds / 2..deeds * 3 / 4 {
        house.deed(&[0, 1], number);
    }

    // Ben's device removes nearly everything.
    house.gather(&[0, 1]);
    house.members[1].home.ok(["rm", "archive"]);
    let anna = &house.members[0].home;
    wait_for("the hold", LIMIT, || (anna.run(["held"]).code() == Some(5)).then_some(()));
    assert_eq!(anna.json(["ls", "archive"])["entries"].as_array().unwrap().len(), MANY);
    for number in deeds * 3 / 4..deeds * 7 / 8 {
        house.deed(&[0], number);
    }
    house.members[0].start(&house.meeting);
    let anna = &house.members[0].home;
    assert_eq!(anna.json(["ls", "archive"])["entries"].as_array().unwrap().len(), MANY);
    anna.ok(["held", "undo"]);
    house.model.undo(1);
    house.gather(&[0, 1]);
    for number in deeds * 7 / 8..deeds {
        house.deed(&[0, 1], number);
    }

    // Whoever asks for proofs now is told that all is safe, and that is so.
    house.gather(&[0, 1]);
    let counted = house.safe;
    let said = RefCell::new(String::new());
    let is_safe = || {
        // What a replica is given later is proved by a later question.
        house.members[0].home.ok(["audit"]);
        said.replace(house.look_at_status(0));
        (house.safe > counted).then_some(())
    };
    wait_or(LIMIT, is_safe, || format!("a safe locker; it said {:?}", said.borrow()));

    // The thief tries.
    let cleo = &house.members[2].home;
    write(&cleo.beside("by-thief.txt"), b"by the thief");
    cleo.run(["add".as_ref(), cleo.beside("by-thief.txt").as_os_str()]);
    house.members[2].start(&house.meeting);
    house.members[2].home.run(["wait", "--synced", "--timeout", "5"]);

    let expected = house.model.expected();
    for member in &house.members[..2] {
        let shown = model::shown(&member.home);
        house.model.compare(&shown, member.name);
        assert_eq!(member.home.json(["verify"])["bad"], 0, "{}", member.name);
        assert!(shown.keys().all(|path| !path.contains("by-thief")));
    }
    let stolen = model::shown(&house.members[2].home);
    let after = house.model.written_since(secret_from);
    assert!(!after.is_empty() && after.iter().all(|b3| !stolen.values().any(|one| one == b3)));
    house.members[2].stop();

    // Everything from the drive alone.
    if !house.drive.is_in() {
        house.drive.swap();
    }
    let place = house.drive.place.to_str().unwrap().to_owned();
    // What this device let go comes back to it: the drive is given what is here. What it let go of earlier versions is not.
    for folder in ["archive", "desk", "shelf", "box"] {
        house.members[0].home.ok(["pin", folder]);
    }
    house.members[0].home.ok(["wait", "--synced", "--timeout", "90"]);
    house.members[0].home.ok(["drive", "update", &place]);
    let out = house.members[0].home.beside("out");
    house.members[0].home.ok(["leave".as_ref(), "--to".as_ref(), out.as_os_str()]);
    house.members.iter_mut().for_each(Member::stop);
    house.replica.stop();
    let back = Home::empty();
    let words = house.words.to_str().unwrap();
    back.ok(["recover", "--phrase-file", words, "--no-lan", "--accept-missing", "--from", &place]);
    house.model.compare(&model::shown(&back), "from the drive");
    let again = back.beside("out");
    back.ok(["leave".as_ref(), "--to".as_ref(), again.as_os_str()]);
    assert_same_content(&again, &out);
    let told = |state: State| expected.values().filter(|(one, _)| *one == state).count();
    eprintln!(
        "{deeds} deeds: {} files stay, {} went, {} times safe and counted",
        told(State::Stays),
        told(State::Went),
        house.safe
    );
}

fn assert_same_content(one: &Path, other: &Path) {
    for folder in [one, other] {
        for beside in ["README.txt", "metadata.jsonl", "MANIFEST.b3"] {
            std::fs::remove_file(folder.join(beside)).unwrap();
        }
    }
    Tree::of(one).assert_same(&Tree::of(other));
}

/// A file of a listing.
fn files(home: &Home) -> Vec<Value> {
    home.list().into_iter().filter(|entry| entry["kind"] == "file").collect()
}
