//! How v3 says that orders were paid together.

use kit::merchants::{INSTITUTION, MERCHANT};
use kit::v3::{Event, sub_order};
use serde_json::{Value, json};
use shared::protocol::DecodeError;

use super::{said_v3, set};

fn combined() -> Event {
    Event::combined("c-1", &[sub_order(MERCHANT, "order-1")])
}

#[test]
fn the_resource_has_to_name_the_merchant_whose_key_opened_it() {
    assert_eq!(said_v3(&combined().set("/combine_mchid", json!(INSTITUTION))), Err(DecodeError::OtherMerchant));
    for nothing in [Value::Null, json!("")] {
        let refused = said_v3(&combined().set("/combine_mchid", nothing));
        assert_eq!(refused, Err(DecodeError::Missing("combine_mchid")));
    }
    assert_eq!(
        said_v3(&combined().without("/combine_out_trade_no")),
        Err(DecodeError::Missing("combine_out_trade_no"))
    );
    assert_eq!(said_v3(&combined().without("/sub_orders")), Err(DecodeError::Missing("sub_orders")));
    let malformed = Err(DecodeError::Malformed("the resource of a combined order"));
    assert_eq!(said_v3(&combined().set("/sub_orders", json!({}))), malformed);
    assert_eq!(said_v3(&combined().set("/combine_mchid", json!(1))), malformed);
}

#[test]
fn numbers_of_a_combined_and_of_a_single_order_at_once_are_not_understood() {
    for name in ["/out_trade_no", "/transaction_id"] {
        assert_eq!(said_v3(&combined().set(name, json!("x"))), Err(DecodeError::CombinedAndSingle), "{name}");
    }
    for (name, value) in
        [("/sub_orders", json!([])), ("/combine_mchid", json!(MERCHANT)), ("/combine_out_trade_no", json!("c"))]
    {
        assert_eq!(said_v3(&Event::payment("order-1").set(name, value)), Err(DecodeError::CombinedAndSingle), "{name}");
    }
}

#[test]
fn a_combined_order_is_known_under_whatever_kind_of_resource() {
    let resource = json!({
        "combine_mchid": MERCHANT, "combine_out_trade_no": "c-1", "sub_orders": [sub_order(MERCHANT, "order-1")],
    });
    for kind in ["", "transaction", "combine-transaction", "profitsharing"] {
        let parts = said_v3(&Event::new("TRANSACTION.SUCCESS", kind, resource.clone())).unwrap();
        assert!(matches!(parts.as_slice(), [Ok(_)]), "{kind}: {parts:?}");
    }
}

#[test]
fn a_sub_order_needs_a_state() {
    let stateless = set(sub_order(MERCHANT, "order-1"), "/trade_state", Value::Null);
    let parts = said_v3(&Event::combined("c-1", &[stateless])).unwrap();
    assert_eq!(parts, [Err(DecodeError::Missing("trade_state"))]);
}
