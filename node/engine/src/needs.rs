//! Whether nothing needs a pack any more: what giving back room noted when it last looked at every file (`gc`), held against
//! what was written since (`docs/spec/08-at-rest.md`, "Keeping").

use std::cell::OnceCell;
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use locker_catalog::tree as catalog;
use locker_crypto::id::{ChunkTag, PackHash};
use locker_store::index;
use locker_store::{Reads as _, Snapshot, Store, unneeded};

use crate::Error;
use crate::locker::Inner;
use crate::reader::Reader;

/// Chunks that are needed again are counted up to here; beyond, everything counts as needed.
const AGAIN_MAX: usize = 1 << 20;

/// At which count of commits it was last noted which chunks no file needs.
#[derive(Default)]
pub(crate) struct Noted(Mutex<Option<u64>>);

impl Noted {
    /// It was noted for all chunks, from the state that this commit left.
    pub(crate) fn note(&self, commits: u64) {
        *self.lock() = Some(commits);
    }

    /// That count. To be read before the state in which the notes are looked up.
    pub(crate) fn get(&self) -> Option<u64> {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Option<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is needed in one state of the database.
pub(crate) struct Needs<'a> {
    inner: &'a Inner,
    store: &'a Store,
    snapshot: &'a Snapshot,
    /// Nothing was written since the notes.
    is_noted: bool,
    /// What is noted as not needed and is needed again: what came back out of the trash, for one. `None` if a file cannot be
    /// read and could need anything. Read when it is first asked for.
    again: OnceCell<Option<HashSet<ChunkTag>>>,
}

impl<'a> Needs<'a> {
    /// Looks at one state; `is_noted` says that it is the one from which was noted what nothing needs. Costs nothing yet.
    pub(crate) fn new(inner: &'a Inner, store: &'a Store, snapshot: &'a Snapshot, is_noted: bool) -> Self {
        Self { inner, store, snapshot, is_noted, again: OnceCell::new() }
    }

    /// Whether no file that is there needs anything in a pack. Where nothing is noted of it this is a look at its chunks; the
    /// first one that is noted as not needed costs a look at every file, if anything was written since.
    ///
    /// # Errors
    /// What reading gives.
    pub(crate) fn is_unneeded(&self, hash: &PackHash) -> Result<bool, Error> {
        let locs = index::locs(self.snapshot, hash)?;
        for loc in &locs {
            if unneeded::since(self.snapshot, &self.inner.space_tag(), &loc.tag)?.is_none() {
                return Ok(false);
            }
        }
        if locs.is_empty() {
            return Ok(false);
        }
        let again = match self.again.get() {
            Some(again) => again,
            None => {
                let again = self.read_again()?;
                self.again.get_or_init(|| again)
            }
        };
        Ok(again.as_ref().is_some_and(|again| locs.iter().all(|loc| !again.contains(&loc.tag))))
    }

    fn read_again(&self) -> Result<Option<HashSet<ChunkTag>>, Error> {
        if self.is_noted {
            return Ok(Some(HashSet::new()));
        }
        let space = self.inner.space_tag();
        let reader = Reader::new(self.inner, self.store, self.snapshot);
        let mut again = HashSet::new();
        let mut failure = Ok(());
        catalog::walk_live(&self.snapshot.rows(space), &mut |_, version, _| {
            let seen = reader.each_record(&version.file, &mut |record, _| {
                let tag = record.tag();
                if unneeded::since(self.snapshot, &space, &tag)?.is_some() {
                    again.insert(tag);
                }
                Ok(())
            });
            match seen {
                Ok(()) if again.len() <= AGAIN_MAX => ControlFlow::Continue(()),
                Ok(()) => ControlFlow::Break(()),
                Err(error) => {
                    failure = Err(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        match failure {
            Ok(()) => Ok(Some(again).filter(|again| again.len() <= AGAIN_MAX)),
            Err(Error::Integrity { .. } | Error::Network(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
