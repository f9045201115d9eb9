//! The key ring: who our merchants are and which keys authenticate their callbacks.
//!
//! Parsed from `MERCHANTS_FILE` (TOML). Every live key of a merchant is valid at once: that is how keys are rotated.
//! Each program reads the keys that it needs and no others. Secrets are secrets from the first line they exist; a log
//! shows fingerprints, never keys.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use self::key::{Key, KeyId, Purpose, resolve};
use super::v2::signature::SignType;
use super::v3::platform_key::PlatformKey;
use crate::domain::ids::MchId;

pub mod key;

/// All merchants by `mch_id`.
#[derive(Debug)]
pub struct KeyRing(HashMap<String, Merchant>);

/// One merchant's keys.
#[derive(Debug)]
pub struct Merchant {
    mch_id: MchId,
    combines: Vec<MchId>,
    v2_keys: Vec<Key>,
    sign_types: Vec<SignType>,
    v3_keys: Vec<Key>,
    platform_keys: Vec<PlatformKey>,
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
    /// A merchant is listed twice.
    #[error("merchant {0} is listed twice")]
    Repeated(MchId),
    /// No callback of a merchant could be authenticated.
    #[error("merchant {mch_id}: has neither v2_keys nor {v3_list}")]
    NoKey {
        /// Whose.
        mch_id: MchId,
        /// The other list that would do.
        v3_list: &'static str,
    },
    /// What ingest accepts for a merchant, no worker could open.
    #[error("merchant {0}: has v3_platform_keys but no v3_keys to open what they verify")]
    NoV3Key(MchId),
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
    #[error("merchant {mch_id}: v2_sign_types[{index}] is neither MD5 nor HMAC-SHA256")]
    SignType {
        /// Whose.
        mch_id: MchId,
        /// Its place in the list, from 0.
        index: usize,
    },
    /// A merchant whose orders may be combined is not a number, or is listed twice.
    #[error("merchant {mch_id}: combines[{index}] is not a merchant number, or is listed twice")]
    Combines {
        /// Whose.
        mch_id: MchId,
        /// Its place in the list, from 0.
        index: usize,
    },
}

/// Who asks: an old key that was retired no longer opens the edge, but still opens what is queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// `ingest`: live v2 keys and live platform keys.
    Edge,
    /// `worker`: v2 and v3 keys, live and retired.
    Worker,
}

impl Side {
    fn v3_list(self) -> &'static str {
        match self {
            Self::Edge => "v3_platform_keys",
            Self::Worker => "v3_keys",
        }
    }
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
    #[serde(default)]
    combines: Vec<String>,
    #[serde(default)]
    v2_keys: Vec<SecretString>,
    #[serde(default)]
    v2_keys_retired: Vec<SecretString>,
    v2_sign_types: Option<Vec<String>>,
    #[serde(default)]
    v3_keys: Vec<SecretString>,
    #[serde(default)]
    v3_keys_retired: Vec<SecretString>,
    #[serde(default)]
    v3_platform_keys: Vec<PlatformEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlatformEntry {
    serial: String,
    pem: SecretString,
    #[serde(default)]
    retired: bool,
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

    /// The platform keys that several merchants have, by serial: ingest takes a callback at the address of any of them, and only
    /// the keys of the right one open it.
    #[must_use]
    pub fn shared_platform_keys(&self) -> Vec<(&str, Vec<&str>)> {
        let mut merchants: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for merchant in self.merchants() {
            for key in merchant.platform_keys() {
                merchants.entry(key.id().name.as_str()).or_default().push(merchant.mch_id.as_str());
            }
        }
        let mut shared: Vec<_> = merchants.into_iter().filter(|(_, of)| of.len() > 1).collect();
        for (_, of) in &mut shared {
            of.sort_unstable();
        }
        shared
    }

    /// Every merchant, in no order.
    pub fn merchants(&self) -> impl Iterator<Item = &Merchant> {
        self.0.values()
    }
}

impl Merchant {
    fn parse(index: usize, entry: &Entry, side: Side) -> Result<Self, MerchantsError> {
        let mch_id = MchId::parse(&entry.mch_id).ok_or(MerchantsError::MchId(index))?;
        let list = |list, purpose, sources: &[SecretString], retired| keys(&mch_id, list, purpose, sources, retired);
        let mut v2_keys = list("v2_keys", Purpose::V2, &entry.v2_keys, false)?;
        let (mut v3_keys, mut platform_keys) = (Vec::new(), Vec::new());
        match side {
            Side::Edge => platform_keys = live_platform_keys(&mch_id, &entry.v3_platform_keys)?,
            Side::Worker => {
                v3_keys = list("v3_keys", Purpose::V3, &entry.v3_keys, false)?;
                if v3_keys.is_empty() && entry.v3_platform_keys.iter().any(|platform| !platform.retired) {
                    return Err(MerchantsError::NoV3Key(mch_id));
                }
            }
        }
        if v2_keys.is_empty() && v3_keys.is_empty() && platform_keys.is_empty() {
            return Err(MerchantsError::NoKey { mch_id, v3_list: side.v3_list() });
        }
        if side == Side::Worker {
            v2_keys.extend(list("v2_keys_retired", Purpose::V2, &entry.v2_keys_retired, true)?);
            v3_keys.extend(list("v3_keys_retired", Purpose::V3, &entry.v3_keys_retired, true)?);
        }
        let combines = combines(&mch_id, &entry.combines)?;
        let sign_types = sign_types(&mch_id, entry.v2_sign_types.as_deref(), side)?;
        Ok(Self { mch_id, combines, v2_keys, sign_types, v3_keys, platform_keys })
    }

    /// Its number.
    #[must_use]
    pub fn mch_id(&self) -> &MchId {
        &self.mch_id
    }

    /// Whether it may say in a combined order that an order of `mch_id` was paid: it may of its own orders always.
    #[must_use]
    pub fn combines(&self, mch_id: &MchId) -> bool {
        self.mch_id == *mch_id || self.combines.contains(mch_id)
    }

    /// Every key that may have signed a v2 payment or encrypted a v2 refund.
    pub fn v2_keys(&self) -> impl Iterator<Item = &Key> {
        self.v2_keys.iter()
    }

    /// Every key that may have sealed the resource of a v3 callback; none at the edge.
    pub fn v3_keys(&self) -> impl Iterator<Item = &Key> {
        self.v3_keys.iter()
    }

    /// Every key of WeChat Pay's that may have signed a v3 callback; none in the worker.
    pub fn platform_keys(&self) -> impl Iterator<Item = &PlatformKey> {
        self.platform_keys.iter()
    }

    /// Whether the merchant takes v2 callbacks under this digest. That is a rule of the edge: the worker takes both, for a
    /// callback that was answered SUCCESS before the rule was tightened.
    #[must_use]
    pub fn accepts(&self, sign_type: SignType) -> bool {
        self.sign_types.contains(&sign_type)
    }

    /// What tells its keys apart without showing them, and whether each is retired.
    pub fn key_ids(&self) -> impl Iterator<Item = (&KeyId, bool)> {
        let secrets = self.v2_keys.iter().chain(&self.v3_keys).map(|key| (key.id(), key.is_retired()));
        secrets.chain(self.platform_keys.iter().map(|key| (key.id(), false)))
    }
}

fn keys(
    mch_id: &MchId,
    list: &'static str,
    purpose: Purpose,
    sources: &[SecretString],
    is_retired: bool,
) -> Result<Vec<Key>, MerchantsError> {
    let with_place = |(index, source)| {
        Key::resolve(mch_id, purpose, source, is_retired).map_err(|problem| MerchantsError::Key {
            mch_id: mch_id.clone(),
            list,
            index,
            problem,
        })
    };
    sources.iter().enumerate().map(with_place).collect()
}

fn live_platform_keys(mch_id: &MchId, entries: &[PlatformEntry]) -> Result<Vec<PlatformKey>, MerchantsError> {
    let mut keys: Vec<PlatformKey> = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| !entry.retired) {
        let at = |problem| MerchantsError::Key { mch_id: mch_id.clone(), list: "v3_platform_keys", index, problem };
        let pem = resolve(&entry.pem).map_err(at)?;
        let key =
            PlatformKey::parse(mch_id, &entry.serial, pem.expose_secret()).map_err(|error| at(error.to_string()))?;
        if keys.iter().any(|other| other.id() == key.id()) {
            return Err(at("its serial is listed twice".to_owned()));
        }
        keys.push(key);
    }
    Ok(keys)
}

/// Every merchant once, and each a number.
fn combines(mch_id: &MchId, names: &[String]) -> Result<Vec<MchId>, MerchantsError> {
    let mut combined: Vec<MchId> = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        match MchId::parse(name) {
            Some(other) if !combined.contains(&other) => combined.push(other),
            _ => return Err(MerchantsError::Combines { mch_id: mch_id.clone(), index }),
        }
    }
    Ok(combined)
}

fn sign_types(mch_id: &MchId, names: Option<&[String]>, side: Side) -> Result<Vec<SignType>, MerchantsError> {
    let both = || vec![SignType::Md5, SignType::HmacSha256];
    let parse = |(index, name): (usize, &String)| {
        SignType::parse(name).ok_or_else(|| MerchantsError::SignType { mch_id: mch_id.clone(), index })
    };
    match names {
        None => Ok(both()),
        Some([]) => Err(MerchantsError::NoSignType(mch_id.clone())),
        Some(names) => {
            let accepted: Vec<SignType> = names.iter().enumerate().map(parse).collect::<Result<_, _>>()?;
            Ok(if side == Side::Worker { both() } else { accepted })
        }
    }
}

/// A TOML error without the line, the value or the name that it quotes: each may be a key.
fn describe(error: &toml::de::Error, text: &str) -> MerchantsError {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count().saturating_add(1);
    let message = match error.message().split_once(": ") {
        // As in: invalid type: string "the key", expected a sequence
        Some((kind @ ("invalid type" | "invalid value" | "invalid length"), quoted)) => {
            let expected = quoted.rfind(", expected ").and_then(|at| quoted.get(at..)).unwrap_or_default();
            format!("{kind}{expected}")
        }
        // As in: unknown field `the key`, expected one of `mch_id`, ..
        _ if error.message().starts_with("unknown field ") => {
            let names = error.message().rsplit_once("`, expected ").map(|(_, names)| names).unwrap_or_default();
            format!("unknown field, expected {names}")
        }
        _ => error.message().to_owned(),
    };
    MerchantsError::Shape(format!("line {line}: {message}"))
}
