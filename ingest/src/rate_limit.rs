//! A per-second limit on work and log lines whose volume outsiders control.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Counts uses within one second.
#[derive(Debug)]
pub(crate) struct RateLimit {
    per_second: u64,
    started: Instant,
    /// The current second, counted from `started`: the wall clock may jump.
    second: AtomicU64,
    /// Uses in that second.
    used: AtomicU64,
}

impl RateLimit {
    pub(crate) fn per_second(per_second: u64) -> Self {
        Self { per_second, started: Instant::now(), second: AtomicU64::new(0), used: AtomicU64::new(0) }
    }

    /// Whether one more use is within the limit.
    pub(crate) fn take(&self) -> bool {
        self.take_in(self.started.elapsed().as_secs())
    }

    fn take_in(&self, second: u64) -> bool {
        // Threads may report two seconds interleaved: only a later one begins a new count.
        if self.second.fetch_max(second, Ordering::Relaxed) < second {
            self.used.store(0, Ordering::Relaxed);
        }
        self.used.fetch_add(1, Ordering::Relaxed) < self.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_across_a_second_boundary() {
        let limit = RateLimit::per_second(100);
        let taken = (0..1000).filter(|number| limit.take_in(7 + number % 2)).count();
        assert!((100..=200).contains(&taken), "{taken}");
        assert!(!limit.take_in(8));
        assert!(limit.take_in(9));
    }
}
