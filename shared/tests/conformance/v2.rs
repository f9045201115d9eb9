//! API v2: signed parameters, payment callbacks, encrypted refunds, hostile XML.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest, Md5};
use secrecy::SecretString;
use serde_json::Value;
use shared::domain::notification::{Notification, RefundResult, ReportedRefund};
use shared::merchants_file::{self, Program};
use shared::protocol::AuthenticateError;
use shared::protocol::keys::{KeyRing, SignType};
use shared::protocol::v2::signature::sign_fields;
use shared::protocol::v2::{payment, refund, xml};
use signer::encrypt_req_info;

use super::{Vector, each};

/// For vectors that name no merchant.
const MERCHANT: &str = "1900000109";

#[test]
fn parameters_are_signed_as_others_sign_them() {
    each("v2_sign_params", |vector| {
        let parameters: BTreeMap<String, Value> = serde_json::from_slice(&vector.body()).unwrap();
        let parameters: BTreeMap<String, String> = parameters
            .into_iter()
            .map(|(name, value)| (name, value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
            .collect();
        let fields = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let sign_type = SignType::parse(vector.text("sign_type")).unwrap();
        let sign = sign_fields(fields, &SecretString::from(vector.text("key")), sign_type);
        assert_eq!(sign, vector.text("expected_sign"), "{}", vector.name());
    });
}

#[test]
fn callbacks_are_accepted_and_refused_as_a_strict_receiver_should() {
    each("v2_notify_xml", |vector| {
        let body = vector.body();
        let Some(expected) = vector.0["expected_valid"].as_bool() else {
            // Signed with a key that nobody published: only its shape can be looked at.
            let fields = xml::read(&body).unwrap();
            assert_eq!(fields.claimed("sign"), vector.0["sign_in_body"].as_str(), "{}", vector.name());
            return;
        };
        let claimed = xml::read(&body).ok().and_then(|fields| fields.claimed("mch_id").map(str::to_owned));
        let ring = ring(&claimed.unwrap_or_else(|| MERCHANT.to_owned()), vector.text("key"));
        let authentic = payment::authenticate(&body, &ring);
        assert_eq!(authentic.is_ok(), expected, "{}: {:?}", vector.name(), authentic.err());
        let Ok(authentic) = authentic else { return };
        let merchant = authentic.merchant;
        let fields = authentic.content.unambiguous().unwrap_or_else(|error| panic!("{}: {error}", vector.name()));
        for (name, value) in vector.0["expected_fields"].as_object().into_iter().flatten() {
            assert_eq!(fields.get(name), value.as_str(), "{}: {name}", vector.name());
        }
        let parts = payment::decode(&fields, merchant).unwrap_or_else(|error| panic!("{}: {error}", vector.name()));
        assert!(matches!(parts.as_slice(), [Ok(_)]), "{}: {parts:?}", vector.name());
    });
}

#[test]
fn refunds_are_opened_and_decoded_as_by_other_implementations() {
    each("v2_refund_notify_xml", |vector| {
        let mut body = String::from_utf8(vector.body()).unwrap();
        let claimed = xml::read(body.as_bytes()).unwrap().claimed("mch_id").map(str::to_owned);
        let mch_id = claimed.clone().unwrap_or_else(|| MERCHANT.to_owned());
        let ring = ring(&mch_id, vector.text("key"));
        if claimed.is_none() {
            // A real callback names its merchant. This one is refused as it stands, and opens once it names one.
            let refused = refund::authenticate(body.as_bytes(), &ring).unwrap_err();
            assert!(matches!(refused, AuthenticateError::NoMerchant), "{}: {refused}", vector.name());
            body = body.replacen("<xml>", &format!("<xml><mch_id>{mch_id}</mch_id>"), 1);
        }
        let opened = refund::authenticate(body.as_bytes(), &ring).unwrap().content;
        let sealed: BTreeMap<&str, &str> = opened.sealed().iter().collect();
        let expected = vector.0["expected_fields"].as_object().unwrap();
        assert_eq!(sealed, expected.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect());
        let plaintext = vector.plaintext();
        let req_info = encrypt_req_info(vector.text("key"), &plaintext);
        assert!(body.contains(&req_info), "{}: the simulator encrypts otherwise", vector.name());
        assert_eq!(decrypted(vector.text("derived_aes_key").as_bytes(), &req_info).unwrap(), plaintext);
        assert_says(&refund::decode(&opened).unwrap(), &sealed, vector.name());
    });
}

#[test]
fn blocks_are_decrypted_as_others_encrypt_them() {
    each("aes256_ecb_pkcs7", |vector| {
        let key = vector.text("key");
        let is_raw = vector.text("key_mode").starts_with("raw");
        let aes_key = if is_raw { key.to_owned() } else { hex::encode(Md5::digest(key)) };
        let plain = decrypted(aes_key.as_bytes(), vector.text("ciphertext_b64")).unwrap();
        assert_eq!(plain, vector.plaintext(), "{}", vector.name());
        assert_eq!(encrypt_req_info(key, &plain) == vector.text("ciphertext_b64"), !is_raw, "{}", vector.name());
    });
}

#[test]
fn hostile_xml_is_refused() {
    each("xml_negative", |vector| {
        assert!(xml::read(&vector.body()).is_err(), "{} was read", vector.name());
    });
}

/// A refund as others have decrypted it, under a key of ours.
pub fn assert_refund_is_read(vector: &Vector) {
    const KEY: &str = "a-key-of-the-test";
    let (ring, plain) = (ring(MERCHANT, KEY), vector.body());
    let req_info = encrypt_req_info(KEY, &plain);
    let body = format!("<xml><mch_id>{MERCHANT}</mch_id><req_info>{req_info}</req_info></xml>");
    let opened = refund::authenticate(body.as_bytes(), &ring).unwrap().content;
    let sealed: BTreeMap<&str, &str> = opened.sealed().iter().collect();
    assert_eq!(sealed.len(), plain.windows(7).filter(|window| window == b"<![CDAT").count(), "{}", vector.name());
    assert_says(&refund::decode(&opened).unwrap(), &sealed, vector.name());
}

fn assert_says(notification: &Notification, sealed: &BTreeMap<&str, &str>, name: &str) {
    let Notification::Refund(ReportedRefund { out_refund_no, refund_id, total_minor, amount_minor, result, .. }) =
        notification
    else {
        panic!("{name} is {notification:?}")
    };
    assert_eq!((out_refund_no.as_str(), refund_id.as_str()), (sealed["out_refund_no"], sealed["refund_id"]), "{name}");
    let sums = [total_minor.to_string(), amount_minor.to_string()];
    assert_eq!(sums, [sealed["total_fee"], sealed["refund_fee"]], "{name}");
    let status = match result {
        RefundResult::Succeeded(at) => {
            let china = chrono::FixedOffset::east_opt(8 * 3600).unwrap();
            assert_eq!(at.with_timezone(&china).format("%F %T").to_string(), sealed["success_time"], "{name}");
            "SUCCESS"
        }
        RefundResult::Abnormal => "CHANGE",
        RefundResult::Closed => "REFUNDCLOSE",
    };
    assert_eq!(status, sealed["refund_status"], "{name}");
}

fn decrypted(aes_key: &[u8], base64: &str) -> Option<Vec<u8>> {
    refund::decrypt(aes_key, &mut BASE64_STANDARD.decode(base64).unwrap()).map(<[u8]>::to_vec)
}

fn ring(mch_id: &str, key: &str) -> KeyRing {
    merchants_file::parse(&format!("[[merchant]]\nmch_id = \"{mch_id}\"\nv2_keys = [\"{key}\"]"), Program::Ingest)
        .unwrap()
}
