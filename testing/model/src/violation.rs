//! Every kind of violation, with a sentence that describes it.

use std::fmt;

/// What is violated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the sentences below say what each of them is")]
pub enum Violation {
    SuccessLost,
    AppliedTwice,
    ChangeWithoutEvent,
    EventWithoutChange,
    EventLost,
    ChangeWithoutRow,
    TwoRows,
    OrderPaidByTwo,
    TransactionPaysTwo,
    ReturnedMoneyPays,
    SumsDiffer,
    IllegalChange,
    RefusedUnseen,
    WorkHidden,
    NoRowInTheEnd,
    SuccessWithoutRowInTheEnd,
    StillWaiting,
    StillOpen,
    WrongOrder,
    WrongOutcomes,
    WrongEventsHeard,
    NotEmpty,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SuccessLost => "ingest answered SUCCESS for a callback that neither the broker nor the ledger has",
            Self::AppliedTwice => "one payment or refund was applied twice",
            Self::ChangeWithoutEvent => "an order was changed without an event",
            Self::EventWithoutChange => "an event exists without a change of its order",
            Self::EventLost => "an event was deleted before the merchant received it",
            Self::ChangeWithoutRow => "a payment or refund counts although no ledger row says that it was applied",
            Self::TwoRows => "the ledger has one part of a message twice",
            Self::OrderPaidByTwo => "an order is not paid by the one payment that is on record as accepted",
            Self::TransactionPaysTwo => "one transaction is on record for two orders",
            Self::ReturnedMoneyPays => "an order is paid by money that had been returned",
            Self::SumsDiffer => "the returned amount of a payment or an order is not the sum of its refunds",
            Self::IllegalChange => "a worker wrote a change that only a database trigger would have stopped",
            Self::RefusedUnseen => {
                "a refused payment that has not been returned has no held row that an operator has seen or can see"
            }
            Self::WorkHidden => "an operator resolved a row of a payment that is recorded nowhere else",
            Self::NoRowInTheEnd => "in the end a message that the broker had is not in the ledger exactly once",
            Self::SuccessWithoutRowInTheEnd => "in the end a callback that was answered SUCCESS is not in the ledger",
            Self::StillWaiting => "in the end a row waits although its cause is gone, or waits for nothing",
            Self::StillOpen => "in the end a row is open although its payment was accepted or returned",
            Self::WrongOrder => {
                "in the end an order is not in the state that the stored callbacks and the shop lead to"
            }
            Self::WrongOutcomes => "in the end a message has an outcome that does not fit its payment",
            Self::WrongEventsHeard => "in the end the merchant has not received each change of the orders exactly once",
            Self::NotEmpty => "in the end the queue, a lane or the outbox is not empty",
        })
    }
}
