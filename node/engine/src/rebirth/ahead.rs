//! What the clock of this device is worth, and whether its key wrote ahead of time (`docs/spec/04-spaces.md`, "Future
//! clocks"). Others show what lies ahead only when its time comes: so this device goes on under a new key, and writes
//! it again.

use locker_catalog::clock::{self, Now};
use locker_catalog::roster::Roster;
use locker_catalog::space::Space;
use locker_store::Reads;

use super::{Doubt, Sign};
use crate::Error;
use crate::keys::person_log;
use crate::locker::Inner;

impl Inner {
    /// The time of a new entry: by the clock of this device, if those of the devices that are here do not say otherwise.
    pub(crate) fn now(&self) -> Now {
        Now::judge(self.env().now_ms(), &self.clocks())
    }

    /// How far the clocks of the devices that are here are ahead of ours, in milliseconds.
    pub(crate) fn clocks(&self) -> Vec<i64> {
        self.node().map(|hub| hub.clocks()).unwrap_or_default()
    }

    /// Looks whether this device wrote ahead of its clock and of those of others, which agree with it. Then it needs a
    /// new key; no longer, if meanwhile the time has come and nobody has brought one in.
    ///
    /// # Errors
    /// What reading and writing give.
    pub(crate) fn look_for_ahead(&self, others_ahead_ms: &[i64]) -> Result<(), Error> {
        let Some(agreed_ms) = clock::agreed(self.env().now_ms(), others_ahead_ms) else { return Ok(()) };
        let (doubt, is_ahead) = {
            let store = self.store()?;
            let snapshot = store.read()?;
            let keys = self.keys();
            let rows = snapshot.rows(keys.tag);
            let space = Space::open(&rows, keys.space, keys.device_id())?;
            (Doubt::read(&snapshot)?, space.is_ahead_of(&rows, agreed_ms)?)
        };
        match doubt {
            None if is_ahead => self.note_doubt(Sign::Ahead),
            Some(Doubt { sign: Sign::Ahead, .. }) if !is_ahead => self.end_ahead(),
            _ => Ok(()),
        }
    }

    /// This device needs no new key any more, unless it was given one.
    fn end_ahead(&self) -> Result<(), Error> {
        let keys = self.keys();
        let has_ended = self.store()?.write(|txn| {
            let roster = Roster::read(keys.person, &person_log(txn, &keys.person)?);
            let is_replaced = roster.replaced.contains_key(&keys.device_id());
            let ends = !is_replaced && Doubt::read(txn)?.is_some_and(|doubt| doubt.sign == Sign::Ahead);
            if ends {
                Doubt::end(txn);
            }
            Ok::<_, Error>(ends)
        })?;
        if has_ended {
            self.note_commit();
        }
        Ok(())
    }
}
