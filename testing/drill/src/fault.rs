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
    /// Another session builds an index: a SHARE lock on one table after the other.
    CreateIndex,
    /// Another session alters a table: ACCESS EXCLUSIVE, on one table after the other.
    AlterTable,
    /// VACUUM FULL waits behind a reader, and everybody else behind it, on one table after the other.
    VacuumFull,
    /// A database that answers, and refuses every row for want of space.
    DiskFull,
    /// The ledger's file system is full.
    SmallDisk,
    /// An operator replays and resolves held rows at random.
    Operator,
    /// A shop closes, reopens and saves stale copies of orders that are being paid and refunded.
    Shop,
    /// `worker migrate` changes a table that an old reader holds.
    Migrate,
    /// A month of the ledger is dropped while held rows point into it.
    DroppedMonth,
    /// No queue is bound for some types of events.
    UnroutableEvents,
    /// Clients that never finish a request's head, or its body.
    SlowClients,
    /// Another program publishes as ingest: garbage, made-up counts, the ids of genuine callbacks.
    HostileWriter,
    /// The broker takes messages back whose batch waits for the database.
    ConsumerTimeout,
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
            Self::CreateIndex => "CREATE INDEX in an open transaction, 5 s on each table that workers write",
            Self::AlterTable => "ALTER TABLE in an open transaction, 5 s on each table that workers write",
            Self::VacuumFull => "VACUUM FULL behind a reader, 5 s on each table that workers write",
            Self::DiskFull => "the ledger refuses every row with SQLSTATE 53100 for 66 s",
            Self::SmallDisk => "the file system of the ledger's month is full for 15 s",
            Self::Operator => "an operator replays and resolves held rows at random for 12 s",
            Self::Shop => "a shop closes, reopens and saves stale copies of orders while they are paid and refunded",
            Self::Migrate => "a migration that needs ACCESS EXCLUSIVE on orders meets a reader of 6 s",
            Self::DroppedMonth => "a month of the ledger is dropped while held rows point into it",
            Self::UnroutableEvents => "1,100 events of types that no queue is bound for, for 12 s",
            Self::SlowClients => "half-sent heads and slow bodies on 250 connections to each ingest",
            Self::HostileWriter => "3,000 made-up messages published as ingest, under made-up counts and others' ids",
            Self::ConsumerTimeout => "consumer_timeout of 3 s while every write hangs for 12 s",
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
            Self::SlowClients => &[Area::Ingest, Area::Broker],
            // Each of these makes promises about callbacks that go all the way, and keeps them alone.
            Self::CreateIndex
            | Self::AlterTable
            | Self::VacuumFull
            | Self::DiskFull
            | Self::SmallDisk
            | Self::Operator
            | Self::Shop
            | Self::Migrate
            | Self::DroppedMonth
            | Self::UnroutableEvents
            | Self::HostileWriter
            | Self::ConsumerTimeout => &[Area::Ingest, Area::Worker, Area::Broker, Area::Database],
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
            Self::UnroutableEvents | Self::SlowClients | Self::Migrate => 16,
            Self::CrashLoop
            | Self::IngestBrokerHalfOpen
            | Self::MajorityKill
            | Self::SmallDisk
            | Self::Operator
            | Self::HostileWriter => 20,
            Self::WorkerBrokerHalfOpen | Self::DroppedMonth => 25,
            Self::Shop | Self::ConsumerTimeout => 30,
            Self::WorkerFreeze | Self::CreateIndex | Self::AlterTable | Self::VacuumFull => 36,
            Self::WorkerDatabaseHalfOpen => 42,
            Self::DiskFull => 74,
        }
    }

    /// How many seconds after the mending everything must be in order again, if nothing else strikes meanwhile.
    #[must_use]
    pub fn in_order_within_seconds(self) -> u64 {
        match self {
            // Nothing is mended: each side must find out by itself.
            Self::IngestBrokerHalfOpen | Self::WorkerBrokerHalfOpen | Self::WorkerDatabaseHalfOpen => 45,
            // The nodes start and find each other.
            Self::LeaderKill | Self::FollowerKill | Self::MajorityKill | Self::LeaderFreeze => 30,
            _ => 20,
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
