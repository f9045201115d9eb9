//! The sealed part of a v2 refund: `req_info`, decrypted under the merchant's API keys.
//!
//! It is AES-256-ECB with PKCS#7 padding under the lower-case hex MD5 of the API key; documented with at most 1024
//! characters, although real ones are longer. ECB seals blocks, not the whole: what that leaves open, and why it moves no
//! money, is in `docs/decisions/0006`.

use aes::Aes256;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cipher::block_padding::Pkcs7;
use cipher::{BlockDecrypt, KeyInit};
use md5::{Digest, Md5};
use secrecy::ExposeSecret;

use super::xml::{self, Fields};
use crate::protocol::keys::{Key, Merchant};
use crate::protocol::trust::Authentic;

/// Fields of every refund: without one of these, the text decrypted by chance or is not a refund.
const COMPLETE: [&str; 7] =
    ["transaction_id", "out_trade_no", "refund_id", "out_refund_no", "total_fee", "refund_fee", "refund_status"];

/// Why a refund was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No `req_info`: WeChat Pay's own report of a failure has none.
    #[error("no req_info")]
    NoReqInfo,
    /// `req_info` is not base64 of whole blocks.
    #[error("req_info is malformed")]
    Malformed,
    /// It decrypts to a complete refund under none of the merchant's keys.
    #[error("req_info decrypts under no key of the merchant")]
    NoKeyOpens,
}

/// The sealed fields, once a key of `merchant` has opened them.
pub(super) fn open<'ring>(
    req_info: &str,
    merchant: &'ring Merchant,
) -> Result<Authentic<'ring, Fields<'static>>, OpenError> {
    let one_line: Vec<u8> = without_blanks(req_info).collect();
    let encrypted = BASE64_STANDARD.decode(one_line).map_err(|_| OpenError::Malformed)?;
    if encrypted.is_empty() || !encrypted.len().is_multiple_of(16) {
        return Err(OpenError::Malformed);
    }
    let opened = |key| open_with(key, encrypted.clone()).map(|content| Authentic { content, merchant, key: key.id() });
    merchant.v2_keys().find_map(opened).ok_or(OpenError::NoKeyOpens)
}

/// Base64 in XML may be broken into lines.
pub(super) fn without_blanks(base64: &str) -> impl Iterator<Item = u8> {
    base64.bytes().filter(|byte| !byte.is_ascii_whitespace())
}

/// A wrong key usually gives invalid padding, but one time in 256 valid padding over nonsense.
fn open_with(key: &Key, mut encrypted: Vec<u8>) -> Option<Fields<'static>> {
    // As hexadecimal text, leading zeros included: 32 bytes.
    let aes_key = hex::encode(Md5::digest(key.secret().expose_secret()));
    let plain = decrypt(aes_key.as_bytes(), &mut encrypted)?;
    let sealed = xml::read_under("root", plain).ok()?.into_inner();
    let is_complete = COMPLETE.iter().all(|name| sealed.get(name).is_some());
    is_complete.then(|| sealed.into_owned())
}

/// Undoes AES-256-ECB, in place. `None` when the key is not 32 bytes long or the padding is not PKCS#7.
#[must_use]
pub fn decrypt<'buffer>(aes_key: &[u8], encrypted: &'buffer mut [u8]) -> Option<&'buffer [u8]> {
    Aes256::new_from_slice(aes_key).ok()?.decrypt_padded::<Pkcs7>(encrypted).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_whose_md5_begins_with_zeros_keeps_them() {
        // The MD5 of "363" is 00411460f7c92d2124a67ea0f4cb5f85.
        let key = hex::encode(Md5::digest("363"));
        assert!(key.starts_with("00") && key.len() == 32);
    }
}
