//! Whether a callback is WeChat Pay's: from a request and its body to the message to publish, or to a refusal.
//!
//! Pure, apart from counting which keys are used: no network and no clock of its own, so that it is tested without a
//! publisher, and so that no callback costs anyone else anything before it is known to be authentic.

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

use crate::outcome::Outcome;
use crate::rate_limit::RateLimit;
use crate::refusal::Refusal;
use crate::request::Request;

/// The message to publish and its merchant, once the callback is known to be WeChat Pay's.
///
/// `diagnoses` limits how often the cause of a wrong v3 signature is looked for.
pub(crate) fn authenticate(
    request: Request<'_>,
    body: Vec<u8>,
    keys: &MeteredKeyRing,
    diagnoses: &RateLimit,
    received_at: DateTime<Utc>,
) -> Result<(Outgoing, MchId), Refusal> {
    match prove(request, &body, keys, diagnoses, received_at) {
        Ok((envelope, mch_id)) => Ok((envelope.into_outgoing(body), mch_id)),
        Err(refusal) => Err(refusal.look_into(request, &body, keys.ring())),
    }
}

fn prove(
    request: Request<'_>,
    body: &[u8],
    keys: &MeteredKeyRing,
    diagnoses: &RateLimit,
    received_at: DateTime<Utc>,
) -> Result<(Envelope, MchId), Refusal> {
    let envelope = |mch_id: &MchId| {
        let (content_type, traceparent) = (request.header(CONTENT_TYPE.as_str()), request.header("traceparent"));
        Envelope::new(received_at, request.kind, mch_id.as_str(), content_type, traceparent)
    };
    Ok(match request.kind {
        CallbackKind::V2Payment => {
            let payment = payment::authenticate(body, keys.ring()).map_err(|error| refuse_v2(&error))?;
            keys.count_use(payment.key);
            (envelope(&payment.key.mch_id), payment.key.mch_id.clone())
        }
        CallbackKind::V2Refund => {
            let refund = refund::authenticate(body, keys.ring()).map_err(|error| refuse_v2(&error))?;
            keys.count_use(refund.key);
            (envelope(&refund.key.mch_id), refund.key.mch_id.clone())
        }
        CallbackKind::V3 => {
            let (headers, merchant) = verify_v3(request, body, keys, diagnoses, received_at)?;
            (envelope(merchant.mch_id()).with_signature(headers.evidence()), merchant.mch_id().clone())
        }
    })
}

/// The key's serial and the signature are in the headers, the merchant is in the path.
fn verify_v3<'request, 'ring>(
    request: Request<'request>,
    body: &[u8],
    keys: &'ring MeteredKeyRing,
    diagnoses: &RateLimit,
    received_at: DateTime<Utc>,
) -> Result<(UnverifiedHeaders<'request>, &'ring Merchant), Refusal> {
    let mch_id = request.path_mch_id;
    let stranger = || Refusal::new(Outcome::UnknownMerchant, format!("the path names merchant {mch_id}"));
    let merchant = keys.ring().merchant(mch_id).ok_or_else(stranger)?;
    let headers = UnverifiedHeaders::read(|name| request.header(name)).map_err(refuse_v3)?;
    match headers.verify(body, merchant, received_at) {
        Ok(authentic) => keys.count_use(authentic.key),
        Err(VerifyError::SignatureDiffers) if diagnoses.take() && headers.was_altered(merchant) => {
            return Err(Outcome::Altered.into());
        }
        Err(VerifyError::UnknownSerial) => {
            let serial = request.header(SERIAL).unwrap_or_default();
            return Err(Refusal::new(Outcome::UnknownSerial, format!("{SERIAL} is {serial}")));
        }
        Err(error) => return Err(refuse_v3(error)),
    }
    Ok((headers, merchant))
}

fn refuse_v2(error: &AuthenticateError) -> Refusal {
    let outcome = match error {
        AuthenticateError::Malformed(XmlError::TooLarge) => Outcome::TooLarge,
        AuthenticateError::Malformed(_) | AuthenticateError::NoMerchant => Outcome::Malformed,
        AuthenticateError::UnknownMerchant(_) => Outcome::UnknownMerchant,
        AuthenticateError::NotSigned(signature::VerifyError::SignTypeNotAccepted(_)) => Outcome::DigestNotAccepted,
        AuthenticateError::NotSigned(_) | AuthenticateError::NotOpened(_) => Outcome::NotAuthentic,
    };
    Refusal::new(outcome, error.to_string())
}

fn refuse_v3(error: VerifyError) -> Refusal {
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

#[cfg(test)]
mod tests;
