//! Limit B of ingest: confirmed publishes of the same bytes from a bare program, as many in flight as callbacks are.

use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use kit::callback::Callback;
use kit::latencies::Latencies;
use kit::pace::{DueRequests, emit_when_due};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde::{Deserialize, Serialize};
use shared::messaging::envelope::MCH_ID;
use shared::messaging::topology::{CALLBACKS_EXCHANGE, CALLBACKS_ROUTING_KEY};
use shared::protocol::CallbackKind;
use tokio::sync::Mutex;
use url::Url;
use uuid::Uuid;

use crate::generator::interval;
use crate::process;
use crate::requests::TRACEPARENT;

/// As many as ingest has lanes.
const CHANNELS: usize = 4;
const TIMESTAMP: u64 = 1_790_000_000;
/// Bodies that are sent in turn.
const BODIES: usize = 1000;

/// What is published, and how fast.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[arg(long, env = "AMQP_URLS", hide_env_values = true)]
    amqp: Url,
    #[arg(long)]
    in_flight: usize,
    #[arg(long)]
    seconds: f64,
    /// Publishes a second, on a schedule; without it: as fast as confirms come
    #[arg(long)]
    rate: Option<f64>,
}

/// What it came to.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Confirmed {
    pub per_second: f64,
    /// Milliseconds from publish, or from when it was due, to confirm.
    pub p99_ms: f64,
}

/// Publishes from a process of its own.
pub async fn measure(amqp: &Url, in_flight: usize, window: Duration, rate: Option<f64>) -> Result<Confirmed> {
    let (in_flight, seconds) = (in_flight.to_string(), window.as_secs_f64().to_string());
    let mut arguments = vec!["--in-flight", &in_flight, "--seconds", &seconds];
    let rate = rate.map(|rate| rate.to_string());
    if let Some(rate) = &rate {
        arguments.extend(["--rate", rate.as_str()]);
    }
    let child = process::spawn("bare-publisher", &arguments, &[("AMQP_URLS", amqp.as_str())])?;
    let output = child.wait_with_output().await?;
    ensure!(output.status.success(), "the bare publisher failed: {}", output.status);
    let last = BufReader::new(output.stdout.as_slice()).lines().last().transpose()?.unwrap_or_default();
    Ok(serde_json::from_str(&last)?)
}

/// Publishes and prints what it came to.
pub async fn run(options: Options) -> Result<()> {
    let connection = Connection::connect(options.amqp.as_str(), ConnectionProperties::default()).await?;
    let mut channels = Vec::with_capacity(CHANNELS);
    for _ in 0..CHANNELS {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        channels.push(channel);
    }
    let bodies: Arc<Vec<Vec<u8>>> =
        Arc::new((0..BODIES).map(|number| Callback::payment(&format!("bare-{number}")).body()).collect());
    let started = Instant::now();
    let plan = match options.rate {
        Some(rate) => {
            let count = (rate * options.seconds) as usize;
            Plan::WhenDue(Arc::new(Mutex::new(emit_when_due(started, interval(rate), count))))
        }
        None => Plan::Until(started + Duration::from_secs_f64(options.seconds)),
    };
    let tasks = channels.iter().cycle().take(options.in_flight);
    let tasks = tasks.map(|channel| tokio::spawn(publish(channel.clone(), Arc::clone(&bodies), plan.clone())));
    let mut all = Latencies::default();
    for part in try_join_all(tasks).await? {
        all.append(part?);
    }
    let per_second = all.count() as f64 / started.elapsed().as_secs_f64();
    println!("{}", serde_json::to_string(&Confirmed { per_second, p99_ms: all.ms(990) })?);
    Ok(())
}

/// When there is something to publish.
#[derive(Clone)]
enum Plan {
    /// At once, until then.
    Until(Instant),
    /// By the same schedule as callbacks are sent.
    WhenDue(Arc<Mutex<DueRequests>>),
}

impl Plan {
    /// Since when the next one is due.
    async fn next(&self) -> Option<(usize, Instant)> {
        match self {
            Self::Until(end) => Some((0, Instant::now())).filter(|(_, now)| now < end),
            Self::WhenDue(due) => due.lock().await.recv().await,
        }
    }
}

/// One of those in flight.
async fn publish(channel: Channel, bodies: Arc<Vec<Vec<u8>>>, plan: Plan) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    let mut turns = bodies.iter().cycle();
    while let Some((_, since)) = plan.next().await {
        let body = turns.next().map(Vec::as_slice).unwrap_or_default();
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let publish =
            channel.basic_publish(CALLBACKS_EXCHANGE.into(), CALLBACKS_ROUTING_KEY.into(), options, body, properties());
        let confirmation = publish.await?.await?;
        ensure!(confirmation.is_ack() && confirmation.take_message().is_none(), "a message was not stored");
        latencies.record(since.elapsed());
    }
    Ok(latencies)
}

/// The properties of ingest's messages.
fn properties() -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("envelope-version".into(), AMQPValue::LongString("1".into()));
    headers.insert(MCH_ID.into(), AMQPValue::LongString(kit::merchants::MERCHANT.into()));
    headers.insert(TRACEPARENT.0.into(), AMQPValue::LongString(TRACEPARENT.1.into()));
    BasicProperties::default()
        .with_message_id(Uuid::now_v7().to_string().into())
        .with_type(CallbackKind::V2Payment.name().into())
        .with_content_type("text/xml".into())
        .with_timestamp(TIMESTAMP)
        .with_delivery_mode(2)
        .with_headers(headers)
}
