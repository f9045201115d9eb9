//! What opens a resource: a key of the merchant's, and nothing altered. What does not is told apart.

use serde_json::{Value, json};
use shared::merchants_file::{self, Program};
use shared::protocol::keys::Purpose;
use shared::protocol::v3::notification::decode;
use shared::protocol::v3::resource::{OpenError, open};
use shared::protocol::{BODY_BYTES_MAX, DecodeError, SINGLE_BODY_BYTES_MAX};
use signer::seal_resource;

use super::{KEY, MERCHANT, OTHER_KEY, OTHER_MERCHANT, SECOND_KEY, envelope, set, without, worker};

const NONCE: &str = "fdasflkja484";
const PLAINTEXT: &[u8] = br#"{"mchid":"1900000109"}"#;

#[test]
fn every_key_of_the_merchant_opens_and_is_named() {
    let text = format!(
        "[[merchant]]\nmch_id = \"{MERCHANT}\"\nv3_keys = [\"{KEY}\", \"{SECOND_KEY}\"]\nv3_keys_retired = [\"{OTHER_KEY}\"]"
    );
    let ring = merchants_file::parse(&text, Program::Worker).unwrap();
    let keys: Vec<_> = ring.merchant(MERCHANT).unwrap().v3_keys().collect();
    for (place, key) in [KEY, SECOND_KEY, OTHER_KEY].into_iter().enumerate() {
        let body = sealed(key, NONCE, "transaction").to_string();
        let opened = open(body.as_bytes(), MERCHANT, &ring).unwrap();
        assert_eq!(opened.key, keys[place].id());
        assert_eq!(opened.key.purpose, Purpose::V3);
    }
}

#[test]
fn an_unknown_key_or_another_merchants_does_not_open_a_refund() {
    for key in ["v3-key-of-a-stranger-00000000001", OTHER_KEY] {
        assert_eq!(refusal(&sealed(key, NONCE, "transaction")), OpenError::NoKeyOpens);
    }
    let (body, ring) = (sealed(KEY, NONCE, "transaction").to_string(), worker());
    assert_eq!(open(body.as_bytes(), OTHER_MERCHANT, &ring).unwrap_err(), OpenError::NoKeyOpens);
}

#[test]
fn a_merchant_without_v3_keys_opens_nothing() {
    let ring = merchants_file::parse(
        &format!("[[merchant]]\nmch_id = \"{MERCHANT}\"\nv2_keys = [\"{KEY}\"]"),
        Program::Worker,
    )
    .unwrap();
    let body = sealed(KEY, NONCE, "transaction").to_string();
    assert_eq!(open(body.as_bytes(), MERCHANT, &ring).unwrap_err(), OpenError::NoKeyOpens, "a v2 key is no v3 key");
}

#[test]
fn an_unknown_merchant_is_reported_before_the_body_is_read() {
    let ring = worker();
    for mch_id in ["1900009999", ""] {
        assert_eq!(open(b"not JSON", mch_id, &ring).unwrap_err(), OpenError::UnknownMerchant, "{mch_id:?}");
    }
}

#[test]
fn a_ciphertext_that_was_changed_in_any_byte_is_noticed_the_tag_included() {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    let genuine = sealed(KEY, NONCE, "transaction");
    let bytes = BASE64_STANDARD.decode(genuine["resource"]["ciphertext"].as_str().unwrap()).unwrap();
    assert_eq!(bytes.len(), PLAINTEXT.len() + 16);
    for at in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        let altered = set(genuine.clone(), "/resource/ciphertext", json!(BASE64_STANDARD.encode(altered)));
        assert_eq!(refusal(&altered), OpenError::NoKeyOpens, "byte {at}");
    }
    for length in 0..bytes.len() {
        let cut = set(genuine.clone(), "/resource/ciphertext", json!(BASE64_STANDARD.encode(&bytes[..length])));
        assert_eq!(refusal(&cut), OpenError::NoKeyOpens, "cut to {length} bytes");
    }
    let longer = set(genuine, "/resource/ciphertext", json!(BASE64_STANDARD.encode([&bytes[..], &[0]].concat())));
    assert_eq!(refusal(&longer), OpenError::NoKeyOpens);
}

#[test]
fn associated_data_is_authenticated_with_the_resource() {
    let genuine = sealed(KEY, NONCE, "transaction");
    for other in ["", "Transaction", "transaction ", "refund"] {
        let altered = set(genuine.clone(), "/resource/associated_data", json!(other));
        assert_eq!(refusal(&altered), OpenError::NoKeyOpens, "{other:?}");
    }
    let nothing = set(genuine.clone(), "/resource/associated_data", Value::Null);
    assert_eq!(refusal(&nothing), OpenError::NoKeyOpens);
    assert_eq!(refusal(&without(genuine, "/resource/associated_data")), OpenError::NoKeyOpens);
}

#[test]
fn nothing_may_be_associated_in_three_ways() {
    let empty = sealed(KEY, NONCE, "");
    opens(&empty);
    opens(&set(empty.clone(), "/resource/associated_data", Value::Null));
    opens(&without(empty.clone(), "/resource/associated_data"));
    let number = set(empty, "/resource/associated_data", json!(0));
    assert_eq!(refusal(&number), OpenError::NotAnEnvelope);
}

#[test]
fn a_nonce_has_12_bytes() {
    let genuine = sealed(KEY, NONCE, "transaction");
    for nonce in
        ["", "f", "fdasflkja48", "fdasflkja4840", "0123456789abcdef", &"n".repeat(32), "支付通知支付通知支付通知"]
    {
        let other = set(genuine.clone(), "/resource/nonce", json!(nonce));
        assert_eq!(refusal(&other), OpenError::Nonce, "{nonce:?}");
    }
    let other = set(genuine, "/resource/nonce", json!("fdasflkja485"));
    assert_eq!(refusal(&other), OpenError::NoKeyOpens);
    opens(&sealed(KEY, "支付通知", "transaction"));
}

#[test]
fn a_ciphertext_is_base64_in_one_piece() {
    let genuine = sealed(KEY, NONCE, "transaction");
    let text = genuine["resource"]["ciphertext"].as_str().unwrap().to_owned();
    for other in ["!!!not-base64!!!", "AAA", "-_-_", "AAAA\n", " AAAA", "支付", "====", &text[1..], &format!("{text}=")]
    {
        let altered = set(genuine.clone(), "/resource/ciphertext", json!(other));
        assert_eq!(refusal(&altered), OpenError::Ciphertext, "{other:?}");
    }
    for short in ["", "AAAA"] {
        let altered = set(genuine.clone(), "/resource/ciphertext", json!(short));
        assert_eq!(refusal(&altered), OpenError::NoKeyOpens, "{short:?}");
    }
}

#[test]
fn there_is_one_algorithm() {
    for other in ["", "AEAD_AES_128_GCM", "aead_aes_256_gcm", "AEAD_SM4_GCM", "AEAD_AES_256_GCM ", "none"] {
        let altered = set(sealed(KEY, NONCE, "transaction"), "/resource/algorithm", json!(other));
        assert_eq!(refusal(&altered), OpenError::Algorithm, "{other:?}");
    }
}

#[test]
fn required_members_of_a_resource_are_present_and_text() {
    let genuine = sealed(KEY, NONCE, "transaction");
    for name in ["/resource", "/resource/algorithm", "/resource/nonce", "/resource/ciphertext"] {
        assert_eq!(refusal(&without(genuine.clone(), name)), OpenError::NotAnEnvelope, "{name} was dropped");
        for other in [Value::Null, json!(1), json!(["x"]), json!(true)] {
            let altered = set(genuine.clone(), name, other.clone());
            assert_eq!(refusal(&altered), OpenError::NotAnEnvelope, "{name} became {other}");
        }
    }
}

#[test]
fn a_body_that_is_not_an_envelope_is_refused() {
    let text = sealed(KEY, NONCE, "transaction").to_string();
    let with_more = [format!("{text}x"), format!("{text}{text}"), format!("\u{feff}{text}"), text.replace('"', "'")];
    let others = ["", " ", "null", "1", "\"x\"", "[]", "{}", "{\"resource\":{}}", "{", "not JSON", "<xml></xml>"];
    for body in others.into_iter().chain(with_more.iter().map(String::as_str)).chain([&text[..text.len() - 1]]) {
        assert_eq!(open(body.as_bytes(), MERCHANT, &worker()).unwrap_err(), OpenError::NotAnEnvelope, "{body}");
    }
    assert_eq!(open(b"\xff\xfe", MERCHANT, &worker()).unwrap_err(), OpenError::NotAnEnvelope);
}

#[test]
fn a_duplicate_member_is_refused_where_it_is_read() {
    let text = sealed(KEY, NONCE, "transaction").to_string();
    for name in ["event_type", "resource", "original_type", "algorithm", "ciphertext", "associated_data", "nonce"] {
        let member = format!("\"{name}\":");
        assert!(text.contains(&member), "{text} has no {name}");
        for twin in [format!("{member}null,{member}"), format!("{member}\"x\",{member}")] {
            let body = text.replacen(&member, &twin, 1);
            assert_eq!(open(body.as_bytes(), MERCHANT, &worker()).unwrap_err(), OpenError::NotAnEnvelope, "{body}");
        }
    }
    let unread = text.replacen("\"summary\":", "\"summary\":\"x\",\"summary\":", 1);
    assert!(open(unread.as_bytes(), MERCHANT, &worker()).is_ok(), "nobody reads the summary");
}

#[test]
fn a_body_may_have_as_many_bytes_as_the_limit_and_not_one_more() {
    let body = |length: usize| {
        let text = sealed(KEY, NONCE, "transaction").to_string();
        format!("{text}{}", " ".repeat(length - text.len())).into_bytes()
    };
    assert!(open(&body(SINGLE_BODY_BYTES_MAX), MERCHANT, &worker()).is_ok());
    assert_eq!(open(&body(SINGLE_BODY_BYTES_MAX + 1), MERCHANT, &worker()).unwrap_err(), OpenError::TooLarge);
    assert_eq!(open(&body(BODY_BYTES_MAX + 1), MERCHANT, &worker()).unwrap_err(), OpenError::NotAnEnvelope);

    // A combined order may be larger.
    let sub_orders = vec![json!({"attach": "x".repeat(1024)}); 40];
    let combined = json!({"combine_mchid": MERCHANT, "sub_orders": sub_orders}).to_string();
    let body = envelope("TRANSACTION.SUCCESS", "transaction", combined.as_bytes()).to_string();
    assert!(body.len() > 3 * SINGLE_BODY_BYTES_MAX);
    assert!(open(body.as_bytes(), MERCHANT, &worker()).is_ok());
}

/// Nothing may overflow the stack: neither what is ignored nor what is read.
#[test]
fn the_deepest_nesting_that_fits_is_harmless() {
    let text = sealed(KEY, NONCE, "transaction").to_string();
    for (start, end) in [("[", "]"), ("{\"a\":", "}")] {
        let depth = (BODY_BYTES_MAX - text.len() - 16) / (start.len() + end.len());
        let nested = format!("{}1{}", start.repeat(depth), end.repeat(depth));
        for name in ["summary", "resource", "ciphertext", "event_type"] {
            let body = text.replacen(&format!("\"{name}\":"), &format!("\"{name}\":{nested},\"_\":"), 1);
            // It is refused, or the nested member is one that nobody reads.
            let _ = open(body.as_bytes(), MERCHANT, &worker());
        }
        let unclosed = start.repeat(BODY_BYTES_MAX / start.len());
        assert_eq!(open(unclosed.as_bytes(), MERCHANT, &worker()).unwrap_err(), OpenError::NotAnEnvelope);
    }
}

#[test]
fn an_envelope_without_a_type_or_without_the_kind_of_an_incomplete_resource_is_not_understood() {
    let said = |envelope: Value| {
        let (ring, body) = (worker(), envelope.to_string());
        let event = open(body.as_bytes(), MERCHANT, &ring).unwrap();
        decode(&event.content, event.merchant)
    };
    let nameless = said(without(sealed(KEY, NONCE, "transaction"), "/event_type"));
    assert_eq!(nameless, Err(DecodeError::UnknownKind));
    let kindless = said(without(sealed(KEY, NONCE, "transaction"), "/resource/original_type"));
    assert_eq!(kindless, Err(DecodeError::Missing("original_type")));
}

fn sealed(key: &str, nonce: &str, associated_data: &str) -> Value {
    let ciphertext = seal_resource(key, nonce, associated_data, PLAINTEXT).unwrap();
    let envelope = envelope("TRANSACTION.SUCCESS", "transaction", PLAINTEXT);
    let envelope = set(envelope, "/resource/nonce", json!(nonce));
    let envelope = set(envelope, "/resource/associated_data", json!(associated_data));
    set(envelope, "/resource/ciphertext", json!(ciphertext))
}

fn opens(envelope: &Value) {
    let body = envelope.to_string();
    assert!(open(body.as_bytes(), MERCHANT, &worker()).is_ok(), "{body}");
}

fn refusal(envelope: &Value) -> OpenError {
    let body = envelope.to_string();
    match open(body.as_bytes(), MERCHANT, &worker()) {
        Ok(_) => panic!("opened: {body}"),
        Err(error) => error,
    }
}
