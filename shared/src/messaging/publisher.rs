//! Publishing with exact confirms: [`Publisher::publish`] is `Ok` only once the broker has confirmed and routed this
//! very message.
//!
//! lapin credits a confirm to the wrong message when a channel is published to from two threads, and pins a returned
//! message on whichever confirm completes next. So nobody but a lane (`lane`) touches a channel, callers stand in one
//! bounded queue that idle lanes take from, and a supervisor (`supervisor`) owns the one connection. Left out on
//! purpose: trying again. A caller that is told anything but `Ok` must see to it that the message comes again.

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
/// How long a message may wait for a lane; past it it is not published any more.
const LANE_WAIT_MAX: Duration = Duration::from_secs(1);
/// The longest that [`Publisher::publish`] ever takes: the two above, and a little for the machine.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(3700);
/// How long [`Publisher::close`] waits for what is in flight and for the broker's goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A persistent message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The AMQP `message_id`: unique among everything that is being published.
    pub message_id: String,
    /// The AMQP `type`.
    pub kind: String,
    /// Which of the exchange's queues.
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

/// Why a message must not be counted on. Only for [`Self::Unknown`] may it be in a queue all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The exchange has no queue for its routing key.
    #[error("no queue is bound for it")]
    Unroutable,
    /// The broker refused it (its queue is full), or AMQP cannot carry it.
    #[error("the broker refused it")]
    Refused,
    /// It was handed to the broker and no confirm came: the connection broke, or the broker was too slow.
    #[error("the broker did not confirm it")]
    Unknown,
    /// Too many messages were waiting already.
    #[error("too many messages are waiting to be published")]
    Busy,
    /// There is no usable connection: the broker is away, blocks publishers, or this publisher is closed.
    #[error("there is no usable connection to the broker")]
    Down,
}

/// What a [`Publisher`] is made of.
#[derive(Debug, Clone)]
pub struct PublisherOptions {
    /// The broker.
    pub urls: AmqpUrls,
    /// The exchange that everything goes to.
    pub exchange: &'static str,
    /// What the broker's operator sees.
    pub connection_name: &'static str,
    /// How many channels; 2 to 8 are of use.
    pub lanes: usize,
    /// How many callers may wait for a lane.
    pub waiting_max: usize,
}

/// A handle on the lanes. Clones share them; when the last one is dropped the connection is closed.
#[derive(Debug, Clone)]
pub struct Publisher {
    waiting: mpsc::Sender<Job>,
    state: watch::Receiver<State>,
    closing: Arc<watch::Sender<bool>>,
}

/// Whether publishing makes sense right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    Ready,
    /// The broker has sent `connection.blocked`: it is short of memory or disk.
    Blocked,
    Closed,
}

/// One message and whoever waits for its outcome.
struct Job {
    message: Encoded,
    caller: oneshot::Sender<Result<(), PublishError>>,
    since: Instant,
}

impl Job {
    fn answer(self, outcome: Result<(), PublishError>) {
        // A caller that has gone away is not told: it has taken the message for not stored.
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

    /// Publishes one message, mandatory and persistent, and waits for the broker's word on it.
    ///
    /// Takes less than 4 s. When the future is dropped before a lane took the message, it is not published.
    ///
    /// # Errors
    /// Every one means: not known to be stored. See [`PublishError`].
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
            // A lane was stopped with the message in its hands, or has not let go of it: nobody knows.
            Ok(Err(_)) | Err(_) => Err(PublishError::Unknown),
        }
    }

    /// Whether a publish would be tried right now.
    ///
    /// # Errors
    /// Why not, for a person.
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

    /// Takes no more, waits for the confirms of what is in flight, and closes the connection; bounded in time.
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
    /// AMQP's delivery mode of a message that survives a restart of the broker.
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
