//! The drill's own orders, for faults that check single orders. Their numbers are not the simulator's, so its audit
//! leaves them alone; what must become of them is promised by the fault that made them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use kit::callback::Callback;
use kit::merchants::MERCHANT;
use kit::post::{Post, post};
use kit::until::until_within;
use tokio::time::sleep;
use tokio_postgres::Client;

use crate::fleet::Fleet;

/// What [`Callback::payment`] pays, in fen.
pub const AMOUNT_MINOR: i64 = 1999;
/// How long a callback is repeated until it has been answered SUCCESS.
const PATIENCE: Duration = Duration::from_secs(30);
const REPEAT_AFTER: Duration = Duration::from_millis(300);
/// How many callbacks are in flight at the same time.
const AT_ONCE: usize = 8;

/// Where an order stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// As in `paid`.
    pub state: String,
    /// How much has gone back.
    pub refunded_minor: i64,
    /// How often it was changed.
    pub version: i32,
}

/// Numbers that no other order has, all beginning alike.
#[must_use]
pub fn numbers(count: usize) -> Vec<String> {
    let unique = rand::random::<u64>();
    (0..count).map(|number| format!("DRILL-{unique:016x}-{number}")).collect()
}

/// Payments of these orders, each with a transaction of its own.
#[must_use]
pub fn payments(numbers: &[String]) -> Vec<Callback> {
    numbers.iter().map(|number| Callback::payment(number)).collect()
}

/// Writes them as a shop does.
pub async fn insert(database: &Client, numbers: &[String], state: &str) -> Result<()> {
    let insert = "INSERT INTO orders (mch_id, out_trade_no, amount_minor, currency, state)
                  SELECT $1, unnest($2::text[]), $3, 'CNY', $4";
    database
        .execute(insert, &[&MERCHANT, &numbers, &AMOUNT_MINOR, &state])
        .await
        .context("orders cannot be written")?;
    Ok(())
}

/// Where they stand, by number.
pub async fn standings(database: &Client, numbers: &[String]) -> Result<BTreeMap<String, Standing>> {
    let select = "SELECT out_trade_no, state, refunded_minor, version FROM orders
                  WHERE mch_id = $1 AND out_trade_no = ANY($2)";
    let rows = database.query(select, &[&MERCHANT, &numbers]).await?;
    rows.iter()
        .map(|row| {
            let standing =
                Standing { state: row.try_get(1)?, refunded_minor: row.try_get(2)?, version: row.try_get(3)? };
            Ok((row.try_get(0)?, standing))
        })
        .collect()
}

/// All of them are as `is_right` asks.
pub async fn ensure_all(
    database: &Client,
    numbers: &[String],
    is_right: impl Fn(&str, &Standing) -> bool,
) -> Result<()> {
    let standings = standings(database, numbers).await?;
    let missing = numbers.len().saturating_sub(standings.len());
    ensure!(missing == 0, "{missing} of {} orders are missing", numbers.len());
    let wrong: Vec<_> = standings.iter().filter(|(number, standing)| !is_right(number, standing)).collect();
    let Some((number, standing)) = wrong.first() else { return Ok(()) };
    anyhow::bail!("{} of {} orders are wrong, {number} is {standing:?}", wrong.len(), numbers.len())
}

/// All of them are paid.
pub async fn ensure_paid(database: &Client, numbers: &[String]) -> Result<()> {
    ensure_all(database, numbers, |_, standing| standing.state == "paid").await
}

/// Posts a callback to the ingests in turn until one of them answers SUCCESS, as WeChat Pay does.
pub async fn deliver(fleet: &Fleet, callback: impl Into<Post>) -> Result<()> {
    let callback = callback.into();
    let mut ingests = fleet.ingests().iter().cycle();
    until_within(PATIENCE, "one of the drill's own callbacks is answered SUCCESS", async || {
        let ingest = ingests.next().and_then(|ingest| ingest.public()).context("there is no ingest")?;
        let is_stored = post(ingest, callback.clone()).await.is_ok_and(|reply| reply.is_success());
        if !is_stored {
            sleep(REPEAT_AFTER).await;
        }
        ensure!(is_stored, "it was not");
        Ok(())
    })
    .await
}

/// [`deliver`] for many, a few at the same time.
pub async fn deliver_all(fleet: &Fleet, callbacks: Vec<Post>) -> Result<()> {
    let sent = stream::iter(callbacks).map(|callback| deliver(fleet, callback)).buffer_unordered(AT_ONCE);
    sent.try_collect::<()>().await
}
