//! How each fault is done and undone. A strike returns once there is nothing left for it to mend; what then is still out
//! of order is for Countersign to recover from.

mod brokers;
mod database;
mod input;
mod links;
mod programs;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use crate::clock::now_ms;
use crate::fault::Fault;
use crate::fleet::Fleet;
use crate::links::Links;
use crate::schedule::Act;
use crate::servers::Servers;

/// Everything that can be hit.
pub struct Scene {
    /// PostgreSQL and the broker.
    pub servers: Servers,
    /// The ways between.
    pub links: Links,
    /// The programs.
    pub fleet: Fleet,
    /// What was put into the broker past ingest, and what must become of it.
    pub planted: Mutex<Vec<Planted>>,
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

/// What a strike leaves behind for the report.
#[derive(Debug, Default)]
pub struct Mark {
    struck_ms: AtomicU64,
    note: Mutex<String>,
}

impl Mark {
    /// It has taken effect: now.
    pub fn struck(&self) {
        self.struck_ms.store(now_ms(), Ordering::SeqCst);
    }

    /// When it took effect; 0 if it never did.
    #[must_use]
    pub fn struck_ms(&self) -> u64 {
        self.struck_ms.load(Ordering::SeqCst)
    }

    /// What was hit, for the report.
    pub fn note(&self, note: impl Into<String>) {
        *self.note.lock().unwrap_or_else(PoisonError::into_inner) = note.into();
    }

    /// What was hit.
    #[must_use]
    pub fn noted(&self) -> String {
        self.note.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Makes ready what a fault of `acts` needs and what could not be made under load.
///
/// # Errors
/// The database refuses.
pub async fn prepare(servers: &Servers, acts: &[Act]) -> Result<()> {
    if acts.iter().any(|act| act.fault == Fault::CrashLoop) {
        programs::prepare_crash_loop(servers).await?;
    }
    Ok(())
}

/// Does it and undoes it.
///
/// # Errors
/// It could not be done, or not be undone: the drill is worth nothing.
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
