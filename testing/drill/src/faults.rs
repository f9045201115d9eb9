//! How each fault is injected and lifted. `inject` returns once there is nothing left to undo; Countersign must recover from
//! the rest by itself.

mod brokers;
mod database;
mod disk;
mod events;
mod hostile;
mod input;
mod lanes;
mod links;
mod operator;
mod programs;
mod schema;
mod shop;
pub(crate) mod tables;

use std::collections::BTreeSet;
use std::sync::Mutex;

use anyhow::Result;
use kit::post::Post;

use crate::fault::Fault;
use crate::fleet::Fleet;
use crate::links::Links;
use crate::own;
use crate::record::FaultRecord;
use crate::schedule::ScheduledFault;
use crate::servers::Servers;

/// Everything that a fault can hit.
pub struct Scene {
    /// PostgreSQL and the broker.
    pub servers: Servers,
    /// The links between programs and servers.
    pub links: Links,
    pub fleet: Fleet,
    /// What was published past ingest, and what must become of it.
    pub planted: Mutex<Vec<Planted>>,
    /// Whether the ledger's month is on a small file system of its own.
    pub has_small_disk: bool,
}

/// A message that no ingest published.
#[derive(Debug, Clone)]
pub struct Planted {
    /// Its AMQP `message_id`.
    pub id: uuid::Uuid,
    /// What is wrong with it.
    pub what: &'static str,
    /// Its outcome and reason in the ledger.
    pub verdict: &'static str,
}

/// Prepares what the faults of `schedule` need and what could not be created under load; true when the ledger's month is on a
/// small file system of its own.
pub async fn prepare(servers: &Servers, schedule: &[ScheduledFault]) -> Result<bool> {
    let mut has_small_disk = false;
    for fault in schedule.iter().map(|scheduled| scheduled.fault).collect::<BTreeSet<_>>() {
        match fault {
            Fault::CrashLoop | Fault::ConsumerTimeout | Fault::Shop => {
                programs::prepare_hanging_writes(servers).await?;
            }
            Fault::DiskFull => disk::prepare_refusal(servers).await?,
            Fault::SmallDisk => has_small_disk = disk::prepare_small_disk(servers).await?,
            Fault::DroppedMonth => schema::prepare_month(servers).await?,
            _ => {}
        }
    }
    Ok(has_small_disk)
}

impl Scene {
    /// Promises that the whole pipeline works: a callback that arrives now pays its order.
    async fn promise_payment(&self, record: &FaultRecord, within_seconds: u64) {
        let number = own::numbers(1);
        let mut payment: Vec<Post> = own::payments(&number).iter().map(|payment| payment.body().into()).collect();
        record
            .promise("a callback that arrives afterwards pays its order", within_seconds, async || {
                let database = self.servers.database().await?;
                if own::standings(&database, &number).await?.is_empty() {
                    own::insert(&database, &number, "pending").await?;
                }
                own::deliver_all(&self.fleet, std::mem::take(&mut payment)).await?;
                own::ensure_paid(&database, &number).await
            })
            .await;
    }
}

/// Injects the fault and lifts it.
pub async fn inject(scene: &Scene, scheduled: ScheduledFault, record: &FaultRecord) -> Result<()> {
    let Scene { servers, links, fleet, .. } = scene;
    let pick = scheduled.pick;
    match scheduled.fault {
        Fault::IngestKill => programs::kill(fleet.ingests(), pick, record).await,
        Fault::WorkerKill => programs::kill(fleet.workers(), pick, record).await,
        Fault::WorkerFreeze => programs::freeze(fleet.workers(), pick, record).await,
        Fault::CrashLoop => programs::crash_loop(servers, fleet.workers(), record).await,
        Fault::RollingRestart => programs::rolling_restart(fleet.members(), record).await,
        Fault::LeaderKill => brokers::kill_leader(servers, record).await,
        Fault::FollowerKill => brokers::kill_follower(servers, pick, record).await,
        Fault::LeaderFreeze => brokers::freeze_leader(servers, record).await,
        Fault::MajorityKill => brokers::kill_majority(servers, pick, record).await,
        Fault::MemoryAlarm => brokers::alarm(servers, record).await,
        Fault::QueueFull => brokers::fill_queue(scene, record).await,
        Fault::DatabaseFreeze => database::freeze(servers, record).await,
        Fault::DatabaseKill => database::kill(servers, record).await,
        Fault::DatabaseTerminate => database::terminate(servers, record).await,
        Fault::OrderLocks => database::lock_orders(servers, record).await,
        Fault::Poison => input::poison(scene, record).await,
        Fault::ClockSkew => input::skew_clock(fleet.ingests(), record).await,
        Fault::CreateIndex | Fault::AlterTable | Fault::VacuumFull => {
            tables::lock_each(scene, scheduled.fault, record).await
        }
        Fault::DiskFull => disk::refuse(scene, record).await,
        Fault::SmallDisk => disk::fill(scene, record).await,
        Fault::Operator => operator::work(scene, pick, record).await,
        Fault::Shop => shop::meddle(scene, record).await,
        Fault::Migrate => schema::migrate(scene, record).await,
        Fault::DroppedMonth => schema::drop_month(scene, record).await,
        Fault::UnroutableEvents => events::unbind(scene, record).await,
        Fault::SlowClients => hostile::be_slow(scene, record).await,
        Fault::HostileWriter => hostile::write(scene, record).await,
        Fault::ConsumerTimeout => lanes::lose_patience(scene, record).await,
        Fault::IngestBrokerCut
        | Fault::IngestBrokerHalfOpen
        | Fault::IngestBrokerBlackHole
        | Fault::WorkerBrokerCut
        | Fault::WorkerBrokerHalfOpen
        | Fault::WorkerBrokerBlackHole
        | Fault::WorkerDatabaseCut
        | Fault::WorkerDatabaseHalfOpen
        | Fault::WorkerDatabaseBlackHole
        | Fault::ConfirmLost => links::inject(links, scheduled, record).await,
    }
}
