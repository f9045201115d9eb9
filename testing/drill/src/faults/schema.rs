//! What an administrator does to the schema under load: a migration, and a month of the ledger that is dropped.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kit::post::Post;
use kit::program::Launch;
use kit::until::until_within;
use kit::writer::{Forged, Writer};
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use uuid::{Builder, Uuid};

use super::Scene;
use super::operator::{replay_held, until_held};
use crate::clock::seconds;
use crate::fault::READER_SECONDS;
use crate::own;
use crate::record::FaultRecord;
use crate::servers::Servers;

/// The longest that the checkout may wait for its own table during the migration.
const CHECKOUT_WAITS_AT_MOST: Duration = Duration::from_secs(2);
/// How often the checkout looks.
const CHECKOUT_EVERY: Duration = Duration::from_millis(100);
/// A statement that may stop others waits no longer than this for its lock, and is tried again.
const LOCK_TIMEOUT: &str = "SET lock_timeout = '1s'";
/// How long it is tried.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);
const LOCK_PAUSE: Duration = Duration::from_millis(500);
/// How soon everything works after it.
const BACK_WITHIN_SECONDS: u64 = 10;

/// The column that the drill's own migration adds, and the next one takes away. Each run has names of its own, because a
/// migration is applied once.
fn migrations() -> [(String, &'static str); 2] {
    let run = Uuid::now_v7().as_u128() >> 80;
    [
        (format!("{run}1_add"), "ALTER TABLE orders ADD COLUMN drill_migrated integer"),
        (format!("{run}2_drop"), "ALTER TABLE orders DROP COLUMN drill_migrated"),
    ]
}

/// How far back the month lies that is dropped.
const MONTHS_BACK: i32 = 3;
/// How many held rows of each kind point into it.
const HELD: usize = 20;

/// A migration that needs ACCESS EXCLUSIVE on orders, while a report reads them and the checkout goes on selling.
pub(super) async fn migrate(scene: &Scene, record: &FaultRecord) -> Result<()> {
    let (reader, checkout) = (scene.servers.database().await?, scene.servers.database().await?);
    reader.batch_execute("BEGIN; SELECT FROM orders LIMIT 1").await?;
    record.injected();
    let migrated = async {
        for (name, statement) in migrations() {
            run_migration(scene, &name, statement).await?;
        }
        anyhow::Ok(())
    };
    let read = async {
        seconds(READER_SECONDS).await;
        Ok(reader.batch_execute("COMMIT").await?)
    };
    let both = async { tokio::try_join!(migrated, read) };
    let (longest_wait, both) = longest_wait_while(&checkout, both).await?;
    both?;
    record.lifted();
    record.note(format!("the checkout waited {} ms at most", longest_wait.as_millis()));
    let short = || -> Result<()> {
        ensure!(longest_wait <= CHECKOUT_WAITS_AT_MOST, "it waited {} ms", longest_wait.as_millis());
        Ok(())
    };
    record.observed("the checkout waits at most 2 s for a table that is being migrated", 2, short());
    scene.promise_payment(record, BACK_WITHIN_SECONDS).await;
    Ok(())
}

/// `worker migrate` with this statement as the only migration.
async fn run_migration(scene: &Scene, name: &str, statement: &str) -> Result<()> {
    let folder = std::env::temp_dir().join(format!("drill-{}", Uuid::now_v7()));
    let migration = folder.join(name);
    std::fs::create_dir_all(&migration)?;
    std::fs::write(migration.join("up.sql"), statement)?;
    std::fs::write(migration.join("down.sql"), "SELECT 1")?;
    let launch = Launch::new("worker")
        .arguments(&["migrate", "--migrations", folder.to_str().context("the folder's name is not UTF-8")?])
        .env("DATABASE_URL", scene.servers.database_url().as_str());
    let finished = launch.finish().await;
    std::fs::remove_dir_all(&folder)?;
    let finished = finished?;
    ensure!(finished.code == Some(0), "worker migrate: {}", finished.stderr);
    Ok(())
}

/// Runs a statement that needs a lock which others hold, and never makes other sessions queue behind it for long.
async fn patiently(administrator: &Client, statement: &str) -> Result<()> {
    administrator.batch_execute(LOCK_TIMEOUT).await?;
    until_within(LOCK_PATIENCE, "a statement gets its lock", async || {
        let done = administrator.batch_execute(statement).await;
        if done.is_err() {
            sleep(LOCK_PAUSE).await;
        }
        Ok(done?)
    })
    .await
}

/// The longest time in which the checkout could not read an order of its own while `work` went on.
async fn longest_wait_while<T>(checkout: &Client, work: impl Future<Output = T>) -> Result<(Duration, T)> {
    let mut work = std::pin::pin!(work);
    let mut longest = Duration::ZERO;
    loop {
        let began = Instant::now();
        let looked = checkout.query("SELECT state FROM orders ORDER BY id DESC LIMIT 1", &[]);
        tokio::pin!(looked);
        tokio::select! {
            rows = &mut looked => {
                rows.context("the checkout cannot read")?;
                longest = longest.max(began.elapsed());
            }
            done = &mut work => return Ok((longest.max(began.elapsed()), done)),
        }
        tokio::select! {
            () = sleep(CHECKOUT_EVERY) => {}
            done = &mut work => return Ok((longest, done)),
        }
    }
}

/// Creates the month before the load begins: moving rows out of the DEFAULT partition takes locks.
pub(super) async fn prepare_month(servers: &Servers) -> Result<()> {
    let make = "SELECT notifications_make_months(now() - make_interval(months => $1), 1)";
    servers.database().await?.execute(make, &[&MONTHS_BACK]).await?;
    Ok(())
}

/// Held payments of long ago lose their ledger rows, as an operator's retention does it. Later the shop writes the orders
/// that some waited for, and everything comes again: half from the dead letters, under the old ids, and half from WeChat Pay.
pub(super) async fn drop_month(scene: &Scene, record: &FaultRecord) -> Result<()> {
    let database = scene.servers.database().await?;
    prepare_month(&scene.servers).await?;
    let (late, closed) = (own::numbers(HELD), own::numbers(HELD));
    own::insert(&database, &closed, "closed").await?;
    let numbers: Vec<String> = late.iter().chain(&closed).cloned().collect();
    let (month, millis) = month(&database).await?;
    let messages: Vec<Forged> = own::payments(&numbers)
        .iter()
        .map(|payment| Forged::genuine(&id_of(millis).to_string(), payment.body()))
        .collect();
    let writer = Writer::connect(scene.servers.ingest_amqp()?).await?;
    writer.publish(messages.clone()).await?;
    until_held(&database, &numbers).await?;
    record.injected();
    let drop = format!("ALTER TABLE notifications DETACH PARTITION {month}; DROP TABLE {month}");
    patiently(&database, &drop).await?;
    record.note(&month);
    record.lifted();

    let numbers_of_closed: Vec<&str> = closed.iter().map(String::as_str).collect();
    replay_held(scene, &database, &numbers_of_closed).await?;
    own::insert(&database, &late, "pending").await?;
    let (old_ids, repeats): (Vec<_>, Vec<_>) = messages.into_iter().enumerate().partition(|(place, _)| place % 2 == 0);
    writer.publish(old_ids.into_iter().map(|(_, message)| message).collect()).await?;
    own::deliver_all(&scene.fleet, repeats.into_iter().map(|(_, message)| Post::from(message.body)).collect()).await?;
    scene.promise_payment(record, BACK_WITHIN_SECONDS).await;
    record
        .promise("a payment whose ledger row was dropped pays its order when it is resent", BACK_WITHIN_SECONDS, {
            async || own::ensure_paid(&database, &late).await
        })
        .await;
    record
        .promise("no replay of a row whose month is gone waits forever", BACK_WITHIN_SECONDS, async || {
            let waiting = "SELECT count(*) FROM quarantine
                       WHERE out_trade_no = ANY($1) AND state <> 'resolved' AND replay_requested_at IS NOT NULL";
            let waiting: i64 = database.query_one(waiting, &[&numbers]).await?.try_get(0)?;
            ensure!(waiting == 0, "{waiting} do");
            Ok(())
        })
        .await;
    Ok(())
}

/// The name of the month's partition, and a moment inside the month.
async fn month(database: &Client) -> Result<(String, u64)> {
    let select = "SELECT 'notifications_' || to_char(first, 'YYYY_MM'), (extract(epoch FROM first) * 1000)::bigint
                  FROM (SELECT date_trunc('month', now() AT TIME ZONE 'UTC' - make_interval(months => $1))
                               + interval '10 days' AS first) AS month";
    let row = database.query_one(select, &[&MONTHS_BACK]).await?;
    Ok((row.try_get(0)?, u64::try_from(row.try_get::<_, i64>(1)?)?))
}

/// A message id as ingest would have made it then.
fn id_of(millis: u64) -> Uuid {
    Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid()
}
