//! The table `quarantine` as operators read and change it. Every change records who made it and why.
//!
//! WeChat Pay repeats a callback, so one refused payment or refund may have many rows: they are seen, replayed and
//! resolved as one [`Group`].

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::result::{Error, OptionalExtension};
use diesel::sql_types::{
    Array, BigInt, Binary, Bool, Integer, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use serde::Serialize;
use uuid::Uuid;

use crate::batch::outcome::reason;

/// Which groups are meant.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Those with any of these rows; empty for all.
    pub ids: Vec<i64>,
    /// Those with this reason.
    pub reason: Option<String>,
    /// Those of this `out_trade_no`.
    pub order: Option<String>,
    /// Whether rows that were resolved without being decided are meant too; only with `ids`.
    pub resolved: bool,
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
    /// The sub-merchant, when there is one.
    #[diesel(sql_type = Nullable<Text>)]
    pub sub_mch_id: Option<String>,
    /// The order, when known.
    #[diesel(sql_type = Nullable<Text>)]
    pub out_trade_no: Option<String>,
    /// WeChat Pay's number for the payment, when known.
    #[diesel(sql_type = Nullable<Text>)]
    pub transaction_id: Option<String>,
    /// The merchant's number for the refund, when it is about one.
    #[diesel(sql_type = Nullable<Text>)]
    pub out_refund_no: Option<String>,
    /// What the payer paid, as in `1750 USD`.
    #[diesel(sql_type = Nullable<Text>)]
    pub paid: Option<String>,
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

/// What an operator may do about a held row, by its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// Undecided, and nothing else knows of it: it is replayed or abandoned.
    Work,
    /// Decided: it may be resolved at any time, and the ledger keeps what was decided.
    ForPeople,
}

impl Nature {
    /// By the reason in `quarantine.reason`.
    #[must_use]
    pub fn from_reason(reason: &str) -> Self {
        const WORK: [&str; 6] = [
            reason::DECIDE_ALONE,
            reason::UNDECODABLE,
            reason::AMBIGUOUS_SIGNATURE,
            reason::REJECTED_BY_DATABASE,
            reason::SUB_MCH_ID_MISMATCH,
            reason::MCH_ID_MISMATCH,
        ];
        if reason.starts_with("for_") || WORK.contains(&reason) { Self::Work } else { Self::ForPeople }
    }
}

/// The reasons that an operator can accept: what they say contradicts what is on record, and may be right all the same.
pub const ACCEPTABLE: [&str; 3] =
    [reason::AMBIGUOUS_SIGNATURE, reason::REFUND_ID_MISMATCH, reason::REFUND_STATE_CONFLICT];

/// One row with its message.
#[derive(Debug, Serialize, diesel::QueryableByName)]
pub struct Row {
    /// The row.
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    /// The message.
    #[diesel(sql_type = SqlUuid)]
    pub notification_id: Uuid,
    /// The part of it, for a combined order.
    #[diesel(sql_type = SmallInt)]
    pub notification_part: i16,
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
    /// The sub-merchant, when there is one.
    #[diesel(sql_type = Nullable<Text>)]
    pub sub_mch_id: Option<String>,
    /// The order, when known.
    #[diesel(sql_type = Nullable<Text>)]
    pub out_trade_no: Option<String>,
    /// WeChat Pay's number for the payment, when known.
    #[diesel(sql_type = Nullable<Text>)]
    pub transaction_id: Option<String>,
    /// The merchant's number for the refund, when it is about one.
    #[diesel(sql_type = Nullable<Text>)]
    pub out_refund_no: Option<String>,
    /// What the payer paid, as in `1750 USD`.
    #[diesel(sql_type = Nullable<Text>)]
    pub paid: Option<String>,
    /// What is on record about the payment: `accepted`, `refused` or `returned`.
    #[diesel(sql_type = Nullable<Text>)]
    pub payment: Option<String>,
    /// When it is opened for an operator, for a waiting row.
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
    /// The order's amount, as in `1750 USD`.
    #[diesel(sql_type = Nullable<Text>)]
    pub order_amount: Option<String>,
    /// The message's type and headers; `None` when its month has been dropped.
    #[diesel(sql_type = Nullable<Jsonb>)]
    pub headers: Option<serde_json::Value>,
    /// The exact bytes; they name the payer, so they are shown on request only.
    #[diesel(sql_type = Nullable<Binary>)]
    #[serde(skip)]
    pub body: Option<Vec<u8>>,
}

/// The unresolved groups that `filter` means, oldest first.
///
/// # Errors
/// When the database is unavailable.
pub async fn groups(conn: &mut AsyncPgConnection, filter: &Filter) -> Result<Vec<Group>, Error> {
    // A callback that names no order has no repeats that could be found, and one that can be read in more than one way may be
    // genuine or not: each is a group of its own.
    diesel::sql_query(
        "SELECT min(q.id) AS id, array_agg(q.id ORDER BY q.id) AS ids, min(q.state) AS state, q.reason, q.mch_id, q.sub_mch_id, \
         q.out_trade_no, q.transaction_id, q.out_refund_no, q.detail, max(q.amount_minor || ' ' || q.currency) AS paid, \
         min(q.notification_received_at) AS first_received_at, \
         max(q.notification_received_at) AS last_received_at FROM countersign.quarantine q \
         WHERE (q.state <> 'resolved' OR ($5 AND q.id = ANY($3) \
             AND q.resolution NOT IN ('applied', 'duplicate', 'ignored'))) AND ($1 IS NULL OR q.reason = $1) AND ($2 IS NULL OR q.out_trade_no = $2) \
         GROUP BY q.reason, q.mch_id, q.sub_mch_id, q.out_trade_no, q.transaction_id, q.out_refund_no, q.detail, \
             q.amount_minor, q.currency, CASE WHEN q.out_trade_no IS NULL OR q.reason = 'ambiguous_signature' THEN q.id END \
         HAVING cardinality($3) = 0 OR array_agg(q.id) && $3 ORDER BY min(q.id) LIMIT $4",
    )
    .bind::<Nullable<Text>, _>(&filter.reason)
    .bind::<Nullable<Text>, _>(&filter.order)
    .bind::<Array<BigInt>, _>(&filter.ids)
    .bind::<BigInt, _>(filter.limit)
    .bind::<Bool, _>(filter.resolved)
    .load(conn)
    .await
}

/// One row, resolved or not.
///
/// # Errors
/// When the database is unavailable.
pub async fn row(conn: &mut AsyncPgConnection, id: i64) -> Result<Option<Row>, Error> {
    diesel::sql_query(
        "SELECT q.id, q.notification_id, q.notification_part, q.notification_received_at AS received_at, q.state, q.reason, \
         q.detail, q.mch_id, q.sub_mch_id, q.out_trade_no, q.transaction_id, q.out_refund_no, \
         q.amount_minor || ' ' || q.currency AS paid, p.disposition AS payment, q.waits_until, q.attempts, \
         q.replay_requested_by, q.replay_why, q.resolved_at, q.resolved_by, q.resolution, o.state AS order_state, \
         o.amount_minor || ' ' || o.currency AS order_amount, n.headers::jsonb AS headers, n.body \
         FROM countersign.quarantine q \
         LEFT JOIN countersign.notifications n \
             ON n.id = q.notification_id AND n.received_at = q.notification_received_at AND n.part = 0 \
         LEFT JOIN countersign.orders o ON o.mch_id = q.mch_id AND o.out_trade_no = q.out_trade_no AND coalesce(o.sub_mch_id, '') = coalesce(q.sub_mch_id, '') \
         LEFT JOIN countersign.payments p ON p.mch_id = q.mch_id AND p.transaction_id = q.transaction_id WHERE q.id = $1",
    )
    .bind::<BigInt, _>(id)
    .get_result(conn)
    .await
    .optional()
}

/// Who asks for a change, and why.
#[derive(Debug, Clone, Copy)]
pub struct Operator<'a> {
    /// The name.
    pub by: &'a str,
    /// The reason.
    pub why: &'a str,
}

/// What is done with groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Decided again by the next sweep; what still waits then waits as long as a new callback would.
    Replay(Duration),
    /// Decided again by the next sweep, and taken although it contradicts what is on record.
    Accept(Duration),
    /// Closed: an operator has dealt with it.
    Resolve,
    /// Given up: the ledger says so, and a later report of the same is decided anew.
    Abandon,
}

/// Makes the change to all rows of the groups that are still held for the reason that the operator has seen; returns how many.
///
/// # Errors
/// When the database is unavailable.
pub async fn change(
    conn: &mut AsyncPgConnection,
    groups: &[Group],
    operator: Operator<'_>,
    deed: Deed,
) -> Result<usize, Error> {
    conn.transaction(async |conn| {
        let mut changed = Vec::new();
        lock(conn, groups).await?;
        for group in groups {
            changed.extend(still_seen(conn, group, matches!(deed, Deed::Replay(_))).await?);
        }
        match deed {
            Deed::Replay(wait_limit) => request(conn, &changed, operator, false, wait_limit).await?,
            Deed::Accept(wait_limit) => request(conn, &changed, operator, true, wait_limit).await?,
            Deed::Resolve => close(conn, &changed, operator.by, operator.why, "quarantined").await?,
            Deed::Abandon => {
                close(conn, &changed, operator.by, &format!("abandoned: {}", operator.why), "abandoned").await?;
            }
        }
        Ok(changed.len())
    })
    .await
}

async fn request(
    conn: &mut AsyncPgConnection,
    ids: &[i64],
    operator: Operator<'_>,
    accepts: bool,
    wait_limit: Duration,
) -> Result<(), Error> {
    diesel::sql_query(
        "UPDATE countersign.quarantine SET state = 'waiting', waits_until = now() + make_interval(secs => $2), attempts = 0, \
         detail = CASE WHEN state = 'resolved' THEN detail || jsonb_build_object('resolved_before', jsonb_build_object( \
             'at', resolved_at, 'by', resolved_by, 'resolution', resolution)) ELSE detail END, \
         resolved_at = NULL, resolved_by = NULL, resolution = NULL, replay_requested_at = now(), replay_requested_by = $3, replay_why = $4, replay_accepts = $5, \
         replay_pending = true WHERE id = ANY($1)",
    )
    .bind::<Array<BigInt>, _>(ids)
    .bind::<BigInt, _>(i64::try_from(wait_limit.as_secs()).unwrap_or(i64::MAX))
    .bind::<Text, _>(operator.by)
    .bind::<Text, _>(operator.why)
    .bind::<Bool, _>(accepts)
    .execute(conn)
    .await?;
    note(conn, ids, "waiting").await
}

async fn close(
    conn: &mut AsyncPgConnection,
    ids: &[i64],
    by: &str,
    resolution: &str,
    outcome: &str,
) -> Result<(), Error> {
    diesel::sql_query(
        "UPDATE countersign.quarantine SET state = 'resolved', resolved_at = now(), resolved_by = $2, resolution = $3, \
         replay_requested_at = NULL, replay_pending = false, replay_accepts = false WHERE id = ANY($1)",
    )
    .bind::<Array<BigInt>, _>(ids)
    .bind::<Text, _>(by)
    .bind::<Text, _>(resolution)
    .execute(conn)
    .await?;
    note(conn, ids, outcome).await
}

/// Locks the rows in the order of their ids, first the quarantine, then the ledger, as the sweeper does.
async fn lock(conn: &mut AsyncPgConnection, groups: &[Group]) -> Result<(), Error> {
    let ids: Vec<i64> = groups.iter().flat_map(|group| group.ids.iter().copied()).collect();
    let sql = "SELECT id FROM countersign.quarantine WHERE id = ANY($1) ORDER BY id FOR UPDATE";
    diesel::sql_query(sql).bind::<Array<BigInt>, _>(ids).execute(conn).await.map(drop)
}

/// Those locked rows of the group that are still held for what the group says: a row that the sweeper was deciding may be held
/// for something else by the time that its lock is free, which the operator has not seen.
async fn still_seen(conn: &mut AsyncPgConnection, group: &Group, resolved: bool) -> Result<Vec<i64>, Error> {
    let sql = "SELECT id FROM countersign.quarantine \
               WHERE id = ANY($1) AND (state <> 'resolved' OR $4) AND reason = $2 AND detail = $3";
    let rows: Vec<Id> = diesel::sql_query(sql)
        .bind::<Array<BigInt>, _>(&group.ids)
        .bind::<Text, _>(&group.reason)
        .bind::<Jsonb, _>(&group.detail)
        .bind::<Bool, _>(resolved)
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

#[derive(diesel::QueryableByName)]
struct Id {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

/// Keeps the ledger's outcome in step with locked rows.
async fn note(conn: &mut AsyncPgConnection, ids: &[i64], outcome: &str) -> Result<(), Error> {
    diesel::sql_query(
        "UPDATE countersign.notifications n SET outcome = $2, handled_at = now() FROM countersign.quarantine q \
         WHERE q.id = ANY($1) AND n.id = q.notification_id AND n.part = q.notification_part \
         AND n.received_at = q.notification_received_at AND n.outcome <> $2",
    )
    .bind::<Array<BigInt>, _>(ids)
    .bind::<Text, _>(outcome)
    .execute(conn)
    .await
    .map(drop)
}
