//! Two merchants with all their keys, and the file that the programs read them from.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result};
use signer::PlatformKey;
pub use signer::keys::{CERTIFICATE_PEM, CERTIFIED, KNOWN_BY_ID, PUBLIC_KEY_PEM};
use signer::keys::{CERTIFIED_PEM, KNOWN_BY_ID_PEM};
use uuid::Uuid;

/// A direct merchant that accepts both digests.
pub const MERCHANT: &str = "1900000109";
pub const KEY: &str = "key-of-the-first-merchant-000001";
/// Its APIv3 key.
pub const V3_KEY: &str = "v3-key-of-the-first-merchant-001";
/// A merchant whose orders [`MERCHANT`] may combine with its own. It has no keys here.
pub const PARTNER: &str = "1900000301";
/// An institution with shops (sub-merchants) behind it, that accepts HMAC-SHA256 only.
pub const INSTITUTION: &str = "1900000200";
pub const INSTITUTION_KEY: &str = "key-of-the-institution-000000002";
/// Its APIv3 key.
pub const INSTITUTION_V3_KEY: &str = "v3-key-of-the-institution-000002";

/// The lines of a merchants file with one platform key of the merchant that stands above them.
#[must_use]
pub fn platform_entry(key: &PlatformKey, pem: &str) -> String {
    format!("[[merchant.v3_platform_keys]]\nserial = \"{}\"\npem = \"\"\"\n{pem}\"\"\"\n", key.serial())
}

/// A merchants file with [`MERCHANT`] and [`INSTITUTION`]; it is deleted with the value.
pub struct MerchantsFile(PathBuf);

impl MerchantsFile {
    pub fn write() -> Result<Self> {
        let file = Self(env::temp_dir().join(format!("merchants-{}.toml", Uuid::now_v7())));
        file.replace(&text())?;
        Ok(file)
    }

    /// Writes it into `folder` to stay, as `merchants.toml`, with the private halves of the platform keys in
    /// `platform-keys/` next to it, where the simulator looks for them.
    pub fn leave_in(folder: &Path) -> Result<PathBuf> {
        let keys = folder.join("platform-keys");
        fs::create_dir_all(&keys)?;
        for (key, pem) in [(&CERTIFIED, CERTIFIED_PEM), (&KNOWN_BY_ID, KNOWN_BY_ID_PEM)] {
            fs::write(keys.join(format!("{}.pem", key.serial())), pem)?;
        }
        let path = folder.join("merchants.toml");
        fs::write(&path, text())?;
        Ok(path)
    }

    /// Another text in its place, whole at any instant.
    pub fn replace(&self, text: &str) -> Result<()> {
        let new = self.0.with_extension("new");
        fs::write(&new, text)?;
        fs::rename(&new, &self.0).context("replacing the merchants file")
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

fn text() -> String {
    let platform = [platform_entry(&CERTIFIED, CERTIFICATE_PEM), platform_entry(&KNOWN_BY_ID, PUBLIC_KEY_PEM)].concat();
    format!(
        "[[merchant]]\nmch_id = \"{MERCHANT}\"\ncombines = [\"{PARTNER}\"]\nv2_keys = [\"{KEY}\"]\n\
         v3_keys = [\"{V3_KEY}\"]\n{platform}\n\
         [[merchant]]\nmch_id = \"{INSTITUTION}\"\nv2_keys = [\"{INSTITUTION_KEY}\"]\n\
         v2_sign_types = [\"HMAC-SHA256\"]\nv3_keys = [\"{INSTITUTION_V3_KEY}\"]\n{platform}"
    )
}

impl Drop for MerchantsFile {
    fn drop(&mut self) {
        // A file that is left in the temporary folder does no harm.
        let _ = fs::remove_file(&self.0);
    }
}
