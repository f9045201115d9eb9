//! Whether a callback is WeChat Pay's: from a request and its body to the message to store, or to how it ends.
//!
//! All of it is computation: nothing is asked of anybody else before a callback is known to be authentic.

use actix_web::HttpRequest;
use actix_web::http::header::CONTENT_TYPE;
use chrono::{DateTime, Utc};
use shared::domain::ids::MchId;
use shared::merchants_file::MeteredKeyRing;
use shared::messaging::envelope::Envelope;
use shared::messaging::publisher::Outgoing;
use shared::protocol::keys::Merchant;
use shared::protocol::v2::xml::XmlError;
use shared::protocol::v2::{payment, refund, signature};
use shared::protocol::v3::headers::{SERIAL, UnverifiedHeaders, VerifyError};
use shared::protocol::{AuthenticateError, CallbackKind};

use crate::app::App;
use crate::outcome::Outcome;
use crate::refusal::Refusal;

/// The message to store and its merchant, once the callback is known to be WeChat Pay's.
pub(crate) fn authenticate(
    kind: CallbackKind,
    request: &HttpRequest,
    body: Vec<u8>,
    app: &App,
    received_at: DateTime<Utc>,
) -> Result<(Outgoing, MchId), Refusal> {
    let keys = app.merchants.keys();
    match prove(kind, request, &body, &keys, app, received_at) {
        Ok((envelope, mch_id)) => Ok((envelope.into_outgoing(body), mch_id)),
        Err(refusal) => Err(refusal.look_into(kind, request, &body, keys.ring())),
    }
}

fn prove(
    kind: CallbackKind,
    request: &HttpRequest,
    body: &[u8],
    keys: &MeteredKeyRing,
    app: &App,
    received_at: DateTime<Utc>,
) -> Result<(Envelope, MchId), Refusal> {
    let envelope = |mch_id: &str| {
        Envelope::new(received_at, kind, mch_id, header(request, CONTENT_TYPE.as_str()), header(request, "traceparent"))
    };
    Ok(match kind {
        CallbackKind::V2Payment => {
            let payment = payment::authenticate(body, keys.ring()).map_err(|error| refused_v2(&error))?;
            keys.count_use(payment.key);
            (envelope(payment.key.mch_id.as_str()), payment.key.mch_id.clone())
        }
        CallbackKind::V2Refund => {
            let refund = refund::authenticate(body, keys.ring()).map_err(|error| refused_v2(&error))?;
            keys.count_use(refund.key);
            (envelope(refund.key.mch_id.as_str()), refund.key.mch_id.clone())
        }
        CallbackKind::V3 => {
            let (headers, merchant) = verify_v3(request, body, keys, app, received_at)?;
            (envelope(merchant.mch_id().as_str()).with_signature(headers.evidence()), merchant.mch_id().clone())
        }
    })
}

/// The key's serial and the signature stand in the headers, the merchant in the path.
fn verify_v3<'request, 'ring>(
    request: &'request HttpRequest,
    body: &[u8],
    keys: &'ring MeteredKeyRing,
    app: &App,
    received_at: DateTime<Utc>,
) -> Result<(UnverifiedHeaders<'request>, &'ring Merchant), Refusal> {
    let mch_id = request.match_info().get("mch_id").unwrap_or_default();
    let stranger = || Refusal::new(Outcome::UnknownMerchant, format!("the path names merchant {mch_id}"));
    let merchant = keys.ring().merchant(mch_id).ok_or_else(stranger)?;
    let headers = UnverifiedHeaders::read(|name| header(request, name)).map_err(refused_v3)?;
    match headers.verify(body, merchant, received_at) {
        Ok(authentic) => keys.count_use(authentic.key),
        Err(VerifyError::SignatureDiffers) if app.diagnoses.take() && headers.was_altered(merchant) => {
            return Err(Outcome::Altered.into());
        }
        Err(VerifyError::UnknownSerial) => {
            let serial = header(request, SERIAL).unwrap_or_default();
            return Err(Refusal::new(Outcome::UnknownSerial, format!("{SERIAL} is {serial}")));
        }
        Err(error) => return Err(refused_v3(error)),
    }
    Ok((headers, merchant))
}

fn refused_v2(error: &AuthenticateError) -> Refusal {
    let outcome = match &error {
        AuthenticateError::Malformed(XmlError::TooLarge) => Outcome::TooLarge,
        AuthenticateError::Malformed(_) | AuthenticateError::NoMerchant => Outcome::Malformed,
        AuthenticateError::UnknownMerchant(_) => Outcome::UnknownMerchant,
        AuthenticateError::NotSigned(signature::VerifyError::SignTypeNotAccepted(_)) => Outcome::DigestNotAccepted,
        AuthenticateError::NotSigned(_) | AuthenticateError::NotOpened(_) => Outcome::NotAuthentic,
    };
    Refusal::new(outcome, error.to_string())
}

fn refused_v3(error: VerifyError) -> Refusal {
    let outcome = match error {
        VerifyError::MissingHeader(_) => Outcome::MissingHeader,
        VerifyError::MalformedHeader(_) => Outcome::Malformed,
        VerifyError::SignatureType => Outcome::UnknownSignatureType,
        VerifyError::Probe => Outcome::Probe,
        VerifyError::ClockSkew(_) => Outcome::ClockSkew,
        VerifyError::UnknownSerial => Outcome::UnknownSerial,
        VerifyError::SignatureDiffers => Outcome::Forged,
    };
    Refusal::new(outcome, error.to_string())
}

/// The value of a header that is there exactly once.
pub(crate) fn header<'request>(request: &'request HttpRequest, name: &str) -> Option<&'request str> {
    let mut values = request.headers().get_all(name);
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}
