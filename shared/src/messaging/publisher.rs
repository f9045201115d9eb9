//! Publishing with exact confirms: [`Publisher::publish`] is `Ok` only once the broker has confirmed and routed this
//! very message.
//!
//! lapin credits a confirm to the wrong message when two threads publish on one channel, and attaches a returned message to
//! whichever confirm completes next. Therefore only a lane (`lane`) uses a channel, callers wait in one bounded queue from
//! which idle lanes take, and a supervisor (`supervisor`) owns the one connection. Left out on purpose: retries. A caller
//! that gets anything but `Ok` must make sure that the message comes again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::connection::AmqpUrls;

mod lane;
mod supervisor;

/// How long the confirms of one batch may take. Past it the outcome is unknown.
pub const CONFIRM_TIMEOUT: Duration = Duration::from_millis(2500);
/// How long a message may wait for a lane; after that it is not published.
const LANE_WAIT_MAX: Duration = Duration::from_secs(1);
/// The longest that [`Publisher::publish`] ever takes: the two above, plus some slack.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(3700);
/// How long [`Publisher::close`] waits for messages in flight and for the connection to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A persistent message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The AMQP `message_id`: unique among everything that is being published.
    pub message_id: String,
    /// The AMQP `type`.
    pub kind: String,
    /// Selects the exchange's queue.
    pub routing_key: String,
    /// The AMQP `content_type`.
    pub content_type: Option<String>,
    /// The AMQP `timestamp`.
    pub timestamp_seconds: u64,
    /// Further headers.
    pub headers: BTreeMap<String, String>,
    /// The bytes.
    pub body: Vec<u8>,
}

/// Why a message is not known to be stored. Only with [`Self::Unknown`] may it be in a queue nevertheless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The exchange has no queue for its routing key.
    #[error("no queue is bound for it")]
    Unroutable,
    /// The broker refused it (its queue is full), or AMQP cannot carry it.
    #[error("the broker refused it")]
    Refused,
    /// It was sent to the broker and no confirm came: the connection broke, or the broker was too slow.
    #[error("the broker did not confirm it")]
    Unknown,
    /// Too many messages were waiting already.
    #[error("too many messages are waiting to be published")]
    Busy,
    /// There is no usable connection: the broker is unavailable or blocks publishers, or this publisher is closed.
    #[error("there is no usable connection to the broker")]
    Down,
}

/// What a [`Publisher`] needs to start.
#[derive(Debug, Clone)]
pub struct PublisherOptions {
    /// The broker.
    pub urls: AmqpUrls,
    /// The exchange that all messages are published to.
    pub exchange: &'static str,
    /// The connection's name in the broker's management UI.
    pub connection_name: &'static str,
    /// How many channels; 2 to 8 make sense.
    pub lanes: usize,
    /// How many callers may wait for a lane.
    pub waiting_max: usize,
}

/// A handle on the lanes. Clones share them; when the last clone is dropped, the connection is closed.
#[derive(Debug, Clone)]
pub struct Publisher {
    waiting: mpsc::Sender<Job>,
    state: watch::Receiver<State>,
    closing: Arc<watch::Sender<bool>>,
}

/// Whether messages can be published right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    Ready,
    /// The broker has sent `connection.blocked`: it is short of memory or disk.
    Blocked,
    Closed,
}

/// One message and the caller that waits for its outcome.
struct Job {
    message: Encoded,
    caller: oneshot::Sender<Result<(), PublishError>>,
    since: Instant,
}

impl Job {
    fn answer(self, outcome: Result<(), PublishError>) {
        // A caller that stopped waiting has already treated the message as not stored.
        let _gone = self.caller.send(outcome);
    }
}

impl Publisher {
    /// Starts to connect, on the current tokio runtime, which must be a multi-threaded one that outlives the handle.
    #[must_use]
    pub fn start(options: PublisherOptions) -> Self {
        describe_metrics();
        let (sender, receiver) = mpsc::channel(options.waiting_max.max(1));
        let (state_sender, state) = watch::channel(State::Connecting);
        let (closing_sender, closing) = watch::channel(false);
        tokio::spawn(supervisor::supervise(options, receiver, state_sender, closing));
        Self { waiting: sender, state, closing: Arc::new(closing_sender) }
    }

    /// Publishes one message, mandatory and persistent, and waits for the broker's confirm.
    ///
    /// Takes less than 4 s. When the future is dropped before a lane took the message, it is not published.
    ///
    /// # Errors
    /// Every error means that the message is not known to be stored. See [`PublishError`].
    pub async fn publish(&self, message: Outgoing) -> Result<(), PublishError> {
        self.readiness().map_err(|_| PublishError::Down)?;
        let message = Encoded::new(message).ok_or(PublishError::Refused)?;
        let (caller, outcome) = oneshot::channel();
        self.waiting.try_send(Job { message, caller, since: Instant::now() }).map_err(|error| match error {
            TrySendError::Full(_) => PublishError::Busy,
            TrySendError::Closed(_) => PublishError::Down,
        })?;
        match tokio::time::timeout(ANSWER_TIMEOUT, outcome).await {
            Ok(Ok(outcome)) => outcome,
            // A lane was stopped while it had the message, or still has it.
            Ok(Err(_)) | Err(_) => Err(PublishError::Unknown),
        }
    }

    /// Whether a publish would be attempted right now.
    ///
    /// # Errors
    /// Why not, for an operator.
    pub fn readiness(&self) -> Result<(), &'static str> {
        if *self.closing.borrow() {
            return Err("the publisher is closed");
        }
        match *self.state.borrow() {
            State::Ready => Ok(()),
            State::Connecting => Err("not connected to the broker"),
            State::Blocked => Err("the broker is short of memory or disk and blocks publishers"),
            State::Closed => Err("the publisher is closed"),
        }
    }

    /// Accepts no more messages, waits for the confirms of those in flight, and closes the connection; bounded in time.
    pub async fn close(&self) {
        self.closing.send_replace(true);
        let mut state = self.state.clone();
        let closed = state.wait_for(|state| *state == State::Closed);
        if tokio::time::timeout(CLOSE_TIMEOUT, closed).await.is_err() {
            tracing::warn!("the publisher did not close within {CLOSE_TIMEOUT:?}");
        }
    }
}

/// An [`Outgoing`] in AMQP's own types.
struct Encoded {
    message_id: ShortString,
    routing_key: ShortString,
    properties: lapin::BasicProperties,
    body: Vec<u8>,
}

impl Encoded {
    /// AMQP's delivery mode for a message that survives a restart of the broker.
    const PERSISTENT: u8 = 2;

    /// `None` when a part is longer than AMQP can carry.
    fn new(message: Outgoing) -> Option<Self> {
        let short = |text: String| ShortString::try_new(text).ok();
        let message_id = short(message.message_id)?;
        let mut headers = FieldTable::default();
        for (name, value) in message.headers {
            headers.insert(short(name)?, AMQPValue::LongString(LongString::from(value)));
        }
        let mut properties = lapin::BasicProperties::default()
            .with_message_id(message_id.clone())
            .with_type(short(message.kind)?)
            .with_timestamp(message.timestamp_seconds)
            .with_delivery_mode(Self::PERSISTENT)
            .with_headers(headers);
        if let Some(content_type) = message.content_type {
            properties = properties.with_content_type(short(content_type)?);
        }
        Some(Self { message_id, routing_key: short(message.routing_key)?, properties, body: message.body })
    }
}

fn describe_metrics() {
    metrics::describe_gauge!("publisher_ready", "1 while messages can be published");
    metrics::describe_histogram!("publish_confirm_seconds", "From publishing a batch to its last confirm");
    metrics::describe_histogram!("publish_batch_size", "Messages published together on one lane");
}
