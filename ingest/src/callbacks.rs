//! What happens to one callback: read → prove authentic → publish → reply.
//!
//! The one invariant: SUCCESS is said for [`Outcome::Stored`] and for nothing else. Everything takes place within
//! [`REQUEST_DEADLINE`] of the request's head. Reading and publishing have a bound each: a slow body never takes a slot
//! from a callback that is known to be authentic.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse};
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use metrics::Gauge;
use shared::domain::ids::MchId;
use shared::messaging::publisher::{Outgoing, PublishError};
use shared::protocol::{BODY_BYTES_MAX, CallbackKind, reply};
use tokio::time::{Instant, timeout_at};

use crate::app::App;
use crate::authenticate::{authenticate, header};
use crate::outcome::Outcome;
use crate::reading::Room;
use crate::refusal::Refusal;

/// Every callback is answered this long after its head came in, so that the answer is on the wire inside 4 s: WeChat Pay
/// itself hangs up after 5 s.
pub const REQUEST_DEADLINE: Duration = Duration::from_millis(3900);
/// How much of that the client may take over its body; the rest is for the broker.
pub const BODY_TIMEOUT: Duration = Duration::from_millis(1500);
/// What is set aside for a body before it comes. A callback has 1 to 3 KiB.
const BODY_BYTES_USUAL: usize = 4 * 1024;

/// One more, for as long as it lives: also when the client hangs up and the handler is dropped.
struct OneMore<'app>(&'app Gauge);

impl<'app> OneMore<'app> {
    fn new(gauge: &'app Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for OneMore<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// `POST /wechatpay/v2/payment`.
pub async fn v2_payment(request: HttpRequest, payload: web::Payload, app: web::Data<App>) -> HttpResponse {
    handle(CallbackKind::V2Payment, request, payload, app).await
}

/// `POST /wechatpay/v2/refund`.
pub async fn v2_refund(request: HttpRequest, payload: web::Payload, app: web::Data<App>) -> HttpResponse {
    handle(CallbackKind::V2Refund, request, payload, app).await
}

/// `POST /wechatpay/v3/{mch_id}`.
pub async fn v3(request: HttpRequest, payload: web::Payload, app: web::Data<App>) -> HttpResponse {
    handle(CallbackKind::V3, request, payload, app).await
}

async fn handle(
    kind: CallbackKind,
    request: HttpRequest,
    mut payload: web::Payload,
    app: web::Data<App>,
) -> HttpResponse {
    let since = Instant::now();
    #[expect(clippy::disallowed_methods, reason = "the shell reads the clock once per request")]
    let received_at = Utc::now();
    let (outcome, merchant) = match take(kind, &request, &mut payload, &app, since, received_at).await {
        Ok(merchant) => (Outcome::Stored, Some(merchant)),
        Err(refusal) => {
            refusal.log(kind, &app.refusals);
            (refusal.outcome, refusal.merchant)
        }
    };
    app.meters.count(kind, outcome, merchant.as_ref(), since);
    reply(kind, outcome, payload)
}

/// The whole of it, without the reply; gives the merchant of a callback that was stored.
async fn take(
    kind: CallbackKind,
    request: &HttpRequest,
    payload: &mut web::Payload,
    app: &App,
    since: Instant,
    received_at: DateTime<Utc>,
) -> Result<MchId, Refusal> {
    let (message, merchant) = {
        let _reading = OneMore::new(&app.meters.reading);
        let mut room = app.reading.reserve(BODY_BYTES_USUAL).ok_or(Outcome::Overloaded)?;
        let body = match timeout_at(since + BODY_TIMEOUT, read_body(request, payload, &mut room)).await {
            Ok(body) => body?,
            Err(_elapsed) => return Err(Outcome::Slow.into()),
        };
        authenticate(kind, request, body, app, received_at)?
    };
    match store(app, message, since).await {
        Outcome::Stored => Ok(merchant),
        outcome => Err(Refusal::from(outcome).of(Some(merchant))),
    }
}

/// The body, as long as it stays within [`BODY_BYTES_MAX`], however it is framed, and as long as there is room.
async fn read_body(request: &HttpRequest, payload: &mut web::Payload, room: &mut Room<'_>) -> Result<Vec<u8>, Outcome> {
    let announced = header(request, CONTENT_LENGTH.as_str()).and_then(|length| length.parse::<usize>().ok());
    if announced.is_some_and(|length| length > BODY_BYTES_MAX) {
        return Err(Outcome::TooLarge);
    }
    let mut body = Vec::with_capacity(announced.unwrap_or(BODY_BYTES_USUAL).min(BODY_BYTES_USUAL));
    while let Some(chunk) = payload.next().await {
        // A client that hung up in the middle: nobody reads this reply.
        let chunk = chunk.map_err(|_| Outcome::Malformed)?;
        let length = body.len().saturating_add(chunk.len());
        if length > BODY_BYTES_MAX {
            return Err(Outcome::TooLarge);
        }
        if !room.grow_to(length) {
            return Err(Outcome::Overloaded);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Hands the message to the broker and waits for its confirm, until the request's deadline.
async fn store(app: &App, message: Outgoing, since: Instant) -> Outcome {
    let Some(_slot) = app.enter() else { return Outcome::Overloaded };
    let _in_flight = OneMore::new(&app.meters.in_flight);
    let message_id = message.message_id.clone();
    let published = timeout_at(since + REQUEST_DEADLINE, app.publisher.publish(message)).await;
    match published.unwrap_or(Err(PublishError::Unknown)) {
        Ok(()) => {
            tracing::debug!(message_id, "stored a callback");
            Outcome::Stored
        }
        Err(error) => {
            let outcome = Outcome::of_error(error, app.is_stopping());
            if app.warnings.take() {
                tracing::warn!(message_id, outcome = outcome.name(), "an authentic callback was not stored");
            }
            outcome
        }
    }
}

fn reply(kind: CallbackKind, outcome: Outcome, payload: web::Payload) -> HttpResponse {
    let (content_type, success, failure): (_, _, fn(&'static str) -> String) = match kind {
        CallbackKind::V2Payment | CallbackKind::V2Refund => {
            (reply::V2_CONTENT_TYPE, reply::V2_SUCCESS, reply::v2_failure)
        }
        CallbackKind::V3 => (reply::V3_CONTENT_TYPE, reply::V3_SUCCESS, reply::v3_failure),
    };
    let (status, reason) = outcome.reply();
    let mut response = HttpResponse::build(status);
    response.content_type(content_type);
    if outcome == Outcome::Stored {
        return response.body(success);
    }
    let text = Bytes::from(failure(reason));
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
