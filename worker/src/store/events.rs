//! The table `order_events`, the outbox: written with the change, read and deleted by the relay.

use std::marker::PhantomData;

use chrono::{SecondsFormat, Utc};
use diesel::result::Error;
use diesel::sql_types::{Array, BigInt, Bool, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use shared::domain::ids::SubMchId;
use shared::domain::order::OrderState;
use uuid::Uuid;

use super::statement::set_statement;
use crate::plan::OrderPaid;

/// The `type` of the event that a paid order leaves.
const ORDER_PAID: &str = "order.paid";

/// An event as the relay publishes it.
#[derive(Debug, diesel::QueryableByName)]
pub struct StoredEvent {
    /// The AMQP `message_id`, by which consumers drop repeats.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// The AMQP `type` and routing key.
    #[diesel(sql_type = Text)]
    pub r#type: String,
    /// JSON.
    #[diesel(sql_type = Text)]
    pub payload: String,
    /// When it was written, in seconds since 1970.
    #[diesel(sql_type = BigInt)]
    pub created_at_seconds: i64,
}

set_statement! {
    /// A row per event.
    Insert<'a>(
        ids: Array<SqlUuid> = Vec<Uuid>,
        types: Array<Text> = Vec<&'a str>,
        order_ids: Array<BigInt> = Vec<i64>,
        payloads: Array<Text> = Vec<String>,
    ) -> () {
        "INSERT INTO order_events (id, type, order_id, payload) SELECT id, type, order_id, payload::jsonb FROM"
        "AS new (id, type, order_id, payload)"
    }
}

set_statement! {
    /// What the broker has confirmed.
    Delete<'a>(ids: Array<SqlUuid> = Vec<Uuid>) -> () {
        "DELETE FROM order_events WHERE id IN (SELECT * FROM"
        ")"
    }
}

/// Writes the events of a batch.
///
/// # Errors
/// When the database is away.
pub async fn insert(conn: &AsyncPgConnection, events: &[OrderPaid]) -> Result<(), Error> {
    let ids: Vec<Uuid> = events.iter().map(|_| Uuid::now_v7()).collect();
    let statement = Insert {
        types: events.iter().map(|_| ORDER_PAID).collect(),
        order_ids: events.iter().map(|event| event.order.id).collect(),
        payloads: ids.iter().zip(events).map(|(id, event)| payload(*id, event)).collect(),
        ids,
        life: PhantomData,
    };
    statement.execute(&mut &*conn).await.map(drop)
}

/// Any number that no other program uses as an advisory lock in this database.
const RELAY_LOCK: i64 = 0x636f_756e_7465_7274;

/// Makes this transaction the only relay of the database; false when another one is.
///
/// # Errors
/// When the database is away.
pub async fn claim(conn: &mut AsyncPgConnection) -> Result<bool, Error> {
    #[derive(diesel::QueryableByName)]
    struct Claim {
        #[diesel(sql_type = Bool)]
        claimed: bool,
    }
    let claim: Claim = diesel::sql_query("SELECT pg_try_advisory_xact_lock($1) AS claimed")
        .bind::<BigInt, _>(RELAY_LOCK)
        .get_result(conn)
        .await?;
    Ok(claim.claimed)
}

/// The oldest events after `after`. Whoever reads on from there passes by what was deleted since the last vacuum.
///
/// # Errors
/// When the database is away.
pub async fn oldest(conn: &mut AsyncPgConnection, after: Uuid, limit: i64) -> Result<Vec<StoredEvent>, Error> {
    diesel::sql_query(
        "SELECT id, type, payload::text AS payload, extract(epoch FROM created_at)::bigint AS created_at_seconds \
         FROM order_events WHERE id > $1 ORDER BY id LIMIT $2",
    )
    .bind::<SqlUuid, _>(after)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await
}

/// Deletes events that the broker has confirmed.
///
/// # Errors
/// When the database is away.
pub async fn delete(conn: &mut AsyncPgConnection, ids: Vec<Uuid>) -> Result<(), Error> {
    Delete { ids, life: PhantomData }.execute(conn).await.map(drop)
}

fn payload(id: Uuid, event: &OrderPaid) -> String {
    let order = &event.order;
    let transaction_id = match &order.state {
        OrderState::Paid(transaction_id) | OrderState::Refunded(transaction_id) => Some(transaction_id.as_str()),
        OrderState::Pending | OrderState::Closed => None,
    };
    serde_json::json!({
        "event_id": id,
        "type": ORDER_PAID,
        "order_id": order.id,
        "version": order.version,
        "mch_id": order.mch_id.as_str(),
        "sub_mch_id": order.sub_mch_id.as_ref().map(SubMchId::as_str),
        "out_trade_no": order.out_trade_no.as_str(),
        "transaction_id": transaction_id,
        "amount_minor": order.amount.amount_minor,
        "currency": order.amount.currency.as_str(),
        "paid_at": event.paid_at.with_timezone(&Utc).to_rfc3339_opts(SecondsFormat::Secs, true),
    })
    .to_string()
}
