//! A database session: one connection, opened again after it broke, and what an error on it means.
//!
//! The floor beneath the lanes, the sweeper and the relay. It knows transactions and their errors, and nothing of what is
//! decided in them.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_async::AsyncPgConnection;
use futures_util::FutureExt;
use shared::process::telemetry::chain;
use tokio::time::timeout;

use super::database::{Database, LITTLE_LOCK_TIMEOUT, STATEMENT_TIMEOUT};

/// How long one attempt may take. Longer than the server's own `statement_timeout`, so it only ends attempts that hang.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(40);
const _: () = assert!(ATTEMPT_TIMEOUT.as_secs() > STATEMENT_TIMEOUT.as_secs());

/// Why a transaction was rolled back.
#[derive(Debug, thiserror::Error)]
pub enum TransactionError {
    /// The ledger has some of the new messages already, or has lost some of the held ones.
    #[error("the ledger changed concurrently: a new message is already recorded, or a held row has vanished")]
    LedgerDiffers,
    /// Another session recorded one of these transactions at the same time, for another order.
    #[error("another session recorded one of the payments concurrently")]
    PaymentRecorded,
    /// The merchant wrote a refund at the same time.
    #[error("a refund changed after it was read")]
    RefundMoved,
    /// The database.
    #[error("the database refused a statement or is unavailable")]
    Database(#[from] DieselError),
}

impl TransactionError {
    /// Whether another session was first: the same again, on what it has left, may succeed.
    #[must_use]
    pub fn is_race(&self) -> bool {
        match self {
            Self::LedgerDiffers | Self::PaymentRecorded | Self::RefundMoved => true,
            Self::Database(_) => false,
        }
    }

    /// Whether the database answered with an error, after which the transaction was rolled back like any other.
    fn is_clean(&self) -> bool {
        self.is_race()
            || matches!(self, Self::Database(DieselError::DatabaseError(..) | DieselError::RollbackTransaction))
    }
}

/// The database cannot do its job now. Nothing is known to be written; the messages must be kept.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseUnavailable {
    /// No connection.
    #[error("cannot connect to the database")]
    Connect(#[from] diesel::ConnectionError),
    /// A statement that no message can make fail has failed, or the connection broke.
    #[error("the database refused a statement or closed the connection")]
    Database(#[from] DieselError),
    /// The self-check failed.
    #[error("the database failed its self-check: {0}")]
    FailedSelfCheck(String),
    /// No answer within `ATTEMPT_TIMEOUT`.
    #[error("the database did not answer within {} s", ATTEMPT_TIMEOUT.as_secs())]
    Hung,
}

impl DatabaseUnavailable {
    /// Whether this worker could not reach the database at all. Another worker may be able to.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Hung => true,
            Self::Database(error) => matches!(
                error,
                DieselError::DatabaseError(
                    DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand,
                    _
                ) | DieselError::BrokenTransactionManager
            ),
            Self::FailedSelfCheck(_) => false,
        }
    }
}

/// Why one try failed. Nothing was written.
#[derive(Debug)]
pub enum Failure {
    /// The database is at fault.
    Unavailable(DatabaseUnavailable),
    /// Something in the messages may be at fault.
    Fault(Fault),
}

/// What failed.
#[derive(Debug)]
pub struct Fault {
    /// For the log.
    pub problem: String,
    /// Whether the transaction was rolled back in good order, so that the connection can be used again.
    is_clean: bool,
}

/// A database connection that is opened again after it broke.
pub struct Session {
    database: Database,
    conn: Option<AsyncPgConnection>,
}

impl Session {
    /// A session that connects when it is first used.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database, conn: None }
    }

    /// The live connection, opened if there is none.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn conn(&mut self) -> Result<&mut AsyncPgConnection, DatabaseUnavailable> {
        let conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.database.connect().await?,
        };
        Ok(self.conn.insert(conn))
    }

    /// Closes the connection: it is broken, or its state is unknown.
    pub fn discard(&mut self) {
        self.conn = None;
    }

    /// Runs one transaction, contained; afterwards the connection is kept only if it is known to be in good order.
    ///
    /// # Errors
    /// Nothing was written.
    pub async fn run<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<T, TransactionError>,
    ) -> Result<T, Failure> {
        let conn = self.conn().await.map_err(Failure::Unavailable)?;
        let result = run_contained(ATTEMPT_TIMEOUT, work(conn)).await;
        if let Err(failure) = &result
            && !matches!(failure, Failure::Fault(Fault { is_clean: true, .. }))
        {
            self.discard();
        }
        result
    }

    /// Runs a transaction that no message can make fail: if it does, the database is unavailable.
    ///
    /// # Errors
    /// Nothing was written, and the connection is closed.
    pub async fn require<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<T, TransactionError>,
    ) -> Result<T, DatabaseUnavailable> {
        match self.run(work).await {
            Ok(done) => Ok(done),
            Err(failure) => Err(self.into_unavailable(failure)),
        }
    }

    /// A failure for which no message can be at fault.
    pub fn into_unavailable(&mut self, failure: Failure) -> DatabaseUnavailable {
        self.discard();
        match failure {
            Failure::Unavailable(error) => error,
            Failure::Fault(Fault { problem, .. }) => DatabaseUnavailable::FailedSelfCheck(problem),
        }
    }
}

/// Whether an attempt failed so late that it may have been a lock time-out: then neither message nor database is at fault.
#[must_use]
pub fn may_be_a_lock(started: Instant) -> bool {
    started.elapsed() >= LITTLE_LOCK_TIMEOUT
}

/// Runs statements outside a batch's transaction; no answer within `ATTEMPT_TIMEOUT` means that the database is unavailable.
///
/// # Errors
/// The caller must close the connection.
pub async fn with_timeout<T, E>(work: impl Future<Output = Result<T, E>>) -> Result<T, DatabaseUnavailable>
where
    DatabaseUnavailable: From<E>,
{
    Ok(timeout(ATTEMPT_TIMEOUT, work).await.map_err(|_| DatabaseUnavailable::Hung)??)
}

/// Runs one transaction; a hang, a panic and a database that says it is unavailable come back as failures like any other.
async fn run_contained<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, TransactionError>>,
) -> Result<T, Failure> {
    match timeout(limit, AssertUnwindSafe(work).catch_unwind()).await {
        Err(_) => Err(Failure::Unavailable(DatabaseUnavailable::Hung)),
        Ok(Err(_panic)) => Err(Failure::Fault(Fault { problem: "the worker panicked".to_owned(), is_clean: false })),
        Ok(Ok(Err(TransactionError::Database(error)))) if is_unavailable(&error) => {
            Err(Failure::Unavailable(error.into()))
        }
        Ok(Ok(Err(error))) => Err(Failure::Fault(Fault { problem: chain(&error), is_clean: error.is_clean() })),
        Ok(Ok(Ok(done))) => Ok(done),
    }
}

/// Whether the error says by itself that the database, not the data, is at fault.
fn is_unavailable(error: &DieselError) -> bool {
    match error {
        DieselError::DatabaseError(kind, _) => matches!(
            kind,
            DatabaseErrorKind::ClosedConnection
                | DatabaseErrorKind::UnableToSendCommand
                | DatabaseErrorKind::ReadOnlyTransaction
        ),
        DieselError::BrokenTransactionManager => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(1);

    fn database(kind: DatabaseErrorKind) -> DieselError {
        DieselError::DatabaseError(kind, Box::new("its words".to_owned()))
    }

    /// `unavailable`, or whether the connection can be used again.
    async fn class(work: impl Future<Output = Result<(), TransactionError>>) -> &'static str {
        match run_contained(SHORT, work).await {
            Ok(()) => "done",
            Err(Failure::Unavailable(_)) => "unavailable",
            Err(Failure::Fault(Fault { is_clean: true, .. })) => "fault, clean",
            Err(Failure::Fault(Fault { is_clean: false, .. })) => "fault, unclean",
        }
    }

    #[tokio::test]
    async fn each_error_has_its_class() {
        use DatabaseErrorKind::{
            CheckViolation, ClosedConnection, ReadOnlyTransaction, UnableToSendCommand, UniqueViolation, Unknown,
        };
        assert_eq!(class(async { Ok(()) }).await, "done");
        for (error, expected) in [
            (database(ClosedConnection), "unavailable"),
            (database(UnableToSendCommand), "unavailable"),
            (database(ReadOnlyTransaction), "unavailable"),
            (DieselError::BrokenTransactionManager, "unavailable"),
            (database(UniqueViolation), "fault, clean"),
            (database(CheckViolation), "fault, clean"),
            (database(Unknown), "fault, clean"),
            (DieselError::RollbackTransaction, "fault, clean"),
            (DieselError::NotFound, "fault, unclean"),
            (DieselError::DeserializationError("a row".into()), "fault, unclean"),
        ] {
            let text = format!("{error:?}");
            assert_eq!(class(async { Err(error.into()) }).await, expected, "{text}");
        }
        for race in [TransactionError::LedgerDiffers, TransactionError::PaymentRecorded, TransactionError::RefundMoved]
        {
            assert!(race.is_race());
            assert_eq!(class(async { Err(race) }).await, "fault, clean");
        }
    }

    #[tokio::test]
    async fn a_panic_is_a_fault_and_a_hang_is_an_unavailable_database() {
        assert_eq!(class(async { panic!("a bug") }).await, "fault, unclean");
        assert_eq!(class(std::future::pending()).await, "unavailable");
    }

    #[test]
    fn only_a_database_that_cannot_be_reached_sends_a_batch_back() {
        let unreachable = [
            DatabaseUnavailable::Hung,
            DatabaseUnavailable::Connect(diesel::ConnectionError::BadConnection(String::new())),
            database(DatabaseErrorKind::ClosedConnection).into(),
            database(DatabaseErrorKind::UnableToSendCommand).into(),
            DieselError::BrokenTransactionManager.into(),
        ];
        assert!(unreachable.iter().all(DatabaseUnavailable::is_unreachable));
        let reached = [
            DatabaseUnavailable::FailedSelfCheck(String::new()),
            database(DatabaseErrorKind::ReadOnlyTransaction).into(),
            database(DatabaseErrorKind::Unknown).into(),
        ];
        assert!(!reached.iter().any(DatabaseUnavailable::is_unreachable));
    }

    #[test]
    fn only_a_late_failure_may_be_a_lock() {
        let now = Instant::now();
        assert!(!may_be_a_lock(now + LITTLE_LOCK_TIMEOUT));
        assert!(now.checked_sub(LITTLE_LOCK_TIMEOUT).is_none_or(may_be_a_lock));
    }
}
