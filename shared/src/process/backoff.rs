//! The pause between two attempts: it doubles up to a maximum, with jitter so that many processes do not retry in step.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// The attempts at one thing.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
    attempts: usize,
}

impl Backoff {
    /// Before the first attempt.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first, attempts: 0 }
    }

    /// How long to wait now: between half of the current pause and all of it. The next pause is twice as long.
    pub fn pause(&mut self) -> Duration {
        let pause = jittered(self.next);
        self.next = self.next.saturating_mul(2).min(self.longest);
        self.attempts = self.attempts.saturating_add(1);
        pause
    }

    /// Pauses since the last success.
    #[must_use]
    pub fn attempts(&self) -> usize {
        self.attempts
    }

    /// Starts over after a success.
    pub fn reset(&mut self) {
        *self = Self::new(self.first, self.longest);
    }
}

fn jittered(pause: Duration) -> Duration {
    // The standard library's hash keys are random: good enough to spread attempts, without a dependency.
    let random = RandomState::new().build_hasher().finish();
    let half = pause / 2;
    let spread_nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
    half.saturating_add(Duration::from_nanos(random.checked_rem(spread_nanos).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_over_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(300));
        for whole in [100, 200, 300, 300].map(Duration::from_millis) {
            let pause = backoff.pause();
            assert!(pause >= whole / 2 && pause <= whole, "{pause:?} of {whole:?}");
        }
        assert_eq!(backoff.attempts(), 4);
        backoff.reset();
        assert_eq!(backoff.attempts(), 0);
        assert!(backoff.pause() <= Duration::from_millis(100));
    }
}
