//! The merchant's fulfilment: consumes order events, and drops an id that it has seen, as every consumer must.
//!
//! Events of other runs are acked and forgotten. The broker's repeats (redelivered) and the relay's (published twice)
//! are told apart and counted; neither is an error. The queue is consumed alone: a second consumer would take half of it. A lost connection is opened again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties, Consumer};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Events that the broker may hand over ahead of our ack.
const PREFETCH: u16 = 512;
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE_BEFORE_REOPENING: Duration = Duration::from_millis(500);

/// One event as it was first consumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The AMQP `message_id`: what tells events apart.
    pub id: String,
    /// What the event says.
    pub says: Payload,
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
    /// The row's key.
    pub order_id: i64,
    /// The order's version after the change.
    pub version: i32,
    /// Whose order.
    pub mch_id: String,
    /// The shop behind an institution.
    pub sub_mch_id: Option<String>,
    /// The merchant's number.
    pub out_trade_no: String,
    /// The payment.
    pub transaction_id: Option<String>,
    /// In the currency's smallest unit.
    pub amount_minor: Option<i64>,
    /// ISO 4217.
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

/// The running consumer.
#[derive(Debug)]
pub struct Fulfilment {
    consumed: Arc<Mutex<Consumed>>,
    task: JoinHandle<()>,
}

struct Reader {
    urls: Vec<SecretString>,
    queue: String,
    prefix: String,
    consumed: Arc<Mutex<Consumed>>,
}

impl Fulfilment {
    /// Opens the queue and starts to consume.
    ///
    /// # Errors
    /// When no broker can be reached or the queue cannot be consumed; never with a password.
    pub async fn start(urls: &SecretString, queue: &str, prefix: &str) -> anyhow::Result<Self> {
        let urls: Vec<SecretString> =
            urls.expose_secret().split(',').map(|url| SecretString::from(url.trim())).collect();
        ensure!(urls.iter().all(|url| !url.expose_secret().is_empty()), "AMQP_URLS has an empty entry");
        let consumed = Arc::new(Mutex::new(Consumed::default()));
        let reader = Reader { urls, queue: queue.to_owned(), prefix: prefix.to_owned(), consumed: consumed.clone() };
        let url = reader.url(0)?;
        let opened =
            timeout(OPEN_TIMEOUT, open_alone(url, queue)).await.context("AMQP_URLS: the broker does not answer")??;
        Ok(Self { consumed, task: tokio::spawn(reader.run(opened)) })
    }

    /// A copy of what has arrived so far.
    #[must_use]
    pub fn consumed(&self) -> Consumed {
        self.consumed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Events of the run so far.
    #[must_use]
    pub fn event_count(&self) -> usize {
        self.consumed.lock().unwrap_or_else(PoisonError::into_inner).events.len()
    }

    /// Stops consuming; what was not acked goes back to the queue.
    pub fn stop(self) {
        self.task.abort();
    }
}

impl Reader {
    async fn run(self, opened: (Connection, Consumer)) {
        let mut opened = Some(opened);
        for attempt in 1.. {
            if let Some((connection, mut consumer)) = opened.take() {
                self.consume(&mut consumer).await;
                drop(connection);
            }
            sleep(PAUSE_BEFORE_REOPENING).await;
            opened = self.open(attempt).await.ok();
        }
    }

    async fn open(&self, attempt: usize) -> anyhow::Result<(Connection, Consumer)> {
        timeout(OPEN_TIMEOUT, open(self.url(attempt)?, &self.queue)).await.context("AMQP_URLS: no answer")?
    }

    /// Every attempt takes the next broker.
    fn url(&self, attempt: usize) -> anyhow::Result<&SecretString> {
        self.urls.iter().cycle().nth(attempt % self.urls.len().max(1)).context("AMQP_URLS is empty")
    }

    /// Until the stream ends, for whatever reason.
    async fn consume(&self, consumer: &mut Consumer) {
        while let Some(Ok(first)) = consumer.next().await {
            self.take(&first);
            let mut last = first;
            // Everything that is here already is acked in one go.
            while let Some(Some(Ok(delivery))) = consumer.next().now_or_never() {
                self.take(&delivery);
                last = delivery;
            }
            if last.ack(BasicAckOptions { multiple: true }).await.is_err() {
                return;
            }
        }
    }

    fn take(&self, delivery: &Delivery) {
        let id = delivery.properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default();
        let mut consumed = self.consumed.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(says) = serde_json::from_slice::<Payload>(&delivery.data) else {
            consumed.unreadable.push(id);
            return;
        };
        if !says.out_trade_no.starts_with(&self.prefix) {
            return;
        }
        if consumed.events.contains_key(&id) {
            let count = if delivery.redelivered { &mut consumed.redelivered } else { &mut consumed.published_twice };
            *count = count.saturating_add(1);
            return;
        }
        consumed.events.insert(id.clone(), Event { id, says, consumed_at: Instant::now() });
    }
}

/// Nobody else may consume the queue when a run begins: what another took would be missing in the audit. Counted,
/// because quorum queues let an exclusive consumer in beside others.
async fn open_alone(url: &SecretString, queue: &str) -> anyhow::Result<(Connection, Consumer)> {
    let opened = open(url, queue).await?;
    let channel = opened.0.create_channel().await?;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let consumers = channel.queue_declare(queue.into(), passive, FieldTable::default()).await?.consumer_count();
    ensure!(consumers <= 1, "the queue {queue} is consumed by another program already: another run, or a real shop");
    Ok(opened)
}

async fn open(url: &SecretString, queue: &str) -> anyhow::Result<(Connection, Consumer)> {
    let properties = ConnectionProperties::default().with_connection_name("simulator".into());
    // lapin's parse error would quote the URL.
    let connection =
        Connection::connect(url.expose_secret(), properties).await.map_err(|error| match error.kind() {
            lapin::ErrorKind::ParsingError(_) => anyhow::anyhow!("AMQP_URLS: an entry is not an AMQP URL"),
            _ => anyhow::Error::new(error).context("AMQP_URLS: the broker cannot be reached"),
        })?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let consumer = channel
        .basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
        .await
        .with_context(|| format!("the queue {queue} cannot be consumed"))?;
    Ok((connection, consumer))
}
