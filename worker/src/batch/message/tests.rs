//! Each error of authenticating and decoding leads to one finding, and a message keeps what a replay needs.

use shared::protocol::v2::xml::XmlError;

use super::*;

#[test]
fn each_error_of_a_v2_callback_has_its_reason() {
    for (error, reason) in [
        (AuthenticateError::UnknownMerchant("1900000109".to_owned()), "for_key"),
        (AuthenticateError::NotSigned(VerifyError::SignatureDiffers), "for_key"),
        (AuthenticateError::NotOpened(refund::OpenError::NoKeyOpens), "for_key"),
        (AuthenticateError::NoMerchant, "not_authentic"),
        (AuthenticateError::NotSigned(VerifyError::NoSign), "not_authentic"),
        (AuthenticateError::NotSigned(VerifyError::UnknownSignType), "not_authentic"),
        (AuthenticateError::NotOpened(refund::OpenError::NoReqInfo), "not_authentic"),
        (AuthenticateError::NotOpened(refund::OpenError::Malformed), "not_authentic"),
    ] {
        assert_eq!(not_v2(&error).reason(), reason, "{error:?}");
    }
    assert_eq!(not_v2(&AuthenticateError::Malformed(XmlError::NotUtf8)).reason(), "malformed");
}

#[test]
fn each_error_of_a_v3_callback_has_its_reason() {
    for (error, reason) in [
        (OpenError::UnknownMerchant, "for_key"),
        (OpenError::NoKeyOpens, "for_key"),
        (OpenError::TooLarge, "malformed"),
        (OpenError::NotAnEnvelope, "malformed"),
        (OpenError::Algorithm, "malformed"),
        (OpenError::Nonce, "malformed"),
        (OpenError::Ciphertext, "malformed"),
    ] {
        let text = error.to_string();
        assert_eq!((not_v3(error).reason(), text.is_empty()), (reason, false), "{text}");
    }
}

#[test]
fn each_error_of_an_authentic_callback_has_its_reason() {
    for (error, reason) in [
        (DecodeError::Missing("time_end"), "undecodable"),
        (DecodeError::Malformed("time_end"), "undecodable"),
        (DecodeError::OtherMerchant, "undecodable"),
        (DecodeError::UnknownKind, "undecodable"),
        (DecodeError::Contradiction("total_fee"), "undecodable"),
        (DecodeError::CombinedAndSingle, "undecodable"),
        (DecodeError::TooManySubOrders, "undecodable"),
        (DecodeError::RepeatedSubOrder("out_trade_no"), "undecodable"),
        (DecodeError::MerchantNotCombined, "mch_id_mismatch"),
    ] {
        let text = format!("{error:?}");
        assert_eq!(undecodable(error).reason(), reason, "{text}");
    }
}

#[test]
fn a_message_with_essential_headers_keeps_only_those_that_are_well_formed() {
    let headers = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    let with = |pairs: &[(&str, &str)]| Message { headers: headers(pairs), ..message() };
    let all = with(&[("type", CallbackKind::V3.name()), (MCH_ID, "1900000109"), ("traceparent", "00-\u{0}")]);
    assert_eq!(
        all.with_essential_headers().headers,
        headers(&[("type", CallbackKind::V3.name()), (MCH_ID, "1900000109")])
    );
    assert_eq!(with(&[("type", "something"), (MCH_ID, "")]).with_essential_headers().headers, headers(&[]));
    assert_eq!(all.with_essential_headers().body, all.body);
}

#[test]
fn a_message_is_a_repeat_only_with_the_same_type_merchant_and_body() {
    let original = Message { headers: BTreeMap::from([("type".to_owned(), "a".to_owned())]), ..message() };
    let traced = BTreeMap::from([("type".to_owned(), "a".to_owned()), ("traceparent".to_owned(), "b".to_owned())]);
    assert!(original.says_the_same_as(&Message { headers: traced, ..message() }));
    assert!(!original.says_the_same_as(&message()));
    assert!(!original.says_the_same_as(&Message { body: b"other".to_vec(), ..original.clone() }));
}

fn message() -> Message {
    Message {
        id: Uuid::nil(),
        received_at: DateTime::UNIX_EPOCH,
        headers: BTreeMap::new(),
        body: b"body".to_vec(),
        redelivered: false,
        suspect: false,
    }
}
