//! Homes that are put back from a backup: a copy of a home takes its place later, and the device goes on from there.

use std::path::PathBuf;

use super::Schedule;
use crate::disk;
use crate::trace::note;

/// A copy of a home.
pub(super) struct Backup {
    path: PathBuf,
    /// Deeds that were done until then.
    deeds: usize,
}

impl Schedule {
    /// The home of a device is copied as it lies there.
    pub(super) fn back_up(&mut self, who: usize) {
        note(format_args!("backup of {who}"));
        let path = self.disk.path(&format!("backup-{who}"));
        _ = std::fs::remove_dir_all(&path);
        disk::copy(self.devices[who].home(), &path);
        self.backups.insert(who, Backup { path, deeds: self.model.deeds.len() });
    }

    /// A home is put back from its backup, unless that would take the only copy of something away. What its device has
    /// done meanwhile may be undone, if nobody heard of it.
    pub(super) fn set_back(&mut self) {
        let backed: Vec<usize> =
            self.backups.keys().copied().filter(|who| self.doomed != Some(*who)).collect();
        if backed.is_empty() {
            return;
        }
        let who = self.dice.pick(&backed);
        let (is_told, starts) = (self.dice.chance(1, 2), self.dice.chance(2, 3));
        let Some(backup) = self.backups.get(&who) else { return };
        match self.walker.would_lose(&self.world, &self.disk, &self.devices, (who, &backup.path)) {
            Ok(true) => return note(format_args!("{who} has the only copy of something")),
            Ok(false) => {}
            Err(error) => return self.faults.push(format!("the disks cannot be looked at: {error}")),
        }
        note(format_args!("{who} is set back to what it was after {} deeds", backup.deeds));
        for deed in self.model.deeds.iter_mut().skip(backup.deeds) {
            deed.is_acknowledged &= usize::from(deed.device) != who;
        }
        self.devices[who].set_back(&self.world, &backup.path, is_told);
        self.walker.set_back.insert(who);
        if starts {
            self.start(who);
        }
    }
}
