//! A v3 callback as the worker opens it: first the bytes themselves, then sealed by us under each kind of event, so that
//! what reads the opened resource is reached.
#![no_main]

use countersign_fuzz::expect;
use countersign_fuzz::keys::{MERCHANT, V3_KEYS, worker};
use countersign_fuzz::memory::bounded;
use libfuzzer_sys::fuzz_target;
use shared::protocol::v3::{notification, resource};
use shared::protocol::{BODY_BYTES_MAX, SINGLE_BODY_BYTES_MAX, glance, reveal};
use signer::seal_resource;

/// Type of the event, kind of its resource.
const EVENTS: [(&str, &str); 6] = [
    ("TRANSACTION.SUCCESS", "transaction"),
    ("REFUND.SUCCESS", "refund"),
    ("REFUND.ABNORMAL", "refund"),
    ("REFUND.CLOSED", "refund"),
    ("TRANSACTION.SUCCESS", "profitsharing"),
    ("SECURITY_ECHO.SUCCESS", "echo"),
];
const NONCE: &str = "nonce-of-12b";

fuzz_target!(|data: &[u8]| {
    accept(data);
    sealed(data);
});

/// Whether a key opened it.
fn accept(body: &[u8]) -> bool {
    // Unknown members of a resource are held while the known ones are looked for, two bytes of text in 32 or 64.
    bounded(body.len(), 80, || {
        if let Ok(authentic) = resource::open(body, MERCHANT, worker()) {
            assert!(body.len() <= BODY_BYTES_MAX);
            expect::parts(notification::decode(&authentic.content, authentic.merchant));
        }
        let _ = (glance::v3(body, MERCHANT, worker()), reveal::v3(body, MERCHANT, worker()));
    });
    resource::open(body, MERCHANT, worker()).is_ok()
}

/// What is sealed opens; one other bit, and it does not.
fn sealed(plain: &[u8]) {
    let key = V3_KEYS[plain.len() % V3_KEYS.len()];
    let ciphertext = seal_resource(key, NONCE, "transaction", plain).expect("it seals anything");
    // The refunds are many and alike: the status inside says which.
    for (event_type, original_type) in EVENTS {
        let body = envelope(event_type, original_type, &ciphertext);
        let opens = accept(body.as_bytes());
        assert!(opens == (body.len() <= SINGLE_BODY_BYTES_MAX) || (opens && body.len() <= BODY_BYTES_MAX));
    }
    let (event_type, original_type) = EVENTS[0];
    let at = plain.len() % ciphertext.len();
    let other = if ciphertext[at..].starts_with('A') { "B" } else { "A" };
    let forged = [&ciphertext[..at], other, &ciphertext[at + 1..]].concat();
    assert!(!accept(envelope(event_type, original_type, &forged).as_bytes()), "a forged resource was opened");
}

fn envelope(event_type: &str, original_type: &str, ciphertext: &str) -> String {
    serde_json::json!({
        "id": "EV-1",
        "event_type": event_type,
        "resource_type": "encrypt-resource",
        "resource": {
            "algorithm": "AEAD_AES_256_GCM",
            "original_type": original_type,
            "ciphertext": ciphertext,
            "associated_data": "transaction",
            "nonce": NONCE,
        },
    })
    .to_string()
}
