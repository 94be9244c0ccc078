//! Folding while the node runs (`docs/spec/05-tree.md`, "Folding"): what this device and others took in apart becomes one.
//!
//! One device of the person does it after a short quiet; the others wait longer, in case that one is not there. What is
//! to be folded is the catalog's to say; here is only when, and the commits.

use std::sync::Arc;
use std::time::Duration;

use locker_catalog::clock::Now;
use locker_catalog::operation::{EntryRef, Role};
use locker_catalog::space::{OwnState, Space};
use locker_catalog::tree::{self as catalog, Bounds};
use locker_store::Reads;
use tokio::time::Instant;

use super::hub::Hub;
use crate::Error;
use crate::limits::ENTRY_OPS;
use crate::locker::Inner;
use crate::rebirth::Doubt;

/// How long nothing may be written before the first device folds.
const QUIET: Duration = Duration::from_secs(2);
/// How long the others wait.
const OTHERS_WAIT: Duration = Duration::from_secs(60);
/// How old the newest entry must be: an import elsewhere that pauses between two entries is not over.
const SETTLED_MS: u64 = 10_000;
/// Pause before another look when it could not be folded, or not everything is here.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Operations of one commit.
const STEP: Bounds = Bounds { ops: ENTRY_OPS, groups: usize::MAX };

/// What a look for pairs gave.
enum Look {
    /// Nothing is to be folded, until the next commit.
    Nothing,
    /// Nothing is to be folded, but what was looked at is still noted.
    Noted,
    /// Something is to be folded, as the logs are at these heads, the newest entry of which is of this time (unix
    /// milliseconds).
    Pairs(Vec<EntryRef>, u64),
}

/// Folds, until the node stops.
pub(super) async fn run(hub: Arc<Hub>) {
    let mut commits = hub.inner().commits();
    let mut written: (Vec<EntryRef>, Instant) = (Vec::new(), Instant::now());
    loop {
        let count = *commits.borrow_and_update();
        let mut folds = false;
        let due = match hub.blocking(Inner::look_for_pairs).await {
            Ok(Look::Nothing) => {
                hub.note_folded(count);
                None
            }
            Ok(Look::Noted) => {
                let settled = hub.until_stop(hub.blocking(Inner::settle_folds)).await;
                let Some(settled) = settled else { return };
                // Settling is a commit, after which it is looked again; one that failed is tried again.
                settled.is_err().then(|| Instant::now() + LOOK_AGAIN)
            }
            Ok(Look::Pairs(heads, newest_ms)) => {
                // What is folded on half a log would throw the other half out of its folders.
                let is_level = hub.is_level();
                let is_whole = is_level && hub.has_what_was_shown(&heads);
                if is_level && !is_whole {
                    // Somebody once had more, who may never come back: nobody waits for that.
                    hub.note_folded(count);
                }
                if heads != written.0 || !is_whole {
                    written = (heads, Instant::now());
                }
                let quiet = written.1 + if hub.is_first_present() { QUIET } else { OTHERS_WAIT };
                let age_ms = hub.inner().env().now_ms().saturating_sub(newest_ms);
                let settled = Instant::now() + Duration::from_millis(SETTLED_MS.saturating_sub(age_ms));
                folds = is_whole;
                Some(if is_whole { quiet.max(settled) } else { Instant::now() + LOOK_AGAIN })
            }
            // The store is in trouble, or this device has not heard of its keys yet.
            Err(_) => Some(Instant::now() + LOOK_AGAIN),
        };
        let pause = async {
            match due {
                Some(time) => tokio::time::sleep_until(time).await,
                None => std::future::pending().await,
            }
        };
        let ready = async {
            tokio::select! {
                () = pause => true,
                changed = commits.changed() => { let _ = changed; false }
            }
        };
        match hub.until_stop(ready).await {
            None => return,
            Some(true) if folds => {}
            Some(_) => continue,
        }
        // Step by step: another device's entries come in between, and the next step is planned on them too.
        loop {
            match hub.until_stop(hub.blocking(Inner::fold_step)).await {
                None => return,
                Some(Ok(true)) => {}
                Some(Ok(false)) => break,
                // An import runs, the disk is full: later.
                Some(Err(_)) => {
                    if hub.until_stop(tokio::time::sleep(LOOK_AGAIN)).await.is_none() {
                        return;
                    }
                    break;
                }
            }
        }
    }
}

impl Inner {
    /// Looks whether something is to be folded, and by this device's right.
    fn look_for_pairs(&self) -> Result<Look, Error> {
        let store = self.store()?;
        let snapshot = store.read()?;
        let rows = snapshot.rows(self.space_tag());
        if !catalog::has_twins(&rows)? {
            return Ok(Look::Nothing);
        }
        let space = Space::open(&rows, self.keys().space, self.keys().device_id())?;
        let is_whole = Doubt::read(&snapshot)?.is_none() && !self.is_to_write_again(&snapshot, &space)?;
        // What is folded would name what is held here, or be planned on a tree that nobody sees.
        let is_whole = is_whole && !space.is_apart();
        let may_write = matches!(space.own_role(), Role::Write | Role::Manage) && !space.is_read_only();
        // What is to be written again comes first: it may be what is to be folded.
        if !is_whole || !may_write || space.own_state(&rows, self.env().now_ms())? != OwnState::Fine {
            return Ok(Look::Nothing);
        }
        let fold = catalog::fold(&rows, &space, Bounds { ops: 1, groups: 1 })?;
        Ok(if !fold.ops.is_empty() {
            let heads = space.heads(&rows)?;
            let next = space.next_hlc(&rows, &heads, Now::Trusted(0))?;
            Look::Pairs(heads, next.map_or(0, |hlc| hlc >> 16))
        } else if fold.is_empty() {
            Look::Nothing
        } else {
            Look::Noted
        })
    }

    /// Takes off the list what turned out to need no folding.
    fn settle_folds(&self) -> Result<(), Error> {
        self.commit(|change| {
            let fold = change.plan_fold(STEP)?;
            change.settle_fold(&fold.settled)
        })
    }

    /// Folds one step; whether another one may follow.
    fn fold_step(&self) -> Result<bool, Error> {
        // An import has looked up the folders and files into which it will write.
        let Some(_turn) = self.try_import_turn() else { return Err(Error::Busy { pid: None }) };
        match self.fold_within(STEP) {
            // One pair among many that cannot be folded does not hold up the others; alone, it is left as it is.
            Err(error) if is_refused(&error) => match self.fold_within(Bounds { groups: 1, ..STEP }) {
                Err(error) if is_refused(&error) => self.leave_first_pair(),
                other => other,
            },
            other => other,
        }
    }

    fn fold_within(&self, bounds: Bounds) -> Result<bool, Error> {
        self.commit(|change| {
            let fold = change.plan_fold(bounds)?;
            change.settle_fold(&fold.settled)?;
            let goes_on = !fold.ops.is_empty() || fold.is_part;
            fold.ops.into_iter().try_for_each(|op| change.push(op))?;
            Ok(goes_on)
        })
    }

    fn leave_first_pair(&self) -> Result<bool, Error> {
        self.commit(|change| {
            // What this device may not write at all says nothing about the pair.
            if !change.may_write()? {
                return Ok(false);
            }
            let fold = change.plan_fold(Bounds { groups: 1, ..STEP })?;
            change.settle_fold(&fold.settled)?;
            change.settle_fold(&fold.folded)?;
            Ok(true)
        })
    }
}

/// Whether a writer must not write this: the pair then stays as it is.
fn is_refused(error: &Error) -> bool {
    matches!(error, Error::Refused(_) | Error::Limit(_) | Error::Name { .. } | Error::IntoItself(_))
}
