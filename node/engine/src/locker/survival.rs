//! What survives the devices: recovery and its rehearsal, drives, and who is a device no more.

use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::{Inner, Locker};
use crate::node::Unopened;
use crate::recover::{DrillOptions, Heir, RecoverOptions};
use crate::report::{Device, Drilled, DriveTold, Observer, Recovered, Rehearsal, Secret};
use crate::{Env, Error};

impl Locker {
    /// Brings a locker back into `home` by its phrase: from whoever keeps something of it and is reached, or goes on with that.
    /// When all of it is here this is a device of it; unless they are kept, no other one is any more.
    ///
    /// # Errors
    /// [`Error::Phrase`]; [`Error::PhraseRefused`] if whoever was reached does not know it; [`Error::Network`] if nobody
    /// was, or if something is missing; what stands against a new locker in `home`, as [`Locker::create`].
    pub fn recover(
        home: &Path,
        options: RecoverOptions,
        env: Env,
        ask: &mut dyn FnMut() -> Result<Secret, Error>,
        observer: &dyn Observer,
    ) -> Result<Recovered, Error> {
        crate::recover::recover(home, options, env, ask, observer)
    }

    /// Rehearses the recovery of the locker in `home`, in a home that is thrown away, without anything of this device. The
    /// locker itself is not opened; what is to be known of it is in the options.
    ///
    /// # Errors
    /// As [`Locker::recover`]. Files that would not come back are no error but in the answer.
    pub fn drill(
        home: &Path,
        options: DrillOptions,
        ask: &mut dyn FnMut() -> Result<Secret, Error>,
        observer: &dyn Observer,
    ) -> Result<Drilled, Error> {
        crate::recover::drill(home, options, ask, observer)
    }

    /// What a rehearsal needs to know of this device.
    ///
    /// # Errors
    /// What reading gives.
    pub fn rehearsal(&self) -> Result<Rehearsal, Error> {
        crate::recover::rehearsal(self.reading()?)
    }

    /// Ends a device of the person, named by its id or the beginning of it: it can open nothing that is written from now
    /// on, and those who hear of it do not let it in.
    ///
    /// # Errors
    /// [`Error::NoSuch`]; [`Error::Argument`] for what is no id, names several, or this device itself.
    pub fn revoke_device(&self, id: &str) -> Result<Device, Error> {
        crate::revoke::revoke(self.reading()?, id)
    }

    /// Gives a device of the person another name.
    ///
    /// # Errors
    /// As [`Locker::revoke_device`]; [`Error::Name`].
    pub fn rename_device(&self, id: &str, name: &str) -> Result<Device, Error> {
        crate::revoke::rename(self.reading()?, id, name)
    }

    /// Makes a folder a drive: it keeps everything of this locker, can read nothing of it, and is brought up to date by
    /// whichever device of the locker that knows it sees it. Fills it at once.
    ///
    /// # Errors
    /// [`Error::HomeNotEmpty`], [`Error::LockerExists`], [`Error::Name`], [`Error::Full`], [`Error::Io`].
    pub fn init_drive(
        &self,
        dir: &Path,
        name: Option<String>,
        observer: &dyn Observer,
    ) -> Result<DriveTold, Error> {
        crate::drives::init(self.reading()?, dir, name, observer)
    }

    /// Brings a drive up to date, or all that are known and plugged in. From then on this device does so by itself whenever
    /// its node runs and the drive is there.
    ///
    /// # Errors
    /// [`Error::NoSuch`] if none is there; [`Error::NoLocker`], [`Error::Argument`] for a folder that is not a drive of this
    /// locker; [`Error::Full`]; [`Error::Io`] if it was pulled out.
    pub fn update_drives(
        &self,
        dir: Option<&Path>,
        observer: &dyn Observer,
    ) -> Result<Vec<DriveTold>, Error> {
        crate::drives::update(self.reading()?, dir, observer)
    }
}

impl Inner {
    /// Entries whose epoch is not known yet.
    pub(crate) fn unopened(&self) -> MutexGuard<'_, Unopened> {
        self.unopened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The phrase, while this home recovers by it.
    pub(crate) fn heir(&self) -> Option<Arc<Heir>> {
        self.heir.clone()
    }

    /// The turn to bring a drive up to date; waits for the one that is.
    pub(crate) fn drive_turn(&self) -> MutexGuard<'_, ()> {
        self.driving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
