//! What can be decided about a notification, with the names under which it is stored and counted.

use super::ids::{AppId, RefundId, SubMchId, TransactionId};
use super::money::{Currency, Money};
use super::order::{Order, OrderState};
use super::payment::{Disposition, PaymentRecord};
use super::refund::{Refund, RefundState};

/// What to do about a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Change the order.
    Apply(Change),
    /// It is already applied; nothing to do.
    Duplicate,
    /// Authentic, but it changes nothing.
    Ignore(Ignored),
    /// Cannot be decided yet.
    Wait(Awaited),
    /// Understood, and contradicts what is on record: held for an operator, and nothing changes.
    Quarantine(Refusal),
    /// The order refuses this payment: recorded as refused, and held for an operator.
    Refuse(Refusal, PaymentRecord),
}

/// A change to an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The pending order becomes paid by this payment.
    Pay(PaymentRecord),
    /// The order names this payment already, because the shop wrote it there; only the payment's own record is missing.
    Adopt(PaymentRecord),
    /// The refund and the payment that it refunds change to these.
    Refund {
        /// The refund after the change.
        refund: Refund,
        /// The payment after the change.
        payment: PaymentRecord,
    },
}

/// Why an authentic notification changes nothing and needs no operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// It reports a payment that did not succeed.
    NotSuccessful,
    /// It is a refused payment that was returned in the meantime.
    Returned,
    /// It is about no order.
    NotForOrders,
    /// It reports an earlier state of a refund that is final.
    Stale,
}

/// What a notification waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// No such order yet: the callback may have overtaken the checkout's commit.
    Order,
    /// The payment is not on record yet: a refund can overtake it.
    Payment,
}

/// Why a notification was refused, with what the order says (`expected`) and what the notification says (`got`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It is about another shop of the same institution.
    SubMchIdMismatch {
        /// The order's.
        expected: Option<SubMchId>,
        /// The notification's.
        got: Option<SubMchId>,
    },
    /// It was paid through another app.
    AppIdMismatch {
        /// The order's.
        expected: AppId,
        /// The notification's.
        got: Option<AppId>,
    },
    /// It was paid in another currency.
    CurrencyMismatch {
        /// The order's.
        expected: Currency,
        /// The notification's.
        got: Currency,
    },
    /// A different amount was paid.
    AmountMismatch {
        /// The order's.
        expected: Money,
        /// The notification's.
        got: Money,
    },
    /// The order is paid already, by another transaction: one of the two is owed back.
    PaidTwice {
        /// The transaction that paid the order.
        expected: TransactionId,
        /// The second one.
        got: TransactionId,
    },
    /// The merchant had closed the order: the payment is owed back.
    PaidAfterClose {
        /// The transaction that paid it.
        got: TransactionId,
    },
    /// A different amount was refunded from the one that the merchant requested.
    RefundAmountMismatch {
        /// What the merchant requested.
        expected: Money,
        /// The notification's.
        got: Money,
    },
    /// The merchant's number is on record with a different number of WeChat Pay's.
    RefundIdMismatch {
        /// The one on record.
        expected: RefundId,
        /// The notification's.
        got: RefundId,
    },
    /// It exceeds what is left to refund.
    RefundExceedsPayment {
        /// What is left.
        left: Money,
        /// The notification's.
        got: Money,
    },
    /// It succeeded after it was closed, or the other way round.
    RefundStateConflict {
        /// The final state on record.
        expected: RefundState,
        /// The reported one.
        got: RefundState,
    },
    /// WeChat Pay's number for a payment is on record for another order, amount or currency.
    TransactionConflict {
        /// What is on record.
        expected: String,
        /// What the notification says.
        got: String,
    },
    /// A refused payment that was partly returned can no longer pay its order.
    PartlyReturned {
        /// What the payer paid.
        paid: Money,
        /// What was returned.
        returned: Money,
    },
}

impl Change {
    /// The order after the change. Every change that causes an event raises the version, so that each event has its own.
    #[must_use]
    pub fn applied_to(&self, order: &Order) -> Order {
        match self {
            Self::Pay(payment) => Order {
                state: OrderState::Paid(payment.transaction_id.clone()),
                version: order.version.saturating_add(1),
                ..order.clone()
            },
            Self::Adopt(_) => order.clone(),
            Self::Refund { payment, .. } => after_refund(order, payment),
        }
    }

    /// The payment after the change.
    #[must_use]
    pub fn payment(&self) -> &PaymentRecord {
        match self {
            Self::Pay(payment) | Self::Adopt(payment) | Self::Refund { payment, .. } => payment,
        }
    }
}

/// An order counts only the refunds of the payment that it accepted.
fn after_refund(order: &Order, payment: &PaymentRecord) -> Order {
    let order = Order { version: order.version.saturating_add(1), ..order.clone() };
    if payment.disposition != Disposition::Accepted {
        return order;
    }
    let refunded_minor = payment.returned_minor;
    let state = match &order.state {
        OrderState::Paid(transaction_id) if refunded_minor == order.amount.amount_minor => {
            OrderState::Refunded(transaction_id.clone())
        }
        state => state.clone(),
    };
    Order { state, refunded_minor, ..order }
}

impl Ignored {
    /// The name under which it is stored and counted.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotSuccessful => "not_successful",
            Self::Returned => "returned",
            Self::NotForOrders => "not_for_orders",
            Self::Stale => "stale",
        }
    }
}

impl Awaited {
    /// The name under which it is stored and counted.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Order => "for_order",
            Self::Payment => "for_payment",
        }
    }
}

impl Refusal {
    /// The name under which it is stored and counted.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::SubMchIdMismatch { .. } => "sub_mch_id_mismatch",
            Self::AppIdMismatch { .. } => "app_id_mismatch",
            Self::CurrencyMismatch { .. } => "currency_mismatch",
            Self::AmountMismatch { .. } => "amount_mismatch",
            Self::PaidTwice { .. } => "paid_twice",
            Self::PaidAfterClose { .. } => "paid_after_close",
            Self::RefundAmountMismatch { .. } => "refund_amount_mismatch",
            Self::RefundIdMismatch { .. } => "refund_id_mismatch",
            Self::RefundExceedsPayment { .. } => "refund_exceeds_payment",
            Self::RefundStateConflict { .. } => "refund_state_conflict",
            Self::TransactionConflict { .. } => "transaction_conflict",
            Self::PartlyReturned { .. } => "partly_returned",
        }
    }

    /// What the order says and what the notification says, for an operator; `None` is an unset value.
    #[must_use]
    pub fn evidence(&self) -> (Option<String>, Option<String>) {
        match self {
            Self::SubMchIdMismatch { expected, got } => {
                (expected.as_ref().map(ToString::to_string), got.as_ref().map(ToString::to_string))
            }
            Self::AppIdMismatch { expected, got } => {
                (Some(expected.to_string()), got.as_ref().map(ToString::to_string))
            }
            Self::CurrencyMismatch { expected, got } => (Some(expected.to_string()), Some(got.to_string())),
            Self::AmountMismatch { expected, got } | Self::RefundAmountMismatch { expected, got } => {
                (Some(expected.to_string()), Some(got.to_string()))
            }
            Self::PaidTwice { expected, got } => (Some(expected.to_string()), Some(got.to_string())),
            Self::TransactionConflict { expected, got } => (Some(expected.clone()), Some(got.clone())),
            Self::PaidAfterClose { got } => (Some("pending".to_owned()), Some(got.to_string())),
            Self::RefundIdMismatch { expected, got } => (Some(expected.to_string()), Some(got.to_string())),
            Self::RefundExceedsPayment { left, got } => (Some(format!("at most {left}")), Some(got.to_string())),
            Self::RefundStateConflict { expected, got } => {
                (Some(expected.name().to_owned()), Some(got.name().to_owned()))
            }
            Self::PartlyReturned { paid, returned } => (Some(paid.to_string()), Some(format!("{returned} returned"))),
        }
    }
}
