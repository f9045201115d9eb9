//! What happens to one callback: read → authenticate → publish → reply.
//!
//! The one invariant: the reply is SUCCESS for [`Outcome::Stored`] and for nothing else. Everything happens within
//! [`REQUEST_DEADLINE`] of the request's head. Reading and publishing are bounded separately: a slow body never takes a slot
//! from a callback that is known to be authentic.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use metrics::Gauge;
use shared::domain::ids::MchId;
use shared::messaging::publisher::{Outgoing, PublishError};
use shared::protocol::{CallbackKind, reply};
use tokio::time::{Instant, timeout_at};

use crate::authenticate::authenticate;
use crate::body::{BODY_BYTES_USUAL, FailureBody, read_body};
use crate::outcome::Outcome;
use crate::refusal::Refusal;
use crate::request::Request;
use crate::state::App;

/// Every callback is answered at most this long after its head came in, so that the reply is on the wire within 4 s: WeChat
/// Pay itself hangs up after 5 s.
const REQUEST_DEADLINE: Duration = Duration::from_millis(3900);
/// How much of that the client may spend on sending the body; the rest is for the broker.
const BODY_TIMEOUT: Duration = Duration::from_millis(1500);

/// `POST /wechatpay/v2/payment`.
pub(crate) async fn v2_payment(request: HttpRequest, payload: web::Payload, app: web::Data<App>) -> HttpResponse {
    process(CallbackKind::V2Payment, request, payload, app).await
}

/// `POST /wechatpay/v2/refund`.
pub(crate) async fn v2_refund(request: HttpRequest, payload: web::Payload, app: web::Data<App>) -> HttpResponse {
    process(CallbackKind::V2Refund, request, payload, app).await
}

/// `POST /wechatpay/v3/{mch_id}`.
pub(crate) async fn v3(request: HttpRequest, payload: web::Payload, app: web::Data<App>) -> HttpResponse {
    process(CallbackKind::V3, request, payload, app).await
}

/// When a request's head came in.
#[derive(Debug, Clone, Copy)]
struct Received {
    /// By the wall clock: what the callback's id and the signature's time are about.
    at: DateTime<Utc>,
    /// By the monotonic clock, from which the deadlines count.
    since: Instant,
}

impl Received {
    #[expect(clippy::disallowed_methods, reason = "the shell reads the clock once per request")]
    fn now() -> Self {
        Self { at: Utc::now(), since: Instant::now() }
    }
}

async fn process(
    kind: CallbackKind,
    request: HttpRequest,
    mut payload: web::Payload,
    app: web::Data<App>,
) -> HttpResponse {
    let received = Received::now();
    let request = Request::new(kind, &request);
    let (outcome, merchant) = match receive_and_publish(&app, request, &mut payload, received).await {
        Ok(merchant) => (Outcome::Stored, Some(merchant)),
        Err(refusal) => {
            refusal.log(kind, &app.refusals);
            (refusal.outcome, refusal.merchant)
        }
    };
    app.meters.count(kind, outcome, merchant.as_ref(), received.since);
    reply(kind, outcome, payload)
}

/// Everything but the reply. Gives the merchant of a callback that was stored.
async fn receive_and_publish(
    app: &App,
    request: Request<'_>,
    payload: &mut web::Payload,
    received: Received,
) -> Result<MchId, Refusal> {
    let (message, merchant) = receive(app, request, payload, received).await?;
    match publish_and_confirm(app, message, received.since).await {
        Outcome::Stored => Ok(merchant),
        outcome => Err(Refusal::from(outcome).about(Some(merchant))),
    }
}

/// Reads the body and authenticates it. The memory reserved for the body is released on return: publishing has a bound of
/// its own.
async fn receive(
    app: &App,
    request: Request<'_>,
    payload: &mut web::Payload,
    received: Received,
) -> Result<(Outgoing, MchId), Refusal> {
    let _reading = OneMore::new(&app.meters.reading);
    let mut room = app.reading.reserve(BODY_BYTES_USUAL).ok_or(Outcome::Overloaded)?;
    let body = match timeout_at(received.since + BODY_TIMEOUT, read_body(request, payload, &mut room)).await {
        Ok(body) => body?,
        Err(_elapsed) => return Err(Outcome::Slow.into()),
    };
    authenticate(request, body, &app.merchants.keys(), &app.diagnoses, received.at)
}

/// Publishes the message and waits for its confirm, until the request's deadline.
async fn publish_and_confirm(app: &App, message: Outgoing, since: Instant) -> Outcome {
    let Some(_slot) = app.try_admit() else { return Outcome::Overloaded };
    let _in_flight = OneMore::new(&app.meters.in_flight);
    let message_id = message.message_id.clone();
    let published = timeout_at(since + REQUEST_DEADLINE, app.publisher.publish(message)).await;
    match published.unwrap_or(Err(PublishError::Unknown)) {
        Ok(()) => {
            tracing::debug!(message_id, "stored a callback");
            Outcome::Stored
        }
        Err(PublishError::Down) if app.is_stopping() => not_stored(app, &message_id, Outcome::Stopping),
        Err(error) => not_stored(app, &message_id, error.into()),
    }
}

fn not_stored(app: &App, message_id: &str, outcome: Outcome) -> Outcome {
    if app.warnings.take() {
        tracing::warn!(message_id, outcome = outcome.name(), "an authentic callback was not stored");
    }
    outcome
}

fn reply(kind: CallbackKind, outcome: Outcome, payload: web::Payload) -> HttpResponse {
    let (content_type, success, failure): (_, _, fn(&'static str) -> String) = match kind {
        CallbackKind::V2Payment | CallbackKind::V2Refund => {
            (reply::V2_CONTENT_TYPE, reply::V2_SUCCESS, reply::v2_failure)
        }
        CallbackKind::V3 => (reply::V3_CONTENT_TYPE, reply::V3_SUCCESS, reply::v3_failure),
    };
    let mut response = HttpResponse::build(outcome.status());
    response.content_type(content_type);
    if outcome == Outcome::Stored {
        return response.body(success);
    }
    response.body(FailureBody::new(failure(outcome.reply()), payload))
}

/// Raises a gauge by one for as long as it lives: also when the client hangs up and the handler is dropped.
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

#[cfg(test)]
mod tests {
    use actix_web::FromRequest;
    use actix_web::body::to_bytes;
    use actix_web::http::StatusCode;
    use actix_web::test::TestRequest;

    use super::*;

    #[actix_web::test]
    async fn only_a_stored_callback_is_answered_success_in_both_protocols() {
        for kind in CallbackKind::ALL {
            for &outcome in Outcome::ALL {
                let (request, mut payload) = TestRequest::post().to_http_parts();
                let payload = web::Payload::from_request(&request, &mut payload).await.unwrap();
                let reply = reply(kind, outcome, payload);
                let (status, content_type) = (reply.status(), reply.headers().get("content-type").cloned().unwrap());
                let text = to_bytes(reply.into_body()).await.ok().unwrap();
                let is_success = outcome == Outcome::Stored;
                assert_eq!(status == StatusCode::OK, is_success, "{outcome:?}");
                match kind {
                    CallbackKind::V2Payment | CallbackKind::V2Refund => {
                        assert_eq!(content_type, reply::V2_CONTENT_TYPE);
                        let failure = reply::v2_failure(outcome.reply());
                        assert_eq!(text, if is_success { reply::V2_SUCCESS } else { &failure }, "{outcome:?}");
                    }
                    CallbackKind::V3 => {
                        assert_eq!(content_type, reply::V3_CONTENT_TYPE);
                        let failure = reply::v3_failure(outcome.reply());
                        assert_eq!(text, if is_success { reply::V3_SUCCESS } else { &failure }, "{outcome:?}");
                    }
                }
            }
        }
    }
}
