//! API v2: XML callbacks. Payments are signed inside the body by MD5 or HMAC-SHA256 with the merchant's API key; refunds
//! are encrypted under it instead.
//!
//! Reading order: [`xml`] (bytes → unverified fields), [`signature`] (unverified → verified), [`payment`] and [`refund`]
//! (verified fields → notification).

use self::xml::Fields;
use crate::domain::ids::ID_BYTES_MAX;
use crate::protocol::merchants::{KeyRing, Merchant};
use crate::protocol::{AuthenticateError, Unverified};

mod fields;
pub mod payment;
pub mod refund;
pub mod signature;
pub mod xml;

/// The merchant that a body claims to be for: good for choosing keys, for nothing else.
fn claimed_merchant<'ring>(
    unverified: &Unverified<Fields<'_>>,
    ring: &'ring KeyRing,
) -> Result<&'ring Merchant, AuthenticateError> {
    let mch_id = unverified.claimed("mch_id").ok_or(AuthenticateError::NoMerchant)?;
    ring.merchant(mch_id).ok_or_else(|| AuthenticateError::UnknownMerchant(mch_id.chars().take(ID_BYTES_MAX).collect()))
}
