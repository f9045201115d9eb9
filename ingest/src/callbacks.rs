//! What happens to one callback: read → prove authentic → publish → reply.
//!
//! The one invariant: SUCCESS is said for [`Outcome::Stored`] and for nothing else. Everything takes place within
//! [`REQUEST_DEADLINE`] of the request's head. No body, key or payer is ever logged; forgeries cost a counter and a debug
//! line, because whoever forges decides how many there are.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, MessageBody};
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse};
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use metrics::{Counter, Gauge, Histogram};
use shared::messaging::envelope::{CallbackKind, Envelope};
use shared::messaging::publisher::{Outgoing, PublishError};
use shared::protocol::v2::payment;
use shared::protocol::v2::xml::XmlError;
use shared::protocol::{AuthenticateError, BODY_BYTES_MAX, reply};
use tokio::time::{Instant, timeout_at};

use crate::app::App;

/// Every callback is answered this long after its head came in, so that the answer is on the wire inside 4 s: WeChat Pay
/// itself hangs up after 5 s.
pub const REQUEST_DEADLINE: Duration = Duration::from_millis(3900);
/// How much of that the client may take over its body; the rest is for the broker.
pub const BODY_TIMEOUT: Duration = Duration::from_millis(1500);
/// What is set aside for a body of unknown length. A callback has 1 to 3 KiB.
const BODY_BYTES_USUAL: usize = 4 * 1024;

/// How a callback ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The broker has confirmed and routed it. The only success.
    Stored,
    /// It does not have the shape of a callback.
    Malformed,
    /// No key of its merchant made its signature.
    NotAuthentic,
    /// It names a merchant that is not ours.
    UnknownMerchant,
    /// More than [`BODY_BYTES_MAX`] bytes.
    TooLarge,
    /// Its body did not come within [`BODY_TIMEOUT`].
    Slow,
    /// `IN_FLIGHT_MAX` callbacks are in the works already.
    Overloaded,
    /// The broker has no queue for it.
    Unroutable,
    /// The broker refused it.
    Refused,
    /// The broker did not confirm it in time. It may be stored all the same; it comes again, and is applied once.
    Unknown,
    /// Too many messages were waiting for a lane.
    Busy,
    /// The broker is away.
    Down,
    /// This process is stopping and has said goodbye to the broker.
    Stopping,
}

impl Outcome {
    const ALL: [Self; 13] = [
        Self::Stored,
        Self::Malformed,
        Self::NotAuthentic,
        Self::UnknownMerchant,
        Self::TooLarge,
        Self::Slow,
        Self::Overloaded,
        Self::Unroutable,
        Self::Refused,
        Self::Unknown,
        Self::Busy,
        Self::Down,
        Self::Stopping,
    ];

    /// The metric's label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Malformed => "malformed",
            Self::NotAuthentic => "not_authentic",
            Self::UnknownMerchant => "unknown_merchant",
            Self::TooLarge => "too_large",
            Self::Slow => "slow",
            Self::Overloaded => "overloaded",
            Self::Unroutable => "unroutable",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
            Self::Busy => "busy",
            Self::Down => "down",
            Self::Stopping => "stopping",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Stored => StatusCode::OK,
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::NotAuthentic => StatusCode::UNAUTHORIZED,
            Self::UnknownMerchant => StatusCode::NOT_FOUND,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Overloaded
            | Self::Unroutable
            | Self::Refused
            | Self::Unknown
            | Self::Busy
            | Self::Down
            | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What the reply says: short, and the same for everything inside.
    fn reason(self) -> &'static str {
        match self {
            Self::Stored => "OK",
            Self::Malformed => "malformed",
            Self::NotAuthentic => "signature differs",
            Self::UnknownMerchant => "unknown merchant",
            Self::TooLarge => "too large",
            Self::Slow => "too slow",
            Self::Overloaded
            | Self::Unroutable
            | Self::Refused
            | Self::Unknown
            | Self::Busy
            | Self::Down
            | Self::Stopping => "not stored, send it again",
        }
    }

    fn of_error(error: PublishError, stopping: bool) -> Self {
        match error {
            PublishError::Unroutable => Self::Unroutable,
            PublishError::Refused => Self::Refused,
            PublishError::Unknown => Self::Unknown,
            PublishError::Busy => Self::Busy,
            PublishError::Down if stopping => Self::Stopping,
            PublishError::Down => Self::Down,
        }
    }
}

/// Handles that are looked up once: a registry look-up per request would cost more than the rest of the bookkeeping.
#[derive(Debug)]
pub struct Metrics {
    outcomes: HashMap<Outcome, Counter>,
    seconds: Histogram,
    in_flight: Gauge,
}

impl Metrics {
    /// Registers every outcome, so that each is there with a 0 before it first happens.
    #[must_use]
    pub fn register() -> Self {
        metrics::describe_counter!("ingest_callbacks_total", "Callbacks by how they ended; only `stored` got SUCCESS");
        metrics::describe_histogram!("ingest_callback_seconds", "From a callback's head to its reply");
        metrics::describe_gauge!("ingest_in_flight", "Callbacks in the works");
        let kind = CallbackKind::V2Payment.name();
        let counter =
            |outcome: Outcome| metrics::counter!("ingest_callbacks_total", "kind" => kind, "outcome" => outcome.name());
        Self {
            outcomes: Outcome::ALL.into_iter().map(|outcome| (outcome, counter(outcome))).collect(),
            seconds: metrics::histogram!("ingest_callback_seconds"),
            in_flight: metrics::gauge!("ingest_in_flight"),
        }
    }

    fn count(&self, outcome: Outcome, since: Instant) {
        if let Some(counter) = self.outcomes.get(&outcome) {
            counter.increment(1);
        }
        self.seconds.record(since.elapsed());
    }
}

/// One more in the works, for as long as it lives: also when the client hangs up and the handler is dropped.
struct InFlight<'app>(&'app Gauge);

impl<'app> InFlight<'app> {
    fn new(gauge: &'app Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// `POST /wechatpay/v2/payment`.
pub async fn v2_payment(request: HttpRequest, mut payload: web::Payload, app: web::Data<App>) -> HttpResponse {
    let since = Instant::now();
    #[expect(clippy::disallowed_methods, reason = "the shell reads the clock once per request")]
    let received_at = Utc::now();
    let outcome = take(&request, &mut payload, &app, since, received_at).await;
    app.metrics.count(outcome, since);
    v2_reply(outcome, payload)
}

/// The whole of it, without the reply.
async fn take(
    request: &HttpRequest,
    payload: &mut web::Payload,
    app: &App,
    since: Instant,
    received_at: DateTime<Utc>,
) -> Outcome {
    let Some(_slot) = app.enter() else { return refused(Outcome::Overloaded) };
    let _in_flight = InFlight::new(&app.metrics.in_flight);
    let body = match timeout_at(since + BODY_TIMEOUT, read_body(request, payload)).await {
        Ok(Ok(body)) => body,
        Ok(Err(outcome)) => return refused(outcome),
        Err(_elapsed) => return refused(Outcome::Slow),
    };
    let message = match authenticate_v2(request, body, app, received_at) {
        Ok(message) => message,
        Err(outcome) => return outcome,
    };
    store(app, message, since).await
}

/// Whoever sends what is no callback decides how often: a counter, and a line for those who ask for it.
fn refused(outcome: Outcome) -> Outcome {
    tracing::debug!(outcome = outcome.name(), "refused a callback");
    outcome
}

/// The body, as long as it stays within [`BODY_BYTES_MAX`], however it is framed.
async fn read_body(request: &HttpRequest, payload: &mut web::Payload) -> Result<Vec<u8>, Outcome> {
    let announced = header(request, CONTENT_LENGTH.as_str()).and_then(|length| length.parse::<usize>().ok());
    if announced.is_some_and(|length| length > BODY_BYTES_MAX) {
        return Err(Outcome::TooLarge);
    }
    let mut body = Vec::with_capacity(announced.unwrap_or(BODY_BYTES_USUAL));
    while let Some(chunk) = payload.next().await {
        // A client that hung up in the middle: nobody reads this reply.
        let chunk = chunk.map_err(|_| Outcome::Malformed)?;
        if body.len().saturating_add(chunk.len()) > BODY_BYTES_MAX {
            return Err(Outcome::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The message to store, once a key of the merchant that it names has made its signature.
fn authenticate_v2(
    request: &HttpRequest,
    body: Vec<u8>,
    app: &App,
    received_at: DateTime<Utc>,
) -> Result<Outgoing, Outcome> {
    let envelope = match payment::authenticate(&body, &app.merchants.ring()) {
        Ok(fields) => Envelope::new(
            received_at,
            CallbackKind::V2Payment,
            fields.get("mch_id").unwrap_or_default(),
            header(request, CONTENT_TYPE.as_str()),
            header(request, "traceparent"),
        ),
        Err(error) => {
            let outcome = match &error {
                AuthenticateError::Malformed(XmlError::TooLarge) => Outcome::TooLarge,
                AuthenticateError::Malformed(_) | AuthenticateError::NoMerchant => Outcome::Malformed,
                AuthenticateError::UnknownMerchant(_) => Outcome::UnknownMerchant,
                AuthenticateError::NotAuthentic(_) => Outcome::NotAuthentic,
            };
            tracing::debug!(outcome = outcome.name(), %error, "refused a callback");
            return Err(outcome);
        }
    };
    Ok(envelope.into_outgoing(body))
}

/// Hands the message to the broker and waits for its confirm, until the request's deadline.
async fn store(app: &App, message: Outgoing, since: Instant) -> Outcome {
    let message_id = message.message_id.clone();
    let published = timeout_at(since + REQUEST_DEADLINE, app.publisher.publish(message)).await;
    match published.unwrap_or(Err(PublishError::Unknown)) {
        Ok(()) => {
            tracing::debug!(message_id, "stored a callback");
            Outcome::Stored
        }
        Err(error) => {
            let outcome = Outcome::of_error(error, app.is_stopping());
            tracing::warn!(message_id, outcome = outcome.name(), "an authentic callback was not stored");
            outcome
        }
    }
}

fn header<'request>(request: &'request HttpRequest, name: &str) -> Option<&'request str> {
    request.headers().get(name).and_then(|value| value.to_str().ok())
}

fn v2_reply(outcome: Outcome, payload: web::Payload) -> HttpResponse {
    let mut response = HttpResponse::build(outcome.status());
    response.content_type(reply::V2_CONTENT_TYPE);
    if outcome == Outcome::Stored {
        return response.body(reply::V2_SUCCESS);
    }
    let text = Bytes::from(reply::v2_failure(outcome.reason()));
    response.body(FailureBody { text, _unread: payload })
}

/// A failure's text, together with what was not read of the request. While that is alive actix closes the connection
/// after the reply; were it dropped, actix would read on to the end of a chunked body, which may never come.
struct FailureBody {
    text: Bytes,
    _unread: web::Payload,
}

impl MessageBody for FailureBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        self.text.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let text = std::mem::take(&mut self.text);
        Poll::Ready((!text.is_empty()).then_some(Ok(text)))
    }
}
