//! What rides beside a callback through the broker: a delivery as anybody may have published it, and an envelope of ours
//! on its way there and back. The input is lines: message id, type, content type, traceparent (a lone `-` is one that is
//! not there), headers as `name: value`, an empty line, and the body.
#![no_main]

use chrono::DateTime;
use countersign_fuzz::keys::MERCHANT;
use countersign_fuzz::memory::bounded;
use libfuzzer_sys::fuzz_target;
use shared::messaging::envelope::Envelope;
use shared::messaging::publisher::Outgoing;
use shared::protocol::CallbackKind;

/// What a ledger row holds of a delivery: 32 headers, its type and content type, 1024 characters each.
const HEADERS_MAX: usize = 32 + 2;
const HEADER_CHARS_MAX: usize = 1024;
/// The milliseconds that a UUID of version 7 has room for.
const MILLISECONDS_MAX: i64 = (1 << 48) - 1;

#[derive(Default)]
struct Delivery<'a> {
    message_id: Option<&'a str>,
    kind: Option<&'a str>,
    content_type: Option<&'a str>,
    traceparent: Option<&'a str>,
    headers: Vec<(String, String)>,
    body: &'a [u8],
}

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let delivery = Delivery::read(&text);
    // Among the headers, each short one costs a tree its nodes.
    bounded(text.len(), 40, || of_anybody(&delivery));
    of_ours(&delivery);
});

impl<'a> Delivery<'a> {
    fn read(text: &'a str) -> Self {
        let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
        let mut lines = head.split('\n');
        let mut property = || lines.next().filter(|line| *line != "-");
        let (message_id, kind, content_type, traceparent) = (property(), property(), property(), property());
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap_or((line, ""));
            (name.to_owned(), value.to_owned())
        };
        let headers = lines.map(header).collect();
        Self { message_id, kind, content_type, traceparent, headers, body: body.as_bytes() }
    }

    fn envelope(&self) -> Envelope {
        let headers = self.headers.iter().cloned();
        Envelope::from_delivery(self.message_id, self.kind, self.content_type, headers, self.body)
    }
}

fn of_anybody(delivery: &Delivery<'_>) {
    let envelope = delivery.envelope();
    assert_eq!(envelope, delivery.envelope(), "a redelivery meets another row");
    assert!(matches!(envelope.id.get_version_num(), 7 | 8));
    assert!(envelope.headers.len() <= HEADERS_MAX);
    for text in envelope.headers.iter().flat_map(|(name, value)| [name, value]) {
        assert!(!text.contains('\0') && text.chars().count() <= HEADER_CHARS_MAX);
    }
    assert!(!envelope.headers.keys().any(|name| name.starts_with("x-")));
    assert_eq!(envelope.kind(), delivery.kind.and_then(CallbackKind::parse));
    assert_eq!(there_and_back(envelope.clone(), delivery.body), envelope);
}

fn of_ours(delivery: &Delivery<'_>) {
    let bytes = delivery.body.iter().take(6);
    let milliseconds = bytes.fold(0_i64, |number, byte| number << 8 | i64::from(*byte)).min(MILLISECONDS_MAX);
    let received_at = DateTime::from_timestamp_millis(milliseconds).expect("48 bits of milliseconds are a time");
    // No HTTP header has a NUL.
    let content_type = delivery.content_type.filter(|text| !text.contains('\0'));
    for kind in CallbackKind::ALL {
        let ours = Envelope::new(received_at, kind, MERCHANT, content_type, delivery.traceparent);
        assert_eq!(ours.received_at, received_at);
        assert_eq!(ours.kind(), Some(kind));
        assert!(ours.headers.get("traceparent").is_some_and(|text| text.len() == 55 && text.starts_with("00-")));
        assert_eq!(there_and_back(ours.clone(), delivery.body), ours);
    }
}

fn there_and_back(envelope: Envelope, body: &[u8]) -> Envelope {
    let has_type = envelope.headers.contains_key("type");
    let Outgoing { message_id, kind, content_type, headers, body, .. } = envelope.into_outgoing(body.to_vec());
    let kind = Some(kind.as_str()).filter(|_| has_type);
    Envelope::from_delivery(Some(&message_id), kind, content_type.as_deref(), headers.into_iter(), &body)
}
