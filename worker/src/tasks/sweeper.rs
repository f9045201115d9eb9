//! The sweeper: decides held callbacks again when what they wait for has arrived, and opens them for an operator when it has
//! not.
//!
//! It uses the same transaction as the lanes, and locks the quarantine rows in it. A held callback is retried, in batches,
//! until its cause is gone, however long that takes. A row whose order is locked stays exactly as it is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel_async::AsyncPgConnection;
use metrics::{counter, gauge};
use shared::merchants_file::{MerchantsFile, MeteredKeyRing};
use shared::process::telemetry::chain;
use tokio_util::sync::CancellationToken;

use self::decide::Limit;
use super::{backoff, pause};
use crate::store::database::Database;
use crate::store::due::{self as store, Cause};
use crate::store::session::{DatabaseUnavailable, Session, with_timeout};

mod decide;
mod suspects;

/// How many held callbacks are decided in one transaction.
const BATCH: i64 = 256;
/// The shortest pause between two sweeps.
const INTERVAL: Duration = Duration::from_millis(500);
/// A long sweep is followed by a pause this many times as long, so that sweeping never crowds out the lanes.
const PAUSE_PER_SWEEP: u32 = 2;
/// The longest pause between two sweeps.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long a sweep works on one cause; the next sweep resumes where it stopped.
const CAUSE_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a sweep spends, for one cause, on callbacks that the database refuses one by one.
const ALONE_TIME_MAX: Duration = Duration::from_secs(1);
/// How often callbacks that wait for a key are retried; each try costs a signature check.
const KEYS_EVERY: Duration = Duration::from_secs(5);
/// How often callbacks that wait for a lock, or that the database refused, are retried.
const DATABASE_EVERY: Duration = Duration::from_secs(5);
/// How often the gauges that come from the database are refreshed.
const MEASURE_EVERY: Duration = Duration::from_secs(5);

/// The sweeper's settings and what it shares with the other tasks.
pub struct Sweeper {
    /// Where the database is.
    pub database: Database,
    /// The keys.
    pub merchants: Arc<MerchantsFile>,
    /// How long a callback waits before it is opened for an operator.
    pub wait_limit: Duration,
    /// Notified after every commit that wrote events.
    pub wake_relay: Arc<tokio::sync::Notify>,
}

/// What the sweeper remembers from one sweep to the next.
#[derive(Default)]
struct Memory {
    /// The keys that every callback waiting for one has been tried with.
    keys: Option<Arc<MeteredKeyRing>>,
    keys_tried: Option<Instant>,
    database_tried: Option<Instant>,
    measured: Option<Instant>,
    /// Where to resume each cause that ran out of time: its last row.
    resume_after: Vec<(Cause, i64)>,
    /// Suspects whose attempt has been counted and has not ended.
    claimed: Vec<i64>,
    /// The currencies of `worker_money_held_minor`.
    currencies: BTreeSet<String>,
}

/// Sweeps until `stop`.
pub async fn run(sweeper: Sweeper, stop: CancellationToken) {
    let mut session = Session::new(sweeper.database.clone());
    let mut backoff = backoff();
    let mut memory = Memory::default();
    while !stop.is_cancelled() {
        let started = Instant::now();
        match sweep(&sweeper, &mut session, &mut memory, &stop).await {
            Ok(()) => {
                backoff.reset();
                counter!("worker_sweeps_total").increment(1);
                let share = started.elapsed().saturating_mul(PAUSE_PER_SWEEP);
                pause(share.clamp(INTERVAL, PAUSE_MAX), &stop).await;
            }
            Err(error) => {
                session.discard();
                tracing::error!(error = chain(&error), "a sweep failed and will be retried");
                pause(backoff.pause(), &stop).await;
            }
        }
    }
}

/// One sweep through everything that is due.
///
/// # Errors
/// When the database is unavailable.
async fn sweep(
    sweeper: &Sweeper,
    session: &mut Session,
    memory: &mut Memory,
    stop: &CancellationToken,
) -> Result<(), DatabaseUnavailable> {
    let now = Instant::now();
    let is_due = |last: Option<Instant>, every| last.is_none_or(|last| last.elapsed() >= every);
    let keys = Arc::clone(&sweeper.merchants.keys());
    let has_new_keys = memory.keys.as_ref().is_none_or(|tried| !Arc::ptr_eq(tried, &keys));
    // Replays come last: by then the refunds of a payment are applied, so returned money pays no order.
    for cause in [Cause::OrderAppeared, Cause::PaymentRecorded, Cause::Replay] {
        drain(sweeper, session, memory, cause, stop).await?;
    }
    if has_new_keys || is_due(memory.keys_tried, KEYS_EVERY) {
        let cause = if has_new_keys { Cause::NewKeys } else { Cause::KeyMayHaveCome };
        let is_through = drain(sweeper, session, memory, cause, stop).await?;
        if is_through {
            (memory.keys, memory.keys_tried) = (Some(keys), Some(now));
        }
    }
    sweeper.try_suspects(session, &mut memory.claimed, stop).await?;
    if is_due(memory.database_tried, DATABASE_EVERY) {
        drain(sweeper, session, memory, Cause::LockMayBeGone, stop).await?;
        drain(sweeper, session, memory, Cause::DatabaseMayTakeIt, stop).await?;
        memory.database_tried = Some(now);
    }
    let conn = session.conn().await?;
    while with_timeout(store::resolve_refused(conn, BATCH)).await? > 0 && !stop.is_cancelled() {}
    let mut opened = 0_usize;
    loop {
        let some = with_timeout(store::expire(conn, suspects::ATTEMPTS_MAX, BATCH)).await?;
        opened = opened.saturating_add(some);
        if some == 0 || stop.is_cancelled() {
            break;
        }
    }
    if opened > 0 {
        tracing::warn!(
            opened,
            "callbacks reached their wait limit and are now open for an operator; list them with: worker quarantine list"
        );
    }
    if is_due(memory.measured, MEASURE_EVERY) {
        with_timeout(measure(conn, &mut memory.currencies)).await?;
        memory.measured = Some(now);
    }
    Ok(())
}

/// Decides everything that is due for `cause` until its time is up; false when some of it is left.
async fn drain(
    sweeper: &Sweeper,
    session: &mut Session,
    memory: &mut Memory,
    cause: Cause,
    stop: &CancellationToken,
) -> Result<bool, DatabaseUnavailable> {
    let started = Instant::now();
    let place =
        memory.resume_after.iter().position(|(of, _)| *of == cause).map(|at| memory.resume_after.swap_remove(at));
    let mut after = place.map_or(0, |(_, after)| after);
    let mut limit = Limit::new(BATCH);
    while let Some(last) = sweeper.decide_batch(session, cause, after, &mut limit).await? {
        after = last;
        let is_over = started.elapsed() >= CAUSE_TIME_MAX || limit.alone >= ALONE_TIME_MAX;
        if is_over || stop.is_cancelled() {
            memory.resume_after.push((cause, after));
            return Ok(false);
        }
    }
    Ok(true)
}

/// Refreshes the gauges that come from the database.
async fn measure(conn: &mut AsyncPgConnection, currencies: &mut BTreeSet<String>) -> Result<(), DatabaseUnavailable> {
    let unresolved = store::unresolved(conn).await?;
    for state in ["waiting", "open"] {
        let rows = unresolved.iter().filter(|row| row.state == state).map(|row| row.rows).sum();
        gauge!("worker_quarantine", "state" => state).set(number(rows));
    }
    let held = store::money_held(conn).await?;
    currencies.extend(held.iter().map(|held| held.currency.clone()));
    for currency in currencies.iter() {
        let amount = held.iter().find(|held| held.currency == *currency).map_or(0, |held| held.amount_minor);
        gauge!("worker_money_held_minor", "currency" => currency.clone()).set(number(amount));
    }
    let backlog = store::backlog(conn).await?;
    gauge!("worker_outbox_backlog").set(number(backlog.events));
    gauge!("worker_outbox_oldest_seconds").set(number(backlog.oldest_event_seconds.unwrap_or(0)));
    gauge!("worker_ledger_months_ahead").set(number(backlog.months_ahead));
    Ok(())
}

/// A gauge's value, converted in two exact halves because a sum of money may exceed 2^32.
fn number(count: i64) -> f64 {
    let half = |bits: i64| u32::try_from(bits).map_or(f64::INFINITY, f64::from);
    half(count >> 32).mul_add(4_294_967_296.0, half(count & 0xffff_ffff))
}
