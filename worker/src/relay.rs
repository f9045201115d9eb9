//! The relay: publishes the outbox to the merchant's fulfilment, at least once, by event id.
//!
//! Events are locked, published with confirms, deleted, committed. A crash between confirm and commit publishes them
//! again under the same ids. No transaction is open while the broker is away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use diesel::result::Error;
use diesel_async::{AsyncConnection, AsyncPgConnection};
use futures_util::future::join_all;
use metrics::counter;
use shared::messaging::publisher::{Outgoing, Publisher};
use shared::telemetry::chain;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::lane::{backoff, pause};
use crate::settle::{DatabaseAway, Session};
use crate::store::database::Database;
use crate::store::events::{self, StoredEvent};

/// How many events one transaction publishes.
const BATCH: i64 = 256;
/// How often the outbox is looked at when nobody calls: for what another worker left behind.
const IDLE: Duration = Duration::from_secs(1);

/// What the relay needs to know.
pub struct Relay {
    /// Where the database is.
    pub database: Database,
    /// Publishes to the exchange of order events, on one lane, so that events leave in the order they were written.
    pub publisher: Publisher,
    /// Rung after every commit that wrote events.
    pub wake: Arc<tokio::sync::Notify>,
}

/// Relays until `stop`.
pub async fn run(relay: Relay, stop: CancellationToken) {
    let mut session = Session::new(relay.database.clone());
    let mut backoff = backoff();
    while !stop.is_cancelled() {
        if relay.publisher.readiness().is_err() {
            pause(backoff.pause(), &stop).await;
            continue;
        }
        match relay.pass(&mut session).await {
            Ok(Passed { taken: 0, .. }) => {
                backoff.reset();
                tokio::select! {
                    () = relay.wake.notified() => {}
                    () = tokio::time::sleep(IDLE) => {}
                    () = stop.cancelled() => {}
                }
            }
            Ok(Passed { taken, published }) if published < taken => pause(backoff.pause(), &stop).await,
            Ok(_) => backoff.reset(),
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
}

impl Relay {
    async fn pass(&self, session: &mut Session) -> Result<Passed, DatabaseAway> {
        let conn = session.conn().await?;
        let passed = conn.transaction(async |conn| self.publish_and_delete(conn).await).await?;
        counter!("worker_events_published_total").increment(u64::try_from(passed.published).unwrap_or_default());
        Ok(passed)
    }

    async fn publish_and_delete(&self, conn: &mut AsyncPgConnection) -> Result<Passed, Error> {
        let taken = events::take(conn, BATCH).await?;
        let published: Vec<Uuid> =
            join_all(taken.iter().map(|event| self.publish(event))).await.into_iter().flatten().collect();
        let passed = Passed { taken: taken.len(), published: published.len() };
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
