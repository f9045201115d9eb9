//! Waiting for something to become true: polled often, bounded, and with the last obstacle in the failure.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// How often a condition is checked.
const POLL_EVERY: Duration = Duration::from_millis(10);
/// How long a condition may take: far longer than any needs, so that a slow machine fails no test.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `check` succeeds and gives its value. `what` completes "timed out after 20 s waiting until …".
///
/// # Errors
/// The last error of `check`, once [`PATIENCE`] is over.
pub async fn until<T>(what: &str, check: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    until_within(PATIENCE, what, check).await
}

/// [`until`] with its own time limit.
pub async fn until_within<T>(patience: Duration, what: &str, mut check: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + patience;
    let mut last = anyhow!("the first check did not finish");
    loop {
        match timeout_at(deadline, check()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(obstacle)) => last = obstacle,
            Err(_) => {}
        }
        if Instant::now() >= deadline {
            return Err(last.context(format!("timed out after {} s waiting until {what}", patience.as_secs())));
        }
        sleep(POLL_EVERY).await;
    }
}

/// The value of `work`, which has no time limit of its own. `what` completes "timed out after 20 s waiting until …".
///
/// # Errors
/// Those of `work`; or it took longer than [`PATIENCE`].
pub async fn in_time<T>(what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let result = timeout(PATIENCE, work).await;
    result.with_context(|| format!("timed out after {} s waiting until {what}", PATIENCE.as_secs()))?
}
