//! Two key pairs of a WeChat Pay that exists in tests only, as committed files: their private halves protect nothing.

use std::sync::LazyLock;

use crate::PlatformKey;

/// The serial of the platform certificate.
pub const CERTIFICATE_SERIAL: &str = "7C3E5A1F09B2D4E6880112233445566778899AAB";
/// The platform certificate of [`CERTIFIED`].
pub const CERTIFICATE_PEM: &str = include_str!("../keys/platform-1.crt.pem");
/// The private half of [`CERTIFIED`].
pub const CERTIFIED_PEM: &str = include_str!("../keys/platform-1.pem");
/// The id of WeChat Pay's public key.
pub const PUBLIC_KEY_ID: &str = "PUB_KEY_ID_0119000001092026112500000000000001";
/// The public half of [`KNOWN_BY_ID`].
pub const PUBLIC_KEY_PEM: &str = include_str!("../keys/platform-2.pub.pem");
/// The private half of [`KNOWN_BY_ID`].
pub const KNOWN_BY_ID_PEM: &str = include_str!("../keys/platform-2.pem");

/// WeChat Pay's key pair whose public half is in the platform certificate.
pub static CERTIFIED: LazyLock<PlatformKey> = LazyLock::new(|| parse(CERTIFICATE_SERIAL, CERTIFIED_PEM));
/// WeChat Pay's key pair whose public half is known by its id.
pub static KNOWN_BY_ID: LazyLock<PlatformKey> = LazyLock::new(|| parse(PUBLIC_KEY_ID, KNOWN_BY_ID_PEM));

#[expect(clippy::expect_used, reason = "the files are part of this crate")]
fn parse(serial: &str, private_pem: &str) -> PlatformKey {
    PlatformKey::from_pem(serial, private_pem).expect("a committed key can be read")
}
