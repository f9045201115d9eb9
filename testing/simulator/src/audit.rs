//! The audit: compares what was sent and answered with what the database and the events contain, rule by rule.
//!
//! Pure, so that each rule is tested by breaking it. Each kind of [`Violation`] has a rule: a sentence that must hold.
//! Violations are counted, and the first few of each kind are kept as examples.
//!
//! Reading order: the [`Violation`]s, [`index`] (which row belongs to which callback), then the rules in [`ledger`], [`orders`],
//! [`payments`], [`refunds`], [`events`] and [`caused`].

pub mod caused;
pub mod events;
pub mod index;
pub mod ledger;
pub mod orders;
pub mod payments;
pub mod refunds;

use std::collections::BTreeMap;

use self::index::Index;
use crate::fulfilment::Consumed;
use crate::plan::Plan;
use crate::request_log::RequestLog;
use crate::snapshot::Found;

/// Examples kept of each kind of violation.
const EXAMPLES_MAX: usize = 5;

/// A way in which a run can break a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Violation {
    /// Ingest answered SUCCESS to a forged callback.
    ForgeryAccepted,
    /// A forged callback is in the ledger.
    ForgeryStored,
    /// Ingest rejected a genuine callback as not authentic.
    GenuineRejected,
    /// A callback answered SUCCESS has no ledger row, or more rows than answers.
    WrongRowCount,
    /// The ledger holds a body that was never sent.
    UnknownBody,
    /// A ledger row has an outcome that its order does not call for.
    WrongOutcome,
    /// An order differs from the model's.
    WrongOrderState,
    /// A payment is missing from `payments`, recorded twice, or recorded wrongly.
    WrongPaymentRecord,
    /// A refund differs from its callbacks, or an order's refunds do not add up.
    WrongRefundState,
    /// The ledger and the quarantine disagree about a refused callback.
    QuarantineMismatch,
    /// A paid order has no `order.paid` event, or several.
    WrongPaidEventCount,
    /// A refused payment has no `payment.refused` event, or several.
    WrongRefusedEventCount,
    /// A change of a refund has no event, or several.
    WrongRefundEventCount,
    /// The versions in an order's events are not 1, 2, 3 and so on.
    WrongEventVersions,
    /// An event's contents differ from the order it describes.
    WrongEventContent,
    /// An event exists that no change explains.
    StrayEvent,
    /// A ledger row does not name the event that it caused.
    WrongCausedEvent,
    /// A ledger row does not name the key that verified it, or the order as it was when it was decided.
    WrongDecisionBasis,
    /// Events remain in the outbox.
    OutboxNotEmpty,
}

impl Violation {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 19] = [
        Self::ForgeryAccepted,
        Self::ForgeryStored,
        Self::GenuineRejected,
        Self::WrongRowCount,
        Self::UnknownBody,
        Self::WrongOutcome,
        Self::WrongOrderState,
        Self::WrongPaymentRecord,
        Self::WrongRefundState,
        Self::QuarantineMismatch,
        Self::WrongPaidEventCount,
        Self::WrongRefusedEventCount,
        Self::WrongRefundEventCount,
        Self::WrongEventVersions,
        Self::WrongEventContent,
        Self::StrayEvent,
        Self::WrongCausedEvent,
        Self::WrongDecisionBasis,
        Self::OutboxNotEmpty,
    ];

    /// The rule that it violates.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::ForgeryAccepted => "no forged callback was answered SUCCESS",
            Self::ForgeryStored => "no forged callback is in the ledger",
            Self::GenuineRejected => "no genuine callback was rejected as not authentic (4xx)",
            Self::WrongRowCount => "every callback answered SUCCESS is in the ledger once, with its exact bytes",
            Self::UnknownBody => "the ledger holds only bodies that were sent",
            Self::WrongOutcome => "every outcome is the one that the order calls for",
            Self::WrongOrderState => "every order is in the state that one delivery of each genuine callback leads to",
            Self::WrongPaymentRecord => {
                "every payment is recorded once, with its amount, its disposition and the amount returned"
            }
            Self::WrongRefundState => {
                "every refund is in the state that its callbacks report, and an order's successful refunds add up"
            }
            Self::QuarantineMismatch => "the ledger and the quarantine agree",
            Self::WrongPaidEventCount => "every paid order has exactly one order.paid event, by event id",
            Self::WrongRefusedEventCount => "every refused payment has exactly one payment.refused event, by event id",
            Self::WrongRefundEventCount => "every change of a refund has exactly one event, by event id",
            Self::WrongEventVersions => "every order's events have the versions 1, 2, 3 and so on, each once",
            Self::WrongEventContent => "every event agrees with its order, payment and refund",
            Self::StrayEvent => "there is no event that no change explains",
            Self::WrongCausedEvent => {
                "every ledger row names the event that it caused, and every event is named by one row"
            }
            Self::WrongDecisionBasis => {
                "every ledger row names the key that verified it and the order as it was when it was decided"
            }
            Self::OutboxNotEmpty => "the outbox is empty",
        }
    }

    /// Whether waiting may resolve it, because the pipeline may only be slow.
    #[must_use]
    pub fn may_resolve_itself(self) -> bool {
        match self {
            Self::WrongRowCount
            | Self::WrongOutcome
            | Self::WrongOrderState
            | Self::WrongPaymentRecord
            | Self::WrongRefundState
            | Self::QuarantineMismatch
            | Self::WrongPaidEventCount
            | Self::WrongRefusedEventCount
            | Self::WrongRefundEventCount
            | Self::WrongEventVersions
            | Self::WrongCausedEvent
            | Self::OutboxNotEmpty => true,
            Self::ForgeryAccepted
            | Self::ForgeryStored
            | Self::GenuineRejected
            | Self::UnknownBody
            | Self::WrongEventContent
            | Self::StrayEvent
            | Self::WrongDecisionBasis => false,
        }
    }
}

/// One violation, for the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    pub out_trade_no: String,
    /// What the rule requires.
    pub expected: String,
    /// What there is.
    pub found: String,
}

/// All violations: the number and a few examples of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings(BTreeMap<Violation, (u64, Vec<Example>)>);

impl Findings {
    /// There are no violations.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.0.is_empty()
    }

    /// There are violations that waiting cannot resolve.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.0.keys().any(|violation| !violation.may_resolve_itself())
    }

    /// How many violations of this kind there are.
    #[must_use]
    pub fn count(&self, violation: Violation) -> u64 {
        self.0.get(&violation).map_or(0, |(count, _)| *count)
    }

    /// At most five.
    #[must_use]
    pub fn examples(&self, violation: Violation) -> &[Example] {
        self.0.get(&violation).map_or(&[], |(_, examples)| examples)
    }

    fn add(&mut self, violation: Violation, out_trade_no: &str, expected: impl Into<String>, found: impl Into<String>) {
        let (count, examples) = self.0.entry(violation).or_default();
        *count = count.saturating_add(1);
        if examples.len() < EXAMPLES_MAX {
            examples.push(Example {
                out_trade_no: out_trade_no.to_owned(),
                expected: expected.into(),
                found: found.into(),
            });
        }
    }
}

/// Compares what was sent and answered (`plan`, `log`) with what was found (`found`, `consumed`).
#[must_use]
pub fn audit(plan: &Plan, log: &RequestLog, found: &Found, consumed: &Consumed) -> Findings {
    let index = Index::new(plan, log, found, consumed);
    let mut findings = Findings::default();
    ledger::check_answers(&index, &mut findings);
    ledger::check_rows(&index, &mut findings);
    ledger::check_outcomes(&index, &mut findings);
    ledger::check_quarantine(&index, &mut findings);
    orders::check_orders(&index, &mut findings);
    payments::check_payments(&index, &mut findings);
    refunds::check_refunds(&index, &mut findings);
    events::check_events(&index, &mut findings);
    caused::check_ledger(&index, &mut findings);
    findings
}

#[cfg(test)]
mod tests;
