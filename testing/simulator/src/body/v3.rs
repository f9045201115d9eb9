//! The bytes of v3 callbacks, in the shapes of mainland China and of elsewhere, sealed under the merchant's APIv3 key.
//!
//! Varied where real ones vary: partners and direct merchants, `id` or `transaction_id` or both, the exchange rate in
//! either place, associated data there, empty or absent. Sources: pay.weixin.qq.com/doc/v3/merchant/4012791861 (payment),
//! /4012791865 (refund), /doc/global/v3/zh/4012354982.

use chrono::{DateTime, SecondsFormat, Utc};
use rand::Rng;
use rand::rngs::StdRng;
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::v2::nonce;
use crate::merchants::V3;
use crate::plan::{Api, Claim, Order, PayResult, PaymentClaim, RefundClaim, RefundResult};
use signer::seal_resource;

/// An event before it is sealed.
struct Event {
    name: &'static str,
    kind: &'static str,
    resource: Map<String, Value>,
}

/// The bytes of a callback of `order`.
pub fn write(claim: &Claim, order: &Order, keys: &V3, rng: &mut StdRng) -> anyhow::Result<Vec<u8>> {
    let Event { name, kind, resource } = match claim {
        Claim::Payment(payment) => of_payment(payment, order, rng),
        Claim::Refund(refund) => of_refund(refund, order, rng),
        Claim::NoOrder(name) => about_no_order(name, order),
    };
    let nonce = nonce(rng).get(..12).unwrap_or_default().to_owned();
    let associated_data = match rng.random_range(0..3) {
        0 => None,
        1 => Some(""),
        _ => Some(kind),
    };
    let plain = Value::Object(resource).to_string();
    let sealed =
        seal_resource(keys.key.expose_secret(), &nonce, associated_data.unwrap_or_default(), plain.as_bytes())?;
    let mut sealed = json!({
        "original_type": kind, "algorithm": "AEAD_AES_256_GCM", "ciphertext": sealed, "nonce": nonce,
    });
    if let (Some(associated_data), Some(members)) = (associated_data, sealed.as_object_mut()) {
        members.insert("associated_data".to_owned(), json!(associated_data));
    }
    let envelope = json!({
        "id": Uuid::from_u128(rng.random()), "create_time": "2026-11-23T10:15:31+08:00",
        "resource_type": "encrypt-resource", "event_type": name, "summary": "支付/退款", "resource": sealed,
    });
    // Some serialisers escape the slash: whoever re-writes the JSON breaks the signature.
    let text = envelope.to_string();
    Ok(if rng.random_bool(0.3) { text.replace('/', "\\/") } else { text }.into_bytes())
}

fn of_payment(claim: &PaymentClaim, order: &Order, rng: &mut StdRng) -> Event {
    let mut resource = parties(order, claim.sub_mch_id, Some(claim.app_id), rng);
    insert_transaction(&mut resource, &claim.transaction_id, order.api, rng);
    let is_success = claim.result == PayResult::Success;
    let mut amount = json!({"total": claim.amount_minor, "currency": claim.currency, "payer_total": claim.amount_minor,
        "payer_currency": claim.currency});
    if order.api == Api::V3Global {
        let rate = json!({"type": "SETTLEMENT_RATE", "rate": 700_000_000});
        let place = if rng.random_bool(0.5) { amount.as_object_mut() } else { Some(&mut resource) };
        if let Some(place) = place {
            place.insert("exchange_rate".to_owned(), rate);
        }
    }
    resource.extend([
        ("amount".to_owned(), amount),
        ("trade_type".to_owned(), json!("JSAPI")),
        ("trade_state".to_owned(), json!(if is_success { "SUCCESS" } else { "PAYERROR" })),
        ("bank_type".to_owned(), json!("OTHERS")),
        ("attach".to_owned(), json!("订单附言 & <测试>")),
        ("payer".to_owned(), json!({"openid": format!("oUpF8u{}", nonce(rng).get(..22).unwrap_or_default())})),
        ("promotion_detail".to_owned(), json!([{"promotion_id": "109519", "amount": 1, "goods_detail": []}])),
        ("success_time".to_owned(), json!(zoned(claim.paid_at))),
    ]);
    Event { name: "TRANSACTION.SUCCESS", kind: "transaction", resource }
}

fn of_refund(claim: &RefundClaim, order: &Order, rng: &mut StdRng) -> Event {
    let mut resource = parties(order, order.sub_mch_id, None, rng);
    resource.insert("transaction_id".to_owned(), json!(claim.transaction_id));
    let mut amount = json!({"total": claim.total_minor, "refund": claim.amount_minor,
        "payer_total": claim.total_minor, "payer_refund": claim.amount_minor});
    if let (Api::V3Global, Some(members)) = (order.api, amount.as_object_mut()) {
        members.insert("currency".to_owned(), json!(order.currency));
    }
    let (name, status) = match claim.result {
        RefundResult::Succeeded => ("REFUND.SUCCESS", "SUCCESS"),
        RefundResult::Abnormal => ("REFUND.ABNORMAL", "ABNORMAL"),
        RefundResult::Closed => ("REFUND.CLOSED", "CLOSED"),
    };
    resource.extend([
        ("out_refund_no".to_owned(), json!(claim.out_refund_no)),
        ("refund_id".to_owned(), json!(claim.refund_id)),
        ("refund_status".to_owned(), json!(status)),
        ("amount".to_owned(), amount),
    ]);
    if claim.result == RefundResult::Succeeded {
        resource.insert("success_time".to_owned(), json!(zoned(claim.succeeded_at)));
    }
    Event { name, kind: "refund", resource }
}

/// The name of a payment may stand over something else.
fn about_no_order(name: &'static str, order: &Order) -> Event {
    let kind = if name == "SECURITY_ECHO.SUCCESS" { "security" } else { "profitsharing" };
    let resource = json!({"mchid": order.mch_id, "out_order_no": order.out_trade_no, "transaction_id": "4200"});
    let resource = if let Value::Object(members) = resource { members } else { Map::new() };
    Event { name, kind, resource }
}

fn parties(order: &Order, sub_mch_id: Option<&str>, app_id: Option<&str>, rng: &mut StdRng) -> Map<String, Value> {
    let mut members = Map::new();
    members.insert("out_trade_no".to_owned(), json!(order.out_trade_no));
    let Some(sub_mch_id) = sub_mch_id else {
        members.insert("mchid".to_owned(), json!(order.mch_id));
        members.extend(app_id.map(|app_id| ("appid".to_owned(), json!(app_id))));
        return members;
    };
    members.insert("sp_mchid".to_owned(), json!(order.mch_id));
    members.insert("sub_mchid".to_owned(), json!(sub_mch_id));
    if let Some(app_id) = app_id {
        // An institution names its own app, and the shop's as the second one.
        let (own, second) = if rng.random_bool(0.5) { ("wx0000000000000001", Some(app_id)) } else { (app_id, None) };
        members.insert("sp_appid".to_owned(), json!(own));
        members.extend(second.map(|second| ("sub_appid".to_owned(), json!(second))));
    }
    members
}

/// Mainland documents call it `transaction_id`, global ones `id`, and some send both.
fn insert_transaction(members: &mut Map<String, Value>, transaction_id: &str, api: Api, rng: &mut StdRng) {
    let is_global = api == Api::V3Global;
    if is_global {
        members.insert("id".to_owned(), json!(transaction_id));
    }
    if !is_global || rng.random_bool(0.3) {
        members.insert("transaction_id".to_owned(), json!(transaction_id));
    }
}

fn zoned(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
