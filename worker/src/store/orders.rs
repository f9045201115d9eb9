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
use crate::plan::ChangedOrder;

/// What to do about an order that somebody else has locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    /// Wait up to the session's `lock_timeout`, then fail.
    Wait,
    /// Go on without it: it is not among the rows returned.
    Skip,
}

type Row = (i64, String, Option<String>, Option<String>, String, i64, String, String, Option<String>, i64, i32);
type RowType =
    (BigInt, Text, Nullable<Text>, Nullable<Text>, Text, BigInt, Text, Text, Nullable<Text>, BigInt, Integer);

set_statement! {
    /// Locks in the order of the ids, so that two batches never wait for each other in a circle.
    LockOrWait<'a>(mch_ids: Array<Text> = Vec<&'a str>, numbers: Array<Text> = Vec<&'a str>) -> RowType {
        "SELECT id, mch_id, sub_mch_id, app_id, out_trade_no, amount_minor, currency::text, state, transaction_id, \
         refunded_minor, version \
         FROM orders WHERE (mch_id, out_trade_no) IN (SELECT * FROM "
        ") ORDER BY id FOR NO KEY UPDATE"
    }
}

set_statement! {
    /// The same without waiting.
    LockOrSkip<'a>(mch_ids: Array<Text> = Vec<&'a str>, numbers: Array<Text> = Vec<&'a str>) -> RowType {
        "SELECT id, mch_id, sub_mch_id, app_id, out_trade_no, amount_minor, currency::text, state, transaction_id, \
         refunded_minor, version \
         FROM orders WHERE (mch_id, out_trade_no) IN (SELECT * FROM "
        ") ORDER BY id FOR NO KEY UPDATE SKIP LOCKED"
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
        "UPDATE orders SET state = new.state, transaction_id = new.transaction_id, \
         paid_at = coalesce(new.paid_at, orders.paid_at), refunded_minor = new.refunded_minor, \
         version = new.version, updated_at = clock_timestamp() FROM"
        "AS new (id, state, transaction_id, paid_at, refunded_minor, version) \
         WHERE orders.id = new.id AND orders.version < new.version"
    }
}

/// Locks the orders with these numbers (`mch_id`, `out_trade_no`); numbers without an order are simply not returned.
///
/// # Errors
/// When the database is away, or with [`Locked::Wait`] when somebody holds a row longer than the lock time-out.
pub async fn lock(conn: &mut AsyncPgConnection, numbers: &[(&str, &str)], locked: Locked) -> Result<Vec<Order>, Error> {
    let (mch_ids, numbers) = numbers.iter().copied().unzip();
    let rows: Vec<Row> = match locked {
        Locked::Wait => LockOrWait { mch_ids, numbers, life: PhantomData }.load(conn).await?,
        Locked::Skip => LockOrSkip { mch_ids, numbers, life: PhantomData }.load(conn).await?,
    };
    rows.into_iter().map(order_of).collect()
}

/// Writes changed orders, which the transaction has locked, sorted by id.
///
/// # Errors
/// When the database is away or refuses a change, or when a row was not as it had been locked.
pub async fn update(conn: &AsyncPgConnection, changed: &[&ChangedOrder]) -> Result<(), Error> {
    let statement = Update {
        ids: changed.iter().map(|changed| changed.order.id).collect(),
        states: changed.iter().map(|changed| state_name(&changed.order.state)).collect(),
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

fn state_name(state: &OrderState) -> &'static str {
    match state {
        OrderState::Pending => "pending",
        OrderState::Paid(_) => "paid",
        OrderState::Closed => "closed",
        OrderState::Refunded(_) => "refunded",
    }
}

/// A row that the merchant's checkout wrote. The table's constraints make every row an order but for the lengths of its
/// texts; one with an id that no callback can name is an error of the checkout.
fn order_of(row: Row) -> Result<Order, Error> {
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
            surplus: Vec::new(),
            version,
        })
    };
    parsed().ok_or_else(|| Error::DeserializationError(format!("order {id} has a value that no order can have").into()))
}

/// `None` for a value that does not parse; `Some(None)` for no value.
#[expect(clippy::option_option, reason = "absent and malformed are different answers here")]
fn optional<T>(text: Option<&str>, parse: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    text.map_or(Some(None), |text| parse(text).map(Some))
}
