//! So many a second and no more: for work and log lines whose number somebody else decides.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Counts what is done within one second.
#[derive(Debug)]
pub(crate) struct Allowance {
    per_second: u64,
    started: Instant,
    /// Counted from `started`: the clock on the wall may jump.
    second: AtomicU64,
    /// In that second.
    used: AtomicU64,
}

impl Allowance {
    pub(crate) fn per_second(per_second: u64) -> Self {
        Self { per_second, started: Instant::now(), second: AtomicU64::new(0), used: AtomicU64::new(0) }
    }

    /// Whether there was one left.
    pub(crate) fn take(&self) -> bool {
        self.take_in(self.started.elapsed().as_secs())
    }

    fn take_in(&self, second: u64) -> bool {
        // Requests of two seconds may come mixed: only a later one begins a new count.
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
    fn it_holds_also_when_two_seconds_come_mixed() {
        let allowance = Allowance::per_second(100);
        let taken = (0..1000).filter(|number| allowance.take_in(7 + number % 2)).count();
        assert!((100..=200).contains(&taken), "{taken}");
        assert!(!allowance.take_in(8));
        assert!(allowance.take_in(9));
    }
}
