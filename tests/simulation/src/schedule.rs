//! One schedule: a few devices of one person, random deeds, random misfortune; then everything is mended, and what must
//! hold is looked at.

mod backup;
mod ending;
mod roster;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use locker_engine::report::Silent;
use locker_engine::{Error, Locker, NodeOptions};

use backup::Backup;
use roster::Words;

use crate::canary::MARK;
use crate::crash::{self, Armed};
use crate::device::{Device, World};
use crate::dice::Dice;
use crate::disk::Disk;
use crate::model::{Deed, Model, What, entries};
use crate::network::Host;
use crate::trace::{self, note};
use crate::walker::{Moment, Walker};
use crate::{hooks, meeting, unsynced};

/// Every so many schedules there is a meeting point to the end.
const MEETING_EVERY: u64 = 4;
/// How long the devices have to meet.
const MEET_TIME: Duration = Duration::from_secs(120);
const LOOK_TIME: Duration = Duration::from_millis(10);
/// After one in so many things that happen, what the devices say of copies is held against the disks.
const WALK_OF: u64 = 8;

/// What a schedule came to.
pub struct Outcome {
    /// What must hold and does not.
    pub faults: Vec<String>,
    /// What was done.
    pub deeds: usize,
    /// Bytes that the wires carried.
    pub carried: u64,
    /// What was held against the disks.
    pub walked: Walker,
}

/// The state of one schedule.
struct Schedule {
    world: World,
    disk: Disk,
    dice: Dice,
    devices: Vec<Device>,
    model: Model,
    /// Device for which a crash is set.
    doomed: Option<usize>,
    liar: Option<IpAddr>,
    is_cut: bool,
    backups: BTreeMap<usize, Backup>,
    /// Words that were shown, the newest last.
    words: Vec<Words>,
    names: u32,
    walker: Walker,
    /// When it walks: dice of its own, so that who looks on changes nothing.
    walks: Dice,
    faults: Vec<String>,
}

/// Runs the schedule of a seed.
pub fn run(seed: u64) -> Outcome {
    let world = meeting::world(seed, 1);
    let disk = Disk::new(seed);
    let mut dice = Dice::new(seed, "schedule");
    let devices = dice.pick(&[3, 3, 4, 4, 5]);
    crash::listen();
    unsynced::begin(disk.folder());
    let mut all = Schedule {
        world,
        disk,
        dice,
        devices: Vec::new(),
        model: Model::default(),
        doomed: None,
        liar: None,
        is_cut: false,
        backups: BTreeMap::new(),
        words: Vec::new(),
        names: 0,
        walker: Walker::default(),
        walks: Dice::new(seed, "walker"),
        faults: Vec::new(),
    };
    if let Err(error) = all.begin(devices) {
        all.faults.push(format!("cannot begin: {error}"));
        return all.outcome();
    }
    let steps = all.dice.within(20, 50);
    for _ in 0..steps {
        all.step();
        if !all.faults.is_empty() {
            break;
        }
    }
    if all.faults.is_empty() {
        all.mend();
    }
    if all.faults.is_empty() {
        all.converge();
    }
    if all.faults.is_empty() {
        all.prove();
    }
    all.look_for_plaintext();
    all.devices.iter_mut().for_each(Device::stop);
    all.outcome()
}

impl Schedule {
    fn outcome(&mut self) -> Outcome {
        let deeds = self.model.deeds.len();
        Outcome {
            faults: std::mem::take(&mut self.faults),
            deeds,
            carried: self.world.network.looked_at().0,
            walked: std::mem::take(&mut self.walker),
        }
    }

    fn host(&mut self) -> Host {
        let latency = Duration::from_micros(self.dice.pick(&[200, 2_000, 10_000, 40_000]));
        let rate = self.dice.pick(&[200_000, 2_000_000, 20_000_000]);
        Host { is_on: true, latency, rate, lies: false }
    }

    /// Makes the person and its devices.
    fn begin(&mut self, devices: u16) -> Result<(), Error> {
        for number in 0..devices {
            // One or none that cannot read, never the first.
            let is_blind = number > 1 && self.dice.chance(1, 3);
            let mut device = Device::new(number, &self.disk.path(""), is_blind);
            let host = self.host();
            self.world.network.set_host(device.ip, host);
            match self.devices.first() {
                None => device.create(&self.world)?,
                Some(first) => device.join(&self.world, first)?,
            }
            self.words.extend(device.words.take().map(Words::first));
            device.start(&self.world)?;
            if number == 0 {
                for folder in 0..3 {
                    let path = self.fresh(&format!("folder {folder}"));
                    hooks::next_deed();
                    device.locker().map(|locker| locker.make_folder(&path, false)).transpose()?;
                }
            }
            self.devices.push(device);
        }
        if self.world.seed.is_multiple_of(MEETING_EVERY) { Ok(()) } else { self.leave_the_meeting_point() }
    }

    /// From now on the devices find each other at the places that they know, and nowhere else: looking up in the DHT costs
    /// most of the time of a run.
    fn leave_the_meeting_point(&mut self) -> Result<(), Error> {
        let end = hooks::elapsed() + MEET_TIME;
        while !self.have_all_met()? && hooks::elapsed() < end {
            self.world.wait(LOOK_TIME);
        }
        self.world.meeting.clear();
        for who in 0..self.devices.len() {
            self.devices[who].stop();
            self.devices[who].start(&self.world)?;
        }
        Ok(())
    }

    fn have_all_met(&self) -> Result<bool, Error> {
        for device in self.devices.iter().filter(|device| !device.is_blind) {
            let Some(locker) = device.locker() else { continue };
            let others = locker.devices()?;
            if others.len() < self.devices.len() || others.iter().any(|other| !other.this && !other.online) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn fresh(&mut self, what: &str) -> String {
        self.names += 1;
        format!("{} {what} {}", String::from_utf8_lossy(MARK), self.names)
    }

    /// Something happens.
    fn step(&mut self) {
        let pause = match self.dice.below(10) {
            0..4 => 0,
            4..7 => self.dice.within(1, 500),
            7..9 => self.dice.within(1_000, 30_000),
            _ => self.dice.within(30_000, 300_000),
        };
        self.world.wait(Duration::from_millis(pause));
        self.bury();
        self.devices.iter_mut().for_each(Device::note_key);
        if self.dice.chance(2, 3) {
            self.act()
        } else {
            self.trouble()
        }
        self.bury();
        if self.walks.chance(1, WALK_OF) {
            self.walk(Moment::Amid);
        }
    }

    /// Holds what the devices say against their disks.
    fn walk(&mut self, moment: Moment) {
        let found = self.walker.judge(&self.world, &self.disk, &self.devices, moment);
        self.faults.extend(found);
        self.bury();
    }

    /// A device for which the set moment came is gone.
    fn bury(&mut self) {
        if let Some(doomed) = self.doomed
            && crash::take_fired()
        {
            self.devices[doomed].bury();
            self.doomed = None;
        }
    }

    /// A person does something.
    fn act(&mut self) {
        let writers: Vec<usize> =
            (0..self.devices.len()).filter(|n| self.devices[*n].reader().is_some()).collect();
        if writers.is_empty() {
            return;
        }
        let who = self.dice.pick(&writers);
        let Some(locker) = self.devices[who].locker().cloned() else { return };
        hooks::next_deed();
        let (folders, files) = match entries(&locker) {
            Ok(found) => found,
            Err(error) => return self.faults.push(format!("device {who} cannot list: {error}")),
        };
        let folder = folders[self.dice.index(folders.len())].clone();
        let any = |dice: &mut Dice| {
            let (at, files_count) = (dice.index((files.len() + folders.len() - 1).max(1)), files.len());
            files.get(at).or_else(|| folders.get(at + 1 - files_count)).cloned()
        };
        let done = match self.dice.below(104) {
            0..40 => {
                let name = self.fresh("file");
                self.write(who, &locker, &folder, &name)
            }
            40..55 => match files.is_empty() {
                true => return,
                false => {
                    let file = files[self.dice.index(files.len())].clone();
                    let (folder, name) = file.rsplit_once('/').unwrap_or(("", &file));
                    self.write(who, &locker, folder, name)
                }
            },
            55..65 => {
                // Two may make the same.
                let name = if self.dice.chance(1, 3) {
                    format!("{} common {}", String::from_utf8_lossy(MARK), self.dice.below(3))
                } else {
                    self.fresh("folder")
                };
                let path = join(&folder, &name);
                let done = locker.make_folder(&path, false);
                self.did(who, What::Made(path), done)
            }
            65..77 => {
                let Some(from) = any(&mut self.dice) else { return };
                let name = if self.dice.chance(1, 2) {
                    self.fresh("moved")
                } else {
                    from.rsplit('/').next().unwrap_or(&from).to_owned()
                };
                let to = join(&folder, &name);
                if from == to {
                    return;
                }
                let done = locker.rename(&from, &to);
                self.did(who, What::Moved(from, to), done)
            }
            77..85 => {
                let Some(path) = any(&mut self.dice) else { return };
                let done = locker.remove(&path).map(drop);
                self.did(who, What::Removed(path), done)
            }
            85..89 => {
                let removed: Vec<String> = self
                    .model
                    .deeds
                    .iter()
                    .filter_map(
                        |deed| if let What::Removed(path) = &deed.what { Some(path.clone()) } else { None },
                    )
                    .collect();
                if removed.is_empty() {
                    return;
                }
                let path = removed[self.dice.index(removed.len())].clone();
                let done = match locker.restore(&path, None, None) {
                    // What went with its folder comes back with it.
                    Err(Error::Argument(why)) if why.contains("in the trash as a whole") => {
                        Err(Error::NotFound(why))
                    }
                    done => done.map(drop),
                };
                self.did(who, What::Restored(path), done)
            }
            89..92 => {
                note(format_args!("gc on {who}"));
                locker.gc(false, &Silent).map(drop)
            }
            92..96 => {
                let copies = self.dice.within(1, 2) as u32;
                note(format_args!("free {folder:?} on {who}"));
                let freed = locker.free(&folder, copies, NodeOptions::default(), &Silent);
                note(format_args!(
                    "freed {:?}",
                    freed.as_ref().map(|freed| (freed.files, freed.proofs)).ok()
                ));
                freed.map(drop)
            }
            100 | 101 => self.revoke(who, &locker),
            102 | 103 => self.change_words(who, &locker),
            _ => match files.is_empty() {
                true => return,
                false => {
                    let file = files[self.dice.index(files.len())].clone();
                    note(format_args!("read {file:?} on {who}"));
                    self.read(who, &locker, &file)
                }
            },
        };
        if let Err(error) = done
            && !self.is_expected(who, &locker, &error)
        {
            self.faults.push(format!("device {who}: {error} ({error:?})"));
        }
    }

    /// Whether an error says only that what was asked for cannot be done now.
    fn is_expected(&self, who: usize, locker: &Locker, error: &Error) -> bool {
        let device = &self.devices[who];
        let is_replaced = || {
            let listed = locker.devices().unwrap_or_default();
            listed.iter().any(|one| one.this && !one.replaced_by.is_empty())
        };
        match error {
            Error::NotFound(_)
            | Error::Exists(_)
            | Error::IsRoot
            | Error::IntoItself(_)
            | Error::NotFolder(_)
            | Error::IsFolder(_)
            | Error::Ambiguous(_)
            | Error::Network(_)
            | Error::Gone(_)
            | Error::NoSuch(_) => true,
            // It was put back, or took another key, or is about to.
            Error::Restored => device.is_set_back || device.keys().len() > 1 || is_replaced(),
            _ => false,
        }
    }

    fn write(&mut self, who: usize, locker: &Locker, folder: &str, name: &str) -> Result<(), Error> {
        let len = match self.dice.below(20) {
            0..15 => self.dice.within(0, 2_000),
            15..19 => self.dice.within(2_000, 60_000),
            _ => self.dice.within(60_000, 600_000),
        };
        let mut content = vec![0; len as usize];
        self.dice.fill(&mut content);
        let mut bytes = format!("{} {} ", String::from_utf8_lossy(MARK), self.names).into_bytes();
        self.names += 1;
        bytes.append(&mut content);
        let from = self.disk.path("from");
        let file: PathBuf = from.join(name);
        let written = std::fs::create_dir_all(&from)
            .and_then(|()| std::fs::write(&file, &bytes))
            .and_then(|()| std::fs::File::options().write(true).open(&file))
            .and_then(|open| {
                let at = hooks::EPOCH_MS + u64::from(self.names) * 1_000;
                open.set_modified(std::time::UNIX_EPOCH + Duration::from_millis(at))
            });
        written.map_err(|e| Error::Network(format!("a file of the test cannot be written: {e}")))?;
        let path = join(folder, name);
        let added = locker.add(&[&file], folder, &Silent);
        _ = std::fs::remove_file(&file);
        let done = added.and_then(|added| match added.skipped.first() {
            None => Ok(()),
            Some(skipped) => Err(Error::Argument(format!("skipped: {}", skipped.reason))),
        });
        let b3 = *blake3::hash(&bytes).as_bytes();
        self.did(who, What::Wrote(path, b3), done)
    }

    /// Notes a deed; what was done on a device that is gone was told to nobody.
    fn did(&mut self, device: usize, what: What, done: Result<(), Error>) -> Result<(), Error> {
        let gone = self.doomed == Some(device) && crash::has_fired();
        note(format_args!("{what:?} on {device}: {:?} {gone}", done.as_ref().err().map(ToString::to_string)));
        let may_spare = self.devices[device].is_set_back || self.devices[device].is_ahead();
        let is_acknowledged = done.is_ok() && !gone;
        self.model.deeds.push(Deed { device: device as u16, what, is_acknowledged, may_spare });
        done
    }

    fn read(&mut self, who: usize, locker: &Locker, file: &str) -> Result<(), Error> {
        let mut bytes = Vec::new();
        locker.read(file, 0, None, &mut bytes)?;
        if !self.model.knows(blake3::hash(&bytes).as_bytes()) {
            self.faults.push(format!("device {who} gives wrong bytes for {file:?}"));
        }
        Ok(())
    }

    /// Something goes wrong, or well again.
    fn trouble(&mut self) {
        let here: Vec<usize> = (0..self.devices.len()).filter(|n| !self.devices[*n].is_revoked).collect();
        let (who, other) = (self.dice.pick(&here), self.dice.pick(&here));
        let (ip, other_ip) = (self.devices[who].ip, self.devices[other].ip);
        let is_on = self.devices[who].locker().is_some();
        match self.dice.below(14) {
            0..3 if self.is_cut => {
                let breaks = self.dice.chance(1, 2);
                note(format_args!("mended, {breaks}"));
                self.world.network.mend(breaks);
                self.is_cut = false;
            }
            0 | 1 if who != other => {
                note(format_args!("cut {who} and {other}"));
                self.world.network.cut(ip, other_ip);
                if self.dice.chance(2, 3) {
                    self.world.network.cut(other_ip, ip);
                }
                self.is_cut = true;
            }
            2 => {
                note(format_args!("{who} alone"));
                for other in self.devices.iter().filter(|other| other.ip != ip) {
                    self.world.network.cut(ip, other.ip);
                    self.world.network.cut(other.ip, ip);
                }
                self.is_cut = true;
            }
            3 => {
                note(format_args!("broken {who} and {other}"));
                self.world.network.break_between(ip, other_ip);
            }
            4 if is_on && self.doomed.is_none() => {
                let is_told = self.dice.chance(1, 2);
                let power = self.power(who);
                note(format_args!("crash {who}, power {}", power.is_some()));
                self.devices[who].crash(&self.world, is_told, power);
            }
            5 | 6 if is_on && self.doomed.is_none() => {
                let steps = self.dice.within(1, 60);
                let power = self.power(who);
                note(format_args!("crash {who} in {steps} steps, power {}", power.is_some()));
                self.doomed = Some(who);
                crash::arm(Armed {
                    steps,
                    power,
                    home: self.devices[who].home().to_path_buf(),
                    next: self.devices[who].next_home(),
                    ip,
                    is_told: self.dice.chance(1, 2),
                    network: Arc::clone(&self.world.network),
                });
            }
            7 if is_on && self.doomed != Some(who) => self.devices[who].stop(),
            4..8 => self.start(who),
            8 => {
                let ahead_s = self.dice.pick(&[-31_536_000, -86_400, -240, -30, 0, 0, 30, 240, 3_600]);
                note(format_args!("clock of {who} {ahead_s}"));
                self.devices[who].set_clock(ahead_s * 1_000);
            }
            9 => {
                let host = self.host();
                note(format_args!("{who} is {:?} away, {} B/s", host.latency, host.rate));
                self.world.network.change(ip, |one| (one.latency, one.rate) = (host.latency, host.rate));
            }
            10 => self.back_up(who),
            11 => self.set_back(),
            _ => {
                let liar = if self.liar.is_some() { None } else { Some(ip) };
                self.end_lies();
                for device in &self.devices {
                    self.world.network.change(device.ip, |host| host.lies = liar == Some(device.ip));
                }
                self.liar = liar;
                note(format_args!("liar {liar:?}"));
            }
        }
    }

    /// What the power takes of a device, if it is that which fails, which is as likely as not.
    fn power(&mut self, who: usize) -> Option<Dice> {
        self.dice.chance(1, 2).then(|| self.devices[who].power(&self.world))
    }

    /// Who lied is somebody else from now on: what it said before is forgotten with its sessions.
    fn end_lies(&mut self) {
        let Some(liar) = self.liar.take() else { return };
        for device in &self.devices {
            self.world.network.break_between(liar, device.ip);
        }
        self.world.network.change(liar, |host| host.lies = false);
    }

    fn start(&mut self, who: usize) {
        if self.devices[who].locker().is_some() {
            return;
        }
        if let Err(error) = self.devices[who].start(&self.world) {
            self.faults.push(format!("device {who} does not start: {error} ({error:?})"));
        }
    }
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// The name of what was found, for the one line that a run prints.
pub fn line(seed: u64, outcome: &Outcome) -> String {
    let (events, hash) = trace::told();
    let hours = hooks::elapsed().as_secs_f64() / 3_600.0;
    let verdict = if outcome.faults.is_empty() { "fine" } else { "FAULT" };
    format!(
        "seed {seed} {verdict} trace {hash} events {events} deeds {} carried {} hours {hours:.2} sentences {} safe {} late {}",
        outcome.deeds, outcome.carried, outcome.walked.sentences, outcome.walked.safe, outcome.walked.late
    )
}
