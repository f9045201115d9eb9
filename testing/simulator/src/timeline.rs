//! Every request of a run on the machine's clock, so that it can be compared with what happened elsewhere at the time.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, Utc};

use crate::request_log::RequestLog;

/// Writes `DUE ANSWERED ANSWER` for each request: two moments in milliseconds since 1970, and the answer's name in the
/// report. `now` is what the machine's clock says at this moment.
pub fn write(path: &Path, log: &RequestLog, now: DateTime<Utc>) -> anyhow::Result<()> {
    let now = Duration::from_millis(u64::try_from(now.timestamp_millis()).unwrap_or_default());
    let started = now.saturating_sub(log.started_at.elapsed());
    let mut text = String::new();
    for request in &log.timeline {
        let (due, answered) = ((started + request.due).as_millis(), (started + request.answered).as_millis());
        writeln!(text, "{due} {answered} {}", request.answer.name())?;
    }
    fs::write(path, text).with_context(|| format!("--timeline: {} cannot be written", path.display()))
}
