//! What an operator hears of a refusal: which cause, whose, and what to do; never a body, and never without end.

use std::fs;

use anyhow::{Context, Result};
use kit::TestResult;
use kit::callback::{Callback, Refund};
use kit::merchants::{INSTITUTION, INSTITUTION_KEY, MERCHANT};
use kit::post::{Post, post};
use kit::program::Program;
use kit::v3::Event;
use shared::protocol::keys::SignType;
use tokio::io::AsyncReadExt;

use crate::Stage;
use crate::wire::Wire;

/// The lines about this cause and merchant.
fn lines<'log>(log: &'log str, outcome: &str, merchant: &str) -> Vec<&'log str> {
    let labels = [format!("outcome=\"{outcome}\""), format!("merchant=\"{merchant}\"")];
    log.lines().filter(|line| line.contains(" WARN ") && labels.iter().all(|label| line.contains(label))).collect()
}

/// Posts what must be refused as `outcome`, counted and logged for `merchant`; gives the log line.
async fn refused(ingest: &Program, callback: Post, status: u16, outcome: &str, merchant: &str) -> Result<String> {
    let kind = format!("kind=\"{}\"", callback.kind.name());
    let labels = [kind, format!("outcome=\"{outcome}\""), format!("merchant=\"{merchant}\"")];
    let labels = labels.each_ref().map(String::as_str);
    let before = ingest.metric("ingest_callbacks_total", &labels).await?;
    let reply = post(ingest.public(), callback).await?;
    assert_eq!(reply.status, status, "{outcome}: {reply:?}");
    assert_eq!(ingest.metric("ingest_callbacks_total", &labels).await?, before + 1, "{labels:?}");
    let log = ingest.log()?;
    Ok((*lines(&log, outcome, merchant).last().with_context(|| format!("no line for {labels:?}:\n{log}"))?).to_owned())
}

#[tokio::test]
async fn a_digest_that_the_merchant_does_not_take_is_a_cause_of_its_own() -> TestResult {
    let stage = Stage::set().await?;
    let ingest = stage.ingest()?.start().await?;
    let md5 = Callback::payment("o").field("mch_id", INSTITUTION).key(INSTITUTION_KEY).digest(SignType::Md5);
    let line = refused(&ingest, md5.body().into(), 401, "digest_not_accepted", INSTITUTION).await?;
    assert!(line.contains("v2_sign_types") && line.contains("MD5"), "{line}");
    let forged = Callback::payment("o").key("another-key-000000000000000000001");
    refused(&ingest, forged.body().into(), 401, "not_authentic", MERCHANT).await?;
    assert_eq!(stage.depth().await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_callback_at_the_wrong_address_is_shown_the_right_one() -> TestResult {
    let stage = Stage::set().await?;
    let (payment, refund) =
        (Post::from(Callback::payment("o").body()), Post::from(&Refund::of("o", "4200000001", "r")));
    let v3 = Event::payment("o").post();
    let v3_address = format!("/wechatpay/v3/{MERCHANT}");
    // What comes, the address of which kind it comes to, and where it belongs; whose it is shows in v2 bodies and v3 paths.
    for (callback, at, address, belongs_to, merchant) in [
        (&payment, &refund, "/wechatpay/v2/refund", "/wechatpay/v2/payment", MERCHANT),
        (&payment, &v3, &*v3_address, "/wechatpay/v2/payment", MERCHANT),
        (&refund, &payment, "/wechatpay/v2/payment", "/wechatpay/v2/refund", MERCHANT),
        (&refund, &v3, &v3_address, "/wechatpay/v2/refund", MERCHANT),
        (&v3, &payment, "/wechatpay/v2/payment", "/wechatpay/v3/{mch_id}", ""),
        (&v3, &refund, "/wechatpay/v2/refund", "/wechatpay/v3/{mch_id}", ""),
    ] {
        // A process each: a minute passes between two lines of one cause.
        let ingest = stage.ingest()?.start().await?;
        let misrouted = Post { kind: at.kind, path: address.to_owned(), ..callback.clone() };
        let line = refused(&ingest, misrouted, 404, "wrong_route", merchant).await?;
        assert!(line.contains(&format!("belongs to {belongs_to}")), "{line}");
        let help = ingest.admin_page("/metrics").await?;
        let help = help.lines().find(|line| line.starts_with("# HELP ingest_callbacks_total")).unwrap_or_default();
        assert!(help.contains("/wechatpay/v2/payment") && help.contains("/wechatpay/v2/refund"), "{help}");
    }
    assert_eq!(stage.depth().await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_slash_at_the_end_is_taken_and_other_paths_are_counted() -> TestResult {
    let stage = Stage::set().await?;
    let ingest = stage.ingest()?.start().await?;
    let with_slash = |post: Post| Post { path: format!("{}/", post.path), ..post };
    for callback in
        [Callback::payment("o").body().into(), (&Refund::of("o", "4200000001", "r")).into(), Event::payment("o").post()]
    {
        assert!(post(ingest.public(), with_slash(callback)).await?.is_success());
    }
    assert_eq!(stage.depth().await?, 3);

    let unknown = |path: &str| Post { path: path.to_owned(), ..Callback::payment("o").body().into() };
    let lengthy = format!("/wechatpay/v3%1b]0;{}", "x".repeat(2000));
    for path in [&*lengthy, "/wechatpay/v3", "/wechatpay/v4/payment"] {
        assert_eq!(post(ingest.public(), unknown(path)).await?.status, 404);
    }
    let mut wire = Wire::open(ingest.public()).await?;
    wire.say("GET /wechatpay/v2/payment HTTP/1.1\r\nHost: i\r\n\r\n").await?;
    assert_eq!(wire.answer().await?.status, 405);
    let page = ingest.admin_page("/metrics").await?;
    assert!(
        page.contains("\ningest_unknown_path_total 3\n") && page.contains("\ningest_wrong_method_total 1\n"),
        "{page}"
    );
    assert!(!page.contains("v4") && !page.contains("xxxx"), "{page}");
    let log = ingest.log()?;
    let said: Vec<_> = log.lines().filter(|line| line.contains("cause=\"unknown_path\"")).collect();
    assert!(said.len() == 1 && said[0].contains("/wechatpay/v3") && said[0].len() < 500, "{log}");
    assert_eq!(log.lines().filter(|line| line.contains("cause=\"wrong_method\"")).count(), 1, "{log}");
    Ok(())
}

#[tokio::test]
async fn metrics_and_lines_name_our_merchants_and_no_others() -> TestResult {
    let stage = Stage::set().await?;
    let ingest = stage.ingest()?.start().await?;
    assert!(post(ingest.public(), Callback::payment("o").body()).await?.is_success());
    let stored = ["outcome=\"stored\"", &format!("merchant=\"{MERCHANT}\"")];
    assert_eq!(ingest.metric("ingest_callbacks_total", &stored).await?, 1);

    let unknown_serial = |serial: &str| {
        let mut callback = Event::payment("o").post();
        callback.headers.retain(|(name, _)| name != "Wechatpay-Serial");
        callback.headers.push(("Wechatpay-Serial".to_owned(), serial.to_owned()));
        callback
    };
    let line = refused(&ingest, unknown_serial("7777777777"), 401, "unknown_serial", MERCHANT).await?;
    assert!(line.contains("Wechatpay-Serial is 7777777777") && line.contains("MERCHANTS_FILE"), "{line}");

    // Names that the sender makes up become neither a series nor a line of their own.
    for number in 0..50 {
        let stranger = format!("19{number:08}");
        let v2 = Callback::payment("o").field("mch_id", &stranger);
        let v3 = Post { path: format!("/wechatpay/v3/{stranger}"), ..Event::payment("o").post() };
        refused(&ingest, v2.body().into(), 404, "unknown_merchant", "").await?;
        refused(&ingest, v3, 404, "unknown_merchant", "").await?;
        refused(&ingest, unknown_serial(&stranger), 401, "unknown_serial", MERCHANT).await?;
        let junk = Post { body: b"<xml><a>oUpF8uMuAJO</a></xml>".to_vec(), ..Post::from(Vec::new()) };
        refused(&ingest, junk, 400, "malformed", "").await?;
    }
    let (page, log) = (ingest.admin_page("/metrics").await?, ingest.log()?);
    assert!(!page.contains("1900000007") && !page.contains("7777777777"), "{page}");
    for (outcome, merchant) in [("unknown_merchant", ""), ("unknown_serial", MERCHANT), ("malformed", "")] {
        assert_eq!(lines(&log, outcome, merchant).len(), 1, "{outcome}: {log}");
    }
    assert!(!log.contains("oUpF8uMuAJO") && !log.contains("1900000007"), "{log}");
    Ok(())
}

#[tokio::test]
async fn a_thousand_malformed_heads_leave_no_more_than_a_few_lines() -> TestResult {
    let stage = Stage::set().await?;
    let mut ingest = stage.ingest()?.without_env("RUST_LOG").start().await?;
    let before = ingest.log()?.lines().count();
    for _ in 0..1000 {
        let mut wire = Wire::open(ingest.public()).await?;
        wire.say("\u{1}\u{2}\u{3} no HTTP at all\r\n\r\n").await?;
        let mut said = Vec::new();
        wire.stream.read_to_end(&mut said).await?;
        assert!(said.starts_with(b"HTTP/1.1 400 "), "{:?}", String::from_utf8_lossy(&said));
    }
    let log = ingest.log()?;
    assert!(log.lines().count() - before < 5, "{} lines", log.lines().count() - before);
    assert_eq!(ingest.stop().await?, Some(0));
    Ok(())
}

#[tokio::test]
async fn a_crash_leaves_no_copy_of_the_memory() -> TestResult {
    let stage = Stage::set().await?;
    let ingest = stage.ingest()?.start().await?;
    let limits = fs::read_to_string(format!("/proc/{}/limits", ingest.pid()))?;
    let cores = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).context("no such limit")?;
    assert_eq!(cores.split_whitespace().take(2).collect::<Vec<_>>(), ["0", "0"]);
    Ok(())
}
