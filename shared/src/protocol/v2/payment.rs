//! The v2 payment callback: authenticated by its signature, decoded from verified fields only.
//!
//! Source: pay.weixin.qq.com/doc/v2/merchant/4011937248. `return_code` is about transport alone; `result_code` and,
//! where present, `trade_state` say whether the payer paid. `total_fee` in `fee_type` is the order's price; `cash_fee`
//! is the payer's own money after coupons and conversion and is never compared.

use chrono::{DateTime, FixedOffset, NaiveDateTime, TimeZone, Utc};

use super::xml::{self, Fields};
use crate::domain::ids::{AppId, ID_BYTES_MAX, MchId, OutTradeNo, SubMchId, TransactionId};
use crate::domain::money::{Currency, Money};
use crate::domain::notification::{Notification, Payment, PaymentResult, PaymentSuccess};
use crate::protocol::AuthenticateError;
use crate::protocol::merchants::KeyRing;

/// `time_end` is in China's time and says so nowhere.
const CHINA_OFFSET_SECONDS: i32 = 8 * 60 * 60;

/// Why an authentic body is not a payment callback. `0` is the field's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A field that a payment has is absent or empty.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field's value has not the documented form.
    #[error("{0} is malformed")]
    Malformed(&'static str),
}

/// The fields of a payment callback, once a key of the merchant that it names has made their signature.
///
/// # Errors
/// [`AuthenticateError::UnknownMerchant`] and a signature that differs may also mean that this process has not got the
/// newest merchants file yet.
pub fn authenticate<'body>(body: &'body [u8], ring: &KeyRing) -> Result<Fields<'body>, AuthenticateError> {
    let unverified = xml::read(body)?;
    let mch_id = unverified.claimed("mch_id").ok_or(AuthenticateError::NoMerchant)?;
    let Some(merchant) = ring.merchant(mch_id) else {
        return Err(AuthenticateError::UnknownMerchant(mch_id.chars().take(ID_BYTES_MAX).collect()));
    };
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
        paid_at: required(fields, "time_end", parse_china_time)?,
    })
}

fn required<T>(fields: &Fields<'_>, name: &'static str, parse: impl Fn(&str) -> Option<T>) -> Result<T, DecodeError> {
    optional(fields, name, parse)?.ok_or(DecodeError::Missing(name))
}

fn optional<T>(
    fields: &Fields<'_>,
    name: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, DecodeError> {
    fields.get(name).map(|value| parse(value).ok_or(DecodeError::Malformed(name))).transpose()
}

/// Digits only: no sign, no point, no blanks.
fn parse_amount(text: &str) -> Option<i64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// `yyyyMMddHHmmss`, UTC+8.
fn parse_china_time(text: &str) -> Option<DateTime<Utc>> {
    if text.len() != 14 {
        return None;
    }
    let local = NaiveDateTime::parse_from_str(text, "%Y%m%d%H%M%S").ok()?;
    let china = FixedOffset::east_opt(CHINA_OFFSET_SECONDS)?;
    Some(china.from_local_datetime(&local).single()?.to_utc())
}
