//! The table `orders`: lock rows, move them on.

use diesel::result::Error;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use shared::domain::ids::{AppId, MchId, OutTradeNo, SubMchId, TransactionId};
use shared::domain::money::{Currency, Money};
use shared::domain::order::{Order, OrderState};

use super::statement::set_statement;
use crate::batch::plan::{ChangedOrder, OrderKey};

/// What to do about an order that another session has locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLocked {
    /// Wait up to the session's `lock_timeout`, then fail.
    Wait,
    /// Go on without it: it is not among the returned rows.
    Skip,
}

type Row = (i64, String, Option<String>, Option<String>, String, i64, String, String, Option<String>, i64, i32);
type RowType =
    (BigInt, Text, Nullable<Text>, Nullable<Text>, Text, BigInt, Text, Text, Nullable<Text>, BigInt, Integer);

set_statement! {
    /// Locks in the order of the ids, so that two batches never wait for each other in a circle.
    LockOrWait<'a>(
        mch_ids: Array<Text> = Vec<&'a str>,
        numbers: Array<Text> = Vec<&'a str>,
        shops: Array<Text> = Vec<&'a str>,
    ) -> RowType {
        "SELECT id, mch_id, sub_mch_id, app_id, out_trade_no, amount_minor, currency::text, state, transaction_id, \
         refunded_minor, version \
         FROM countersign.orders WHERE (mch_id, out_trade_no, coalesce(sub_mch_id, '')) IN"
        " ORDER BY id FOR NO KEY UPDATE"
    }
}

set_statement! {
    /// The same without waiting.
    LockOrSkip<'a>(
        mch_ids: Array<Text> = Vec<&'a str>,
        numbers: Array<Text> = Vec<&'a str>,
        shops: Array<Text> = Vec<&'a str>,
    ) -> RowType {
        "SELECT id, mch_id, sub_mch_id, app_id, out_trade_no, amount_minor, currency::text, state, transaction_id, \
         refunded_minor, version \
         FROM countersign.orders WHERE (mch_id, out_trade_no, coalesce(sub_mch_id, '')) IN"
        " ORDER BY id FOR NO KEY UPDATE SKIP LOCKED"
    }
}

set_statement! {
    /// Which of these orders exist, locked or not.
    Existing<'a>(
        mch_ids: Array<Text> = Vec<&'a str>,
        numbers: Array<Text> = Vec<&'a str>,
        shops: Array<Text> = Vec<&'a str>,
    ) -> (BigInt, Text, Text, Nullable<Text>) {
        "SELECT id, mch_id, out_trade_no, sub_mch_id FROM countersign.orders \
         WHERE (mch_id, out_trade_no, coalesce(sub_mch_id, '')) IN"
        ""
    }
}

set_statement! {
    /// Writes the order with one of these numbers as it is, unless another session has it locked.
    Touch<'a>(
        mch_ids: Array<Text> = Vec<&'a str>,
        numbers: Array<Text> = Vec<&'a str>,
        shops: Array<Text> = Vec<&'a str>,
    ) -> () {
        "UPDATE countersign.orders SET version = orders.version FROM (SELECT id FROM countersign.orders \
         WHERE (mch_id, out_trade_no, coalesce(sub_mch_id, '')) IN"
        " ORDER BY id FOR NO KEY UPDATE SKIP LOCKED) AS free WHERE orders.id = free.id"
    }
}

set_statement! {
    /// Moves locked orders on; a version that is not older would mean that the lock did not hold.
    Update<'a>(
        ids: Array<BigInt> = Vec<i64>,
        states: Array<Text> = Vec<&'a str>,
        transaction_ids: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        paid_ats: Array<Nullable<Timestamptz>> = Vec<Option<DateTime<Utc>>>,
        refunded: Array<BigInt> = Vec<i64>,
        versions: Array<Integer> = Vec<i32>,
    ) -> () {
        "UPDATE countersign.orders SET state = new.state, transaction_id = new.transaction_id, \
         paid_at = coalesce(new.paid_at, orders.paid_at), refunded_minor = new.refunded_minor, \
         version = new.version, updated_at = clock_timestamp() FROM"
        "AS new (id, state, transaction_id, paid_at, refunded_minor, version) \
         WHERE orders.id = new.id AND orders.version < new.version"
    }
}

/// Locks the orders with these keys; keys without an order are simply not returned, and with [`OnLocked::Skip`] neither are
/// those of orders that another session has locked.
///
/// # Errors
/// When the database is unavailable, or with [`OnLocked::Wait`] when another session holds a row longer than the lock time-out.
pub async fn lock(conn: &mut AsyncPgConnection, keys: &[OrderKey], on_locked: OnLocked) -> Result<Vec<Order>, Error> {
    let (mch_ids, numbers, shops) = columns(keys);
    let rows: Vec<Row> = match on_locked {
        OnLocked::Wait => LockOrWait { mch_ids, numbers, shops, life: PhantomData }.load(conn).await?,
        OnLocked::Skip => LockOrSkip { mch_ids, numbers, shops, life: PhantomData }.load(conn).await?,
    };
    rows.into_iter().map(order_from_row).collect()
}

/// Which of the orders exist, locked or not.
///
/// # Errors
/// When the database is unavailable.
pub async fn existing(conn: &mut AsyncPgConnection, keys: &[OrderKey]) -> Result<Vec<(i64, OrderKey)>, Error> {
    let (mch_ids, numbers, shops) = columns(keys);
    let rows: Vec<(i64, String, String, Option<String>)> =
        Existing { mch_ids, numbers, shops, life: PhantomData }.load(conn).await?;
    let key = |(id, mch_id, number, sub_mch_id): (i64, String, String, Option<String>)| {
        let sub_mch_id = optional(sub_mch_id.as_deref(), SubMchId::parse)?;
        Some((id, (MchId::parse(&mch_id)?, sub_mch_id, OutTradeNo::parse(&number)?)))
    };
    Ok(rows.into_iter().filter_map(key).collect())
}

/// Rewrites these orders unchanged, except those that another session has locked, only to find out whether the database allows it.
///
/// # Errors
/// When the database is unavailable or refuses it.
pub async fn touch(conn: &mut AsyncPgConnection, keys: &[OrderKey]) -> Result<usize, Error> {
    let (mch_ids, numbers, shops) = columns(keys);
    Touch { mch_ids, numbers, shops, life: PhantomData }.execute(conn).await
}

/// The same with one other order: of the newest, the one after the first `skipped`. Returns 0 when there is none.
///
/// # Errors
/// When the database is unavailable or refuses it.
pub async fn touch_another(conn: &mut AsyncPgConnection, keys: &[OrderKey], skipped: i64) -> Result<usize, Error> {
    let (mch_ids, numbers, shops) = columns(keys);
    diesel::sql_query(
        "UPDATE countersign.orders SET version = orders.version FROM (SELECT id FROM countersign.orders \
         WHERE (mch_id, out_trade_no, coalesce(sub_mch_id, '')) NOT IN (SELECT * FROM unnest($1, $2, $3)) \
         ORDER BY id DESC LIMIT 1 OFFSET $4 FOR NO KEY UPDATE SKIP LOCKED) AS another WHERE orders.id = another.id",
    )
    .bind::<Array<Text>, _>(mch_ids)
    .bind::<Array<Text>, _>(numbers)
    .bind::<Array<Text>, _>(shops)
    .bind::<BigInt, _>(skipped)
    .execute(conn)
    .await
}

fn columns(keys: &[OrderKey]) -> (Vec<&str>, Vec<&str>, Vec<&str>) {
    let mut columns = (Vec::with_capacity(keys.len()), Vec::with_capacity(keys.len()), Vec::with_capacity(keys.len()));
    for (mch_id, sub_mch_id, number) in keys {
        columns.0.push(mch_id.as_str());
        columns.1.push(number.as_str());
        columns.2.push(sub_mch_id.as_ref().map_or("", SubMchId::as_str));
    }
    columns
}

/// Writes changed orders, which the transaction has locked, sorted by id.
///
/// # Errors
/// When the database is unavailable or refuses a change, or when a row was not as it had been locked.
pub async fn update(conn: &AsyncPgConnection, changed: &[&ChangedOrder]) -> Result<(), Error> {
    let statement = Update {
        ids: changed.iter().map(|changed| changed.order.id).collect(),
        states: changed.iter().map(|changed| changed.order.state.name()).collect(),
        transaction_ids: changed
            .iter()
            .map(|changed| changed.order.state.transaction_id().map(TransactionId::as_str))
            .collect(),
        paid_ats: changed.iter().map(|changed| changed.paid_at).collect(),
        refunded: changed.iter().map(|changed| changed.order.refunded_minor).collect(),
        versions: changed.iter().map(|changed| changed.order.version).collect(),
        life: PhantomData,
    };
    let updated = statement.execute(&mut &*conn).await?;
    // The rows were locked by this transaction: fewer can only mean a bug, and a rollback is the safe answer to one.
    if updated == changed.len() { Ok(()) } else { Err(Error::RollbackTransaction) }
}

/// A row that the merchant's checkout wrote. The table's constraints make every row an order but for the lengths of its
/// texts; one with an id that no callback can name is an error of the checkout.
fn order_from_row(row: Row) -> Result<Order, Error> {
    let (
        id,
        mch_id,
        sub_mch_id,
        app_id,
        out_trade_no,
        amount_minor,
        currency,
        state,
        transaction_id,
        refunded_minor,
        version,
    ) = row;
    let parsed = || -> Option<Order> {
        let transaction = || TransactionId::parse(transaction_id.as_deref()?);
        Some(Order {
            id,
            mch_id: MchId::parse(&mch_id)?,
            sub_mch_id: optional(sub_mch_id.as_deref(), SubMchId::parse)?,
            app_id: optional(app_id.as_deref(), AppId::parse)?,
            out_trade_no: OutTradeNo::parse(&out_trade_no)?,
            amount: Money { amount_minor, currency: Currency::parse(&currency)? },
            state: match state.as_str() {
                "pending" => OrderState::Pending,
                "paid" => OrderState::Paid(transaction()?),
                "closed" => OrderState::Closed,
                "refunded" => OrderState::Refunded(transaction()?),
                _ => return None,
            },
            refunded_minor,
            version,
        })
    };
    parsed().ok_or_else(|| Error::DeserializationError(format!("order {id} has an invalid value").into()))
}

/// `None` for a value that does not parse; `Some(None)` for no value.
#[expect(clippy::option_option, reason = "absent and malformed are different answers here")]
fn optional<T>(text: Option<&str>, parse: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    text.map_or(Some(None), |text| parse(text).map(Some))
}
