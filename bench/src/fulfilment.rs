//! The merchant's fulfilment: takes the events, and knows when it was first told of each order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::broker::Broker;
use e2e::until::until_within;
use futures_util::StreamExt;
use lapin::Channel;
use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use serde::Deserialize;
use shared::messaging::envelope::EVENTS_QUEUE;

/// How long events may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// Consumes until it is dropped.
pub struct Fulfilment {
    told: Told,
    channel: Channel,
}

type Told = Arc<Mutex<HashMap<String, Instant>>>;

/// What it reads of an event.
#[derive(Deserialize)]
struct Event {
    out_trade_no: String,
}

impl Fulfilment {
    /// Starts to consume.
    ///
    /// # Errors
    /// The broker is away.
    pub async fn start(broker: &Broker) -> Result<Self> {
        let channel = broker.channel().await?;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let mut events = channel.basic_consume(EVENTS_QUEUE.into(), "".into(), options, FieldTable::default()).await?;
        let told = Told::default();
        let inside = Arc::clone(&told);
        tokio::spawn(async move {
            while let Some(Ok(delivery)) = events.next().await {
                let now = Instant::now();
                if let Ok(event) = serde_json::from_slice::<Event>(&delivery.data) {
                    lock(&inside).entry(event.out_trade_no).or_insert(now);
                }
            }
        });
        Ok(Self { told, channel })
    }

    /// When it was told of each order, once it was of `count`.
    ///
    /// # Errors
    /// It never is.
    pub async fn until(self, count: usize) -> Result<HashMap<String, Instant>> {
        until_within(PATIENCE, &format!("{count} orders are told of"), async || {
            let told = lock(&self.told).len();
            ensure!(told >= count, "{told} are");
            Ok(())
        })
        .await?;
        self.channel.close(200, "".into()).await?;
        Ok(std::mem::take(&mut *lock(&self.told)))
    }
}

fn lock(told: &Told) -> MutexGuard<'_, HashMap<String, Instant>> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}
