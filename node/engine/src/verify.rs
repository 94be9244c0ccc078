//! `verify`: every stored byte and every reference, in both directions (`docs/spec/08-at-rest.md`, "Verification").
//!
//! | Step | Checks |
//! |---|---|
//! | pages | checksums of all pages of the database, if it can be had alone |
//! | rows | every row of every table opens, in its order, and is found where a look-up goes |
//! | index | every row about packs and chunks leads to what it says, and back; pins and remembered contents likewise |
//! | logs | person log and entries: layout, signatures, chains; every entry opens under its epoch |
//! | packs | every byte of pack and outboard against the pack's name; what is damaged becomes *lost* |
//! | files | every file in the pack folders has a row |
//! | contents | every version that any file has or had: its chunks are located, and their keys belong to what lies there |
//!
//! The pass over the packs takes the time; how far it is, is kept ([`Run`]), so that it can be stopped.

mod contents;
mod logs;
mod packs;
mod run;
mod tables;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::ops::ControlFlow;

use locker_crypto::Refusal;
use locker_crypto::id::PackHash;
use locker_store::StoreError;
use locker_store::index::{self, PackState};

use self::packs::Bad;
use self::run::Run;
use crate::Error;
use crate::care::Found;
use crate::limits::FINDINGS_MAX;
use crate::locker::Inner;
use crate::node::Fetched;
use crate::progress::Meter;
use crate::report::{Observer, Problem, Verified};

/// Gets lost packs from other devices.
pub(crate) type Fetch<'a> = dyn FnOnce(&[(PackHash, u32)]) -> Result<Fetched, Error> + 'a;

/// Things that are no damage and are told one by one.
const NOTES_MAX: usize = 20;

/// Checks everything; heals what is damaged if there is a way to fetch. `anew` does not go on with a run that was stopped.
pub(crate) fn verify(
    inner: &Inner,
    anew: bool,
    fetch: Option<Box<Fetch<'_>>>,
    observer: &dyn Observer,
) -> Result<Verified, Error> {
    let start = inner.env().elapsed();
    let run = match anew {
        true => None,
        false => Run::load(&inner.store()?.read()?, inner.env().now_ms() / 1_000)?,
    };
    let mut check = Check::new(inner, observer, run.as_ref())?;
    check.everything(run, fetch)?;
    let mut verified = check.verified;
    verified.seconds = inner.env().elapsed().saturating_sub(start).as_secs_f64();
    Ok(verified)
}

/// A check under way: what it found so far.
struct Check<'a> {
    inner: &'a Inner,
    observer: &'a dyn Observer,
    meter: Meter<'a>,
    verified: Verified,
    /// Nobody wants it to go on, or it cannot.
    is_over: Cell<bool>,
    /// Some step could not be done to its end.
    has_gap: bool,
    looks: Cell<u32>,
    /// Notes that were not told one by one.
    more_notes: u64,
}

impl<'a> Check<'a> {
    fn new(inner: &'a Inner, observer: &'a dyn Observer, run: Option<&Run>) -> Result<Self, Error> {
        let store = inner.store()?;
        let totals = packs::totals(&store.read()?, run)?;
        let totals = (totals.0, totals.1 + store.database_bytes()?);
        Ok(Self {
            inner,
            observer,
            meter: Meter::new(observer, inner.env(), Some(totals)),
            verified: Verified::default(),
            is_over: Cell::new(false),
            has_gap: false,
            looks: Cell::new(0),
            more_notes: 0,
        })
    }

    fn everything(&mut self, run: Option<Run>, fetch: Option<Box<Fetch<'_>>>) -> Result<(), Error> {
        // Nothing goes while it is checked.
        let _content = self.inner.turns().rely();
        self.step(Self::pages)?;
        self.step(Self::rows)?;
        self.step(Self::index)?;
        self.step(Self::logs)?;
        let bad = self.step(|check| check.packs(run))?.unwrap_or_default();
        self.verified.bad += bad.len() as u64;
        let left = match fetch {
            Some(fetch) if !bad.is_empty() && !self.is_over.get() => self.repair(bad, fetch)?,
            _ => bad,
        };
        for bad in left {
            self.problem(Refusal::Hash, bad.why);
        }
        self.step(Self::files)?;
        self.step(Self::contents)?;
        if self.more_notes > 0 {
            self.verified.notes.push(format!("and {} more of this kind", self.more_notes));
        }
        self.verified.complete = !self.is_over.get() && !self.has_gap;
        if self.verified.complete {
            self.end_run()?;
        }
        Ok(())
    }

    /// Does one step, unless the check is over. Damage that keeps a step from its end is a finding; the next one may still
    /// be done.
    fn step<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<Option<T>, Error> {
        if self.is_over.get() {
            return Ok(None);
        }
        match work(self) {
            Ok(done) => Ok(Some(done)),
            Err(Error::Integrity { what, why }) => {
                self.has_gap = true;
                self.add(why, format!("{what} is damaged"));
                Ok(None)
            }
            // Over damaged pages, or by a disk that fails, the database is closed to everybody: what was found is all that
            // can be told.
            Err(Error::Store(why @ (StoreError::Poisoned | StoreError::Io { .. })))
                if self.verified.bad > 0 =>
            {
                self.note(why.to_string());
                self.is_over.set(true);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Something is damaged or missing.
    fn add(&mut self, why: Refusal, message: String) {
        self.verified.bad += 1;
        self.problem(why, message);
    }

    /// Says what is wrong with something that was counted.
    fn problem(&mut self, why: Refusal, message: String) {
        if self.verified.problems.len() < FINDINGS_MAX {
            self.verified.problems.push(Problem { code: why.code().into(), message });
        }
    }

    /// Something is worth knowing.
    fn note(&mut self, note: String) {
        if self.verified.notes.len() < NOTES_MAX {
            self.verified.notes.push(note);
        } else {
            self.more_notes += 1;
        }
    }

    /// Something was looked at; whether the check goes on.
    fn checked(&mut self, bytes: u64) -> ControlFlow<()> {
        self.verified.checked += 1;
        self.verified.checked_bytes += bytes;
        self.meter.add(0, bytes);
        self.goes_on()
    }

    /// Whether the check goes on; asks the observer now and then.
    fn goes_on(&self) -> ControlFlow<()> {
        const EVERY: u32 = 256;
        let looks = self.looks.get();
        self.looks.set(looks.wrapping_add(1));
        if looks.is_multiple_of(EVERY) && self.observer.is_stopped() {
            self.is_over.set(true);
        }
        if self.is_over.get() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Heals what it can: here, then with the help of other devices. Gives what is still damaged, and why.
    fn repair(&mut self, bad: Vec<Bad>, fetch: Box<Fetch<'_>>) -> Result<Vec<Bad>, Error> {
        let (mut left, mut found) = (Vec::new(), Vec::new());
        for bad in bad {
            match self.inner.heal_here(&bad.hash)? {
                Found::Damaged(_) => left.push(bad),
                healed => found.push((bad.hash, healed)),
            }
        }
        self.verified.repaired += found.len() as u64;
        self.inner.note_found(&found, |_| {})?;
        if left.is_empty() {
            return Ok(left);
        }
        let wanted: Vec<(PackHash, u32)> = left.iter().map(|bad| (bad.hash, bad.len)).collect();
        let why = match fetch(&wanted) {
            Ok(Fetched::Stopped) => {
                self.is_over.set(true);
                Fetched::Stopped.sentence()
            }
            Ok(fetched) => fetched.sentence(),
            // Without a network there is nobody to ask.
            Err(Error::Network(why)) => why,
            Err(error) => return Err(error),
        };
        let snapshot = self.inner.store()?.read()?;
        let mut lost = Vec::new();
        for bad in left {
            let pack = index::pack(&snapshot, &bad.hash)?;
            if pack.is_some_and(|pack| matches!(pack.state, PackState::Lost)) {
                lost.push(Bad { why: format!("{}; {why}", bad.why), ..bad });
            } else {
                self.verified.repaired += 1;
            }
        }
        Ok(lost)
    }

    /// The next run begins anew.
    fn end_run(&self) -> Result<(), Error> {
        let store = self.inner.store()?;
        if !store.is_read_only() && Run::is_kept(&store.read()?)? {
            store.write::<_, Error>(|txn| {
                Run::end(txn);
                Ok(())
            })?;
        }
        Ok(())
    }
}
