//! Two numbers about times: the median, and how likely it is that two lists come from one source.

use std::time::Duration;

/// The middle of a list.
pub(crate) fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

/// The p-value of the test of Kolmogorov and Smirnov for two samples, by its limit for long lists (Press et al.,
/// Numerical Recipes, section 14.3).
pub(crate) fn ks_p(one: &[Duration], other: &[Duration]) -> f64 {
    let sorted = |times: &[Duration]| {
        let mut sorted = times.to_vec();
        sorted.sort_unstable();
        sorted
    };
    let (one, other) = (sorted(one), sorted(other));
    let (n, m) = (one.len() as f64, other.len() as f64);
    let below = |list: &[Duration], value: Duration| list.partition_point(|time| *time <= value) as f64;
    let distance = one
        .iter()
        .chain(&other)
        .map(|value| (below(&one, *value) / n - below(&other, *value) / m).abs())
        .fold(0.0, f64::max);
    let root = (n * m / (n + m)).sqrt();
    let lambda = (root + 0.12 + 0.11 / root) * distance;
    if lambda < 0.2 {
        return 1.0;
    }
    let term = |k: i32| {
        let sign = if k % 2 == 1 { 1.0 } else { -1.0 };
        sign * (-2.0 * f64::from(k * k) * lambda * lambda).exp()
    };
    (2.0 * (1..=100).map(term).sum::<f64>()).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(from: u64, step: u64) -> Vec<Duration> {
        (0..200).map(|n| Duration::from_micros(from + n * step % 2_000)).collect()
    }

    /// The control of the timing rows: a shift that matters is seen, and none is seen where there is none.
    #[test]
    fn a_shift_is_seen_and_none_is_not() {
        assert_eq!(median(&list(0, 10)), Duration::from_micros(1_000));
        assert!(ks_p(&list(0, 10), &list(0, 10)) > 0.99);
        assert!(ks_p(&list(0, 10), &list(7, 10)) > 0.5);
        assert!(ks_p(&list(0, 10), &list(500, 10)) < 0.001);
    }
}
