//! The tasks of a running worker: [`lane`]s, the [`sweeper`] and the [`relay`]; and what they have in common.

use std::collections::BTreeMap;
use std::time::Duration;

use metrics::counter;
use shared::process::backoff::Backoff;
use tokio_util::sync::CancellationToken;

use crate::batch::outcome::Outcome;

pub mod backlog;
pub mod lane;
pub mod relay;
pub mod sweeper;

/// Counts outcomes, those of the sweeper too.
fn count_outcomes(outcomes: &[Outcome]) {
    let mut counts: BTreeMap<_, u64> = BTreeMap::new();
    for outcome in outcomes {
        let count = counts.entry((outcome.name(), outcome.reason().unwrap_or("none"))).or_default();
        *count = count.saturating_add(1);
    }
    for ((outcome, reason), count) in counts {
        counter!("worker_notifications_total", "outcome" => outcome, "reason" => reason).increment(count);
    }
}

/// The pauses between two tries of anything that a worker does.
fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_secs(3))
}

/// Waits, unless `stop` comes first.
async fn pause(length: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(length) => {}
        () = stop.cancelled() => {}
    }
}
