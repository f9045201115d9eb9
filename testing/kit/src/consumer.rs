//! A consumer of order events, as a merchant runs one: it reopens a lost connection, trying the next broker each time.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties, Consumer};
use secrecy::{ExposeSecret, SecretString};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Events that the broker may deliver before it has our ack.
const PREFETCH: u16 = 512;
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
const PAUSE_BEFORE_REOPENING: Duration = Duration::from_millis(500);

/// Whether events are acked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// Everything that has arrived is acked in one go.
    InBatches,
    /// The broker forgets an event as soon as it is delivered: the cheapest for the broker.
    Automatic,
}

/// A running consumer; it stops when it is dropped.
#[derive(Debug)]
pub struct EventConsumer(JoinHandle<()>);

struct Reader<F> {
    urls: Vec<SecretString>,
    queue: String,
    acks: Acks,
    take: F,
}

impl EventConsumer {
    /// Consumes `queue` and calls `take` with each delivery.
    ///
    /// # Errors
    /// The first broker cannot be reached, or the queue cannot be consumed, or another program consumes it already. No
    /// error contains a password.
    pub async fn start(
        urls: Vec<SecretString>,
        queue: &str,
        acks: Acks,
        take: impl FnMut(&Delivery) + Send + Sync + 'static,
    ) -> Result<Self> {
        let mut reader = Reader { urls, queue: queue.to_owned(), acks, take };
        let opened = reader.open_alone().await?;
        Ok(Self(tokio::spawn(async move { reader.run(opened).await })))
    }
}

impl Drop for EventConsumer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<F: FnMut(&Delivery)> Reader<F> {
    async fn run(&mut self, opened: (Connection, Consumer)) {
        let mut opened = Some(opened);
        for attempt in 1.. {
            if let Some((connection, mut consumer)) = opened.take() {
                self.consume(&mut consumer).await;
                close(&connection).await;
            }
            sleep(PAUSE_BEFORE_REOPENING).await;
            opened = self.open(attempt).await.ok();
        }
    }

    /// Until the stream ends, for whatever reason.
    async fn consume(&mut self, consumer: &mut Consumer) {
        while let Some(Ok(first)) = consumer.next().await {
            (self.take)(&first);
            let mut last = first;
            while let Some(Some(Ok(delivery))) = consumer.next().now_or_never() {
                (self.take)(&delivery);
                last = delivery;
            }
            let is_acked = self.acks == Acks::Automatic || last.ack(BasicAckOptions { multiple: true }).await.is_ok();
            if !is_acked {
                return;
            }
        }
    }

    /// A second consumer would take half of the events. The check counts consumers, because quorum queues let an exclusive
    /// consumer in while others consume.
    async fn open_alone(&self) -> Result<(Connection, Consumer)> {
        let opened = self.open(0).await?;
        let channel = opened.0.create_channel().await?;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare(self.queue.as_str().into(), passive, FieldTable::default()).await?;
        ensure!(
            queue.consumer_count() <= 1,
            "another program already consumes the queue {}: another run, or a real shop",
            self.queue
        );
        Ok(opened)
    }

    async fn open(&self, attempt: usize) -> Result<(Connection, Consumer)> {
        let url = self.urls.iter().cycle().nth(attempt % self.urls.len().max(1)).context("no broker is named")?;
        let properties = ConnectionProperties::default().with_connection_name("order events".into());
        // lapin's parse error would quote the URL.
        let connecting = timeout(OPEN_TIMEOUT, Connection::connect(url.expose_secret(), properties));
        let connection =
            connecting.await.context("the broker does not answer")?.map_err(|error| match error.kind() {
                lapin::ErrorKind::ParsingError(_) => anyhow::anyhow!("an entry is not an AMQP URL"),
                _ => anyhow::Error::new(error).context("cannot connect to the broker"),
            })?;
        let consuming = timeout(OPEN_TIMEOUT, self.consume_on(&connection)).await;
        match consuming.context("the broker does not answer").flatten() {
            Ok(consumer) => Ok((connection, consumer)),
            Err(error) => {
                close(&connection).await;
                Err(error)
            }
        }
    }

    async fn consume_on(&self, connection: &Connection) -> Result<Consumer> {
        let channel = connection.create_channel().await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions { no_ack: self.acks == Acks::Automatic, ..BasicConsumeOptions::default() };
        channel
            .basic_consume(self.queue.as_str().into(), "".into(), options, FieldTable::default())
            .await
            .with_context(|| format!("cannot consume the queue {}", self.queue))
    }
}

/// A connection that is only dropped stays open while a consumer is being opened on it. Once the broker answers, that consumer
/// gets events that are never read or acked, for as long as the program runs.
async fn close(connection: &Connection) {
    let _unanswered = timeout(CLOSE_TIMEOUT, connection.close(200, "closing".into())).await;
}
