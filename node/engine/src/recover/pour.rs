//! From another side into this one, without a network: logs first, what lies beside them, then packs. The other side is a
//! folder from which a locker comes back, or a drive. Anybody may have written what is there: it is taken as what a replica
//! sends, and a pack only if its bytes have its hash.
//!
//! What of an author goes from one side to another is said in one place, [`Inner::gap`], for either direction.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use locker_crypto::entry::Envelope;
use locker_crypto::id::{EntryId, EpochId, PackHash, VerifyingKey};
use locker_crypto::pin::PinDelta;
use locker_crypto::sign::SIGNATURE_LEN;
use locker_store::index::{self, PackState};
use locker_sync::frontier::Log;
use locker_sync::message::v1::{Ask, Head, LogKind};
use locker_sync::session::{Fate, Item};

use super::folder::Folder;
use crate::keys::named_objects;
use crate::locker::Inner;
use crate::node::{Asker, Incoming};
use crate::report::{Observer, Progress};
use crate::{Error, checked};

/// About how many bytes of items are read here in one go.
const ITEMS_BYTES: u64 = 1 << 20;
/// Bytes of packs that are made durable in one commit.
const KEEP_BYTES: usize = 64 << 20;

/// Reads items of one author in one log, from a number to another: at least one if there is any, then as many as fit, all of
/// one number together.
type Read<'a> = &'a dyn Fn(u64, u64) -> Result<Vec<Item>, Error>;
/// The same for any author and log.
type ReadItems<'a> = &'a dyn Fn(Log, &VerifyingKey, u64, u64) -> Result<Vec<Item>, Error>;
/// Reads what lies beside the logs.
type ReadObjects<'a> = &'a dyn Fn(&Ask) -> Result<Vec<Vec<u8>>, Error>;

/// Reads a pack of a length; nothing if it is not there.
type ReadPack<'a> = &'a dyn Fn(&PackHash, u32) -> Result<Option<Vec<u8>>, Error>;

/// Takes over every log and every object that the folder has of them.
pub(super) fn logs(folder: &Folder, inner: &Inner) -> Result<(), Error> {
    let items = |log: Log, author: &VerifyingKey, from: u64, to: u64| folder.items(log, author, from, to);
    let objects = |ask: &Ask| folder.objects(ask);
    inner.pour(folder.heads()?, &items, &objects).logs()
}

/// Copies every pack that is wanted here, is to be copied, and that the folder has.
pub(super) fn packs(
    folder: &Folder,
    inner: &Inner,
    is_meant: &dyn Fn(&PackHash) -> bool,
    observer: &dyn Observer,
) -> Result<(), Error> {
    let items = |log: Log, author: &VerifyingKey, from: u64, to: u64| folder.items(log, author, from, to);
    let objects = |ask: &Ask| folder.objects(ask);
    let mut wanted = inner.pour(folder.heads()?, &items, &objects).packs()?;
    wanted.retain(|(hash, _)| is_meant(hash));
    let (mut done, total) = inner.pack_bytes()?;
    let mut is_stopped = false;
    let read = |hash: &PackHash, len: u32| folder.pack(hash, len);
    inner.pour_packs(wanted, &read, &mut |bytes| {
        done += bytes;
        observer.progress(Progress { bytes: done, bytes_total: Some(total), ..Progress::default() });
        is_stopped = observer.is_stopped();
        !is_stopped
    })?;
    if is_stopped {
        return Err(Error::Network("stopped; what is here already stays here".into()));
    }
    Ok(())
}

/// What one side has of an author in a log and another one may lack.
#[derive(Clone)]
pub(crate) struct Gap {
    /// The number from which on it is looked at next; nothing if none goes any more.
    next: Option<u64>,
    /// The last number that the giving side has.
    last: u64,
    /// The last that the other side had when this began.
    held: Option<u64>,
    /// Whether the other side lacks something of what the giving one has at the number that both reach.
    is_apart: bool,
}

impl Inner {
    /// What goes from one side to another of an author in a log. The giving side has items up to the number `last`, the other
    /// one up to `held`; `fork` finds the first number that two items of the giving side share. What is there already does
    /// not go.
    ///
    /// | Log | What is looked at |
    /// |---|---|
    /// | entries | all, if the other side lacks something at the number that both reach: its branch may begin anywhere |
    /// | | else, of a forked author, all from the fork on: a branch may have ended before that number |
    /// | | else what follows on what is there |
    /// | person | all: there are few, and one may be there without those before it |
    /// | pins | what follows; of two branches a side keeps one, and takes nothing of the other |
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn gap(
        log: Log,
        last: u64,
        held: Option<u64>,
        fork: &mut dyn FnMut() -> Result<Option<u64>, Error>,
        giver: Read<'_>,
        taker: Read<'_>,
    ) -> Result<Gap, Error> {
        let mut gap = Gap { next: Some(0), last, held, is_apart: false };
        let Some(held) = held.filter(|_| log.kind != LogKind::Person) else { return Ok(gap) };
        let at = held.min(last);
        gap.is_apart = !names(giver, at, at)?.is_subset(&names(taker, at, at)?);
        let next = held.checked_add(1);
        gap.next = match (log.kind, gap.is_apart) {
            (LogKind::Pins, true) => None,
            (LogKind::Pins, false) => next,
            (_, true) => Some(0),
            (_, false) => fork()?.into_iter().chain(next).min(),
        };
        Ok(gap)
    }
}

impl Gap {
    /// The next items that the other side lacks, which may be none of those that were looked at; nothing when all were.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn step(&mut self, giver: Read<'_>, taker: Read<'_>) -> Result<Option<Vec<Item>>, Error> {
        let Some(from) = self.next.filter(|from| *from <= self.last) else { return Ok(None) };
        let mut items = giver(from, self.last)?;
        let Some(end) = end_of(&items, from) else {
            self.next = None;
            return Ok(None);
        };
        self.next = end.checked_add(1);
        if self.held.is_some_and(|held| from <= held) {
            let there = names(taker, from, end)?;
            items.retain(|item| !there.contains(&name(item)));
        }
        Ok(Some(items))
    }
}

/// The number of the last of some items that were read from a number on; not below that one, whatever the other side says.
fn end_of(items: &[Item], from: u64) -> Option<u64> {
    items.last().map(|item| item.seq.max(from))
}

/// The name of an item: the hash of all before its signature.
fn name(item: &Item) -> [u8; 32] {
    let bytes = item.bytes.as_slice();
    let signed = bytes.split_last_chunk::<SIGNATURE_LEN>().map_or(bytes, |(signed, _)| signed);
    *blake3::hash(signed).as_bytes()
}

/// The names of all items from a number to another.
fn names(read: Read<'_>, from: u64, to: u64) -> Result<BTreeSet<[u8; 32]>, Error> {
    let (mut names, mut next) = (BTreeSet::new(), Some(from));
    while let Some(from) = next.filter(|from| *from <= to) {
        let items = read(from, to)?;
        let Some(end) = end_of(&items, from) else { break };
        names.extend(items.iter().map(name));
        next = end.checked_add(1);
    }
    Ok(names)
}

/// The first number that two items share. Reads all of them, or up to there.
fn first_shared(read: Read<'_>, last: u64) -> Result<Option<u64>, Error> {
    let (mut before, mut next) = (None, Some(0));
    while let Some(from) = next.filter(|from| *from <= last) {
        let items = read(from, last)?;
        let Some(end) = end_of(&items, from) else { break };
        for item in &items {
            if before.replace(item.seq) == Some(item.seq) {
                return Ok(before);
            }
        }
        next = end.checked_add(1);
    }
    Ok(None)
}

/// What this side may lack of whom, in each log.
type Gaps = Vec<(Log, Vec<(VerifyingKey, Gap)>)>;

/// Another side, from which this one takes over what it lacks.
pub(crate) struct Pour<'a> {
    inner: &'a Inner,
    heads: Vec<(Log, Vec<Head>)>,
    items: ReadItems<'a>,
    objects: ReadObjects<'a>,
    /// The first number that two items of an author share there, once it was looked for.
    forks: BTreeMap<(Log, VerifyingKey), Option<u64>>,
    /// What was read through, and is to be taken first.
    seen: Option<Gaps>,
}

/// What waits here already for something that has not come.
struct Waits {
    entries: BTreeSet<EntryId>,
    epochs: BTreeSet<EpochId>,
}

impl Waits {
    fn of(inner: &Inner) -> Self {
        let entries = RefCell::new(BTreeSet::new());
        if let Some(space) = inner.space().as_ref() {
            space.waiting().missing_entries(|entry| {
                entries.borrow_mut().insert(entry.id);
                false
            });
        }
        // Who recovers may get from the next one what opens them, and does not read this one again.
        let epochs = if inner.heir().is_some() { Vec::new() } else { inner.unknown_epochs() };
        Self { entries: entries.into_inner(), epochs: epochs.into_iter().collect() }
    }

    /// Whether an entry stands where the other side says, and does not wait here.
    fn is_news(&self, author: &VerifyingKey, item: &Item) -> bool {
        Envelope::parse(&item.bytes).is_ok_and(|entry| {
            let header = entry.header();
            let is_there = header.author == *author && header.seq == item.seq;
            is_there && !self.entries.contains(&entry.id()) && !self.epochs.contains(&header.epoch)
        })
    }
}

impl Inner {
    /// Another side, by its newest items, and how it is read.
    pub(crate) fn pour<'a>(
        &'a self,
        heads: Vec<(Log, Vec<Head>)>,
        items: ReadItems<'a>,
        objects: ReadObjects<'a>,
    ) -> Pour<'a> {
        Pour { inner: self, heads, items, objects, forks: BTreeMap::new(), seen: None }
    }

    /// Makes packs durable that are to come, in batches. `read` gives those that the other side has, with the bytes of their
    /// hash; `goes_on` hears after each batch how many bytes it had, and says whether another one follows.
    ///
    /// # Errors
    /// [`Error::Full`] if there is no room; those of reading and committing.
    pub(crate) fn pour_packs(
        &self,
        wanted: Vec<(PackHash, u32)>,
        read: ReadPack<'_>,
        goes_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), Error> {
        let mut wanted = wanted.into_iter();
        loop {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while bytes < KEEP_BYTES
                && let Some((hash, len)) = wanted.next()
            {
                if let Some(pack) = read(&hash, len)? {
                    bytes += pack.len();
                    batch.push((hash, pack));
                }
            }
            // A commit in which nothing is would look like news.
            if batch.is_empty() {
                return Ok(());
            }
            self.keep_poured(&batch, bytes as u64)?;
            if !goes_on(bytes as u64) {
                return Ok(());
            }
        }
    }

    fn keep_poured(&self, batch: &[(PackHash, Vec<u8>)], bytes: u64) -> Result<(), Error> {
        let _content = self.turns().rely();
        let mut kept = Vec::with_capacity(batch.len());
        {
            let store = self.store()?;
            let snapshot = store.read()?;
            let mut durable = store.packs().begin_batch(bytes)?;
            for (hash, pack) in batch {
                // What was let go meanwhile, or has come another way, is passed over.
                if let Some(row) = index::pack(&snapshot, hash)?
                    && matches!(row.state, PackState::Wanted | PackState::Lost)
                {
                    durable.add(hash, pack)?;
                    kept.push((*hash, row));
                }
            }
            durable.finish()?;
            // What replaced a damaged file is believed when it was read once more.
            kept.retain(|(hash, row)| {
                row.state != PackState::Lost || store.packs().verify(hash, row.len).is_ok()
            });
        }
        let kept: Vec<PackHash> = kept.into_iter().map(|(hash, _)| hash).collect();
        if kept.is_empty() {
            return Ok(());
        }
        self.commit(|change| kept.iter().try_for_each(|hash| change.hold_pack(hash)))?;
        if let Some(hub) = self.node() {
            hub.came_back(&kept);
        }
        Ok(())
    }
}

impl Pour<'_> {
    /// Reads all through that is to come of the logs, and what that names: damage shows before anything here is changed.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn read_through(&mut self) -> Result<(), Error> {
        let (person, tag) = (self.inner.keys().person, self.inner.space_tag());
        let (all, mut asks) = (self.gaps()?, BTreeSet::new());
        for (log, gaps) in &all {
            for (author, gap) in gaps {
                let mut gap = gap.clone();
                while let Some(items) = self.step(*log, author, &mut gap)? {
                    for item in items {
                        match log.kind {
                            LogKind::Person => {
                                let named =
                                    checked::read(&person, &item.bytes).map(|entry| named_objects(&entry));
                                asks.extend(named.unwrap_or_default().into_iter().map(Ask::Object));
                            }
                            LogKind::Entries => {
                                let epoch = Envelope::parse(&item.bytes).map(|entry| entry.header().epoch);
                                asks.extend(epoch.ok().map(|epoch| Ask::Boxes(tag, epoch)));
                            }
                            LogKind::Pins => {}
                        }
                    }
                }
            }
        }
        asks.iter().try_for_each(|ask| (self.objects)(ask).map(drop))?;
        self.seen = Some(all);
        Ok(())
    }

    /// Takes over every item and every object that the items name. What came before what it needs comes again, as long as
    /// that gets on.
    ///
    /// # Errors
    /// Those of reading and committing; what was committed before stays.
    pub(crate) fn logs(&mut self) -> Result<(), Error> {
        let tag = self.inner.space_tag();
        let unknown = self.inner.unknown_epochs().into_iter();
        self.beside(unknown.map(|epoch| Ask::Boxes(tag, epoch)).collect())?;
        loop {
            let (waits, mut gets_on) = (Waits::of(self.inner), false);
            let all = match self.seen.take() {
                Some(seen) => seen,
                None => self.gaps()?,
            };
            for (log, mut gaps) in all {
                // Authors take turns: what one names of another is mostly there.
                while !gaps.is_empty() {
                    let mut left = Vec::with_capacity(gaps.len());
                    for (author, mut gap) in gaps {
                        let Some(mut items) = self.step(log, &author, &mut gap)? else { continue };
                        if log.kind == LogKind::Entries {
                            items.retain(|item| waits.is_news(&author, item));
                        }
                        gets_on |= self.hand_over(log, items)?;
                        left.push((author, gap));
                    }
                    gaps = left;
                }
            }
            if !gets_on {
                break;
            }
        }
        self.beside(self.inner.missing_objects()?)
    }

    /// The packs that are to come, with their lengths: those that are wanted here, and of those that entries name and that are
    /// not here what an author pins there in a branch of his pins that is not the one that is kept here.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn packs(mut self) -> Result<Vec<(PackHash, u32)>, Error> {
        self.heads.retain(|(log, _)| log.kind == LogKind::Pins);
        let mut pinned = BTreeSet::new();
        for (log, gaps) in self.gaps()? {
            for (author, gap) in gaps.into_iter().filter(|(_, gap)| gap.is_apart) {
                pinned.extend(self.pinned(log, &author, gap.last)?);
            }
        }
        let mut wanted: BTreeMap<PackHash, u32> = self.inner.wanted_packs()?.into_iter().collect();
        let store = self.inner.store()?;
        let snapshot = store.read()?;
        for hash in pinned {
            if let Some(pack) = index::pack(&snapshot, &hash)?
                && matches!(pack.state, PackState::Wanted | PackState::Lost)
            {
                wanted.insert(hash, pack.len);
            }
        }
        Ok(wanted.into_iter().collect())
    }

    /// What an author pins there, by what he signed.
    fn pinned(&self, log: Log, author: &VerifyingKey, last: u64) -> Result<BTreeSet<PackHash>, Error> {
        let (mut pinned, mut next) = (BTreeSet::new(), Some(0));
        while let Some(from) = next.filter(|from| *from <= last) {
            let items = (self.items)(log, author, from, last)?;
            let Some(end) = end_of(&items, from) else { break };
            next = end.checked_add(1);
            for item in &items {
                if let Ok((delta, _)) = PinDelta::open(&item.bytes)
                    && delta.author == *author
                    && delta.space_tag == log.tag
                {
                    pinned.extend(delta.adds);
                    delta.drops.iter().for_each(|hash| _ = pinned.remove(hash));
                }
            }
        }
        Ok(pinned)
    }

    /// What this side may lack of whom.
    fn gaps(&mut self) -> Result<Gaps, Error> {
        let mut held = BTreeMap::new();
        for (log, heads) in self.inner.standing()?.heads {
            held.extend(heads.into_iter().map(|head| ((log, head.author), head.seq)));
        }
        let (inner, items) = (self.inner, self.items);
        let Self { heads, forks, .. } = self;
        let mut all = Vec::with_capacity(heads.len());
        for (log, heads) in heads.iter() {
            let mut gaps = Vec::with_capacity(heads.len());
            for head in heads {
                let (author, key) = (&head.author, (*log, head.author));
                let there = |from: u64, to: u64| items(*log, author, from, to);
                let here = |from: u64, to: u64| inner.load_items(*log, author, from, to, ITEMS_BYTES);
                let mut fork = || -> Result<Option<u64>, Error> {
                    if let Some(known) = forks.get(&key) {
                        return Ok(*known);
                    }
                    let found = first_shared(&there, head.seq)?;
                    forks.insert(key, found);
                    Ok(found)
                };
                let held = held.get(&key).copied();
                let gap = Inner::gap(*log, head.seq, held, &mut fork, &there, &here)?;
                gaps.push((head.author, gap));
            }
            all.push((*log, gaps));
        }
        Ok(all)
    }

    fn step(&self, log: Log, author: &VerifyingKey, gap: &mut Gap) -> Result<Option<Vec<Item>>, Error> {
        let there = |from: u64, to: u64| (self.items)(log, author, from, to);
        let here = |from: u64, to: u64| self.inner.load_items(log, author, from, to, ITEMS_BYTES);
        gap.step(&there, &here)
    }

    /// Has items taken in, with what they name. Says whether others that waited for them, and were not kept, may be now.
    fn hand_over(&self, log: Log, items: Vec<Item>) -> Result<bool, Error> {
        // A commit in which nothing is would look like news.
        if items.is_empty() {
            return Ok(false);
        }
        let incoming = |item: Item| Incoming { ticket: 0, log, bytes: item.bytes, from: Asker::Replica };
        let taken = self.inner.take_items(items.into_iter().map(incoming).collect())?;
        if let Some(hub) = self.inner.node() {
            hub.want(&taken.wanted);
            hub.unwant(&taken.unwanted);
        }
        self.beside(taken.asks)?;
        // Nothing waits for pins.
        let is_durable = taken.fates.iter().any(|(_, fate)| *fate == Fate::Durable);
        Ok(is_durable && log.kind != LogKind::Pins)
    }

    /// Takes over what items name beside the logs, and what that leads to.
    fn beside(&self, asks: Vec<Ask>) -> Result<(), Error> {
        let mut queue = asks;
        while let Some(ask) = queue.pop() {
            for object in (self.objects)(&ask)? {
                let taken = match self.inner.take_object(&object) {
                    Ok(taken) => taken,
                    // One that is refused is so again, whoever brings it.
                    Err(Error::Refused(_)) => continue,
                    Err(error) => return Err(error),
                };
                if let Some(hub) = self.inner.node() {
                    hub.want(&taken.wanted);
                    hub.unwant(&taken.unwanted);
                }
                // An epoch that stays unknown is not asked for again.
                queue.extend(taken.asks.into_iter().filter(|more| *more != ask));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
