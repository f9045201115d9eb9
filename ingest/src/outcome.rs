//! How a callback can end: the status and the text of the reply, the metric's label, and what an operator has to do.

use actix_web::http::StatusCode;
use shared::messaging::publisher::PublishError;

/// How a callback ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The broker has confirmed and routed it. The only success.
    Stored,
    /// It does not have the shape of a callback.
    Malformed,
    /// v2: no key of its merchant made its signature, or opens it.
    NotAuthentic,
    /// v2: signed by a digest that its merchant does not accept. The signature itself was not looked at.
    DigestNotAccepted,
    /// It belongs to another of our addresses.
    WrongRoute,
    /// v3: a header with the signature is missing.
    MissingHeader,
    /// v3: signed by a method that this version does not know.
    UnknownSignatureType,
    /// v3: WeChat Pay's own probe, wrong on purpose.
    Probe,
    /// v3: signed too long ago, or in the future.
    ClockSkew,
    /// v3: no platform key of its merchant has its serial.
    UnknownSerial,
    /// v3: WeChat Pay signed other bytes; something on the way altered them.
    Altered,
    /// v3: WeChat Pay signed nothing of the kind.
    Forged,
    /// It names a merchant that is not ours.
    UnknownMerchant,
    /// More than [`shared::protocol::BODY_BYTES_MAX`] bytes.
    TooLarge,
    /// Its body did not come within [`crate::callbacks::BODY_TIMEOUT`].
    Slow,
    /// `IN_FLIGHT_MAX` callbacks are being published already, or `READING_MIB_MAX` of bodies are being read.
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
    pub(crate) const ALL: [Self; 22] = [
        Self::Stored,
        Self::Malformed,
        Self::NotAuthentic,
        Self::DigestNotAccepted,
        Self::WrongRoute,
        Self::MissingHeader,
        Self::UnknownSignatureType,
        Self::Probe,
        Self::ClockSkew,
        Self::UnknownSerial,
        Self::Altered,
        Self::Forged,
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
            Self::DigestNotAccepted => "digest_not_accepted",
            Self::WrongRoute => "wrong_route",
            Self::MissingHeader => "missing_header",
            Self::UnknownSignatureType => "unknown_signature_type",
            Self::Probe => "probe",
            Self::ClockSkew => "clock_skew",
            Self::UnknownSerial => "unknown_serial",
            Self::Altered => "altered",
            Self::Forged => "forged",
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

    /// The status of the reply and what it says: short, and the same for everything inside.
    pub(crate) fn reply(self) -> (StatusCode, &'static str) {
        match self {
            Self::Stored => (StatusCode::OK, "OK"),
            Self::Malformed => (StatusCode::BAD_REQUEST, "malformed"),
            Self::NotAuthentic
            | Self::DigestNotAccepted
            | Self::MissingHeader
            | Self::UnknownSignatureType
            | Self::Probe
            | Self::ClockSkew
            | Self::UnknownSerial
            | Self::Altered
            | Self::Forged => (StatusCode::UNAUTHORIZED, "not authentic"),
            Self::UnknownMerchant => (StatusCode::NOT_FOUND, "unknown merchant"),
            Self::WrongRoute => (StatusCode::NOT_FOUND, "wrong address"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too large"),
            Self::Slow => (StatusCode::REQUEST_TIMEOUT, "too slow"),
            Self::Overloaded
            | Self::Unroutable
            | Self::Refused
            | Self::Unknown
            | Self::Busy
            | Self::Down
            | Self::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "not stored, send it again"),
        }
    }

    /// What an operator reads about a refusal: what it means, and what to do. `None` for what was not refused.
    pub(crate) fn advice(self) -> Option<&'static str> {
        Some(match self {
            Self::Malformed => "it does not have the shape of a callback; nothing to do unless WeChat Pay sent it",
            Self::NotAuthentic => {
                "no v2 key of its merchant made its signature or opens it; compare the keys' fingerprints with WeChat Pay's \
                 portal, unless it is forged"
            }
            Self::DigestNotAccepted => {
                "v2_sign_types of its merchant leaves out the digest that it is signed with; add the digest in MERCHANTS_FILE \
                 and send SIGHUP"
            }
            Self::WrongRoute => "it belongs to another address; correct the notify_url that it was asked for with",
            Self::MissingHeader => {
                "a Wechatpay header is missing or there twice; a proxy or CDN has to pass these headers on"
            }
            Self::UnknownSignatureType => "only RSA with SHA-256 is supported; ask WeChat Pay for that",
            Self::Probe => "WeChat Pay tests whether signatures are verified; nothing to do",
            Self::ClockSkew => {
                "it was signed more than 300 s from now; check this machine's clock, unless it is replayed"
            }
            Self::UnknownSerial => {
                "no platform key of its merchant has its serial; add the key to MERCHANTS_FILE and send SIGHUP, unless it is \
                 forged"
            }
            Self::Altered => {
                "WeChat Pay signed other bytes; a proxy has to pass the body on byte for byte, unless it is replayed"
            }
            Self::Forged => "WeChat Pay signed nothing of the kind; nothing to do, a steady stream is for the firewall",
            Self::UnknownMerchant => "its merchant is not in MERCHANTS_FILE; add it if it is yours, and send SIGHUP",
            Self::TooLarge => "its body is larger than a callback's; nothing to do",
            Self::Slow => "its body did not come in time; a proxy in front has to buffer requests",
            Self::Overloaded => "IN_FLIGHT_MAX or READING_MIB_MAX is reached; add ingest processes",
            Self::Stored
            | Self::Unroutable
            | Self::Refused
            | Self::Unknown
            | Self::Busy
            | Self::Down
            | Self::Stopping => return None,
        })
    }

    pub(crate) fn of_error(error: PublishError, stopping: bool) -> Self {
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
