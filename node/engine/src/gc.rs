//! `gc`: giving back the room of what nothing needs any more (`docs/spec/08-at-rest.md`, "Keeping";
//! `docs/spec/03-content.md`, "Repacking").
//!
//! | Room | Holds |
//! |---|---|
//! | `days` | the days on which this device ran, in which ages count |
//! | `referenced` | which chunks files refer to, in bounded memory |
//! | `survey` | what lies where and who needs it, in one state of the database |
//! | `decide` | what becomes of each pack: pure |
//! | `repack` | needed chunks of old packs into new ones |
//! | `release` | letting packs go |
//! | `turns` | who may do what meanwhile |
//!
//! A pass looks, notes what is not needed any more, lets packs go whose time is over, and copies what is needed out of
//! packs that are hardly needed; another look then finds these stored twice. Nothing goes on the word of a look that is
//! not the latest state: after a commit in between it is looked again. An error ends the pass.

mod days;
mod decide;
mod referenced;
mod release;
mod repack;
mod survey;
mod turns;

use std::collections::BTreeMap;
use std::time::Duration;

use locker_crypto::id::PackHash;
use locker_store::index::PackState;
use locker_store::packs::file_len;
use locker_store::{Store, unneeded};

use self::days::RunDays;
pub(crate) use self::days::note_today;
use self::decide::{Facts, decide};
use self::survey::{Note, Survey, Surveyed};
pub(crate) use self::turns::Turns;
use crate::Error;
use crate::depot::{Depot, Swept};
use crate::limits::{FINDINGS_MAX, KEEP_DAYS, LOOKS_MAX, NEED_ROWS, PIN_PACKS};
use crate::locker::Inner;
use crate::progress::Meter;
use crate::report::{Collected, Fate, Observer, PackFate, PackGroup, Silent, Why};

/// How a pass goes about what others are doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manners {
    /// Somebody waits for it: it waits for what runs, and goes on at once.
    Waits,
    /// Nobody does: where something else runs it leaves its work for another day, and it pauses between its steps.
    Yields,
}

impl Manners {
    /// Whether the pass need not end now: one that nobody waits for ends with the node.
    fn may_go_on(self, inner: &Inner) -> bool {
        self == Self::Waits || inner.node().is_some_and(|hub| !hub.is_stopping())
    }
}

/// Pause of a pass that nobody waits for, after each step.
const QUIET_PAUSE: Duration = Duration::from_millis(50);

/// One pass.
struct Pass<'a> {
    inner: &'a Inner,
    manners: Manners,
    is_dry: bool,
    meter: &'a Meter<'a>,
    /// What the last look decided.
    found: Collected,
    fates: BTreeMap<PackHash, PackFate>,
    /// What was done.
    done: BTreeMap<PackHash, PackFate>,
    chunks_gone: u64,
    freed_bytes: u64,
    written: u64,
    written_bytes: u64,
}

/// How a look ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// Nothing more is to be done.
    Done,
    /// Something was done from which another look goes on.
    Again,
    /// The locker was changed meanwhile.
    Changed,
    /// What is to be done meets something that others use.
    Busy,
}

/// Gives room back; with `is_dry`, only tells what would be done. One pass at a time.
///
/// # Errors
/// What reading and committing give; nothing more is deleted after an error, and the next pass goes on from there.
pub(crate) fn gc(
    inner: &Inner,
    is_dry: bool,
    manners: Manners,
    observer: &dyn Observer,
) -> Result<Collected, Error> {
    let _turn = inner.turns().pass();
    if let Some(depot) = inner.depot() {
        let result = blind(inner, depot, is_dry);
        inner.turns().note(result.as_ref().err().map(ToString::to_string));
        return result;
    }
    let pass = Pass {
        inner,
        manners,
        is_dry,
        meter: &Meter::new(observer, inner.env(), None),
        found: Collected::default(),
        fates: BTreeMap::new(),
        done: BTreeMap::new(),
        chunks_gone: 0,
        freed_bytes: 0,
        written: 0,
        written_bytes: 0,
    };
    let result = pass.run();
    inner.turns().note(result.as_ref().err().map(ToString::to_string));
    result
}

/// The same on a device that stores for somebody: what nobody pins goes after its days.
fn blind(inner: &Inner, depot: &Depot, is_dry: bool) -> Result<Collected, Error> {
    let in_transfer = inner.node().map(|hub| hub.packs_in_transfer()).unwrap_or_default();
    let store = inner.store()?;
    let today = match is_dry {
        true => {
            let mut days = RunDays::read(&store.read()?)?;
            days.note(inner.env().now_ms());
            days.count
        }
        false => note_today(&store, inner.env())?,
    };
    let Swept { checked, over, over_bytes, waiting } = depot.sweep(&store, today, &in_transfer, is_dry)?;
    if let Some(hub) = inner.node().filter(|_| !is_dry) {
        // There may be room now for what there was none for, and a pin for what was let go.
        hub.want(&depot.wanted(&store.read()?)?);
    }
    let over = PackGroup { fate: Fate::Released, why: Why::Unneeded, packs: over, bytes: over_bytes };
    let waiting = PackGroup { fate: Fate::Kept, why: Why::Unpinned, packs: waiting, bytes: 0 };
    Ok(Collected {
        checked,
        reclaimed_bytes: over_bytes,
        run_days: today,
        dry_run: is_dry,
        complete: true,
        groups: [over, waiting].into_iter().filter(|group| group.packs > 0).collect(),
        ..Collected::default()
    })
}

impl Inner {
    /// Lets the pass of a day run that nobody waits for, unless it did; one that was in the way of others is tried again.
    pub(crate) fn gc_of_the_day(&self) -> Result<(), Error> {
        let today = note_today(&*self.store()?, self.env())?;
        if RunDays::read(&self.store()?.read()?)?.passed == today {
            return Ok(());
        }
        if gc(self, false, Manners::Yields, &Silent)?.complete {
            self.store()?.write::<_, Error>(|txn| {
                let mut days = RunDays::read(txn)?;
                days.passed = today;
                days.write(txn);
                Ok(())
            })?;
        }
        Ok(())
    }
}

impl Pass<'_> {
    fn run(mut self) -> Result<Collected, Error> {
        let mut tries = LOOKS_MAX;
        let end = loop {
            match self.look()? {
                Look::Again => tries = LOOKS_MAX,
                Look::Changed if tries > 1 => tries -= 1,
                end => break end,
            }
            self.pause();
        };
        if self.chunks_gone > 0 {
            self.forget_contents()?;
            self.compact()?;
        }
        Ok(self.told(end == Look::Done))
    }

    /// Looks once, and does what follows from that.
    fn look(&mut self) -> Result<Look, Error> {
        let inner = self.inner;
        if !self.manners.may_go_on(inner) {
            return Ok(Look::Busy);
        }
        // Before the state is read: whoever waits for an import must not keep an old state alive meanwhile.
        let import = (self.manners == Manners::Waits && !self.is_dry).then(|| inner.import_turn());
        let in_transfer = inner.packs_in_use()?;
        let store = inner.store()?;
        let today = match self.is_dry {
            true => {
                let mut days = RunDays::read(&store.read()?)?;
                days.note(inner.env().now_ms());
                days.count
            }
            false => note_today(&store, inner.env())?,
        };
        let (state, snapshot) = inner.committed_state(&store)?;
        let mut survey =
            Survey::begin(inner, (&store, &snapshot), today, &in_transfer, (self.meter, self.manners))?;
        self.note_needs(&store, &mut survey)?;
        let Surveyed { packs, terms } = survey.result();
        if !self.is_dry && !terms.is_blind {
            inner.noted().note(state);
        }
        let fates = decide(&packs, &terms);
        self.note_fates(&packs, &fates, today);
        if self.is_dry {
            return Ok(Look::Done);
        }
        let with = |fate: Fate| -> Vec<&Facts> {
            let of_fate = fates.iter().filter(|(_, (known, _))| *known == fate);
            of_fate.filter_map(|(number, _)| packs.get(number)).collect()
        };
        if !terms.is_blind {
            self.pin(packs.values())?;
        }
        self.want(&with(Fate::Wanted))?;
        match self.release(&store, &with(Fate::Released), state, import)? {
            Look::Done => self.repack(&store, &mut survey, &with(Fate::Repacked)),
            other => Ok(other),
        }
    }

    /// Looks at every chunk, and writes down which are not needed since when.
    fn note_needs(&self, store: &Store, survey: &mut Survey<'_>) -> Result<(), Error> {
        let space = self.inner.space_tag();
        let links = survey.link_notes();
        if !links.is_empty() && !self.is_dry {
            store.write::<_, Error>(|txn| {
                links.iter().for_each(|(link, day)| unneeded::note_link(txn, link, *day));
                Ok(())
            })?;
        }
        let write = |notes: &mut Vec<Note>| {
            store.write::<_, Error>(|txn| {
                for (tag, since) in notes.drain(..) {
                    match since {
                        Some(day) => unneeded::note(txn, &space, &tag, day),
                        None => unneeded::forget(txn, &space, &tag),
                    }
                }
                Ok(())
            })
        };
        let mut notes = Vec::new();
        survey.chunks(&mut |note| {
            if !self.is_dry {
                notes.push(note);
            }
            if notes.len() < NEED_ROWS { Ok(()) } else { write(&mut notes) }
        })?;
        if notes.is_empty() { Ok(()) } else { write(&mut notes) }
    }

    /// Notes what a look decided, for the report.
    fn note_fates(&mut self, packs: &BTreeMap<u32, Facts>, fates: &BTreeMap<u32, (Fate, Why)>, today: u32) {
        let mut found = Collected { run_days: today, ..Collected::default() };
        self.fates.clear();
        for (number, facts) in packs {
            let Some((fate, why)) = fates.get(number) else { continue };
            let (fate, why, holds) = (*fate, *why, &facts.holds);
            found.checked += 1;
            found.live_bytes += holds.live;
            found.recent_bytes += holds.kept;
            let is_here = matches!(facts.state, PackState::Present { .. });
            if is_here {
                found.garbage_bytes += holds.elsewhere + holds.unneeded;
                found.reclaimed_bytes += match fate {
                    Fate::Released => file_len(facts.len),
                    Fate::Repacked => file_len(facts.len).saturating_sub(holds.needed()),
                    Fate::Kept | Fate::Wanted => 0,
                };
            }
            let days_left =
                holds.kept_since.map(|since| KEEP_DAYS.saturating_sub(today.saturating_sub(since)));
            let told = PackFate {
                pack: facts.hash.to_string(),
                bytes: facts.len.into(),
                fate,
                why,
                live_bytes: holds.live,
                recent_bytes: holds.kept,
                days_left,
            };
            self.fates.insert(facts.hash, told);
        }
        self.found = found;
    }

    /// Notes that what was decided on packs was done.
    fn note_done<'f>(&mut self, packs: impl IntoIterator<Item = &'f Facts>) {
        for facts in packs {
            if let Some(told) = self.fates.remove(&facts.hash) {
                self.done.entry(facts.hash).or_insert(told);
            }
        }
    }

    /// The report.
    fn told(self, is_complete: bool) -> Collected {
        let mut told = self.found;
        told.dry_run = self.is_dry;
        told.complete = is_complete;
        told.written = self.written;
        if !self.is_dry {
            told.reclaimed_bytes = self.freed_bytes.saturating_sub(self.written_bytes);
        }
        let mut groups: BTreeMap<(Fate, Why), PackGroup> = BTreeMap::new();
        // What was not done after all is still there.
        let left =
            self.fates.into_iter().filter(|(hash, _)| !self.done.contains_key(hash)).map(|(_, mut left)| {
                if !self.is_dry && left.fate != Fate::Wanted {
                    left.fate = Fate::Kept;
                }
                left
            });
        let mut all: Vec<PackFate> = left.collect();
        all.extend(self.done.into_values());
        for pack in &all {
            let group = groups.entry((pack.fate, pack.why)).or_insert(PackGroup {
                fate: pack.fate,
                why: pack.why,
                packs: 0,
                bytes: 0,
            });
            group.packs += 1;
            group.bytes += pack.bytes;
        }
        told.groups = groups.into_values().collect();
        // What goes comes first: it is what somebody looks for.
        all.sort_by(|a, b| (b.fate, b.why, &a.pack).cmp(&(a.fate, a.why, &b.pack)));
        all.truncate(FINDINGS_MAX);
        told.packs = all;
        told
    }

    /// Pins what is needed and here: a crash between the dropping of a pin and what belongs to it, and a device that was
    /// away, leave packs without.
    fn pin<'f>(&self, packs: impl Iterator<Item = &'f Facts>) -> Result<(), Error> {
        let is_due = |facts: &&Facts| {
            matches!(facts.state, PackState::Present { .. }) && !facts.is_pinned && facts.holds.needed() > 0
        };
        let due: Vec<PackHash> = packs.filter(is_due).map(|facts| facts.hash).collect();
        for group in due.chunks(PIN_PACKS) {
            self.inner.commit(|change| group.iter().try_for_each(|hash| change.pin_again(hash)))?;
        }
        Ok(())
    }

    /// Asks again for what was let go here and is needed after all.
    fn want(&self, packs: &[&Facts]) -> Result<(), Error> {
        let hashes: Vec<PackHash> = packs.iter().map(|facts| facts.hash).collect();
        self.inner.want_again(&hashes)
    }

    /// Lets others come to their turn.
    fn pause(&self) {
        if self.manners == Manners::Yields {
            std::thread::park_timeout(QUIET_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests;
