//! Every head of a connection has a deadline, and nothing but a head.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use ingest::HEAD_TIMEOUT;
use kit::TestResult;
use kit::callback::Callback;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use crate::Stage;
use crate::wire::Wire;

/// What a busy machine may take longer.
const SLACK: Duration = Duration::from_secs(3);
const GET: &str = "GET / HTTP/1.1\r\nHost: ingest\r\n\r\n";
const HALF_A_HEAD: &str = "POST /wechatpay/v2/payment HTTP/1.1\r\nHost: ing";

fn callback() -> Vec<u8> {
    let body = Callback::payment("o").body();
    let length = body.len();
    let head = format!("POST /wechatpay/v2/payment HTTP/1.1\r\nHost: ingest\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), &body].concat()
}

/// How long the connection stays open after this has been said; a reply may come before its end.
async fn lives(ingest: SocketAddr, first: Option<&[u8]>, then: &[u8], trickled: bool) -> Result<Duration> {
    let mut wire = Wire::open(ingest).await?;
    if let Some(first) = first {
        wire.say(first).await?;
        wire.answer().await?;
    }
    wire.say(then).await?;
    let (mut hears, mut says) = wire.stream.into_split();
    let talking = tokio::spawn(async move {
        let mut pace = interval(Duration::from_millis(100));
        while trickled && says.write_all(b"x").await.is_ok() {
            pace.tick().await;
        }
        says
    });
    let since = Instant::now();
    // Whatever it is, it ends by the other side's doing: a reset counts.
    let mut said = Vec::new();
    let ended = timeout(HEAD_TIMEOUT + SLACK, hears.read_to_end(&mut said)).await;
    talking.abort();
    let _reset = ended.with_context(|| format!("still open, first {first:?}, trickled {trickled}"))?;
    Ok(since.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_connection_is_held_by_half_a_head() -> TestResult {
    let stage = Stage::set().await?;
    let ingest = stage.ingest()?.start().await?;
    let public = ingest.public();
    let mut clients = JoinSet::new();
    for number in 0..300 {
        clients.spawn(async move {
            let long = format!("{HALF_A_HEAD}\r\nX: {}", "x".repeat(30_000));
            let chunked = "POST / HTTP/1.1\r\nHost: ingest\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
            match number % 6 {
                0 => lives(public, Some(GET.as_bytes()), HALF_A_HEAD.as_bytes(), false).await,
                1 => lives(public, Some(&callback()), long.as_bytes(), false).await,
                2 => lives(public, Some(GET.as_bytes()), b"P", true).await,
                // Together with the request before it.
                3 => lives(public, None, &[&callback(), HALF_A_HEAD.as_bytes()].concat(), false).await,
                4 => lives(public, Some(GET.as_bytes()), &[GET, GET, HALF_A_HEAD].concat().into_bytes(), false).await,
                _ => lives(public, None, &[chunked, HALF_A_HEAD].concat().into_bytes(), false).await,
            }
        });
    }
    while let Some(lived) = clients.join_next().await {
        lived??;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_heads_slow_bodies_and_pauses_are_none_the_worse() -> TestResult {
    let stage = Stage::set().await?;
    let ingest = stage.ingest()?.start().await?;
    let body = Callback::payment("o").body();
    let mut idle = Wire::open(ingest.public()).await?;
    idle.say(callback()).await?;
    assert_eq!(idle.answer().await?.status, 200);
    let paused = Instant::now();

    // Two at once, and a third in two halves.
    let mut pipelined = Wire::open(ingest.public()).await?;
    pipelined.say([callback(), callback()].concat()).await?;
    let mut said = Vec::new();
    while said.windows(12).filter(|window| *window == b"HTTP/1.1 200").count() < 2 || !said.ends_with(b"</xml>") {
        let read = pipelined.stream.read_buf(&mut said).await?;
        assert!(read > 0, "{:?}", String::from_utf8_lossy(&said));
    }
    let third = callback();
    pipelined.say(&third[..20]).await?;
    pipelined.say(&third[20..]).await?;
    assert_eq!(pipelined.answer().await?.status, 200);

    // The body of a later request is slow, and its head came in pieces.
    let mut slow = Wire::open(ingest.public()).await?;
    slow.say(GET).await?;
    slow.answer().await?;
    let mut pace = interval(Duration::from_millis(50));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let head = format!("POST /wechatpay/v2/payment HTTP/1.1\r\nHost: i\r\nContent-Length: {}\r\n\r\n", body.len());
    for piece in head.as_bytes().chunks(20).chain(body.chunks(100)) {
        pace.tick().await;
        slow.say(piece).await?;
    }
    assert_eq!(slow.answer().await?.status, 200);

    // Longer than a head may take.
    sleep_until(paused + HEAD_TIMEOUT + Duration::from_secs(2)).await;
    for _ in 0..2 {
        idle.say(callback()).await?;
        assert_eq!(idle.answer().await?.status, 200);
    }
    Ok(())
}

#[tokio::test]
async fn a_chunked_callback_is_taken_and_its_connection_closed() -> TestResult {
    let stage = Stage::set().await?;
    let ingest = stage.ingest()?.start().await?;
    let body = String::from_utf8(Callback::payment("o").body())?;
    let mut stream = TcpStream::connect(ingest.public()).await?;
    let head = "POST /wechatpay/v2/payment HTTP/1.1\r\nHost: i\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).as_bytes()).await?;
    let mut said = String::new();
    timeout(SLACK, stream.read_to_string(&mut said)).await??;
    assert!(said.starts_with("HTTP/1.1 200 ") && said.to_lowercase().contains("connection: close"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_not_read_from_and_hung_up_on() -> TestResult {
    const PIPELINED: usize = 20_000;
    let stage = Stage::set().await?;
    let ingest = stage.ingest()?.start().await?;
    let requests = GET.repeat(PIPELINED);

    // A slow reader has every answer.
    let mut wire = Wire::open(ingest.public()).await?;
    wire.say(GET).await?;
    let mut answer = vec![0; 1024];
    let length = wire.stream.read(&mut answer).await?;
    let (mut hears, mut says) = wire.stream.into_split();
    let all = requests.clone();
    let talking = tokio::spawn(async move { says.write_all(all.as_bytes()).await.map(|()| says) });
    let (mut left, mut buffer) = (PIPELINED * length, vec![0; 64 * 1024]);
    let mut pace = interval(Duration::from_millis(10));
    while left > 0 {
        pace.tick().await;
        let read = timeout(SLACK, hears.read(&mut buffer)).await.with_context(|| format!("{left} bytes left"))??;
        assert!(read > 0, "hung up with {left} bytes left");
        left = left.checked_sub(read).context("more than was asked for")?;
    }
    talking.await??;

    // One that does not read at all is hung up on, and has not filled the memory before.
    let before = resident_kib(ingest.pid())?;
    let mut deaf = TcpStream::connect(ingest.public()).await?;
    let since = Instant::now();
    while timeout(HEAD_TIMEOUT + SLACK, deaf.write_all(requests.as_bytes())).await?.is_ok() {
        assert!(since.elapsed() < HEAD_TIMEOUT + SLACK, "still taking");
    }
    let grown = resident_kib(ingest.pid())?.saturating_sub(before);
    assert!(grown < 10 * 1024, "{grown} KiB more");
    Ok(())
}

fn resident_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
