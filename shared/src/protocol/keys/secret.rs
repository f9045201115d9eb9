//! One secret key of a merchant.

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::id::{KeyId, Purpose};
use crate::domain::ids::MchId;

/// The longest API key accepted, in bytes; WeChat Pay's own have 32.
const KEY_BYTES_MAX: usize = 128;
/// An APIv3 key is used as an AES-256 key as it is.
const V3_KEY_BYTES: usize = 32;
/// How many hex digits of a key's SHA-256 make its fingerprint.
const FINGERPRINT_DIGITS: usize = 8;

/// A secret of a merchant.
#[derive(Debug)]
pub struct Key {
    id: KeyId,
    secret: SecretString,
    is_retired: bool,
}

/// Why a text cannot be a key. Never shows the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There is no text.
    #[error("the key is empty")]
    Empty,
    /// It is longer than `KEY_BYTES_MAX`.
    #[error("the key is longer than {KEY_BYTES_MAX} bytes")]
    TooLong,
    /// It has a blank, a control character or a character outside ASCII.
    #[error("the key contains characters that no API key has")]
    Characters,
    /// An APIv3 key of another length; the actual one is given.
    #[error("an APIv3 key has {V3_KEY_BYTES} bytes, this one has {0}")]
    V3Length(usize),
}

impl Key {
    /// The key of `mch_id` for `purpose`.
    ///
    /// # Errors
    /// Says why `secret` cannot be a key.
    pub fn new(mch_id: &MchId, purpose: Purpose, secret: SecretString, is_retired: bool) -> Result<Self, KeyError> {
        let bytes = secret.expose_secret().as_bytes();
        match bytes.len() {
            0 => return Err(KeyError::Empty),
            length if length > KEY_BYTES_MAX => return Err(KeyError::TooLong),
            _ if !bytes.iter().all(u8::is_ascii_graphic) => return Err(KeyError::Characters),
            length if purpose == Purpose::V3 && length != V3_KEY_BYTES => return Err(KeyError::V3Length(length)),
            _ => {}
        }
        let name = hex::encode(Sha256::digest(bytes)).chars().take(FINGERPRINT_DIGITS).collect();
        Ok(Self { id: KeyId { mch_id: mch_id.clone(), purpose, name }, secret, is_retired })
    }

    /// Identifies the key without showing it.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// The key itself.
    #[must_use]
    pub fn secret(&self) -> &SecretString {
        &self.secret
    }

    /// Whether it is kept only for callbacks that are queued or waiting.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.is_retired
    }
}
