//! The heart: what one notification does to one order. Total and pure; the table of checks is the specification.

use chrono::{DateTime, Utc};

use super::ids::{AppId, SubMchId, TransactionId};
use super::money::{Currency, Money};
use super::notification::{Notification, Payment, PaymentResult};
use super::order::{Order, OrderState};

/// What is to be done about a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Change the order.
    Apply(Change),
    /// The order already shows this; nothing to do.
    Duplicate,
    /// Authentic, and no business of the order's.
    Ignore(Ignored),
    /// Cannot be decided yet.
    Wait(Awaited),
    /// Understood and refused: a person must look.
    Quarantine(Refusal),
}

/// A change to an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The pending order becomes paid.
    Pay {
        /// WeChat Pay's number for the payment.
        transaction_id: TransactionId,
        /// When the payer paid.
        paid_at: DateTime<Utc>,
    },
}

/// Why an authentic notification changes nothing and troubles nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// It reports a payment that did not succeed.
    NotSuccessful,
}

/// What a notification waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// No such order yet: the callback may have overtaken the checkout's commit.
    Order,
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
    /// Another sum was paid.
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
    /// The merchant had given the order up: the payment is owed back.
    PaidAfterClose {
        /// The transaction that paid it.
        got: TransactionId,
    },
}

/// Decides what `notification` does to `order`, the row with its merchant's number and its `out_trade_no`
/// (`None`: there is none).
///
/// Payment, in this order:
/// 1. it does not report success → `Ignore(NotSuccessful)`
/// 2. no such order → `Wait(Order)`
/// 3. sub-merchant differs (unset equals only unset), or the order names an app and neither app of the
///    notification is it → `Quarantine(SubMchIdMismatch | AppIdMismatch)`
/// 4. currency differs → `Quarantine(CurrencyMismatch)`
/// 5. amount differs → `Quarantine(AmountMismatch)`
/// 6. order pending → `Apply(Pay)`
/// 7. order paid or refunded by the same transaction → `Duplicate`
/// 8. order paid or refunded by another transaction → `Quarantine(PaidTwice)`
/// 9. order closed → `Quarantine(PaidAfterClose)`
#[must_use]
pub fn decide(order: Option<&Order>, notification: &Notification) -> Verdict {
    match notification {
        Notification::Payment(payment) => decide_payment(order, payment),
    }
}

fn decide_payment(order: Option<&Order>, payment: &Payment) -> Verdict {
    let PaymentResult::Success(success) = &payment.result else {
        return Verdict::Ignore(Ignored::NotSuccessful);
    };
    let Some(order) = order else {
        return Verdict::Wait(Awaited::Order);
    };
    if let Some(refusal) = mismatch(order, payment, success.total) {
        return Verdict::Quarantine(refusal);
    }
    let got = success.transaction_id.clone();
    match &order.state {
        OrderState::Pending => Verdict::Apply(Change::Pay { transaction_id: got, paid_at: success.paid_at }),
        OrderState::Paid(expected) | OrderState::Refunded(expected) if *expected == got => Verdict::Duplicate,
        OrderState::Paid(expected) | OrderState::Refunded(expected) => {
            Verdict::Quarantine(Refusal::PaidTwice { expected: expected.clone(), got })
        }
        OrderState::Closed => Verdict::Quarantine(Refusal::PaidAfterClose { got }),
    }
}

/// The first of the checks 3 to 5 that fails.
fn mismatch(order: &Order, payment: &Payment, total: Money) -> Option<Refusal> {
    if order.sub_mch_id != payment.sub_mch_id {
        return Some(Refusal::SubMchIdMismatch { expected: order.sub_mch_id.clone(), got: payment.sub_mch_id.clone() });
    }
    if let Some(expected) = &order.app_id
        && payment.app_id.as_ref() != Some(expected)
        && payment.sub_app_id.as_ref() != Some(expected)
    {
        return Some(Refusal::AppIdMismatch { expected: expected.clone(), got: payment.app_id.clone() });
    }
    if order.amount.currency != total.currency {
        return Some(Refusal::CurrencyMismatch { expected: order.amount.currency, got: total.currency });
    }
    if order.amount != total {
        return Some(Refusal::AmountMismatch { expected: order.amount, got: total });
    }
    None
}

impl Change {
    /// The order after the change.
    #[must_use]
    pub fn applied_to(&self, order: &Order) -> Order {
        match self {
            Self::Pay { transaction_id, .. } => Order {
                state: OrderState::Paid(transaction_id.clone()),
                version: order.version.saturating_add(1),
                ..order.clone()
            },
        }
    }
}

impl Ignored {
    /// The name under which it is stored and counted.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotSuccessful => "not_successful",
        }
    }
}

impl Awaited {
    /// The name under which it is stored and counted.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Order => "for_order",
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
        }
    }

    /// What the order says and what the notification says, as a person reads them; `None` is a value left unset.
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
            Self::AmountMismatch { expected, got } => (Some(expected.to_string()), Some(got.to_string())),
            Self::PaidTwice { expected, got } => (Some(expected.to_string()), Some(got.to_string())),
            Self::PaidAfterClose { got } => (Some("pending".to_owned()), Some(got.to_string())),
        }
    }
}
