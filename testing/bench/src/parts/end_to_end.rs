//! From the callback to the paid order, with everything on the same cores: flat out, and on a schedule, where the time to
//! the answer counts from the moment at which the callback was due. Compared with the synchronous handler, in the same rounds.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use kit::http;
use kit::ports::free_address;
use kit::program::Program;

use super::progress;
use crate::config::Options;
use crate::figures::Figures;
use crate::generator::{Sent, Until, flat_out, on_schedule};
use crate::process::{ProcessorTime, peak_resident_mb, serve};
use crate::requests::Requests;
use crate::scene::{Scene, stop, until_handled};
use crate::scheduled::{self, Seen};

const CONNECTIONS: usize = 256;
/// Database sessions of each of the synchronous handler's threads: more made it no faster.
const SESSIONS: &str = "16";
/// This many connections reach every thread of a server.
const CONNECTIONS_TO_WARM_UP: usize = 64;
/// One callback at a time, each long over when the next one comes.
const IDLE_PER_SECOND: f64 = 20.0;
const IDLE_COUNT: usize = 60;
/// Both are asked for as much as this of what the synchronous handler can do.
const EQUAL_LOAD: f64 = 0.8;

/// What each measurement of this part needs.
struct Bench<'a> {
    options: &'a Options,
    scene: Scene,
    ingest: SocketAddr,
    worker: [Program; 1],
    /// Handled since the worker started.
    handled: usize,
}

pub(super) async fn run(options: &Options, figures: &mut Figures) -> Result<()> {
    let scene = Scene::start().await?;
    let (ingest, worker) = (scene.env.start_ingest().await?, [scene.env.start_worker().await?]);
    let mut bench = Bench { options, scene, ingest: ingest.public(), worker, handled: 0 };
    let requests = Requests::payments("flat", options.backlog() / 2);
    for round in 1..=options.rounds {
        progress(&format!("end to end, round {round} of {}", options.rounds));
        let synchronous = bench.synchronous_flat_out(&requests).await?;
        let flat = bench.flat_out(figures, &requests).await?;
        figures.add("synchronous_per_second", synchronous);
        figures.add("end_to_end_per_second", flat);
        figures.add("end_to_end_of_synchronous", flat / synchronous);

        let equal = synchronous * EQUAL_LOAD;
        let ours = bench.on_schedule(figures, "equal", equal).await?;
        let theirs = bench.synchronous_on_schedule(equal).await?;
        figures.add("synchronous_answer_p99_ms_equal", theirs);
        figures.add("answer_p99_of_synchronous_equal", ours / theirs);
        bench.idle(figures).await?;
        bench.on_schedule(figures, "half", flat * 0.5).await?;
        if !options.quick {
            bench.on_schedule(figures, "tenth", flat * 0.1).await?;
            bench.on_schedule(figures, "four_fifths", flat * 0.8).await?;
        }
    }
    figures.add("rss_worker_mb", peak_resident_mb(bench.worker[0].pid())?);
    stop([ingest].into_iter().chain(bench.worker)).await
}

impl Bench<'_> {
    /// Orders paid a second, from the first callback to the last commit.
    async fn flat_out(&mut self, figures: &mut Figures, requests: &Requests) -> Result<f64> {
        self.prepare(requests).await?;
        let before = ProcessorTime::now()?;
        let sent = flat_out(self.ingest, requests, CONNECTIONS, Until::Sent(requests.len())).await?;
        until_handled(&mut self.worker, self.handled + requests.len()).await?;
        let per_second = || requests.len() as f64 / sent.started.elapsed().as_secs_f64();
        let paid = per_second();
        self.scene.until_told().await?;
        let told = per_second();
        figures.add_processor_time("end_to_end", ProcessorTime::now()?.since(&before, requests.len()));
        self.handled += requests.len();
        figures.add("end_to_end_answered_per_second", sent.per_second());
        figures.add("end_to_end_told_per_second", told);
        Ok(paid)
    }

    /// Gives the p99 of the answer.
    async fn on_schedule(&mut self, figures: &mut Figures, load: &str, rate: f64) -> Result<f64> {
        let count = ((rate * self.options.window().as_secs_f64()) as usize).max(1);
        let seen = self.measure(load, CONNECTIONS, rate, count).await?;
        figures.add(format!("rate_{load}_per_second"), rate);
        for (name, per_mille) in [("p50", 500), ("p99", 990), ("p999", 999)] {
            figures.add(format!("end_to_end_answer_{name}_ms_{load}"), seen.answered.ms(per_mille));
            figures.add(format!("paid_{name}_ms_{load}"), seen.paid.ms(per_mille));
            figures.add(format!("told_{name}_ms_{load}"), seen.told.ms(per_mille));
        }
        Ok(seen.answered.ms(990))
    }

    async fn idle(&mut self, figures: &mut Figures) -> Result<()> {
        let seen = self.measure("idle", 1, IDLE_PER_SECOND, IDLE_COUNT).await?;
        figures.add("end_to_end_answer_p50_ms_idle", seen.answered.ms(500));
        figures.add("paid_p50_ms_idle", seen.paid.ms(500));
        figures.add("told_p50_ms_idle", seen.told.ms(500));
        Ok(())
    }

    async fn measure(&mut self, load: &str, connections: usize, rate: f64, count: usize) -> Result<Seen> {
        let requests = Requests::payments(load, count);
        self.prepare(&requests).await?;
        self.handled += count;
        scheduled::run(&self.scene, self.ingest, &requests, connections, rate).await
    }

    async fn prepare(&self, requests: &Requests) -> Result<()> {
        self.scene.clear().await?;
        self.scene.open_orders(requests).await
    }

    /// Orders paid a second by the synchronous handler, from the first callback to the last answer.
    async fn synchronous_flat_out(&self, requests: &Requests) -> Result<f64> {
        // It is slower: about as long as ours takes for all.
        let until = Until::Sent(requests.len() / 2);
        let load = async |address| flat_out(address, requests, CONNECTIONS, until).await;
        Ok(self.synchronous(requests, load).await?.per_second())
    }

    /// p99 of its answer.
    async fn synchronous_on_schedule(&self, rate: f64) -> Result<f64> {
        let count = (rate * self.options.window().as_secs_f64()) as usize;
        let requests = Requests::payments("equal", count);
        let load = async |address| on_schedule(address, &requests, CONNECTIONS, rate, count).await;
        Ok(self.synchronous(&requests, load).await?.latencies.ms(990))
    }

    async fn synchronous(
        &self,
        requests: &Requests,
        load: impl AsyncFnOnce(SocketAddr) -> Result<Sent>,
    ) -> Result<Sent> {
        self.prepare(requests).await?;
        let address = free_address()?;
        let database = self.scene.env.database.url();
        let merchants = self.scene.env.merchants.path().to_str().context("a path that is not UTF-8")?;
        let arguments = ["--merchants", merchants, "--sessions", SESSIONS];
        let mut server = serve("synchronous", address, &arguments, &[("DATABASE_URL", database.as_str())]).await?;
        warm_up(address).await?;
        let sent = load(address).await?;
        server.kill().await?;
        Ok(sent)
    }
}

/// Each of the server's threads takes connections in turn, and answers once its sessions are open: their opening is not to
/// count against it.
async fn warm_up(address: SocketAddr) -> Result<()> {
    for _ in 0..CONNECTIONS_TO_WARM_UP {
        http::get(address, "/").await?;
    }
    Ok(())
}
