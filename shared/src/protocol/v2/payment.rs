//! The v2 payment callback: authenticated by its signature, decoded from verified fields only.
//!
//! Source: pay.weixin.qq.com/doc/v2/merchant/4011937248. `total_fee` in `fee_type` is the order's price; `cash_fee` is the payer's own money after coupons and conversion
//! and is never compared.

use super::claim::{AuthenticateError, claimed_merchant};
use super::combined::{self, COMBINE_MCH_ID};
use super::fields::{TIME_END_FORMAT, optional, parse_amount, parse_china_time, required};
use super::signed::Signed;
use super::state::state_of;
use super::xml::{self, Fields, XmlError, escaped_bytes};
use crate::domain::ids::{AppId, MchId, OutTradeNo, SubMchId, TransactionId};
use crate::domain::money::{Currency, Money};
use crate::domain::notification::{Notification, Other, Payment, PaymentResult, PaymentSuccess};
use crate::protocol::error::{DecodeError, Part};
use crate::protocol::keys::{KeyRing, Merchant};
use crate::protocol::limits::SINGLE_BODY_BYTES_MAX;
use crate::protocol::trade_state::TradeState;
use crate::protocol::trust::Authentic;

/// Fields of every payment of an order, and of no callback about something else.
const OF_AN_ORDER: [&str; 3] = ["transaction_id", "out_trade_no", "total_fee"];
/// The kinds of v2 callbacks that are not about an order, each by the fields that only it has: events of a service order (`PayScore`; its
/// payments are read by its own interface), contracts, risks, and the number plates of parking.
const ABOUT_NO_ORDER: [&[&str]; 5] = [
    &["event_type", "event_ciphertext"],
    &["change_type", "contract_id", "contract_code"],
    &["change_type", "contract_id", "plan_id"],
    &["risk_level", "transaction_id_list"],
    &["plate_number", "vehicle_event_createtime"],
];

/// The fields of a payment callback, once a key of the merchant that it names has made their signature. A combined order
/// names the merchant that combined it.
///
/// # Errors
/// [`AuthenticateError::UnknownMerchant`] and a signature that differs may also mean that this process does not have the
/// newest merchants file yet.
pub fn authenticate<'body, 'ring>(
    body: &'body [u8],
    ring: &'ring KeyRing,
) -> Result<Authentic<'ring, Signed<'body>>, AuthenticateError> {
    let unverified = xml::read(body)?;
    if body.len() > SINGLE_BODY_BYTES_MAX && !combined::is_combined(unverified.inner()) {
        return Err(XmlError::TooLarge.into());
    }
    unverified.within_reason(body, |_, value| escaped_bytes(value))?;
    let merchant = claimed_merchant(&unverified, &["mch_id", COMBINE_MCH_ID], ring)?;
    Ok(unverified.verify(merchant)?)
}

/// The notification in verified fields that a key of `merchant` has signed. Unknown fields are ignored: WeChat Pay adds new
/// ones.
///
/// # Errors
/// Names the first field that is missing or malformed, of the callback as a whole: a sub-order has its own error.
pub fn decode(fields: &Fields<'_>, merchant: &Merchant) -> Result<Vec<Part>, DecodeError> {
    if combined::is_combined(fields) {
        return combined::decode(fields, merchant);
    }
    let has = |name: &&str| fields.get(name).is_some();
    let is_about_no_order = ABOUT_NO_ORDER.iter().any(|kind| kind.iter().all(has)) && !OF_AN_ORDER.iter().any(has);
    let notification = if is_about_no_order {
        Notification::Other(Other { mch_id: required(fields, "mch_id", MchId::parse)? })
    } else {
        Notification::Payment(decode_payment(fields)?)
    };
    Ok(vec![Ok(notification)])
}

fn decode_payment(fields: &Fields<'_>) -> Result<Payment, DecodeError> {
    let result = match state_of(fields)? {
        TradeState::Paid => PaymentResult::Success(decode_success(fields)?),
        TradeState::NotPaid => PaymentResult::NotSuccessful,
    };
    Ok(Payment {
        mch_id: required(fields, "mch_id", MchId::parse)?,
        sub_mch_id: optional(fields, "sub_mch_id", SubMchId::parse)?,
        app_id: optional(fields, "appid", AppId::parse)?,
        sub_app_id: optional(fields, "sub_appid", AppId::parse)?,
        out_trade_no: match result {
            PaymentResult::Success(_) => Some(required(fields, "out_trade_no", OutTradeNo::parse)?),
            PaymentResult::NotSuccessful => optional(fields, "out_trade_no", OutTradeNo::parse)?,
        },
        result,
    })
}

fn decode_success(fields: &Fields<'_>) -> Result<PaymentSuccess, DecodeError> {
    Ok(PaymentSuccess {
        transaction_id: required(fields, "transaction_id", TransactionId::parse)?,
        total: Money {
            amount_minor: required(fields, "total_fee", parse_amount)?,
            currency: optional(fields, "fee_type", Currency::parse)?.unwrap_or(Currency::CNY),
        },
        paid_at: required(fields, "time_end", |text| parse_china_time(text, TIME_END_FORMAT))?,
    })
}
