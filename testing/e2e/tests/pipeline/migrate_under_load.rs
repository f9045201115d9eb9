//! `worker migrate` while a shop is at work: it waits for other sessions, and does not make them wait.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kit::database::Database;
use kit::program::Launch;
use kit::servers::Servers;
use kit::{TestResult, until};
use tokio_postgres::Client;
use uuid::Uuid;

/// The lock that `worker migrate` holds while it runs.
const MIGRATION_LOCK: i64 = 0x636f_756e_7465_7273;
/// What a checkout waits for a migration at most: half a second, and a busy machine.
const CHECKOUT_MAX: Duration = Duration::from_millis(1500);
/// The exit code that says: try again.
const TRY_AGAIN: Option<i32> = Some(75);

#[tokio::test]
async fn a_migration_that_has_to_wait_for_a_reader_lets_the_checkout_through() -> TestResult {
    let database = database().await?;
    let migrations = Migrations::write("orders_get_a_column", "ALTER TABLE orders ADD COLUMN test integer", true)?;
    let (reader, shop) = (reader(&database, "READ COMMITTED").await?, database.connect().await?);
    let mut migrate = migrations.migrate(&database, 300).spawn()?;

    let (mut longest, mut number) = (Duration::ZERO, 0);
    while migrate.log()?.matches("gave way").count() < 3 {
        assert!(migrate.is_running()?, "it ended while the lock was held: {}", migrate.log()?);
        longest = longest.max(check_out(&shop, number).await?);
        number += 1;
    }
    println!("{number} checkouts, the longest took {longest:?}");
    assert!(longest < CHECKOUT_MAX, "a checkout took {longest:?}");
    assert!(longest > Duration::from_millis(100), "no checkout met the migration: {longest:?}");
    assert!(migrate.log()?.contains("application a-report"), "{}", migrate.log()?);

    reader.batch_execute("COMMIT").await?;
    assert_eq!(migrate.exit().await?.code(), Some(0), "{}", migrate.log()?);
    database.batch_execute("SELECT test FROM orders").await?;
    Ok(())
}

#[tokio::test]
async fn a_migration_that_cannot_have_its_lock_gives_up_and_succeeds_later() -> TestResult {
    let database = database().await?;
    let migrations = Migrations::write("orders_get_a_column", "ALTER TABLE orders ADD COLUMN test integer", true)?;
    let reader = reader(&database, "READ COMMITTED").await?;
    let given_up = migrations.migrate(&database, 2).finish().await?;
    assert_eq!(given_up.code, TRY_AGAIN, "{given_up:?}");
    let last = given_up.stderr.lines().last().unwrap_or_default();
    assert!(last.contains("gave up") && last.contains("orders_get_a_column"), "{given_up:?}");
    assert!(last.contains("application a-report, idle in transaction"), "{given_up:?}");

    reader.batch_execute("COMMIT").await?;
    let migrated = migrations.migrate(&database, 2).finish().await?;
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    assert!(migrated.stdout.contains("applied 2099-01-01-000000_orders_get_a_column"), "{migrated:?}");
    Ok(())
}

/// What is wrong with a migration is not mistaken for a lock, and is not tried again.
#[tokio::test]
async fn a_migration_at_fault_fails_at_once_with_the_databases_words() -> TestResult {
    let database = database().await?;
    let migrations = Migrations::write("wrong", "ALTER TABLE orders DROP COLUMN nothing_like_it", true)?;
    let failed = migrations.migrate(&database, 300).finish().await?;
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stderr.contains("2099-01-01-000000_wrong failed"), "{failed:?}");
    assert!(failed.stderr.contains("nothing_like_it"), "{failed:?}");
    Ok(())
}

#[tokio::test]
async fn an_index_that_could_not_be_built_concurrently_is_built_anew_by_the_next_run() -> TestResult {
    let database = database().await?;
    let create = "CREATE INDEX CONCURRENTLY orders_test ON orders (paid_at)";
    let migrations = Migrations::write("orders_test", create, false)?;
    // The last step of a concurrent build waits for every transaction that still sees the table as it was before.
    let (reader, shop) = (reader(&database, "REPEATABLE READ").await?, database.connect().await?);
    let mut migrate = migrations.migrate(&database, 3).spawn()?;
    let (mut longest, mut number) = (Duration::ZERO, 0);
    while migrate.is_running()? {
        longest = longest.max(check_out(&shop, number).await?);
        number += 1;
    }
    assert_eq!(migrate.exit().await?.code(), TRY_AGAIN, "{}", migrate.log()?);
    assert!(migrate.log()?.contains("application a-report"), "{}", migrate.log()?);
    assert!(longest < CHECKOUT_MAX, "a checkout took {longest:?}");
    let is_valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'orders_test'::regclass";
    assert!(!database.query_one(is_valid, &[]).await?.get::<_, bool>(0), "the test builds no index in two steps");

    reader.batch_execute("COMMIT").await?;
    let migrated = migrations.migrate(&database, 20).finish().await?;
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    assert!(migrated.stderr.contains("dropped the index countersign.orders_test"), "{migrated:?}");
    assert!(database.query_one(is_valid, &[]).await?.get::<_, bool>(0), "the index is not valid");
    Ok(())
}

#[tokio::test]
async fn a_run_that_waits_for_the_migration_lock_names_its_holder_and_gives_up() -> TestResult {
    let database = database().await?;
    let migrations = Migrations::write("orders_get_a_column", "ALTER TABLE orders ADD COLUMN test integer", true)?;
    let anyone = database.connect().await?;
    anyone.batch_execute("SET application_name = 'anyone'").await?;
    anyone.execute("SELECT pg_advisory_lock($1)", &[&MIGRATION_LOCK]).await?;
    let pid: i32 = anyone.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
    let given_up = migrations.migrate(&database, 1).finish().await?;
    assert_eq!(given_up.code, TRY_AGAIN, "{given_up:?}");
    let holder =
        format!("another session holds the migration lock: process {pid} (user countersign, application anyone");
    let first = given_up.stderr.lines().next().unwrap_or_default();
    assert!(first.contains("waiting for the migration lock"), "{given_up:?}");
    assert!(given_up.stderr.lines().last().unwrap_or_default().contains(&holder), "{given_up:?}");

    let mut migrate = migrations.migrate(&database, 300).spawn()?;
    until("the next run waits", async || {
        ensure!(migrate.log()?.contains("waiting for the migration lock"), "it does not");
        Ok(())
    })
    .await?;
    drop(anyone);
    assert_eq!(migrate.exit().await?.code(), Some(0), "{}", migrate.log()?);
    Ok(())
}

#[tokio::test]
async fn a_month_is_made_once_a_reader_of_the_ledger_has_ended() -> TestResult {
    let (database, none) = (database().await?, none());
    let last_month = drop_month(&database, 23).await?;
    let reader = database.connect().await?;
    reader.batch_execute("BEGIN; SELECT FROM notifications_default").await?;
    let mut migrate = none.migrate(&database, 300).spawn()?;
    until("it has given way", async || {
        ensure!(migrate.log()?.contains("gave way"), "it has not");
        Ok(())
    })
    .await?;
    reader.batch_execute("COMMIT").await?;
    assert_eq!(migrate.exit().await?.code(), Some(0), "{}", migrate.log()?);
    database.batch_execute(&format!("SELECT FROM {last_month}")).await?;
    Ok(())
}

/// Moving the rows keeps workers out of the DEFAULT partition: for a few rows that takes a moment, for many it would be an outage.
#[tokio::test]
async fn a_month_with_many_rows_is_left_to_the_operator_and_the_others_are_made() -> TestResult {
    let (database, none) = (database().await?, none());
    let (this_month, next_month) = (drop_month(&database, 0).await?, drop_month(&database, 1).await?);
    let fill = "INSERT INTO notifications (id, received_at, kind, outcome, handled_at, body, headers)
                SELECT gen_random_uuid(), now(), 'other', 'applied', now(), '', '{}' FROM generate_series(1, $1)";
    database.execute(fill, &[&20_001_i32]).await?;
    let failed = none.migrate(&database, 5).finish().await?;
    assert_eq!(failed.code, Some(1), "{failed:?}");
    database.batch_execute(&format!("SELECT FROM {next_month}")).await?;

    // As the message says.
    let (_, statement) = failed.stderr.split_once("run SELECT ").unwrap_or_default();
    assert!(statement.starts_with("countersign.notifications_make_months('"), "{failed:?}");
    database.batch_execute(&format!("SELECT {}", statement.trim())).await?;
    let moved: i64 = database.query_one(&format!("SELECT count(*) FROM {this_month}"), &[]).await?.get(0);
    assert_eq!(moved, 20_001);
    let migrated = none.migrate(&database, 5).finish().await?;
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    Ok(())
}

/// A directory of migrations with one of the test's own.
struct Migrations(PathBuf);

impl Migrations {
    fn write(name: &str, up: &str, in_transaction: bool) -> Result<Self> {
        let migrations = none();
        let folder = migrations.0.join(format!("2099-01-01-000000_{name}"));
        fs::create_dir(&folder)?;
        fs::write(folder.join("up.sql"), up)?;
        fs::write(folder.join("metadata.toml"), format!("run_in_transaction = {in_transaction}"))?;
        Ok(migrations)
    }

    fn migrate(&self, database: &Database, patience_seconds: u64) -> Launch {
        Launch::new("worker")
            .arguments(&["migrate", "--migrations", self.0.to_str().unwrap()])
            .arguments(&["--wait-max-seconds", &patience_seconds.to_string()])
            .env("DATABASE_URL", database.url().as_str())
    }
}

impl Drop for Migrations {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// No migration: what is left to do is the ledger's months.
fn none() -> Migrations {
    let folder = std::env::temp_dir().join(format!("migrations-{}", Uuid::now_v7()));
    fs::create_dir(&folder).unwrap();
    Migrations(folder)
}

async fn database() -> Result<Database> {
    Database::create(&Servers::from_environment()?).await
}

/// A report that has read the orders, and whose transaction stays open.
async fn reader(database: &Database, isolation: &str) -> Result<Client> {
    let reader = database.connect().await?;
    let read =
        format!("SET application_name = 'a-report'; BEGIN ISOLATION LEVEL {isolation}; SELECT count(*) FROM orders");
    reader.batch_execute(&read).await?;
    Ok(reader)
}

/// What the shop does for each customer, and how long it took.
async fn check_out(shop: &Client, number: i32) -> Result<Duration> {
    let started = Instant::now();
    shop.execute("SELECT FROM orders WHERE mch_id = 'm' AND out_trade_no = $1", &[&number.to_string()]).await?;
    let insert = "INSERT INTO orders (mch_id, out_trade_no, amount_minor, currency) VALUES ('m', $1, 1, 'CNY')";
    shop.execute(insert, &[&number.to_string()]).await?;
    Ok(started.elapsed())
}

/// Drops the ledger's month that is this far ahead, and returns its name.
async fn drop_month(database: &Database, ahead: i32) -> Result<String> {
    let name = "SELECT 'notifications_' ||
                to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => $1), 'YYYY_MM')";
    let name: String = database.query_one(name, &[&ahead]).await?.get(0);
    database.batch_execute(&format!("DROP TABLE {name}")).await?;
    Ok(name)
}
