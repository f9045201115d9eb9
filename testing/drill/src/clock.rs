//! One clock for everything that is put on the timeline: milliseconds since 1970, as the machine sees them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::sleep;

#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Sleeps until that moment.
pub async fn sleep_until_ms(at_ms: u64) {
    sleep(Duration::from_millis(at_ms.saturating_sub(now_ms()))).await;
}

/// Sleeps for this many seconds: how long a fault lasts.
pub async fn seconds(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}
