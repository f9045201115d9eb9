//! The operations that only WeChat Pay can perform: sign a v3 callback with the platform's private key, encrypt its resource
//! under the APIv3 key, encrypt a v2 refund's `req_info`. The product has the other halves, and never these. [`keys`] has
//! key pairs for tests.
//!
//! Sources: pay.weixin.qq.com/doc/v3/merchant/4013053420 (signature), /4012071382 (resource), and the refund
//! notification of API v2 (AES-256-ECB under the lower-case hex MD5 of the API key).
#![allow(missing_docs, clippy::missing_errors_doc, reason = "nothing here ships")]

use aes::Aes256;
use anyhow::{Context, anyhow};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cipher::block_padding::Pkcs7;
use cipher::{BlockEncrypt, KeyInit};
use md5::{Digest, Md5};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rsa::PrivateKey;
use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding};

pub mod keys;

/// The length of a platform key, in bits, as WeChat Pay's are.
const KEY_BITS: usize = 2048;

/// A platform key pair under the serial by which WeChat Pay names it.
#[derive(Debug)]
pub struct PlatformKey {
    serial: String,
    key: PrivateKey,
    signer: RsaKeyPair,
}

impl PlatformKey {
    /// A fresh key pair: half a second of work.
    pub fn generate(serial: &str) -> anyhow::Result<Self> {
        Self::new(serial, PrivateKey::new(&mut getrandom::SysRng, KEY_BITS)?)
    }

    /// From a PKCS#8 PEM.
    pub fn from_pem(serial: &str, private_pem: &str) -> anyhow::Result<Self> {
        Self::new(serial, PrivateKey::from_pkcs8_pem(private_pem)?)
    }

    fn new(serial: &str, key: PrivateKey) -> anyhow::Result<Self> {
        let der = key.to_pkcs8_der()?;
        let signer = RsaKeyPair::from_pkcs8(der.as_bytes()).map_err(|error| anyhow!("the RSA key: {error}"))?;
        Ok(Self { serial: serial.to_owned(), key, signer })
    }

    /// The serial, as in `Wechatpay-Serial`.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// The private key as PKCS#8 PEM.
    pub fn private_pem(&self) -> anyhow::Result<String> {
        Ok(self.key.to_pkcs8_pem(LineEnding::LF)?.to_string())
    }

    /// The public key as PEM: what a merchants file holds.
    pub fn public_pem(&self) -> anyhow::Result<String> {
        Ok(self.key.to_public_key().to_public_key_pem(LineEnding::LF)?)
    }

    /// `Wechatpay-Signature` for these bytes, this `Wechatpay-Timestamp` and this `Wechatpay-Nonce`.
    pub fn sign(&self, timestamp: &str, nonce: &str, body: &[u8]) -> anyhow::Result<String> {
        let message = [timestamp.as_bytes(), b"\n", nonce.as_bytes(), b"\n", body, b"\n"].concat();
        let mut signature = vec![0; self.signer.public().modulus_len()];
        self.signer
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &message, &mut signature)
            .map_err(|error| anyhow!("signing: {error}"))?;
        Ok(BASE64_STANDARD.encode(signature))
    }
}

/// The `ciphertext` of a v3 resource: AES-256-GCM, the tag at the end, in base64.
pub fn seal_resource(key: &str, nonce: &str, associated_data: &str, plaintext: &[u8]) -> anyhow::Result<String> {
    let key = UnboundKey::new(&AES_256_GCM, key.as_bytes()).map_err(|_| anyhow!("an APIv3 key has 32 bytes"))?;
    let nonce = Nonce::assume_unique_for_key(nonce.as_bytes().try_into().context("a nonce has 12 bytes")?);
    let mut sealed = plaintext.to_vec();
    LessSafeKey::new(key)
        .seal_in_place_append_tag(nonce, Aad::from(associated_data), &mut sealed)
        .map_err(|_| anyhow!("the resource is too long"))?;
    Ok(BASE64_STANDARD.encode(sealed))
}

/// The `req_info` of a v2 refund: AES-256-ECB with PKCS#7 padding under the lower-case hex MD5 of the API key, in base64.
#[must_use]
pub fn encrypt_req_info(key: &str, plaintext: &[u8]) -> String {
    let key = hex::encode(Md5::digest(key));
    let cipher = Aes256::new(key.as_bytes().into());
    let mut padded = vec![0; plaintext.len() + 16];
    let encrypted = cipher.encrypt_padded_b2b::<Pkcs7>(plaintext, &mut padded);
    BASE64_STANDARD.encode(encrypted.unwrap_or_default())
}
