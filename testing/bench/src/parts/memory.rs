//! Resident memory of both programs over a million callbacks.

use anyhow::Result;

use super::progress;
use crate::figures::Figures;
use crate::generator::{Until, flat_out};
use crate::process::{peak_resident_mb, resident_mb};
use crate::requests::Requests;
use crate::scene::{Scene, stop, until_handled};

const CALLBACKS: usize = 1_000_000;
const STEPS: usize = 10;
const CONNECTIONS: usize = 256;

pub(super) async fn run(figures: &mut Figures) -> Result<()> {
    let scene = Scene::start().await?;
    let (ingest, mut worker) = (scene.env.start_ingest().await?, [scene.env.start_worker().await?]);
    figures.add("rss_worker_idle_mb", resident_mb(worker[0].pid())?);
    for step in 1..=STEPS {
        scene.clear().await?;
        let requests = Requests::payments(&format!("memory-{step}"), CALLBACKS / STEPS);
        scene.open_orders(&requests).await?;
        flat_out(ingest.public(), &requests, CONNECTIONS, Until::Sent(requests.len())).await?;
        let sent = step * requests.len();
        until_handled(&mut worker, sent).await?;
        scene.until_told().await?;
        let (ingest_mb, worker_mb) = (resident_mb(ingest.pid())?, resident_mb(worker[0].pid())?);
        progress(&format!("{sent} callbacks: ingest {ingest_mb:.0} MB, worker {worker_mb:.0} MB"));
        if step == 1 || step == STEPS {
            let after = if step == 1 { "100k" } else { "1m" };
            figures.add(format!("rss_ingest_after_{after}_mb"), ingest_mb);
            figures.add(format!("rss_worker_after_{after}_mb"), worker_mb);
        }
    }
    figures.add("rss_ingest_peak_1m_mb", peak_resident_mb(ingest.pid())?);
    figures.add("rss_worker_peak_1m_mb", peak_resident_mb(worker[0].pid())?);
    stop([ingest].into_iter().chain(worker)).await
}
