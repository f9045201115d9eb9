//! Many at once: the same callback, and two workers on one order.

use anyhow::Result;
use kit::TestResult;
use kit::broker::Message;
use kit::callback::Callback;
use kit::merchants::MERCHANT;
use kit::post::post_at_once;
use kit::program::Program;
use kit::test_env::TestEnv;

#[tokio::test]
async fn the_same_callback_fifty_times_at_once_pays_once() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    let ingest = env.start_ingest().await?;
    let _workers = [env.start_worker().await?, env.start_worker().await?];

    let body = Callback::payment("order-1").body();
    for reply in post_at_once(ingest.public(), vec![body; 50]).await {
        assert!(reply?.is_success());
    }
    env.until_ledger_has(50).await?;
    assert_eq!(env.outcomes().await?, [("applied".to_owned(), 1), ("duplicate".to_owned(), 49)].into());
    assert_eq!(env.order("order-1").await?.version, 1);
    assert_eq!(env.until_events(1).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn two_workers_that_hold_the_same_payment_at_the_same_instant_pay_once() -> TestResult {
    let env = TestEnv::start().await?;
    let callback = Callback::payment("order-1").transaction("4200000001");
    let _workers = race(&env, [callback.clone(), callback]).await?;
    assert_eq!(env.outcomes().await?, [("applied".to_owned(), 1), ("duplicate".to_owned(), 1)].into());
    assert_eq!(env.until_events(1).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn of_two_payments_of_one_order_at_the_same_instant_one_is_owed_back() -> TestResult {
    let env = TestEnv::start().await?;
    let callback = Callback::payment("order-1");
    let _workers = race(&env, [callback.clone().transaction("4200000001"), callback.transaction("4200000002")]).await?;
    assert_eq!(env.outcomes().await?, [("applied".to_owned(), 1), ("quarantined paid_twice".to_owned(), 1)].into());
    assert_eq!(
        env.until_events(2).await?.len(),
        2,
        "one reports that the order was paid, one that a payment must be returned"
    );
    let paid_by = env.order("order-1").await?.transaction_id.unwrap();
    let held = "SELECT detail->>'expected' FROM quarantine";
    assert_eq!(env.value(held).await?, paid_by, "the order was paid by the transaction that is to be paid back");
    Ok(())
}

/// Two workers with one lane each, both at the point where they want the order's row: a lock of ours is the barrier.
async fn race(env: &TestEnv, callbacks: [Callback; 2]) -> Result<[Program; 2]> {
    env.insert_order("order-1").await?;
    let worker = || -> Result<_> { Ok(env.worker()?.env("WORKER_LANES", "1").env("WORKER_BATCH_MAX", "1")) };
    let workers = [worker()?.start().await?, worker()?.start().await?];

    let mut barrier = env.database.connect().await?;
    let barrier = barrier.transaction().await?;
    barrier.execute("SELECT FROM orders WHERE mch_id = $1 FOR UPDATE", &[&MERCHANT]).await?;
    // The broker hands messages to its consumers in turn: one to each worker.
    let messages = callbacks.iter().map(|callback| Message::callback(callback.body())).collect();
    env.broker.publish_callbacks(messages).await?;
    // On a machine so slow that one gives up its wait before the other begins, the first is in the ledger as waiting.
    let arrived = "SELECT (SELECT count(*) FROM notifications) + (SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock')";
    env.until_value(arrived, "2").await?;
    barrier.commit().await?;

    env.until_value("SELECT count(*) FROM notifications WHERE outcome <> 'waiting'", "2").await?;
    Ok(workers)
}
