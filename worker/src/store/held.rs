//! The table `quarantine` as a batch writes it: one row per held part, inserted or updated.
//!
//! A batch writes only the rows of its own callbacks. What the sweeper reads is in [`super::due`]; what operators see and do
//! is in [`super::operator`].

use std::marker::PhantomData;
use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::result::Error;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use shared::domain::ids::{MchId, OutRefundNo, OutTradeNo, SubMchId, TransactionId};
use uuid::Uuid;

use super::statement::set_statement;
use crate::batch::outcome::{Held, Outcome};
use crate::batch::plan::Handled;

set_statement! {
    /// A row per held part. A part that was held before, and whose ledger row went with its month, is held again.
    Insert<'a>(
        ids: Array<SqlUuid> = Vec<Uuid>,
        parts: Array<SmallInt> = Vec<i16>,
        received_ats: Array<Timestamptz> = Vec<DateTime<Utc>>,
        mch_ids: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        sub_mch_ids: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        numbers: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        transaction_ids: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        refund_numbers: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        amounts: Array<Nullable<BigInt>> = Vec<Option<i64>>,
        currencies: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        reasons: Array<Text> = Vec<&'a str>,
        details: Array<Text> = Vec<String>,
        states: Array<Text> = Vec<&'a str>,
        wait_seconds: Array<BigInt> = Vec<i64>,
    ) -> () {
        "INSERT INTO countersign.quarantine (notification_id, notification_part, notification_received_at, mch_id, sub_mch_id, \
         out_trade_no, transaction_id, out_refund_no, amount_minor, currency, reason, detail, state, waits_until, opened_at) \
         SELECT id, part, received_at, mch_id, sub_mch_id, out_trade_no, transaction_id, out_refund_no, amount_minor, \
         currency, reason, detail::jsonb, state, \
         CASE WHEN state = 'waiting' THEN now() + make_interval(secs => wait_seconds) END, \
         CASE WHEN state = 'open' THEN now() END FROM"
        "AS new (id, part, received_at, mch_id, sub_mch_id, out_trade_no, transaction_id, out_refund_no, amount_minor, \
         currency, reason, detail, state, wait_seconds) ORDER BY id, part \
         ON CONFLICT (notification_id, notification_part) DO UPDATE SET reason = excluded.reason, \
         detail = excluded.detail, state = excluded.state, waits_until = excluded.waits_until, \
         opened_at = excluded.opened_at, resolved_at = NULL, resolved_by = NULL, resolution = NULL, attempts = 0, \
         replay_requested_at = NULL, replay_pending = false, replay_accepts = false"
    }
}

set_statement! {
    /// What deciding again came to. A row that goes on waiting keeps its end, and one that was not decided keeps an operator's
    /// request: a replay may have to wait for a key on the way.
    Move<'a>(
        ids: Array<SqlUuid> = Vec<Uuid>,
        parts: Array<SmallInt> = Vec<i16>,
        mch_ids: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        sub_mch_ids: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        numbers: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        transaction_ids: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        refund_numbers: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        amounts: Array<Nullable<BigInt>> = Vec<Option<i64>>,
        currencies: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        reasons: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        details: Array<Nullable<Text>> = Vec<Option<String>>,
        states: Array<Text> = Vec<&'a str>,
        resolutions: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        wait_seconds: Array<BigInt> = Vec<i64>,
        are_decided: Array<Bool> = Vec<bool>,
    ) -> () {
        "UPDATE countersign.quarantine AS old SET \
         mch_id = coalesce(new.mch_id, old.mch_id), sub_mch_id = coalesce(new.sub_mch_id, old.sub_mch_id), \
         out_trade_no = coalesce(new.out_trade_no, old.out_trade_no), \
         transaction_id = coalesce(new.transaction_id, old.transaction_id), \
         out_refund_no = coalesce(new.out_refund_no, old.out_refund_no), \
         amount_minor = coalesce(new.amount_minor, old.amount_minor), currency = coalesce(new.currency, old.currency), \
         reason = coalesce(new.reason, old.reason), detail = coalesce(new.detail::jsonb, old.detail), \
         state = new.state, \
         waits_until = CASE WHEN new.state = 'waiting' \
             THEN coalesce(old.waits_until, now() + make_interval(secs => new.wait_seconds)) ELSE old.waits_until END, \
         opened_at = CASE WHEN new.state = 'open' THEN coalesce(old.opened_at, now()) ELSE old.opened_at END, \
         resolved_at = CASE WHEN new.state = 'resolved' THEN now() END, \
         resolved_by = CASE WHEN new.state = 'resolved' \
             THEN CASE WHEN old.replay_pending THEN old.replay_requested_by ELSE 'sweeper' END END, \
         resolution = new.resolution, replay_requested_at = NULL, replay_pending = old.replay_pending AND NOT new.is_decided, \
         replay_accepts = old.replay_accepts AND NOT new.is_decided, attempts = old.attempts + 1 FROM"
        "AS new (id, part, mch_id, sub_mch_id, out_trade_no, transaction_id, out_refund_no, amount_minor, currency, reason, \
         detail, state, resolution, wait_seconds, is_decided) \
         WHERE old.notification_id = new.id AND old.notification_part = new.part"
    }
}

/// Adds a row for each of these parts, which are new to the ledger and held.
///
/// # Errors
/// When the database is unavailable or refuses a value.
pub async fn insert(conn: &AsyncPgConnection, handled: &[&Handled<'_>], wait_limit: Duration) -> Result<(), Error> {
    let held = || handled.iter().filter_map(|handled| Some((handled, handled.outcome().held()?)));
    let columns = Columns::from_handled(handled);
    let statement = Insert {
        ids: columns.ids,
        parts: columns.parts,
        received_ats: handled.iter().map(|handled| handled.part.message.received_at).collect(),
        mch_ids: columns.mch_ids,
        sub_mch_ids: columns.sub_mch_ids,
        numbers: columns.numbers,
        transaction_ids: columns.transaction_ids,
        refund_numbers: columns.refund_numbers,
        amounts: columns.amounts,
        currencies: columns.currencies,
        reasons: held().map(|(_, held)| held.reason()).collect(),
        details: held().map(|(_, held)| held.detail().to_string()).collect(),
        states: held().map(|(handled, _)| state(handled.outcome())).collect(),
        wait_seconds: held().map(|_| seconds(wait_limit)).collect(),
        life: PhantomData,
    };
    statement.execute(&mut &*conn).await.map(drop)
}

/// Writes the new outcomes of these parts, which were all held before.
///
/// # Errors
/// When the database is unavailable or refuses a value.
pub async fn update(conn: &AsyncPgConnection, handled: &[&Handled<'_>], wait_limit: Duration) -> Result<(), Error> {
    let held = || handled.iter().map(|handled| handled.outcome().held());
    let columns = Columns::from_handled(handled);
    let statement = Move {
        ids: columns.ids,
        parts: columns.parts,
        mch_ids: columns.mch_ids,
        sub_mch_ids: columns.sub_mch_ids,
        numbers: columns.numbers,
        transaction_ids: columns.transaction_ids,
        refund_numbers: columns.refund_numbers,
        amounts: columns.amounts,
        currencies: columns.currencies,
        reasons: held().map(|held| held.map(Held::reason)).collect(),
        details: held().map(|held| held.map(|held| held.detail().to_string())).collect(),
        states: handled.iter().map(|handled| state(handled.outcome())).collect(),
        resolutions: handled.iter().map(|handled| resolution(handled.outcome())).collect(),
        wait_seconds: handled.iter().map(|_| seconds(wait_limit)).collect(),
        are_decided: handled.iter().map(|handled| handled.outcome().is_decided()).collect(),
        life: PhantomData,
    };
    statement.execute(&mut &*conn).await.map(drop)
}

/// What both writes say of a part.
struct Columns<'a> {
    ids: Vec<Uuid>,
    parts: Vec<i16>,
    mch_ids: Vec<Option<&'a str>>,
    sub_mch_ids: Vec<Option<&'a str>>,
    numbers: Vec<Option<&'a str>>,
    transaction_ids: Vec<Option<&'a str>>,
    refund_numbers: Vec<Option<&'a str>>,
    amounts: Vec<Option<i64>>,
    currencies: Vec<Option<&'a str>>,
}

impl<'a> Columns<'a> {
    fn from_handled(handled: &[&'a Handled<'a>]) -> Self {
        let names = || handled.iter().map(|handled| &handled.part.examined.names);
        Self {
            ids: handled.iter().map(|handled| handled.part.message.id).collect(),
            parts: handled.iter().map(|handled| handled.part.number).collect(),
            mch_ids: names().map(|names| names.mch_id.as_ref().map(MchId::as_str)).collect(),
            sub_mch_ids: names().map(|names| names.sub_mch_id.as_ref().map(SubMchId::as_str)).collect(),
            numbers: names().map(|names| names.out_trade_no.as_ref().map(OutTradeNo::as_str)).collect(),
            transaction_ids: names().map(|names| names.transaction_id.as_ref().map(TransactionId::as_str)).collect(),
            refund_numbers: names().map(|names| names.out_refund_no.as_ref().map(OutRefundNo::as_str)).collect(),
            amounts: names().map(|names| names.paid.map(|paid| paid.amount_minor)).collect(),
            currencies: names().map(|names| names.paid.as_ref().map(|paid| paid.currency.as_str())).collect(),
        }
    }
}

fn seconds(wait_limit: Duration) -> i64 {
    i64::try_from(wait_limit.as_secs()).unwrap_or(i64::MAX)
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
