//! What stands in the headers: nothing about a signed callback can be touched, and each failure is told apart.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Utc};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair};
use shared::protocol::keys::KeyRing;
use shared::protocol::v3::headers::{
    CLOCK_WINDOW_SECONDS, NONCE, SERIAL, SIGNATURE, SIGNATURE_TYPE, SIGNATURE_TYPE_RSA, TIMESTAMP, UnverifiedHeaders,
    VerifyError,
};
use signer::PlatformKey;

use super::{
    CERTIFICATE_SERIAL, CERTIFIED, CERTIFIED_PEM, KNOWN_BY_ID, MERCHANT, OTHER_MERCHANT, PUBLIC_KEY_ID, edge, worker,
};

const SIGNED_AT: i64 = 1_795_000_000;
const BODY: &[u8] = br#"{"id":"EV-1","resource":{"ciphertext":"x\/y"},"summary":"\u652f"}"#;

/// The headers of one callback.
#[derive(Clone)]
struct Headers(BTreeMap<&'static str, String>);

#[test]
fn a_callback_that_the_platform_signed_is_authentic_and_names_the_key() {
    for (key, serial) in [(&CERTIFIED, CERTIFICATE_SERIAL), (&KNOWN_BY_ID, PUBLIC_KEY_ID)] {
        let (ring, headers) = (edge(), signed(key, BODY));
        let read = headers.read().unwrap();
        let authentic = read.verify(BODY, ring.merchant(MERCHANT).unwrap(), at(SIGNED_AT)).unwrap();
        assert_eq!(authentic.content, BODY);
        assert_eq!(authentic.key.name, serial);
        assert_eq!(authentic.key.mch_id.as_str(), MERCHANT);
    }
}

#[test]
fn the_signed_message_is_timestamp_nonce_and_body_each_closed_by_a_line_feed() {
    let (timestamp, nonce, body) = (SIGNED_AT.to_string(), "nonce", "{}");
    let exact = format!("{timestamp}\n{nonce}\n{body}\n");
    assert_eq!(verify(&signed_over(exact.as_bytes()), body.as_bytes()), Ok(()));
    for other in [
        format!("{timestamp}\n{nonce}\n{body}"),
        format!("{timestamp}\n{nonce}\n{body}\n\n"),
        format!("{timestamp}\r\n{nonce}\r\n{body}\r\n"),
        format!("{timestamp}{nonce}{body}"),
        format!("{timestamp} {nonce} {body} "),
        format!("{nonce}\n{timestamp}\n{body}\n"),
        format!("{timestamp}\n{nonce}\n{body}\n{CERTIFICATE_SERIAL}\n"),
        format!("POST\n/wechatpay/v3/{MERCHANT}\n{timestamp}\n{nonce}\n{body}\n"),
    ] {
        let refused = verify(&signed_over(other.as_bytes()), body.as_bytes());
        assert_eq!(refused, Err(VerifyError::SignatureDiffers), "{other:?}");
    }
}

#[test]
fn an_empty_body_is_signed_like_any_other() {
    assert_eq!(verify(&signed(&CERTIFIED, b""), b""), Ok(()));
    assert_eq!(verify(&signed(&CERTIFIED, b""), b"\n"), Err(VerifyError::SignatureDiffers));
}

#[test]
fn the_bytes_are_signed_whatever_they_are() {
    for body in [&b"\xff\xfe\0"[..], b"a\nb\n", "支付 \u{1F9E7}".as_bytes()] {
        assert_eq!(verify(&signed(&CERTIFIED, body), body), Ok(()), "{body:?}");
    }
}

#[test]
fn a_header_that_is_missing_or_empty_is_missed_by_name() {
    for name in [TIMESTAMP, NONCE, SERIAL, SIGNATURE] {
        let mut headers = signed(&CERTIFIED, BODY);
        headers.0.insert(name, String::new());
        assert_eq!(verify(&headers, BODY), Err(VerifyError::MissingHeader(name)));
        headers.0.remove(name);
        assert_eq!(verify(&headers, BODY), Err(VerifyError::MissingHeader(name)));
    }
}

#[test]
fn a_malformed_header_is_refused_by_name() {
    let [long_nonce, long_serial, long_signature] = [65, 65, 1025].map(|length| "A".repeat(length));
    let cases: [(&'static str, &[&str]); 4] = [
        (
            TIMESTAMP,
            &[
                "-1795000000",
                "+1795000000",
                "1795000000.0",
                " 1795000000",
                "1795000000 ",
                "1.795e9",
                "0x6AFD6DC0",
                "１７９５００００００",
                "now",
                "9223372036854775808",
                "99999999999999999999999999",
            ],
        ),
        (NONCE, &[&long_nonce, "a b", "a\nb", "a\tb", "\u{7f}", "支付", " "]),
        (SERIAL, &[&long_serial, "7C3E 5A1F", "7C3E\n", "支付", " "]),
        (SIGNATURE, &[&long_signature, "AAAA AAAA", "AAAA\n", "支付", " "]),
    ];
    for (name, values) in cases {
        for value in values {
            let headers = signed(&CERTIFIED, BODY).with(name, value);
            assert_eq!(verify(&headers, BODY), Err(VerifyError::MalformedHeader(name)), "{value:?}");
        }
    }
}

#[test]
fn a_header_may_be_as_long_as_its_limit() {
    let nonce = "n".repeat(64);
    let signature = CERTIFIED.sign(&SIGNED_AT.to_string(), &nonce, BODY).unwrap();
    let headers = signed(&CERTIFIED, BODY).with(NONCE, &nonce).with(SIGNATURE, &signature);
    assert_eq!(verify(&headers, BODY), Ok(()));
    let unknown = signed(&CERTIFIED, BODY).with(SERIAL, &"A".repeat(64));
    assert_eq!(verify(&unknown, BODY), Err(VerifyError::UnknownSerial));
    let nonsense = signed(&CERTIFIED, BODY).with(SIGNATURE, &"A".repeat(1024));
    assert_eq!(verify(&nonsense, BODY), Err(VerifyError::SignatureDiffers));
}

#[test]
fn a_timestamp_or_nonce_that_was_changed_is_noticed() {
    let genuine = signed(&CERTIFIED, BODY);
    for timestamp in [(SIGNED_AT + 1).to_string(), (SIGNED_AT - 1).to_string(), format!("0{SIGNED_AT}")] {
        let headers = genuine.clone().with(TIMESTAMP, &timestamp);
        assert_eq!(verify(&headers, BODY), Err(VerifyError::SignatureDiffers), "{timestamp}");
    }
    let nonce = &genuine.0[NONCE];
    for other in [nonce.to_lowercase(), format!("{nonce}0"), nonce[1..].to_owned(), "x".to_owned()] {
        let headers = genuine.clone().with(NONCE, &other);
        assert_eq!(verify(&headers, BODY), Err(VerifyError::SignatureDiffers), "{other}");
    }
}

#[test]
fn a_change_of_any_byte_is_detected_and_distinguished_from_a_forgery() {
    let (ring, headers) = (edge(), signed(&CERTIFIED, BODY));
    let (merchant, read) = (ring.merchant(MERCHANT).unwrap(), headers.read().unwrap());
    for at_byte in 0..BODY.len() {
        for bit in [0x01, 0x20, 0x80] {
            let mut body = BODY.to_vec();
            body[at_byte] ^= bit;
            let refused = read.verify(&body, merchant, at(SIGNED_AT)).map(|_| ());
            assert_eq!(refused, Err(VerifyError::SignatureDiffers), "byte {at_byte}");
        }
    }
    assert!(read.was_altered(merchant));
}

#[test]
fn a_body_that_was_cut_or_grew_or_was_written_anew_is_noticed() {
    let text = std::str::from_utf8(BODY).unwrap();
    let written_anew = [text.replace("\\/", "/"), text.replace("\\u652f", "支"), text.replace(':', ": ")];
    let resized = [format!("{text}\n"), format!(" {text}"), text[..text.len() - 1].to_owned(), String::new()];
    for body in written_anew.iter().chain(&resized) {
        assert_ne!(body, text);
        let refused = verify(&signed(&CERTIFIED, BODY), body.as_bytes());
        assert_eq!(refused, Err(VerifyError::SignatureDiffers), "{body}");
    }
}

#[test]
fn the_clocks_may_be_as_far_apart_as_the_window_and_not_a_second_more() {
    assert_eq!(CLOCK_WINDOW_SECONDS, 300);
    let (ring, headers) = (edge(), signed(&CERTIFIED, BODY));
    let verify_at = |now| headers.read().unwrap().verify(BODY, ring.merchant(MERCHANT).unwrap(), at(now)).map(|_| ());
    for apart in [-300, -299, -1, 0, 1, 299, 300] {
        assert_eq!(verify_at(SIGNED_AT + apart), Ok(()), "{apart} s");
    }
    for apart in [301_i64, 86_640] {
        let skew = Err(VerifyError::ClockSkew(apart.unsigned_abs()));
        assert_eq!([verify_at(SIGNED_AT + apart), verify_at(SIGNED_AT - apart)], [skew, skew], "{apart} s");
    }
}

#[test]
fn extreme_times_cause_nothing_but_a_clock_skew() {
    for timestamp in ["0", "9223372036854775807"] {
        let headers = signed(&CERTIFIED, BODY).with(TIMESTAMP, timestamp);
        assert!(matches!(verify(&headers, BODY), Err(VerifyError::ClockSkew(_))), "{timestamp}");
    }
}

#[test]
fn the_signature_type_may_be_left_out_and_is_no_other() {
    let mut headers = signed(&CERTIFIED, BODY);
    headers.0.remove(SIGNATURE_TYPE);
    assert_eq!(verify(&headers, BODY), Ok(()));
    for other in [
        "",
        "WECHATPAY2-SM2-WITH-SM3",
        "WECHATPAY-BRAND-SHA256-RSA2048",
        "wechatpay2-sha256-rsa2048",
        "WECHATPAY2-SHA256-RSA2048 ",
        "WECHATPAY2-SHA256-RSA4096",
        "none",
    ] {
        let headers = signed(&CERTIFIED, BODY).with(SIGNATURE_TYPE, other);
        assert_eq!(verify(&headers, BODY), Err(VerifyError::SignatureType), "{other:?}");
    }
}

#[test]
fn a_probe_is_a_probe_whatever_else_is_wrong_with_it() {
    let genuine = signed(&CERTIFIED, BODY);
    let probe = format!("WECHATPAY/SIGNTEST/{}", genuine.0[SIGNATURE]);
    let probed = genuine.clone().with(SIGNATURE, &probe);
    assert_eq!(verify(&probed, BODY), Err(VerifyError::Probe));
    for (name, value) in [(TIMESTAMP, "1"), (TIMESTAMP, "now"), (SERIAL, "0123"), (NONCE, "a b")] {
        assert_eq!(verify(&probed.clone().with(name, value), BODY), Err(VerifyError::Probe), "{name}");
    }
    let in_small_letters = genuine.with(SIGNATURE, &probe.to_lowercase());
    assert_eq!(verify(&in_small_letters, BODY), Err(VerifyError::SignatureDiffers));
}

#[test]
fn two_platform_keys_count_side_by_side_each_under_its_own_serial() {
    for (key, other_serial) in [(&CERTIFIED, PUBLIC_KEY_ID), (&KNOWN_BY_ID, CERTIFICATE_SERIAL)] {
        let headers = signed(key, BODY);
        assert_eq!(verify(&headers, BODY), Ok(()), "{}", key.serial());
        let headers = headers.with(SERIAL, other_serial);
        assert_eq!(verify(&headers, BODY), Err(VerifyError::SignatureDiffers), "{} as {other_serial}", key.serial());
    }
}

#[test]
fn a_serial_that_no_key_of_the_merchants_has_is_unknown() {
    for serial in
        ["1", "PUB_KEY_ID_0119000001092026112500000000000002", "7C3E5A1F09B2D4E6880112233445566778899AA", "0x7C"]
    {
        assert_eq!(verify(&signed(&CERTIFIED, BODY).with(SERIAL, serial), BODY), Err(VerifyError::UnknownSerial));
    }
    let (ring, headers) = (edge(), signed(&KNOWN_BY_ID, BODY));
    let refused =
        headers.read().unwrap().verify(BODY, ring.merchant(OTHER_MERCHANT).unwrap(), at(SIGNED_AT)).map(|_| ());
    assert_eq!(refused, Err(VerifyError::UnknownSerial), "it is a key of another merchant's");
    let ring = worker();
    let refused = headers.read().unwrap().verify(BODY, ring.merchant(MERCHANT).unwrap(), at(SIGNED_AT)).map(|_| ());
    assert_eq!(refused, Err(VerifyError::UnknownSerial), "the worker has no platform keys");
}

#[test]
fn a_serial_is_read_in_either_case_and_with_leading_zeros() {
    for serial in
        [CERTIFICATE_SERIAL.to_lowercase(), format!("00{CERTIFICATE_SERIAL}"), format!("0{CERTIFICATE_SERIAL}")]
    {
        assert_eq!(verify(&signed(&CERTIFIED, BODY).with(SERIAL, &serial), BODY), Ok(()), "{serial}");
    }
}

#[test]
fn a_signature_that_is_not_exactly_the_keys_is_refused() {
    let genuine = signed(&CERTIFIED, BODY).0[SIGNATURE].clone();
    let bytes = BASE64_STANDARD.decode(&genuine).unwrap();
    let mut others = vec![
        genuine.trim_end_matches('=').to_owned(),
        format!("{genuine}="),
        format!("{genuine}AAAA"),
        BASE64_STANDARD.encode(&bytes[1..]),
        BASE64_STANDARD.encode(&bytes[..255]),
        BASE64_STANDARD.encode([&[0], bytes.as_slice()].concat()),
        BASE64_STANDARD.encode([0; 256]),
        BASE64_STANDARD.encode([0xff; 256]),
        BASE64_STANDARD.encode([&[0; 255][..], &[1]].concat()),
        "AAAA".to_owned(),
        "-_-_".to_owned(),
        "!".to_owned(),
    ];
    for at_byte in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at_byte] ^= 0x10;
        others.push(BASE64_STANDARD.encode(altered));
    }
    for other in others {
        let headers = signed(&CERTIFIED, BODY).with(SIGNATURE, &other);
        assert_eq!(verify(&headers, BODY), Err(VerifyError::SignatureDiffers), "{other}");
        assert!(!was_altered(&headers), "{other} is no signature of the platform's");
    }
}

#[test]
fn an_altered_callback_is_distinguished_from_a_forged_one() {
    let genuine = signed(&CERTIFIED, BODY);
    assert!(was_altered(&genuine), "the question is put to a signature alone, whatever was signed");
    assert!(was_altered(&genuine.clone().with(NONCE, "another")));
    assert!(was_altered(&genuine.clone().with(TIMESTAMP, "1795000001")));
    assert!(was_altered(&signed(&KNOWN_BY_ID, BODY)));
    // The signature of one key under the serial of the other is no signature of that other.
    assert!(!was_altered(&genuine.clone().with(SERIAL, PUBLIC_KEY_ID)));
    assert!(!was_altered(&genuine.with(SERIAL, "0123")), "nobody knows that key");
}

#[test]
fn another_digest_or_padding_is_not_wechat_pays() {
    let message = [SIGNED_AT.to_string().as_bytes(), b"\nnonce\n{}\n"].concat();
    let others: [&'static dyn RsaEncoding; 2] = [&RSA_PKCS1_SHA512, &RSA_PSS_SHA256];
    for encoding in others {
        let headers = signed_over_by(&message, encoding);
        assert_eq!(verify(&headers, b"{}"), Err(VerifyError::SignatureDiffers), "{encoding:?}");
        assert!(!was_altered(&headers), "{encoding:?}");
    }
    assert_eq!(verify(&signed_over_by(&message, &RSA_PKCS1_SHA256), b"{}"), Ok(()));
}

#[test]
fn the_evidence_is_the_headers_as_they_came() {
    let headers = signed(&CERTIFIED, BODY);
    let evidence = headers.read().unwrap().evidence();
    assert_eq!(evidence.map(|(name, _)| name), [TIMESTAMP, NONCE, SIGNATURE, SERIAL]);
    assert!(evidence.iter().all(|(name, value)| headers.0[name] == *value));
}

impl Headers {
    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.0.insert(name, value.to_owned());
        self
    }

    fn read(&self) -> Result<UnverifiedHeaders<'_>, VerifyError> {
        UnverifiedHeaders::read(|name| self.0.get(name).map(String::as_str))
    }
}

fn signed(key: &PlatformKey, body: &[u8]) -> Headers {
    let (timestamp, nonce) = (SIGNED_AT.to_string(), "rN0nceOfTheHeaders00000000000001");
    let signature = key.sign(&timestamp, nonce, body).unwrap();
    headers(&timestamp, nonce, key.serial(), &signature)
}

/// With [`CERTIFIED`]'s signature over these bytes, whatever they are; the headers say the nonce `nonce`.
fn signed_over(message: &[u8]) -> Headers {
    signed_over_by(message, &RSA_PKCS1_SHA256)
}

fn signed_over_by(message: &[u8], encoding: &'static dyn RsaEncoding) -> Headers {
    let base64: String = CERTIFIED_PEM.lines().filter(|line| !line.starts_with('-')).collect();
    let key = RsaKeyPair::from_pkcs8(&BASE64_STANDARD.decode(base64).unwrap()).unwrap();
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(encoding, &SystemRandom::new(), message, &mut signature).unwrap();
    headers(&SIGNED_AT.to_string(), "nonce", CERTIFICATE_SERIAL, &BASE64_STANDARD.encode(signature))
}

fn headers(timestamp: &str, nonce: &str, serial: &str, signature: &str) -> Headers {
    let values = [(TIMESTAMP, timestamp), (NONCE, nonce), (SERIAL, serial), (SIGNATURE, signature)];
    let values = values.into_iter().chain([(SIGNATURE_TYPE, SIGNATURE_TYPE_RSA)]);
    Headers(values.map(|(name, value)| (name, value.to_owned())).collect())
}

/// As ingest does it for [`MERCHANT`], at the moment of signing.
fn verify(headers: &Headers, body: &[u8]) -> Result<(), VerifyError> {
    let ring: KeyRing = edge();
    headers.read()?.verify(body, ring.merchant(MERCHANT).unwrap(), at(SIGNED_AT)).map(|_| ())
}

fn was_altered(headers: &Headers) -> bool {
    headers.read().unwrap().was_altered(edge().merchant(MERCHANT).unwrap())
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}
