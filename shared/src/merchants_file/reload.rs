//! The merchants file in use: read at start, re-read on SIGHUP without dropping a request. If the new file is invalid, the
//! old keys stay in use and the log says what is wrong where.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tokio::signal::unix::{SignalKind, signal};

use super::meter::MeteredKeyRing;
use super::parse::{Program, load};
use crate::process::config::ConfigError;
use crate::protocol::keys::{Merchant, Purpose};

/// `MERCHANTS_FILE` and the keys that it last gave.
#[derive(Debug)]
pub struct MerchantsFile {
    path: PathBuf,
    program: Program,
    keys: ArcSwap<MeteredKeyRing>,
}

impl MerchantsFile {
    /// Reads the file.
    ///
    /// # Errors
    /// Names `MERCHANTS_FILE` and what is wrong with it.
    pub fn open(path: PathBuf, program: Program) -> Result<Self, ConfigError> {
        match load(&path, program) {
            Ok(ring) => Ok(Self { path, program, keys: ArcSwap::from_pointee(MeteredKeyRing::new(ring)) }),
            Err(error) => {
                Err(ConfigError { variable: "MERCHANTS_FILE", problem: format!("{}: {error}", path.display()) })
            }
        }
    }

    /// The current keys. Callers that hold older ones may finish with them.
    #[must_use]
    pub fn keys(&self) -> Guard<Arc<MeteredKeyRing>> {
        self.keys.load()
    }

    /// Re-reads the file whenever the process gets a SIGHUP.
    ///
    /// # Errors
    /// The signal handler cannot be installed.
    pub fn reload_on_hangup(self: Arc<Self>) -> std::io::Result<impl Future<Output = ()>> {
        let mut hangups = signal(SignalKind::hangup())?;
        Ok(async move {
            while hangups.recv().await.is_some() {
                let file = Arc::clone(&self);
                if let Err(error) = tokio::task::spawn_blocking(move || file.reload()).await {
                    tracing::error!(%error, "re-reading MERCHANTS_FILE failed; the old keys stay in use");
                }
            }
        })
    }

    /// Blocks on the file system.
    fn reload(&self) {
        match load(&self.path, self.program) {
            Ok(ring) => {
                self.keys.store(Arc::new(MeteredKeyRing::new(ring)));
                self.log();
            }
            Err(error) => {
                let file = self.path.display();
                tracing::error!(%file, %error, "cannot re-read MERCHANTS_FILE; the old keys stay in use");
            }
        }
    }

    /// Logs the ids of the keys in use, and begins to count their uses.
    pub fn log(&self) {
        self.keys().register();
        for line in self.describe() {
            tracing::info!("{line}");
        }
    }

    /// One line per merchant: its number and the ids of its keys.
    #[must_use]
    pub fn describe(&self) -> Vec<String> {
        let keys = self.keys();
        let mut lines: Vec<_> = keys.ring().merchants().map(describe).collect();
        lines.sort();
        lines.extend(keys.ring().shared_platform_keys().into_iter().map(|(serial, merchants)| {
            format!(
                "warning: platform key {serial} is listed for the merchants {}: a callback whose notify_url names the wrong one of \
                 them would be accepted but could not be opened",
                merchants.join(", ")
            )
        }));
        lines
    }
}

/// As in `merchant 1900000109: v2 0a1b2c3d 4e5f6071 (retired); platform PUB_KEY_ID_0119`.
fn describe(merchant: &Merchant) -> String {
    let list = |purpose: Purpose| {
        let names: Vec<String> = merchant
            .key_ids()
            .filter(|(id, _)| id.purpose == purpose)
            .map(|(id, is_retired)| if is_retired { format!("{} (retired)", id.name) } else { id.name.clone() })
            .collect();
        (!names.is_empty()).then(|| format!("{} {}", purpose.name(), names.join(" ")))
    };
    let lists: Vec<String> = [Purpose::V2, Purpose::V3, Purpose::Platform].into_iter().filter_map(list).collect();
    format!("merchant {}: {}", merchant.mch_id(), lists.join("; "))
}
