//! The batch transaction: lock the orders, plan, write everything, commit. One set statement per table, whatever the
//! size of the batch.
//!
//! Its one invariant: a callback's outcome, the change to its order, the event for it and its ledger row are committed together
//! or not at all. The caller acknowledges after the commit.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use shared::domain::ids::{MchId, OutRefundNo, TransactionId};
use shared::domain::notification::Notification;
use shared::domain::order::{Order, OrderState};
use shared::domain::payment::PaymentRecord;
use shared::merchants_file::MeteredKeyRing;
use uuid::Uuid;

use super::fresh::{distinct, unknown};
use super::message::{Finding, Message};
use super::outcome::Outcome;
use super::plan::{self, CausedEvent, ChangedPayment, Handled, LedgerRow, OrderKey, Part, Plan, Rows, order_key};
use crate::store::orders::OnLocked;
use crate::store::payments::{Brought, Changed};
use crate::store::session::TransactionError;
use crate::store::{database, held, ledger, orders, outbox, payments, refunds};

/// How often a transaction is retried after a race with another session. Each try reads what that session has committed.
pub const RACES_MAX: usize = 3;

/// What a decision depends on in addition to the callbacks and the orders.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// The keys that authenticate.
    pub keys: &'a MeteredKeyRing,
    /// How long a callback waits before it is opened for an operator.
    pub wait_limit: Duration,
}

/// Which transactions are looked up in `payments`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookUp {
    /// Those whose order may have a payment on record. A transaction that is on record for another order then breaks a unique
    /// key, and the batch is tried again with [`LookUp::Every`].
    WhereOrdersChanged,
    /// All.
    Every,
}

/// Decides the messages that the ledger does not have yet, in one transaction; returns their outcomes.
///
/// # Errors
/// Nothing was written.
pub async fn apply(
    conn: &mut AsyncPgConnection,
    messages: &[Message],
    policy: Policy<'_>,
    on_locked: OnLocked,
) -> Result<Vec<Outcome>, TransactionError> {
    let mut fresh = distinct(messages);
    // Only a message that was delivered before can be in the ledger, so others need no look-up.
    if fresh.iter().any(|message| message.redelivered) {
        let (redelivered, first): (Vec<_>, Vec<_>) = fresh.into_iter().partition(|message| message.redelivered);
        fresh = first;
        fresh.extend(unknown(conn, redelivered).await?);
    }
    let mut races = 0;
    let mut look_up = LookUp::WhereOrdersChanged;
    loop {
        match transact(conn, &fresh, policy, on_locked, look_up).await {
            Err(error) if error.is_race() && races < RACES_MAX => {
                races = races.saturating_add(1);
                look_up = LookUp::Every;
                // An ingest or an operator published the same message twice: rare, so the look-up is paid for only then.
                if matches!(error, TransactionError::LedgerDiffers) {
                    fresh = unknown(conn, fresh).await?;
                }
            }
            result => return result,
        }
    }
}

async fn transact(
    conn: &mut AsyncPgConnection,
    messages: &[Cow<'_, Message>],
    policy: Policy<'_>,
    on_locked: OnLocked,
    look_up: LookUp,
) -> Result<Vec<Outcome>, TransactionError> {
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let parts = messages.iter().flat_map(|message| Part::from_message(message, policy.keys)).collect();
    conn.transaction(async |conn| decide_and_write(conn, parts, policy, on_locked, look_up).await).await
}

/// Decides the parts and writes their outcomes, inside the caller's transaction.
///
/// # Errors
/// The caller must roll back.
pub async fn decide_and_write(
    conn: &mut AsyncPgConnection,
    parts: Vec<Part<'_>>,
    policy: Policy<'_>,
    on_locked: OnLocked,
    look_up: LookUp,
) -> Result<Vec<Outcome>, TransactionError> {
    let rows = read(conn, &parts, on_locked, look_up).await?;
    let mut plan = plan::plan(rows, parts.iter().map(Part::item));
    let event_ids: Vec<Uuid> = plan.events.iter().map(|_| Uuid::now_v7()).collect();
    let payments: Vec<_> = plan.payments.values().filter_map(|changed| brought_by(changed, &parts)).collect();
    let caused = |index: usize| {
        let event = plan.events.get(index)?;
        Some(CausedEvent { id: *event_ids.get(index)?, name: event.name(), version: event.order.version })
    };
    let decided = std::mem::take(&mut plan.decided);
    let mut handled: Vec<Handled<'_>> = parts
        .into_iter()
        .zip(decided)
        .map(|(part, decided)| Handled { event: decided.event.and_then(caused), part, decided })
        .collect();
    handled.retain(|handled| !handled.stays_as_it_is());
    write(
        conn,
        &Writes {
            plan: &plan,
            event_ids: &event_ids,
            payments: Changed::from_plan(&payments),
            handled: &handled,
            policy,
        },
    )
    .await?;
    Ok(handled.into_iter().map(|handled| handled.decided.outcome).collect())
}

/// Locks the orders that the parts name, and then reads what is on record about them: once the order is locked, no other
/// session can change it.
async fn read(
    conn: &mut AsyncPgConnection,
    parts: &[Part<'_>],
    on_locked: OnLocked,
    look_up: LookUp,
) -> Result<Rows, DieselError> {
    let notified = || parts.iter().filter_map(|part| notification(&part.examined.finding));
    let mut keys: HashSet<OrderKey> = notified().filter_map(plan::named_order_key).collect();
    let refunded: Vec<_> = notified().filter_map(refunded_transaction).collect();
    if keys.is_empty() && refunded.is_empty() {
        return Ok(Rows::default());
    }
    if on_locked == OnLocked::Skip {
        database::wait_little_for_locks(conn).await?;
    }
    if !refunded.is_empty() {
        keys.extend(payments::order_keys(conn, &refunded).await?);
    }
    let keys: Vec<OrderKey> = keys.into_iter().collect();
    let orders = orders::lock(conn, &keys, on_locked).await?;
    let mut busy = match on_locked {
        OnLocked::Wait => Vec::new(),
        OnLocked::Skip if orders.len() == keys.len() => Vec::new(),
        OnLocked::Skip => orders::existing(conn, &keys).await?,
    };
    let held: HashSet<i64> = orders.iter().map(|order| order.id).collect();
    busy.retain(|(id, _)| !held.contains(id));

    // An order of version 0 has no payment on record, because every payment raises the version, which never falls.
    let untouched: HashSet<OrderKey> =
        orders.iter().filter(|order| order.version == 0 && order.state == OrderState::Pending).map(order_key).collect();
    let is_looked_up = |it: &&Notification| {
        look_up == LookUp::Every || plan::named_order_key(it).is_none_or(|key| !untouched.contains(&key))
    };
    let transactions: HashSet<(&MchId, &TransactionId)> =
        notified().filter(is_looked_up).filter_map(|it| Some((it.mch_id(), it.transaction_id()?))).collect();
    let payments =
        if transactions.is_empty() { Vec::new() } else { payments::read(conn, transactions.into_iter()).await? };
    let refund_keys = refund_keys(parts, &orders, &payments);
    let refunds = if refund_keys.is_empty() { Vec::new() } else { refunds::read(conn, &refund_keys).await? };
    Ok(Rows { orders, busy, payments, refunds })
}

fn notification(finding: &Finding) -> Option<&Notification> {
    match finding {
        Finding::Notified(notification) => Some(notification),
        Finding::NotDecided(_) => None,
    }
}

fn refunded_transaction(notification: &Notification) -> Option<(&MchId, &TransactionId)> {
    match notification {
        Notification::Refund(refund) => Some((&refund.mch_id, &refund.transaction_id)),
        Notification::Payment(_) | Notification::Other(_) => None,
    }
}

/// The reported refunds, each with the order whose payment it names; that payment may be in this very batch.
fn refund_keys<'a>(parts: &'a [Part<'_>], orders: &[Order], payments: &[PaymentRecord]) -> Vec<(i64, &'a OutRefundNo)> {
    let notified = || parts.iter().filter_map(|part| notification(&part.examined.finding));
    if notified().all(|it| refunded_transaction(it).is_none()) {
        return Vec::new();
    }
    let ids: HashMap<OrderKey, i64> = orders.iter().map(|order| (order_key(order), order.id)).collect();
    let paid_now =
        notified().filter_map(|it| Some(((it.mch_id(), it.transaction_id()?), *ids.get(&plan::named_order_key(it)?)?)));
    let mut order_by_transaction: HashMap<(&MchId, &TransactionId), i64> = paid_now.collect();
    order_by_transaction
        .extend(payments.iter().map(|payment| ((&payment.mch_id, &payment.transaction_id), payment.order_id)));
    notified()
        .filter_map(|it| {
            let order_id = order_by_transaction.get(&refunded_transaction(it)?)?;
            Some((*order_id, it.out_refund_no()?))
        })
        .collect()
}

/// A payment with the key of the ledger row that brought it.
fn brought_by<'a>(changed: &'a ChangedPayment, parts: &[Part<'_>]) -> Option<(&'a ChangedPayment, Brought)> {
    let part = parts.get(changed.brought_by)?;
    Some((changed, Brought { id: part.message.id, received_at: part.message.received_at, part: part.number }))
}

/// Everything that one transaction writes.
struct Writes<'a> {
    plan: &'a Plan,
    event_ids: &'a [Uuid],
    payments: Changed<'a>,
    handled: &'a [Handled<'a>],
    policy: Policy<'a>,
}

/// The statements do not depend on each other: sent together, they cost one round trip.
async fn write(conn: &AsyncPgConnection, writes: &Writes<'_>) -> Result<(), TransactionError> {
    let Writes { plan, event_ids, payments, handled, policy } = writes;
    let changed: Vec<_> = plan.orders.values().collect();
    let refunded: Vec<_> = plan.refunds.values().collect();
    let (mut new, held): (Vec<&Handled<'_>>, Vec<&Handled<'_>>) =
        handled.iter().partition(|handled| handled.part.row == LedgerRow::New);
    new.sort_unstable_by_key(|handled| (handled.part.message.id, handled.part.number));
    let held_rows = held.len();
    let new_held: Vec<_> = new.iter().copied().filter(|handled| handled.outcome().held().is_some()).collect();
    // An empty write is not sent. The check is here and not in the store, because the self-check runs the statements on nothing.
    let (orders, payments, refunds, ledger_new, ledger_held, held_new, held, events) = tokio::join!(
        async { if changed.is_empty() { Ok(()) } else { orders::update(conn, &changed).await } },
        async { payments::write(conn, payments).await },
        async { if refunded.is_empty() { Ok(0) } else { refunds::write(conn, &refunded).await } },
        async { if new.is_empty() { Ok(()) } else { ledger::insert(conn, &new).await } },
        async { if held.is_empty() { Ok(0) } else { ledger::update_outcomes(conn, &held).await } },
        async { if new_held.is_empty() { Ok(()) } else { held::insert(conn, &new_held, policy.wait_limit).await } },
        async { if held.is_empty() { Ok(()) } else { held::update(conn, &held, policy.wait_limit).await } },
        async { if plan.events.is_empty() { Ok(()) } else { outbox::insert(conn, event_ids, &plan.events).await } },
    );
    let written = Written { orders, payments, refunds, ledger_new, ledger_held, held_new, held, events };
    written.into_result(refunded.len(), held_rows)
}

/// The results of the statements of one transaction, in the order sent.
struct Written {
    orders: Result<(), DieselError>,
    payments: Result<(), DieselError>,
    refunds: Result<usize, DieselError>,
    ledger_new: Result<(), DieselError>,
    ledger_held: Result<usize, DieselError>,
    held_new: Result<(), DieselError>,
    held: Result<(), DieselError>,
    events: Result<(), DieselError>,
}

impl Written {
    /// The error that says most about the cause. After one statement has failed, PostgreSQL reports of the others only that the
    /// transaction is aborted, so a race with another session is looked for in all of them first.
    fn into_result(self, refund_rows: usize, held_rows: usize) -> Result<(), TransactionError> {
        if is_unique_violation(&self.payments) {
            return Err(TransactionError::PaymentRecorded);
        }
        if is_unique_violation(&self.ledger_new) || matches!(self.ledger_held, Ok(rows) if rows < held_rows) {
            return Err(TransactionError::LedgerDiffers);
        }
        if matches!(self.refunds, Ok(rows) if rows < refund_rows) {
            return Err(TransactionError::RefundMoved);
        }
        self.orders?;
        self.payments?;
        self.refunds?;
        self.ledger_new?;
        self.ledger_held?;
        self.held_new?;
        self.held?;
        Ok(self.events?)
    }
}

fn is_unique_violation<T>(result: &Result<T, DieselError>) -> bool {
    matches!(result, Err(DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)))
}

#[cfg(test)]
mod tests;
