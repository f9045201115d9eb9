//! How a callback can end: the status, the reply's text and the metric of each end.

use std::collections::HashMap;

use actix_web::http::StatusCode;
use metrics::{Counter, Gauge, Histogram};
use shared::messaging::envelope::CallbackKind;
use shared::messaging::publisher::PublishError;
use tokio::time::Instant;

/// How a callback ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The broker has confirmed and routed it. The only success.
    Stored,
    /// It does not have the shape of a callback.
    Malformed,
    /// v2: no key of its merchant made its signature, or opens it.
    NotAuthentic,
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
    const ALL: [Self; 20] = [
        Self::Stored,
        Self::Malformed,
        Self::NotAuthentic,
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
            | Self::MissingHeader
            | Self::UnknownSignatureType
            | Self::Probe
            | Self::ClockSkew
            | Self::UnknownSerial
            | Self::Altered
            | Self::Forged => (StatusCode::UNAUTHORIZED, "not authentic"),
            Self::UnknownMerchant => (StatusCode::NOT_FOUND, "unknown merchant"),
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

/// Handles that are looked up once: a registry look-up per request would cost more than the rest of the bookkeeping.
#[derive(Debug)]
pub struct Metrics {
    outcomes: HashMap<(CallbackKind, Outcome), Counter>,
    seconds: Histogram,
    pub(crate) in_flight: Gauge,
}

impl Metrics {
    /// Registers every outcome of every kind, so that each is there with a 0 before it first happens.
    #[must_use]
    pub fn register() -> Self {
        metrics::describe_counter!("ingest_callbacks_total", "Callbacks by how they ended; only `stored` got SUCCESS");
        metrics::describe_histogram!("ingest_callback_seconds", "From a callback's head to its reply");
        metrics::describe_gauge!("ingest_in_flight", "Callbacks in the works");
        let counter = |kind: CallbackKind, outcome: Outcome| {
            let labels = [("kind", kind.name()), ("outcome", outcome.name())];
            ((kind, outcome), metrics::counter!("ingest_callbacks_total", &labels))
        };
        let of_kind = |kind| Outcome::ALL.into_iter().map(move |outcome| counter(kind, outcome));
        Self {
            outcomes: CallbackKind::ALL.into_iter().flat_map(of_kind).collect(),
            seconds: metrics::histogram!("ingest_callback_seconds"),
            in_flight: metrics::gauge!("ingest_in_flight"),
        }
    }

    pub(crate) fn count(&self, kind: CallbackKind, outcome: Outcome, since: Instant) {
        if let Some(counter) = self.outcomes.get(&(kind, outcome)) {
            counter.increment(1);
        }
        self.seconds.record(since.elapsed());
    }
}
