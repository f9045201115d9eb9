//! A callback in transit through the broker: its bytes are the AMQP body, everything else is in the AMQP properties.
//!
//! The body is exactly what WeChat Pay sent. The id is made once, by ingest, and contains the time of receipt, so that every
//! redelivery of a message finds the same row in the same partition of the ledger. A body longer than any that ingest
//! publishes is cut: see [`Envelope::bounded`].

use std::collections::BTreeMap;

use chrono::{DateTime, SubsecRound, Utc};
use sha2::{Digest, Sha256};
use uuid::{NoContext, Timestamp, Uuid, Version};

use super::publisher::Outgoing;
use super::topology::CALLBACKS_ROUTING_KEY;
use crate::protocol::{BODY_BYTES_MAX, CallbackKind};

/// The version of this layout of properties and headers.
pub const ENVELOPE_VERSION: &str = "1";
/// The header with the version.
pub const VERSION: &str = "envelope-version";
const TYPE: &str = "type";
const CONTENT_TYPE: &str = "content-type";
/// The merchant of the callback. Ingest has verified it, but another client of the broker may have written any other.
pub const MCH_ID: &str = "mch-id";
const TRACEPARENT: &str = "traceparent";
/// The whole body's SHA-256 in hex, on an envelope whose body was cut.
pub const BODY_SHA256: &str = "body-sha256";
/// The whole body's length, on an envelope whose body was cut.
pub const BODY_BYTES: &str = "body-bytes";
/// Headers that only [`Envelope::bounded`] sets. A publisher's are dropped; otherwise it could claim that a body was cut.
const OURS_ALONE: [&str; 2] = [BODY_SHA256, BODY_BYTES];
/// Headers beginning with this are the broker's notes on a delivery (`x-delivery-count`, `x-death`), not the callback's.
const BROKER_PREFIX: &str = "x-";

/// AMQP holds a content type in a short string; WeChat Pay never sends a longer one, so it is dropped.
const CONTENT_TYPE_BYTES_MAX: usize = 255;
/// The most headers kept of a delivery. Ours have up to 9; more come only from a message published by hand.
const HEADERS_MAX: usize = 32;
/// The longest header value kept of a delivery, in characters.
const HEADER_CHARS_MAX: usize = 1024;

/// Everything that accompanies a callback's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// UUID v7 made by ingest from [`Self::received_at`]; the ledger's key.
    pub id: Uuid,
    /// When ingest received the request's head, in whole milliseconds. UNIX epoch when the message has no id of ours.
    pub received_at: DateTime<Utc>,
    /// What the ledger keeps: `type`, `content-type`, `envelope-version`, `mch-id`, `traceparent`, and for v3 the headers with
    /// the signature, in lower case.
    pub headers: BTreeMap<String, String>,
}

impl Envelope {
    /// A fresh envelope for a callback that was just authenticated.
    ///
    /// A valid W3C `traceparent` is passed on; otherwise a new trace begins here, named after the id.
    #[must_use]
    pub fn new(
        received_at: DateTime<Utc>,
        kind: CallbackKind,
        mch_id: &str,
        content_type: Option<&str>,
        traceparent: Option<&str>,
    ) -> Self {
        let received_at = received_at.trunc_subsecs(3);
        let id = Uuid::new_v7(Timestamp::from_unix(
            NoContext,
            u64::try_from(received_at.timestamp()).unwrap_or_default(),
            received_at.timestamp_subsec_nanos(),
        ));
        let traceparent = match traceparent {
            Some(valid) if is_traceparent(valid) => valid.to_owned(),
            _ => first_traceparent(id),
        };
        let mut headers = BTreeMap::from(
            [(TYPE, kind.name()), (VERSION, ENVELOPE_VERSION), (MCH_ID, mch_id)]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        headers.insert(TRACEPARENT.to_owned(), traceparent);
        if let Some(content_type) = content_type.filter(|text| text.len() <= CONTENT_TYPE_BYTES_MAX) {
            headers.insert(CONTENT_TYPE.to_owned(), content_type.to_owned());
        }
        Self { id, received_at, headers }
    }

    /// Adds the headers with the signature of a v3 callback: evidence only, they are not verified again.
    #[must_use]
    pub fn with_signature<'header>(mut self, headers: impl IntoIterator<Item = (&'header str, &'header str)>) -> Self {
        let lower = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
        self.headers.extend(lower);
        self
    }

    /// The kind of callback; `None` for a type that this version does not know.
    #[must_use]
    pub fn kind(&self) -> Option<CallbackKind> {
        self.headers.get(TYPE).and_then(|name| CallbackKind::parse(name))
    }

    /// The layout that the publisher named. `None` when it named none, as in a message published by hand.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.headers.get(VERSION).map(String::as_str)
    }

    /// The message to publish.
    #[must_use]
    pub fn into_outgoing(mut self, body: Vec<u8>) -> Outgoing {
        Outgoing {
            message_id: self.id.to_string(),
            kind: self.headers.remove(TYPE).unwrap_or_default(),
            routing_key: CALLBACKS_ROUTING_KEY.to_owned(),
            content_type: self.headers.remove(CONTENT_TYPE),
            timestamp_seconds: u64::try_from(self.received_at.timestamp()).unwrap_or_default(),
            headers: self.headers,
            body,
        }
    }

    /// The envelope of a delivery. Total: any client of the broker may have written anything.
    ///
    /// Without a UUID v7 in `message_id` the id is the [`content_id`], so that a redelivery still finds the same row. Public
    /// so that it can be fuzzed; the programs get envelopes from [`super::consumer`].
    #[must_use]
    pub fn from_delivery(
        message_id: Option<&str>,
        kind: Option<&str>,
        content_type: Option<&str>,
        headers: impl Iterator<Item = (String, String)>,
        body: &[u8],
    ) -> Self {
        let properties = [(TYPE, kind), (CONTENT_TYPE, content_type)];
        let mut kept: BTreeMap<_, _> = headers
            .filter(|(name, _)| {
                !name.starts_with(BROKER_PREFIX)
                    && !OURS_ALONE.contains(&name.as_str())
                    && properties.iter().all(|(known, _)| name != known)
            })
            .take(HEADERS_MAX)
            .map(|(name, value)| (storable(name), storable(value)))
            .collect();
        for (name, value) in properties {
            if let Some(value) = value {
                kept.insert(name.to_owned(), storable(value.to_owned()));
            }
        }
        let (id, received_at) = message_id.and_then(from_ingest).unwrap_or_else(|| {
            let text = |name| kept.get(name).map(String::as_str);
            (content_id(text(TYPE), text(MCH_ID), body), DateTime::UNIX_EPOCH)
        });
        Self { id, received_at, headers: kept }
    }

    /// The envelope, and the part of its body that is kept. Total.
    ///
    /// A body of up to [`BODY_BYTES_MAX`] is kept as it is. Of a longer one, which ingest never publishes and no program
    /// decodes, only the first [`BODY_BYTES_MAX`] bytes are kept; the headers [`BODY_BYTES`] and [`BODY_SHA256`] then
    /// describe the whole. The memory of the rest is released.
    #[must_use]
    pub fn bounded(mut self, mut body: Vec<u8>) -> (Self, Vec<u8>) {
        if body.len() > BODY_BYTES_MAX {
            self.headers.insert(BODY_BYTES.to_owned(), body.len().to_string());
            self.headers.insert(BODY_SHA256.to_owned(), hex::encode(Sha256::digest(&body)));
            body.truncate(BODY_BYTES_MAX);
            body.shrink_to_fit();
        }
        (self, body)
    }
}

/// The id and the time inside it, if `message_id` is one that ingest may have made.
fn from_ingest(message_id: &str) -> Option<(Uuid, DateTime<Utc>)> {
    let id = Uuid::try_parse(message_id).ok().filter(|id| id.get_version() == Some(Version::SortRand))?;
    let (seconds, nanoseconds) = id.get_timestamp()?.to_unix();
    Some((id, DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanoseconds)?))
}

/// The id of a message that has none, or one that belongs to another message: a version 8 UUID from the SHA-256 of its type,
/// its merchant and its body. The same content has the same id; a message republished with a corrected type has a new one.
#[must_use]
pub fn content_id(kind: Option<&str>, mch_id: Option<&str>, body: &[u8]) -> Uuid {
    let mut hash = Sha256::new();
    // Each part is preceded by its length, so that no bytes can move from one part to the next; an absent part has none.
    for part in [kind.map(str::as_bytes), mch_id.map(str::as_bytes), Some(body)] {
        match part {
            Some(bytes) => {
                hash.update([1]);
                hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
                hash.update(bytes);
            }
            None => hash.update([0]),
        }
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// PostgreSQL's jsonb rejects NUL, and a header must not bloat its ledger row.
fn storable(text: String) -> String {
    if text.len() <= HEADER_CHARS_MAX && !text.contains('\0') {
        return text;
    }
    text.chars()
        .take(HEADER_CHARS_MAX)
        .map(|char| if char == '\0' { char::REPLACEMENT_CHARACTER } else { char })
        .collect()
}

/// Whether `text` is a W3C trace context of version 00: `00-<32 hex>-<16 hex>-<2 hex>`, neither id all zeros.
fn is_traceparent(text: &str) -> bool {
    let is_hex =
        |part: &str, digits| part.len() == digits && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_id = |part: &str, digits| is_hex(part, digits) && part.bytes().any(|byte| byte != b'0');
    let mut parts = text.split('-');
    parts.next() == Some("00")
        && parts.next().is_some_and(|trace_id| is_id(trace_id, 32))
        && parts.next().is_some_and(|parent_id| is_id(parent_id, 16))
        && parts.next().is_some_and(|flags| is_hex(flags, 2))
        && parts.next().is_none()
}

/// A trace that begins with this message: its id as the trace id, the id's random half as the span, not sampled.
fn first_traceparent(id: Uuid) -> String {
    let (_, random_half) = id.as_u64_pair();
    format!("00-{}-{random_half:016x}-00", id.simple())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000, 123_456_789).unwrap()
    }

    #[test]
    fn a_published_envelope_comes_back_unchanged() {
        let envelope = Envelope::new(at(), CallbackKind::V2Payment, "1900000109", Some("text/xml"), None);
        let sent = envelope.clone().into_outgoing(b"<xml/>".to_vec());
        let back = Envelope::from_delivery(
            Some(&sent.message_id),
            Some(&sent.kind),
            sent.content_type.as_deref(),
            sent.headers.clone().into_iter().chain([("x-delivery-count".to_owned(), "3".to_owned())]),
            &sent.body,
        );
        assert_eq!(back, envelope);
        assert_eq!(back.kind(), Some(CallbackKind::V2Payment));
        assert_eq!(back.received_at.timestamp_millis(), at().timestamp_millis());
        assert_eq!(sent.timestamp_seconds, 1_790_000_000);
    }

    #[test]
    fn ids_of_one_millisecond_differ() {
        let ids: std::collections::HashSet<_> =
            (0..1000).map(|_| Envelope::new(at(), CallbackKind::V2Payment, "1", None, None).id).collect();
        assert_eq!(ids.len(), 1000);
    }

    #[test]
    fn a_foreign_message_id_is_replaced_by_the_content_id() {
        let v4 = "0d5f2f6c-9a1f-4c4e-8a53-5a4b3f6f5a11";
        for message_id in [None, Some(""), Some("order-1"), Some(v4)] {
            let first = Envelope::from_delivery(message_id, None, None, std::iter::empty(), b"body");
            let again = Envelope::from_delivery(message_id, None, None, std::iter::empty(), b"body");
            let other = Envelope::from_delivery(message_id, None, None, std::iter::empty(), b"other");
            assert_eq!(first, again);
            assert_ne!(first.id, other.id);
            assert_eq!(first.id.get_version_num(), 8);
            assert_eq!(first.received_at, DateTime::UNIX_EPOCH);
            assert_eq!(first.kind(), None);
        }
    }

    #[test]
    fn a_content_id_depends_on_type_merchant_and_body_and_on_nothing_else() {
        let parts = [None, Some(""), Some("a"), Some("ab"), Some("b")];
        let bodies: [&[u8]; 4] = [b"", b"a", b"ab", b"b"];
        let mut ids = std::collections::HashSet::new();
        for (kind, mch_id) in parts.iter().flat_map(|kind| parts.map(|mch_id| (*kind, mch_id))) {
            for body in bodies {
                let mch_id_header = mch_id.map(|value| (MCH_ID.to_owned(), value.to_owned()));
                let other = ("another".to_owned(), Uuid::now_v7().to_string());
                let headers = mch_id_header.into_iter().chain([other]);
                let envelope = Envelope::from_delivery(None, kind, Some("text/xml"), headers, body);
                assert_eq!(envelope.id, content_id(kind, mch_id, body));
                assert!(ids.insert(envelope.id), "{kind:?} {mch_id:?} {body:?} has the id of another content");
            }
        }
        assert_eq!(ids.len(), parts.len() * parts.len() * bodies.len());
    }

    #[test]
    fn a_body_that_ingest_cannot_have_published_is_cut_and_described() {
        let envelope = || Envelope::new(at(), CallbackKind::V2Payment, "1", None, None);
        let longest = vec![7; BODY_BYTES_MAX];
        assert_eq!(envelope().bounded(longest.clone()).1, longest);
        assert!(!envelope().bounded(longest).0.headers.contains_key(BODY_BYTES));

        let whole: Vec<u8> = (0_u32..1 << 20).map(|number| u8::try_from(number % 251).unwrap()).collect();
        let (cut, kept) = envelope().bounded(whole.clone());
        assert_eq!(Some(kept.as_slice()), whole.get(..BODY_BYTES_MAX));
        assert!(kept.capacity() < 2 * BODY_BYTES_MAX, "{} bytes are still allocated", kept.capacity());
        assert_eq!(cut.headers.get(BODY_BYTES).unwrap(), "1048576");
        assert_eq!(*cut.headers.get(BODY_SHA256).unwrap(), hex::encode(Sha256::digest(&whole)));
    }

    #[test]
    fn a_publisher_cannot_claim_that_a_body_was_cut() {
        let claims = OURS_ALONE.map(|name| (name.to_owned(), "1".to_owned()));
        let (envelope, _) =
            Envelope::from_delivery(None, None, None, claims.into_iter(), b"short").bounded(b"short".into());
        assert!(envelope.headers.is_empty(), "{:?}", envelope.headers);
    }

    #[test]
    fn the_version_is_the_publishers() {
        let of = |version: Option<&str>| {
            let header = version.map(|version| (VERSION.to_owned(), version.to_owned()));
            Envelope::from_delivery(None, None, None, header.into_iter(), b"").version().map(ToOwned::to_owned)
        };
        assert_eq!(Envelope::new(at(), CallbackKind::V3, "1", None, None).version(), Some(ENVELOPE_VERSION));
        assert_eq!(of(Some("2")).as_deref(), Some("2"));
        assert_eq!(of(None), None);
    }

    #[test]
    fn hostile_headers_are_cut_to_what_a_row_can_hold() {
        let hostile = (0..1000).map(|number| (format!("h{number:04}"), "\0".repeat(5000)));
        let kept = Envelope::from_delivery(None, Some("a\0b"), None, hostile, b"").headers;
        assert_eq!(kept.len(), HEADERS_MAX + 1);
        assert!(kept.values().all(|value| !value.contains('\0') && value.chars().count() <= HEADER_CHARS_MAX));
    }

    #[test]
    fn only_a_valid_traceparent_is_passed_on() {
        let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let of = |traceparent| {
            let envelope = Envelope::new(at(), CallbackKind::V2Payment, "1", None, traceparent);
            (envelope.headers.get(TRACEPARENT).unwrap().clone(), envelope.id)
        };
        assert_eq!(of(Some(valid)).0, valid);
        let zeros = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        let upper = "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01";
        let longer = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x";
        for invalid in [None, Some(""), Some("x"), Some(zeros), Some(upper), Some(longer)] {
            let (made, id) = of(invalid);
            assert!(is_traceparent(&made), "{made}");
            assert_eq!(made.split('-').nth(1).unwrap(), id.simple().to_string());
        }
    }
}
