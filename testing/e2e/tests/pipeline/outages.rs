//! A server is unavailable and returns: nothing is lost, nothing is done twice, and no delivery is wasted.

use anyhow::{Result, ensure};
use kit::broker::Message;
use kit::callback::Callback;
use kit::post::post;
use kit::test_env::TestEnv;
use kit::{TestResult, until};
use serde_json::{Value, json};
use shared::messaging::topology::{
    CALLBACKS_EXCHANGE, CALLBACKS_QUEUE, CALLBACKS_ROUTING_KEY, EVENTS_EXCHANGE, EVENTS_QUEUE,
};
use std::collections::BTreeSet;

const DEAD: &str = "wechatpay.callbacks.dead";

#[tokio::test]
async fn while_the_database_is_unavailable_the_worker_keeps_its_batch_and_applies_it_later() -> TestResult {
    let env = TestEnv::start().await?;
    let messages = orders(&env, 50).await?;
    let (proxy, worker) = env.worker_behind_database_proxy().await?;
    let mut worker = worker.start().await?;

    proxy.cut();
    env.broker.publish_callbacks(messages).await?;
    until("the worker has noticed the outage", async || {
        ensure!(worker.log()?.contains("the batch is kept"), "it has not");
        Ok(())
    })
    .await?;
    assert_eq!(
        env.broker.depth(CALLBACKS_QUEUE).await?,
        0,
        "delivered messages were requeued, which wastes deliveries"
    );
    assert_eq!(env.ledger().await?, []);

    proxy.pass();
    all_are_paid(&env, 50).await?;
    assert_eq!(worker.stop().await?, Some(0));
    assert_eq!(env.broker.depth(DEAD).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_worker_that_starts_without_a_database_takes_nothing_and_is_not_ready() -> TestResult {
    let env = TestEnv::start().await?;
    let messages = orders(&env, 10).await?;
    env.broker.publish_callbacks(messages).await?;
    let (proxy, worker) = env.worker_behind_database_proxy().await?;
    proxy.cut();
    let mut worker = worker.spawn()?;

    worker.until_not_ready().await?;
    until("the worker has tried", async || {
        ensure!(proxy.accepted() >= 2, "it has not");
        Ok(())
    })
    .await?;
    assert_eq!(env.broker.depth(CALLBACKS_QUEUE).await?, 10);

    proxy.pass();
    worker.until_ready().await?;
    all_are_paid(&env, 10).await?;
    Ok(())
}

#[tokio::test]
async fn a_worker_that_stops_while_the_database_is_unavailable_returns_its_messages() -> TestResult {
    let env = TestEnv::start().await?;
    let messages = orders(&env, 20).await?;
    let (proxy, worker) = env.worker_behind_database_proxy().await?;
    let mut first = worker.start().await?;

    proxy.cut();
    env.broker.publish_callbacks(messages).await?;
    until("the worker has noticed the outage", async || {
        ensure!(first.log()?.contains("the batch is kept"), "it has not");
        Ok(())
    })
    .await?;
    assert_eq!(first.stop().await?, Some(0));
    until("all messages are back in the queue", async || {
        let depth = env.broker.depth(CALLBACKS_QUEUE).await?;
        ensure!(depth == 20, "{depth} messages are");
        Ok(())
    })
    .await?;

    let _second = env.start_worker().await?;
    all_are_paid(&env, 20).await?;
    Ok(())
}

#[tokio::test]
async fn a_worker_reconnects_to_a_broker_that_was_unavailable() -> TestResult {
    let env = TestEnv::start().await?;
    let messages = orders(&env, 50).await?;
    let (proxy, worker) = env.worker_behind_broker_proxy().await?;
    let mut worker = worker.start().await?;

    proxy.cut();
    worker.until_not_ready().await?;
    env.broker.publish_callbacks(messages).await?;
    proxy.pass();
    worker.until_ready().await?;
    all_are_paid(&env, 50).await?;
    Ok(())
}

/// Messages that the worker held when the connection broke are redelivered and recognised.
#[tokio::test]
async fn a_connection_that_breaks_before_the_ack_arrives_pays_once() -> TestResult {
    let env = TestEnv::start().await?;
    let messages = orders(&env, 50).await?;
    let (proxy, worker) = env.worker_behind_broker_proxy().await?;
    let mut worker = worker.start().await?;

    proxy.hold_to_server();
    env.broker.publish_callbacks(messages).await?;
    env.until_ledger_has(50).await?;
    proxy.cut();
    until("all messages are back in the queue", async || {
        let depth = env.broker.depth(CALLBACKS_QUEUE).await?;
        ensure!(depth == 50, "it has {depth}");
        Ok(())
    })
    .await?;
    proxy.pass();
    worker.until_ready().await?;
    all_are_paid(&env, 50).await?;
    assert_eq!(worker.stop().await?, Some(0));
    assert_eq!(env.broker.depth(CALLBACKS_QUEUE).await?, 0, "the repeats were not acknowledged");
    Ok(())
}

#[tokio::test]
async fn while_the_broker_is_unavailable_ingest_answers_failure_and_recovers_by_itself() -> TestResult {
    let env = TestEnv::start().await?;
    let (proxy, ingest) = env.ingest_behind_proxy().await?;
    let mut ingest = ingest.start().await?;
    let body = Callback::payment("order-1").body();

    proxy.cut();
    ingest.until_not_ready().await?;
    let reply = post(ingest.public(), body.clone()).await?;
    assert_eq!(reply.status, 503, "{reply:?}");
    assert!(reply.body.contains("FAIL"), "{reply:?}");

    proxy.pass();
    ingest.until_ready().await?;
    assert!(post(ingest.public(), body).await?.is_success());
    assert_eq!(env.broker.depth(CALLBACKS_QUEUE).await?, 1, "the failed one had been stored");
    Ok(())
}

/// The broker stops answering without closing the connection: the confirm's timeout must expire before WeChat Pay's.
#[tokio::test]
async fn a_broker_that_falls_silent_is_a_failure_within_the_deadline() -> TestResult {
    let env = TestEnv::start().await?;
    let (proxy, ingest) = env.ingest_behind_proxy().await?;
    let ingest = ingest.start().await?;
    let body = Callback::payment("order-1").body();

    proxy.swallow();
    let asked = std::time::Instant::now();
    let reply = post(ingest.public(), body.clone()).await?;
    assert_eq!(reply.status, 503, "{reply:?}");
    let took = asked.elapsed();
    assert!(took.as_millis() < 4500, "it took {took:?}");

    proxy.cut();
    proxy.pass();
    until("ingest has recovered", async || {
        let reply = post(ingest.public(), body.clone()).await?;
        ensure!(reply.is_success(), "{reply:?}");
        Ok(())
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_callback_without_a_queue_is_a_failure() -> TestResult {
    let env = TestEnv::start().await?;
    let ingest = env.start_ingest().await?;
    let body = Callback::payment("order-1").body();
    env.broker.unbind(CALLBACKS_QUEUE, CALLBACKS_EXCHANGE, CALLBACKS_ROUTING_KEY).await?;
    assert_eq!(post(ingest.public(), body.clone()).await?.status, 503);
    env.broker.bind(CALLBACKS_QUEUE, CALLBACKS_EXCHANGE, CALLBACKS_ROUTING_KEY).await?;
    assert!(post(ingest.public(), body).await?.is_success());
    Ok(())
}

#[tokio::test]
async fn a_queue_that_is_full_is_a_failure_until_it_has_room() -> TestResult {
    let env = TestEnv::start().await?;
    let ingest = env.start_ingest().await?;
    env.broker.set_policy("^wechatpay", json!({"max-length": 0, "overflow": "reject-publish"})).await?;
    let body = Callback::payment("order-1").body();
    until("the queue refuses", async || {
        let status = post(ingest.public(), body.clone()).await?.status;
        ensure!(status == 503, "it is answered {status}");
        Ok(())
    })
    .await?;
    env.broker.clear_policy().await?;
    until("it takes again", async || {
        ensure!(post(ingest.public(), body.clone()).await?.is_success(), "it is refused");
        Ok(())
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn events_that_no_queue_is_bound_for_wait_in_the_outbox() -> TestResult {
    let env = TestEnv::start().await?;
    let messages = orders(&env, 20).await?;
    env.broker.unbind(EVENTS_QUEUE, EVENTS_EXCHANGE, "#").await?;
    let mut worker = env.start_worker().await?;
    env.broker.publish_callbacks(messages).await?;

    env.until_value("SELECT count(*) FROM orders WHERE state = 'paid'", "20").await?;
    until("an event was refused", async || {
        ensure!(worker.log()?.contains("stay in the outbox"), "none was");
        Ok(())
    })
    .await?;
    assert_eq!(env.value("SELECT count(*) FROM order_events").await?, "20");

    env.broker.bind(EVENTS_QUEUE, EVENTS_EXCHANGE, "#").await?;
    all_are_paid(&env, 20).await?;
    assert_eq!(worker.stop().await?, Some(0));
    Ok(())
}

/// `count` pending orders, and the callbacks that pay them.
async fn orders(env: &TestEnv, count: usize) -> Result<Vec<Message>> {
    let numbers: Vec<String> = (0..count).map(|number| format!("order-{number}")).collect();
    env.insert_orders(&numbers.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    Ok(numbers.iter().map(|number| Message::callback(Callback::payment(number).body())).collect())
}

/// Every order paid once, every message once in the ledger, one event for every order.
async fn all_are_paid(env: &TestEnv, count: u32) -> Result<()> {
    env.until_value("SELECT count(*) FROM orders WHERE state = 'paid' AND version = 1", &count.to_string()).await?;
    assert_eq!(env.outcomes().await?, [("applied".to_owned(), usize::try_from(count)?)].into());
    let events = env.until_events(count).await?;
    let order = |event: &Message| Ok(serde_json::from_slice::<Value>(&event.body)?["out_trade_no"].to_string());
    let orders = events.iter().map(order).collect::<Result<BTreeSet<String>>>()?;
    assert_eq!([events.len(), orders.len()], [usize::try_from(count)?; 2], "an order has events under two ids");
    Ok(())
}
