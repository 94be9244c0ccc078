//! The hybrid logical clock of entries: 48 bits of unix milliseconds, 16 bits of counter
//! (`docs/spec/04-spaces.md`, "Log entry" and "Future clocks").
//!
//! No clock is read here; the time is an argument.

use locker_crypto::Refusal;

/// How far ahead of the local clock an entry of another device may be before it is deferred.
pub const FUTURE_MAX_MS: u64 = 10 * 60 * 1_000;
/// How far the local clock may be off those of others before it is doubted.
pub const APART_MAX_MS: u64 = 5 * 60 * 1_000;
/// So many others must have told their time before anything is judged by it.
pub const WITNESSES_MIN: usize = 2;

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

impl Now {
    /// Judges the local clock by how far those of others are ahead of it, in milliseconds.
    pub fn judge(now_ms: u64, others_ahead_ms: &[i64]) -> Self {
        let is_enough = others_ahead_ms.len() >= WITNESSES_MIN;
        match median_ahead(others_ahead_ms) {
            Some(ahead_ms) if is_enough && is_apart(ahead_ms) => Self::Doubtful,
            _ => Self::Trusted(now_ms),
        }
    }
}

fn is_apart(ahead_ms: i64) -> bool {
    ahead_ms.unsigned_abs() > APART_MAX_MS
}

/// The lower and the upper middle of some clocks; one and the same of an odd number.
fn middle(others_ahead_ms: &[i64]) -> Option<(i64, i64)> {
    let mut sorted = others_ahead_ms.to_vec();
    sorted.sort_unstable();
    let high = *sorted.get(sorted.len() / 2)?;
    let low = *sorted.get(sorted.len().saturating_sub(1) / 2)?;
    Some((low, high))
}

/// How far the clocks of others are ahead of the local one: their median. Of the two in the middle of an even
/// number the one nearer to the local clock counts, and the local one if it lies between. `None` without others.
pub fn median_ahead(others_ahead_ms: &[i64]) -> Option<i64> {
    middle(others_ahead_ms).map(|(low, high)| 0_i64.clamp(low, high))
}

/// The time by which a device may find that it wrote ahead of time: the later one of its clock and the median of
/// others, if there are enough of these and they agree with it. What lies ahead of that lies ahead of both.
pub fn agreed(now_ms: u64, others_ahead_ms: &[i64]) -> Option<u64> {
    let is_enough = others_ahead_ms.len() >= WITNESSES_MIN;
    let (low, high) = middle(others_ahead_ms).filter(|_| is_enough)?;
    let agrees = !is_apart(low) && !is_apart(high);
    agrees.then(|| now_ms.max(now_ms.saturating_add_signed(high)))
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

/// Returns the first clock of a time in unix milliseconds; the last there is of one beyond all.
pub const fn first_of(unix_ms: u64) -> u64 {
    unix_ms.saturating_mul(1 << COUNTER_BITS)
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

/// The least clock of which [`is_ahead`] is true; `None` if there is none.
pub const fn first_ahead(now_ms: u64) -> Option<u64> {
    let ms = now_ms.saturating_add(FUTURE_MAX_MS).saturating_add(1);
    if ms > MS_MAX { None } else { Some(ms << COUNTER_BITS) }
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

    #[test]
    fn the_first_clock_ahead_is_the_least() {
        for now_ms in [0, 7, 1_800_000_000_000, MS_MAX - FUTURE_MAX_MS - 1] {
            let first = first_ahead(now_ms).unwrap();
            assert!(is_ahead(first, now_ms) && !is_ahead(first - 1, now_ms));
        }
        for now_ms in [MS_MAX - FUTURE_MAX_MS, u64::MAX] {
            assert_eq!(first_ahead(now_ms), None);
            assert!(!is_ahead(u64::MAX, now_ms));
        }
    }

    /// T94: more than five minutes off the median of two others, the clock is doubted; by one alone never. Whether this
    /// device wrote ahead of time is judged by enough others that agree with it, and by nothing less.
    #[test]
    fn t94_a_clock_is_judged_by_the_median_of_others() {
        let now_ms = 1_800_000_000_000;
        let limit = i64::try_from(APART_MAX_MS).unwrap();
        let year = 365 * 86_400_000;
        for (others, is_doubted, agreed_ms) in [
            (&[0_i64; 0][..], false, None),
            (&[0], false, None),
            (&[year], false, None),
            (&[7, 9], false, Some(now_ms + 9)),
            (&[-7, -9], false, Some(now_ms)),
            (&[limit, limit], false, Some(now_ms + APART_MAX_MS)),
            (&[limit + 1, limit], false, None),
            (&[limit + 1, limit + 1], true, None),
            (&[360_000, 361_000], true, None),
            (&[-limit, -limit - 1], false, None),
            (&[-limit - 1, -limit - 1], true, None),
            // One that is wrong says nothing against the own clock and another one, nor do two that disagree.
            (&[year, 0], false, None),
            (&[year, -year], false, None),
            (&[year, 3, 5], false, Some(now_ms + 5)),
            (&[year, 3, 5, -4], false, Some(now_ms + 5)),
            (&[year, 2 * year, 5], true, None),
            (&[i64::MAX, i64::MAX], true, None),
            (&[i64::MIN, i64::MIN, i64::MAX], true, None),
        ] {
            let expected = if is_doubted { Now::Doubtful } else { Now::Trusted(now_ms) };
            assert_eq!(Now::judge(now_ms, others), expected, "{others:?}");
            assert_eq!(agreed(now_ms, others), agreed_ms, "{others:?}");
        }
        assert_eq!(agreed(u64::MAX, &[7, 9]), Some(u64::MAX));
        assert_eq!(median_ahead(&[]), None);
        assert_eq!([median_ahead(&[-4]), median_ahead(&[3, 9, 5])], [Some(-4), Some(5)]);
        assert_eq!([median_ahead(&[3, 9]), median_ahead(&[-3, 9])], [Some(3), Some(0)]);
    }
}
