//! Looking after packs: one in which damage was met is looked at as a whole, healed here if that can be, else marked lost,
//! so that it is fetched from another device (`docs/spec/08-at-rest.md`, "Healing").
//!
//! A pack that is lost keeps its file: what is right in it is still read. Never here: when packs are looked at without a
//! cause (`scrub`), and the fetching (`node`).

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use locker_crypto::id::PackHash;
use locker_store::index::{self, Checked, Pack, PackState};
use locker_store::packs::Cache;
use locker_store::{Reads, StoreError, WriteTxn};
use rustix::io::Errno;
use tokio::sync::Notify;

use crate::Error;
use crate::limits::SUSPECTS_MAX;
use crate::locker::Inner;

/// Packs in which a read met damage, until somebody has looked at them; and what the last look at the rows found.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    packs: Mutex<BTreeSet<PackHash>>,
    added: Notify,
    row_flaws: AtomicU64,
}

impl Suspects {
    /// Waits until there is one.
    pub(crate) async fn wait(&self) {
        self.added.notified().await;
    }

    /// How many rows of the database were damaged when they were looked at last.
    pub(crate) fn row_flaws(&self) -> u64 {
        self.row_flaws.load(Ordering::Relaxed)
    }

    /// Notes how many are.
    pub(crate) fn note_row_flaws(&self, count: u64) {
        self.row_flaws.store(count, Ordering::Relaxed);
    }

    fn add(&self, hash: &PackHash) {
        let mut packs = self.packs.lock().unwrap_or_else(PoisonError::into_inner);
        // With so many, a pass over all of them is due anyway.
        if packs.len() < SUSPECTS_MAX && packs.insert(*hash) {
            self.added.notify_one();
        }
    }

    fn take(&self) -> BTreeSet<PackHash> {
        std::mem::take(&mut *self.packs.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a look at a whole pack gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It is whole.
    Whole,
    /// It was not, and is now: its outboard was made anew.
    Healed,
    /// It is damaged, in these words.
    Damaged(String),
    /// It is not to be here any more.
    Dropped,
}

impl Inner {
    /// A read met damage in a pack.
    pub(crate) fn suspect(&self, hash: &PackHash) {
        self.suspects().add(hash);
    }

    /// Looks at the packs in which reads met damage. What cannot be noted now is met again by the next read.
    pub(crate) fn judge_suspects(&self) {
        let suspects = self.suspects().take().into_iter();
        let judged = suspects.filter_map(|hash| Some((hash, self.heal_here(&hash).ok()?)));
        let found: Vec<(PackHash, Found)> = judged.collect();
        if !found.is_empty() {
            let _ = self.note_found(&found, |_| {});
        }
    }

    /// Has the packs looked at that are lost: one may have come back, or have been kept by a process that ended before its
    /// row said so.
    ///
    /// # Errors
    /// What reading gives.
    pub(crate) fn suspect_lost(&self) -> Result<(), Error> {
        index::scan_packs(&self.store()?.read()?, &mut |hash, pack| {
            if pack.state == PackState::Lost {
                self.suspect(&hash);
            }
            ControlFlow::Continue(())
        })?;
        Ok(())
    }

    /// Opens every row of the database. A large one is not checked page by page when it is opened, and a page that is
    /// read never is.
    pub(crate) fn look_at_rows(&self) {
        let mut flaws = 0;
        let looked = self.store().and_then(|store| {
            Ok(store.read()?.check_rows(&mut |block| {
                flaws += u64::from(block.flaw.is_some());
                ControlFlow::Continue(())
            })?)
        });
        flaws += u64::from(matches!(looked, Err(Error::Integrity { .. })));
        self.suspects().note_row_flaws(flaws);
    }

    /// Looks at all bytes of a pack.
    ///
    /// # Errors
    /// That of the store itself; whatever is wrong with the file is [`Found::Damaged`].
    pub(crate) fn examine(&self, hash: &PackHash, cache: Cache) -> Result<Found, Error> {
        let store = self.store()?;
        let snapshot = store.read()?;
        let Some(pack) = kept(&snapshot, hash)? else { return Ok(Found::Dropped) };
        drop(snapshot);
        match store.packs().verify_with(hash, pack.len, cache) {
            Ok(()) => Ok(Found::Whole),
            Err(error) if is_shortage(&error) => Err(error.into()),
            // Not there, damaged, something else in its place, or a disk that cannot read it; unless it went meanwhile.
            Err(error) => {
                let is_kept = kept(&store.read()?, hash)?.is_some();
                Ok(if is_kept { Found::Damaged(error.to_string()) } else { Found::Dropped })
            }
        }
    }

    /// Heals a pack that is damaged, as far as that can be done without other devices: it may be whole again, or only its
    /// outboard be wrong.
    ///
    /// # Errors
    /// As [`Inner::examine`].
    pub(crate) fn heal_here(&self, hash: &PackHash) -> Result<Found, Error> {
        match self.examine(hash, Cache::Kept)? {
            Found::Damaged(why) => {
                let store = self.store()?;
                let Some(pack) = kept(&store.read()?, hash)? else { return Ok(Found::Dropped) };
                match store.packs().renew_outboard(hash, pack.len) {
                    Ok(true) => Ok(Found::Healed),
                    Err(error @ StoreError::Poisoned) => Err(error.into()),
                    // A full disk, or one that cannot be written: another time.
                    Ok(false) | Err(_) => Ok(Found::Damaged(why)),
                }
            }
            other => Ok(other),
        }
    }

    /// Notes what looks at packs gave, in one durable commit with what `also` writes, and has those that are damaged fetched
    /// if a node runs.
    ///
    /// # Errors
    /// What committing gives.
    pub(crate) fn note_found(
        &self,
        found: &[(PackHash, Found)],
        also: impl FnOnce(&mut WriteTxn<'_>),
    ) -> Result<(), Error> {
        let store = self.store()?;
        if store.is_read_only() {
            // What is damaged is told all the same; whoever can write notes it the next time.
            return Ok(());
        }
        let now_s = self.env().now_ms() / 1_000;
        let (lost, back) = store.write::<_, Error>(|txn| {
            let (mut lost, mut back) = (Vec::new(), Vec::new());
            for (hash, found) in found {
                match found {
                    Found::Whole | Found::Healed => {
                        let was_lost = kept(txn, hash)?.is_some_and(|pack| pack.state == PackState::Lost);
                        back.extend(was_lost.then_some(*hash));
                        index::note_checked(txn, hash, Checked::Whole(now_s))?;
                    }
                    Found::Damaged(_) => {
                        index::note_checked(txn, hash, Checked::Damaged)?;
                        lost.extend(kept(txn, hash)?.map(|pack| (*hash, pack.len)));
                    }
                    Found::Dropped => {}
                }
            }
            also(txn);
            Ok((lost, back))
        })?;
        if let Some(hub) = self.node() {
            hub.want(&lost);
            hub.came_back(&back);
        }
        Ok(())
    }
}

/// Whether an error says nothing about the pack: the store is closed, or the system has no more files or memory to give.
pub(crate) fn is_shortage(error: &StoreError) -> bool {
    match error {
        StoreError::Poisoned => true,
        StoreError::Io { source, .. } => matches!(
            Errno::from_io_error(source),
            Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::INTR)
        ),
        _ => false,
    }
}

/// The row of a pack that is here, or was and is to be here again.
fn kept(reads: &impl Reads, hash: &PackHash) -> Result<Option<Pack>, Error> {
    let pack = index::pack(reads, hash)?;
    Ok(pack.filter(|pack| matches!(pack.state, PackState::Present { .. } | PackState::Lost)))
}
