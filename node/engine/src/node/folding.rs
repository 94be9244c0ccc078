//! Folding while the node runs (`docs/spec/05-tree.md`, "Folding"): what this device and others took in apart becomes one.
//!
//! One device of the person does it after a short quiet; the others wait longer, in case that one is not there. What is
//! to be folded is the catalog's to say; here is only when, and the commits.

use std::sync::Arc;
use std::time::Duration;

use locker_catalog::operation::{EntryRef, Role};
use locker_catalog::space::{OwnState, Space};
use locker_catalog::tree::{self as catalog, Bounds};
use locker_store::Reads;
use tokio::time::Instant;

use super::hub::Hub;
use crate::Error;
use crate::limits::ENTRY_OPS;
use crate::locker::Inner;

/// How long nothing may be written before the first device folds.
const QUIET: Duration = Duration::from_secs(2);
/// How long the others wait.
const OTHERS_WAIT: Duration = Duration::from_secs(60);
/// Operations of one commit.
const STEP: Bounds = Bounds { ops: ENTRY_OPS, groups: usize::MAX };

/// What a look for pairs gave.
enum Look {
    /// Nothing is to be folded, until the next commit.
    Nothing,
    /// Nothing is to be folded, but what was looked at is still noted.
    Noted,
    /// Something is to be folded, as the logs are at these heads.
    Pairs(Vec<EntryRef>),
}

/// Folds, until the node stops.
pub(super) async fn run(hub: Arc<Hub>) {
    let mut commits = hub.inner().commits();
    let mut written: (Vec<EntryRef>, Instant) = (Vec::new(), Instant::now());
    loop {
        let count = *commits.borrow_and_update();
        let due = match hub.blocking(Inner::look_for_pairs).await {
            Ok(Look::Nothing) => {
                hub.note_folded(count);
                None
            }
            Ok(Look::Noted) => Some(Instant::now()),
            Ok(Look::Pairs(heads)) => {
                if heads != written.0 {
                    written = (heads, Instant::now());
                }
                Some(written.1 + if is_first(&hub) { QUIET } else { OTHERS_WAIT })
            }
            // The store is in trouble, or this device has not heard of its keys yet: the next commit shows.
            Err(_) => None,
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
            Some(false) => continue,
            Some(true) => {}
        }
        // Step by step: another device's entries come in between, and the next step is planned on them too.
        loop {
            match hub.until_stop(hub.blocking(Inner::fold_step)).await {
                None => return,
                Some(Ok(true)) => {}
                Some(Ok(false)) => break,
                Some(Err(_)) => {
                    // Not again before something has changed.
                    if hub.until_stop(commits.changed()).await.is_none() {
                        return;
                    }
                    break;
                }
            }
        }
    }
}

/// Whether this device is the one to fold: of the person's active devices the one with the smallest key.
fn is_first(hub: &Hub) -> bool {
    hub.roster().first().is_none_or(|first| *first == hub.inner().keys().device_id())
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
        let may_write = matches!(space.own_role(), Role::Write | Role::Manage) && !space.is_read_only();
        if !may_write || space.own_state(&rows, self.env().now_ms())? != OwnState::Fine {
            return Ok(Look::Nothing);
        }
        let fold = catalog::fold(&rows, &space, Bounds { ops: 1, groups: 1 })?;
        Ok(if !fold.ops.is_empty() {
            Look::Pairs(space.heads(&rows)?)
        } else if fold.is_empty() {
            Look::Nothing
        } else {
            Look::Noted
        })
    }

    /// Folds one step; whether another one may follow.
    fn fold_step(&self) -> Result<bool, Error> {
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
