//! Latencies, and the time within which a share of them stayed. Every latency is kept, in whole microseconds, so that a
//! quantile is exact.

use std::time::Duration;

/// A collection of latencies.
#[derive(Debug, Clone, Default)]
pub struct Latencies(Vec<u32>);

impl Latencies {
    /// Adds one. A latency of more than an hour counts as an hour and eleven minutes.
    pub fn record(&mut self, latency: Duration) {
        self.0.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
    }

    /// Adds those of another connection.
    pub fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The shortest time within which `per_mille` of a thousand latencies stayed, by nearest rank: 500 is the median,
    /// 1000 the longest. Zero when there are no latencies.
    #[must_use]
    pub fn within(&self, per_mille: usize) -> Duration {
        let rank = self.0.len().saturating_mul(per_mille).div_ceil(1000).saturating_sub(1);
        if rank >= self.0.len() {
            return Duration::ZERO;
        }
        let mut latencies = self.0.clone();
        let (_, latency, _) = latencies.select_nth_unstable(rank);
        Duration::from_micros(u64::from(*latency))
    }

    /// [`Self::within`] in milliseconds.
    #[must_use]
    #[expect(clippy::float_arithmetic, reason = "a latency is no sum of money")]
    pub fn ms(&self, per_mille: usize) -> f64 {
        self.within(per_mille).as_secs_f64() * 1000.0
    }
}
