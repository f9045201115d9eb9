//! When requests are sent: WeChat Pay's retry schedule, compressed. Pure.

use std::num::NonZeroU32;
use std::time::Duration;

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

/// The time between two requests.
#[must_use]
pub fn interval(requests_per_second: NonZeroU32) -> Duration {
    Duration::from_secs(1) / requests_per_second.get()
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
}
