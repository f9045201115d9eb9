//! How a callback can end, as one table: the metric's label, the status and text of the reply, and what an operator has to
//! do.

use actix_web::http::StatusCode;
use shared::messaging::publisher::PublishError;

/// Text of the reply for every callback that failed a check of its authenticity: the sender learns nothing more.
const NOT_AUTHENTIC: &str = "not authentic";
/// Text of the reply for every callback that is not known to be stored.
const NOT_STORED: &str = "not stored, send it again";

/// Makes the enum and everything that is known about each of its variants:
/// `Variant: "label", STATUS "text of the reply", advice;`
macro_rules! outcomes {
    ($($(#[$doc:meta])* $variant:ident: $name:literal, $status:ident $reply:expr, $advice:expr;)*) => {
        /// How a callback ended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(crate) enum Outcome {
            $($(#[$doc])* $variant,)*
        }

        impl Outcome {
            pub(crate) const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The metric's label.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The status of the reply.
            pub(crate) fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)* }
            }

            /// The text of the reply: short, and the same for all outcomes that a sender must not tell apart.
            pub(crate) fn reply(self) -> &'static str {
                match self { $(Self::$variant => $reply,)* }
            }

            /// What an operator reads about a refusal: what it means, and what to do. `None` for an outcome that is not a
            /// refusal.
            pub(crate) fn advice(self) -> Option<&'static str> {
                match self { $(Self::$variant => $advice,)* }
            }
        }
    };
}

outcomes! {
    /// The broker has confirmed and routed it. The only success.
    Stored: "stored", OK "OK", None;
    /// It does not have the shape of a callback.
    Malformed: "malformed", BAD_REQUEST "malformed",
        Some("it does not have the shape of a callback; nothing to do unless WeChat Pay sent it");
    /// v2: it is not signed or not encrypted with a key of its merchant.
    NotAuthentic: "not_authentic", UNAUTHORIZED NOT_AUTHENTIC,
        Some("no v2 key of its merchant made its signature or opens it; compare the keys' fingerprints with WeChat Pay's \
              portal, unless it is forged");
    /// v2: signed with a digest that its merchant does not accept. The signature itself was not checked.
    DigestNotAccepted: "digest_not_accepted", UNAUTHORIZED NOT_AUTHENTIC,
        Some("v2_sign_types of its merchant leaves out the digest that it is signed with; add the digest in MERCHANTS_FILE \
              and send SIGHUP");
    /// It belongs to another of our addresses.
    WrongRoute: "wrong_route", NOT_FOUND "wrong address",
        Some("it belongs to another address; correct the notify_url that it was asked for with");
    /// v3: a header of the signature is missing.
    MissingHeader: "missing_header", UNAUTHORIZED NOT_AUTHENTIC,
        Some("a Wechatpay header is missing or there twice; a proxy or CDN has to pass these headers on");
    /// v3: signed by a method that this version does not know.
    UnknownSignatureType: "unknown_signature_type", UNAUTHORIZED NOT_AUTHENTIC,
        Some("only RSA with SHA-256 is supported; ask WeChat Pay for that");
    /// v3: WeChat Pay's own probe, wrong on purpose.
    Probe: "probe", UNAUTHORIZED NOT_AUTHENTIC,
        Some("WeChat Pay tests whether signatures are verified; nothing to do");
    /// v3: signed too long ago, or in the future.
    ClockSkew: "clock_skew", UNAUTHORIZED NOT_AUTHENTIC,
        Some("it was signed more than 300 s from now; check this machine's clock, unless it is replayed");
    /// v3: no platform key of its merchant has its serial.
    UnknownSerial: "unknown_serial", UNAUTHORIZED NOT_AUTHENTIC,
        Some("no platform key of its merchant has its serial; add the key to MERCHANTS_FILE and send SIGHUP, unless it is \
              forged");
    /// v3: WeChat Pay signed other bytes; something in between altered them.
    Altered: "altered", UNAUTHORIZED NOT_AUTHENTIC,
        Some("WeChat Pay signed other bytes; a proxy has to pass the body on byte for byte, unless it is replayed");
    /// v3: WeChat Pay did not sign it.
    Forged: "forged", UNAUTHORIZED NOT_AUTHENTIC,
        Some("WeChat Pay signed nothing of the kind; nothing to do, a steady stream is for the firewall");
    /// It names a merchant that is not in the merchants file.
    UnknownMerchant: "unknown_merchant", NOT_FOUND "unknown merchant",
        Some("its merchant is not in MERCHANTS_FILE; add it if it is yours, and send SIGHUP");
    /// It is larger than a callback of its kind may be.
    TooLarge: "too_large", PAYLOAD_TOO_LARGE "too large",
        Some("its body is larger than a callback's; nothing to do");
    /// Its body did not come in time.
    Slow: "slow", REQUEST_TIMEOUT "too slow",
        Some("its body did not come in time; a proxy in front has to buffer requests");
    /// `IN_FLIGHT_MAX` callbacks are being published already, or `READING_MIB_MAX` of bodies are being read.
    Overloaded: "overloaded", SERVICE_UNAVAILABLE NOT_STORED,
        Some("IN_FLIGHT_MAX or READING_MIB_MAX is reached; add ingest processes");
    /// The broker has no queue for it.
    Unroutable: "unroutable", SERVICE_UNAVAILABLE NOT_STORED, None;
    /// The broker refused it.
    Refused: "refused", SERVICE_UNAVAILABLE NOT_STORED, None;
    /// The broker did not confirm it in time. It may be stored nevertheless; the repeat is then a duplicate.
    Unknown: "unknown", SERVICE_UNAVAILABLE NOT_STORED, None;
    /// Too many messages were waiting for a lane.
    Busy: "busy", SERVICE_UNAVAILABLE NOT_STORED, None;
    /// The broker is unavailable.
    Down: "down", SERVICE_UNAVAILABLE NOT_STORED, None;
    /// This process is stopping and has closed its connection to the broker.
    Stopping: "stopping", SERVICE_UNAVAILABLE NOT_STORED, None;
}

impl From<PublishError> for Outcome {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Unroutable => Self::Unroutable,
            PublishError::Refused => Self::Refused,
            PublishError::Unknown => Self::Unknown,
            PublishError::Busy => Self::Busy,
            PublishError::Down => Self::Down,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_outcome_has_a_name_of_its_own() {
        let names: HashSet<&str> = Outcome::ALL.iter().map(|outcome| outcome.name()).collect();
        assert_eq!(names.len(), Outcome::ALL.len());
    }

    #[test]
    fn a_callback_that_may_not_be_stored_is_asked_for_again() {
        use PublishError::{Busy, Down, Refused, Unknown, Unroutable};
        for error in [Unroutable, Refused, Unknown, Busy, Down] {
            let outcome = Outcome::from(error);
            assert_eq!((outcome.status(), outcome.reply()), (StatusCode::SERVICE_UNAVAILABLE, NOT_STORED), "{error}");
        }
    }

    #[test]
    fn a_sender_cannot_tell_why_its_callback_is_not_authentic() {
        let texts: HashSet<&str> = Outcome::ALL
            .iter()
            .filter(|outcome| outcome.status() == StatusCode::UNAUTHORIZED)
            .map(|outcome| outcome.reply())
            .collect();
        assert_eq!(texts, HashSet::from([NOT_AUTHENTIC]));
    }
}
