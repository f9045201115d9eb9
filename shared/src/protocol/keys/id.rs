//! How one key is told from another in logs and metrics, without showing it.

use crate::domain::ids::MchId;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// An API key: signs v2 payments, encrypts v2 refunds.
    V2,
    /// An APIv3 key: seals the resources of v3.
    V3,
    /// WeChat Pay's public key: verifies the signatures of v3.
    Platform,
}

impl Purpose {
    /// The name in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::V3 => "v3",
            Self::Platform => "platform",
        }
    }
}

/// Identifies a key among all keys of all merchants.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId {
    /// The merchant that lists the key.
    pub mch_id: MchId,
    /// What the key is for.
    pub purpose: Purpose,
    /// A secret's fingerprint (the first hex digits of its SHA-256), or the serial of a platform key.
    pub name: String,
}
