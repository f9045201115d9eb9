//! What an opened payment says, in the shapes of mainland and global merchants, and what is no payment at all.

use serde_json::{Value, json};
use shared::domain::money::{Currency, Money};
use shared::domain::notification::{Notification, Other, Payment, PaymentResult, PaymentSuccess};
use shared::protocol::DecodeError;

use super::{MERCHANT, OTHER_MERCHANT, decoded, set, without};

const MALFORMED: DecodeError = DecodeError::Malformed("the resource of a payment");

#[test]
fn a_payment_names_merchant_order_amount_and_time() {
    let payment = paid(&direct());
    assert_eq!(payment.mch_id.as_str(), MERCHANT);
    assert_eq!((&payment.sub_mch_id, &payment.sub_app_id), (&None, &None));
    assert_eq!(payment.app_id.as_ref().unwrap().as_str(), "wxd678efh567hg6787");
    assert_eq!(payment.out_trade_no.as_ref().unwrap().as_str(), "order-1");
    let success = success(&payment);
    assert_eq!(success.transaction_id.as_str(), "4200000001");
    assert_eq!(success.total, Money { amount_minor: 1999, currency: Currency::CNY });
    assert_eq!(success.paid_at.to_rfc3339(), "2026-11-23T02:15:30+00:00");
}

#[test]
fn an_institutions_payment_names_the_shop_and_both_apps() {
    let payment = paid(&partner());
    assert_eq!(payment.mch_id.as_str(), MERCHANT);
    assert_eq!(payment.sub_mch_id.as_ref().unwrap().as_str(), "1900000300");
    assert_eq!(payment.app_id.as_ref().unwrap().as_str(), "wx8888888888888888");
    assert_eq!(payment.sub_app_id.as_ref().unwrap().as_str(), "wxd678efh567hg6999");
}

#[test]
fn a_global_payment_is_read_under_either_name_of_its_transaction() {
    let global = without(
        set(
            partner(),
            "/amount",
            json!({
                "total": 42, "currency": "USD", "payer_total": 301, "payer_currency": "CNY",
                "exchange_rate": {"type": "SETTLEMENT_RATE", "rate": 717_420_000},
            }),
        ),
        "/transaction_id",
    );
    let usd = Currency::parse("USD").unwrap();
    for resource in [
        set(global.clone(), "/id", json!("4200000001")),
        set(global.clone(), "/transaction_id", json!("4200000001")),
        set(set(global.clone(), "/id", json!("4200000001")), "/transaction_id", json!("4200000001")),
        set(set(global.clone(), "/id", json!("4200000001")), "/transaction_id", Value::Null),
        // Public clients have the rate one level up.
        set(set(global.clone(), "/id", json!("4200000001")), "/exchange_rate", json!({"rate": 717_420_000})),
    ] {
        let success = success(&paid(&resource));
        assert_eq!(success.transaction_id.as_str(), "4200000001", "{resource}");
        assert_eq!(success.total, Money { amount_minor: 42, currency: usd }, "{resource}");
    }
    let both = set(set(global.clone(), "/id", json!("4200000001")), "/transaction_id", json!("4200000002"));
    assert_eq!(refusal(&both), DecodeError::Malformed("transaction_id"));
    assert_eq!(refusal(&global), DecodeError::Missing("transaction_id"));
}

#[test]
fn the_payers_money_after_coupons_or_conversion_is_never_the_amount() {
    let resource = set(direct(), "/amount/payer_total", json!(1));
    assert_eq!(success(&paid(&resource)).total.amount_minor, 1999);
    let resource = without(set(direct(), "/amount/payer_total", json!(1)), "/amount/total");
    assert_eq!(refusal(&resource), DecodeError::Missing("amount.total"));
}

#[test]
fn a_currency_that_is_not_named_is_cny() {
    for resource in [
        without(direct(), "/amount/currency"),
        set(direct(), "/amount/currency", json!("")),
        set(direct(), "/amount/currency", Value::Null),
    ] {
        assert_eq!(success(&paid(&resource)).total.currency, Currency::CNY, "{resource}");
    }
}

#[test]
fn a_state_says_whether_the_payer_paid_or_is_not_understood() {
    // A payment of which something went back later was a payment.
    for state in ["SUCCESS", "REFUND"] {
        let payment = paid(&set(direct(), "/trade_state", json!(state)));
        assert_eq!(success(&payment).total.amount_minor, 1999, "{state}");
    }
    for state in ["NOTPAY", "CLOSED", "REVOKED", "USERPAYING", "PAYERROR", "ACCEPT"] {
        let payment = paid(&set(direct(), "/trade_state", json!(state)));
        assert_eq!(payment.result, PaymentResult::NotSuccessful, "{state}");
    }
    for state in ["success", "SUCCESS ", "PARTLY_PAID"] {
        let refused = refusal(&set(direct(), "/trade_state", json!(state)));
        assert_eq!(refused, DecodeError::Malformed("trade_state"), "{state:?}");
    }
    for nothing in [Value::Null, json!("")] {
        assert_eq!(refusal(&set(direct(), "/trade_state", nothing)), DecodeError::Missing("trade_state"));
    }
    assert_eq!(refusal(&without(direct(), "/trade_state")), DecodeError::Missing("trade_state"));
}

#[test]
fn a_payment_that_failed_may_lack_most_fields() {
    let resource = json!({"mchid": MERCHANT, "trade_state": "PAYERROR"});
    let payment = paid(&resource);
    assert_eq!((payment.result, payment.out_trade_no), (PaymentResult::NotSuccessful, None));
    let named = paid(&set(resource, "/out_trade_no", json!("order-1")));
    assert_eq!(named.out_trade_no.unwrap().as_str(), "order-1");
}

#[test]
fn a_field_that_a_payment_needs_is_missed_by_name() {
    for (pointer, name) in [
        ("/mchid", "mchid"),
        ("/out_trade_no", "out_trade_no"),
        ("/transaction_id", "transaction_id"),
        ("/success_time", "success_time"),
        ("/amount", "amount"),
        ("/amount/total", "amount.total"),
    ] {
        for resource in [without(direct(), pointer), set(direct(), pointer, Value::Null)] {
            assert_eq!(refusal(&resource), DecodeError::Missing(name), "{resource}");
        }
    }
    for name in ["out_trade_no", "transaction_id", "success_time"] {
        let resource = set(direct(), &format!("/{name}"), json!(""));
        assert_eq!(refusal(&resource), DecodeError::Missing(name), "{resource}");
    }
}

#[test]
fn a_malformed_field_is_refused_by_name() {
    let too_long = "x".repeat(65);
    let cases: [(&str, &'static str, &[&str]); 7] = [
        ("/out_trade_no", "out_trade_no", &[&too_long, "a\nb", "a\u{85}b"]),
        ("/transaction_id", "transaction_id", &[&too_long, "a\tb"]),
        ("/appid", "appid", &[&too_long, "a\nb"]),
        ("/sub_appid", "sub_appid", &[&too_long, "a\nb"]),
        ("/sub_mchid", "sub_mchid", &[&too_long, "a\nb"]),
        ("/amount/currency", "amount.currency", &["cny", "CN", "CNYX", "C1Y", "人民", " CNY"]),
        (
            "/success_time",
            "success_time",
            &[
                "20261123101530",
                "2026-11-23T10:15:30",
                "2026-11-23",
                "2026-13-23T10:15:30+08:00",
                "2026-02-30T10:15:30+08:00",
                "2026-11-23T25:15:30+08:00",
                "now",
            ],
        ),
    ];
    for (pointer, name, values) in cases {
        for value in values {
            let resource = set(direct(), pointer, json!(value));
            assert_eq!(refusal(&resource), DecodeError::Malformed(name), "{value:?}");
        }
    }
}

#[test]
fn an_amount_is_a_whole_number_that_is_not_negative() {
    for amount in [0, 1, i64::MAX] {
        assert_eq!(success(&paid(&set(direct(), "/amount/total", json!(amount)))).total.amount_minor, amount);
    }
    for amount in [-1, i64::MIN] {
        assert_eq!(refusal(&set(direct(), "/amount/total", json!(amount))), DecodeError::Malformed("amount.total"));
    }
    // As text, because a JSON library may round some of them before they arrive.
    let text = direct().to_string();
    for amount in
        ["19.99", "1999.0", "1.999e3", "\"1999\"", "[1999]", "true", "9223372036854775808", "1e400", "01999", "+1999"]
    {
        let resource = text.replacen("\"total\":1999", &format!("\"total\":{amount}"), 1);
        assert_ne!(resource, text);
        assert_eq!(decode_text(&resource), Err(MALFORMED), "{amount}");
    }
}

#[test]
fn a_field_of_another_type_is_malformed() {
    for pointer in [
        "/mchid",
        "/appid",
        "/out_trade_no",
        "/transaction_id",
        "/trade_state",
        "/success_time",
        "/amount",
        "/amount/currency",
    ] {
        for value in [json!(1), json!(true), json!(["x"])] {
            let resource = set(direct(), pointer, value);
            assert_eq!(refusal(&resource), MALFORMED, "{resource}");
        }
    }
}

#[test]
fn a_duplicate_member_is_malformed_and_never_guessed() {
    let text = direct().to_string();
    for name in [
        "mchid",
        "appid",
        "out_trade_no",
        "transaction_id",
        "trade_state",
        "success_time",
        "amount",
        "total",
        "currency",
    ] {
        let member = format!("\"{name}\":");
        for twin in ["null", "\"x\""] {
            let resource = text.replacen(&member, &format!("{member}{twin},{member}"), 1);
            assert_ne!(resource, text);
            assert_eq!(decode_text(&resource), Err(MALFORMED), "{resource}");
        }
    }
}

#[test]
fn unknown_fields_are_ignored() {
    let resource = set(direct(), "/a_new_field", json!({"a": [1, {"b": null}], "c": 1.5}));
    let resource = set(resource, "/amount/a_new_amount", json!("12.34"));
    assert_eq!(success(&paid(&resource)).total.amount_minor, 1999);
}

#[test]
fn the_deepest_nesting_that_fits_is_harmless() {
    let text = direct().to_string();
    for depth in [100, 5_000] {
        let nested = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        for name in ["payer", "amount", "mchid", "sub_orders"] {
            let member = format!("\"{name}\":");
            let resource = text.replacen('{', &format!("{{{member}{nested},"), 1);
            // Refused, or in a member that nobody reads.
            let _ = decode_text(&resource);
        }
    }
}

#[test]
fn another_merchant_inside_is_refused() {
    let stranger = json!(OTHER_MERCHANT);
    for resource in [
        set(direct(), "/mchid", stranger.clone()),
        set(partner(), "/sp_mchid", stranger.clone()),
        set(direct(), "/sp_mchid", stranger.clone()),
        set(partner(), "/mchid", stranger.clone()),
        set(direct(), "/mchid", json!("")),
        set(direct(), "/mchid", json!("01900000109")),
    ] {
        assert_eq!(refusal(&resource), DecodeError::OtherMerchant, "{resource}");
    }
    // The shop behind an institution is another merchant by its nature.
    assert_eq!(paid(&set(partner(), "/sub_mchid", stranger)).sub_mch_id.unwrap().as_str(), OTHER_MERCHANT);
}

#[test]
fn a_merchant_may_be_named_twice_when_it_is_the_same() {
    assert_eq!(paid(&set(partner(), "/mchid", json!(MERCHANT))).mch_id.as_str(), MERCHANT);
}

#[test]
fn an_event_about_no_order_is_none_of_an_orders_business() {
    for (event_type, original_type) in [
        ("TRANSACTION.SUCCESS", "profitsharing"),
        ("TRANSACTION.FAIL", "transaction"),
        ("SECURITY_ECHO.SUCCESS", "security"),
        ("PAYSCORE.USER_PAID", "payscore"),
        ("PROFITSHARING.RETURN", "profitsharing"),
        ("MCHTRANSFER.BILL.FINISHED", ""),
        ("PAPAY.SIGN", ""),
    ] {
        // Not even its shape is looked at.
        for resource in [direct().to_string(), "{}".to_owned(), "not JSON".to_owned()] {
            let Notification::Other(Other { mch_id }) = decoded(event_type, original_type, &resource).unwrap() else {
                panic!("{event_type} {original_type} is taken for something else")
            };
            assert_eq!(mch_id.as_str(), MERCHANT);
        }
    }
}

#[test]
fn an_event_about_an_order_of_a_kind_that_is_not_known_is_not_understood() {
    for (event_type, original_type) in [
        ("TRANSACTION.SUCCESS", "refund"),
        ("TRANSACTION.SUCCESS", "Transaction"),
        ("TRANSACTION.SUCCESS", "parking"),
        ("TRANSACTION.PAY_BACK", "transaction"),
        ("transaction.success", "transaction"),
        ("REFUND.SUCCESS", "transaction"),
        ("REFUND.PROCESSING", "refund"),
        ("REFUND", "refund"),
        ("", "transaction"),
        ("", ""),
    ] {
        for resource in [direct().to_string(), "{}".to_owned(), "not JSON".to_owned()] {
            let said = decoded(event_type, original_type, &resource);
            assert_eq!(said, Err(DecodeError::UnknownKind), "{event_type:?} {original_type:?}");
        }
    }
}

#[test]
fn where_the_kind_of_the_resource_is_missing_it_has_to_be_complete_as_one_kind_only() {
    let refunded = json!({
        "mchid": MERCHANT, "out_trade_no": "order-1", "transaction_id": "4200000001", "out_refund_no": "refund-1",
        "refund_id": "50300000001", "refund_status": "SUCCESS", "success_time": "2026-11-24T09:08:07+08:00",
        "amount": {"total": 1999, "refund": 500},
    });
    let said = |event_type: &str, resource: &Value| decoded(event_type, "", &resource.to_string());
    // As an official example of parking has it.
    let parking = set(direct(), "/parking_info", json!({"parking_id": "5K8264ILTKCH16CQ250"}));
    for resource in [direct(), partner(), parking] {
        let paid = said("TRANSACTION.SUCCESS", &resource).unwrap();
        assert!(matches!(&paid, Notification::Payment(payment) if success(payment).total.amount_minor == 1999));
    }
    assert!(matches!(said("REFUND.SUCCESS", &refunded), Ok(Notification::Refund(_))));

    let mut both = refunded.clone();
    both.as_object_mut().unwrap().extend(direct().as_object().unwrap().clone());
    both["amount"]["refund"] = json!(500);
    let sharing =
        json!({"mchid": MERCHANT, "transaction_id": "42", "order_id": "30", "out_order_no": "P1", "receiver": {}});
    for (event_type, resource) in [
        ("TRANSACTION.SUCCESS", json!({})),
        ("TRANSACTION.SUCCESS", without(direct(), "/out_trade_no")),
        ("TRANSACTION.SUCCESS", set(direct(), "/trade_state", json!("NOTPAY"))),
        ("TRANSACTION.SUCCESS", refunded.clone()),
        ("TRANSACTION.SUCCESS", both.clone()),
        ("TRANSACTION.SUCCESS", sharing),
        ("REFUND.SUCCESS", json!({})),
        ("REFUND.SUCCESS", direct()),
        ("REFUND.SUCCESS", both),
        ("REFUND.CLOSED", refunded),
    ] {
        let refused = Err(DecodeError::Missing("original_type"));
        assert_eq!(said(event_type, &resource), refused, "{event_type} {resource}");
    }
}

#[test]
fn a_resource_that_is_not_a_json_object_is_malformed() {
    for resource in ["", "null", "1", "[]", "\"x\"", "{", "{}x", "\u{feff}{}", "<xml></xml>"] {
        assert_eq!(decode_text(resource), Err(MALFORMED), "{resource:?}");
    }
    assert_eq!(decode_text("{}"), Err(DecodeError::Missing("mchid")));
}

#[test]
fn a_time_may_have_any_offset_and_fractions() {
    for (text, utc) in [
        ("2026-11-23T10:15:30+08:00", "2026-11-23T02:15:30+00:00"),
        ("2026-11-23T02:15:30Z", "2026-11-23T02:15:30+00:00"),
        ("2026-11-22T21:15:30-05:00", "2026-11-23T02:15:30+00:00"),
        ("2015-05-20T13:29:35.120+08:00", "2015-05-20T05:29:35.120+00:00"),
        ("2027-01-01T00:00:00+08:00", "2026-12-31T16:00:00+00:00"),
    ] {
        let payment = paid(&set(direct(), "/success_time", json!(text)));
        assert_eq!(success(&payment).paid_at.to_rfc3339(), utc);
    }
}

/// A mainland payment to a direct merchant.
fn direct() -> Value {
    json!({
        "mchid": MERCHANT, "appid": "wxd678efh567hg6787", "out_trade_no": "order-1", "transaction_id": "4200000001",
        "trade_type": "JSAPI", "trade_state": "SUCCESS", "trade_state_desc": "支付成功", "bank_type": "CMC",
        "attach": "", "success_time": "2026-11-23T10:15:30+08:00",
        "payer": {"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},
        "amount": {"total": 1999, "payer_total": 1500, "currency": "CNY", "payer_currency": "CNY"},
    })
}

/// The same to a shop behind an institution.
fn partner() -> Value {
    let resource = without(without(direct(), "/mchid"), "/appid");
    let resource = set(set(resource, "/sp_mchid", json!(MERCHANT)), "/sub_mchid", json!("1900000300"));
    set(set(resource, "/sp_appid", json!("wx8888888888888888")), "/sub_appid", json!("wxd678efh567hg6999"))
}

fn decode_text(resource: &str) -> Result<Notification, DecodeError> {
    decoded("TRANSACTION.SUCCESS", "transaction", resource)
}

fn paid(resource: &Value) -> Payment {
    match decode_text(&resource.to_string()) {
        Ok(Notification::Payment(payment)) => payment,
        other => panic!("{resource} is {other:?}"),
    }
}

fn refusal(resource: &Value) -> DecodeError {
    decode_text(&resource.to_string()).unwrap_err()
}

fn success(payment: &Payment) -> PaymentSuccess {
    match &payment.result {
        PaymentResult::Success(success) => success.clone(),
        PaymentResult::NotSuccessful => panic!("not a success: {payment:?}"),
    }
}
