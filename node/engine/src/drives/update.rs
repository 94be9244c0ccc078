//! One drive brought up to date. What it has and this device lacks comes here first (`back`): it may be nowhere else. Then what is
//! here goes there: logs, each commit with what lies beside it, then packs; each step is durable on the drive before the
//! next, and a drive that was pulled out in between goes on where it was.

mod back;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

use locker_crypto::entry::Envelope;
use locker_crypto::id::{PackHash, VerifyingKey};
use locker_crypto::person::Entry;
use locker_crypto::pin::PinDelta;
use locker_store::index::{self, PackState};
use locker_store::replicas::{self as heard, Heard};
use locker_store::{Home, Limits, Store, WriteTxn};
use locker_sync::frontier::Log;
use locker_sync::message::v1::{Head, LogKind};
use locker_sync::session::Item;

use crate::care::is_shortage;
use crate::depot::{Depot, Intake};
use crate::keys::Keys;
use crate::locker::Inner;
use crate::node::Asker;
use crate::rebirth::Sign;
use crate::report::{DriveTold, Observer, Progress};
use crate::{Error, vault};

/// About how many bytes of items go into one commit.
const ITEMS_BYTES: u64 = 8 << 20;
/// Bytes of packs that are made durable in one commit.
const KEEP_BYTES: usize = 64 << 20;
/// What was read longer ago is read again, in seconds; and how many bytes of it in one update.
const LOOK_OVER_AGE_S: u64 = 25 * 86_400;
const LOOK_OVER_BYTES: u64 = 256 << 20;

/// An open drive. Others are kept out of it meanwhile.
pub(super) struct Drive<'a> {
    inner: &'a Inner,
    store: Store,
    depot: Depot,
    id: VerifyingKey,
}

impl<'a> Drive<'a> {
    /// Opens the drive in a folder.
    ///
    /// # Errors
    /// [`Error::NoLocker`] if there is none; [`Error::Argument`] if it is not a drive of this person; [`Error::Busy`];
    /// [`Error::Integrity`] if it is damaged.
    pub(super) fn open(inner: &'a Inner, dir: &Path) -> Result<Self, Error> {
        Self::load(inner, dir).map_err(|error| of_drive(dir, error))
    }

    fn load(inner: &'a Inner, dir: &Path) -> Result<Self, Error> {
        if !dir.is_dir() {
            return Err(Error::NoLocker(dir.to_path_buf()));
        }
        let home = Home::open(dir)?;
        let key = vault::open(&home, &mut || Err(Error::PassphraseNeeded))?;
        let mut store = Store::open(home, &key, Box::new(crate::env::system_dice()), Limits::default())?;
        store.recover()?;
        let (depot, keys) = {
            let snapshot = store.read()?;
            (Depot::load(&snapshot)?, Keys::load(&snapshot)?)
        };
        match (depot, keys) {
            (Some(depot), Some(keys)) if depot.charge().person == inner.keys().person => {
                Ok(Self { inner, store, depot, id: keys.device_id() })
            }
            _ => Err(Error::Argument(format!("{} is not a drive of this locker", dir.display()))),
        }
    }

    /// The key that names it.
    pub(super) fn id(&self) -> VerifyingKey {
        self.id
    }

    /// Takes everything over that is here and not there, after what is there and not here, and lets go what nobody has held for
    /// its time.
    ///
    /// # Errors
    /// [`Error::Restored`] if the drive holds what this device has signed and does not have: it is left as it is, since of two
    /// branches none may count for who has the drive alone. [`Error::Integrity`] if it is damaged: nothing is taken here then.
    /// [`Error::Full`] if there is no room for packs, there or here, when all else is done.
    pub(super) fn update(self, observer: &dyn Observer) -> Result<DriveTold, Error> {
        if let Some(sign) = self.sign()? {
            self.inner.note_doubt(sign)?;
            self.store.close()?;
            return Err(Error::Restored);
        }
        self.take_logs()?;
        let taken = match self.take_packs(observer) {
            Err(error) if !matches!(error, Error::Full) => return Err(error),
            taken => taken,
        };
        self.logs()?;
        self.store.write(|txn| self.beside(txn))?;
        self.look_over()?;
        // What goes first makes room for what comes.
        let today = crate::gc::note_today(&self.store, self.inner.env())?;
        self.depot.sweep(&self.store, today, &BTreeSet::new(), false)?;
        let copied = match self.packs(observer) {
            Err(error) if !matches!(error, Error::Full) => return Err(error),
            copied => copied,
        };
        let (mut here, mut missing) = (Vec::new(), 0);
        index::scan_packs(&self.store.read()?, &mut |hash, pack| {
            match pack.state {
                PackState::Present { .. } => here.push(hash),
                PackState::Wanted | PackState::Lost => missing += 1,
                PackState::Away | PackState::Released | PackState::Deleting => {}
            }
            ControlFlow::Continue(())
        })?;
        let now_ms = self.inner.env().now_ms();
        let used = self.depot.used();
        let generation = self.depot.roster(&self.store.read()?)?.generation;
        let generation = u32::try_from(generation).unwrap_or(u32::MAX);
        let (id, at_s) = (self.id, now_ms / 1_000);
        let refused = if copied.is_err() { missing } else { 0 };
        self.inner.store()?.write(|txn| {
            // What it held when it was seen last, and does not any more, is no copy.
            heard::forget(txn, &id)?;
            heard::put(txn, &id, &Heard { at_s, used, refused, generation, ..Heard::default() });
            heard::put_packs(txn, &id, &here, at_s);
            Ok::<_, Error>(())
        })?;
        self.store.close()?;
        taken?;
        Ok(DriveTold {
            packs: here.len() as u64,
            missing,
            bytes: used,
            new_bytes: copied?,
            updated: now_ms,
            ..DriveTold::default()
        })
    }

    /// Whether the drive holds something that this device signed and does not have: its home is an older copy, or one of two.
    fn sign(&self) -> Result<Option<Sign>, Error> {
        let (own, store) = (self.inner.keys().device_id(), self.inner.store()?);
        let snapshot = store.read()?;
        for (log, heads) in self.heads()? {
            for head in heads.into_iter().filter(|head| head.author == own) {
                if let Some(sign) = self.inner.sign_of(&snapshot, log, &head)?
                    && self.shows(log, &head)?
                {
                    return Ok(Some(sign));
                }
            }
        }
        Ok(None)
    }

    /// Whether there is an item of this name there, signed by its author: that there is one anybody can write.
    fn shows(&self, log: Log, head: &Head) -> Result<bool, Error> {
        let person = self.depot.charge().person;
        let Head { author, seq, .. } = *head;
        let drive = self.store.read()?;
        let items = self.depot.items(&drive, log, &author, seq, seq, ITEMS_BYTES);
        let shown = |item: &Item| match log.kind {
            LogKind::Person => {
                Entry::read(&person, &item.bytes).map(|entry| (entry.author, entry.seq, entry.id.0))
            }
            LogKind::Pins => PinDelta::open(&item.bytes).map(|(delta, id)| (delta.author, delta.seq, id.0)),
            LogKind::Entries => Envelope::parse(&item.bytes).and_then(|entry| {
                entry.verify()?;
                Ok((entry.header().author, entry.header().seq, entry.id().0))
            }),
        };
        let items = items.map_err(|error| self.named(error))?;
        Ok(items.iter().any(|item| shown(item) == Ok((author, seq, head.id))))
    }

    /// The newest items that are there.
    fn heads(&self) -> Result<Vec<(Log, Vec<Head>)>, Error> {
        self.depot.heads(&self.store.read()?).map_err(|error| self.named(error))
    }

    /// Says of what is damaged there that it is.
    fn named(&self, error: Error) -> Error {
        of_drive(self.store.home().path(), error)
    }

    fn logs(&self) -> Result<(), Error> {
        let mut held: BTreeMap<(Log, VerifyingKey), u64> = BTreeMap::new();
        for (log, heads) in self.heads()? {
            held.extend(heads.into_iter().map(|head| ((log, head.author), head.seq)));
        }
        let mut standing = self.inner.standing()?;
        // Pins before entries: a pack that an entry names, and that nobody pins there, would not be missed by who recovers.
        standing.heads.sort_by_key(|(log, _)| log.kind == LogKind::Entries);
        for (log, heads) in standing.heads {
            for Head { author, seq, .. } in heads {
                let here = |from: u64, to: u64| self.inner.load_items(log, &author, from, to, ITEMS_BYTES);
                let there = |from: u64, to: u64| -> Result<Vec<Item>, Error> {
                    self.depot.items(&self.store.read()?, log, &author, from, to, ITEMS_BYTES)
                };
                let fork = standing.forked.get(&(log, author)).copied();
                let held = held.get(&(log, author)).copied();
                let mut gap = Inner::gap(log, seq, held, &mut || Ok(fork), &here, &there)?;
                while let Some(items) = gap.step(&here, &there)? {
                    if items.is_empty() {
                        continue;
                    }
                    let mut txn = self.store.begin_write()?;
                    let mut intake = Intake::begin(&self.depot, &txn)?;
                    for item in items {
                        // One that is refused is so again, whoever brings it.
                        intake.take(&mut txn, log.kind, &item.bytes)?;
                    }
                    // In the same commit: pulled out in between, it would open to no words.
                    self.beside(&mut txn)?;
                    txn.commit()?;
                    intake.count();
                }
            }
        }
        Ok(())
    }

    fn beside(&self, txn: &mut WriteTxn<'_>) -> Result<(), Error> {
        for ask in self.depot.missing(txn)? {
            for object in self.inner.look_up(&ask, Asker::Replica)? {
                match self.depot.take_object(txn, &object) {
                    Ok(()) | Err(Error::Refused(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Reads again what was not read for long, the oldest first, some at each update. What is damaged comes anew.
    fn look_over(&self) -> Result<(), Error> {
        let now_s = self.inner.env().now_ms() / 1_000;
        let mut due = Vec::new();
        index::scan_packs(&self.store.read()?, &mut |hash, pack| {
            if let PackState::Present { verified_at } = pack.state
                && verified_at.saturating_add(LOOK_OVER_AGE_S) <= now_s
            {
                due.push((verified_at, hash, pack.len));
            }
            ControlFlow::Continue(())
        })?;
        due.sort_unstable();
        let mut bytes = 0;
        let mut states = Vec::new();
        for (_, hash, len) in due {
            if bytes >= LOOK_OVER_BYTES {
                break;
            }
            bytes += u64::from(len);
            match self.store.packs().verify(&hash, len) {
                Ok(_) => states.push((hash, PackState::Present { verified_at: now_s })),
                // That says nothing of the drive.
                Err(error) if is_shortage(&error) => return Err(error.into()),
                Err(_) => states.push((hash, PackState::Lost)),
            }
        }
        self.store.write(|txn| {
            Ok(states.iter().try_for_each(|(hash, state)| index::set_state(txn, hash, *state))?)
        })
    }

    fn packs(&self, observer: &dyn Observer) -> Result<u64, Error> {
        let mut wanted = Vec::new();
        let snapshot = self.inner.store()?.read()?;
        for (hash, _) in self.depot.wanted(&self.store.read()?)? {
            if let Some(pack) = index::pack(&snapshot, &hash)?
                && matches!(pack.state, PackState::Present { .. })
            {
                wanted.push((hash, pack.len));
            }
        }
        let total: u64 = wanted.iter().map(|(_, len)| u64::from(*len)).sum();
        let mut done = 0;
        let mut left = wanted.into_iter().peekable();
        while left.peek().is_some() && !observer.is_stopped() {
            let mut batch: Vec<(PackHash, Vec<u8>)> = Vec::new();
            let mut bytes = 0;
            while bytes < KEEP_BYTES
                && let Some((hash, len)) = left.next()
            {
                // What was let go meanwhile, or is damaged here, comes another time.
                let read = self.inner.store()?.packs().open(&hash, len).and_then(|pack| pack.read_whole());
                if let Ok(pack) = read
                    && blake3::hash(&pack).as_bytes() == hash.as_bytes()
                {
                    bytes += pack.len();
                    batch.push((hash, pack));
                }
            }
            self.keep(&batch, bytes as u64)?;
            done += bytes as u64;
            observer.progress(Progress { bytes: done, bytes_total: Some(total), ..Progress::default() });
        }
        Ok(done)
    }

    fn keep(&self, batch: &[(PackHash, Vec<u8>)], bytes: u64) -> Result<(), Error> {
        let mut lost = BTreeSet::new();
        let snapshot = self.store.read()?;
        for (hash, _) in batch {
            let row = index::pack(&snapshot, hash)?;
            lost.extend(row.filter(|row| row.state == PackState::Lost).map(|_| *hash));
        }
        let mut durable = self.store.packs().begin_batch(bytes)?;
        for (hash, pack) in batch {
            durable.add(hash, pack)?;
        }
        durable.finish()?;
        let now_s = self.inner.env().now_ms() / 1_000;
        let len = |pack: &Vec<u8>| u32::try_from(pack.len()).unwrap_or(u32::MAX);
        let mut kept: Vec<(PackHash, u32)> = batch.iter().map(|(hash, pack)| (*hash, len(pack))).collect();
        // What replaced a damaged file is believed when it was read once more.
        kept.retain(|(hash, len)| !lost.contains(hash) || self.store.packs().verify(hash, *len).is_ok());
        self.store
            .write(|txn| kept.iter().try_for_each(|(hash, len)| self.depot.hold(txn, hash, *len, now_s)))?;
        // The file of a lost one is counted still.
        kept.retain(|(hash, _)| !lost.contains(hash));
        self.depot.count_kept(&kept);
        Ok(())
    }
}

/// Says of what is damaged that it is on the drive, and not here.
fn of_drive(dir: &Path, error: Error) -> Error {
    match error {
        Error::Integrity { what, why } => {
            Error::damaged(format!("the drive in {}: {what}", dir.display()), why)
        }
        other => other,
    }
}
