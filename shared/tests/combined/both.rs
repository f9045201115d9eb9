//! What holds of a combined order in either API.

use kit::merchants::{INSTITUTION, MERCHANT, PARTNER};
use serde_json::json;
use shared::domain::money::{Currency, Money};
use shared::domain::notification::PaymentResult;
use shared::protocol::{DecodeError, SUB_ORDERS_MAX};

use super::{BOTH, payment_in, set, success_in};

#[test]
fn each_sub_order_is_a_payment_of_its_own_merchant_in_the_order_of_the_list() {
    for api in BOTH {
        let usd = Currency::parse("USD").unwrap();
        let (amount, currency, sub_mch_id) = match api {
            super::Api::V2 => ("/total_fee", "/fee_type", "/sub_mch_id"),
            super::Api::V3 => ("/amount/total_amount", "/amount/currency", "/sub_mchid"),
        };
        let of_shop = set(api.sub_order(MERCHANT, "order-2"), sub_mch_id, json!("1900000300"));
        let of_shop = set(set(of_shop, amount, json!(1)), currency, json!("USD"));
        let of_shop = set(of_shop, "/sub_appid", json!("wx-shop"));
        let sub_orders = [api.sub_order(MERCHANT, "order-1"), of_shop, api.sub_order(PARTNER, "order-1")];
        let parts = api.said(&sub_orders).unwrap();
        assert_eq!(parts.len(), 3);
        for (part, sub_order) in parts.iter().zip(&sub_orders) {
            let payment = payment_in(part);
            assert_eq!(payment.app_id.as_ref().unwrap().as_str(), "wxd678efh567hg6787");
            assert_eq!(payment.out_trade_no.as_ref().unwrap().as_str(), sub_order["out_trade_no"]);
            assert_eq!(success_in(part).transaction_id.as_str(), sub_order["transaction_id"]);
            assert_eq!(success_in(part).paid_at.to_rfc3339(), "2026-11-23T02:15:30+00:00");
        }
        let merchants: Vec<_> = parts.iter().map(|part| payment_in(part).mch_id.as_str()).collect();
        assert_eq!(merchants, [MERCHANT, MERCHANT, PARTNER]);
        let shops = parts.iter().map(|part| payment_in(part).sub_mch_id.as_ref().map(ToString::to_string));
        assert_eq!(shops.collect::<Vec<_>>(), [None, Some("1900000300".to_owned()), None]);
        assert_eq!(payment_in(&parts[1]).sub_app_id.as_ref().unwrap().as_str(), "wx-shop");
        let cny = |amount_minor| Money { amount_minor, currency: Currency::CNY };
        let sums: Vec<_> = parts.iter().map(|part| success_in(part).total).collect();
        assert_eq!(sums, [cny(1999), Money { amount_minor: 1, currency: usd }, cny(1999)]);
    }
}

#[test]
fn an_order_of_a_merchant_that_may_not_be_combined_costs_itself() {
    for api in BOTH {
        let sub_orders = [INSTITUTION, MERCHANT, "1900009999"].map(|mch_id| api.sub_order(mch_id, "order-1"));
        let parts = api.said(&sub_orders).unwrap();
        assert_eq!(parts[0], Err(DecodeError::MerchantNotCombined));
        assert_eq!(success_in(&parts[1]).total.amount_minor, 1999);
        assert_eq!(parts[2], Err(DecodeError::MerchantNotCombined));
    }
}

#[test]
fn a_malformed_sub_order_costs_itself() {
    for api in BOTH {
        let good = || api.sub_order(MERCHANT, "order-1");
        let (amount, time, mch_id) = match api {
            super::Api::V2 => ("/total_fee", "/time_end", "/mch_id"),
            super::Api::V3 => ("/amount/total_amount", "/success_time", "/mchid"),
        };
        let bad = || api.sub_order(MERCHANT, "order-2");
        let malformed = [
            json!(1),
            json!(null),
            json!([]),
            json!({}),
            set(bad(), amount, json!(-1)),
            set(bad(), amount, json!(19.99)),
            set(bad(), amount, json!(true)),
            set(bad(), amount, super::null()),
            set(bad(), time, json!("now")),
            set(bad(), mch_id, json!("")),
            set(bad(), mch_id, json!(1_900_000_109)),
            set(bad(), "/out_trade_no", json!("a\nb")),
            set(bad(), "/out_trade_no", json!("")),
            set(bad(), "/transaction_id", super::null()),
            set(bad(), "/sub_appid", json!("x".repeat(65))),
            set(bad(), "/trade_state", json!("PARTLY_PAID")),
        ];
        for bad in malformed {
            for (place, sub_orders) in [(0, [bad.clone(), good()]), (1, [good(), bad.clone()])] {
                let parts = api.said(&sub_orders).unwrap();
                assert_eq!(parts.len(), 2);
                assert!(parts[place].is_err(), "{api:?}: {bad} is {:?}", parts[place]);
                assert_eq!(success_in(&parts[1 - place]).total.amount_minor, 1999, "{api:?}: {bad}");
            }
        }
    }
}

#[test]
fn a_failed_sub_order_is_distinguished_from_a_paid_one() {
    for api in BOTH {
        let failed = set(api.sub_order(MERCHANT, "order-1"), "/trade_state", json!("PAYERROR"));
        let refunded = set(api.sub_order(MERCHANT, "order-2"), "/trade_state", json!("REFUND"));
        let parts = api.said(&[failed, refunded]).unwrap();
        assert_eq!(payment_in(&parts[0]).result, PaymentResult::NotSuccessful);
        assert_eq!(payment_in(&parts[0]).out_trade_no.as_ref().unwrap().as_str(), "order-1");
        assert_eq!(success_in(&parts[1]).total.amount_minor, 1999);
    }
}

#[test]
fn a_list_has_a_bound_and_is_not_empty() {
    for api in BOTH {
        let of = |count| (0..count).map(|place| api.sub_order(MERCHANT, &format!("order-{place}"))).collect::<Vec<_>>();
        let parts = api.said(&of(SUB_ORDERS_MAX)).unwrap();
        assert!(parts.len() == SUB_ORDERS_MAX && parts.iter().all(Result::is_ok));
        assert_eq!(api.said(&of(SUB_ORDERS_MAX + 1)), Err(DecodeError::TooManySubOrders));
        assert_eq!(api.said(&[]), Err(DecodeError::Missing(api.list())));
    }
}

#[test]
fn a_duplicate_order_or_payment_makes_the_whole_callback_malformed() {
    for api in BOTH {
        let sub_order = || api.sub_order(MERCHANT, "order-1");
        let twice = [sub_order(), sub_order()];
        assert_eq!(api.said(&twice), Err(DecodeError::RepeatedSubOrder("out_trade_no")));
        let failed = set(sub_order(), "/trade_state", json!("CLOSED"));
        assert_eq!(api.said(&[failed, sub_order()]), Err(DecodeError::RepeatedSubOrder("out_trade_no")));
        let same =
            |mch_id, out_trade_no| set(api.sub_order(mch_id, out_trade_no), "/transaction_id", json!("4200000001"));
        // Whichever merchants they are of.
        for sub_orders in [
            [same(MERCHANT, "order-1"), same(MERCHANT, "order-2")],
            [same(MERCHANT, "order-1"), same(INSTITUTION, "order-1")],
        ] {
            assert_eq!(api.said(&sub_orders), Err(DecodeError::RepeatedSubOrder("transaction_id")));
        }
    }
}
