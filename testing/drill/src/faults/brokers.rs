//! What happens to the broker's nodes and queues.

use anyhow::{Context, Result};
use hyper::Method;
use serde_json::Value;
use shared::messaging::topology::CALLBACKS_QUEUE;

use super::{Scene, links};
use crate::clock::seconds;
use crate::fault::{
    MEMORY_ALARM_SECONDS, NO_MAJORITY_SECONDS, NODE_DOWN_SECONDS, NODE_FROZEN_SECONDS, QUEUE_FULL_SECONDS,
};
use crate::record::FaultRecord;
use crate::servers::Servers;

/// The shipped policy of the callbacks' queue.
const POLICY: &str = "policies/%2f/callbacks-are-never-dropped";
/// The drill's policy, which overrides it.
const FULL_POLICY: &str = "policies/%2f/full-by-drill";
/// The limit that `./dev` gives its nodes.
const MEMORY_LIMIT: &str = "2GB";

/// What the full queue may hold.
const ROOM: u64 = 100;

pub(super) async fn kill_leader(servers: &Servers, record: &FaultRecord) -> Result<()> {
    let leader = servers.leader(CALLBACKS_QUEUE).await?.process.clone();
    kill(servers, &[&leader], NODE_DOWN_SECONDS, record).await
}

pub(super) async fn kill_follower(servers: &Servers, pick: usize, record: &FaultRecord) -> Result<()> {
    let follower = follower(servers, pick).await?;
    kill(servers, &[&follower], NODE_DOWN_SECONDS, record).await
}

pub(super) async fn kill_majority(servers: &Servers, pick: usize, record: &FaultRecord) -> Result<()> {
    let leader = servers.leader(CALLBACKS_QUEUE).await?.process.clone();
    let follower = follower(servers, pick).await?;
    kill(servers, &[&leader, &follower], NO_MAJORITY_SECONDS, record).await
}

pub(super) async fn freeze_leader(servers: &Servers, record: &FaultRecord) -> Result<()> {
    let leader = &servers.leader(CALLBACKS_QUEUE).await?.process;
    servers.freeze(leader).await?;
    record.injected();
    record.note(leader);
    seconds(NODE_FROZEN_SECONDS).await;
    servers.thaw(leader).await
}

/// The watermark goes below what the node uses, so that it blocks all publishers of the cluster.
pub(super) async fn alarm(servers: &Servers, record: &FaultRecord) -> Result<()> {
    let leader = servers.leader(CALLBACKS_QUEUE).await?;
    servers.rabbitmqctl(leader, &["set_vm_memory_high_watermark", "absolute", "1"]).await?;
    record.injected();
    record.note(&leader.process);
    seconds(MEMORY_ALARM_SECONDS).await;
    servers.rabbitmqctl(leader, &["set_vm_memory_high_watermark", "absolute", MEMORY_LIMIT]).await
}

/// No worker consumes, and the queue may hold only a few messages: soon every publish is rejected.
pub(super) async fn fill_queue(scene: &Scene, record: &FaultRecord) -> Result<()> {
    let shipped = scene.servers.api(Method::GET, POLICY, Value::Null).await?;
    let mut policy: Value = serde_json::from_slice(&shipped.body)?;
    let definition = policy.pointer_mut("/definition").and_then(Value::as_object_mut).context("an odd policy")?;
    definition.insert("max-length".to_owned(), ROOM.into());
    let fields = policy.as_object_mut().context("an odd policy")?;
    fields.retain(|name, _| matches!(name.as_str(), "pattern" | "definition" | "apply-to"));
    fields.insert("priority".to_owned(), 100.into());
    scene.servers.api(Method::PUT, FULL_POLICY, policy).await?;
    links::cut_off(scene.links.workers_to_broker(), record, QUEUE_FULL_SECONDS).await;
    scene.servers.api(Method::DELETE, FULL_POLICY, Value::Null).await?;
    record.note(format!("room for {ROOM}"));
    Ok(())
}

async fn kill(servers: &Servers, processes: &[&str], down_seconds: u64, record: &FaultRecord) -> Result<()> {
    servers.kill(processes).await?;
    record.injected();
    record.note(processes.join(" and "));
    seconds(down_seconds).await;
    servers.start(processes).await
}

async fn follower(servers: &Servers, pick: usize) -> Result<String> {
    let followers = servers.followers(CALLBACKS_QUEUE).await?;
    let follower = followers.get(pick % followers.len().max(1)).context("no node follows")?;
    Ok(follower.process.clone())
}
