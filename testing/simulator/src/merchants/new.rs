//! A merchants file for development: two merchants with random keys, and WeChat Pay's key pairs next to it.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::Context;
use rand::Rng;
use rand::distr::Alphanumeric;

use super::PLATFORM_KEYS;
use signer::PlatformKey;

/// The length of an API key and of an APIv3 key.
const KEY_CHARS: usize = 32;

/// Writes `path`, and the private platform keys into a folder next to it. Only the owner may read them.
pub fn write(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new(".")).join(PLATFORM_KEYS);
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).with_context(|| folder.display().to_string())?;
    let certificate = format!("{:040X}", rand::rng().random::<u128>());
    let public_key = format!("PUB_KEY_ID_01{:032}", rand::rng().random::<u64>());
    let mut platform = Vec::new();
    for serial in [certificate.trim_start_matches('0'), &public_key] {
        let key = PlatformKey::generate(serial)?;
        write_private(&folder.join(format!("{serial}.pem")), &key.private_pem()?)?;
        let pem = key.public_pem()?;
        platform.push(format!("\n[[merchant.v3_platform_keys]]\nserial = \"{serial}\"\npem = \"\"\"\n{pem}\"\"\"\n"));
    }
    let platform = platform.concat();
    let merchant = |mch_id: &str, digests: &str| {
        let (v2, v3) = (random_key(), random_key());
        format!(
            "\n[[merchant]]\nmch_id = \"{mch_id}\"\nv2_keys = [\"{v2}\"]\nv2_sign_types = [{digests}]\n\
             v3_keys = [\"{v3}\"]\n{platform}"
        )
    };
    let text = [
        "# Two merchants for development, with random keys. What WeChat Pay signs with is in platform-keys/.\n"
            .to_owned(),
        merchant("1900000109", "\"MD5\", \"HMAC-SHA256\""),
        merchant("1900000200", "\"HMAC-SHA256\""),
    ];
    write_private(path, &text.concat())
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    open.and_then(|mut file| file.write_all(text.as_bytes())).with_context(|| path.display().to_string())
}

fn random_key() -> String {
    rand::rng().sample_iter(Alphanumeric).take(KEY_CHARS).map(char::from).collect()
}
