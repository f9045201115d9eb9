//! The merchant's checkout: writes the orders, in bulk before the run and the late ones during it, and the refunds that it
//! will request from WeChat Pay.
//!
//! This is the contract of a real shop with Countersign: a row in `orders`, committed before the payer can pay. The
//! late ones break it on purpose.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::database::Database;
use crate::plan::{Checkout, Order, Plan};

/// Orders per statement.
const BULK: usize = 5_000;
/// A late order is written this long after its callback was sent.
const DELAY: Duration = Duration::from_secs(2);
/// Late orders that fall due within this time are written together.
const TICK: Duration = Duration::from_millis(100);
/// How long an unavailable database is retried.
const PATIENCE: Duration = Duration::from_mins(1);

const INSERT: &str = "
    INSERT INTO orders (mch_id, sub_mch_id, app_id, out_trade_no, amount_minor, currency, state)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[])
    ON CONFLICT (mch_id, out_trade_no, coalesce(sub_mch_id, '')) DO NOTHING";

const INSERT_REFUNDS: &str = "
    INSERT INTO refunds (order_id, out_refund_no, amount_minor)
    SELECT orders.id, asked.out_refund_no, asked.amount_minor
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])
        AS asked (mch_id, out_trade_no, shop, out_refund_no, amount_minor)
    JOIN orders ON orders.mch_id = asked.mch_id AND orders.out_trade_no = asked.out_trade_no
        AND coalesce(orders.sub_mch_id, '') = asked.shop
    ON CONFLICT DO NOTHING";

/// The first id that an order of this run can have. Ids grow, so it bounds every later look at the table.
pub async fn first_order_id(database: &mut Database) -> anyhow::Result<i64> {
    let row = database
        .client()
        .await?
        .query_one("SELECT coalesce(max(id), 0) + 1 FROM orders", &[])
        .await
        .context("the table orders cannot be read: has `worker migrate` run?")?;
    Ok(row.try_get(0)?)
}

/// Writes every order that exists before the first callback is sent.
pub async fn open_shop(database: &mut Database, plan: &Plan) -> anyhow::Result<()> {
    let early: Vec<&Order> =
        plan.orders.iter().filter(|order| matches!(order.checkout, Checkout::Pending | Checkout::Closed)).collect();
    for chunk in early.chunks(BULK) {
        insert(database, chunk).await?;
        request_refunds(database, chunk).await?;
    }
    // The planner learns what it would have known in a shop that did not grow by thousands of orders in one second.
    database.client().await?.batch_execute("ANALYZE orders").await.context("the orders could not be analysed")
}

/// Writes each order whose index comes in, two seconds later. Ends when the channel is closed and all are written.
pub async fn write_late_orders(
    mut database: Database,
    plan: Arc<Plan>,
    mut indexes: mpsc::UnboundedReceiver<usize>,
) -> anyhow::Result<()> {
    let mut waiting = VecDeque::new();
    loop {
        if waiting.is_empty() {
            match indexes.recv().await {
                Some(index) => waiting.push_back((Instant::now() + DELAY, index)),
                None => return Ok(()),
            }
        }
        while let Ok(index) = indexes.try_recv() {
            waiting.push_back((Instant::now() + DELAY, index));
        }
        let now = Instant::now();
        let due = waiting.iter().take_while(|(at, _)| *at <= now).count();
        let orders: Vec<&Order> = waiting.drain(..due).filter_map(|(_, index)| plan.orders.get(index)).collect();
        if !orders.is_empty() {
            insert_patiently(&mut database, &orders).await?;
        }
        sleep(TICK).await;
    }
}

async fn insert_patiently(database: &mut Database, orders: &[&Order]) -> anyhow::Result<()> {
    let retrying = async {
        while insert(database, orders).await.is_err() {
            sleep(TICK).await;
        }
    };
    if timeout(PATIENCE, retrying).await.is_ok() {
        return Ok(());
    }
    insert(database, orders).await.context("late orders could not be written")
}

async fn insert(database: &mut Database, orders: &[&Order]) -> anyhow::Result<()> {
    let mch_ids: Vec<&str> = orders.iter().map(|order| order.mch_id.as_str()).collect();
    let sub_mch_ids: Vec<Option<&str>> = orders.iter().map(|order| order.sub_mch_id).collect();
    let app_ids: Vec<Option<&str>> = orders.iter().map(|order| order.app_id).collect();
    let out_trade_nos: Vec<&str> = orders.iter().map(|order| order.out_trade_no.as_str()).collect();
    let amounts: Vec<i64> = orders.iter().map(|order| order.amount_minor).collect();
    let currencies: Vec<&str> = orders.iter().map(|order| order.currency).collect();
    let states: Vec<&str> = orders.iter().map(|order| initial_state(order)).collect();
    database
        .client()
        .await?
        .execute(INSERT, &[&mch_ids, &sub_mch_ids, &app_ids, &out_trade_nos, &amounts, &currencies, &states])
        .await
        .context("orders could not be written")?;
    Ok(())
}

async fn request_refunds(database: &mut Database, orders: &[&Order]) -> anyhow::Result<()> {
    let asked = || orders.iter().flat_map(|order| order.requested.iter().map(move |asked| (order, asked)));
    let mch_ids: Vec<&str> = asked().map(|(order, _)| order.mch_id.as_str()).collect();
    let out_trade_nos: Vec<&str> = asked().map(|(order, _)| order.out_trade_no.as_str()).collect();
    let shops: Vec<&str> = asked().map(|(order, _)| order.sub_mch_id.unwrap_or_default()).collect();
    let out_refund_nos: Vec<&str> = asked().map(|(_, asked)| asked.out_refund_no.as_str()).collect();
    let amounts: Vec<i64> = asked().map(|(_, asked)| asked.amount_minor).collect();
    database
        .client()
        .await?
        .execute(INSERT_REFUNDS, &[&mch_ids, &out_trade_nos, &shops, &out_refund_nos, &amounts])
        .await
        .context("refunds could not be written")?;
    Ok(())
}

fn initial_state(order: &Order) -> &'static str {
    if order.checkout == Checkout::Closed { "closed" } else { "pending" }
}
