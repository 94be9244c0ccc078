//! Bytes of packs that are not here, for somebody who reads them now: just these, from the best device that has them, into
//! memory (`docs/spec/12-sync.md`, "Packs").
//!
//! Never here: packs that are to stay; those are fetched whole ([`super::fetches`]).

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use locker_crypto::file_ref::GroupSet;
use locker_crypto::id::{PackHash, VerifyingKey};
use locker_net::{ConnectionId, Protocol};
use locker_store::pins::{self, PinScope};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::hub::Hub;
use super::idle::Idle;
use crate::Error;
use crate::groups::{Asked, Failed, Groups};
use crate::locker::Inner;
use crate::progress::Meter;

/// How long a device that has it is waited for.
const MEET_TIME: Duration = Duration::from_secs(20);
/// How often it is looked whether somebody still waits.
const STOP_LOOK: Duration = Duration::from_millis(300);
/// Requests under way at a time: a session takes eight, and fetches of whole packs need some.
const AT_ONCE: usize = 4;

/// What reading from other devices needs beside the sessions.
pub(super) struct Away {
    idle: Idle,
    turns: Semaphore,
}

impl Away {
    /// Waits for a turn to ask; nobody ends the turns.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turns.acquire().await.ok()
    }
}

impl Default for Away {
    fn default() -> Self {
        Self { idle: Idle::default(), turns: Semaphore::new(AT_ONCE) }
    }
}

impl Hub {
    /// Fetches the groups that cover `bytes` of a pack of `len` bytes, each verified against its hash. Devices that say they
    /// hold it are asked first, those on a direct way before others; if none is here, one is waited for. For threads that
    /// may block.
    ///
    /// # Errors
    /// [`Error::Network`] if nobody who is here gives it within 20 seconds, or the node stops; [`Error::Stopped`] if `meter`
    /// says so meanwhile.
    pub(crate) fn fetch_away(
        &self,
        pack: &PackHash,
        len: u32,
        bytes: &[Range<u32>],
        meter: Option<&Meter<'_>>,
    ) -> Result<Groups, Error> {
        let holders = self.inner().holders(pack)?;
        let mut wanted = GroupSet::new();
        bytes.iter().for_each(|range| wanted.add_bytes(range.clone()));
        let asked = Asked { space: self.inner().space_tag(), pack: *pack, len };
        let fetched = async {
            tokio::select! {
                groups = self.fetch_groups(asked, &wanted, &holders) => groups,
                stopped = until_stopped(meter) => Err(stopped),
            }
        };
        self.wait_for(fetched)?
    }

    async fn fetch_groups(
        &self,
        asked: Asked,
        wanted: &GroupSet,
        holders: &BTreeSet<VerifyingKey>,
    ) -> Result<Groups, Error> {
        let nobody =
            || Error::Network("this content is on another device, and none that has it is here".into());
        let _turn = self.away().turn().await;
        let deadline = Instant::now() + MEET_TIME;
        let (mut groups, mut bad) = (Groups::default(), BTreeSet::new());
        let mut presence = self.presence_changes();
        loop {
            presence.mark_unchanged();
            for (device, connection) in self.within_reach(holders) {
                if bad.contains(&device) {
                    continue;
                }
                match self.ask(&asked, wanted, device, connection, &mut groups).await {
                    Ok(()) => return Ok(groups),
                    Err(Failed::Broken) => {}
                    Err(Failed::Denied | Failed::Wrong) => _ = bad.insert(device),
                }
            }
            // Whoever may have it and is not here, or was just lost, may come.
            if holders.iter().all(|device| bad.contains(device))
                || timeout_at(deadline, presence.changed()).await.is_err()
            {
                return Err(nobody());
            }
        }
    }

    /// Fetches groups from one device.
    pub(super) async fn ask(
        &self,
        asked: &Asked,
        wanted: &GroupSet,
        device: VerifyingKey,
        connection: ConnectionId,
        into: &mut Groups,
    ) -> Result<(), Failed> {
        let ranges_max = self.net().limits().ranges_per_get;
        if let Some(mut stream) = self.away().idle.take(&device, connection) {
            // The other end may have given up a stream that waited here; that says nothing about the pack.
            let pace = self.net().download(&stream);
            match asked.fetch(&mut stream, wanted, ranges_max, pace, into).await {
                Ok(()) => {
                    self.away().idle.put(device, stream);
                    return Ok(());
                }
                Err(Failed::Broken) => {}
                Err(failed) => return Err(failed),
            }
        }
        let opened = self.net().open(connection, Protocol::Blob).await;
        let mut stream = opened.map_err(|_| Failed::Broken)?;
        let pace = self.net().download(&stream);
        asked.fetch(&mut stream, wanted, ranges_max, pace, into).await?;
        self.away().idle.put(device, stream);
        Ok(())
    }
}

/// Waits until work is to stop, and says so; for ever if nobody can stop it.
async fn until_stopped(meter: Option<&Meter<'_>>) -> Error {
    let Some(meter) = meter else { return std::future::pending().await };
    loop {
        if let Err(stopped) = meter.go_on() {
            return stopped;
        }
        tokio::time::sleep(STOP_LOOK).await;
    }
}

impl Inner {
    /// The other devices that say they hold a pack.
    fn holders(&self, pack: &PackHash) -> Result<BTreeSet<VerifyingKey>, Error> {
        let keys = self.keys();
        let store = self.store()?;
        let snapshot = store.read()?;
        let mut holders = BTreeSet::new();
        for device in crate::keys::active(&snapshot, &keys.person)? {
            let scope = PinScope { space: keys.tag, author: device };
            if device != keys.device_id() && pins::is_pinned(&snapshot, &scope, pack)? {
                holders.insert(device);
            }
        }
        Ok(holders)
    }
}
