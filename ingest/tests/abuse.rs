//! Whoever wants ingest to stand still: forgers, clients that dribble, crowds of idle connections, more than it can take.
//! Honest callbacks are answered all the same, and memory stays bounded. Prints what it cost.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail like tests")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kit::TestResult;
use kit::broker::Broker;
use kit::callback::Callback;
use kit::merchants::MerchantsFile;
use kit::post::Post;
use kit::program::{Launch, Program};
use kit::servers::Servers;
use kit::v3::Event;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

/// Honest callbacks a second.
const HONEST_PER_SECOND: u64 = 40;
/// How long honest callbacks are measured at a time.
const MEASURED: Duration = Duration::from_secs(4);
/// WeChat Pay waits five seconds; whatever is done to ingest, honest callbacks are answered well before.
const HONEST_P99_MAX: Duration = Duration::from_secs(2);
/// A hundred thousand bodies would not fit.
const RSS_MIB_MAX: u64 = 400;

struct Stage {
    _broker: Broker,
    _merchants: MerchantsFile,
    ingest: Program,
}

impl Stage {
    async fn set(variables: &[(&str, &str)]) -> Result<Self> {
        let broker = Broker::create(&Servers::from_environment()?).await?;
        let merchants = MerchantsFile::write()?;
        let launch = Launch::ingest(broker.ingest_url().as_str(), merchants.path())?;
        let launch = variables.iter().fold(launch, |launch, (name, value)| launch.env(name, value));
        Ok(Self { ingest: launch.start().await?, _broker: broker, _merchants: merchants })
    }
}

/// A kept connection over which callbacks are posted one after another.
struct Client {
    ingest: SocketAddr,
    stream: Option<TcpStream>,
}

impl Client {
    fn of(ingest: SocketAddr) -> Self {
        Self { ingest, stream: None }
    }

    /// The status of the answer; the connection is opened again when the last answer closed it.
    async fn post(&mut self, request: &[u8]) -> Result<u16> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => TcpStream::connect(self.ingest).await?,
        };
        stream.write_all(request).await?;
        let mut answer = Vec::with_capacity(512);
        let head_end = loop {
            ensure!(stream.read_buf(&mut answer).await? > 0, "hung up");
            if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = String::from_utf8_lossy(&answer[..head_end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).context("no length")?;
        let end = head_end + length.trim().parse::<usize>()?;
        while answer.len() < end {
            ensure!(stream.read_buf(&mut answer).await? > 0, "hung up in the body");
        }
        if !head.contains("connection: close") {
            self.stream = Some(stream);
        }
        head.split(' ').nth(1).context("no status")?.parse().context("an odd status")
    }
}

/// A callback as bytes on the wire.
fn request(callback: impl Into<Post>) -> Vec<u8> {
    let Post { path, content_type, headers, body, .. } = callback.into();
    let headers: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: i\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n");
    [head.as_bytes(), headers.concat().as_bytes(), b"\r\n", &body].concat()
}

/// What honest callbacks see at a fixed rate, from the moment each was due.
#[derive(Debug)]
struct Seen {
    p50: Duration,
    p99: Duration,
    worst: Duration,
}

/// Sends honest callbacks by turns of both APIs; every single one must be told SUCCESS.
async fn honest(ingest: SocketAddr) -> Result<Seen> {
    let mut pace = interval(Duration::from_millis(1000 / HONEST_PER_SECOND));
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut answers = JoinSet::new();
    let begun = Instant::now();
    for number in 0_u32.. {
        let due = pace.tick().await;
        if begun.elapsed() > MEASURED {
            break;
        }
        answers.spawn(async move {
            let order = format!("order-{number}");
            let bytes = if number % 2 == 0 {
                request(Callback::payment(&order).body())
            } else {
                request(&Event::payment(&order))
            };
            let status = Client::of(ingest).post(&bytes).await?;
            ensure!(status == 200, "an honest callback was answered {status}");
            Ok(due.elapsed())
        });
    }
    let mut latencies = Vec::new();
    while let Some(answer) = answers.join_next().await {
        latencies.push(answer??);
    }
    latencies.sort_unstable();
    let at = |percent: usize| latencies[(latencies.len() * percent / 100).min(latencies.len() - 1)];
    Ok(Seen { p50: at(50), p99: at(99), worst: at(100) })
}

/// Runs `abuse` by `clients` at the same time, with honest callbacks beside it; gives how often it was tried.
async fn beside<F, A>(ingest: SocketAddr, clients: usize, abuse: A) -> Result<(Seen, usize)>
where
    A: Fn(Arc<AtomicBool>, Arc<AtomicUsize>) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let (stop, tried) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut abusers = JoinSet::new();
    for _ in 0..clients {
        abusers.spawn(abuse(Arc::clone(&stop), Arc::clone(&tried)));
    }
    sleep(Duration::from_millis(500)).await;
    tried.store(0, Ordering::Relaxed);
    let seen = honest(ingest).await;
    let tried = tried.load(Ordering::Relaxed);
    stop.store(true, Ordering::Relaxed);
    abusers.abort_all();
    Ok((seen?, tried))
}

fn rss_mib(program: &Program) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
}

#[track_caller]
fn assert_bearable(what: &str, before: &Seen, seen: &Seen, ingest: &Program) {
    let rss = rss_mib(ingest).unwrap();
    println!(
        "{what}: honest p50 {:?}, p99 {:?}, worst {:?}; alone {before:?}; ingest has {rss} MiB",
        seen.p50, seen.p99, seen.worst
    );
    assert!(seen.p99 < HONEST_P99_MAX, "{what}: {seen:?}");
    assert!(rss < RSS_MIB_MAX, "{what}: {rss} MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_forgeries_for_each_genuine_callback_starve_none() -> TestResult {
    let stage = Stage::set(&[]).await?;
    let ingest = stage.ingest.public();
    let before = honest(ingest).await?;
    // The dearest forgery: right in everything but the signature.
    let mut forged = Event::payment("o").post();
    forged.body.push(b' ');
    let forged = Arc::new(request(forged));
    let (seen, tried) = beside(ingest, 64, |stop, tried| {
        let forged = Arc::clone(&forged);
        async move {
            let mut client = Client::of(ingest);
            // 64 clients, together 60 times the honest rate.
            let mut pace = interval(Duration::from_micros(64 * 1_000_000 / (60 * HONEST_PER_SECOND)));
            while !stop.load(Ordering::Relaxed) {
                pace.tick().await;
                if matches!(client.post(&forged).await, Ok(401)) {
                    tried.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    })
    .await?;
    let rate = u64::try_from(tried)? / MEASURED.as_secs();
    assert!(rate >= 50 * HONEST_PER_SECOND, "only {rate} forgeries a second");
    assert_bearable(&format!("{rate} forgeries/s beside {HONEST_PER_SECOND} honest/s"), &before, &seen, &stage.ingest);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_endless_clients_delay_no_others() -> TestResult {
    let stage = Stage::set(&[]).await?;
    let ingest = stage.ingest.public();
    let before = honest(ingest).await?;
    let (seen, tried) = beside(ingest, 600, |stop, tried| async move {
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let Ok(mut stream) = TcpStream::connect(ingest).await else { continue };
            tried.fetch_add(1, Ordering::Relaxed);
            let head = "POST /wechatpay/v2/payment HTTP/1.1\r\nHost: i\r\n";
            let opening = match number % 3 {
                0 => head.to_owned(),
                1 => format!("{head}Content-Length: 60000\r\n\r\n"),
                _ => format!("{head}Transfer-Encoding: chunked\r\n\r\n"),
            };
            let _ = stream.write_all(opening.as_bytes()).await;
            // A byte of a head, of a body, or a whole chunk of an endless one, until ingest hangs up.
            let morsel = if number % 3 == 2 { format!("800\r\n{}\r\n", "x".repeat(0x800)) } else { "x".to_owned() };
            while stream.write_all(morsel.as_bytes()).await.is_ok() {
                sleep(Duration::from_millis(100)).await;
            }
        }
    })
    .await?;
    assert_bearable(&format!("600 clients that dribble ({tried} connections)"), &before, &seen, &stage.ingest);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_connections_cost_little() -> TestResult {
    const IDLE: usize = 10_000;
    let stage = Stage::set(&[]).await?;
    let ingest = stage.ingest.public();
    let before = honest(ingest).await?;
    let mut idle = Vec::with_capacity(IDLE);
    let valid = request(Callback::payment("o").body());
    for number in 0..IDLE {
        let mut client = Client::of(ingest);
        if number % 100 == 0 {
            // Some have been used before.
            assert_eq!(client.post(&valid).await?, 200);
            idle.extend(client.stream);
        } else {
            idle.push(timeout(Duration::from_secs(5), TcpStream::connect(ingest)).await??);
        }
    }
    let seen = honest(ingest).await?;
    assert_bearable(&format!("{} idle connections", idle.len()), &before, &seen, &stage.ingest);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn excess_load_is_shed_and_accepted_callbacks_stay_fast() -> TestResult {
    let stage = Stage::set(&[("IN_FLIGHT_MAX", "64")]).await?;
    let ingest = stage.ingest.public();
    let accepted = Arc::new(std::sync::Mutex::new(Vec::new()));
    let shed = Arc::new(AtomicUsize::new(0));
    let mut crowd = JoinSet::new();
    let begun = Instant::now();
    // Three times as many at once as are taken, none of which waits between two callbacks.
    for client in 0..192 {
        let (accepted, shed) = (Arc::clone(&accepted), Arc::clone(&shed));
        crowd.spawn(async move {
            let bytes = request(Callback::payment(&format!("order-{client}")).body());
            let mut client = Client::of(ingest);
            while begun.elapsed() < MEASURED {
                let since = Instant::now();
                match client.post(&bytes).await? {
                    200 => accepted.lock().unwrap().push(since.elapsed()),
                    503 => _ = shed.fetch_add(1, Ordering::Relaxed),
                    other => anyhow::bail!("answered {other}"),
                }
            }
            Ok(())
        });
    }
    while let Some(client) = crowd.join_next().await {
        client??;
    }
    let mut accepted = std::mem::take(&mut *accepted.lock().unwrap());
    accepted.sort_unstable();
    let shed = shed.load(Ordering::Relaxed);
    let p99 = accepted[accepted.len() * 99 / 100];
    println!("192 at once where 64 are taken: {} accepted, p99 {p99:?}; {shed} shed", accepted.len());
    assert!(shed > 0, "nothing was shed");
    assert!(accepted.len() > 100 && p99 < HONEST_P99_MAX, "{} accepted, p99 {p99:?}", accepted.len());
    assert_eq!(stage.ingest.metric("ingest_callbacks_total", &["outcome=\"overloaded\""]).await?, u64::try_from(shed)?);
    Ok(())
}
