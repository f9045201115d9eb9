//! The table `quarantine` as a batch writes it: one row per held message, moved along, never inserted again.
//!
//! What the sweeper reads is in [`super::sweep`]; what operators see and do is in [`super::operate`].

use std::marker::PhantomData;
use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::result::Error;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use shared::domain::ids::OutTradeNo;
use uuid::Uuid;

use super::statement::set_statement;
use crate::apply::Handled;
use crate::plan::{Finding, Outcome};

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
