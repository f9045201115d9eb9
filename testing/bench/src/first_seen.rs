//! When something was first seen of each order, noted by a task that listens.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kit::until::until_within;

/// How long all orders may take to be seen.
const PATIENCE: Duration = Duration::from_mins(2);

/// The moments, by order number; clones share them.
#[derive(Debug, Clone, Default)]
pub struct FirstSeen(Arc<Mutex<HashMap<String, Instant>>>);

impl FirstSeen {
    /// An order was seen at `now`; later sights of it do not count.
    pub fn note(&self, out_trade_no: String, now: Instant) {
        self.lock().entry(out_trade_no).or_insert(now);
    }

    /// All of them, once `count` orders were seen. `what` completes "waiting until 100 orders are …".
    pub async fn until(&self, count: usize, what: &str) -> Result<HashMap<String, Instant>> {
        until_within(PATIENCE, &format!("{count} orders are {what}"), async || {
            let seen = self.lock().len();
            ensure!(seen >= count, "{seen} are");
            Ok(())
        })
        .await?;
        Ok(std::mem::take(&mut *self.lock()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
