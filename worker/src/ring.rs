//! The key ring in use, read again on SIGHUP. A bad file keeps the old ring and says what is wrong.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use shared::protocol::merchants::{KeyRing, MerchantsError, Side};

/// The ring and where it came from.
pub struct Ring {
    path: PathBuf,
    current: ArcSwap<KeyRing>,
}

impl Ring {
    /// Reads the merchants file, retired keys included: what they signed may still be queued.
    ///
    /// # Errors
    /// Says what is wrong and where.
    pub fn open(path: PathBuf) -> Result<Self, MerchantsError> {
        let ring = KeyRing::load(&path, Side::Worker)?;
        Ok(Self { path, current: ArcSwap::from_pointee(ring) })
    }

    /// The ring now; holders of an older one finish with it.
    #[must_use]
    pub fn load(&self) -> Arc<KeyRing> {
        self.current.load_full()
    }

    /// Reads the file again.
    pub fn reload(&self) {
        match KeyRing::load(&self.path, Side::Worker) {
            Ok(ring) => {
                self.current.store(Arc::new(ring));
                self.log("merchants file read again");
            }
            Err(error) => tracing::error!(file = %self.path.display(), %error, "merchants file is bad, old keys kept"),
        }
    }

    /// Logs who has which keys, by fingerprint.
    pub fn log(&self, message: &str) {
        for merchant in self.current.load().merchants() {
            let keys: Vec<String> = merchant.fingerprints().collect();
            tracing::info!(mch_id = %merchant.mch_id(), keys = keys.join(" "), "{message}");
        }
    }
}
