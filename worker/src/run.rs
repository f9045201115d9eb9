//! A running worker: lanes, sweeper, relay and admin port, started together and stopped in order.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use metrics::gauge;
use shared::messaging::publisher::{Publisher, PublisherOptions};
use shared::messaging::topology::EVENTS_EXCHANGE;
use shared::process::{admin, telemetry};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::tasks::backlog::Backlog;
use crate::tasks::lane::{self, Lane};
use crate::tasks::relay::{self, Relay};
use crate::tasks::sweeper::{self, Sweeper};

/// How long stopping may take. Batches that are not committed by then go back to the broker unacknowledged.
const STOP_DEADLINE: Duration = Duration::from_secs(25);
/// How many events may wait for the broker's confirm at once: one batch of the relay.
const EVENTS_WAITING_MAX: usize = 1024;

/// Runs until `shutdown`, then finishes what was delivered.
///
/// # Errors
/// When the admin port or the metrics cannot be set up.
pub async fn run(
    admin_listener: TcpListener,
    config: Config,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let reload = tokio::spawn(Arc::clone(&config.merchants).reload_on_hangup()?);
    let stop = CancellationToken::new();
    let up = Arc::new(AtomicUsize::new(0));
    let stopping = Arc::new(AtomicBool::new(false));
    let publisher = Publisher::start(PublisherOptions {
        urls: config.urls.clone(),
        exchange: EVENTS_EXCHANGE,
        connection_name: "worker-relay",
        lanes: 1,
        waiting_max: EVENTS_WAITING_MAX,
    });

    let readiness = readiness(Arc::clone(&up), Arc::clone(&stopping), lanes(&config));
    let admin = admin::serve(admin_listener, telemetry::init_metrics()?, readiness)?;
    let admin_handle = admin.handle();
    tokio::spawn(admin);

    config.merchants.log();
    let mut work = start(&config, &publisher, &up, &stop);
    tracing::info!(lanes = lanes(&config), "worker started");

    gauge!("worker_lanes_up").increment(0.0);
    tokio::select! {
        () = shutdown => {}
        // Tasks end only by a panic; the process is restarted rather than run without one of them.
        _ = work.join_next() => anyhow::bail!("a lane, the sweeper or the relay ended unexpectedly; the worker exits so that it is started again"),
    }
    tracing::info!("stopping: finishing what was delivered, taking no new deliveries");
    stopping.store(true, Ordering::Relaxed);
    stop.cancel();
    let finish = async { while work.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_DEADLINE, finish).await.is_err() {
        tracing::warn!("shutdown timed out; unacknowledged messages go back to the broker");
    }
    publisher.close().await;
    reload.abort();
    admin_handle.stop(true).await;
    tracing::info!("stopped");
    Ok(())
}

fn lanes(config: &Config) -> usize {
    config.lanes.saturating_mul(config.queues.len())
}

fn start(config: &Config, publisher: &Publisher, up: &Arc<AtomicUsize>, stop: &CancellationToken) -> JoinSet<()> {
    let (wake_relay, backlog) = (Arc::new(Notify::new()), Arc::new(Backlog::default()));
    let mut work = JoinSet::new();
    let queues = config.queues.iter().flat_map(|queue| std::iter::repeat_n(queue, config.lanes));
    for (number, queue) in queues.enumerate() {
        let lane = Lane {
            number,
            urls: config.urls.clone(),
            queue: queue.clone(),
            batch_max: config.batch_max,
            wait_limit: config.wait_limit,
            database: config.database.clone(),
            merchants: Arc::clone(&config.merchants),
            wake_relay: Arc::clone(&wake_relay),
            backlog: Arc::clone(&backlog),
            up: Arc::clone(up),
        };
        work.spawn(lane::run(lane, stop.clone()));
    }
    let sweeper = Sweeper {
        database: config.database.clone(),
        merchants: Arc::clone(&config.merchants),
        wait_limit: config.wait_limit,
        wake_relay: Arc::clone(&wake_relay),
    };
    work.spawn(sweeper::run(sweeper, stop.clone()));
    let relay = Relay { database: config.database.clone(), publisher: publisher.clone(), wake: wake_relay, backlog };
    work.spawn(relay::run(relay, stop.clone()));
    work
}

/// Ready while every lane consumes: a lane consumes only with a broker and a database.
fn readiness(
    up: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
    lanes: usize,
) -> impl Fn() -> Result<(), String> + Send + Sync + 'static {
    move || {
        let up = up.load(Ordering::Relaxed);
        match (stopping.load(Ordering::Relaxed), up) {
            (true, _) => Err("stopping".to_owned()),
            (false, up) if up < lanes => Err(format!("{up} of {lanes} lanes are consuming")),
            (false, _) => Ok(()),
        }
    }
}
