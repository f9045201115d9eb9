//! Authentication without a publisher: every cause of a refusal, and the message of a callback that is accepted.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use chrono::TimeDelta;
use kit::callback::{Callback, Refund};
use kit::merchants::{INSTITUTION, INSTITUTION_KEY, MERCHANT, MerchantsFile};
use kit::post::Post;
use kit::v3::Event;
use shared::merchants_file::{Program, load};
use shared::protocol::keys::SignType;
use shared::protocol::v2::refund::OpenError;

use super::*;

fn keys() -> MeteredKeyRing {
    let file = MerchantsFile::write().unwrap();
    MeteredKeyRing::new(load(file.path(), Program::Ingest).unwrap())
}

fn v3_payment() -> Post {
    Event::payment("order-1").post()
}

/// When the callback was signed; any time in v2, which has none.
fn signed_at(post: &Post) -> DateTime<Utc> {
    let timestamp = post.headers.iter().find(|(name, _)| name == "Wechatpay-Timestamp");
    let seconds = timestamp.and_then(|(_, seconds)| seconds.parse().ok()).unwrap_or(1_790_000_000);
    DateTime::from_timestamp(seconds, 0).unwrap()
}

/// The same request with this header, which replaces the one that it has.
fn with_header(mut post: Post, name: &str, value: &str) -> Post {
    post.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
    post.headers.push((name.to_owned(), value.to_owned()));
    post
}

fn authenticate_after(seconds: i64, diagnoses: &RateLimit, post: &Post) -> Result<(Outgoing, MchId), Refusal> {
    let mut headers = HeaderMap::new();
    for (name, value) in &post.headers {
        headers.append(HeaderName::try_from(name.as_str()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(post.content_type));
    let path_mch_id = post.path.strip_prefix("/wechatpay/v3/").unwrap_or_default();
    let request = Request { kind: post.kind, path_mch_id, headers: &headers };
    authenticate(request, post.body.clone(), &keys(), diagnoses, signed_at(post) + TimeDelta::seconds(seconds))
}

fn outcome(post: &Post) -> Outcome {
    let diagnoses = RateLimit::per_second(1);
    authenticate_after(0, &diagnoses, post).map_or_else(|refusal| refusal.outcome, |_| Outcome::Stored)
}

#[test]
fn an_authentic_callback_becomes_a_message_with_its_exact_bytes() {
    let (diagnoses, body) = (RateLimit::per_second(0), Callback::payment("order-1").body());
    let (message, merchant) = authenticate_after(0, &diagnoses, &Post::from(body.clone())).unwrap();
    assert_eq!((message.body, merchant.as_str()), (body, MERCHANT));
    assert_eq!(message.kind, CallbackKind::V2Payment.name());
    assert_eq!(message.timestamp_seconds, 1_790_000_000);

    let (message, merchant) = authenticate_after(0, &diagnoses, &v3_payment()).unwrap();
    assert_eq!((message.kind.as_str(), merchant.as_str()), (CallbackKind::V3.name(), MERCHANT));
    assert!(message.headers.contains_key("wechatpay-signature"), "{:?}", message.headers);
}

#[test]
fn v2_callbacks_are_refused_for_what_is_wrong_with_them() {
    let payment = |callback: Callback| outcome(&callback.body().into());
    let genuine = || Callback::payment("order-1");
    assert_eq!(payment(genuine()), Outcome::Stored);
    assert_eq!(payment(genuine().digest(SignType::HmacSha256)), Outcome::Stored);
    assert_eq!(payment(genuine().key("another key")), Outcome::NotAuthentic);
    assert_eq!(payment(genuine().field("mch_id", "1")), Outcome::UnknownMerchant);
    assert_eq!(payment(genuine().without("mch_id")), Outcome::Malformed);
    let institution = Callback::payment_of_shop("shop-1", "order-1").key(INSTITUTION_KEY);
    assert_eq!(payment(institution.digest(SignType::Md5)), Outcome::DigestNotAccepted);
    assert_eq!(outcome(&b"no callback".to_vec().into()), Outcome::Malformed);
    assert_eq!(outcome(&vec![b'<'; 100_000].into()), Outcome::TooLarge);

    let refund =
        |refund: Refund| outcome(&Post::new(CallbackKind::V2Refund, "/wechatpay/v2/refund", "text/xml", refund.body()));
    let genuine = || Refund::of("order-1", "42001", "refund-1");
    assert_eq!(refund(genuine()), Outcome::Stored);
    assert_eq!(refund(genuine().key("another key")), Outcome::NotAuthentic);
}

#[test]
fn v3_callbacks_are_refused_for_what_is_wrong_with_them() {
    let table = [
        (v3_payment(), Outcome::Stored),
        (with_header(v3_payment(), "Wechatpay-Nonce", ""), Outcome::MissingHeader),
        (with_header(v3_payment(), "Wechatpay-Timestamp", "now"), Outcome::Malformed),
        (with_header(v3_payment(), "Wechatpay-Signature-Type", "WECHATPAY2-SM2"), Outcome::UnknownSignatureType),
        (with_header(v3_payment(), "Wechatpay-Signature", "WECHATPAY/SIGNTEST/x"), Outcome::Probe),
        (with_header(v3_payment(), "Wechatpay-Serial", "0123"), Outcome::UnknownSerial),
        (with_header(v3_payment(), "Wechatpay-Signature", "c2lnbmVk"), Outcome::Forged),
        (Post { path: "/wechatpay/v3/1".to_owned(), ..v3_payment() }, Outcome::UnknownMerchant),
        (Post { body: b"{}".to_vec(), ..v3_payment() }, Outcome::Altered),
    ];
    for (post, expected) in table {
        assert_eq!(outcome(&post), expected, "{:?}", post.headers);
    }
    let refusal = authenticate_after(301, &RateLimit::per_second(1), &v3_payment()).unwrap_err();
    assert_eq!(refusal.outcome, Outcome::ClockSkew);
}

#[test]
fn beyond_the_limit_an_altered_callback_is_reported_as_forged() {
    let (diagnoses, altered) = (RateLimit::per_second(1), Post { body: b"{}".to_vec(), ..v3_payment() });
    let outcomes = [(); 2].map(|()| authenticate_after(0, &diagnoses, &altered).unwrap_err().outcome);
    assert_eq!(outcomes, [Outcome::Altered, Outcome::Forged]);
}

#[test]
fn a_callback_at_another_kinds_address_is_refused_with_the_right_one() {
    let refund = Refund::of("order-1", "42001", "refund-1").body();
    assert_eq!(outcome(&refund.into()), Outcome::WrongRoute);
    let misrouted = Post { kind: CallbackKind::V2Payment, path: String::new(), ..v3_payment() };
    assert_eq!(outcome(&misrouted), Outcome::WrongRoute);
}

#[test]
fn a_refusal_names_the_claimed_merchant_only_if_the_file_has_it() {
    let refused = |callback: Callback| {
        authenticate_after(0, &RateLimit::per_second(0), &callback.body().into()).unwrap_err().merchant
    };
    let forged = Callback::payment("order-1").key("another key");
    assert_eq!(refused(forged.clone()).as_ref().map(MchId::as_str), Some(MERCHANT));
    let forged = forged.field("mch_id", INSTITUTION);
    assert_eq!(refused(forged.clone()).as_ref().map(MchId::as_str), Some(INSTITUTION));
    assert_eq!(refused(forged.field("mch_id", "1")), None);
}

#[test]
fn every_error_of_the_protocol_has_an_outcome() {
    let v2 = |error: AuthenticateError| refuse_v2(&error).outcome;
    assert_eq!(v2(XmlError::TooLarge.into()), Outcome::TooLarge);
    assert_eq!(v2(XmlError::NotUtf8.into()), Outcome::Malformed);
    assert_eq!(v2(AuthenticateError::NoMerchant), Outcome::Malformed);
    assert_eq!(v2(AuthenticateError::UnknownMerchant("1".to_owned())), Outcome::UnknownMerchant);
    assert_eq!(v2(signature::VerifyError::SignTypeNotAccepted(SignType::Md5).into()), Outcome::DigestNotAccepted);
    assert_eq!(v2(signature::VerifyError::NoSign.into()), Outcome::NotAuthentic);
    assert_eq!(v2(OpenError::NoKeyOpens.into()), Outcome::NotAuthentic);
    let v3 = |error| refuse_v3(error).outcome;
    assert_eq!(v3(VerifyError::MissingHeader(SERIAL)), Outcome::MissingHeader);
    assert_eq!(v3(VerifyError::MalformedHeader(SERIAL)), Outcome::Malformed);
    assert_eq!(v3(VerifyError::SignatureType), Outcome::UnknownSignatureType);
    assert_eq!(v3(VerifyError::Probe), Outcome::Probe);
    assert_eq!(v3(VerifyError::ClockSkew(301)), Outcome::ClockSkew);
    assert_eq!(v3(VerifyError::UnknownSerial), Outcome::UnknownSerial);
    assert_eq!(v3(VerifyError::SignatureDiffers), Outcome::Forged);
}
