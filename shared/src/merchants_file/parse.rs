//! TOML → key ring. Each program reads the keys that it needs and no others; a secret is a secret from the first line on.

use std::path::Path;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::error::{KeyProblem, MerchantsError};
use super::source::resolve;
use crate::domain::ids::MchId;
use crate::protocol::keys::{Key, KeyRing, Merchant, PlatformKey, Purpose, SignType};

/// Which program reads the file. Ingest ignores retired keys; workers still use them for callbacks that are already queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `ingest`: live v2 keys and live platform keys.
    Ingest,
    /// `worker`: v2 and v3 keys, live and retired.
    Worker,
}

impl Program {
    fn v3_list(self) -> &'static str {
        match self {
            Self::Ingest => "v3_platform_keys",
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

/// Reads the file at `path` and the `file:` and `env:` keys that it names.
///
/// # Errors
/// Says what is wrong and where.
pub fn load(path: &Path, program: Program) -> Result<KeyRing, MerchantsError> {
    parse(&std::fs::read_to_string(path).map_err(MerchantsError::Unreadable)?, program)
}

/// Reads the text of a merchants file, and the `file:` and `env:` keys that it names.
///
/// # Errors
/// Says what is wrong and where.
pub fn parse(text: &str, program: Program) -> Result<KeyRing, MerchantsError> {
    let file: File = toml::from_str(text).map_err(|error| describe(&error, text))?;
    let mut ring = KeyRing::default();
    for (index, entry) in file.merchant.iter().enumerate() {
        if let Some(first) = ring.insert(merchant(index, entry, program)?) {
            return Err(MerchantsError::Repeated(first.mch_id));
        }
    }
    if ring.is_empty() { Err(MerchantsError::Empty) } else { Ok(ring) }
}

fn merchant(index: usize, entry: &Entry, program: Program) -> Result<Merchant, MerchantsError> {
    let mch_id = MchId::parse(&entry.mch_id).ok_or(MerchantsError::MchId(index))?;
    let list = |list, purpose, sources: &[SecretString], retired| keys(&mch_id, list, purpose, sources, retired);
    let mut v2_keys = list("v2_keys", Purpose::V2, &entry.v2_keys, false)?;
    let (mut v3_keys, mut platform_keys) = (Vec::new(), Vec::new());
    match program {
        Program::Ingest => platform_keys = live_platform_keys(&mch_id, &entry.v3_platform_keys)?,
        Program::Worker => {
            v3_keys = list("v3_keys", Purpose::V3, &entry.v3_keys, false)?;
            if v3_keys.is_empty() && entry.v3_platform_keys.iter().any(|platform| !platform.retired) {
                return Err(MerchantsError::NoV3Key(mch_id));
            }
        }
    }
    if v2_keys.is_empty() && v3_keys.is_empty() && platform_keys.is_empty() {
        return Err(MerchantsError::NoKey { mch_id, v3_list: program.v3_list() });
    }
    if program == Program::Worker {
        v2_keys.extend(list("v2_keys_retired", Purpose::V2, &entry.v2_keys_retired, true)?);
        v3_keys.extend(list("v3_keys_retired", Purpose::V3, &entry.v3_keys_retired, true)?);
    }
    let combines = combines(&mch_id, &entry.combines)?;
    let sign_types = sign_types(&mch_id, entry.v2_sign_types.as_deref(), program)?;
    Ok(Merchant { mch_id, combines, v2_keys, sign_types, v3_keys, platform_keys })
}

fn keys(
    mch_id: &MchId,
    list: &'static str,
    purpose: Purpose,
    sources: &[SecretString],
    is_retired: bool,
) -> Result<Vec<Key>, MerchantsError> {
    let key = |source| Key::new(mch_id, purpose, resolve(source)?, is_retired).map_err(KeyProblem::Secret);
    let with_place = |(index, source)| {
        key(source).map_err(|problem| MerchantsError::Key { mch_id: mch_id.clone(), list, index, problem })
    };
    sources.iter().enumerate().map(with_place).collect()
}

fn live_platform_keys(mch_id: &MchId, entries: &[PlatformEntry]) -> Result<Vec<PlatformKey>, MerchantsError> {
    let mut keys: Vec<PlatformKey> = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| !entry.retired) {
        let at = |problem| MerchantsError::Key { mch_id: mch_id.clone(), list: "v3_platform_keys", index, problem };
        let pem = resolve(&entry.pem).map_err(at)?;
        let key = PlatformKey::parse(mch_id, &entry.serial, pem.expose_secret());
        let key = key.map_err(|error| at(KeyProblem::Platform(error)))?;
        if keys.iter().any(|other| other.id() == key.id()) {
            return Err(at(KeyProblem::RepeatedSerial));
        }
        keys.push(key);
    }
    Ok(keys)
}

/// Each must be a merchant's number, and listed once.
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

fn sign_types(mch_id: &MchId, names: Option<&[String]>, program: Program) -> Result<Vec<SignType>, MerchantsError> {
    let both = || vec![SignType::Md5, SignType::HmacSha256];
    let parse = |(index, name): (usize, &String)| {
        SignType::parse(name).ok_or_else(|| MerchantsError::SignType { mch_id: mch_id.clone(), index })
    };
    match names {
        None => Ok(both()),
        Some([]) => Err(MerchantsError::NoSignType(mch_id.clone())),
        Some(names) => {
            let accepted: Vec<SignType> = names.iter().enumerate().map(parse).collect::<Result<_, _>>()?;
            Ok(if program == Program::Worker { both() } else { accepted })
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
        // As in: unknown field `the key`, expected one of `mch_id`, ...
        _ if error.message().starts_with("unknown field ") => {
            let names = error.message().rsplit_once("`, expected ").map(|(_, names)| names).unwrap_or_default();
            format!("unknown field, expected {names}")
        }
        _ => error.message().to_owned(),
    };
    MerchantsError::Shape(format!("line {line}: {message}"))
}
