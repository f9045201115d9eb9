//! The ledger's months, made ahead one by one, so that each holds its locks for a moment only.

use chrono::{DateTime, Utc};
use diesel::result::Error;
use diesel::sql_types::{BigInt, Integer, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use shared::process::backoff::Backoff;

use super::{LOCK_WAIT, MigrateError, PAUSE_FIRST, PAUSE_MAX, Run, set_lock_timeout};

/// How far ahead the ledger has months.
const MONTHS_AHEAD: i32 = 24;
/// A month that is made late takes its rows from the DEFAULT partition, and blocks workers while it does. Moving this many rows
/// takes about as long as a worker waits for a lock.
const MOVED_MAX: i64 = 20_000;

/// A month without a partition.
#[derive(diesel::QueryableByName)]
struct Missing {
    #[diesel(sql_type = Timestamptz)]
    first_day: DateTime<Utc>,
    /// As in `2026-12`.
    #[diesel(sql_type = Text)]
    month: String,
}

#[derive(diesel::QueryableByName)]
struct Rows {
    #[diesel(sql_type = BigInt)]
    rows: i64,
}

#[derive(diesel::QueryableByName)]
struct Made {
    #[diesel(sql_type = Integer)]
    months: i32,
}

impl Run<'_> {
    /// Makes the months that are missing; a month with too many rows fails the run after all others are made.
    pub(super) async fn make_months(&mut self, conn: &mut AsyncPgConnection) -> Result<i32, MigrateError> {
        let (mut made, mut too_full) = (0_i32, None);
        set_lock_timeout(conn, LOCK_WAIT).await?;
        for missing in missing(conn).await? {
            if has_more_rows_than(conn, &missing, MOVED_MAX).await? {
                too_full.get_or_insert(MigrateError::MonthTooFull { month: missing.month, max: MOVED_MAX });
                continue;
            }
            let what = format!("the ledger's month {}", missing.month);
            let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_MAX);
            let months = loop {
                let started = self.blockers.start();
                match make(conn, missing.first_day).await {
                    Ok(months) => break months,
                    Err(error) => self.give_way(&what, error.into(), started, &mut backoff).await?,
                }
            };
            made = made.saturating_add(months);
        }
        too_full.map_or(Ok(made), Err)
    }
}

async fn missing(conn: &mut AsyncPgConnection) -> Result<Vec<Missing>, Error> {
    diesel::sql_query(
        "SELECT first_day AT TIME ZONE 'UTC' AS first_day, to_char(first_day, 'YYYY-MM') AS month \
         FROM (SELECT date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => ahead) AS first_day \
               FROM generate_series(0, $1 - 1) AS ahead) AS months \
         WHERE to_regclass('countersign.notifications_' || to_char(first_day, 'YYYY_MM')) IS NULL ORDER BY first_day",
    )
    .bind::<Integer, _>(MONTHS_AHEAD)
    .load(conn)
    .await
}

async fn has_more_rows_than(conn: &mut AsyncPgConnection, month: &Missing, max: i64) -> Result<bool, Error> {
    let counted: Rows = diesel::sql_query(
        "SELECT count(*) AS rows FROM (SELECT FROM countersign.notifications_default \
         WHERE received_at >= $1 AND received_at < ($1 AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC' \
         LIMIT $2 + 1) AS counted",
    )
    .bind::<Timestamptz, _>(month.first_day)
    .bind::<BigInt, _>(max)
    .get_result(conn)
    .await?;
    Ok(counted.rows > max)
}

async fn make(conn: &mut AsyncPgConnection, first_day: DateTime<Utc>) -> Result<i32, Error> {
    let made: Made = diesel::sql_query("SELECT countersign.notifications_make_months($1, 1) AS months")
        .bind::<Timestamptz, _>(first_day)
        .get_result(conn)
        .await?;
    Ok(made.months)
}
