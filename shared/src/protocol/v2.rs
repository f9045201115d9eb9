//! API v2: XML callbacks, signed inside the body by MD5 or HMAC-SHA256 with the merchant's API key.
//!
//! Reading order: [`xml`] (bytes → unverified fields), [`signature`] (unverified → verified), [`payment`] (verified
//! fields → notification).

pub mod payment;
pub mod signature;
pub mod xml;
