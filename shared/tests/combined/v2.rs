//! How v2 says that orders were paid together.

use kit::callback::{Callback, sub_order};
use kit::merchants::{INSTITUTION, INSTITUTION_KEY, MERCHANT};
use serde_json::json;
use shared::domain::notification::PaymentResult;
use shared::protocol::v2::payment::authenticate;
use shared::protocol::{AuthenticateError, BODY_BYTES_MAX, DecodeError, SINGLE_BODY_BYTES_MAX};

use super::{payment_in, ring, said_v2, set, success_in};

fn combined() -> Callback {
    Callback::combined("c-1", &[sub_order(MERCHANT, "order-1"), sub_order(MERCHANT, "order-2")])
}

#[test]
fn the_key_of_the_merchant_that_combined_authenticates() {
    let (ring, body) = (ring(), combined().body());
    let authentic = authenticate(&body, &ring).unwrap();
    assert_eq!((authentic.merchant.mch_id().as_str(), authentic.key.mch_id.as_str()), (MERCHANT, MERCHANT));
    let refusal = |callback: Callback| authenticate(&callback.body(), &ring).unwrap_err();
    assert!(matches!(refusal(combined().key(INSTITUTION_KEY)), AuthenticateError::NotSigned(_)));
    let stranger = refusal(combined().field("combine_mch_id", "1900009999"));
    assert!(matches!(stranger, AuthenticateError::UnknownMerchant(mch_id) if mch_id == "1900009999"));
    assert!(matches!(refusal(combined().without("combine_mch_id")), AuthenticateError::NoMerchant));
}

#[test]
fn numbers_of_a_combined_and_of_a_single_order_at_once_are_not_understood() {
    for (name, value) in [("mch_id", MERCHANT), ("out_trade_no", "order-1"), ("transaction_id", "4200000001")] {
        assert_eq!(said_v2(&combined().field(name, value)), Err(DecodeError::CombinedAndSingle), "{name}");
    }
    for name in ["combine_mch_id", "combine_out_trade_no", "sub_order_list"] {
        let single = Callback::payment("order-1").field(name, MERCHANT);
        assert_eq!(said_v2(&single), Err(DecodeError::CombinedAndSingle), "{name}");
    }
    // The key is that of the mch_id, whoever is said to have combined.
    let two = combined().field("mch_id", INSTITUTION).key(INSTITUTION_KEY);
    let (body, ring) = (two.body(), ring());
    assert_eq!(authenticate(&body, &ring).unwrap().key.mch_id.as_str(), INSTITUTION);
}

#[test]
fn a_missing_field_of_a_combined_order_is_named() {
    for name in ["combine_out_trade_no", "sub_order_list", "return_code", "result_code"] {
        assert_eq!(said_v2(&combined().without(name)), Err(DecodeError::Missing(name)));
    }
    for list in [
        "x",
        "[]",
        "{}",
        "{\"order_list\":{}}",
        "{\"order_num\":1,\"order_list\":[]}",
        "{\"order_num\":-1,\"order_list\":[{}]}",
        "{\"order_list\":[],\"order_list\":[{}]}",
        "{\"order_list\":[{}",
    ] {
        let refused = said_v2(&combined().field("sub_order_list", list));
        assert_eq!(refused, Err(DecodeError::Malformed("sub_order_list")), "{list}");
    }
}

#[test]
fn numbers_may_stand_in_quotation_marks_and_the_count_may_be_left_out() {
    let quoted = set(sub_order(MERCHANT, "order-1"), "/total_fee", json!("1999"));
    for list in [json!({"order_num": "1", "order_list": [quoted]}), json!({"order_list": [quoted]})] {
        let parts = said_v2(&combined().field("sub_order_list", &list.to_string())).unwrap();
        assert_eq!(success_in(&parts[0]).total.amount_minor, 1999, "{list}");
    }
    for digits in ["", "19.99", "-1", "+1", " 1"] {
        let bad = set(sub_order(MERCHANT, "order-1"), "/total_fee", json!(digits));
        let parts = said_v2(&Callback::combined("c-1", &[bad])).unwrap();
        assert_eq!(parts, [Err(DecodeError::Malformed("total_fee"))], "{digits:?}");
    }
}

#[test]
fn a_duplicate_member_is_malformed_and_never_guessed() {
    let text = sub_order(MERCHANT, "order-1").to_string();
    for name in ["mch_id", "out_trade_no", "transaction_id", "total_fee", "fee_type", "time_end", "openid"] {
        let member = format!("\"{name}\":");
        let doubled = text.replacen(&member, &format!("{member}null,{member}"), 1);
        assert_ne!(doubled, text);
        let list = format!("{{\"order_num\":2,\"order_list\":[{doubled},{}]}}", sub_order(MERCHANT, "order-2"));
        let parts = said_v2(&combined().field("sub_order_list", &list)).unwrap();
        assert_eq!(parts[0], Err(DecodeError::Malformed("a sub-order")), "{name}");
        assert!(parts[1].is_ok());
    }
}

#[test]
fn a_sub_order_names_its_own_app_and_time_or_has_those_of_the_whole() {
    let own = set(sub_order(MERCHANT, "order-1"), "/appid", json!("wx-own"));
    let mut timeless = sub_order(MERCHANT, "order-2");
    timeless.as_object_mut().unwrap().remove("time_end");
    let callback = Callback::combined("c-1", &[own, timeless]);
    let parts = said_v2(&callback).unwrap();
    assert_eq!(payment_in(&parts[0]).app_id.as_ref().unwrap().as_str(), "wx-own");
    assert_eq!(parts[1], Err(DecodeError::Missing("time_end")));
    let parts = said_v2(&callback.field("time_end", "20261123101531")).unwrap();
    assert_eq!(success_in(&parts[0]).paid_at.to_rfc3339(), "2026-11-23T02:15:30+00:00");
    assert_eq!(success_in(&parts[1]).paid_at.to_rfc3339(), "2026-11-23T02:15:31+00:00");
}

#[test]
fn a_failure_of_the_whole_or_of_one_is_explicit() {
    let failed = combined().field("result_code", "FAIL");
    let parts = said_v2(&failed).unwrap();
    assert!(parts.iter().all(|part| payment_in(part).result == PaymentResult::NotSuccessful));
    assert_eq!(parts.len(), 2);
    let parts = said_v2(&failed.without("sub_order_list")).unwrap();
    assert_eq!(parts.len(), 1);
    let whole = payment_in(&parts[0]);
    assert_eq!((whole.mch_id.as_str(), &whole.out_trade_no), (MERCHANT, &None));
    assert_eq!(whole.result, PaymentResult::NotSuccessful);

    let with_code = |code: &str| set(sub_order(MERCHANT, "order-1"), "/result_code", json!(code));
    let said = |code: &str| said_v2(&Callback::combined("c-1", &[with_code(code)])).unwrap().remove(0);
    assert_eq!(payment_in(&said("FAIL")).result, PaymentResult::NotSuccessful);
    assert_eq!(success_in(&said("SUCCESS")).total.amount_minor, 1999);
    assert_eq!(said("PAYING"), Err(DecodeError::Malformed("result_code")));
    let contradicting = Callback::combined("c-1", &[with_code("SUCCESS")]).field("result_code", "FAIL");
    assert_eq!(said_v2(&contradicting).unwrap(), [Err(DecodeError::Contradiction("result_code"))]);
}

#[test]
fn a_combined_order_may_be_larger_than_a_single_one_and_has_a_bound() {
    let of = |attach: usize| {
        let sub_orders: Vec<_> = (0..50)
            .map(|place| set(sub_order(MERCHANT, &format!("o-{place}")), "/attach", json!("x".repeat(attach))))
            .collect();
        Callback::combined("c-1", &sub_orders)
    };
    assert!(of(128).body().len() > SINGLE_BODY_BYTES_MAX);
    assert_eq!(said_v2(&of(128)).unwrap().len(), 50);
    let too_large = of(2000).body();
    assert!(too_large.len() > BODY_BYTES_MAX);
    assert!(matches!(authenticate(&too_large, &ring()), Err(AuthenticateError::Malformed(_))));
}
