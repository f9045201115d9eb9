//! Sends requests over keep-alive connections: flat out, each connection as fast as its answers come, or on a schedule
//! that waits for no answer. On a schedule a latency counts from the moment at which the request was due.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::try_join_all;
use kit::latencies::Latencies;
use kit::pace::{DueRequests, emit_when_due};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::requests::Requests;

/// An answer of ingest's has some 200 bytes.
const ANSWER_BYTES: usize = 1024;

/// What came of the requests, which were all answered SUCCESS.
#[derive(Debug)]
pub struct Sent {
    /// When each was answered SUCCESS, by its number.
    pub answers: Vec<(usize, Instant)>,
    /// When the first was sent: all connections were open.
    pub started: Instant,
    /// From then to the last answer.
    pub elapsed: Duration,
    pub latencies: Latencies,
}

impl Sent {
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.answers.len() as f64 / self.elapsed.as_secs_f64()
    }
}

/// When a flat-out run ends.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// After this time; the requests are sent again from the start.
    Elapsed(Duration),
    /// After this many requests.
    Sent(usize),
}

/// Flat out: `connections` requests are in flight.
pub async fn flat_out(address: SocketAddr, requests: &Requests, connections: usize, until: Until) -> Result<Sent> {
    let lines = open(address, connections).await?;
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let tasks = lines.into_iter().map(|line| {
        let (requests, next) = (requests.clone(), Arc::clone(&next));
        tokio::spawn(send_without_pause(line, requests, next, started, until))
    });
    collect(started, try_join_all(tasks).await?)
}

async fn send_without_pause(
    mut line: Line,
    requests: Requests,
    next: Arc<AtomicUsize>,
    started: Instant,
    until: Until,
) -> Result<Tally> {
    let mut tally = Tally::default();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let is_over = match until {
            Until::Elapsed(limit) => started.elapsed() >= limit,
            Until::Sent(count) => number >= count,
        };
        if is_over {
            return Ok(tally);
        }
        let since = Instant::now();
        line.ask(requests.get(number)).await?;
        tally.note(number, since);
    }
}

/// `per_second` requests a second, `count` of them, over `connections` connections, which take turns.
pub async fn on_schedule(
    address: SocketAddr,
    requests: &Requests,
    connections: usize,
    per_second: f64,
    count: usize,
) -> Result<Sent> {
    let lines = open(address, connections).await?;
    let started = Instant::now();
    let due = Arc::new(Mutex::new(emit_when_due(started, interval(per_second), count)));
    let tasks = lines.into_iter().map(|line| tokio::spawn(send_when_due(line, requests.clone(), Arc::clone(&due))));
    collect(started, try_join_all(tasks).await?)
}

async fn send_when_due(mut line: Line, requests: Requests, due: Arc<Mutex<DueRequests>>) -> Result<Tally> {
    let mut tally = Tally::default();
    loop {
        let next = due.lock().await.recv().await;
        let Some((number, since)) = next else { return Ok(tally) };
        line.ask(requests.get(number)).await?;
        tally.note(number, since);
    }
}

/// The time between two requests.
#[must_use]
pub fn interval(per_second: f64) -> Duration {
    Duration::from_secs_f64(1.0 / per_second)
}

async fn open(address: SocketAddr, connections: usize) -> Result<Vec<Line>> {
    try_join_all((0..connections).map(|_| Line::open(address))).await
}

fn collect(started: Instant, tallies: Vec<Result<Tally>>) -> Result<Sent> {
    let elapsed = started.elapsed();
    let mut sent = Sent { answers: Vec::new(), started, elapsed, latencies: Latencies::default() };
    for tally in tallies {
        let mut tally = tally?;
        sent.answers.append(&mut tally.answers);
        sent.latencies.append(tally.latencies);
    }
    Ok(sent)
}

/// What one connection saw.
#[derive(Default)]
struct Tally {
    answers: Vec<(usize, Instant)>,
    latencies: Latencies,
}

impl Tally {
    fn note(&mut self, number: usize, since: Instant) {
        let now = Instant::now();
        self.answers.push((number, now));
        self.latencies.record(now.duration_since(since));
    }
}

/// A keep-alive connection that writes ready-made bytes. [`kit::http`] would build and parse every request on the cores
/// that are shared with what is measured, so the generator would limit the rate.
struct Line {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Line {
    async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, answer: Vec::with_capacity(ANSWER_BYTES) })
    }

    /// Sends one request and reads its answer, which must be SUCCESS.
    async fn ask(&mut self, request: &[u8]) -> Result<()> {
        self.stream.write_all(request).await?;
        self.answer.clear();
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                bail!("the server hung up");
            }
            if let Some((head, body)) = whole(&self.answer) {
                let is_success = head.starts_with(b"HTTP/1.1 200") && find(body, b"SUCCESS").is_some();
                ensure!(is_success, "a callback was answered {}", String::from_utf8_lossy(&self.answer));
                return Ok(());
            }
        }
    }
}

/// Head and body of an answer that is there completely.
fn whole(answer: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = find(answer, b"\r\n\r\n")?;
    let (head, body) = answer.split_at_checked(end + 4)?;
    let length = find(head, b"content-length: ")?;
    let digits = head.get(length + 16..)?.split(|byte| *byte == b'\r').next()?;
    let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (body.len() >= length).then_some((head, body))
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\ndate: x\r\n\r\nSUCCESS";
        assert!(whole(answer).is_some_and(|(_, body)| body == b"SUCCESS"));
        assert!(whole(&answer[..answer.len() - 1]).is_none());
        assert!(whole(b"HTTP/1.1 200 OK\r\n").is_none());
    }
}
