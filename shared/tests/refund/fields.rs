//! What an opened refund says, and what each of its fields must look like.

use shared::domain::notification::RefundResult;
use shared::protocol::DecodeError;

use super::{Callback, MERCHANT, decoded, refusal};

#[test]
fn a_refund_says_how_much_of_which_payment_went_back() {
    let refund = decoded(&Callback::new());
    assert_eq!(refund.mch_id.as_str(), MERCHANT);
    assert_eq!(refund.sub_mch_id, None);
    assert_eq!(refund.app_id.unwrap().as_str(), "wxd678efh567hg6787");
    assert_eq!(refund.sub_app_id, None);
    assert_eq!(refund.out_trade_no.as_str(), "order-1");
    assert_eq!(refund.transaction_id.as_str(), "4200000001");
    assert_eq!(refund.out_refund_no.as_str(), "refund-1");
    assert_eq!(refund.refund_id.as_str(), "50300103182026112400000000001");
    assert_eq!((refund.total_minor, refund.amount_minor), (1999, 500));
    assert_eq!(refund.currency, None, "it is the order's");
    assert_eq!(refund.result, RefundResult::Succeeded("2026-11-24T01:08:07Z".parse().unwrap()));
}

#[test]
fn an_institutions_refund_names_the_shop_and_both_apps() {
    let refund = decoded(&Callback::new().open("sub_mch_id", "1900000300").open("sub_appid", "wx-shop"));
    assert_eq!(refund.sub_mch_id.unwrap().as_str(), "1900000300");
    assert_eq!(refund.sub_app_id.unwrap().as_str(), "wx-shop");
}

#[test]
fn settlement_and_cash_fields_are_never_the_amount() {
    let callback = Callback::new()
        .sealed("settlement_refund_fee", "1")
        .sealed("settlement_total_fee", "2")
        .sealed("cash_refund_fee", "3")
        .sealed("cash_fee", "4");
    let refund = decoded(&callback);
    assert_eq!((refund.total_minor, refund.amount_minor), (1999, 500));
}

#[test]
fn each_status_has_its_end() {
    for (status, result) in [("CHANGE", RefundResult::Abnormal), ("REFUNDCLOSE", RefundResult::Closed)] {
        let callback = Callback::new().sealed("refund_status", status);
        assert_eq!(decoded(&callback.clone().without("success_time")).result, result);
        // A time that is there is not looked at.
        assert_eq!(decoded(&callback.sealed("success_time", "never")).result, result);
    }
}

#[test]
fn an_unknown_status_is_authentic_but_not_understood() {
    for status in ["PROCESSING", "success", "SUCCESS ", "CLOSED", "ABNORMAL", "x"] {
        let callback = Callback::new().sealed("refund_status", status);
        assert_eq!(refusal(&callback), DecodeError::Malformed("refund_status"), "{status:?}");
    }
}

#[test]
fn open_fields_prove_nothing_and_are_compared_with_the_order() {
    // Anybody may put another shop there; the order's row knows better.
    let altered = decoded(&Callback::new().open("sub_mch_id", "1900000301").open("appid", "wx-another"));
    assert_eq!(altered.sub_mch_id.unwrap().as_str(), "1900000301");
    assert_eq!(altered.app_id.unwrap().as_str(), "wx-another");
    // What is sealed cannot be overruled from outside.
    let overruled =
        Callback::new().open("refund_fee", "1999").open("out_trade_no", "order-2").open("refund_status", "x");
    let refund = decoded(&overruled);
    assert_eq!((refund.amount_minor, refund.out_trade_no.as_str()), (500, "order-1"));
}

#[test]
fn a_malformed_field_is_refused_by_name() {
    let too_long = "x".repeat(65);
    let no_amounts = ["-1", "+1", "5.00", " 500", "500 ", "5e2", "0x10", "５００", "9223372036854775808"];
    let cases: [(&'static str, &[&str]); 7] = [
        ("refund_fee", &no_amounts),
        ("total_fee", &no_amounts),
        ("transaction_id", &[&too_long, "a\nb", "a\tb"]),
        ("out_trade_no", &[&too_long, "a\nb"]),
        ("out_refund_no", &[&too_long, "a\u{85}b"]),
        ("refund_id", &[&too_long, "a\nb"]),
        (
            "success_time",
            &[
                "20261124090807",
                "2026-11-24T09:08:07+08:00",
                "2026-11-24 9:08:07",
                "2026-11-24 09:08",
                "2026-13-24 09:08:07",
                "2026-02-30 09:08:07",
                "2026-11-24 25:08:07",
                "2026-11-24 09:08:07 ",
                "never",
            ],
        ),
    ];
    for (name, values) in cases {
        for value in values {
            assert_eq!(refusal(&Callback::new().sealed(name, value)), DecodeError::Malformed(name), "{value:?}");
        }
    }
    for name in ["sub_mch_id", "appid", "sub_appid"] {
        assert_eq!(refusal(&Callback::new().open(name, &too_long)), DecodeError::Malformed(name));
    }
}

#[test]
fn a_success_has_a_time() {
    for callback in [Callback::new().without("success_time"), Callback::new().sealed("success_time", "")] {
        assert_eq!(refusal(&callback), DecodeError::Missing("success_time"));
    }
}

#[test]
fn a_refunded_amount_is_above_zero() {
    for status in ["SUCCESS", "CHANGE", "REFUNDCLOSE"] {
        let callback = Callback::new().sealed("refund_status", status);
        for nothing in ["0", "00"] {
            assert_eq!(refusal(&callback.clone().sealed("refund_fee", nothing)), DecodeError::Malformed("refund_fee"));
        }
        for amount in [1, i64::MAX] {
            assert_eq!(decoded(&callback.clone().sealed("refund_fee", &amount.to_string())).amount_minor, amount);
        }
    }
}

#[test]
fn the_ends_of_the_day_are_chinas() {
    for (text, utc) in [
        ("2027-01-01 00:00:00", "2026-12-31T16:00:00Z"),
        ("2026-12-31 23:59:59", "2026-12-31T15:59:59Z"),
        ("2024-02-29 08:00:00", "2024-02-29T00:00:00Z"),
    ] {
        let result = decoded(&Callback::new().sealed("success_time", text)).result;
        assert_eq!(result, RefundResult::Succeeded(utc.parse().unwrap()));
    }
}
