//! What is wrong with this device itself.

use locker_catalog::clock::{Now, median_ahead};
use locker_catalog::roster::Roster;
use locker_catalog::space::{OwnState, Space};
use locker_crypto::Refusal;
use locker_crypto::person::{Entry, Op};
use locker_store::{Reads, Snapshot};

use super::{SET_BACK_SHOWN_S, span};
use crate::Error;
use crate::keys::person_log;
use crate::locker::Inner;
use crate::rebirth::{Doubt, Sign, rebirths};
use crate::report::{Problem, Reborn};

/// Whether this device wrote at a time that its clock has not reached.
pub(super) fn ahead(inner: &Inner, snapshot: &Snapshot) -> Result<Option<Problem>, Error> {
    let (keys, rows) = (inner.keys(), snapshot.rows(inner.space_tag()));
    let space = Space::open(&rows, keys.space, keys.device_id())?;
    let is_ahead = space.own_state(&rows, inner.env().now_ms())? == OwnState::Ahead;
    Ok(is_ahead.then(|| Problem {
        code: Refusal::Time.code().into(),
        message: "this device has written at a time that its clock has not reached. If the clock is behind, put it \
                  right. If it was ahead, other devices show what this one writes only when that time has come; but as \
                  soon as it meets two others at once whose clocks agree with its own, it goes on under a new key and \
                  writes all of it again"
            .into(),
    }))
}

/// What the clocks of other devices say of that of this one.
pub(super) fn doubted(inner: &Inner) -> Option<Problem> {
    let others = inner.clocks();
    let ahead_ms = median_ahead(&others).filter(|_| inner.now() == Now::Doubtful)?;
    let (side, apart) = (if ahead_ms > 0 { "behind" } else { "ahead of" }, span(ahead_ms.unsigned_abs()));
    Some(Problem {
        code: Refusal::Time.code().into(),
        message: format!(
            "the clock of this device is {apart} {side} those of the others. Until it is right, what is written here is \
             dated just after what was written last. Set it, and let it be kept by the network (NTP)"
        ),
    })
}

/// Whether this device was ended, or never was one.
pub(super) fn ended(inner: &Inner, snapshot: &Snapshot) -> Result<Option<Problem>, Error> {
    let (keys, own) = (inner.keys(), inner.keys().device_id());
    let log = person_log(snapshot, &keys.person)?;
    let roster = Roster::read(keys.person, &log);
    let recovers = |entry: &Entry| entry.body.ops.iter().any(|op| matches!(op, Op::Recover { .. }));
    let why = if roster.removed.contains_key(&own) {
        "this device was ended: by another one, or by a recovery. The others do not let it in, and what is written here \
         reaches nobody"
    } else if roster.brought_in.contains(&own) {
        return Ok(None);
    } else if log.iter().any(|entry| entry.author == own && recovers(entry)) {
        "this device is none of the locker: it came back by words that had been changed by then. The others do not let it \
         in, and what is written here reaches nobody; recover by the words in use, and take what is here over with \
         `locker leave`"
    } else {
        "this device is none of the locker: the one that added it was ended, or the locker was recovered elsewhere at the \
         same time. What is written here reaches nobody; take it over with `locker leave`, and join again"
    };
    Ok(Some(Problem { code: Refusal::Revoked.code().into(), message: why.into() }))
}

/// What the last look at the rows of the database found.
pub(super) fn damaged_rows(inner: &Inner) -> Option<Problem> {
    let count = inner.suspects().row_flaws();
    (count > 0).then(|| Problem {
        code: Refusal::Tag.code().into(),
        message: "rows of the database of this device are damaged; run `locker verify` to see which".into(),
    })
}

/// What stands in the way of this device, or of what was written under a key that two homes had.
pub(super) fn in_doubt(inner: &Inner, snapshot: &Snapshot) -> Result<Vec<Problem>, Error> {
    let mut found = Vec::new();
    // Of what was written ahead of time the person is told already, and it goes on.
    if let Some(doubt) = Doubt::read(snapshot)?.filter(|doubt| doubt.sign.stops()) {
        let (code, why) = match doubt.sign {
            Sign::Behind => (
                Refusal::Rollback,
                "its home is an older copy: another device has more of it than it has itself",
            ),
            Sign::Differs => (Refusal::Fork, "another home has the same key and wrote something else"),
            Sign::Replaced | Sign::Ahead => {
                (Refusal::Fork, "another home had the same key, and has a new one by now")
            }
        };
        found.push(Problem {
            code: code.code().into(),
            message: format!(
                "this device writes nothing until it has a new key, since {why}; another device of the locker that runs \
                 `locker up` gives it one when they meet, and nothing that was saved is lost"
            ),
        });
    }
    let count = inner.count_uncounted(snapshot)?;
    if count > 0 {
        found.push(Problem {
            code: Refusal::Fork.code().into(),
            message: format!(
                "what {count} {} of a device say that was copied or restored, or whose clock was ahead, is not shown \
                 now; it is kept, and written again when the devices that have it have met",
                if count == 1 { "entry" } else { "entries" }
            ),
        });
    }
    if inner.has_stranded(snapshot)? {
        found.push(Problem {
            code: Refusal::Node.code().into(),
            message: "something that was written into a folder or file of a device that is ended is not shown now; it is \
                      kept, and written again when the devices that have it have met"
                .into(),
        });
    }
    Ok(found)
}

/// The last change of this device's key, as long as it is told.
pub(super) fn reborn(inner: &Inner, snapshot: &Snapshot) -> Result<Option<Reborn>, Error> {
    let since = inner.env().now_ms().saturating_sub(SET_BACK_SHOWN_S * 1_000);
    let last = rebirths(snapshot)?.pop().filter(|last| last.at_ms > since);
    Ok(last.map(|last| Reborn {
        at: last.at_ms,
        was: last.old.to_string(),
        sentence: match last.sign {
            Sign::Behind => {
                "Another device knew more of this one than it did itself: its home was put back from an older copy, or \
                 copied. It goes on under a new key."
            }
            Sign::Differs | Sign::Replaced => {
                "The home of this device was copied, or put back from an older copy, and both were written to. It goes on \
                 under a new key."
            }
            Sign::Ahead => {
                "The clock of this device was ahead when it wrote, which others would have shown only when that time \
                 had come. It goes on under a new key, and writes that again."
            }
        }
        .into(),
    }))
}
