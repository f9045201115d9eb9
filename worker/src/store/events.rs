//! The table `order_events`, the outbox: written with the change, read and deleted by the relay.

use std::marker::PhantomData;

use chrono::{DateTime, SecondsFormat, Utc};
use diesel::result::Error;
use diesel::sql_types::{Array, BigInt, Bool, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::{Map, Value, json};
use shared::domain::ids::{RefundId, SubMchId, TransactionId};
use uuid::Uuid;

use super::statement::set_statement;
use crate::plan::{Happened, OrderEvent};

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
pub async fn insert(conn: &AsyncPgConnection, events: &[OrderEvent]) -> Result<(), Error> {
    let ids: Vec<Uuid> = events.iter().map(|_| Uuid::now_v7()).collect();
    let statement = Insert {
        types: events.iter().map(OrderEvent::name).collect(),
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

fn payload(id: Uuid, event: &OrderEvent) -> String {
    let order = &event.order;
    let mut payload = Map::from_iter([
        ("event_id".to_owned(), json!(id)),
        ("type".to_owned(), json!(event.name())),
        ("order_id".to_owned(), json!(order.id)),
        ("version".to_owned(), json!(order.version)),
        ("mch_id".to_owned(), json!(order.mch_id.as_str())),
        ("sub_mch_id".to_owned(), json!(order.sub_mch_id.as_ref().map(SubMchId::as_str))),
        ("out_trade_no".to_owned(), json!(order.out_trade_no.as_str())),
        ("transaction_id".to_owned(), json!(order.state.transaction_id().map(TransactionId::as_str))),
        ("amount_minor".to_owned(), json!(order.amount.amount_minor)),
        ("currency".to_owned(), json!(order.amount.currency.as_str())),
    ]);
    payload.extend(match &event.happened {
        Happened::Paid(at) => vec![("paid_at".to_owned(), json!(whole_seconds(*at)))],
        Happened::Refund(refund) => vec![
            ("refunded_minor".to_owned(), json!(order.refunded_minor)),
            ("out_refund_no".to_owned(), json!(refund.out_refund_no.as_str())),
            ("refund_id".to_owned(), json!(refund.refund_id.as_ref().map(RefundId::as_str))),
            ("refund_amount_minor".to_owned(), json!(refund.amount_minor)),
            ("succeeded_at".to_owned(), json!(refund.state.succeeded_at().map(whole_seconds))),
        ],
    });
    Value::Object(payload).to_string()
}

fn whole_seconds(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
