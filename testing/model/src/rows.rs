//! What the database holds: orders, payments, refunds, the ledger with its held rows, and the outbox.

use std::fmt;

use crate::inline_vec::InlineVec;
use crate::state::{EVENTS, MESSAGES, ORDERS, PARTS};

/// The most payments of a scenario.
pub const TRANSACTIONS: usize = 2;
/// The most refunds of a scenario.
pub const REFUNDS: usize = 2;
/// What every order costs, and what every payment is of: enough for two part refunds.
pub const PRICE: u8 = 2;

/// By transaction and order: its primary key. That a transaction is unique is a constraint of its own.
pub type Payments = [[Option<Payment>; ORDERS]; TRANSACTIONS];
/// By number.
pub type Refunds = [Option<Refund>; REFUNDS];

/// What is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Database {
    pub orders: [Option<Order>; ORDERS],
    pub payments: Payments,
    pub refunds: Refunds,
    pub ledger: [[Option<Row>; PARTS]; MESSAGES],
    /// Every event ever written.
    pub events: InlineVec<EventRow, EVENTS>,
    /// Whether a part ever got a second row. For the checks.
    pub has_row_twice: bool,
    /// Whether a worker ever wrote what only a trigger of the database would have stopped. For the checks.
    pub is_illegal: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order {
    /// Where it stands.
    pub state: OrderState,
    /// What has gone back of the payment that paid it.
    pub refunded: u8,
    /// Counts the changes.
    pub version: u8,
}

/// Where an order stands, with the transaction that paid it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OrderState {
    /// Waiting for the payer.
    Pending,
    /// Given up by the shop.
    Closed,
    Paid(u8),
    /// Paid and given back in full.
    Refunded(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Payment {
    /// What the order made of it.
    pub disposition: Disposition,
    /// What has gone back.
    pub returned: u8,
    /// Whether any of it went back while it was not accepted. No column: it is for the checks.
    pub is_spent: bool,
}

/// What an order made of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are those of the domain")]
pub enum Disposition {
    Accepted,
    Refused,
    Returned,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Refund {
    pub order: u8,
    /// The payment that it refunds.
    pub transaction: u8,
    /// How much.
    pub amount: u8,
    /// What became of it.
    pub end: End,
}

/// What became of a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// The money arrived.
    Succeeded,
    /// It will not happen.
    Closed,
}

/// A row of the ledger, with the held row that goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Row {
    /// What the part came to.
    pub outcome: Outcome,
    /// Its held row, if it was ever held.
    pub held: Option<Held>,
}

/// What a part came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the ledger")]
pub enum Outcome {
    Applied,
    Duplicate,
    Ignored,
    Waiting,
    Quarantined,
    Abandoned,
}

/// A held row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Held {
    /// Why it is held.
    pub reason: Reason,
    /// Where it stands.
    pub state: HeldState,
    /// What an operator has asked for.
    pub asked: Asked,
}

/// Where a held row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HeldState {
    /// For its cause, or for the sweeper.
    Waiting,
    /// The operator has been notified.
    Open,
    /// Decided, or its payment has been accepted or returned.
    Resolved,
    /// By an operator's command.
    ResolvedByOperator,
}

/// Why a part is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the domain")]
pub enum Asked {
    ByReport,
    ByReplay,
    ByAcceptance,
}

impl Held {
    /// Whether it is still to be decided, or still to be seen to.
    #[must_use]
    pub fn is_unresolved(self) -> bool {
        matches!(self.state, HeldState::Waiting | HeldState::Open)
    }

    /// Whether it waits for the sweeper by an operator's word.
    #[must_use]
    pub fn is_asked_for(self) -> bool {
        self.is_unresolved() && self.asked != Asked::ByReport
    }
}

/// Why a part is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Reason {
    ForOrder,
    ForPayment,
    ForLock,
    PaidTwice,
    PaidAfterClose,
    PartlyReturned,
    TransactionConflict,
    RefundExceedsPayment,
    RefundStateConflict,
}

impl Reason {
    const ALL: [Self; 9] = [
        Self::ForOrder,
        Self::ForPayment,
        Self::ForLock,
        Self::PaidTwice,
        Self::PaidAfterClose,
        Self::PartlyReturned,
        Self::TransactionConflict,
        Self::RefundExceedsPayment,
        Self::RefundStateConflict,
    ];

    /// The name in `quarantine.reason`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ForOrder => "for_order",
            Self::ForPayment => "for_payment",
            Self::ForLock => "for_lock",
            Self::PaidTwice => "paid_twice",
            Self::PaidAfterClose => "paid_after_close",
            Self::PartlyReturned => "partly_returned",
            Self::TransactionConflict => "transaction_conflict",
            Self::RefundExceedsPayment => "refund_exceeds_payment",
            Self::RefundStateConflict => "refund_state_conflict",
        }
    }

    /// `None` for a reason that no scenario comes to.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }

    /// Whether it says of a payment that its order does not want it: those of `resolve_refused`.
    #[must_use]
    pub fn is_of_refused_payment(self) -> bool {
        matches!(self, Self::PaidTwice | Self::PaidAfterClose | Self::PartlyReturned)
    }
}

/// The event that the merchant receives for one change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Event {
    pub order: u8,
    /// Its version after the change.
    pub version: u8,
    pub happened: Happened,
}

/// What happened to an order or to one of its payments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Happened {
    /// It was paid by this transaction.
    Paid(u8),
    /// It refused this transaction.
    Refused(u8),
    /// The refund with this number came to an end.
    Refund(u8, Told),
}

/// What an event reports about a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are those of the events")]
pub enum Told {
    OrderRefunded,
    OrderPartiallyRefunded,
    PaymentReturned,
    PaymentPartiallyReturned,
    RefundClosed,
}

/// An event, from its insert on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventRow {
    pub event: Event,
    /// Whether the row is still there.
    pub is_in_outbox: bool,
    /// Whether the merchant's queue has it, once or more often: consumers drop repeats by the event's id.
    pub is_heard: bool,
}

impl fmt::Display for OrderState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending => f.write_str("pending"),
            Self::Closed => f.write_str("closed"),
            Self::Paid(transaction) => write!(f, "paid by transaction {transaction}"),
            Self::Refunded(transaction) => write!(f, "refunded, transaction {transaction}"),
        }
    }
}
