//! The relay: publishes the outbox to the merchant's fulfilment, at least once, by event id.
//!
//! Events are read, published with confirms, deleted, committed. A crash between confirm and commit publishes them again
//! under the same ids. One worker relays at a time, which keeps the order; another takes over with the next transaction.
//! No transaction is open while the broker is away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::result::Error;
use diesel_async::{AsyncConnection, AsyncPgConnection};
use futures_util::future::join_all;
use metrics::counter;
use shared::messaging::publisher::{Outgoing, PublishError, Publisher};
use shared::telemetry::chain;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::backlog::Backlog;
use crate::lane::{backoff, pause};
use crate::settle::{DatabaseAway, Session, bounded};
use crate::store::database::Database;
use crate::store::events::{self, StoredEvent};

/// How many events one transaction publishes.
const BATCH: i64 = 1024;
/// How often the outbox is looked at when nobody calls: for what another worker left behind.
const IDLE: Duration = Duration::from_secs(1);
/// The longest rest after a pass. Each is as long as its pass, so that events are told in batches.
const REST_MAX: Duration = Duration::from_millis(10);
/// A burst is applied before it is told: so long the relay waits while the lanes are behind. A backlog that lasts longer is
/// told while it is applied.
const WAIT_FOR_LANES: Duration = Duration::from_secs(5);
/// How often it looks whether they still are.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Events are committed by several lanes, so not quite in the order of their ids: each pass goes back so far.
const COMMITTED_LATE: Duration = Duration::from_millis(200);
/// How long an event that was committed even later may be passed by while there are always newer ones.
const START_OVER_EVERY: Duration = Duration::from_secs(1);

/// What the relay needs to know.
pub struct Relay {
    /// Where the database is.
    pub database: Database,
    /// Publishes to the exchange of order events, on one lane, so that events leave nearly in the order they
    /// were written; consumers sort by the order's version.
    pub publisher: Publisher,
    /// Rung after every commit that wrote events.
    pub wake: Arc<tokio::sync::Notify>,
    /// Whether the lanes are behind.
    pub backlog: Arc<Backlog>,
}

/// Relays until `stop`.
pub async fn run(relay: Relay, stop: CancellationToken) {
    let mut session = Session::new(relay.database.clone());
    let mut backoff = backoff();
    let mut place = Place::start();
    let mut behind_since = None;
    while !stop.is_cancelled() {
        behind_since =
            if relay.backlog.is_there(Instant::now()) { behind_since.or(Some(Instant::now())) } else { None };
        if behind_since.is_some_and(|since| since.elapsed() < WAIT_FOR_LANES) {
            pause(LOOK_EVERY, &stop).await;
            continue;
        }
        if relay.publisher.readiness().is_err() {
            pause(backoff.pause(), &stop).await;
            continue;
        }
        let started = Instant::now();
        match relay.pass(&mut session, &mut place).await {
            Ok(Passed { taken: 0, .. }) => {
                backoff.reset();
                tokio::select! {
                    () = relay.wake.notified() => {}
                    () = tokio::time::sleep(IDLE) => {}
                    () = stop.cancelled() => {}
                }
            }
            Ok(Passed { taken, published, .. }) if published < taken => pause(backoff.pause(), &stop).await,
            Ok(_) => {
                backoff.reset();
                pause(started.elapsed().min(REST_MAX), &stop).await;
            }
            Err(error) => {
                session.discard();
                tracing::error!(error = chain(&error), "relay failed");
                pause(backoff.pause(), &stop).await;
            }
        }
    }
}

/// What one transaction did.
struct Passed {
    taken: usize,
    published: usize,
    last: Option<Uuid>,
}

/// How far the relay has come. An event may be committed after others with a later id, so it starts over when it has
/// caught up, and now and then under load.
struct Place {
    last: Option<Uuid>,
    started: Instant,
}

impl Place {
    fn start() -> Self {
        Self { last: None, started: Instant::now() }
    }

    fn after(&self) -> Uuid {
        self.last.map_or(Uuid::nil(), |last| earlier(last, COMMITTED_LATE))
    }

    fn move_on(&mut self, passed: &Passed) {
        let goes_on = passed.published == passed.taken && self.started.elapsed() < START_OVER_EVERY;
        match passed.last {
            Some(last) if goes_on => self.last = Some(last),
            _ => *self = Self::start(),
        }
    }
}

/// The first UUID v7 that could have been made `by` before `id`: its upper 48 bits are the milliseconds.
fn earlier(id: Uuid, by: Duration) -> Uuid {
    let millis = id.as_u128() >> 80;
    Uuid::from_u128(millis.saturating_sub(by.as_millis()) << 80)
}

impl Relay {
    async fn pass(&self, session: &mut Session, place: &mut Place) -> Result<Passed, DatabaseAway> {
        let conn = session.conn().await?;
        let after = place.after();
        let passed = bounded(conn.transaction(async |conn| self.publish_and_delete(conn, after).await)).await?;
        place.move_on(&passed);
        counter!("worker_events_published_total").increment(u64::try_from(passed.published).unwrap_or_default());
        Ok(passed)
    }

    async fn publish_and_delete(&self, conn: &mut AsyncPgConnection, after: Uuid) -> Result<Passed, Error> {
        let taken = if events::claim(conn).await? { events::oldest(conn, after, BATCH).await? } else { Vec::new() };
        let answers = join_all(taken.iter().map(|event| self.publish(event))).await;
        let published: Vec<Uuid> =
            taken.iter().zip(&answers).filter(|(_, it)| it.is_ok()).map(|(it, _)| it.id).collect();
        // One line for all: an outage refuses a thousand at once.
        if let Some(error) = answers.into_iter().find_map(Result::err) {
            let left = taken.len().saturating_sub(published.len());
            tracing::warn!(left, %error, "events not published, they stay in the outbox");
        }
        let last = taken.last().map(|event| event.id);
        let passed = Passed { taken: taken.len(), published: published.len(), last };
        if !published.is_empty() {
            events::delete(conn, published).await?;
        }
        Ok(passed)
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
    fn earlier_ids_are_those_of_an_earlier_time() {
        let id: Uuid = "0192f0c0-0000-7abc-8000-000000000001".parse().unwrap();
        assert_eq!(earlier(id, Duration::from_millis(2)).to_string(), "0192f0bf-fffe-0000-0000-000000000000");
        assert_eq!(earlier(Uuid::nil(), Duration::from_millis(2)), Uuid::nil());
    }
}
