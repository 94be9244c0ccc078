//! Homes that are put back from a backup: a copy of a home takes its place later, and the device goes on from there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use locker_engine::{Error, Locker};

use super::Schedule;
use crate::model::What;
use crate::trace::note;
use crate::{disk, hooks};

/// What a device sent before it was gone has been taken in after so long.
const SETTLE_TIME: Duration = Duration::from_secs(1);

/// A copy of a home.
pub(super) struct Backup {
    path: PathBuf,
    /// The key that the device had.
    key: String,
    /// Deeds that were done until then.
    deeds: usize,
    /// Words that were shown until then.
    words: usize,
}

impl Schedule {
    /// The home of a device is copied as it lies there. A device is set back once at most: of one that was, the key before
    /// would come back.
    pub(super) fn back_up(&mut self, who: usize) {
        let device = &self.devices[who];
        if device.is_set_back {
            return note(format_args!("no backup of {who}, which was set back"));
        }
        note(format_args!("backup of {who}"));
        let path = self.disk.path(&format!("backup-{who}"));
        _ = std::fs::remove_dir_all(&path);
        disk::copy(device.home(), &path);
        match device.ask(&self.world, &self.disk, |locker| Ok(locker.device_id())) {
            Ok(key) => {
                let (deeds, words) = (self.model.deeds.len(), self.words.len());
                self.backups.insert(who, Backup { path, key, deeds, words });
            }
            Err(error) => self.faults.push(format!("device {who} cannot be asked for its key: {error}")),
        }
    }

    /// A home is put back from its backup. What its device told nobody is lost.
    pub(super) fn set_back(&mut self) {
        let backed: Vec<usize> =
            self.backups.keys().copied().filter(|who| self.doomed != Some(*who)).collect();
        if backed.is_empty() {
            return;
        }
        let who = self.dice.pick(&backed);
        let (is_told, starts) = (self.dice.chance(1, 2), self.dice.chance(2, 3));
        if self.devices[who].locker().is_some() {
            note(format_args!("crash {who}"));
            self.devices[who].crash(&self.world, is_told, None);
            self.world.wait(SETTLE_TIME);
            self.bury();
        }
        if let Err(error) = self.put_back(who, is_told) {
            self.faults.push(format!("device {who} cannot be set back: {error} ({error:?})"));
        }
        if starts {
            self.start(who);
        }
    }

    /// Puts the home of a device that is off back, unless that would take the only copy of something away.
    fn put_back(&mut self, who: usize, is_told: bool) -> Result<(), Error> {
        let Some(backup) = self.backups.remove(&who) else { return Ok(()) };
        if self.has_other_key(who, &backup.key)? {
            note(format_args!("{who} has another key than its backup"));
            return Ok(());
        }
        let copy = Some(backup.path.as_path());
        if self.walker.would_lose(&self.world, &self.disk, &self.devices, who, copy)? {
            note(format_args!("{who} has the only copy of something"));
            self.backups.insert(who, backup);
            return Ok(());
        }
        let kept = self.kept_without(who, Some(&backup.path))?;
        note(format_args!("{who} is set back to what it was after {} deeds", backup.deeds));
        for (n, deed) in self.model.deeds.iter_mut().enumerate() {
            let (is_own, is_since) = (usize::from(deed.device) == who, n >= backup.deeds);
            deed.is_acknowledged &= match &deed.what {
                What::Wrote(_, b3) => kept.contains(b3),
                _ => !is_own || !is_since,
            };
        }
        self.doubt_words(who, backup.words);
        self.walker.lose(&self.devices[who]);
        self.devices[who].set_back(&self.world, &backup.path, is_told);
        Ok(())
    }

    /// Whether a device has another key than its backup, or one was brought in for it: a key that is in nobody's hands
    /// would stay in use for ever.
    fn has_other_key(&self, who: usize, key: &str) -> Result<bool, Error> {
        hooks::next_deed();
        let own = self.devices[who].ask(&self.world, &self.disk, |locker| Ok(locker.device_id()))?;
        let mut is_other = own != key;
        for device in self.devices.iter().filter(|device| device.is_reader()) {
            let listed = device.ask(&self.world, &self.disk, Locker::devices)?;
            is_other |= listed.iter().any(|one| one.id == key && !one.replaced_by.is_empty());
        }
        Ok(is_other)
    }

    /// Every content that the other devices that read know, or this one by its backup, if there is one.
    pub(super) fn kept_without(
        &self,
        who: usize,
        backup: Option<&Path>,
    ) -> Result<BTreeSet<[u8; 32]>, Error> {
        hooks::next_deed();
        let contents = locker_engine::simulation::contents;
        let mut kept = BTreeSet::new();
        for (at, device) in self.devices.iter().enumerate().filter(|(_, device)| device.is_reader()) {
            let known = match (at == who, backup) {
                (true, Some(backup)) => device.ask_home(&self.world, &self.disk, backup, contents)?,
                (true, None) => continue,
                (false, _) => device.ask(&self.world, &self.disk, contents)?,
            };
            kept.extend(known.iter().map(|one| one.b3));
        }
        Ok(kept)
    }
}
