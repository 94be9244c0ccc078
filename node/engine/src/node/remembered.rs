//! How far other devices once were (`docs/spec/12-sync.md`, "Rollback"): what a session is told of its peer, kept in
//! the store so that a device that was set back is found out after a restart too.
//!
//! Marks change with every frontier and are written now and then and when a session ends, and at once when a device went
//! back: an older mark only finds less.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use locker_catalog::space::Space;
use locker_crypto::id::VerifyingKey;
use locker_store::Reads;
use locker_store::remembered::{self, Chain, Mark};
use locker_sync::frontier::Log;
use locker_sync::message::v1::LogKind;

use super::hub::Hub;
use crate::Error;
use crate::copies::note_set_back;
use crate::locker::Inner;

/// Chains that are remembered of one device: the authors of a space, in three logs, and some.
const CHAINS_MAX: usize = 4_096;
/// How often new marks are written while sessions stand.
const SAVE_INTERVAL: Duration = Duration::from_secs(60);

/// What is remembered, by device.
#[derive(Default)]
pub(super) struct Remembered {
    devices: HashMap<VerifyingKey, BTreeMap<(Log, VerifyingKey), Mark>>,
    unsaved: BTreeSet<Chain>,
    /// Devices that were found set back, and when: what is known of their copies is still to be put right.
    back: BTreeMap<VerifyingKey, u64>,
}

impl Remembered {
    /// Notes how far a device said that it is.
    pub(super) fn note(&mut self, device: &VerifyingKey, log: Log, heads: &[(VerifyingKey, u64)]) {
        for (author, seq) in heads {
            self.set(device, log, author, |mark| mark.count = seq.saturating_add(1));
        }
    }

    /// Notes that a device has less than it once had.
    pub(super) fn note_back(
        &mut self,
        device: &VerifyingKey,
        log: Log,
        author: &VerifyingKey,
        offered: Option<u64>,
        now_s: u64,
    ) {
        self.back.insert(*device, now_s);
        self.set(device, log, author, |mark| {
            *mark = Mark { count: offered.map_or(0, |seq| seq.saturating_add(1)), went_back_at: now_s };
        });
    }

    fn set(
        &mut self,
        device: &VerifyingKey,
        log: Log,
        author: &VerifyingKey,
        change: impl FnOnce(&mut Mark),
    ) {
        let marks = self.devices.entry(*device).or_default();
        if marks.len() >= CHAINS_MAX && !marks.contains_key(&(log, *author)) {
            return;
        }
        let mark = marks.entry((log, *author)).or_default();
        let before = *mark;
        change(mark);
        if *mark != before {
            self.unsaved.insert(chain(device, log, author));
        }
    }

    /// How far a device was, as a session takes it.
    pub(super) fn of(&self, device: &VerifyingKey) -> Vec<(Log, VerifyingKey, u64)> {
        let marks = self.devices.get(device).into_iter().flatten();
        let known =
            marks.filter_map(|((log, author), mark)| Some((*log, *author, mark.count.checked_sub(1)?)));
        known.collect()
    }

    /// How many items of each author some device once had, in one log.
    pub(super) fn most(&self, log: &Log) -> BTreeMap<VerifyingKey, u64> {
        let mut most: BTreeMap<VerifyingKey, u64> = BTreeMap::new();
        for ((_, author), mark) in self.devices.values().flatten().filter(|((of, _), _)| of == log) {
            let known = most.entry(*author).or_default();
            *known = (*known).max(mark.count);
        }
        most
    }

    /// Takes out what is not yet in the store.
    fn take_unsaved(&mut self) -> Vec<(Chain, Mark)> {
        let unsaved = std::mem::take(&mut self.unsaved).into_iter();
        let marks = unsaved.filter_map(|chain| {
            let log = Log { kind: kind_of(chain.kind)?, tag: chain.tag };
            Some((chain, *self.devices.get(&chain.device)?.get(&(log, chain.author))?))
        });
        marks.collect()
    }
}

/// Writes new marks now and then, until the node stops.
pub(super) async fn run(hub: Arc<Hub>) {
    while hub.until_stop(tokio::time::sleep(SAVE_INTERVAL)).await.is_some() {
        hub.save_remembered().await;
    }
}

impl Hub {
    /// Writes down what is new.
    pub(super) async fn save_remembered(self: &Arc<Self>) {
        if self.with_remembered(|known| !known.unsaved.is_empty() || !known.back.is_empty()) {
            let hub = Arc::clone(self);
            // If the store is in trouble, it is tried again with the next.
            let _ = self.blocking(move |inner| inner.save_remembered(&hub)).await;
        }
        let levels = if self.reads() { self.levels_of_quiet() } else { Vec::new() };
        if !levels.is_empty() {
            let _ = self.blocking(move |inner| inner.save_levels(&levels)).await;
        }
    }
}

impl Inner {
    /// Reads what is remembered of the person's active devices; forgets what is of others.
    pub(super) fn load_remembered(&self) -> Result<Remembered, Error> {
        let store = self.store()?;
        let snapshot = store.read()?;
        let mut active = crate::keys::active(&snapshot, &self.keys().person)?;
        if self.depot().is_none() {
            active.extend(
                crate::replicas::list(&snapshot, &self.keys())?.into_iter().map(|replica| replica.id),
            );
        }
        let (mut remembered, mut gone) = (Remembered::default(), Vec::new());
        for (chain, mark) in remembered::all(&snapshot)? {
            match kind_of(chain.kind).filter(|_| active.contains(&chain.device)) {
                Some(kind) => {
                    let log = Log { kind, tag: chain.tag };
                    let marks = remembered.devices.entry(chain.device).or_default();
                    marks.insert((log, chain.author), mark);
                }
                None => gone.push(chain),
            }
        }
        drop(snapshot);
        if gone.is_empty() {
            // A node starts on a disk that is full, too.
            return Ok(remembered);
        }
        store.write(|txn| {
            gone.iter().for_each(|chain| remembered::delete(txn, chain));
            Ok::<_, Error>(())
        })?;
        Ok(remembered)
    }

    /// Writes down when devices were level; no entry changes by it.
    fn save_levels(&self, levels: &[(VerifyingKey, u64)]) -> Result<(), Error> {
        self.store()?.write(|txn| {
            let rows = &mut txn.rows_mut(self.space_tag());
            Ok(levels.iter().try_for_each(|(device, at_ms)| Space::note_level(rows, device, *at_ms))?)
        })
    }

    /// What is new is taken only once it is this writer's turn: nobody writes an older mark over a newer one. With the mark
    /// that a device went back goes, in the same commit, what it proved and said before.
    fn save_remembered(&self, hub: &Hub) -> Result<(), Error> {
        let (mut marks, mut back) = (Vec::new(), BTreeMap::new());
        let saved = self.store()?.write(|txn| {
            (marks, back) =
                hub.with_remembered(|known| (known.take_unsaved(), std::mem::take(&mut known.back)));
            marks.iter().for_each(|(chain, mark)| remembered::put(txn, chain, mark));
            // A device that stores asks nobody for proofs, and could never take it back.
            if self.depot().is_none() {
                for (device, at_s) in &back {
                    note_set_back(txn, device, *at_s)?;
                }
            }
            Ok::<_, Error>(())
        });
        if saved.is_err() {
            let chains = marks.into_iter().map(|(chain, _)| chain);
            hub.with_remembered(|known| {
                known.unsaved.extend(chains);
                known.back.extend(back);
            });
        }
        saved
    }

    /// How many entries of each author of the home space other devices were found to have: by device and author.
    pub(crate) fn entries_had<R: Reads>(
        &self,
        reads: &R,
    ) -> Result<BTreeMap<(VerifyingKey, VerifyingKey), u64>, Error> {
        let (kind, tag) = (kind_code(LogKind::Entries), self.space_tag());
        let marks = remembered::all(reads)?.into_iter();
        let of_entries = marks.filter(|(chain, _)| chain.kind == kind && chain.tag == tag);
        Ok(of_entries.map(|(chain, mark)| ((chain.device, chain.author), mark.count)).collect())
    }

    /// The other devices that were found set back since a time, in unix seconds.
    pub(crate) fn set_back_since<R: Reads>(&self, reads: &R, since: u64) -> Result<Vec<VerifyingKey>, Error> {
        let marks = remembered::all(reads)?.into_iter().filter(|(_, mark)| mark.went_back_at > since);
        let devices: BTreeSet<VerifyingKey> = marks.map(|(chain, _)| chain.device).collect();
        Ok(devices.into_iter().collect())
    }
}

fn chain(device: &VerifyingKey, log: Log, author: &VerifyingKey) -> Chain {
    Chain { device: *device, kind: kind_code(log.kind), tag: log.tag, author: *author }
}

fn kind_code(kind: LogKind) -> u8 {
    match kind {
        LogKind::Entries => 0,
        LogKind::Pins => 1,
        LogKind::Person => 2,
    }
}

fn kind_of(byte: u8) -> Option<LogKind> {
    match byte {
        0 => Some(LogKind::Entries),
        1 => Some(LogKind::Pins),
        2 => Some(LogKind::Person),
        _ => None,
    }
}
