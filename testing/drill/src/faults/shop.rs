//! A careless shop: it closes, reopens and saves stale copies of its own orders while they are paid and refunded. What it
//! does may delay a payment, and must not pay an order with money that has been returned.

use std::slice::from_ref;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use kit::callback::{Callback, Refund};
use kit::post::Post;
use kit::until::until_within;
use tokio::time::sleep;
use tokio_postgres::Client;

use super::Scene;
use super::operator::{replay_held, until_held};
use super::programs::{hang_writes, let_writes_go};
use crate::own;
use crate::record::FaultRecord;

/// How soon an order of the shop's is where it must be before the next step.
const NEXT_STEP_WITHIN: Duration = Duration::from_secs(15);
/// How many orders the shop meddles with in each way.
const MEDDLED: usize = 150;
/// How many of those are reopened, and how many of them at once: only a few refunds of each round meet a replay at the very
/// moment at which it is decided.
const REOPENED: usize = 240;
const REOPENED_AT_ONCE: usize = 40;
/// How long the ledger takes to write then: less than workers wait for a lock.
const SLOW: Duration = Duration::from_millis(800);
/// How many at the same time.
const AT_ONCE: usize = 6;
/// How soon they are settled: a refund may wait for its payment, and a replay for the next sweep.
const SETTLED_WITHIN_SECONDS: u64 = 15;

/// Three mistakes of a careless shop, each on its own orders.
pub(super) async fn meddle(scene: &Scene, record: &FaultRecord) -> Result<()> {
    let database = scene.servers.database().await?;
    let [closing, reopening, stale] = [own::numbers(MEDDLED), own::numbers(REOPENED), own::numbers(MEDDLED)];
    own::insert(&database, &closing, "pending").await?;
    own::insert(&database, &stale, "pending").await?;
    own::insert(&database, &reopening, "closed").await?;
    let refused = own::payments(&reopening);
    let kept = own::payments(&stale);
    let first: Vec<Post> = refused.iter().chain(&kept).map(|payment| payment.body().into()).collect();
    own::deliver_all(&scene.fleet, first).await?;
    until_held(&database, &reopening).await?;
    record.injected();
    tokio::try_join!(
        close_and_reopen(scene, &database, &closing),
        reopen_while_refunded(scene, &database, &refused),
        save_stale_copies(scene, &database, &kept),
    )?;
    record.note(format!("{} orders", closing.len().saturating_add(reopening.len()).saturating_add(stale.len())));
    record.lifted();
    record
        .promise("a payment of an order that was closed and reopened pays it", SETTLED_WITHIN_SECONDS, async || {
            // An operator replays what was refused while the order was closed.
            let numbers: Vec<&str> = closing.iter().map(String::as_str).collect();
            replay_held(scene, &database, &numbers).await?;
            own::ensure_paid(&database, &closing).await
        })
        .await;
    record
        .promise("no order is paid by money that has been returned", SETTLED_WITHIN_SECONDS, async || {
            own::ensure_all(&database, &reopening, |_, order| match order.state.as_str() {
                // Accepted first and then refunded, or refused permanently.
                "refunded" => order.refunded_minor == own::AMOUNT_MINOR,
                "pending" => order.refunded_minor == 0,
                _ => false,
            })
            .await
        })
        .await;
    record
        .promise("a stale copy does not revert the version of a paid order", SETTLED_WITHIN_SECONDS, async || {
            own::ensure_all(&database, &stale, |_, order| order.state == "paid" && order.version == 2).await
        })
        .await;
    Ok(())
}

/// The shop closes an order at the moment in which it is paid, notices, and reopens it.
async fn close_and_reopen(scene: &Scene, database: &Client, numbers: &[String]) -> Result<()> {
    let set = async |number: &str, from: &str, to: &str| -> Result<()> {
        let update = "UPDATE orders SET state = $3, updated_at = now() WHERE out_trade_no = $1 AND state = $2";
        database.execute(update, &[&number, &from, &to]).await?;
        Ok(())
    };
    stream::iter(numbers)
        .map(async |number| {
            let payment = Callback::payment(number).body();
            let (paid, closed) = tokio::join!(own::deliver(&scene.fleet, payment), set(number, "pending", "closed"));
            paid?;
            closed?;
            set(number, "closed", "pending").await
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
}

/// The shop reopens an order whose payment was refused, an operator replays the payment, and WeChat Pay reports that the
/// payment went back, all at once.
async fn reopen_while_refunded(scene: &Scene, database: &Client, payments: &[Callback]) -> Result<()> {
    let administrator = scene.servers.database().await?;
    for round in payments.chunks(REOPENED_AT_ONCE) {
        let numbers: Vec<&str> = round.iter().map(|payment| payment.get("out_trade_no")).collect();
        let refunds: Vec<Post> = round.iter().map(|payment| Post::from(&refund_of(payment))).collect();
        reopen(database, &numbers).await?;
        // A slow moment of the database: lanes keep the orders of the first refunds locked while a sweeper meets them.
        hang_writes(&administrator).await?;
        let slow = async {
            sleep(SLOW).await;
            let_writes_go(&administrator).await
        };
        let reported = stream::iter(refunds)
            .map(|refund| own::deliver(&scene.fleet, refund))
            .buffer_unordered(REOPENED_AT_ONCE)
            .try_collect::<()>();
        tokio::try_join!(replay_held(scene, database, &numbers), reported, slow)?;
    }
    Ok(())
}

async fn reopen(database: &Client, numbers: &[&str]) -> Result<()> {
    let update = "UPDATE orders SET state = 'pending', updated_at = now() WHERE out_trade_no = ANY($1)";
    database.execute(update, &[&numbers]).await?;
    Ok(())
}

fn refund_of(payment: &Callback) -> Refund {
    let number = payment.get("out_trade_no");
    Refund::of(number, payment.get("transaction_id"), &format!("R-{number}"))
}

/// The shop loads a paid order, a refund of it is closed, and the shop saves what it loaded: every column.
async fn save_stale_copies(scene: &Scene, database: &Client, payments: &[Callback]) -> Result<()> {
    stream::iter(payments)
        .map(async |payment| {
            let number = payment.get("out_trade_no").to_owned();
            until_within(NEXT_STEP_WITHIN, "an order of the shop's is paid", async || {
                own::ensure_paid(database, from_ref(&number)).await
            })
            .await?;
            let refund = refund_of(payment).status("REFUNDCLOSE");
            own::deliver(&scene.fleet, &refund).await?;
            until_within(NEXT_STEP_WITHIN, "the shop's refund is decided", async || {
                let order = own::standings(database, from_ref(&number)).await?;
                ensure!(order.values().all(|order| order.version == 2), "it is {order:?}");
                Ok(())
            })
            .await?;
            let save = "UPDATE orders SET state = 'paid', refunded_minor = 0, version = 1, updated_at = now()
                        WHERE out_trade_no = $1";
            // A refusal is as good as a save that changes nothing: what counts is the row.
            let _refused = database.execute(save, &[&number]).await;
            Ok::<_, anyhow::Error>(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
}
