//! The table `quarantine` as a batch writes it: one row per held message, moved along, never inserted again.
//!
//! What the sweeper reads is in [`super::sweep`]; what operators see and do is in [`super::operate`].

use std::collections::HashSet;
use std::marker::PhantomData;
use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::result::Error;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use shared::domain::ids::{OutTradeNo, TransactionId};
use shared::domain::order::{Order, Surplus};
use uuid::Uuid;

use super::statement::set_statement;
use crate::apply::Handled;
use crate::plan::{Finding, Outcome, ReturnedSurplus};

set_statement! {
    /// A row per held message.
    Insert<'a>(
        ids: Array<SqlUuid> = Vec<Uuid>,
        received_ats: Array<Timestamptz> = Vec<DateTime<Utc>>,
        mch_ids: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        numbers: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        reasons: Array<Text> = Vec<&'a str>,
        details: Array<Text> = Vec<String>,
        states: Array<Text> = Vec<&'a str>,
        wait_seconds: Array<BigInt> = Vec<i64>,
    ) -> () {
        "INSERT INTO quarantine (notification_id, notification_received_at, mch_id, out_trade_no, reason, detail, \
         state, waits_until, opened_at) \
         SELECT id, received_at, mch_id, out_trade_no, reason, detail::jsonb, state, \
         CASE WHEN state = 'waiting' THEN now() + make_interval(secs => wait_seconds) END, \
         CASE WHEN state = 'open' THEN now() END FROM"
        "AS new (id, received_at, mch_id, out_trade_no, reason, detail, state, wait_seconds) ORDER BY id"
    }
}

set_statement! {
    /// What deciding again came to. A row that goes on waiting keeps its end.
    Move<'a>(
        ids: Array<SqlUuid> = Vec<Uuid>,
        mch_ids: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        numbers: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        reasons: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        details: Array<Nullable<Text>> = Vec<Option<String>>,
        states: Array<Text> = Vec<&'a str>,
        resolutions: Array<Nullable<Text>> = Vec<Option<&'a str>>,
    ) -> () {
        "UPDATE quarantine AS old SET \
         mch_id = coalesce(new.mch_id, old.mch_id), out_trade_no = coalesce(new.out_trade_no, old.out_trade_no), \
         reason = coalesce(new.reason, old.reason), detail = coalesce(new.detail::jsonb, old.detail), \
         state = new.state, \
         opened_at = CASE WHEN new.state = 'open' THEN coalesce(old.opened_at, now()) ELSE old.opened_at END, \
         resolved_at = CASE WHEN new.state = 'resolved' THEN now() END, \
         resolved_by = CASE WHEN new.state = 'resolved' THEN CASE WHEN old.replay_requested_at IS NULL THEN 'sweeper' ELSE old.replay_requested_by END END, \
         resolution = new.resolution, replay_requested_at = NULL, attempts = old.attempts + 1 FROM"
        "AS new (id, mch_id, out_trade_no, reason, detail, state, resolution) WHERE old.notification_id = new.id"
    }
}

set_statement! {
    /// Which of these orders did not want a payment. It is asked of nearly every payment, and nearly never one: so it leaves
    /// the ledger alone, whose months would all have to be opened.
    FindSurplus<'a>(mch_ids: Array<Text> = Vec<&'a str>, numbers: Array<Text> = Vec<&'a str>) -> (Text, Text) {
        "SELECT DISTINCT mch_id, out_trade_no FROM quarantine \
         WHERE reason IN ('amount_mismatch', 'paid_twice', 'paid_after_close') \
         AND (mch_id, out_trade_no) IN (SELECT * FROM"
        ")"
    }
}

set_statement! {
    /// The payments that these orders did not want: their sum where it is not the order's, whether all their rows are resolved,
    /// and whether a refund did that.
    LoadSurplus<'a>(mch_ids: Array<Text> = Vec<&'a str>, numbers: Array<Text> = Vec<&'a str>)
    -> (Text, Text, Text, Nullable<BigInt>, Bool, Bool) {
        "SELECT q.mch_id, q.out_trade_no, n.transaction_id, \
         min(CASE q.reason WHEN 'amount_mismatch' THEN split_part(q.detail ->> 'got', ' ', 1)::bigint END), \
         bool_and(q.state = 'resolved'), bool_or(q.resolved_by IS NOT DISTINCT FROM 'refund') FROM quarantine q \
         JOIN notifications n ON n.id = q.notification_id AND n.received_at = q.notification_received_at \
         WHERE n.kind = 'payment' AND n.transaction_id IS NOT NULL \
         AND q.reason IN ('amount_mismatch', 'paid_twice', 'paid_after_close') \
         AND (q.mch_id, q.out_trade_no) IN (SELECT * FROM"
        ") GROUP BY 1, 2, 3"
    }
}

set_statement! {
    /// Resolves what such a payment and its earlier refunds have left in the quarantine, in the order in which everybody locks
    /// those rows, and keeps the ledger in step.
    SettleSurplus<'a>(
        mch_ids: Array<Text> = Vec<&'a str>,
        numbers: Array<Text> = Vec<&'a str>,
        transaction_ids: Array<Text> = Vec<&'a str>,
    ) -> () {
        "WITH held AS (SELECT q.id FROM quarantine q JOIN"
        "AS returned (mch_id, out_trade_no, transaction_id) USING (mch_id, out_trade_no) \
         WHERE q.state <> 'resolved' \
         AND q.reason IN ('amount_mismatch', 'paid_twice', 'paid_after_close', 'surplus_not_returned') \
         AND EXISTS (SELECT FROM notifications n \
             WHERE n.id = q.notification_id AND n.received_at = q.notification_received_at \
             AND n.transaction_id = returned.transaction_id) \
         ORDER BY q.id FOR UPDATE OF q), \
         settled AS (UPDATE quarantine q SET state = 'resolved', resolved_at = now(), resolved_by = 'refund', \
         resolution = 'refunded', replay_requested_at = NULL FROM held WHERE q.id = held.id \
         RETURNING notification_id, notification_received_at) \
         UPDATE notifications n SET outcome = 'quarantined', handled_at = clock_timestamp() FROM settled \
         WHERE n.id = notification_id AND n.received_at = notification_received_at AND n.outcome <> 'quarantined'"
    }
}

/// Tells the orders, which the caller has locked, of the payments that they did not want. Such a payment is refused under
/// the lock of its order, so that none can come meanwhile.
///
/// # Errors
/// When the database is away.
pub async fn read_surplus(conn: &mut AsyncPgConnection, mut orders: Vec<&mut Order>) -> Result<(), Error> {
    let found = find_surplus(conn, &orders).await?;
    if found.is_empty() {
        return Ok(());
    }
    orders.retain(|order| found.contains(&(order.mch_id.to_string(), order.out_trade_no.to_string())));
    load_surplus(conn, orders).await
}

/// Runs the statements of [`read_surplus`] on nothing.
///
/// # Errors
/// When the database is away, or lacks what they need.
pub async fn rehearse_surplus(conn: &mut AsyncPgConnection) -> Result<(), Error> {
    find_surplus(conn, &[]).await?;
    load_surplus(conn, Vec::new()).await
}

async fn find_surplus(conn: &mut AsyncPgConnection, orders: &[&mut Order]) -> Result<HashSet<(String, String)>, Error> {
    let statement = FindSurplus {
        mch_ids: orders.iter().map(|order| order.mch_id.as_str()).collect(),
        numbers: orders.iter().map(|order| order.out_trade_no.as_str()).collect(),
        life: PhantomData,
    };
    Ok(statement.load(conn).await?.into_iter().collect())
}

async fn load_surplus(conn: &mut AsyncPgConnection, mut orders: Vec<&mut Order>) -> Result<(), Error> {
    let statement = LoadSurplus {
        mch_ids: orders.iter().map(|order| order.mch_id.as_str()).collect(),
        numbers: orders.iter().map(|order| order.out_trade_no.as_str()).collect(),
        life: PhantomData,
    };
    let rows: Vec<(String, String, String, Option<i64>, bool, bool)> = statement.load(conn).await?;
    for (mch_id, out_trade_no, transaction_id, total_minor, is_settled, was_refunded) in rows {
        let own = orders
            .iter_mut()
            .find(|order| order.mch_id.as_str() == mch_id && order.out_trade_no.as_str() == out_trade_no);
        if let (Some(order), Some(transaction_id)) = (own, TransactionId::parse(&transaction_id)) {
            let total_minor = total_minor.unwrap_or(order.amount.amount_minor);
            // A repeat that came after the refund may be open again.
            let surplus = Surplus { transaction_id, total_minor, is_settled, is_returned: was_refunded };
            order.surplus.push(surplus);
        }
    }
    Ok(())
}

/// Resolves the rows of payments that have gone back.
///
/// # Errors
/// When the database is away.
pub async fn settle_surplus(conn: &mut AsyncPgConnection, returned: &[ReturnedSurplus]) -> Result<(), Error> {
    let statement = SettleSurplus {
        mch_ids: returned.iter().map(|returned| returned.order.mch_id.as_str()).collect(),
        numbers: returned.iter().map(|returned| returned.order.out_trade_no.as_str()).collect(),
        transaction_ids: returned.iter().map(|returned| returned.transaction_id.as_str()).collect(),
        life: PhantomData,
    };
    statement.execute(conn).await.map(drop)
}

/// Adds a row for every held one of the handled messages, which are all new.
///
/// # Errors
/// When the database is away or refuses a value.
pub async fn insert(conn: &AsyncPgConnection, handled: &[Handled<'_>], wait_limit: Duration) -> Result<(), Error> {
    let wait_seconds = i64::try_from(wait_limit.as_secs()).unwrap_or(i64::MAX);
    let held = || handled.iter().filter_map(|handled| Some((handled, handled.outcome.held()?)));
    let statement = Insert {
        ids: held().map(|(handled, _)| handled.message.id).collect(),
        received_ats: held().map(|(handled, _)| handled.message.received_at).collect(),
        mch_ids: held().map(|(handled, _)| mch_id(handled)).collect(),
        numbers: held().map(|(handled, _)| out_trade_no(handled)).collect(),
        reasons: held().map(|(_, held)| held.reason()).collect(),
        details: held().map(|(_, held)| held.detail().to_string()).collect(),
        states: held().map(|(handled, _)| state(&handled.outcome)).collect(),
        wait_seconds: held().map(|_| wait_seconds).collect(),
        life: PhantomData,
    };
    statement.execute(&mut &*conn).await.map(drop)
}

/// Moves the rows of handled messages, which were all held before, to what they came to.
///
/// # Errors
/// When the database is away or refuses a value.
pub async fn move_on(conn: &AsyncPgConnection, handled: &[Handled<'_>]) -> Result<(), Error> {
    let held = |handled: &Handled<'_>| handled.outcome.held().map(|held| held.detail().to_string());
    let statement = Move {
        ids: handled.iter().map(|handled| handled.message.id).collect(),
        mch_ids: handled.iter().map(mch_id).collect(),
        numbers: handled.iter().map(out_trade_no).collect(),
        reasons: handled.iter().map(|handled| handled.outcome.held().map(crate::plan::Held::reason)).collect(),
        details: handled.iter().map(held).collect(),
        states: handled.iter().map(|handled| state(&handled.outcome)).collect(),
        resolutions: handled.iter().map(|handled| resolution(&handled.outcome)).collect(),
        life: PhantomData,
    };
    statement.execute(&mut &*conn).await.map(drop)
}

fn mch_id<'a>(handled: &'a Handled<'_>) -> Option<&'a str> {
    match &handled.finding {
        Finding::Notified(notification) => Some(notification.mch_id().as_str()),
        Finding::Undecided(_) => None,
    }
}

fn out_trade_no<'a>(handled: &'a Handled<'_>) -> Option<&'a str> {
    match &handled.finding {
        Finding::Notified(notification) => notification.out_trade_no().map(OutTradeNo::as_str),
        Finding::Undecided(_) => None,
    }
}

fn state(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Applied | Outcome::Duplicate | Outcome::Ignored(_) => "resolved",
        Outcome::Waiting(_) => "waiting",
        Outcome::Quarantined(_) => "open",
    }
}

fn resolution(outcome: &Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Applied | Outcome::Duplicate | Outcome::Ignored(_) => Some(outcome.name()),
        Outcome::Waiting(_) | Outcome::Quarantined(_) => None,
    }
}
