//! The workers' lanes, and a broker that times out their deliveries.

use anyhow::{Result, ensure};
use kit::proxy::Proxy;

use super::Scene;
use super::programs::{hang_writes, let_writes_go};
use crate::clock::seconds;
use crate::fault::{CONSUMER_TIMEOUT_SECONDS, WRITES_HANG_SECONDS};
use crate::fleet::Fleet;
use crate::record::FaultRecord;
use crate::servers::Servers;

/// How often a lane lost its consumer or returned its batch.
const INTERRUPTIONS: &str = "worker_lane_interruptions_total";
/// What the broker allows between a delivery and its ack, and how often it looks; read when a channel is opened.
const IMPATIENT: (u64, u64) = (CONSUMER_TIMEOUT_SECONDS * 1000, 500);
/// What `deploy/rabbitmq/rabbitmq.conf` sets, and how often the broker looks by itself.
const PATIENT: (u64, u64) = (172_800_000, 60_000);
/// How soon everything is applied when the database writes again.
const BACK_WITHIN_SECONDS: u64 = 10;
/// A moment of nothing, so that every channel is opened anew.
const CUT_SECONDS: u64 = 1;
/// Suspects that have not been decided.
const SUSPECTS: &str = "SELECT count(*) FROM quarantine WHERE reason = 'decide_alone' AND id > $1";

/// The sum over all workers.
pub(super) async fn interruptions(fleet: &Fleet) -> Result<u64> {
    let mut sum = 0_u64;
    for worker in fleet.workers() {
        sum = sum.saturating_add(worker.metric(INTERRUPTIONS, &[]).await?);
    }
    Ok(sum)
}

/// The broker requeues what is not acked within seconds, while no worker can write: redeliveries without any crash.
pub(super) async fn lose_patience(scene: &Scene, record: &FaultRecord) -> Result<()> {
    let administrator = scene.servers.database().await?;
    let last: i64 = administrator.query_one("SELECT coalesce(max(id), 0) FROM quarantine", &[]).await?.try_get(0)?;
    set_patience(&scene.servers, IMPATIENT).await?;
    reconnect(scene).await;
    let before = interruptions(&scene.fleet).await?;
    // From here on writers wait: for this lock, and before that behind the session that asks for it.
    record.injected();
    hang_writes(&administrator).await?;
    seconds(WRITES_HANG_SECONDS).await;
    let_writes_go(&administrator).await?;
    set_patience(&scene.servers, PATIENT).await?;
    reconnect(scene).await;
    record.lifted();
    scene.promise_payment(record, BACK_WITHIN_SECONDS).await;
    let interrupted = interruptions(&scene.fleet).await?.saturating_sub(before);
    record.note(format!("{interrupted} lanes interrupted"));
    record
        .promise("no callback becomes a suspect because the broker timed it out", 0, async || {
            let suspects: i64 = administrator.query_one(SUSPECTS, &[&last]).await?.try_get(0)?;
            ensure!(suspects == 0, "{suspects} did");
            Ok(())
        })
        .await;
    Ok(())
}

async fn set_patience(servers: &Servers, (timeout_ms, tick_ms): (u64, u64)) -> Result<()> {
    let set = format!(
        "application:set_env(rabbit, consumer_timeout, {timeout_ms}), \
         application:set_env(rabbit, channel_tick_interval, {tick_ms})."
    );
    for node in servers.nodes() {
        servers.rabbitmqctl(node, &["eval", &set]).await?;
    }
    Ok(())
}

async fn reconnect(scene: &Scene) {
    for link in scene.links.workers_to_broker() {
        link.all(Proxy::cut);
    }
    seconds(CUT_SECONDS).await;
    for link in scene.links.workers_to_broker() {
        link.all(Proxy::pass);
    }
}
