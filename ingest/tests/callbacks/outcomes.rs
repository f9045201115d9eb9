//! What is in a callback, and what the broker makes of it.

use anyhow::{Context, Result, ensure};
use kit::callback::Callback;
use kit::merchants::{INSTITUTION, INSTITUTION_KEY, MERCHANT};
use kit::post::post;
use kit::program::{Launch, Program, Signal};
use kit::proxy::Proxy;
use kit::{TestResult, until};
use lapin::options::ExchangeDeleteOptions;
use serde_json::json;
use shared::messaging::topology::{CALLBACKS_EXCHANGE, CALLBACKS_QUEUE, CALLBACKS_ROUTING_KEY};
use shared::protocol::keys::SignType;
use shared::protocol::{BODY_BYTES_MAX, SINGLE_BODY_BYTES_MAX};
use tokio::time::Instant;
use uuid::Uuid;

use crate::wire::Wire;
use crate::{ANSWERED_WITHIN, Stage};

/// Posts an authentic callback that must end as `outcome`.
async fn said_503(ingest: &Program, outcome: &str) -> Result<()> {
    let label = format!("outcome=\"{outcome}\"");
    let before = ingest.metric("ingest_callbacks_total", &[&label]).await?;
    let since = Instant::now();
    let reply = post(ingest.public(), Callback::payment("o").body()).await?;
    ensure!(reply.status == 503 && !reply.is_success(), "{reply:?}");
    ensure!(since.elapsed() < ANSWERED_WITHIN, "took {:?}", since.elapsed());
    let after = ingest.metric("ingest_callbacks_total", &[&label]).await?;
    ensure!(after == before + 1, "not counted as {outcome}:\n{}", ingest.admin_page("/metrics").await?);
    Ok(())
}

#[tokio::test]
async fn a_stored_callback_is_byte_identical_in_the_queue() -> TestResult {
    let stage = Stage::set().await?;
    let ingest = stage.ingest()?.start().await?;
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let body = Callback::payment("order-1").field("attach", "中文 & <b>").body();
    // The attach value stands in CDATA, and in two chunks of the body.
    let (first, second) = body.split_at(body.len() / 2);
    let mut wire = Wire::open(ingest.public()).await?;
    let length = body.len();
    let headers = format!("Content-Type: text/xml\r\ntraceparent: {traceparent}\r\nContent-Length: {length}\r\n");
    wire.say_head(&headers).await?;
    wire.say(first).await?;
    wire.say(second).await?;
    let answer = wire.answer().await?;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body, shared::protocol::reply::V2_SUCCESS);
    assert!(answer.head.contains("content-type: text/xml; charset=utf-8"), "{answer:?}");

    // The same connection, under HMAC and without a trace.
    let hmac = Callback::payment_of_shop("1900000300", "order-2").body();
    wire.say_head(&format!("Content-Length: {}\r\n", hmac.len())).await?;
    wire.say(&hmac).await?;
    assert_eq!(wire.answer().await?.status, 200);

    let stored = stage.broker.take_all(CALLBACKS_QUEUE).await?;
    assert_eq!(stored.len(), 2);
    for (message, mch_id, bytes) in [(&stored[0], MERCHANT, &body), (&stored[1], INSTITUTION, &hmac)] {
        assert_eq!(message.body, *bytes);
        assert_eq!(message.kind.as_deref(), Some("wechatpay.v2.payment"));
        assert_eq!(message.delivery_mode, Some(2));
        assert_eq!(message.headers["mch-id"], mch_id);
        assert_eq!(message.headers["envelope-version"], "1");
        let id = Uuid::parse_str(message.id.as_deref().unwrap_or_default())?;
        assert_eq!(id.get_version_num(), 7);
        let (seconds, _) = id.get_timestamp().context("no time in the id")?.to_unix();
        assert_eq!(message.timestamp, Some(seconds));
        assert!(std::time::UNIX_EPOCH.elapsed()?.as_secs() - seconds < 60);
    }
    assert_eq!(stored[0].content_type.as_deref(), Some("text/xml"));
    assert_eq!(stored[0].headers["traceparent"], traceparent);
    assert_eq!(stored[1].content_type, None);
    let trace_id = stored[1].id.as_deref().unwrap_or_default().replace('-', "");
    assert_eq!(stored[1].headers["traceparent"].split('-').nth(1), Some(trace_id.as_str()));
    assert_ne!(stored[0].id, stored[1].id);
    Ok(())
}

#[tokio::test]
async fn a_callback_that_is_not_authentic_is_refused_and_leaves_nothing() -> TestResult {
    let stage = Stage::set().await?;
    let ingest = stage.ingest()?.start().await?;
    let payment = Callback::payment("o");
    let altered = String::from_utf8(payment.body())?.replace("<total_fee>1999<", "<total_fee>1<").into_bytes();
    let unsigned = String::from_utf8(payment.body())?.replace("<sign>", "<sing>").replace("</sign>", "</sing>");
    let padded_to = |bytes: usize| {
        let mut body = payment.clone().field("attach", "").body();
        body.resize(bytes, b' ');
        body
    };
    let refusals = [
        (400, "malformed", Vec::new()),
        (400, "malformed", b"hello".to_vec()),
        (400, "malformed", vec![0xff; 10]),
        (400, "malformed", payment.clone().without("mch_id").body()),
        (401, "not_authentic", payment.clone().key("another-key-000000000000000000001").body()),
        (401, "not_authentic", altered),
        (401, "not_authentic", unsigned.into_bytes()),
        (401, "not_authentic", payment.clone().field("mch_id", INSTITUTION).key(INSTITUTION_KEY).body()),
        (404, "unknown_merchant", payment.clone().field("mch_id", "1900009999").body()),
        (413, "too_large", padded_to(BODY_BYTES_MAX + 1)),
        (413, "too_large", padded_to(SINGLE_BODY_BYTES_MAX + 1)),
        (400, "malformed", padded_to(SINGLE_BODY_BYTES_MAX)),
    ];
    for (status, outcome, body) in refusals {
        let reply = post(ingest.public(), body.clone()).await?;
        assert_eq!(reply.status, status, "{reply:?} for {:?}", String::from_utf8_lossy(&body));
        assert!(reply.body.contains("FAIL") && reply.body.len() < 200, "{reply:?}");
        let label = format!("outcome=\"{outcome}\"");
        assert!(ingest.metric("ingest_callbacks_total", &[&label]).await? > 0, "{outcome} was not counted");
    }
    // A few spaces after the root are no content.
    let reply = post(ingest.public(), padded_to(2048)).await?;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(stage.depth().await?, 1);

    // The digest that the institution does accept, and one that its merchant entry does not.
    let md5 = payment.field("mch_id", INSTITUTION).key(INSTITUTION_KEY).digest(SignType::Md5);
    assert_eq!(post(ingest.public(), md5.clone().body()).await?.status, 401);
    assert_eq!(post(ingest.public(), md5.digest(SignType::HmacSha256).body()).await?.status, 200);

    let log = ingest.log()?;
    assert!(!log.contains("oUpF8uMuAJO") && !log.contains("another-key"), "{log}");
    Ok(())
}

#[tokio::test]
async fn without_a_broker_the_answer_is_503_at_once() -> TestResult {
    let stage = Stage::set().await?;
    let mut ingest = Launch::ingest("amqp://127.0.0.1:1/%2f", stage.merchants.path())?.spawn()?;
    until("the admin port answers", async || ingest.admin_page("/healthz").await).await?;
    ingest.until_not_ready().await?;
    said_503(&ingest, "down").await?;
    assert_eq!(ingest.stop().await?, Some(0));
    Ok(())
}

#[tokio::test]
async fn an_outage_is_counted_in_full_and_logged_in_part() -> TestResult {
    let stage = Stage::set().await?;
    let mut ingest = Launch::ingest("amqp://127.0.0.1:1/%2f", stage.merchants.path())?.spawn()?;
    until("the admin port answers", async || ingest.admin_page("/healthz").await).await?;
    let since = Instant::now();
    for _ in 0..500 {
        post(ingest.public(), Callback::payment("o").body()).await?;
    }
    assert_eq!(ingest.metric("ingest_callbacks_total", &["outcome=\"down\""]).await?, 500);
    let lines = ingest.log()?.lines().filter(|line| line.contains("was not stored")).count();
    // Ten a second, and the posts may have begun in the middle of one.
    let most = 10 * (usize::try_from(since.elapsed().as_secs())? + 2);
    assert!((10..=most).contains(&lines), "{lines} lines");
    assert_eq!(ingest.stop().await?, Some(0));
    Ok(())
}

#[tokio::test]
async fn a_confirm_that_does_not_come_is_503_in_time() -> TestResult {
    let stage = Stage::set().await?;
    let proxy = Proxy::in_front_of(&stage.broker.ingest_url()).await?;
    let url = proxy.rewrite(&stage.broker.ingest_url())?;
    let mut ingest = Launch::ingest(url.as_str(), stage.merchants.path())?.start().await?;

    proxy.hold_to_client();
    said_503(&ingest, "unknown").await?;
    proxy.cut();
    ingest.until_not_ready().await?;
    said_503(&ingest, "down").await?;

    proxy.pass();
    ingest.until_ready().await?;
    assert!(post(ingest.public(), Callback::payment("o").body()).await?.is_success());
    // The callback that got 503 was stored all the same: it comes again, and the worker applies it once.
    assert_eq!(stage.depth().await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_message_that_the_broker_refuses_or_cannot_route_is_answered_503() -> TestResult {
    let stage = Stage::set().await?;
    let ingest = stage.ingest()?.start().await?;
    stage.broker.unbind(CALLBACKS_QUEUE, CALLBACKS_EXCHANGE, CALLBACKS_ROUTING_KEY).await?;
    said_503(&ingest, "unroutable").await?;
    stage.broker.bind(CALLBACKS_QUEUE, CALLBACKS_EXCHANGE, CALLBACKS_ROUTING_KEY).await?;
    assert!(post(ingest.public(), Callback::payment("o").body()).await?.is_success());

    let full = json!({"max-length": 1, "overflow": "reject-publish"});
    stage.broker.set_policy("^wechatpay", full).await?;
    // A quorum queue overshoots its limit a little, and a policy needs a moment to get there.
    until("the queue refuses", async || said_503(&ingest, "refused").await).await?;
    stage.broker.clear_policy().await?;
    until("the queue takes again", async || {
        let reply = post(ingest.public(), Callback::payment("o").body()).await?;
        ensure!(reply.is_success(), "{reply:?}");
        Ok(())
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_missing_exchange_is_named_together_with_the_file_that_has_it() -> TestResult {
    let stage = Stage::set().await?;
    let ingest = stage.ingest()?.start().await?;
    let channel = stage.broker.channel().await?;
    channel.exchange_delete(CALLBACKS_EXCHANGE.into(), ExchangeDeleteOptions::default()).await?;
    said_503(&ingest, "unknown").await?;
    until("the log says why", async || {
        let log = ingest.log()?;
        let named = log.lines().any(|line| line.contains(CALLBACKS_EXCHANGE) && line.contains("definitions.json"));
        ensure!(named, "{log}");
        Ok(())
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn keys_are_re_read_on_sighup_and_a_bad_file_changes_nothing() -> TestResult {
    const NEW_KEY: &str = "the-new-key-0000000000000000000001";
    let stage = Stage::set().await?;
    let ingest = stage.ingest()?.start().await?;
    let rotated = Callback::payment("o").key(NEW_KEY);
    assert_eq!(post(ingest.public(), rotated.body()).await?.status, 401);

    stage.merchants.replace(&format!("[[merchant]]\nmch_id = \"{MERCHANT}\"\nv2_keys = [\"{NEW_KEY}\"]\n"))?;
    ingest.send(Signal::Reload)?;
    until("the new key opens", async || {
        let reply = post(ingest.public(), rotated.body()).await?;
        ensure!(reply.is_success(), "{reply:?}");
        Ok(())
    })
    .await?;
    assert_eq!(post(ingest.public(), Callback::payment("o").body()).await?.status, 401, "the old key still opens");

    stage.merchants.replace("[[merchant]]\nmch_id = \"1900000109\"\nv2_keys = [\"hunter2\"\n")?;
    ingest.send(Signal::Reload)?;
    until("the log says what is wrong", async || {
        let log = ingest.log()?;
        ensure!(log.contains("MERCHANTS_FILE"), "{log}");
        Ok(())
    })
    .await?;
    assert!(post(ingest.public(), rotated.body()).await?.is_success());
    let log = ingest.log()?;
    assert!(!log.contains("hunter2") && !log.contains(NEW_KEY), "{log}");
    Ok(())
}
