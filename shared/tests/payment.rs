//! From the bytes of a v2 payment callback to a notification: who may sign it, and what each field must look like.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

use kit::callback::Callback;
use kit::merchants::{INSTITUTION, KEY, MERCHANT, MerchantsFile};
use shared::domain::money::{Currency, Money};
use shared::domain::notification::{Notification, Payment, PaymentResult};
use shared::merchants_file::{self, Program};
use shared::protocol::keys::KeyRing;
use shared::protocol::v2::payment::{authenticate, decode};
use shared::protocol::v2::xml::XmlError;
use shared::protocol::{AuthenticateError, DecodeError, SINGLE_BODY_BYTES_MAX};

#[test]
fn a_payment_names_merchant_order_amount_and_time() {
    let callback = Callback::payment("order-1").field("sub_appid", "wx-shop").transaction("4200000001");
    let payment = decoded(&callback);
    assert_eq!(payment.mch_id.as_str(), MERCHANT);
    assert_eq!(payment.sub_mch_id, None);
    assert_eq!(payment.app_id.unwrap().as_str(), "wxd678efh567hg6787");
    assert_eq!(payment.sub_app_id.unwrap().as_str(), "wx-shop");
    assert_eq!(payment.out_trade_no.unwrap().as_str(), "order-1");
    let PaymentResult::Success(success) = payment.result else { panic!("not a success") };
    assert_eq!(success.transaction_id.as_str(), "4200000001");
    assert_eq!(success.total, Money { amount_minor: 1999, currency: Currency::CNY });
    assert_eq!(success.paid_at.to_rfc3339(), "2026-11-23T02:15:30+00:00", "time_end is in China's time");
}

#[test]
fn an_institutions_payment_names_the_shop_and_the_currency() {
    let payment = decoded(&Callback::payment_of_shop("1900000300", "order-1").amount(1750));
    assert_eq!(payment.mch_id.as_str(), INSTITUTION);
    assert_eq!(payment.sub_mch_id.as_ref().unwrap().as_str(), "1900000300");
    assert_eq!(total(&payment), Money { amount_minor: 1750, currency: Currency::parse("USD").unwrap() });
}

#[test]
fn the_payers_money_after_coupons_or_conversion_is_never_the_amount() {
    let callback = Callback::payment("order-1")
        .field("total_fee", "42")
        .field("fee_type", "USD")
        .field("cash_fee", "301")
        .field("cash_fee_type", "CNY")
        .field("settlement_total_fee", "41")
        .field("coupon_fee", "1");
    let usd = Currency::parse("USD").unwrap();
    assert_eq!(total(&decoded(&callback)), Money { amount_minor: 42, currency: usd });
}

#[test]
fn a_currency_that_is_not_named_is_cny() {
    for callback in [Callback::payment("order-1"), Callback::payment("order-1").currency("")] {
        assert_eq!(total(&decoded(&callback)).currency, Currency::CNY);
    }
}

#[test]
fn a_payment_has_failed_only_if_a_flag_says_so() {
    let paid = || Callback::payment("order-1");
    let failures = [
        paid().field("result_code", "FAIL"),
        paid().field("return_code", "FAIL").without("result_code"),
        paid().field("return_code", "FAIL").field("result_code", "FAIL"),
        paid().field("result_code", "FAIL").field("trade_state", "PAY_FAIL"),
    ];
    for callback in failures {
        assert_eq!(decoded(&callback).result, PaymentResult::NotSuccessful, "{callback:?}");
    }
    for state in ["NOTPAY", "CLOSED", "REVOKED", "USERPAYING", "PAYERROR", "ACCEPT", "PAY_FAIL"] {
        let payment = decoded(&paid().field("trade_state", state));
        assert_eq!(payment.result, PaymentResult::NotSuccessful, "{state}");
    }
    // A payment of which something went back later was a payment.
    for state in ["SUCCESS", "", "REFUND"] {
        let payment = decoded(&paid().field("trade_state", state));
        assert!(matches!(payment.result, PaymentResult::Success(_)), "{state:?}");
    }
}

#[test]
fn a_flag_that_is_missing_unknown_or_at_odds_with_the_others_is_no_failure_but_not_understood() {
    let paid = || Callback::payment("order-1");
    for name in ["return_code", "result_code"] {
        for callback in [paid().without(name), paid().field(name, "")] {
            assert_eq!(refusal(&callback), DecodeError::Missing(name));
        }
    }
    for (name, values) in [
        ("return_code", ["success", "SUCCESS ", "OK"]),
        ("result_code", ["fail", "SUCCESS ", "PAYING"]),
        ("trade_state", ["success", "REFUND ", "PARTLY_PAID"]),
    ] {
        for value in values {
            assert_eq!(refusal(&paid().field(name, value)), DecodeError::Malformed(name), "{value:?}");
        }
    }
    assert_eq!(refusal(&paid().field("return_code", "FAIL")), DecodeError::Contradiction("return_code"));
    for state in ["SUCCESS", "REFUND"] {
        let callback = paid().field("result_code", "FAIL").field("trade_state", state);
        assert_eq!(refusal(&callback), DecodeError::Contradiction("trade_state"));
    }
}

#[test]
fn known_callbacks_about_no_order_are_known_by_their_fields() {
    // None of them has the flags of a payment.
    let bare = || {
        ["return_code", "result_code", "transaction_id", "out_trade_no", "total_fee", "time_end", "cash_fee"]
            .into_iter()
            .fold(Callback::payment("order-1"), Callback::without)
    };
    let service_order = bare()
        .field("algorithm", "HMAC-SHA256")
        .field("event_type", "TRANSACTION.SUCCESS")
        .field("event_ciphertext", "c2VhbGVk")
        .field("event_nonce", "n");
    let contract =
        bare().field("change_type", "ADD").field("contract_id", "Wx1").field("operate_time", "2026-11-23 1:2:3");
    let others = [
        service_order.clone(),
        contract.clone().field("contract_code", "c-1"),
        contract.clone().field("plan_id", "p-1").field("change_type", "DELETE"),
        contract.clone().field("plan_id", "p-1").field("return_code", "SUCCESS").field("result_code", "SUCCESS"),
        bare().field("risk_level", "HIGH").field("transaction_id_list", "{}").field("return_code", "SUCCESS"),
        bare().field("plate_number", "x").field("vehicle_event_createtime", "20261123101530"),
    ];
    for callback in others {
        let (body, ring) = (callback.body(), ring());
        let said = said(&body, &ring);
        assert!(matches!(&said, Ok(Notification::Other(other)) if other.mch_id.as_str() == MERCHANT), "{said:?}");
    }
    // A kind that is not known, and one that has an order's numbers: money may have moved.
    for callback in
        [bare(), service_order.clone().without("event_ciphertext"), contract.clone(), bare().field("x", "y")]
    {
        assert_eq!(refusal(&callback), DecodeError::Missing("return_code"), "{callback:?}");
    }
    for callback in [service_order, contract.field("plan_id", "p-1")] {
        let callback = callback.field("out_trade_no", "order-1");
        assert_eq!(refusal(&callback), DecodeError::Missing("return_code"), "{callback:?}");
    }
}

#[test]
fn a_body_is_bounded_and_may_not_be_padded_with_unsigned_bytes() {
    let ring = ring();
    let body = String::from_utf8(Callback::payment("o").body()).unwrap();
    let refused = |body: &str| authenticate(body.as_bytes(), &ring).err().map(|error| error.to_string());
    assert_eq!(refused(&body), None);
    let many = |count: usize, piece: fn(usize) -> String| (0..count).map(piece).collect::<String>();
    let padded: [(&str, &str, String); 6] = [
        ("blanks between fields", "</xml>", many(3000, |_| " ".to_owned())),
        ("empty fields", "</xml>", many(80, |place| format!("<an_empty_field_of_some_length_{place}/>"))),
        ("blanks in a tag", ">", many(3000, |_| " ".to_owned())),
        ("empty CDATA", "JSAPI", many(300, |_| "]]><![CDATA[".to_owned())),
        ("blanks before the root", "<xml>", many(3000, |_| "\n".to_owned())),
        ("zeros of a reference", "<total_fee>", String::new()),
    ];
    for (name, before, padding) in padded {
        let body = if name == "zeros of a reference" {
            body.replacen("<total_fee>1", &format!("<total_fee>&#{}49;", "0".repeat(3000)), 1)
        } else {
            body.replacen(before, &format!("{padding}{before}"), 1)
        };
        let told = refused(&body).unwrap_or_default();
        assert!(told.contains("blanks, empty fields and markup"), "{name}: {told}");
    }
    // As a library that indents and leaves no field out would send it.
    let pretty =
        body.replace('\n', "\n        ").replacen("</xml>", "  <attach></attach>\n  <device_info/>\n</xml>", 1);
    assert_eq!(refused(&pretty), None);

    let long = |bytes| Callback::payment("o").field("attach", &"x".repeat(bytes)).body();
    let room = SINGLE_BODY_BYTES_MAX + 1 - long(1).len();
    assert!(authenticate(&long(room), &ring).is_ok());
    let too_long = authenticate(&long(room + 1), &ring).unwrap_err();
    assert!(matches!(too_long, AuthenticateError::Malformed(XmlError::TooLarge)), "{too_long}");
}

#[test]
fn a_failed_deduction_is_understood_although_it_lacks_most_fields() {
    let callback = ["total_fee", "transaction_id", "time_end", "cash_fee", "out_trade_no"]
        .into_iter()
        .fold(Callback::payment("order-1"), Callback::without)
        .field("result_code", "FAIL")
        .field("err_code", "NOTENOUGH");
    let payment = decoded(&callback);
    assert_eq!(payment.result, PaymentResult::NotSuccessful);
    assert_eq!(payment.out_trade_no, None);
    let named = decoded(&callback.field("out_trade_no", "order-1"));
    assert_eq!(named.out_trade_no.unwrap().as_str(), "order-1");
}

#[test]
fn unknown_fields_are_ignored() {
    let callback = Callback::payment("order-1").field("a_new_field", "x").field("promotion_detail", "{\"a\":[1]}");
    assert_eq!(total(&decoded(&callback)).amount_minor, 1999);
}

#[test]
fn a_field_that_a_payment_needs_is_missed_by_name() {
    for name in ["transaction_id", "total_fee", "time_end", "out_trade_no"] {
        for callback in [Callback::payment("order-1").without(name), Callback::payment("order-1").field(name, "")] {
            assert_eq!(refusal(&callback), DecodeError::Missing(name));
        }
    }
}

#[test]
fn a_malformed_field_is_refused_by_name() {
    let too_long = "x".repeat(65);
    let cases: [(&'static str, &[&str]); 9] = [
        (
            "total_fee",
            &[
                "-1",
                "+1",
                "1.0",
                "19.99",
                " 1",
                "1 ",
                "1e3",
                "0x10",
                "١",
                "９",
                "1,000",
                "NaN",
                "9223372036854775808",
                "99999999999999999999999999",
            ],
        ),
        ("fee_type", &["cny", "CN", "CNYX", "C1Y", "人民", " CNY"]),
        (
            "time_end",
            &[
                "20261123",
                "2026112310153",
                "202611231015300",
                "20261323101530",
                "20260230101530",
                "20261123251530",
                "2026-11-23T10:1",
                "+2026112310153",
                "2026112310153x",
            ],
        ),
        ("transaction_id", &[&too_long, "a\nb", "a\tb"]),
        ("out_trade_no", &[&too_long, "a\nb", "a\u{85}b"]),
        ("sub_mch_id", &[&too_long, "a\nb"]),
        ("appid", &[&too_long, "a\nb"]),
        ("sub_appid", &[&too_long, "a\nb"]),
        // A zero in front is another spelling of the same number, as WeChat Pay's own integers never have.
        ("total_fee", &["１９９９"]),
    ];
    for (name, values) in cases {
        for value in values {
            assert_eq!(
                refusal(&Callback::payment("order-1").field(name, value)),
                DecodeError::Malformed(name),
                "{value:?}"
            );
        }
    }
}

#[test]
fn amounts_reach_from_zero_to_the_largest_that_the_database_holds() {
    for amount in [0, 1, i64::MAX] {
        assert_eq!(total(&decoded(&Callback::payment("order-1").amount(amount))).amount_minor, amount);
    }
}

#[test]
fn the_ends_of_the_day_are_chinas() {
    for (text, utc) in [
        ("20270101000000", "2026-12-31T16:00:00+00:00"),
        ("20261231235959", "2026-12-31T15:59:59+00:00"),
        ("20240229080000", "2024-02-29T00:00:00+00:00"),
    ] {
        let PaymentResult::Success(success) = decoded(&Callback::payment("o").field("time_end", text)).result else {
            panic!("not a success")
        };
        assert_eq!(success.paid_at.to_rfc3339(), utc);
    }
}

#[test]
fn each_cause_of_a_refusal_has_its_own_error() {
    let ring = ring();
    let failure = |body: &[u8]| authenticate(body, &ring).unwrap_err();
    assert!(matches!(failure(b"not XML"), AuthenticateError::Malformed(_)));
    assert!(matches!(failure(&Callback::payment("o").without("mch_id").body()), AuthenticateError::NoMerchant));
    let stranger = Callback::payment("o").field("mch_id", "1900009999").body();
    assert!(matches!(failure(&stranger), AuthenticateError::UnknownMerchant(id) if id == "1900009999"));
    let forged = Callback::payment("o").key("not the key").body();
    assert!(matches!(failure(&forged), AuthenticateError::NotSigned(_)));
}

#[test]
fn one_merchants_key_does_not_sign_for_another() {
    let body = Callback::payment_of_shop("1900000300", "o").key(KEY).body();
    assert!(matches!(authenticate(&body, &ring()), Err(AuthenticateError::NotSigned(_))));
}

fn ring() -> KeyRing {
    let file = MerchantsFile::write().unwrap();
    merchants_file::load(file.path(), Program::Ingest).unwrap()
}

fn decoded(callback: &Callback) -> Payment {
    let (body, ring) = (callback.body(), ring());
    match said(&body, &ring).unwrap() {
        Notification::Payment(payment) => payment,
        other => panic!("not a payment: {other:?}"),
    }
}

/// What a callback about one order says.
fn said(body: &[u8], ring: &KeyRing) -> Result<Notification, DecodeError> {
    let authentic = authenticate(body, ring).unwrap();
    let [part] = decode(&authentic.content.unambiguous().unwrap(), authentic.merchant)?.try_into().unwrap();
    part
}

fn refusal(callback: &Callback) -> DecodeError {
    let (body, ring) = (callback.body(), ring());
    said(&body, &ring).unwrap_err()
}

fn total(payment: &Payment) -> Money {
    let PaymentResult::Success(success) = &payment.result else { panic!("not a success") };
    success.total
}
