//! Latencies, of which every quantile is right to three digits.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;

const DIGITS: u8 = 3;

/// Some latencies.
#[derive(Debug)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// None yet.
    ///
    /// # Errors
    /// Never: the number of digits is a good one.
    pub fn new() -> Result<Self> {
        Ok(Self(Histogram::new(DIGITS)?))
    }

    /// One more.
    pub fn record(&mut self, latency: Duration) {
        // Grows as far as it must: `saturating_record` would not.
        let _always_fits = self.0.record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    /// Those of another connection.
    ///
    /// # Errors
    /// Never: all have the same digits.
    pub fn add(&mut self, other: &Self) -> Result<()> {
        Ok(self.0.add(&other.0)?)
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Milliseconds that the share `quantile` stayed within.
    #[must_use]
    pub fn ms(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_told_from_milliseconds() {
        let mut latencies = Latencies::new().unwrap();
        for _ in 0..99 {
            latencies.record(Duration::from_millis(5));
        }
        latencies.record(Duration::from_secs(70));
        assert!((latencies.ms(0.5) - 5.0).abs() < 0.1, "{}", latencies.ms(0.5));
        assert!((latencies.ms(1.0) - 70_000.0).abs() < 100.0, "{}", latencies.ms(1.0));
    }
}
