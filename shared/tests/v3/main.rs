//! API v3: whose keys count, what the headers prove, what the resource seals, and what it says.
//!
//! In reading order: `platform_keys` and `merchant_keys` (the merchants file), `headers` (what ingest verifies), `resource`
//! (what the worker opens), `notification` and `refund` (what an opened resource says). Signed and sealed by the simulator,
//! which has WeChat Pay's half.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod headers;
mod merchant_keys;
mod notification;
mod platform_keys;
mod refund;
mod resource;

use serde_json::{Value, json};
use shared::domain::notification::Notification;
use shared::merchants_file::{self, Program};
use shared::protocol::DecodeError;
use shared::protocol::keys::KeyRing;
use shared::protocol::v3::notification::decode;
use shared::protocol::v3::resource::open;
use signer::keys::{
    CERTIFICATE_PEM, CERTIFICATE_SERIAL, CERTIFIED, CERTIFIED_PEM, KNOWN_BY_ID, PUBLIC_KEY_ID, PUBLIC_KEY_PEM,
};
use signer::seal_resource;

const MERCHANT: &str = "1900000109";
const OTHER_MERCHANT: &str = "1900000200";

const KEY: &str = "v3-key-of-the-first-merchant-001";
const SECOND_KEY: &str = "v3-key-of-the-first-merchant-002";
const OTHER_KEY: &str = "v3-key-of-the-other-merchant-001";

/// The lines of one platform key of the merchant above them.
fn platform_entry(serial: &str, pem: &str) -> String {
    format!("[[merchant.v3_platform_keys]]\nserial = \"{serial}\"\npem = \"\"\"\n{pem}\"\"\"\n")
}

/// The lines of the merchant `m`.
fn merchant(lines: &str) -> String {
    format!("[[merchant]]\nmch_id = \"m\"\n{lines}")
}

/// What ingest has: both platform keys for [`MERCHANT`], the certificate alone for [`OTHER_MERCHANT`].
fn edge() -> KeyRing {
    let (certificate, public_key) =
        (platform_entry(CERTIFICATE_SERIAL, CERTIFICATE_PEM), platform_entry(PUBLIC_KEY_ID, PUBLIC_KEY_PEM));
    let text = format!(
        "[[merchant]]\nmch_id = \"{MERCHANT}\"\n{certificate}{public_key}\
         [[merchant]]\nmch_id = \"{OTHER_MERCHANT}\"\n{certificate}"
    );
    merchants_file::parse(&text, Program::Ingest).unwrap()
}

/// What the worker has: two live keys for [`MERCHANT`], one for [`OTHER_MERCHANT`].
fn worker() -> KeyRing {
    let text = format!(
        "[[merchant]]\nmch_id = \"{MERCHANT}\"\nv3_keys = [\"{KEY}\", \"{SECOND_KEY}\"]\n\
         [[merchant]]\nmch_id = \"{OTHER_MERCHANT}\"\nv3_keys = [\"{OTHER_KEY}\"]\n"
    );
    merchants_file::parse(&text, Program::Worker).unwrap()
}

/// An envelope round `resource`, sealed for [`MERCHANT`].
fn envelope(event_type: &str, original_type: &str, resource: &[u8]) -> Value {
    let nonce = "fdasflkja484";
    json!({
        "id": "EV-2018022511223320873", "create_time": "2026-11-23T10:15:31+08:00",
        "resource_type": "encrypt-resource", "event_type": event_type, "summary": "支付成功",
        "resource": {
            "original_type": original_type, "algorithm": "AEAD_AES_256_GCM", "nonce": nonce,
            "associated_data": original_type,
            "ciphertext": seal_resource(KEY, nonce, original_type, resource).unwrap(),
        },
    })
}

/// What a resource says that was sealed for [`MERCHANT`].
fn decoded(event_type: &str, original_type: &str, resource: &str) -> Result<Notification, DecodeError> {
    let (ring, body) = (worker(), envelope(event_type, original_type, resource.as_bytes()).to_string());
    let event = open(body.as_bytes(), MERCHANT, &ring).unwrap();
    let [part] = decode(&event.content, event.merchant)?.try_into().unwrap();
    part
}

/// `resource` with this value at this place, as in `/amount/total`; a `null` of JSON is one.
fn set(mut resource: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    resource.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(name.to_owned(), value);
    resource
}

fn without(mut resource: Value, pointer: &str) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let removed = resource.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
    assert!(removed.is_some(), "there was no {pointer}");
    resource
}
