//! The faults that the drill can inject into Countersign and its servers: their names, their sentences, their durations and
//! what they need.
//!
//! How each is injected is in [`crate::faults`].

use clap::ValueEnum;

use crate::faults::tables::TABLES;

// How long each fault lasts, and how much it does. The faults themselves, their sentences and the schedule use these.
// Durations without a comment are arbitrary.

/// RabbitMQ gives up a client after two heartbeats of 10 s without a sign of life, and checks every 10 s.
pub(crate) const WORKER_FROZEN_SECONDS: u64 = 35;
/// One more than the deliveries after which a message is decided alone.
pub(crate) const CRASHES: usize = 6;
pub(crate) const NODE_DOWN_SECONDS: u64 = 3;
pub(crate) const NODE_FROZEN_SECONDS: u64 = 10;
pub(crate) const NO_MAJORITY_SECONDS: u64 = 8;
pub(crate) const MEMORY_ALARM_SECONDS: u64 = 8;
pub(crate) const QUEUE_FULL_SECONDS: u64 = 8;
pub(crate) const DATABASE_FROZEN_SECONDS: u64 = 10;
pub(crate) const DATABASE_DOWN_SECONDS: u64 = 2;
pub(crate) const ORDERS_LOCKED: usize = 300;
pub(crate) const ORDERS_LOCKED_SECONDS: u64 = 10;
pub(crate) const CUT_SECONDS: u64 = 5;
pub(crate) const BLACK_HOLE_SECONDS: u64 = 10;
/// Ingest allows 300 s.
pub(crate) const CLOCK_SKEW_SECONDS: i64 = 360;
/// Several times as long as a worker waits for a lock.
pub(crate) const TABLE_LOCKED_SECONDS: u64 = 5;
/// Longer than any lane keeps a batch that it could return.
pub(crate) const DISK_FULL_SECONDS: u64 = 66;
pub(crate) const SMALL_DISK_FULL_SECONDS: u64 = 15;
pub(crate) const OPERATOR_SECONDS: u64 = 12;
/// How long the reader that the migration meets keeps its transaction open.
pub(crate) const READER_SECONDS: u64 = 6;
/// More than the relay takes in one pass.
pub(crate) const UNROUTABLE_EVENTS: usize = 1_100;
pub(crate) const UNROUTABLE_SECONDS: u64 = 12;
/// Connections to each ingest that send half a head, and a slow body.
pub(crate) const HALF_HEADS: usize = 150;
pub(crate) const SLOW_BODIES: usize = 100;
/// Messages with a made-up delivery count.
pub(crate) const FORGED_MESSAGES: usize = 3_000;
pub(crate) const CONSUMER_TIMEOUT_SECONDS: u64 = 3;
/// Several times the broker's patience.
pub(crate) const WRITES_HANG_SECONDS: u64 = 12;

/// A fault. Its name on the command line is the variant's in kebab case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Fault {
    /// SIGKILL an ingest.
    IngestKill,
    /// SIGKILL a worker.
    WorkerKill,
    /// SIGSTOP a worker until the broker drops its connection.
    WorkerFreeze,
    /// Kill every worker repeatedly while it holds the same messages.
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
    /// A broker that blocks publishers because its memory is full.
    MemoryAlarm,
    /// A queue at its `max-length`.
    QueueFull,
    /// SIGSTOP PostgreSQL with all its processes.
    DatabaseFreeze,
    /// SIGKILL the postmaster.
    DatabaseKill,
    /// An administrator terminates every database session.
    DatabaseTerminate,
    /// Another session holds locks on orders.
    OrderLocks,
    /// Reset all connections between an ingest and the broker, old and new.
    IngestBrokerCut,
    /// The connections between an ingest and the broker silently drop all traffic.
    IngestBrokerHalfOpen,
    /// Nothing passes between an ingest and the broker.
    IngestBrokerBlackHole,
    /// Reset all connections between a worker and the broker, old and new.
    WorkerBrokerCut,
    /// The connections between a worker and the broker silently drop all traffic.
    WorkerBrokerHalfOpen,
    /// Nothing passes between a worker and the broker.
    WorkerBrokerBlackHole,
    /// Reset all connections between the workers and the database, old and new.
    WorkerDatabaseCut,
    /// The connections between a worker and the database silently drop all traffic.
    WorkerDatabaseHalfOpen,
    /// Nothing passes between a worker and the database.
    WorkerDatabaseBlackHole,
    /// The broker receives a publish, and ingest does not receive the confirm.
    ConfirmLost,
    /// Messages that no ingest would have published.
    Poison,
    /// v3 callbacks signed by a clock that is wrong.
    ClockSkew,
    /// Another session builds an index: a SHARE lock on one table after the other.
    CreateIndex,
    /// Another session alters a table: ACCESS EXCLUSIVE, on one table after the other.
    AlterTable,
    /// VACUUM FULL waits for a reader, and all other sessions wait for VACUUM FULL, on one table after the other.
    VacuumFull,
    /// A database that answers, and rejects every row for lack of space.
    DiskFull,
    /// The ledger's file system is full.
    SmallDisk,
    /// An operator replays and resolves held rows at random.
    Operator,
    /// A shop closes, reopens and saves stale copies of orders that are being paid and refunded.
    Shop,
    /// `worker migrate` changes a table that an old reader holds.
    Migrate,
    /// A month of the ledger is dropped while held rows refer to it.
    DroppedMonth,
    /// No queue is bound for some types of events.
    UnroutableEvents,
    /// Clients that never finish the head or the body of a request.
    SlowClients,
    /// Another program publishes as ingest: garbage, made-up counts, the ids of genuine callbacks.
    HostileWriter,
    /// The broker requeues messages whose batch waits for the database.
    ConsumerTimeout,
}

/// A part of the system. Overlapping faults never use the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Area {
    /// The ingests and their connections to the broker.
    Ingest,
    /// The workers and their connections.
    Worker,
    /// The broker's nodes and queues.
    Broker,
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
    pub fn sentence(self) -> String {
        match self {
            Self::IngestKill => "SIGKILL an ingest".to_owned(),
            Self::WorkerKill => "SIGKILL a worker".to_owned(),
            Self::WorkerFreeze => format!("SIGSTOP a worker for {WORKER_FROZEN_SECONDS} s: past its broker heartbeat"),
            Self::CrashLoop => format!("SIGKILL all workers {CRASHES} times while they hold the same messages"),
            Self::RollingRestart => "SIGTERM every ingest and worker, one after another".to_owned(),
            Self::LeaderKill => "SIGKILL the broker node that leads the queue".to_owned(),
            Self::FollowerKill => "SIGKILL a broker node that follows".to_owned(),
            Self::LeaderFreeze => format!("SIGSTOP the leader's broker node for {NODE_FROZEN_SECONDS} s"),
            Self::MajorityKill => {
                format!("SIGKILL two of three broker nodes: {NO_MAJORITY_SECONDS} s without a majority")
            }
            Self::MemoryAlarm => format!("memory alarm: the broker blocks publishers for {MEMORY_ALARM_SECONDS} s"),
            Self::QueueFull => {
                format!("cut all workers off for {QUEUE_FULL_SECONDS} s while the queue has little room")
            }
            Self::DatabaseFreeze => {
                format!("SIGSTOP PostgreSQL with all its processes for {DATABASE_FROZEN_SECONDS} s")
            }
            Self::DatabaseKill => format!("SIGKILL the postmaster, start it again after {DATABASE_DOWN_SECONDS} s"),
            Self::DatabaseTerminate => "terminate every database session".to_owned(),
            Self::OrderLocks => {
                format!("another session locks {ORDERS_LOCKED} pending orders for {ORDERS_LOCKED_SECONDS} s")
            }
            Self::ConfirmLost => "cut an ingest off after its publishes arrived and before their confirms".to_owned(),
            Self::Poison => "publish garbage and forgeries straight to the broker, as an operator could".to_owned(),
            Self::ClockSkew => {
                format!("send v3 callbacks signed {CLOCK_SKEW_SECONDS} s in the past and as far in the future")
            }
            Self::CreateIndex => on_each_table("CREATE INDEX in an open transaction"),
            Self::AlterTable => on_each_table("ALTER TABLE in an open transaction"),
            Self::VacuumFull => on_each_table("VACUUM FULL that waits for a reader"),
            Self::DiskFull => format!("the ledger rejects every row with SQLSTATE 53100 for {DISK_FULL_SECONDS} s"),
            Self::SmallDisk => {
                format!("the file system of the ledger's current month is full for {SMALL_DISK_FULL_SECONDS} s")
            }
            Self::Operator => format!("an operator replays and resolves held rows at random for {OPERATOR_SECONDS} s"),
            Self::Shop => "a shop closes, reopens and overwrites orders while they are paid and refunded".to_owned(),
            Self::Migrate => {
                format!("a migration that needs ACCESS EXCLUSIVE on orders meets a reader of {READER_SECONDS} s")
            }
            Self::DroppedMonth => "drop a month of the ledger while held rows refer to it".to_owned(),
            Self::UnroutableEvents => {
                format!("{UNROUTABLE_EVENTS} events of types that no queue is bound for, for {UNROUTABLE_SECONDS} s")
            }
            Self::SlowClients => format!(
                "half-sent heads and slow bodies on {} connections to each ingest",
                HALF_HEADS.saturating_add(SLOW_BODIES)
            ),
            Self::HostileWriter => format!(
                "{FORGED_MESSAGES} forged messages published as ingest, with made-up delivery counts and stolen ids"
            ),
            Self::ConsumerTimeout => format!(
                "consumer_timeout of {CONSUMER_TIMEOUT_SECONDS} s while every write hangs for {WRITES_HANG_SECONDS} s"
            ),
            link => link.sentence_of_a_link(),
        }
    }

    /// The sentences of the faults that hit a link.
    fn sentence_of_a_link(self) -> String {
        let link = match self {
            Self::IngestBrokerCut | Self::IngestBrokerHalfOpen | Self::IngestBrokerBlackHole => {
                "an ingest's connections to the broker"
            }
            Self::WorkerBrokerCut | Self::WorkerBrokerHalfOpen | Self::WorkerBrokerBlackHole => {
                "a worker's connections to the broker"
            }
            Self::WorkerDatabaseCut => "all workers' connections to the database",
            _ => "a worker's connections to the database",
        };
        match self {
            Self::IngestBrokerCut | Self::WorkerBrokerCut | Self::WorkerDatabaseCut => {
                format!("reset {link}, old and new, for {CUT_SECONDS} s")
            }
            Self::IngestBrokerHalfOpen | Self::WorkerBrokerHalfOpen | Self::WorkerDatabaseHalfOpen => {
                format!("{link} silently drop all traffic, FIN and RST included; new ones work")
            }
            _ => format!("{link}, old and new, pass nothing for {BLACK_HOLE_SECONDS} s"),
        }
    }

    /// The areas that it disturbs or depends on, in order.
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
            // Each of these makes promises about callbacks that pass through the whole pipeline, so nothing else may disturb it.
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

    /// Whether both can overlap.
    #[must_use]
    pub fn goes_with(self, other: Self) -> bool {
        self.areas().iter().all(|area| !other.areas().contains(area))
    }

    /// How many seconds the schedule reserves for it, until it has been lifted.
    #[must_use]
    pub fn seconds(self) -> u64 {
        match self {
            Self::Poison | Self::ClockSkew | Self::DatabaseTerminate | Self::WorkerKill => 2,
            Self::IngestKill | Self::ConfirmLost => 4,
            Self::IngestBrokerCut | Self::WorkerBrokerCut | Self::WorkerDatabaseCut => CUT_SECONDS + 1,
            Self::DatabaseKill => DATABASE_DOWN_SECONDS + 4,
            Self::MemoryAlarm => MEMORY_ALARM_SECONDS + 1,
            Self::QueueFull => QUEUE_FULL_SECONDS + 1,
            Self::DatabaseFreeze => DATABASE_FROZEN_SECONDS + 1,
            Self::OrderLocks => ORDERS_LOCKED_SECONDS + 1,
            Self::IngestBrokerBlackHole | Self::WorkerBrokerBlackHole | Self::WorkerDatabaseBlackHole => {
                BLACK_HOLE_SECONDS + 1
            }
            Self::LeaderFreeze => NODE_FROZEN_SECONDS + 1,
            Self::LeaderKill | Self::FollowerKill => NODE_DOWN_SECONDS + 9,
            Self::MajorityKill => NO_MAJORITY_SECONDS + 12,
            Self::RollingRestart => 15,
            Self::UnroutableEvents => UNROUTABLE_SECONDS + 4,
            Self::SlowClients => 16,
            Self::Migrate => READER_SECONDS + 10,
            Self::SmallDisk => SMALL_DISK_FULL_SECONDS + 5,
            Self::Operator => OPERATOR_SECONDS + 8,
            Self::CrashLoop | Self::IngestBrokerHalfOpen | Self::HostileWriter => 20,
            Self::WorkerBrokerHalfOpen | Self::DroppedMonth => 25,
            Self::Shop => 30,
            Self::ConsumerTimeout => WRITES_HANG_SECONDS + 18,
            Self::WorkerFreeze => WORKER_FROZEN_SECONDS + 1,
            // Every table in turn, and a moment for each.
            Self::CreateIndex | Self::AlterTable | Self::VacuumFull => {
                (TABLE_LOCKED_SECONDS + 1).saturating_mul(u64::try_from(TABLES.len()).unwrap_or(u64::MAX))
            }
            Self::WorkerDatabaseHalfOpen => 42,
            Self::DiskFull => DISK_FULL_SECONDS + 8,
        }
    }

    /// How many seconds after it was lifted the system must be healthy again, unless another fault is injected first.
    #[must_use]
    pub fn in_order_within_seconds(self) -> u64 {
        match self {
            // Nothing is lifted: each side must detect it by itself.
            Self::IngestBrokerHalfOpen | Self::WorkerBrokerHalfOpen | Self::WorkerDatabaseHalfOpen => 45,
            // The nodes must start and find each other.
            Self::LeaderKill | Self::FollowerKill | Self::MajorityKill | Self::LeaderFreeze => 30,
            _ => 20,
        }
    }

    /// How many broker nodes it needs.
    #[must_use]
    pub fn brokers(self) -> usize {
        match self {
            Self::FollowerKill | Self::MajorityKill => 3,
            _ => 1,
        }
    }
}

fn on_each_table(what: &str) -> String {
    format!("{what}, {TABLE_LOCKED_SECONDS} s on each table that workers write")
}
