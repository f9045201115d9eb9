//! The table `notifications`, the ledger: one row per message, whatever became of it.

use std::collections::{HashMap, HashSet};
use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::result::Error;
use diesel::sql_types::{Array, Binary, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use shared::domain::notification::Notification;
use uuid::Uuid;

use super::statement::{set_statement, to_json};
use crate::apply::Handled;
use crate::message::Message;
use crate::plan::Finding;

set_statement! {
    /// Which of these messages have a row already.
    Known<'a>(ids: Array<SqlUuid> = Vec<Uuid>, received_ats: Array<Timestamptz> = Vec<DateTime<Utc>>) -> SqlUuid {
        "SELECT id FROM notifications WHERE (id, received_at) IN (SELECT * FROM"
        ")"
    }
}

set_statement! {
    /// The messages with these keys.
    Load<'a>(ids: Array<SqlUuid> = Vec<Uuid>, received_ats: Array<Timestamptz> = Vec<DateTime<Utc>>)
    -> (SqlUuid, Timestamptz, Jsonb, Binary) {
        "SELECT id, received_at, headers, body FROM notifications WHERE (id, received_at) IN (SELECT * FROM"
        ")"
    }
}

set_statement! {
    /// One row per message, in the order of the ids, so that two batches never wait for each other in a circle. The body is
    /// stored byte for byte.
    Insert<'a>(
        ids: Array<SqlUuid> = Vec<Uuid>,
        received_ats: Array<Timestamptz> = Vec<DateTime<Utc>>,
        kinds: Array<Text> = Vec<&'a str>,
        mch_ids: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        numbers: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        transaction_ids: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        refund_numbers: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        outcomes: Array<Text> = Vec<&'a str>,
        reasons: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        bodies: Array<Binary> = Vec<&'a [u8]>,
        headers: Array<Text> = Vec<String>,
    ) -> () {
        "INSERT INTO notifications \
         (id, received_at, kind, mch_id, out_trade_no, transaction_id, out_refund_no, outcome, reason, body, headers, \
         handled_at) \
         SELECT id, received_at, kind, mch_id, out_trade_no, transaction_id, out_refund_no, outcome, reason, body, \
         headers::jsonb, clock_timestamp() FROM"
        "AS new (id, received_at, kind, mch_id, out_trade_no, transaction_id, out_refund_no, outcome, reason, body, \
         headers) \
         ORDER BY id"
    }
}

set_statement! {
    /// The one update a row ever gets: a message that waited, or that an operator replayed, got its outcome.
    Move<'a>(
        ids: Array<SqlUuid> = Vec<Uuid>,
        received_ats: Array<Timestamptz> = Vec<DateTime<Utc>>,
        kinds: Array<Text> = Vec<&'a str>,
        mch_ids: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        numbers: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        transaction_ids: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        refund_numbers: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        outcomes: Array<Text> = Vec<&'a str>,
        reasons: Array<Nullable<Text>> = Vec<Option<&'a str>>,
    ) -> () {
        "UPDATE notifications AS old SET kind = new.kind, mch_id = new.mch_id, out_trade_no = new.out_trade_no, \
         transaction_id = new.transaction_id, out_refund_no = new.out_refund_no, outcome = new.outcome, reason = new.reason, \
         handled_at = clock_timestamp() FROM"
        "AS new (id, received_at, kind, mch_id, out_trade_no, transaction_id, out_refund_no, outcome, reason) \
         WHERE old.id = new.id AND old.received_at = new.received_at"
    }
}

/// Which of `messages` are in the ledger.
///
/// # Errors
/// When the database is away.
pub async fn known(
    conn: &mut AsyncPgConnection,
    messages: impl Iterator<Item = &Message> + Clone,
) -> Result<HashSet<Uuid>, Error> {
    let statement = Known {
        ids: messages.clone().map(|message| message.id).collect(),
        received_ats: messages.map(|message| message.received_at).collect(),
        life: PhantomData,
    };
    Ok(statement.load::<Uuid>(conn).await?.into_iter().collect())
}

/// The stored messages with these keys, as if they had just been delivered for the first time.
///
/// # Errors
/// When the database is away.
pub async fn load(
    conn: &mut AsyncPgConnection,
    keys: impl Iterator<Item = (Uuid, DateTime<Utc>)>,
) -> Result<HashMap<Uuid, Message>, Error> {
    let (ids, received_ats) = keys.unzip();
    let rows: Vec<(Uuid, DateTime<Utc>, serde_json::Value, Vec<u8>)> =
        Load { ids, received_ats, life: PhantomData }.load(conn).await?;
    let message = |(id, received_at, headers, body)| {
        let headers = serde_json::from_value(headers).unwrap_or_default();
        (id, Message { id, received_at, headers, body, redelivered: false, suspect: false })
    };
    Ok(rows.into_iter().map(message).collect())
}

/// Adds a row per handled message; returns how many. `ON CONFLICT` would cost each of them another look into the index, and
/// only an ingest or an operator that publishes the same message twice makes a conflict.
///
/// # Errors
/// A unique violation when a message has a row already; otherwise the database is away or refuses a value.
pub async fn insert(conn: &AsyncPgConnection, handled: &[Handled<'_>]) -> Result<usize, Error> {
    let columns = Columns::of(handled);
    let statement = Insert {
        ids: columns.ids,
        received_ats: columns.received_ats,
        kinds: columns.kinds,
        mch_ids: columns.mch_ids,
        numbers: columns.numbers,
        transaction_ids: columns.transaction_ids,
        refund_numbers: columns.refund_numbers,
        outcomes: columns.outcomes,
        reasons: columns.reasons,
        bodies: handled.iter().map(|handled| handled.message.body.as_slice()).collect(),
        headers: handled.iter().map(|handled| to_json(&handled.message.headers)).collect::<Result<_, _>>()?,
        life: PhantomData,
    };
    statement.execute(&mut &*conn).await
}

/// Writes the new outcomes of messages that are in the ledger; returns how many were.
///
/// # Errors
/// When the database is away or refuses a value.
pub async fn move_on(conn: &AsyncPgConnection, handled: &[Handled<'_>]) -> Result<usize, Error> {
    let columns = Columns::of(handled);
    let statement = Move {
        ids: columns.ids,
        received_ats: columns.received_ats,
        kinds: columns.kinds,
        mch_ids: columns.mch_ids,
        numbers: columns.numbers,
        transaction_ids: columns.transaction_ids,
        refund_numbers: columns.refund_numbers,
        outcomes: columns.outcomes,
        reasons: columns.reasons,
        life: PhantomData,
    };
    statement.execute(&mut &*conn).await
}

/// What both writes say of a message.
struct Columns<'a> {
    ids: Vec<Uuid>,
    received_ats: Vec<DateTime<Utc>>,
    kinds: Vec<&'static str>,
    mch_ids: Vec<Option<&'a str>>,
    numbers: Vec<Option<&'a str>>,
    transaction_ids: Vec<Option<&'a str>>,
    refund_numbers: Vec<Option<&'a str>>,
    outcomes: Vec<&'static str>,
    reasons: Vec<Option<&'static str>>,
}

impl<'a> Columns<'a> {
    fn of(handled: &'a [Handled<'a>]) -> Self {
        let notified = |handled: &'a Handled<'a>| match &handled.finding {
            Finding::Notified(notification) => Some(notification),
            Finding::Undecided(_) => None,
        };
        let notifications = || handled.iter().map(notified);
        Self {
            ids: handled.iter().map(|handled| handled.message.id).collect(),
            received_ats: handled.iter().map(|handled| handled.message.received_at).collect(),
            kinds: notifications().map(|known| known.map_or("other", Notification::kind)).collect(),
            mch_ids: notifications().map(|known| Some(known?.mch_id().as_str())).collect(),
            numbers: notifications().map(|known| Some(known?.out_trade_no()?.as_str())).collect(),
            transaction_ids: notifications().map(|known| Some(known?.transaction_id()?.as_str())).collect(),
            refund_numbers: notifications().map(|known| Some(known?.out_refund_no()?.as_str())).collect(),
            outcomes: handled.iter().map(|handled| handled.outcome.name()).collect(),
            reasons: handled.iter().map(|handled| handled.outcome.reason()).collect(),
        }
    }
}
