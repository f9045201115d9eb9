//! The key ring: who our merchants are and which keys authenticate their callbacks.
//!
//! Parsed from `MERCHANTS_FILE` (TOML). Every live key of a merchant is valid at once: that is how keys are rotated.
//! Keys are secrets from the first line they exist; a log shows fingerprints, never keys.

use std::collections::HashMap;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::v2::signature::SignType;
use crate::domain::ids::MchId;

/// The longest v2 key accepted, in bytes; WeChat Pay's own have 32.
const KEY_BYTES_MAX: usize = 128;
/// How many hex digits of a key's SHA-256 tell it from its neighbours in a log.
const FINGERPRINT_DIGITS: usize = 8;

/// All merchants by `mch_id`.
#[derive(Debug)]
pub struct KeyRing(HashMap<String, Merchant>);

/// One merchant's keys.
#[derive(Debug)]
pub struct Merchant {
    mch_id: MchId,
    v2_keys: Vec<SecretString>,
    sign_types: Vec<SignType>,
}

/// Why a merchants file is not one. Each text says where to look; none shows a key.
#[derive(Debug, thiserror::Error)]
pub enum MerchantsError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(std::io::Error),
    /// Not the documented TOML.
    #[error("{0}")]
    Shape(String),
    /// There is no merchant in it.
    #[error("has no [[merchant]]")]
    Empty,
    /// A merchant's number is not one.
    #[error("merchant {0}: mch_id is malformed")]
    MchId(usize),
    /// A merchant stands twice.
    #[error("merchant {0} stands twice")]
    Repeated(MchId),
    /// A merchant has no key at all.
    #[error("merchant {0}: v2_keys is empty")]
    NoKey(MchId),
    /// A key cannot be had or is not one.
    #[error("merchant {mch_id}: {list}[{index}]: {problem}")]
    Key {
        /// Whose.
        mch_id: MchId,
        /// The list in the file.
        list: &'static str,
        /// Its place in the list, from 0.
        index: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A merchant accepts no digest at all.
    #[error("merchant {0}: v2_sign_types is empty")]
    NoSignType(MchId),
    /// A digest that WeChat Pay does not have.
    #[error("merchant {mch_id}: v2_sign_types knows MD5 and HMAC-SHA256, not {name}")]
    SignType {
        /// Whose.
        mch_id: MchId,
        /// What the file says.
        name: String,
    },
}

/// Who asks: an old key that moved to `v2_keys_retired` no longer opens the edge, but still opens what is queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// `ingest`: live keys only.
    Edge,
    /// `worker`: live and retired keys.
    Worker,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    merchant: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    mch_id: String,
    v2_keys: Vec<SecretString>,
    #[serde(default)]
    v2_keys_retired: Vec<SecretString>,
    v2_sign_types: Option<Vec<String>>,
}

impl KeyRing {
    /// Reads `MERCHANTS_FILE` and the `file:` and `env:` keys that it names.
    ///
    /// # Errors
    /// Says what is wrong and where.
    pub fn load(path: &Path, side: Side) -> Result<Self, MerchantsError> {
        Self::parse(&std::fs::read_to_string(path).map_err(MerchantsError::Unreadable)?, side)
    }

    /// The same from text.
    ///
    /// # Errors
    /// Says what is wrong and where.
    pub fn parse(text: &str, side: Side) -> Result<Self, MerchantsError> {
        let file: File = toml::from_str(text).map_err(|error| describe(&error, text))?;
        let mut ring = HashMap::with_capacity(file.merchant.len());
        for (index, entry) in file.merchant.into_iter().enumerate() {
            let merchant = Merchant::parse(index, &entry, side)?;
            if let Some(first) = ring.insert(entry.mch_id, merchant) {
                return Err(MerchantsError::Repeated(first.mch_id));
            }
        }
        if ring.is_empty() { Err(MerchantsError::Empty) } else { Ok(Self(ring)) }
    }

    /// The merchant with this number.
    #[must_use]
    pub fn merchant(&self, mch_id: &str) -> Option<&Merchant> {
        self.0.get(mch_id)
    }

    /// Every merchant, in no order.
    pub fn merchants(&self) -> impl Iterator<Item = &Merchant> {
        self.0.values()
    }
}

impl Merchant {
    fn parse(index: usize, entry: &Entry, side: Side) -> Result<Self, MerchantsError> {
        let mch_id = MchId::parse(&entry.mch_id).ok_or(MerchantsError::MchId(index))?;
        let mut v2_keys = resolve_all(&mch_id, "v2_keys", &entry.v2_keys)?;
        if v2_keys.is_empty() {
            return Err(MerchantsError::NoKey(mch_id));
        }
        let retired = resolve_all(&mch_id, "v2_keys_retired", &entry.v2_keys_retired)?;
        if side == Side::Worker {
            v2_keys.extend(retired);
        }
        let sign_types = match &entry.v2_sign_types {
            None => vec![SignType::Md5, SignType::HmacSha256],
            Some(names) if names.is_empty() => return Err(MerchantsError::NoSignType(mch_id)),
            Some(names) => names
                .iter()
                .map(|name| {
                    SignType::parse(name)
                        .ok_or_else(|| MerchantsError::SignType { mch_id: mch_id.clone(), name: name.clone() })
                })
                .collect::<Result<_, _>>()?,
        };
        Ok(Self { mch_id, v2_keys, sign_types })
    }

    /// Its number.
    #[must_use]
    pub fn mch_id(&self) -> &MchId {
        &self.mch_id
    }

    /// Every key that may have signed a v2 callback.
    pub fn v2_keys(&self) -> impl Iterator<Item = &SecretString> {
        self.v2_keys.iter()
    }

    /// Whether the merchant takes callbacks under this digest.
    #[must_use]
    pub fn accepts(&self, sign_type: SignType) -> bool {
        self.sign_types.contains(&sign_type)
    }

    /// Tells keys apart in a log without showing them.
    pub fn fingerprints(&self) -> impl Iterator<Item = String> {
        self.v2_keys.iter().map(|key| {
            let digest = hex::encode(Sha256::digest(key.expose_secret().as_bytes()));
            digest.chars().take(FINGERPRINT_DIGITS).collect()
        })
    }
}

/// A TOML error without the line or the value it quotes: either may be a key.
fn describe(error: &toml::de::Error, text: &str) -> MerchantsError {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count().saturating_add(1);
    let message = match error.message().split_once(": ") {
        // As in: invalid type: string "the key", expected a sequence
        Some((kind @ ("invalid type" | "invalid value" | "invalid length"), quoted)) => {
            let expected = quoted.rfind(", expected ").and_then(|at| quoted.get(at..)).unwrap_or_default();
            format!("{kind}{expected}")
        }
        _ => error.message().to_owned(),
    };
    MerchantsError::Shape(format!("line {line}: {message}"))
}

fn resolve_all(
    mch_id: &MchId,
    list: &'static str,
    sources: &[SecretString],
) -> Result<Vec<SecretString>, MerchantsError> {
    let with_place = |(index, source)| {
        resolve(source).map_err(|problem| MerchantsError::Key { mch_id: mch_id.clone(), list, index, problem })
    };
    sources.iter().enumerate().map(with_place).collect()
}

/// `file:PATH` (one trailing line end is dropped), `env:NAME`, or the key itself.
fn resolve(source: &SecretString) -> Result<SecretString, String> {
    let source = source.expose_secret();
    let key = if let Some(path) = source.strip_prefix("file:") {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        SecretString::from(text.trim_end_matches(['\r', '\n']))
    } else if let Some(name) = source.strip_prefix("env:") {
        SecretString::from(std::env::var(name).map_err(|_| format!("the variable {name} is not set"))?)
    } else {
        SecretString::from(source)
    };
    match key.expose_secret() {
        "" => Err("the key is empty".to_owned()),
        long if long.len() > KEY_BYTES_MAX => Err(format!("the key is longer than {KEY_BYTES_MAX} bytes")),
        odd if !odd.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err("the key has characters that no API key has".to_owned())
        }
        _ => Ok(key),
    }
}
