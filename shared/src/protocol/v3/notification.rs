//! An opened v3 resource → notification: payments, refunds, and events about no order; `combined` reads combined orders.
//!
//! Mainland and global shapes are read by the same functions: `id` or `transaction_id`, `mchid` or `sp_mchid` with
//! `sub_mchid`, `appid` or `sp_appid` with `sub_appid`. `amount.total` in `amount.currency` is the order's price;
//! `payer_total` is the payer's own money after coupons and conversion and is never compared. Unknown fields are ignored.
//! Sources: pay.weixin.qq.com/doc/v3/merchant/4012791861 (payment), /4012791865 (refund), /doc/global/v3/zh/4012354982.

use serde::Deserialize;

use super::combined;
use super::resource::Event;
use crate::domain::ids::{AppId, MchId, OutRefundNo, OutTradeNo, RefundId, SubMchId, TransactionId};
use crate::domain::money::{Currency, Money};
use crate::domain::notification::{
    Notification, Other, Payment, PaymentResult, PaymentSuccess, RefundResult, ReportedRefund,
};
use crate::protocol::error::{DecodeError, Part};
use crate::protocol::json::{optional, parse_time, required, sum};
use crate::protocol::keys::Merchant;
use crate::protocol::trade_state::TradeState;

/// The type of the event for a paid order, and of others.
const PAID: &str = "TRANSACTION.SUCCESS";

/// Which shop and app a resource is about; the same fields in payments and refunds.
#[derive(Deserialize)]
struct Parties {
    mchid: Option<String>,
    sp_mchid: Option<String>,
    sub_mchid: Option<String>,
    appid: Option<String>,
    sp_appid: Option<String>,
    sub_appid: Option<String>,
}

#[derive(Deserialize)]
struct PaymentResource {
    #[serde(flatten)]
    parties: Parties,
    out_trade_no: Option<String>,
    id: Option<String>,
    transaction_id: Option<String>,
    trade_state: Option<String>,
    success_time: Option<String>,
    amount: Option<PaymentAmount>,
}

#[derive(Deserialize)]
struct PaymentAmount {
    total: Option<i64>,
    currency: Option<String>,
}

#[derive(Deserialize)]
struct RefundResource {
    #[serde(flatten)]
    parties: Parties,
    out_trade_no: Option<String>,
    transaction_id: Option<String>,
    out_refund_no: Option<String>,
    refund_id: Option<String>,
    refund_status: Option<String>,
    success_time: Option<String>,
    amount: Option<RefundAmount>,
}

#[derive(Deserialize)]
struct RefundAmount {
    total: Option<i64>,
    refund: Option<i64>,
    currency: Option<String>,
}

/// The notification in a resource that a key of `merchant` has opened. `TRANSACTION.SUCCESS` is also the name of events that
/// pay nothing (profit sharing), so the kind of the resource counts as well.
///
/// # Errors
/// Names the first field that is missing or malformed, of the callback as a whole: a sub-order has its own error.
/// [`DecodeError::UnknownKind`] if it may be about an order in a way that this version does not know.
pub fn decode(event: &Event, merchant: &Merchant) -> Result<Vec<Part>, DecodeError> {
    let (name, resource, mch_id) = (event.name.as_str(), &event.resource, merchant.mch_id());
    if name == PAID && combined::is_combined(resource) {
        return combined::decode(resource, merchant);
    }
    let other = || Ok(Notification::Other(Other { mch_id: mch_id.clone() }));
    let notification = match (name, event.original_type.as_str(), refund_status(name)) {
        (PAID, "transaction", _) => decode_payment(resource, mch_id),
        (_, "refund", Some(status)) => decode_refund(resource, mch_id, status),
        (PAID, "", _) | (_, "", Some(_)) => decode_by_shape(name, resource, mch_id),
        // Profit sharing pays no order, and a failed deduction moves no money.
        (PAID, "profitsharing", _) | ("TRANSACTION.FAIL", _, _) => other(),
        _ if is_about_orders(name) => Err(DecodeError::UnknownKind),
        _ => other(),
    };
    Ok(vec![Ok(notification?)])
}

/// The result of a refund, according to the type of its event.
fn refund_status(event: &str) -> Option<&str> {
    event.strip_prefix("REFUND.").filter(|status| matches!(*status, "SUCCESS" | "ABNORMAL" | "CLOSED"))
}

/// All events about orders have such names. If money may have moved, it is better that an operator looks than that the event
/// is taken for something else.
fn is_about_orders(event: &str) -> bool {
    let family = event.split('.').next().unwrap_or_default();
    ["", "TRANSACTION", "REFUND"].iter().any(|name| family.eq_ignore_ascii_case(name))
}

/// Some callbacks lack the kind of their resource (for example parking): a resource that is complete as exactly one kind is of
/// that kind.
fn decode_by_shape(event: &str, resource: &[u8], mch_id: &MchId) -> Result<Notification, DecodeError> {
    let status = refund_status(event);
    let refund = decode_refund(resource, mch_id, status.unwrap_or("SUCCESS"));
    match (status, decode_payment(resource, mch_id), refund) {
        (None, Ok(payment), Err(_)) if payment.transaction_id().is_some() => Ok(payment),
        (Some(_), Err(_), Ok(refund)) => Ok(refund),
        _ => Err(DecodeError::Missing("original_type")),
    }
}

fn decode_payment(resource: &[u8], mch_id: &MchId) -> Result<Notification, DecodeError> {
    let payment: PaymentResource =
        serde_json::from_slice(resource).map_err(|_| DecodeError::Malformed("the resource of a payment"))?;
    payment.parties.expect(mch_id)?;
    let result = match required("trade_state", payment.trade_state.as_deref(), TradeState::parse)? {
        TradeState::Paid => {
            let amount = payment.amount.as_ref().ok_or(DecodeError::Missing("amount"))?;
            PaymentResult::Success(PaymentSuccess {
                transaction_id: transaction_id(payment.id.as_deref(), payment.transaction_id.as_deref())?,
                total: Money {
                    amount_minor: sum("amount.total", amount.total)?,
                    currency: optional("amount.currency", amount.currency.as_deref(), Currency::parse)?
                        .unwrap_or(Currency::CNY),
                },
                paid_at: required("success_time", payment.success_time.as_deref(), parse_time)?,
            })
        }
        TradeState::NotPaid => PaymentResult::NotSuccessful,
    };
    let out_trade_no = optional("out_trade_no", payment.out_trade_no.as_deref(), OutTradeNo::parse)?;
    if out_trade_no.is_none() && result != PaymentResult::NotSuccessful {
        return Err(DecodeError::Missing("out_trade_no"));
    }
    Ok(Notification::Payment(Payment {
        mch_id: mch_id.clone(),
        sub_mch_id: payment.parties.sub_mch_id()?,
        app_id: payment.parties.app_id()?,
        sub_app_id: payment.parties.sub_app_id()?,
        out_trade_no,
        result,
    }))
}

/// `status` comes from the event's type; the sealed resource has to agree.
fn decode_refund(resource: &[u8], mch_id: &MchId, status: &str) -> Result<Notification, DecodeError> {
    let refund: RefundResource =
        serde_json::from_slice(resource).map_err(|_| DecodeError::Malformed("the resource of a refund"))?;
    refund.parties.expect(mch_id)?;
    let amount = refund.amount.as_ref().ok_or(DecodeError::Missing("amount"))?;
    let result = match refund.refund_status.as_deref() {
        None => return Err(DecodeError::Missing("refund_status")),
        Some(sealed) if sealed != status => return Err(DecodeError::Malformed("refund_status")),
        Some("SUCCESS") => {
            RefundResult::Succeeded(required("success_time", refund.success_time.as_deref(), parse_time)?)
        }
        Some("ABNORMAL") => RefundResult::Abnormal,
        Some(_) => RefundResult::Closed,
    };
    Ok(Notification::Refund(ReportedRefund {
        mch_id: mch_id.clone(),
        sub_mch_id: refund.parties.sub_mch_id()?,
        app_id: refund.parties.app_id()?,
        sub_app_id: refund.parties.sub_app_id()?,
        out_trade_no: required("out_trade_no", refund.out_trade_no.as_deref(), OutTradeNo::parse)?,
        transaction_id: required("transaction_id", refund.transaction_id.as_deref(), TransactionId::parse)?,
        out_refund_no: required("out_refund_no", refund.out_refund_no.as_deref(), OutRefundNo::parse)?,
        refund_id: required("refund_id", refund.refund_id.as_deref(), RefundId::parse)?,
        total_minor: sum("amount.total", amount.total)?,
        amount_minor: above_zero("amount.refund", amount.refund)?,
        currency: optional("amount.currency", amount.currency.as_deref(), Currency::parse)?,
        result,
    }))
}

impl Parties {
    /// The sealed resource must name the merchant whose key opened it.
    fn expect(&self, mch_id: &MchId) -> Result<(), DecodeError> {
        let named: Vec<&str> = [&self.mchid, &self.sp_mchid].into_iter().flatten().map(String::as_str).collect();
        match named.as_slice() {
            [] => Err(DecodeError::Missing("mchid")),
            named if named.iter().all(|name| *name == mch_id.as_str()) => Ok(()),
            _ => Err(DecodeError::OtherMerchant),
        }
    }

    fn sub_mch_id(&self) -> Result<Option<SubMchId>, DecodeError> {
        optional("sub_mchid", self.sub_mchid.as_deref(), SubMchId::parse)
    }

    fn app_id(&self) -> Result<Option<AppId>, DecodeError> {
        match &self.appid {
            Some(app_id) => optional("appid", Some(app_id), AppId::parse),
            None => optional("sp_appid", self.sp_appid.as_deref(), AppId::parse),
        }
    }

    fn sub_app_id(&self) -> Result<Option<AppId>, DecodeError> {
        optional("sub_appid", self.sub_appid.as_deref(), AppId::parse)
    }
}

/// Global documents call it `id`, mainland ones `transaction_id`; if both are present, they must be equal.
fn transaction_id(id: Option<&str>, transaction_id: Option<&str>) -> Result<TransactionId, DecodeError> {
    if let (Some(one), Some(other)) = (id, transaction_id)
        && one != other
    {
        return Err(DecodeError::Malformed("transaction_id"));
    }
    required("transaction_id", transaction_id.or(id), TransactionId::parse)
}

/// A refund of nothing is malformed.
fn above_zero(name: &'static str, amount_minor: Option<i64>) -> Result<i64, DecodeError> {
    match sum(name, amount_minor)? {
        0 => Err(DecodeError::Malformed(name)),
        amount_minor => Ok(amount_minor),
    }
}
