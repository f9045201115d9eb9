//! How a callback is sent: too much, too slowly, too many at once, or not as one at all.

use std::time::Duration;

use kit::TestResult;
use kit::callback::Callback;
use shared::protocol::BODY_BYTES_MAX;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use crate::wire::{Answer, Wire};
use crate::{ANSWERED_WITHIN, Stage};

pub fn said_no(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert!(answer.body.starts_with("<xml><return_code><![CDATA[FAIL]]></return_code>"), "{answer:?}");
    assert!(answer.took < ANSWERED_WITHIN, "{answer:?}");
}

#[tokio::test]
async fn other_methods_and_paths_have_answers_of_their_own() -> TestResult {
    let stage = Stage::set().await?;
    let ingest = stage.ingest()?.start().await?;
    for (request, status) in [
        ("GET /wechatpay/v2/payment", 405),
        ("HEAD /wechatpay/v2/payment", 405),
        ("PUT /wechatpay/v2/payment", 405),
        ("GET /wechatpay/v3/1900000109", 405),
        ("POST /wechatpay/v2", 404),
        ("POST /wechatpay/v2/payment//", 404),
        ("POST /", 404),
        ("GET /metrics", 404),
        ("GET /healthz", 404),
    ] {
        let mut wire = Wire::open(ingest.public()).await?;
        wire.say(format!("{request} HTTP/1.1\r\nHost: ingest\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
            .await?;
        let mut said = String::new();
        wire.stream.read_to_string(&mut said).await?;
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {said}");
        assert!(said.len() < 250, "{request}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_body_is_bounded_however_it_comes() -> TestResult {
    let stage = Stage::set().await?;
    let ingest = stage.ingest()?.start().await?;
    let chunk = |size: usize| format!("{size:x}\r\n{}\r\n", "x".repeat(size));

    let mut announced = Wire::open(ingest.public()).await?;
    announced.say_head(&format!("Content-Length: {}\r\n", BODY_BYTES_MAX + 1)).await?;
    said_no(&announced.answer().await?, 413);

    let mut chunked = Wire::open(ingest.public()).await?;
    chunked.say_head("Transfer-Encoding: chunked\r\n").await?;
    chunked.say(chunk(BODY_BYTES_MAX) + &chunk(1) + "0\r\n\r\n").await?;
    said_no(&chunked.answer().await?, 413);

    let mut within = Wire::open(ingest.public()).await?;
    within.say_head("Transfer-Encoding: chunked\r\n").await?;
    within.say(chunk(BODY_BYTES_MAX) + "0\r\n\r\n").await?;
    said_no(&within.answer().await?, 400);

    let mut endless = Wire::open(ingest.public()).await?;
    endless.say_head("Transfer-Encoding: chunked\r\n").await?;
    let (mut hears, mut says) = endless.stream.into_split();
    let talking = tokio::spawn(async move { while says.write_all(chunk(8192).as_bytes()).await.is_ok() {} });
    let mut start = [0; 12];
    timeout(ANSWERED_WITHIN, hears.read_exact(&mut start)).await??;
    assert_eq!(&start, b"HTTP/1.1 413");
    // And it is not listened to for ever.
    timeout(ANSWERED_WITHIN, talking).await??;
    Ok(())
}

#[tokio::test]
async fn a_slow_client_is_answered_and_hung_up_on() -> TestResult {
    let stage = Stage::set().await?;
    let ingest = stage.ingest()?.start().await?;
    let body = Callback::payment("o").body();

    let mut silent = Wire::open(ingest.public()).await?;
    silent.say_head(&format!("Content-Length: {}\r\n", body.len())).await?;
    silent.say(&body[..body.len() / 2]).await?;
    said_no(&silent.answer().await?, 408);
    assert!(silent.is_hung_up().await?);

    let mut trickling = Wire::open(ingest.public()).await?;
    trickling.say_head(&format!("Content-Length: {}\r\n", body.len())).await?;
    let since = trickling.since;
    let (mut hears, mut says) = trickling.stream.into_split();
    let talking = tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        for byte in body {
            pace.tick().await;
            if says.write_all(&[byte]).await.is_err() {
                return;
            }
        }
    });
    let mut start = [0; 12];
    timeout(ANSWERED_WITHIN, hears.read_exact(&mut start)).await??;
    assert_eq!(&start, b"HTTP/1.1 408");
    assert!(since.elapsed() < ANSWERED_WITHIN);
    talking.abort();

    let mut half_a_head = Wire::open(ingest.public()).await?;
    half_a_head.say("POST /wechatpay/v2/payment HTTP/1.1\r\nHost: ing").await?;
    let since = Instant::now();
    let mut said = Vec::new();
    timeout(Duration::from_secs(8), half_a_head.stream.read_to_end(&mut said)).await??;
    assert!(since.elapsed() < Duration::from_secs(6), "took {:?}", since.elapsed());
    assert_eq!(stage.depth().await?, 0);
    Ok(())
}
