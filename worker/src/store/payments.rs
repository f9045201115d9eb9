//! The table `payments`: what is on record about the transactions that a batch names, and what the batch adds.
//!
//! Read by a statement of its own after the orders were locked: a join with the lock would give a payment as it was before
//! the wait for the lock.

use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::result::Error;
use diesel::sql_types::{Array, BigInt, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use shared::domain::ids::{MchId, OutTradeNo, SubMchId, TransactionId};
use shared::domain::money::{Currency, Money};
use shared::domain::payment::{Disposition, PaymentRecord};
use uuid::Uuid;

use super::statement::set_statement;
use crate::batch::plan::{ChangedPayment, OrderKey};

type Row = (i64, String, String, i64, String, DateTime<Utc>, String, i64);

set_statement! {
    /// The payments with these transactions.
    Read<'a>(mch_ids: Array<Text> = Vec<&'a str>, transaction_ids: Array<Text> = Vec<&'a str>)
    -> (BigInt, Text, Text, BigInt, Text, Timestamptz, Text, BigInt) {
        "SELECT order_id, mch_id, transaction_id, amount_minor, currency::text, paid_at, disposition, returned_minor \
         FROM countersign.payments WHERE (mch_id, transaction_id) IN"
        ""
    }
}

set_statement! {
    /// What names the orders of the payments with these transactions.
    OrdersOf<'a>(mch_ids: Array<Text> = Vec<&'a str>, transaction_ids: Array<Text> = Vec<&'a str>)
    -> (Text, Nullable<Text>, Text) {
        "SELECT o.mch_id, o.sub_mch_id, o.out_trade_no FROM countersign.payments p JOIN countersign.orders o ON o.id = p.order_id \
         WHERE (p.mch_id, p.transaction_id) IN"
        ""
    }
}

set_statement! {
    /// Payments that are reported for the first time, which come sorted by key, so that two batches never wait for each other in
    /// a circle. A conflict is an error: the same transaction was recorded by another
    /// session at this moment.
    Insert<'a>(
        order_ids: Array<BigInt> = Vec<i64>,
        mch_ids: Array<Text> = Vec<&'a str>,
        transaction_ids: Array<Text> = Vec<&'a str>,
        amounts: Array<BigInt> = Vec<i64>,
        currencies: Array<Text> = Vec<&'a str>,
        paid_ats: Array<Timestamptz> = Vec<DateTime<Utc>>,
        dispositions: Array<Text> = Vec<&'a str>,
        returned: Array<BigInt> = Vec<i64>,
        notification_ids: Array<SqlUuid> = Vec<Uuid>,
        received_ats: Array<Timestamptz> = Vec<DateTime<Utc>>,
        parts: Array<SmallInt> = Vec<i16>,
    ) -> () {
        "INSERT INTO countersign.payments (order_id, mch_id, transaction_id, amount_minor, currency, paid_at, disposition, \
         returned_minor, notification_id, notification_received_at, notification_part) SELECT * FROM"
        "AS new (order_id, mch_id, transaction_id, amount_minor, currency, paid_at, disposition, returned_minor, \
         notification_id, notification_received_at, notification_part)"
    }
}

set_statement! {
    /// Payments that are still as they were read.
    Update<'a>(
        mch_ids: Array<Text> = Vec<&'a str>,
        transaction_ids: Array<Text> = Vec<&'a str>,
        old_dispositions: Array<Text> = Vec<&'a str>,
        old_returned: Array<BigInt> = Vec<i64>,
        dispositions: Array<Text> = Vec<&'a str>,
        returned: Array<BigInt> = Vec<i64>,
    ) -> () {
        "UPDATE countersign.payments AS old SET disposition = new.disposition, returned_minor = new.returned_minor FROM"
        "AS new (mch_id, transaction_id, old_disposition, old_returned, disposition, returned_minor) \
         WHERE old.mch_id = new.mch_id AND old.transaction_id = new.transaction_id \
         AND old.disposition = new.old_disposition AND old.returned_minor = new.old_returned"
    }
}

/// What a batch writes: payments that are new, with the ledger rows that brought them, and payments that change.
#[derive(Debug, Default)]
pub struct Changed<'a> {
    new: Vec<(&'a PaymentRecord, Brought)>,
    known: Vec<(&'a PaymentRecord, &'a PaymentRecord)>,
}

/// A key of the ledger.
#[derive(Debug, Clone, Copy)]
pub struct Brought {
    /// The message.
    pub id: Uuid,
    /// The time inside its id.
    pub received_at: DateTime<Utc>,
    /// The part of it.
    pub part: i16,
}

impl<'a> Changed<'a> {
    /// The payments that `plan` adds or changes.
    #[must_use]
    pub fn from_plan(changed: &[(&'a ChangedPayment, Brought)]) -> Self {
        let mut all = Self::default();
        for (ChangedPayment { was, now, .. }, brought) in changed {
            match was {
                None => all.new.push((now, *brought)),
                Some(was) => all.known.push((was, now)),
            }
        }
        all
    }
}

/// Writes them.
///
/// # Errors
/// A unique violation when another session has recorded one of the transactions at this moment; otherwise the database is
/// unavailable or refuses a change.
pub async fn write(conn: &AsyncPgConnection, changed: &Changed<'_>) -> Result<(), Error> {
    let (inserted, updated) =
        tokio::join!(async { if changed.new.is_empty() { Ok(0) } else { insert(conn, &changed.new).await } }, async {
            if changed.known.is_empty() { Ok(0) } else { update(conn, &changed.known).await }
        },);
    inserted?;
    // Their orders are locked by this transaction: fewer can only mean a bug, and a rollback is the safe answer to one.
    if updated? == changed.known.len() { Ok(()) } else { Err(Error::RollbackTransaction) }
}

/// Adds payments.
///
/// # Errors
/// As [`write()`].
pub async fn insert(conn: &AsyncPgConnection, new: &[(&PaymentRecord, Brought)]) -> Result<usize, Error> {
    let statement = Insert {
        order_ids: new.iter().map(|(payment, _)| payment.order_id).collect(),
        mch_ids: new.iter().map(|(payment, _)| payment.mch_id.as_str()).collect(),
        transaction_ids: new.iter().map(|(payment, _)| payment.transaction_id.as_str()).collect(),
        amounts: new.iter().map(|(payment, _)| payment.amount.amount_minor).collect(),
        currencies: new.iter().map(|(payment, _)| payment.amount.currency.as_str()).collect(),
        paid_ats: new.iter().map(|(payment, _)| payment.paid_at).collect(),
        dispositions: new.iter().map(|(payment, _)| payment.disposition.name()).collect(),
        returned: new.iter().map(|(payment, _)| payment.returned_minor).collect(),
        notification_ids: new.iter().map(|(_, brought)| brought.id).collect(),
        received_ats: new.iter().map(|(_, brought)| brought.received_at).collect(),
        parts: new.iter().map(|(_, brought)| brought.part).collect(),
        life: PhantomData,
    };
    statement.execute(&mut &*conn).await
}

/// Changes payments that are as they were read, from the first to the second of each pair; returns how many were.
///
/// # Errors
/// As [`write()`].
pub async fn update(conn: &AsyncPgConnection, known: &[(&PaymentRecord, &PaymentRecord)]) -> Result<usize, Error> {
    let statement = Update {
        mch_ids: known.iter().map(|(was, _)| was.mch_id.as_str()).collect(),
        transaction_ids: known.iter().map(|(was, _)| was.transaction_id.as_str()).collect(),
        old_dispositions: known.iter().map(|(was, _)| was.disposition.name()).collect(),
        old_returned: known.iter().map(|(was, _)| was.returned_minor).collect(),
        dispositions: known.iter().map(|(_, now)| now.disposition.name()).collect(),
        returned: known.iter().map(|(_, now)| now.returned_minor).collect(),
        life: PhantomData,
    };
    statement.execute(&mut &*conn).await
}

/// The payments with these transactions, of whatever order.
///
/// # Errors
/// When the database is unavailable.
pub async fn read<'a>(
    conn: &mut AsyncPgConnection,
    transactions: impl Iterator<Item = (&'a MchId, &'a TransactionId)>,
) -> Result<Vec<PaymentRecord>, Error> {
    let (mch_ids, transaction_ids) = transactions.map(|(mch_id, id)| (mch_id.as_str(), id.as_str())).unzip();
    let rows: Vec<Row> = Read { mch_ids, transaction_ids, life: PhantomData }.load(conn).await?;
    rows.into_iter().map(record_from_row).collect()
}

/// What names the orders of these payments; nothing for one that is not on record.
///
/// # Errors
/// When the database is unavailable.
pub async fn order_keys(
    conn: &mut AsyncPgConnection,
    transactions: &[(&MchId, &TransactionId)],
) -> Result<Vec<OrderKey>, Error> {
    let (mch_ids, transaction_ids) = transactions.iter().map(|(mch_id, id)| (mch_id.as_str(), id.as_str())).unzip();
    let rows: Vec<(String, Option<String>, String)> =
        OrdersOf { mch_ids, transaction_ids, life: PhantomData }.load(conn).await?;
    let key = |(mch_id, sub_mch_id, number): (String, Option<String>, String)| {
        let sub_mch_id = match sub_mch_id {
            Some(text) => Some(SubMchId::parse(&text)?),
            None => None,
        };
        Some((MchId::parse(&mch_id)?, sub_mch_id, OutTradeNo::parse(&number)?))
    };
    Ok(rows.into_iter().filter_map(key).collect())
}

fn record_from_row(row: Row) -> Result<PaymentRecord, Error> {
    let (order_id, mch_id, transaction_id, amount_minor, currency, paid_at, disposition, returned_minor) = row;
    let parsed = || -> Option<PaymentRecord> {
        Some(PaymentRecord {
            order_id,
            mch_id: MchId::parse(&mch_id)?,
            transaction_id: TransactionId::parse(&transaction_id)?,
            amount: Money { amount_minor, currency: Currency::parse(&currency)? },
            paid_at,
            disposition: Disposition::parse(&disposition)?,
            returned_minor,
        })
    };
    let problem = || format!("a payment of order {order_id} has an invalid value");
    parsed().ok_or_else(|| Error::DeserializationError(problem().into()))
}
