//! One transaction of the sweeper: lock the rows that are due, decide them, write their outcomes.

use std::time::{Duration, Instant};

use diesel_async::{AsyncConnection, AsyncPgConnection};
use shared::domain::decide::Asked;

use super::Sweeper;
use crate::batch::message::{Examined, Finding};
use crate::batch::outcome::{NotDecided, Outcome};
use crate::batch::plan::{LedgerRow, Part};
use crate::batch::self_check::{self_check, self_check_for};
use crate::batch::transaction::{self, LookUp, Policy, RACES_MAX};
use crate::store::due::{self as store, Cause, Due};
use crate::store::ledger::Stored;
use crate::store::orders::OnLocked;
use crate::store::session::{DatabaseUnavailable, Failure, Session, TransactionError, may_be_a_lock};
use crate::tasks::count_outcomes;

/// How many rows the next transaction takes: halved when one of them may be at fault, doubled when all went well.
pub(super) struct Limit {
    now: i64,
    most: i64,
    /// The time spent on rows that failed alone.
    pub(super) alone: Duration,
}

impl Limit {
    pub(super) fn new(most: i64) -> Self {
        Self { now: most, most, alone: Duration::ZERO }
    }

    fn halve(&mut self) {
        self.now = (self.now / 2).max(1);
    }

    fn double(&mut self) {
        self.now = self.now.saturating_mul(2).min(self.most);
    }
}

/// Which rows a transaction takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rows<'a> {
    /// Up to `limit` of those that are due, after the row `after`.
    DueFor { cause: Cause, after: i64, limit: i64 },
    /// This row, if it is still due.
    Exactly { cause: Cause, id: i64 },
    /// These suspects, whose attempt has been counted.
    Suspects(&'a [i64]),
}

impl Sweeper {
    /// Decides the next batch of what is due after the row `after`; returns its last row, `None` when nothing was due.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub(super) async fn decide_batch(
        &self,
        session: &mut Session,
        cause: Cause,
        after: i64,
        limit: &mut Limit,
    ) -> Result<Option<i64>, DatabaseUnavailable> {
        loop {
            match self.decide(session, Rows::DueFor { cause, after, limit: limit.now }, None).await {
                Ok(last) => {
                    limit.double();
                    return Ok(last);
                }
                Err(Failure::Unavailable(error)) => return Err(error),
                Err(Failure::Fault(_)) if limit.now > 1 => limit.halve(),
                Err(Failure::Fault(_)) => {
                    let started = Instant::now();
                    let last = self.decide_alone(session, Rows::DueFor { cause, after, limit: 1 }).await;
                    limit.alone = limit.alone.saturating_add(started.elapsed());
                    return last;
                }
            }
        }
    }

    /// Handles a row that has failed alone. If another session's lock may be the reason, the row is skipped; if the database can
    /// do everything else, the row records what the database refuses.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub(super) async fn decide_alone(
        &self,
        session: &mut Session,
        rows: Rows<'_>,
    ) -> Result<Option<i64>, DatabaseUnavailable> {
        let keys = self.merchants.keys();
        let policy = Policy { keys: &keys, wait_limit: self.wait_limit };
        let peeked = session.require(async |conn| peek(conn, rows).await).await?;
        let Some((row, stored)) = peeked else { return Ok(None) };
        let rows = match rows {
            Rows::DueFor { cause, .. } => Rows::Exactly { cause, id: row.id },
            other => other,
        };
        match &stored {
            Some(stored) => self_check_for(session, &stored.message, policy).await?,
            None => self_check(session, policy).await?,
        }
        let started = Instant::now();
        match self.decide(session, rows, None).await {
            Ok(_) => Ok(Some(row.id)),
            Err(Failure::Unavailable(error)) => Err(error),
            Err(Failure::Fault(fault)) => {
                let why = NotDecided::RejectedByDatabase(fault.problem);
                if may_be_a_lock(started) || row.reason == why.reason() {
                    return Ok(Some(row.id));
                }
                tracing::error!(
                    row = row.id,
                    "the database still rejects a held callback; detail.problem of its quarantine row says why"
                );
                self.decide(session, rows, Some(why)).await.map_err(|failure| session.into_unavailable(failure))?;
                Ok(Some(row.id))
            }
        }
    }

    /// One transaction: lock the rows, decide them (or take `instead` for all of them), move them.
    pub(super) async fn decide(
        &self,
        session: &mut Session,
        rows: Rows<'_>,
        instead: Option<NotDecided>,
    ) -> Result<Option<i64>, Failure> {
        let keys = self.merchants.keys();
        let policy = Policy { keys: &keys, wait_limit: self.wait_limit };
        let mut races = 0;
        let (last, outcomes) = loop {
            let instead = instead.clone();
            let tried = session.run(async |conn| {
                match conn.transaction(async |conn| transact(conn, rows, policy, instead).await).await {
                    Err(error) if error.is_race() && races < RACES_MAX => Ok(None),
                    result => result.map(Some),
                }
            });
            match tried.await? {
                Some(done) => break done,
                None => races = races.saturating_add(1),
            }
        };
        count_outcomes(&outcomes);
        if outcomes.iter().any(Outcome::may_be_published) {
            self.wake_relay.notify_one();
        }
        Ok(last)
    }
}

async fn take(conn: &mut AsyncPgConnection, rows: Rows<'_>) -> Result<Vec<Due>, diesel::result::Error> {
    match rows {
        Rows::DueFor { cause, after, limit } => store::due(conn, cause, after, limit).await,
        Rows::Exactly { cause, id } => {
            let due = store::due(conn, cause, id.saturating_sub(1), 1).await?;
            Ok(due.into_iter().filter(|row| row.id == id).collect())
        }
        Rows::Suspects(ids) => store::suspects(conn, ids).await,
    }
}

async fn peek(conn: &mut AsyncPgConnection, rows: Rows<'_>) -> Result<Option<(Due, Option<Stored>)>, TransactionError> {
    let due = take(conn, rows).await?;
    Ok(store::load(conn, due).await?.pop())
}

async fn transact(
    conn: &mut AsyncPgConnection,
    rows: Rows<'_>,
    policy: Policy<'_>,
    instead: Option<NotDecided>,
) -> Result<(Option<i64>, Vec<Outcome>), TransactionError> {
    let due = take(conn, rows).await?;
    // The ledger is read only when a row is due, because planning over all its months is not free.
    let Some(last) = due.last().map(|row| row.id) else { return Ok((None, Vec::new())) };
    let loaded = store::load(conn, due).await?;
    let dropped: Vec<i64> = loaded.iter().filter(|(_, stored)| stored.is_none()).map(|(row, _)| row.id).collect();
    if !dropped.is_empty() {
        store::give_up(conn, dropped).await?;
    }
    let stored = loaded.iter().filter_map(|(row, stored)| Some((row, stored.as_ref()?)));
    let parts: Vec<Part<'_>> =
        stored.flat_map(|(row, stored)| parts_from_row(row, stored, policy, instead.as_ref())).collect();
    let outcomes = transaction::decide_and_write(conn, parts, policy, OnLocked::Skip, LookUp::Every).await?;
    Ok((Some(last), outcomes))
}

/// The part of a held row. A message that was held as a whole, and that turns out to be a combined one, has more parts than
/// rows: those are new.
fn parts_from_row<'a>(
    row: &Due,
    stored: &'a Stored,
    policy: Policy<'a>,
    instead: Option<&NotDecided>,
) -> Vec<Part<'a>> {
    let message = &stored.message;
    let request = row.request();
    let asked = request.as_ref().map_or(Asked::ByReport, |(_, asked)| *asked);
    let held = LedgerRow::Held { reason: row.reason.clone(), request, is_due: row.replay_is_due };
    if let Some(why) = instead {
        let examined = Examined::not_decided(why.clone());
        return vec![Part { message, number: row.notification_part, examined, row: held }];
    }
    let examined = message.authenticate_and_decode(policy.keys, asked);
    let is_whole = stored.parts == 1 && row.notification_part == 0;
    let is_single = examined.len() == 1;
    let mut parts = Vec::with_capacity(1);
    for (number, examined) in (0..).zip(examined) {
        // A fault of the message as a whole is a fault of each of its parts.
        let is_of_all = is_single && matches!(examined.finding, Finding::NotDecided(_));
        if number == row.notification_part || is_of_all {
            parts.push(Part { message, number: row.notification_part, examined, row: held.clone() });
        } else if is_whole {
            parts.push(Part { message, number, examined, row: LedgerRow::New });
        }
    }
    parts
}
