//! The batch transaction: lock the orders, plan, write everything, commit. One set statement per table, whatever the
//! size of the batch.
//!
//! Its one invariant: what a message came to, the change to its order, the event that tells of it and its row in the
//! ledger are committed together or not at all. The caller acknowledges after the commit.

use std::collections::HashSet;
use std::time::Duration;

use diesel_async::{AsyncConnection, AsyncPgConnection};
use shared::protocol::merchants::KeyRing;

use crate::message::Message;
use crate::plan::{self, ChangedOrder, Finding, OrderPaid, Outcome, Plan};
use crate::store::orders::Locked;
use crate::store::{events, notifications, orders, quarantine};

/// What deciding depends on besides the messages and the orders.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The keys that authenticate.
    pub ring: &'a KeyRing,
    /// How long a message waits before a person is told.
    pub wait_limit: Duration,
}

/// A message with what it came to.
#[derive(Debug)]
pub struct Handled<'a> {
    /// The message.
    pub message: &'a Message,
    /// What its bytes turned out to be.
    pub finding: Finding,
    /// What it came to.
    pub outcome: Outcome,
}

/// Whether the messages are new to the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ledger {
    /// From the broker: rows are inserted.
    Insert,
    /// Held before: rows are moved along. One that goes on waiting for the same reason is left as it is.
    Move {
        /// The reason under which the rows waited; `None` when they must be written in any case.
        waited: Option<&'static str>,
    },
}

/// Why a transaction was rolled back.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The ledger has some of the new messages already, or has lost some of the held ones.
    #[error("the ledger does not have the rows that it should have")]
    LedgerDiffers,
    /// The database refused or went away.
    #[error("the database refused or went away")]
    Database(#[from] diesel::result::Error),
}

/// Applies a batch from the broker in one transaction. Messages that the ledger knows, and repeats of one id inside the
/// batch, are dropped: they were handled. Returns the outcomes of the others.
///
/// # Errors
/// Nothing was written; see [`crate::settle`] for what to try next.
pub async fn apply(
    conn: &mut AsyncPgConnection,
    messages: &[Message],
    rules: Rules<'_>,
    locked: Locked,
) -> Result<Vec<Outcome>, ApplyError> {
    let mut ids = HashSet::with_capacity(messages.len());
    let mut fresh: Vec<&Message> = messages.iter().filter(|message| ids.insert(message.id)).collect();
    // Only a message handed over before can be in the ledger, so others need no look-up.
    if fresh.iter().any(|message| message.redelivered) {
        let redelivered = fresh.iter().copied().filter(|message| message.redelivered);
        let known = notifications::known(conn, redelivered).await?;
        fresh.retain(|message| !known.contains(&message.id));
    }
    match transact(conn, &fresh, rules, locked).await {
        // An ingest or an operator published the same message twice: rare enough to pay for it only then.
        Err(ApplyError::LedgerDiffers) => {
            let known = notifications::known(conn, fresh.iter().copied()).await?;
            fresh.retain(|message| !known.contains(&message.id));
            transact(conn, &fresh, rules, locked).await
        }
        result => result,
    }
}

async fn transact(
    conn: &mut AsyncPgConnection,
    messages: &[&Message],
    rules: Rules<'_>,
    locked: Locked,
) -> Result<Vec<Outcome>, ApplyError> {
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let findings = messages.iter().map(|message| message.examine(rules.ring)).collect();
    conn.transaction(async |conn| decide_and_write(conn, messages, findings, rules, locked, Ledger::Insert).await).await
}

/// Locks, plans and writes, inside the caller's transaction.
///
/// # Errors
/// The caller must roll back.
pub async fn decide_and_write(
    conn: &mut AsyncPgConnection,
    messages: &[&Message],
    findings: Vec<Finding>,
    rules: Rules<'_>,
    locked: Locked,
    ledger: Ledger,
) -> Result<Vec<Outcome>, ApplyError> {
    let numbers = order_numbers(&findings);
    let rows = if numbers.is_empty() { Vec::new() } else { orders::lock(conn, &numbers, locked).await? };
    let Plan { orders: changed, outcomes, events: told } = plan::plan(rows, findings.iter());
    let mut handled: Vec<Handled<'_>> = messages
        .iter()
        .zip(findings)
        .zip(outcomes)
        .map(|((message, finding), outcome)| Handled { message, finding, outcome })
        .collect();

    if let Ledger::Move { waited: Some(reason) } = ledger {
        let goes_on = |outcome: &Outcome| matches!(outcome, Outcome::Waiting(held) if held.reason() == reason);
        handled.retain(|handled| !goes_on(&handled.outcome));
    }
    write(conn, &changed, &handled, &told, rules, ledger).await?;
    Ok(handled.into_iter().map(|handled| handled.outcome).collect())
}

/// Runs every statement of a batch on nothing: a missing table, right or disk fails here, a message at fault does not.
///
/// # Errors
/// The database is at fault.
pub async fn rehearse(conn: &mut AsyncPgConnection, rules: Rules<'_>) -> Result<(), ApplyError> {
    conn.transaction(async |conn| {
        orders::lock(conn, &[], Locked::Skip).await?;
        let conn = &*conn;
        orders::update(conn, &[]).await?;
        notifications::insert(conn, &[]).await?;
        quarantine::insert(conn, &[], rules.wait_limit).await?;
        Ok(events::insert(conn, &[]).await?)
    })
    .await
}

/// The statements do not depend on each other: sent together, they cost one round trip.
async fn write(
    conn: &AsyncPgConnection,
    changed: &[ChangedOrder],
    handled: &[Handled<'_>],
    told: &[OrderPaid],
    rules: Rules<'_>,
    ledger: Ledger,
) -> Result<(), ApplyError> {
    let any_held = handled.iter().any(|handled| handled.outcome.held().is_some());
    let (updated, noted, held, told) = tokio::join!(
        async { if changed.is_empty() { Ok(()) } else { orders::update(conn, changed).await } },
        async {
            match ledger {
                Ledger::Insert => notifications::insert(conn, handled).await,
                Ledger::Move { .. } => notifications::move_on(conn, handled).await,
            }
        },
        async {
            match ledger {
                Ledger::Insert if any_held => quarantine::insert(conn, handled, rules.wait_limit).await,
                Ledger::Insert => Ok(()),
                Ledger::Move { .. } => quarantine::move_on(conn, handled).await,
            }
        },
        async { if told.is_empty() { Ok(()) } else { events::insert(conn, told).await } },
    );
    // First: when the ledger has a row already, quarantine refuses a second one too.
    if matches!(noted, Ok(rows) if rows < handled.len()) {
        return Err(ApplyError::LedgerDiffers);
    }
    // In the order sent: after one has failed, the database only says of the others that the transaction is aborted.
    updated?;
    noted?;
    held?;
    Ok(told?)
}

/// The distinct orders that the batch names.
fn order_numbers(findings: &[Finding]) -> Vec<(&str, &str)> {
    let mut numbers: Vec<(&str, &str)> = findings
        .iter()
        .filter_map(|finding| match finding {
            Finding::Notified(notification) => {
                Some((notification.mch_id().as_str(), notification.out_trade_no()?.as_str()))
            }
            Finding::Undecided(_) => None,
        })
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}
