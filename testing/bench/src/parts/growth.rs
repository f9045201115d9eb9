//! Whether big tables slow the worker down: the same backlog, then the same load, on top of 100 thousand, one and ten million
//! orders, as many payments and as many rows in the ledger, which have short bodies.

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use super::progress;
use crate::config::Options;
use crate::figures::Figures;
use crate::requests::Requests;
use crate::scene::{Scene, stop};
use crate::scheduled;

const SIZES: [(&str, usize); 3] = [("100k", 100_000), ("1m", 1_000_000), ("10m", 10_000_000)];
/// Callbacks a second while it is seen how soon orders are paid, and the connections that a burst may take.
const PER_SECOND: f64 = 1000.0;
const CONNECTIONS: usize = 256;
/// Rows of one filling statement.
const FILL: usize = 500_000;
/// What ten million rows of each table take, with room for the log.
const DISK_GB: u64 = 20;
const FILLER: &str = "WITH new AS (
         INSERT INTO orders (mch_id, out_trade_no, amount_minor, currency, state, transaction_id, paid_at, version)
         SELECT 'filler', 'FILLER' || n, 100, 'CNY', 'paid', '42' || lpad(n::text, 26, '0'), now(), 1
         FROM generate_series($1::int, $2::int) AS n RETURNING id, out_trade_no, transaction_id),
     recorded AS (
         INSERT INTO payments (order_id, mch_id, transaction_id, amount_minor, currency, paid_at, disposition)
         SELECT id, 'filler', transaction_id, 100, 'CNY', now(), 'accepted' FROM new)
     INSERT INTO notifications (id, received_at, kind, mch_id, out_trade_no, transaction_id, outcome, handled_at, body,
                                headers)
     SELECT gen_random_uuid(), now(), 'payment', 'filler', out_trade_no, transaction_id, 'applied', now(), '', '{}'
     FROM new";

pub(super) async fn run(options: &Options, figures: &mut Figures) -> Result<()> {
    let scene = Scene::start().await?;
    ensure!(free_gb(&scene).await? >= DISK_GB, "ten million orders need {DISK_GB} GB of disk for PostgreSQL");
    let mut filled = 0;
    for (name, size) in SIZES {
        fill(&scene, filled, size).await?;
        filled = size;
        for round in 1..=options.rounds {
            progress(&format!("growth, {name} orders, round {round} of {}", options.rounds));
            let requests = Requests::payments(&format!("growth-{name}-{round}"), options.backlog() / 2);
            scene.open_orders(&requests).await?;
            scene.enqueue(&requests, requests.len()).await?;
            scene.run(&["CHECKPOINT"]).await?;
            let rate = scene.drain(1, |worker| worker, requests.len()).await?.per_second;
            figures.add(format!("worker_{name}_orders_per_second"), rate);
            // The events of this round must not be published during the next one.
            scene.run(&["TRUNCATE order_events"]).await?;
            scene.purge().await?;
            figures.add(format!("paid_p99_ms_{name}_orders"), paid_p99_ms(&scene, options, name, round).await?);
        }
    }
    let rates = |name: &str| figures.values(&format!("worker_{name}_orders_per_second")).to_vec();
    for (big, small) in rates("10m").into_iter().zip(rates("100k")) {
        figures.add("growth_10m_of_100k", big / small);
    }
    Ok(())
}

/// How soon an order is paid, at a load that leaves the machine room.
async fn paid_p99_ms(scene: &Scene, options: &Options, name: &str, round: usize) -> Result<f64> {
    let count = (PER_SECOND * options.window().as_secs_f64()) as usize;
    let requests = Requests::payments(&format!("growth-paid-{name}-{round}"), count);
    scene.open_orders(&requests).await?;
    let (ingest, worker) = (scene.env.start_ingest().await?, scene.env.start_worker().await?);
    let seen = scheduled::run(scene, ingest.public(), &requests, CONNECTIONS, PER_SECOND).await?;
    stop([ingest, worker]).await?;
    Ok(seen.paid.ms(990))
}

/// Paid orders and their ledger, up to `to`.
async fn fill(scene: &Scene, from: usize, to: usize) -> Result<()> {
    let mut next = from;
    while next < to {
        let last = (next + FILL).min(to);
        progress(&format!("growth, {last} of {to} orders are written"));
        scene.env.database.execute(FILLER, &[&i32::try_from(next + 1)?, &i32::try_from(last)?]).await?;
        next = last;
    }
    scene.run(&["VACUUM ANALYZE orders", "VACUUM ANALYZE payments", "VACUUM ANALYZE notifications"]).await
}

/// What PostgreSQL's disk has left.
async fn free_gb(scene: &Scene) -> Result<u64> {
    let directory: String = scene.env.database.query_one("SHOW data_directory", &[]).await?.try_get(0)?;
    let output = Command::new("df").args(["--output=avail", "--block-size=1G", &directory]).output().await?;
    let text = String::from_utf8(output.stdout)?;
    let line =
        text.lines().nth(1).with_context(|| format!("df does not know {directory}: is PostgreSQL elsewhere?"))?;
    Ok(line.trim().parse()?)
}
