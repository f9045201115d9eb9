//! API v2: XML callbacks. Payments are signed inside the body by MD5 or HMAC-SHA256 with the merchant's API key; refunds
//! are encrypted under it instead.
//!
//! Reading order: [`xml`] (bytes → unverified fields), [`signature`] (unverified → verified), [`signed`] (whether the
//! signature proves these fields and no others), [`payment`] and [`refund`] (verified fields → notification).

use self::xml::Fields;
use crate::domain::ids::ID_BYTES_MAX;
use crate::protocol::merchants::{KeyRing, Merchant};
use crate::protocol::{AuthenticateError, Unverified};

pub(super) mod combined;
pub(super) mod fields;
mod names;
pub mod payment;
pub mod refund;
pub mod signature;
pub mod signed;
pub mod xml;

/// The merchant that a body claims to be for, in the first of these fields: good for choosing keys, for nothing else.
fn claimed_merchant<'ring>(
    unverified: &Unverified<Fields<'_>>,
    names: &[&str],
    ring: &'ring KeyRing,
) -> Result<&'ring Merchant, AuthenticateError> {
    let mch_id = names.iter().find_map(|name| unverified.claimed(name)).ok_or(AuthenticateError::NoMerchant)?;
    ring.merchant(mch_id).ok_or_else(|| AuthenticateError::UnknownMerchant(mch_id.chars().take(ID_BYTES_MAX).collect()))
}
