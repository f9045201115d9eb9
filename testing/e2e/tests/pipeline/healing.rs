//! What waits is a row, and is decided when what it waits for has come.

use anyhow::ensure;
use kit::broker::Message;
use kit::callback::Callback;
use kit::merchants::{INSTITUTION, INSTITUTION_KEY, KEY, MERCHANT};
use kit::post::post;
use kit::program::Signal;
use kit::test_env::TestEnv;
use kit::{TestResult, until};

#[tokio::test]
async fn an_order_that_appears_after_its_callback_is_paid() -> TestResult {
    let env = TestEnv::start().await?;
    let ingest = env.start_ingest().await?;
    let _worker = env.start_worker().await?;
    assert!(post(ingest.public(), Callback::payment("order-1").body()).await?.is_success());
    env.until_ledger_has(1).await?;
    assert_eq!(env.outcomes().await?, [("waiting for_order".to_owned(), 1)].into());

    env.insert_order("order-1").await?;
    env.until_paid("order-1").await?;
    assert_eq!(env.until_events(1).await?.len(), 1);
    assert_eq!(env.outcomes().await?, [("applied".to_owned(), 1)].into());
    let row = "SELECT state || ' by ' || resolved_by FROM quarantine";
    assert_eq!(env.value(row).await?, "resolved by sweeper");
    Ok(())
}

#[tokio::test]
async fn an_order_that_appears_with_another_amount_is_quarantined() -> TestResult {
    let env = TestEnv::start().await?;
    let _worker = env.start_worker().await?;
    let messages = vec![Message::callback(Callback::payment("order-1").amount(1998).body())];
    env.broker.publish_callbacks(messages).await?;
    env.until_ledger_has(1).await?;

    env.insert_order("order-1").await?;
    env.until_value("SELECT reason || ' ' || state FROM quarantine", "amount_mismatch open").await?;
    assert_eq!(env.outcomes().await?, [("quarantined amount_mismatch".to_owned(), 1)].into());
    assert_eq!(env.order("order-1").await?.state, "pending");
    Ok(())
}

#[tokio::test]
async fn a_callback_that_reached_the_wait_limit_is_reported_and_can_still_heal() -> TestResult {
    let env = TestEnv::start().await?;
    let _worker = env.worker()?.env("WAIT_LIMIT_SECONDS", "1").start().await?;
    env.broker.publish_callbacks(vec![Message::callback(Callback::payment("order-1").body())]).await?;
    env.until_value("SELECT state FROM quarantine", "open").await?;
    assert_eq!(env.outcomes().await?, [("quarantined for_order".to_owned(), 1)].into());

    env.insert_order("order-1").await?;
    env.until_paid("order-1").await?;
    assert_eq!(env.outcomes().await?, [("applied".to_owned(), 1)].into());
    assert_eq!(env.value("SELECT state FROM quarantine").await?, "resolved");
    Ok(())
}

#[tokio::test]
async fn a_key_that_ingest_had_first_is_waited_for() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    let ingest = env.start_ingest().await?;
    let worker = env.start_worker().await?;
    let with_keys = |keys: &str| format!("[[merchant]]\nmch_id = \"{MERCHANT}\"\nv2_keys = [{keys}]\n");
    env.merchants.replace(&with_keys(&format!("\"{KEY}\", \"the-next-key\"")))?;
    ingest.send(Signal::Reload)?;
    let body = Callback::payment("order-1").key("the-next-key").body();
    until("ingest has the key", async || {
        ensure!(post(ingest.public(), body.clone()).await?.is_success(), "it has not");
        Ok(())
    })
    .await?;
    env.until_ledger_has(1).await?;
    assert_eq!(env.outcomes().await?, [("waiting for_key".to_owned(), 1)].into());

    worker.send(Signal::Reload)?;
    env.until_paid("order-1").await?;
    assert_eq!(env.outcomes().await?, [("applied".to_owned(), 1)].into());
    Ok(())
}

#[tokio::test]
async fn a_retired_key_opens_what_is_queued_and_not_the_door() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    env.merchants.replace(&format!(
        "[[merchant]]\nmch_id = \"{MERCHANT}\"\nv2_keys = [\"the-next-key\"]\nv2_keys_retired = [\"{KEY}\"]\n"
    ))?;
    let ingest = env.start_ingest().await?;
    let _worker = env.start_worker().await?;
    let body = Callback::payment("order-1").body();
    assert_eq!(post(ingest.public(), body.clone()).await?.status, 401);
    env.broker.publish_callbacks(vec![Message::callback(body)]).await?;
    env.until_paid("order-1").await?;
    Ok(())
}

#[tokio::test]
async fn a_bad_merchants_file_keeps_the_old_keys_and_says_why() -> TestResult {
    let env = TestEnv::start().await?;
    let ingest = env.start_ingest().await?;
    env.merchants.replace(&format!("[[merchant]]\nmch_id = \"{INSTITUTION}\"\nv2_keys = [{INSTITUTION_KEY}]\n"))?;
    ingest.send(Signal::Reload)?;
    until("ingest complains", async || {
        ensure!(ingest.log()?.contains("MERCHANTS_FILE"), "it does not");
        Ok(())
    })
    .await?;
    assert!(!ingest.log()?.contains(INSTITUTION_KEY), "the log shows a key");
    assert!(post(ingest.public(), Callback::payment("order-1").body()).await?.is_success());
    Ok(())
}
