//! The progress of a run: one line on stderr, live on a terminal, every two seconds elsewhere.
//!
//! Costs the pipeline next to nothing: counters come from memory, and the one look at the database is bounded by
//! indexes and made rarer the longer it takes.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::database::Database;
use crate::snapshot::{Bounds, Standing, prepare_standing, standing};

const LIVE_INTERVAL: Duration = Duration::from_millis(250);
const PLAIN_INTERVAL: Duration = Duration::from_secs(2);
/// The database is looked at this often while a look is short …
const POLL_PAUSE_MIN: Duration = Duration::from_millis(500);
/// … and at least this often when it is long, because the end of the run is seen by it.
const POLL_PAUSE_MAX: Duration = Duration::from_secs(2);
/// Between the two limits, the pause is this many times as long as the query.
const POLL_SHARE: u32 = 8;

/// Counted where it happens.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests made.
    pub sent: AtomicU64,
    /// Told SUCCESS.
    pub accepted: AtomicU64,
}

/// The line, and who keeps it up to date.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    tasks: [JoinHandle<()>; 2],
}

impl Progress {
    /// Starts to look and to show. The receiver has the last known standing.
    #[must_use]
    pub fn start(
        planned: u64,
        counters: Arc<Counters>,
        database: Database,
        bounds: Bounds,
    ) -> (Self, watch::Receiver<Standing>) {
        let (sender, receiver) = watch::channel(Standing::default());
        let is_live = std::io::stderr().is_terminal();
        let target = if is_live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(planned), target);
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {msg}") {
            bar.set_style(style);
        }
        let shown = show(bar.clone(), is_live, planned, counters, receiver.clone());
        let tasks = [tokio::spawn(poll(database, bounds, sender)), tokio::spawn(shown)];
        (Self { bar, tasks }, receiver)
    }

    /// A line of its own that does not disturb the live one.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// Removes the line.
    pub fn stop(self) {
        for task in &self.tasks {
            task.abort();
        }
        self.bar.finish_and_clear();
    }
}

async fn poll(mut database: Database, bounds: Bounds, sender: watch::Sender<Standing>) {
    loop {
        // Short outages of the database are part of the simulation: it is queried again.
        drop(poll_until_it_fails(&mut database, &bounds, &sender).await);
        sleep(POLL_PAUSE_MIN).await;
    }
}

async fn poll_until_it_fails(
    database: &mut Database,
    bounds: &Bounds,
    sender: &watch::Sender<Standing>,
) -> anyhow::Result<()> {
    let client = database.client().await?;
    let statement = prepare_standing(client).await?;
    loop {
        let begun = Instant::now();
        let now = standing(client, &statement, bounds).await?;
        sender.send_if_modified(|last| std::mem::replace(last, now) != now);
        sleep((begun.elapsed() * POLL_SHARE).clamp(POLL_PAUSE_MIN, POLL_PAUSE_MAX)).await;
    }
}

async fn show(
    bar: ProgressBar,
    is_live: bool,
    planned: u64,
    counters: Arc<Counters>,
    standing: watch::Receiver<Standing>,
) {
    let mut last = (Instant::now(), 0);
    loop {
        sleep(if is_live { LIVE_INTERVAL } else { PLAIN_INTERVAL }).await;
        let sent = counters.sent.load(Ordering::Relaxed);
        let rate = per_second(sent.saturating_sub(last.1), last.0.elapsed());
        last = (Instant::now(), sent);
        let line = line(sent, planned, rate, &counters, *standing.borrow());
        if is_live {
            bar.set_position(sent.min(planned));
            bar.set_message(line);
        } else {
            eprintln!("{line}");
        }
    }
}

fn line(sent: u64, planned: u64, rate: u64, counters: &Counters, standing: Standing) -> String {
    let accepted = counters.accepted.load(Ordering::Relaxed);
    format!(
        "sent {} of {}, accepted {}, applied {}, backlog {}, {}/s",
        grouped(sent),
        grouped(planned.max(sent)),
        grouped(accepted),
        grouped(standing.applied),
        grouped(accepted.saturating_sub(standing.handled)),
        grouped(rate),
    )
}

/// Whole things per second.
#[must_use]
pub fn per_second(count: u64, elapsed: Duration) -> u64 {
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    count.saturating_mul(1000) / millis
}

/// `12345` → `12,345`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len().saturating_add(digits.len() / 3));
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && digits.len().saturating_sub(index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(per_second(500, Duration::from_millis(250)), 2000);
        assert_eq!(per_second(500, Duration::ZERO), 500_000);
    }
}
