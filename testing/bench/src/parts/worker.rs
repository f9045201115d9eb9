//! A backlog of distinct payments drained by one worker, compared with pgbench on the same server in the same rounds.

use anyhow::Result;

use super::progress;
use crate::config::Options;
use crate::figures::Figures;
use crate::limits::pgbench;
use crate::requests::Requests;
use crate::scene::Scene;

pub(super) async fn run(options: &Options, figures: &mut Figures) -> Result<()> {
    let scene = Scene::start().await?;
    let requests = Requests::payments("worker", options.backlog());
    for round in 1..=options.rounds {
        progress(&format!("worker, round {round} of {}", options.rounds));
        scene.clear().await?;
        scene.open_orders(&requests).await?;
        scene.enqueue(&requests, requests.len()).await?;
        let drained = scene.drain(1, |worker| worker, requests.len()).await?;
        let worker = drained.per_second;
        figures.add_processor_time("worker", drained.processor_time);
        figures.add("disk_bytes_per_callback", scene.bytes_on_disk().await? / requests.len() as f64);
        let limits = pgbench::measure(&scene, &requests, options.window() / 2).await?;
        figures.add("worker_per_second", worker);
        figures.add("pgbench_one_by_one_per_second", limits.one_by_one);
        figures.add("pgbench_in_sets_per_second", limits.in_sets);
        figures.add("worker_of_pgbench", worker / limits.one_by_one);
        figures.add("worker_of_set_limit", worker / limits.in_sets);
    }
    Ok(())
}
