//! Events that no queue is bound for: they wait in the outbox and do not delay other events.

use anyhow::{Result, ensure};
use hyper::Method;
use kit::merchants::MERCHANT;
use serde_json::{Value, json};
use shared::messaging::topology::{EVENTS_EXCHANGE, EVENTS_QUEUE};
use uuid::Uuid;

use super::Scene;
use crate::clock::seconds;
use crate::fault::{UNROUTABLE_EVENTS, UNROUTABLE_SECONDS};
use crate::own;
use crate::record::FaultRecord;

/// How old an event of a bound type may be in the outbox.
const LATE_SECONDS: f64 = 5.0;
/// How soon everything is published once the queue is bound again.
const BACK_WITHIN_SECONDS: u64 = 10;

/// The shipped binding, for every type, and the drill's, which leaves out those of refunds that did not succeed.
const ALL_TYPES: &str = "#";
const SOME_TYPES: &str = "order.*";
/// The same as the management API writes the first in a path.
const ALL_TYPES_IN_A_PATH: &str = "%23";

/// Unbinds the types `refund.*`, and inserts a backlog of one of them ahead of all other events.
pub(super) async fn unbind(scene: &Scene, record: &FaultRecord) -> Result<()> {
    let database = scene.servers.database().await?;
    bind(scene, SOME_TYPES).await?;
    let path = format!("{}/{ALL_TYPES_IN_A_PATH}", bindings());
    scene.servers.api(Method::DELETE, &path, Value::Null).await?;
    record.injected();
    // About an order that the simulator does not know: its fulfilment looks at none of them. Their ids are older than those
    // of whatever is committed from now on.
    let marker = own::numbers(1).concat();
    let ids: Vec<Uuid> = (0..UNROUTABLE_EVENTS).map(|_| Uuid::now_v7()).collect();
    let insert = "INSERT INTO order_events (id, type, order_id, payload)
                  SELECT id, 'refund.closed', 0, jsonb_build_object('event_id', id, 'type', 'refund.closed',
                      'order_id', 0, 'version', 1, 'mch_id', $3::text, 'out_trade_no', $2::text)
                  FROM unnest($1::uuid[]) AS events (id)";
    database.execute(insert, &[&ids, &marker, &MERCHANT]).await?;
    seconds(UNROUTABLE_SECONDS).await;
    let late = "SELECT count(*) FROM order_events
                WHERE type LIKE 'order.%' AND created_at < now() - make_interval(secs => $1)";
    let late: i64 = database.query_one(late, &[&LATE_SECONDS]).await?.try_get(0)?;
    let none_late = || -> Result<()> {
        ensure!(late == 0, "{late} are older than that");
        Ok(())
    };
    record.observed(
        "an event that can be routed is published within 5 s, whatever is ahead of it in the outbox",
        5,
        none_late(),
    );
    bind(scene, ALL_TYPES).await?;
    scene.servers.api(Method::DELETE, &format!("{}/{SOME_TYPES}", bindings()), Value::Null).await?;
    record.lifted();
    record.note(format!("{UNROUTABLE_EVENTS} events"));
    record
        .promise("every event that waited is published once a queue is bound again", BACK_WITHIN_SECONDS, async || {
            let waiting = "SELECT count(*) FROM order_events WHERE payload ->> 'out_trade_no' = $1";
            let waiting: i64 = database.query_one(waiting, &[&marker]).await?.try_get(0)?;
            ensure!(waiting == 0, "{waiting} wait");
            Ok(())
        })
        .await;
    Ok(())
}

async fn bind(scene: &Scene, routing_key: &str) -> Result<()> {
    scene.servers.api(Method::POST, &bindings(), json!({"routing_key": routing_key, "arguments": {}})).await?;
    Ok(())
}

fn bindings() -> String {
    format!("bindings/%2f/e/{EVENTS_EXCHANGE}/q/{EVENTS_QUEUE}")
}
