//! Counts the uses of every key, with the time of the last one, so that an operator sees when an old key may be removed.

use std::collections::HashMap;
use std::sync::OnceLock;

use chrono::Utc;
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use crate::protocol::keys::{KeyId, KeyRing, Merchant};

/// A key ring whose keys are counted as they are used.
#[derive(Debug)]
pub struct MeteredKeyRing {
    ring: KeyRing,
    /// Created once metrics are recorded, which is after the file is first read.
    meters: OnceLock<HashMap<KeyId, Meter>>,
}

#[derive(Debug)]
struct Meter {
    uses: Counter,
    last_used: Gauge,
}

impl MeteredKeyRing {
    /// Wraps a ring whose keys have not been used yet.
    #[must_use]
    pub fn new(ring: KeyRing) -> Self {
        Self { ring, meters: OnceLock::new() }
    }

    /// The keys themselves. Looking a key up does not count as using it.
    #[must_use]
    pub fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// Counts one more use of a key of this ring.
    #[expect(clippy::disallowed_methods, reason = "the time stamp of a metric; nothing is decided by it")]
    pub fn count_use(&self, key: &KeyId) {
        if let Some(meter) = self.meters().get(key) {
            meter.uses.increment(1);
            meter.last_used.set(u32::try_from(Utc::now().timestamp()).map_or(0.0, f64::from));
        }
    }

    /// Registers a meter for each key, so that a key that is never used shows a 0.
    pub(super) fn register(&self) {
        self.meters();
    }

    fn meters(&self) -> &HashMap<KeyId, Meter> {
        self.meters.get_or_init(|| {
            describe_counter!(
                "callback_key_uses_total",
                "Successful verifications or decryptions with this key, including repeated attempts on the same callback"
            );
            describe_gauge!("callback_key_last_used_seconds", "Unix time of the key's last use; 0 before the first");
            self.ring.merchants().flat_map(Merchant::key_ids).map(|(id, _)| (id.clone(), Meter::new(id))).collect()
        })
    }
}

impl Meter {
    fn new(id: &KeyId) -> Self {
        let labels =
            [("mch_id", id.mch_id.to_string()), ("purpose", id.purpose.name().to_owned()), ("key", id.name.clone())];
        let last_used = gauge!("callback_key_last_used_seconds", &labels);
        // A key that was already there before the file was re-read keeps its time.
        last_used.increment(0.0);
        Self { uses: counter!("callback_key_uses_total", &labels), last_used }
    }
}
