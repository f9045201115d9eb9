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
use shared::messaging::publisher::{Outgoing, Publisher};
use shared::telemetry::chain;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::lane::{backoff, pause};
use crate::settle::{DatabaseAway, Session, bounded};
use crate::store::database::Database;
use crate::store::events::{self, StoredEvent};

/// How many events one transaction publishes.
const BATCH: i64 = 1024;
/// How often the outbox is looked at when nobody calls: for what another worker left behind.
const IDLE: Duration = Duration::from_secs(1);
/// The longest rest after a pass.
const REST_MAX: Duration = Duration::from_millis(250);
/// How long an event that was committed late may be passed by while there are always newer ones.
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
}

/// Relays until `stop`.
pub async fn run(relay: Relay, stop: CancellationToken) {
    let mut session = Session::new(relay.database.clone());
    let mut backoff = backoff();
    let mut place = Place::start();
    while !stop.is_cancelled() {
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
                // Payments are applied before they are told: under a backlog the relay leaves the lanes half of the time.
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
        self.last.unwrap_or(Uuid::nil())
    }

    fn move_on(&mut self, passed: &Passed) {
        let goes_on = passed.published == passed.taken && self.started.elapsed() < START_OVER_EVERY;
        match passed.last {
            Some(last) if goes_on => self.last = Some(last),
            _ => *self = Self::start(),
        }
    }
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
        let published: Vec<Uuid> =
            join_all(taken.iter().map(|event| self.publish(event))).await.into_iter().flatten().collect();
        let last = taken.last().map(|event| event.id);
        let passed = Passed { taken: taken.len(), published: published.len(), last };
        if !published.is_empty() {
            events::delete(conn, published).await?;
        }
        Ok(passed)
    }

    /// The event's id once the broker has confirmed it.
    async fn publish(&self, event: &StoredEvent) -> Option<Uuid> {
        let outgoing = Outgoing {
            message_id: event.id.to_string(),
            kind: event.r#type.clone(),
            routing_key: event.r#type.clone(),
            content_type: Some("application/json".to_owned()),
            timestamp_seconds: u64::try_from(event.created_at_seconds).unwrap_or_default(),
            headers: BTreeMap::new(),
            body: event.payload.clone().into_bytes(),
        };
        match self.publisher.publish(outgoing).await {
            Ok(()) => Some(event.id),
            Err(error) => {
                tracing::warn!(event = %event.id, %error, "event not published, stays in the outbox");
                None
            }
        }
    }
}
