//! The worker's rate by what an operator can choose (lanes, workers, batch), and by what WeChat Pay does (repeats).

use anyhow::Result;

use super::progress;
use crate::config::Options;
use crate::figures::Figures;
use crate::requests::Requests;
use crate::scene::Scene;

/// What differs from the worker's defaults (2 lanes, batches of 1024), one worker and no repeats, which come first.
const LANES: [&str; 2] = ["1", "4"];
const WORKERS: [usize; 2] = [2, 3];
const BATCHES: [&str; 4] = ["1", "16", "64", "256"];
/// Of 100 callbacks, this many are repeats.
const REPEATS: [usize; 2] = [50, 95];
/// In batches of one a backlog takes long.
const SLOW_BACKLOG: usize = 20;

pub(super) async fn run(options: &Options, figures: &mut Figures) -> Result<()> {
    let scene = Scene::start().await?;
    let (whole, count) = (Requests::payments("shapes", options.backlog()), options.backlog());
    let few = Requests::payments("few", count / SLOW_BACKLOG);
    for round in 1..=options.rounds {
        progress(&format!("shapes, round {round} of {}", options.rounds));
        prepare(&scene, &whole, count).await?;
        figures.add("worker_default_per_second", scene.drain(1, |worker| worker, count).await?.per_second);
        for lanes in LANES {
            prepare(&scene, &whole, count).await?;
            let rate = scene.drain(1, |worker| worker.env("WORKER_LANES", lanes), count).await?.per_second;
            figures.add(format!("worker_{lanes}_lanes_per_second"), rate);
        }
        for workers in WORKERS {
            prepare(&scene, &whole, count).await?;
            let rate = scene.drain(workers, |worker| worker, count).await?.per_second;
            figures.add(format!("worker_{workers}_workers_per_second"), rate);
        }
        for batch in BATCHES {
            let requests = if batch == "1" { &few } else { &whole };
            prepare(&scene, requests, requests.len()).await?;
            let rate = scene.drain(1, |worker| worker.env("WORKER_BATCH_MAX", batch), requests.len()).await?.per_second;
            figures.add(format!("worker_batch_{batch}_per_second"), rate);
        }
        for repeats in REPEATS {
            let distinct = Requests::payments("repeats", count * (100 - repeats) / 100);
            prepare(&scene, &distinct, count).await?;
            let rate = scene.drain(1, |worker| worker, count).await?.per_second;
            figures.add(format!("worker_{repeats}_percent_repeats_per_second"), rate);
        }
    }
    Ok(())
}

async fn prepare(scene: &Scene, requests: &Requests, count: usize) -> Result<()> {
    scene.clear().await?;
    scene.open_orders(requests).await?;
    scene.enqueue(requests, count).await
}
