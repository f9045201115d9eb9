//! The sweeper: decides held messages again when what they wait for has come, and tells a person when it has not.
//!
//! It uses the same batch function as the lanes, in a transaction that holds the quarantine rows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel_async::{AsyncConnection, AsyncPgConnection};
use metrics::gauge;
use shared::merchants_file::MerchantsFile;
use shared::telemetry::chain;
use tokio_util::sync::CancellationToken;

use crate::apply::{self, ApplyError, Ledger, Rules};
use crate::lane::{backoff, count_outcomes, pause};
use crate::message::Message;
use crate::plan::{Finding, Outcome, Undecided};
use crate::settle::{DatabaseAway, Failure, Session, bounded, guard, may_be_a_lock};
use crate::store::database::Database;
use crate::store::orders::Locked;
use crate::store::sweep::{self as store, Cause};

/// How many held messages are decided in one transaction.
const BATCH: i64 = 256;
/// How often a message that may kill workers is tried alone before a person is told.
const SUSPECT_ATTEMPTS_MAX: i32 = 3;
/// The shortest pause between two sweeps.
const INTERVAL: Duration = Duration::from_millis(500);
/// A sweep that took long is followed by a pause this many times as long, so that sweeping never crowds out the lanes ..
const PAUSE_PER_SWEEP: u32 = 4;
/// .. but no longer than this.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How often messages that wait for a key are tried: one more signature check each.
const KEYS_EVERY: Duration = Duration::from_secs(5);
/// How often messages that wait for somebody's lock are tried, and how many each time: each may cost a lock time-out.
const LOCKS_EVERY: Duration = Duration::from_secs(5);
const LOCKED_MAX: usize = 4;
/// How often the gauges that only the database knows are read.
const MEASURE_EVERY: Duration = Duration::from_secs(5);

/// What the sweeper needs to know.
pub struct Sweeper {
    /// Where the database is.
    pub database: Database,
    /// The keys.
    pub merchants: Arc<MerchantsFile>,
    /// How long a message waits before a person is told.
    pub wait_limit: Duration,
    /// Told when a sweep wrote events.
    pub wake_relay: Arc<tokio::sync::Notify>,
}

/// Sweeps until `stop`.
pub async fn run(sweeper: Sweeper, stop: CancellationToken) {
    let mut session = Session::new(sweeper.database.clone());
    let mut backoff = backoff();
    let (mut tried, mut keys_tried, mut locks_tried, mut measured) = (None, None, None, None);
    while !stop.is_cancelled() {
        let started = Instant::now();
        let is_due = |last: Option<Instant>, every| last.is_none_or(|last| last.elapsed() >= every);
        let current = Arc::clone(&sweeper.merchants.keys());
        let keys = if tried.as_ref().is_some_and(|tried| Arc::ptr_eq(tried, &current)) {
            is_due(keys_tried, KEYS_EVERY).then_some(Cause::KeyMayHaveCome)
        } else {
            Some(Cause::NewKeys)
        };
        let locks = is_due(locks_tried, LOCKS_EVERY);
        let measure = is_due(measured, MEASURE_EVERY);
        match sweep(&sweeper, &mut session, Extras { keys, locks, measure }, &stop).await {
            Ok(()) => {
                backoff.reset();
                tried = Some(current);
                keys_tried = if keys.is_some() { Some(started) } else { keys_tried };
                locks_tried = if locks { Some(Instant::now()) } else { locks_tried };
                measured = if measure { Some(started) } else { measured };
                let share = started.elapsed().saturating_mul(PAUSE_PER_SWEEP);
                pause(share.clamp(INTERVAL, PAUSE_MAX), &stop).await;
            }
            Err(error) => {
                session.discard();
                tracing::error!(error = chain(&error), "sweep failed");
                pause(backoff.pause(), &stop).await;
            }
        }
    }
}

/// One sweep through everything that is due.
///
/// # Errors
/// When the database is away.
async fn sweep(
    sweeper: &Sweeper,
    session: &mut Session,
    extras: Extras,
    stop: &CancellationToken,
) -> Result<(), DatabaseAway> {
    let mut causes = vec![Cause::Replay, Cause::OrderAppeared, Cause::OrderPaid];
    causes.extend(extras.keys);
    for cause in causes {
        let mut after = 0;
        while !stop.is_cancelled()
            && let Some(last) = sweeper.decide_batch(session, cause, after).await?
        {
            after = last;
        }
    }
    while !stop.is_cancelled()
        && let Some(id) = bounded(store::claim_suspect(session.conn().await?, SUSPECT_ATTEMPTS_MAX)).await?
    {
        // A due row comes after `after`: ids are whole numbers.
        sweeper.decide_alone(session, Cause::Suspect, id.saturating_sub(1)).await?;
    }
    let mut after = 0;
    for _ in 0..if extras.locks { LOCKED_MAX } else { 0 } {
        match sweeper.decide_alone(session, Cause::LockMayBeGone, after).await? {
            Some(decided) if !stop.is_cancelled() => after = decided,
            _ => break,
        }
    }
    let conn = session.conn().await?;
    let opened = bounded(store::expire(conn, SUSPECT_ATTEMPTS_MAX, BATCH)).await?;
    if opened > 0 {
        tracing::warn!(opened, "messages waited in vain and are open now: worker quarantine list");
    }
    if extras.measure {
        bounded(measure(conn)).await?;
    }
    Ok(())
}

/// What not every sweep does.
#[derive(Clone, Copy)]
struct Extras {
    keys: Option<Cause>,
    locks: bool,
    measure: bool,
}

impl Sweeper {
    /// Decides the next batch of what is due after the row `after`; returns its last row, `None` when nothing was due.
    async fn decide_batch(&self, session: &mut Session, cause: Cause, after: i64) -> Result<Option<i64>, DatabaseAway> {
        match self.decide(session, cause, after, BATCH, None).await {
            Ok(last) => Ok(last),
            Err(Failure::Away(away)) => Err(session.broken(Failure::Away(away))),
            // One of them is at fault: this batch goes one by one.
            Err(Failure::Fault(problem)) => {
                tracing::warn!(?cause, problem, "sweeping one message at a time");
                session.discard();
                let mut last = None;
                for _ in 0..BATCH {
                    match self.decide_alone(session, cause, last.unwrap_or(after)).await? {
                        Some(decided) => last = Some(decided),
                        None => break,
                    }
                }
                Ok(last)
            }
        }
    }

    /// The same for one message; one that the database refuses becomes a quarantine row that says so.
    async fn decide_alone(&self, session: &mut Session, cause: Cause, after: i64) -> Result<Option<i64>, DatabaseAway> {
        let started = Instant::now();
        let problem = match self.decide(session, cause, after, 1, None).await {
            Ok(last) => return Ok(last),
            Err(failure @ Failure::Away(_)) => return Err(session.broken(failure)),
            Err(Failure::Fault(problem)) => problem,
        };
        session.discard();
        if may_be_a_lock(started) {
            return self.hold(session, cause, after, Undecided::ForLock(problem)).await;
        }
        // The proof, as for a message from the broker: a database that can do everything else, and not this.
        let keys = self.merchants.keys();
        session.rehearse(Rules { keys: &keys, wait_limit: self.wait_limit }).await?;
        match self.decide(session, cause, after, 1, None).await {
            Ok(last) => Ok(last),
            Err(failure @ Failure::Away(_)) => Err(session.broken(failure)),
            Err(Failure::Fault(problem)) => {
                session.discard();
                self.hold(session, cause, after, Undecided::RejectedByDatabase(problem)).await
            }
        }
    }

    /// Notes why the next message that is due was not decided.
    async fn hold(
        &self,
        session: &mut Session,
        cause: Cause,
        after: i64,
        why: Undecided,
    ) -> Result<Option<i64>, DatabaseAway> {
        tracing::error!(?cause, ?why, "held message not taken by the database");
        let finding = Finding::Undecided(why);
        self.decide(session, cause, after, 1, Some(finding)).await.map_err(|failure| session.broken(failure))
    }

    /// One transaction: lock what is due, decide it (or take `instead` for the finding), move its rows.
    async fn decide(
        &self,
        session: &mut Session,
        cause: Cause,
        after: i64,
        limit: i64,
        instead: Option<Finding>,
    ) -> Result<Option<i64>, Failure> {
        let keys = self.merchants.keys();
        let rules = Rules { keys: &keys, wait_limit: self.wait_limit };
        let conn = session.conn().await.map_err(Failure::Away)?;
        let waited = match cause {
            Cause::OrderAppeared => Some("for_order"),
            Cause::OrderPaid => Some("for_payment"),
            Cause::LockMayBeGone => Some("for_lock"),
            Cause::KeyMayHaveCome | Cause::NewKeys => Some("for_key"),
            Cause::Replay | Cause::Suspect => None,
        };
        let (last, outcomes) = guard(async {
            conn.transaction(async |conn| {
                let due = store::due(conn, cause, after, limit).await?;
                let messages: Vec<&Message> = due.messages.iter().collect();
                let findings = match instead {
                    Some(finding) => messages.iter().map(|_| finding.clone()).collect(),
                    None => messages.iter().map(|message| message.examine(rules.keys)).collect(),
                };
                let outcomes =
                    apply::decide_and_write(conn, &messages, findings, rules, Locked::Skip, Ledger::Move { waited })
                        .await?;
                Ok::<_, ApplyError>((due.last, outcomes))
            })
            .await
        })
        .await?;
        count_outcomes(&outcomes);
        if outcomes.contains(&Outcome::Applied) {
            self.wake_relay.notify_one();
        }
        Ok(last)
    }
}

/// What an operator watches that only the database knows.
async fn measure(conn: &mut AsyncPgConnection) -> Result<(), DatabaseAway> {
    let unresolved = store::unresolved(conn).await?;
    for state in ["waiting", "open"] {
        let rows = unresolved.iter().filter(|row| row.state == state).map(|row| row.rows).sum();
        gauge!("worker_quarantine", "state" => state).set(number(rows));
    }
    let backlog = store::backlog(conn).await?;
    gauge!("worker_outbox_backlog").set(number(backlog.events));
    gauge!("worker_outbox_oldest_seconds").set(number(backlog.oldest_event_seconds.unwrap_or(0)));
    gauge!("worker_ledger_months_ahead").set(number(backlog.months_ahead));
    Ok(())
}

/// For a gauge: everything measured here stays far below 2^32.
fn number(count: i64) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}
