//! The merchants that a run plays: those of the pipeline's own file, with the keys that WeChat Pay would sign and seal with.
//!
//! Keeps them sorted, so that a seed means the same run whatever order the file has. [`new`] makes such a file.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use secrecy::SecretString;
use shared::merchants_file::{self, Program};
use shared::protocol::keys::SignType;

use signer::PlatformKey;

pub mod new;

/// The folder next to a merchants file that holds the private halves of its platform keys.
pub const PLATFORM_KEYS: &str = "platform-keys";

/// One merchant, as WeChat Pay knows it.
#[derive(Debug, Clone)]
pub struct Merchant {
    pub mch_id: String,
    /// The first of its live v2 keys.
    pub key: SecretString,
    /// The digests that it accepts; never empty.
    pub sign_types: Vec<SignType>,
    /// What it takes to notify it by API v3.
    pub v3: Option<V3>,
}

#[derive(Debug, Clone)]
pub struct V3 {
    /// The first of the merchant's live APIv3 keys.
    pub key: SecretString,
    /// WeChat Pay's own, those whose private half is known here; never empty.
    pub platform: Vec<Arc<PlatformKey>>,
}

/// Reads the file that ingest and worker read too, and the private platform keys in `platform_keys`.
pub fn load(path: &Path, platform_keys: &Path) -> anyhow::Result<Vec<Merchant>> {
    let ring =
        |program| merchants_file::load(path, program).with_context(|| format!("MERCHANTS_FILE: {}", path.display()));
    let (secrets, public) = (ring(Program::Worker)?, ring(Program::Ingest)?);
    let mut merchants = Vec::new();
    for merchant in secrets.merchants() {
        let Some(key) = merchant.v2_keys().next().map(|key| key.secret().clone()) else { continue };
        let mch_id = merchant.mch_id().to_string();
        // The edge refuses a digest; the worker takes both.
        let accepts = |digest: &SignType| public.merchant(&mch_id).is_some_and(|merchant| merchant.accepts(*digest));
        let sign_types: Vec<SignType> = [SignType::Md5, SignType::HmacSha256].into_iter().filter(accepts).collect();
        let mut platform = Vec::new();
        for known in public.merchant(&mch_id).into_iter().flat_map(shared::protocol::keys::Merchant::platform_keys) {
            platform.extend(private_half(&known.id().name, platform_keys)?.map(Arc::new));
        }
        let v3_key = merchant.v3_keys().next().filter(|_| !platform.is_empty()).map(|key| key.secret().clone());
        merchants.push(Merchant { mch_id, key, sign_types, v3: v3_key.map(|key| V3 { key, platform }) });
    }
    merchants.sort_by(|one, other| one.mch_id.cmp(&other.mch_id));
    ensure!(!merchants.is_empty(), "MERCHANTS_FILE: no merchant in it has a v2 key");
    Ok(merchants)
}

/// `None` when there is no such file: then this key signs elsewhere.
fn private_half(serial: &str, folder: &Path) -> anyhow::Result<Option<PlatformKey>> {
    let path = folder.join(format!("{serial}.pem"));
    if !path.exists() {
        return Ok(None);
    }
    let problem = || format!("PLATFORM_KEYS_DIR: {}", path.display());
    let pem = std::fs::read_to_string(&path).with_context(problem)?;
    PlatformKey::from_pem(serial, &pem).with_context(problem).map(Some)
}

#[cfg(test)]
pub(crate) mod tests {
    use signer::keys;

    use super::*;

    /// A merchant of both APIs, with two platform keys.
    pub(crate) fn merchants() -> Vec<Merchant> {
        let platform = [(keys::CERTIFICATE_SERIAL, keys::CERTIFIED_PEM), (keys::PUBLIC_KEY_ID, keys::KNOWN_BY_ID_PEM)];
        let platform = platform.map(|(serial, pem)| Arc::new(PlatformKey::from_pem(serial, pem).unwrap())).to_vec();
        vec![Merchant {
            mch_id: "1900000109".to_owned(),
            key: SecretString::from("k".repeat(32)),
            sign_types: vec![SignType::Md5, SignType::HmacSha256],
            v3: Some(V3 { key: SecretString::from("3".repeat(32)), platform }),
        }]
    }

    #[test]
    fn a_new_file_can_be_played_by_both_apis() {
        let folder = std::env::temp_dir().join(format!("simulator-merchants-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("merchants.toml");
        new::write(&file).unwrap();
        let merchants = load(&file, &folder.join(PLATFORM_KEYS)).unwrap();
        assert_eq!(merchants.len(), 2);
        assert!(merchants.iter().all(|merchant| merchant.v3.as_ref().unwrap().platform.len() == 2));
        assert!(new::write(&file).is_err(), "a file with keys is not overwritten");
        let without = load(&file, &folder).unwrap();
        assert!(without.iter().all(|merchant| merchant.v3.is_none()), "nobody can sign without the private halves");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
