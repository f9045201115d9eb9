//! The digests under which API v2 signs.

/// The digest of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignType {
    /// `MD5`: 32 hex digits.
    Md5,
    /// `HMAC-SHA256`: 64 hex digits.
    HmacSha256,
}

impl SignType {
    /// `None` for anything but the two names that WeChat Pay documents.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "MD5" => Some(Self::Md5),
            "HMAC-SHA256" => Some(Self::HmacSha256),
            _ => None,
        }
    }

    /// The name in `sign_type` and in the merchants file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::HmacSha256 => "HMAC-SHA256",
        }
    }

    /// The digest that makes signatures of this length.
    pub(in crate::protocol) fn from_length(sign: &str) -> Option<Self> {
        match sign.len() {
            32 => Some(Self::Md5),
            64 => Some(Self::HmacSha256),
            _ => None,
        }
    }
}
