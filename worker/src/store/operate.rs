//! The table `quarantine` as an operator sees and moves it. Every change names who made it and why.
//!
//! WeChat Pay repeats a callback, so one refused payment or refund may have many rows: they are seen, replayed and
//! resolved as one [`Group`].

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::result::{Error, OptionalExtension};
use diesel::sql_types::{Array, BigInt, Binary, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use serde::Serialize;
use uuid::Uuid;

/// Which groups are meant.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Those with any of these rows; empty for all.
    pub ids: Vec<i64>,
    /// Those with this reason.
    pub reason: Option<String>,
    /// Those of this `out_trade_no`.
    pub order: Option<String>,
    /// The most groups, oldest first.
    pub limit: i64,
}

/// One refused or waiting payment or refund with all its repeats.
#[derive(Debug, Serialize, diesel::QueryableByName)]
pub struct Group {
    /// The first of its rows, which names it.
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    /// All its rows.
    #[diesel(sql_type = Array<BigInt>)]
    pub ids: Vec<i64>,
    /// `open` when any of them is, else `waiting`.
    #[diesel(sql_type = Text)]
    pub state: String,
    /// The reason.
    #[diesel(sql_type = Text)]
    pub reason: String,
    /// The merchant, when known.
    #[diesel(sql_type = Nullable<Text>)]
    pub mch_id: Option<String>,
    /// The order, when known.
    #[diesel(sql_type = Nullable<Text>)]
    pub out_trade_no: Option<String>,
    /// WeChat Pay's number for the payment, when known.
    #[diesel(sql_type = Nullable<Text>)]
    pub transaction_id: Option<String>,
    /// The merchant's number for the refund, when it is about one.
    #[diesel(sql_type = Nullable<Text>)]
    pub out_refund_no: Option<String>,
    /// The evidence: `expected` and `got`, or `problem`.
    #[diesel(sql_type = Jsonb)]
    pub detail: serde_json::Value,
    /// When the first of them arrived.
    #[diesel(sql_type = Timestamptz)]
    pub first_received_at: DateTime<Utc>,
    /// When the last of them arrived.
    #[diesel(sql_type = Timestamptz)]
    pub last_received_at: DateTime<Utc>,
}

/// One row with its message.
#[derive(Debug, Serialize, diesel::QueryableByName)]
pub struct Row {
    /// The row.
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    /// The message.
    #[diesel(sql_type = SqlUuid)]
    pub notification_id: Uuid,
    /// When it arrived.
    #[diesel(sql_type = Timestamptz)]
    pub received_at: DateTime<Utc>,
    /// `waiting`, `open` or `resolved`.
    #[diesel(sql_type = Text)]
    pub state: String,
    /// The reason.
    #[diesel(sql_type = Text)]
    pub reason: String,
    /// The evidence.
    #[diesel(sql_type = Jsonb)]
    pub detail: serde_json::Value,
    /// The merchant, when known.
    #[diesel(sql_type = Nullable<Text>)]
    pub mch_id: Option<String>,
    /// The order, when known.
    #[diesel(sql_type = Nullable<Text>)]
    pub out_trade_no: Option<String>,
    /// WeChat Pay's number for the payment, when known.
    #[diesel(sql_type = Nullable<Text>)]
    pub transaction_id: Option<String>,
    /// The merchant's number for the refund, when it is about one.
    #[diesel(sql_type = Nullable<Text>)]
    pub out_refund_no: Option<String>,
    /// When a person is told, for a waiting row.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub waits_until: Option<DateTime<Utc>>,
    /// How often it was decided again.
    #[diesel(sql_type = Integer)]
    pub attempts: i32,
    /// Who asked for the last replay.
    #[diesel(sql_type = Nullable<Text>)]
    pub replay_requested_by: Option<String>,
    /// Why.
    #[diesel(sql_type = Nullable<Text>)]
    pub replay_why: Option<String>,
    /// When it was resolved.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub resolved_at: Option<DateTime<Utc>>,
    /// Who resolved it.
    #[diesel(sql_type = Nullable<Text>)]
    pub resolved_by: Option<String>,
    /// How.
    #[diesel(sql_type = Nullable<Text>)]
    pub resolution: Option<String>,
    /// The order's state now, when there is one.
    #[diesel(sql_type = Nullable<Text>)]
    pub order_state: Option<String>,
    /// What the order was to cost, as in `1750 USD`.
    #[diesel(sql_type = Nullable<Text>)]
    pub order_amount: Option<String>,
    /// What rode beside the body.
    #[diesel(sql_type = Jsonb)]
    pub headers: serde_json::Value,
    /// The exact bytes; they name the payer, so they are shown on request only.
    #[diesel(sql_type = Binary)]
    #[serde(skip)]
    pub body: Vec<u8>,
}

/// The unresolved groups that `filter` means, oldest first.
///
/// # Errors
/// When the database is away.
pub async fn groups(conn: &mut AsyncPgConnection, filter: &Filter) -> Result<Vec<Group>, Error> {
    // A message that names no order has no repeats that could be told: it is a group of its own.
    diesel::sql_query(
        "SELECT min(q.id) AS id, array_agg(q.id ORDER BY q.id) AS ids, min(q.state) AS state, q.reason, q.mch_id, q.out_trade_no, \
         n.transaction_id, n.out_refund_no, q.detail, min(q.notification_received_at) AS first_received_at, \
         max(q.notification_received_at) AS last_received_at \
         FROM quarantine q LEFT JOIN notifications n \
             ON n.id = q.notification_id AND n.received_at = q.notification_received_at \
         WHERE q.state <> 'resolved' AND ($1 IS NULL OR q.reason = $1) AND ($2 IS NULL OR q.out_trade_no = $2) \
         GROUP BY q.reason, q.mch_id, q.out_trade_no, n.transaction_id, n.out_refund_no, q.detail, \
             CASE WHEN q.out_trade_no IS NULL THEN q.id END \
         HAVING cardinality($3) = 0 OR array_agg(q.id) && $3 ORDER BY min(q.id) LIMIT $4",
    )
    .bind::<Nullable<Text>, _>(&filter.reason)
    .bind::<Nullable<Text>, _>(&filter.order)
    .bind::<Array<BigInt>, _>(&filter.ids)
    .bind::<BigInt, _>(filter.limit)
    .load(conn)
    .await
}

/// One row, resolved or not.
///
/// # Errors
/// When the database is away.
pub async fn row(conn: &mut AsyncPgConnection, id: i64) -> Result<Option<Row>, Error> {
    diesel::sql_query(
        "SELECT q.id, q.notification_id, q.notification_received_at AS received_at, q.state, q.reason, q.detail, \
         q.mch_id, q.out_trade_no, n.transaction_id, n.out_refund_no, q.waits_until, q.attempts, q.replay_requested_by, q.replay_why, \
         q.resolved_at, q.resolved_by, q.resolution, o.state AS order_state, \
         o.amount_minor || ' ' || o.currency AS order_amount, n.headers, n.body \
         FROM quarantine q \
         JOIN notifications n ON n.id = q.notification_id AND n.received_at = q.notification_received_at \
         LEFT JOIN orders o ON o.mch_id = q.mch_id AND o.out_trade_no = q.out_trade_no WHERE q.id = $1",
    )
    .bind::<BigInt, _>(id)
    .get_result(conn)
    .await
    .optional()
}

/// Has rows decided again by the next sweep; what still waits then waits as long as a new message would.
/// Returns how many of them were not resolved.
///
/// # Errors
/// When the database is away.
pub async fn replay(
    conn: &mut AsyncPgConnection,
    ids: &[i64],
    by: &str,
    why: &str,
    wait_limit: Duration,
) -> Result<usize, Error> {
    let seconds = i64::try_from(wait_limit.as_secs()).unwrap_or(i64::MAX);
    conn.transaction(async |conn| {
        let ids = lock(conn, ids).await?;
        diesel::sql_query(
            "UPDATE quarantine SET state = 'waiting', waits_until = now() + make_interval(secs => $2), attempts = 0, \
             replay_requested_at = now(), replay_requested_by = $3, replay_why = $4 WHERE id = ANY($1)",
        )
        .bind::<Array<BigInt>, _>(&ids)
        .bind::<BigInt, _>(seconds)
        .bind::<Text, _>(by)
        .bind::<Text, _>(why)
        .execute(conn)
        .await?;
        note(conn, &ids, "waiting").await?;
        Ok(ids.len())
    })
    .await
}

/// Closes rows: a person has dealt with them. Returns how many were not resolved yet.
///
/// # Errors
/// When the database is away.
pub async fn resolve(conn: &mut AsyncPgConnection, ids: &[i64], by: &str, why: &str) -> Result<usize, Error> {
    conn.transaction(async |conn| {
        let ids = lock(conn, ids).await?;
        diesel::sql_query(
            "UPDATE quarantine SET state = 'resolved', resolved_at = now(), resolved_by = $2, resolution = $3, \
             replay_requested_at = NULL WHERE id = ANY($1)",
        )
        .bind::<Array<BigInt>, _>(&ids)
        .bind::<Text, _>(by)
        .bind::<Text, _>(why)
        .execute(conn)
        .await?;
        note(conn, &ids, "quarantined").await?;
        Ok(ids.len())
    })
    .await
}

/// Locks those of the rows that are still unresolved: first the quarantine, then the ledger, as the sweeper does.
async fn lock(conn: &mut AsyncPgConnection, ids: &[i64]) -> Result<Vec<i64>, Error> {
    let sql = "SELECT id FROM quarantine WHERE id = ANY($1) AND state <> 'resolved' ORDER BY id FOR UPDATE";
    let rows: Vec<Locked> = diesel::sql_query(sql).bind::<Array<BigInt>, _>(ids).load(conn).await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

#[derive(diesel::QueryableByName)]
struct Locked {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

/// Keeps the ledger's outcome in step with locked rows.
async fn note(conn: &mut AsyncPgConnection, ids: &[i64], outcome: &str) -> Result<(), Error> {
    diesel::sql_query(
        "UPDATE notifications n SET outcome = $2, handled_at = now() FROM quarantine q \
         WHERE q.id = ANY($1) AND n.id = q.notification_id AND n.received_at = q.notification_received_at \
         AND n.outcome <> $2",
    )
    .bind::<Array<BigInt>, _>(ids)
    .bind::<Text, _>(outcome)
    .execute(conn)
    .await
    .map(drop)
}
