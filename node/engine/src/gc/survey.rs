//! What lies where and who needs it, in one state of the database.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;

use locker_catalog::clock;
use locker_catalog::operation::Role;
use locker_catalog::roster::Roster;
use locker_catalog::space::{OwnState, Space};
use locker_catalog::tree::{self as catalog, Standing, Version};
use locker_crypto::chunk::chunk_tag;
use locker_crypto::id::{ChunkTag, LinkTag, PackHash, SpaceTag, VerifyingKey};
use locker_crypto::secret::ChunkKey;
use locker_store::index::{self, PackState, Spot};
use locker_store::pins::{self, PinScope};
use locker_store::{Reads, Snapshot, Store, unneeded};

use super::Manners;
use super::decide::{Facts, Holds, Need, Tally, Terms, home};
use super::referenced::{Gatherer, Reference, Referenced};
use crate::Error;
use crate::keys::person_log;
use crate::limits::{KEEP_DAYS, KEEP_MS, REFERENCES_MAX};
use crate::locker::Inner;
use crate::progress::Meter;
use crate::reader::Reader;
use crate::rebirth::Doubt;
use crate::share::{Register, extent};
use crate::status::COPIES_WANTED;

/// An operation whose clock is further ahead says nothing about when it was made.
const AHEAD_MS: u64 = 600_000;
/// Files between two looks whether the node ends.
const STOP_LOOKS: u64 = 4_096;
/// The least tag.
const FIRST: ChunkTag = ChunkTag([0; ChunkTag::LEN]);

/// One look at everything.
pub(super) struct Survey<'a> {
    inner: &'a Inner,
    store: &'a Store,
    snapshot: &'a Snapshot,
    space: SpaceTag,
    /// The count of days of running.
    today: u32,
    meter: &'a Meter<'a>,
    manners: Manners,
    /// Every pack, by its number.
    packs: BTreeMap<u32, Facts>,
    /// Whether anything was not needed long enough ago, so that it may go.
    may_be_over: bool,
    has_unneeded: bool,
    /// The references of the only range, if there is but one.
    only_range: Option<Referenced>,
    is_blind: bool,
    /// Links that are over by the clock, or not any more, and are to be noted so.
    links: Vec<(LinkTag, Option<u32>)>,
}

/// What a look gave.
pub(super) struct Surveyed {
    /// Every pack, by its number.
    pub(super) packs: BTreeMap<u32, Facts>,
    /// What holds for all.
    pub(super) terms: Terms,
}

/// A chunk as it is seen.
struct Seen<'c> {
    tag: ChunkTag,
    spots: &'c [Spot],
    /// What becomes of it.
    need: Need,
    /// Since when it is noted as not needed.
    noted: Option<u32>,
}

/// Hears of every chunk.
type VisitChunk<'v> = dyn FnMut(&Survey<'_>, &Seen<'_>) -> Result<(), Error> + 'v;

/// A change of what is noted of a chunk: since which day it is not needed.
pub(super) type Note = (ChunkTag, Option<u32>);

impl<'a> Survey<'a> {
    /// Looks at packs, pins and links. `in_transfer` are the packs that are being sent or fetched.
    pub(super) fn begin(
        inner: &'a Inner,
        (store, snapshot): (&'a Store, &'a Snapshot),
        today: u32,
        in_transfer: &BTreeSet<PackHash>,
        (meter, manners): (&'a Meter<'a>, Manners),
    ) -> Result<Self, Error> {
        let space = inner.space_tag();
        let (mut may_be_over, mut has_unneeded) = (false, false);
        unneeded::scan(snapshot, &space, &FIRST, &mut |_, since| {
            has_unneeded = true;
            may_be_over |= is_over(since, today);
            if may_be_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        let mut survey = Self {
            inner,
            store,
            snapshot,
            space,
            today,
            meter,
            manners,
            packs: BTreeMap::new(),
            may_be_over,
            has_unneeded,
            only_range: None,
            is_blind: false,
            links: Vec::new(),
        };
        survey.read_packs(in_transfer)?;
        Ok(survey)
    }

    fn read_packs(&mut self, in_transfer: &BTreeSet<PackHash>) -> Result<(), Error> {
        let keys = self.inner.keys();
        let (own, log) = (keys.device_id(), person_log(self.snapshot, &keys.person)?);
        let roster = Roster::read(keys.person, &log);
        let space = Space::open(&self.snapshot.rows(self.space), keys.space, own)?;
        let register = Register::of(self.inner, self.snapshot, &space, &roster)?;
        let linked = self.linked(&register)?;
        // A device that was removed judges nothing any more; one that may not write names no new packs.
        self.is_blind |= !roster.active.contains(&own);
        // What is held here is decided about first: until then nothing goes, whatever the tree says.
        self.is_blind |= space.is_apart();
        // What does not count now is needed once it is written again, and a device in doubt may drop no pin.
        self.is_blind |=
            Doubt::read(self.snapshot)?.is_some() || self.inner.is_to_write_again(self.snapshot, &space)?;
        let may_write = matches!(space.own_role(), Role::Write | Role::Manage)
            && !space.is_read_only()
            && space.own_state(&self.snapshot.rows(self.space), self.inner.env().now_ms())? == OwnState::Fine;
        let mut numbers: HashMap<PackHash, u32> = HashMap::new();
        let mut failure = Ok(());
        let Self { packs, snapshot, space, .. } = self;
        index::scan_packs(*snapshot, &mut |hash, pack| {
            if !pack.spaces.contains(space) && pack.state != PackState::Deleting {
                return ControlFlow::Continue(());
            }
            let naming = match index::naming(*snapshot, space, &hash) {
                Ok(naming) => naming,
                Err(error) => {
                    failure = Err(error);
                    return ControlFlow::Break(());
                }
            };
            numbers.insert(hash, pack.number());
            let author = naming.map(|naming| naming.author).filter(|author| roster.active.contains(author));
            packs.insert(
                pack.number(),
                Facts {
                    number: pack.number(),
                    hash,
                    len: pack.len,
                    state: pack.state,
                    naming,
                    // What a device wrote that is not one any more is for the one with the least key.
                    is_mine: may_write && author.as_ref().or(roster.active.first()) == Some(&own),
                    is_pinned: false,
                    pins: 0,
                    is_linked: linked.contains(&hash),
                    is_in_transfer: in_transfer.contains(&hash),
                    holds: Holds::default(),
                },
            );
            ControlFlow::Continue(())
        })?;
        failure?;
        for author in &roster.active {
            self.read_pins(author, &numbers)?;
        }
        let Self { packs, snapshot, space, .. } = self;
        // A device that was replaced goes on under another key, with what it has. The pins of one that was removed say
        // nothing: replicas do not keep what it alone pins.
        for author in roster.replaced.keys() {
            let scope = PinScope { space: *space, author: *author };
            for facts in packs.values_mut().filter(|f| is_let_go(f.state) && f.pins == 0) {
                facts.pins = u32::from(pins::is_pinned(*snapshot, &scope, &facts.hash)?);
            }
        }
        Ok(())
    }

    fn read_pins(&mut self, author: &VerifyingKey, numbers: &HashMap<PackHash, u32>) -> Result<(), Error> {
        let is_own = *author == self.inner.keys().device_id();
        let Self { packs, snapshot, space, .. } = self;
        pins::scan(*snapshot, &PinScope { space: *space, author: *author }, &mut |hash| {
            if let Some(facts) = numbers.get(&hash).and_then(|number| packs.get_mut(number)) {
                facts.pins += 1;
                facts.is_pinned |= is_own;
            }
            ControlFlow::Continue(())
        })?;
        Ok(())
    }

    /// The packs that links give. A link lasts until it is revoked, or its end was seen on so many days of running as
    /// anything is kept: the clock alone does not end it.
    fn linked(&mut self, register: &Register) -> Result<BTreeSet<PackHash>, Error> {
        let now_s = self.inner.env().now_ms() / 1_000;
        let mut linked = BTreeSet::new();
        for door in register.doors().iter().filter(|door| !door.is_revoked) {
            let noted = unneeded::link_over_since(self.snapshot, &door.tag)?;
            let over_since = (now_s >= door.expires_s).then(|| noted.unwrap_or(self.today));
            if over_since != noted {
                self.links.push((door.tag, over_since));
            }
            if over_since.is_some_and(|since| is_over(since, self.today)) {
                continue;
            }
            match extent(self.snapshot, self.inner, door)? {
                Some(extent) => linked.extend(extent.packs),
                // What it gives is still to come from the device that made it.
                None => self.is_blind |= over_since.is_none(),
            }
        }
        Ok(linked)
    }

    /// What is to be noted about links.
    pub(super) fn link_notes(&mut self) -> Vec<(LinkTag, Option<u32>)> {
        std::mem::take(&mut self.links)
    }

    /// Looks at every chunk; hands out what is to be noted of it.
    pub(super) fn chunks(&mut self, note: &mut dyn FnMut(Note) -> Result<(), Error>) -> Result<(), Error> {
        let mut tally = Tally::default();
        self.each_chunk(&mut |survey, &Seen { tag, spots, need, noted }| {
            let is_here = spots.iter().any(|spot| survey.state(spot).is_some_and(|state| !is_let_go(state)));
            let due = match need {
                // Who does not see everything begins no new days.
                Need::Kept(_) if is_here && survey.is_blind => noted,
                Need::Kept(since) if is_here => Some(since),
                Need::Over if is_here => noted,
                _ => None,
            };
            if due != noted {
                note((tag, due))?;
            }
            let places = spots.iter().map(|spot| (spot.number, u64::from(spot.sealed_len)));
            tally.add(places, survey.home(spots), need);
            Ok(())
        })?;
        tally.hand_out(&mut self.packs);
        Ok(())
    }

    /// What was found.
    pub(super) fn result(&self) -> Surveyed {
        let terms = Terms { copies_wanted: COPIES_WANTED, is_blind: self.is_blind };
        Surveyed { packs: self.packs.clone(), terms }
    }

    /// The needed chunks that are to be had from these packs.
    pub(super) fn needed_in(&mut self, packs: &BTreeSet<u32>) -> Result<BTreeSet<ChunkTag>, Error> {
        let mut needed = BTreeSet::new();
        self.each_chunk(&mut |survey, &Seen { tag, spots, need, .. }| {
            let is_asked = spots.iter().any(|spot| packs.contains(&spot.number));
            if need != Need::Over && is_asked && survey.home(spots).is_some_and(|home| packs.contains(&home))
            {
                needed.insert(tag);
            }
            Ok(())
        })?;
        Ok(needed)
    }

    /// The state that is looked at.
    pub(super) fn snapshot(&self) -> &'a Snapshot {
        self.snapshot
    }

    /// The keys of chunks, as far as any file that is or was knows them.
    pub(super) fn keys_of(&self, chunks: &BTreeSet<ChunkTag>) -> Result<HashMap<ChunkTag, ChunkKey>, Error> {
        let reader = Reader::new(self.inner, self.store, self.snapshot);
        let mut keys = HashMap::new();
        let mut failure = Ok(());
        catalog::walk_versions(&self.snapshot.rows(self.space), &mut |_, version, _| {
            let found = reader.each_record(&version.file, &mut |record, _| {
                let tag = record.tag();
                if chunks.contains(&tag) {
                    keys.insert(tag, record.key.clone());
                }
                Ok(())
            });
            if let Err(error) = found.or_else(unreadable) {
                failure = Err(error);
                return ControlFlow::Break(());
            }
            if keys.len() < chunks.len() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        failure.map(|()| keys)
    }

    fn state(&self, spot: &Spot) -> Option<PackState> {
        self.packs.get(&spot.number).map(|facts| facts.state)
    }

    fn home(&self, spots: &[Spot]) -> Option<u32> {
        match spots {
            [only] => Some(only.number),
            spots => home(spots.iter().filter_map(|spot| self.packs.get(&spot.number))),
        }
    }

    /// Visits every chunk, in the order of the tags.
    fn each_chunk(&mut self, visit: &mut VisitChunk<'_>) -> Result<(), Error> {
        let mut start = Some(FIRST);
        while let Some(from) = start {
            let range = match self.only_range.take() {
                Some(range) => range,
                None => self.gather(&from)?,
            };
            let mut failure = Ok(());
            index::scan_chunks(self.snapshot, &self.space, &from, &mut |tag, spots| {
                if !range.covers(&tag) {
                    return ControlFlow::Break(());
                }
                let step = self.seen(&range, tag, spots).and_then(|seen| visit(self, &seen));
                match step {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => {
                        failure = Err(error);
                        ControlFlow::Break(())
                    }
                }
            })?;
            failure?;
            start = range.next_start();
            if from == FIRST && start.is_none() {
                self.only_range = Some(range);
            }
        }
        Ok(())
    }

    fn seen<'c>(&self, range: &Referenced, tag: ChunkTag, spots: &'c [Spot]) -> Result<Seen<'c>, Error> {
        let noted = if self.has_unneeded { unneeded::since(self.snapshot, &self.space, &tag)? } else { None };
        let reference = range.get(&tag);
        let is_linked = || spots.iter().any(|s| self.packs.get(&s.number).is_some_and(|pack| pack.is_linked));
        let need = if reference == Some(Reference::Live) || is_linked() {
            Need::Live
        } else {
            match noted {
                Some(since) if is_over(since, self.today) && reference.is_none() => Need::Over,
                Some(since) => Need::Kept(since),
                // What was let go here is not waited for.
                None if spots.iter().all(|spot| self.state(spot).is_some_and(is_let_go)) => Need::Over,
                None => Need::Kept(self.today),
            }
        };
        Ok(Seen { tag, spots, need, noted })
    }

    /// Gathers the references of files to chunks from a tag on, as many as fit into memory.
    fn gather(&mut self, from: &ChunkTag) -> Result<Referenced, Error> {
        let reader = Reader::new(self.inner, self.store, self.snapshot);
        let rows = self.snapshot.rows(self.space);
        let mut gatherer = Gatherer::new(from, REFERENCES_MAX);
        let mut failure = Ok(());
        let (mut is_blind, meter) = (false, self.meter);
        let mut take = |version: &Version, standing: Standing| {
            let reference = if standing == Standing::Live { Reference::Live } else { Reference::Recent };
            let found = reader.each_record(&version.file, &mut |record, _| {
                gatherer.add(&chunk_tag(&record.key), reference);
                Ok(())
            });
            match found {
                Ok(()) => ControlFlow::Continue(()),
                // A file that cannot be read says nothing about what it needs. What is past and cannot be
                // read cannot come back from here either.
                Err(Error::Integrity { .. } | Error::Network(_)) if standing == Standing::Past => {
                    ControlFlow::Continue(())
                }
                Err(Error::Integrity { .. } | Error::Network(_)) => {
                    is_blind = true;
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    failure = Err(error);
                    ControlFlow::Break(())
                }
            }
        };
        let (mut walked, mut stopped) = (0_u64, false);
        catalog::walk_live(&rows, &mut |_, version, standing| {
            meter.add(1, 0);
            walked += 1;
            stopped = walked.is_multiple_of(STOP_LOOKS) && !self.manners.may_go_on(self.inner);
            if stopped { ControlFlow::Break(()) } else { take(version, standing) }
        })?;
        if stopped {
            return Err(Error::Busy { pid: None });
        }
        if self.may_be_over {
            let now_ms = self.inner.env().now_ms();
            let (since, to) = (now_ms.saturating_sub(KEEP_MS), now_ms.saturating_add(AHEAD_MS));
            let span = (clock::first_of(since), clock::first_of(to));
            catalog::walk_recently_past(&rows, span, &mut |_, version, standing| take(version, standing))?;
        }
        failure?;
        self.is_blind |= is_blind;
        Ok(gatherer.finish())
    }
}

/// Whether a pack was let go here on purpose.
fn is_let_go(state: PackState) -> bool {
    matches!(state, PackState::Released | PackState::Away)
}

/// Whether what is not needed since a day has been kept for its time.
fn is_over(since: u32, today: u32) -> bool {
    today.saturating_sub(since) >= KEEP_DAYS
}

/// Passes over what cannot be read.
fn unreadable(error: Error) -> Result<(), Error> {
    match error {
        Error::Integrity { .. } | Error::Network(_) => Ok(()),
        other => Err(other),
    }
}
