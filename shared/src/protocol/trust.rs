//! What is proved and what is not, as types.

use super::keys::{KeyId, Merchant};

/// Content that anyone may have sent.
#[derive(Debug)]
pub struct Unverified<T>(pub(super) T);

/// Content that a key has proved to be WeChat Pay's.
#[derive(Debug)]
#[non_exhaustive]
pub struct Authentic<'ring, T> {
    /// The content that was proved.
    pub content: T,
    /// The owner of the key: the merchant, the institution, or the merchant that combined the orders.
    pub merchant: &'ring Merchant,
    /// The key.
    pub key: &'ring KeyId,
}
