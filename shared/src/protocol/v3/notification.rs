//! An opened v3 resource → notification: payments, refunds, and everything that is about no order.
//!
//! Mainland and global shapes are read by the same functions: `id` or `transaction_id`, `mchid` or `sp_mchid` with
//! `sub_mchid`, `appid` or `sp_appid` with `sub_appid`. `amount.total` in `amount.currency` is the order's price;
//! `payer_total` is the payer's own money after coupons and conversion and is never compared. Unknown fields are left alone.
//! Sources: pay.weixin.qq.com/doc/v3/merchant/4012791861 (payment), /4012791865 (refund), /doc/global/v3/zh/4012354982.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::resource::Event;
use crate::domain::ids::{AppId, MchId, OutRefundNo, OutTradeNo, RefundId, SubMchId, TransactionId};
use crate::domain::money::{Currency, Money};
use crate::domain::notification::{
    Notification, Other, Payment, PaymentResult, PaymentSuccess, RefundResult, ReportedRefund,
};
use crate::protocol::DecodeError;

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

/// What an opened resource says, to the merchant whose key opened it. `TRANSACTION.SUCCESS` is also the name of events that
/// pay nothing (profit sharing), so that the kind of the resource counts as well.
///
/// # Errors
/// Names the first field that is missing or malformed.
pub fn decode(event: &Event, mch_id: &MchId) -> Result<Notification, DecodeError> {
    match (event.name.as_str(), event.original_type.as_str()) {
        ("TRANSACTION.SUCCESS", _) if is_combined(&event.resource) => Err(DecodeError::CombinedOrder),
        ("TRANSACTION.SUCCESS", "transaction") => decode_payment(&event.resource, mch_id),
        ("REFUND.SUCCESS", "refund") => decode_refund(&event.resource, mch_id, "SUCCESS"),
        ("REFUND.ABNORMAL", "refund") => decode_refund(&event.resource, mch_id, "ABNORMAL"),
        ("REFUND.CLOSED", "refund") => decode_refund(&event.resource, mch_id, "CLOSED"),
        // Money may have moved: better a person looks than that it is taken for something else.
        ("TRANSACTION.SUCCESS" | "REFUND.SUCCESS" | "REFUND.ABNORMAL" | "REFUND.CLOSED", "") => {
            Err(DecodeError::Missing("original_type"))
        }
        _ => Ok(Notification::Other(Other { mch_id: mch_id.clone() })),
    }
}

/// Several orders paid in one go, under whatever kind of resource.
fn is_combined(resource: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Combined {
        sub_orders: Option<IgnoredAny>,
    }
    serde_json::from_slice::<Combined>(resource).is_ok_and(|resource| resource.sub_orders.is_some())
}

fn decode_payment(resource: &[u8], mch_id: &MchId) -> Result<Notification, DecodeError> {
    let payment: PaymentResource =
        serde_json::from_slice(resource).map_err(|_| DecodeError::Malformed("the resource of a payment"))?;
    payment.parties.expect(mch_id)?;
    let result = match payment.trade_state.as_deref() {
        None => return Err(DecodeError::Missing("trade_state")),
        Some("SUCCESS") => {
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
        Some(_) => PaymentResult::NotSuccessful,
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

/// `status` is what the event's type says; the sealed resource has to say the same.
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

/// Global documents call it `id`, mainland ones `transaction_id`; where both are there, they are equal.
fn transaction_id(id: Option<&str>, transaction_id: Option<&str>) -> Result<TransactionId, DecodeError> {
    if let (Some(one), Some(other)) = (id, transaction_id)
        && one != other
    {
        return Err(DecodeError::Malformed("transaction_id"));
    }
    required("transaction_id", transaction_id.or(id), TransactionId::parse)
}

fn required<T>(name: &'static str, text: Option<&str>, parse: impl Fn(&str) -> Option<T>) -> Result<T, DecodeError> {
    optional(name, text, parse)?.ok_or(DecodeError::Missing(name))
}

/// An empty value is an absent one, as in v2.
fn optional<T>(
    name: &'static str,
    text: Option<&str>,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, DecodeError> {
    let text = text.filter(|text| !text.is_empty());
    text.map(|text| parse(text).ok_or(DecodeError::Malformed(name))).transpose()
}

fn sum(name: &'static str, amount_minor: Option<i64>) -> Result<i64, DecodeError> {
    let amount_minor = amount_minor.ok_or(DecodeError::Missing(name))?;
    if amount_minor < 0 { Err(DecodeError::Malformed(name)) } else { Ok(amount_minor) }
}

/// Nothing is no refund.
fn above_zero(name: &'static str, amount_minor: Option<i64>) -> Result<i64, DecodeError> {
    match sum(name, amount_minor)? {
        0 => Err(DecodeError::Malformed(name)),
        amount_minor => Ok(amount_minor),
    }
}

/// RFC 3339, with whatever offset.
fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc())
}
