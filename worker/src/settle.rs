//! What to do when a batch fails: a message at fault costs itself only, a database at fault costs nothing.
//!
//! The ladder: the batch as it is; without the orders that somebody else has locked; one message at a time. A message
//! that fails alone is at fault only if it fails right after the database has run every statement on nothing, and if the
//! database takes a bare row for it: otherwise the database is away, and the messages stay unacknowledged. A refusal as
//! late as a lock time-out blames nobody. (diesel does not tell SQLSTATEs apart; see
//! `docs/decisions/0003-bad-data-or-bad-database.md`.)

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use futures_util::FutureExt;
use shared::telemetry::chain;
use tokio::time::timeout;

use crate::apply::{self, ApplyError, Ledger, Rules};
use crate::message::Message;
use crate::plan::{Finding, Outcome, Undecided};
use crate::store::database::{Database, LOCK_TIMEOUT};
use crate::store::orders::Locked;

/// How long one attempt may take. Longer than the server's own `statement_timeout`, so that it ends only what hangs.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(40);
/// A message is tried alone this often, with these pauses, before the database is asked to prove itself.
const PAUSES_ALONE: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(500)];

/// The database cannot do its job now. Nothing is known to be written; the messages must be kept.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseAway {
    /// No connection.
    #[error("no connection to the database")]
    Connect(#[from] diesel::ConnectionError),
    /// It refuses even what cannot be at fault, or the connection broke.
    #[error("the database refused or went away")]
    Database(#[from] DieselError),
    /// It cannot even do what no message can be at fault for.
    #[error("the database refuses what no message can be at fault for: {0}")]
    Unfit(String),
    /// No answer within `ATTEMPT_TIMEOUT`.
    #[error("the database did not answer in time")]
    Hung,
}

/// A database connection that is made anew when it broke.
pub struct Session {
    database: Database,
    conn: Option<AsyncPgConnection>,
}

/// Why one try failed. Nothing was written; the connection is thrown away, for nobody knows what state it is in.
pub enum Failure {
    /// The database is at fault.
    Away(DatabaseAway),
    /// Something in the messages may be at fault: what it was, for the log.
    Fault(String),
}

impl Session {
    /// Connects when first used.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database, conn: None }
    }

    /// The live connection, made anew when there is none.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn conn(&mut self) -> Result<&mut AsyncPgConnection, DatabaseAway> {
        let conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.database.connect().await?,
        };
        Ok(self.conn.insert(conn))
    }

    /// Runs every statement of a batch on nothing, so that what a database lacks shows before a message is at stake.
    ///
    /// # Errors
    /// When the database cannot be reached, was never migrated or grants too little.
    pub async fn rehearse(&mut self, rules: Rules<'_>) -> Result<(), DatabaseAway> {
        let conn = self.conn().await?;
        match guard(apply::rehearse(conn, rules)).await {
            Ok(()) => Ok(()),
            Err(failure) => Err(self.broken(failure)),
        }
    }

    /// Throws the connection away: it is broken, or nobody knows what state it is in.
    pub fn discard(&mut self) {
        self.conn = None;
    }

    /// Brings a batch from the broker to its outcomes, whatever single messages do.
    ///
    /// # Errors
    /// When the database is away: call again with the same messages.
    pub async fn settle(&mut self, messages: &[Message], rules: Rules<'_>) -> Result<Vec<Outcome>, DatabaseAway> {
        for locked in [Locked::Wait, Locked::Skip] {
            match self.attempt(messages, rules, locked).await {
                Ok(outcomes) => return Ok(outcomes),
                Err(Failure::Away(away)) => return Err(away),
                Err(Failure::Fault(problem)) => {
                    tracing::warn!(messages = messages.len(), ?locked, problem, "batch failed, trying again");
                }
            }
        }
        let mut outcomes = Vec::with_capacity(messages.len());
        for message in messages {
            outcomes.extend(self.settle_alone(message, rules).await?);
        }
        Ok(outcomes)
    }

    /// One message in a transaction of its own; at fault, it becomes a quarantine row without its decoded fields.
    async fn settle_alone(&mut self, message: &Message, rules: Rules<'_>) -> Result<Vec<Outcome>, DatabaseAway> {
        let alone = std::slice::from_ref(message);
        for pause in PAUSES_ALONE {
            let started = Instant::now();
            match self.attempt(alone, rules, Locked::Skip).await {
                Ok(outcomes) => return Ok(outcomes),
                Err(Failure::Away(away)) => return Err(away),
                Err(Failure::Fault(problem)) if may_be_a_lock(started) => {
                    return self.hold(message, Undecided::ForLock(problem), rules).await;
                }
                Err(Failure::Fault(_)) => tokio::time::sleep(pause).await,
            }
        }
        // The proof: a database that can do everything else at this moment, and not this.
        self.rehearse(rules).await?;
        let started = Instant::now();
        match self.attempt(alone, rules, Locked::Skip).await {
            Ok(outcomes) => Ok(outcomes),
            Err(Failure::Away(away)) => Err(away),
            Err(Failure::Fault(problem)) if may_be_a_lock(started) => {
                self.hold(message, Undecided::ForLock(problem), rules).await
            }
            Err(Failure::Fault(problem)) => {
                self.hold(&message.bare(), Undecided::RejectedByDatabase(problem), rules).await
            }
        }
    }

    /// Writes a message as held, without asking any order.
    async fn hold(
        &mut self,
        message: &Message,
        why: Undecided,
        rules: Rules<'_>,
    ) -> Result<Vec<Outcome>, DatabaseAway> {
        tracing::error!(id = %message.id, ?why, "message not taken by the database, held");
        let finding = Finding::Undecided(why);
        let conn = self.conn().await?;
        let written = guard(conn.transaction(async |conn| {
            apply::decide_and_write(conn, &[message], vec![finding], rules, Locked::Skip, Ledger::Insert).await
        }));
        match written.await {
            Ok(outcomes) => Ok(outcomes),
            Err(failure) => Err(self.broken(failure)),
        }
    }

    async fn attempt(
        &mut self,
        messages: &[Message],
        rules: Rules<'_>,
        locked: Locked,
    ) -> Result<Vec<Outcome>, Failure> {
        let conn = self.conn().await.map_err(Failure::Away)?;
        let attempted = guard(apply::apply(conn, messages, rules, locked)).await;
        if attempted.is_err() {
            self.discard();
        }
        attempted
    }

    /// A failure of what cannot be a message's fault.
    pub fn broken(&mut self, failure: Failure) -> DatabaseAway {
        self.discard();
        match failure {
            Failure::Away(away) => away,
            Failure::Fault(problem) => DatabaseAway::Unfit(problem),
        }
    }
}

/// A refusal that came as late as a lock time-out may have been one: then neither message nor database is at fault.
#[must_use]
pub fn may_be_a_lock(started: Instant) -> bool {
    started.elapsed() >= LOCK_TIMEOUT
}

/// Bounds what is not a batch: no answer within `ATTEMPT_TIMEOUT` is a database that is away.
///
/// # Errors
/// The caller throws the connection away.
pub async fn bounded<T, E>(work: impl Future<Output = Result<T, E>>) -> Result<T, DatabaseAway>
where
    DatabaseAway: From<E>,
{
    Ok(timeout(ATTEMPT_TIMEOUT, work).await.map_err(|_| DatabaseAway::Hung)??)
}

/// Runs one transaction; a hang, a panic and a database that says it is away come back as failures like any other.
///
/// # Errors
/// The caller throws the connection away.
pub async fn guard<T>(work: impl Future<Output = Result<T, ApplyError>>) -> Result<T, Failure> {
    match timeout(ATTEMPT_TIMEOUT, AssertUnwindSafe(work).catch_unwind()).await {
        Err(_) => Err(Failure::Away(DatabaseAway::Hung)),
        Ok(Err(_panic)) => Err(Failure::Fault("the worker panicked".to_owned())),
        Ok(Ok(Err(ApplyError::Database(error)))) if is_away(&error) => Err(Failure::Away(error.into())),
        Ok(Ok(Err(error))) => Err(Failure::Fault(chain(&error))),
        Ok(Ok(Ok(done))) => Ok(done),
    }
}

/// Whether the error says by itself that the database, not the data, is at fault.
fn is_away(error: &DieselError) -> bool {
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
