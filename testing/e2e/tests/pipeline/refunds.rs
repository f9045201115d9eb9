//! Refunds: money on its way back, by v2 and v3, in whatever order the callbacks come.

use anyhow::Result;
use kit::TestResult;
use kit::broker::Message;
use kit::callback::{Callback, Refund, refund_id};
use kit::merchants::MERCHANT;
use kit::post::{Post, post, post_at_once};
use kit::test_env::TestEnv;
use kit::v3::Event;
use serde_json::{Value, json};
use tokio_postgres::Client;

const PAID: &str = "4200000001";

/// A paid order of 1999 fen, brought in with its payment as the documentation says.
async fn insert_paid(env: &TestEnv, out_trade_no: &str, transaction_id: &str) -> Result<()> {
    let insert = "INSERT INTO orders (mch_id, out_trade_no, amount_minor, currency, state, transaction_id, paid_at)
                  VALUES ($1, $2, 1999, 'CNY', 'paid', $3, now())";
    env.database.execute(insert, &[&MERCHANT, &out_trade_no, &transaction_id]).await?;
    env.bring_in_payments().await
}

/// What the merchant's checkout does before it asks WeChat Pay for a refund.
async fn request_refund(shop: &Client, out_trade_no: &str, out_refund_no: &str, minor: i64) -> Result<()> {
    let insert = "INSERT INTO refunds (order_id, out_refund_no, amount_minor)
                  SELECT id, $2, $3 FROM orders WHERE out_trade_no = $1 ON CONFLICT DO NOTHING";
    shop.execute(insert, &[&out_trade_no, &out_refund_no, &minor]).await?;
    Ok(())
}

/// Every refund and its order in one text.
const AS_TEXT: &str =
    "SELECT o.out_trade_no || ' ' || o.state || ' ' || o.refunded_minor || coalesce(': ' || string_agg(
    r.out_refund_no || ' ' || r.state || ' ' || r.amount_minor, ', ' ORDER BY r.out_refund_no), '')
    FROM orders o LEFT JOIN refunds r ON r.order_id = o.id GROUP BY o.id";

/// A shop that has asked for the refund of `order-1` and keeps its transaction open.
async fn request_refund_without_commit(env: &TestEnv) -> Result<Client> {
    let shop = env.database.connect().await?;
    shop.batch_execute("BEGIN").await?;
    request_refund(&shop, "order-1", "refund-1", 1999).await?;
    Ok(shop)
}

fn paid_by(out_trade_no: &str) -> String {
    format!("paid {out_trade_no}")
}

fn payload(event: &Message) -> Value {
    serde_json::from_slice(&event.body).unwrap()
}

#[tokio::test]
async fn partial_refunds_of_both_apis_add_up_and_each_has_an_event() -> TestResult {
    let env = TestEnv::start().await?;
    let ingest = env.start_ingest().await?;
    let _worker = env.start_worker().await?;
    env.insert_order("order-1").await?;
    assert!(post(ingest.public(), Callback::payment("order-1").transaction(PAID).body()).await?.is_success());
    env.until_paid("order-1").await?;
    request_refund(&env.database, "order-1", "refund-1", 1000).await?;

    assert!(post(ingest.public(), &Refund::of("order-1", PAID, "refund-1").amount(1000)).await?.is_success());
    env.until_value(AS_TEXT, "order-1 paid 1000: refund-1 succeeded 1000").await?;
    // Made in WeChat Pay's own portal: the shop has not requested it.
    let rest = Event::refund("order-1", PAID, "refund-2").set("/amount/refund", json!(999));
    assert!(post(ingest.public(), &rest).await?.is_success());
    env.until_value(AS_TEXT, "order-1 refunded 1999: refund-1 succeeded 1000, refund-2 succeeded 999").await?;
    // And again, sealed and signed afresh.
    assert!(post(ingest.public(), &rest).await?.is_success());
    env.until_ledger_has(4).await?;
    assert_eq!(env.outcomes().await?, [("applied".to_owned(), 3), ("duplicate".to_owned(), 1)].into());

    let events = env.until_events(3).await?;
    let told: Vec<Value> = events.iter().map(payload).collect();
    let of = |version: i64| told.iter().find(|event| event["version"] == version).unwrap().clone();
    assert_eq!(of(1)["type"], "order.paid");
    assert_eq!(of(2)["type"], "order.partially_refunded");
    assert_eq!(of(2)["refunded_minor"], 1000);
    let last = of(3);
    assert_eq!(last["type"], "order.refunded");
    assert_eq!(last["event_id"], events.iter().find(|event| payload(event) == last).unwrap().id.clone().unwrap());
    let said = |name: &str| last[name].clone();
    assert_eq!(said("out_refund_no"), "refund-2");
    assert_eq!(said("refund_id"), refund_id("refund-2"));
    assert_eq!((said("refund_amount_minor"), said("refunded_minor")), (json!(999), json!(1999)));
    assert_eq!(
        (said("transaction_id"), said("amount_minor"), said("currency")),
        (json!(PAID), json!(1999), json!("CNY"))
    );
    assert_eq!(said("succeeded_at"), "2026-11-24T01:08:07Z");
    let row = "SELECT kind || ' ' || out_trade_no || ' ' || transaction_id || ' ' || out_refund_no
               FROM notifications WHERE out_refund_no = 'refund-1'";
    assert_eq!(env.value(row).await?, format!("refund order-1 {PAID} refund-1"));
    Ok(())
}

#[tokio::test]
async fn many_refunds_of_one_payment_at_once_add_up_on_two_workers() -> TestResult {
    let env = TestEnv::start().await?;
    let ingest = env.start_ingest().await?;
    let _workers = [env.start_worker().await?, env.start_worker().await?];
    insert_paid(&env, "order-1", PAID).await?;
    // 19 times 100 and 99, each by both APIs; after that nothing is left.
    let amount = |number: i64| if number == 19 { 99 } else { 100 };
    let refunds = (0..20).flat_map(|number| {
        let refund = format!("refund-{number}");
        let v2 = Post::from(&Refund::of("order-1", PAID, &refund).amount(amount(number)));
        [v2, Event::refund("order-1", PAID, &refund).set("/amount/refund", json!(amount(number))).post()]
    });
    for reply in post_at_once(ingest.public(), refunds.collect()).await {
        assert!(reply?.is_success());
    }
    env.until_ledger_has(40).await?;
    assert_eq!(env.outcomes().await?, [("applied".to_owned(), 20), ("duplicate".to_owned(), 20)].into());
    assert!(post(ingest.public(), &Refund::of("order-1", PAID, "refund-20").amount(1)).await?.is_success());
    env.until_value("SELECT reason FROM quarantine", "refund_exceeds_payment").await?;

    let order = "SELECT state || ' ' || refunded_minor || ' ' || version FROM orders";
    assert_eq!(env.value(order).await?, "refunded 1999 20");
    let sum = "SELECT sum(amount_minor) || ' ' || count(*) FROM refunds WHERE state = 'succeeded'";
    assert_eq!(env.value(sum).await?, "1999 20");
    let mut versions: Vec<_> =
        env.until_events(20).await?.iter().map(|event| payload(event)["version"].as_i64().unwrap()).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=20).collect::<Vec<_>>(), "every event has a version of its own");
    Ok(())
}

#[tokio::test]
async fn a_refund_that_overtakes_its_payment_waits_for_it() -> TestResult {
    let env = TestEnv::start().await?;
    let ingest = env.start_ingest().await?;
    let _worker = env.start_worker().await?;
    assert!(post(ingest.public(), &Refund::of("order-1", PAID, "refund-1")).await?.is_success());
    env.until_ledger_has(1).await?;
    assert_eq!(env.outcomes().await?, [("waiting for_payment".to_owned(), 1)].into());

    env.insert_order("order-1").await?;
    assert_eq!(env.value(AS_TEXT).await?, "order-1 pending 0");

    assert!(post(ingest.public(), Callback::payment("order-1").transaction(PAID).body()).await?.is_success());
    env.until_value(AS_TEXT, "order-1 refunded 1999: refund-1 succeeded 1999").await?;
    assert_eq!(env.outcomes().await?, [("applied".to_owned(), 2)].into());
    assert_eq!(env.value("SELECT state || ' by ' || resolved_by FROM quarantine").await?, "resolved by sweeper");
    assert_eq!(env.until_events(2).await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn an_abnormal_refund_has_an_event_and_may_still_succeed_once() -> TestResult {
    let env = TestEnv::start().await?;
    let ingest = env.start_ingest().await?;
    let _worker = env.start_worker().await?;
    insert_paid(&env, "order-1", PAID).await?;
    request_refund(&env.database, "order-1", "refund-1", 1999).await?;
    let abnormal = Refund::of("order-1", PAID, "refund-1").status("CHANGE");
    assert!(post(ingest.public(), &abnormal).await?.is_success());
    env.until_value(AS_TEXT, "order-1 paid 0: refund-1 abnormal 1999").await?;

    let succeeded: Vec<_> = (0..6).map(|_| Event::refund("order-1", PAID, "refund-1").post()).collect();
    for reply in post_at_once(ingest.public(), succeeded).await {
        assert!(reply?.is_success());
    }
    env.until_ledger_has(7).await?;
    // Late, and signed afresh.
    assert!(post(ingest.public(), &abnormal).await?.is_success());
    env.until_ledger_has(8).await?;
    assert_eq!(env.value(AS_TEXT).await?, "order-1 refunded 1999: refund-1 succeeded 1999");
    let outcomes = [("applied".to_owned(), 2), ("duplicate".to_owned(), 5), ("ignored stale".to_owned(), 1)];
    assert_eq!(env.outcomes().await?, outcomes.into());
    let mut kinds: Vec<_> = env.until_events(2).await?.into_iter().map(|event| event.kind.unwrap()).collect();
    kinds.sort();
    assert_eq!(kinds, ["order.refunded", "refund.abnormal"]);
    Ok(())
}

/// What is on record about payments, oldest order first.
const PAYMENTS: &str = "SELECT string_agg(transaction_id || ' ' || disposition || ' ' || returned_minor, ', '
    ORDER BY transaction_id) FROM payments";

#[tokio::test]
async fn the_refunds_of_a_second_payment_return_it_and_leave_the_order_alone() -> TestResult {
    let env = TestEnv::start().await?;
    let ingest = env.start_ingest().await?;
    let _worker = env.start_worker().await?;
    insert_paid(&env, "order-1", PAID).await?;
    let second = Callback::payment("order-1").transaction("4200000002");
    assert!(post(ingest.public(), second.body()).await?.is_success());
    env.until_value("SELECT reason || ' ' || state FROM quarantine", "paid_twice open").await?;
    // The shop has asked for one of them beforehand.
    request_refund(&env.database, "order-1", "refund-1", 999).await?;

    let failed = Event::refund("order-1", "4200000002", "refund-1").set("/amount/refund", json!(999)).ended("ABNORMAL");
    assert!(post(ingest.public(), &failed).await?.is_success());
    env.until_value(AS_TEXT, "order-1 paid 0: refund-1 abnormal 999").await?;
    let first = Refund::of("order-1", "4200000002", "refund-1").amount(999);
    assert!(post(ingest.public(), &first).await?.is_success());
    env.until_value(PAYMENTS, &format!("{PAID} accepted 0, 4200000002 refused 999")).await?;
    let rest = Refund::of("order-1", "4200000002", "refund-2").amount(1000);
    assert!(post(ingest.public(), &rest).await?.is_success());
    env.until_value(PAYMENTS, &format!("{PAID} accepted 0, 4200000002 returned 1999")).await?;
    env.until_value(
        "SELECT reason || ' ' || resolved_by || ' ' || resolution FROM quarantine",
        "paid_twice sweeper returned",
    )
    .await?;
    for repeat in [rest.body(), second.body()] {
        let route = if repeat == second.body() { Post::from(repeat) } else { Post::from(&rest) };
        assert!(post(ingest.public(), route).await?.is_success());
    }
    env.until_ledger_has(6).await?;

    assert_eq!(env.value(AS_TEXT).await?, "order-1 paid 0: refund-1 succeeded 999, refund-2 succeeded 1000");
    let outcomes = [
        ("applied".to_owned(), 3),
        ("duplicate".to_owned(), 1),
        ("ignored returned".to_owned(), 1),
        ("quarantined paid_twice".to_owned(), 1),
    ];
    assert_eq!(env.outcomes().await?, outcomes.into());
    let mut told: Vec<Value> = env.until_events(4).await?.iter().map(payload).collect();
    told.sort_by_key(|event| event["version"].as_i64());
    let kinds: Vec<&str> = told.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(kinds, ["payment.refused", "refund.abnormal", "payment.partially_returned", "payment.returned"]);
    assert!(told.iter().all(|event| event["transaction_id"] == "4200000002"), "{told:?}");
    assert_eq!((&told[0]["reason"], &told[0]["payment_amount_minor"]), (&json!("paid_twice"), &json!(1999)));
    assert_eq!(told[3]["payment_returned_minor"], 1999);
    Ok(())
}

#[tokio::test]
async fn a_payment_that_has_gone_back_never_pays_the_order() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    env.database.execute("UPDATE orders SET state = 'closed'", &[]).await?;
    let ingest = env.start_ingest().await?;
    let _worker = env.start_worker().await?;
    let late = Callback::payment("order-1").transaction("4200000002");
    assert!(post(ingest.public(), late.body()).await?.is_success());
    env.until_value("SELECT reason || ' ' || state FROM quarantine", "paid_after_close open").await?;
    assert!(post(ingest.public(), &Refund::of("order-1", "4200000002", "refund-1")).await?.is_success());
    env.until_value("SELECT state || ' by ' || resolved_by FROM quarantine", "resolved by sweeper").await?;

    // The shop opens the order again, and WeChat Pay repeats itself.
    env.database.execute("UPDATE orders SET state = 'pending'", &[]).await?;
    assert!(post(ingest.public(), late.body()).await?.is_success());
    env.until_ledger_has(3).await?;
    assert_eq!(env.order("order-1").await?.state, "pending");
    let outcomes =
        [("applied".to_owned(), 1), ("ignored returned".to_owned(), 1), ("quarantined paid_after_close".to_owned(), 1)];
    assert_eq!(env.outcomes().await?, outcomes.into());

    assert!(post(ingest.public(), Callback::payment("order-1").transaction(PAID).body()).await?.is_success());
    env.until_paid("order-1").await?;
    Ok(())
}

#[tokio::test]
async fn the_refund_of_a_mispriced_payment_returns_that_too() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    let ingest = env.start_ingest().await?;
    let _worker = env.start_worker().await?;
    let payment = Callback::payment("order-1").transaction("4200000002").amount(2000);
    assert!(post(ingest.public(), payment.body()).await?.is_success());
    env.until_value("SELECT reason || ' ' || state FROM quarantine", "amount_mismatch open").await?;
    let refund = Refund::of("order-1", "4200000002", "refund-1").field("total_fee", "2000").amount(2000);
    assert!(post(ingest.public(), &refund).await?.is_success());
    env.until_value("SELECT state || ' by ' || resolved_by FROM quarantine", "resolved by sweeper").await?;
    assert_eq!(env.value(AS_TEXT).await?, "order-1 pending 0: refund-1 succeeded 2000");

    assert!(post(ingest.public(), Callback::payment("order-1").transaction(PAID).body()).await?.is_success());
    env.until_paid("order-1").await?;
    Ok(())
}

#[tokio::test]
async fn a_refund_that_does_not_fit_its_payment_is_kept_for_the_operator() -> TestResult {
    type Change = fn(Refund) -> Refund;
    let cases: [(&str, &str, Change, Value); 6] = [
        (
            "shop",
            "sub_mch_id_mismatch",
            |it| it.open_field("sub_mch_id", "1900000300"),
            json!({"expected": null, "got": "1900000300"}),
        ),
        (
            "total",
            "transaction_conflict",
            |it| it.field("total_fee", "2000"),
            json!({"expected": "1999 CNY of total", "got": "2000 CNY of total"}),
        ),
        ("requested", "refund_amount_mismatch", |it| it.amount(99), json!({"expected": "100 CNY", "got": "99 CNY"})),
        (
            "known",
            "refund_id_mismatch",
            |it| it.amount(100),
            json!({"expected": "another", "got": refund_id("refund-1")}),
        ),
        (
            "too-much",
            "refund_exceeds_payment",
            |it| it.amount(1999),
            json!({"expected": "at most 1899 CNY", "got": "1999 CNY"}),
        ),
        ("ended", "refund_state_conflict", |it| it.amount(100), json!({"expected": "closed", "got": "succeeded"})),
    ];
    let env = TestEnv::start().await?;
    let ingest = env.start_ingest().await?;
    for (order, ..) in &cases {
        insert_paid(&env, order, &paid_by(order)).await?;
    }
    request_refund(&env.database, "requested", "refund-1", 100).await?;
    let prepare = "INSERT INTO refunds
                       (order_id, out_refund_no, amount_minor, state, refund_id, transaction_id, reported_at, succeeded_at)
                   SELECT id, $2, 100, $3, $4, transaction_id, now(), CASE WHEN $3 = 'succeeded' THEN now() END
                   FROM orders WHERE out_trade_no = $1";
    for (order, number, state, id) in [
        ("known", "refund-1", "abnormal", "another"),
        ("too-much", "refund-0", "succeeded", "0"),
        ("ended", "refund-1", "closed", &refund_id("refund-1")),
    ] {
        env.database.execute(prepare, &[&order, &number, &state, &id]).await?;
    }
    env.database.execute("UPDATE orders SET refunded_minor = 100 WHERE out_trade_no = 'too-much'", &[]).await?;
    env.database
        .execute("UPDATE payments SET returned_minor = 100 WHERE transaction_id = 'paid too-much'", &[])
        .await?;
    let orders = "SELECT string_agg(o::text, ' ' ORDER BY o.id) FROM orders o";
    let refunds = "SELECT string_agg(r::text, ' ' ORDER BY r.id) FROM refunds r";
    let before = (env.value(orders).await?, env.value(refunds).await?);
    for (order, _, change, _) in &cases {
        assert!(post(ingest.public(), &change(Refund::of(order, &paid_by(order), "refund-1"))).await?.is_success());
    }
    let _worker = env.start_worker().await?;
    env.until_ledger_has(cases.len()).await?;
    for (order, reason, _, detail) in &cases {
        let select = "SELECT reason, state, detail FROM quarantine WHERE out_trade_no = $1";
        let row = env.database.query_one(select, &[order]).await?;
        assert_eq!((row.get(0), row.get(1), row.get(2)), (*reason, "open", detail.clone()), "{order}");
    }
    assert_eq!((env.value(orders).await?, env.value(refunds).await?), before, "what was refused has left a trace");
    assert_eq!(env.value("SELECT count(*) FROM order_events").await?, "0");
    Ok(())
}

#[tokio::test]
async fn a_payment_and_its_refund_in_one_batch_are_written_at_once() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    let payment = Message::callback(Callback::payment("order-1").transaction(PAID).body());
    let refund = Message::posted(&Refund::of("order-1", PAID, "refund-1"));
    env.broker.publish_callbacks(vec![payment, refund]).await?;
    let worker = env.start_worker().await?;
    env.until_value(AS_TEXT, "order-1 refunded 1999: refund-1 succeeded 1999").await?;
    assert_eq!(env.outcomes().await?, [("applied".to_owned(), 2)].into());
    assert_eq!(env.until_events(2).await?.len(), 2);
    assert!(!worker.log()?.contains("a batch failed"), "{}", worker.log()?);
    Ok(())
}

#[tokio::test]
async fn a_refund_whose_row_the_merchant_keeps_locked_waits_and_is_not_blamed() -> TestResult {
    let env = TestEnv::start().await?;
    insert_paid(&env, "order-1", PAID).await?;
    let shop = request_refund_without_commit(&env).await?;
    let _worker = env.start_worker().await?;
    env.broker.publish_callbacks(vec![Message::posted(&Refund::of("order-1", PAID, "refund-1"))]).await?;
    env.until_value("SELECT reason || ' ' || state FROM quarantine", "for_lock waiting").await?;
    // The lane continues in the meantime.
    env.insert_order("order-2").await?;
    env.broker.publish_callbacks(vec![Message::callback(Callback::payment("order-2").body())]).await?;
    env.until_paid("order-2").await?;

    shop.batch_execute("COMMIT").await?;
    env.until_value("SELECT state FROM refunds", "succeeded").await?;
    env.until_value("SELECT state || ' by ' || resolved_by FROM quarantine", "resolved by sweeper").await?;
    Ok(())
}

#[tokio::test]
async fn a_refund_that_the_merchant_writes_at_the_same_time_is_not_lost() -> TestResult {
    let env = TestEnv::start().await?;
    insert_paid(&env, "order-1", PAID).await?;
    let shop = request_refund_without_commit(&env).await?;
    let _worker = env.start_worker().await?;
    env.broker.publish_callbacks(vec![Message::posted(&Refund::of("order-1", PAID, "refund-1"))]).await?;
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    env.until_value(waits, "1").await?;
    shop.batch_execute("COMMIT").await?;
    env.until_value(AS_TEXT, "order-1 refunded 1999: refund-1 succeeded 1999").await?;
    assert_eq!(env.outcomes().await?, [("applied".to_owned(), 1)].into());
    Ok(())
}
