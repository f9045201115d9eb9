//! Whose keys to try on a v2 callback, and why none of them authenticated it.

use super::sealed::OpenError;
use super::signature::VerifyError;
use super::xml::{Fields, XmlError};
use crate::domain::ids::ID_BYTES_MAX;
use crate::protocol::keys::{KeyRing, Merchant};
use crate::protocol::trust::Unverified;

/// Why a v2 callback is not accepted as WeChat Pay's. Each variant asks the caller for something different.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticateError {
    /// It does not have the shape of a callback.
    #[error("malformed: {0}")]
    Malformed(#[from] XmlError),
    /// It names no merchant, so that no key can be chosen.
    #[error("names no mch_id")]
    NoMerchant,
    /// It names a merchant that the ring does not have.
    #[error("merchant {0} is not in the merchants file")]
    UnknownMerchant(String),
    /// A payment for a known merchant, not signed with its keys.
    #[error("not authentic: {0}")]
    NotSigned(#[from] VerifyError),
    /// A refund for a known merchant, not encrypted with its keys.
    #[error("not authentic: {0}")]
    NotOpened(#[from] OpenError),
}

/// The merchant that a body claims to be for, in the first of these fields: good for choosing keys, for nothing else.
pub(super) fn claimed_merchant<'ring>(
    unverified: &Unverified<Fields<'_>>,
    names: &[&str],
    ring: &'ring KeyRing,
) -> Result<&'ring Merchant, AuthenticateError> {
    let mch_id = names.iter().find_map(|name| unverified.claimed(name)).ok_or(AuthenticateError::NoMerchant)?;
    ring.merchant(mch_id).ok_or_else(|| AuthenticateError::UnknownMerchant(mch_id.chars().take(ID_BYTES_MAX).collect()))
}
