//! The table `refunds`: read those that a batch names, move them on, add those that the merchant did not ask for here.
//!
//! Rows are read after their orders were locked, without a lock of their own: the merchant may insert one concurrently. So a
//! write that does not find a row as it was read writes nothing, and the batch is run again.

use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::result::Error;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use shared::domain::ids::{OutRefundNo, RefundId, TransactionId};
use shared::domain::refund::{Refund, RefundState};

use super::statement::set_statement;
use crate::batch::plan::ChangedRefund;

type Row = (i64, String, Option<String>, Option<String>, i64, String, Option<DateTime<Utc>>);

set_statement! {
    /// The refunds of these orders with these numbers.
    Read<'a>(order_ids: Array<BigInt> = Vec<i64>, numbers: Array<Text> = Vec<&'a str>)
    -> (BigInt, Text, Nullable<Text>, Nullable<Text>, BigInt, Text, Nullable<Timestamptz>) {
        "SELECT order_id, out_refund_no, refund_id, transaction_id, amount_minor, state, succeeded_at \
         FROM countersign.refunds WHERE (order_id, out_refund_no) IN"
        ""
    }
}

set_statement! {
    /// Refunds that have no row yet.
    Insert<'a>(
        order_ids: Array<BigInt> = Vec<i64>,
        numbers: Array<Text> = Vec<&'a str>,
        refund_ids: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        transaction_ids: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        amounts: Array<BigInt> = Vec<i64>,
        states: Array<Text> = Vec<&'a str>,
        succeeded_ats: Array<Nullable<Timestamptz>> = Vec<Option<DateTime<Utc>>>,
    ) -> () {
        "INSERT INTO countersign.refunds (order_id, out_refund_no, refund_id, transaction_id, amount_minor, state, succeeded_at, \
         reported_at) SELECT new.*, clock_timestamp() FROM"
        "AS new (order_id, out_refund_no, refund_id, transaction_id, amount_minor, state, succeeded_at) \
         ORDER BY order_id, out_refund_no ON CONFLICT DO NOTHING"
    }
}

set_statement! {
    /// Refunds that are still as they were read.
    Update<'a>(
        order_ids: Array<BigInt> = Vec<i64>,
        numbers: Array<Text> = Vec<&'a str>,
        refund_ids: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        amounts: Array<BigInt> = Vec<i64>,
        old_states: Array<Text> = Vec<&'a str>,
        old_refund_ids: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        states: Array<Text> = Vec<&'a str>,
        succeeded_ats: Array<Nullable<Timestamptz>> = Vec<Option<DateTime<Utc>>>,
        transaction_ids: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        accepted_bys: Array<Nullable<Text>> = Vec<Option<&'a str>>,
    ) -> () {
        "UPDATE countersign.refunds AS old SET refund_id = new.refund_id, transaction_id = new.transaction_id, state = new.state, \
         succeeded_at = new.succeeded_at, updated_at = clock_timestamp(), reported_at = clock_timestamp(), \
         accepted_by = coalesce(new.accepted_by, old.accepted_by), \
         accepted_at = CASE WHEN new.accepted_by IS NULL THEN old.accepted_at ELSE clock_timestamp() END FROM"
        "AS new (order_id, out_refund_no, refund_id, amount_minor, old_state, old_refund_id, state, succeeded_at, \
         transaction_id, accepted_by) \
         WHERE old.order_id = new.order_id AND old.out_refund_no = new.out_refund_no \
         AND old.amount_minor = new.amount_minor AND old.state = new.old_state \
         AND old.refund_id IS NOT DISTINCT FROM new.old_refund_id"
    }
}

/// The refunds of these orders with these numbers; the caller has locked the orders.
///
/// # Errors
/// When the database is unavailable.
pub async fn read(conn: &mut AsyncPgConnection, keys: &[(i64, &OutRefundNo)]) -> Result<Vec<Refund>, Error> {
    let (order_ids, numbers) = keys.iter().map(|(order_id, number)| (*order_id, number.as_str())).unzip();
    let rows: Vec<Row> = Read { order_ids, numbers, life: PhantomData }.load(conn).await?;
    rows.into_iter().map(refund_from_row).collect()
}

/// Writes changed refunds, sorted by order and number; returns how many were as they had been read.
///
/// # Errors
/// When the database is unavailable or refuses a value.
pub async fn write(conn: &AsyncPgConnection, changed: &[&ChangedRefund]) -> Result<usize, Error> {
    let (new, known): (Vec<&ChangedRefund>, Vec<&ChangedRefund>) =
        changed.iter().copied().partition(|changed| changed.was.is_none());
    let insert = Insert {
        order_ids: new.iter().map(|changed| changed.now.order_id).collect(),
        numbers: new.iter().map(|changed| changed.now.out_refund_no.as_str()).collect(),
        refund_ids: new.iter().map(|changed| refund_id(&changed.now)).collect(),
        transaction_ids: new.iter().map(|changed| transaction_id(&changed.now)).collect(),
        amounts: new.iter().map(|changed| changed.now.amount_minor).collect(),
        states: new.iter().map(|changed| changed.now.state.name()).collect(),
        succeeded_ats: new.iter().map(|changed| changed.now.state.succeeded_at()).collect(),
        life: PhantomData,
    };
    let update = Update {
        order_ids: known.iter().map(|changed| changed.now.order_id).collect(),
        numbers: known.iter().map(|changed| changed.now.out_refund_no.as_str()).collect(),
        refund_ids: known.iter().map(|changed| refund_id(&changed.now)).collect(),
        amounts: known.iter().map(|changed| changed.now.amount_minor).collect(),
        old_states: known.iter().filter_map(|changed| Some(changed.was.as_ref()?.state.name())).collect(),
        old_refund_ids: known.iter().map(|changed| changed.was.as_ref().and_then(refund_id)).collect(),
        states: known.iter().map(|changed| changed.now.state.name()).collect(),
        succeeded_ats: known.iter().map(|changed| changed.now.state.succeeded_at()).collect(),
        transaction_ids: known.iter().map(|changed| transaction_id(&changed.now)).collect(),
        accepted_bys: known.iter().map(|changed| changed.accepted_by.as_deref()).collect(),
        life: PhantomData,
    };
    // Sent together, they cost one round trip.
    let (inserted, updated) =
        tokio::join!(async { insert.execute(&mut &*conn).await }, async { update.execute(&mut &*conn).await });
    Ok(inserted?.saturating_add(updated?))
}

fn refund_id(refund: &Refund) -> Option<&str> {
    refund.refund_id.as_ref().map(RefundId::as_str)
}

fn transaction_id(refund: &Refund) -> Option<&str> {
    refund.transaction_id.as_ref().map(TransactionId::as_str)
}

fn refund_from_row(row: Row) -> Result<Refund, Error> {
    let (order_id, out_refund_no, refund_id, transaction_id, amount_minor, state, succeeded_at) = row;
    let parsed = || -> Option<Refund> {
        Some(Refund {
            order_id,
            out_refund_no: OutRefundNo::parse(&out_refund_no)?,
            refund_id: match &refund_id {
                Some(text) => Some(RefundId::parse(text)?),
                None => None,
            },
            transaction_id: match &transaction_id {
                Some(text) => Some(TransactionId::parse(text)?),
                None => None,
            },
            amount_minor,
            state: match state.as_str() {
                "requested" => RefundState::Requested,
                "succeeded" => RefundState::Succeeded(succeeded_at?),
                "abnormal" => RefundState::Abnormal,
                "closed" => RefundState::Closed,
                _ => return None,
            },
        })
    };
    let problem = || format!("a refund of order {order_id} has an invalid value");
    parsed().ok_or_else(|| Error::DeserializationError(problem().into()))
}
