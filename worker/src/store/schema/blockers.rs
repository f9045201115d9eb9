//! Which sessions hold up a migration: looked for on a connection of its own, while the migration waits.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use diesel::result::Error;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use tokio::task::JoinSet;

use super::REPORT_EVERY;

/// How often they are looked for: several times within a migration's wait for a lock.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A session in words. Of another user's session an ordinary user sees user and application only.
const SESSION: &str = "format('process %s (user %s, application %s%s)', blocker.pid, coalesce(usename, 'unknown'), \
     coalesce(nullif(application_name, ''), 'unknown'), \
     ', ' || state || ' for ' || extract(epoch FROM now() - state_change)::bigint || ' s')";

#[derive(diesel::QueryableByName)]
struct Sessions {
    #[diesel(sql_type = Nullable<Text>)]
    sessions: Option<String>,
}

/// The sessions that block one connection, looked for until the value is dropped.
pub(super) struct Blockers {
    seen: Arc<Mutex<Option<String>>>,
    _looking: JoinSet<()>,
}

impl Blockers {
    /// Looks on `conn` for the sessions that block the session `pid`, and reports a wait that lasts.
    pub(super) fn watch(mut conn: AsyncPgConnection, pid: i32, report: fn(&str)) -> Self {
        let seen = Arc::new(Mutex::new(None));
        let mut looking = JoinSet::new();
        let note = Arc::clone(&seen);
        looking.spawn(async move {
            let mut blocked_since = None::<Instant>;
            loop {
                match find_blockers(&mut conn, pid).await {
                    Ok(Some(by)) => {
                        let since = *blocked_since.get_or_insert_with(Instant::now);
                        if since.elapsed() >= REPORT_EVERY {
                            report(&format!("waiting for {by}"));
                            blocked_since = Some(Instant::now());
                        }
                        *note.lock().unwrap_or_else(PoisonError::into_inner) = Some(by);
                    }
                    Ok(None) => blocked_since = None,
                    Err(error) => {
                        report(&format!("cannot find out which sessions are waited for: {error}"));
                        return;
                    }
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        Self { seen, _looking: looking }
    }

    /// Begins a try: what was seen before is forgotten.
    pub(super) fn start(&self) -> Instant {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Instant::now()
    }

    /// The sessions that have blocked this try.
    pub(super) fn seen(&self) -> Option<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn find_blockers(conn: &mut AsyncPgConnection, pid: i32) -> Result<Option<String>, Error> {
    let found: Sessions = diesel::sql_query(format!(
        "SELECT string_agg({SESSION}, ', ') AS sessions FROM unnest(pg_blocking_pids($1)) AS blocker (pid) \
         LEFT JOIN pg_stat_activity USING (pid)"
    ))
    .bind::<Integer, _>(pid)
    .get_result(conn)
    .await?;
    Ok(found.sessions)
}

/// The sessions that hold an advisory lock of this database.
pub(super) async fn holders_of_advisory_lock(conn: &mut AsyncPgConnection, key: i64) -> Result<String, Error> {
    let found: Sessions = diesel::sql_query(format!(
        "SELECT string_agg({SESSION}, ', ') AS sessions FROM pg_locks AS blocker \
         LEFT JOIN pg_stat_activity USING (pid) \
         WHERE locktype = 'advisory' AND granted AND objsubid = 1 \
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
         AND classid::bigint = $1 >> 32 AND objid::bigint = $1 & 4294967295"
    ))
    .bind::<BigInt, _>(key)
    .get_result(conn)
    .await?;
    Ok(found.sessions.unwrap_or_else(|| "it has just ended".to_owned()))
}

/// Prepares the session of a migration, whose statements may take as long as they like; its process id.
pub(super) async fn begin(conn: &mut AsyncPgConnection) -> Result<i32, Error> {
    #[derive(diesel::QueryableByName)]
    struct Backend {
        #[diesel(sql_type = Integer)]
        pid: i32,
    }
    let backend: Backend = diesel::sql_query(
        "SELECT pg_backend_pid() AS pid, set_config('statement_timeout', '0', false), \
         set_config('application_name', 'countersign-migrate', false)",
    )
    .get_result(conn)
    .await?;
    make_schema(conn).await?;
    Ok(backend.pid)
}

/// Makes the schema that everything lives in, the list of applied migrations too. Asked first: `IF NOT EXISTS` needs the right
/// to make schemas even where there is nothing to make.
async fn make_schema(conn: &mut AsyncPgConnection) -> Result<(), Error> {
    #[derive(diesel::QueryableByName)]
    struct Found {
        #[diesel(sql_type = Bool)]
        is_there: bool,
    }
    let found: Found =
        diesel::sql_query("SELECT to_regnamespace('countersign') IS NOT NULL AS is_there").get_result(conn).await?;
    if !found.is_there {
        diesel::sql_query("CREATE SCHEMA countersign").execute(conn).await?;
    }
    diesel::sql_query("SET search_path = countersign").execute(conn).await.map(drop)
}

/// Drops an index that a failed `CREATE INDEX CONCURRENTLY` has left invalid; its name, if there was one.
pub(super) async fn drop_invalid_index(conn: &mut AsyncPgConnection, name: &str) -> Result<Option<String>, Error> {
    // It is not one that another session is building at this moment: that would be invalid, too.
    let found: Sessions = diesel::sql_query(
        "SELECT max(format('countersign.%I', $1)) AS sessions FROM pg_index \
         WHERE indexrelid = to_regclass('countersign.' || quote_ident($1)) AND NOT indisvalid \
         AND indexrelid NOT IN (SELECT index_relid FROM pg_stat_progress_create_index)",
    )
    .bind::<Text, _>(name)
    .get_result(conn)
    .await?;
    if let Some(index) = &found.sessions {
        diesel::sql_query(format!("DROP INDEX CONCURRENTLY {index}")).execute(conn).await?;
    }
    Ok(found.sessions)
}
