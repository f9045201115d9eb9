//! What one callback costs: ingest to authenticate it, and the worker to decode it. The aims are 20 µs for v2 and 60 µs
//! for v3, so that one core takes far more than WeChat Pay will send. Run by `cargo bench -p shared`.
#![expect(clippy::expect_used, reason = "a bench without its keys measures nothing")]

use std::hint::black_box;

use anyhow::Context;
use chrono::DateTime;
use criterion::{Criterion, criterion_group, criterion_main};
use secrecy::SecretString;
use serde_json::json;
use shared::merchants_file::{self, Program};
use shared::protocol::keys::{KeyRing, Merchant, SignType};
use shared::protocol::v2::signature::sign_fields;
use shared::protocol::v2::{payment, refund};
use shared::protocol::v3::headers::{self, UnverifiedHeaders};
use shared::protocol::v3::{notification, resource};
use signer::keys::{CERTIFICATE_PEM, CERTIFIED_PEM};
use signer::{PlatformKey, encrypt_req_info, seal_resource};

const MERCHANT: &str = "1900000109";
const KEY: &str = "k1d4rQn0QxR3bJc7TzW9uYvE1mLhA2sN";
const SERIAL: &str = "7C3E5A1F09B2D4E6880112233445566778899AAB";
const NONCE: &str = "nonce-of-12b";
/// What callbacks have, in bytes.
const BODY_BYTES: usize = 1400;
const SIGNED_AT: i64 = 1_764_036_840;

/// A v2 payment but for what pads it.
const PAYMENT: [(&str, &str); 15] = [
    ("appid", "wx0000000000000001"),
    ("bank_type", "CFT"),
    ("cash_fee", "100"),
    ("fee_type", "CNY"),
    ("is_subscribe", "Y"),
    ("mch_id", MERCHANT),
    ("nonce_str", "00112233445566778899aabbccddeeff"),
    ("openid", "oPayer0000000000000000000001"),
    ("out_trade_no", "ORDER-20251125-000001"),
    ("result_code", "SUCCESS"),
    ("return_code", "SUCCESS"),
    ("time_end", "20251125131540"),
    ("total_fee", "100"),
    ("trade_type", "JSAPI"),
    ("transaction_id", "4200000000202511250000000001"),
];
/// What is sealed in a v2 refund, but for what pads it.
const REFUND: [(&str, &str); 11] = [
    ("out_refund_no", "REFUND-20251125-000001"),
    ("out_trade_no", "ORDER-20251125-000001"),
    ("refund_account", "REFUND_SOURCE_RECHARGE_FUNDS"),
    ("refund_fee", "100"),
    ("refund_id", "50300000002025112500000000001"),
    ("refund_request_source", "API"),
    ("refund_status", "SUCCESS"),
    ("settlement_refund_fee", "100"),
    ("success_time", "2025-11-25 16:24:13"),
    ("total_fee", "100"),
    ("transaction_id", "4200000000202511250000000001"),
];

fn v2(criterion: &mut Criterion) {
    let ring = ring(Program::Worker);
    for (name, sign_type) in [("v2 payment, MD5", SignType::Md5), ("v2 payment, HMAC-SHA256", SignType::HmacSha256)] {
        let body = padded(|padding| signed_payment(sign_type, padding));
        assert!(payment::authenticate(body.as_bytes(), &ring).is_ok());
        let authenticate = || payment::authenticate(black_box(body.as_bytes()), &ring).is_ok();
        criterion.bench_function(name, |bencher| bencher.iter(authenticate));
    }

    let body = padded(encrypted_refund);
    assert!(refund::authenticate(body.as_bytes(), &ring).is_ok());
    let authenticate = || refund::authenticate(black_box(body.as_bytes()), &ring).is_ok();
    criterion.bench_function("v2 refund", |bencher| bencher.iter(authenticate));

    let body = signed_payment(SignType::Md5, "");
    if let Ok(authentic) = payment::authenticate(body.as_bytes(), &ring) {
        let (merchant, signed) = (authentic.merchant, authentic.content);
        let is_ambiguous = || black_box(&signed).ambiguity().is_some();
        criterion.bench_function("v2 payment, ambiguity", |bencher| bencher.iter(is_ambiguous));
        let fields = signed.accepted_by_operator();
        let decode = || payment::decode(black_box(&fields), merchant);
        assert!(decode().is_ok());
        criterion.bench_function("v2 payment, decode", |bencher| bencher.iter(decode));
    }
}

fn v3(criterion: &mut Criterion) {
    let (edge, worker) = (ring(Program::Ingest), ring(Program::Worker));
    let merchant = edge.merchant(MERCHANT).expect("the ring has one merchant");
    let body = padded(sealed_payment);
    let signature = sign(body.as_bytes()).expect("the platform key signs");
    assert!(is_verified(body.as_bytes(), &signature, merchant));
    let verify = || is_verified(black_box(body.as_bytes()), &signature, merchant);
    criterion.bench_function("v3 signature", |bencher| bencher.iter(verify));

    assert!(is_decoded(body.as_bytes(), &worker));
    criterion.bench_function("v3 resource, open and decode", |bencher| {
        bencher.iter(|| is_decoded(black_box(body.as_bytes()), &worker));
    });
}

fn is_verified(body: &[u8], signature: &str, merchant: &Merchant) -> bool {
    let timestamp = SIGNED_AT.to_string();
    let get = |name| match name {
        headers::TIMESTAMP => Some(timestamp.as_str()),
        headers::NONCE => Some(NONCE),
        headers::SERIAL => Some(SERIAL),
        headers::SIGNATURE => Some(signature),
        _ => None,
    };
    let now = DateTime::from_timestamp(SIGNED_AT, 0).unwrap_or_default();
    UnverifiedHeaders::read(get).is_ok_and(|headers| headers.verify(body, merchant, now).is_ok())
}

fn is_decoded(body: &[u8], ring: &KeyRing) -> bool {
    let opened = resource::open(body, MERCHANT, ring);
    opened.is_ok_and(|event| notification::decode(&event.content, event.merchant).is_ok())
}

/// What `make` makes, padded to the length that callbacks have.
fn padded(make: impl Fn(&str) -> String) -> String {
    let lengths = 0..BODY_BYTES;
    let mut bodies = lengths.map(|length| make(&"x".repeat(length)));
    bodies.find(|body| body.len() >= BODY_BYTES).unwrap_or_default()
}

fn signed_payment(sign_type: SignType, padding: &str) -> String {
    let mut fields = PAYMENT.to_vec();
    fields.push(("attach", padding));
    fields.sort_unstable();
    let sign = sign_fields(fields.iter().copied(), &SecretString::from(KEY), sign_type);
    fields.push(("sign", &sign));
    xml("xml", &fields)
}

fn encrypted_refund(padding: &str) -> String {
    let mut fields = REFUND.to_vec();
    fields.push(("refund_recv_accout", padding));
    let req_info = encrypt_req_info(KEY, xml("root", &fields).as_bytes());
    xml("xml", &[("return_code", "SUCCESS"), ("mch_id", MERCHANT), ("req_info", &req_info)])
}

fn xml(root: &str, fields: &[(&str, &str)]) -> String {
    let fields = fields.iter().map(|(name, value)| format!("<{name}><![CDATA[{value}]]></{name}>\n"));
    format!("<{root}>{}</{root}>", fields.collect::<Vec<_>>().concat())
}

fn sealed_payment(padding: &str) -> String {
    let plain = json!({
        "mchid": MERCHANT, "appid": "wx0000000000000001", "out_trade_no": "ORDER-20251125-000001",
        "transaction_id": "4200000000202511250000000001", "trade_type": "JSAPI", "trade_state": "SUCCESS",
        "trade_state_desc": "", "bank_type": "CMC", "attach": padding, "success_time": "2025-11-25T13:15:40+08:00",
        "payer": { "openid": "oPayer0000000000000000000001" },
        "amount": { "total": 100, "payer_total": 100, "currency": "CNY", "payer_currency": "CNY" },
    });
    let ciphertext = seal_resource(KEY, NONCE, "transaction", plain.to_string().as_bytes()).unwrap_or_default();
    let resource = json!({
        "original_type": "transaction", "algorithm": "AEAD_AES_256_GCM", "ciphertext": ciphertext,
        "associated_data": "transaction", "nonce": NONCE,
    });
    json!({ "event_type": "TRANSACTION.SUCCESS", "resource_type": "encrypt-resource", "resource": resource })
        .to_string()
}

fn sign(body: &[u8]) -> anyhow::Result<String> {
    let key = PlatformKey::from_pem(SERIAL, CERTIFIED_PEM);
    key.context("the platform's key")?.sign(&SIGNED_AT.to_string(), NONCE, body)
}

fn ring(program: Program) -> KeyRing {
    let pem = CERTIFICATE_PEM;
    let text = format!(
        "[[merchant]]\nmch_id = {MERCHANT:?}\nv2_keys = [{KEY:?}]\nv3_keys = [{KEY:?}]\n\
         [[merchant.v3_platform_keys]]\nserial = {SERIAL:?}\npem = {pem:?}\n"
    );
    merchants_file::parse(&text, program).expect("a merchants file")
}

criterion_group!(callbacks, v2, v3);
criterion_main!(callbacks);
