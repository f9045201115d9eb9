//! What the sweeper reads and expires: held parts that are due.
//!
//! Every query locks with SKIP LOCKED, so that the sweepers of many workers share the work instead of queueing for it.

use chrono::{DateTime, Utc};
use diesel::result::Error;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use shared::domain::decide::Asked;
use uuid::Uuid;

use super::ledger::{self, Stored};

/// Why held parts are decided again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// An operator asked for it.
    Replay,
    /// The order it waited for exists now.
    OrderAppeared,
    /// The payment that it refunds is on record now.
    PaymentRecorded,
    /// The lock that another session held may be gone.
    LockMayBeGone,
    /// This worker may know the key that it waits for: a worker with an older merchants file may have held it.
    KeyMayHaveCome,
    /// This worker has new keys, or has just started. This also retries rows that are already open for an operator.
    NewKeys,
    /// The database may accept now what it refused before.
    DatabaseMayTakeIt,
}

/// A held row that is due.
#[derive(Debug, diesel::QueryableByName)]
pub struct Due {
    /// The row in `quarantine`, locked.
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    #[diesel(sql_type = SqlUuid)]
    notification_id: Uuid,
    /// The part of its message.
    #[diesel(sql_type = SmallInt)]
    pub notification_part: i16,
    #[diesel(sql_type = Timestamptz)]
    notification_received_at: DateTime<Utc>,
    /// Why it is held.
    #[diesel(sql_type = Text)]
    pub reason: String,
    #[diesel(sql_type = Nullable<Text>)]
    replay_by: Option<String>,
    #[diesel(sql_type = Bool)]
    replay_accepts: bool,
    /// Whether an operator's request has not been looked at yet.
    #[diesel(sql_type = Bool)]
    pub replay_is_due: bool,
}

impl Due {
    /// The operator whose request has not been decided yet, and how it is to be decided.
    #[must_use]
    pub fn request(&self) -> Option<(String, Asked)> {
        let asked = if self.replay_accepts { Asked::ByAcceptance } else { Asked::ByReplay };
        Some((self.replay_by.clone()?, asked))
    }
}

/// `SELECT` of [`Due`] with a condition on `q`, the quarantine row, and what follows the order.
macro_rules! select_due {
    ($condition:expr, $limit:literal) => {
        concat!(
            "SELECT q.id, q.notification_id, q.notification_part, q.notification_received_at, q.reason, \
             CASE WHEN q.replay_pending THEN q.replay_requested_by END AS replay_by, q.replay_accepts, \
             q.replay_requested_at IS NOT NULL AS replay_is_due \
             FROM countersign.quarantine q WHERE q.state <> 'resolved' AND ",
            $condition,
            " ORDER BY q.id ",
            $limit,
            " FOR UPDATE SKIP LOCKED"
        )
    };
}

/// The same, some rows at a time. Binds: the id to go on after, and the limit.
macro_rules! due {
    ($condition:literal) => {
        select_due!(concat!("q.id > $1 AND ", $condition), "LIMIT $2")
    };
}

/// Locks up to `limit` rows that are due for `cause`, those after the row `after`, in the order of the rows.
///
/// # Errors
/// When the database is unavailable.
pub async fn due(conn: &mut AsyncPgConnection, cause: Cause, after: i64, limit: i64) -> Result<Vec<Due>, Error> {
    let sql = match cause {
        // What may end workers goes apart from the others, even when an operator asks for it.
        Cause::Replay => due!("q.replay_requested_at IS NOT NULL AND q.reason <> 'decide_alone'"),
        Cause::OrderAppeared => due!(
            "q.reason IN ('for_order', 'sub_mch_id_mismatch') AND EXISTS (SELECT FROM countersign.orders o \
             WHERE o.mch_id = q.mch_id AND o.out_trade_no = q.out_trade_no AND coalesce(o.sub_mch_id, '') = coalesce(q.sub_mch_id, ''))"
        ),
        Cause::PaymentRecorded => due!(
            "q.reason = 'for_payment' AND EXISTS (SELECT FROM countersign.payments p \
             WHERE p.mch_id = q.mch_id AND p.transaction_id = q.transaction_id)"
        ),
        Cause::LockMayBeGone => due!("q.reason = 'for_lock'"),
        Cause::KeyMayHaveCome => due!("q.reason = 'for_key' AND q.state = 'waiting'"),
        Cause::NewKeys => due!("q.reason IN ('for_key', 'for_version', 'mch_id_mismatch')"),
        Cause::DatabaseMayTakeIt => due!("q.reason = 'rejected_by_database'"),
    };
    diesel::sql_query(sql).bind::<BigInt, _>(after).bind::<BigInt, _>(limit).load(conn).await
}

/// The stored messages of rows that are due, each with its row. A row whose month has been dropped has none.
///
/// # Errors
/// When the database is unavailable.
pub async fn load(conn: &mut AsyncPgConnection, due: Vec<Due>) -> Result<Vec<(Due, Option<Stored>)>, Error> {
    let keys = due.iter().map(|row| (row.notification_id, row.notification_received_at));
    let stored = ledger::load(conn, keys).await?;
    // Several parts of one message: each row has a copy.
    let with_message = |row: Due| {
        let found = stored.get(&row.notification_id);
        let found = found.map(|found| Stored { message: found.message.clone(), parts: found.parts });
        (row, found)
    };
    Ok(due.into_iter().map(with_message).collect())
}

/// Marks rows that can no longer be decided, because their month has been dropped from the ledger.
///
/// # Errors
/// When the database is unavailable.
pub async fn give_up(conn: &mut AsyncPgConnection, ids: Vec<i64>) -> Result<(), Error> {
    diesel::sql_query(
        "UPDATE countersign.quarantine SET state = 'open', opened_at = coalesce(opened_at, now()), replay_requested_at = NULL, \
         detail = detail || jsonb_build_object('was', reason, 'problem', \
             'its month has been dropped from the ledger, so that it cannot be decided any more'), \
         reason = 'message_dropped' WHERE id = ANY($1)",
    )
    .bind::<Array<BigInt>, _>(ids)
    .execute(conn)
    .await
    .map(drop)
}

/// Takes suspects, which are parts that may be crashing workers, and counts one more attempt at each. The caller commits before
/// it touches any of them.
///
/// # Errors
/// When the database is unavailable.
pub async fn claim_suspects(conn: &mut AsyncPgConnection, attempts: i32, limit: i64) -> Result<Vec<i64>, Error> {
    #[derive(diesel::QueryableByName)]
    struct Claimed {
        #[diesel(sql_type = BigInt)]
        id: i64,
    }
    let claimed: Vec<Claimed> = diesel::sql_query(
        "UPDATE countersign.quarantine SET attempts = attempts + 1 WHERE id IN ( \
             SELECT id FROM countersign.quarantine WHERE reason = 'decide_alone' AND state = 'waiting' AND attempts = $1 \
             ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING id",
    )
    .bind::<Integer, _>(attempts)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?;
    Ok(claimed.into_iter().map(|claimed| claimed.id).collect())
}

/// Takes back the attempt that was counted for these suspects, because the database failed and not they.
///
/// # Errors
/// When the database is unavailable.
pub async fn unclaim_suspects(conn: &mut AsyncPgConnection, ids: &[i64]) -> Result<(), Error> {
    diesel::sql_query(
        "UPDATE countersign.quarantine SET attempts = attempts - 1 WHERE id = ANY($1) AND reason = 'decide_alone' AND attempts > 0",
    )
    .bind::<Array<BigInt>, _>(ids)
    .execute(conn)
    .await
    .map(drop)
}

/// Locks these suspects.
///
/// # Errors
/// When the database is unavailable.
pub async fn suspects(conn: &mut AsyncPgConnection, ids: &[i64]) -> Result<Vec<Due>, Error> {
    diesel::sql_query(select_due!("q.id = ANY($1) AND q.reason = 'decide_alone'", ""))
        .bind::<Array<BigInt>, _>(ids)
        .load(conn)
        .await
}

/// Opens what has waited long enough, in the ledger too; returns how many an operator is told of. A callback whose number only
/// other shops' orders have says so.
///
/// # Errors
/// When the database is unavailable.
pub async fn expire(conn: &mut AsyncPgConnection, attempts_max: i32, limit: i64) -> Result<usize, Error> {
    diesel::sql_query(
        "WITH over AS ( \
             SELECT id FROM countersign.quarantine WHERE state = 'waiting' \
             AND ((replay_requested_at IS NULL AND waits_until <= now()) OR (reason = 'decide_alone' AND attempts >= $1)) \
             ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED), \
         opened AS ( \
             UPDATE countersign.quarantine q SET state = 'open', opened_at = now(), replay_requested_at = NULL, \
             reason = CASE WHEN reason = 'for_order' AND EXISTS (SELECT FROM countersign.orders o \
                 WHERE o.mch_id = q.mch_id AND o.out_trade_no = q.out_trade_no \
                 AND coalesce(o.sub_mch_id, '') <> coalesce(q.sub_mch_id, '')) THEN 'sub_mch_id_mismatch' ELSE reason END \
             FROM over WHERE q.id = over.id \
             RETURNING notification_id, notification_part, notification_received_at, reason) \
         UPDATE countersign.notifications n SET outcome = 'quarantined', reason = opened.reason, handled_at = now() FROM opened \
         WHERE n.id = notification_id AND n.part = notification_part AND n.received_at = notification_received_at",
    )
    .bind::<Integer, _>(attempts_max)
    .bind::<BigInt, _>(limit)
    .execute(conn)
    .await
}

/// Resolves open rows of refused payments that have since been accepted or returned; returns how many.
///
/// # Errors
/// When the database is unavailable.
pub async fn resolve_refused(conn: &mut AsyncPgConnection, limit: i64) -> Result<usize, Error> {
    diesel::sql_query(
        "WITH done AS ( \
             SELECT q.id, p.disposition FROM countersign.quarantine q \
             JOIN countersign.payments p ON p.mch_id = q.mch_id AND p.transaction_id = q.transaction_id \
             WHERE q.state = 'open' AND q.replay_requested_at IS NULL AND p.disposition IN ('accepted', 'returned') \
             AND q.reason IN ('app_id_mismatch', 'currency_mismatch', 'amount_mismatch', 'paid_twice', 'paid_after_close', \
                 'partly_returned') AND q.amount_minor IS NOT NULL \
             ORDER BY q.id LIMIT $1 FOR UPDATE OF q SKIP LOCKED) \
         UPDATE countersign.quarantine q SET state = 'resolved', resolved_at = now(), resolved_by = 'sweeper', \
         resolution = done.disposition FROM done WHERE q.id = done.id",
    )
    .bind::<BigInt, _>(limit)
    .execute(conn)
    .await
}

/// What waits, or what is open.
#[derive(Debug, diesel::QueryableByName)]
pub struct Unresolved {
    /// `waiting` or `open`.
    #[diesel(sql_type = Text)]
    pub state: String,
    /// How many.
    #[diesel(sql_type = BigInt)]
    pub rows: i64,
}

/// Counts what is not resolved.
///
/// # Errors
/// When the database is unavailable.
pub async fn unresolved(conn: &mut AsyncPgConnection) -> Result<Vec<Unresolved>, Error> {
    diesel::sql_query(
        "SELECT state, count(*) AS rows FROM countersign.quarantine WHERE state <> 'resolved' GROUP BY state",
    )
    .load(conn)
    .await
}

/// What payers have paid that no order shows, in one currency.
#[derive(Debug, diesel::QueryableByName)]
pub struct MoneyHeld {
    /// ISO 4217.
    #[diesel(sql_type = Text)]
    pub currency: String,
    /// In its smallest unit.
    #[diesel(sql_type = BigInt)]
    pub amount_minor: i64,
}

/// The money of payments that wait or are open and that paid no order, each transaction once, less what has gone back of it.
///
/// # Errors
/// When the database is unavailable.
pub async fn money_held(conn: &mut AsyncPgConnection) -> Result<Vec<MoneyHeld>, Error> {
    diesel::sql_query(
        "SELECT currency, least(sum(amount_minor), 9223372036854775807)::bigint AS amount_minor FROM ( \
             SELECT q.currency, greatest(max(q.amount_minor) - coalesce(max(p.returned_minor), 0), 0) AS amount_minor FROM countersign.quarantine q \
             LEFT JOIN countersign.payments p ON p.mch_id = q.mch_id AND p.transaction_id = q.transaction_id \
             WHERE q.state <> 'resolved' AND q.amount_minor IS NOT NULL AND q.currency IS NOT NULL \
             AND p.disposition IS DISTINCT FROM 'accepted' \
             GROUP BY q.currency, q.mch_id, coalesce(q.transaction_id, q.id::text)) AS each_once GROUP BY currency",
    )
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
/// When the database is unavailable.
pub async fn backlog(conn: &mut AsyncPgConnection) -> Result<Backlog, Error> {
    diesel::sql_query(
        "SELECT (SELECT count(*) FROM (SELECT FROM countersign.order_events LIMIT 100000) AS counted) AS events, \
         (SELECT extract(epoch FROM now() - created_at)::bigint FROM countersign.order_events ORDER BY id LIMIT 1) \
             AS oldest_event_seconds, \
         (SELECT count(*) FROM pg_class WHERE relname ~ '^notifications_[0-9]{4}_[0-9]{2}$' AND relkind = 'r' \
             AND relname > 'notifications_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')) AS months_ahead",
    )
    .get_result(conn)
    .await
}

#[cfg(test)]
mod tests {
    use crate::batch::outcome::reason;

    /// The quoted words behind `reason =`, `reason <>` and `reason IN` in SQL.
    fn named_reasons(sql: &str) -> Vec<&str> {
        let mut named = Vec::new();
        for after in sql.split("reason ").skip(1) {
            let words = after.split('\'').skip(1).step_by(2);
            if let Some(list) = after.strip_prefix("IN (") {
                let list = list.split(')').next().unwrap_or_default();
                named.extend(list.split('\'').skip(1).step_by(2));
            } else if after.starts_with("= '") || after.starts_with("<> '") {
                named.extend(words.take(1));
            }
        }
        named
    }

    #[test]
    fn every_reason_that_the_sql_names_is_one_that_is_written() {
        let refusals = ["app_id_mismatch", "currency_mismatch", "amount_mismatch", "paid_twice", "paid_after_close"];
        let known = [
            reason::FOR_ORDER,
            reason::FOR_PAYMENT,
            reason::FOR_KEY,
            reason::FOR_LOCK,
            reason::FOR_VERSION,
            reason::DECIDE_ALONE,
            reason::MCH_ID_MISMATCH,
            reason::SUB_MCH_ID_MISMATCH,
            reason::REJECTED_BY_DATABASE,
            "message_dropped",
            "partly_returned",
        ];
        let source = include_str!("due.rs").split("#[cfg(test)]").next().unwrap_or_default();
        let named = named_reasons(source);
        assert!(named.len() > 15, "the search finds too little: {named:?}");
        for name in named {
            assert!(known.contains(&name) || refusals.contains(&name), "no code writes the reason {name}");
        }
    }
}
