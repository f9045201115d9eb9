//! What can be read of an authentic callback that could not be decoded: for the columns by which an operator finds it, and
//! for nothing else. No decision depends on it, because the sender may have cut the fields differently from how they were
//! signed ([`AmbiguousSignature`](super::v2::signed::AmbiguousSignature)).
//!
//! Each function returns nothing for a callback that is not authentic under this ring, and otherwise one [`Glance`] for each
//! part that decoding has or would have.

use super::json::Node;
use super::keys::{KeyRing, Merchant};
use super::limits::SUB_ORDERS_MAX;
use super::v2::fields::parse_amount;
use super::v2::xml::Fields;
use super::v2::{self, payment, refund};
use super::v3::resource;
use crate::domain::ids::{MchId, OutTradeNo, SubMchId, TransactionId};
use crate::domain::money::Currency;

/// The fields that could be read; those that are absent or malformed are `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Glance {
    /// The merchant; for a sub-order of a combined order, the sub-order's.
    pub mch_id: Option<MchId>,
    /// The shop behind an institution.
    pub sub_mch_id: Option<SubMchId>,
    /// The merchant's number for the order.
    pub out_trade_no: Option<OutTradeNo>,
    /// WeChat Pay's number for the payment.
    pub transaction_id: Option<TransactionId>,
    /// The amount that was paid or refunded, in the smallest unit of its currency.
    pub amount_minor: Option<i64>,
    /// The currency, if it is named.
    pub currency: Option<Currency>,
}

/// Of a v2 payment or combined order.
#[must_use]
pub fn v2_payment(body: &[u8], ring: &KeyRing) -> Vec<Glance> {
    let Ok(payment) = payment::authenticate(body, ring) else { return Vec::new() };
    let fields = payment.content.accepted_by_operator();
    let sub_orders = v2::combined::sub_orders(&fields).unwrap_or_default();
    if (1..=SUB_ORDERS_MAX).contains(&sub_orders.len()) {
        return sub_orders.iter().map(from_v2_sub_order).collect();
    }
    vec![Glance {
        amount_minor: fields.get("total_fee").and_then(parse_amount),
        currency: fields.get("fee_type").and_then(Currency::parse),
        ..from_v2_fields(&fields, &fields, payment.merchant)
    }]
}

/// Of a v2 refund.
#[must_use]
pub fn v2_refund(body: &[u8], ring: &KeyRing) -> Vec<Glance> {
    let Ok(refund) = refund::authenticate(body, ring) else { return Vec::new() };
    let (outer, sealed) = (refund.content.outer(), refund.content.sealed());
    let amount_minor = sealed.get("refund_fee").and_then(parse_amount);
    vec![Glance { amount_minor, ..from_v2_fields(outer, sealed, refund.merchant) }]
}

/// Of a v3 callback to `mch_id`, whatever it is about.
#[must_use]
pub fn v3(body: &[u8], mch_id: &str, ring: &KeyRing) -> Vec<Glance> {
    let Ok(event) = resource::open(body, mch_id, ring) else { return Vec::new() };
    let of_merchant = Glance { mch_id: Some(event.merchant.mch_id().clone()), ..Glance::default() };
    let Ok(resource) = serde_json::from_slice::<Node>(&event.content.resource) else { return vec![of_merchant] };
    match resource.member("sub_orders") {
        Some(Node::List(sub_orders)) if (1..=SUB_ORDERS_MAX).contains(&sub_orders.len()) => {
            sub_orders.iter().map(from_v3_sub_order).collect()
        }
        _ => vec![Glance { mch_id: of_merchant.mch_id, ..from_v3_resource(&resource) }],
    }
}

fn from_v2_fields(outer: &Fields<'_>, inner: &Fields<'_>, merchant: &Merchant) -> Glance {
    Glance {
        mch_id: Some(merchant.mch_id().clone()),
        sub_mch_id: outer.get("sub_mch_id").and_then(SubMchId::parse),
        out_trade_no: inner.get("out_trade_no").and_then(OutTradeNo::parse),
        transaction_id: inner.get("transaction_id").and_then(TransactionId::parse),
        ..Glance::default()
    }
}

fn from_v2_sub_order(sub_order: &Node) -> Glance {
    Glance {
        mch_id: sub_order.text("mch_id").and_then(MchId::parse),
        sub_mch_id: sub_order.text("sub_mch_id").and_then(SubMchId::parse),
        out_trade_no: sub_order.text("out_trade_no").and_then(OutTradeNo::parse),
        transaction_id: sub_order.text("transaction_id").and_then(TransactionId::parse),
        amount_minor: sub_order.whole("total_fee").or_else(|| sub_order.text("total_fee").and_then(parse_amount)),
        currency: sub_order.text("fee_type").and_then(Currency::parse),
    }
}

fn from_v3_sub_order(sub_order: &Node) -> Glance {
    let amount = sub_order.member("amount");
    Glance {
        mch_id: sub_order.text("mchid").and_then(MchId::parse),
        amount_minor: amount.and_then(|amount| amount.whole("total_amount")),
        ..from_v3_resource(sub_order)
    }
}

fn from_v3_resource(resource: &Node) -> Glance {
    let amount = resource.member("amount");
    Glance {
        mch_id: None,
        sub_mch_id: resource.text("sub_mchid").and_then(SubMchId::parse),
        out_trade_no: resource.text("out_trade_no").and_then(OutTradeNo::parse),
        transaction_id: resource.text("transaction_id").or(resource.text("id")).and_then(TransactionId::parse),
        amount_minor: amount.and_then(|amount| amount.whole("refund").or(amount.whole("total"))),
        currency: amount.and_then(|amount| amount.text("currency")).and_then(Currency::parse),
    }
}
