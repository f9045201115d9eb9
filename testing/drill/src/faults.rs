//! How each fault is done and undone. A strike returns once there is nothing left for it to mend; what then is still out
//! of order is for Countersign to recover from.

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
use crate::mark::Mark;
use crate::own;
use crate::schedule::Act;
use crate::servers::Servers;

/// Everything that can be hit.
pub struct Scene {
    /// PostgreSQL and the broker.
    pub servers: Servers,
    /// The ways between.
    pub links: Links,
    pub fleet: Fleet,
    /// What was put into the broker past ingest, and what must become of it.
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
    /// The ledger's word for it: outcome and reason.
    pub verdict: &'static str,
}

/// Makes ready what the faults of `acts` need and what could not be made under load; true when the ledger's month is on a
/// small file system of its own.
pub async fn prepare(servers: &Servers, acts: &[Act]) -> Result<bool> {
    let mut has_small_disk = false;
    for fault in acts.iter().map(|act| act.fault).collect::<BTreeSet<_>>() {
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
    /// Promises that the whole way works: a callback that comes now pays its order.
    async fn promise_payment(&self, mark: &Mark, within_seconds: u64) {
        let number = own::numbers(1);
        let mut payment: Vec<Post> = own::payments(&number).iter().map(|payment| payment.body().into()).collect();
        mark.promise("a callback that comes afterwards pays its order", within_seconds, async || {
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

/// Does it and undoes it.
pub async fn strike(scene: &Scene, act: Act, mark: &Mark) -> Result<()> {
    let Scene { servers, links, fleet, .. } = scene;
    let pick = act.pick;
    match act.fault {
        Fault::IngestKill => programs::kill(fleet.ingests(), pick, mark).await,
        Fault::WorkerKill => programs::kill(fleet.workers(), pick, mark).await,
        Fault::WorkerFreeze => programs::freeze(fleet.workers(), pick, mark).await,
        Fault::CrashLoop => programs::crash_loop(servers, fleet.workers(), mark).await,
        Fault::RollingRestart => programs::rolling_restart(fleet.members(), mark).await,
        Fault::LeaderKill => brokers::kill_leader(servers, mark).await,
        Fault::FollowerKill => brokers::kill_follower(servers, pick, mark).await,
        Fault::LeaderFreeze => brokers::freeze_leader(servers, mark).await,
        Fault::MajorityKill => brokers::kill_majority(servers, pick, mark).await,
        Fault::MemoryAlarm => brokers::alarm(servers, mark).await,
        Fault::QueueFull => brokers::fill_queue(scene, mark).await,
        Fault::DatabaseFreeze => database::freeze(servers, mark).await,
        Fault::DatabaseKill => database::kill(servers, mark).await,
        Fault::DatabaseTerminate => database::terminate(servers, mark).await,
        Fault::OrderLocks => database::lock_orders(servers, mark).await,
        Fault::Poison => input::poison(scene, mark).await,
        Fault::ClockSkew => input::skew_clock(fleet.ingests(), mark).await,
        Fault::CreateIndex | Fault::AlterTable | Fault::VacuumFull => tables::lock_each(scene, act.fault, mark).await,
        Fault::DiskFull => disk::refuse(scene, mark).await,
        Fault::SmallDisk => disk::fill(scene, mark).await,
        Fault::Operator => operator::work(scene, pick, mark).await,
        Fault::Shop => shop::meddle(scene, mark).await,
        Fault::Migrate => schema::migrate(scene, mark).await,
        Fault::DroppedMonth => schema::drop_month(scene, mark).await,
        Fault::UnroutableEvents => events::unbind(scene, mark).await,
        Fault::SlowClients => hostile::be_slow(scene, mark).await,
        Fault::HostileWriter => hostile::write(scene, mark).await,
        Fault::ConsumerTimeout => lanes::lose_patience(scene, mark).await,
        Fault::IngestBrokerCut
        | Fault::IngestBrokerHalfOpen
        | Fault::IngestBrokerBlackHole
        | Fault::WorkerBrokerCut
        | Fault::WorkerBrokerHalfOpen
        | Fault::WorkerBrokerBlackHole
        | Fault::WorkerDatabaseCut
        | Fault::WorkerDatabaseHalfOpen
        | Fault::WorkerDatabaseBlackHole
        | Fault::ConfirmLost => links::strike(links, act, mark).await,
    }
}
