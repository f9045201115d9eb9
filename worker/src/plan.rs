//! The pure half of a batch: what each message of it comes to, decided one after another on the orders' state.
//!
//! [`plan`] folds `decide` over the batch in delivery order, each step seeing the state that the last one left. It does
//! no IO and knows no clock; [`crate::apply`] locks the orders before and writes the plan after.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use shared::domain::decide::decide;
use shared::domain::ids::{MchId, OutRefundNo, OutTradeNo, TransactionId};
use shared::domain::notification::{Notification, Payment, PaymentResult};
use shared::domain::order::{Order, OrderState, Surplus};
use shared::domain::refund::{Refund, RefundState};
use shared::domain::verdict::{Awaited, Change, Ignored, Refusal, Verdict};

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
    /// Somebody else holds a lock that writing it needs, for longer than a batch can wait.
    ForLock(String),
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
    pub orders: BTreeMap<i64, ChangedOrder>,
    /// The refunds that change, each once, by order and number.
    pub refunds: BTreeMap<(i64, OutRefundNo), ChangedRefund>,
    /// The payments that went back because their order did not want them.
    pub returned: Vec<ReturnedSurplus>,
    /// One outcome per message, in the order of the messages.
    pub outcomes: Vec<Outcome>,
    /// What the merchant's fulfilment is to hear, in the order it happened.
    pub events: Vec<OrderEvent>,
}

/// An order as the batch leaves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedOrder {
    /// The row after the changes.
    pub order: Order,
    /// When the payer paid, if the batch has the payment.
    pub paid_at: Option<DateTime<Utc>>,
}

/// A refund as the batch leaves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedRefund {
    /// The row that was read; `None` when there was none.
    pub was: Option<Refund>,
    /// The row after the changes.
    pub now: Refund,
}

/// A payment that its order did not want, and that has gone back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnedSurplus {
    /// The order.
    pub order: Order,
    /// WeChat Pay's number for that payment.
    pub transaction_id: TransactionId,
}

/// What the merchant's fulfilment hears of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderEvent {
    /// The row after the change.
    pub order: Order,
    /// What happened.
    pub happened: Happened,
}

/// What happened to an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// It was paid, at this time.
    Paid(DateTime<Utc>),
    /// One of its refunds is now as it stands here.
    Refund(Refund),
}

impl OrderEvent {
    /// The event's type.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match &self.happened {
            Happened::Paid(_) => "order.paid",
            Happened::Refund(refund) => match (refund.state, &self.order.state) {
                (RefundState::Succeeded(_), OrderState::Refunded(_)) => "order.refunded",
                (RefundState::Succeeded(_) | RefundState::Requested, _) => "order.partially_refunded",
                (RefundState::Abnormal, _) => "refund.abnormal",
                (RefundState::Closed, _) => "refund.closed",
            },
        }
    }
}

/// Decides every finding of a batch against `orders` and `refunds`, the rows that the batch names, the orders locked.
#[must_use]
pub fn plan<'batch>(orders: Vec<Order>, refunds: Vec<Refund>, findings: impl Iterator<Item = &'batch Finding>) -> Plan {
    let mut state = State {
        orders: orders.into_iter().map(|order| ((order.mch_id.clone(), order.out_trade_no.clone()), order)).collect(),
        refunds: refunds.into_iter().map(|refund| ((refund.order_id, refund.out_refund_no.clone()), refund)).collect(),
    };
    let mut plan = Plan::default();
    for finding in findings {
        let outcome = match finding {
            Finding::Notified(notification) => plan.step(&mut state, notification),
            Finding::Undecided(undecided) => undecided.outcome(),
        };
        plan.outcomes.push(outcome);
    }
    plan
}

/// The rows as the last step left them.
struct State {
    orders: HashMap<(MchId, OutTradeNo), Order>,
    refunds: HashMap<(i64, OutRefundNo), Refund>,
}

impl Plan {
    fn step(&mut self, state: &mut State, notification: &Notification) -> Outcome {
        let key = notification.out_trade_no().map(|number| (notification.mch_id().clone(), number.clone()));
        let order = key.and_then(|key| state.orders.get_mut(&key));
        let refund_key = order.as_ref().zip(notification.out_refund_no()).map(|(order, no)| (order.id, no.clone()));
        let refund = refund_key.and_then(|key| state.refunds.get(&key));
        match (decide(order.as_deref(), refund, notification), order) {
            (Verdict::Apply(change), Some(order)) => {
                *order = change.applied_to(order);
                self.apply(change, order, &mut state.refunds);
                Outcome::Applied
            }
            (Verdict::Apply(_), None) => Outcome::Waiting(Held::Awaiting(Awaited::Order)),
            (Verdict::Wait(awaited), _) => Outcome::Waiting(Held::Awaiting(awaited)),
            (Verdict::Duplicate, _) => Outcome::Duplicate,
            (Verdict::Ignore(ignored), _) => Outcome::Ignored(ignored),
            (Verdict::Quarantine(refusal), order) => {
                if let (Some(order), Some(unwanted)) = (order, unwanted(notification, &refusal)) {
                    order.surplus.retain(|surplus| surplus.transaction_id != unwanted.transaction_id);
                    order.surplus.push(unwanted);
                }
                Outcome::Quarantined(Held::Refused(refusal))
            }
        }
    }

    /// Notes what `change` has made of `order`.
    fn apply(&mut self, change: Change, order: &Order, refunds: &mut HashMap<(i64, OutRefundNo), Refund>) {
        let happened = match change {
            Change::Pay { paid_at, .. } => Happened::Paid(paid_at),
            Change::Refund(now) => {
                let key = (order.id, now.out_refund_no.clone());
                let was = refunds.insert(key.clone(), now.clone());
                let changed = self.refunds.entry(key).or_insert(ChangedRefund { was, now: now.clone() });
                changed.now = now.clone();
                Happened::Refund(now)
            }
            Change::ReturnSurplus { transaction_id } => {
                self.returned.push(ReturnedSurplus { order: order.clone(), transaction_id });
                return;
            }
        };
        let unpaid = ChangedOrder { order: order.clone(), paid_at: None };
        let changed = self.orders.entry(order.id).or_insert(unpaid);
        changed.order = order.clone();
        if let Happened::Paid(paid_at) = happened {
            changed.paid_at = Some(paid_at);
        }
        self.events.push(OrderEvent { order: order.clone(), happened });
    }
}

/// The payment that a refusal leaves owed back, where its sum is beyond doubt.
fn unwanted(notification: &Notification, refusal: &Refusal) -> Option<Surplus> {
    let Notification::Payment(Payment { result: PaymentResult::Success(success), .. }) = notification else {
        return None;
    };
    let is_owed_back =
        matches!(refusal, Refusal::AmountMismatch { .. } | Refusal::PaidTwice { .. } | Refusal::PaidAfterClose { .. });
    is_owed_back.then(|| Surplus {
        transaction_id: success.transaction_id.clone(),
        total_minor: success.total.amount_minor,
        is_settled: false,
        is_returned: false,
    })
}

impl Undecided {
    /// What the ledger says of such a message.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let held = Held::Undecided(self.clone());
        match self {
            Self::ForKey(_) | Self::ForLock(_) | Self::DecideAlone => Outcome::Waiting(held),
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
                Undecided::ForLock(_) => "for_lock",
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
                | Undecided::ForLock(problem)
                | Undecided::Malformed(problem)
                | Undecided::NotAuthentic(problem)
                | Undecided::Undecodable(problem)
                | Undecided::RejectedByDatabase(problem),
            ) => serde_json::json!({ "problem": problem }),
        }
    }
}
