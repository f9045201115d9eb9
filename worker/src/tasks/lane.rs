//! A lane: one broker channel and one database connection, owned for life, working in batches.
//!
//! A batch is whatever has been delivered already, at most `batch_max`: idle, that is one message; under load, hundreds.
//! Its one invariant: commit first, acknowledge after.

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

use super::backlog::Backlog;
use super::{backoff, count_outcomes, pause};
use crate::batch::isolate;
use crate::batch::message::Message;
use crate::batch::outcome::Outcome;
use crate::batch::self_check::self_check;
use crate::batch::transaction::Policy;
use crate::store::database::Database;
use crate::store::session::Session;

/// How long a batch is kept while this worker cannot reach the database; then it goes back to the broker, because another
/// worker may be able to. Each return counts against the queue's delivery limit, so while the database can be reached and
/// refuses its work the batch is kept indefinitely: no other worker would fare better.
const KEEP_UNREACHABLE_FOR: Duration = Duration::from_mins(1);

/// A lane's settings and what it shares with the other tasks.
#[derive(Clone)]
pub struct Lane {
    /// Its number, which also selects the broker that it tries first.
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
    /// Notified after every commit that wrote events.
    pub wake_relay: Arc<tokio::sync::Notify>,
    /// Records every full batch.
    pub backlog: Arc<Backlog>,
    /// How many lanes are consuming.
    pub up: Arc<AtomicUsize>,
}

/// Why a lane opens its consumer again.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error("the broker ended the consumer")]
    Consumer(#[from] ConsumeError),
    #[error("the database was unavailable for too long; the batch goes back to the broker")]
    DatabaseUnavailable,
}

/// Consumes until `stop`, then finishes what was delivered.
pub async fn run(lane: Lane, stop: CancellationToken) {
    let mut session = Session::new(lane.database.clone());
    let mut backoff = backoff();
    while !stop.is_cancelled() {
        // A lane without a working database would only withhold messages from workers that have one.
        let keys = lane.merchants.keys();
        if let Err(error) = self_check(&mut session, Policy { keys: &keys, wait_limit: lane.wait_limit }).await {
            gauge!("worker_database_up").set(0.0);
            tracing::error!(
                lane = lane.number,
                error = chain(&error),
                "the database is unavailable; this lane does not consume until it is back"
            );
            pause(backoff.pause(), &stop).await;
            continue;
        }
        gauge!("worker_database_up").set(1.0);
        match consume(&lane, &mut session, &mut backoff, &stop).await {
            Ok(()) => return,
            Err(error) => {
                counter!("worker_lane_interruptions_total").increment(1);
                tracing::error!(lane = lane.number, error = chain(&error), "the lane was interrupted and starts again");
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
    tracing::info!(lane = lane.number, queue = lane.queue, "the lane is consuming");
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
            lane.backlog.note_full_batch(Instant::now());
        }
    }
}

/// Commits a batch, retrying for as long as the database is unavailable.
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
        let policy = Policy { keys: &keys, wait_limit: lane.wait_limit };
        match isolate::process(session, messages, policy).await {
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
                    "the database is unavailable; the batch is kept and retried"
                );
                if !error.is_unreachable() {
                    reached = Instant::now();
                }
                // Some of them may have been committed.
                for message in messages.iter_mut() {
                    message.redelivered = true;
                }
                if stop.is_cancelled() || reached.elapsed() > KEEP_UNREACHABLE_FOR {
                    return Err(Interrupted::DatabaseUnavailable);
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

#[expect(clippy::disallowed_methods, reason = "the shell reads the clock once per batch, for the message age")]
fn wall_clock() -> DateTime<Utc> {
    Utc::now()
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
