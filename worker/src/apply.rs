//! The batch transaction: lock the orders, plan, write everything, commit. One set statement per table, whatever the
//! size of the batch.
//!
//! Its one invariant: what a callback came to, the change to its order, the event that tells of it and its row in the
//! ledger are committed together or not at all. The caller acknowledges after the commit.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_async::AsyncPgConnection;
use shared::domain::decide::Asked;
use shared::domain::ids::{MchId, OutRefundNo, TransactionId};
use shared::domain::notification::Notification;
use shared::domain::order::{Order, OrderState};
use shared::domain::payment::PaymentRecord;
use shared::merchants_file::MeteredKeyRing;
use uuid::Uuid;

use crate::message::{Examined, Message};
use crate::outcome::{Held, Outcome, Undecided};
use crate::plan::{self, ChangedPayment, Decided, Finding, Item, OrderKey, Plan, Rows, key_of};
use crate::store::orders::Locked;
use crate::store::payments::{Brought, Changed};
use crate::store::{database, events, notifications, orders, payments, quarantine, refunds};

/// How often a transaction is tried again when another session was first. Each try reads what that session has left.
pub const RACES_MAX: usize = 3;

/// What deciding depends on besides the callbacks and the orders.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The keys that authenticate.
    pub keys: &'a MeteredKeyRing,
    /// How long a callback waits before an operator is told.
    pub wait_limit: Duration,
}

/// A callback, or one sub-order of a combined one: one row in the ledger.
#[derive(Debug)]
pub struct Part<'a> {
    /// The message that brought it.
    pub message: &'a Message,
    /// Its place in the message, from 0.
    pub number: i16,
    /// What it turned out to be.
    pub examined: Examined<'a>,
    /// Its row.
    pub row: LedgerRow,
}

/// Whether a part is new to the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerRow {
    /// A row is inserted.
    New,
    /// It is held: its rows are moved along.
    Held {
        /// Why it was held.
        reason: String,
        /// The operator whose request has not been decided yet, and how it is to be decided.
        request: Option<(String, Asked)>,
        /// Whether that request has not been looked at yet.
        is_due: bool,
    },
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

/// A part with what it came to.
#[derive(Debug)]
pub struct Handled<'a> {
    /// The part.
    pub part: Part<'a>,
    /// What it came to.
    pub decided: Decided,
    /// Id, type and version of the event that it caused.
    pub event: Option<(Uuid, &'static str, i32)>,
}

/// Held rows that every sweep decides again once their cause may be gone; the others are decided once, for example when a key
/// has come.
const LOOKED_AT_BY_EVERY_SWEEP: [&str; 5] =
    ["for_order", "sub_mch_id_mismatch", "for_payment", "for_lock", "rejected_by_database"];

/// Why a transaction was rolled back.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The ledger has some of the new messages already, or has lost some of the held ones.
    #[error("the ledger does not have the rows that it should have")]
    LedgerDiffers,
    /// Another session recorded one of these transactions at the same time, for another order.
    #[error("a payment was recorded at the same time")]
    PaymentRecorded,
    /// The merchant wrote a refund at the same time.
    #[error("a refund was not as it had been read")]
    RefundMoved,
    /// The database.
    #[error("the database refused or is unavailable")]
    Database(#[from] DieselError),
}

impl ApplyError {
    /// Whether another session was first: the same again, on what it has left, may succeed.
    #[must_use]
    pub fn is_race(&self) -> bool {
        match self {
            Self::LedgerDiffers | Self::PaymentRecorded | Self::RefundMoved => true,
            Self::Database(_) => false,
        }
    }
}

impl<'a> Part<'a> {
    /// The parts of a message that is new to the ledger.
    pub fn new_of(message: &'a Message, rules: Rules<'a>) -> impl Iterator<Item = Self> {
        let examined = message.examine(rules.keys, Asked::ByReport);
        (0..).zip(examined).map(move |(number, examined)| Self { message, number, examined, row: LedgerRow::New })
    }

    /// One part for a message that is held as a whole.
    #[must_use]
    pub fn held_whole(message: &'a Message, examined: Examined<'a>) -> Self {
        Self { message, number: 0, examined, row: LedgerRow::New }
    }

    fn item(&self) -> Item<'_> {
        let (by, asked) = match &self.row {
            LedgerRow::Held { request: Some((by, asked)), .. } => (Some(by.as_str()), *asked),
            LedgerRow::Held { request: None, .. } | LedgerRow::New => (None, Asked::ByReport),
        };
        Item { finding: &self.examined.finding, asked, by }
    }
}

impl Handled<'_> {
    /// What the part came to.
    #[must_use]
    pub fn outcome(&self) -> &Outcome {
        &self.decided.outcome
    }

    /// A held row stays exactly as it is when it is held for the same again, or when its order is locked.
    fn stays_as_it_is(&self) -> bool {
        let LedgerRow::Held { reason, is_due, .. } = &self.part.row else { return false };
        let Some(held) = self.decided.outcome.held() else { return false };
        let is_locked = matches!(held, Held::Undecided(Undecided::ForLock(_)));
        // A row that no later sweep would look at by itself waits for the lock instead.
        let is_looked_at = *is_due || LOOKED_AT_BY_EVERY_SWEEP.contains(&reason.as_str());
        (is_locked && is_looked_at) || (!is_due && held.reason() == reason)
    }
}

/// Decides the parts and writes what they come to, inside the caller's transaction.
///
/// # Errors
/// The caller must roll back.
pub async fn decide_and_write(
    conn: &mut AsyncPgConnection,
    parts: Vec<Part<'_>>,
    rules: Rules<'_>,
    locked: Locked,
    look_up: LookUp,
) -> Result<Vec<Outcome>, ApplyError> {
    let rows = read(conn, &parts, locked, look_up).await?;
    let mut plan = plan::plan(rows, parts.iter().map(Part::item));
    let event_ids: Vec<Uuid> = plan.events.iter().map(|_| Uuid::now_v7()).collect();
    let payments: Vec<_> = plan.payments.values().filter_map(|changed| brought_by(changed, &parts)).collect();
    let told = |place: usize| {
        let event = plan.events.get(place)?;
        Some((*event_ids.get(place)?, event.name(), event.order.version))
    };
    let decided = std::mem::take(&mut plan.decided);
    let mut handled: Vec<Handled<'_>> = parts
        .into_iter()
        .zip(decided)
        .map(|(part, decided)| Handled { event: decided.event.and_then(told), part, decided })
        .collect();
    handled.retain(|handled| !handled.stays_as_it_is());
    write(
        conn,
        &Writes { plan: &plan, event_ids: &event_ids, payments: Changed::of(&payments), handled: &handled, rules },
    )
    .await?;
    Ok(handled.into_iter().map(|handled| handled.decided.outcome).collect())
}

/// Locks the orders that the parts name, and then reads what is on record about them: only after the lock nobody can change
/// it any more.
async fn read(
    conn: &mut AsyncPgConnection,
    parts: &[Part<'_>],
    locked: Locked,
    look_up: LookUp,
) -> Result<Rows, DieselError> {
    let notified = || parts.iter().filter_map(|part| notification(&part.examined.finding));
    let mut keys: HashSet<OrderKey> = notified().filter_map(plan::order_key).collect();
    let refunded: Vec<_> = notified().filter_map(refunded_transaction).collect();
    if keys.is_empty() && refunded.is_empty() {
        return Ok(Rows::default());
    }
    if locked == Locked::Skip {
        database::wait_little_for_locks(conn).await?;
    }
    if !refunded.is_empty() {
        keys.extend(payments::orders_of(conn, &refunded).await?);
    }
    let keys: Vec<OrderKey> = keys.into_iter().collect();
    let orders = orders::lock(conn, &keys, locked).await?;
    let mut busy = match locked {
        Locked::Wait => Vec::new(),
        Locked::Skip if orders.len() == keys.len() => Vec::new(),
        Locked::Skip => orders::existing(conn, &keys).await?,
    };
    let held: HashSet<i64> = orders.iter().map(|order| order.id).collect();
    busy.retain(|(id, _)| !held.contains(id));

    // An order of version 0 has no payment on record: each raises the version, which never falls.
    let untouched: HashSet<OrderKey> =
        orders.iter().filter(|order| order.version == 0 && order.state == OrderState::Pending).map(key_of).collect();
    let is_looked_up = |it: &&Notification| {
        look_up == LookUp::Every || plan::order_key(it).is_none_or(|key| !untouched.contains(&key))
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
        Finding::Undecided(_) => None,
    }
}

fn refunded_transaction(notification: &Notification) -> Option<(&MchId, &TransactionId)> {
    match notification {
        Notification::Refund(refund) => Some((&refund.mch_id, &refund.transaction_id)),
        Notification::Payment(_) | Notification::Other(_) => None,
    }
}

/// The refunds that are reported, each of the order whose payment it names; that payment may come in this very batch.
fn refund_keys<'a>(parts: &'a [Part<'_>], orders: &[Order], payments: &[PaymentRecord]) -> Vec<(i64, &'a OutRefundNo)> {
    let notified = || parts.iter().filter_map(|part| notification(&part.examined.finding));
    if notified().all(|it| refunded_transaction(it).is_none()) {
        return Vec::new();
    }
    let ids: HashMap<OrderKey, i64> = orders.iter().map(|order| (key_of(order), order.id)).collect();
    let paid_now =
        notified().filter_map(|it| Some(((it.mch_id(), it.transaction_id()?), *ids.get(&plan::order_key(it)?)?)));
    let mut order_of: HashMap<(&MchId, &TransactionId), i64> = paid_now.collect();
    order_of.extend(payments.iter().map(|payment| ((&payment.mch_id, &payment.transaction_id), payment.order_id)));
    notified()
        .filter_map(|it| {
            let order_id = order_of.get(&refunded_transaction(it)?)?;
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
    rules: Rules<'a>,
}

/// The statements do not depend on each other: sent together, they cost one round trip.
async fn write(conn: &AsyncPgConnection, writes: &Writes<'_>) -> Result<(), ApplyError> {
    let Writes { plan, event_ids, payments, handled, rules } = writes;
    let changed: Vec<_> = plan.orders.values().collect();
    let refunded: Vec<_> = plan.refunds.values().collect();
    let (mut new, held): (Vec<&Handled<'_>>, Vec<&Handled<'_>>) =
        handled.iter().partition(|handled| handled.part.row == LedgerRow::New);
    new.sort_unstable_by_key(|handled| (handled.part.message.id, handled.part.number));
    let new_held: Vec<_> = new.iter().copied().filter(|handled| handled.outcome().held().is_some()).collect();
    let (updated, recorded, refunds, noted, moved, kept, moved_on, told) = tokio::join!(
        async { if changed.is_empty() { Ok(()) } else { orders::update(conn, &changed).await } },
        async { payments::write(conn, payments).await },
        async { if refunded.is_empty() { Ok(0) } else { refunds::write(conn, &refunded).await } },
        async { if new.is_empty() { Ok(()) } else { notifications::insert(conn, &new).await } },
        async { if held.is_empty() { Ok(0) } else { notifications::move_on(conn, &held).await } },
        async {
            if new_held.is_empty() { Ok(()) } else { quarantine::insert(conn, &new_held, rules.wait_limit).await }
        },
        async { if held.is_empty() { Ok(()) } else { quarantine::move_on(conn, &held, rules.wait_limit).await } },
        async { if plan.events.is_empty() { Ok(()) } else { events::insert(conn, event_ids, &plan.events).await } },
    );
    // Before the others, which only say that the transaction is aborted: another session was first.
    if is_unique_violation(&recorded) {
        return Err(ApplyError::PaymentRecorded);
    }
    if is_unique_violation(&noted) || matches!(moved, Ok(rows) if rows < held.len()) {
        return Err(ApplyError::LedgerDiffers);
    }
    if matches!(refunds, Ok(rows) if rows < refunded.len()) {
        return Err(ApplyError::RefundMoved);
    }
    // In the order sent: after one has failed, the database only says of the others that the transaction is aborted.
    updated?;
    recorded?;
    refunds?;
    noted?;
    moved?;
    kept?;
    moved_on?;
    Ok(told?)
}

fn is_unique_violation<T>(result: &Result<T, DieselError>) -> bool {
    matches!(result, Err(DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)))
}
