//! What the sweeper reads and expires: held messages whose time has come.
//!
//! Every query locks with SKIP LOCKED, so that the sweepers of many workers share the work instead of queueing for it.

use chrono::{DateTime, Utc};
use diesel::result::{Error, OptionalExtension};
use diesel::sql_types::{BigInt, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::notifications;
use crate::message::Message;

/// Why a held message is decided again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// An operator asked for it.
    Replay,
    /// The order it waited for is there.
    OrderAppeared,
    /// The order whose payment it waited for is paid, or given up, or was paid in a way that it does not want.
    OrderPaid,
    /// The lock that somebody held may be gone.
    LockMayBeGone,
    /// The key it waits for may have come, by another worker's word.
    KeyMayHaveCome,
    /// This worker has new keys: also for what a person was told of already.
    NewKeys,
    /// It may be what kills workers, and its attempt has been counted.
    Suspect,
}

/// Held messages, their rows in `quarantine` locked.
#[derive(Debug, Default)]
pub struct Due {
    /// The last row locked; `None` when nothing was due.
    pub last: Option<i64>,
    /// The stored messages, in the order of the rows.
    pub messages: Vec<Message>,
}

#[derive(diesel::QueryableByName)]
struct DueRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = SqlUuid)]
    notification_id: Uuid,
    #[diesel(sql_type = Timestamptz)]
    notification_received_at: DateTime<Utc>,
}

/// `SELECT` of [`DueRow`] with a condition on `q`, the quarantine row. Binds: the id to go on after, and the limit.
macro_rules! due {
    ($condition:literal) => {
        concat!(
            "SELECT q.id, q.notification_id, q.notification_received_at FROM quarantine q \
             WHERE q.state <> 'resolved' AND q.id > $1 AND ",
            $condition,
            " ORDER BY q.id LIMIT $2 FOR UPDATE SKIP LOCKED"
        )
    };
}

/// Locks up to `limit` messages that are due for `cause`, those after the row `after`, in the order of the rows.
///
/// # Errors
/// When the database is away.
pub async fn due(conn: &mut AsyncPgConnection, cause: Cause, after: i64, limit: i64) -> Result<Due, Error> {
    let sql = match cause {
        // What may kill workers goes alone, even when an operator asks for it.
        Cause::Replay => due!("q.replay_requested_at IS NOT NULL AND q.reason <> 'decide_alone'"),
        Cause::OrderAppeared => due!(
            "q.reason = 'for_order' AND EXISTS \
             (SELECT FROM orders o WHERE o.mch_id = q.mch_id AND o.out_trade_no = q.out_trade_no)"
        ),
        // Or a payment of it has come that the order does not want, which may be the one that went back.
        Cause::OrderPaid => due!(
            "q.reason = 'for_payment' AND (EXISTS (SELECT FROM orders o \
                 WHERE o.mch_id = q.mch_id AND o.out_trade_no = q.out_trade_no AND o.state <> 'pending') \
             OR EXISTS (SELECT FROM quarantine p \
                 WHERE p.mch_id = q.mch_id AND p.out_trade_no = q.out_trade_no AND p.state <> 'resolved' \
                 AND p.reason IN ('amount_mismatch', 'paid_after_close')))"
        ),
        Cause::LockMayBeGone => due!("q.reason = 'for_lock' AND q.state = 'waiting'"),
        Cause::KeyMayHaveCome => due!("q.reason = 'for_key' AND q.state = 'waiting'"),
        Cause::NewKeys => due!("q.reason = 'for_key'"),
        // This one and no other: its attempt was counted.
        Cause::Suspect => due!("q.reason = 'decide_alone' AND q.state = 'waiting' AND q.id = $1 + 1"),
    };
    let rows: Vec<DueRow> = diesel::sql_query(sql).bind::<BigInt, _>(after).bind::<BigInt, _>(limit).load(conn).await?;
    // The ledger is looked at only when there is something to do: planning over all its months is not free.
    let Some(last) = rows.last().map(|row| row.id) else { return Ok(Due::default()) };
    let keys = rows.iter().map(|row| (row.notification_id, row.notification_received_at));
    let mut messages = notifications::load(conn, keys).await?;
    // A row whose month was dropped with it still unresolved has nothing left to decide.
    let messages = rows.iter().filter_map(|row| messages.remove(&row.notification_id)).collect();
    Ok(Due { last: Some(last), messages })
}

/// Counts one more attempt at a message that may kill workers, and commits that before anybody touches the message.
///
/// # Errors
/// When the database is away.
pub async fn claim_suspect(conn: &mut AsyncPgConnection, attempts_max: i32) -> Result<Option<i64>, Error> {
    #[derive(diesel::QueryableByName)]
    struct Claimed {
        #[diesel(sql_type = BigInt)]
        id: i64,
    }
    let claimed: Option<Claimed> = diesel::sql_query(
        "UPDATE quarantine SET attempts = attempts + 1 WHERE id = ( \
             SELECT id FROM quarantine \
             WHERE reason = 'decide_alone' AND state = 'waiting' AND attempts < $1 \
             ORDER BY attempts, id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id",
    )
    .bind::<Integer, _>(attempts_max)
    .get_result(conn)
    .await
    .optional()?;
    Ok(claimed.map(|claimed| claimed.id))
}

/// Opens what has waited long enough, in the ledger too; returns how many a person is told of.
///
/// # Errors
/// When the database is away.
pub async fn expire(conn: &mut AsyncPgConnection, attempts_max: i32, limit: i64) -> Result<usize, Error> {
    diesel::sql_query(
        "WITH over AS ( \
             SELECT id FROM quarantine WHERE state = 'waiting' \
             AND ((replay_requested_at IS NULL AND waits_until <= now()) OR (reason = 'decide_alone' AND attempts >= $1)) \
             ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED), \
         opened AS ( \
             UPDATE quarantine SET state = 'open', opened_at = now(), replay_requested_at = NULL FROM over WHERE quarantine.id = over.id \
             RETURNING notification_id, notification_received_at) \
         UPDATE notifications SET outcome = 'quarantined', handled_at = now() FROM opened \
         WHERE notifications.id = notification_id AND received_at = notification_received_at",
    )
    .bind::<Integer, _>(attempts_max)
    .bind::<BigInt, _>(limit)
    .execute(conn)
    .await
}

/// What waits and what is open, by state and reason.
#[derive(Debug, diesel::QueryableByName)]
pub struct Unresolved {
    /// `waiting` or `open`.
    #[diesel(sql_type = Text)]
    pub state: String,
    /// The reason in `quarantine.reason`.
    #[diesel(sql_type = Text)]
    pub reason: String,
    /// How many.
    #[diesel(sql_type = BigInt)]
    pub rows: i64,
}

/// Counts what is not resolved.
///
/// # Errors
/// When the database is away.
pub async fn unresolved(conn: &mut AsyncPgConnection) -> Result<Vec<Unresolved>, Error> {
    diesel::sql_query("SELECT state, reason, count(*) AS rows FROM quarantine WHERE state <> 'resolved' GROUP BY 1, 2")
        .load(conn)
        .await
}

/// The outbox and the ledger's months, for the metrics.
#[derive(Debug, diesel::QueryableByName)]
pub struct Backlog {
    /// Events that wait for the relay, counted up to a hundred thousand.
    #[diesel(sql_type = BigInt)]
    pub events: i64,
    /// Age of the oldest of them; `None` when there is none.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub oldest_event_seconds: Option<i64>,
    /// Months after this one that have a partition.
    #[diesel(sql_type = BigInt)]
    pub months_ahead: i64,
}

/// Measures the outbox and the months made ahead.
///
/// # Errors
/// When the database is away.
pub async fn backlog(conn: &mut AsyncPgConnection) -> Result<Backlog, Error> {
    diesel::sql_query(
        "SELECT (SELECT count(*) FROM (SELECT FROM order_events LIMIT 100000) AS counted) AS events, \
         (SELECT extract(epoch FROM now() - created_at)::bigint FROM order_events ORDER BY id LIMIT 1) \
             AS oldest_event_seconds, \
         (SELECT count(*) FROM pg_class WHERE relname ~ '^notifications_[0-9]{4}_[0-9]{2}$' AND relkind = 'r' \
             AND relname > 'notifications_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')) AS months_ahead",
    )
    .get_result(conn)
    .await
}
