//! Every kind of violation, with the sentence that tells it.

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
            Self::EventWithoutChange => "there is an event without a change of its order",
            Self::EventLost => "an event was deleted that nobody has heard",
            Self::ChangeWithoutRow => "a payment or refund counts, and no row of the ledger says that it was applied",
            Self::TwoRows => "the ledger has one part of a message twice",
            Self::OrderPaidByTwo => "an order is not paid by the one payment that is on record as accepted",
            Self::TransactionPaysTwo => "one transaction is on record for two orders",
            Self::ReturnedMoneyPays => "an order is paid by money that had gone back",
            Self::SumsDiffer => "what went back of a payment or an order is not the sum of its refunds",
            Self::IllegalChange => "a worker wrote what only a trigger of the database would have stopped",
            Self::RefusedUnseen => {
                "a refused payment that has not gone back has no held row that an operator has seen or can see"
            }
            Self::WorkHidden => "an operator resolved a row that nothing else knows of",
            Self::NoRowInTheEnd => "in the end the ledger does not have a message that the broker had, once",
            Self::SuccessWithoutRowInTheEnd => {
                "in the end the ledger has nothing of a callback that was answered SUCCESS"
            }
            Self::StillWaiting => "in the end a row waits for what is there, or for nothing",
            Self::StillOpen => "in the end a row of a refused payment is open that was accepted or has gone back",
            Self::WrongOrder => "in the end an order is not as the stored callbacks and the shop make it",
            Self::WrongOutcomes => "in the end a message has not the outcome that fits its payment",
            Self::WrongEventsHeard => "in the end the merchant has not heard each change of the orders once",
            Self::NotEmpty => "in the end something is left over in the queue, a lane or the outbox",
        })
    }
}
