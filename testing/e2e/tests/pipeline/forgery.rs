//! Callbacks that only look like payments, and payments that do not look like any: no order is marked paid unless it was.

use anyhow::ensure;
use kit::broker::Message;
use kit::callback::Callback;
use kit::merchants::{KEY, MERCHANT};
use kit::post::post;
use kit::program::{Launch, Signal};
use kit::test_env::TestEnv;
use kit::v3::Event;
use kit::{TestResult, until};
use serde_json::json;
use shared::protocol::keys::SignType;

#[tokio::test]
async fn a_signed_callback_that_was_cut_into_the_payment_of_another_order_pays_nobody() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_orders(&["mine", "victim"]).await?;
    let ingest = env.start_ingest().await?;
    let _worker = env.start_worker().await?;
    let genuine = Callback::payment("mine").field("attach", "x&mch_id=1900000109&out_trade_no=victim&p=");
    let get = |name| genuine.get(name);
    // Everything between the prepared text and the numbers that are used again.
    let absorbed = format!(
        "&bank_type=CMC&cash_fee=1500&is_subscribe=N&mch_id={MERCHANT}&nonce_str={}&openid={}&out_trade_no=mine",
        get("nonce_str"),
        get("openid")
    );
    let forged = genuine.recut(&[
        ("appid", get("appid")),
        ("attach", "x"),
        ("mch_id", MERCHANT),
        ("out_trade_no", "victim"),
        ("p", &absorbed),
        ("result_code", "SUCCESS"),
        ("return_code", "SUCCESS"),
        ("time_end", get("time_end")),
        ("total_fee", "1999"),
        ("trade_type", "JSAPI"),
        ("transaction_id", get("transaction_id")),
    ]);
    for body in [forged, genuine.body()] {
        assert!(post(ingest.public(), body).await?.is_success(), "it is authentic");
    }
    for row in env.until_ledger_has(2).await? {
        assert!(row.verdict().starts_with("quarantined "), "{}", row.verdict());
    }
    for number in ["mine", "victim"] {
        assert_eq!(env.order(number).await?.state, "pending", "{number}");
    }
    Ok(())
}

#[tokio::test]
async fn only_an_explicit_failure_is_ignored_as_one() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_orders(&["order-1", "order-2"]).await?;
    let ingest = env.start_ingest().await?;
    let _worker = env.start_worker().await?;
    let bare = || {
        ["return_code", "result_code", "transaction_id", "out_trade_no", "total_fee", "time_end", "cash_fee"]
            .into_iter()
            .fold(Callback::payment("order-1"), Callback::without)
    };
    let contract = bare().field("change_type", "ADD").field("contract_id", "Wx1").field("contract_code", "c-1");
    let service_order = bare().field("event_type", "TRANSACTION.SUCCESS").field("event_ciphertext", "c2VhbGVk");
    for callback in [
        Callback::payment("order-1").without("result_code"),
        Callback::payment("order-1").field("trade_state", "PARTLY_PAID"),
        Callback::payment("order-1").field("result_code", "FAIL"),
        contract,
        service_order,
    ] {
        assert!(post(ingest.public(), callback.body()).await?.is_success());
    }
    let refunded_since = Event::payment("order-2").set("/trade_state", json!("REFUND"));
    assert!(post(ingest.public(), &refunded_since).await?.is_success());
    env.until_ledger_has(6).await?;
    let outcomes = [
        ("quarantined undecodable".to_owned(), 2),
        ("ignored not_successful".to_owned(), 1),
        ("ignored not_for_orders".to_owned(), 2),
        ("applied".to_owned(), 1),
    ];
    assert_eq!(env.outcomes().await?, outcomes.into());
    assert_eq!(env.order("order-1").await?.state, "pending");
    assert_eq!(env.order("order-2").await?.state, "paid");
    Ok(())
}

#[tokio::test]
async fn what_was_answered_success_is_decided_although_its_digest_is_refused_since() -> TestResult {
    let env = TestEnv::start().await?;
    let ingest = env.start_ingest().await?;
    let worker = env.start_worker().await?;
    let callback = Callback::payment("order-1").digest(SignType::Md5);
    assert!(post(ingest.public(), callback.body()).await?.is_success());
    env.until_value("SELECT reason || ' ' || state FROM quarantine", "for_order waiting").await?;

    let narrowed =
        format!("[[merchant]]\nmch_id = \"{MERCHANT}\"\nv2_keys = [\"{KEY}\"]\nv2_sign_types = [\"HMAC-SHA256\"]\n");
    env.merchants.replace(&narrowed)?;
    worker.send(Signal::Reload)?;
    until("the worker has read the file again", async || {
        let lines = worker.log()?.lines().filter(|line| line.contains("merchant 1900000109:")).count();
        ensure!(lines > 1, "it was read {lines} times");
        Ok(())
    })
    .await?;
    env.insert_order("order-1").await?;
    env.until_paid("order-1").await?;
    Ok(())
}

/// Its `attach` only happens to look like fields, which the shop put there.
#[tokio::test]
async fn an_ambiguous_payment_is_never_resolved_and_an_operator_can_accept_it() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    let _worker = env.start_worker().await?;
    let body = Callback::payment("order-1").field("attach", "from=app&total_fee=1999").body();
    env.broker.publish_callbacks(vec![Message::callback(body)]).await?;
    env.until_value("SELECT reason || ' ' || state FROM quarantine", "ambiguous_signature open").await?;
    let names = "SELECT concat_ws(' ', mch_id, out_trade_no, transaction_id IS NOT NULL) FROM quarantine";
    assert_eq!(env.value(names).await?, format!("{MERCHANT} order-1 t"));
    let as_ann = async |command: &str| {
        let arguments = ["quarantine", command, "--order", "order-1", "--by", "ann", "--why", "seen in the portal"];
        let launch = Launch::new("worker").arguments(&arguments);
        launch.env("DATABASE_URL", env.database.worker_url().as_str()).finish().await
    };
    assert_eq!(as_ann("resolve").await?.code, Some(1), "nothing else knows of it");
    // A replay is no acceptance.
    assert_eq!(as_ann("replay").await?.code, Some(0));
    env.until_value("SELECT attempts || ' ' || state FROM quarantine", "1 open").await?;
    assert_eq!(as_ann("accept").await?.code, Some(0));
    env.until_paid("order-1").await?;
    env.until_value("SELECT state || ' ' || resolved_by FROM quarantine", "resolved ann").await?;
    Ok(())
}
