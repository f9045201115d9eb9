//! API v3: signatures, sealed resources, whole callbacks, and resources in the shapes of public documents.

use std::collections::HashMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use shared::domain::ids::MchId;
use shared::domain::notification::{Notification, PaymentResult};
use shared::merchants_file::{self, Program};
use shared::protocol::keys::{KeyRing, PlatformKey, PlatformKeyError};
use shared::protocol::v3::headers::{SERIAL, TIMESTAMP, UnverifiedHeaders, VerifyError};
use shared::protocol::v3::notification::decode;
use shared::protocol::v3::resource::{OpenError, open};
use signer::seal_resource;

use super::{Vector, each, v2};

/// For vectors that name no merchant.
const MERCHANT: &str = "1900000109";
const KEY: &str = "0123456789abcdef0123456789abcdef";
/// For bare signatures whose key nobody named.
const NO_SERIAL: &str = "PUB_KEY_ID_0";

#[test]
fn signatures_are_verified_as_others_make_them() {
    each("v3_signature", |vector| {
        let (mut headers, body) = (headers(vector), vector.body());
        let Some(expected) = vector.0["expected_valid"].as_bool() else {
            // Signed in another way, with a key that nobody published.
            assert_eq!(read(&headers).unwrap_err(), VerifyError::SignatureType, "{}", vector.name());
            return;
        };
        let (serial, pem) = platform_key(vector, &headers[SERIAL]);
        headers.insert(SERIAL.to_owned(), serial.clone());
        let ring = edge(&serial, &pem);
        let merchant = ring.merchant(MERCHANT).unwrap();
        let now = at(headers[TIMESTAMP].parse().unwrap());
        let read = read(&headers).unwrap();
        match read.verify(&body, merchant, now) {
            Ok(authentic) => assert!(expected && authentic.key.name == serial, "{}", vector.name()),
            Err(error) => {
                assert_eq!((expected, error), (false, VerifyError::SignatureDiffers), "{}", vector.name());
                assert!(read.was_altered(merchant), "{}: it is signed, over other bytes", vector.name());
            }
        }
        let late = read.verify(&body, merchant, now + chrono::TimeDelta::seconds(301)).unwrap_err();
        assert_eq!(late, VerifyError::ClockSkew(301), "{}", vector.name());
    });
}

#[test]
fn a_probe_is_recognised() {
    each("v3_signature_negative", |vector| {
        assert_eq!(read(&headers(vector)).unwrap_err(), VerifyError::Probe, "{}", vector.name());
    });
}

#[test]
fn bare_signatures_are_verified_as_others_make_them() {
    each("rsa_sha256", |vector| {
        let (serial, pem) = platform_key(vector, vector.0["serial"].as_str().unwrap_or(NO_SERIAL));
        let key = PlatformKey::parse(&mch_id(MERCHANT), &serial, &pem).unwrap();
        // What is not base64 is no signature: its own bytes stand for it.
        let text = vector.text("signature_b64");
        let signature = BASE64_STANDARD.decode(text).unwrap_or_else(|_| text.as_bytes().to_vec());
        let expected = vector.0["expected_valid"].as_bool().unwrap();
        assert_eq!(key.verifies(vector.text("message").as_bytes(), &signature), expected, "{}", vector.name());
        if expected {
            assert!(key.signed_something(&signature), "{}", vector.name());
        }
    });
}

#[test]
fn resources_are_opened_as_others_seal_them() {
    each("v3_aead", |vector| {
        let (key, nonce) = (vector.text("key"), vector.text("nonce"));
        if key.len() != 32 {
            // AES-128: no APIv3 key is that short.
            let refused = worker(MERCHANT, key).unwrap_err();
            assert!(refused.contains("an APIv3 key has 32 bytes, this one has 16"), "{}: {refused}", vector.name());
            return;
        }
        let ring = worker(MERCHANT, key).unwrap();
        let (data, ciphertext) = (vector.text("associated_data"), vector.text("ciphertext_b64"));
        let body = envelope("transaction", nonce, data, ciphertext);
        if nonce.len() != 12 {
            // Legal in GCM, and nothing that WeChat Pay sends.
            assert_eq!(open(&body, MERCHANT, &ring).unwrap_err(), OpenError::Nonce, "{}", vector.name());
            return;
        }
        let plaintext = vector.plaintext();
        assert_opens_to(&body, MERCHANT, &ring, (key, nonce, data, ciphertext), &plaintext);
        if vector.text("associated_data") == "transaction" {
            let paid: Value = serde_json::from_slice(&plaintext).unwrap();
            let mch_id = paid["mchid"].as_str().unwrap();
            let ring = worker(mch_id, key).unwrap();
            assert_is_paid(&said(&body, mch_id, &ring), &paid);
        }
        let zeros = BASE64_STANDARD.encode([0; 128]);
        for (nonce, data, ciphertext) in
            [("bad-4a9R25RW", data, ciphertext), (nonce, "bad-associatedData", ciphertext), (nonce, data, &zeros)]
        {
            let body = envelope("transaction", nonce, data, ciphertext);
            assert_eq!(open(&body, MERCHANT, &ring).unwrap_err(), OpenError::NoKeyOpens, "{}", vector.name());
        }
    });
}

#[test]
fn resources_that_others_refuse_are_refused() {
    each("v3_aead_negative", |vector| {
        let Some(nonces) = vector.0["nonces"].as_array() else {
            // The envelope of a library's fixture: a nonce of two bytes, and no algorithm.
            let ring = worker(MERCHANT, KEY).unwrap();
            let mut body: Value = serde_json::from_slice(&vector.body()).unwrap();
            assert_eq!(open(&vector.body(), MERCHANT, &ring).unwrap_err(), OpenError::NotAnEnvelope);
            body["resource"]["algorithm"] = json!("AEAD_AES_256_GCM");
            assert_eq!(open(body.to_string().as_bytes(), MERCHANT, &ring).unwrap_err(), OpenError::Nonce);
            return;
        };
        let ring = worker(MERCHANT, vector.text("key")).unwrap();
        let (data, good) = (vector.text("associated_data"), vector.text("good_nonce_for_bad_ciphertexts"));
        for nonce in nonces {
            let body = envelope("transaction", nonce.as_str().unwrap(), data, vector.text("ciphertext_b64"));
            assert_eq!(open(&body, MERCHANT, &ring).unwrap_err(), OpenError::Nonce, "{nonce}");
        }
        for ciphertext in vector.0["bad_ciphertexts"].as_array().unwrap() {
            let refused = open(&envelope("transaction", good, data, ciphertext.as_str().unwrap()), MERCHANT, &ring);
            let refused = refused.unwrap_err();
            assert!(matches!(refused, OpenError::Ciphertext | OpenError::NoKeyOpens), "{ciphertext}: {refused}");
        }
    });
}

#[test]
fn whole_callbacks_are_verified_opened_and_read() {
    each("v3_notify", |vector| {
        let (headers, body) = (headers(vector), vector.body());
        let (serial, pem) = platform_key(vector, &headers[SERIAL]);
        let ring = edge(&serial, &pem);
        let now = at(vector.0["clock"].as_i64().unwrap());
        let verified = read(&headers).unwrap().verify(&body, ring.merchant(MERCHANT).unwrap(), now).map(|_| ());
        let is_valid = vector.0["expected_valid"].as_bool().unwrap();
        let expected = if is_valid { Ok(()) } else { Err(VerifyError::SignatureDiffers) };
        assert_eq!(verified, expected, "{}", vector.name());

        let plaintext = vector.plaintext();
        let sealed: Value = serde_json::from_slice(&plaintext).unwrap();
        let envelope: Value = serde_json::from_slice(&body).unwrap();
        let member = |name: &str| envelope["resource"][name].as_str().unwrap();
        let (mch_id, key) = (sealed["mchid"].as_str().unwrap(), vector.text("key"));
        let ring = worker(mch_id, key).unwrap();
        let parts = (key, member("nonce"), member("associated_data"), member("ciphertext"));
        assert_opens_to(&body, mch_id, &ring, parts, &plaintext);
        let said = said(&body, mch_id, &ring);
        match vector.text("original_type") {
            "transaction" => assert_is_paid(&said, &sealed),
            "refund" => assert_is_refund(&said, &sealed),
            _ => assert!(matches!(said, Notification::Other(_)), "{}: {said:?}", vector.name()),
        }
    });
}

#[test]
fn documented_resources_are_read() {
    each("plaintext_fixture", |vector| {
        if vector.name() == "php-refund-plain" {
            return v2::assert_refund_is_read(vector);
        }
        let (plaintext, name) = (vector.body(), vector.name());
        let sealed: Value = serde_json::from_slice(&plaintext).unwrap();
        let named = ["mchid", "sp_mchid", "combine_mchid"].iter().find_map(|name| sealed[*name].as_str());
        let mch_id = named.unwrap_or_else(|| panic!("{name} names no merchant"));
        let (event_type, original_type) = match name {
            _ if name.contains("-refund-") => ("REFUND.SUCCESS", "refund"),
            _ if name.contains("-profitsharing-") => ("TRANSACTION.SUCCESS", "profitsharing"),
            _ => ("TRANSACTION.SUCCESS", "transaction"),
        };
        let nonce = "0123456789ab";
        let ciphertext = seal_resource(KEY, nonce, original_type, &plaintext).unwrap();
        let body = envelope_of(event_type, original_type, nonce, original_type, &ciphertext);
        let ring = worker(mch_id, KEY).unwrap();
        let said = said(&body, mch_id, &ring);
        match original_type {
            _ if name.contains("-combinetransactions-") => assert_is_paid(&said, &sub_order_of(&sealed)),
            "refund" => assert_is_refund(&said, &sealed),
            "transaction" => assert_is_paid(&said, &sealed),
            _ => assert!(matches!(said, Notification::Other(_)), "{name}: {said:?}"),
        }
    });
}

/// What a callback about one order says, or a combined one about a single sub-order.
fn said(body: &[u8], mch_id: &str, ring: &KeyRing) -> Notification {
    let event = open(body, mch_id, ring).unwrap();
    let [part] = decode(&event.content, event.merchant).unwrap().try_into().unwrap();
    part.unwrap()
}

/// The only sub-order of a combined order, under the names that a single order has.
fn sub_order_of(combined: &Value) -> Value {
    let mut sub_order = combined["sub_orders"][0].clone();
    sub_order["amount"]["total"] = sub_order["amount"]["total_amount"].clone();
    sub_order
}

fn assert_is_paid(said: &Notification, sealed: &Value) {
    let Notification::Payment(payment) = said else { panic!("{sealed} is {said:?}") };
    let PaymentResult::Success(success) = &payment.result else { panic!("{sealed} is {said:?}") };
    let transaction_id = sealed["id"].as_str().or(sealed["transaction_id"].as_str()).unwrap();
    assert_eq!(success.transaction_id.as_str(), transaction_id);
    assert_eq!(Some(success.total.amount_minor), sealed["amount"]["total"].as_i64());
    assert_eq!(success.total.currency.as_str(), sealed["amount"]["currency"]);
    assert_eq!(payment.out_trade_no.as_ref().unwrap().as_str(), sealed["out_trade_no"]);
    assert_eq!(payment.sub_mch_id.as_ref().map(ToString::to_string).as_deref(), sealed["sub_mchid"].as_str());
    let time: DateTime<Utc> = sealed["success_time"].as_str().unwrap().parse().unwrap();
    assert_eq!(success.paid_at, time);
}

fn assert_is_refund(said: &Notification, sealed: &Value) {
    let Notification::Refund(refund) = said else { panic!("{sealed} is {said:?}") };
    assert_eq!(refund.out_refund_no.as_str(), sealed["out_refund_no"]);
    assert_eq!(refund.refund_id.as_str(), sealed["refund_id"]);
    assert_eq!(refund.transaction_id.as_str(), sealed["transaction_id"]);
    assert_eq!(Some(refund.amount_minor), sealed["amount"]["refund"].as_i64());
    assert_eq!(Some(refund.total_minor), sealed["amount"]["total"].as_i64());
    assert_eq!(refund.currency.as_ref().map(ToString::to_string).as_deref(), sealed["amount"]["currency"].as_str());
    assert_eq!(refund.sub_mch_id.as_ref().map(ToString::to_string).as_deref(), sealed["sub_mchid"].as_str());
}

/// It opens, and sealing the plaintext again gives the same ciphertext: so it is what was inside.
fn assert_opens_to(
    body: &[u8],
    mch_id: &str,
    ring: &KeyRing,
    (key, nonce, data, ciphertext): (&str, &str, &str, &str),
    plaintext: &[u8],
) {
    open(body, mch_id, ring).unwrap();
    assert_eq!(seal_resource(key, nonce, data, plaintext).unwrap(), ciphertext);
}

fn headers(vector: &Vector) -> HashMap<String, String> {
    serde_json::from_slice(&vector.file("headers_file")).unwrap()
}

fn read(headers: &HashMap<String, String>) -> Result<UnverifiedHeaders<'_>, VerifyError> {
    UnverifiedHeaders::read(|name| headers.get(name).map(String::as_str))
}

/// The vector's key, under this serial. Some fixtures name the serial of another certificate than the one that signed:
/// that is refused as it stands, and taken under the certificate's own.
fn platform_key(vector: &Vector, serial: &str) -> (String, String) {
    let pem = String::from_utf8(vector.file("public_key_file")).unwrap();
    match PlatformKey::parse(&mch_id(MERCHANT), serial, &pem) {
        Ok(_) => (serial.to_owned(), pem),
        Err(PlatformKeyError::OtherSerial(own)) => {
            assert!(
                serial == NO_SERIAL || vector.name().starts_with("yansongda-"),
                "{}: the certificate {own}",
                vector.name()
            );
            (own, pem)
        }
        Err(error) => panic!("{}: {error}", vector.name()),
    }
}

fn edge(serial: &str, pem: &str) -> KeyRing {
    let text = format!(
        "[[merchant]]\nmch_id = \"{MERCHANT}\"\n[[merchant.v3_platform_keys]]\nserial = \"{serial}\"\npem = \"\"\"\n{pem}\"\"\"\n"
    );
    merchants_file::parse(&text, Program::Ingest).unwrap()
}

fn worker(mch_id: &str, key: &str) -> Result<KeyRing, String> {
    let text = format!("[[merchant]]\nmch_id = \"{mch_id}\"\nv3_keys = [\"{key}\"]");
    merchants_file::parse(&text, Program::Worker).map_err(|error| error.to_string())
}

fn envelope(original_type: &str, nonce: &str, associated_data: &str, ciphertext: &str) -> Vec<u8> {
    envelope_of("TRANSACTION.SUCCESS", original_type, nonce, associated_data, ciphertext)
}

fn envelope_of(event_type: &str, original_type: &str, nonce: &str, associated_data: &str, ciphertext: &str) -> Vec<u8> {
    let resource = json!({
        "original_type": original_type, "algorithm": "AEAD_AES_256_GCM", "nonce": nonce,
        "associated_data": associated_data, "ciphertext": ciphertext,
    });
    json!({"event_type": event_type, "resource": resource}).to_string().into_bytes()
}

fn mch_id(text: &str) -> MchId {
    MchId::parse(text).unwrap()
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}
