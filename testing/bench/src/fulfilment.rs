//! The merchant's fulfilment: takes the events, and knows when it was first told of each order.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::Result;
use futures_util::StreamExt;
use kit::broker::Broker;
use lapin::Channel;
use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use serde::Deserialize;
use shared::messaging::topology::EVENTS_QUEUE;

use crate::moments::Moments;

/// Consumes until it is dropped.
pub struct Fulfilment {
    told: Moments,
    channel: Channel,
}

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
        let told = Moments::default();
        let inside = told.clone();
        tokio::spawn(async move {
            while let Some(Ok(delivery)) = events.next().await {
                let now = Instant::now();
                if let Ok(event) = serde_json::from_slice::<Event>(&delivery.data) {
                    inside.note(event.out_trade_no, now);
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
        let told = self.told.until(count, "told of").await?;
        self.channel.close(200, "".into()).await?;
        Ok(told)
    }
}
