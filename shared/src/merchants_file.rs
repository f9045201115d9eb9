//! The merchants file in use: read at start, read again on SIGHUP without dropping a request. A bad file keeps the old
//! keys and says what is wrong where.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::ConfigError;
use crate::protocol::merchants::{KeyRing, Side};

/// `MERCHANTS_FILE` and the keys that it last gave.
#[derive(Debug)]
pub struct MerchantsFile {
    path: PathBuf,
    side: Side,
    ring: ArcSwap<KeyRing>,
}

impl MerchantsFile {
    /// Reads the file.
    ///
    /// # Errors
    /// Names `MERCHANTS_FILE` and what is wrong with it.
    pub fn open(path: PathBuf, side: Side) -> Result<Self, ConfigError> {
        match KeyRing::load(&path, side) {
            Ok(ring) => Ok(Self { path, side, ring: ArcSwap::from_pointee(ring) }),
            Err(error) => {
                Err(ConfigError { variable: "MERCHANTS_FILE", problem: format!("{}: {error}", path.display()) })
            }
        }
    }

    /// The keys of this moment; holders of older ones finish with them.
    #[must_use]
    pub fn ring(&self) -> Guard<Arc<KeyRing>> {
        self.ring.load()
    }

    /// Reads the file again whenever the process gets a SIGHUP.
    ///
    /// # Errors
    /// The signal cannot be listened for.
    pub fn reload_on_hangup(self: Arc<Self>) -> std::io::Result<impl Future<Output = ()>> {
        let mut hangups = signal(SignalKind::hangup())?;
        Ok(async move {
            while hangups.recv().await.is_some() {
                let file = Arc::clone(&self);
                if let Err(error) = tokio::task::spawn_blocking(move || file.reload()).await {
                    tracing::error!(%error, "re-reading the merchants file failed; the old keys stay");
                }
            }
        })
    }

    /// Blocks on the file system.
    fn reload(&self) {
        match KeyRing::load(&self.path, self.side) {
            Ok(ring) => {
                self.ring.store(Arc::new(ring));
                self.log();
            }
            Err(error) => {
                let file = self.path.display();
                tracing::error!(%file, %error, "MERCHANTS_FILE was not re-read; the old keys stay");
            }
        }
    }

    /// Logs which keys are in use, by their fingerprints.
    pub fn log(&self) {
        for line in self.describe() {
            tracing::info!("{line}");
        }
    }

    /// One line per merchant: its number and the fingerprints of its keys.
    #[must_use]
    pub fn describe(&self) -> Vec<String> {
        let ring = self.ring();
        let line = |merchant: &crate::protocol::merchants::Merchant| {
            let keys: Vec<_> = merchant.fingerprints().collect();
            format!("merchant {}: v2 keys {}", merchant.mch_id(), keys.join(" "))
        };
        let mut lines: Vec<_> = ring.merchants().map(line).collect();
        lines.sort();
        lines
    }
}
