//! Histograms of times.

use std::time::Duration;

/// The upper bounds of the histogram of response times, in µs. What is longer is in one more bucket.
pub const DURATION_BOUNDS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];
/// The number of buckets: one for each bound, and one for longer times.
pub(super) const BUCKETS: usize = DURATION_BOUNDS.len() + 1;

/// The number of response times in each bucket of [`DURATION_BOUNDS`], and beyond the last bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DurationCounts(pub [u64; BUCKETS]);

impl DurationCounts {
    /// The total.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The time that so many percent of them do not exceed, as far as the buckets show it: times are taken to be evenly
    /// distributed within a bucket, as in Prometheus' `histogram_quantile`.
    #[must_use]
    pub fn quantile(&self, percent: u64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = (u128::from(count) * u128::from(percent)).div_ceil(100).max(1);
        let (mut below, mut low) = (0, 0);
        for (number, high) in self.0.iter().zip(DURATION_BOUNDS) {
            let inside = u128::from(*number);
            if below + inside >= rank {
                let part = u128::from(high - low) * (rank - below) / inside.max(1);
                return Some(Duration::from_micros(low + u64::try_from(part).unwrap_or(0)));
            }
            (below, low) = (below + inside, high);
        }
        Some(Duration::from_micros(low))
    }
}

/// The bucket of a time.
pub(super) fn bucket(time: Duration) -> usize {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let bucket = DURATION_BOUNDS.iter().position(|bound| micros <= *bound);
    bucket.unwrap_or(DURATION_BOUNDS.len())
}

pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_within_the_bucket_that_has_it() {
        let mut counts = DurationCounts::default();
        assert_eq!(counts.quantile(50), None);
        counts.0[3] = 98;
        counts.0[6] = 2;
        let within = |percent| counts.quantile(percent).unwrap().as_micros();
        assert!((500..=1_000).contains(&within(50)), "{}", within(50));
        assert!((5_000..=10_000).contains(&within(99)), "{}", within(99));
        let beyond = DurationCounts(std::array::from_fn(|bucket| u64::from(bucket == 16)));
        assert_eq!(beyond.quantile(1), Some(Duration::from_secs(10)));
    }
}
