//! Samples the state of the system four times a second, bypassing all proxies, and never waits long.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_postgres::Client;

use crate::clock::now_ms;
use crate::faults::Scene;
use crate::fleet::Member;

const EVERY: Duration = Duration::from_millis(250);
/// A server that has not answered by then counts as unavailable.
const PATIENCE: Duration = Duration::from_millis(800);

/// What could be seen at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    pub at_ms: u64,
    /// Callbacks in the ledger; `None` while the database does not answer.
    pub ledger: Option<u64>,
    /// Events that are not published yet; `None` while the database does not answer.
    pub outbox: Option<u64>,
    /// How many ingests are ready.
    pub ingests_ready: usize,
    /// How many workers are ready.
    pub workers_ready: usize,
}

/// The running sampler.
pub struct Sampler {
    samples: Arc<Mutex<Vec<Sample>>>,
    task: JoinHandle<()>,
}

impl Sampler {
    /// Starts sampling.
    #[must_use]
    pub fn start(scene: Arc<Scene>) -> Self {
        let samples = Arc::<Mutex<Vec<Sample>>>::default();
        Self { task: tokio::spawn(look(scene, Arc::clone(&samples))), samples }
    }

    /// The latest sample.
    #[must_use]
    pub fn last(&self) -> Sample {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).last().cloned().unwrap_or_default()
    }

    /// Stops, and returns all samples.
    pub async fn finish(self) -> Vec<Sample> {
        self.task.abort();
        // Its end is the point: that it was cancelled is no news.
        let _cancelled = self.task.await;
        std::mem::take(&mut *self.samples.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn look(scene: Arc<Scene>, samples: Arc<Mutex<Vec<Sample>>>) {
    let mut database = None;
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (counts, ingests_ready, workers_ready) = tokio::join!(
            timeout(PATIENCE, count(&scene, &mut database)),
            ready(scene.fleet.ingests()),
            ready(scene.fleet.workers()),
        );
        let counts = if let Ok(Ok(counts)) = counts {
            Some(counts)
        } else {
            database = None;
            None
        };
        let sample = Sample {
            at_ms: now_ms(),
            ledger: counts.map(|(ledger, _)| ledger),
            outbox: counts.map(|(_, outbox)| outbox),
            ingests_ready,
            workers_ready,
        };
        samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
    }
}

async fn count(scene: &Scene, database: &mut Option<Client>) -> Result<(u64, u64)> {
    let client = match database.take() {
        Some(client) if !client.is_closed() => client,
        _ => scene.servers.database().await?,
    };
    let counts = "SELECT (SELECT count(*) FROM notifications WHERE part = 0), (SELECT count(*) FROM order_events)";
    let row = database.insert(client).query_one(counts, &[]).await.context("the ledger cannot be counted")?;
    Ok((u64::try_from(row.try_get::<_, i64>(0)?)?, u64::try_from(row.try_get::<_, i64>(1)?)?))
}

async fn ready(members: &[Arc<Member>]) -> usize {
    let mut asked = JoinSet::new();
    for member in members.iter().map(Arc::clone) {
        asked.spawn(async move { timeout(PATIENCE, member.is_ready()).await.unwrap_or(false) });
    }
    asked.join_all().await.into_iter().filter(|is_ready| *is_ready).count()
}
