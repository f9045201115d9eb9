//! What an opened refund says, in its three ends and in the shapes of mainland and global merchants.

use serde_json::{Value, json};
use shared::domain::money::Currency;
use shared::domain::notification::{Notification, RefundResult, ReportedRefund};
use shared::protocol::DecodeError;

use super::{MERCHANT, OTHER_MERCHANT, decoded, set, without};

const MALFORMED: DecodeError = DecodeError::Malformed("the resource of a refund");
const STATUSES: [&str; 3] = ["SUCCESS", "ABNORMAL", "CLOSED"];

#[test]
fn a_refund_says_how_much_of_which_payment_went_back() {
    let refund = read("SUCCESS", &succeeded());
    assert_eq!(refund.mch_id.as_str(), MERCHANT);
    assert_eq!((&refund.sub_mch_id, &refund.app_id, &refund.sub_app_id), (&None, &None, &None));
    assert_eq!(refund.out_trade_no.as_str(), "order-1");
    assert_eq!(refund.transaction_id.as_str(), "4200000001");
    assert_eq!(refund.out_refund_no.as_str(), "refund-1");
    assert_eq!(refund.refund_id.as_str(), "50300103182026112400000000001");
    assert_eq!((refund.total_minor, refund.amount_minor, refund.currency), (1999, 500, None));
    assert_eq!(refund.result, RefundResult::Succeeded("2026-11-24T01:08:07Z".parse().unwrap()));
}

#[test]
fn a_refund_that_did_not_succeed_has_no_time() {
    for (status, result) in [("ABNORMAL", RefundResult::Abnormal), ("CLOSED", RefundResult::Closed)] {
        assert_eq!(read(status, &ended(status)).result, result);
        // A time that is there is not looked at.
        assert_eq!(read(status, &set(ended(status), "/success_time", json!("never"))).result, result);
    }
    assert_eq!(refusal("SUCCESS", &without(succeeded(), "/success_time")), DecodeError::Missing("success_time"));
}

#[test]
fn an_institutions_refund_names_the_shop_and_a_global_one_the_currency() {
    let partner = set(without(succeeded(), "/mchid"), "/sp_mchid", json!(MERCHANT));
    let partner = set(partner, "/sub_mchid", json!("1900000300"));
    let refund = read("SUCCESS", &partner);
    assert_eq!((refund.sub_mch_id.unwrap().as_str(), refund.currency), ("1900000300", None));

    let global = set(
        partner,
        "/amount",
        json!({
            "total": 1999, "refund": 500, "currency": "HKD", "payer_total": 1800, "payer_refund": 450, "payer_currency": "CNY",
            "settlement_refund": 500, "settlement_currency": "HKD",
            "exchange_rate": {"type": "SETTLEMENT_RATE", "rate": 100_000_000},
        }),
    );
    let refund = read("SUCCESS", &set(global, "/recv_account", json!("招商银行信用卡0403")));
    assert_eq!(refund.currency, Some(Currency::parse("HKD").unwrap()));
    assert_eq!((refund.total_minor, refund.amount_minor), (1999, 500));
}

#[test]
fn apps_are_read_when_they_are_named() {
    let named = set(set(succeeded(), "/sp_appid", json!("wx-1")), "/sub_appid", json!("wx-2"));
    let refund = read("SUCCESS", &named);
    assert_eq!((refund.app_id.unwrap().as_str(), refund.sub_app_id.unwrap().as_str()), ("wx-1", "wx-2"));
}

#[test]
fn the_event_and_the_sealed_resource_must_agree_on_the_status() {
    for event in STATUSES {
        for sealed in STATUSES.into_iter().chain(["PROCESSING", "success", "CHANGE", ""]) {
            let resource = set(succeeded(), "/refund_status", json!(sealed));
            match decode_text(event, &resource.to_string()) {
                Ok(notification) => assert_eq!(event, sealed, "{notification:?}"),
                Err(error) => {
                    assert_ne!(event, sealed);
                    assert_eq!(error, DecodeError::Malformed("refund_status"), "{event} over {sealed:?}");
                }
            }
        }
        let resource = without(succeeded(), "/refund_status");
        assert_eq!(refusal(event, &resource), DecodeError::Missing("refund_status"));
    }
}

#[test]
fn a_field_that_a_refund_needs_is_missed_by_name() {
    for (pointer, name) in [
        ("/mchid", "mchid"),
        ("/out_trade_no", "out_trade_no"),
        ("/transaction_id", "transaction_id"),
        ("/out_refund_no", "out_refund_no"),
        ("/refund_id", "refund_id"),
        ("/amount", "amount"),
        ("/amount/total", "amount.total"),
        ("/amount/refund", "amount.refund"),
    ] {
        for status in STATUSES {
            for resource in [without(ended(status), pointer), set(ended(status), pointer, Value::Null)] {
                assert_eq!(refusal(status, &resource), DecodeError::Missing(name), "{resource}");
            }
        }
    }
    for name in ["out_trade_no", "transaction_id", "out_refund_no", "refund_id", "success_time"] {
        let resource = set(succeeded(), &format!("/{name}"), json!(""));
        assert_eq!(refusal("SUCCESS", &resource), DecodeError::Missing(name), "{resource}");
    }
}

#[test]
fn a_malformed_field_is_refused_by_name() {
    let too_long = "x".repeat(65);
    let cases: [(&str, &'static str, &[&str]); 7] = [
        ("/out_trade_no", "out_trade_no", &[&too_long, "a\nb"]),
        ("/transaction_id", "transaction_id", &[&too_long, "a\tb"]),
        ("/out_refund_no", "out_refund_no", &[&too_long, "a\nb"]),
        ("/refund_id", "refund_id", &[&too_long, "a\u{85}b"]),
        ("/sub_mchid", "sub_mchid", &[&too_long, "a\nb"]),
        ("/amount/currency", "amount.currency", &["cny", "CN", "CNYX", " CNY"]),
        ("/success_time", "success_time", &["2026-11-24 09:08:07", "20261124090807", "never"]),
    ];
    for (pointer, name, values) in cases {
        for value in values {
            let resource = set(succeeded(), pointer, json!(value));
            assert_eq!(refusal("SUCCESS", &resource), DecodeError::Malformed(name), "{value:?}");
        }
    }
}

#[test]
fn a_refunded_amount_is_a_whole_number_above_zero() {
    for amount in [1, 1999, i64::MAX] {
        assert_eq!(read("SUCCESS", &set(succeeded(), "/amount/refund", json!(amount))).amount_minor, amount);
        assert_eq!(read("SUCCESS", &set(succeeded(), "/amount/total", json!(amount))).total_minor, amount);
    }
    for status in STATUSES {
        for amount in [0, -1, i64::MIN] {
            let resource = set(ended(status), "/amount/refund", json!(amount));
            assert_eq!(refusal(status, &resource), DecodeError::Malformed("amount.refund"), "{amount}");
        }
    }
    assert_eq!(
        refusal("SUCCESS", &set(succeeded(), "/amount/total", json!(-1))),
        DecodeError::Malformed("amount.total")
    );
    let text = succeeded().to_string();
    for name in ["refund", "total"] {
        let (member, number) = (format!("\"{name}\":"), if name == "refund" { "500" } else { "1999" });
        for amount in ["5.0", "5e2", "\"500\"", "[500]", "true", "9223372036854775808"] {
            let resource = text.replacen(&format!("{member}{number}"), &format!("{member}{amount}"), 1);
            assert_ne!(resource, text);
            assert_eq!(decode_text("SUCCESS", &resource), Err(MALFORMED), "{name}: {amount}");
        }
    }
}

#[test]
fn a_duplicate_member_is_malformed_and_never_guessed() {
    let text = succeeded().to_string();
    for name in [
        "mchid",
        "out_trade_no",
        "transaction_id",
        "out_refund_no",
        "refund_id",
        "refund_status",
        "amount",
        "total",
        "refund",
    ] {
        let member = format!("\"{name}\":");
        for twin in ["null", "\"x\"", "1"] {
            let resource = text.replacen(&member, &format!("{member}{twin},{member}"), 1);
            assert_ne!(resource, text);
            assert_eq!(decode_text("SUCCESS", &resource), Err(MALFORMED), "{resource}");
        }
    }
}

#[test]
fn another_merchant_inside_is_refused() {
    for pointer in ["/mchid", "/sp_mchid"] {
        let resource = set(succeeded(), pointer, json!(OTHER_MERCHANT));
        assert_eq!(refusal("SUCCESS", &resource), DecodeError::OtherMerchant, "{resource}");
    }
}

#[test]
fn unknown_fields_are_ignored() {
    let resource = set(succeeded(), "/a_new_field", json!({"a": [1.5, {"b": null}]}));
    assert_eq!(read("SUCCESS", &set(resource, "/amount/from", json!([]))).amount_minor, 500);
}

#[test]
fn a_resource_that_is_not_a_json_object_is_malformed() {
    for resource in ["", "null", "[]", "{", "{}x", "<root></root>"] {
        assert_eq!(decode_text("SUCCESS", resource), Err(MALFORMED), "{resource:?}");
    }
}

fn succeeded() -> Value {
    json!({
        "mchid": MERCHANT, "out_trade_no": "order-1", "transaction_id": "4200000001", "out_refund_no": "refund-1",
        "refund_id": "50300103182026112400000000001", "refund_status": "SUCCESS",
        "success_time": "2026-11-24T09:08:07+08:00", "user_received_account": "招商银行信用卡0403",
        "amount": {"total": 1999, "refund": 500, "payer_total": 1800, "payer_refund": 450},
    })
}

fn ended(status: &str) -> Value {
    let resource = set(succeeded(), "/refund_status", json!(status));
    if status == "SUCCESS" { resource } else { without(resource, "/success_time") }
}

fn decode_text(status: &str, resource: &str) -> Result<Notification, DecodeError> {
    decoded(&format!("REFUND.{status}"), "refund", resource)
}

fn read(status: &str, resource: &Value) -> ReportedRefund {
    match decode_text(status, &resource.to_string()) {
        Ok(Notification::Refund(refund)) => refund,
        other => panic!("{resource} is {other:?}"),
    }
}

fn refusal(status: &str, resource: &Value) -> DecodeError {
    decode_text(status, &resource.to_string()).unwrap_err()
}
