//! Whether the lanes are behind. A full batch means that more messages are waiting, and then the relay holds back.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a full batch counts as evidence of a backlog.
const VALID_FOR: Duration = Duration::from_secs(1);

/// When a lane last committed a full batch.
#[derive(Debug, Default)]
pub struct Backlog(Mutex<Option<Instant>>);

impl Backlog {
    /// Records that a full batch was committed at `now`.
    pub fn note_full_batch(&self, now: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// Whether the lanes are behind at `now`.
    #[must_use]
    pub fn lanes_are_behind(&self, now: Instant) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| now.saturating_duration_since(last) < VALID_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_batch_counts_as_a_backlog_for_one_second() {
        let (backlog, start) = (Backlog::default(), Instant::now());
        assert!(!backlog.lanes_are_behind(start));
        backlog.note_full_batch(start);
        assert!(backlog.lanes_are_behind(start + Duration::from_millis(999)));
        assert!(!backlog.lanes_are_behind(start + Duration::from_secs(1)));
    }
}
