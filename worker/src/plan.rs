//! The pure half of a batch: what each message of it comes to, decided one after another on the orders' state.
//!
//! [`plan`] folds `decide` over the batch in delivery order, each step seeing the state that the last one left. It does
//! no IO and knows no clock; [`crate::apply`] locks the orders before and writes the plan after.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use shared::domain::decide::{Awaited, Change, Ignored, Refusal, Verdict, decide};
use shared::domain::notification::Notification;
use shared::domain::order::Order;

/// What the bytes of one message turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// An authentic notification: the order's state decides.
    Notified(Notification),
    /// Something that no order can decide.
    Undecided(Undecided),
}

/// Why a message was not decided against an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undecided {
    /// No key in this worker's ring made its signature; the key may be on its way.
    ForKey(String),
    /// It was handed out so often that it may be what kills workers: decided later, alone.
    DecideAlone,
    /// Not the XML of a callback.
    Malformed(String),
    /// Not signed as WeChat Pay signs.
    NotAuthentic(String),
    /// Authentic, but not a notification this version understands.
    Undecodable(String),
    /// The database refuses it however it is written.
    RejectedByDatabase(String),
}

/// What one message came to: the outcome in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The order was changed.
    Applied,
    /// The order showed it already.
    Duplicate,
    /// Nothing of the order's business.
    Ignored(Ignored),
    /// Held until what it waits for has come.
    Waiting(Held),
    /// Held for a person.
    Quarantined(Held),
}

/// Why a message is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// `decide` waits for something.
    Awaiting(Awaited),
    /// `decide` refused it.
    Refused(Refusal),
    /// It never came to `decide`.
    Undecided(Undecided),
}

/// What is to be written for a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The orders that change, each once, by id.
    pub orders: Vec<ChangedOrder>,
    /// One outcome per message, in the order of the messages.
    pub outcomes: Vec<Outcome>,
    /// What the merchant's fulfilment is to hear, in the order it happened.
    pub events: Vec<OrderPaid>,
}

/// An order as the batch leaves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedOrder {
    /// The row after the change.
    pub order: Order,
    /// When the payer paid.
    pub paid_at: DateTime<Utc>,
}

/// The event `order.paid`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderPaid {
    /// The row after the change.
    pub order: Order,
    /// When the payer paid.
    pub paid_at: DateTime<Utc>,
}

/// Decides every finding of a batch against `orders`, the locked rows that the batch names.
#[must_use]
pub fn plan<'batch>(orders: Vec<Order>, findings: impl Iterator<Item = &'batch Finding>) -> Plan {
    let mut state: HashMap<(String, String), Order> = orders
        .into_iter()
        .map(|order| ((order.mch_id.as_str().to_owned(), order.out_trade_no.as_str().to_owned()), order))
        .collect();
    let mut plan = Plan::default();
    for finding in findings {
        let outcome = match finding {
            Finding::Notified(notification) => plan.step(&mut state, notification),
            Finding::Undecided(undecided) => undecided.outcome(),
        };
        plan.outcomes.push(outcome);
    }
    plan.keep_last_of_each_order();
    plan
}

impl Plan {
    fn step(&mut self, state: &mut HashMap<(String, String), Order>, notification: &Notification) -> Outcome {
        let key = notification
            .out_trade_no()
            .map(|number| (notification.mch_id().as_str().to_owned(), number.as_str().to_owned()));
        let order = key.and_then(|key| state.get_mut(&key));
        match (decide(order.as_deref(), notification), order) {
            (Verdict::Apply(change), Some(order)) => {
                *order = change.applied_to(order);
                let Change::Pay { paid_at, .. } = change;
                self.orders.push(ChangedOrder { order: order.clone(), paid_at });
                self.events.push(OrderPaid { order: order.clone(), paid_at });
                Outcome::Applied
            }
            (Verdict::Apply(_) | Verdict::Wait(Awaited::Order), _) => Outcome::Waiting(Held::Awaiting(Awaited::Order)),
            (Verdict::Duplicate, _) => Outcome::Duplicate,
            (Verdict::Ignore(ignored), _) => Outcome::Ignored(ignored),
            (Verdict::Quarantine(refusal), _) => Outcome::Quarantined(Held::Refused(refusal)),
        }
    }

    /// One row per order in the set update, sorted by key as every multi-row write is.
    fn keep_last_of_each_order(&mut self) {
        self.orders.sort_by_key(|changed| (changed.order.id, std::cmp::Reverse(changed.order.version)));
        self.orders.dedup_by_key(|changed| changed.order.id);
    }
}

impl Undecided {
    /// What the ledger says of such a message.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let held = Held::Undecided(self.clone());
        match self {
            Self::ForKey(_) | Self::DecideAlone => Outcome::Waiting(held),
            Self::Malformed(_) | Self::NotAuthentic(_) | Self::Undecodable(_) | Self::RejectedByDatabase(_) => {
                Outcome::Quarantined(held)
            }
        }
    }
}

impl Outcome {
    /// The name in `notifications.outcome`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Duplicate => "duplicate",
            Self::Ignored(_) => "ignored",
            Self::Waiting(_) => "waiting",
            Self::Quarantined(_) => "quarantined",
        }
    }

    /// The name in `notifications.reason`.
    #[must_use]
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Applied | Self::Duplicate => None,
            Self::Ignored(ignored) => Some(ignored.name()),
            Self::Waiting(held) | Self::Quarantined(held) => Some(held.reason()),
        }
    }

    /// Why the message is held, when it is.
    #[must_use]
    pub fn held(&self) -> Option<&Held> {
        match self {
            Self::Applied | Self::Duplicate | Self::Ignored(_) => None,
            Self::Waiting(held) | Self::Quarantined(held) => Some(held),
        }
    }
}

impl Held {
    /// The name in `quarantine.reason`.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Awaiting(awaited) => awaited.name(),
            Self::Refused(refusal) => refusal.name(),
            Self::Undecided(undecided) => match undecided {
                Undecided::ForKey(_) => "for_key",
                Undecided::DecideAlone => "decide_alone",
                Undecided::Malformed(_) => "malformed",
                Undecided::NotAuthentic(_) => "not_authentic",
                Undecided::Undecodable(_) => "undecodable",
                Undecided::RejectedByDatabase(_) => "rejected_by_database",
            },
        }
    }

    /// The evidence in `quarantine.detail`.
    #[must_use]
    pub fn detail(&self) -> serde_json::Value {
        match self {
            Self::Awaiting(_) | Self::Undecided(Undecided::DecideAlone) => serde_json::json!({}),
            Self::Refused(refusal) => {
                let (expected, got) = refusal.evidence();
                serde_json::json!({ "expected": expected, "got": got })
            }
            Self::Undecided(
                Undecided::ForKey(problem)
                | Undecided::Malformed(problem)
                | Undecided::NotAuthentic(problem)
                | Undecided::Undecodable(problem)
                | Undecided::RejectedByDatabase(problem),
            ) => serde_json::json!({ "problem": problem }),
        }
    }
}
