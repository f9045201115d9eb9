//! The envelope of a v3 callback and its sealed resource, which the worker opens before it trusts any of it.
//!
//! Only a holder of the merchant's APIv3 key can seal a resource. The envelope around it is not sealed: it only selects how to
//! read the resource, and the resource has to agree.
//! Source: pay.weixin.qq.com/doc/v3/merchant/4012071382.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use secrecy::ExposeSecret;
use serde::Deserialize;

use super::combined;
use crate::protocol::keys::{KeyId, KeyRing, Merchant};
use crate::protocol::limits::{BODY_BYTES_MAX, SINGLE_BODY_BYTES_MAX};
use crate::protocol::trust::Authentic;

/// The only algorithm that WeChat Pay documents.
const ALGORITHM: &str = "AEAD_AES_256_GCM";

/// What a v3 callback is about, opened.
#[derive(Debug)]
pub struct Event {
    pub(in crate::protocol) name: String,
    pub(in crate::protocol) original_type: String,
    pub(in crate::protocol) resource: Vec<u8>,
}

/// Why the resource of a callback was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The ring does not have the merchant; it may not have been added yet.
    #[error("the merchant is not in the merchants file")]
    UnknownMerchant,
    /// More than [`SINGLE_BODY_BYTES_MAX`] bytes, and about one order.
    #[error("over {SINGLE_BODY_BYTES_MAX} bytes, and not a combined order")]
    TooLarge,
    /// Not an envelope in JSON.
    #[error("not the JSON of a callback")]
    NotAnEnvelope,
    /// Sealed by an algorithm that WeChat Pay does not document.
    #[error("resource.algorithm is not AEAD_AES_256_GCM")]
    Algorithm,
    /// The nonce is not 12 bytes long.
    #[error("resource.nonce is not 12 bytes long")]
    Nonce,
    /// The ciphertext is not base64.
    #[error("resource.ciphertext is not base64")]
    Ciphertext,
    /// No key of the merchant opens it; the key may not have been added yet.
    #[error("no v3 key of the merchant opens the resource")]
    NoKeyOpens,
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    event_type: String,
    resource: Resource,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    original_type: String,
    algorithm: String,
    ciphertext: String,
    /// Real callbacks may lack it: then there is no associated data.
    associated_data: Option<String>,
    nonce: String,
}

/// The resource of a callback to the merchant `mch_id`, once one of its keys has opened it.
///
/// # Errors
/// Says why it was not; [`OpenError::UnknownMerchant`] and [`OpenError::NoKeyOpens`] may also mean that this process does
/// not have the newest merchants file yet.
pub fn open<'ring>(body: &[u8], mch_id: &str, ring: &'ring KeyRing) -> Result<Authentic<'ring, Event>, OpenError> {
    let merchant = ring.merchant(mch_id).ok_or(OpenError::UnknownMerchant)?;
    if body.len() > BODY_BYTES_MAX {
        return Err(OpenError::NotAnEnvelope);
    }
    let envelope: Envelope = serde_json::from_slice(body).map_err(|_| OpenError::NotAnEnvelope)?;
    let Resource { original_type, algorithm, ciphertext, associated_data, nonce } = envelope.resource;
    if algorithm != ALGORITHM {
        return Err(OpenError::Algorithm);
    }
    let nonce = nonce.as_bytes().try_into().map_err(|_| OpenError::Nonce)?;
    let sealed = BASE64_STANDARD.decode(ciphertext).map_err(|_| OpenError::Ciphertext)?;
    let associated_data = associated_data.unwrap_or_default();
    let (resource, key) =
        open_sealed(&sealed, nonce, associated_data.as_bytes(), merchant).ok_or(OpenError::NoKeyOpens)?;
    if body.len() > SINGLE_BODY_BYTES_MAX && !combined::is_combined(&resource) {
        return Err(OpenError::TooLarge);
    }
    Ok(Authentic { content: Event { name: envelope.event_type, original_type, resource }, merchant, key })
}

/// The tag is checked over ciphertext and associated data.
fn open_sealed<'ring>(
    sealed: &[u8],
    nonce: [u8; NONCE_LEN],
    associated_data: &[u8],
    merchant: &'ring Merchant,
) -> Option<(Vec<u8>, &'ring KeyId)> {
    merchant.v3_keys().find_map(|key| {
        // Every key was checked to have 32 bytes when it was read.
        let cipher = UnboundKey::new(&AES_256_GCM, key.secret().expose_secret().as_bytes()).ok()?;
        let mut content = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let length =
            LessSafeKey::new(cipher).open_in_place(nonce, Aad::from(associated_data), &mut content).ok()?.len();
        content.truncate(length);
        Some((content, key.id()))
    })
}
