//! Makes bodies ahead of their sending, in chunks on a thread of its own, so that signing never delays a request.

use std::sync::Arc;

use rand::rngs::StdRng;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::body::{self, SignedRequest};
use crate::merchants::Merchant;
use crate::plan::Plan;

/// Callbacks per chunk: a millisecond of work.
const CHUNK: usize = 256;
/// Chunks made ahead; with 2 KiB a body, 2 MiB.
const CHUNKS_AHEAD: usize = 4;

/// A body, ready to be sent.
#[derive(Debug)]
pub struct Built {
    /// The callback, by its index in the plan.
    pub callback: usize,
    pub signed: SignedRequest,
    /// By which the ledger's row will be known.
    pub sha256: [u8; 32],
}

/// Starts to build every callback of `plan`, in order.
#[must_use]
pub fn start(plan: Arc<Plan>, merchants: Vec<Merchant>, mut rng: StdRng) -> mpsc::Receiver<Vec<Built>> {
    let (chunks, receiver) = mpsc::channel(CHUNKS_AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut chunk = Vec::with_capacity(CHUNK);
        for (index, callback) in plan.callbacks.iter().enumerate() {
            let Some(order) = plan.order_of(callback) else { continue };
            let Some(merchant) = merchants.get(order.merchant) else { continue };
            // The plan has no callback that its merchant has no keys for.
            let Ok(signed) = body::write(callback, order, merchant, &mut rng) else { continue };
            let sha256 = Sha256::digest(&signed.body).into();
            chunk.push(Built { callback: index, signed, sha256 });
            if chunk.len() == CHUNK
                && chunks.blocking_send(std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK))).is_err()
            {
                return;
            }
        }
        // When the receiver is gone, the run is over and the chunk is not needed.
        drop(chunks.blocking_send(chunk));
    });
    receiver
}
