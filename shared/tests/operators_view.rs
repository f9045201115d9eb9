//! What an operator gets to see of an authentic callback: what can be read of one that could not be decoded, and the whole
//! of any, opened and with the payer's own data masked.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::sync::LazyLock;

use kit::callback::{self, Callback, Refund};
use kit::merchants::{INSTITUTION, MERCHANT, MerchantsFile, PARTNER};
use kit::v3::{Event, sub_order};
use serde_json::json;
use shared::domain::ids::{MchId, OutTradeNo, TransactionId};
use shared::domain::money::Currency;
use shared::merchants_file::{self, Program};
use shared::protocol::glance::{self, Glance};
use shared::protocol::keys::KeyRing;
use shared::protocol::reveal::{self, RevealError};

/// A payer of the kit's.
const PAYER: &str = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o";

static RING: LazyLock<KeyRing> = LazyLock::new(|| {
    let file = MerchantsFile::write().unwrap();
    merchants_file::load(file.path(), Program::Worker).unwrap()
});

#[test]
fn a_payment_that_cannot_be_decoded_can_still_be_read() {
    let body = Callback::payment("order-1").transaction("4200000001").without("result_code").body();
    let [glance] = glance::v2_payment(&body, &RING).try_into().unwrap();
    assert_eq!(numbers(&glance), (Some(MERCHANT), Some("order-1"), Some("4200000001"), Some(1999)));
    assert_eq!(glance.currency, None);
    let body = Callback::payment_of_shop("1900000300", "order-1").field("total_fee", "19.99").body();
    let [glance] = glance::v2_payment(&body, &RING).try_into().unwrap();
    assert_eq!(numbers(&glance), (Some(INSTITUTION), Some("order-1"), numbers(&glance).2, None));
    assert_eq!(glance.sub_mch_id.unwrap().as_str(), "1900000300");
    assert_eq!(glance.currency, Currency::parse("USD"));
    // And one whose signature is ambiguous.
    let ambiguous = Callback::payment("order-1").field("attach", "x&mch_id=1").body();
    assert_eq!(glance::v2_payment(&ambiguous, &RING)[0].out_trade_no.as_ref().unwrap().as_str(), "order-1");
}

#[test]
fn a_refund_is_read_by_its_own_sum() {
    let body = Refund::of("order-1", "4200000001", "refund-1").amount(500).field("refund_status", "ODD").body();
    let [glance] = glance::v2_refund(&body, &RING).try_into().unwrap();
    assert_eq!(numbers(&glance), (Some(MERCHANT), Some("order-1"), Some("4200000001"), Some(500)));
    let event =
        Event::refund("order-1", "4200000001", "refund-1").set("/amount/refund", json!(500)).without("/refund_id");
    let [glance] = glance::v3(&event.post().body, MERCHANT, &RING).try_into().unwrap();
    assert_eq!(numbers(&glance), (Some(MERCHANT), Some("order-1"), Some("4200000001"), Some(500)));
}

#[test]
fn every_sub_order_is_read_in_the_order_of_the_list() {
    let odd = |mut sub_order: serde_json::Value| {
        sub_order["trade_state"] = json!("ODD");
        sub_order["transaction_id"] = json!(7);
        sub_order
    };
    let v2 = Callback::combined(
        "c-1",
        &[callback::sub_order(PARTNER, "order-1"), odd(callback::sub_order(MERCHANT, "order-2"))],
    );
    let v3 = Event::combined("c-1", &[sub_order(PARTNER, "order-1"), odd(sub_order(MERCHANT, "order-2"))]);
    for glances in [glance::v2_payment(&v2.body(), &RING), glance::v3(&v3.post().body, MERCHANT, &RING)] {
        let [first, second] = glances.as_slice() else { panic!("{glances:?}") };
        let (mch_id, number, transaction_id, amount_minor) = numbers(first);
        assert_eq!((mch_id, number, amount_minor), (Some(PARTNER), Some("order-1"), Some(1999)));
        assert!(transaction_id.is_some());
        assert_eq!(numbers(second), (Some(MERCHANT), Some("order-2"), None, Some(1999)));
        assert_eq!(second.currency, Some(Currency::CNY));
    }
    // A list that is none leaves the merchant that combined.
    let listless = Callback::combined("c-1", &[]).field("sub_order_list", "x").body();
    let [glance] = glance::v2_payment(&listless, &RING).try_into().unwrap();
    assert_eq!(numbers(&glance), (Some(MERCHANT), None, None, None));
}

#[test]
fn a_callback_that_is_not_authentic_is_not_decoded() {
    let forged = Callback::payment("order-1").key("another-key-000000000000000000001").body();
    assert_eq!(glance::v2_payment(&forged, &RING), []);
    assert!(matches!(reveal::v2_payment(&forged, &RING), Err(RevealError::V2(_))));
    let refund = Refund::of("order-1", "42", "refund-1").key("another-key-000000000000000000001").body();
    assert_eq!(glance::v2_refund(&refund, &RING), []);
    assert!(matches!(reveal::v2_refund(&refund, &RING), Err(RevealError::V2(_))));
    let event = Event::payment("order-1").post().body;
    assert_eq!(glance::v3(&event, INSTITUTION, &RING), []);
    assert!(matches!(reveal::v3(&event, INSTITUTION, &RING), Err(RevealError::V3(_))));
    for body in ["", "{}", "<xml></xml>", "null"].map(str::as_bytes) {
        assert!(glance::v2_payment(body, &RING).is_empty() && glance::v2_refund(body, &RING).is_empty());
        assert!(glance::v3(body, MERCHANT, &RING).is_empty());
    }
}

#[test]
fn a_sealed_resource_is_shown_line_by_line_without_the_payer() {
    let event = Event::payment("order-1").set("/attach", json!("shop 7")).set("/payer/sub_openid", json!(PAYER));
    let text = reveal::v3(&event.post().body, MERCHANT, &RING).unwrap();
    for line in [
        "event_type = \"TRANSACTION.SUCCESS\"",
        "original_type = \"transaction\"",
        "resource.out_trade_no = \"order-1\"",
        "resource.amount.total = 1999",
        "resource.attach = \"shop 7\"",
        "resource.payer.openid = ***",
        "resource.payer.sub_openid = ***",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
    }
    let refund = Event::refund("order-1", "42", "refund-1");
    let combined = Event::combined("c-1", &[sub_order(MERCHANT, "order-2")]);
    for event in [event, refund, combined] {
        let text = reveal::v3(&event.post().body, MERCHANT, &RING).unwrap();
        assert!(!text.contains(PAYER) && !text.contains("0403"), "{text}");
    }
    let text =
        reveal::v3(&Event::combined("c-1", &[sub_order(MERCHANT, "order-2")]).post().body, MERCHANT, &RING).unwrap();
    assert!(text.contains("resource.sub_orders[0].out_trade_no = \"order-2\"\n"), "{text}");
}

#[test]
fn a_v2_callback_is_shown_line_by_line_without_the_payer_and_the_signature() {
    let payment = Callback::payment("order-1").field("attach", "shop 7").field("sub_openid", PAYER);
    let text = reveal::v2_payment(&payment.body(), &RING).unwrap();
    for line in
        ["out_trade_no = \"order-1\"", "total_fee = \"1999\"", "attach = \"shop 7\"", "openid = ***", "sign = ***"]
    {
        assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
    }
    let refund = reveal::v2_refund(&Refund::of("order-1", "42", "refund-1").body(), &RING).unwrap();
    for line in [
        "mch_id = \"1900000109\"",
        "req_info.out_refund_no = \"refund-1\"",
        "req_info.refund_recv_accout = ***",
        "req_info.refund_account = \"REFUND_SOURCE_RECHARGE_FUNDS\"",
    ] {
        assert!(refund.lines().any(|shown| shown == line), "{line} is not in\n{refund}");
    }
    let list = [callback::sub_order(MERCHANT, "order-2")];
    let combined = reveal::v2_payment(&Callback::combined("c-1", &list).body(), &RING).unwrap();
    assert!(combined.contains("sub_order_list.order_list[0].out_trade_no = \"order-2\"\n"), "{combined}");
    let odd = Callback::combined("c-1", &list).field("sub_order_list", &format!("{{{PAYER}"));
    for text in [text, refund, combined, reveal::v2_payment(&odd.body(), &RING).unwrap()] {
        assert!(!text.contains(PAYER) && !text.contains("0403"), "{text}");
    }
}

#[test]
fn nothing_that_is_shown_steers_a_terminal_or_makes_up_a_line() {
    let hostile = "\u{1b}[2J\u{9b}31m\u{202e}\u{2066}\r\ntotal_fee = \"1\"";
    let without_c0 = "\u{9b}31m\u{202e}\u{2066}\ntotal_fee = \"1\"";
    let event = Event::payment("order-1").set("/attach", json!(hostile)).set(&format!("/{hostile}"), json!(1));
    let texts = [
        reveal::v3(&event.post().body, MERCHANT, &RING).unwrap(),
        reveal::v2_payment(&Callback::payment("order-1").field("attach", without_c0).body(), &RING).unwrap(),
    ];
    for text in texts {
        let steers = |character: char| character.is_control() || "\u{202e}\u{2066}".contains(character);
        assert!(!text.lines().any(|line| line.contains(steers)), "{text:?}");
        assert!(!text.lines().any(|line| line == "total_fee = \"1\""), "{text}");
    }
}

#[test]
fn a_duplicate_member_is_shown_twice() {
    let event = json!({"mchid": MERCHANT, "amount": {"total": 1}})
        .to_string()
        .replace("\"total\":1", "\"total\":1,\"total\":2");
    let body = sealed(&event);
    let text = reveal::v3(&body, MERCHANT, &RING).unwrap();
    assert!(text.contains("amount.total = 1\n") && text.contains("amount.total = 2\n"), "{text}");
    assert!(matches!(reveal::v3(&sealed("not JSON"), MERCHANT, &RING), Err(RevealError::NotJson)));
    assert_eq!(glance::v3(&sealed("not JSON"), MERCHANT, &RING).len(), 1);
}

fn sealed(resource: &str) -> Vec<u8> {
    let (key, nonce) = (kit::merchants::V3_KEY, "nonce-of-12b");
    let ciphertext = signer::seal_resource(key, nonce, "", resource.as_bytes()).unwrap();
    let resource = json!({"original_type": "transaction", "algorithm": "AEAD_AES_256_GCM", "ciphertext": ciphertext, "nonce": nonce});
    json!({"event_type": "TRANSACTION.SUCCESS", "resource": resource}).to_string().into_bytes()
}

fn numbers(glance: &Glance) -> (Option<&str>, Option<&str>, Option<&str>, Option<i64>) {
    (
        glance.mch_id.as_ref().map(MchId::as_str),
        glance.out_trade_no.as_ref().map(OutTradeNo::as_str),
        glance.transaction_id.as_ref().map(TransactionId::as_str),
        glance.amount_minor,
    )
}
