//! WeChat Pay's public keys: platform certificates, and the public keys that replace them. While a merchant migrates, both
//! are valid, and WeChat Pay signs a growing share of the callbacks with the new one; the serial says which.
//!
//! Source: pay.weixin.qq.com/doc/v3/merchant/4013053420. RSASSA-PKCS1-v1_5 with SHA-256, keys of 2048 bits.

use num_bigint::BigUint;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use x509_parser::pem::{Pem, parse_x509_pem};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::id::{KeyId, Purpose};
use crate::domain::ids::MchId;

/// The serial of a public key begins with this; that of a platform certificate is hexadecimal.
const PUBLIC_KEY_PREFIX: &str = "PUB_KEY_ID_";
/// The longest serial accepted, in bytes. WeChat Pay's have 40 and 45.
pub const SERIAL_BYTES_MAX: usize = 64;
/// The bytes before the digest in a PKCS#1 v1.5 signature over SHA-256 (RFC 8017, 9.2, note 1).
const SHA256_DIGEST_INFO: [u8; 19] =
    [0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20];
const SHA256_BYTES: usize = 32;
/// Bounds on the modulus, in bits: what the verification accepts.
const BITS: std::ops::RangeInclusive<u64> = 2048..=4096;

/// A public key of WeChat Pay's under its serial.
#[derive(Debug)]
pub struct PlatformKey {
    id: KeyId,
    verifier: UnparsedPublicKey<Vec<u8>>,
    modulus: BigUint,
    exponent: BigUint,
}

/// Why a platform key was rejected.
#[derive(Debug, thiserror::Error)]
pub enum PlatformKeyError {
    /// Neither `PUB_KEY_ID_` with digits nor hexadecimal.
    #[error("serial is neither PUB_KEY_ID_... nor hexadecimal")]
    Serial,
    /// The text is no PEM.
    #[error("pem is not PEM")]
    NotPem,
    /// A PEM of something else, for example of a private key.
    #[error("pem holds neither a CERTIFICATE nor a PUBLIC KEY")]
    Label,
    /// The content of the PEM cannot be read.
    #[error("pem holds a damaged {0}")]
    Damaged(&'static str),
    /// A certificate with a different serial: often the merchant's own certificate instead of WeChat Pay's.
    #[error(
        "pem holds the certificate {0}, not that of this serial (is it the merchant's own instead of WeChat Pay's?)"
    )]
    OtherSerial(String),
    /// An elliptic curve, or a key of another length.
    #[error("pem holds no RSA key of 2048 to 4096 bits")]
    NotRsa,
}

impl PlatformKey {
    /// From a certificate or public key in PEM.
    ///
    /// # Errors
    /// Says what is wrong with the serial or the PEM.
    pub fn parse(mch_id: &MchId, serial: &str, pem: &str) -> Result<Self, PlatformKeyError> {
        if serial.len() > SERIAL_BYTES_MAX {
            return Err(PlatformKeyError::Serial);
        }
        // The number parser would accept a sign and underscores too, which no header has.
        let is_digits = serial.bytes().all(|byte| byte.is_ascii_hexdigit());
        let hexadecimal = BigUint::parse_bytes(serial.as_bytes(), 16).filter(|_| is_digits);
        let digits = serial.strip_prefix(PUBLIC_KEY_PREFIX).unwrap_or_default();
        let is_public_key_id = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if hexadecimal.is_none() && !is_public_key_id {
            return Err(PlatformKeyError::Serial);
        }
        let (_, pem) = parse_x509_pem(pem.as_bytes()).map_err(|_| PlatformKeyError::NotPem)?;
        let pkcs1 = match pem.label.as_str() {
            "CERTIFICATE" => from_certificate(&pem, hexadecimal.as_ref())?,
            "PUBLIC KEY" => from_public_key(&pem)?,
            _ => return Err(PlatformKeyError::Label),
        };
        let id = KeyId { mch_id: mch_id.clone(), purpose: Purpose::Platform, name: normal_serial(serial) };
        Ok(Self {
            id,
            modulus: pkcs1.modulus,
            exponent: pkcs1.exponent,
            verifier: UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pkcs1.der),
        })
    }

    /// Identifies the key; its name is the serial.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// Whether `Wechatpay-Serial` names this key.
    #[must_use]
    pub fn has_serial(&self, serial: &str) -> bool {
        self.id.name == normal_serial(serial)
    }

    /// The length of its signatures, in bytes.
    #[must_use]
    pub fn signature_bytes(&self) -> u64 {
        self.modulus.bits().div_ceil(8)
    }

    /// Whether `signature` is this key's over `message`.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.verifier.verify(message, signature).is_ok()
    }

    /// Whether `signature` is this key's over any SHA-256 digest: then WeChat Pay did sign something, and the callback was
    /// altered in transit. Costs several verifications.
    #[must_use]
    pub fn signed_something(&self, signature: &[u8]) -> bool {
        let opened = BigUint::from_bytes_be(signature).modpow(&self.exponent, &self.modulus).to_bytes_be();
        // The number has lost the leading zero byte of the encoding.
        let Some(padding) = usize::try_from(self.signature_bytes())
            .ok()
            .and_then(|length| length.checked_sub(SHA256_DIGEST_INFO.len() + SHA256_BYTES + 3))
        else {
            return false;
        };
        let expected = [&[1], vec![0xff; padding].as_slice(), &[0], &SHA256_DIGEST_INFO].concat();
        opened.len() == expected.len() + SHA256_BYTES && opened.starts_with(&expected)
    }
}

/// An RSA key as PKCS#1 has it.
struct Pkcs1 {
    der: Vec<u8>,
    modulus: BigUint,
    exponent: BigUint,
}

fn from_certificate(pem: &Pem, serial: Option<&BigUint>) -> Result<Pkcs1, PlatformKeyError> {
    let certificate = pem.parse_x509().map_err(|_| PlatformKeyError::Damaged("certificate"))?;
    if serial != Some(&certificate.tbs_certificate.serial) {
        return Err(PlatformKeyError::OtherSerial(format!("{:X}", certificate.tbs_certificate.serial)));
    }
    from_info(certificate.public_key())
}

fn from_public_key(pem: &Pem) -> Result<Pkcs1, PlatformKeyError> {
    let (_, info) =
        SubjectPublicKeyInfo::from_der(&pem.contents).map_err(|_| PlatformKeyError::Damaged("public key"))?;
    from_info(&info)
}

fn from_info(info: &SubjectPublicKeyInfo<'_>) -> Result<Pkcs1, PlatformKeyError> {
    let Ok(PublicKey::RSA(key)) = info.parsed() else { return Err(PlatformKeyError::NotRsa) };
    let modulus = BigUint::from_bytes_be(key.modulus);
    if !BITS.contains(&modulus.bits()) {
        return Err(PlatformKeyError::NotRsa);
    }
    let der = info.subject_public_key.data.to_vec();
    Ok(Pkcs1 { der, modulus, exponent: BigUint::from_bytes_be(key.exponent) })
}

/// Hexadecimal in one case, without leading zeros: both come in either form.
fn normal_serial(serial: &str) -> String {
    let upper = serial.to_ascii_uppercase();
    if upper.starts_with(PUBLIC_KEY_PREFIX) { upper } else { upper.trim_start_matches('0').to_owned() }
}
