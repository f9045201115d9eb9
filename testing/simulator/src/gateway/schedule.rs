//! When things are sent: WeChat Pay's retry schedule, compressed, and the pace of a run. Pure.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// The gaps between attempts: 15 s, 15 s, 30 s, 3 min, 10 min, 20 min, 3 × 30 min, 60 min, 3 × 3 h, 2 × 6 h; together
/// 24 h 4 min. Source: pay.weixin.qq.com, payment result notification, v2 and v3 alike.
const RETRY_GAPS_SECONDS: [u64; 15] =
    [15, 15, 30, 180, 600, 1200, 1800, 1800, 1800, 3600, 10_800, 10_800, 10_800, 21_600, 21_600];

/// By default a day of retries takes a minute and a half: the first ones (15 ms) still come slower than an answer, and
/// the sixth (1.2 s) outlasts the restart of a process.
pub const RETRY_COMPRESSION: NonZeroU32 = match NonZeroU32::new(1000) {
    Some(factor) => factor,
    None => NonZeroU32::MIN,
};

/// The gap before retry `retry`, counted from 0; `None` when WeChat Pay gives up.
#[must_use]
pub fn retry_gap(retry: usize, compression: NonZeroU32) -> Option<Duration> {
    RETRY_GAPS_SECONDS.get(retry).map(|&seconds| Duration::from_secs(seconds) / compression.get())
}

/// The schedule of an open loop: request n is due n intervals after the start, whether or not earlier ones were
/// answered. Only time in which there was nothing to send is left out. Without a rate, every moment will do.
#[derive(Debug)]
pub struct Pace {
    interval: Option<Duration>,
    next: Instant,
    rests: bool,
}

impl Pace {
    /// `rate` in requests a second.
    #[must_use]
    pub fn new(rate: Option<NonZeroU32>, start: Instant) -> Self {
        Self { interval: rate.map(|rate| Duration::from_secs(1) / rate.get()), next: start, rests: false }
    }

    /// The moment from which a request that is ready since `ready_at` may go out.
    pub fn slot(&mut self, ready_at: Instant, now: Instant) -> Instant {
        if self.interval.is_none() {
            return now;
        }
        if self.rests {
            self.next = self.next.max(ready_at);
            self.rests = false;
        }
        self.next
    }

    /// Uses up a slot for so many requests at once.
    pub fn take(&mut self, slot: Instant, requests: usize) {
        if let Some(interval) = self.interval {
            self.next = slot + interval.saturating_mul(u32::try_from(requests).unwrap_or(u32::MAX));
        }
    }

    /// There is nothing to send for now: what is ready next starts the schedule anew.
    pub fn rest(&mut self) {
        self.rests = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_is_wechat_pays_and_ends() {
        let seconds: u64 = RETRY_GAPS_SECONDS.iter().sum();
        assert_eq!(seconds, (24 * 60 + 4) * 60);
        assert_eq!(retry_gap(0, RETRY_COMPRESSION), Some(Duration::from_millis(15)));
        assert_eq!(retry_gap(3, RETRY_COMPRESSION), Some(Duration::from_millis(180)));
        assert_eq!(retry_gap(3, NonZeroU32::MIN), Some(Duration::from_mins(3)));
        assert_eq!(retry_gap(15, RETRY_COMPRESSION), None);
    }

    #[test]
    fn a_rate_is_kept_when_answers_lag_and_pauses_are_not_made_up_for() {
        let start = Instant::now();
        let mut pace = Pace::new(NonZeroU32::new(100), start);
        let late = start + Duration::from_secs(1);
        for n in 0..3 {
            // Even a repeat that became ready a moment ago takes the slot that is free, and moves none.
            let slot = pace.slot(late, late);
            assert_eq!(slot, start + Duration::from_millis(10) * n);
            pace.take(slot, 1);
        }
        pace.take(start, 4);
        assert_eq!(pace.slot(start, late), start + Duration::from_millis(40));
        pace.rest();
        assert_eq!(pace.slot(late, late), late);
    }

    #[test]
    fn flat_out_counts_from_the_moment_of_sending() {
        let start = Instant::now();
        let now = start + Duration::from_secs(1);
        assert_eq!(Pace::new(None, start).slot(start, now), now);
    }
}
