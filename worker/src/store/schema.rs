//! Bringing the schema up to date: `worker migrate`. Runs apart from the workers, as a role that may change tables.
//!
//! A statement that waits for a strong lock makes every later statement on its table wait behind it, those of the shop's
//! checkout too. So a migration waits for `LOCK_WAIT` at most, gives way, and tries again after a growing pause. The rules
//! for migrations are in `migrations/README.md`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use diesel::migration::Migration;
use diesel::pg::Pg;
use diesel::result::Error;
use diesel::sql_types::{BigInt, Bool, Text};
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl};
use diesel_migrations::{EmbeddedMigrations, FileBasedMigrations, MigrationHarness, embed_migrations};
use shared::process::backoff::Backoff;

use super::database::{Database, LOCK_TIMEOUT};

mod blockers;
mod months;

use blockers::Blockers;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("../migrations");

/// How long a migration in a transaction waits for a lock, and so holds up others. Less than the lanes' own time-out:
/// a worker's batch that queues behind it still succeeds.
const LOCK_WAIT: Duration = Duration::from_millis(500);
const _: () = assert!(LOCK_WAIT.as_millis() < LOCK_TIMEOUT.as_millis());
/// The first pause between two tries, and the longest.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// Any number that no other program uses as an advisory lock in this database.
const MIGRATION_LOCK: i64 = 0x636f_756e_7465_7273;
/// How often the lock is tried while another session has it.
const TRY_LOCK_EVERY: Duration = Duration::from_millis(250);
/// How often a wait is reported.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// How to migrate.
pub struct Options {
    /// A directory of migrations instead of those in the binary.
    pub directory: Option<PathBuf>,
    /// How long all waiting together may take.
    pub patience: Duration,
    /// Prints a line that says what the run waits for.
    pub report: fn(&str),
}

/// What a run did.
#[derive(Debug)]
pub struct Migrated {
    /// Names of the migrations applied, in order.
    pub applied: Vec<String>,
    /// Months of the ledger made.
    pub months: i32,
}

/// Why a migration stopped; what it had applied before stays applied.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// No connection.
    #[error("the database cannot be reached")]
    Connect(#[from] diesel::ConnectionError),
    /// The directory holds something else than migrations, or the database does not say which are applied.
    #[error("the list of migrations cannot be read")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A migration failed.
    #[error("migration {name} failed")]
    Migration {
        /// Which one.
        name: String,
        /// The database's words.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A statement round the migrations failed.
    #[error("the database refused a statement or the connection broke")]
    Database(#[from] Error),
    /// Another session had the migration lock all the time.
    #[error(
        "gave up after {} s because another session holds the migration lock: {by}; if it is not another `worker migrate`, end it",
        .waited.as_secs()
    )]
    AnotherRun {
        /// How long it was waited for.
        waited: Duration,
        /// Who.
        by: String,
    },
    /// Other sessions held a lock whenever it was tried.
    #[error(
        "gave up after {} s because {what} needs a lock that conflicts with {by}; what was applied before stays, run it again \
         when that session has ended",
        .waited.as_secs()
    )]
    Blocked {
        /// The migration, or the month.
        what: String,
        /// How long it was tried.
        waited: Duration,
        /// Who.
        by: String,
    },
    /// Making a month would stop the workers for too long.
    #[error(
        "the ledger's month {month} is not made because notifications_default holds over {max} of its rows, which are moved \
         while workers wait: stop the workers and run SELECT countersign.notifications_make_months('{month}-01Z', 1)"
    )]
    MonthTooFull {
        /// As in `2026-12`.
        month: String,
        /// How many rows are moved at most.
        max: i64,
    },
}

impl MigrateError {
    /// Whether the same command will succeed once another session has ended.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::AnotherRun { .. } | Self::Blocked { .. })
    }
}

/// Applies what is missing and makes the ledger's months, one run at a time: a second one waits for the first.
///
/// # Errors
/// Names the migration and the database's own words, or the sessions that were waited for. Must run on a multi-threaded
/// runtime.
pub async fn migrate(database: &Database, options: &Options) -> Result<Migrated, MigrateError> {
    let mut conn = database.connect().await?;
    let pid = blockers::begin(&mut conn).await?;
    let blockers = Blockers::watch(database.connect().await?, pid, options.report);
    let mut run = Run { options, blockers, waited: Duration::ZERO };
    run.take_lock(&mut conn).await?;

    let mut harness = AsyncMigrationHarness::new(conn);
    let pending = pending(&mut harness, options)?;
    let mut conn = harness.into_inner();
    let mut applied = Vec::with_capacity(pending.len());
    for migration in &pending {
        conn = run.apply(conn, migration.as_ref()).await?;
        applied.push(migration.name().to_string());
    }
    let months = run.make_months(&mut conn).await?;
    // Closing the connection gives the lock back.
    Ok(Migrated { applied, months })
}

type Pending = Vec<Box<dyn Migration<Pg>>>;

fn pending(harness: &mut AsyncMigrationHarness<AsyncPgConnection>, options: &Options) -> Result<Pending, MigrateError> {
    let pending = match &options.directory {
        Some(directory) => FileBasedMigrations::from_path(directory)
            .map_err(|error| MigrateError::Unreadable(error.into()))
            .map(|migrations| harness.pending_migrations(migrations))?,
        None => harness.pending_migrations(MIGRATIONS),
    };
    pending.map_err(MigrateError::Unreadable)
}

/// One run, and how long it has waited so far.
struct Run<'a> {
    options: &'a Options,
    blockers: Blockers,
    waited: Duration,
}

impl Run<'_> {
    /// Waits for other runs, which may take long, and reports it.
    async fn take_lock(&mut self, conn: &mut AsyncPgConnection) -> Result<(), MigrateError> {
        let started = Instant::now();
        let mut reported = None::<Instant>;
        while !try_lock(conn).await? {
            let by = blockers::holders_of_advisory_lock(conn, MIGRATION_LOCK).await?;
            if reported.is_none_or(|reported| reported.elapsed() >= REPORT_EVERY) {
                (self.options.report)(&format!("waiting for the migration lock, which another session holds: {by}"));
                reported = Some(Instant::now());
            }
            if started.elapsed() >= self.options.patience {
                return Err(MigrateError::AnotherRun { waited: started.elapsed(), by });
            }
            tokio::time::sleep(TRY_LOCK_EVERY).await;
        }
        Ok(())
    }

    /// Applies one migration, however often it has to give way.
    async fn apply(
        &mut self,
        mut conn: AsyncPgConnection,
        migration: &dyn Migration<Pg>,
    ) -> Result<AsyncPgConnection, MigrateError> {
        let name = migration.name().to_string();
        if !migration.metadata().run_in_transaction() {
            return self.apply_concurrently(conn, migration, name).await;
        }
        let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_MAX);
        loop {
            set_lock_timeout(&mut conn, LOCK_WAIT).await?;
            let started = self.blockers.start();
            let mut harness = AsyncMigrationHarness::new(conn);
            let Err(error) = harness.run_migration(migration) else { return Ok(harness.into_inner()) };
            conn = harness.into_inner();
            let error = MigrateError::Migration { name: name.clone(), source: error };
            self.give_way(&name, error, started, &mut backoff).await?;
        }
    }

    /// `CREATE INDEX CONCURRENTLY` and the like: while it waits for older transactions to end, no other session waits for
    /// it, so it may wait for as long as the run may. When it fails it leaves an invalid index, which the next run drops.
    async fn apply_concurrently(
        &mut self,
        mut conn: AsyncPgConnection,
        migration: &dyn Migration<Pg>,
        name: String,
    ) -> Result<AsyncPgConnection, MigrateError> {
        let left = self.options.patience.saturating_sub(self.waited).max(LOCK_WAIT);
        set_lock_timeout(&mut conn, left).await?;
        let started = self.blockers.start();
        // By our rule the index has the name of its migration.
        let index = name.split_once('_').map_or("", |(_, index)| index);
        if let Some(invalid) = blockers::drop_invalid_index(&mut conn, index).await? {
            (self.options.report)(&format!("dropped the index {invalid}, which an earlier run had left invalid"));
        }
        let mut harness = AsyncMigrationHarness::new(conn);
        let Err(source) = harness.run_migration(migration) else { return Ok(harness.into_inner()) };
        (self.options.report)(&format!(
            "{name} failed outside a transaction: an index that it was building is left invalid, and the next run drops it \
             if it is called {index}"
        ));
        match self.blockers.seen() {
            Some(by) if started.elapsed() >= left => {
                Err(MigrateError::Blocked { what: name, waited: started.elapsed(), by })
            }
            _ => Err(MigrateError::Migration { name, source }),
        }
    }

    /// Waits before the next try when the one that `started` then has failed because of a lock; otherwise the error.
    async fn give_way(
        &mut self,
        what: &str,
        error: MigrateError,
        started: Instant,
        backoff: &mut Backoff,
    ) -> Result<(), MigrateError> {
        // diesel has no error for a lock time-out, and the server's text depends on its language: so the sessions that blocked it are looked for.
        let Some(by) = self.blockers.seen() else { return Err(error) };
        let pause = backoff.pause();
        self.waited = self.waited.saturating_add(started.elapsed()).saturating_add(pause);
        if self.waited > self.options.patience {
            let waited = self.waited.saturating_sub(pause);
            return Err(MigrateError::Blocked { what: what.to_owned(), waited, by });
        }
        (self.options.report)(&format!(
            "{what} needs a lock that conflicts with {by}; it gave way after {} ms and tries again in {:.1} s",
            started.elapsed().as_millis(),
            pause.as_secs_f64()
        ));
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

async fn try_lock(conn: &mut AsyncPgConnection) -> Result<bool, Error> {
    #[derive(diesel::QueryableByName)]
    struct Tried {
        #[diesel(sql_type = Bool)]
        locked: bool,
    }
    let tried: Tried = diesel::sql_query("SELECT pg_try_advisory_lock($1) AS locked")
        .bind::<BigInt, _>(MIGRATION_LOCK)
        .get_result(conn)
        .await?;
    Ok(tried.locked)
}

async fn set_lock_timeout(conn: &mut AsyncPgConnection, timeout: Duration) -> Result<(), Error> {
    diesel::sql_query("SELECT set_config('lock_timeout', $1, false)")
        .bind::<Text, _>(format!("{}ms", timeout.as_millis()))
        .execute(conn)
        .await
        .map(drop)
}
