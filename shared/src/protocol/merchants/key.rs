//! One key of a merchant: where it comes from, and how it is told from its neighbours without showing it.

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::domain::ids::MchId;

/// The longest API key accepted, in bytes; WeChat Pay's own have 32.
const KEY_BYTES_MAX: usize = 128;
/// An APIv3 key is the key of AES-256 as it stands.
const V3_KEY_BYTES: usize = 32;
/// How many hex digits of a key's SHA-256 tell it from its neighbours.
const FINGERPRINT_DIGITS: usize = 8;

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

/// What tells a key from all others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId {
    /// Whose.
    pub mch_id: MchId,
    /// What for.
    pub purpose: Purpose,
    /// A secret's fingerprint (the first hex digits of its SHA-256), or the serial of a platform key.
    pub name: String,
}

/// A secret of a merchant.
#[derive(Debug)]
pub struct Key {
    id: KeyId,
    secret: SecretString,
    is_retired: bool,
}

impl Key {
    /// From a source in the merchants file: `file:PATH` (one trailing line end is dropped), `env:NAME`, or the key.
    pub(super) fn resolve(
        mch_id: &MchId,
        purpose: Purpose,
        source: &SecretString,
        is_retired: bool,
    ) -> Result<Self, String> {
        let secret = resolve(source)?;
        match secret.expose_secret() {
            "" => return Err("the key is empty".to_owned()),
            long if long.len() > KEY_BYTES_MAX => return Err(format!("the key is longer than {KEY_BYTES_MAX} bytes")),
            odd if !odd.bytes().all(|byte| byte.is_ascii_graphic()) => {
                return Err("the key has characters that no API key has".to_owned());
            }
            other if purpose == Purpose::V3 && other.len() != V3_KEY_BYTES => {
                return Err(format!("an APIv3 key has {V3_KEY_BYTES} bytes, this one has {}", other.len()));
            }
            _ => {}
        }
        let digest = hex::encode(Sha256::digest(secret.expose_secret().as_bytes()));
        let name = digest.chars().take(FINGERPRINT_DIGITS).collect();
        Ok(Self { id: KeyId { mch_id: mch_id.clone(), purpose, name }, secret, is_retired })
    }

    /// What tells it from all others.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// The key itself.
    #[must_use]
    pub fn secret(&self) -> &SecretString {
        &self.secret
    }

    /// Whether it is only kept for what is queued or waiting.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.is_retired
    }
}

/// What a source in the merchants file stands for, as it is. An error does not repeat the source: behind `file:` or `env:`
/// may stand a key, when a template was filled in at the wrong place.
pub(super) fn resolve(source: &SecretString) -> Result<SecretString, String> {
    let source = source.expose_secret();
    if let Some(path) = source.strip_prefix("file:") {
        let unreadable = |error: std::io::Error| format!("the file that it names cannot be read: {error}");
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Ok(SecretString::from(text.trim_end_matches(['\r', '\n'])))
    } else if let Some(name) = source.strip_prefix("env:") {
        Ok(SecretString::from(std::env::var(name).map_err(|_| "the variable that it names is not set".to_owned())?))
    } else {
        Ok(SecretString::from(source))
    }
}
