//! API v3 from the request to the order: both generations of platform keys, global shapes, and what is about no order.

use kit::TestResult;
use kit::broker::Message;
use kit::callback::Callback;
use kit::merchants::{INSTITUTION, KNOWN_BY_ID, MERCHANT, V3_KEY};
use kit::post::post;
use kit::program::Signal;
use kit::test_env::TestEnv;
use kit::v3::Event;
use serde_json::json;

#[tokio::test]
async fn a_payment_is_paid_whichever_platform_key_signed_it() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_orders(&["order-1", "order-2"]).await?;
    let ingest = env.start_ingest().await?;
    let worker = env.start_worker().await?;
    let (certified, public) = (Event::payment("order-1"), Event::payment("order-2").platform(&KNOWN_BY_ID));
    for event in [&certified, &public] {
        let reply = post(ingest.public(), event).await?;
        assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"code":"SUCCESS","message":"OK"}"#));
    }
    let paid = env.until_paid("order-1").await?;
    assert_eq!(paid.transaction_id.as_deref(), Some(certified.get("/transaction_id")));
    assert_eq!(paid.paid_at.unwrap().to_rfc3339(), "2026-11-23T02:15:30+00:00");
    env.until_paid("order-2").await?;
    assert_eq!(env.until_events(2).await?.len(), 2);

    let headers =
        "SELECT headers::jsonb - 'traceparent' - 'wechatpay-signature' - 'wechatpay-nonce' - 'wechatpay-timestamp'
                   FROM notifications WHERE out_trade_no = 'order-2'";
    let headers: serde_json::Value = serde_json::from_str(&env.value(headers).await?)?;
    let expected = json!({
        "type": "wechatpay.v3", "content-type": "application/json", "envelope-version": "1", "mch-id": MERCHANT,
        "wechatpay-serial": KNOWN_BY_ID.serial(),
    });
    assert_eq!(headers, expected);
    let has_evidence = "SELECT headers::jsonb ?& array['wechatpay-signature', 'wechatpay-nonce', 'wechatpay-timestamp']
                        FROM notifications WHERE out_trade_no = 'order-2'";
    assert_eq!(env.value(has_evidence).await?, "true");
    for purpose in ["v3", "platform"] {
        let program = if purpose == "v3" { &worker } else { &ingest };
        let label = format!("purpose=\"{purpose}\"");
        assert_eq!(program.metric("callback_key_uses_total", &[&label]).await?, 2, "{purpose}");
    }
    Ok(())
}

#[tokio::test]
async fn v2_and_v3_of_one_payment_pay_once() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    let ingest = env.start_ingest().await?;
    let _worker = env.start_worker().await?;
    let event = Event::payment("order-1");
    let same = Callback::payment("order-1").transaction(event.get("/transaction_id"));
    assert!(post(ingest.public(), &event).await?.is_success());
    assert!(post(ingest.public(), same.body()).await?.is_success());
    env.until_ledger_has(2).await?;
    assert_eq!(env.outcomes().await?, [("applied".to_owned(), 1), ("duplicate".to_owned(), 1)].into());
    assert_eq!(env.until_events(1).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn an_institutions_events_are_checked_against_the_shop_and_the_raw_amount() -> TestResult {
    let env = TestEnv::start().await?;
    let insert = "INSERT INTO orders (mch_id, sub_mch_id, app_id, out_trade_no, amount_minor, currency)
                  VALUES ($1, '1900000300', $3, $2, 1999, $4)";
    for (number, app_id, currency) in
        [("shop", None, "USD"), ("yen", None, "JPY"), ("app", Some("wx-sub"), "USD"), ("other-shop", None, "USD")]
    {
        env.database.execute(insert, &[&INSTITUTION, &number, &app_id, &currency]).await?;
    }
    let ingest = env.start_ingest().await?;
    let _worker = env.start_worker().await?;
    let global = |number: &str| {
        let event = Event::payment(number).of_shop("1900000300");
        let id = event.get("/transaction_id").to_owned();
        event.without("/transaction_id").set("/id", json!(id))
    };
    let events = [
        global("shop"),
        // Yen have no smaller unit: 1999 is 1999 yen, and compared as it is.
        global("yen").set("/amount/currency", json!("JPY")),
        global("app").set("/sp_appid", json!("wx-sp")).set("/sub_appid", json!("wx-sub")),
        global("other-shop").set("/sub_mchid", json!("1900000301")),
    ];
    for event in &events {
        assert!(post(ingest.public(), event).await?.is_success());
    }
    env.until_ledger_has(4).await?;
    assert_eq!(env.outcomes().await?, [("applied".to_owned(), 3), ("waiting for_order".to_owned(), 1)].into());
    Ok(())
}

#[tokio::test]
async fn what_is_about_no_order_is_recorded_and_ignored() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    let ingest = env.start_ingest().await?;
    let _worker = env.start_worker().await?;
    let sharing = json!({"mchid": MERCHANT, "out_trade_no": "order-1", "transaction_id": "42", "success_time": "2026-11-23T10:15:30+08:00"});
    for event in [
        Event::new("TRANSACTION.SUCCESS", "profitsharing", sharing),
        Event::new("SECURITY_ECHO.SUCCESS", "security", json!({"echo": "hello"})),
        Event::new("PAPAY.SIGN", "sign", json!({})),
    ] {
        assert!(post(ingest.public(), &event).await?.is_success());
    }
    env.until_ledger_has(3).await?;
    assert_eq!(env.outcomes().await?, [("ignored not_for_orders".to_owned(), 3)].into());
    assert_eq!(env.value("SELECT count(*) FROM notifications WHERE kind = 'other'").await?, "3");
    assert_eq!(env.order("order-1").await?.state, "pending");
    Ok(())
}

#[tokio::test]
async fn a_program_with_rights_at_the_broker_can_forge_nothing() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    let _worker = env.start_worker().await?;
    let genuine = Event::payment("order-1");
    let to_another = Message::posted(&genuine).header("mch-id", INSTITUTION);
    let of_nobody = Message::new("wechatpay.v3", genuine.post().body);
    let other_key = Message::posted(&Event::payment("order-1").key("another-key-of-thirty-two-bytes!"));
    let other_merchant = Message::posted(&Event::payment("order-1").set("/mchid", json!(INSTITUTION)));
    let as_refund = Message::posted(&Event::new("REFUND.SUCCESS", "refund", json!({"mchid": MERCHANT})));
    let combined =
        Event::new("TRANSACTION.SUCCESS", "transaction", json!({"combine_mchid": MERCHANT, "sub_orders": [{}]}));
    let messages = vec![to_another, of_nobody, other_key, other_merchant, as_refund, Message::posted(&combined)];
    env.broker.publish_callbacks(messages).await?;
    env.until_ledger_has(6).await?;
    let outcomes = [
        ("waiting for_key".to_owned(), 2),
        ("quarantined not_authentic".to_owned(), 1),
        ("quarantined undecodable".to_owned(), 3),
    ];
    assert_eq!(env.outcomes().await?, outcomes.into());
    assert_eq!(env.order("order-1").await?.state, "pending");
    let combined = "SELECT detail ->> 'problem' FROM quarantine WHERE detail ->> 'problem' LIKE '%combine%'";
    assert_eq!(env.value(combined).await?, "combine_out_trade_no is missing");
    Ok(())
}

#[tokio::test]
async fn an_apiv3_key_that_the_worker_lacks_is_waited_for() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    let worker = env.start_worker().await?;
    let event = Event::payment("order-1").key("the-next-key-of-thirty-two-bytes");
    env.broker.publish_callbacks(vec![Message::posted(&event)]).await?;
    env.until_value("SELECT reason || ' ' || state FROM quarantine", "for_key waiting").await?;

    let keys = format!(
        "[[merchant]]\nmch_id = \"{MERCHANT}\"\nv3_keys = [\"{V3_KEY}\", \"the-next-key-of-thirty-two-bytes\"]\n"
    );
    env.merchants.replace(&keys)?;
    worker.send(Signal::Reload)?;
    env.until_paid("order-1").await?;
    Ok(())
}
