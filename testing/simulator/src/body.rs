//! A callback as it is sent: its bytes and its route.
//!
//! Reading order: [`v2`] and [`v3`] write the bytes, forged ones too. Every call draws fresh nonces, so no two bodies are
//! equal. What a v3 callback is signed with goes with it, because every sending is signed afresh.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::body::Bytes;
use rand::Rng;
use rand::rngs::StdRng;
use shared::protocol::v3::headers;
use uuid::Uuid;

use crate::merchants::Merchant;
use crate::plan::{Api, Callback, Claim, Forgery, Order};
use signer::PlatformKey;

pub mod v2;
pub mod v3;

/// A callback, ready to be sent.
#[derive(Debug, Clone)]
pub struct SignedRequest {
    /// Where it goes, and what it says on the outside.
    pub route: Route,
    /// Its bytes; all sendings have the same.
    pub body: Bytes,
}

/// Where a callback goes.
#[derive(Debug, Clone)]
pub enum Route {
    /// API v2, payments.
    V2Payment,
    /// API v2, refunds.
    V2Refund,
    /// API v3, everything.
    V3 {
        /// The merchant in the path.
        mch_id: String,
        /// Signs every sending.
        signer: Signer,
    },
}

/// What signs a v3 callback.
#[derive(Debug, Clone)]
pub struct Signer {
    /// The private key.
    pub key: Arc<PlatformKey>,
    /// The serial that the header names; a forger names one that is not his.
    pub serial: String,
    /// How the signature is wrong, when it is.
    pub forgery: Option<Forgery>,
}

impl Signer {
    /// The headers of one sending. Each is signed afresh, because a time stamp is good for five minutes.
    pub fn headers(&self, body: &Bytes) -> anyhow::Result<Vec<(&'static str, String)>> {
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs().to_string();
        let nonce = Uuid::now_v7().simple().to_string();
        let signed = match self.forgery {
            // What the signature was made over was another body.
            Some(Forgery::Altered) => body.slice(1..),
            Some(Forgery::WrongKey | Forgery::NoSign) | None => body.clone(),
        };
        let signature = self.key.sign(&timestamp, &nonce, &signed)?;
        let mut headers = vec![
            (headers::TIMESTAMP, timestamp),
            (headers::NONCE, nonce),
            (headers::SERIAL, self.serial.clone()),
            (headers::SIGNATURE_TYPE, headers::SIGNATURE_TYPE_RSA.to_owned()),
        ];
        if self.forgery != Some(Forgery::NoSign) {
            headers.push((headers::SIGNATURE, signature));
        }
        Ok(headers)
    }
}

/// `callback`, which claims to be about `order` of `merchant`, ready to be sent.
pub fn write(
    callback: &Callback,
    order: &Order,
    merchant: &Merchant,
    rng: &mut StdRng,
) -> anyhow::Result<SignedRequest> {
    let forgery = callback.forgery;
    let (route, body) = match (order.api, &callback.claim, &merchant.v3) {
        (Api::V3Mainland | Api::V3Global, claim, Some(keys)) => {
            let signer = draw_signer(&keys.platform, forgery, rng)?;
            let route = Route::V3 { mch_id: order.mch_id.clone(), signer };
            (route, v3::write(claim, order, keys, rng)?)
        }
        (Api::V2, Claim::Payment(claim), _) => (Route::V2Payment, v2::payment(claim, forgery, order, merchant, rng)),
        (Api::V2, Claim::Refund(claim), _) => (Route::V2Refund, v2::refund(claim, forgery, order, merchant, rng)),
        (Api::V2, Claim::NoOrder(_), _) | (Api::V3Mainland | Api::V3Global, _, None) => {
            anyhow::bail!("{}: merchant {} has no keys for this callback", order.out_trade_no, merchant.mch_id)
        }
    };
    Ok(SignedRequest { route, body: Bytes::from(body) })
}

/// One of the platform keys; a forger's is another one than the header names.
fn draw_signer(keys: &[Arc<PlatformKey>], forgery: Option<Forgery>, rng: &mut StdRng) -> anyhow::Result<Signer> {
    anyhow::ensure!(!keys.is_empty(), "no platform key");
    let index = rng.random_range(0..keys.len());
    let other = if forgery == Some(Forgery::WrongKey) { index.saturating_add(1) } else { index };
    let (named, signing) = (keys.get(index), keys.get(other % keys.len()));
    let (Some(named), Some(signing)) = (named, signing) else { anyhow::bail!("no platform key") };
    Ok(Signer { key: signing.clone(), serial: named.serial().to_owned(), forgery })
}

#[cfg(test)]
mod tests;
