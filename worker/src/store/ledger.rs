//! The table `notifications`, the ledger: one row per callback, or per sub-order of a combined one, whatever its outcome.

use std::collections::HashMap;
use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::result::Error;
use diesel::sql_types::{
    Array, BigInt, Binary, Integer, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use sha2::{Digest, Sha256};
use shared::domain::ids::{MchId, OutRefundNo, OutTradeNo, SubMchId, TransactionId};
use shared::messaging::envelope::MCH_ID;
use uuid::Uuid;

use super::statement::{set_statement, to_json};
use crate::batch::message::Message;
use crate::batch::plan::Handled;

type KnownRow = (Uuid, Vec<u8>, Option<String>, Option<String>);
type LoadedRow = (Uuid, DateTime<Utc>, serde_json::Value, Vec<u8>, i64);

set_statement! {
    /// Which of these messages have a row already, and what they say.
    Known<'a>(ids: Array<SqlUuid> = Vec<Uuid>, received_ats: Array<Timestamptz> = Vec<DateTime<Utc>>)
    -> (SqlUuid, Binary, Nullable<Text>, Nullable<Text>) {
        "SELECT id, sha256(body), headers ->> 'type', headers ->> 'mch-id' FROM countersign.notifications \
         WHERE part = 0 AND (id, received_at) IN"
        ""
    }
}

set_statement! {
    /// The messages with these keys, and how many parts of each have a row.
    Load<'a>(ids: Array<SqlUuid> = Vec<Uuid>, received_ats: Array<Timestamptz> = Vec<DateTime<Utc>>)
    -> (SqlUuid, Timestamptz, Jsonb, Binary, BigInt) {
        "SELECT id, received_at, headers::jsonb, body, (SELECT count(*) FROM countersign.notifications all_parts \
             WHERE all_parts.id = n.id AND all_parts.received_at = n.received_at) \
         FROM countersign.notifications n WHERE part = 0 AND (id, received_at) IN"
        ""
    }
}

/// The columns that both writes set, in the order of their binds.
macro_rules! columns {
    () => {
        "id, part, received_at, kind, mch_id, sub_mch_id, out_trade_no, transaction_id, out_refund_no, key_fingerprint, \
         outcome, reason, seen_version, seen_state, seen_amount_minor, seen_currency, event_id, event_type, event_version"
    };
}

/// A statement that writes what parts came to, with binds of its own behind those of [`columns`].
macro_rules! part_statement {
    (
        $(#[$doc:meta])*
        $name:ident<$life:lifetime> ( $($own:ident : $sql_type:ty = $rust_type:ty),* $(,)? ) {
            $before:expr;
            $after:expr
        }
    ) => {
        set_statement! {
            $(#[$doc])*
            $name<$life>(
                ids: Array<SqlUuid> = Vec<Uuid>,
                parts: Array<SmallInt> = Vec<i16>,
                received_ats: Array<Timestamptz> = Vec<DateTime<Utc>>,
                kinds: Array<Text> = Vec<&$life str>,
                mch_ids: Array<Nullable<Text>> = Vec<Option<&$life str>>,
                sub_mch_ids: Array<Nullable<Text>> = Vec<Option<&$life str>>,
                numbers: Array<Nullable<Text>> = Vec<Option<&$life str>>,
                transaction_ids: Array<Nullable<Text>> = Vec<Option<&$life str>>,
                refund_numbers: Array<Nullable<Text>> = Vec<Option<&$life str>>,
                keys: Array<Nullable<Text>> = Vec<Option<&$life str>>,
                outcomes: Array<Text> = Vec<&$life str>,
                reasons: Array<Nullable<Text>> = Vec<Option<&$life str>>,
                seen_versions: Array<Nullable<Integer>> = Vec<Option<i32>>,
                seen_states: Array<Nullable<Text>> = Vec<Option<&$life str>>,
                seen_amounts: Array<Nullable<BigInt>> = Vec<Option<i64>>,
                seen_currencies: Array<Nullable<Text>> = Vec<Option<&$life str>>,
                event_ids: Array<Nullable<SqlUuid>> = Vec<Option<Uuid>>,
                event_types: Array<Nullable<Text>> = Vec<Option<&$life str>>,
                event_versions: Array<Nullable<Integer>> = Vec<Option<i32>>,
                $($own: $sql_type = $rust_type,)*
            ) -> () {
                $before
                $after
            }
        }

        impl<$life> $name<$life> {
            fn from_handled(handled: &[&$life Handled<$life>] $(, $own: $rust_type)*) -> Self {
                let names = || handled.iter().map(|handled| &handled.part.examined.names);
                let seen = || handled.iter().map(|handled| handled.decided.seen.as_ref());
                Self {
                    ids: handled.iter().map(|handled| handled.part.message.id).collect(),
                    parts: handled.iter().map(|handled| handled.part.number).collect(),
                    received_ats: handled.iter().map(|handled| handled.part.message.received_at).collect(),
                    kinds: names().map(|names| names.kind.unwrap_or("other")).collect(),
                    mch_ids: names().map(|names| names.mch_id.as_ref().map(MchId::as_str)).collect(),
                    sub_mch_ids: names().map(|names| names.sub_mch_id.as_ref().map(SubMchId::as_str)).collect(),
                    numbers: names().map(|names| names.out_trade_no.as_ref().map(OutTradeNo::as_str)).collect(),
                    transaction_ids: names().map(|names| names.transaction_id.as_ref().map(TransactionId::as_str)).collect(),
                    refund_numbers: names().map(|names| names.out_refund_no.as_ref().map(OutRefundNo::as_str)).collect(),
                    keys: handled.iter().map(|handled| handled.part.examined.key).collect(),
                    outcomes: handled.iter().map(|handled| handled.outcome().name()).collect(),
                    reasons: handled.iter().map(|handled| handled.outcome().reason()).collect(),
                    seen_versions: seen().map(|seen| Some(seen?.version)).collect(),
                    seen_states: seen().map(|seen| Some(seen?.state)).collect(),
                    seen_amounts: seen().map(|seen| Some(seen?.amount.amount_minor)).collect(),
                    seen_currencies: seen().map(|seen| Some(seen?.amount.currency.as_str())).collect(),
                    event_ids: handled.iter().map(|handled| Some(handled.event?.id)).collect(),
                    event_types: handled.iter().map(|handled| Some(handled.event?.name)).collect(),
                    event_versions: handled.iter().map(|handled| Some(handled.event?.version)).collect(),
                    $($own,)*
                    life: PhantomData,
                }
            }
        }
    };
}

part_statement! {
    /// One row per part, which come sorted by id and part, so that two batches never wait for each other in a circle. The body
    /// is stored byte for byte, with the first part only.
    Insert<'a>(bodies: Array<Nullable<Binary>> = Vec<Option<&'a [u8]>>, headers: Array<Nullable<Text>> = Vec<Option<String>>) {
        concat!("INSERT INTO countersign.notifications (", columns!(), ", body, headers, handled_at) SELECT ", columns!(),
            ", body, headers::json, clock_timestamp() FROM");
        concat!("AS new (", columns!(), ", body, headers)")
    }
}

part_statement! {
    /// A callback that waited, or that an operator had decided again, got its outcome. Its bytes are never touched.
    Move<'a>() {
        "UPDATE countersign.notifications AS old SET kind = new.kind, mch_id = new.mch_id, sub_mch_id = new.sub_mch_id, \
         out_trade_no = new.out_trade_no, transaction_id = new.transaction_id, out_refund_no = new.out_refund_no, \
         key_fingerprint = new.key_fingerprint, outcome = new.outcome, reason = new.reason, \
         seen_version = new.seen_version, seen_state = new.seen_state, seen_amount_minor = new.seen_amount_minor, \
         seen_currency = new.seen_currency, event_id = new.event_id, event_type = new.event_type, \
         event_version = new.event_version, handled_at = clock_timestamp(), \
         earlier = CASE WHEN old.seen_version IS NULL AND old.event_id IS NULL THEN old.earlier ELSE \
             coalesce(old.earlier, '[]') || jsonb_build_object('at', old.handled_at, 'outcome', old.outcome, \
             'reason', old.reason, 'seen_version', old.seen_version, 'seen_state', old.seen_state, \
             'seen_amount_minor', old.seen_amount_minor, 'seen_currency', old.seen_currency, 'event_id', old.event_id, \
             'event_type', old.event_type, 'event_version', old.event_version) END FROM";
        concat!("AS new (", columns!(), ") WHERE old.id = new.id AND old.part = new.part AND old.received_at = new.received_at")
    }
}

/// The content of a message in the ledger, for comparison.
#[derive(Debug, PartialEq, Eq)]
pub struct Content {
    body_sha256: Vec<u8>,
    kind: Option<String>,
    mch_id: Option<String>,
}

impl Content {
    /// Whether `message` has the same content.
    #[must_use]
    pub fn matches(&self, message: &Message) -> bool {
        let header = |name: &str| message.headers.get(name).map(String::as_str);
        let is_alike = (self.kind.as_deref(), self.mch_id.as_deref()) == (header("type"), header(MCH_ID));
        is_alike && self.body_sha256 == Sha256::digest(&message.body).as_slice()
    }
}

/// A message of the ledger.
#[derive(Debug)]
pub struct Stored {
    /// The message, as if it had just been delivered for the first time.
    pub message: Message,
    /// How many parts of it have a row.
    pub parts: usize,
}

/// Which of `messages` are in the ledger under their ids, and their content there.
///
/// # Errors
/// When the database is unavailable.
pub async fn known(
    conn: &mut AsyncPgConnection,
    messages: impl Iterator<Item = &Message> + Clone,
) -> Result<HashMap<Uuid, Content>, Error> {
    let statement = Known {
        ids: messages.clone().map(|message| message.id).collect(),
        received_ats: messages.map(|message| message.received_at).collect(),
        life: PhantomData,
    };
    let rows: Vec<KnownRow> = statement.load(conn).await?;
    Ok(rows.into_iter().map(|(id, body_sha256, kind, mch_id)| (id, Content { body_sha256, kind, mch_id })).collect())
}

/// The stored messages with these keys.
///
/// # Errors
/// When the database is unavailable.
pub async fn load(
    conn: &mut AsyncPgConnection,
    keys: impl Iterator<Item = (Uuid, DateTime<Utc>)>,
) -> Result<HashMap<Uuid, Stored>, Error> {
    let (ids, received_ats) = keys.unzip();
    let rows: Vec<LoadedRow> = Load { ids, received_ats, life: PhantomData }.load(conn).await?;
    let stored = |(id, received_at, headers, body, parts)| {
        let headers = serde_json::from_value(headers).unwrap_or_default();
        let message = Message { id, received_at, headers, body, redelivered: false, suspect: false };
        (id, Stored { message, parts: usize::try_from(parts).unwrap_or_default() })
    };
    Ok(rows.into_iter().map(stored).collect())
}

/// Adds a row per handled part, which come sorted by id and number. `ON CONFLICT` would cost each of them another look into the index, and only an ingest or an
/// operator that publishes the same message twice makes a conflict.
///
/// # Errors
/// A unique violation when a message has a row already; otherwise the database is unavailable or refuses a value.
pub async fn insert(conn: &AsyncPgConnection, handled: &[&Handled<'_>]) -> Result<(), Error> {
    let first = |handled: &&'_ Handled<'_>| handled.part.number == 0;
    let bodies = handled.iter().map(|it| first(it).then_some(it.part.message.body.as_slice())).collect();
    let headers = |handled: &&Handled<'_>| first(handled).then(|| to_json(&handled.part.message.headers)).transpose();
    let statement = Insert::from_handled(handled, bodies, handled.iter().map(headers).collect::<Result<_, _>>()?);
    statement.execute(&mut &*conn).await.map(drop)
}

/// Writes the new outcomes of parts that are in the ledger; returns how many were.
///
/// # Errors
/// When the database is unavailable or refuses a value.
pub async fn update_outcomes(conn: &AsyncPgConnection, handled: &[&Handled<'_>]) -> Result<usize, Error> {
    Move::from_handled(handled).execute(&mut &*conn).await
}
