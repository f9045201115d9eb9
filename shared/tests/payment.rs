//! From the bytes of a v2 payment callback to a notification: who may sign it, and what each field must look like.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

use e2e::callback::Callback;
use e2e::merchants::{INSTITUTION, KEY, MERCHANT, MerchantsFile};
use shared::domain::money::{Currency, Money};
use shared::domain::notification::{Notification, Payment, PaymentResult};
use shared::protocol::merchants::{KeyRing, Side};
use shared::protocol::v2::payment::{authenticate, decode};
use shared::protocol::{AuthenticateError, DecodeError};

#[test]
fn a_payment_says_who_paid_what_for_which_order_and_when() {
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
fn what_the_payer_paid_after_coupons_or_conversion_is_never_the_amount() {
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
fn only_success_in_every_flag_is_success() {
    let flags = [
        ("return_code", "FAIL"),
        ("return_code", "success"),
        ("result_code", "FAIL"),
        ("result_code", ""),
        ("result_code", "SUCCESS "),
        ("trade_state", "PAY_FAIL"),
        ("trade_state", "NOTPAY"),
        ("trade_state", "REFUND"),
    ];
    for (name, value) in flags {
        let payment = decoded(&Callback::payment("order-1").field(name, value));
        assert_eq!(payment.result, PaymentResult::NotSuccessful, "{name} is {value:?}");
    }
    for callback in [
        Callback::payment("order-1"),
        Callback::payment("order-1").field("trade_state", "SUCCESS"),
        Callback::payment("order-1").field("trade_state", ""),
    ] {
        assert!(matches!(decoded(&callback).result, PaymentResult::Success(_)));
    }
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
fn fields_that_nobody_knows_are_left_alone() {
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
fn what_is_not_wechat_pays_is_told_apart() {
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
    KeyRing::load(file.path(), Side::Edge).unwrap()
}

fn decoded(callback: &Callback) -> Payment {
    let (body, ring) = (callback.body(), ring());
    match decode(&authenticate(&body, &ring).unwrap().content).unwrap() {
        Notification::Payment(payment) => payment,
        other => panic!("not a payment: {other:?}"),
    }
}

fn refusal(callback: &Callback) -> DecodeError {
    let (body, ring) = (callback.body(), ring());
    decode(&authenticate(&body, &ring).unwrap().content).unwrap_err()
}

fn total(payment: &Payment) -> Money {
    let PaymentResult::Success(success) = &payment.result else { panic!("not a success") };
    success.total
}
