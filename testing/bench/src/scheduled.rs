//! The pipeline under a load on a schedule: when each callback was answered, its order paid, and its event received.
//!
//! An order is paid once another session can see it, and "told" once the merchant's fulfilment has the event. Both times
//! count from the moment at which WeChat Pay had its SUCCESS.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use kit::latencies::Latencies;

use crate::commits::Commits;
use crate::fulfilment::Fulfilment;
use crate::generator::on_schedule;
use crate::requests::Requests;
use crate::scene::Scene;

/// The latencies under a load.
pub struct Seen {
    /// From the moment at which the callback was due to its answer.
    pub answered: Latencies,
    /// From the answer to the paid order.
    pub paid: Latencies,
    /// From the answer until the merchant has the event.
    pub told: Latencies,
}

/// Sends `requests`, whose orders are open, and waits until each order is paid and its event received.
pub async fn run(
    scene: &Scene,
    ingest: SocketAddr,
    requests: &Requests,
    connections: usize,
    per_second: f64,
) -> Result<Seen> {
    let count = requests.len();
    let commits = Commits::watch(&scene.env.database).await?;
    let fulfilment = Fulfilment::start(&scene.env.broker).await?;
    let sent = on_schedule(ingest, requests, connections, per_second, count).await?;
    let (told_at, paid_at) = (fulfilment.until(count).await?, commits.until(count).await?);
    let mut seen = Seen { answered: sent.latencies, paid: Latencies::default(), told: Latencies::default() };
    for (number, answered) in &sent.answers {
        let order = requests.order(*number);
        let (paid, told) = paid_at.get(&order).zip(told_at.get(&order)).context("an order that was not paid")?;
        // It may be paid before WeChat Pay's answer has arrived: then there was nothing to wait for.
        seen.paid.record(paid.saturating_duration_since(*answered));
        seen.told.record(told.saturating_duration_since(*answered));
    }
    Ok(seen)
}
