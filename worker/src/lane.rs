//! A lane: one broker channel and one database connection, owned for life, working in batches.
//!
//! A batch is whatever has been delivered already, at most `batch_max`: idle, that is one message; under load, hundreds.
//! Its one invariant: commit first, acknowledge after.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use metrics::{counter, gauge, histogram};
use shared::merchants_file::MerchantsFile;
use shared::messaging::connection::AmqpUrls;
use shared::messaging::consumer::{ConsumeError, Consumer};
use shared::process::backoff::Backoff;
use shared::process::telemetry::chain;
use tokio_util::sync::CancellationToken;

use crate::apply::Rules;
use crate::backlog::Backlog;
use crate::message::Message;
use crate::outcome::Outcome;
use crate::settle::Session;
use crate::store::database::Database;

/// How long a batch is kept while this worker cannot reach the database; then it goes back to the broker, because another
/// worker may reach it. Each return counts against the queue's delivery limit, so a batch is kept without end while the
/// database is reached and refuses its work: no other worker would fare better.
const KEEP_UNREACHABLE_FOR: Duration = Duration::from_mins(1);

/// What a lane needs to know.
#[derive(Clone)]
pub struct Lane {
    /// Its number, which also picks the broker it tries first.
    pub number: usize,
    /// Where the broker is.
    pub urls: AmqpUrls,
    /// The queue it consumes.
    pub queue: String,
    /// The most messages in one transaction.
    pub batch_max: u16,
    /// How long a callback waits before it is opened for an operator.
    pub wait_limit: Duration,
    /// Where the database is.
    pub database: Database,
    /// The keys.
    pub merchants: Arc<MerchantsFile>,
    /// Told after every commit that wrote events.
    pub wake_relay: Arc<tokio::sync::Notify>,
    /// Told of every full batch.
    pub backlog: Arc<Backlog>,
    /// How many lanes are consuming.
    pub up: Arc<AtomicUsize>,
}

/// Why a lane opens its consumer again.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error("the broker ended the consumer")]
    Consumer(#[from] ConsumeError),
    #[error("the database stayed unavailable, the batch goes back to the broker")]
    DatabaseAway,
}

/// Works until `stop`, then finishes what was delivered.
pub async fn run(lane: Lane, stop: CancellationToken) {
    let mut session = Session::new(lane.database.clone());
    let mut backoff = backoff();
    while !stop.is_cancelled() {
        // A lane whose database cannot do its job would only hold messages back from those that have one that can.
        let keys = lane.merchants.keys();
        if let Err(error) = session.rehearse(Rules { keys: &keys, wait_limit: lane.wait_limit }).await {
            gauge!("worker_database_up").set(0.0);
            tracing::error!(
                lane = lane.number,
                error = chain(&error),
                "the database is unavailable; this lane takes nothing from the broker"
            );
            pause(backoff.pause(), &stop).await;
            continue;
        }
        gauge!("worker_database_up").set(1.0);
        match consume(&lane, &mut session, &mut backoff, &stop).await {
            Ok(()) => return,
            Err(error) => {
                counter!("worker_lane_interruptions_total").increment(1);
                tracing::error!(lane = lane.number, error = chain(&error), "lane interrupted");
                pause(backoff.pause(), &stop).await;
            }
        }
    }
}

async fn consume(
    lane: &Lane,
    session: &mut Session,
    backoff: &mut Backoff,
    stop: &CancellationToken,
) -> Result<(), Interrupted> {
    let prefetch = lane.batch_max.saturating_mul(2);
    let attempt = lane.number.saturating_add(backoff.attempts());
    let mut consumer = Consumer::open(&lane.urls, attempt, "worker", &lane.queue, prefetch).await?;
    tracing::info!(lane = lane.number, queue = lane.queue, "lane consuming");
    backoff.reset();
    let _up = Up::count(&lane.up);
    let result = work(lane, session, &mut consumer, stop).await;
    consumer.close().await;
    result
}

async fn work(
    lane: &Lane,
    session: &mut Session,
    consumer: &mut Consumer,
    stop: &CancellationToken,
) -> Result<(), Interrupted> {
    let mut stopping = false;
    loop {
        let mut batch = tokio::select! {
            biased;
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                consumer.stop().await?;
                continue;
            }
            batch = consumer.next_batch(usize::from(lane.batch_max)) => batch?,
        };
        let mut messages: Vec<Message> = batch.iter_mut().map(Message::take_from).collect();
        let Some(last) = batch.last() else { return Ok(()) };
        handle(lane, session, &mut messages, stop).await?;
        consumer.ack_through(last).await?;
        if messages.len() >= usize::from(lane.batch_max) {
            lane.backlog.note(Instant::now());
        }
    }
}

/// Commits a batch, however often the database has to be asked.
async fn handle(
    lane: &Lane,
    session: &mut Session,
    messages: &mut [Message],
    stop: &CancellationToken,
) -> Result<(), Interrupted> {
    let started = Instant::now();
    let mut reached = started;
    let mut backoff = backoff();
    loop {
        let keys = lane.merchants.keys();
        let rules = Rules { keys: &keys, wait_limit: lane.wait_limit };
        match session.settle(messages, rules).await {
            Ok(outcomes) => {
                record(messages, &outcomes, started);
                if outcomes.iter().any(Outcome::may_be_published) {
                    lane.wake_relay.notify_one();
                }
                return Ok(());
            }
            Err(error) => {
                gauge!("worker_database_up").set(0.0);
                tracing::error!(
                    lane = lane.number,
                    kept = messages.len(),
                    error = chain(&error),
                    "the database is unavailable; the batch is kept and tried again"
                );
                if !error.is_unreachable() {
                    reached = Instant::now();
                }
                // Some of them may be in the ledger by now.
                for message in messages.iter_mut() {
                    message.redelivered = true;
                }
                if stop.is_cancelled() || reached.elapsed() > KEEP_UNREACHABLE_FOR {
                    return Err(Interrupted::DatabaseAway);
                }
                pause(backoff.pause(), stop).await;
            }
        }
    }
}

fn record(messages: &[Message], outcomes: &[Outcome], started: Instant) {
    gauge!("worker_database_up").set(1.0);
    histogram!("worker_batch_size").record(f64::from(u32::try_from(messages.len()).unwrap_or(u32::MAX)));
    histogram!("worker_apply_seconds").record(started.elapsed());
    let now = wall_clock();
    let age = histogram!("worker_message_age_seconds");
    for message in messages {
        age.record((now - message.received_at).to_std().unwrap_or_default());
    }
    count_outcomes(outcomes);
}

/// Counts outcomes, those of the sweeper too.
pub fn count_outcomes(outcomes: &[Outcome]) {
    let mut counts: BTreeMap<_, u64> = BTreeMap::new();
    for outcome in outcomes {
        let count = counts.entry((outcome.name(), outcome.reason().unwrap_or("none"))).or_default();
        *count = count.saturating_add(1);
    }
    for ((outcome, reason), count) in counts {
        counter!("worker_notifications_total", "outcome" => outcome, "reason" => reason).increment(count);
    }
}

#[expect(clippy::disallowed_methods, reason = "the shell reads the clock once per batch, for the message age")]
fn wall_clock() -> DateTime<Utc> {
    Utc::now()
}

/// The pauses between two tries of anything that a worker does.
#[must_use]
pub fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_secs(3))
}

/// Waits, unless `stop` comes first.
pub async fn pause(length: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(length) => {}
        () = stop.cancelled() => {}
    }
}

/// Counts a lane as consuming for as long as it lives.
struct Up<'a>(&'a AtomicUsize);

impl<'a> Up<'a> {
    fn count(up: &'a AtomicUsize) -> Self {
        up.fetch_add(1, Ordering::Relaxed);
        gauge!("worker_lanes_up").increment(1.0);
        Self(up)
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
        gauge!("worker_lanes_up").decrement(1.0);
    }
}
