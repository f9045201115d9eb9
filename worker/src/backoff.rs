//! The pause between two tries: doubling, capped, with jitter so that many workers do not come back at once.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3);

/// Counts tries of one thing.
pub struct Backoff {
    attempts: usize,
    next: Duration,
}

impl Backoff {
    /// No try yet.
    #[must_use]
    pub fn new() -> Self {
        Self { attempts: 0, next: FIRST }
    }

    /// How many pauses there have been since the last success.
    #[must_use]
    pub fn attempts(&self) -> usize {
        self.attempts
    }

    /// It worked.
    pub fn reset(&mut self) {
        *self = Self::new();
    }

    /// Waits half to a whole of the current pause, then doubles it. Ends early on `stop`.
    pub async fn pause(&mut self, stop: &CancellationToken) {
        let half = self.next / 2;
        // The low bits of a fresh random UUID: all the randomness that a jitter needs.
        let jitter = half.saturating_mul(u32::from(uuid::Uuid::now_v7().as_bytes()[15])) / 255;
        tokio::select! {
            () = tokio::time::sleep(half + jitter) => {}
            () = stop.cancelled() => {}
        }
        self.attempts = self.attempts.saturating_add(1);
        self.next = self.next.saturating_mul(2).min(LONGEST);
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}
