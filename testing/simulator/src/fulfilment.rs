//! The merchant's fulfilment: consumes order events and drops those whose id it has seen, as every consumer must.
//!
//! Events of other runs are acked and ignored. Repeats by the broker (redelivered) and by the relay (published twice) are
//! counted separately; neither is an error.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use kit::consumer::{Acks, EventConsumer};
use lapin::message::Delivery;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// One event as it was first consumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The AMQP `message_id`: what tells events apart.
    pub id: String,
    /// What the event says.
    pub payload: Payload,
    /// When it reached the merchant.
    pub consumed_at: Instant,
}

/// The body of an order event; fields that other types lack are optional.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Payload {
    /// Must equal the `message_id`.
    pub event_id: String,
    /// As in `order.paid`.
    #[serde(rename = "type")]
    pub kind: String,
    pub order_id: i64,
    /// The order's version after the change.
    pub version: i32,
    pub mch_id: String,
    pub sub_mch_id: Option<String>,
    pub out_trade_no: String,
    pub transaction_id: Option<String>,
    pub amount_minor: Option<i64>,
    pub currency: Option<String>,
    /// When the payer paid; of payments.
    pub paid_at: Option<DateTime<Utc>>,
    /// Why the order did not want the payment; of refused ones.
    pub reason: Option<String>,
    /// What the payer paid; of refused payments and of refunds.
    pub payment_amount_minor: Option<i64>,
    /// ISO 4217; of refused payments.
    pub payment_currency: Option<String>,
    /// All that went back of the payment so far; of refunds.
    pub payment_returned_minor: Option<i64>,
    /// All that went back of the order so far; of refunds.
    pub refunded_minor: Option<i64>,
    /// The merchant's number; of refunds.
    pub out_refund_no: Option<String>,
    /// WeChat Pay's number; of refunds.
    pub refund_id: Option<String>,
    /// What goes back; of refunds.
    pub refund_amount_minor: Option<i64>,
}

/// Everything of this run that reached the merchant.
#[derive(Debug, Clone, Default)]
pub struct Consumed {
    /// By id, first arrivals only.
    pub events: HashMap<String, Event>,
    /// Arrivals of an id seen before, marked redelivered by the broker.
    pub redelivered: u64,
    /// Arrivals of an id seen before, published twice by the relay.
    pub published_twice: u64,
    /// What is no event at all, by its message id.
    pub unreadable: Vec<String>,
}

/// The running consumer; it stops when it is dropped.
#[derive(Debug)]
pub struct Fulfilment {
    consumed: Arc<Mutex<Consumed>>,
    _consumer: EventConsumer,
}

impl Fulfilment {
    /// Opens the queue and starts to consume the events whose order numbers begin with `prefix`.
    ///
    /// # Errors
    /// When no broker can be reached or the queue cannot be consumed; never with a password.
    pub async fn start(urls: &SecretString, queue: &str, prefix: &str) -> anyhow::Result<Self> {
        let urls: Vec<SecretString> =
            urls.expose_secret().split(',').map(|url| SecretString::from(url.trim())).collect();
        ensure!(urls.iter().all(|url| !url.expose_secret().is_empty()), "AMQP_URLS has an empty entry");
        let consumed = Arc::new(Mutex::new(Consumed::default()));
        let (inside, prefix) = (Arc::clone(&consumed), prefix.to_owned());
        let take = move |delivery: &Delivery| {
            inside.lock().unwrap_or_else(PoisonError::into_inner).take(delivery, &prefix);
        };
        let events = EventConsumer::start(urls, queue, Acks::InBatches, take).await.context("AMQP_URLS")?;
        Ok(Self { consumed, _consumer: events })
    }

    /// A copy of what has arrived so far.
    #[must_use]
    pub fn consumed(&self) -> Consumed {
        self.consumed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many events of the run have arrived so far.
    #[must_use]
    pub fn event_count(&self) -> usize {
        self.consumed.lock().unwrap_or_else(PoisonError::into_inner).events.len()
    }
}

impl Consumed {
    fn take(&mut self, delivery: &Delivery, prefix: &str) {
        let id = delivery.properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default();
        let Ok(payload) = serde_json::from_slice::<Payload>(&delivery.data) else {
            self.unreadable.push(id);
            return;
        };
        if !payload.out_trade_no.starts_with(prefix) {
            return;
        }
        if self.events.contains_key(&id) {
            let count = if delivery.redelivered { &mut self.redelivered } else { &mut self.published_twice };
            *count = count.saturating_add(1);
            return;
        }
        self.events.insert(id.clone(), Event { id, payload, consumed_at: Instant::now() });
    }
}
