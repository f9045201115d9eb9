//! Faults of the connections between programs and servers.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use kit::proxy::Proxy;
use kit::until::until_within;
use tokio::time::sleep;

use crate::clock::seconds;
use crate::fault::{BLACK_HOLE_SECONDS, CUT_SECONDS, Fault};
use crate::links::{Link, Links};
use crate::record::FaultRecord;
use crate::schedule::ScheduledFault;

/// How long to wait for confirms; ingest itself gives up after 2.5 s.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(2);
/// Two frames of the smallest kind: more than a heartbeat.
const A_CONFIRM_BYTES: usize = 21;
/// A pause between the cut and the restored link.
const CUT: Duration = Duration::from_millis(300);

/// Injects `scheduled` into a link.
pub(super) async fn inject(links: &Links, scheduled: ScheduledFault, record: &FaultRecord) -> Result<()> {
    let ingest_broker = links.ingest_to_broker(scheduled.pick)?;
    let worker_broker = links.worker_to_broker(scheduled.pick)?;
    let worker_database = links.worker_to_database(scheduled.pick)?;
    match scheduled.fault {
        Fault::IngestBrokerCut => cut(std::slice::from_ref(ingest_broker), record).await,
        Fault::WorkerBrokerCut => cut(std::slice::from_ref(worker_broker), record).await,
        Fault::WorkerDatabaseCut => cut(links.workers_to_database(), record).await,
        Fault::IngestBrokerHalfOpen => half_open(ingest_broker, record),
        Fault::WorkerBrokerHalfOpen => half_open(worker_broker, record),
        Fault::WorkerDatabaseHalfOpen => half_open(worker_database, record),
        Fault::IngestBrokerBlackHole => black_hole(ingest_broker, record).await,
        Fault::WorkerBrokerBlackHole => black_hole(worker_broker, record).await,
        Fault::WorkerDatabaseBlackHole => black_hole(worker_database, record).await,
        Fault::ConfirmLost => lose_confirms(ingest_broker, record).await,
        other => bail!("{} is not about a link", other.name()),
    }
    Ok(())
}

async fn cut(links: &[Link], record: &FaultRecord) {
    cut_off(links, record, CUT_SECONDS).await;
}

/// Resets all connections, old and new, for `for_seconds`.
pub(super) async fn cut_off(links: &[Link], record: &FaultRecord, for_seconds: u64) {
    for link in links {
        link.all(Proxy::cut);
    }
    record.injected();
    seconds(for_seconds).await;
    for link in links {
        link.all(Proxy::pass);
    }
}

/// Nothing is lifted: both sides must notice by themselves, and reconnect.
fn half_open(link: &Link, record: &FaultRecord) {
    link.all(Proxy::strand);
    record.injected();
}

async fn black_hole(link: &Link, record: &FaultRecord) {
    link.all(Proxy::hold);
    record.injected();
    seconds(BLACK_HOLE_SECONDS).await;
    link.all(Proxy::pass);
}

/// Ingest's publishes reach the broker; the broker's replies are held, and lost when the connection is cut.
async fn lose_confirms(link: &Link, record: &FaultRecord) {
    link.all(Proxy::hold_to_client);
    record.injected();
    let confirmed = until_within(CONFIRM_PATIENCE, "a confirm is on its way", async || {
        ensure!(link.held() >= A_CONFIRM_BYTES, "{} bytes are", link.held());
        Ok(())
    });
    let bytes = confirmed.await.map(|()| link.held());
    link.all(Proxy::cut);
    sleep(CUT).await;
    link.all(Proxy::pass);
    record.note(bytes.map_or("no confirm came".to_owned(), |bytes| format!("{bytes} bytes of confirms")));
}
