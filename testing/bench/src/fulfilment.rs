//! The merchant's fulfilment: consumes the events and notes when the first event of each order arrived.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::Result;
use kit::broker::Broker;
use kit::consumer::{Acks, EventConsumer};
use lapin::message::Delivery;
use serde::Deserialize;
use shared::messaging::topology::EVENTS_QUEUE;

use crate::first_seen::FirstSeen;

/// Consumes until it is dropped.
pub struct Fulfilment {
    told: FirstSeen,
    _consumer: EventConsumer,
}

/// What it reads of an event.
#[derive(Deserialize)]
struct Event {
    out_trade_no: String,
}

impl Fulfilment {
    /// Starts to consume.
    pub async fn start(broker: &Broker) -> Result<Self> {
        let told = FirstSeen::default();
        let inside = told.clone();
        let take = move |delivery: &Delivery| {
            let now = Instant::now();
            if let Ok(event) = serde_json::from_slice::<Event>(&delivery.data) {
                inside.note(event.out_trade_no, now);
            }
        };
        let urls = vec![broker.url().to_string().into()];
        let consumer = EventConsumer::start(urls, EVENTS_QUEUE, Acks::Automatic, take).await?;
        Ok(Self { told, _consumer: consumer })
    }

    /// When the event of each order arrived, once those of `count` orders have.
    pub async fn until(self, count: usize) -> Result<HashMap<String, Instant>> {
        self.told.until(count, "told of").await
    }
}
