//! The audit: what was told and what was found, compared by sets, rule by rule.
//!
//! Pure, so that each rule is tested by breaking it. A rule is a sentence that must hold; what breaks it is counted, and
//! the first few are kept as examples.
//!
//! Reading order: the [`Rule`]s, [`index`] (who belongs to whom), then the rules themselves in [`ledger`], [`orders`],
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
use crate::book::Book;
use crate::evidence::Found;
use crate::fulfilment::Consumed;
use crate::plan::Plan;

/// Examples kept of each broken rule.
const EXAMPLES_MAX: usize = 5;

/// What must hold after a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// The edge knows forgeries.
    ForgeryAccepted,
    /// They leave nothing behind.
    ForgeryStored,
    /// And it knows what is genuine.
    GenuineRejected,
    /// SUCCESS is a promise, kept once.
    OneRowEach,
    /// Bytes are kept as they came.
    UnknownBody,
    /// The ledger says what must have happened.
    Outcome,
    /// Orders are what the model says.
    OrderState,
    /// Payments are facts, whatever the orders made of them.
    PaymentRecord,
    /// Refunds too, and they add up.
    RefundState,
    /// Refusals are where an operator looks for them.
    Quarantine,
    /// The merchant hears of each payment.
    OnePaidEvent,
    /// And of each that is owed back.
    OneRefusedEvent,
    /// And of each change of a refund.
    OneRefundEvent,
    /// And can put them in order.
    Versions,
    /// And hears the truth.
    EventContent,
    /// And nothing else.
    StrayEvent,
    /// The ledger says what came of each row.
    CausedEvent,
    /// And on what it was decided.
    SeenOrder,
    /// Nothing is left untold.
    Outbox,
}

impl Rule {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 19] = [
        Self::ForgeryAccepted,
        Self::ForgeryStored,
        Self::GenuineRejected,
        Self::OneRowEach,
        Self::UnknownBody,
        Self::Outcome,
        Self::OrderState,
        Self::PaymentRecord,
        Self::RefundState,
        Self::Quarantine,
        Self::OnePaidEvent,
        Self::OneRefusedEvent,
        Self::OneRefundEvent,
        Self::Versions,
        Self::EventContent,
        Self::StrayEvent,
        Self::CausedEvent,
        Self::SeenOrder,
        Self::Outbox,
    ];

    /// The rule as a sentence.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::ForgeryAccepted => "no forged callback is told SUCCESS",
            Self::ForgeryStored => "no forged callback is in the ledger",
            Self::GenuineRejected => "no genuine callback is rejected as wrong (4xx)",
            Self::OneRowEach => "every callback told SUCCESS has one outcome in the ledger, by its exact bytes",
            Self::UnknownBody => "the ledger holds no body that was not sent",
            Self::Outcome => "every outcome is the one that its order calls for",
            Self::OrderState => "every order is as one delivery of each genuine callback leaves it",
            Self::PaymentRecord => {
                "every payment is on record once, with its sum, what its order made of it and what has gone back"
            }
            Self::RefundState => "every refund is as its callbacks leave it, and what succeeded adds up in its order",
            Self::Quarantine => "ledger and quarantine agree",
            Self::OnePaidEvent => "every paid order has exactly one order.paid event, by event id",
            Self::OneRefusedEvent => "every refused payment has exactly one payment.refused event, by event id",
            Self::OneRefundEvent => "every change of a refund has exactly one event, by event id",
            Self::Versions => "every order's events have its versions from 1 on, each once",
            Self::EventContent => "every event says what its order, payment and refund say",
            Self::StrayEvent => "there is no event about anything else",
            Self::CausedEvent => "every ledger row names the event that it caused, and every event is named by one row",
            Self::SeenOrder => "every ledger row names the key that proved it and the order that it was decided on",
            Self::Outbox => "the outbox is empty",
        }
    }

    /// Whether time alone may mend it: the pipeline may only be late.
    #[must_use]
    pub fn may_mend(self) -> bool {
        match self {
            Self::OneRowEach
            | Self::Outcome
            | Self::OrderState
            | Self::PaymentRecord
            | Self::RefundState
            | Self::Quarantine
            | Self::OnePaidEvent
            | Self::OneRefusedEvent
            | Self::OneRefundEvent
            | Self::Versions
            | Self::CausedEvent
            | Self::Outbox => true,
            Self::ForgeryAccepted
            | Self::ForgeryStored
            | Self::GenuineRejected
            | Self::UnknownBody
            | Self::EventContent
            | Self::StrayEvent
            | Self::SeenOrder => false,
        }
    }
}

/// One breach of a rule, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    pub out_trade_no: String,
    /// What the rule asks for.
    pub expected: String,
    /// What there is.
    pub found: String,
}

/// Every breach, counted, with a few examples of each rule's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings(BTreeMap<Rule, (u64, Vec<Example>)>);

impl Findings {
    /// Nothing is broken.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.0.is_empty()
    }

    /// Something is broken that no waiting can mend.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.0.keys().any(|rule| !rule.may_mend())
    }

    /// How often `rule` is broken.
    #[must_use]
    pub fn count(&self, rule: Rule) -> u64 {
        self.0.get(&rule).map_or(0, |(count, _)| *count)
    }

    /// At most five.
    #[must_use]
    pub fn examples(&self, rule: Rule) -> &[Example] {
        self.0.get(&rule).map_or(&[], |(_, examples)| examples)
    }

    fn add(&mut self, rule: Rule, out_trade_no: &str, expected: impl Into<String>, found: impl Into<String>) {
        let (count, examples) = self.0.entry(rule).or_default();
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

/// Compares what was told (`plan`, `book`) with what was found (`found`, `consumed`).
#[must_use]
pub fn audit(plan: &Plan, book: &Book, found: &Found, consumed: &Consumed) -> Findings {
    let index = Index::new(plan, book, found, consumed);
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
