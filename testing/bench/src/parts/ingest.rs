//! Callbacks answered SUCCESS per second, and how soon, compared with what the server or the broker can do alone. All share
//! the cores, so that the bound of both in a row is `1 / (1/A + 1/B)`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use kit::ports::free_address;
use tokio::time::sleep;

use super::progress;
use crate::config::Options;
use crate::figures::Figures;
use crate::generator::{Until, flat_out, on_schedule};
use crate::limits::bare_publisher;
use crate::process::{ProcessorTime, peak_resident_mb, resident_mb, serve};
use crate::requests::Requests;
use crate::scene::Scene;

/// Ingest remembers nothing, so that the same callbacks can come again.
const REQUESTS: usize = 20_000;
const CONNECTIONS: [usize; 3] = [16, 64, 256];
/// On a schedule connections are only what a burst needs.
const CONNECTIONS_ON_SCHEDULE: usize = 256;

/// How long the broker is left alone before a latency is measured.
const SETTLE: Duration = Duration::from_secs(1);

/// What each measurement of this part needs.
struct Bench<'a> {
    options: &'a Options,
    scene: Scene,
    requests: Requests,
    ingest: SocketAddr,
    verifying: SocketAddr,
}

pub(super) async fn run(options: &Options, figures: &mut Figures) -> Result<()> {
    let scene = Scene::start().await?;
    let ingest = scene.env.start_ingest().await?;
    figures.add("rss_ingest_idle_mb", resident_mb(ingest.pid())?);
    let verifying = free_address()?;
    let merchants = scene.env.merchants.path().to_str().context("a path that is not UTF-8")?;
    let _server = serve("verifying-server", verifying, &["--merchants", merchants], &[]).await?;
    let requests = Requests::payments("ingest", REQUESTS);
    let bench = Bench { options, scene, requests, ingest: ingest.public(), verifying };
    let connections: &[usize] = if options.quick { &CONNECTIONS[1..] } else { &CONNECTIONS };

    for round in 1..=options.rounds {
        progress(&format!("ingest, round {round} of {}", options.rounds));
        let mut flat = 0.0;
        for connections in connections {
            flat = bench.compare_with_bound(figures, *connections).await?;
        }
        bench.answer_at_half_load(figures, flat / 2.0).await?;
    }
    figures.add("rss_ingest_mb", peak_resident_mb(ingest.pid())?);
    Ok(())
}

impl Bench<'_> {
    /// Flat out; gives SUCCESS a second.
    async fn compare_with_bound(&self, figures: &mut Figures, connections: usize) -> Result<f64> {
        let window = Until::Elapsed(self.options.window());
        let verified = flat_out(self.verifying, &self.requests, connections, window).await?;
        let before = ProcessorTime::now()?;
        let answered = flat_out(self.ingest, &self.requests, connections, window).await?;
        let after = ProcessorTime::now()?;
        self.scene.purge().await?;
        let amqp = self.scene.env.broker.ingest_url();
        let confirmed = bare_publisher::measure(&amqp, connections, self.options.window(), None).await?;
        self.scene.purge().await?;

        let bound = 1.0 / (1.0 / verified.per_second() + 1.0 / confirmed.per_second);
        let mut add = |what: &str, value| figures.add(format!("ingest_{connections}_{what}"), value);
        add("per_second", answered.per_second());
        add("verified_per_second", verified.per_second());
        add("confirmed_per_second", confirmed.per_second);
        add("of_bound", answered.per_second() / bound);
        add("answer_p99_ms", answered.latencies.ms(990));
        figures.add_processor_time(&format!("ingest_{connections}"), after.since(&before, answered.answers.len()));
        Ok(answered.per_second())
    }

    /// How soon the answer comes on a schedule, and how soon a bare confirm does.
    async fn answer_at_half_load(&self, figures: &mut Figures, rate: f64) -> Result<()> {
        // After a flat-out run the broker has its segments to write.
        sleep(SETTLE).await;
        let count = (rate * self.options.window().as_secs_f64()) as usize;
        let answered = on_schedule(self.ingest, &self.requests, CONNECTIONS_ON_SCHEDULE, rate, count).await?;
        self.scene.purge().await?;
        let amqp = self.scene.env.broker.ingest_url();
        let window = self.options.window();
        sleep(SETTLE).await;
        let confirmed = bare_publisher::measure(&amqp, CONNECTIONS_ON_SCHEDULE, window, Some(rate)).await?;
        self.scene.purge().await?;
        figures.add("answer_p50_ms_half", answered.latencies.ms(500));
        figures.add("answer_p99_ms_half", answered.latencies.ms(990));
        figures.add("confirm_p99_ms_half", confirmed.p99_ms);
        figures.add("answer_p99_of_confirm_p99_half", answered.latencies.ms(990) / confirmed.p99_ms);
        Ok(())
    }
}
