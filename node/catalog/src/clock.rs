//! The hybrid logical clock of entries: 48 bits of unix milliseconds, 16 bits of counter
//! (`docs/spec/04-spaces.md`, "Log entry" and "Future clocks").
//!
//! No clock is read here; the time is an argument.

use locker_crypto::Refusal;

/// How far ahead of the local clock an entry of another device may be before it is deferred.
pub const FUTURE_MAX_MS: u64 = 10 * 60 * 1_000;

const COUNTER_BITS: u32 = 16;
const MS_MAX: u64 = u64::MAX >> COUNTER_BITS;

/// What the local clock is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Now {
    /// It agrees with the clocks of others: unix milliseconds.
    Trusted(u64),
    /// It is off (`docs/spec/04-spaces.md`, "Future clocks"): entries only follow what they know.
    Doubtful,
}

/// Returns the clock of a new entry: the time, or one more than the last own entry and every dep.
///
/// # Errors
/// [`Refusal::Time`] when the clock is exhausted (an entry with the greatest clock is known, or the year is beyond
/// 10,800): the device then enrols anew.
pub fn next(last: Option<u64>, deps: impl IntoIterator<Item = u64>, now: Now) -> Result<u64, Refusal> {
    let known = deps.into_iter().chain(last).max();
    let after = match known {
        Some(known) => known.checked_add(1).ok_or(Refusal::Time)?,
        None => 0,
    };
    match now {
        Now::Trusted(ms) if ms > MS_MAX => Err(Refusal::Time),
        Now::Trusted(ms) => Ok(after.max(ms << COUNTER_BITS)),
        Now::Doubtful => Ok(after),
    }
}

/// Returns the unix milliseconds in a clock.
pub const fn unix_ms(hlc: u64) -> u64 {
    hlc >> COUNTER_BITS
}

/// Whether an entry of another device waits at local time `now_ms`: stored and relayed, not applied, not named.
///
/// A device never defers its own entries; of its own head this says that it must enrol anew.
pub const fn is_ahead(hlc: u64, now_ms: u64) -> bool {
    unix_ms(hlc) > now_ms.saturating_add(FUTURE_MAX_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_time_and_knowledge() {
        assert_eq!(next(None, [], Now::Trusted(5)).unwrap(), 5 << 16);
        assert_eq!(next(Some(5 << 16), [], Now::Trusted(5)).unwrap(), (5 << 16) + 1);
        assert_eq!(next(Some(1), [9 << 16, 3], Now::Trusted(5)).unwrap(), (9 << 16) + 1);
        assert_eq!(next(Some(7), [3], Now::Doubtful).unwrap(), 8);
        assert_eq!(next(None, [], Now::Doubtful).unwrap(), 0);
        // The counter runs over into the milliseconds, and the order holds.
        assert_eq!(next(Some((5 << 16) | 0xffff), [], Now::Trusted(5)).unwrap(), 6 << 16);
        assert_eq!(next(Some(u64::MAX), [], Now::Trusted(5)).unwrap_err(), Refusal::Time);
        assert_eq!(next(None, [], Now::Trusted(1 << 48)).unwrap_err(), Refusal::Time);
    }

    /// T94, the limit: ten minutes ahead is applied, one millisecond more waits.
    #[test]
    fn t94_more_than_ten_minutes_ahead_waits() {
        let now_ms = 1_800_000_000_000;
        assert!(!is_ahead((now_ms + FUTURE_MAX_MS) << 16 | 0xffff, now_ms));
        assert!(is_ahead((now_ms + FUTURE_MAX_MS + 1) << 16, now_ms));
        assert!(!is_ahead(0, now_ms));
        assert!(!is_ahead(u64::MAX, u64::MAX));
    }
}
