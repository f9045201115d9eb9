//! The merchants file in use: read at start, read again on SIGHUP without dropping a request. A bad file keeps the old
//! keys and says what is wrong where.
//!
//! Every key is counted by its name, with the time of its last use: so an operator sees when an old one may go.

use std::collections::HashMap;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, Guard};
use chrono::Utc;
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::ConfigError;
use crate::protocol::merchants::key::{KeyId, Purpose};
use crate::protocol::merchants::{KeyRing, Merchant, Side};

/// `MERCHANTS_FILE` and the keys that it last gave.
#[derive(Debug)]
pub struct MerchantsFile {
    path: PathBuf,
    side: Side,
    keys: ArcSwap<Keys>,
}

/// A key ring whose keys are counted as they are used.
#[derive(Debug)]
pub struct Keys {
    ring: KeyRing,
    /// Made once metrics are recorded, which is later than the first file is read.
    meters: OnceLock<HashMap<KeyId, Meter>>,
}

#[derive(Debug)]
struct Meter {
    uses: Counter,
    last_used: Gauge,
}

impl Keys {
    /// The keys of a ring.
    #[must_use]
    pub fn new(ring: KeyRing) -> Self {
        Self { ring, meters: OnceLock::new() }
    }

    /// A meter for each key, so that one that is never used shows a 0.
    fn meters(&self) -> &HashMap<KeyId, Meter> {
        self.meters.get_or_init(|| {
            describe_counter!(
                "callback_key_uses_total",
                "Callbacks that this key has opened or verified, repeated looks included"
            );
            describe_gauge!("callback_key_last_used_seconds", "Unix time of the key's last use; 0 before the first");
            self.merchants().flat_map(Merchant::key_ids).map(|(id, _)| (id.clone(), Meter::of(id))).collect()
        })
    }

    /// Counts one more use of a key of this ring.
    #[expect(clippy::disallowed_methods, reason = "the time stamp of a metric; nothing is decided by it")]
    pub fn count_use(&self, key: &KeyId) {
        if let Some(meter) = self.meters().get(key) {
            meter.uses.increment(1);
            meter.last_used.set(u32::try_from(Utc::now().timestamp()).map_or(0.0, f64::from));
        }
    }
}

impl Deref for Keys {
    type Target = KeyRing;

    fn deref(&self) -> &KeyRing {
        &self.ring
    }
}

impl Meter {
    fn of(id: &KeyId) -> Self {
        let labels =
            [("mch_id", id.mch_id.to_string()), ("purpose", id.purpose.name().to_owned()), ("key", id.name.clone())];
        let last_used = gauge!("callback_key_last_used_seconds", &labels);
        // A key that was here before the file was read again keeps its time.
        last_used.increment(0.0);
        Self { uses: counter!("callback_key_uses_total", &labels), last_used }
    }
}

impl MerchantsFile {
    /// Reads the file.
    ///
    /// # Errors
    /// Names `MERCHANTS_FILE` and what is wrong with it.
    pub fn open(path: PathBuf, side: Side) -> Result<Self, ConfigError> {
        match KeyRing::load(&path, side) {
            Ok(ring) => Ok(Self { path, side, keys: ArcSwap::from_pointee(Keys::new(ring)) }),
            Err(error) => {
                Err(ConfigError { variable: "MERCHANTS_FILE", problem: format!("{}: {error}", path.display()) })
            }
        }
    }

    /// The keys of this moment; holders of older ones finish with them.
    #[must_use]
    pub fn keys(&self) -> Guard<Arc<Keys>> {
        self.keys.load()
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
                self.keys.store(Arc::new(Keys::new(ring)));
                self.log();
            }
            Err(error) => {
                let file = self.path.display();
                tracing::error!(%file, %error, "MERCHANTS_FILE was not re-read; the old keys stay");
            }
        }
    }

    /// Logs which keys are in use, by what tells them apart, and begins to count their uses.
    pub fn log(&self) {
        self.keys().meters();
        for line in self.describe() {
            tracing::info!("{line}");
        }
    }

    /// One line per merchant: its number and what tells its keys apart.
    #[must_use]
    pub fn describe(&self) -> Vec<String> {
        let keys = self.keys();
        let mut lines: Vec<_> = keys.merchants().map(describe).collect();
        lines.sort();
        lines.extend(keys.shared_platform_keys().into_iter().map(|(serial, merchants)| {
            format!(
                "warning: platform key {serial} is listed for the merchants {}: a callback whose notify_url names the wrong one of \
                 them would be taken and could not be opened",
                merchants.join(", ")
            )
        }));
        lines
    }
}

/// As in `merchant 1900000109: v2 0a1b2c3d 4e5f6071 (retired); platform PUB_KEY_ID_0119`.
fn describe(merchant: &Merchant) -> String {
    let list_of = |purpose: Purpose| {
        let names: Vec<String> = merchant
            .key_ids()
            .filter(|(id, _)| id.purpose == purpose)
            .map(|(id, is_retired)| if is_retired { format!("{} (retired)", id.name) } else { id.name.clone() })
            .collect();
        (!names.is_empty()).then(|| format!("{} {}", purpose.name(), names.join(" ")))
    };
    let lists: Vec<String> = [Purpose::V2, Purpose::V3, Purpose::Platform].into_iter().filter_map(list_of).collect();
    format!("merchant {}: {}", merchant.mch_id(), lists.join("; "))
}
