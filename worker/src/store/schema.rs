//! Bringing the schema up to date: `worker migrate`. Runs apart from the workers, as a role that may change tables.

use diesel::result::Error;
use diesel::sql_types::{BigInt, Integer};
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("../migrations");

/// Any number that no other program uses as an advisory lock in this database.
const MIGRATION_LOCK: i64 = 0x636f_756e_7465_7273;
/// How far ahead the ledger has months.
const MONTHS_AHEAD: i32 = 24;

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
    /// A migration failed.
    #[error("a migration failed")]
    Migration(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A statement round the migrations failed.
    #[error("the database refused or went away")]
    Database(#[from] Error),
}

#[derive(diesel::QueryableByName)]
struct Made {
    #[diesel(sql_type = Integer)]
    months: i32,
}

/// Applies what is missing and makes the ledger's months, one run at a time: a second one waits for the first.
///
/// # Errors
/// Names the migration and the database's own words. Must run on a multi-threaded runtime.
pub async fn migrate(mut conn: AsyncPgConnection) -> Result<Migrated, MigrateError> {
    // Somebody else's run may take long: wait for its lock as long as it takes.
    diesel::sql_query("SELECT set_config('lock_timeout', '0', false), set_config('statement_timeout', '0', false)")
        .execute(&mut conn)
        .await?;
    diesel::sql_query("SELECT pg_advisory_lock($1)").bind::<BigInt, _>(MIGRATION_LOCK).execute(&mut conn).await?;
    let mut harness = AsyncMigrationHarness::new(conn);
    let applied = harness
        .run_pending_migrations(MIGRATIONS)
        .map_err(MigrateError::Migration)?
        .iter()
        .map(ToString::to_string)
        .collect();
    let mut conn = harness.into_inner();
    // Making a month locks the ledger's DEFAULT partition: rather fail and be run again than make the workers queue.
    diesel::sql_query("SELECT set_config('lock_timeout', '5s', false)").execute(&mut conn).await?;

    let made: Made = diesel::sql_query("SELECT notifications_make_months(now(), $1) AS months")
        .bind::<Integer, _>(MONTHS_AHEAD)
        .get_result(&mut conn)
        .await?;
    // Closing the connection gives the lock back.
    Ok(Migrated { applied, months: made.months })
}
