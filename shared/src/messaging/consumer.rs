//! Deliveries in batches, acked in order, for a worker's lane.
//!
//! Acks go through a delivery's own acker, one after the other, so that an ack can never reach a message of another
//! connection. Every end of the stream is an error: unacked messages are redelivered, and the caller opens a new consumer.

use std::task::Poll;

use futures_util::{Stream, StreamExt};
use lapin::message::Delivery as AmqpDelivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Acker, Channel, Connection};

use super::connection::{self, AmqpUrls, CONNECT_TIMEOUT, ConnectError};
use super::envelope::Envelope;
use super::topology::DEFINITIONS_FILE;

/// The header in which the broker counts earlier deliveries without an ack. On a first delivery the broker does not set it,
/// and passes on the publisher's.
const DELIVERY_COUNT: &str = "x-delivery-count";

/// One delivery by the broker.
#[derive(Debug)]
pub struct Delivery {
    /// The message's id, time and headers.
    pub envelope: Envelope,
    /// The bytes that WeChat Pay sent. Of a body longer than WeChat Pay's can be, only the beginning.
    pub body: Vec<u8>,
    /// The broker has delivered this message before, to some consumer.
    pub redelivered: bool,
    /// How often it was delivered before without an ack; 0 on the first delivery, whatever its publisher wrote into the header.
    pub delivery_count: u64,
    tag: u64,
    acker: Acker,
}

/// Why the stream of deliveries ended. The caller opens another consumer; the text tells the operator why.
#[derive(Debug, thiserror::Error)]
pub enum ConsumeError {
    /// The broker cannot be reached.
    #[error("no consumer on queue {queue}")]
    Connect {
        /// The queue.
        queue: String,
        /// Why not.
        source: ConnectError,
    },
    /// The broker has no such queue, or this user may not read it.
    #[error("queue {queue} is missing or this user may not read it: import {DEFINITIONS_FILE}")]
    NoQueue {
        /// The queue.
        queue: String,
        /// The broker's error; none when the name is longer than AMQP can carry.
        source: Option<Box<lapin::Error>>,
    },
    /// The broker is connected but does not answer.
    #[error("the broker did not answer a request about queue {queue}")]
    Silent {
        /// The queue.
        queue: String,
    },
    /// The connection or the channel broke.
    #[error("lost the connection to queue {queue}")]
    Lost {
        /// The queue.
        queue: String,
        /// lapin's error.
        source: Box<lapin::Error>,
    },
    /// The broker ended the consumer: the queue was deleted, or its leader moved.
    #[error("the broker cancelled the consumer of queue {queue}")]
    Cancelled {
        /// The queue.
        queue: String,
    },
    /// The delivery belongs to a closed connection: it will be redelivered.
    #[error("the delivery can no longer be acked: its connection is closed")]
    Stale,
}

/// One connection with one channel that consumes one queue.
pub struct Consumer {
    queue: String,
    connection: Connection,
    channel: Channel,
    stream: lapin::Consumer,
    acked_through: u64,
    progress: Progress,
}

/// How far the stream has come on the way from [`Consumer::stop`] to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Consuming,
    Stopping,
    Drained,
}

impl Consumer {
    /// Connects to the URL that `attempt` picks and starts to consume `queue`, `prefetch` deliveries ahead of the acks.
    ///
    /// # Errors
    /// [`ConsumeError::Connect`], [`ConsumeError::NoQueue`] and [`ConsumeError::Silent`].
    pub async fn open(
        urls: &AmqpUrls,
        attempt: usize,
        connection_name: &str,
        queue: &str,
        prefetch: u16,
    ) -> Result<Self, ConsumeError> {
        let prepare = async |connection: &Connection| {
            let channel = connection.create_channel().await?;
            channel.basic_qos(prefetch, BasicQosOptions { global: false }).await?;
            Ok(channel)
        };
        let (connection, channel) = connection::open(urls, attempt, connection_name, prepare)
            .await
            .map_err(|source| ConsumeError::Connect { queue: queue.to_owned(), source })?;
        let stream = match consume(&channel, queue).await {
            Ok(stream) => stream,
            Err(error) => {
                connection::close(&connection).await;
                return Err(error);
            }
        };
        Ok(Self {
            queue: queue.to_owned(),
            connection,
            channel,
            stream,
            acked_through: 0,
            progress: Progress::Consuming,
        })
    }

    /// Waits for one delivery, then takes those that have already arrived, at most `max`, without waiting for more.
    /// Cancel-safe.
    ///
    /// Empty only after [`Self::stop`], once every delivery in transit has been returned.
    ///
    /// # Errors
    /// [`ConsumeError::Lost`] and [`ConsumeError::Cancelled`]: every unacked delivery will be redelivered.
    pub async fn next_batch(&mut self, max: usize) -> Result<Vec<Delivery>, ConsumeError> {
        let mut batch = Vec::new();
        if self.progress == Progress::Drained {
            return Ok(batch);
        }
        let first = self.stream.next().await;
        let mut next = Some(first);
        while let Some(item) = next {
            match item {
                Some(Ok(delivery)) => batch.push(read(delivery)),
                Some(Err(source)) => return Err(self.lost(source)),
                None if self.progress == Progress::Stopping => {
                    self.progress = Progress::Drained;
                    break;
                }
                None => return Err(ConsumeError::Cancelled { queue: self.queue.clone() }),
            }
            next = if batch.len() < max { self.already_here().await } else { None };
        }
        Ok(batch)
    }

    /// Acks everything delivered up to and including `last`, and waits until the ack is written. Acks follow the delivery
    /// order: a delivery older than the last acked one is already acked.
    ///
    /// # Errors
    /// [`ConsumeError::Stale`] and [`ConsumeError::Lost`]: the broker will redeliver all of it.
    pub async fn ack_through(&mut self, last: &Delivery) -> Result<(), ConsumeError> {
        if last.acker.poisoned() {
            return Err(ConsumeError::Stale);
        }
        if last.tag <= self.acked_through {
            // A second ack of the same tag would make the broker close the channel.
            return Ok(());
        }
        match last.acker.ack(BasicAckOptions { multiple: true }).await {
            Ok(true) => {
                self.acked_through = last.tag;
                Ok(())
            }
            Ok(false) => Err(ConsumeError::Stale),
            Err(source) => Err(self.lost(source)),
        }
    }

    /// Asks the broker to stop delivering. [`Self::next_batch`] still returns what it has already sent.
    ///
    /// # Errors
    /// [`ConsumeError::Lost`] and [`ConsumeError::Silent`].
    pub async fn stop(&mut self) -> Result<(), ConsumeError> {
        if self.progress != Progress::Consuming {
            return Ok(());
        }
        self.progress = Progress::Stopping;
        let cancel = self.channel.basic_cancel(self.stream.tag(), BasicCancelOptions::default());
        match tokio::time::timeout(CONNECT_TIMEOUT, cancel).await {
            Ok(cancelled) => cancelled.map_err(|source| self.lost(source)),
            Err(_elapsed) => Err(ConsumeError::Silent { queue: self.queue.clone() }),
        }
    }

    /// Closes the connection, within a second. Unacked deliveries go back to the queue.
    pub async fn close(self) {
        connection::close(&self.connection).await;
    }

    /// The next item of the stream, if it has already arrived.
    async fn already_here(&mut self) -> Option<Option<lapin::Result<AmqpDelivery>>> {
        std::future::poll_fn(|context| {
            Poll::Ready(match std::pin::Pin::new(&mut self.stream).poll_next(context) {
                Poll::Ready(item) => Some(item),
                Poll::Pending => None,
            })
        })
        .await
    }

    fn lost(&self, source: lapin::Error) -> ConsumeError {
        ConsumeError::Lost { queue: self.queue.clone(), source: Box::new(source) }
    }
}

async fn consume(channel: &Channel, queue: &str) -> Result<lapin::Consumer, ConsumeError> {
    let Ok(name) = ShortString::try_new(queue) else {
        return Err(ConsumeError::NoQueue { queue: queue.to_owned(), source: None });
    };
    let consuming = channel.basic_consume(name, "".into(), BasicConsumeOptions::default(), FieldTable::default());
    let queue = queue.to_owned();
    match tokio::time::timeout(CONNECT_TIMEOUT, consuming).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(source)) if connection::is_missing_or_forbidden(&source) => {
            Err(ConsumeError::NoQueue { queue, source: Some(Box::new(source)) })
        }
        Ok(Err(source)) => Err(ConsumeError::Lost { queue, source: Box::new(source) }),
        Err(_elapsed) => Err(ConsumeError::Silent { queue }),
    }
}

fn read(delivery: AmqpDelivery) -> Delivery {
    let properties = &delivery.properties;
    let headers = properties.headers().as_ref();
    let texts = headers.into_iter().flatten().filter_map(|(name, value)| Some((name.to_string(), header_text(value)?)));
    let envelope = Envelope::from_delivery(
        properties.message_id().as_ref().map(ShortString::as_str),
        properties.kind().as_ref().map(ShortString::as_str),
        properties.content_type().as_ref().map(ShortString::as_str),
        texts,
        &delivery.data,
    );
    let delivery_count = headers
        .filter(|_| delivery.redelivered)
        .and_then(|table| table.inner().get(DELIVERY_COUNT))
        .and_then(header_text)
        .and_then(|text| text.parse().ok());
    let (envelope, body) = envelope.bounded(delivery.data);
    Delivery {
        envelope,
        redelivered: delivery.redelivered,
        delivery_count: delivery_count.unwrap_or_default(),
        tag: delivery.delivery_tag,
        acker: delivery.acker,
        body,
    }
}

/// A header's value as text; `None` for tables, arrays and floats, which no callback's envelope has.
fn header_text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        AMQPValue::Boolean(value) => Some(value.to_string()),
        AMQPValue::ShortShortInt(value) => Some(value.to_string()),
        AMQPValue::ShortShortUInt(value) => Some(value.to_string()),
        AMQPValue::ShortInt(value) => Some(value.to_string()),
        AMQPValue::ShortUInt(value) => Some(value.to_string()),
        AMQPValue::LongInt(value) => Some(value.to_string()),
        AMQPValue::LongUInt(value) => Some(value.to_string()),
        AMQPValue::LongLongInt(value) => Some(value.to_string()),
        AMQPValue::Timestamp(value) => Some(value.to_string()),
        AMQPValue::Float(_)
        | AMQPValue::Double(_)
        | AMQPValue::DecimalValue(_)
        | AMQPValue::FieldArray(_)
        | AMQPValue::FieldTable(_)
        | AMQPValue::ByteArray(_)
        | AMQPValue::Void => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_header_values_are_kept_as_text_and_structures_are_dropped() {
        let table = [
            (AMQPValue::LongString("\u{4e2d}".into()), Some("\u{4e2d}")),
            (AMQPValue::LongString(b"\xff".as_slice().into()), Some("\u{fffd}")),
            (AMQPValue::ShortString("s".into()), Some("s")),
            (AMQPValue::Boolean(true), Some("true")),
            (AMQPValue::LongLongInt(-7), Some("-7")),
            (AMQPValue::Timestamp(1_790_000_000), Some("1790000000")),
            (AMQPValue::Double(1.5), None),
            (AMQPValue::FieldTable(FieldTable::default()), None),
            (AMQPValue::Void, None),
        ];
        for (value, expected) in table {
            assert_eq!(header_text(&value).as_deref(), expected, "{value:?}");
        }
    }
}
