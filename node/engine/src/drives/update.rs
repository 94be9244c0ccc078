//! One drive brought up to date: logs first, then what lies beside them, then packs; each step is durable on the drive
//! before the next, and a drive that was pulled out in between goes on where it was.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use locker_crypto::id::{PackHash, VerifyingKey};
use locker_store::index::{self, PackState};
use locker_store::replicas::{self as heard, Heard};
use locker_store::{Home, Limits, Store};
use locker_sync::frontier::Log;

use crate::depot::{Depot, Intake};
use crate::keys::Keys;
use crate::locker::Inner;
use crate::node::Asker;
use crate::report::{DriveTold, Observer, Progress};
use crate::{Error, vault};

/// About how many bytes of items go into one commit.
const ITEMS_BYTES: u64 = 8 << 20;
/// Bytes of packs that are made durable in one commit.
const KEEP_BYTES: usize = 64 << 20;

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
    /// [`Error::NoLocker`] if there is none; [`Error::Argument`] if it is not a drive of this person; [`Error::Busy`].
    pub(super) fn open(inner: &'a Inner, dir: &Path) -> Result<Self, Error> {
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

    /// Takes everything over that is here and not there, and lets go what nobody has held for its time.
    pub(super) fn update(self, observer: &dyn Observer) -> Result<DriveTold, Error> {
        self.logs()?;
        self.beside()?;
        let new_bytes = self.packs(observer)?;
        let today = crate::gc::note_today(&self.store, self.inner.env())?;
        self.depot.sweep(&self.store, today, &BTreeSet::new(), false)?;
        let (mut here, mut missing) = (Vec::new(), 0);
        index::scan_packs(&self.store.read()?, &mut |hash, pack| {
            match pack.state {
                PackState::Present { .. } => here.push(hash),
                PackState::Wanted | PackState::Lost => missing += 1,
                PackState::Away | PackState::Released | PackState::Deleting => {}
            }
            std::ops::ControlFlow::Continue(())
        })?;
        let now_ms = self.inner.env().now_ms();
        let used = self.depot.used();
        let generation = self.depot.roster(&self.store.read()?)?.generation;
        let generation = u32::try_from(generation).unwrap_or(u32::MAX);
        let (id, at_s) = (self.id, now_ms / 1_000);
        self.inner.store()?.write(|txn| {
            heard::put(txn, &id, &Heard { at_s, used, generation, ..Heard::default() });
            heard::put_packs(txn, &id, &here, at_s);
            Ok::<_, Error>(())
        })?;
        self.store.close()?;
        Ok(DriveTold {
            packs: here.len() as u64,
            missing,
            bytes: used,
            new_bytes,
            updated: now_ms,
            ..DriveTold::default()
        })
    }

    fn logs(&self) -> Result<(), Error> {
        let mut there: BTreeMap<(Log, VerifyingKey), u64> = BTreeMap::new();
        for (log, heads) in self.depot.heads(&self.store.read()?)? {
            there.extend(heads.into_iter().map(|head| ((log, head.author), head.seq)));
        }
        for (log, heads) in self.inner.standing()?.heads {
            for head in heads {
                let mut from = there.get(&(log, head.author)).map_or(0, |seq| seq.saturating_add(1));
                while from <= head.seq {
                    let items = self.inner.load_items(log, &head.author, from, head.seq, ITEMS_BYTES)?;
                    let Some(last) = items.last().map(|item| item.seq) else { break };
                    let mut txn = self.store.begin_write()?;
                    let mut intake = Intake::begin(&self.depot, &txn)?;
                    for item in items {
                        // One that is refused is so again, whoever brings it.
                        intake.take(&mut txn, log.kind, &item.bytes)?;
                    }
                    txn.commit()?;
                    intake.count();
                    from = last.saturating_add(1);
                }
            }
        }
        Ok(())
    }

    fn beside(&self) -> Result<(), Error> {
        for ask in self.depot.missing(&self.store.read()?)? {
            for object in self.inner.look_up(&ask, Asker::Replica)? {
                match self.store.write(|txn| self.depot.take_object(txn, &object)) {
                    Ok(()) | Err(Error::Refused(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
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
        let mut durable = self.store.packs().begin_batch(bytes)?;
        for (hash, pack) in batch {
            durable.add(hash, pack)?;
        }
        durable.finish()?;
        let now_s = self.inner.env().now_ms() / 1_000;
        let len = |pack: &Vec<u8>| u32::try_from(pack.len()).unwrap_or(u32::MAX);
        let kept: Vec<(PackHash, u32)> = batch.iter().map(|(hash, pack)| (*hash, len(pack))).collect();
        self.store
            .write(|txn| kept.iter().try_for_each(|(hash, len)| self.depot.hold(txn, hash, *len, now_s)))?;
        self.depot.count_kept(&kept);
        Ok(())
    }
}
