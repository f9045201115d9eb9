//! The v2 refund callback. It has no signature: a callback is authentic if it decrypts, under a key of the merchant that it
//! names, to a complete refund.
//!
//! Source: the refund notification of API v2.

use super::claim::{AuthenticateError, claimed_merchant};
use super::fields::{optional, parse_amount, parse_china_time, required};
pub use super::sealed::{OpenError, decrypt};
use super::sealed::{open, without_blanks};
use super::xml::{self, Fields, XmlError};
use crate::domain::ids::{AppId, MchId, OutRefundNo, OutTradeNo, RefundId, SubMchId, TransactionId};
use crate::domain::notification::{Notification, RefundResult, ReportedRefund};
use crate::protocol::error::DecodeError;
use crate::protocol::keys::KeyRing;
use crate::protocol::limits::SINGLE_BODY_BYTES_MAX;
use crate::protocol::trust::Authentic;

/// A refund that decrypted to a complete one: the open fields around it, and the sealed ones.
#[derive(Debug)]
pub struct RefundFields<'body> {
    outer: Fields<'body>,
    sealed: Fields<'static>,
}

impl RefundFields<'_> {
    /// The merchant whose key opened it.
    #[must_use]
    pub fn mch_id(&self) -> &str {
        self.outer.get("mch_id").unwrap_or_default()
    }

    /// The open fields, which nothing proves.
    #[must_use]
    pub fn outer(&self) -> &Fields<'_> {
        &self.outer
    }

    /// The sealed fields.
    #[must_use]
    pub fn sealed(&self) -> &Fields<'static> {
        &self.sealed
    }
}

/// The fields of a refund callback, once a key of the merchant that it names has opened them.
///
/// # Errors
/// [`AuthenticateError::UnknownMerchant`] and [`OpenError::NoKeyOpens`] may also mean that this process does not have the
/// newest merchants file yet.
pub fn authenticate<'body, 'ring>(
    body: &'body [u8],
    ring: &'ring KeyRing,
) -> Result<Authentic<'ring, RefundFields<'body>>, AuthenticateError> {
    if body.len() > SINGLE_BODY_BYTES_MAX {
        return Err(XmlError::TooLarge.into());
    }
    let unverified = xml::read(body)?;
    // Only the sealed part is proved to be WeChat Pay's.
    let sealed_bytes = |name: &str, value: &str| if name == "req_info" { without_blanks(value).count() } else { 0 };
    unverified.within_reason(body, sealed_bytes)?;
    let merchant = claimed_merchant(&unverified, &["mch_id"], ring)?;
    let req_info = unverified.claimed("req_info").ok_or(OpenError::NoReqInfo)?;
    let Authentic { content: sealed, merchant, key } = open(req_info, merchant)?;
    Ok(Authentic { content: RefundFields { outer: unverified.into_inner(), sealed }, merchant, key })
}

/// The notification in an opened refund. It names no currency: its amounts are in the order's.
///
/// # Errors
/// Names the first field that is missing or malformed.
pub fn decode(refund: &RefundFields<'_>) -> Result<Notification, DecodeError> {
    let RefundFields { outer, sealed } = refund;
    let result = match sealed.get("refund_status") {
        Some("SUCCESS") => {
            let text = |time: &str| parse_china_time(time, "%Y-%m-%d %H:%M:%S");
            RefundResult::Succeeded(required(sealed, "success_time", text)?)
        }
        Some("CHANGE") => RefundResult::Abnormal,
        Some("REFUNDCLOSE") => RefundResult::Closed,
        _ => return Err(DecodeError::Malformed("refund_status")),
    };
    Ok(Notification::Refund(ReportedRefund {
        mch_id: required(outer, "mch_id", MchId::parse)?,
        sub_mch_id: optional(outer, "sub_mch_id", SubMchId::parse)?,
        app_id: optional(outer, "appid", AppId::parse)?,
        sub_app_id: optional(outer, "sub_appid", AppId::parse)?,
        out_trade_no: required(sealed, "out_trade_no", OutTradeNo::parse)?,
        transaction_id: required(sealed, "transaction_id", TransactionId::parse)?,
        out_refund_no: required(sealed, "out_refund_no", OutRefundNo::parse)?,
        refund_id: required(sealed, "refund_id", RefundId::parse)?,
        total_minor: required(sealed, "total_fee", parse_amount)?,
        amount_minor: required(sealed, "refund_fee", |text| parse_amount(text).filter(|minor| minor.is_positive()))?,
        currency: None,
        result,
    }))
}
