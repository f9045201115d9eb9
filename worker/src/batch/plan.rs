//! The pure half of a batch: the outcome of each callback, decided one after another on the orders' state.
//!
//! [`plan`] folds `decide` over the batch in delivery order, each step seeing the state that the last one left. It does
//! no IO and knows no clock; [`super::transaction`] locks the orders before and writes the plan after.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use shared::domain::decide::Asked;
use shared::domain::ids::{MchId, OutRefundNo, OutTradeNo, SubMchId, TransactionId};
use shared::domain::money::Money;
use shared::domain::notification::Notification;
use shared::domain::order::{Order, OrderState};
use shared::domain::payment::{Disposition, PaymentRecord};
use shared::domain::refund::{Refund, RefundState};
use shared::merchants_file::MeteredKeyRing;
use uuid::Uuid;

use super::message::{Examined, Finding, Message};
use super::outcome::{Held, NotDecided, Outcome, reason};

mod fold;

pub use fold::plan;

/// One thing to decide.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    /// What it is.
    pub finding: &'a Finding,
    /// Why it is decided.
    pub asked: Asked,
    /// The operator who asked.
    pub by: Option<&'a str>,
}

impl<'a> Item<'a> {
    /// Something that WeChat Pay reported.
    #[must_use]
    pub fn reported(finding: &'a Finding) -> Self {
        Self { finding, asked: Asked::ByReport, by: None }
    }
}

/// What names an order: merchant, sub-merchant and number.
pub type OrderKey = (MchId, Option<SubMchId>, OutTradeNo);

/// The rows that a batch names, as the transaction has read them.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// The orders, locked.
    pub orders: Vec<Order>,
    /// Orders that exist and that another session has locked, by id. Absent is something else: such an order may be decided
    /// in a moment.
    pub busy: Vec<(i64, OrderKey)>,
    /// The payments on record with the transactions that the batch names, read after the orders were locked.
    pub payments: Vec<PaymentRecord>,
    /// The refunds with the numbers that the batch names.
    pub refunds: Vec<Refund>,
}

/// Everything that a batch writes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The orders that change, each once, by id.
    pub orders: BTreeMap<i64, ChangedOrder>,
    /// The payments that are new or change, each once.
    pub payments: BTreeMap<(MchId, TransactionId), ChangedPayment>,
    /// The refunds that change, each once, by order and number.
    pub refunds: BTreeMap<(i64, OutRefundNo), ChangedRefund>,
    /// One decision per item, in the order of the items.
    pub decided: Vec<Decided>,
    /// The events for the merchant's fulfilment, in the order in which they happened.
    pub events: Vec<OrderEvent>,
}

/// The outcome of one item, and the order on which it was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The outcome.
    pub outcome: Outcome,
    /// The order as the decision found it.
    pub seen: Option<Seen>,
    /// The index in [`Plan::events`] of the event that it caused.
    pub event: Option<usize>,
}

/// An order as a decision found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Its version.
    pub version: i32,
    /// The name of its state.
    pub state: &'static str,
    /// Its amount.
    pub amount: Money,
}

/// An order as the batch leaves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedOrder {
    /// The row after the changes.
    pub order: Order,
    /// When the payer paid, if the batch has the payment.
    pub paid_at: Option<DateTime<Utc>>,
}

/// A payment as the batch leaves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedPayment {
    /// The row that was read; `None` when there was none.
    pub was: Option<PaymentRecord>,
    /// The row after the changes.
    pub now: PaymentRecord,
    /// The index of the item that brought it.
    pub brought_by: usize,
}

/// A refund as the batch leaves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedRefund {
    /// The row that was read; `None` when there was none.
    pub was: Option<Refund>,
    /// The row after the changes.
    pub now: Refund,
    /// The operator who accepted that it contradicts the row that was read.
    pub accepted_by: Option<String>,
}

/// One change, as the merchant's fulfilment receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderEvent {
    /// The row after the change.
    pub order: Order,
    /// What happened.
    pub happened: Happened,
}

/// What happened to an order or to one of its payments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// It was paid.
    Paid(PaymentRecord),
    /// It refused a payment, which is owed back.
    Refused {
        /// The payment.
        payment: PaymentRecord,
        /// The name of the refusal.
        reason: &'static str,
    },
    /// A refund reached a new state.
    Refund {
        /// The refund.
        refund: Refund,
        /// The payment that it refunds, after the change.
        payment: PaymentRecord,
    },
}

impl OrderEvent {
    /// The event's type.
    #[must_use]
    pub fn name(&self) -> &'static str {
        let Happened::Refund { refund, payment } = &self.happened else {
            return if matches!(self.happened, Happened::Paid(_)) { "order.paid" } else { "payment.refused" };
        };
        debug_assert!(refund.state != RefundState::Requested, "WeChat Pay reports a refund at its end");
        match (refund.state, payment.disposition) {
            (RefundState::Abnormal, _) => "refund.abnormal",
            (RefundState::Closed, _) => "refund.closed",
            (RefundState::Succeeded(_) | RefundState::Requested, Disposition::Returned) => "payment.returned",
            (RefundState::Succeeded(_) | RefundState::Requested, Disposition::Refused) => "payment.partially_returned",
            (RefundState::Succeeded(_) | RefundState::Requested, Disposition::Accepted) => match self.order.state {
                OrderState::Refunded(_) => "order.refunded",
                OrderState::Pending | OrderState::Paid(_) | OrderState::Closed => "order.partially_refunded",
            },
        }
    }

    /// The payment that it is about.
    #[must_use]
    pub fn payment(&self) -> &PaymentRecord {
        match &self.happened {
            Happened::Paid(payment) | Happened::Refused { payment, .. } | Happened::Refund { payment, .. } => payment,
        }
    }
}

/// A callback, or one sub-order of a combined one: one row in the ledger.
#[derive(Debug)]
pub struct Part<'a> {
    /// The message that brought it.
    pub message: &'a Message,
    /// Its index in the message, from 0.
    pub number: i16,
    /// Its content after decoding.
    pub examined: Examined<'a>,
    /// Its row.
    pub row: LedgerRow,
}

/// Whether a part is new to the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerRow {
    /// A row is inserted.
    New,
    /// It is held: its rows are updated.
    Held {
        /// Why it was held.
        reason: String,
        /// The operator whose request has not been decided yet, and how it is to be decided.
        request: Option<(String, Asked)>,
        /// Whether that request has not been looked at yet.
        is_due: bool,
    },
}

/// A part with its outcome.
#[derive(Debug)]
pub struct Handled<'a> {
    /// The part.
    pub part: Part<'a>,
    /// The decision.
    pub decided: Decided,
    /// The event that it caused.
    pub event: Option<CausedEvent>,
}

/// What a ledger row says of the event that its part caused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CausedEvent {
    /// The event's id.
    pub id: Uuid,
    /// Its type.
    pub name: &'static str,
    /// The version of the order that it shows.
    pub version: i32,
}

/// Reasons whose rows every sweep decides again once their cause may be gone. Rows with other reasons are decided once, for
/// example when a key has arrived.
const LOOKED_AT_BY_EVERY_SWEEP: [&str; 5] = [
    reason::FOR_ORDER,
    reason::SUB_MCH_ID_MISMATCH,
    reason::FOR_PAYMENT,
    reason::FOR_LOCK,
    reason::REJECTED_BY_DATABASE,
];

impl<'a> Part<'a> {
    /// The parts of a message that is new to the ledger.
    pub fn from_message(message: &'a Message, keys: &'a MeteredKeyRing) -> impl Iterator<Item = Self> {
        let examined = message.authenticate_and_decode(keys, Asked::ByReport);
        (0..).zip(examined).map(move |(number, examined)| Self { message, number, examined, row: LedgerRow::New })
    }

    /// One part for a message that is held as a whole.
    #[must_use]
    pub fn held_whole(message: &'a Message, examined: Examined<'a>) -> Self {
        Self { message, number: 0, examined, row: LedgerRow::New }
    }

    /// The part as something to decide.
    #[must_use]
    pub fn item(&self) -> Item<'_> {
        let (by, asked) = match &self.row {
            LedgerRow::Held { request: Some((by, asked)), .. } => (Some(by.as_str()), *asked),
            LedgerRow::Held { request: None, .. } | LedgerRow::New => (None, Asked::ByReport),
        };
        Item { finding: &self.examined.finding, asked, by }
    }
}

impl Handled<'_> {
    /// The part's outcome.
    #[must_use]
    pub fn outcome(&self) -> &Outcome {
        &self.decided.outcome
    }

    /// A held row stays exactly as it is when it is held for the same again, or when its order is locked.
    #[must_use]
    pub fn stays_as_it_is(&self) -> bool {
        let LedgerRow::Held { reason, is_due, .. } = &self.part.row else { return false };
        let Some(held) = self.decided.outcome.held() else { return false };
        let is_locked = matches!(held, Held::NotDecided(NotDecided::ForLock(_)));
        // A row that no later sweep would pick up by itself waits for the lock instead.
        let is_looked_at = *is_due || LOOKED_AT_BY_EVERY_SWEEP.contains(&reason.as_str());
        (is_locked && is_looked_at) || (!is_due && held.reason() == reason)
    }
}

/// What names the order of a payment.
#[must_use]
pub fn named_order_key(notification: &Notification) -> Option<OrderKey> {
    let Notification::Payment(payment) = notification else { return None };
    Some((payment.mch_id.clone(), payment.sub_mch_id.clone(), payment.out_trade_no.clone()?))
}

/// What names an order.
#[must_use]
pub fn order_key(order: &Order) -> OrderKey {
    (order.mch_id.clone(), order.sub_mch_id.clone(), order.out_trade_no.clone())
}
