//! The signature of a v3 callback, which is in its headers: ingest verifies it before it publishes the bytes.
//!
//! Cheap checks come before RSA, so that a flood of nonsense stays cheap. Only ingest applies the clock window: a callback
//! that was stored in time stays authentic however long it is queued.
//! Source: pay.weixin.qq.com/doc/v3/merchant/4013053420.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Utc};

use crate::protocol::keys::{Merchant, PlatformKey, SERIAL_BYTES_MAX};
use crate::protocol::trust::Authentic;

/// Unix time of signing, in seconds.
pub const TIMESTAMP: &str = "Wechatpay-Timestamp";
/// Random; not the same as the resource's.
pub const NONCE: &str = "Wechatpay-Nonce";
/// RSA signature in base64.
pub const SIGNATURE: &str = "Wechatpay-Signature";
/// The serial of the key that signed.
pub const SERIAL: &str = "Wechatpay-Serial";
/// The signature algorithm; absent means [`SIGNATURE_TYPE_RSA`].
pub const SIGNATURE_TYPE: &str = "Wechatpay-Signature-Type";
/// The only algorithm for mainland and global merchants.
pub const SIGNATURE_TYPE_RSA: &str = "WECHATPAY2-SHA256-RSA2048";

/// How far WeChat Pay's clock and ours may be apart, in seconds. Repeats are signed anew, so that none is too old.
pub const CLOCK_WINDOW_SECONDS: u64 = 300;
/// The longest nonce accepted, in bytes; WeChat Pay's have 32.
const NONCE_BYTES_MAX: usize = 64;
/// The longest signature accepted, in characters of base64: one of 4096 bits has 684.
const SIGNATURE_CHARS_MAX: usize = 1024;
/// WeChat Pay occasionally sends a deliberately wrong signature, to test whether it is verified.
const PROBE_PREFIX: &str = "WECHATPAY/SIGNTEST/";

/// The headers of one callback, not verified yet.
#[derive(Debug)]
pub struct UnverifiedHeaders<'a> {
    timestamp: &'a str,
    nonce: &'a str,
    signature: &'a str,
    serial: &'a str,
    signed_at: i64,
}

/// Why a callback was not accepted as WeChat Pay's. Each variant has its own cause, and asks the operator for something
/// different.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// A header is missing, empty or duplicated: a proxy may have dropped it.
    #[error("the header {0} is missing")]
    MissingHeader(&'static str),
    /// A header does not have the documented form.
    #[error("the header {0} is malformed")]
    MalformedHeader(&'static str),
    /// Not signed with RSA and SHA-256.
    #[error("unknown signature type")]
    SignatureType,
    /// WeChat Pay's own probe: wrong on purpose. The real callback is sent separately.
    #[error("a signature probe")]
    Probe,
    /// The clocks differ by more than [`CLOCK_WINDOW_SECONDS`], or an old callback is replayed.
    #[error("signed {0} s away from now")]
    ClockSkew(u64),
    /// No key of the merchant has this serial.
    #[error("no platform key has its serial")]
    UnknownSerial,
    /// The named key did not sign these bytes; [`UnverifiedHeaders::was_altered`] says more.
    #[error("signature differs")]
    SignatureDiffers,
}

impl<'a> UnverifiedHeaders<'a> {
    /// Reads the headers; `get` returns the value of a header that occurs exactly once.
    ///
    /// # Errors
    /// Names the first header that is missing or malformed; recognises a probe.
    pub fn read(get: impl Fn(&'static str) -> Option<&'a str>) -> Result<Self, VerifyError> {
        let required = |name| get(name).filter(|value| !value.is_empty()).ok_or(VerifyError::MissingHeader(name));
        let (timestamp, nonce) = (required(TIMESTAMP)?, required(NONCE)?);
        let (serial, signature) = (required(SERIAL)?, required(SIGNATURE)?);
        if get(SIGNATURE_TYPE).is_some_and(|name| name != SIGNATURE_TYPE_RSA) {
            return Err(VerifyError::SignatureType);
        }
        if signature.starts_with(PROBE_PREFIX) {
            return Err(VerifyError::Probe);
        }
        let is_number = timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let signed_at = timestamp.parse().ok().filter(|_| is_number);
        let signed_at = signed_at.ok_or(VerifyError::MalformedHeader(TIMESTAMP))?;
        for (name, value, bytes_max) in [
            (NONCE, nonce, NONCE_BYTES_MAX),
            (SERIAL, serial, SERIAL_BYTES_MAX),
            (SIGNATURE, signature, SIGNATURE_CHARS_MAX),
        ] {
            if value.len() > bytes_max || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(VerifyError::MalformedHeader(name));
            }
        }
        Ok(Self { timestamp, nonce, signature, serial, signed_at })
    }

    /// The body, once the key that the headers name is one of the merchant's and has signed it within the clock window.
    ///
    /// # Errors
    /// Says which check failed; [`VerifyError::UnknownSerial`] may also mean a key that this process does not have yet.
    pub fn verify<'body, 'ring>(
        &self,
        body: &'body [u8],
        merchant: &'ring Merchant,
        now: DateTime<Utc>,
    ) -> Result<Authentic<'ring, &'body [u8]>, VerifyError> {
        let apart = now.timestamp().abs_diff(self.signed_at);
        if apart > CLOCK_WINDOW_SECONDS {
            return Err(VerifyError::ClockSkew(apart));
        }
        let key = self.key(merchant).ok_or(VerifyError::UnknownSerial)?;
        let signature = self.signature_of(key).ok_or(VerifyError::SignatureDiffers)?;
        let signed = [self.timestamp.as_bytes(), b"\n", self.nonce.as_bytes(), b"\n", body, b"\n"].concat();
        if key.verifies(&signed, &signature) {
            Ok(Authentic { content: body, merchant, key: key.id() })
        } else {
            Err(VerifyError::SignatureDiffers)
        }
    }

    /// Whether WeChat Pay made the signature over other bytes: the body, the timestamp or the nonce was altered in transit.
    /// Only meaningful after [`VerifyError::SignatureDiffers`], and more expensive than the verification.
    #[must_use]
    pub fn was_altered(&self, merchant: &Merchant) -> bool {
        let signed =
            |key: &PlatformKey| self.signature_of(key).is_some_and(|signature| key.signed_something(&signature));
        self.key(merchant).is_some_and(signed)
    }

    /// The evidence that is stored with the body: name and value of each header.
    #[must_use]
    pub fn evidence(&self) -> [(&'static str, &'a str); 4] {
        [(TIMESTAMP, self.timestamp), (NONCE, self.nonce), (SIGNATURE, self.signature), (SERIAL, self.serial)]
    }

    fn key<'ring>(&self, merchant: &'ring Merchant) -> Option<&'ring PlatformKey> {
        merchant.platform_keys().find(|key| key.has_serial(self.serial))
    }

    /// The signature's bytes, if their number is that of the key's signatures.
    fn signature_of(&self, key: &PlatformKey) -> Option<Vec<u8>> {
        let signature = BASE64_STANDARD.decode(self.signature).ok()?;
        (u64::try_from(signature.len()) == Ok(key.signature_bytes())).then_some(signature)
    }
}
