//! The v2 signature: the official example, and that nothing about a signed body can be touched.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::collections::BTreeMap;

use kit::callback::Callback;
use kit::merchants::{INSTITUTION, INSTITUTION_KEY, KEY, MERCHANT};
use secrecy::SecretString;
use shared::merchants_file::{self, Program};
use shared::protocol::keys::SignType;
use shared::protocol::v2::signature::{VerifyError, sign_fields};
use shared::protocol::v2::xml;

/// Names and values, sorted as the signature wants them.
type Fields = BTreeMap<String, String>;

const BOTH: [SignType; 2] = [SignType::Md5, SignType::HmacSha256];

#[test]
fn the_official_worked_example_is_met() {
    let fields = fields(&[
        ("appid", "wxd930ea5d5a258f4f"),
        ("body", "test"),
        ("device_info", "1000"),
        ("mch_id", "10000100"),
        ("nonce_str", "ibuaiVcKdpRxkhJA"),
    ]);
    let key = "192006250b4c09247ec02edce69f6a2d";
    assert_eq!(sign(&fields, key, SignType::Md5), "9A0A8659F005D6984697E2CA0A9CF3B7");
    assert_eq!(
        sign(&fields, key, SignType::HmacSha256),
        "6A9AE1657590FD6257D693A078E1C3E4BB6BA4DC30B23E0EE2496E54170DACD6"
    );
}

#[test]
fn a_signed_body_is_authentic_under_either_digest() {
    for sign_type in BOTH {
        assert_eq!(verify(&signed(sign_type), MERCHANT), Ok(()), "{sign_type:?}");
    }
}

#[test]
fn a_field_that_was_changed_is_noticed() {
    for sign_type in BOTH {
        let genuine = signed(sign_type);
        for (name, value) in genuine.iter().filter(|(name, _)| *name != "mch_id") {
            for other in [format!("{value}0"), format!(" {value}"), value.to_lowercase(), "x".to_owned()] {
                let mut touched = genuine.clone();
                touched.insert(name.clone(), other.clone());
                let is_same = other == *value;
                assert_eq!(verify(&touched, MERCHANT).is_ok(), is_same, "{name}: {value} became {other}");
            }
        }
    }
}

#[test]
fn a_field_that_was_dropped_or_emptied_is_noticed() {
    for sign_type in BOTH {
        let genuine = signed(sign_type);
        for name in genuine.keys() {
            let mut dropped = genuine.clone();
            dropped.remove(name);
            assert!(verify(&dropped, MERCHANT).is_err(), "{name} was dropped");
            let mut emptied = genuine.clone();
            emptied.insert(name.clone(), String::new());
            assert!(verify(&emptied, MERCHANT).is_err(), "{name} was emptied");
        }
    }
}

#[test]
fn a_duplicate_field_is_refused_at_any_position() {
    let genuine = signed(SignType::Md5);
    for (name, value) in &genuine {
        let twin = format!("<{name}>{value}</{name}>");
        let body = write(&genuine);
        let first = body.replacen("<xml>", &format!("<xml>{twin}"), 1);
        let last = body.replacen("</xml>", &format!("{twin}</xml>"), 1);
        for body in [first, last] {
            assert_eq!(xml::read(body.as_bytes()).err(), Some(xml::XmlError::Repeated), "{name}");
        }
    }
}

#[test]
fn a_field_that_was_renamed_is_noticed() {
    let genuine = signed(SignType::Md5);
    for name in genuine.keys() {
        let mut renamed = genuine.clone();
        let value = renamed.remove(name).unwrap();
        renamed.insert(format!("{name}_"), value);
        assert!(verify(&renamed, MERCHANT).is_err(), "{name}");
    }
}

#[test]
fn a_field_that_was_added_is_noticed_unless_it_is_empty() {
    for sign_type in BOTH {
        let mut added = signed(sign_type);
        added.insert("device_info".to_owned(), "x".to_owned());
        assert_eq!(verify(&added, MERCHANT), Err(VerifyError::SignatureDiffers));
        added.insert("device_info".to_owned(), String::new());
        assert_eq!(verify(&added, MERCHANT), Ok(()), "empty fields are not part of the signed text");
    }
}

#[test]
fn a_zero_is_not_empty() {
    let with_zero = fields(&[("a", "0"), ("b", "")]);
    let without = fields(&[("b", "")]);
    assert_ne!(sign(&with_zero, KEY, SignType::Md5), sign(&without, KEY, SignType::Md5));
}

#[test]
fn fields_are_signed_in_byte_order_of_their_names() {
    let unsorted = "<xml><b>2</b><a_b>3</a_b><B>1</B><aB>4</aB><a1>5</a1></xml>";
    let fields = fields(&[("B", "1"), ("a1", "5"), ("aB", "4"), ("a_b", "3"), ("b", "2")]);
    let names: Vec<&str> = fields.keys().map(String::as_str).collect();
    assert_eq!(names, ["B", "a1", "aB", "a_b", "b"]);
    let signed = format!("<sign>{}</sign></xml>", sign(&fields, KEY, SignType::Md5));
    assert_eq!(verify_body(&unsorted.replace("</xml>", &signed), MERCHANT), Ok(()));
}

#[test]
fn values_are_signed_as_they_are() {
    for value in [" x ", "中文😀", "a=b&c=d", "%20+", "line\nline", "<b>&\"'</b>"] {
        let fields = sign_into(fields(&[("mch_id", MERCHANT), ("attach", value)]), KEY, SignType::HmacSha256);
        assert_eq!(verify(&fields, MERCHANT), Ok(()), "{value:?}");
    }
}

#[test]
fn sign_type_is_part_of_the_signed_text() {
    for sign_type in BOTH {
        let mut named = signed(sign_type);
        named.insert("sign_type".to_owned(), sign_type.name().to_owned());
        assert_eq!(verify(&named, MERCHANT), Err(VerifyError::SignatureDiffers), "it was added after signing");
        let named = sign_into(named, KEY, sign_type);
        assert_eq!(verify(&named, MERCHANT), Ok(()));
        let mut unnamed = named.clone();
        unnamed.remove("sign_type");
        assert_eq!(verify(&unnamed, MERCHANT), Err(VerifyError::SignatureDiffers), "it was dropped after signing");
    }
}

#[test]
fn a_sign_type_that_belies_the_signature_is_refused() {
    for (signed_with, named) in [(SignType::Md5, "HMAC-SHA256"), (SignType::HmacSha256, "MD5")] {
        let mut fields = signed(signed_with);
        fields.insert("sign_type".to_owned(), named.to_owned());
        let fields = sign_into(fields, KEY, signed_with);
        assert_eq!(verify(&fields, MERCHANT), Err(VerifyError::SignatureDiffers));
    }
}

#[test]
fn a_digest_that_wechat_pay_does_not_have_is_refused() {
    for named in ["md5", "HMAC", "SHA256", "RSA", " MD5", "HMAC-SHA256 "] {
        let mut fields = signed(SignType::Md5);
        fields.insert("sign_type".to_owned(), named.to_owned());
        let fields = sign_into(fields, KEY, SignType::Md5);
        assert_eq!(verify(&fields, MERCHANT), Err(VerifyError::UnknownSignType), "{named:?}");
    }
}

#[test]
fn a_signature_of_no_known_length_is_refused() {
    for length in [1, 31, 33, 40, 63, 65, 128] {
        let mut fields = signed(SignType::Md5);
        fields.insert("sign".to_owned(), "A".repeat(length));
        assert_eq!(verify(&fields, MERCHANT), Err(VerifyError::UnknownSignType), "{length} characters");
    }
}

#[test]
fn no_signature_is_not_a_signature() {
    for fields in [fields(&[("mch_id", MERCHANT)]), fields(&[("mch_id", MERCHANT), ("sign", "")])] {
        assert_eq!(verify(&fields, MERCHANT), Err(VerifyError::NoSign));
    }
}

#[test]
fn a_signature_in_small_letters_is_refused() {
    for sign_type in BOTH {
        let mut fields = signed(sign_type);
        fields.entry("sign".to_owned()).and_modify(|sign| *sign = sign.to_lowercase());
        assert_eq!(verify(&fields, MERCHANT), Err(VerifyError::SignatureDiffers));
    }
}

#[test]
fn a_merchant_that_takes_hmac_only_cannot_be_talked_down_to_md5() {
    let refused = Err(VerifyError::SignTypeNotAccepted(SignType::Md5));
    let mut fields = fields(&[("mch_id", INSTITUTION)]);
    assert_eq!(verify(&sign_into(fields.clone(), INSTITUTION_KEY, SignType::Md5), INSTITUTION), refused);
    assert_eq!(verify(&sign_into(fields.clone(), INSTITUTION_KEY, SignType::HmacSha256), INSTITUTION), Ok(()));
    fields.insert("sign_type".to_owned(), "MD5".to_owned());
    assert_eq!(verify(&sign_into(fields, INSTITUTION_KEY, SignType::Md5), INSTITUTION), refused);
}

#[test]
fn every_key_of_a_merchant_is_valid_at_once_and_no_other_merchants() {
    let ring = "[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"first\", \"second\", \"third\"]\n
                [[merchant]]\nmch_id = \"n\"\nv2_keys = [\"fourth\"]";
    let ring = merchants_file::parse(ring, Program::Ingest).unwrap();
    for (key, is_valid) in [("first", true), ("second", true), ("third", true), ("fourth", false), ("firs", false)] {
        for sign_type in BOTH {
            let body = write(&sign_into(fields(&[("mch_id", "m"), ("total_fee", "1")]), key, sign_type));
            let verified = xml::read(body.as_bytes()).unwrap().verify(ring.merchant("m").unwrap());
            assert_eq!(verified.is_ok(), is_valid, "{key} under {sign_type:?}");
        }
    }
}

#[test]
fn the_callbacks_of_the_kit_are_signed_by_the_same_rules() {
    let body = String::from_utf8(Callback::payment("order-1").body()).unwrap();
    assert_eq!(verify_body(&body, MERCHANT), Ok(()));
}

/// A payment of [`MERCHANT`], signed, that does not say under which digest.
fn signed(sign_type: SignType) -> Fields {
    let fields = fields(&[
        ("appid", "wxd678efh567hg6787"),
        ("attach", "Shop 7"),
        ("cash_fee", "1500"),
        ("mch_id", MERCHANT),
        ("out_trade_no", "Order-1"),
        ("result_code", "SUCCESS"),
        ("total_fee", "1999"),
        ("transaction_id", "TX-1"),
    ]);
    sign_into(fields, KEY, sign_type)
}

fn sign_into(mut fields: Fields, key: &str, sign_type: SignType) -> Fields {
    let signature = sign(&fields, key, sign_type);
    fields.insert("sign".to_owned(), signature);
    fields
}

fn sign(fields: &Fields, key: &str, sign_type: SignType) -> String {
    let fields = fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    sign_fields(fields, &SecretString::from(key), sign_type)
}

fn verify(fields: &Fields, mch_id: &str) -> Result<(), VerifyError> {
    verify_body(&write(fields), mch_id)
}

fn verify_body(body: &str, mch_id: &str) -> Result<(), VerifyError> {
    let ring = format!(
        "[[merchant]]\nmch_id = \"{MERCHANT}\"\nv2_keys = [\"{KEY}\"]\n
         [[merchant]]\nmch_id = \"{INSTITUTION}\"\nv2_keys = [\"{INSTITUTION_KEY}\"]\nv2_sign_types = [\"HMAC-SHA256\"]"
    );
    let ring = merchants_file::parse(&ring, Program::Ingest).unwrap();
    xml::read(body.as_bytes()).unwrap().verify(ring.merchant(mch_id).unwrap()).map(|_| ())
}

fn write(fields: &Fields) -> String {
    let element = |(name, value)| format!("<{name}><![CDATA[{value}]]></{name}>");
    format!("<xml>{}</xml>", fields.iter().map(element).collect::<Vec<_>>().concat())
}

fn fields(fields: &[(&str, &str)]) -> Fields {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
