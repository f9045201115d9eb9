//! The table `order_events`, the outbox: written with the change, read and deleted by the relay.

use std::marker::PhantomData;

use chrono::{DateTime, SecondsFormat, Utc};
use diesel::result::Error;
use diesel::sql_types::{Array, BigInt, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::Serialize;
use shared::domain::ids::{RefundId, SubMchId};
use uuid::Uuid;

use super::statement::{set_statement, to_json};
use crate::batch::plan::{Happened, OrderEvent};

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
        "INSERT INTO countersign.order_events (id, type, order_id, payload) SELECT id, type, order_id, payload::json FROM"
        "AS new (id, type, order_id, payload)"
    }
}

set_statement! {
    /// What the broker has confirmed.
    Delete<'a>(ids: Array<SqlUuid> = Vec<Uuid>) -> () {
        "DELETE FROM countersign.order_events WHERE id IN"
        ""
    }
}

/// Writes the events of a batch under these ids.
///
/// # Errors
/// When the database is unavailable.
pub async fn insert(conn: &AsyncPgConnection, ids: &[Uuid], events: &[OrderEvent]) -> Result<(), Error> {
    let statement = Insert {
        types: events.iter().map(OrderEvent::name).collect(),
        order_ids: events.iter().map(|event| event.order.id).collect(),
        payloads: ids.iter().zip(events).map(|(id, event)| payload(*id, event)).collect::<Result<_, _>>()?,
        ids: ids.to_vec(),
        life: PhantomData,
    };
    statement.execute(&mut &*conn).await.map(drop)
}

/// Makes this transaction the only relay of the database; false when another session is, which has locked the row.
///
/// # Errors
/// When the database is unavailable.
pub async fn claim(conn: &mut AsyncPgConnection) -> Result<bool, Error> {
    let claimed =
        diesel::sql_query("SELECT id FROM countersign.relay WHERE id = 1 FOR UPDATE SKIP LOCKED").execute(conn).await?;
    Ok(claimed > 0)
}

/// The oldest events after `after`, without those of the types `except`. A caller that reads on from the last one passes by
/// the rows that were deleted since the last vacuum.
///
/// # Errors
/// When the database is unavailable.
pub async fn oldest(
    conn: &mut AsyncPgConnection,
    after: Uuid,
    except: &[String],
    limit: i64,
) -> Result<Vec<StoredEvent>, Error> {
    diesel::sql_query(
        "SELECT id, type, payload::text AS payload, extract(epoch FROM created_at)::bigint AS created_at_seconds \
         FROM countersign.order_events WHERE id > $1 AND type <> ALL ($2) ORDER BY id LIMIT $3",
    )
    .bind::<SqlUuid, _>(after)
    .bind::<Array<Text>, _>(except)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await
}

/// The oldest event of each of these types, as far as there is one.
///
/// # Errors
/// When the database is unavailable.
pub async fn oldest_of_each(conn: &mut AsyncPgConnection, types: &[String]) -> Result<Vec<StoredEvent>, Error> {
    diesel::sql_query(
        "SELECT oldest.* FROM unnest($1) AS wanted (type), LATERAL ( \
             SELECT id, type, payload::text AS payload, extract(epoch FROM created_at)::bigint AS created_at_seconds \
             FROM countersign.order_events WHERE order_events.type = wanted.type ORDER BY id LIMIT 1) AS oldest",
    )
    .bind::<Array<Text>, _>(types)
    .load(conn)
    .await
}

/// Whether the oldest event has been in the outbox for longer than this.
///
/// # Errors
/// When the database is unavailable.
pub async fn waits_longer_than(conn: &mut AsyncPgConnection, seconds: i64) -> Result<bool, Error> {
    let late = diesel::sql_query(
        "SELECT FROM (SELECT created_at FROM countersign.order_events ORDER BY id LIMIT 1) AS oldest \
         WHERE created_at < now() - make_interval(secs => $1)",
    )
    .bind::<BigInt, _>(seconds)
    .execute(conn)
    .await?;
    Ok(late > 0)
}

/// Deletes events that the broker has confirmed.
///
/// # Errors
/// When the database is unavailable.
pub async fn delete(conn: &mut AsyncPgConnection, ids: Vec<Uuid>) -> Result<(), Error> {
    Delete { ids, life: PhantomData }.execute(conn).await.map(drop)
}

/// The JSON of an event.
#[derive(Serialize)]
struct Payload<'a> {
    event_id: Uuid,
    r#type: &'static str,
    order_id: i64,
    version: i32,
    mch_id: &'a str,
    sub_mch_id: Option<&'a str>,
    out_trade_no: &'a str,
    transaction_id: &'a str,
    amount_minor: i64,
    currency: &'a str,
    #[serde(flatten)]
    happened: Details<'a>,
}

/// What only some events have.
#[derive(Serialize)]
#[serde(untagged)]
enum Details<'a> {
    Paid {
        paid_at: String,
    },
    Refused {
        paid_at: String,
        reason: &'static str,
        payment_amount_minor: i64,
        payment_currency: &'a str,
    },
    Refund {
        refunded_minor: i64,
        out_refund_no: &'a str,
        refund_id: Option<&'a str>,
        refund_amount_minor: i64,
        succeeded_at: Option<String>,
        payment_amount_minor: i64,
        payment_returned_minor: i64,
    },
}

fn payload(id: Uuid, event: &OrderEvent) -> Result<String, Error> {
    let order = &event.order;
    let payload = Payload {
        event_id: id,
        r#type: event.name(),
        order_id: order.id,
        version: order.version,
        mch_id: order.mch_id.as_str(),
        sub_mch_id: order.sub_mch_id.as_ref().map(SubMchId::as_str),
        out_trade_no: order.out_trade_no.as_str(),
        transaction_id: event.payment().transaction_id.as_str(),
        amount_minor: order.amount.amount_minor,
        currency: order.amount.currency.as_str(),
        happened: match &event.happened {
            Happened::Paid(payment) => Details::Paid { paid_at: whole_seconds(payment.paid_at) },
            Happened::Refused { payment, reason } => Details::Refused {
                paid_at: whole_seconds(payment.paid_at),
                reason,
                payment_amount_minor: payment.amount.amount_minor,
                payment_currency: payment.amount.currency.as_str(),
            },
            Happened::Refund { refund, payment } => Details::Refund {
                refunded_minor: order.refunded_minor,
                out_refund_no: refund.out_refund_no.as_str(),
                refund_id: refund.refund_id.as_ref().map(RefundId::as_str),
                refund_amount_minor: refund.amount_minor,
                succeeded_at: refund.state.succeeded_at().map(whole_seconds),
                payment_amount_minor: payment.amount.amount_minor,
                payment_returned_minor: payment.returned_minor,
            },
        },
    };
    to_json(&payload)
}

fn whole_seconds(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests;
