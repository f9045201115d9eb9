//! The main story, from WeChat Pay's POST to the event that the merchant's fulfilment receives.

use kit::TestResult;
use kit::broker::Message;
use kit::callback::Callback;
use kit::merchants::{INSTITUTION, MERCHANT};
use kit::post::post;
use kit::test_env::TestEnv;
use serde_json::{Value, json};
use shared::messaging::topology::{CALLBACKS_QUEUE, EVENTS_QUEUE};
use uuid::{Uuid, Version};

#[tokio::test]
async fn a_callback_becomes_a_paid_order() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    let ingest = env.start_ingest().await?;
    let _worker = env.start_worker().await?;

    let reply = post(ingest.public(), Callback::payment("order-1").transaction("4200000001").body()).await?;
    assert!(reply.is_success(), "{reply:?}");

    let order = env.until_paid("order-1").await?;
    assert_eq!(order.transaction_id.as_deref(), Some("4200000001"));
    assert_eq!(order.paid_at.unwrap().to_rfc3339(), "2026-11-23T02:15:30+00:00");
    assert_eq!(order.version, 1);
    Ok(())
}

#[tokio::test]
async fn a_paid_order_is_published_to_the_merchants_fulfilment() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    let _worker = env.start_worker().await?;
    let callback = Callback::payment("order-1").transaction("4200000001");
    env.broker.publish_callbacks(vec![Message::callback(callback.body())]).await?;

    let [event] = <[Message; 1]>::try_from(env.until_events(1).await?).unwrap();
    let payload: Value = serde_json::from_slice(&event.body)?;
    let order_id: i64 = env.value("SELECT id FROM orders").await?.parse()?;
    let expected = json!({
        "event_id": event.id.as_deref().unwrap(),
        "type": "order.paid",
        "order_id": order_id,
        "version": 1,
        "mch_id": MERCHANT,
        "sub_mch_id": null,
        "out_trade_no": "order-1",
        "transaction_id": "4200000001",
        "amount_minor": 1999,
        "currency": "CNY",
        "paid_at": "2026-11-23T02:15:30Z",
    });
    assert_eq!(payload, expected);
    assert_eq!(event.kind.as_deref(), Some("order.paid"));
    assert_eq!(event.routing_key, "order.paid");
    assert_eq!(event.content_type.as_deref(), Some("application/json"));
    assert_eq!(event.delivery_mode, Some(2), "it would not survive a restart of the broker");
    Ok(())
}

#[tokio::test]
async fn the_ledger_keeps_the_bytes_exactly_as_they_came() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    let ingest = env.start_ingest().await?;
    let _worker = env.start_worker().await?;
    let callback = Callback::payment("order-1").field("attach", " <b>&\"支付\" \t{\"a\":1}\n ");
    assert!(post(ingest.public(), callback.body()).await?.is_success());

    let [row] = <[_; 1]>::try_from(env.until_ledger_has(1).await?).unwrap();
    assert_eq!(row.body, callback.body());
    assert_eq!(row.verdict(), "applied");
    let headers: Value = serde_json::from_str(&env.value("SELECT headers FROM notifications").await?)?;
    assert_eq!(headers["type"], "wechatpay.v2.payment");
    assert_eq!(headers["content-type"], "text/xml");
    assert_eq!(headers["mch-id"], MERCHANT);
    Ok(())
}

/// The message between the two programs is a contract: an older worker must read what a newer ingest writes.
#[tokio::test]
async fn ingest_stores_the_raw_body_with_everything_else_beside_it() -> TestResult {
    let env = TestEnv::start().await?;
    let ingest = env.start_ingest().await?;
    let callback = Callback::payment("order-1");
    assert!(post(ingest.public(), callback.body()).await?.is_success());

    let [message] = <[Message; 1]>::try_from(env.broker.take_all(CALLBACKS_QUEUE).await?).unwrap();
    assert_eq!(message.body, callback.body());
    let id = Uuid::parse_str(message.id.as_deref().unwrap())?;
    assert_eq!(id.get_version(), Some(Version::SortRand));
    assert_eq!(id.get_timestamp().unwrap().to_unix().0, message.timestamp.unwrap());
    assert_eq!(message.kind.as_deref(), Some("wechatpay.v2.payment"));
    assert_eq!(message.content_type.as_deref(), Some("text/xml"));
    assert_eq!(message.delivery_mode, Some(2));
    let names: Vec<&str> = message.headers.keys().map(String::as_str).collect();
    assert_eq!(names, ["envelope-version", "mch-id", "traceparent"]);
    assert_eq!(message.headers["envelope-version"], "1");
    Ok(())
}

#[tokio::test]
async fn an_order_of_a_shop_behind_an_institution_is_paid_in_dollars() -> TestResult {
    let env = TestEnv::start().await?;
    let insert = "INSERT INTO orders (mch_id, sub_mch_id, app_id, out_trade_no, amount_minor, currency)
                  VALUES ($1, '1900000300', 'wx-shop', 'order-1', 1750, 'USD')";
    env.database.execute(insert, &[&INSTITUTION]).await?;
    let ingest = env.start_ingest().await?;
    let _worker = env.start_worker().await?;
    let callback = Callback::payment_of_shop("1900000300", "order-1")
        .amount(1750)
        .field("sub_appid", "wx-shop")
        .field("cash_fee", "12500");
    assert!(post(ingest.public(), callback.body()).await?.is_success());

    env.until_value("SELECT state FROM orders", "paid").await?;
    let [event] = <[Message; 1]>::try_from(env.until_events(1).await?).unwrap();
    let payload: Value = serde_json::from_slice(&event.body)?;
    assert_eq!(
        [&payload["sub_mch_id"], &payload["amount_minor"], &payload["currency"]],
        [&json!("1900000300"), &json!(1750), &json!("USD")]
    );
    Ok(())
}

#[tokio::test]
async fn a_drained_pipeline_leaves_nothing_behind() -> TestResult {
    let env = TestEnv::start().await?;
    let orders: Vec<String> = (0..300).map(|number| format!("order-{number}")).collect();
    env.insert_orders(&orders.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let mut worker = env.start_worker().await?;
    let messages = orders.iter().map(|order| Message::callback(Callback::payment(order).body())).collect();
    env.broker.publish_callbacks(messages).await?;
    env.until_events(300).await?;

    assert_eq!(worker.stop().await?, Some(0));
    for queue in [CALLBACKS_QUEUE, EVENTS_QUEUE, "wechatpay.callbacks.dead"] {
        assert_eq!(env.broker.depth(queue).await?, 0, "{queue}");
    }
    assert_eq!(env.value("SELECT count(*) FROM quarantine").await?, "0");
    assert_eq!(env.value("SELECT count(*) FROM orders WHERE state <> 'paid' OR version <> 1").await?, "0");
    Ok(())
}
