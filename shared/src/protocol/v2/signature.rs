//! The v2 signature: every non-empty field but `sign`, sorted by name, joined as `name=value&`, closed by `key=KEY`,
//! under MD5 or HMAC-SHA256 (with the key as HMAC key too), as upper-case hex.
//!
//! Source: pay.weixin.qq.com, signature chapter 4.3. A missing `sign_type` follows practice instead: callbacks for orders
//! placed with HMAC-SHA256 often do not name it, so the length of `sign` decides.

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::signed::Signed;
use super::xml::Fields;
use crate::protocol::keys::{Key, Merchant, SignType};
use crate::protocol::trust::{Authentic, Unverified};

/// Why a body is not authentic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// No `sign`.
    #[error("no sign")]
    NoSign,
    /// `sign_type` is neither `MD5` nor `HMAC-SHA256`, or it is missing and `sign` has the length of neither.
    #[error("unknown digest")]
    UnknownSignType,
    /// The merchant does not accept this digest.
    #[error("the merchant does not accept {}", .0.name())]
    SignTypeNotAccepted(SignType),
    /// None of the merchant's keys makes this signature.
    #[error("signature differs under every key of the merchant")]
    SignatureDiffers,
}

impl<'body> Unverified<Fields<'body>> {
    /// The fields, once one of the merchant's keys has made their signature. Whether it proves these fields and no others
    /// is the next question: [`Signed::unambiguous`].
    ///
    /// # Errors
    /// Says which of the checks failed; [`VerifyError::SignatureDiffers`] may also mean a key that this process does not have yet.
    pub fn verify<'ring>(self, merchant: &'ring Merchant) -> Result<Authentic<'ring, Signed<'body>>, VerifyError> {
        let sign = self.claimed("sign").ok_or(VerifyError::NoSign)?;
        let sign_type = match self.claimed("sign_type") {
            Some(name) => SignType::parse(name),
            None => SignType::from_length(sign),
        }
        .ok_or(VerifyError::UnknownSignType)?;
        if !merchant.accepts(sign_type) {
            return Err(VerifyError::SignTypeNotAccepted(sign_type));
        }
        let made_it = |key: &&Key| {
            let expected = sign_fields(self.inner().iter(), key.secret(), sign_type);
            expected.as_bytes().ct_eq(sign.as_bytes()).into()
        };
        let key = merchant.v2_keys().find(made_it).ok_or(VerifyError::SignatureDiffers)?.id();
        Ok(Authentic { content: Signed::new(self.into_inner()), merchant, key })
    }
}

/// The signature of `fields` under `key`. `fields` come sorted by name in byte order; `sign` and empty ones are skipped.
pub fn sign_fields<'field>(
    fields: impl Iterator<Item = (&'field str, &'field str)>,
    key: &SecretString,
    sign_type: SignType,
) -> String {
    let key = key.expose_secret().as_bytes();
    match sign_type {
        SignType::Md5 => {
            let mut digest = Md5::new();
            feed(fields, key, |bytes| digest.update(bytes));
            hex::encode_upper(digest.finalize())
        }
        SignType::HmacSha256 => {
            let mut mac = hmac_sha256(key);
            feed(fields, key, |bytes| mac.update(bytes));
            hex::encode_upper(mac.finalize().into_bytes())
        }
    }
}

#[expect(clippy::expect_used, reason = "the error is for MACs with keys of one length; HMAC takes any")]
fn hmac_sha256(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

fn feed<'field>(fields: impl Iterator<Item = (&'field str, &'field str)>, key: &[u8], mut feed: impl FnMut(&[u8])) {
    for (name, value) in fields.filter(|(name, value)| *name != "sign" && !value.is_empty()) {
        feed(name.as_bytes());
        feed(b"=");
        feed(value.as_bytes());
        feed(b"&");
    }
    feed(b"key=");
    feed(key);
}
