//! Whether the clock of this device can be right: against what was written, and against the clocks of others.

use locker_catalog::clock::{
    APART_MAX_MS as CLOCK_APART_MS, FUTURE_MAX_MS as CLOCK_AHEAD_MS, Now, median_ahead,
};
use locker_catalog::space::{OwnState, Space};
use locker_store::Reads;

use crate::Error;
use crate::locker::Inner;
use crate::node::Hub;
use crate::report::Check;

const NAME: &str = "clock";
const CURE: &str = "Set the clock of this machine, and let it be kept by the network (NTP).";

/// What is known of the clock.
#[derive(Clone, Default, Debug)]
struct Facts {
    /// Whether this device wrote at a time that its clock has not reached.
    is_behind_itself: bool,
    /// How far the newest entry of any device lies ahead of the clock, in milliseconds; 0 if it does not.
    behind_log_ms: u64,
    /// How far the clocks of other devices are ahead of this one, in milliseconds.
    others_ahead_ms: Vec<i64>,
}

/// Looks at the clock.
pub(super) fn look(hub: &Hub) -> Check {
    match facts(hub) {
        Ok(facts) => judge(facts),
        Err(why) => {
            Check::failed(NAME, "The clock could not be compared.", format!("{why}."), super::store::CURE)
        }
    }
}

fn facts(hub: &Hub) -> Result<Facts, Error> {
    let inner: &Inner = hub.inner();
    let snapshot = inner.store()?.read()?;
    let (keys, rows) = (inner.keys(), snapshot.rows(inner.space_tag()));
    let space = Space::open(&rows, keys.space, keys.device_id())?;
    let now_ms = inner.env().now_ms();
    let heads = space.heads(&rows)?;
    let newest_ms = space.next_hlc(&rows, &heads, Now::Trusted(0))?.map_or(0, |hlc| hlc >> 16);
    Ok(Facts {
        is_behind_itself: space.own_state(&rows, now_ms)? == OwnState::Ahead,
        behind_log_ms: newest_ms.saturating_sub(now_ms),
        others_ahead_ms: hub.clocks(),
    })
}

fn judge(facts: Facts) -> Check {
    if facts.is_behind_itself || facts.behind_log_ms > CLOCK_AHEAD_MS {
        let found = format!(
            "The clock is {} behind what has been written.",
            apart(facts.behind_log_ms.max(CLOCK_AHEAD_MS))
        );
        let cause = "It was set back, or it was ahead when this was written, here or on another device.";
        return Check::failed(NAME, found, cause, CURE);
    }
    let count = facts.others_ahead_ms.len();
    let Some(median) = median_ahead(&facts.others_ahead_ms) else {
        return Check::ok(
            NAME,
            "The clock fits what has been written; no other device was there to compare it with.",
        );
    };
    if median.unsigned_abs() > CLOCK_APART_MS {
        let side = if median > 0 { "behind" } else { "ahead of" };
        let found =
            format!("The clock is {} {side} that of the other devices.", apart(median.unsigned_abs()));
        let cause = match count {
            1 => "This clock or that of the one device that was met is wrong.",
            _ => "This clock is wrong, for those of several devices agree.",
        };
        return Check::failed(NAME, found, cause, CURE);
    }
    Check::ok(NAME, format!("The clock fits what has been written and agrees with {}.", devices(count)))
}

fn devices(count: usize) -> String {
    if count == 1 { "that of another device".into() } else { format!("those of {count} other devices") }
}

/// A length of time as people say it.
fn apart(ms: u64) -> String {
    match ms / 60_000 {
        minutes @ 0..120 => format!("{minutes} minutes"),
        minutes @ 120..2_880 => format!("{} hours", minutes / 60),
        minutes => format!("{} days", minutes / 1_440),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::CheckState;

    fn state(facts: Facts) -> CheckState {
        judge(facts).state
    }

    #[test]
    fn a_clock_is_judged_by_the_log_and_by_the_median_of_others() {
        assert_eq!(state(Facts::default()), CheckState::Ok);
        assert_eq!(state(Facts { is_behind_itself: true, ..Facts::default() }), CheckState::Failed);
        assert_eq!(state(Facts { behind_log_ms: CLOCK_AHEAD_MS, ..Facts::default() }), CheckState::Ok);
        assert_eq!(
            state(Facts { behind_log_ms: CLOCK_AHEAD_MS + 1, ..Facts::default() }),
            CheckState::Failed
        );
        let others =
            |others_ahead_ms: &[i64]| Facts { others_ahead_ms: others_ahead_ms.into(), ..Facts::default() };
        let limit = i64::try_from(CLOCK_APART_MS).unwrap();
        for (ahead, expected) in [
            (&[limit][..], CheckState::Ok),
            (&[limit + 1], CheckState::Failed),
            (&[-limit - 1], CheckState::Failed),
            // One that is wrong says nothing against two.
            (&[10 * limit, 3, 5], CheckState::Ok),
            (&[10 * limit, 11 * limit, 5], CheckState::Failed),
        ] {
            assert_eq!(state(others(ahead)), expected, "{ahead:?}");
        }
        let told = judge(others(&[7_200_000]));
        assert_eq!(told.found, "The clock is 2 hours behind that of the other devices.");
        assert!(judge(others(&[-172_800_000])).found.contains("2 days ahead"));
    }
}
