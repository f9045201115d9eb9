//! The merchants that a run plays: those of the pipeline's own file, with the key that WeChat Pay would sign with.
//!
//! Keeps them sorted, so that a seed means the same run whatever order the file has.

use std::path::Path;

use anyhow::{Context, ensure};
use secrecy::SecretString;
use shared::protocol::merchants::{KeyRing, Side};
use shared::protocol::v2::signature::SignType;

/// One merchant, as WeChat Pay knows it.
#[derive(Debug, Clone)]
pub struct Merchant {
    /// Its number.
    pub mch_id: String,
    /// The first of its live keys.
    pub key: SecretString,
    /// The digests that it accepts; never empty.
    pub sign_types: Vec<SignType>,
}

/// Reads the file that ingest and worker read too.
///
/// # Errors
/// When the file cannot be used, or no merchant in it can be notified.
pub fn load(path: &Path) -> anyhow::Result<Vec<Merchant>> {
    let ring = KeyRing::load(path, Side::Edge).with_context(|| format!("MERCHANTS_FILE: {}", path.display()))?;
    let mut merchants: Vec<Merchant> = ring
        .merchants()
        .filter_map(|merchant| {
            let sign_types: Vec<SignType> =
                [SignType::Md5, SignType::HmacSha256].into_iter().filter(|&digest| merchant.accepts(digest)).collect();
            let key = merchant.v2_keys().next()?.clone();
            (!sign_types.is_empty()).then(|| Merchant { mch_id: merchant.mch_id().to_string(), key, sign_types })
        })
        .collect();
    merchants.sort_by(|one, other| one.mch_id.cmp(&other.mch_id));
    ensure!(!merchants.is_empty(), "MERCHANTS_FILE: no merchant in it accepts any digest");
    Ok(merchants)
}
