//! The v2 refund callback: no signature; what authenticates it is that it decrypts, under a key of the merchant that it
//! names, to a complete refund.
//!
//! Source: the refund notification of API v2. `req_info` is AES-256-ECB with PKCS#7 padding under the lower-case hex MD5
//! of the API key; documented with 1024 characters at most, real ones are longer. ECB seals blocks, not the whole: what
//! that leaves open, and why it moves no money, is in `docs/decisions/0006`.

use aes::Aes256;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cipher::block_padding::Pkcs7;
use cipher::{BlockDecrypt, KeyInit};
use md5::{Digest, Md5};
use secrecy::ExposeSecret;

use super::fields::{optional, parse_amount, parse_china_time, required};
use super::xml::{self, Fields, XmlError};
use crate::domain::ids::{AppId, MchId, OutRefundNo, OutTradeNo, RefundId, SubMchId, TransactionId};
use crate::domain::notification::{Notification, RefundResult, ReportedRefund};
use crate::protocol::merchants::key::Key;
use crate::protocol::merchants::{KeyRing, Merchant};
use crate::protocol::{Authentic, AuthenticateError, DecodeError, SINGLE_BODY_BYTES_MAX};

/// What a refund always says: without one of these it was decrypted by chance, or is no refund.
const COMPLETE: [&str; 7] =
    ["transaction_id", "out_trade_no", "refund_id", "out_refund_no", "total_fee", "refund_fee", "refund_status"];

/// A refund that decrypted to a complete one: the open fields round it, and the sealed ones.
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

    /// The fields round the sealed ones, which nothing proves.
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

/// Why a refund was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No `req_info`: WeChat Pay's own report of a failure has none.
    #[error("no req_info")]
    NoReqInfo,
    /// `req_info` is not base64 of whole blocks.
    #[error("req_info is malformed")]
    Malformed,
    /// None of the merchant's keys makes a complete refund of it.
    #[error("req_info decrypts under no key of the merchant")]
    NoKeyOpens,
}

/// The fields of a refund callback, once a key of the merchant that it names has opened them.
///
/// # Errors
/// [`AuthenticateError::UnknownMerchant`] and [`OpenError::NoKeyOpens`] may also mean that this process has not got the
/// newest merchants file yet.
pub fn authenticate<'body, 'ring>(
    body: &'body [u8],
    ring: &'ring KeyRing,
) -> Result<Authentic<'ring, RefundFields<'body>>, AuthenticateError> {
    if body.len() > SINGLE_BODY_BYTES_MAX {
        return Err(XmlError::TooLarge.into());
    }
    let unverified = xml::read(body)?;
    // Nothing but what is sealed is proved to be WeChat Pay's.
    let sealed_bytes = |name: &str, value: &str| if name == "req_info" { without_blanks(value).count() } else { 0 };
    unverified.within_reason(body, sealed_bytes)?;
    let merchant = super::claimed_merchant(&unverified, &["mch_id"], ring)?;
    let req_info = unverified.claimed("req_info").ok_or(OpenError::NoReqInfo)?;
    let Authentic { content: sealed, merchant, key } = open(req_info, merchant)?;
    Ok(Authentic { content: RefundFields { outer: unverified.into_inner(), sealed }, merchant, key })
}

fn open<'ring>(req_info: &str, merchant: &'ring Merchant) -> Result<Authentic<'ring, Fields<'static>>, OpenError> {
    let one_line: Vec<u8> = without_blanks(req_info).collect();
    let encrypted = BASE64_STANDARD.decode(one_line).map_err(|_| OpenError::Malformed)?;
    if encrypted.is_empty() || !encrypted.len().is_multiple_of(16) {
        return Err(OpenError::Malformed);
    }
    let opened = |key| open_with(key, encrypted.clone()).map(|content| Authentic { content, merchant, key: key.id() });
    merchant.v2_keys().find_map(opened).ok_or(OpenError::NoKeyOpens)
}

/// Base64 in XML may be broken into lines.
fn without_blanks(base64: &str) -> impl Iterator<Item = u8> {
    base64.bytes().filter(|byte| !byte.is_ascii_whitespace())
}

/// A wrong key mostly makes a wrong padding, one time in 256 a right one over nonsense.
fn open_with(key: &Key, mut encrypted: Vec<u8>) -> Option<Fields<'static>> {
    // As hexadecimal text, leading zeros included: 32 bytes.
    let aes_key = hex::encode(Md5::digest(key.secret().expose_secret()));
    let plain = decrypt(aes_key.as_bytes(), &mut encrypted)?;
    let sealed = xml::read_under("root", plain).ok()?.into_inner();
    let is_complete = COMPLETE.iter().all(|name| sealed.get(name).is_some());
    is_complete.then(|| sealed.into_owned())
}

/// Undoes AES-256-ECB, in place. `None` when the key has not 32 bytes or the padding is not PKCS#7.
#[must_use]
pub fn decrypt<'buffer>(aes_key: &[u8], encrypted: &'buffer mut [u8]) -> Option<&'buffer [u8]> {
    Aes256::new_from_slice(aes_key).ok()?.decrypt_padded::<Pkcs7>(encrypted).ok()
}

/// What an opened refund says. Its currency is the order's: it names none.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_whose_md5_begins_with_zeros_is_padded() {
        // The MD5 of "363" is 00411460f7c92d2124a67ea0f4cb5f85.
        let key = hex::encode(Md5::digest("363"));
        assert!(key.starts_with("00") && key.len() == 32);
    }
}
