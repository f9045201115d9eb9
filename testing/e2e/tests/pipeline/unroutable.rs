//! The outbox: events that the broker does not take hold up no others, and only a worker can be the relay.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kit::broker::Message;
use kit::callback::Callback;
use kit::program::Program;
use kit::test_env::TestEnv;
use kit::until::until_within;
use kit::{TestResult, until};
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use serde_json::json;
use shared::messaging::topology::{EVENTS_EXCHANGE, EVENTS_QUEUE};
use tokio_postgres::error::SqlState;
use uuid::Uuid;

/// More than the relay publishes at once.
const STUCK: usize = 1500;
/// The advisory lock that earlier relays took.
const OLD_LOCK: i64 = 0x636f_756e_7465_7274;

#[tokio::test]
async fn unbound_events_hold_up_no_others_and_flow_once_a_queue_is_bound() -> TestResult {
    let env = TestEnv::start().await?;
    env.broker.unbind(EVENTS_QUEUE, EVENTS_EXCHANGE, "#").await?;
    env.broker.bind(EVENTS_QUEUE, EVENTS_EXCHANGE, "order.paid").await?;
    write_events(&env, "refund.closed", STUCK).await?;
    let worker = env.start_worker().await?;

    until_log(&worker, "stay in the outbox").await?;
    for number in 1..=3 {
        let took = pay(&env, &format!("order-{number}"), number).await?;
        println!("published {took:?} after its commit");
    }
    env.until_value("SELECT count(*) FROM order_events", &STUCK.to_string()).await?;
    until_metric(&worker, "worker_events_unroutable", 1).await?;
    until_log(&worker, "bind one to the exchange order.events with the routing key refund.closed").await?;

    env.broker.bind(EVENTS_QUEUE, EVENTS_EXCHANGE, "refund.closed").await?;
    assert_eq!(env.until_events(u32::try_from(STUCK)? + 3).await?.len(), STUCK + 3);
    until_metric(&worker, "worker_events_unroutable", 0).await?;
    Ok(())
}

#[tokio::test]
async fn events_of_a_full_queue_hold_up_no_others_and_flow_once_it_has_room() -> TestResult {
    let env = TestEnv::start().await?;
    let channel = env.broker.channel().await?;
    channel.queue_declare("refunds".into(), QueueDeclareOptions::durable(), FieldTable::default()).await?;
    env.broker.set_policy("^refunds$", json!({"max-length": 0, "overflow": "reject-publish"})).await?;
    env.broker.bind("refunds", EVENTS_EXCHANGE, "refund.closed").await?;
    env.broker.unbind(EVENTS_QUEUE, EVENTS_EXCHANGE, "#").await?;
    env.broker.bind(EVENTS_QUEUE, EVENTS_EXCHANGE, "order.paid").await?;
    write_events(&env, "refund.closed", STUCK).await?;
    let worker = env.start_worker().await?;

    until_log(&worker, "stay in the outbox").await?;
    for number in 1..=3 {
        pay(&env, &format!("order-{number}"), number).await?;
    }
    until_metric(&worker, "worker_events_refused", 1).await?;
    env.broker.clear_policy().await?;
    env.until_events(3).await?;
    until_metric(&worker, "worker_events_refused", 0).await?;
    assert!(env.broker.depth("refunds").await? >= u32::try_from(STUCK)?);
    Ok(())
}

/// Every login of the database may take an advisory lock; the relay's claim needs the right to update its table.
#[tokio::test]
async fn a_login_without_rights_cannot_keep_events_back() -> TestResult {
    let env = TestEnv::start().await?;
    let anyone = env.database.connect().await?;
    anyone.execute("SELECT pg_advisory_lock($1)", &[&OLD_LOCK]).await?;
    anyone.batch_execute("SET ROLE pg_read_all_data").await?;
    let refused = anyone.batch_execute("SELECT FROM relay FOR UPDATE").await.unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));

    let worker = env.start_worker().await?;
    pay(&env, "order-1", 1).await?;
    until_metric(&worker, "worker_relay_active", 1).await?;
    Ok(())
}

#[tokio::test]
async fn while_another_session_is_the_relay_events_wait_and_a_metric_says_so() -> TestResult {
    let env = TestEnv::start().await?;
    let other = env.database.connect().await?;
    other.batch_execute("BEGIN; SELECT FROM relay FOR UPDATE").await?;
    let worker = env.start_worker().await?;
    env.insert_order("order-1").await?;
    env.broker.publish_callbacks(vec![Message::callback(Callback::payment("order-1").body())]).await?;
    env.until_paid("order-1").await?;
    until("the worker says that it is not the relay", async || {
        ensure!(worker.admin_page("/metrics").await?.contains("\nworker_relay_active 0\n"), "it does not");
        Ok(())
    })
    .await?;
    assert_eq!(env.value("SELECT count(*) FROM order_events").await?, "1");

    other.batch_execute("COMMIT").await?;
    env.until_events(1).await?;
    until_metric(&worker, "worker_relay_active", 1).await?;
    Ok(())
}

/// Pays an order and waits until its event, the `number`th, is with the broker; how long that took after the commit.
async fn pay(env: &TestEnv, out_trade_no: &str, number: u32) -> Result<Duration> {
    env.insert_order(out_trade_no).await?;
    env.broker.publish_callbacks(vec![Message::callback(Callback::payment(out_trade_no).body())]).await?;
    env.until_paid(out_trade_no).await?;
    let paid = Instant::now();
    until_within(Duration::from_secs(2), "the event of the payment is published", async || {
        let arrived = env.broker.depth(EVENTS_QUEUE).await?;
        ensure!(arrived >= number, "{arrived} are");
        Ok(())
    })
    .await?;
    Ok(paid.elapsed())
}

/// Events as a worker writes them, older than all that come after.
async fn write_events(env: &TestEnv, kind: &str, count: usize) -> Result<()> {
    let ids: Vec<Uuid> = (0..count).map(|_| Uuid::now_v7()).collect();
    let insert = "INSERT INTO order_events (id, type, order_id, payload) SELECT unnest($1::uuid[]), $2, 1, '{}'";
    env.database.execute(insert, &[&ids, &kind]).await?;
    Ok(())
}

async fn until_metric(worker: &Program, name: &str, expected: u64) -> Result<()> {
    until(&format!("{name} is {expected}"), async || {
        let value = worker.metric(name, &[]).await?;
        ensure!(value == expected, "it is {value}");
        Ok(())
    })
    .await
}

async fn until_log(worker: &Program, text: &str) -> Result<()> {
    until("the log says what to do", async || {
        ensure!(worker.log()?.contains(text), "it does not say {text:?}");
        Ok(())
    })
    .await
}
