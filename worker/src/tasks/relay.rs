//! The relay: publishes the outbox to the merchant's fulfilment, at least once, by event id.
//!
//! Events are read, published with confirms, deleted, committed. A crash between confirm and commit publishes them again
//! under the same ids. One worker relays at a time, which keeps the order; another takes over with the next transaction.
//! No transaction is open while the broker is unavailable. Event types that the broker refuses are set aside (`aside`) and do
//! not hold up other types.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::result::Error;
use diesel_async::{AsyncConnection, AsyncPgConnection};
use futures_util::future::join_all;
use metrics::{counter, gauge};
use shared::messaging::publisher::{Outgoing, PublishError, Publisher};
use shared::process::telemetry::chain;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::backlog::Backlog;
use super::{backoff, pause};
use crate::store::database::Database;
use crate::store::outbox::{self, StoredEvent};
use crate::store::session::{DatabaseUnavailable, Session, with_timeout};

mod aside;

use aside::{Aside, Refusal};

/// How many events one transaction publishes.
const BATCH: usize = 1024;
/// How often the outbox is polled when no lane signals: another worker may have left events behind.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// The longest pause after a pass. Each pause is as long as its pass, so that events are published in batches.
const REST_MAX: Duration = Duration::from_millis(10);
/// During a burst, orders come first: the relay holds back for up to this long while lanes are behind, then publishes alongside
/// them.
const WAIT_FOR_LANES: Duration = Duration::from_secs(5);
/// How often the relay checks whether the lanes are still behind.
const BACKLOG_POLL: Duration = Duration::from_millis(100);
/// Lanes commit concurrently, so events can become visible slightly out of id order. Each pass reads this window again.
const COMMIT_SKEW: Duration = Duration::from_millis(200);
/// How often, under continuous load, the relay restarts from the oldest event to pick up any that were committed even later.
const START_OVER_EVERY: Duration = Duration::from_secs(1);
/// How long another session may hold the relay's claim while the oldest event waits before a warning is logged.
const CLAIM_MISSED_MAX: Duration = Duration::from_mins(1);

/// The relay's settings and what it shares with the other tasks.
pub struct Relay {
    /// Where the database is.
    pub database: Database,
    /// Publishes to the exchange of order events, on one lane, so that events leave nearly in the order they
    /// were written; consumers sort by the order's version.
    pub publisher: Publisher,
    /// Notified after every commit that wrote events.
    pub wake: Arc<tokio::sync::Notify>,
    /// Whether the lanes are behind.
    pub backlog: Arc<Backlog>,
}

/// Relays until `stop`.
pub async fn run(relay: Relay, stop: CancellationToken) {
    let mut session = Session::new(relay.database.clone());
    let mut backoff = backoff();
    let mut progress = Progress::start();
    let mut behind_since = None;
    while !stop.is_cancelled() {
        behind_since =
            if relay.backlog.lanes_are_behind(Instant::now()) { behind_since.or(Some(Instant::now())) } else { None };
        if behind_since.is_some_and(|since| since.elapsed() < WAIT_FOR_LANES) {
            pause(BACKLOG_POLL, &stop).await;
            continue;
        }
        if relay.publisher.readiness().is_err() {
            gauge!("worker_relay_active").set(0.0);
            pause(backoff.pause(), &stop).await;
            continue;
        }
        let started = Instant::now();
        match relay.pass(&mut session, &mut progress).await {
            Ok(Next::Rest) => {
                backoff.reset();
                tokio::select! {
                    () = relay.wake.notified() => {}
                    () = tokio::time::sleep(POLL_EVERY) => {}
                    () = stop.cancelled() => {}
                }
            }
            Ok(Next::BackOff) => pause(backoff.pause(), &stop).await,
            Ok(Next::GoOn) => {
                backoff.reset();
                pause(started.elapsed().min(REST_MAX), &stop).await;
            }
            Err(error) => {
                session.discard();
                gauge!("worker_relay_active").set(0.0);
                tracing::error!(error = chain(&error), "the relay failed and will be retried");
                pause(backoff.pause(), &stop).await;
            }
        }
    }
}

/// When the next pass is due.
enum Next {
    /// At once: there may be more.
    GoOn,
    /// When an event is written.
    Rest,
    /// When the broker has had time to recover.
    BackOff,
}

/// What one transaction did.
#[derive(Default)]
struct Passed {
    /// How many events were read after the cursor.
    taken: usize,
    published: usize,
    last: Option<Uuid>,
    /// The types that the broker refused.
    refused: BTreeMap<String, Refusal>,
    /// The types that it accepts again, or of which no event is left.
    accepted: Vec<String>,
    /// A failure of the broker rather than of an event, and how many events it left unpublished.
    fault: Option<PublishError>,
    left: usize,
}

/// What the relay remembers from one pass to the next.
struct Progress {
    cursor: Cursor,
    aside: Aside,
    missed: Missed,
}

impl Progress {
    fn start() -> Self {
        Self { cursor: Cursor::start(), aside: Aside::default(), missed: Missed::default() }
    }

    fn note(&mut self, passed: &Passed, now: Instant) -> Next {
        for (kind, refusal) in &passed.refused {
            self.aside.refuse(kind, *refusal, now);
        }
        self.aside.accept(&passed.accepted, now);
        if let Some(error) = passed.fault {
            tracing::warn!(left = passed.left, %error, "some events could not be published; they stay in the outbox");
        }
        self.cursor.advance(passed, self.aside.is_empty());
        match (passed.fault, passed.taken, passed.accepted.len()) {
            (Some(_), _, _) => Next::BackOff,
            (None, 0, 0) => Next::Rest,
            (None, _, _) => Next::GoOn,
        }
    }
}

/// How far the relay has read. An event may be committed after others with later ids, so the cursor starts over when the relay
/// has caught up, and regularly under load.
struct Cursor {
    last: Option<Uuid>,
    started: Instant,
}

impl Cursor {
    fn start() -> Self {
        Self { last: None, started: Instant::now() }
    }

    fn after(&self) -> Uuid {
        self.last.map_or(Uuid::nil(), |last| earlier(last, COMMIT_SKEW))
    }

    /// Moves past refused events, too: [`Aside`] brings them back.
    fn advance(&mut self, passed: &Passed, nothing_aside: bool) {
        let starts_over = passed.fault.is_some()
            || !passed.accepted.is_empty()
            || (passed.taken == 0 && nothing_aside)
            || self.started.elapsed() >= START_OVER_EVERY;
        if starts_over {
            *self = Self::start();
        } else if let Some(last) = passed.last {
            self.last = Some(last);
        }
    }
}

/// Since when every attempt to claim the relay has found another session holding it.
#[derive(Default)]
struct Missed {
    since: Option<Instant>,
    logged: bool,
}

impl Missed {
    /// Whether it is time to check the outbox, and to log.
    fn again(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        !self.logged && now.duration_since(since) >= CLAIM_MISSED_MAX
    }
}

/// The first UUID v7 that could have been made `by` before `id`: its upper 48 bits are the milliseconds.
fn earlier(id: Uuid, by: Duration) -> Uuid {
    let millis = id.as_u128() >> 80;
    Uuid::from_u128(millis.saturating_sub(by.as_millis()) << 80)
}

impl Relay {
    async fn pass(&self, session: &mut Session, progress: &mut Progress) -> Result<Next, DatabaseUnavailable> {
        let conn = session.conn().await?;
        let (after, aside) = (progress.cursor.after(), &progress.aside);
        let passed =
            with_timeout(conn.transaction(async |conn| self.publish_and_delete(conn, after, aside).await)).await?;
        gauge!("worker_relay_active").set(if passed.is_some() { 1.0 } else { 0.0 });
        let Some(passed) = passed else {
            if progress.missed.again(Instant::now()) {
                let seconds = i64::try_from(CLAIM_MISSED_MAX.as_secs()).unwrap_or(i64::MAX);
                progress.missed.logged = with_timeout(outbox::waits_longer_than(conn, seconds)).await?;
                if progress.missed.logged {
                    tracing::warn!(
                        "events wait in the outbox, and another session has held the row of the table relay for a minute: \
                         if worker_relay_active is 1 at no worker, find that session in pg_stat_activity and end it"
                    );
                }
            }
            return Ok(Next::Rest);
        };
        progress.missed = Missed::default();
        counter!("worker_events_published_total").increment(u64::try_from(passed.published).unwrap_or_default());
        Ok(progress.note(&passed, Instant::now()))
    }

    /// `None` when another session is the relay.
    async fn publish_and_delete(
        &self,
        conn: &mut AsyncPgConnection,
        after: Uuid,
        aside: &Aside,
    ) -> Result<Option<Passed>, Error> {
        if !outbox::claim(conn).await? {
            return Ok(None);
        }
        let due = aside.due(Instant::now());
        let tries = if due.is_empty() { Vec::new() } else { outbox::oldest_of_each(conn, &due).await? };
        let room = i64::try_from(BATCH.saturating_sub(tries.len())).unwrap_or_default();
        let taken = outbox::oldest(conn, after, &aside.types(), room).await?;

        let mut passed = Passed { taken: taken.len(), last: taken.last().map(|event| event.id), ..Passed::default() };
        let mut published = Vec::with_capacity(BATCH);
        let answers = join_all(tries.iter().chain(&taken).map(|event| self.publish(event))).await;
        for (event, answer) in tries.iter().chain(&taken).zip(answers) {
            match answer.map_err(|error| (error, Refusal::from_answer(error))) {
                Ok(()) => published.push(event.id),
                Err((_, Some(refusal))) => {
                    passed.refused.insert(event.r#type.clone(), refusal);
                }
                Err((error, None)) => {
                    passed.left = passed.left.saturating_add(1);
                    passed.fault = Some(error);
                }
            }
        }
        if passed.fault.is_none() {
            passed.accepted = due.into_iter().filter(|kind| !passed.refused.contains_key(kind)).collect();
        }
        passed.published = published.len();
        if !published.is_empty() {
            outbox::delete(conn, published).await?;
        }
        Ok(Some(passed))
    }

    /// Returns once the broker has confirmed it.
    async fn publish(&self, event: &StoredEvent) -> Result<(), PublishError> {
        let outgoing = Outgoing {
            message_id: event.id.to_string(),
            kind: event.r#type.clone(),
            routing_key: event.r#type.clone(),
            content_type: Some("application/json".to_owned()),
            timestamp_seconds: u64::try_from(event.created_at_seconds).unwrap_or_default(),
            headers: BTreeMap::new(),
            body: event.payload.clone().into_bytes(),
        };
        self.publisher.publish(outgoing).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_id_has_an_earlier_time() {
        let id: Uuid = "0192f0c0-0000-7abc-8000-000000000001".parse().unwrap();
        assert_eq!(earlier(id, Duration::from_millis(2)).to_string(), "0192f0bf-fffe-0000-0000-000000000000");
        assert_eq!(earlier(Uuid::nil(), Duration::from_millis(2)), Uuid::nil());
    }

    #[test]
    fn refused_events_are_skipped_and_events_that_met_a_broken_broker_are_read_again() {
        let last = Some(Uuid::now_v7());
        let refused = BTreeMap::from([("refund.closed".to_owned(), Refusal::Unroutable)]);
        let mut progress = Progress::start();
        let passed = Passed { taken: 1024, last, refused, ..Passed::default() };
        assert!(matches!(progress.note(&passed, Instant::now()), Next::GoOn));
        assert_eq!((progress.cursor.last, progress.aside.types()), (last, vec!["refund.closed".to_owned()]));

        let nothing = Passed::default();
        assert!(matches!(progress.note(&nothing, Instant::now()), Next::Rest));
        assert_eq!(progress.cursor.last, last, "the cursor must not start over while types are set aside");

        let accepted = Passed { accepted: vec!["refund.closed".to_owned()], ..Passed::default() };
        assert!(matches!(progress.note(&accepted, Instant::now()), Next::GoOn));
        assert!(progress.cursor.last.is_none() && progress.aside.is_empty());

        let fault = Passed { taken: 3, last, fault: Some(PublishError::Unknown), left: 3, ..Passed::default() };
        assert!(matches!(progress.note(&fault, Instant::now()), Next::BackOff));
        assert_eq!(progress.cursor.last, None);
    }

    #[test]
    fn the_cursor_reads_the_window_of_late_commits_again() {
        let last: Uuid = "0192f0c0-0000-7abc-8000-000000000001".parse().unwrap();
        let mut cursor = Cursor::start();
        assert_eq!(cursor.after(), Uuid::nil());
        cursor.advance(&Passed { taken: 3, last: Some(last), ..Passed::default() }, true);
        assert_eq!((cursor.last, cursor.after()), (Some(last), earlier(last, COMMIT_SKEW)));
    }

    #[test]
    fn the_cursor_starts_over_when_it_may_have_passed_events() {
        let last = Some(Uuid::now_v7());
        let read = || Passed { taken: 3, last, ..Passed::default() };
        let old = Instant::now().checked_sub(START_OVER_EVERY);
        for (passed, nothing_aside, started, starts_over) in [
            (read(), true, None, false),
            (read(), false, None, false),
            (Passed::default(), true, None, true),
            (Passed::default(), false, None, false),
            (Passed { fault: Some(PublishError::Down), ..read() }, true, None, true),
            (Passed { accepted: vec!["order.paid".to_owned()], ..read() }, false, None, true),
            (read(), true, old, old.is_some()),
        ] {
            let mut cursor = Cursor { last, started: started.unwrap_or_else(Instant::now) };
            cursor.advance(&passed, nothing_aside);
            assert_eq!(cursor.last.is_none(), starts_over, "{} {nothing_aside} {started:?}", passed.taken);
        }
    }

    #[test]
    fn a_missing_claim_is_logged_after_a_minute_and_only_once() {
        let (mut missed, start) = (Missed::default(), Instant::now());
        assert!(!missed.again(start) && !missed.again(start + Duration::from_secs(59)));
        assert!(missed.again(start + Duration::from_mins(1)));
        assert!(missed.again(start + Duration::from_secs(61)), "the outbox was empty, so it is checked again");
        missed.logged = true;
        assert!(!missed.again(start + Duration::from_hours(1)));
    }
}
