//! Combined orders: several payments in one callback, each decided, recorded and published on its own.

use anyhow::Result;
use kit::TestResult;
use kit::broker::Message;
use kit::callback::{Callback, Refund, sub_order};
use kit::merchants::{INSTITUTION, MERCHANT, V3_KEY};
use kit::post::{Post, post};
use kit::program::{Launch, Signal};
use kit::test_env::TestEnv;
use kit::v3::{self, Event};
use serde_json::json;

const LEDGER: &str =
    "SELECT string_agg(concat_ws(' ', part, out_trade_no, outcome, reason, body IS NOT NULL), ', ' ORDER BY id, part)
    FROM notifications";
const ORDERS: &str = "SELECT string_agg(out_trade_no || ' ' || state, ', ' ORDER BY out_trade_no) FROM orders";

async fn as_ann(env: &TestEnv, command: &str, reason: &str) -> Result<Option<i32>> {
    let arguments = ["quarantine", command, "--reason", reason, "--by", "ann", "--why", "a reason"];
    let launch = Launch::new("worker").arguments(&arguments);
    Ok(launch.env("DATABASE_URL", env.database.worker_url().as_str()).finish().await?.code)
}

#[tokio::test]
async fn every_sub_order_of_both_apis_is_paid_and_published_once() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_orders(&["order-1", "order-2", "order-3", "order-4"]).await?;
    let ingest = env.start_ingest().await?;
    let _worker = env.start_worker().await?;
    let v2 = Callback::combined("c-1", &[sub_order(MERCHANT, "order-1"), sub_order(MERCHANT, "order-2")]);
    let v3 = Event::combined("c-2", &[v3::sub_order(MERCHANT, "order-3"), v3::sub_order(MERCHANT, "order-4")]);
    for _ in 0..2 {
        assert!(post(ingest.public(), v2.body()).await?.is_success());
        assert!(post(ingest.public(), &v3).await?.is_success());
    }
    env.until_value("SELECT count(*) FROM notifications", "8").await?;
    assert_eq!(env.value(ORDERS).await?, "order-1 paid, order-2 paid, order-3 paid, order-4 paid");
    assert_eq!(env.outcomes().await?, [("applied".to_owned(), 4), ("duplicate".to_owned(), 4)].into());
    assert_eq!(env.value("SELECT count(*) FROM notifications WHERE (part = 0) <> (body IS NOT NULL)").await?, "0");
    assert_eq!(env.until_events(4).await?.len(), 4);

    // A refund comes for each sub-order by itself.
    let transaction = env.order("order-2").await?.transaction_id.unwrap();
    assert!(post(ingest.public(), &Refund::of("order-2", &transaction, "refund-1")).await?.is_success());
    env.until_value(ORDERS, "order-1 paid, order-2 refunded, order-3 paid, order-4 paid").await?;
    Ok(())
}

#[tokio::test]
async fn a_wrong_sub_order_and_a_missing_one_cost_themselves() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_orders(&["order-1", "order-2"]).await?;
    let _worker = env.start_worker().await?;
    let mut wrong = sub_order(MERCHANT, "order-2");
    wrong["total_fee"] = json!(1);
    let sub_orders = [sub_order(MERCHANT, "order-1"), wrong, sub_order(MERCHANT, "order-3")];
    let body = Callback::combined("c-1", &sub_orders).body();
    env.broker.publish_callbacks(vec![Message::callback(body)]).await?;
    let decided = "0 order-1 applied t, 1 order-2 quarantined amount_mismatch f, 2 order-3 waiting for_order f";
    env.until_value(LEDGER, decided).await?;
    env.insert_order("order-3").await?;
    env.until_value(ORDERS, "order-1 paid, order-2 pending, order-3 paid").await?;

    // The shop had asked too much for the second one.
    env.database.execute("UPDATE orders SET amount_minor = 1 WHERE out_trade_no = 'order-2'", &[]).await?;
    assert_eq!(as_ann(&env, "replay", "amount_mismatch").await?, Some(0));
    env.until_value(ORDERS, "order-1 paid, order-2 paid, order-3 paid").await?;
    env.until_value(
        "SELECT string_agg(notification_part || ' ' || state, ', ' ORDER BY notification_part) FROM quarantine",
        "1 resolved, 2 resolved",
    )
    .await?;
    Ok(())
}

/// One merchant's key must not pay another's orders.
#[tokio::test]
async fn a_merchant_combines_only_those_that_the_merchants_file_lets_it() -> TestResult {
    let env = TestEnv::start().await?;
    let insert =
        "INSERT INTO orders (mch_id, out_trade_no, amount_minor, currency) VALUES ($1, 'order-1', 1999, 'CNY')";
    env.database.execute(insert, &[&INSTITUTION]).await?;
    env.insert_order("order-2").await?;
    let ingest = env.start_ingest().await?;
    let _worker = env.start_worker().await?;
    for attack in [
        Post::from(
            Callback::combined("c-1", &[sub_order(INSTITUTION, "order-1"), sub_order(MERCHANT, "order-2")]).body(),
        ),
        Event::combined("c-2", &[v3::sub_order(INSTITUTION, "order-1")]).post(),
    ] {
        assert!(post(ingest.public(), attack).await?.is_success());
    }
    env.until_value("SELECT count(*) FROM quarantine WHERE reason = 'mch_id_mismatch' AND state = 'open'", "2").await?;
    env.until_value(ORDERS, "order-1 pending, order-2 paid").await?;
    assert_eq!(env.value("SELECT count(*) FROM payments").await?, "1");
    assert_eq!(as_ann(&env, "resolve", "mch_id_mismatch").await?, Some(1), "nothing else knows of it");
    assert_eq!(as_ann(&env, "abandon", "mch_id_mismatch").await?, Some(0));
    Ok(())
}

/// Held as a whole until the key comes: one row becomes one for each sub-order.
#[tokio::test]
async fn a_combined_callback_that_waited_for_its_key_is_taken_apart_then() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_orders(&["order-1", "order-2"]).await?;
    let worker = env.start_worker().await?;
    let next = "the-next-key-of-thirty-two-bytes";
    let event =
        Event::combined("c-1", &[v3::sub_order(MERCHANT, "order-1"), v3::sub_order(MERCHANT, "order-2")]).key(next);
    env.broker.publish_callbacks(vec![Message::posted(&event)]).await?;
    env.until_value("SELECT reason || ' ' || state FROM quarantine", "for_key waiting").await?;
    let keys = format!("[[merchant]]\nmch_id = \"{MERCHANT}\"\nv3_keys = [\"{V3_KEY}\", \"{next}\"]\n");
    env.merchants.replace(&keys)?;
    worker.send(Signal::Reload)?;
    env.until_value(ORDERS, "order-1 paid, order-2 paid").await?;
    assert_eq!(env.value(LEDGER).await?, "0 order-1 applied t, 1 order-2 applied f");
    assert_eq!(env.until_events(2).await?.len(), 2);
    Ok(())
}
