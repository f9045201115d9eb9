//! API v2: XML callbacks. Payments are signed inside the body by MD5 or HMAC-SHA256 with the merchant's API key; refunds
//! are encrypted under it instead.
//!
//! Reading order: [`xml`] (bytes → unverified fields), `claim` (whose keys to try), [`signature`] (unverified → verified),
//! [`signed`] (whether the signature proves these fields and no others), [`payment`] and `combined` (verified fields →
//! notifications), `sealed` and [`refund`] (encrypted fields → notification).

pub use self::claim::AuthenticateError;

mod claim;
pub(super) mod combined;
pub(super) mod fields;
mod names;
pub mod payment;
pub mod refund;
mod sealed;
pub mod signature;
pub mod signed;
mod state;
pub mod xml;
