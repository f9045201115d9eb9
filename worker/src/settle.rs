//! What to do when a batch fails: a message at fault costs itself only, a database at fault costs nothing.
//!
//! The ladder: the batch as it is; then the database must prove itself ([`crate::rehearsal`]); then, if a lock may have been
//! the cause, the batch as it is once more; then without the orders that another session has locked; then in halves, down to
//! the messages that fail alone. Such a message is at fault
//! only if the database then takes bare rows in the message's own partition, and refuses the message once more. Otherwise the
//! database is unavailable and the whole batch stays unacknowledged: nothing is parked message by message. (diesel does not
//! tell SQLSTATEs apart; see `docs/decisions/0003-bad-data-or-bad-database.md`.)

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use futures_util::FutureExt;
use shared::process::telemetry::chain;
use tokio::time::timeout;

use crate::apply::{self, ApplyError, LookUp, Part, Rules};
use crate::message::{Examined, Message};
use crate::outcome::{Outcome, Undecided};
use crate::store::database::{Database, LITTLE_LOCK_TIMEOUT};
use crate::store::orders::Locked;
use crate::{batch, rehearsal};

/// How long one attempt may take. Longer than the server's own `statement_timeout`, so that it ends only what hangs.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(40);
/// How often a batch waits for locked orders before it goes on without them. When a table was locked and is free again, other
/// workers may hold orders of this batch for as long as they wait for the next table: such orders are not worth passing by.
const WAITING_TRIES: u32 = 2;
/// A message that failed alone is tried once more after this: a deadlock is over by then.
const PAUSE_ALONE: Duration = Duration::from_millis(50);

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

impl DatabaseAway {
    /// Whether this worker could not reach the database at all: another worker may.
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
            Self::Unfit(_) => false,
        }
    }
}

/// A database connection that is made anew when it broke.
pub struct Session {
    database: Database,
    conn: Option<AsyncPgConnection>,
}

/// Why one try failed. Nothing was written.
pub enum Failure {
    /// The database is at fault.
    Away(DatabaseAway),
    /// Something in the messages may be at fault.
    Fault(Fault),
}

/// What failed.
pub struct Fault {
    /// For the log.
    pub problem: String,
    /// Whether the transaction was rolled back in good order, so that the connection can be used again.
    is_clean: bool,
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

    /// Has the database prove that it can do its work now, before a message is at stake.
    ///
    /// # Errors
    /// When the database cannot be reached, was never migrated, grants too little, or refuses rows.
    pub async fn rehearse(&mut self, rules: Rules<'_>) -> Result<(), DatabaseAway> {
        self.rehearse_for(rules, wall_clock(), rehearsal::BODY_BYTES_USUAL).await
    }

    /// The same in the partition of what was received at this time.
    async fn rehearse_for(
        &mut self,
        rules: Rules<'_>,
        received_at: DateTime<Utc>,
        body_bytes: usize,
    ) -> Result<(), DatabaseAway> {
        let conn = self.conn().await?;
        match guard(rehearsal::rehearse(conn, rules, received_at, body_bytes)).await {
            Ok(()) => Ok(()),
            Err(failure) => Err(self.broken(failure)),
        }
    }

    /// Throws the connection away unless `failure` left it in good order.
    pub fn note(&mut self, failure: &Failure) {
        if !matches!(failure, Failure::Fault(Fault { is_clean: true, .. })) {
            self.discard();
        }
    }

    /// Throws the connection away: it is broken, or nobody knows what state it is in.
    pub fn discard(&mut self) {
        self.conn = None;
    }

    /// Brings a batch from the broker to its outcomes, whatever single messages do.
    ///
    /// # Errors
    /// When the database is unavailable: call again with the same messages.
    pub async fn settle(&mut self, messages: &[Message], rules: Rules<'_>) -> Result<Vec<Outcome>, DatabaseAway> {
        for tries_left in (0..WAITING_TRIES).rev() {
            let started = Instant::now();
            match self.attempt(messages, rules, Locked::Wait).await {
                Ok(outcomes) => return Ok(outcomes),
                Err(Failure::Away(away)) => return Err(away),
                Err(Failure::Fault(Fault { problem, .. })) => {
                    tracing::warn!(
                        messages = messages.len(),
                        problem,
                        tries_left,
                        "a batch failed; it is tried again once the database has shown that it can do its work"
                    );
                }
            }
            let was_slow = may_be_a_lock(started);
            self.rehearse(rules).await?;
            if !was_slow {
                break;
            }
        }
        let mut outcomes = Vec::with_capacity(messages.len());
        let mut left = vec![messages];
        while let Some(some) = left.pop() {
            match (self.attempt(some, rules, Locked::Skip).await, some) {
                (Ok(handled), _) => outcomes.extend(handled),
                (Err(Failure::Away(away)), _) => return Err(away),
                (Err(Failure::Fault(_)), []) => {}
                (Err(Failure::Fault(_)), [alone]) => outcomes.extend(self.settle_alone(alone, rules).await?),
                (Err(Failure::Fault(_)), many) => {
                    let (first, second) = many.split_at(many.len() / 2);
                    left.extend([second, first]);
                }
            }
        }
        Ok(outcomes)
    }

    /// A message that has failed alone. At fault, it becomes a quarantine row without its decoded fields.
    async fn settle_alone(&mut self, message: &Message, rules: Rules<'_>) -> Result<Vec<Outcome>, DatabaseAway> {
        tokio::time::sleep(PAUSE_ALONE).await;
        self.prove(message, rules).await?;
        let started = Instant::now();
        match self.attempt(std::slice::from_ref(message), rules, Locked::Skip).await {
            Ok(outcomes) => Ok(outcomes),
            Err(Failure::Away(away)) => Err(away),
            Err(Failure::Fault(Fault { problem, .. })) if may_be_a_lock(started) => {
                // A lock on a table may have come after the proof.
                self.rehearse(rules).await?;
                self.hold(message, Undecided::ForLock(problem), rules).await
            }
            Err(Failure::Fault(Fault { problem, .. })) => {
                self.hold(message, Undecided::RejectedByDatabase(problem), rules).await
            }
        }
    }

    /// Has the database prove that only this message can be at fault: it takes rows in the message's partition, and other
    /// orders if not the message's own.
    ///
    /// # Errors
    /// The database is unavailable.
    pub async fn prove(&mut self, message: &Message, rules: Rules<'_>) -> Result<(), DatabaseAway> {
        self.rehearse_for(rules, message.received_at, message.body.len()).await?;
        let conn = self.conn().await?;
        match guard(rehearsal::try_its_orders(conn, message, rules)).await {
            Ok(()) => Ok(()),
            Err(failure) => Err(self.broken(failure)),
        }
    }

    /// Writes a message as held, without asking any order: with what it names, or bare if that is what the database refuses.
    async fn hold(
        &mut self,
        message: &Message,
        why: Undecided,
        rules: Rules<'_>,
    ) -> Result<Vec<Outcome>, DatabaseAway> {
        let Some(message) = &self.unknown(message).await? else { return Ok(Vec::new()) };
        let reason = why.reason();
        let names = message.examine_carefully(rules.keys).into_iter().next().map(|examined| examined.names);
        let with_names = Examined { names: names.unwrap_or_default(), ..Examined::undecided(why.clone()) };
        let bare = message.bare();
        let mut written = self.write_held(message, with_names, rules).await;
        if let Err(failure @ Failure::Fault(_)) = &written {
            self.note(failure);
            written = self.write_held(&bare, Examined::undecided(why), rules).await;
        }
        match written {
            Ok(outcomes) => {
                tracing::error!(id = %message.id, reason, "the database rejected a callback; it is held in quarantine and retried");
                Ok(outcomes)
            }
            Err(failure) => Err(self.broken(failure)),
        }
    }

    /// The message under the id that the ledger is to have it by; `None` when the ledger has it.
    async fn unknown<'a>(&mut self, message: &'a Message) -> Result<Option<Cow<'a, Message>>, DatabaseAway> {
        let conn = self.conn().await?;
        match guard(batch::unknown(conn, vec![Cow::Borrowed(message)])).await {
            Ok(mut unknown) => Ok(unknown.pop()),
            Err(failure) => Err(self.broken(failure)),
        }
    }

    async fn write_held(
        &mut self,
        message: &Message,
        examined: Examined<'_>,
        rules: Rules<'_>,
    ) -> Result<Vec<Outcome>, Failure> {
        let conn = self.conn().await.map_err(Failure::Away)?;
        let part = Part::held_whole(message, examined);
        guard(conn.transaction(async |conn| {
            apply::decide_and_write(conn, vec![part], rules, Locked::Skip, LookUp::Every).await
        }))
        .await
    }

    async fn attempt(
        &mut self,
        messages: &[Message],
        rules: Rules<'_>,
        locked: Locked,
    ) -> Result<Vec<Outcome>, Failure> {
        let conn = self.conn().await.map_err(Failure::Away)?;
        let attempted = guard(batch::apply(conn, messages, rules, locked)).await;
        if let Err(failure) = &attempted {
            self.note(failure);
        }
        attempted
    }

    /// A failure of what cannot be a message's fault.
    pub fn broken(&mut self, failure: Failure) -> DatabaseAway {
        self.discard();
        match failure {
            Failure::Away(away) => away,
            Failure::Fault(Fault { problem, .. }) => DatabaseAway::Unfit(problem),
        }
    }
}

/// A refusal that came as late as a lock time-out may have been one: then neither message nor database is at fault.
#[must_use]
pub fn may_be_a_lock(started: Instant) -> bool {
    started.elapsed() >= LITTLE_LOCK_TIMEOUT
}

#[expect(clippy::disallowed_methods, reason = "the shell reads the clock for the partition of a rehearsal")]
fn wall_clock() -> DateTime<Utc> {
    Utc::now()
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
        Ok(Err(_panic)) => Err(Failure::Fault(Fault { problem: "the worker panicked".to_owned(), is_clean: false })),
        Ok(Ok(Err(ApplyError::Database(error)))) if is_away(&error) => Err(Failure::Away(error.into())),
        Ok(Ok(Err(error))) => Err(Failure::Fault(Fault { problem: chain(&error), is_clean: is_clean(&error) })),
        Ok(Ok(Ok(done))) => Ok(done),
    }
}

/// Whether the database answered with an error, after which the transaction was rolled back like any other.
fn is_clean(error: &ApplyError) -> bool {
    error.is_race()
        || matches!(error, ApplyError::Database(DieselError::DatabaseError(..) | DieselError::RollbackTransaction))
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
