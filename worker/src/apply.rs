//! The batch transaction: lock the orders, plan, write everything, commit. One set statement per table, whatever the
//! size of the batch.
//!
//! Its one invariant: what a message came to, the change to its order, the event that tells of it and its row in the
//! ledger are committed together or not at all. The caller acknowledges after the commit.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use shared::domain::ids::TransactionId;
use shared::domain::notification::{Notification, ReportedRefund};
use shared::domain::order::Order;
use shared::domain::refund::Refund;
use shared::merchants_file::Keys;

use crate::message::Message;
use crate::plan::{self, Finding, Outcome, Plan};
use crate::store::orders::Locked;
use crate::store::{events, notifications, orders, quarantine, refunds};

/// What deciding depends on besides the messages and the orders.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The keys that authenticate.
    pub keys: &'a Keys,
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
    /// The merchant wrote a refund at the same time.
    #[error("a refund was written by somebody else meanwhile")]
    RefundMoved,
    /// The database refused or went away.
    #[error("the database refused or went away")]
    Database(#[from] DieselError),
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
        Err(ApplyError::RefundMoved) => transact(conn, &fresh, rules, locked).await,
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
    let findings = messages.iter().map(|message| message.examine(rules.keys)).collect();
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
    let (orders, refunds) = read(conn, &findings, locked).await?;
    let mut plan = plan::plan(orders, refunds, findings.iter());
    let mut handled: Vec<Handled<'_>> = messages
        .iter()
        .zip(findings)
        .zip(std::mem::take(&mut plan.outcomes))
        .map(|((message, finding), outcome)| Handled { message, finding, outcome })
        .collect();

    if let Ledger::Move { waited: Some(reason) } = ledger {
        let goes_on = |outcome: &Outcome| matches!(outcome, Outcome::Waiting(held) if held.reason() == reason);
        handled.retain(|handled| !goes_on(&handled.outcome));
    }
    write(conn, &plan, &handled, rules, ledger).await?;
    if !plan.returned.is_empty() {
        // After the others: a payment that went back may have been refused in this very batch.
        quarantine::settle_surplus(conn, &plan.returned).await?;
    }
    Ok(handled.into_iter().map(|handled| handled.outcome).collect())
}

/// Locks the orders that the findings name, and reads what decides over refunds once nobody else can change it.
async fn read(
    conn: &mut AsyncPgConnection,
    findings: &[Finding],
    locked: Locked,
) -> Result<(Vec<Order>, Vec<Refund>), ApplyError> {
    let numbers = order_numbers(findings);
    if numbers.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let mut orders = orders::lock(conn, &numbers, locked).await?;
    let reported: Vec<&ReportedRefund> = findings.iter().filter_map(reported_refund).collect();
    let refunds = if reported.is_empty() { Vec::new() } else { refunds::read(conn, &reported).await? };
    let questioned = questioned(&mut orders, findings);
    if !questioned.is_empty() {
        quarantine::read_surplus(conn, questioned).await?;
    }
    Ok((orders, refunds))
}

/// The orders about which a finding names another transaction than their own: it may be of a payment that the order did not
/// want. An order that is not paid yet has none of its own.
fn questioned<'orders>(orders: &'orders mut [Order], findings: &[Finding]) -> Vec<&'orders mut Order> {
    let mut named: HashMap<(&str, &str), HashSet<&TransactionId>> = HashMap::new();
    for finding in findings {
        let Finding::Notified(notification) = finding else { continue };
        if let (Some(number), Some(transaction_id)) = (notification.out_trade_no(), notification.transaction_id()) {
            named.entry((notification.mch_id().as_str(), number.as_str())).or_default().insert(transaction_id);
        }
    }
    let is_questioned = |order: &&mut Order| {
        let named = named.get(&(order.mch_id.as_str(), order.out_trade_no.as_str()));
        named.is_some_and(|named| named.iter().any(|named| order.state.transaction_id() != Some(*named)))
    };
    orders.iter_mut().filter(is_questioned).collect()
}

fn reported_refund(finding: &Finding) -> Option<&ReportedRefund> {
    match finding {
        Finding::Notified(Notification::Refund(refund)) => Some(refund),
        Finding::Notified(Notification::Payment(_) | Notification::Other(_)) | Finding::Undecided(_) => None,
    }
}

/// Runs every statement of a batch on nothing: a missing table, right or disk fails here, a message at fault does not.
///
/// # Errors
/// The database is at fault.
pub async fn rehearse(conn: &mut AsyncPgConnection, rules: Rules<'_>) -> Result<(), ApplyError> {
    conn.transaction(async |conn| {
        orders::lock(conn, &[], Locked::Skip).await?;
        refunds::read(conn, &[]).await?;
        quarantine::rehearse_surplus(conn).await?;
        quarantine::settle_surplus(conn, &[]).await?;
        let conn = &*conn;
        orders::update(conn, &[]).await?;
        refunds::write(conn, &[]).await?;
        notifications::insert(conn, &[]).await?;
        quarantine::insert(conn, &[], rules.wait_limit).await?;
        Ok(events::insert(conn, &[]).await?)
    })
    .await
}

/// The statements do not depend on each other: sent together, they cost one round trip.
async fn write(
    conn: &AsyncPgConnection,
    plan: &Plan,
    handled: &[Handled<'_>],
    rules: Rules<'_>,
    ledger: Ledger,
) -> Result<(), ApplyError> {
    let changed: Vec<_> = plan.orders.values().collect();
    let refunded: Vec<_> = plan.refunds.values().collect();
    let any_held = handled.iter().any(|handled| handled.outcome.held().is_some());
    let (updated, refunds, noted, held, told) = tokio::join!(
        async { if changed.is_empty() { Ok(()) } else { orders::update(conn, &changed).await } },
        async { if refunded.is_empty() { Ok(0) } else { refunds::write(conn, &refunded).await } },
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
        async { if plan.events.is_empty() { Ok(()) } else { events::insert(conn, &plan.events).await } },
    );
    // Before the others: they only say that the transaction is aborted. The ledger has lost a held row, or has a new one already.
    match noted {
        Ok(rows) if rows < handled.len() => return Err(ApplyError::LedgerDiffers),
        Err(DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => {
            return Err(ApplyError::LedgerDiffers);
        }
        _ => {}
    }
    if matches!(refunds, Ok(rows) if rows < refunded.len()) {
        return Err(ApplyError::RefundMoved);
    }
    // In the order sent: after one has failed, the database only says of the others that the transaction is aborted.
    updated?;
    refunds?;
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
