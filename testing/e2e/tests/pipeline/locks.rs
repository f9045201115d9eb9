//! Locked, absent, unavailable: three things, and none is taken for another. What is parked heals in batches.

use std::time::Duration;

use anyhow::{Result, ensure};
use kit::broker::Message;
use kit::callback::{Callback, Refund};
use kit::test_env::TestEnv;
use kit::until::until_within;
use kit::{TestResult, until};
use shared::messaging::topology::CALLBACKS_QUEUE;
use uuid::Uuid;

/// How many callbacks meet a fault. Set `COUNTERSIGN_PARKED` for more; with 10,000 it is the figure of `docs/reliability.md`.
fn parked() -> usize {
    std::env::var("COUNTERSIGN_PARKED").ok().and_then(|text| text.parse().ok()).unwrap_or(500)
}

async fn orders(env: &TestEnv, count: usize) -> Result<Vec<Message>> {
    let numbers: Vec<String> = (0..count).map(|number| format!("order-{number}")).collect();
    env.insert_orders(&numbers.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    Ok(numbers.iter().map(|number| Message::callback(Callback::payment(number).body())).collect())
}

async fn all_paid(env: &TestEnv, count: usize) -> Result<()> {
    until_count(env, "orders WHERE state = 'paid'", count).await
}

/// Waits until there are this many, with a longer limit for more.
async fn until_count(env: &TestEnv, rows: &str, count: usize) -> Result<()> {
    let patience = Duration::from_secs(20).max(Duration::from_millis(40) * u32::try_from(count)?);
    until_within(patience, &format!("there are {count} of {rows}"), async || {
        let there = env.value(&format!("SELECT count(*) FROM {rows}")).await?;
        ensure!(there == count.to_string(), "there are {there}");
        Ok(())
    })
    .await
}

/// `CREATE INDEX` holds such a lock, for as long as it runs.
#[tokio::test]
async fn a_lock_on_a_table_parks_nothing_and_costs_nothing_but_time() -> TestResult {
    for table in ["orders", "payments", "notifications", "order_events"] {
        let env = TestEnv::start().await?;
        let messages = orders(&env, 50).await?;
        let worker = env.start_worker().await?;
        let index = env.database.connect().await?;
        index.batch_execute(&format!("BEGIN; LOCK TABLE {table} IN SHARE MODE")).await?;
        env.broker.publish_callbacks(messages).await?;
        until("the worker keeps its batch", async || {
            ensure!(worker.log()?.contains("the batch is kept"), "it does not");
            Ok(())
        })
        .await?;
        index.batch_execute("COMMIT").await?;
        all_paid(&env, 50).await?;
        assert_eq!(env.value("SELECT count(*) FROM quarantine").await?, "0", "{table}: parked by a lock on a table");
    }
    Ok(())
}

/// How long another worker holds its orders when it waits for one locked table after the other.
#[tokio::test]
async fn an_order_that_is_locked_for_less_than_two_lock_time_outs_is_waited_for() -> TestResult {
    let env = TestEnv::start().await?;
    let messages = orders(&env, 20).await?;
    let worker = env.start_worker().await?;
    let other = env.database.connect().await?;
    other.batch_execute("BEGIN; SELECT FROM orders WHERE out_trade_no = 'order-7' FOR UPDATE").await?;
    env.broker.publish_callbacks(messages).await?;
    until("the first try of the batch has failed", async || {
        ensure!(worker.log()?.contains("a batch failed"), "it has not");
        Ok(())
    })
    .await?;
    other.batch_execute("COMMIT").await?;
    all_paid(&env, 20).await?;
    assert_eq!(env.value("SELECT count(*) FROM quarantine").await?, "0", "it was set aside");
    Ok(())
}

/// A full disk, as the database reports it: every bare row of the ledger fails as well.
#[tokio::test]
async fn a_database_that_refuses_rows_keeps_the_batch_and_burns_no_deliveries() -> TestResult {
    let env = TestEnv::start().await?;
    let messages = orders(&env, 50).await?;
    let worker = env.start_worker().await?;
    let full = "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
                    $$BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = '53100'; END$$;
                CREATE TRIGGER full_disk BEFORE INSERT ON notifications FOR EACH ROW EXECUTE FUNCTION full_disk()";
    env.database.batch_execute(full).await?;
    env.broker.publish_callbacks(messages).await?;
    until("the worker keeps its batch", async || {
        ensure!(worker.log()?.contains("the batch is kept"), "it does not");
        Ok(())
    })
    .await?;
    assert!(!worker.log()?.contains("is held in quarantine"), "the log claims that something was held");
    env.database.batch_execute("DROP TRIGGER full_disk ON notifications").await?;
    all_paid(&env, 50).await?;
    assert_eq!(env.value("SELECT count(*) FROM quarantine").await?, "0");
    Ok(())
}

#[tokio::test]
async fn orders_that_the_shop_has_locked_wait_and_heal_in_batches() -> TestResult {
    let env = TestEnv::start().await?;
    let messages = orders(&env, parked()).await?;
    let shop = env.database.connect().await?;
    shop.batch_execute("BEGIN; SELECT FROM orders FOR UPDATE").await?;
    let _workers = [env.start_worker().await?, env.start_worker().await?];
    env.broker.publish_callbacks(messages).await?;
    until_count(&env, "quarantine WHERE reason = 'for_lock' AND state = 'waiting'", parked()).await?;
    shop.batch_execute("COMMIT").await?;
    healed(&env, "for_lock").await
}

#[tokio::test]
async fn a_lock_that_outlasts_the_wait_limit_heals_all_the_same() -> TestResult {
    let env = TestEnv::start().await?;
    let messages = orders(&env, 20).await?;
    let shop = env.database.connect().await?;
    shop.batch_execute("BEGIN; SELECT FROM orders FOR UPDATE").await?;
    let _worker = env.worker()?.env("WAIT_LIMIT_SECONDS", "1").start().await?;
    env.broker.publish_callbacks(messages).await?;
    env.until_value("SELECT count(*) FROM quarantine WHERE reason = 'for_lock' AND state = 'open'", "20").await?;
    shop.batch_execute("COMMIT").await?;
    all_paid(&env, 20).await?;
    Ok(())
}

#[tokio::test]
async fn orders_that_come_late_are_paid_in_batches() -> TestResult {
    let env = TestEnv::start().await?;
    let _workers = [env.start_worker().await?, env.start_worker().await?];
    let numbers: Vec<String> = (0..parked()).map(|number| format!("order-{number}")).collect();
    let messages = numbers.iter().map(|number| Message::callback(Callback::payment(number).body())).collect();
    env.broker.publish_callbacks(messages).await?;
    until_count(&env, "quarantine WHERE reason = 'for_order'", parked()).await?;
    env.insert_orders(&numbers.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    healed(&env, "for_order").await
}

#[tokio::test]
async fn refunds_whose_payments_come_late_are_applied_in_batches() -> TestResult {
    let env = TestEnv::start().await?;
    let _workers = [env.start_worker().await?, env.start_worker().await?];
    let numbers: Vec<String> = (0..parked()).map(|number| format!("order-{number}")).collect();
    env.insert_orders(&numbers.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let transaction = |number: &str| format!("42-{number}");
    let refund = |number: &String| Message::posted(&Refund::of(number, &transaction(number), &format!("r-{number}")));
    env.broker.publish_callbacks(numbers.iter().map(refund).collect()).await?;
    until_count(&env, "quarantine WHERE reason = 'for_payment'", parked()).await?;
    let payment =
        |number: &String| Message::callback(Callback::payment(number).transaction(&transaction(number)).body());
    env.broker.publish_callbacks(numbers.iter().map(payment).collect()).await?;
    let started = std::time::Instant::now();
    until_count(&env, "orders WHERE state = 'refunded'", parked()).await?;
    report("for_payment", started);
    Ok(())
}

#[tokio::test]
async fn what_the_database_refused_is_taken_in_batches_once_it_can_be() -> TestResult {
    let env = TestEnv::start().await?;
    let messages = orders(&env, parked()).await?;
    // Another order shows that the database itself can be written.
    env.insert_order("free").await?;
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                      $$BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = 'check_violation'; END$$;
                  CREATE TRIGGER refuse BEFORE UPDATE ON orders FOR EACH ROW WHEN (OLD.out_trade_no <> 'free')
                      EXECUTE FUNCTION refuse()";
    env.database.batch_execute(refuse).await?;
    let _workers = [env.start_worker().await?, env.start_worker().await?];
    // Each costs the proof that the database takes everything else: not as many as of the others.
    let some = parked() / 10;
    env.broker.publish_callbacks(messages.into_iter().take(some).collect()).await?;
    until_count(&env, "quarantine WHERE reason = 'rejected_by_database' AND state = 'open'", some).await?;
    env.database.batch_execute("DROP TRIGGER refuse ON orders").await?;
    let started = std::time::Instant::now();
    all_paid(&env, some).await?;
    println!(
        "{some} callbacks held as rejected_by_database were applied {:.1} s after",
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// A crash counts against everything that was prefetched: nearly all of them are innocent.
#[tokio::test]
async fn suspects_are_decided_in_batches() -> TestResult {
    let env = TestEnv::start().await?;
    let messages = orders(&env, parked()).await?;
    env.broker.publish_callbacks(messages).await?;
    env.broker.redeliver_without_ack(CALLBACKS_QUEUE, 5).await?;
    let _workers = [env.start_worker().await?, env.start_worker().await?];
    let started = std::time::Instant::now();
    all_paid(&env, parked()).await?;
    report("decide_alone", started);
    let reasons = "SELECT string_agg(DISTINCT reason || ' ' || state, ', ') FROM quarantine";
    assert_eq!(env.value(reasons).await?, "decide_alone resolved");
    Ok(())
}

async fn healed(env: &TestEnv, reason: &str) -> TestResult {
    let started = std::time::Instant::now();
    all_paid(env, parked()).await?;
    report(reason, started);
    until_count(env, "quarantine WHERE state <> 'resolved'", 0).await?;
    Ok(())
}

/// The figure, shown with `--nocapture`.
fn report(reason: &str, started: std::time::Instant) {
    println!(
        "{} callbacks held as {reason} were applied {:.1} s after the cause had gone",
        parked(),
        started.elapsed().as_secs_f64()
    );
}

/// A quarantine row outlives its month; the same message comes again, from a shovelled dead-letter queue or by hand.
#[tokio::test]
async fn a_held_message_that_is_resent_after_its_month_was_dropped_blocks_no_other() -> TestResult {
    let env = TestEnv::start().await?;
    let mut worker = env.start_worker().await?;
    let held = Message::callback(Callback::payment("order-none").body());
    env.broker.publish_callbacks(vec![held.clone()]).await?;
    env.until_value("SELECT reason FROM quarantine", "for_order").await?;
    env.database.execute("DELETE FROM notifications", &[]).await?;

    let mut messages = orders(&env, 5).await?;
    messages.insert(0, held);
    env.broker.publish_callbacks(messages).await?;
    all_paid(&env, 5).await?;
    assert_eq!(env.value("SELECT count(*) || ' ' || min(state) FROM quarantine").await?, "1 waiting");
    assert_eq!(worker.stop().await?, Some(0));
    assert_eq!(env.broker.depth(CALLBACKS_QUEUE).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_row_whose_month_was_dropped_says_so_instead_of_waiting_for_ever() -> TestResult {
    let env = TestEnv::start().await?;
    let _worker = env.start_worker().await?;
    env.broker.publish_callbacks(vec![Message::callback(Callback::payment("order-1").body())]).await?;
    env.until_value("SELECT reason FROM quarantine", "for_order").await?;
    env.database.execute("DELETE FROM notifications", &[]).await?;
    env.insert_order("order-1").await?;
    env.until_value(
        "SELECT reason || ' ' || state || ' ' || (detail ->> 'was') FROM quarantine",
        "message_dropped open for_order",
    )
    .await?;
    let named = "SELECT concat_ws(' ', out_trade_no, amount_minor, currency) FROM quarantine";
    assert_eq!(env.value(named).await?, "order-1 1999 CNY", "an operator can still act on it");
    Ok(())
}

/// Written by a stranger at the broker who knows the id, before or after the genuine message, in one batch or in two.
#[tokio::test]
async fn garbage_under_the_id_of_a_genuine_message_costs_it_nothing() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_orders(&["order-1", "order-2", "order-3"]).await?;
    let id = || Some(Uuid::now_v7().to_string());
    let genuine = |order: &str, id: &Option<String>| Message {
        id: id.clone(),
        ..Message::callback(Callback::payment(order).body())
    };
    let garbage = |id: &Option<String>| Message { id: id.clone(), ..Message::callback("garbage") };
    let (first, second, third) = (id(), id(), id());
    // In one batch: before and after.
    let messages = vec![garbage(&first), genuine("order-1", &first), genuine("order-2", &second), garbage(&second)];
    env.broker.publish_callbacks(messages).await?;
    let worker = env.start_worker().await?;
    all_paid(&env, 2).await?;
    // In another batch, and under another type than its own.
    let wrong = Message { kind: Some("wechatpay.v3".to_owned()), ..genuine("order-3", &third) };
    env.broker.publish_callbacks(vec![wrong]).await?;
    env.until_ledger_has(5).await?;
    env.broker.publish_callbacks(vec![genuine("order-3", &third)]).await?;
    all_paid(&env, 3).await?;
    drop(worker);
    Ok(())
}
