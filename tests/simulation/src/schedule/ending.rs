//! The end of a schedule: everything is mended, and what must hold is waited for and looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use locker_crypto::id::PackHash;
use locker_engine::report::{Device as Listed, Kind, Silent, StateHash};
use locker_engine::{NodeOptions, VerifyOptions};

use super::{LOOK_TIME, Schedule};
use crate::model::{Shown, What};
use crate::trace::note;
use crate::walker::{self, Moment};
use crate::{canary, crash, hooks};

/// Longest time until all are equal, after everything is mended.
const CONVERGE_TIME: Duration = Duration::from_secs(3_600);
const LOOK_PAUSE: Duration = Duration::from_secs(4);
/// How soon everybody has heard who let what go.
const TELL_TIME: Duration = Duration::from_secs(60);
/// How long the devices have to ask each other for proofs after that, and how often it is looked whether they did.
const PROVE_TIME: Duration = Duration::from_secs(1_200);
const PROVE_PAUSE: Duration = Duration::from_secs(120);

/// What was written after a device was ended, which is on again.
struct Tempted {
    ended: usize,
    path: String,
    b3: [u8; 32],
    /// The packs that it had before.
    packs: BTreeSet<PackHash>,
}

impl Schedule {
    /// Everything is as it should be again.
    pub(super) fn mend(&mut self) {
        note(format_args!("everything is mended"));
        crash::disarm();
        self.bury();
        self.doomed = None;
        self.world.network.mend(true);
        self.end_lies();
        for who in 0..self.devices.len() {
            self.devices[who].set_clock(0);
            if !self.devices[who].is_revoked {
                self.start(who);
            }
        }
    }

    /// Waits until all are equal and everything is there.
    pub(super) fn converge(&mut self) {
        let end = hooks::elapsed() + CONVERGE_TIME;
        loop {
            self.world.wait(LOOK_PAUSE);
            let mut missing = self.unequal();
            if missing.is_empty() {
                missing = self.check();
            }
            if missing.is_empty() {
                missing = self.wrong_words();
            }
            if missing.is_empty() {
                break;
            }
            note(format_args!("not yet: {}", missing.join("; ")));
            if hooks::elapsed() > end {
                self.faults.append(&mut missing);
                return;
            }
        }
        note(format_args!("equal"));
        for device in &self.devices {
            let Some(locker) = device.reader() else { continue };
            hooks::next_deed();
            match locker.verify(VerifyOptions::default(), &Silent) {
                Ok(verified) if verified.bad == 0 && verified.complete => {}
                Ok(verified) => self.faults.push(format!("device {}: {verified:?}", device.number)),
                Err(error) => self.faults.push(format!("device {} cannot verify: {error}", device.number)),
            }
        }
    }

    /// Waits until the devices have asked each other for proofs, and counts the copies once more.
    pub(super) fn prove(&mut self) {
        let tempted = self.tempt();
        // What was let go just before is on its way to those who count it.
        self.world.wait(TELL_TIME);
        let end = hooks::elapsed() + PROVE_TIME;
        while hooks::elapsed() < end && !self.all_say_safe() {
            self.world.wait(PROVE_PAUSE);
        }
        if let Some(tempted) = tempted {
            self.look_at_ended(&tempted);
        }
        self.walk(Moment::Settled);
    }

    /// A device that was ended is on again, and somebody writes something.
    fn tempt(&mut self) -> Option<Tempted> {
        let ended = self.devices.iter().position(|device| device.is_revoked)?;
        // One that had come whole when it was switched off is kept at the next start.
        let home = self.devices[ended].home();
        let packs = walker::packs(home).into_iter().chain(walker::come(home)).collect();
        self.start(ended);
        let by = self.devices.iter().position(|device| device.reader().is_some())?;
        let locker = self.devices[by].locker().cloned()?;
        hooks::next_deed();
        let name = self.fresh("behind its back");
        if let Err(error) = self.write(by, &locker, "", &name) {
            self.faults.push(format!("device {by} cannot write at the end: {error}"));
            return None;
        }
        match self.model.deeds.last().map(|deed| &deed.what) {
            Some(What::Wrote(path, b3)) => Some(Tempted { ended, path: path.clone(), b3: *b3, packs }),
            _ => None,
        }
    }

    /// The device that was ended knows nothing of that and was given nothing, and the others know that it is none of them.
    fn look_at_ended(&mut self, tempted: &Tempted) {
        let (ended, mut faults) = (&self.devices[tempted.ended], Vec::new());
        for device in &self.devices {
            let Some(locker) = device.reader() else { continue };
            hooks::next_deed();
            match locker.devices() {
                Ok(listed) => {
                    let is_it = |one: &Listed| one.name == ended.name() || ended.keys().contains(&one.id);
                    let own: Vec<Listed> = listed.into_iter().filter(is_it).collect();
                    // What another key took the place of is no device either. A replica is listed no more.
                    let is_gone = |one: &Listed| one.revoked || !one.replaced_by.is_empty();
                    let is_right = match ended.is_blind {
                        true => own.is_empty(),
                        false => own.iter().any(|one| one.revoked) && own.iter().all(is_gone),
                    };
                    if !is_right || own.iter().any(|one| one.online) {
                        faults.push(format!(
                            "device {} was ended, and is for device {}: {own:?}",
                            ended.number, device.number
                        ));
                    }
                }
                Err(error) => faults.push(format!("device {} lists no devices: {error}", device.number)),
            }
        }
        if let Some(locker) = ended.locker().filter(|_| !ended.is_blind) {
            hooks::next_deed();
            match locker_engine::simulation::contents(locker) {
                Ok(contents) if contents.iter().all(|one| one.b3 != tempted.b3) => {}
                Ok(_) => {
                    faults.push(format!("device {} was ended and knows {:?}", ended.number, tempted.path));
                }
                Err(error) => faults.push(format!("device {} cannot be looked at: {error}", ended.number)),
            }
        }
        let given = walker::packs(ended.home()).difference(&tempted.packs).count();
        if given > 0 {
            faults.push(format!("device {} was ended and has {given} packs more", ended.number));
        }
        self.faults.append(&mut faults);
    }

    fn all_say_safe(&self) -> bool {
        let mut readers = self.devices.iter().filter(|device| device.is_reader());
        readers.all(|device| {
            let status = device.locker().and_then(|locker| locker.status(StateHash::IfQuick).ok());
            status.is_some_and(|status| status.sentence.contains("Safe: "))
        })
    }

    /// In what the devices differ, or wait for.
    fn unequal(&self) -> Vec<String> {
        let (mut hashes, mut waits) = (BTreeMap::new(), Vec::new());
        for device in self.devices.iter().filter(|device| !device.is_revoked) {
            let Some(locker) = device.locker() else { continue };
            hooks::next_deed();
            if !device.is_blind {
                match locker.status(StateHash::Always) {
                    Ok(status) => {
                        hashes.entry(status.state_hash).or_insert_with(Vec::new).push(device.number)
                    }
                    Err(error) => waits.push(format!("device {} has no status: {error}", device.number)),
                }
            }
            if let Err(error) = locker.wait_synced(NodeOptions::default(), Some(LOOK_TIME), &Silent) {
                waits.push(format!("device {}: {error}", device.number));
            }
        }
        if hashes.len() > 1 {
            waits.push(format!("trees differ: {hashes:?}"));
        }
        waits
    }

    /// What is missing or wrong on any device.
    fn check(&mut self) -> Vec<String> {
        let mut missing = Vec::new();
        for who in 0..self.devices.len() {
            let Some(locker) = self.devices[who].reader().cloned() else { continue };
            hooks::next_deed();
            let shown = match Shown::look(&locker) {
                Ok(shown) => shown,
                Err(error) => {
                    missing.push(format!("device {who} cannot be looked at: {error}"));
                    continue;
                }
            };
            missing.extend(self.model.missing(&shown).into_iter().map(|one| format!("on {who}: {one}")));
            if !missing.is_empty() {
                continue;
            }
            for (path, _) in shown.entries.iter().filter(|(_, entry)| entry.kind == Kind::File) {
                if let Err(error) = self.read(who, &locker, path) {
                    missing.push(format!("device {who} cannot read {path:?}: {error}"));
                }
            }
        }
        missing
    }

    pub(super) fn look_for_plaintext(&mut self) {
        if let (_, Some(between)) = self.world.network.looked_at() {
            self.faults.push(format!("plaintext on the wire from {between}"));
        }
        for device in &self.devices {
            if let Some(file) = canary::find_in(device.home()) {
                self.faults.push(format!("plaintext on the disk: {file}"));
            }
        }
    }
}
