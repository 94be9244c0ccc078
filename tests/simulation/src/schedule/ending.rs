//! The end of a schedule: everything is mended, and what must hold is waited for and looked at.

use std::collections::BTreeMap;
use std::time::Duration;

use locker_engine::report::{Kind, Silent, StateHash};
use locker_engine::{NodeOptions, VerifyOptions};

use super::{LOOK_TIME, Schedule};
use crate::model::Shown;
use crate::trace::note;
use crate::walker::Moment;
use crate::{canary, crash, hooks};

/// Longest time until all are equal, after everything is mended.
const CONVERGE_TIME: Duration = Duration::from_secs(3_600);
const LOOK_PAUSE: Duration = Duration::from_secs(4);
/// How soon everybody has heard who let what go.
const TELL_TIME: Duration = Duration::from_secs(60);
/// How long the devices have to ask each other for proofs after that, and how often it is looked whether they did.
const PROVE_TIME: Duration = Duration::from_secs(1_200);
const PROVE_PAUSE: Duration = Duration::from_secs(120);

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
            self.start(who);
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
                break;
            }
            note(format_args!("not yet: {}", missing.join("; ")));
            if hooks::elapsed() > end {
                self.faults.append(&mut missing);
                return;
            }
        }
        note(format_args!("equal"));
        for device in self.devices.iter().filter(|device| !device.is_blind) {
            let Some(locker) = device.locker() else { continue };
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
        // What was let go just before is on its way to those who count it.
        self.world.wait(TELL_TIME);
        let end = hooks::elapsed() + PROVE_TIME;
        while hooks::elapsed() < end && !self.all_say_safe() {
            self.world.wait(PROVE_PAUSE);
        }
        self.walk(Moment::Settled);
    }

    fn all_say_safe(&self) -> bool {
        let mut readers = self.devices.iter().filter(|device| !device.is_blind);
        readers.all(|device| {
            let status = device.locker().and_then(|locker| locker.status(StateHash::IfQuick).ok());
            status.is_some_and(|status| status.sentence.contains("Safe: "))
        })
    }

    /// In what the devices differ, or wait for.
    fn unequal(&self) -> Vec<String> {
        let (mut hashes, mut waits) = (BTreeMap::new(), Vec::new());
        for device in &self.devices {
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
            let Some(locker) = self.devices[who].locker().filter(|_| !self.devices[who].is_blind).cloned()
            else {
                continue;
            };
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
