//! The v2 payment callback: authenticated by its signature, decoded from verified fields only.
//!
//! Source: pay.weixin.qq.com/doc/v2/merchant/4011937248. `return_code` is about transport alone; `result_code` and,
//! where present, `trade_state` say whether the payer paid. `total_fee` in `fee_type` is the order's price; `cash_fee`
//! is the payer's own money after coupons and conversion and is never compared.

use super::fields::{optional, parse_amount, parse_china_time, required};
use super::xml::{self, Fields};
use crate::domain::ids::{AppId, MchId, OutTradeNo, SubMchId, TransactionId};
use crate::domain::money::{Currency, Money};
use crate::domain::notification::{Notification, Payment, PaymentResult, PaymentSuccess};
use crate::protocol::merchants::KeyRing;
use crate::protocol::{Authentic, AuthenticateError, DecodeError};

/// The fields of a payment callback, once a key of the merchant that it names has made their signature.
///
/// # Errors
/// [`AuthenticateError::UnknownMerchant`] and a signature that differs may also mean that this process has not got the
/// newest merchants file yet.
pub fn authenticate<'body, 'ring>(
    body: &'body [u8],
    ring: &'ring KeyRing,
) -> Result<Authentic<'ring, Fields<'body>>, AuthenticateError> {
    let unverified = xml::read(body)?;
    let merchant = super::claimed_merchant(&unverified, ring)?;
    Ok(unverified.verify(merchant)?)
}

/// What verified fields say. Unknown fields are left alone: WeChat Pay adds new ones.
///
/// # Errors
/// Names the first field that is missing or malformed.
pub fn decode(fields: &Fields<'_>) -> Result<Notification, DecodeError> {
    let result =
        if is_success(fields) { PaymentResult::Success(decode_success(fields)?) } else { PaymentResult::NotSuccessful };
    Ok(Notification::Payment(Payment {
        mch_id: required(fields, "mch_id", MchId::parse)?,
        sub_mch_id: optional(fields, "sub_mch_id", SubMchId::parse)?,
        app_id: optional(fields, "appid", AppId::parse)?,
        sub_app_id: optional(fields, "sub_appid", AppId::parse)?,
        out_trade_no: match result {
            PaymentResult::Success(_) => Some(required(fields, "out_trade_no", OutTradeNo::parse)?),
            PaymentResult::NotSuccessful => optional(fields, "out_trade_no", OutTradeNo::parse)?,
        },
        result,
    }))
}

fn is_success(fields: &Fields<'_>) -> bool {
    let says_success = |name| fields.get(name) == Some("SUCCESS");
    says_success("return_code")
        && says_success("result_code")
        && (fields.get("trade_state").is_none() || says_success("trade_state"))
}

fn decode_success(fields: &Fields<'_>) -> Result<PaymentSuccess, DecodeError> {
    Ok(PaymentSuccess {
        transaction_id: required(fields, "transaction_id", TransactionId::parse)?,
        total: Money {
            amount_minor: required(fields, "total_fee", parse_amount)?,
            currency: optional(fields, "fee_type", Currency::parse)?.unwrap_or(Currency::CNY),
        },
        paid_at: required(fields, "time_end", |text| parse_china_time(text, "%Y%m%d%H%M%S"))?,
    })
}
