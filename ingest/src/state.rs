//! What one ingest process owns: the key ring, the publisher, and the bounds on reading, publishing and logging.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shared::merchants_file::MerchantsFile;
use shared::messaging::publisher::{Publisher, PublisherOptions};
use shared::messaging::topology::CALLBACKS_EXCHANGE;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::config::Config;
use crate::meters::Meters;
use crate::rate_limit::RateLimit;
use crate::reading::Reading;
use crate::refusal::RefusalLog;

/// At most this many wrong v3 signatures per second are diagnosed. A diagnosis costs several verifications, and a forger
/// controls the volume.
const DIAGNOSES_PER_SECOND_MAX: u64 = 100;
/// At most this many callbacks per second that were not stored get a log line of their own. An outage has thousands: they are
/// counted, and WeChat Pay's repeat of each gets a new message id anyway.
const WARNINGS_PER_SECOND_MAX: u64 = 10;

/// The state behind the routes; one per process, shared by every thread.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) publisher: Publisher,
    pub(crate) meters: Meters,
    pub(crate) merchants: Arc<MerchantsFile>,
    pub(crate) diagnoses: RateLimit,
    pub(crate) warnings: RateLimit,
    pub(crate) refusals: RefusalLog,
    pub(crate) reading: Reading,
    slots: Semaphore,
    stopping: AtomicBool,
}

impl App {
    /// Starts to connect to the broker, on the current tokio runtime.
    pub(crate) fn start(config: &Config, merchants: MerchantsFile) -> Self {
        let in_flight_max = usize::try_from(config.in_flight_max).unwrap_or(usize::MAX);
        merchants.log();
        let publisher = Publisher::start(PublisherOptions {
            urls: config.amqp_urls.clone(),
            exchange: CALLBACKS_EXCHANGE,
            connection_name: "ingest",
            lanes: config.publish_lanes.into(),
            waiting_max: in_flight_max,
        });
        Self {
            publisher,
            meters: Meters::register(),
            merchants: Arc::new(merchants),
            diagnoses: RateLimit::per_second(DIAGNOSES_PER_SECOND_MAX),
            warnings: RateLimit::per_second(WARNINGS_PER_SECOND_MAX),
            refusals: RefusalLog::default(),
            reading: Reading::with_mib(config.reading_mib_max),
            slots: Semaphore::new(in_flight_max),
            stopping: AtomicBool::new(false),
        }
    }

    /// A place among the callbacks that are being published; `None` when all are taken.
    pub(crate) fn try_admit(&self) -> Option<SemaphorePermit<'_>> {
        self.slots.try_acquire().ok()
    }

    /// Whether load balancers should send callbacks to this process right now.
    ///
    /// # Errors
    /// Why not, for an operator.
    pub(crate) fn readiness(&self) -> Result<(), String> {
        if self.is_stopping() {
            return Err("stopping".to_owned());
        }
        self.publisher.readiness().map_err(ToOwned::to_owned)
    }

    /// From here on the process reports that it is not ready. It still accepts callbacks.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Closes the connection to the broker.
    pub(crate) async fn close(&self) {
        self.publisher.close().await;
    }
}
