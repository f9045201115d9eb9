//! What a v3 callback is refused for: each cause is counted apart, and none leaves anything behind.

use std::time::Instant;

use kit::TestResult;
use kit::callback::Refund;
use kit::merchants::{CERTIFIED, INSTITUTION, KEY, KNOWN_BY_ID};
use kit::post::{Post, post};
use kit::v3::Event;

use crate::Stage;

/// A genuine callback with this header set to something else, or dropped.
fn with_header(name: &str, value: Option<&str>) -> Post {
    let mut callback = Event::payment("o").post();
    callback.headers.retain(|(header, _)| header != name);
    callback.headers.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    callback
}

fn with_body(change: impl Fn(String) -> String) -> Post {
    let mut callback = Event::payment("o").post();
    callback.body = change(String::from_utf8_lossy(&callback.body).into_owned()).into_bytes();
    callback
}

fn at(path: &str) -> Post {
    Post { path: path.to_owned(), ..Event::payment("o").post() }
}

/// Signed by a key that has the serial of another.
fn forged() -> Post {
    let by_another = Event::payment("o").platform(&KNOWN_BY_ID).post();
    let mut headers = by_another.headers.clone();
    headers.retain(|(name, _)| name != "Wechatpay-Serial");
    headers.push(("Wechatpay-Serial".to_owned(), CERTIFIED.serial().to_owned()));
    Post { headers, ..by_another }
}

/// The head of WeChat Pay's probes; what follows is no base64 either.
const PROBE: &str = "WECHATPAY/SIGNTEST/2sWfO+6tVVsZonOXBXHOrle0TugJ31jDV3iGpjFchMY==";

#[tokio::test]
async fn every_cause_of_a_refusal_is_counted_apart() -> TestResult {
    let stage = Stage::set().await?;
    let ingest = stage.ingest()?.start().await?;
    let mut twice = Event::payment("o").post();
    twice.headers.push(("Wechatpay-Serial".to_owned(), CERTIFIED.serial().to_owned()));
    let refusals = [
        (401, "missing_header", with_header("Wechatpay-Signature", None)),
        (401, "missing_header", with_header("Wechatpay-Timestamp", None)),
        (401, "missing_header", with_header("Wechatpay-Nonce", Some(""))),
        (401, "missing_header", twice),
        (400, "malformed", with_header("Wechatpay-Timestamp", Some("yesterday"))),
        (401, "unknown_signature_type", with_header("Wechatpay-Signature-Type", Some("WECHATPAY2-SM2-WITH-SM3"))),
        (401, "probe", with_header("Wechatpay-Signature", Some(PROBE))),
        (401, "clock_skew", Event::payment("o").signed_after(-302).post()),
        (401, "clock_skew", Event::payment("o").signed_after(302).post()),
        (401, "unknown_serial", with_header("Wechatpay-Serial", Some("5157F09EFDC096DE15EBE81A47057A7232F1B8E1"))),
        (401, "altered", with_body(|body| body.replace("TRANSACTION.SUCCESS", "TRANSACTION.succEss"))),
        (401, "altered", with_body(|body| body.replace("支付", "\\u652f\\u4ed8"))),
        (401, "altered", with_header("Wechatpay-Nonce", Some("another"))),
        (401, "forged", forged()),
        (401, "forged", with_header("Wechatpay-Signature", Some("AAAA"))),
        (404, "unknown_merchant", at("/wechatpay/v3/1900009999")),
    ];
    for (status, outcome, callback) in refusals {
        let labels = ["kind=\"wechatpay.v3\"", &format!("outcome=\"{outcome}\"")];
        let before = ingest.metric("ingest_callbacks_total", &labels).await?;
        let reply = post(ingest.public(), callback.clone()).await?;
        assert_eq!(reply.status, status, "{outcome}: {reply:?}");
        assert!(reply.body.starts_with(r#"{"code":"FAIL","message":""#) && reply.body.len() < 100, "{reply:?}");
        assert_eq!(ingest.metric("ingest_callbacks_total", &labels).await?, before + 1, "{outcome}: {callback:?}");
    }
    assert_eq!(stage.depth().await?, 0);

    // Within the window, with every header as it is, without the optional one, and in whatever case.
    let mut lower = with_header("Wechatpay-Signature-Type", None);
    lower.headers.iter_mut().for_each(|(name, _)| name.make_ascii_lowercase());
    for callback in [Event::payment("o").signed_after(-290).post(), Event::payment("o").signed_after(290).post(), lower]
    {
        let reply = post(ingest.public(), callback).await?;
        assert!(reply.is_success(), "{reply:?}");
    }
    // The same keys are those of another merchant as well: whose the resource is, the worker finds out.
    assert!(post(ingest.public(), at(&format!("/wechatpay/v3/{INSTITUTION}"))).await?.is_success());
    assert_eq!(stage.depth().await?, 4);
    let log = ingest.log()?;
    assert!(!log.contains("oUpF8uMuAJO"), "{log}");
    Ok(())
}

#[tokio::test]
async fn a_flood_of_forgeries_is_not_looked_into_without_end() -> TestResult {
    let stage = Stage::set().await?;
    let ingest = stage.ingest()?.start().await?;
    let altered = with_header("Wechatpay-Nonce", Some("another"));
    let since = Instant::now();
    for _ in 0..400 {
        assert_eq!(post(ingest.public(), altered.clone()).await?.status, 401);
    }
    let count =
        async |outcome: &str| ingest.metric("ingest_callbacks_total", &[&format!("outcome=\"{outcome}\"")]).await;
    let (altered, forged) = (count("altered").await?, count("forged").await?);
    assert_eq!(altered + forged, 400);
    let seconds = since.elapsed().as_secs() + 2;
    assert!((100..=100 * seconds).contains(&altered), "{altered} were looked into within {seconds} s");
    Ok(())
}

#[tokio::test]
async fn a_v2_refund_is_authenticated_by_its_decryption() -> TestResult {
    let stage = Stage::set().await?;
    let ingest = stage.ingest()?.start().await?;
    let refund = Refund::of("order-1", "4200000001", "refund-1");
    let as_payment = Post { path: "/wechatpay/v2/payment".to_owned(), ..Post::from(&refund) };
    let refusals = [
        (401, Post::from(&refund.clone().key("another-key-000000000000000000001"))),
        (401, Post::from(&refund.clone().field("refund_id", ""))),
        (401, Post::from(&refund.clone().open_field("mch_id", INSTITUTION))),
        (404, Post::from(&refund.clone().open_field("mch_id", "1900009999"))),
        (404, as_payment),
        (400, Post { body: b"<xml>".to_vec(), ..Post::from(&refund) }),
    ];
    for (status, callback) in refusals {
        let reply = post(ingest.public(), callback).await?;
        assert_eq!(reply.status, status, "{reply:?}");
        assert!(reply.body.contains("FAIL"), "{reply:?}");
    }
    assert_eq!(stage.depth().await?, 0);
    let reply = post(ingest.public(), &refund).await?;
    assert!(reply.is_success(), "{reply:?}");
    let stored = stage.broker.take_all(shared::messaging::topology::CALLBACKS_QUEUE).await?;
    assert_eq!(stored[0].kind.as_deref(), Some("wechatpay.v2.refund"));
    assert_eq!(stored[0].body, refund.body());
    assert!(!ingest.log()?.contains(KEY));
    Ok(())
}
