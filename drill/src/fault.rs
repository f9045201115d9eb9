//! What can be done to Countersign and what it stands on: the list, and what each is for a person and for the schedule.
//!
//! How each is done is in [`crate::faults`].

use clap::ValueEnum;

/// A fault. Its name on the command line is the variant's in kebab case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Fault {
    /// SIGKILL an ingest.
    IngestKill,
    /// SIGKILL a worker.
    WorkerKill,
    /// SIGSTOP a worker until the broker has given it up.
    WorkerFreeze,
    /// Kill every worker again and again with the same messages in hand.
    CrashLoop,
    /// SIGTERM every program, one after another.
    RollingRestart,
    /// SIGKILL the node that leads the queue of callbacks.
    LeaderKill,
    /// SIGKILL a node that follows.
    FollowerKill,
    /// SIGSTOP the leader's node.
    LeaderFreeze,
    /// SIGKILL two nodes of three: no majority.
    MajorityKill,
    /// A broker that takes nothing because its memory is full.
    MemoryAlarm,
    /// A queue at its `max-length`.
    QueueFull,
    /// SIGSTOP PostgreSQL, all of it.
    DatabaseFreeze,
    /// SIGKILL the postmaster.
    DatabaseKill,
    /// An administrator ends every session.
    DatabaseTerminate,
    /// Somebody else holds locks on orders.
    OrderLocks,
    /// Every connection between an ingest and the broker is reset, and every new one.
    IngestBrokerCut,
    /// The connections between an ingest and the broker are forgotten by what is between.
    IngestBrokerHalfOpen,
    /// Nothing passes between an ingest and the broker.
    IngestBrokerBlackHole,
    /// As between ingest and broker.
    WorkerBrokerCut,
    /// As between ingest and broker.
    WorkerBrokerHalfOpen,
    /// As between ingest and broker.
    WorkerBrokerBlackHole,
    /// As between ingest and broker.
    WorkerDatabaseCut,
    /// As between ingest and broker.
    WorkerDatabaseHalfOpen,
    /// As between ingest and broker.
    WorkerDatabaseBlackHole,
    /// The publish arrives, its confirm does not.
    ConfirmLost,
    /// Messages that no ingest would have published.
    Poison,
    /// v3 callbacks signed by another clock.
    ClockSkew,
}

/// A part of the whole. Two faults at once never need the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Area {
    /// The ingests and their way to the broker.
    Ingest,
    /// The workers and their ways.
    Worker,
    /// The broker's nodes and queues.
    Broker,
    /// PostgreSQL.
    Database,
}

impl Fault {
    /// The name on the command line and in the report.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What it does, for the report.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::IngestKill => "SIGKILL an ingest",
            Self::WorkerKill => "SIGKILL a worker",
            Self::WorkerFreeze => "SIGSTOP a worker for 35 s: past its broker heartbeat",
            Self::CrashLoop => "SIGKILL all workers six times with the same messages in hand",
            Self::RollingRestart => "SIGTERM every ingest and worker, one after another",
            Self::LeaderKill => "SIGKILL the broker node that leads the queue",
            Self::FollowerKill => "SIGKILL a broker node that follows",
            Self::LeaderFreeze => "SIGSTOP the leader's broker node for 10 s",
            Self::MajorityKill => "SIGKILL two of three broker nodes, 8 s without a majority",
            Self::MemoryAlarm => "memory alarm: the broker blocks publishers for 8 s",
            Self::QueueFull => "workers cut off for 8 s and a queue with little room: publishes are refused",
            Self::DatabaseFreeze => "SIGSTOP PostgreSQL with all its processes for 10 s",
            Self::DatabaseKill => "SIGKILL the postmaster, start again after 2 s",
            Self::DatabaseTerminate => "terminate every database session",
            Self::OrderLocks => "another session locks 300 pending orders for 10 s",
            Self::IngestBrokerCut => "reset an ingest's connections to the broker for 5 s",
            Self::IngestBrokerHalfOpen => "an ingest's connections to the broker pass nothing any more, untold",
            Self::IngestBrokerBlackHole => "nothing passes between an ingest and the broker for 10 s",
            Self::WorkerBrokerCut => "reset a worker's connections to the broker for 5 s",
            Self::WorkerBrokerHalfOpen => "a worker's connections to the broker pass nothing any more, untold",
            Self::WorkerBrokerBlackHole => "nothing passes between a worker and the broker for 10 s",
            Self::WorkerDatabaseCut => "reset the workers' connections to the database for 5 s",
            Self::WorkerDatabaseHalfOpen => "a worker's connections to the database pass nothing any more, untold",
            Self::WorkerDatabaseBlackHole => "nothing passes between a worker and the database for 10 s",
            Self::ConfirmLost => "cut an ingest off after its publishes arrived, before the confirms come back",
            Self::Poison => "garbage and forgeries published past ingest, as an operator could",
            Self::ClockSkew => "v3 callbacks signed six minutes ago and six minutes from now",
        }
    }

    /// What it takes away or cannot do without, in the order of the areas.
    #[must_use]
    pub fn areas(self) -> &'static [Area] {
        match self {
            Self::IngestKill
            | Self::IngestBrokerCut
            | Self::IngestBrokerHalfOpen
            | Self::IngestBrokerBlackHole
            | Self::ConfirmLost
            | Self::ClockSkew => &[Area::Ingest],
            Self::WorkerKill
            | Self::WorkerFreeze
            | Self::WorkerBrokerCut
            | Self::WorkerBrokerHalfOpen
            | Self::WorkerBrokerBlackHole
            | Self::WorkerDatabaseCut
            | Self::WorkerDatabaseHalfOpen
            | Self::WorkerDatabaseBlackHole => &[Area::Worker],
            Self::LeaderKill | Self::FollowerKill | Self::LeaderFreeze | Self::MajorityKill | Self::MemoryAlarm => {
                &[Area::Broker]
            }
            Self::DatabaseFreeze | Self::DatabaseKill | Self::DatabaseTerminate | Self::OrderLocks => &[Area::Database],
            Self::RollingRestart => &[Area::Ingest, Area::Worker],
            Self::QueueFull => &[Area::Worker, Area::Broker],
            Self::CrashLoop => &[Area::Worker, Area::Database],
            Self::Poison => &[Area::Broker, Area::Database],
        }
    }

    /// Whether both can be done at the same time.
    #[must_use]
    pub fn goes_with(self, other: Self) -> bool {
        self.areas().iter().all(|area| !other.areas().contains(area))
    }

    /// How many seconds the schedule leaves to it, its healing included.
    #[must_use]
    pub fn seconds(self) -> u64 {
        match self {
            Self::Poison | Self::ClockSkew | Self::DatabaseTerminate | Self::WorkerKill => 2,
            Self::IngestKill | Self::ConfirmLost => 4,
            Self::IngestBrokerCut | Self::WorkerBrokerCut | Self::WorkerDatabaseCut | Self::DatabaseKill => 6,
            Self::MemoryAlarm | Self::QueueFull => 9,
            Self::DatabaseFreeze
            | Self::OrderLocks
            | Self::IngestBrokerBlackHole
            | Self::WorkerBrokerBlackHole
            | Self::WorkerDatabaseBlackHole
            | Self::LeaderFreeze => 11,
            Self::LeaderKill | Self::FollowerKill => 12,
            Self::RollingRestart => 15,
            Self::CrashLoop | Self::IngestBrokerHalfOpen | Self::MajorityKill => 20,
            Self::WorkerBrokerHalfOpen => 25,
            Self::WorkerFreeze => 36,
            Self::WorkerDatabaseHalfOpen => 42,
        }
    }

    /// How many broker nodes it takes.
    #[must_use]
    pub fn brokers(self) -> usize {
        match self {
            Self::FollowerKill | Self::MajorityKill => 3,
            _ => 1,
        }
    }
}
