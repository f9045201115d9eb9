//! How many at once: connections, bodies that are being read, callbacks that are being published.

use std::time::Duration;

use anyhow::{Result, ensure};
use kit::callback::Callback;
use kit::post::post;
use kit::program::Program;
use kit::proxy::Proxy;
use kit::{TestResult, until};
use tokio::time::timeout;

use crate::Stage;
use crate::clients::said_no;
use crate::wire::Wire;

async fn until_gauge(ingest: &Program, name: &str, value: u64) -> Result<()> {
    until(&format!("{name} is {value}"), async || {
        let now = ingest.metric(name, &[]).await?;
        ensure!(now == value, "it is {now}");
        Ok(())
    })
    .await
}

/// A connection with a callback's head and half of its body.
async fn slow_body(ingest: &Program, body: &[u8]) -> Result<Wire> {
    let mut wire = Wire::open(ingest.public()).await?;
    wire.say_head(&format!("Content-Length: {}\r\n", body.len())).await?;
    wire.say(body.get(..body.len() / 2).unwrap_or_default()).await?;
    Ok(wire)
}

#[tokio::test]
async fn slow_bodies_take_no_slot_from_a_callback() -> TestResult {
    let stage = Stage::set().await?;
    let ingest = stage.ingest()?.env("IN_FLIGHT_MAX", "8").start().await?;
    let body = Callback::payment("o").body();
    let mut slow = Vec::new();
    for _ in 0..8 {
        slow.push(slow_body(&ingest, &body).await?);
    }
    until_gauge(&ingest, "ingest_reading", 8).await?;
    let reply = post(ingest.public(), Callback::payment("genuine").body()).await?;
    assert!(reply.is_success(), "{reply:?}");
    assert_eq!(ingest.metric("ingest_reading", &[]).await?, 8, "they were read before the genuine one came");

    // A slow one that goes on within its time is taken, too; a client that hangs up makes room.
    let mut patient = slow_body(&ingest, &body).await?;
    patient.say(&body[body.len() / 2..]).await?;
    assert_eq!(patient.answer().await?.status, 200);
    drop(slow);
    until_gauge(&ingest, "ingest_reading", 0).await?;
    Ok(())
}

#[tokio::test]
async fn beyond_the_memory_for_reading_the_answer_is_503_before_the_body_is_read() -> TestResult {
    // 4 KiB are set aside for each.
    const ROOM: u64 = 256;
    let stage = Stage::set().await?;
    let ingest = stage.ingest()?.env("READING_MIB_MAX", "1").start().await?;
    let body = Callback::payment("o").body();
    let mut slow = Vec::new();
    for _ in 0..ROOM {
        slow.push(slow_body(&ingest, &body).await?);
    }
    until_gauge(&ingest, "ingest_reading", ROOM).await?;
    let mut one_more = slow_body(&ingest, &body).await?;
    let answer = one_more.answer().await?;
    said_no(&answer, 503);
    assert!(answer.took < Duration::from_millis(500), "{answer:?}");
    assert_eq!(ingest.metric("ingest_callbacks_total", &["outcome=\"overloaded\""]).await?, 1);
    drop(slow);
    until_gauge(&ingest, "ingest_reading", 0).await?;
    assert!(post(ingest.public(), body).await?.is_success());
    Ok(())
}

#[tokio::test]
async fn beyond_the_bound_on_publishing_the_answer_is_503_at_once() -> TestResult {
    let stage = Stage::set().await?;
    let proxy = Proxy::in_front_of(&stage.broker.ingest_url()).await?;
    let url = proxy.rewrite(&stage.broker.ingest_url())?;
    let launch = kit::program::Launch::ingest(url.as_str(), stage.merchants.path())?;
    let ingest = launch.env("IN_FLIGHT_MAX", "2").start().await?;
    proxy.hold_to_client();
    let body = Callback::payment("o").body();
    let (mut first, mut second) = (Wire::open(ingest.public()).await?, Wire::open(ingest.public()).await?);
    for wire in [&mut first, &mut second] {
        wire.say_head(&format!("Content-Length: {}\r\n", body.len())).await?;
        wire.say(&body).await?;
    }
    until_gauge(&ingest, "ingest_in_flight", 2).await?;
    let mut third = Wire::open(ingest.public()).await?;
    third.say_head(&format!("Content-Length: {}\r\n", body.len())).await?;
    third.say(&body).await?;
    let answer = third.answer().await?;
    said_no(&answer, 503);
    assert!(answer.took < Duration::from_millis(500), "{answer:?}");
    assert_eq!(ingest.metric("ingest_callbacks_total", &["outcome=\"overloaded\""]).await?, 1);

    // Those inside are none the worse.
    proxy.pass();
    assert_eq!(first.answer().await?.status, 200);
    assert_eq!(second.answer().await?.status, 200);
    until_gauge(&ingest, "ingest_in_flight", 0).await?;
    assert!(post(ingest.public(), body).await?.is_success());
    Ok(())
}

#[tokio::test]
async fn a_full_public_port_leaves_the_broker_and_the_admin_port_working() -> TestResult {
    const DESCRIPTORS: u32 = 320;
    let stage = Stage::set().await?;
    let proxy = Proxy::in_front_of(&stage.broker.ingest_url()).await?;
    let url = proxy.rewrite(&stage.broker.ingest_url())?;
    let launch = kit::program::Launch::ingest(url.as_str(), stage.merchants.path())?;
    let mut ingest = launch.open_files(DESCRIPTORS).start().await?;

    // Each is answered once, and kept; the first that is not finds the port full.
    let mut kept = Vec::new();
    let waiting = loop {
        let mut wire = Wire::open(ingest.public()).await?;
        wire.say("GET / HTTP/1.1\r\nHost: ingest\r\n\r\n").await?;
        match timeout(Duration::from_secs(1), wire.answer()).await {
            Ok(answer) => assert_eq!(answer?.status, 404),
            Err(_elapsed) => break wire,
        }
        kept.push(wire);
        assert!(kept.len() < 2 * usize::try_from(DESCRIPTORS)?, "without end");
    };
    assert!(kept.len() > 64, "only {} connections", kept.len());
    let said = format!("connections_max={}", kept.len());

    for _ in 0..10 {
        ingest.admin_page("/healthz").await?;
    }
    proxy.cut();
    ingest.until_not_ready().await?;
    proxy.pass();
    ingest.until_ready().await?;
    let body = Callback::payment("o").body();
    let busy = &mut kept[0];
    busy.say_head(&format!("Content-Length: {}\r\n", body.len())).await?;
    busy.say(&body).await?;
    assert_eq!(busy.answer().await?.status, 200);

    let log = ingest.log()?;
    assert!(log.contains(&said) && !log.contains("open files"), "{said}: {log}");
    drop((kept, waiting));
    assert!(post(ingest.public(), body).await?.is_success());
    Ok(())
}

#[tokio::test]
async fn too_few_descriptors_are_named_at_the_start() -> TestResult {
    let stage = Stage::set().await?;
    let finished = stage.ingest()?.open_files(40).finish().await?;
    assert_eq!(finished.code, Some(64), "{finished:?}");
    assert!(finished.stderr.lines().last().is_some_and(|line| line.starts_with("RLIMIT_NOFILE: ")), "{finished:?}");
    Ok(())
}
