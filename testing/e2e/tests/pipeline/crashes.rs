//! SIGKILL between any two steps: completed steps are not repeated, and the others are done later.

use anyhow::ensure;
use kit::broker::Message;
use kit::callback::Callback;
use kit::post::post;
use kit::program::Program;
use kit::proxy::Proxy;
use kit::test_env::TestEnv;
use kit::{TestResult, until};
use shared::messaging::topology::{CALLBACKS_QUEUE, EVENTS_QUEUE};

#[tokio::test]
async fn a_worker_that_dies_between_commit_and_ack_has_paid_once() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    let (proxy, worker) = env.worker_behind_broker_proxy().await?;
    let mut first = worker.start().await?;

    proxy.hold_to_server();
    let messages = vec![Message::callback(Callback::payment("order-1").body())];
    env.broker.publish_callbacks(messages).await?;
    env.until_paid("order-1").await?;
    first.kill().await?;
    // Its last acks never arrive.
    proxy.cut();
    proxy.pass();
    until_depth(&env, 1).await?;

    let mut second = env.start_worker().await?;
    until_depth(&env, 0).await?;
    assert_eq!(env.until_events(1).await?.len(), 1);
    assert_eq!(second.stop().await?, Some(0));
    assert_eq!(env.broker.depth(CALLBACKS_QUEUE).await?, 0, "the repeat was not acknowledged");
    assert_eq!(env.outcomes().await?, [("applied".to_owned(), 1)].into());
    assert_eq!(env.order("order-1").await?.version, 1);
    Ok(())
}

#[tokio::test]
async fn a_worker_that_dies_inside_its_transaction_leaves_nothing_half_done() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    let at_insert = "TRIGGER stand_still BEFORE INSERT ON notifications";
    stand_still_when(&env, at_insert, "NEW.out_trade_no IS NOT NULL").await?;
    let mut first = env.start_worker().await?;

    let messages = vec![Message::callback(Callback::payment("order-1").body())];
    env.broker.publish_callbacks(messages).await?;
    env.until_value(STANDING_STILL, "1").await?;
    let unlocked = env.database.query("SELECT FROM orders FOR UPDATE SKIP LOCKED", &[]).await?;
    assert!(unlocked.is_empty(), "the transaction has not even locked the order");
    first.kill().await?;
    until_depth(&env, 1).await?;
    go_on(&env).await?;
    let leftover =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    env.until_value(leftover, "0").await?;
    assert_eq!(env.order("order-1").await?.state, "pending");
    assert_eq!(env.ledger().await?, []);

    let _second = env.start_worker().await?;
    env.until_paid("order-1").await?;
    assert_eq!(env.until_events(1).await?.len(), 1);
    assert_eq!(env.outcomes().await?, [("applied".to_owned(), 1)].into());
    Ok(())
}

#[tokio::test]
async fn a_payment_whose_commit_was_never_answered_is_not_made_twice() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    let (_proxy, mut worker) = lose_the_answer_to_a_commit(&env, "orders", Callback::payment("order-1")).await?;

    assert_eq!(env.until_events(1).await?.len(), 1);
    assert_eq!(worker.stop().await?, Some(0));
    assert_eq!(env.broker.depth(CALLBACKS_QUEUE).await?, 0, "the message was not acknowledged");
    assert_eq!(env.outcomes().await?, [("applied".to_owned(), 1)].into());
    assert_eq!(env.order("order-1").await?.version, 1);
    Ok(())
}

#[tokio::test]
async fn a_refusal_whose_commit_was_never_answered_is_not_made_twice() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    let wrong = Callback::payment("order-1").amount(1);
    let (_proxy, mut worker) = lose_the_answer_to_a_commit(&env, "quarantine", wrong).await?;

    worker.until_ready().await?;
    until_depth(&env, 0).await?;
    assert_eq!(worker.stop().await?, Some(0));
    assert_eq!(env.broker.depth(CALLBACKS_QUEUE).await?, 0, "the message was not acknowledged");
    assert_eq!(env.outcomes().await?, [("quarantined amount_mismatch".to_owned(), 1)].into());
    assert_eq!(env.value("SELECT count(*) FROM quarantine").await?, "1");
    Ok(())
}

/// Has a worker handle `callback`, which writes to `table`, and breaks its connection while COMMIT is on its way: the
/// rows are there, the worker cannot know, tries again, and meets them.
async fn lose_the_answer_to_a_commit(
    env: &TestEnv,
    table: &str,
    callback: Callback,
) -> anyhow::Result<(Proxy, Program)> {
    let at_commit =
        format!("CONSTRAINT TRIGGER stand_still AFTER INSERT OR UPDATE ON {table} DEFERRABLE INITIALLY DEFERRED");
    stand_still(env, &at_commit).await?;
    let (proxy, worker) = env.worker_behind_database_proxy().await?;
    let worker = worker.start().await?;

    env.broker.publish_callbacks(vec![Message::callback(callback.body())]).await?;
    env.until_value(STANDING_STILL, "1").await?;
    proxy.hold_to_client();
    go_on(env).await?;
    env.until_ledger_has(1).await?;
    proxy.cut();
    proxy.pass();
    Ok((proxy, worker))
}

#[tokio::test]
async fn an_ingest_that_dies_between_publish_and_reply_has_promised_nothing_and_lost_nothing() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    let (proxy, ingest) = env.ingest_behind_proxy().await?;
    let mut first = ingest.start().await?;

    proxy.hold_to_client();
    let body = Callback::payment("order-1").body();
    let reply = tokio::spawn(post(first.public(), body.clone()));
    until_depth(&env, 1).await?;
    first.kill().await?;
    assert!(reply.await?.is_err(), "a reply came although no confirm had");

    let second = env.start_ingest().await?;
    assert!(post(second.public(), body).await?.is_success());
    let _worker = env.start_worker().await?;
    env.until_ledger_has(2).await?;
    assert_eq!(env.outcomes().await?, [("applied".to_owned(), 1), ("duplicate".to_owned(), 1)].into());
    assert_eq!(env.until_events(1).await?.len(), 1);
    Ok(())
}

/// A crash between the confirm of an event and its deletion publishes it again: consumers drop an id they have seen.
#[tokio::test]
async fn a_relay_that_dies_before_its_commit_publishes_again_under_the_same_id() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    let (proxy, worker) = env.worker_behind_broker_proxy().await?;
    let mut first = worker.start().await?;

    // An event straight into the outbox: the worker's own acks must not be held with it.
    proxy.hold_to_client();
    let event = "INSERT INTO order_events (id, type, order_id, payload)
                 SELECT '0192f0c0-0000-7000-8000-000000000001', 'order.paid', id, '{}' FROM orders";
    env.database.execute(event, &[]).await?;
    until("the event is published", async || {
        let depth = env.broker.depth(EVENTS_QUEUE).await?;
        ensure!(depth == 1, "there are {depth}");
        Ok(())
    })
    .await?;
    first.kill().await?;
    assert_eq!(env.value("SELECT count(*) FROM order_events").await?, "1");

    let _second = env.start_worker().await?;
    until("the event is published again", async || {
        let depth = env.broker.depth(EVENTS_QUEUE).await?;
        ensure!(depth >= 2, "it was published {depth} times");
        Ok(())
    })
    .await?;
    assert_eq!(env.until_events(2).await?.len(), 1, "under another id");
    Ok(())
}

/// How many transactions stand still at the trigger of [`stand_still`].
const STANDING_STILL: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'";

/// From here on every transaction stands still at `trigger`, until [`go_on`].
async fn stand_still(env: &TestEnv, trigger: &str) -> anyhow::Result<()> {
    stand_still_when(env, trigger, "true").await
}

/// The same for the rows that a condition means.
async fn stand_still_when(env: &TestEnv, trigger: &str, condition: &str) -> anyhow::Result<()> {
    let statements = format!(
        "CREATE FUNCTION stand_still() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END';
         CREATE {trigger} FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION stand_still();
         SELECT pg_advisory_lock(1)"
    );
    Ok(env.database.batch_execute(&statements).await?)
}

async fn go_on(env: &TestEnv) -> anyhow::Result<()> {
    Ok(env.database.batch_execute("SELECT pg_advisory_unlock(1)").await?)
}

async fn until_depth(env: &TestEnv, expected: u32) -> anyhow::Result<()> {
    until(&format!("{expected} callbacks are queued"), async || {
        let depth = env.broker.depth(CALLBACKS_QUEUE).await?;
        ensure!(depth == expected, "there are {depth}");
        Ok(())
    })
    .await
}
